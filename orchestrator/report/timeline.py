"""Dollars over time: what the sweep had spent by the end of each trial, as rows and as a picture.

A trial ends ``wall_time_s`` after ``started_at``, and the journal holds trials in the order they ended. Where these two
disagree the clock went backwards; the journal's order then stands, and the picture says so. Pauses, in which no trial
ran, are left out of the time axis: a sweep that went on a week later would be two dots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from matplotlib.ticker import FuncFormatter, MaxNLocator

from orchestrator.intervals import format_usd
from orchestrator.report import wording
from orchestrator.report.figures import (
    ABOVE,
    INK,
    MODEL_COLOURS,
    MODEL_MARKERS,
    Drawing,
    canvas,
    columns_for,
    drawn,
    in_legend,
)
from orchestrator.results import TrialResult
from orchestrator.spec import ExperimentSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CLOCK_SLACK_S = 1.0
"""Two trials that end together may be written in either order; this is no backward clock."""
MIN_PAUSE_S = 60.0
"""Starting Ray and reading data between two sweeps takes seconds; a minute without a trial is a pause."""
_MOST_OF_CAP = 3.0
"""A cap beyond so many times what was spent would press the curve flat, and is named in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """One trial's end."""

    at: float
    """Seconds since the first trial's start without pauses, or the trial's number where the clock went backwards."""
    total_usd: float
    """By then."""
    result: TrialResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The dollars of a sweep in the order they were spent."""

    steps: tuple[Spending, ...]
    is_clock_backwards: bool
    pauses: tuple[tuple[float, float], ...]
    """Place on the axis and seconds left out of it."""
    cap_usd: float | None
    cap_key: str

    @property
    def total_usd(self) -> float:
        return self.steps[-1].total_usd

    @property
    def n_failed(self) -> int:
        return sum(step.result.status == "failed" for step in self.steps)

    @property
    def failed_usd(self) -> float:
        return sum(step.result.cost_usd for step in self.steps if step.result.status == "failed")


def timeline_of(spec: ExperimentSpec, results: Sequence[TrialResult]) -> Timeline | None:
    """The timeline of trials in the journal's order; None when there is no trial."""
    if not results:
        return None
    spans = [_span(result) for result in results]
    ends = [end for _, end in spans]
    slack = timedelta(seconds=CLOCK_SLACK_S)
    is_backwards = any(later < earlier - slack for earlier, later in pairwise(ends))
    places, pauses = ([float(n) for n in range(1, len(results) + 1)], ()) if is_backwards else _without_pauses(spans)
    total, steps = 0.0, []
    for place, result in zip(places, results, strict=True):
        total += result.cost_usd
        steps.append(Spending(at=place, total_usd=total, result=result))
    caps = {"sweep.max_cost_usd": spec.sweep.max_cost_usd, "budget.max_cost_usd": spec.budget.max_cost_usd}
    cap_usd, cap_key = min(((cap, key) for key, cap in caps.items() if cap is not None), default=(None, ""))
    return Timeline(
        steps=tuple(steps), is_clock_backwards=is_backwards, pauses=pauses, cap_usd=cap_usd, cap_key=cap_key
    )


def _span(result: TrialResult) -> tuple[datetime, datetime]:
    moment = datetime.fromisoformat(result.started_at)
    start = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return start, start + timedelta(seconds=result.wall_time_s)


def _without_pauses(
    spans: Sequence[tuple[datetime, datetime]],
) -> tuple[list[float], tuple[tuple[float, float], ...]]:
    """Seconds of every end on an axis from which the times without a running trial are cut."""
    first = min(start for start, _ in spans)
    busy_until, cut, pauses, gaps = first, 0.0, [], []
    for start, end in sorted(spans):
        idle = (start - busy_until).total_seconds()
        if idle > MIN_PAUSE_S:
            pauses.append(((busy_until - first).total_seconds() - cut, idle))
            cut += idle
            gaps.append((start, cut))
        busy_until = max(busy_until, end)
    places = []
    for _, end in spans:
        passed = [total for start, total in gaps if end >= start]
        places.append((end - first).total_seconds() - (passed[-1] if passed else 0.0))
    return places, tuple(pauses)


