"""Work on machines that are taken away: what the market does, what that costs, and how often to save.

With preemptions a Poisson process of mean up-time ``M``, a checkpoint of ``d`` seconds after every ``tau`` seconds of
work and ``R`` seconds to restart (itself interrupted now and then), ``W`` seconds of work are billed for

    E[T] = M e^(R/M) (e^((tau + d)/M) - 1) W / tau

exactly, when ``W`` is a multiple of ``tau``. The minimum over ``tau`` is at ``M (1 + W0(-e^(-1 - d/M)))`` with W0 the
principal branch of Lambert's function; Young's ``sqrt(2 d M)`` is its first term. Source: Daly 2006, "A higher order
estimate of the optimum checkpoint interval for restart dumps", eq. 13 for the time; Young 1974 for the first term.
There are ``E[T] / M`` preemptions, and after each the job waits for its next machine, which nobody bills.

``M`` and the wait are never known: they drift, and the past of a zone forecasts them badly. `spot_market` and
`market_from_runs` give both with the spread that `MarketStatistics` measured, and the draws carry it on.
All times in seconds where the name says so. Arrays broadcast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import lambertw, ndtri, polygamma

from orchestrator.intervals import FloatArray, certain
from orchestrator.results import Interval

# e^300 up-times are as good as never; capping the exponent keeps the arithmetic finite, so that prices still compare.
_MAX_EXPONENT = 300.0
# Beyond this many expected preemptions their count is as good as its mean, and the sampler would overflow.
_MAX_SAMPLED = 1e6
# What happens in fewer than one run in a hundred lies outside every 90% interval and is in few of some thousand draws:
# it enters with its expectation, so that a small risk does not read as none.
_RARE = 0.01
_S_PER_H = 3600.0
_LEVEL = 0.9
_Z_EDGE = float(ndtri((1 + _LEVEL) / 2))


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
        interval, why = _lognormal(assumed_h * _S_PER_H, spread), "ASSUMED, spread between zones"
    else:
        interval, why = _lognormal(stated_h * _S_PER_H, drift), "as stated, spread by the drift"
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
        return _lognormal(mean_s, math.hypot(error, math.sqrt(float(polygamma(1, count)))))

    return SpotMarket(
        mean_uptime_s=forecast(is_up, statistics.mean_uptime_h, statistics.uptime_error),
        mean_downtime_s=forecast(~is_up, statistics.mean_downtime_h, statistics.downtime_error),
        assumed=False,
        source=f"history of {length_s.sum() / _S_PER_H:.3g} h with {int(is_up[:-1].sum())} preemptions, the latest "
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


def _lognormal(median: float, log_sd: float) -> Interval:
    if median == 0 or math.isinf(median):
        return certain(median, _LEVEL)
    edge = math.exp(_Z_EDGE * log_sd)
    mean = median * math.exp(log_sd**2 / 2)
    return Interval(low=median / edge, median=median, high=median * edge, mean=mean, level=_LEVEL)


def expected_time_s(
    work_s: FloatArray | float,
    *,
    interval_s: FloatArray | float,
    checkpoint_s: FloatArray | float,
    restart_s: FloatArray | float,
    mean_uptime_s: FloatArray | float,
) -> FloatArray:
    """Expected billed time of ``work_s`` seconds of work under preemption, checkpoints and re-work included.

    Args:
        work_s: Useful work, at least 0.
        interval_s: Work between two checkpoints, above 0.
        checkpoint_s: Time one checkpoint takes, at least 0.
        restart_s: From having the next machine to working again, at least 0.
        mean_uptime_s: Mean time between preemptions of the job as a whole, above 0.
    """
    uptime = np.asarray(mean_uptime_s, np.float64)
    segment = np.minimum((np.asarray(interval_s, np.float64) + checkpoint_s) / uptime, _MAX_EXPONENT)
    restart = np.minimum(np.asarray(restart_s, np.float64) / uptime, _MAX_EXPONENT)
    time = uptime * np.exp(restart) * np.expm1(segment) * np.asarray(work_s, np.float64) / interval_s
    return np.asarray(time, dtype=np.float64)


def best_interval_s(checkpoint_s: float, mean_uptime_s: float) -> float:
    """Work between checkpoints that makes the expected time smallest; 0 when a checkpoint costs nothing."""
    return mean_uptime_s * float(1 + lambertw(-np.exp(-1 - checkpoint_s / mean_uptime_s)).real)


def young_interval_s(checkpoint_s: float, mean_uptime_s: float) -> float:
    """Young's first-order interval, ``sqrt(2 d M)``, for comparison."""
    return float(np.sqrt(2 * checkpoint_s * mean_uptime_s))


def break_even_interval_s(
    *, checkpoint_s: float, restart_s: float, mean_uptime_s: float, price_ratio: float
) -> float | None:
    """The most work between two checkpoints at which spot is expected to cost no more than on-demand.

    On-demand does the same job, checkpoints included, and is never taken away. With ``x = (tau + d) / M`` and prices
    in the ratio ``r`` the two cost the same where ``(e^x - 1) / x = e^(-R/M) / r``; the left side only rises.

    Args:
        checkpoint_s: Time one checkpoint takes, at least 0.
        restart_s: From having the next machine to working again, at least 0.
        mean_uptime_s: Mean time between preemptions of the job as a whole, above 0; may be infinite.
        price_ratio: Spot price over on-demand price, above 0.
    Returns: Seconds; infinite when there is no preemption, None when spot costs more at every interval.
    """
    if math.isinf(mean_uptime_s):
        return math.inf if price_ratio <= 1 else None
    log_gain = -math.log(price_ratio) - restart_s / mean_uptime_s
    if log_gain <= 0:
        return None
    # e^(x/2) <= (e^x - 1) / x <= e^x brackets the root; the logarithm is taken so that no e^x overflows.
    x = brentq(lambda x: x + math.log(-math.expm1(-x) / x) - log_gain, log_gain, 2 * log_gain, xtol=1e-300, rtol=1e-12)
    interval_s = float(x) * mean_uptime_s - checkpoint_s
    return interval_s if interval_s > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PreemptionDraws:
    """What preemption does to each draw of a job; each array of shape (n,)."""

    rework_s: FloatArray
    """Billed beyond work and checkpoints: work lost since the last checkpoint, and restarts."""
    waiting_s: FloatArray
    """Not billed: without machines, before the first of them and after each preemption."""
    preemptions: FloatArray


