"""Work on machines that are taken away: the expected time with checkpoints, and the best interval between them.

With preemptions a Poisson process of mean up-time ``M``, a checkpoint of ``d`` seconds after every ``tau`` seconds of
work and ``R`` seconds to restart (itself interrupted now and then), ``W`` seconds of work take

    E[T] = M e^(R/M) (e^((tau + d)/M) - 1) W / tau

exactly, when ``W`` is a multiple of ``tau``. The minimum over ``tau`` is at ``M (1 + W0(-e^(-1 - d/M)))`` with W0 the
principal branch of Lambert's function; Young's ``sqrt(2 d M)`` is its first term. Source: Daly 2006, "A higher order
estimate of the optimum checkpoint interval for restart dumps", eq. 13 for the time; Young 1974 for the first term.
All times in one unit, here seconds. Arrays broadcast.
"""

from __future__ import annotations

import numpy as np
from scipy.special import lambertw

from orchestrator.intervals import FloatArray

# e^300 up-times are as good as never; capping the exponent keeps the arithmetic finite, so that prices still compare.
_MAX_EXPONENT = 300.0
# Beyond this many expected preemptions their count is as good as its mean, and the sampler would overflow.
_MAX_SAMPLED = 1e6


def expected_time_s(
    work_s: FloatArray | float,
    *,
    interval_s: FloatArray | float,
    checkpoint_s: FloatArray | float,
    restart_s: FloatArray | float,
    mean_uptime_s: float,
) -> FloatArray:
    """Expected wall time of ``work_s`` seconds of work under preemption, checkpoints and re-work included.

    Args:
        work_s: Useful work, at least 0.
        interval_s: Work between two checkpoints, above 0.
        checkpoint_s: Time one checkpoint takes, at least 0.
        restart_s: From a preemption to working again, waiting for the next machine included, at least 0.
        mean_uptime_s: Mean time between preemptions of the job as a whole, above 0.
    """
    segment = np.minimum((np.asarray(interval_s, np.float64) + checkpoint_s) / mean_uptime_s, _MAX_EXPONENT)
    restart = np.minimum(np.asarray(restart_s, np.float64) / mean_uptime_s, _MAX_EXPONENT)
    time = mean_uptime_s * np.exp(restart) * np.expm1(segment) * np.asarray(work_s, np.float64) / interval_s
    return np.asarray(time, dtype=np.float64)


def best_interval_s(checkpoint_s: float, mean_uptime_s: float) -> float:
    """Work between checkpoints that makes the expected time smallest; 0 when a checkpoint costs nothing."""
    return mean_uptime_s * float(1 + lambertw(-np.exp(-1 - checkpoint_s / mean_uptime_s)).real)


def young_interval_s(checkpoint_s: float, mean_uptime_s: float) -> float:
    """Young's first-order interval, ``sqrt(2 d M)``, for comparison."""
    return float(np.sqrt(2 * checkpoint_s * mean_uptime_s))


def sample_rework_s(
    work_s: FloatArray,
    *,
    interval_s: FloatArray,
    checkpoint_s: FloatArray,
    restart_s: FloatArray,
    mean_uptime_s: float,
    rng: np.random.Generator,
) -> FloatArray:
    """Draws of the time lost to preemption beyond work and checkpoints; their mean is that of `expected_time_s`.

    A segment of length ``s = tau + d`` fails ``k`` times before it succeeds, with ``k`` geometric of success
    ``e^(-s/M)``; over all segments the count is negative binomial. Each failure costs the mean time to a failure
    known to come within ``s``, ``M - s / (e^(s/M) - 1)``, and the mean restart ``M (e^(R/M) - 1)``; only the count is
    random.

    Args: As for `expected_time_s`, each of shape (n,).
    """
    work = np.asarray(work_s, np.float64)
    segment_s = np.asarray(interval_s + checkpoint_s, np.float64)
    # The sampler wants a count above 0.
    n_segments = np.maximum(work / interval_s, np.finfo(np.float64).tiny)
    odds = np.expm1(np.minimum(segment_s / mean_uptime_s, _MAX_EXPONENT))
    restart = mean_uptime_s * np.expm1(np.minimum(restart_s / mean_uptime_s, _MAX_EXPONENT))
    mean_count = n_segments * odds
    sampled = mean_count < _MAX_SAMPLED
    counts = mean_count.copy()
    counts[sampled] = rng.negative_binomial(n_segments[sampled], 1 / (1 + odds[sampled]))
    lost_each = mean_uptime_s - segment_s / odds
    return np.asarray(counts * (lost_each + restart), dtype=np.float64)
