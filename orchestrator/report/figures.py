"""Figures of an experiment: learning curves, where the time went, what the candidates cost.

Drawn through matplotlib's objects, never pyplot, so nothing is kept between calls and any thread may draw. Colours are
Okabe and Ito's (2008, https://jfly.uni-koeln.de/color/), told apart under the common colour blindnesses, and models
also differ by marker. In the SVG, ink and grid take the page's own text colour: one drawing serves light and dark.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from orchestrator.intervals import format_usd
from orchestrator.report import wording
from orchestrator.report.shortlist import shortlist
from orchestrator.results import CandidateForecast, CurveBand, Outcome, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MODEL_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MODEL_MARKERS = ("o", "s", "^", "D", "v", "P")
MODEL_DASHES: tuple[Any, ...] = (
    "-",
    (0, (6, 2)),
    (0, (6, 2, 1, 2)),
    (0, (3, 2)),
    (0, (1, 1.2)),
    (0, (8, 2, 1, 2, 1, 2)),
)
INK = "#20242a"
_WIDTH_IN = 8.0
_DPI = 150
ABOVE: dict[str, Any] = {
    "loc": "lower left", "bbox_to_anchor": (0, 1.0), "frameon": False, "fontsize": 8.5, "columnspacing": 1.2,
    "borderaxespad": 0.2,
}  # fmt: skip
BAND_LABELS = ("curve, 90%", "new run, 90%")
MAX_BARS = 14
MAX_NAME = 36
"""Characters of a name in a legend."""
MAX_TICK = 20
"""And beside an axis, where it takes its room from the picture."""
_CHARACTERS_ABOVE = 110
"""Of a legend's font in the width of a figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """One figure in both forms; ``alt`` says in words what it shows."""

    png: bytes
    svg: str
    alt: str

    def _repr_svg_(self) -> str:
        """What a Jupyter cell shows."""
        return self.svg


def learning_curves(verdict: Verdict, outcome: Outcome | None = None) -> Drawing:
    """Measured points, fitted curves with both bands, the best candidate's interval, and what its full run came to."""
    figure, axes = canvas(4.6)
    scale = 100.0 if verdict.metric == "accuracy" else 1.0
    for position, band in enumerate(verdict.curves):
        draw_curve(axes, band, position, scale)
    best = verdict.best
    colour, _ = model_style(best.candidate.model, verdict)
    _draw_target(axes, best, colour, scale)
    measured = None if outcome is None else _draw_outcome(axes, outcome, verdict, scale)
    axes.axhline(verdict.baseline * scale, color=INK, linewidth=0.9, linestyle=(0, (1, 2)))
    axes.set_xscale("log")
    axes.set_ylim(*_value_limits(verdict, scale))
    number_axis(axes, [n for band in verdict.curves for n in band.n_samples] + [best.candidate.n_samples])
    axes.annotate(
        "baseline",
        (0.004, verdict.baseline * scale),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2),
        textcoords="offset points",
        fontsize=8,
        color=INK,
        va="bottom",
    )
    axes.set_xlabel("training samples")
    axes.set_ylabel("validation accuracy, %" if verdict.metric == "accuracy" else "validation loss")
    legend_above(axes)
    forecast = wording.span(best.metric, lambda value: wording.metric_value(value, verdict.metric))
    alt = (
        f"Learning curves of {', '.join(band.model for band in verdict.curves)}; "
        f"at {best.candidate.n_samples:,} samples {best.candidate.model} is forecast at {forecast}"
    )
    if measured is not None:
        alt += f"; its full run came to {wording.metric_value(measured, verdict.metric)}"
    return drawn(figure, alt)


