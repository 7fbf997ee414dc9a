"""A learning curve in a notebook: ``forecast(n, error, target_n)`` shows its picture and its table in a cell.

    from orchestrator.notebook import forecast

    forecast([100, 200, 400, 800], [0.31, 0.24, 0.19, 0.155], 10_000)
    forecast(n, accuracy=accuracy, target_n=10_000, reach=0.95)
    forecast(n, loss=loss, target_n=1e6).interval

Lists, numpy arrays and pandas columns will do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.curves.learning import LearningCurveFit, fit_learning_curve
from orchestrator.curves.measured import Numbers, checked, same_length
from orchestrator.curves.questions import CurveAnswers, CurveMetric, ask, bounds_of, fault_of_value, turned
from orchestrator.errors import EvidenceError, UsageError
from orchestrator.intervals import FloatArray
from orchestrator.results import Interval

if TYPE_CHECKING:
    from orchestrator.report.figures import Drawing


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class CurveForecast:
    """A fitted curve with its answers, all in the direction of the metric that was given."""

    fit: LearningCurveFit
    answers: CurveAnswers
    points: tuple[tuple[float, float], ...]
    """Samples and metric of every training."""
    name: str = ""

    @property
    def interval(self) -> Interval:
        """Where the curve, the mean over seeds, lies at the target: 90%."""
        return self.answers.curve

    @property
    def prediction(self) -> Interval:
        """Where one new run at the target falls: 90%."""
        return self.answers.new_run

    @property
    def diagnosis(self) -> tuple[str, ...]:
        """Names of the findings about the curve's shape; the table says what each means."""
        return self.answers.diagnosis

    @property
    def backtest(self) -> tuple[Interval, float] | None:
        """Forecast of the largest measured size from the smaller ones, and the mean measured there."""
        return self.answers.backtest

    def plot(self) -> Drawing:
        """The picture: a cell shows it, and ``.png`` and ``.svg`` hold it."""
        from orchestrator.report.curve_plot import curve_figure

        return curve_figure(self.fit, self.answers, self.points, name=self.name)

    def __repr__(self) -> str:
        """What a prompt without HTML shows: the table as text."""
        from orchestrator.report.curve_text import curve_text

        return curve_text(self.answers, self.name)

    def _repr_html_(self) -> str:
        """What a Jupyter cell shows: picture and table."""
        from orchestrator.report.curve_text import html_fragment

        return html_fragment(self.answers, self.plot(), self.name)


def forecast(
    n: Numbers,
    error: Numbers | None = None,
    target_n: float | None = None,
    *,
    accuracy: Numbers | None = None,
    loss: Numbers | None = None,
    reach: float | None = None,
    name: str = "",
) -> CurveForecast:
    """Fit a learning curve and forecast it at ``target_n`` samples.

    Args:
        n: Training samples of each training; repeats are seeds. Shape (n_trainings,).
        error: Error rate of each training, 0 to 1. Exactly one of error, accuracy and loss is given.
        target_n: Samples of the forecast, not below the smallest of ``n``.
        accuracy: Accuracy of each training, 0 to 1.
        loss: Loss of each training, at least 0.
        reach: A value of the metric to find the sample size for, up to ``target_n``.
        name: For the heading and the legend.
    Raises:
        UsageError: Not exactly one metric, or no target.
        EvidenceError: A value that cannot be, or a target below the data.
        UnderdeterminedFitError: Fewer than 2 distinct sizes.
    """
    metric, values = _the_one({"error_rate": error, "accuracy": accuracy, "loss": loss})
    if target_n is None:
        raise UsageError("target_n is missing: the training samples to forecast at, as in target_n=10_000")
    sizes, measured = checked("n", n, positive=True), _checked_metric(values, metric)
    same_length(n=sizes, **{metric: measured})
    falling = [turned(float(value), metric) for value in measured]
    fit = fit_learning_curve(sizes, falling, bounds=bounds_of(metric))
    return CurveForecast(
        fit=fit,
        answers=ask(fit, metric, float(target_n), reach=reach),
        points=tuple((float(size), float(value)) for size, value in zip(sizes, measured, strict=True)),
        name=name,
    )


def _the_one(given: Mapping[CurveMetric, Numbers | None]) -> tuple[CurveMetric, Numbers]:
    """The metric that was passed. Raises UsageError when none was, or more than one."""
    passed = [(metric, values) for metric, values in given.items() if values is not None]
    if len(passed) != 1:
        found = ", ".join(metric for metric, _ in passed).replace("error_rate", "error") or "none"
        raise UsageError(f"exactly one of error, accuracy and loss is needed, got {found}")
    return passed[0]


def _checked_metric(values: Numbers, metric: CurveMetric) -> FloatArray:
    """Finite numbers that can be this metric. Raises EvidenceError with the position of one that cannot."""
    array = checked(metric, values, positive=False)
    for position, value in enumerate(array):
        fault = fault_of_value(float(value), metric)
        if fault is not None:
            raise EvidenceError(f"{fault} (position {position})")
    return array
