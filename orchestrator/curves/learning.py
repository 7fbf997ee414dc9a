"""Learning curves: a lower-is-better value, error rate or loss, against the number of training samples.

    value(n) = c + a * n**-b,    c >= lower bound, a >= 0, b > 0

with a model discrepancy that grows with the log of the extrapolation factor and seed-to-seed noise that falls with n;
the posterior is in `power_law`, the prior and what it was calibrated on in `learning_prior`. Two intervals, never to
be confused: *confidence* is of the curve (the mean over seeds), *prediction* of one new run, wider by the noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtri, stdtrit

from orchestrator.curves.learning_prior import LearningCurvePrior, grid_for, prior_for
from orchestrator.curves.measured import FoldedSizes, Numbers, checked, fold_learning_points
from orchestrator.curves.power_law import FloatArray, Forecast, LogPoints, Posterior, even_uniforms, fit_posterior
from orchestrator.errors import EvidenceError
from orchestrator.results import Interval

Kind = Literal["prediction", "confidence"]

_LOG_SMOOTHING = 0.5
"""Kernel width, in log n, of the local level that turns noise of the value into noise of its logarithm. The neighbours
within a factor of 1.6, that is the next size of a usual sweep, share the weight."""
_TINY = 1e-6
"""Values below this share of the largest one count as this: a logarithm needs a floor, no sweep resolves less."""
_PRIOR_DOF = 2.0
"""Degrees of freedom granted to the noise estimate beside its replicates, so that one pair gives no Cauchy interval."""
_EVEN_DRAWS = 1024
"""Draws behind a deterministic interval; the 5% quantile then rests on 51 of them."""
_UNIFORMS = even_uniforms(5, _EVEN_DRAWS)


def forecast(n: Numbers, value: Numbers, target_n: float, bounds: tuple[float, float] = (0.0, 1.0)) -> Forecast:
    """Forecast the curve at ``target_n``; the same input in any order always gives the same answer.

    Args:
        n: Training samples of each trial, above 0; repeats are seeds. Shape (n_trials,).
        value: Error rate or loss of the same trials, lower is better. Shape (n_trials,).
        target_n: Samples of the forecast, not below the smallest measured size.
        bounds: Range the value can take; ``(0, inf)`` for a loss.
    Returns: ``{"mean": float, "quantiles": {0.05: float, 0.5: float, 0.95: float}}``, of the curve (mean over seeds).
    Raises:
        EvidenceError: A value that cannot be, or a target below the data.
        UnderdeterminedFitError: Fewer than 2 distinct sizes.
    """
    interval = fit_learning_curve(n, value, bounds=bounds).interval(target_n, kind="confidence")
    return {"mean": interval.mean, "quantiles": {0.05: interval.low, 0.5: interval.median, 0.95: interval.high}}


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningCurveFit:
    """A fitted learning curve: samples, intervals and a diagnosis."""

    measured: FoldedSizes
    bounds: tuple[float, float]
    posterior: Posterior
    prior: LearningCurvePrior
    noise_std: float
    """Seed-to-seed standard deviation of the value at the largest measured size."""
    noise_scale: float
    """Local level of the value there: what the posterior's relative noise is relative to."""
    noise_dof: float
    """Degrees of freedom behind it: replicates beyond the first of each size; 0 when the scatter round the fit had to
    do."""
    diagnosis: tuple[str, ...]
    """Any of wrong-way, too-few-points, non-monotone, plateau, no-replicates; well-behaved without a fault of shape."""

    def extrapolation_factor(self, target_n: float) -> float:
        """Target over the largest measured size; at most 1 within the data."""
        return target_n / float(self.measured.size[-1])

    def sample(self, target_n: float, rng: np.random.Generator, size: int, kind: Kind = "prediction") -> FloatArray:
        """Draw values at ``target_n``, shape (size,): of one new run, or of the curve. Raises EvidenceError."""
        u = np.clip(rng.random((5, size)), 1e-12, 1 - 1e-12)
        return self._values(target_n, u, 1.0 if kind == "prediction" else 0.0)

    def interval(self, target_n: float, level: float = 0.9, kind: Kind = "prediction") -> Interval:
        """Central interval at ``target_n``, the same every time. Raises EvidenceError."""
        return _interval(self._values(target_n, _UNIFORMS, 1.0 if kind == "prediction" else 0.0), level)

    def interval_of_mean(self, target_n: float, n_runs: float, level: float = 0.9) -> Interval:
        """Prediction interval for the mean of ``n_runs`` new runs."""
        return _interval(self._values(target_n, _UNIFORMS, 1.0 / n_runs), level)

    def backtest(self, level: float = 0.9) -> tuple[Interval, float] | None:
        """Forecast of the largest measured size from the smaller ones, and the mean measured there.

        Returns: None when there are fewer than 3 distinct smaller sizes.
        """
        if len(self.measured.size) < 4:
            return None
        past = _fit(_without_last(self.measured), self.bounds, None)
        held_out = past.interval_of_mean(float(self.measured.size[-1]), float(self.measured.count[-1]), level)
        return held_out, float(self.measured.mean[-1])

    def _values(self, target_n: float, u: FloatArray, noise_share: float) -> FloatArray:
        """Draws with ``noise_share`` of the variance of a single run's noise, clipped to the bounds."""
        target = float(checked("target_n", [target_n], positive=True)[0])
        smallest, largest = float(self.measured.size[0]), float(self.measured.size[-1])
        if target < smallest:
            raise EvidenceError(
                f"target_n {target:g} lies below the smallest measured size {smallest:g}; ask for {smallest:g} or more"
            )
        offset = _offset(self.prior, self.bounds)
        log_curve, log_noise = self.posterior.draw(np.log(target / largest), self.prior.tail, u[:4])
        values = np.exp(log_curve) - offset
        if noise_share > 0:
            values = values + np.sqrt(noise_share) * self._noise(u[4], log_noise, min(target / largest, 1.0))
        return np.clip(values, *self.bounds)

    def _noise(self, u: FloatArray, log_noise: FloatArray, x: float) -> FloatArray:
        """Noise of one run at size x (relative to the largest; not extrapolated to be smaller beyond it)."""
        decay = x ** (-0.5 * self.prior.noise_decay)
        if self.noise_dof == 0:
            scatter: FloatArray = decay * self.noise_scale * log_noise * ndtri(u)
            return scatter
        student: FloatArray = decay * self.noise_std * stdtrit(self.noise_dof + _PRIOR_DOF, u)
        return student


