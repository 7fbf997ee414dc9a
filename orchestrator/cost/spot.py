"""Machines that are taken away: what the spot market does to one instance, and how surely that is known.

The mean up-time and the mean wait for the next machine drift, and the past of a zone forecasts them badly.
`spot_market` and `market_from_runs` give both with the spread that `MarketStatistics` measured on real traces, and
`interruptions` draws from it. All times in seconds where the name says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import polygamma

from orchestrator.intervals import FloatArray, lognormal
from orchestrator.results import Interval

# With fewer ended runs of either kind a history says less than the two preemptions that the public traces count for.
_FEWEST_RUNS = 2
_S_PER_H = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketStatistics:
    """What zones of a spot market have in common; spreads and drifts are standard deviations of logarithms."""

    mean_uptime_h: float
    """Geometric mean over zones and halves of their history."""
    mean_downtime_h: float
    uptime_spread: float
    """Between zones and times, of the mean up-time: what somebody who knows nothing is uncertain by."""
    downtime_spread: float
    uptime_drift: float
    """From the mean of one half of a history to that of the other."""
    downtime_drift: float
    uptime_error: float
    """From the forecast of `market_from_runs` to the mean that came, beyond the noise of counting."""
    downtime_error: float
    correlation: float
    """Of the errors of up-time and down-time; below 0 when better times are better in both."""
    downtime_shape: float
    """Of the gamma distribution of one down-time, 1 over its squared coefficient of variation."""
    half_life_h: float
    """The age at which an hour of history counts half."""
    prior_count: float
    """How many preemptions' worth of history the market's mean counts for."""


# skypilot-org/spot-traces, half of the zones: 14 traces of V100, K80 and CPU machines in AWS and GCP, 2022-10 to
# 2023-08. `python scripts/bench_spot.py DATA --derive` prints these.
TRACES = MarketStatistics(
    mean_uptime_h=2.4, mean_downtime_h=1.79, uptime_spread=0.89, downtime_spread=0.84, uptime_drift=0.8,
    downtime_drift=1.05, uptime_error=0.77, downtime_error=0.75, correlation=-0.4, downtime_shape=0.206,
    half_life_h=12.0, prior_count=2.0,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotMarket:
    """What the next job will meet on one instance: joint over uncertainty of rate, drift and between-zone spread."""

    mean_uptime_s: Interval
    """Mean time from getting a machine to losing it. 90%; infinite where none is ever taken away."""
    mean_downtime_s: Interval
    """Mean wait for the next machine after a preemption. 90%."""
    assumed: bool
    """True when up-time or down-time was neither measured nor stated for this market."""
    source: str
    """One line for the bill."""


def spot_market(mean_uptime_h: float | None, mean_downtime_h: float | None) -> SpotMarket:
    """The market around what the user states, or around the traces' where nothing is stated.

    A stated figure is the median; its spread is the drift between two halves of a trace, because a mean of the past is
    all that anybody can state. An assumed one has the spread between zones and times.

    Args:
        mean_uptime_h: Mean hours from getting one instance to losing it, above 0; None when unknown.
        mean_downtime_h: Mean hours of waiting for the next, at least 0; None when unknown.
    Raises: ValueError: A figure out of its range.
    """
    _check_stated(mean_uptime_h, mean_downtime_h)
    uptime, about_uptime = _stated(
        "up-time", mean_uptime_h, TRACES.uptime_drift, TRACES.mean_uptime_h, TRACES.uptime_spread
    )
    downtime, about_downtime = _stated(
        "wait for the next machine", mean_downtime_h, TRACES.downtime_drift, TRACES.mean_downtime_h,
        TRACES.downtime_spread,
    )  # fmt: skip
    return SpotMarket(
        mean_uptime_s=uptime,
        mean_downtime_s=downtime,
        assumed=mean_uptime_h is None or mean_downtime_h is None,
        source=f"{about_uptime}; {about_downtime}",
    )


def _check_stated(mean_uptime_h: float | None, mean_downtime_h: float | None) -> None:
    if mean_uptime_h is not None and not mean_uptime_h > 0:
        raise ValueError(f"mean up-time must be above 0 hours, got {mean_uptime_h:g}; give None when it is unknown")
    if mean_downtime_h is not None and not 0 <= mean_downtime_h < math.inf:
        raise ValueError(
            f"mean down-time must be at least 0 hours and finite, got {mean_downtime_h:g}; give None when it is unknown"
        )


def _stated(what: str, stated_h: float | None, drift: float, assumed_h: float, spread: float) -> tuple[Interval, str]:
    """What is stated, or else assumed, as an interval in seconds; and in words."""
    if stated_h is None:
        interval, why = lognormal(assumed_h * _S_PER_H, spread), "ASSUMED, spread between zones"
    else:
        interval, why = lognormal(stated_h * _S_PER_H, drift), "as stated, spread by the drift"
    median, low, high = (value / _S_PER_H for value in (interval.median, interval.low, interval.high))
    return interval, f"mean {what} {median:.3g} h (90%: {low:.2g} to {high:.2g}), {why} of public traces"


def market_from_runs(
    up_s: FloatArray, down_s: FloatArray, *, starts_up: bool = True, statistics: MarketStatistics = TRACES
) -> SpotMarket:
    """The market that the history of one instance's availability leads one to expect.

    Up-time is a gamma-Poisson forecast: weighted seconds up over weighted preemptions, an hour weighing
    ``2^(-age / half-life)``, with the market's mean as ``prior_count`` preemptions more (West and Harrison 1997,
    ch. 10, discounted conjugate models); down-time likewise. Its spread adds the noise of counting and the drift.

    Args:
        up_s: Lengths of the times a machine could be had, in order. Shape (n_up,).
        down_s: Lengths of the times between them. Shape (n_up,), or one more or less. The very last run, of either
            kind, is taken to be still going on.
        starts_up: Whether the history begins with an up-time.
        statistics: Of the market that the instance belongs to.
    Raises: ValueError: No history, lengths that are not above 0, or runs that cannot alternate.
    """
    is_up, length_s = _alternated(np.asarray(up_s, np.float64), np.asarray(down_s, np.float64), starts_up)
    half_life_s = statistics.half_life_h * _S_PER_H
    age_at_end_s = length_s[::-1].cumsum()[::-1] - length_s
    weight_at_end = 0.5 ** (age_at_end_s / half_life_s)
    weighted_s = half_life_s / math.log(2) * weight_at_end * (1 - 0.5 ** (length_s / half_life_s))
    ended = weight_at_end * (np.arange(len(is_up)) < len(is_up) - 1)

    def forecast(of: np.ndarray, market_h: float, error: float) -> Interval:
        count = float(ended[of].sum()) + statistics.prior_count
        mean_s = (float(weighted_s[of].sum()) + statistics.prior_count * market_h * _S_PER_H) / count
        return lognormal(mean_s, math.hypot(error, math.sqrt(float(polygamma(1, count)))))

    n_lost, n_regained = int(is_up[:-1].sum()), int((~is_up[:-1]).sum())
    is_short = min(n_lost, n_regained) < _FEWEST_RUNS
    assumed = "ASSUMED for the most part: " if is_short else ""
    return SpotMarket(
        mean_uptime_s=forecast(is_up, statistics.mean_uptime_h, statistics.uptime_error),
        mean_downtime_s=forecast(~is_up, statistics.mean_downtime_h, statistics.downtime_error),
        assumed=is_short,
        source=f"{assumed}history of {length_s.sum() / _S_PER_H:.3g} h with {n_lost} preemptions, the latest "
        f"{statistics.half_life_h:g} h counting most, drawn towards the mean of public traces",
    )


def _alternated(up_s: FloatArray, down_s: FloatArray, starts_up: bool) -> tuple[np.ndarray, FloatArray]:
    """Runs in order of time: whether each is up, and its length."""
    first, second = (up_s, down_s) if starts_up else (down_s, up_s)
    if len(first) - len(second) not in (0, 1) or not len(first):
        raise ValueError(
            f"up-times and down-times must alternate, got {len(up_s)} and {len(down_s)} with starts_up={starts_up}; "
            "join neighbouring runs of one kind, and say which kind came first"
        )
    length_s = np.empty(len(first) + len(second))
    length_s[::2], length_s[1::2] = first, second
    if not (np.isfinite(length_s).all() and length_s.min() > 0):
        raise ValueError(f"lengths of runs must be above 0 seconds and finite, the least is {length_s.min():g}")
    return (np.arange(len(length_s)) % 2 == 0) == starts_up, length_s
