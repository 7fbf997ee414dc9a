"""Seconds against worker count, from few points.

Beyond the largest measured count, with two counts or more: quantiles from networks trained on real jobs
(`learned_speedup`). On or within the measured counts, from one count alone, and where a limit has shown, a Bayesian
local log-log slope:

    log seconds(w) = level + log(r + (1 - r) * (w / w_max)**-b) + drift(log w) + noise

b = 1 and r = 0 is ideal scaling, r the share of the time at w_max that more workers do not shorten (Amdahl 1967), b <
1 a loss paid at every doubling, slightly negative r a super-linear step; the drift takes what no formula knows, and
widens the interval with the log of the extrapolation factor. Grid and algebra are in `power_law`.

The slope's prior is a mixture of two kinds of job: near-linear ones, and the rest. Its figures were chosen by random
search on the 299 jobs that the networks are trained on. Searched on half of the job families and scored on the other,
both ways round, its median error was 22% (seen up to a quarter of the workers) and 12% (half), and the 90% interval
held 88% and only 68%; what the networks come to, held out by family, `scripts/bench_worker_scaling.py` tells.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from scipy.optimize import nnls
from scipy.special import ndtri

from orchestrator.curves import learned_speedup
from orchestrator.curves.measured import FoldedSizes, Numbers, checked, fold, same_length
from orchestrator.curves.power_law import (
    FloatArray,
    Forecast,
    Grid,
    LogPoints,
    Posterior,
    Tail,
    even_uniforms,
    fit_posterior,
    scale_grid,
)
from orchestrator.curves.quantile_net import QuantileNet, at_probability
from orchestrator.errors import EvidenceError, UnderdeterminedFitError

_EXPONENTS = np.array(
    [0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.68, 0.75, 0.81, 0.86, 0.9, 0.94, 0.97, 1.0, 1.04, 1.1, 1.2, 1.4]
)
_FLOOR_SHARES = np.array([-0.3, -0.15, 0.0, 0.05, 0.1, 0.16, 0.25, 0.35, 0.5, 0.65, 0.8, 0.92])
_NEAR_LINEAR = (0.946, 0.080, 0.410)
"""b of near-linear jobs: centre, standard deviation, share of jobs."""
_OTHER = (0.869, 0.172)
_FLOOR_RATE = 4.61
"""Density of r >= 0 is proportional to exp(-rate * r)."""
_SUPER_LINEAR = 0.085
"""Density of r < 0, relative to that at r = 0."""
_DRIFT = (0.0436, 2.07)
_NOISE = (0.0476, 0.81)
"""Median and standard deviation of the log of tau and of the run-to-run noise."""
_FIRST_STEP_STD = 0.039
"""One worker needs no gradient sync, so the step from 1 to 2 says less about the next ones."""
TAIL = Tail(widening=0.84, growth=1.03)
SIZE_DRIFT = 0.12
"""Deviation of log time, per square root of a factor e in data size, from fixed + proportional to size: median absolute
miss over 0.6745 on C3O's Spark jobs, largest size from those up to 60% of it. Trainings may well be steadier."""
_NEARNESS = 2.0
"""The error of a pair of size and workers counts less by this power of the factor between its workers and the target's:
of C3O's Spark jobs, 1.5 to 3 do alike, 0 worse by half."""
SURFACE_WIDTH = 0.5
"""Several sizes tell the surface better than one tells its curve: with the width of one, the intervals held all."""
_SIZE_EXPONENT = (0.75, 0.25)
"""Mean and standard deviation of the power of the size that the seconds grow by; C3O's Spark jobs on the same workers,
from any size to the largest."""
_FADED_IN = float(np.log(1.25))
"""Log of the factor beyond the largest count from which the networks speak alone: they learned of no nearer ones."""
_LIMIT = (0.2, 0.35)
"""Share of the ideal gain that the best of the last steps brought: a limit shows below the first, none above."""
_UNIFORMS = even_uniforms(5, 1024)
_SHUFFLE = _UNIFORMS[1].argsort(kind="stable")


