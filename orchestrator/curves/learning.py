"""Learning curves: a lower-is-better value, error rate or loss, against the number of training samples.

Between the measured sizes a curve is smooth, and beyond them it is uncertain, so two models share the work:

- *Within the data*, and for losses beyond them too, the posterior of a bounded power law with a drifting residual
  (`power_law`, prior in `learning_prior`).
- *Beyond the data*, for error rates, quantiles from networks trained on thousands of measured curves (`learned`), which
  know of late drops, bumps and plateaus that no formula has. From the last size to 1.4 times it one fades into the
  other.

Two intervals, never to be confused: *confidence* is of the curve (the mean over seeds), *prediction* of one new run,
wider by the noise between seeds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.special import ndtri, stdtrit

from orchestrator.curves import learned
from orchestrator.curves.learning_prior import RUN_NOISE_DECAY, LearningCurvePrior, grid_for, prior_for
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
_PATH_KNOTS = np.array([0.3, 0.8, 1.5, 2.5, 4.0, 6.5, 10.0])
"""Logs of the factor beyond the data between which one possible curve moves straight; `_path_probabilities`."""
_UNIFORMS = even_uniforms(4 + len(_PATH_KNOTS), _EVEN_DRAWS)
"""Rows: cell, level, cliff and its size in the power law, noise of a run, and the later knots of a path."""
_FADED_IN = float(np.log(1.4))
"""Log of the factor beyond the data from which the networks speak alone: the usual step between measured sizes."""
_NOISE_DECAYS = np.linspace(-0.5, 2.0, 26)
_CLIFF = 0.05
"""A drop of the error rate that is called a cliff: 5 percentage points, which 12% of LCDB's curves have late."""


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