def fit_learning_curve(
    n: Numbers, value: Numbers, *, bounds: tuple[float, float] = (0.0, 1.0), validation_size: int | None = None
) -> LearningCurveFit:
    """Fit a bounded power law with its full posterior.

    Args:
        n: Training samples of each trial, above 0; repeats are seeds. Shape (n_trials,).
        value: Error rate or loss of the same trials, lower is better. Shape (n_trials,).
        bounds: Range the value can take; ``(0, inf)`` for a loss.
        validation_size: Rows an error rate was measured on; its binomial noise is then the least the noise can be.
    Raises:
        EvidenceError: A value that cannot be.
        UnderdeterminedFitError: Fewer than 2 distinct sizes.
    """
    if validation_size is not None and validation_size < 1:
        raise EvidenceError(f"validation_size must be at least 1, got {validation_size}; pass None when it is unknown")
    return _fit(fold_learning_points(n, value, bounds, need=2), bounds, validation_size)


def backtest(
    n: Numbers, value: Numbers, *, bounds: tuple[float, float] = (0.0, 1.0), level: float = 0.9
) -> tuple[Interval, float] | None:
    """`LearningCurveFit.backtest` from raw points."""
    return fit_learning_curve(n, value, bounds=bounds).backtest(level)


def _fit(measured: FoldedSizes, bounds: tuple[float, float], validation_size: int | None) -> LearningCurveFit:
    prior = prior_for(bounds)
    points, level = _log_points(measured, bounds, prior)
    floor = _binomial_noise(float(measured.mean[-1]), bounds, validation_size)
    posterior = fit_posterior(points, grid_for(prior), floor / level)
    noise_std = max(_noise_std(measured, prior, posterior, level), floor)
    return LearningCurveFit(
        measured=measured,
        bounds=bounds,
        posterior=posterior,
        prior=prior,
        noise_std=noise_std,
        noise_scale=level,
        noise_dof=measured.replicate_dof,
        diagnosis=_diagnose(measured, posterior, noise_std, prior),
    )


def _offset(prior: LearningCurvePrior, bounds: tuple[float, float]) -> float:
    """What is added to a value before its logarithm."""
    return prior.shift * (bounds[1] - bounds[0]) - bounds[0] if np.isfinite(bounds[1]) else -bounds[0]