@cache
def _grid() -> Grid:
    b, r = (g.ravel() for g in np.meshgrid(_EXPONENTS, _FLOOR_SHARES, indexing="ij"))
    cell = np.outer(np.gradient(_EXPONENTS), np.gradient(_FLOOR_SHARES)).ravel()
    centre, spread, share = _NEAR_LINEAR
    density = share * _bell(b, centre, spread) + (1 - share) * _bell(b, *_OTHER)
    log_prior = np.log(density * cell + 1e-300)
    log_prior += np.where(r >= 0, -_FLOOR_RATE * r, np.log(_SUPER_LINEAR))
    drifts, noises = np.geomspace(0.004, 1.0, 7), np.geomspace(0.003, 0.3, 5)
    tau, noise, log_scale = scale_grid(drifts, noises, _DRIFT, _NOISE)
    return Grid(
        exponent=b,
        floor_share=r,
        log_shape_prior=log_prior - np.logaddexp.reduce(log_prior),
        drift=tau,
        noise=noise,
        log_scale_prior=log_scale,
    )


def _bell(x: FloatArray, centre: float, spread: float) -> FloatArray:
    density: FloatArray = np.exp(-0.5 * ((x - centre) / spread) ** 2) / spread
    return density


def fit_speedup(workers: FloatArray, log_seconds: FloatArray) -> Posterior:
    """Posterior of log seconds over log(workers / largest measured count), from checked arrays of equal length."""
    folded = fold(workers, log_seconds)
    extra = np.where((folded.size == 1.0) & (len(folded.size) > 1), _FIRST_STEP_STD**2, 0.0)
    points = LogPoints(
        log_x=np.log(folded.size / folded.size[-1]),
        log_y=folded.mean,
        noise_shape=1.0 / folded.count,
        extra_var=extra,
        within_ss=float(folded.deviation_ss.sum()),
        within_dof=folded.replicate_dof,
    )
    return fit_posterior(points, _grid())


def forecast(workers: Numbers, seconds: Numbers, target_workers: float) -> Forecast:
    """Forecast the run time of the same job on another number of workers.

    Args:
        workers: Worker count of each run, above 0; repeats are replicates. Shape (n_runs,).
        seconds: Run time of the same runs, above 0. Shape (n_runs,).
        target_workers: Worker count of the forecast.
    Returns: ``{"mean": float, "quantiles": {0.05: float, 0.5: float, 0.95: float}}`` of a typical run, in seconds.
    Raises:
        EvidenceError: A value that is not finite and positive.
        UnderdeterminedFitError: No run at all.
    """
    w, t, target = _checked_runs(workers, seconds, target_workers)
    return _summary(_log_draws(w, np.log(t), target, learned_speedup.shipped()))


def forecast_with(net: QuantileNet, workers: Numbers, seconds: Numbers, target_workers: float) -> Forecast:
    """`forecast` by other networks than those that come with the package: those of a fold of a cross-validation."""
    w, t, target = _checked_runs(workers, seconds, target_workers)
    return _summary(_log_draws(w, np.log(t), target, net))


def _log_draws(workers: FloatArray, log_seconds: FloatArray, target: float, net: QuantileNet) -> FloatArray:
    """Evenly likely values of log seconds at the target, rising."""
    measured = fold(workers, log_seconds)
    ahead = float(np.log(target / measured.size[-1]))
    told = min(max(ahead / _FADED_IN, 0.0), 1.0) if len(measured.size) > 1 else 0.0
    told *= 1 - _limit_shown(measured)
    log_t = np.zeros(_UNIFORMS.shape[1])
    if told < 1:
        drawn, _ = fit_speedup(workers, log_seconds).draw(ahead, TAIL, _UNIFORMS[:4])
        log_t += (1 - told) * np.sort(drawn)
    if told > 0:
        row = learned_speedup.log_quantiles(net, measured, np.array([target]))[0]
        log_t += told * at_probability(row, (np.arange(len(log_t)) + 0.5) / len(log_t))
    return log_t


