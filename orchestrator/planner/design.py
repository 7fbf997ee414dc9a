"""Which measurement tells most about the net value at the target, for each dollar.

V-optimality: of all trials take the one that removes most of the variance of what is to be predicted, the net value
of a full run, ``gain - threshold * dollars`` (Fedorov 1972; for learning curves Cohn, Ghahramani and Jordan 1996,
doi:10.1613/jair.295). `LearningCurveFit.worlds` draws whole possible curves, so that one trial at size n with noise
sigma removes, by the linear-Gaussian step, the share

    r(n) = Cov(q, y_n)^2 / ((Var y_n + sigma_n^2) Var q),        q = net value, y_n = curve at n

of Var q. Beyond the data that is a share of what the *present* forecast leaves open; a forecast made from a larger size
is another one, of a shorter way. `refit_shares` adds the trial at its median and fits again, which sees that and no
surprise. Pure: draws in, shares out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from orchestrator.intervals import FloatArray
from orchestrator.planner.outlook import Contender
from orchestrator.spec import TrialSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A trial that could be run."""

    trial: TrialSpec
    n_samples: float
    usd: float
    """Expected dollars."""
    is_for_time: bool = False
    """A worker count above the first repeats an accuracy and tells a time."""


def joint_shares(contender: Contender, sizes: Sequence[float], grid_top: float | None) -> FloatArray:
    """Share of the variance of the gain that one run at each size removes, by the joint draws; in [0, 1].

    Args:
        contender: With a fitted curve.
        sizes: Training rows; 0 is given for those below the data.
        grid_top: Largest size of the grid where the best trial is the baseline, so that the gain is from there; None
            where the baseline is a number.
    """
    size = np.asarray(sizes, dtype=np.float64)
    known = size >= contender.fit.measured.size[0]
    asked = np.unique(np.append(size[known], [contender.target_n] + ([grid_top] if grid_top else [])))
    worlds = contender.fit.worlds(asked)
    row = {n: worlds[i] for i, n in enumerate(asked)}
    gain = row[contender.target_n] - (row[grid_top] if grid_top else 0.0)
    shares = np.zeros(len(size))
    if gain.var() == 0:
        return shares
    for at in np.flatnonzero(known):
        curve = row[size[at]]
        spread = curve.var() + float(contender.run_noise(size[at : at + 1])[0]) ** 2
        shares[at] = np.cov(gain, curve, ddof=0)[0, 1] ** 2 / (spread * gain.var()) if spread > 0 else 0.0
    return np.clip(shares, 0.0, 1.0)


def refit_shares(contender: Contender, sizes: Sequence[float]) -> FloatArray:
    """Share of the variance of the value at the target that is gone once a run of each size came out at its median."""
    before = float(contender.fit.worlds([contender.target_n])[0].var())
    if before == 0:
        return np.zeros(len(sizes))
    after = [
        float(contender.with_medians([n]).fit.worlds([contender.target_n])[0].var())
        if n >= contender.fit.measured.size[0] else before
        for n in sizes
    ]  # fmt: skip
    return np.clip(1 - np.array(after) / before, 0.0, 1.0)


_NORMALS = np.asarray(ndtri((np.arange(2000) + 0.5) / 2000), dtype=np.float64)
"""Evenly likely standard normals: an expectation over them is off by less than a thousandth."""


def chance_to_settle(mean: float, std: float, share: float, confidence: float) -> float:
    """P(the verdict is PROMOTE or REJECT) once a measurement has removed ``share`` of the variance of the net value.

    The mean then is normal about the present one with variance ``share * std^2``, the deviation that is left
    ``std * sqrt(1 - share)``, and the verdict is settled when their ratio lies ``z(confidence)`` or more from 0.
    """
    if std <= 0:
        return 1.0
    z = float(ndtri(confidence))
    left, moved = std * math.sqrt(max(1 - share, 0.0)), std * math.sqrt(share)
    if moved == 0:
        return float(abs(mean) >= z * left)
    return _cdf((mean - z * left) / moved) + _cdf((-mean - z * left) / moved)


def worth_of(mean: float, std: float, share: float, confidence: float, *, is_promoted: bool) -> float:
    """By how much a measurement is expected to raise the net value that the verdict's rule takes home.

    Promoted only from ``confidence`` up, nothing is taken home below it; one that is promoted already is worth
    measuring for the losses that are avoided.

    Returns: In the unit of the net value, not negative.
    """
    after = mean + std * math.sqrt(share) * _NORMALS
    left = max(std * math.sqrt(max(1 - share, 0.0)), 1e-300)
    if is_promoted:
        return float(np.maximum(-after, 0.0).mean())
    return max(float(np.where(after / left >= ndtri(confidence), after, 0.0).mean()), 0.0)


def _cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))