def sample_preemptions(
    work_s: FloatArray,
    *,
    interval_s: FloatArray,
    checkpoint_s: FloatArray,
    restart_s: FloatArray,
    market: SpotMarket,
    instances: int,
    rng: np.random.Generator,
    statistics: MarketStatistics = TRACES,
) -> PreemptionDraws:
    """Draws of re-work and waiting of one job, over what the market may be and over luck within it.

    Losing any one instance stops a synchronous job, so its up-time is the market's over ``instances``: as if machines
    were taken independently, which is the worst case: in traces all of 4 or 16 stayed together 2 to 15 times as long
    as that. The others are given back while it waits. Given the market, the mean of the re-work is that of
    `expected_time_s`. Over an uncertain market it exceeds the median by far where the interval is long, since the time
    rises exponentially with the rate. A wait is gamma distributed; a job submitted while there is no machine, which
    has the stationary probability, first waits out the rest.

    Args: As for `expected_time_s`, each of shape (n,).
        market: Of one instance.
        instances: How many the job needs at once, at least 1.
        rng: For the market and for luck.
        statistics: How up-time and down-time go together, and the shape of down-times.
    """
    shape = np.shape(work_s)
    z_up = rng.standard_normal(shape)
    z_down = statistics.correlation * z_up + math.sqrt(1 - statistics.correlation**2) * rng.standard_normal(shape)
    uptime_s = _drawn(market.mean_uptime_s, z_up) / instances
    downtime_s = _drawn(market.mean_downtime_s, z_down)
    rework_s, preemptions = _sample_luck(work_s, interval_s, checkpoint_s, restart_s, uptime_s, rng)
    gamma_shape = statistics.downtime_shape
    waits_s = rng.standard_gamma(preemptions * gamma_shape) * downtime_s / gamma_shape
    # An instant falls into long down-times more often: theirs is a gamma of shape one more, and its rest uniform in it.
    is_down = rng.random(shape) * (uptime_s + downtime_s) < downtime_s
    rest_s = rng.random(shape) * rng.standard_gamma(gamma_shape + 1, shape) * downtime_s / gamma_shape
    return PreemptionDraws(
        rework_s=rework_s,
        waiting_s=np.asarray(waits_s + np.where(is_down, rest_s, 0.0), dtype=np.float64),
        preemptions=preemptions,
    )


def _drawn(interval: Interval, z: FloatArray) -> FloatArray:
    """A positive quantity at standard normal ``z``: split log-normal, each side of the median with its own spread."""
    if interval.low == interval.high:
        return np.full(np.shape(z), interval.median)
    low, median, high = np.log([interval.low, interval.median, interval.high])
    z_edge = float(ndtri((1 + interval.level) / 2))
    return np.asarray(np.exp(median + z / z_edge * np.where(z < 0, median - low, high - median)), dtype=np.float64)


def _sample_luck(
    work_s: FloatArray,
    interval_s: FloatArray,
    checkpoint_s: FloatArray,
    restart_s: FloatArray,
    uptime_s: FloatArray,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    """Seconds of re-work and preemptions; only the counts are random, each failure costs its mean.

    A segment of length ``s = tau + d`` fails ``k`` times before it succeeds, with ``k`` geometric of success
    ``e^(-s/M)``, and so does each restart: sums of these are negative binomial. A failure known to come within ``s``
    comes after ``M - s / (e^(s/M) - 1)`` on average.
    """
    segment_s = np.asarray(interval_s + checkpoint_s, np.float64)
    lost, odds = _failing(segment_s, uptime_s)
    lost_restarting, odds_restarting = _failing(np.asarray(restart_s, np.float64), uptime_s)
    failed = _failures(np.asarray(work_s, np.float64) / interval_s, odds, rng)
    failed_again = _failures(failed, odds_restarting, rng)
    rework = failed * (lost + restart_s) + failed_again * lost_restarting
    return np.asarray(rework, dtype=np.float64), np.asarray(failed + failed_again, dtype=np.float64)


def _failing(length_s: FloatArray, uptime_s: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean seconds until a failure within ``length_s``, and the odds of failing in it."""
    ratio = np.minimum(length_s / uptime_s, _MAX_EXPONENT)
    odds = np.expm1(ratio)
    # Below this ratio the mean is half of the length, and the difference of two large numbers would lose its digits.
    is_short = ratio < 1e-6
    safe = np.where(is_short, 1.0, ratio)
    mean_s = np.where(is_short, length_s / 2, length_s * (1 / safe - 1 / np.expm1(safe)))
    return mean_s, odds


def _failures(successes: FloatArray, odds: FloatArray, rng: np.random.Generator) -> FloatArray:
    """How often something failed before it succeeded ``successes`` times."""
    counts: FloatArray = np.asarray(successes * odds, dtype=np.float64)
    sampled = (counts >= _RARE) & (counts < _MAX_SAMPLED)
    # A count of successes need not be whole; the mean is right all the same.
    counts[sampled] = rng.negative_binomial(successes[sampled], 1 / (1 + odds[sampled]))
    return counts
