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

from orchestrator.curves import learned
from orchestrator.curves.families import FAMILIES, fit_families, shapes
from orchestrator.curves.learning_prior import RUN_NOISE_DECAY, LearningCurvePrior, grid_for, prior_for
from orchestrator.curves.measured import FoldedSizes, Numbers, checked, fold_learning_points
from orchestrator.curves.power_law import FloatArray, Forecast, LogPoints, Posterior, even_uniforms, fit_posterior
from orchestrator.curves.quantile_net import QuantileNet, at_probability
from orchestrator.errors import EvidenceError
from orchestrator.results import Interval

Kind = Literal["prediction", "confidence"]

_LOG_SMOOTHING = 0.5
"""Kernel width, in log n, of the local level that turns noise of the value into noise of its logarithm. The neighbours
within a factor of 1.6, that is the next size of a usual sweep, share the weight."""
_TINY = 1e-100
"""Its square is still a number."""
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
_CLIFF = 0.05
"""A drop of the error rate that is called a cliff: 5 percentage points, which 12% of LCDB's curves have late."""
_USUAL_NOISE = (0.058, 2.0)
"""Deviation of single runs in units of sqrt(p (1 - p)) at error rate p, median over the largest sizes of LCDB's curves,
and the degrees of freedom it is granted beside a curve's own scatter: it varies by a factor of 2.7 either way."""
_FALSE_ALARM = 0.03
"""Chance aimed at that a curve is told to rise when luck made it, over all of its steps: 0.05 came to 9% in simulation,
for the noise and its fall with n are estimated too."""
_LEAST_CHANGE = 0.002
"""A change from the smallest to the largest size that is none: 0.2 points, or 0.2% of a loss, whatever seeds say."""
_NOISE_DECAYS = np.linspace(-0.5, 2.0, 26)


def _even(place: FloatArray) -> FloatArray:
    """Evenly spaced probabilities in the order of ``place``, along its last axis."""
    rank = place.argsort(axis=-1, kind="stable").argsort(axis=-1, kind="stable")
    probability: FloatArray = (rank + 0.5) / place.shape[-1]
    return probability