def _limit_shown(measured: FoldedSizes) -> float:
    """How far two steps or more over the last four-fold of workers say that more bring nothing, in 0..1.

    Of 299 measured jobs seen up to half of their workers three show it, and all three got faster later; jobs with a
    serial share, a shared source or a ring do not. Networks that learned from the former are sure of what nobody can
    know, so the forecast of such a job is the posterior's, whose interval holds both.
    """
    x = np.log(measured.size / measured.size[-1])
    lately = x[:-1] >= -np.log(4.0) - 1e-9
    if lately.sum() < 2 or x[0] > -np.log(4.0) + 1e-9:
        return 0.0
    share_of_ideal = float((-np.diff(measured.mean) / np.diff(x))[lately].max())
    least, most = _LIMIT
    return min(max((most - share_of_ideal) / (most - least), 0.0), 1.0)


def forecast_size_and_workers(
    size: Numbers, workers: Numbers, seconds: Numbers, target_size: float, target_workers: float
) -> Forecast:
    """Forecast the run time at another data size and worker count.

    The centre is the geometric mean of two surfaces, fitted by non-negative least squares of the relative error of
    each measured pair's median: Ernest's terms (Venkataraman et al., NSDI 2016: fixed, size over workers, log workers,
    workers) plus one proportional to size; and a fixed and a shared cost, each with a part proportional to size. A
    pair counts by how near its workers are to the target's (`_NEARNESS`): what few workers lack in memory or spend on
    their first step says little about many. The width is that of `forecast` on the runs carried to the target size
    along the first surface, times `SURFACE_WIDTH` from 3 counts on, plus `SIZE_DRIFT` for data larger than any
    measured. One size alone is carried by `_SIZE_EXPONENT`; from one size or one count, `forecast` gives the centre
    too.

    On 13 of C3O's Spark jobs, seen at up to 80% of the size on up to 6 workers and asked at all of it on 12, the median
    error was 3%, and 9 in 10 were within 8% (`scripts/bench_worker_scaling.py`). By networks that had not seen the kind
    of job the 90% interval held all 13, its ends a factor 1.5 apart, and all with other shares seen; from 2 counts
    alone errors were 8% and 40%, and it held 77%.

    Args:
        size: Data size of each run, above 0, any unit. Shape (n_runs,).
        workers: Worker count of each run. Shape (n_runs,).
        seconds: Run time. Shape (n_runs,).
        target_size: Data size of the forecast, in the unit of ``size``.
        target_workers: Worker count of the forecast.
    Returns: As `forecast`.
    Raises: EvidenceError, UnderdeterminedFitError: As `forecast`.
    """
    return forecast_size_and_workers_with(
        learned_speedup.shipped(), size, workers, seconds, target_size, target_workers
    )


def forecast_size_and_workers_with(
    net: QuantileNet, size: Numbers, workers: Numbers, seconds: Numbers, target_size: float, target_workers: float
) -> Forecast:
    """`forecast_size_and_workers` by other networks than those that come with the package."""
    w, t, target = _checked_runs(workers, seconds, target_workers)
    s = checked("size", size, positive=True)
    wanted = float(checked("target_size", [target_size], positive=True)[0])
    same_length(size=s, workers=w)
    order = np.lexsort((t, w, s))
    s, w, t = s[order] / wanted, w[order], t[order]
    beyond = max(float(-np.log(s.max())), 0.0)
    if s[0] == s[-1]:
        log_t = _log_draws(w, np.log(t) - _SIZE_EXPONENT[0] * np.log(s), target, net)
        return _summary(_shuffled(log_t) + _SIZE_EXPONENT[1] * abs(float(np.log(s[0]))) * ndtri(_UNIFORMS[4]))
    medians = _pair_medians(s, w, t)
    surfaces = [_surface(terms, *medians, target) for terms in (_ernest_terms, _shared_terms)]
    log_t = _log_draws(w, np.log(t) + surfaces[0](np.ones_like(s), w) - surfaces[0](s, w), target, net)
    at_target = [surface(np.ones(1), np.array([target])).item() for surface in surfaces]
    n_counts = len(np.unique(w))
    if n_counts > 1:
        width = SURFACE_WIDTH if n_counts > 2 else 1.0
        log_t = float(np.mean(at_target)) + width * (log_t - np.median(log_t))
    spread = _shuffled(log_t) + SIZE_DRIFT * np.sqrt(beyond) * ndtri(_UNIFORMS[4])
    return _summary(spread - float(np.median(spread)) + float(np.median(log_t)))


