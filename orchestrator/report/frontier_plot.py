"""The frontier as a picture: expected gain of every candidate against its expected dollars.

A run pays where it lies above the line ``gain = threshold * dollars``. Models differ by colour and by mark, and what is
said of single candidates (recommended, knee) by a ring and a square, so that a grey print tells the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from orchestrator.intervals import format_usd
from orchestrator.report import wording
from orchestrator.report.figures import (
    ABOVE,
    INK,
    Drawing,
    canvas,
    columns_for,
    drawn,
    in_legend,
    logarithmic_dollars,
    model_style,
)
from orchestrator.report.shortlist import best_name, frontier_forecasts
from orchestrator.results import CandidateForecast, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_NUMBERS = 12
"""Beyond so many points their numbers would cover each other."""
_WIDE_RATIO = 30.0
"""Of dearest to cheapest, from which on dollars take a logarithmic axis."""


def frontier_figure(verdict: Verdict) -> Drawing | None:
    """Gain against dollars; None where the verdict has no frontier."""
    frontier = frontier_forecasts(verdict)
    if not frontier:
        return None
    scale = 100.0 if verdict.metric == "accuracy" else 1.0
    figure, axes = canvas(4.4)
    everyone = list({each.candidate: each for each in (*verdict.candidates, *frontier, verdict.best)}.values())
    _set_dollars(axes, everyone)
    limits = _gain_limits(everyone, frontier, scale)
    _draw_all(axes, verdict, everyone, scale)
    _draw_frontier(axes, frontier, scale)
    is_line_seen = _draw_threshold(axes, verdict, limits, scale)
    _draw_marks(axes, verdict, frontier, scale)
    axes.axhline(0, color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
    axes.set_ylim(*limits)
    axes.set_xlabel("expected cost of the full run")
    axes.set_ylabel("expected gain, points" if verdict.metric == "accuracy" else "expected gain: fall of the loss")
    axes.legend(**ABOVE, ncols=columns_for(axes.get_legend_handles_labels()[1]))
    return drawn(figure, _alt(verdict, frontier, is_line_seen=is_line_seen))


def _set_dollars(axes: Axes, everyone: Sequence[CandidateForecast]) -> None:
    costs = [each.cost_usd.mean for each in everyone]
    if min(costs) > 0 and max(costs) / min(costs) > _WIDE_RATIO:
        logarithmic_dollars(axes, min(costs), max(costs))
        margin = (max(costs) / min(costs)) ** 0.06
        axes.set_xlim(min(costs) / margin, max(costs) * margin)
    else:
        axes.set_xlim(0, max(costs) * 1.12 or 1.0)
        axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: in_legend(format_usd(value))))


def _gain_limits(
    everyone: Sequence[CandidateForecast], frontier: Sequence[CandidateForecast], scale: float
) -> tuple[float, float]:
    """Zero, every expected gain, and the frontier's intervals as far as they do not dwarf those."""
    gains = [0.0, *(each.gain.mean * scale for each in everyone)]
    low, high = min(gains), max(gains)
    room = (high - low) or abs(high) or 1.0
    low = max(min(low, *(each.gain.low * scale for each in frontier)), low - room)
    high = min(max(high, *(each.gain.high * scale for each in frontier)), high + room)
    return low - 0.06 * (high - low), high + 0.08 * (high - low)


def _draw_all(axes: Axes, verdict: Verdict, everyone: Sequence[CandidateForecast], scale: float) -> None:
    for model in dict.fromkeys(each.candidate.model for each in everyone):
        own = [each for each in everyone if each.candidate.model == model]
        colour, marker = model_style(model, verdict)
        axes.plot(
            [each.cost_usd.mean for each in own], [each.gain.mean * scale for each in own], marker=marker,
            markersize=6, color=colour, markeredgewidth=0.9, linestyle="none", alpha=0.85, label=in_legend(model),
            zorder=3,
        )  # fmt: skip


def _draw_frontier(axes: Axes, frontier: Sequence[CandidateForecast], scale: float) -> None:
    costs = [each.cost_usd.mean for each in frontier]
    gains = np.array([each.gain.mean * scale for each in frontier])
    low = gains - [each.gain.low * scale for each in frontier]
    high = np.array([each.gain.high * scale for each in frontier]) - gains
    axes.errorbar(
        costs, gains, yerr=[np.maximum(low, 0), np.maximum(high, 0)], color=INK, linestyle="none", elinewidth=0.9,
        capsize=2.5, capthick=0.9, alpha=0.55, zorder=2,
    )  # fmt: skip
    axes.plot(costs, gains, color=INK, linewidth=1.3, zorder=2, label="frontier, gain 90%")
    for number, (cost, gain) in enumerate(zip(costs, gains, strict=True), 1):
        if len(frontier) <= _MOST_NUMBERS:
            axes.annotate(
                str(number), (cost, gain), xytext=(-11, 6), textcoords="offset points", fontsize=8, color=INK,
                annotation_clip=True,
            )  # fmt: skip


def _draw_threshold(axes: Axes, verdict: Verdict, limits: tuple[float, float], scale: float) -> bool:
    """The line a run must lie above; False when it leaves the picture at once."""
    low, high = axes.get_xlim()
    costs = np.geomspace(low, high, 200) if axes.get_xscale() == "log" else np.linspace(low, high, 200)
    gains = verdict.threshold * costs * scale
    axes.plot(costs, gains, color=INK, linewidth=1.3, linestyle=(0, (5, 3)), zorder=2, label="pays above this line")
    return bool((gains < limits[1]).mean() > 0.02)


def _draw_marks(axes: Axes, verdict: Verdict, frontier: Sequence[CandidateForecast], scale: float) -> None:
    rings = [(verdict.best, "o", best_name(verdict), 15.0, 1.8)]
    knee = None if verdict.frontier is None else verdict.frontier.knee
    rings += [(each, "s", "knee", 21.0, 1.2) for each in frontier if each.candidate == knee]
    for forecast, marker, label, size, width in rings:
        style: dict[str, Any] = {
            "marker": marker, "markerfacecolor": "none", "markeredgecolor": INK, "linestyle": "none", "zorder": 5,
        }  # fmt: skip
        axes.plot(
            [forecast.cost_usd.mean], [forecast.gain.mean * scale], markersize=size, markeredgewidth=width, **style
        )
        axes.plot([], [], markersize=9, markeredgewidth=1.4, label=label, **style)  # a small one for the legend


def threshold_sentence(verdict: Verdict) -> str:
    """What the line in the picture stands for."""
    return f"a run pays above the dashed line, {wording.gain_per_dollar(verdict.threshold, verdict.metric)}"


def _alt(verdict: Verdict, frontier: Sequence[CandidateForecast], *, is_line_seen: bool) -> str:
    points = "; ".join(
        f"{number}. {each.candidate}: {wording.gain_value(each.gain.mean, verdict.metric)} for "
        f"{format_usd(each.cost_usd.mean)}"
        for number, each in enumerate(frontier, 1)
    )
    knee = verdict.frontier.knee if verdict.frontier else None
    bend = f"; knee: {knee}" if knee else "; no knee"
    line = threshold_sentence(verdict) if is_line_seen else f"{threshold_sentence(verdict)}, steeper than the picture"
    said = f"{best_name(verdict)}: {verdict.best.candidate}; {line}"
    return f"Frontier of expected gain against dollars: {points}{bend}; {said}"