_EVEN = _even(_UNIFORMS[1])
"""Where in the distribution each draw lies at a single target."""


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
    widen: float = 1.0
    """Stretches every distribution of the curve about its median: a hook for a ledger of outcomes."""
    net: QuantileNet | None = field(default=None, repr=False)
    """Forecasts beyond the data; None for a metric without an upper bound, where the power law does."""

    @cached_property
    def prior(self) -> LearningCurvePrior:
        return prior_for(self.bounds)

    @cached_property
    def posterior(self) -> Posterior:
        """Of the bounded power law."""
        points, level = _log_points(self.measured, self.bounds, self.prior)
        known = self.noise_std if self._reads_scatter else self._noise_floor
        return fit_posterior(points, grid_for(self.prior), known / level)

    @cached_property
    def noise_std(self) -> float:
        """Standard deviation of one run at the largest measured size: between seeds, or what its validation rows
        cannot tell apart, whichever is larger."""
        measured, dof = self.measured, self.measured.replicate_dof
        if dof > 0:
            shape = (measured.size / measured.size[-1]) ** -self.noise_decay
            found = float(np.sqrt((measured.deviation_ss / shape).sum() / dof))
        elif self._reads_scatter:
            found = self._scatter[0]
        else:
            found = self.posterior.median_noise * _log_points(measured, self.bounds, self.prior)[1]
        return max(found, self._noise_floor)

    @property
    def noise_dof(self) -> float:
        """Degrees of freedom behind the noise: replicates beyond the first of each size; else what the scatter round
        a smooth curve is worth, beside the usual noise at such a level."""
        if self.measured.replicate_dof > 0 or not self._reads_scatter:
            return self.measured.replicate_dof
        return self._scatter[1]

    @cached_property
    def _scatter(self) -> tuple[float, float]:
        return _noise_without_replicates(self.measured, self.bounds)

    @property
    def _reads_scatter(self) -> bool:
        """Whether noise must come from the scatter of single runs; of losses nothing usual is known beside it."""
        return self.net is not None and self.measured.replicate_dof == 0

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

    @cached_property
    def diagnosis(self) -> tuple[str, ...]:
        """Any of wrong-way, too-few-points, non-monotone, flat (no gain was measured), plateau (none is expected of
        doubling the data), cliff-risk, no-replicates; well-behaved without a fault of shape."""
        return _diagnose(self)

    def extrapolation_factor(self, target_n: float) -> float:
        """Target over the largest measured size; at most 1 within the data."""
        return target_n / float(self.measured.size[-1])

    def sample(self, target_n: float, rng: np.random.Generator, size: int, kind: Kind = "prediction") -> FloatArray:
        """Draw values at ``target_n``, shape (size,): of one new run, or of the curve. Raises EvidenceError."""
        u = np.clip(rng.random((5, size)), 1e-12, 1 - 1e-12)
        drawn: FloatArray = self._values(self._ahead([target_n]), u, u[1], _noise_share(kind))[0]
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
        ahead = self._ahead(target_n)
        told_at = _EVEN
        if self.net is not None and len(ahead) > 1 and (ahead > 0).any():
            told_at = _path_probabilities(ahead, _even(self._power_law_at(0.0, _UNIFORMS)))
        return self._values(ahead, _UNIFORMS, told_at, noise_share)

    def _ahead(self, target_n: Numbers) -> FloatArray:
        ahead: FloatArray = np.log(self._checked_targets(target_n) / self.measured.size[-1])
        return ahead

    def _values(self, ahead: FloatArray, u: FloatArray, told_at: FloatArray, noise_share: float) -> FloatArray:
        """Draws (n_targets, size) with ``noise_share`` of the variance of one run's noise, clipped to the bounds.

        ``ahead`` is log(target / largest measured size), ``u`` are uniforms (5, size) of power law and noise,
        ``told_at`` the probabilities, (size,) or (n_targets, size), at which quantiles beyond the data are taken.
        """
        at = np.broadcast_to(told_at, (len(ahead), u.shape[1]))
        is_beyond = (ahead > 0) & (self.net is not None)
        values = np.empty(at.shape)
        for row in np.flatnonzero(~is_beyond):
            values[row] = self._power_law_at(ahead[row], u)
        if is_beyond.any():
            values[is_beyond] = self._beyond(ahead[is_beyond], u, at[is_beyond])
        if self.widen != 1.0:
            median = np.median(values, axis=1, keepdims=True)
            values = median + self.widen * (values - median)
        if noise_share > 0:
            values += np.sqrt(noise_share) * self._noise(u[4], np.exp(np.minimum(ahead, 0.0)))
        return np.clip(values, *self.bounds)

    def _power_law_at(self, ahead: float, u: FloatArray) -> FloatArray:
        log_value, _ = self.posterior.draw(float(ahead), self.prior.tail, u[:4])
        value: FloatArray = np.clip(np.exp(log_value) - _offset(self.prior, self.bounds), *self.bounds)
        return value

    def _beyond(self, ahead: FloatArray, u: FloatArray, at: FloatArray) -> FloatArray:
        """The networks' quantiles at probabilities ``at``, the power law's fading out just beyond the data."""
        told = self._told(self.measured.size[-1] * np.exp(ahead))
        values = np.array([at_probability(*each) for each in zip(told, at, strict=True)])
        for row in np.flatnonzero(ahead < _FADED_IN):
            share = ahead[row] / _FADED_IN
            fading = np.quantile(self._power_law_at(ahead[row], u), at[row])
            values[row] = share * values[row] + (1 - share) * fading
        return values

    def _told(self, target: FloatArray) -> FloatArray:
        assert self.net is not None
        lower, upper = self.bounds
        scaled = replace(
            self.measured,
            mean=(self.measured.mean - lower) / (upper - lower),
            deviation_ss=self.measured.deviation_ss / (upper - lower) ** 2,
        )
        return lower + (upper - lower) * learned.quantiles(self.net, scaled, target)

    def _noise(self, u: FloatArray, x: FloatArray) -> FloatArray:
        """Noise of one run at sizes x, relative to the largest; not taken to be smaller beyond it than at it."""
        from scipy.special import ndtri, stdtrit

        std = self.noise_std * x ** (-0.5 * self.noise_decay)
        is_guessed = self.measured.replicate_dof == 0 and not self._reads_scatter
        unit = ndtri(u) if is_guessed else stdtrit(self.noise_dof + _PRIOR_DOF, u)
        noise: FloatArray = std[:, None] * unit
        return noise


