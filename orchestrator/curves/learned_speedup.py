"""Run time on more workers than were measured, forecast by networks that were trained on real jobs.

Ideal scaling from the largest measured count is where they start; what they tell is the log of how much longer it
takes, from the slopes of the log of the workers' own seconds (seconds x workers) against log workers: 0 is ideal, 1
means that workers add nothing. ``learned_speedup.json`` holds the parameters (`quantile_net`) and how they came about;
`scripts/train_worker_scaling.py` derives it again.
"""

from __future__ import annotations

import numpy as np

from orchestrator.curves import quantile_net
from orchestrator.curves.measured import FoldedSizes
from orchestrator.curves.power_law import FloatArray
from orchestrator.curves.quantile_net import LEVELS, MEDIAN, QuantileNet

_LINE_SPANS = (0.7, 2.0)
"""Straight lines through the newest part: the weight of a count falls with its distance in log workers."""
_RIDGE = 0.05


def describe(measured: FoldedSizes, target_workers: FloatArray) -> dict[str, FloatArray | float]:
    """Named descriptions of a job; those that depend on the target have shape (n_targets,).

    Args:
        measured: Log seconds by worker count, at 2 or more counts.
        target_workers: Beyond the largest count, (n_targets,).
    """
    x = np.log(measured.size / measured.size[-1])
    loss = measured.mean - measured.mean[-1] + x
    slope = np.diff(loss) / np.diff(x)
    dof = measured.replicate_dof
    out: dict[str, FloatArray | float] = {
        "ahead": np.log(target_workers / measured.size[-1]),
        "counts": float(min(len(x), 12)),
        "log_workers": float(np.log(measured.size[-1])),
        "span": float(-x[0]),
        "from_one": float(measured.size[0] == 1.0),
        "last_step": float(-x[-2]),
        "first_slope": float(slope[0]),
        "least_slope": float(slope.min()),
        "largest_slope": float(slope.max()),
        "overall_slope": float(-loss[0] / -x[0]),
        "first_loss": float(loss[0]),
        "run_std": float(np.sqrt(measured.deviation_ss.sum() / dof)) if dof > 0 else np.nan,
    }
    for back in (1, 2, 3):
        out[f"slope_{back}"] = float(slope[-back]) if len(slope) >= back else np.nan
    for span in _LINE_SPANS:
        weight = np.exp(x / span)
        weight /= weight.sum()
        x_mean, mean = float(weight @ x), float(weight @ loss)
        centred, residual = x - x_mean, loss - mean
        along = float((weight * centred) @ residual / (weight @ centred**2 + _RIDGE / len(x)))
        out[f"line_slope_{span:g}"] = along
        out[f"line_offset_{span:g}"] = mean - along * x_mean
        out[f"line_rms_{span:g}"] = float(np.sqrt(weight @ (residual - along * centred) ** 2))
    return out


def design(description: dict[str, FloatArray | float]) -> tuple[tuple[str, ...], FloatArray]:
    """Inputs of the networks: names, and a matrix (n_targets, n_inputs) that still holds NaN."""
    return tuple(description), np.stack(np.broadcast_arrays(*description.values()), axis=1)


def log_quantiles(net: QuantileNet, measured: FoldedSizes, target_workers: FloatArray) -> FloatArray:
    """Log seconds at `quantile_net.LEVELS` for each target, (n_targets, n_levels).

    No quantile is nearer to the median than at any doubling of the workers on the way: few jobs were measured at many
    times the workers seen, and networks that know few cases are too sure of them.
    """
    n_doublings = np.ceil(np.log2(target_workers / measured.size[-1])).astype(int) - 1
    on_the_way = measured.size[-1] * 2.0 ** np.arange(1, n_doublings.max(initial=0) + 1)
    description = describe(measured, np.concatenate([on_the_way, target_workers]))
    ahead = np.asarray(description["ahead"])
    names, matrix = design(description)
    changes = net.changes(names, matrix, ahead)
    median = changes[:, MEDIAN : MEDIAN + 1]
    nearer, own = np.split(changes - median, [len(on_the_way)])
    start = np.zeros((1, len(LEVELS)))
    below = np.minimum(own, np.minimum.accumulate(np.concatenate([start, nearer]))[n_doublings])
    above = np.maximum(own, np.maximum.accumulate(np.concatenate([start, nearer]))[n_doublings])
    centre = measured.mean[-1] - ahead[:, None] + median
    values: FloatArray = centre[len(on_the_way) :] + np.where(np.arange(len(LEVELS)) < MEDIAN, below, above)
    return values


def shipped() -> QuantileNet:
    """The networks that come with the package."""
    return quantile_net.shipped("learned_speedup.json")
