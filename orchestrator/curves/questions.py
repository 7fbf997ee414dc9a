"""What is asked of a fitted learning curve: the forecast, the gain of more data, the size that reaches a goal.

    gain_i(n)  = value_i(n) - value_i(n * (1 + more))            positive is better
    reach_i    = least n of the measured range and beyond, up to max_n, with value_i(n) <= goal

Draw ``i`` is one possible curve at every size (`LearningCurveFit.worlds`), so a gain is a gain along one curve and not
the difference of two separate uncertainties. Fitted values fall: an accuracy is asked as its error rate, and only
`ask` and the functions beside it know of the metric's own direction. Pure: a fit in, records out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from orchestrator.curves.families import FAMILIES, fit_families, shapes
from orchestrator.curves.learning import LearningCurveFit
from orchestrator.curves.measured import Numbers, checked
from orchestrator.curves.power_law import FloatArray
from orchestrator.errors import EvidenceError
from orchestrator.intervals import summarise
from orchestrator.results import Interval

CurveMetric = Literal["accuracy", "error_rate", "loss"]

MORE_DATA = 0.10
"""The step of a marginal gain: a tenth more data, small enough to be local and large enough to be seen."""
_GRID_POINTS = 128
"""Sizes at which every draw is looked up; between two of them it is taken as straight in log n. For 100 times the
smallest size, neighbours lie 4% apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeToReach:
    """The number of samples at which the curve reaches a value, looked for up to ``max_n``."""

    value: float
    """What is to be reached."""
    max_n: float
    low_n: float | None
    """None in these three: not by ``max_n``. ``low_n`` is the earliest, ``high_n`` the latest of the interval."""
    median_n: float | None
    high_n: float | None
    level: float
    """Probability between ``low_n`` and ``high_n``."""
    probability: float
    """That the curve (mean over seeds) reaches the value by ``max_n``."""
    measured_n: float | None
    """Smallest measured size whose mean over seeds reached it; None when none did."""
    smallest_n: float
    """Smallest measured size: an answer equal to it means that size or fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveAnswers:
    """All that is asked of one curve, in its metric's own direction; gains are positive when better."""

    metric: CurveMetric
    n_sizes: int
    n_points: int
    smallest_n: float
    largest_n: float
    target_n: float
    extrapolation_factor: float
    """Target over the largest measured size."""
    curve: Interval
    """At the target: where the mean over seeds lies."""
    new_run: Interval
    """At the target: where one new run falls."""
    gain_at_largest: Interval
    """What `MORE_DATA` beyond the largest measured size gains."""
    gain_at_target: Interval
    noise_std: float
    """Standard deviation between seeds at the largest measured size."""
    families: tuple[tuple[str, float], ...]
    """Formulas with how well each fits what was measured: weights that sum to 1, the best first."""
    diagnosis: tuple[str, ...]
    reach: SizeToReach | None
    backtest: tuple[Interval, float] | None
    """Forecast of the largest measured size from the smaller ones, and the mean measured there."""

    @property
    def is_backtest_held(self) -> bool | None:
        """None when there was nothing to test."""
        return None if self.backtest is None else self.backtest[0].low <= self.backtest[1] <= self.backtest[0].high


def marginal_gain(fit: LearningCurveFit, at_n: float, more: float = MORE_DATA, level: float = 0.9) -> Interval:
    """How much lower the value gets with ``more`` extra data; negative where it gets higher.

    Args:
        fit: A fitted curve.
        at_n: Samples before, not below the smallest measured size.
        more: Extra data as a share of ``at_n``, above 0.
        level: Probability inside the interval, in (0, 1).
    Raises: EvidenceError: A size below the data, or an argument out of its range.
    """
    checked("more", [more], positive=True)
    now, then = fit.worlds([at_n, at_n * (1 + more)])
    return summarise(now - then, _checked_level(level))


def size_to_reach(fit: LearningCurveFit, value: float, max_n: float, level: float = 0.9) -> SizeToReach:
    """The sample size at which the curve first reaches ``value``, from the smallest measured size to ``max_n``.

    Draws that do not get there by ``max_n`` count as not reached: nothing is said of sizes beyond it.

    Args:
        fit: A fitted curve.
        value: Error rate or loss to reach, inside the fit's bounds.
        max_n: Largest size that is looked at, not below the smallest measured one.
        level: Probability inside the interval, in (0, 1).
    Raises: EvidenceError: A value out of bounds, or ``max_n`` below the data.
    """
    lower, upper = fit.bounds
    if not lower <= value <= upper:
        raise EvidenceError(f"the value to reach must lie in {lower:g} to {upper:g}, got {value:g}")
    smallest = float(fit.measured.size[0])
    if not (math.isfinite(max_n) and max_n >= smallest):
        raise EvidenceError(f"max_n must be at least the smallest measured size {smallest:g}, got {max_n:g}")
    reached = np.sort(_first_sizes(fit, value, max_n))
    low, median, high = (_order_quantile(reached, q) for q in (0.5 - _checked_level(level) / 2, 0.5, 0.5 + level / 2))
    measured = fit.measured.size[(fit.measured.mean <= value) & (fit.measured.size <= max_n)]
    return SizeToReach(
        value=value, max_n=max_n, low_n=low, median_n=median, high_n=high, level=level,
        probability=float(np.isfinite(reached).mean()), measured_n=float(measured[0]) if len(measured) else None,
        smallest_n=smallest,
    )  # fmt: skip