def timeline_sentences(timeline: Timeline) -> list[str]:
    """What was spent of which cap, on what failed, and what the axis leaves out."""
    spent = f"{format_usd(timeline.total_usd)} spent on {len(timeline.steps)} trials"
    if timeline.cap_usd is not None:
        share = wording.percent(timeline.total_usd / timeline.cap_usd)
        spent += f", {share} of {timeline.cap_key} = {format_usd(timeline.cap_usd)}"
    said = [spent]
    if timeline.n_failed:
        plural = "trial" if timeline.n_failed == 1 else "trials"
        said.append(f"{format_usd(timeline.failed_usd)} of it on {timeline.n_failed} failed {plural}")
    if timeline.is_clock_backwards:
        said.append("the clock went backwards between trials, so they stand in the journal's order, without times")
    if timeline.pauses:
        total = wording.duration(sum(idle for _, idle in timeline.pauses))
        number = len(timeline.pauses)
        said.append(f"{number} {'pause' if number == 1 else 'pauses'} without a running trial ({total}) left out")
    return said


def timeline_figure(timeline: Timeline) -> Drawing:
    """Dollars spent by the end of each trial; failed trials crossed, the cap as a line."""
    figure, axes = canvas(3.4)
    unit, size = ("trials", 1.0) if timeline.is_clock_backwards else _unit(max(step.at for step in timeline.steps))
    places = [step.at / size for step in timeline.steps]
    axes.step([0.0, *places], [0.0, *(step.total_usd for step in timeline.steps)], where="post", color=INK,
              linewidth=1.1, zorder=2)  # fmt: skip
    _draw_trials(axes, timeline, size)
    for place, idle in timeline.pauses:
        axes.axvline(place / size, color=INK, linewidth=0.8, linestyle=(0, (1, 3)))
        axes.annotate(
            f"pause of {wording.duration(idle)}", (place / size, 0.98), xycoords=("data", "axes fraction"),
            xytext=(-2, 0), textcoords="offset points", fontsize=8, color=INK, rotation=90, va="top", ha="right",
        )  # fmt: skip
    _draw_cap(axes, timeline)
    axes.set_xlim(0, max(places) * 1.03 or 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=timeline.is_clock_backwards))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: in_legend(format_usd(value))))
    if timeline.is_clock_backwards:
        axes.set_xlabel("trials in the journal's order (the clock went backwards)")
    else:
        axes.set_xlabel(f"{unit} since the first trial began" + (", without pauses" if timeline.pauses else ""))
    axes.set_ylabel("spent on trials")
    axes.legend(**ABOVE, ncols=columns_for(axes.get_legend_handles_labels()[1]))
    return drawn(figure, "Dollars over time: " + "; ".join(timeline_sentences(timeline)))


def _unit(seconds: float) -> tuple[str, float]:
    for limit, unit, size in ((300.0, "seconds", 1.0), (3 * 3600.0, "minutes", 60.0), (5 * 86400.0, "hours", 3600.0)):
        if seconds < limit:
            return unit, size
    return "days", 86400.0


def _draw_trials(axes: Axes, timeline: Timeline, size: float) -> None:
    models = list(dict.fromkeys(step.result.trial.model for step in timeline.steps))
    for position, model in enumerate(models):
        own = [s for s in timeline.steps if s.result.trial.model == model and s.result.status == "finished"]
        if own:
            axes.plot(
                [s.at / size for s in own], [s.total_usd for s in own], linestyle="none", markersize=5.5,
                marker=MODEL_MARKERS[position % len(MODEL_MARKERS)],
                color=MODEL_COLOURS[position % len(MODEL_COLOURS)], label=in_legend(model), zorder=3,
            )  # fmt: skip
    failed = [step for step in timeline.steps if step.result.status == "failed"]
    if failed:
        axes.plot(
            [s.at / size for s in failed], [s.total_usd for s in failed], linestyle="none", marker="x", markersize=9,
            markeredgewidth=2.2, color=INK, label="failed", zorder=4,
        )  # fmt: skip


def _draw_cap(axes: Axes, timeline: Timeline) -> None:
    cap = timeline.cap_usd
    if cap is None:
        axes.set_ylim(0, timeline.total_usd * 1.1 or 1.0)
        return
    label = in_legend(f"cap {format_usd(cap)}")
    if cap <= _MOST_OF_CAP * timeline.total_usd:
        axes.axhline(cap, color=INK, linewidth=1.4, linestyle=(0, (5, 3)), label=label)
        axes.set_ylim(0, max(cap, timeline.total_usd) * 1.1)
        return
    axes.set_ylim(0, timeline.total_usd * 1.1 or 1.0)
    axes.annotate(
        f"{label}, above the picture", (0.01, 0.97), xycoords="axes fraction", va="top", fontsize=8.5,
        color=INK,
    )  # fmt: skip