@dataclass(frozen=True, kw_only=True)
class LearningCurveFit:
    """A fitted learning curve: samples, intervals and a diagnosis; the costly parts are made when first asked for."""

    measured: FoldedSizes
    bounds: tuple[float, float]
    validation_size: int | None = None
    spread: float = 1.0
    """Stretches every distribution about its median; below 1 when past forecasts were too wide, above when too
    narrow."""
    net: learned.QuantileNet | None = field(default=None, repr=False)
    """Forecasts beyond the data; None for a metric without an upper bound, where the power law does."""

    @cached_property
    def prior(self) -> LearningCurvePrior:
        return prior_for(self.bounds)

    @cached_property
    def posterior(self) -> Posterior:
        """Of the bounded power law."""
        points, level = _log_points(self.measured, self.bounds, self.prior)
        return fit_posterior(points, grid_for(self.prior), self._noise_floor / level)

    @cached_property
    def noise_std(self) -> float:
        """Seed-to-seed standard deviation of the value at the largest measured size."""
        measured, dof = self.measured, self.measured.replicate_dof
        if dof == 0:
            return max(self.posterior.median_noise * self._level, self._noise_floor)
        shape = (measured.size / measured.size[-1]) ** -self.noise_decay
        return max(float(np.sqrt((measured.deviation_ss / shape).sum() / dof)), self._noise_floor)

    @cached_property
    def noise_decay(self) -> float:
        """Exponent with which the variance between runs falls in n: what replicates say, held by what is usual."""
        measured, (usual, deviation) = self.measured, RUN_NOISE_DECAY
        if measured.replicate_dof == 0:
            return usual
        log_shape = -_NOISE_DECAYS[:, None] * np.log(measured.size / measured.size[-1])
        pooled = np.maximum((measured.deviation_ss * np.exp(-log_shape)).sum(1) / measured.replicate_dof, 1e-300)
        log_posterior = -0.5 * (measured.replicate_dof * np.log(pooled) + log_shape @ (measured.count - 1))
        log_posterior -= 0.5 * ((_NOISE_DECAYS - usual) / deviation) ** 2
        return float(_NOISE_DECAYS[np.argmax(log_posterior)])

    @property
    def noise_dof(self) -> float:
        """Degrees of freedom behind the noise: replicates beyond the first of each size; 0 when the scatter round the
        fit had to do."""
        return self.measured.replicate_dof

    @cached_property
    def diagnosis(self) -> tuple[str, ...]:
        """Any of wrong-way, too-few-points, non-monotone, plateau, cliff-risk, no-replicates; well-behaved without a
        fault of shape."""
        return _diagnose(self)

    def extrapolation_factor(self, target_n: float) -> float:
        """Target over the largest measured size; at most 1 within the data."""
        return target_n / float(self.measured.size[-1])

    def sample(self, target_n: float, rng: np.random.Generator, size: int, kind: Kind = "prediction") -> FloatArray:
        """Draw values at ``target_n``, shape (size,): of one new run, or of the curve. Raises EvidenceError."""
        u = np.clip(rng.random((5, size)), 1e-12, 1 - 1e-12)
        drawn: FloatArray = self._values([target_n], u, u[1], _noise_share(kind))[0]
        return drawn

    def interval(self, target_n: float, level: float = 0.9, kind: Kind = "prediction") -> Interval:
        """Central interval at ``target_n``, the same every time. Raises EvidenceError."""
        return self.intervals([target_n], level, kind)[0]

    def intervals(self, target_n: Numbers, level: float = 0.9, kind: Kind = "prediction") -> list[Interval]:
        """One interval for each of many targets, at little more than the cost of one. Raises EvidenceError."""
        return [_interval(values, level) for values in self.worlds(target_n, kind)]

    def interval_of_mean(self, target_n: float, n_runs: float, level: float = 0.9) -> Interval:
        """Prediction interval for the mean of ``n_runs`` new runs."""
        return _interval(self._even_values([target_n], 1.0 / n_runs)[0], level)

    def worlds(self, target_n: Numbers, kind: Kind = "confidence") -> FloatArray:
        """1,024 equally likely values at each target; column i is the same possible curve at every target.

        Shape (n_targets, 1024), the same every time. Differences of two rows are differences along one curve.
        """
        return self._even_values(target_n, _noise_share(kind))

    def backtest(self, level: float = 0.9) -> tuple[Interval, float] | None:
        """Forecast of the largest measured size from the smaller ones, and the mean measured there.

        Returns: None when there are fewer than 3 distinct smaller sizes.
        """
        if len(self.measured.size) < 4:
            return None
        past = replace(self, measured=_without_last(self.measured))
        held_out = past.interval_of_mean(float(self.measured.size[-1]), float(self.measured.count[-1]), level)
        return held_out, float(self.measured.mean[-1])

    @property
    def _level(self) -> float:
        return _log_points(self.measured, self.bounds, self.prior)[1]

    @property
    def _noise_floor(self) -> float:
        return _binomial_noise(float(self.measured.mean[-1]), self.bounds, self.validation_size)

    def _checked_targets(self, target_n: Numbers) -> FloatArray:
        target = checked("target_n", target_n, positive=True)
        smallest = float(self.measured.size[0])
        if (target < smallest).any():
            raise EvidenceError(
                f"target_n {target.min():g} lies below the smallest measured size {smallest:g}; "
                f"ask for {smallest:g} or more"
            )
        return target

    def _even_values(self, target_n: Numbers, noise_share: float) -> FloatArray:
        ahead = np.log(self._checked_targets(target_n) / self.measured.size[-1])
        return self._values(target_n, _UNIFORMS, _path_probabilities(ahead), noise_share)

    def _values(self, target_n: Numbers, u: FloatArray, told_at: FloatArray, noise_share: float) -> FloatArray:
        """Draws (n_targets, size) with ``noise_share`` of the variance of one run's noise, clipped to the bounds.

        ``u`` are uniforms (5, size) of the power law and of the noise, ``told_at`` the probabilities, (size,) or
        (n_targets, size), at which the networks' quantiles are taken.
        """
        target = self._checked_targets(target_n)
        ahead = np.log(target / self.measured.size[-1])
        is_told = np.zeros(len(target)) if self.net is None else np.clip(ahead / _FADED_IN, 0.0, 1.0)
        values = np.zeros((len(target), u.shape[1]))
        if (is_told < 1).any():
            near = np.flatnonzero(is_told < 1)
            values[near] = (1 - is_told[near, None]) * self._power_law_values(ahead[near], u)
        if (is_told > 0).any():
            far = np.flatnonzero(is_told > 0)
            at = np.broadcast_to(told_at, values.shape)[far]
            told = [learned.at_probability(*each) for each in zip(self._told(target[far]), at, strict=True)]
            values[far] += is_told[far, None] * np.array(told)
        if self.spread != 1.0:
            median = np.median(values, axis=1, keepdims=True)
            values = median + self.spread * (values - median)
        if noise_share > 0:
            values += np.sqrt(noise_share) * self._noise(u[4], np.exp(np.minimum(ahead, 0.0)))
        return np.clip(values, *self.bounds)

    def _power_law_values(self, ahead: FloatArray, u: FloatArray) -> FloatArray:
        log_values = [self.posterior.draw(float(log_x), self.prior.tail, u[:4])[0] for log_x in ahead]
        values: FloatArray = np.exp(log_values) - _offset(self.prior, self.bounds)
        return np.clip(values, *self.bounds)

    def _told(self, target: FloatArray) -> FloatArray:
        assert self.net is not None
        lower, upper = self.bounds
        scaled = replace(
            self.measured,
            mean=(self.measured.mean - lower) / (upper - lower),
            deviation_ss=self.measured.deviation_ss / (upper - lower) ** 2,
        )
        return lower + (upper - lower) * self.net.quantiles(scaled, target)

    def _noise(self, u: FloatArray, x: FloatArray) -> FloatArray:
        """Noise of one run at sizes x, relative to the largest; not taken to be smaller beyond it than at it."""
        std = self.noise_std * x ** (-0.5 * self.noise_decay)
        unit = ndtri(u) if self.noise_dof == 0 else stdtrit(self.noise_dof + _PRIOR_DOF, u)
        noise: FloatArray = std[:, None] * unit
        return noise