def fit_learning_curve(
    n: Numbers,
    value: Numbers,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    validation_size: int | None = None,
    widen: float = 1.0,
) -> LearningCurveFit:
    """Fit a learning curve.

    Args:
        n: Training samples of each trial, above 0; repeats are seeds. Shape (n_trials,).
        value: Error rate or loss of the same trials, lower is better. Shape (n_trials,).
        bounds: Range the value can take; ``(0, inf)`` for a loss.
        validation_size: Rows an error rate was measured on; its binomial noise is then the least the noise can be.
        widen: Stretches the intervals of the curve, above 0; see `LearningCurveFit.widen`.
    Raises:
        EvidenceError: A value that cannot be.
        UnderdeterminedFitError: Fewer than 2 distinct sizes.
    """
    if validation_size is not None and validation_size < 1:
        raise EvidenceError(f"validation_size must be at least 1, got {validation_size}; pass None when it is unknown")
    if not 0 < widen < np.inf:
        raise EvidenceError(f"widen must be finite and above 0, got {widen:g}; 1 leaves the intervals as they are")
    measured = fold_learning_points(n, value, bounds, need=2)
    if np.isinf(bounds[1]) and (measured.mean <= bounds[0]).all():
        raise EvidenceError(f"every value is {bounds[0]:g}, the lowest a loss can be; nothing is left to forecast")
    net = learned.shipped() if np.isfinite(bounds[1]) else None
    return LearningCurveFit(measured=measured, bounds=bounds, validation_size=validation_size, widen=widen, net=net)


def backtest(
    n: Numbers, value: Numbers, *, bounds: tuple[float, float] = (0.0, 1.0), level: float = 0.9
) -> tuple[Interval, float] | None:
    """`LearningCurveFit.backtest` from raw points."""
    return fit_learning_curve(n, value, bounds=bounds).backtest(level)


def _noise_share(kind: Kind) -> float:
    return 1.0 if kind == "prediction" else 0.0


def _path_probabilities(ahead: FloatArray, start: FloatArray) -> FloatArray:
    """Where in the distribution each possible curve lies at each target, (n_targets, 1024), evenly spread at each.

    It starts at its place at the largest measured size, ``start`` (1024,). A curve that lies high at one size tends to
    lie high at the next, but not for ever: its place is a Brownian motion in the log of the extrapolation factor, as
    the power law's drift is, straight between knots and normalised.
    """
    from scipy.special import ndtri

    normals = ndtri(np.vstack([start, _UNIFORMS[5:]]))
    step = np.diff(_PATH_KNOTS, prepend=0.0)
    covered = np.clip((ahead[:, None] - (_PATH_KNOTS - step)) / step, 0.0, 1.0)
    covered[:, 0] = np.where(ahead > 0, covered[:, 0], 1.0)
    return _even((covered * np.sqrt(step)) @ normals)


def _noise_without_replicates(measured: FoldedSizes, bounds: tuple[float, float]) -> tuple[float, float]:
    """Deviation of a single run, from the scatter round the best family, or round a straight line where that is less,
    beside what is usual at such an error rate.

    Returns: The deviation in units of the value, and the degrees of freedom of the scatter.
    """
    lower, width = bounds[0], bounds[1] - bounds[0]
    value = (measured.mean - lower) / width
    rate = float(np.clip(value[-1], 0.002, 0.998))
    fits = fit_families(shapes(measured.size / measured.size[-1]), value, np.ones(len(value)))
    best = int(fits.family_weight.argmax())
    dof = max(len(value) - FAMILIES[best].n_parameters, 0)
    scatter_ss = float(fits.misfit[fits.best_cell[best]]) * len(value) if dof else 0.0
    log_x = np.log(measured.size) - np.log(measured.size).mean()
    line_ss = float(((value - value.mean() - (value @ log_x) / (log_x @ log_x) * log_x) ** 2).sum())
    if line_ss * dof < scatter_ss * (len(value) - 2):
        dof, scatter_ss = len(value) - 2, line_ss
    usual, granted = _USUAL_NOISE
    variance = (granted * usual**2 * rate * (1 - rate) + scatter_ss) / (granted + dof)
    return width * float(np.sqrt(variance)), float(dof)


