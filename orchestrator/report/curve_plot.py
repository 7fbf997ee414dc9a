"""One learning curve as a figure: what was measured, what is forecast, and how an earlier forecast fared.

The style is that of `figures`. Values fall in a fit and are drawn in the metric's own direction: accuracies and error
rates in percent, losses as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.curves.learning import LearningCurveFit
from orchestrator.curves.questions import CurveAnswers, bands, oriented
from orchestrator.report import wording
from orchestrator.report.curve_text import METRIC_NAMES, size_span, size_text, value_text
from orchestrator.report.figures import (
    BAND_LABELS,
    INK,
    MODEL_COLOURS,
    Drawing,
    canvas,
    draw_curve,
    drawn,
    in_legend,
    legend_above,
    number_axis,
)
from orchestrator.results import CurveBand, CurvePoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEIGHT_IN = 4.6
_GRID_POINTS = 64
_COLOUR = MODEL_COLOURS[0]
_BACKTEST_COLOUR = MODEL_COLOURS[1]
_GOAL_COLOUR = MODEL_COLOURS[2]
_BACKTEST, _MEASURED = "backtest, 90%", "measured there"
_BESIDE = 0.4
"""Distance of the backtest from its size, in units of the picture's margin."""


def curve_figure(
    fit: LearningCurveFit,
    answers: CurveAnswers,
    points: Sequence[tuple[float, float]],
    *,
    name: str = "",
) -> Drawing:
    """Measured points, median, both bands, the forecast at the target, the goal if one was asked for, the backtest.

    Args:
        fit: The curve.
        answers: `curves.questions.ask` of the same fit; they say metric, target, goal and backtest.
        points: Samples and metric (in its own direction) of every training, for the marks.
        name: Of the model or file, for the legend; empty for none.
    """
    metric, scale = answers.metric, 1.0 if answers.metric == "loss" else 100.0
    band = _band(fit, answers, points, name or "fitted curve")
    figure, axes = canvas(_HEIGHT_IN)
    axes.set_xscale("log")
    draw_curve(axes, band, 0, scale)
    _draw_forecast(axes, answers, scale)
    _draw_backtest(axes, answers, band, scale)
    _draw_goal(axes, answers, scale)
    axes.set_ylim(*_value_limits(answers, points, scale))
    axes.set_xlim(band.n_samples[0] / _margin(band), band.n_samples[-1] * _margin(band))
    number_axis(axes, band.n_samples)
    axes.set_xlabel("training samples")
    axes.set_ylabel(f"validation {METRIC_NAMES[metric]}" + ("" if metric == "loss" else ", %"))
    # Column by column: curve, forecast and goal; both bands; backtest and its truth.
    order = (in_legend(band.model), _forecast_label(answers), _goal_label(answers), *BAND_LABELS, _BACKTEST, _MEASURED)
    legend_above(axes, columns=3, order=order)
    return drawn(figure, _alt(answers, name))


def _band(fit: LearningCurveFit, answers: CurveAnswers, points: Sequence[tuple[float, float]], name: str) -> CurveBand:
    """The curve from the smallest measured size to the target, or to the largest size when that lies beyond."""
    measured = fit.measured.size
    end = max(answers.target_n, answers.largest_n)
    inner = np.geomspace(measured[0], end, _GRID_POINTS)[1:-1]
    grid = [float(n) for n in np.union1d(np.union1d(inner, measured), end)]
    metric, level = answers.metric, answers.curve.level
    both = bands(fit, grid, level)
    curve, runs = ([oriented(pair[which], metric) for pair in both] for which in (0, 1))
    return CurveBand(
        model=name,
        n_samples=tuple(grid),
        median=tuple(interval.median for interval in curve),
        confidence_low=tuple(interval.low for interval in curve),
        confidence_high=tuple(interval.high for interval in curve),
        prediction_low=tuple(interval.low for interval in runs),
        prediction_high=tuple(interval.high for interval in runs),
        points=tuple(CurvePoint(n_samples=int(n), value=value, seed=0, workers=1) for n, value in points),
        noise_std=answers.noise_std,
        diagnosis=answers.diagnosis,
        backtest=answers.backtest,
    )