def fit_learning_curve(
    n: Numbers,
    value: Numbers,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    validation_size: int | None = None,
    spread: float = 1.0,
) -> LearningCurveFit:
    """Fit a learning curve.

    Args:
        n: Training samples of each trial, above 0; repeats are seeds. Shape (n_trials,).
        value: Error rate or loss of the same trials, lower is better. Shape (n_trials,).
        bounds: Range the value can take; ``(0, inf)`` for a loss.
        validation_size: Rows an error rate was measured on; its binomial noise is then the least the noise can be.
        spread: Stretches the intervals, above 0; see `LearningCurveFit.spread`.
    Raises:
        EvidenceError: A value that cannot be.
        UnderdeterminedFitError: Fewer than 2 distinct sizes.
    """
    if validation_size is not None and validation_size < 1:
        raise EvidenceError(f"validation_size must be at least 1, got {validation_size}; pass None when it is unknown")
    if not 0 < spread < np.inf:
        raise EvidenceError(f"spread must be finite and above 0, got {spread:g}; 1 leaves the intervals as they are")
    measured = fold_learning_points(n, value, bounds, need=2)
    net = learned.shipped() if np.isfinite(bounds[1]) else None
    return LearningCurveFit(measured=measured, bounds=bounds, validation_size=validation_size, spread=spread, net=net)


def backtest(
    n: Numbers, value: Numbers, *, bounds: tuple[float, float] = (0.0, 1.0), level: float = 0.9
) -> tuple[Interval, float] | None:
    """`LearningCurveFit.backtest` from raw points."""
    return fit_learning_curve(n, value, bounds=bounds).backtest(level)


def _noise_share(kind: Kind) -> float:
    return 1.0 if kind == "prediction" else 0.0


def _path_probabilities(ahead: FloatArray) -> FloatArray:
    """Where in the distribution each possible curve lies at each target, (n_targets, 1024), evenly spread at each.

    A curve that lies high at one size tends to lie high at the next, but not for ever: its position is a Brownian
    motion in the log of the extrapolation factor, as the power law's drift is, straight between knots and normalised.
    """
    normals = ndtri(_UNIFORMS[[1, *range(5, len(_UNIFORMS))]])
    step = np.diff(_PATH_KNOTS, prepend=0.0)
    covered = np.clip((ahead[:, None] - (_PATH_KNOTS - step)) / step, 0.0, 1.0)
    covered[ahead <= 0, 0] = 1.0
    place = (covered * np.sqrt(step)) @ normals
    rank = place.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    probability: FloatArray = (rank + 0.5) / _EVEN_DRAWS
    return probability


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


def _without_last(measured: FoldedSizes) -> FoldedSizes:
    return FoldedSizes(
        size=measured.size[:-1],
        mean=measured.mean[:-1],
        count=measured.count[:-1],
        deviation_ss=measured.deviation_ss[:-1],
    )


def _diagnose(fit: LearningCurveFit) -> tuple[str, ...]:
    measured = fit.measured
    decay = (measured.size / measured.size[-1]) ** -fit.noise_decay
    variance = fit.noise_std**2 * decay / measured.count
    # Two standard errors: the usual line between a step that was seen and one that may be luck.
    least = 2.0 * np.sqrt(variance[1:] + variance[:-1])
    span = float(np.ptp(measured.mean))
    wrong_way = measured.mean[-1] - measured.mean[0] > 2.0 * np.sqrt(variance[-1] + variance[0])
    found = ["wrong-way"] if wrong_way else []
    if len(measured.size) < 4:
        found.append("too-few-points")
    if not wrong_way and (np.diff(measured.mean) > np.maximum(least, 0.05 * span)).any():
        found.append("non-monotone")
    doubled = fit.interval(2.0 * float(measured.size[-1]), kind="confidence")
    now = fit.interval(float(measured.size[-1]), kind="confidence")
    # Doubling the data gains less than one seed's luck, or than 1% of the value where seeds agree, as often as not.
    if not wrong_way and now.median - doubled.median <= max(fit.noise_std, 0.01 * float(measured.mean[-1])):
        found.append("plateau")
    if fit.net is not None and doubled.median - doubled.low > _CLIFF * (fit.bounds[1] - fit.bounds[0]):
        found.append("cliff-risk")
    shape_faults = tuple(found) or ("well-behaved",)
    return shape_faults if measured.replicate_dof > 0 else (*shape_faults, "no-replicates")


def _interval(values: FloatArray, level: float) -> Interval:
    if not 0 < level < 1:
        raise EvidenceError(f"level must lie between 0 and 1, got {level:g}; 0.9 means 90%")
    low, median, high = np.quantile(values, [0.5 - level / 2, 0.5, 0.5 + level / 2])
    return Interval(low=float(low), median=float(median), high=float(high), mean=float(values.mean()), level=level)