def _log_points(
    measured: FoldedSizes, bounds: tuple[float, float], prior: LearningCurvePrior
) -> tuple[LogPoints, float]:
    """The curve in log space, and its local level at the largest size in units of the value."""
    log_x = np.log(measured.size / measured.size[-1])
    shifted = measured.mean + _offset(prior, bounds)
    shifted = np.maximum(shifted, max(_TINY * float(shifted.max()), np.finfo(float).tiny))
    kernel = np.exp(-0.5 * ((log_x[:, None] - log_x[None, :]) / _LOG_SMOOTHING) ** 2) * measured.count
    level = kernel @ shifted / kernel.sum(1)
    decay = np.exp(-prior.noise_decay * log_x)
    points = LogPoints(
        log_x=log_x,
        log_y=np.log(shifted),
        noise_shape=decay * (level[-1] / level) ** 2 / measured.count,
        extra_var=np.zeros_like(log_x),
        within_ss=float((measured.deviation_ss / decay).sum() / level[-1] ** 2),
        within_dof=measured.replicate_dof,
    )
    return points, float(level[-1])


def _binomial_noise(rate: float, bounds: tuple[float, float], validation_size: int | None) -> float:
    """Standard deviation of an error rate counted on so many rows; one error is granted where none was seen."""
    if validation_size is None or bounds != (0.0, 1.0):
        return 0.0
    p = min(max(rate, 1.0 / (validation_size + 1)), 1.0 - 1.0 / (validation_size + 1))
    return float(np.sqrt(p * (1.0 - p) / validation_size))


def _noise_std(measured: FoldedSizes, prior: LearningCurvePrior, posterior: Posterior, level: float) -> float:
    """Replicates pooled over sizes, each scaled to the largest by the noise's own fall; else the scatter's median."""
    dof = measured.replicate_dof
    if dof == 0:
        order = np.argsort(posterior.noise, kind="stable")
        middle = np.searchsorted(np.cumsum(posterior.weight[order]), 0.5)
        return float(posterior.noise[order][min(int(middle), len(order) - 1)]) * level
    x = measured.size / measured.size[-1]
    return float(np.sqrt((measured.deviation_ss * x**prior.noise_decay).sum() / dof))


def _without_last(measured: FoldedSizes) -> FoldedSizes:
    return FoldedSizes(
        size=measured.size[:-1],
        mean=measured.mean[:-1],
        count=measured.count[:-1],
        deviation_ss=measured.deviation_ss[:-1],
    )


def _diagnose(
    measured: FoldedSizes, posterior: Posterior, noise_std: float, prior: LearningCurvePrior
) -> tuple[str, ...]:
    decay = (measured.size / measured.size[-1]) ** (-prior.noise_decay)
    variance = noise_std**2 * decay / measured.count
    # Two standard errors: the usual line between a step that was seen and one that may be luck.
    least = 2.0 * np.sqrt(variance[1:] + variance[:-1])
    span = float(np.ptp(measured.mean))
    wrong_way = measured.mean[-1] - measured.mean[0] > 2.0 * np.sqrt(variance[-1] + variance[0])
    found = ["wrong-way"] if wrong_way else []
    if len(measured.size) < 4:
        found.append("too-few-points")
    if not wrong_way and (np.diff(measured.mean) > np.maximum(least, 0.05 * span)).any():
        found.append("non-monotone")
    if not wrong_way and _is_plateau(posterior, noise_std, float(measured.mean[-1]), prior):
        found.append("plateau")
    shape_faults = tuple(found) or ("well-behaved",)
    return shape_faults if measured.replicate_dof > 0 else (*shape_faults, "no-replicates")


def _is_plateau(posterior: Posterior, noise_std: float, last: float, prior: LearningCurvePrior) -> bool:
    """Doubling the data is expected to gain less than one seed's luck, or than 1% of the value where seeds agree."""
    now, _ = posterior.moments(0.0, prior.tail)
    doubled, _ = posterior.moments(float(np.log(2.0)), prior.tail)
    gain = float(posterior.weight @ (np.exp(now) - np.exp(doubled)))
    return gain <= max(noise_std, 0.01 * last)


def _interval(values: FloatArray, level: float) -> Interval:
    if not 0 < level < 1:
        raise EvidenceError(f"level must lie between 0 and 1, got {level:g}; 0.9 means 90%")
    low, median, high = np.quantile(values, [0.5 - level / 2, 0.5, 0.5 + level / 2])
    return Interval(low=float(low), median=float(median), high=float(high), mean=float(values.mean()), level=level)
