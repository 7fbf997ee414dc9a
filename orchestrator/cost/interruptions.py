"""Work that is interrupted: how long it takes, how often to save, and draws of both under uncertain rates.

With interruptions a Poisson process of mean up-time ``M``, a checkpoint of ``d`` seconds after every ``tau`` seconds of
work and ``R`` seconds to restart (itself interrupted now and then), ``W`` seconds of work are billed for

    E[T] = M e^(R/M) (e^((tau + d)/M) - 1) W / tau

exactly, when ``W`` is a multiple of ``tau``. The minimum over ``tau`` is at ``M (1 + W0(-e^(-1 - d/M)))`` with W0 the
principal branch of Lambert's function; Young's ``sqrt(2 d M)`` is its first term. Source: Daly 2006, "A higher order
estimate of the optimum checkpoint interval for restart dumps", eq. 13 for the time; Young 1974 for the first term.

A machine that is taken away and a worker that fails interrupt a job alike, so both are one process of rate
``instances / up-time + workers / MTBF``, whose events are told apart by their shares of the rate; only after a
preemption does the job wait for its next machine, which nobody bills. ``E[T]`` rises exponentially with the rate: over
an uncertain rate it has no mean. But nobody pays without end: a run is given up when it has been billed for
`GIVE_UP_AFTER` times its undisturbed time, is paid for to that point, and comes to nothing.

All times in seconds. Arrays broadcast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import lambertw

from orchestrator.cost.spot import TRACES, MarketStatistics, SpotMarket
from orchestrator.intervals import FloatArray, draw_positive

GIVE_UP_AFTER = 10.0
"""Multiple of the undisturbed time at which somebody stops a run that does not get on: a policy limit."""
# e^300 up-times are as good as never; capping the exponent keeps the arithmetic finite, so that prices still compare.
_MAX_EXPONENT = 300.0
# Beyond this many expected interruptions their count is as good as its mean, and the sampler would overflow.
_MAX_SAMPLED = 1e6
# What happens in fewer than one run in a hundred lies outside every 90% interval and is in few of some thousand draws:
# it enters with its expectation, so that a small risk does not read as none.
_RARE = 0.01
# Below this share of the up-time, Lambert's function loses the digits that Young's formula keeps.
_SHORT_CHECKPOINT = 1e-8


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
    if checkpoint_s < _SHORT_CHECKPOINT * mean_uptime_s:
        return young_interval_s(checkpoint_s, mean_uptime_s)
    return mean_uptime_s * float(1 + lambertw(-np.exp(-1 - checkpoint_s / mean_uptime_s)).real)


def young_interval_s(checkpoint_s: float, mean_uptime_s: float) -> float:
    """Young's first-order interval, ``sqrt(2 d M)``, for comparison."""
    return float(np.sqrt(2 * checkpoint_s * mean_uptime_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptionDraws:
    """What interruptions do to each draw of a job; each array of shape (n,)."""

    preemptions: FloatArray
    failures: FloatArray
    preemption_rework_s: FloatArray
    """Billed beyond work, checkpoints and one start-up: work lost since the last checkpoint, and restarts."""
    failure_rework_s: FloatArray
    first_wait_s: FloatArray
    """Not billed: before the first machine can be had."""
    waiting_s: FloatArray
    """Not billed: for the next machine, after each preemption."""
    uptime_s: FloatArray
    """Mean time between interruptions of the job as a whole, as believed in this draw."""
    failure_uptime_s: FloatArray
    """The same when failures alone interrupt it."""
    finishes: np.ndarray
    """False where the run is given up. Booleans."""


def sample_interruptions(
    work_s: FloatArray,
    *,
    interval_s: FloatArray,
    checkpoint_s: FloatArray,
    restart_s: FloatArray,
    market: SpotMarket | None,
    instances: int,
    failing: SpotMarket | None,
    workers: int,
    rng: np.random.Generator,
    statistics: MarketStatistics = TRACES,
    is_started: bool = False,
    give_up_after: float = GIVE_UP_AFTER,
) -> InterruptionDraws:
    """Draws of re-work and waiting of one job, over what the rates may be and over luck.

    Losing any machine or worker stops a synchronous job, so its up-time is theirs over their number: as if machines
    were taken independently, which is the worst case, for in traces they go together. The others are given back while
    it waits. A wait is gamma distributed; a job submitted while there is no machine, which has the stationary
    probability, first waits out the rest. What is believed of the rates is drawn before anything else, so that jobs
    drawn with one seed meet the same market.

    Args: As for `expected_time_s`, each of shape (n,).
        market: Of one instance; None where none is taken away.
        instances: How many the job needs at once, at least 1.
        failing: How long one worker lasts; None where none fails.
        workers: How many the job has, at least 1.
        rng: For the rates and for luck.
        statistics: How up-time and down-time go together, and the shape of down-times.
        is_started: Whether the first start-up is over, and can fail no more.
        give_up_after: Multiple of the undisturbed time at which the run is stopped.
    """
    shape = np.shape(work_s)
    z_up, z_own, z_fail = rng.standard_normal((3, *shape))
    u_down, u_rest = rng.random((2, *shape))
    down_shape = statistics.downtime_shape
    # An instant falls into long down-times more often: theirs is a gamma of shape one more, and its rest uniform in it.
    rest_of_down = u_rest * rng.standard_gamma(down_shape + 1, shape) / down_shape
    z_down = statistics.correlation * z_up + math.sqrt(1 - statistics.correlation**2) * z_own
    never = np.full(shape, np.inf)
    machine_s = never if market is None else draw_positive(market.mean_uptime_s, z_up) / instances
    worker_s = never if failing is None else draw_positive(failing.mean_uptime_s, z_fail) / workers
    downtime_s = np.zeros(shape) if market is None else draw_positive(market.mean_downtime_s, z_down)
    rate = 1 / machine_s + 1 / worker_s
    uptime_s = np.divide(1, rate, out=never.copy(), where=rate > 0)
    rework_s, counts = _sample_luck(work_s, interval_s, checkpoint_s, restart_s, uptime_s, rng, is_started)
    undisturbed_s = np.asarray(work_s * (1 + checkpoint_s / interval_s) + restart_s, dtype=np.float64)
    most_s = (give_up_after - 1) * undisturbed_s
    finishes = rework_s <= most_s
    kept = np.divide(most_s, rework_s, out=np.ones(shape), where=~finishes)
    share = np.divide(1 / machine_s, rate, out=np.zeros(shape), where=rate > 0)
    preemptions = kept * _split(counts, share, rng)
    failures = np.maximum(kept * counts - preemptions, 0.0)
    by_preemption = np.divide(preemptions, kept * counts, out=np.zeros(shape), where=counts > 0)
    is_down = u_down * (machine_s + downtime_s) < downtime_s
    return InterruptionDraws(
        preemptions=preemptions,
        failures=failures,
        preemption_rework_s=np.asarray(kept * rework_s * by_preemption, dtype=np.float64),
        failure_rework_s=np.asarray(kept * rework_s * (1 - by_preemption), dtype=np.float64),
        first_wait_s=np.where(is_down, rest_of_down * downtime_s, 0.0),
        waiting_s=np.asarray(rng.standard_gamma(preemptions * down_shape) * downtime_s / down_shape, dtype=np.float64),
        uptime_s=uptime_s,
        failure_uptime_s=worker_s,
        finishes=finishes,
    )


def _sample_luck(
    work_s: FloatArray,
    interval_s: FloatArray,
    checkpoint_s: FloatArray,
    restart_s: FloatArray,
    uptime_s: FloatArray,
    rng: np.random.Generator,
    is_started: bool,
) -> tuple[FloatArray, FloatArray]:
    """Seconds of re-work, and interruptions; only the counts are random, each interruption costs its mean.

    A segment of length ``s = tau + d`` fails ``k`` times before it succeeds, with ``k`` geometric of success
    ``e^(-s/M)``, and so does each start-up: sums of these are negative binomial. A failure known to come within ``s``
    comes after ``M - s / (e^(s/M) - 1)`` on average.
    """
    segment_s = np.asarray(interval_s + checkpoint_s, np.float64)
    lost, odds = _failing(segment_s, uptime_s)
    lost_starting, odds_starting = _failing(np.asarray(restart_s, np.float64), uptime_s)
    failed = _failures(np.asarray(work_s, np.float64) / interval_s, odds, rng)
    failed_starting = _failures(failed if is_started else failed + 1, odds_starting, rng)
    rework = failed * (lost + restart_s) + failed_starting * lost_starting
    return np.asarray(rework, dtype=np.float64), np.asarray(failed + failed_starting, dtype=np.float64)


def _split(counts: FloatArray, share: FloatArray, rng: np.random.Generator) -> FloatArray:
    """How many of the counts are of the kind that has this share of the rate; expectations stay expectations."""
    split: FloatArray = np.asarray(counts * share, dtype=np.float64)
    whole = (counts == np.floor(counts)) & (counts < _MAX_SAMPLED)
    split[whole] = rng.binomial(counts[whole].astype(np.int64), share[whole])
    return split


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
