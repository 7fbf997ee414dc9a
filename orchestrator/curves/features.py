"""What a measured learning curve looks like, in numbers that do not depend on its scale of n: the inputs of `learned`.

All of values in [0, 1], lower is better, and of t = log(n / largest measured n) <= 0. Differences are taken from the
last value. A description that a curve is too short for is NaN, and NaN is a fact that `learned` knows how to read.
Pure: arrays in, arrays out.
"""

from __future__ import annotations

import numpy as np

from orchestrator.curves.families import FAMILIES, fit_families, shapes
from orchestrator.curves.measured import FoldedSizes
from orchestrator.curves.power_law import FloatArray

LOG_SHIFT = 0.001
"""Added to an error rate before its logarithm: a tenth of a percentage point, below which few validation sets see."""
LAGS = np.array([0.0, 0.35, 0.7, 1.05, 1.4, 2.1, 2.8, 3.8])
"""Where the smoothed curve is looked at, in log n before the last size: factors 1, 1.4, 2, 2.9, 4, 8, 16 and 45."""
_LAG_WIDTH = 0.7
_NEAR_LAGS = 4
"""Lags that are always given; a farther one is NaN when nothing was measured within a kernel width of it."""
_LINE_SPANS = (0.6, 1.2, 3.0)
"""Straight lines through the newest part of the curve: the weight of a size falls with exp(t / span)."""
_FAMILY_SPANS = (np.inf, 1.5)
"""The families are fitted to the whole curve, and again to its newest part."""
NEW = "_new"
"""Ends the name of what was fitted to the newest part."""
_RIDGE = 0.02
_WEIGHTLESS = 1e-9


def describe(measured: FoldedSizes, target_n: FloatArray) -> dict[str, FloatArray | float]:
    """Named descriptions of a curve; those that depend on the target have shape (n_targets,).

    Args:
        measured: Values in [0, 1], at 2 or more sizes.
        target_n: At or beyond the largest size, shape (n_targets,).
    """
    t = np.log(measured.size / measured.size[-1])
    y = measured.mean
    ahead = np.log(target_n / measured.size[-1])
    return {
        "ahead": ahead,
        "log_target_n": np.log(target_n),
        **_scalars(measured, t, y),
        **_noise(measured),
        **_steps(t, y),
        **_smoothed(t, y, measured.count),
        **_lines(t, y, measured.count),
        **_families(t, y, measured.count, target_n / measured.size[-1]),
    }


def _scalars(measured: FoldedSizes, t: FloatArray, y: FloatArray) -> dict[str, float]:
    return {
        "log_n": float(np.log(measured.size[-1])),
        "span": float(-t[0]),
        "sizes": float(min(len(t), 20)),
        "last": float(y[-1]),
        "log_last": float(np.log(y[-1] + LOG_SHIFT)),
        "first_diff": float(y[0] - y[-1]),
        "max_diff": float(y.max() - y[-1]),
        "min_diff": float(y.min() - y[-1]),
        "t_of_min": float(t[np.argmin(y)]),
    }


def _noise(measured: FoldedSizes) -> dict[str, float]:
    dof = measured.replicate_dof
    last_dof = float(measured.count[-1]) - 1.0
    return {
        "replicates": min(dof, 40.0),
        "last_count": min(float(measured.count[-1]), 10.0),
        "seed_std": float(np.sqrt(measured.deviation_ss.sum() / dof)) if dof > 0 else np.nan,
        "last_seed_std": float(np.sqrt(measured.deviation_ss[-1] / last_dof)) if last_dof > 0 else np.nan,
    }


def _steps(t: FloatArray, y: FloatArray) -> dict[str, float]:
    dy, dt = np.diff(y), np.diff(t)
    slope = dy / np.maximum(dt, 0.05)
    out = {
        "largest_drop": float(-dy.min()),
        "largest_rise": float(dy.max()),
        "t_of_drop": float(t[1:][np.argmin(dy)]),
        "roughness": float(np.sqrt(np.mean(np.diff(slope) ** 2))) if len(slope) > 1 else np.nan,
    }
    for back in (1, 2, 3):
        out[f"slope_{back}"] = float(slope[-back]) if len(slope) >= back else np.nan
    return out


def _smoothed(t: FloatArray, y: FloatArray, count: FloatArray) -> dict[str, float]:
    kernel = np.exp(-0.5 * ((t[None, :] + LAGS[:, None]) / _LAG_WIDTH) ** 2) * count + _WEIGHTLESS
    level = kernel @ y / kernel.sum(1) - y[-1]
    level[(np.arange(len(LAGS)) >= _NEAR_LAGS) & (_LAG_WIDTH - t[0] < LAGS)] = np.nan
    return {f"lag_{lag:g}": float(value) for lag, value in zip(LAGS, level, strict=True)}


def _lines(t: FloatArray, y: FloatArray, count: FloatArray) -> dict[str, float]:
    out = {}
    both = np.stack([y, np.log(y + LOG_SHIFT)])
    for span in _LINE_SPANS:
        weight = np.exp(t / span) * count
        weight /= weight.sum()
        t_mean, mean = float(weight @ t), both @ weight
        centred, residual = t - t_mean, both - mean[:, None]
        slope = (residual * centred) @ weight / (weight @ centred**2 + _RIDGE / count.sum())
        rms = np.sqrt(((residual - slope[:, None] * centred) ** 2) @ weight)
        offset = mean - slope * t_mean - both[:, -1]
        for of, name in enumerate(("", "log_")):
            out[f"{name}line_slope_{span:g}"] = float(slope[of])
            out[f"{name}line_offset_{span:g}"] = float(offset[of])
            out[f"{name}line_rms_{span:g}"] = float(rms[of])
    return out


def _families(t: FloatArray, y: FloatArray, count: FloatArray, target_x: FloatArray) -> dict[str, FloatArray | float]:
    out: dict[str, FloatArray | float] = {}
    phi, target_phi = shapes(np.exp(t)), shapes(np.append(target_x, 1.0))
    for span in _FAMILY_SPANS:
        fits = fit_families(phi, y, count * np.exp(t / span))
        suffix = "" if np.isinf(span) else NEW
        best, mean, std = fits.forecasts(target_phi)
        out[f"believed{suffix}"] = fits.family_weight @ best[:, :-1] - y[-1]
        for of, family in enumerate(FAMILIES):
            out[f"{family.name}_best{suffix}"] = best[of, :-1] - y[-1]
            out[f"{family.name}_mean{suffix}"] = mean[of, :-1] - y[-1]
            out[f"{family.name}_std{suffix}"] = std[of, :-1]
            out[f"{family.name}_now{suffix}"] = float(mean[of, -1] - y[-1])
            cell = fits.best_cell[of]
            out[f"{family.name}_rms{suffix}"] = float(np.sqrt(fits.misfit[cell]))
            out[f"{family.name}_weight{suffix}"] = float(fits.family_weight[of])
            out[f"{family.name}_floor{suffix}"] = float(fits.floor[cell])
    return out