def _shuffled(log_t: FloatArray) -> FloatArray:
    """Draws in an order that has nothing to do with the fifth row of `_UNIFORMS`."""
    shuffled: FloatArray = log_t[_SHUFFLE]
    return shuffled


def _ernest_terms(size: FloatArray, workers: FloatArray) -> FloatArray:
    return np.column_stack([np.ones_like(size), size / workers, np.log(workers), workers, size])


def _shared_terms(size: FloatArray, workers: FloatArray) -> FloatArray:
    return np.column_stack([np.ones_like(size), size / workers, 1 / workers, size])


def _pair_medians(
    size: FloatArray, workers: FloatArray, seconds: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Size, workers and median seconds of each pair, from runs sorted by (size, workers, seconds)."""
    first = np.flatnonzero(np.r_[True, (np.diff(size) != 0) | (np.diff(workers) != 0)])
    count = np.diff(np.r_[first, len(size)])
    median: FloatArray = (seconds[first + (count - 1) // 2] + seconds[first + count // 2]) / 2
    return size[first], workers[first], median


def _surface(
    terms: Callable[[FloatArray, FloatArray], FloatArray],
    size: FloatArray,
    workers: FloatArray,
    seconds: FloatArray,
    target_workers: float,
) -> Callable[[FloatArray, FloatArray], FloatArray]:
    """Log seconds over size, in units of the target's, and workers; from one time for each pair."""
    weight = np.exp(-_NEARNESS * np.abs(np.log(workers / target_workers)))
    relative = terms(size, workers) * (weight / seconds)[:, None]
    scale = relative.max(0)
    scale[scale == 0] = 1.0
    coefficients = nnls(relative / scale, weight)[0] / scale

    def log_seconds(s: FloatArray, w: FloatArray) -> FloatArray:
        found: FloatArray = np.log(np.maximum(terms(s, w) @ coefficients, np.finfo(float).tiny))
        return found

    return log_seconds


def _checked_runs(workers: Numbers, seconds: Numbers, target_workers: float) -> tuple[FloatArray, FloatArray, float]:
    w, t = checked("workers", workers, positive=True), checked("seconds", seconds, positive=True)
    same_length(workers=w, seconds=t)
    if len(w) == 0:
        raise UnderdeterminedFitError("time against workers", 0, 1, "measure at least one worker count")
    target = float(checked("target_workers", [target_workers], positive=True)[0])
    if target < w.min():
        raise EvidenceError(f"target_workers {target:g} lies below the smallest measured count {w.min():g}; measure it")
    return w, t, target


def _summary(log_t: FloatArray) -> Forecast:
    low, median, high = (float(q) for q in np.exp(np.quantile(log_t, [0.05, 0.5, 0.95])))
    return {"mean": median, "quantiles": {0.05: low, 0.5: median, 0.95: high}}


def sample_log_seconds(
    workers: FloatArray, log_seconds: FloatArray, target_workers: float, u: FloatArray
) -> FloatArray:
    """Log seconds of a typical run at the target, at each probability ``u``: what `forecast` has its quantiles from.

    Args:
        workers: Worker count of each run, above 0. Shape (n_runs,).
        log_seconds: Log of their run time. Shape (n_runs,).
        target_workers: Any count; below the smallest measured one too.
        u: Probabilities in (0, 1), any shape.
    """
    draws = _log_draws(workers, log_seconds, target_workers, learned_speedup.shipped())
    at: FloatArray = np.quantile(draws, u)
    return at
