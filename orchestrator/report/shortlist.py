"""Which candidates a reader sees first: the frontier by rising cost, then the best of every other model.

A candidate's rank is its expected net value, ``gain - threshold * dollars`` in units of the metric, as in `decision`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.intervals import format_usd
from orchestrator.report.wording import (
    duration,
    gain_number,
    gain_value,
    in_time,
    metric_value,
    span,
    usd_per_point,
    with_span,
)
from orchestrator.results import Candidate, CandidateForecast, Interval, Verdict

SHOWN_WHOLE = 6
"""As many candidates are shown without folding any: they fit on a screen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A candidate with its place in the list and what is special about it."""

    forecast: CandidateForecast
    number: int | None = None
    """On the frontier, from the cheapest; None beside it."""
    marks: tuple[str, ...] = ()

    @property
    def is_best(self) -> bool:
        return "best" in self.marks or "recommended" in self.marks


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortlist:
    """What is shown and what is folded away."""

    shown: tuple[Listed, ...]
    folded: tuple[Listed, ...]


def shortlist(verdict: Verdict, *, is_whole: bool = False) -> Shortlist:
    """The frontier, the best of each model, and the one the verdict is about; with ``is_whole`` all of them."""
    on_frontier = frontier_forecasts(verdict)
    best_of = {each.candidate.model: each for each in sorted(verdict.candidates, key=lambda c: net_value(c, verdict))}
    first = [*on_frontier, *best_of.values(), verdict.best]
    order = list(dict.fromkeys(each.candidate for each in first))
    known = {each.candidate: each for each in (verdict.best, *verdict.candidates)}
    rest = [each for each in known if each not in set(order)]
    if is_whole or len(known) <= SHOWN_WHOLE:
        order, rest = order + rest, []
    numbers = {each.candidate: number for number, each in enumerate(on_frontier, 1)}

    def listed(candidate: Candidate) -> Listed:
        forecast = known[candidate]
        is_first = best_of.get(candidate.model) is not None and best_of[candidate.model].candidate == candidate
        return Listed(
            forecast=forecast, number=numbers.get(candidate),
            marks=_marks(candidate, verdict, is_first_of_model=is_first and len(best_of) > 1),
        )  # fmt: skip

    return Shortlist(shown=tuple(map(listed, order)), folded=tuple(map(listed, rest)))


def frontier_forecasts(verdict: Verdict) -> list[CandidateForecast]:
    """By rising expected cost; empty where the verdict has no frontier."""
    if verdict.frontier is None:
        return []
    known = {each.candidate: each for each in (verdict.best, *verdict.candidates)}
    return [known[candidate] for candidate in verdict.frontier.candidates if candidate in known]


def net_value(forecast: CandidateForecast, verdict: Verdict) -> float:
    """Expected gain less threshold times expected dollars."""
    if forecast.net_value is not None:
        return forecast.net_value.mean
    return forecast.gain.mean - verdict.threshold * forecast.cost_usd.mean


def best_name(verdict: Verdict) -> str:
    """What the candidate of the verdict is called: only PROMOTE recommends it."""
    return "recommended" if verdict.kind == "PROMOTE" else "best"


def _marks(candidate: Candidate, verdict: Verdict, *, is_first_of_model: bool) -> tuple[str, ...]:
    marks = [best_name(verdict)] if candidate == verdict.best.candidate else []
    if verdict.frontier is not None and candidate == verdict.frontier.knee:
        marks.append("knee")
    if is_first_of_model and not marks:
        marks.append(f"best of {candidate.model}")
    return tuple(marks)


def listed_header(verdict: Verdict) -> tuple[str, ...]:
    """Of `listed_row`."""
    before_the_deadline = ("in time",) if _has_deadline(verdict) else ()
    number = ("no.",) if verdict.frontier is not None else ()
    return (
        *number, "model", "data", "workers", "purchase", verdict.metric, "gain", "time", *before_the_deadline, "cost",
        "P", "note",
    )  # fmt: skip


def listed_row(listed: Listed, verdict: Verdict) -> tuple[str, ...]:
    """One candidate for a terminal or Markdown: medians, with 90% intervals of metric and cost."""
    forecast, metric = listed.forecast, verdict.metric
    candidate = forecast.candidate
    number = (str(listed.number or ""),) if verdict.frontier is not None else ()
    before_the_deadline = (in_time(forecast),) if _has_deadline(verdict) else ()
    return (
        *number,
        candidate.model,
        data_size(candidate),
        str(candidate.workers),
        candidate.purchase.replace("_", "-"),
        with_span(forecast.metric, lambda value: metric_value(value, metric)),
        gain_value(forecast.gain.median, metric),
        duration(forecast.wall_time_s.median),
        *before_the_deadline,
        with_span(forecast.cost_usd, format_usd),
        f"{forecast.probability:.2f}",
        ", ".join(listed.marks),
    )


def cell_header(verdict: Verdict) -> tuple[str, ...]:
    """Of `listed_cells`."""
    in_units = "points" if verdict.metric == "accuracy" else "in loss"
    return (
        "no.",
        "candidate",
        "P",
        f"gain, {in_units}",
        verdict.metric,
        "cost",
        "time",
        "net value",
        "price of the gain",
    )


def listed_cells(listed: Listed, verdict: Verdict) -> tuple[tuple[str, str], ...]:
    """One candidate for the page: each cell its value, and below it the interval or what else belongs to it."""
    forecast, metric = listed.forecast, verdict.metric
    noise, per_dollar = forecast.noise_units, forecast.gain_per_dollar.median
    return (
        (str(listed.number or ""), ""),
        (candidate_name(forecast.candidate), ", ".join(listed.marks)),
        (f"{forecast.probability:.2f}", ""),
        (gain_number(forecast.gain.median, metric), "" if noise is None else f"{noise:+.1f} sd"),
        _and_span(forecast.metric, lambda value: metric_value(value, metric)),
        _and_span(forecast.cost_usd, format_usd),
        (duration(forecast.wall_time_s.median), in_time(forecast) + " in time" if _has_deadline(verdict) else ""),
        (gain_number(net_value(forecast, verdict), metric), ""),
        (usd_per_point(per_dollar, metric) if per_dollar > 0 else "no gain", ""),
    )


def _and_span(interval: Interval, text: Callable[[float], str]) -> tuple[str, str]:
    return text(interval.median), "" if interval.low == interval.high else span(interval, text)


SHORT_HEADER = ("no.", "candidate", "gain", "cost", "time", "P", "note")


def short_row(listed: Listed, verdict: Verdict) -> tuple[str, ...]:
    """One candidate in a narrow column: medians, without intervals, under `SHORT_HEADER`."""
    forecast, metric = listed.forecast, verdict.metric
    return (
        str(listed.number or ""),
        candidate_name(forecast.candidate),
        f"{gain_value(forecast.gain.median, metric)} to {metric_value(forecast.metric.median, metric)}",
        format_usd(forecast.cost_usd.median),
        duration(forecast.wall_time_s.median),
        f"{forecast.probability:.2f}",
        ", ".join(listed.marks),
    )


def candidate_name(candidate: Candidate) -> str:
    """A candidate in few words, with the samples of one that is not about all of today's data."""
    plural = "worker" if candidate.workers == 1 else "workers"
    share = f"{100 * candidate.fraction:.3g}%"
    rows = "all data" if candidate.fraction == 1 else f"{candidate.n_samples:,} samples ({share})"
    return f"{candidate.model}, {rows}, {candidate.workers} {plural}, {candidate.purchase.replace('_', '-')}"


def data_size(candidate: Candidate) -> str:
    """Samples, and their share of today's training pool: above 100% they are still to be collected."""
    share = "all" if candidate.fraction == 1 else f"{100 * candidate.fraction:.3g}%"
    return f"{candidate.n_samples:,} ({share})"


def _has_deadline(verdict: Verdict) -> bool:
    return verdict.best.deadline_probability is not None