def ask(
    fit: LearningCurveFit, metric: CurveMetric, target_n: float, *, reach: float | None = None, level: float = 0.9
) -> CurveAnswers:
    """Everything at once, in the direction of ``metric``.

    Args:
        fit: Of the error rate for an accuracy, else of the metric itself.
        metric: What the answers are told in.
        target_n: Samples of the forecast, and the farthest that ``reach`` is looked for.
        reach: A goal in the metric's own direction; None when nobody asks.
        level: Probability inside every interval.
    Raises: EvidenceError: A target below the data, or a goal that the metric cannot take.
    """
    largest = float(fit.measured.size[-1])
    backtest = fit.backtest(level)
    curve, run = bands(fit, [target_n], level)[0]
    return CurveAnswers(
        metric=metric,
        n_sizes=len(fit.measured.size),
        n_points=int(fit.measured.count.sum()),
        smallest_n=float(fit.measured.size[0]),
        largest_n=largest,
        target_n=target_n,
        extrapolation_factor=fit.extrapolation_factor(target_n),
        curve=oriented(curve, metric),
        new_run=oriented(run, metric),
        gain_at_largest=marginal_gain(fit, largest, level=level),
        gain_at_target=marginal_gain(fit, target_n, level=level),
        noise_std=fit.noise_std,
        families=family_weights(fit),
        diagnosis=fit.diagnosis,
        reach=None if reach is None else _reach(fit, metric, reach, target_n, level),
        backtest=None if backtest is None else (oriented(backtest[0], metric), turned(backtest[1], metric)),
    )


def bands(fit: LearningCurveFit, n: Numbers, level: float = 0.9) -> list[tuple[Interval, Interval]]:
    """Where the curve lies and where one new run falls, at each of many sizes.

    A run is never told as surer than its curve: under a skewed curve, noise can pull a quantile inwards.
    """
    both = zip(fit.intervals(n, level, "confidence"), fit.intervals(n, level, "prediction"), strict=True)
    return [(curve, replace(run, low=min(curve.low, run.low), high=max(curve.high, run.high))) for curve, run in both]


def family_weights(fit: LearningCurveFit) -> tuple[tuple[str, float], ...]:
    """Names of `families.FAMILIES` with their weight of evidence, exp(-BIC / 2) normalised, the best first."""
    measured = fit.measured
    value = measured.mean - fit.bounds[0]
    unit = fit.bounds[1] - fit.bounds[0] if math.isfinite(fit.bounds[1]) else max(float(value.max()), 1e-300)
    fits = fit_families(shapes(measured.size / measured.size[-1]), value / unit, measured.count)
    named = [(family.name, float(weight)) for family, weight in zip(FAMILIES, fits.family_weight, strict=True)]
    return tuple(sorted(named, key=lambda each: -each[1]))


def turned(value: float, metric: CurveMetric) -> float:
    """From the falling value to the metric, and back."""
    return 1 - value if metric == "accuracy" else value


def oriented(interval: Interval, metric: CurveMetric) -> Interval:
    """An interval of the falling value as one of the metric."""
    if metric != "accuracy":
        return interval
    return Interval(
        low=1 - interval.high,
        median=1 - interval.median,
        high=1 - interval.low,
        mean=1 - interval.mean,
        level=interval.level,
    )


def bounds_of(metric: CurveMetric) -> tuple[float, float]:
    """The range of the falling value."""
    return (0.0, math.inf) if metric == "loss" else (0.0, 1.0)


def fault_of_value(value: float, metric: CurveMetric) -> str | None:
    """What keeps a number from being this metric, with the way out; None when nothing does."""
    if not math.isfinite(value):
        return f"{metric} is {value:g}; leave out the training that gave no number"
    if metric == "loss":
        return f"loss is {value:g} and must be at least 0" if value < 0 else None
    if 0 <= value <= 1:
        return None
    hint = "; it looks like percent: divide by 100" if 1 < value <= 100 else ""
    return f"{metric} is {value:g} and must lie in 0 to 1{hint}"


def _reach(fit: LearningCurveFit, metric: CurveMetric, goal: float, max_n: float, level: float) -> SizeToReach:
    fault = fault_of_value(goal, metric)
    if fault is not None:
        raise EvidenceError(f"the value to reach: {fault}")
    return replace(size_to_reach(fit, turned(goal, metric), max_n, level), value=goal)


def _first_sizes(fit: LearningCurveFit, value: float, max_n: float) -> FloatArray:
    """Size at which each draw first lies at or below the value; infinite where it does not by ``max_n``."""
    measured = fit.measured.size
    size = np.union1d(np.geomspace(measured[0], max_n, _GRID_POINTS), measured[measured <= max_n])
    values = fit.worlds(size)
    is_there = values <= value
    after = is_there.argmax(0)
    before = np.maximum(after - 1, 0)
    draw = np.arange(values.shape[1])
    step = values[before, draw] - values[after, draw]
    share = np.where(step > 0, (values[before, draw] - value) / np.where(step > 0, step, 1.0), 0.0)
    crossing: FloatArray = size[before] * (size[after] / size[before]) ** np.clip(share, 0.0, 1.0)
    return np.where(is_there.any(0), np.minimum(crossing, max_n), np.inf)


def _order_quantile(rising: FloatArray, q: float) -> float | None:
    """A quantile that is one of the draws, so that nothing is averaged with infinity; None when it is infinite."""
    found = float(rising[min(int(q * len(rising)), len(rising) - 1)])
    return found if math.isfinite(found) else None


def _checked_level(level: float) -> float:
    if not 0 < level < 1:
        raise EvidenceError(f"level must lie between 0 and 1, got {level:g}; 0.9 means 90%")
    return level