def _offset(prior: LearningCurvePrior, bounds: tuple[float, float]) -> float:
    """What is added to a value before its logarithm."""
    return prior.shift * (bounds[1] - bounds[0]) - bounds[0] if np.isfinite(bounds[1]) else -bounds[0]


def _log_points(
    measured: FoldedSizes, bounds: tuple[float, float], prior: LearningCurvePrior
) -> tuple[LogPoints, float]:
    """The curve in log space, and its local level at the largest size in units of the value."""
    log_x = np.log(measured.size / measured.size[-1])
    shifted = measured.mean + _offset(prior, bounds)
    # A logarithm needs a floor: a zero is a value that was rounded, to below half of the least that was not.
    shifted = np.maximum(shifted, max(0.5 * float(shifted[shifted > 0].min(initial=float(shifted.max()))), _TINY))
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
    measured, mean = fit.measured, fit.measured.mean
    variance = fit.noise_std**2 * (measured.size / measured.size[-1]) ** -fit.noise_decay / measured.count
    # A rise was seen when luck alone makes one so large, over any step or over all, in 5% of curves (Bonferroni).
    critical = _critical(fit.noise_dof + _PRIOR_DOF, 2 * (len(mean) - 1))
    least = critical * np.sqrt(variance[1:] + variance[:-1])
    span, rise = float(np.ptp(mean)), float(mean[-1] - mean[0])
    luck = _critical(fit.noise_dof + _PRIOR_DOF, 2) * float(np.sqrt(variance[-1] + variance[0]))
    wrong_way = rise > max(luck, _LEAST_CHANGE * _range(fit))
    found = ["wrong-way"] if wrong_way else []
    if len(mean) < 4:
        found.append("too-few-points")
    if not wrong_way and (np.diff(mean) > np.maximum(least, 0.05 * span)).any():
        found.append("non-monotone")
    if not wrong_way and -rise <= max(luck, _LEAST_CHANGE * _range(fit)):
        found.append("flat")
    now, doubled = fit.intervals(float(measured.size[-1]) * np.array([1.0, 2.0]), kind="confidence")
    # Doubling the data gains less than one run's luck, or than 1% of the value where runs agree, as often as not.
    if not wrong_way and now.median - doubled.median <= max(fit.noise_std, 0.01 * float(mean[-1])):
        found.append("plateau")
    if fit.net is not None and doubled.median - doubled.low > _CLIFF * (fit.bounds[1] - fit.bounds[0]):
        found.append("cliff-risk")
    shape_faults = tuple(found) or ("well-behaved",)
    return shape_faults if measured.replicate_dof > 0 else (*shape_faults, "no-replicates")


def _critical(dof: float, n_tests: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(dof, 1 - _FALSE_ALARM / n_tests))


def _range(fit: LearningCurveFit) -> float:
    """What changes of the value are small against: the width of the bounds, or for a loss its last value."""
    lower, upper = fit.bounds
    return upper - lower if np.isfinite(upper) else float(fit.measured.mean[-1]) - lower


def _interval(values: FloatArray, level: float) -> Interval:
    if not 0 < level < 1:
        raise EvidenceError(f"level must lie between 0 and 1, got {level:g}; 0.9 means 90%")
    low, median, high = np.quantile(values, [0.5 - level / 2, 0.5, 0.5 + level / 2])
    return Interval(low=float(low), median=float(median), high=float(high), mean=float(values.mean()), level=level)