def candidate_costs(verdict: Verdict) -> Drawing:
    """Dollars of each candidate full run with its 90% interval; the best one's mark is larger."""
    shown = [listed.forecast for listed in shortlist(verdict).shown][:MAX_BARS]
    if verdict.best.candidate not in [each.candidate for each in shown]:
        shown = [verdict.best, *shown[:-1]]
    figure, axes = canvas(1.1 + 0.36 * len(shown))
    for position, forecast in enumerate(shown):
        colour, marker = model_style(forecast.candidate.model, verdict)
        cost = forecast.cost_usd
        axes.plot([cost.low, cost.high], [position, position], color=colour, linewidth=2.4, solid_capstyle="butt")
        is_best = forecast.candidate == verdict.best.candidate
        axes.plot([cost.median], [position], marker=marker, markersize=10 if is_best else 6, color=colour,
                  linestyle="none")  # fmt: skip
        text = f"P = {forecast.probability:.2f}" + ("  best" if is_best else "")
        axes.annotate(text, (1.01, position), xycoords=("axes fraction", "data"), va="center", fontsize=8.5, color=INK)
    axes.set_yticks(range(len(shown)), [_candidate_label(forecast) for forecast in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    _money_axis(axes, shown)
    axes.grid(False, axis="y")
    more = f" ({len(shown)} of {len(verdict.candidates)} candidates)" if len(shown) < len(verdict.candidates) else ""
    axes.set_xlabel(f"cost of the full run, 90% interval{more}")
    costs = [f"{each.candidate} {wording.with_span(each.cost_usd, format_usd)}" for each in shown]
    return drawn(figure, "Cost of the candidates: " + "; ".join(costs))


def canvas(height_in: float) -> tuple[Figure, Axes]:
    """An empty figure with one axes in the style of all of them."""
    figure = Figure(figsize=(_WIDTH_IN, height_in), dpi=_DPI, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    axes.grid(True, color=INK, alpha=0.14, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
    axes.xaxis.label.set(color=INK, size=9.5)
    axes.yaxis.label.set(color=INK, size=9.5)
    return figure, axes


def drawn(figure: Figure, alt: str) -> Drawing:
    """A finished figure as PNG and as SVG with the page's own ink."""
    for legend in (axes.get_legend() for axes in figure.axes):
        for text in legend.get_texts() if legend is not None else ():
            text.set_color(INK)
    png, svg = io.BytesIO(), io.StringIO()
    figure.savefig(png, format="png", dpi=_DPI, metadata={"Software": None})
    figure.set_facecolor("none")
    # A salt of the figure's own and no date: the same figure has the same bytes, and ids differ within one page.
    with rc_context({"svg.hashsalt": alt}):
        figure.savefig(svg, format="svg", metadata={"Date": None})
    markup = svg.getvalue().replace(INK, "currentColor")
    return Drawing(png=png.getvalue(), svg=markup[markup.index("<svg") :], alt=alt)


def model_style(model: str, verdict: Verdict) -> tuple[str, str]:
    """Colour and mark of a model, the same in every figure of one verdict."""
    names = list(
        dict.fromkeys([band.model for band in verdict.curves] + [c.candidate.model for c in verdict.candidates])
    )
    position = names.index(model)
    return MODEL_COLOURS[position % len(MODEL_COLOURS)], MODEL_MARKERS[position % len(MODEL_MARKERS)]


def in_legend(name: str, longest: int = MAX_NAME) -> str:
    """A name that outgrows no legend and means nothing to matplotlib, as a dollar or a first underscore does."""
    shown = wording.printable(" ".join(name.split()))
    short = shown if len(shown) <= longest else f"{shown[: longest - 3]}..."
    return short.replace("$", r"\$").replace("_", " _", 1 if short.startswith("_") else 0)


def columns_for(labels: Sequence[str]) -> int:
    """As many columns as a legend above the axes has room for."""
    longest = max(map(len, labels), default=1)
    return max(min(len(labels), _CHARACTERS_ABOVE // (longest + 6)), 1)  # a handle and a gap are 6 characters wide


def draw_curve(axes: Axes, band: CurveBand, position: int, scale: float) -> None:
    """Both bands, the median and the measured points of one model, all values times ``scale``."""
    colour = MODEL_COLOURS[position % len(MODEL_COLOURS)]
    marker = MODEL_MARKERS[position % len(MODEL_MARKERS)]
    dashes = MODEL_DASHES[position % len(MODEL_DASHES)]
    low, high = ([value * scale for value in edge] for edge in (band.prediction_low, band.prediction_high))
    axes.fill_between(band.n_samples, low, high, color=colour, alpha=0.13, linewidth=0)
    low, high = ([value * scale for value in edge] for edge in (band.confidence_low, band.confidence_high))
    axes.fill_between(band.n_samples, low, high, color=colour, alpha=0.28, linewidth=0)
    axes.plot(band.n_samples, [value * scale for value in band.median], color=colour, linewidth=1.8, linestyle=dashes)
    axes.plot(
        [], [], color=colour, linewidth=1.8, linestyle=dashes, marker=marker, markersize=4.6, markerfacecolor="none",
        label=in_legend(band.model),
    )  # fmt: skip
    axes.plot(
        [point.n_samples for point in band.points],
        [point.value * scale for point in band.points],
        marker=marker, markersize=4.6, markeredgewidth=0.9, color=colour, markerfacecolor="none", linestyle="none",
    )  # fmt: skip


def legend_above(axes: Axes, *, columns: int | None = None, order: Sequence[str] = ()) -> None:
    """Models with line and mark, the forecast, and grey samples of the two bands; above, where it hides nothing.

    Args:
        axes: With labelled artists.
        columns: So many beside each other; None for as many as fit.
        order: Every label that may be there, in the order to show them; empty for the order of drawing.
    """
    handles, labels = axes.get_legend_handles_labels()
    handles += [Patch(facecolor="#808080", alpha=alpha, linewidth=0) for alpha in (0.55, 0.25)]
    labels += BAND_LABELS
    if order:
        entries = sorted(zip(handles, labels, strict=True), key=lambda entry: order.index(entry[1]))
        handles, labels = [handle for handle, _ in entries], [label for _, label in entries]
    axes.legend(handles, labels, **ABOVE, ncols=columns or _columns_of_curves(labels))


def _columns_of_curves(labels: Sequence[str]) -> int:
    """One line while the labels fit on it, as their widths differ much."""
    return len(labels) if sum(map(len, labels)) + 6 * len(labels) <= _CHARACTERS_ABOVE else columns_for(labels)


def _draw_target(axes: Axes, best: CandidateForecast, colour: str, scale: float) -> None:
    n_samples = best.candidate.n_samples
    axes.axvline(n_samples, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    median = best.metric.median * scale
    axes.errorbar(
        [n_samples], [median], yerr=[[median - best.metric.low * scale], [best.metric.high * scale - median]],
        color=colour, marker="D", markersize=6, capsize=5, elinewidth=2.2, capthick=2.2, zorder=5, linestyle="none",
        label=f"forecast at {n_samples:,}, 90%",
    )  # fmt: skip


def _draw_outcome(axes: Axes, outcome: Outcome, verdict: Verdict, scale: float) -> float | None:
    """A star where the full run ended; its metric, or None when it reported none."""
    value = outcome.training.accuracy if verdict.metric == "accuracy" else outcome.training.loss
    if value is not None:
        axes.plot(
            [outcome.candidate.n_samples], [value * scale], marker="*", markersize=13, markeredgewidth=0.8,
            markerfacecolor="#F0E442", markeredgecolor=INK, zorder=6, linestyle="none", label="full run, measured",
        )  # fmt: skip
    return value


def _value_limits(verdict: Verdict, scale: float) -> tuple[float, float]:
    """From what was measured and forecast; a wide band may run out of the picture."""
    values = [point.value for band in verdict.curves for point in band.points]
    values += [verdict.best.metric.low, verdict.best.metric.high, verdict.baseline]
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite) * scale, max(finite) * scale
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def number_axis(axes: Axes, values: Sequence[float]) -> None:
    """Whole numbers at 1, 2 and 5 of each decade of a logarithmic axis, or at decades alone when there are many."""
    decades = math.log10(max(values) / min(values)) if min(values) > 0 else 1.0
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)))
    is_crowded = max(values) >= 1e7
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value) if is_crowded else f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _short(number: float) -> str:
    """A round number in thousands, millions or billions, where whole ones would run into each other."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:,g}{unit}"
    return f"{number:g}"


def _money_axis(axes: Axes, forecasts: Sequence[CandidateForecast]) -> None:
    lows = [forecast.cost_usd.low for forecast in forecasts]
    highs = [forecast.cost_usd.high for forecast in forecasts]
    if min(lows) > 0 and max(highs) / min(lows) > 30:
        logarithmic_dollars(axes, min(lows), max(highs))
    else:
        axes.set_xlim(0, max(highs) * 1.08 or 1.0)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: in_legend(format_usd(value))))


def logarithmic_dollars(axes: Axes, low: float, high: float) -> None:
    """A logarithmic axis with round dollars, as many as stand beside each other."""
    decades = math.log10(high / low)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _candidate_label(forecast: CandidateForecast) -> str:
    candidate = forecast.candidate
    plural = "worker" if candidate.workers == 1 else "workers"
    share = "" if candidate.fraction == 1 else f", {100 * candidate.fraction:.3g}% of data"
    name = in_legend(candidate.model, MAX_TICK)
    gap = " " if len(name) < MAX_TICK else "\n"
    return f"{name}{share},{gap}{candidate.workers} {plural}, {candidate.purchase.replace('_', '-')}"