def _draw_forecast(axes: Axes, answers: CurveAnswers, scale: float) -> None:
    """The new run's interval at the target, with its figures beside it."""
    run, target = answers.new_run, answers.target_n
    median = run.median * scale
    axes.axvline(target, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.errorbar(
        [target], [median], yerr=[[median - run.low * scale], [run.high * scale - median]], color=_COLOUR, marker="D",
        markersize=6, capsize=5, elinewidth=2.2, capthick=2.2, zorder=5, linestyle="none",
        label=_forecast_label(answers),
    )  # fmt: skip


def _forecast_label(answers: CurveAnswers) -> str:
    return f"{size_text(answers.target_n)}: {wording.with_span(answers.new_run, value_text(answers.metric))}"


def _draw_backtest(axes: Axes, answers: CurveAnswers, band: CurveBand, scale: float) -> None:
    """An open bar for what the smaller sizes forecast of the largest one, and a dash for the mean measured there.

    Both stand a little left of that size, so that they hide none of its points.
    """
    if answers.backtest is None:
        return
    interval, measured = answers.backtest
    median, at = interval.median * scale, answers.largest_n / _margin(band) ** _BESIDE
    axes.errorbar(
        [at], [median], yerr=[[median - interval.low * scale], [interval.high * scale - median]],
        color=_BACKTEST_COLOUR, marker="D", markersize=5.5, markerfacecolor="white", capsize=5, elinewidth=1.2,
        capthick=1.2, zorder=4, linestyle="none", label=_BACKTEST,
    )  # fmt: skip
    axes.plot(
        [at], [measured * scale], marker="_", markersize=13, markeredgewidth=2.2, color=INK, zorder=6,
        linestyle="none", label=_MEASURED,
    )  # fmt: skip


def _draw_goal(axes: Axes, answers: CurveAnswers, scale: float) -> None:
    """A dotted line at the goal, and on it the interval of sizes that reach it; open to the right when some do not."""
    reach = answers.reach
    if reach is None:
        return
    goal = reach.value * scale
    axes.axhline(goal, color=INK, linewidth=0.9, linestyle=(0, (1, 2)))
    # Drawn without data as well, so that the legend has its line when no draw reaches the goal.
    axes.plot([], [], color=_GOAL_COLOUR, linewidth=2.4, label=_goal_label(answers))
    if reach.low_n is None:
        return
    end = reach.max_n if reach.high_n is None else reach.high_n
    axes.plot([reach.low_n, end], [goal, goal], color=_GOAL_COLOUR, linewidth=2.4, zorder=4)
    if reach.high_n is None:
        axes.plot([end], [goal], marker=">", markersize=8, color=_GOAL_COLOUR, zorder=6, clip_on=False)
    if reach.median_n is not None:
        axes.plot(
            [reach.median_n], [goal], marker="|", markersize=11, markeredgewidth=2.4, color=_GOAL_COLOUR, zorder=5
        )


def _goal_label(answers: CurveAnswers) -> str:
    reach = answers.reach
    return "" if reach is None else f"goal {value_text(answers.metric)(reach.value)}: {size_span(reach)}"


def _value_limits(answers: CurveAnswers, points: Sequence[tuple[float, float]], scale: float) -> tuple[float, float]:
    """From what was measured, forecast and asked for; a wide band may run out of the picture."""
    values = [value for _, value in points] + [answers.new_run.low, answers.new_run.high]
    if answers.backtest is not None:
        values += [answers.backtest[0].low, answers.backtest[0].high]
    if answers.reach is not None:
        values.append(answers.reach.value)
    low, high = min(values) * scale, max(values) * scale
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _margin(band: CurveBand) -> float:
    """Room left and right of the curve, as a factor."""
    return float((band.n_samples[-1] / band.n_samples[0]) ** 0.03)


def _alt(answers: CurveAnswers, name: str) -> str:
    metric, text = answers.metric, value_text(answers.metric)
    subject = f" of {name}" if name else ""
    alt = (
        f"Learning curve{subject}: {METRIC_NAMES[metric]} measured at {size_text(answers.smallest_n)} to "
        f"{size_text(answers.largest_n)} samples; at {size_text(answers.target_n)} a new run is forecast at "
        f"{wording.with_span(answers.new_run, text)}"
    )
    if answers.backtest is None:
        return alt
    interval, measured = answers.backtest
    return f"{alt}; backtest of the largest size: {wording.with_span(interval, text)}, measured {text(measured)}"
