"""The verdict in one minute: the Markdown that MLflow shows on the run's page, at most 8,000 characters.

MLflow's page shows two lines of a description and hides the rest behind "Show more", so the first line is the verdict
with its probability and reason. MLflow refuses a longer tag; so whole sections go, the least important first, and what
went is named. All else is in the report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.approval import approval_instructions
from orchestrator.intervals import format_usd
from orchestrator.report import wording
from orchestrator.report.bill import KINDS, dollars
from orchestrator.report.history import NO_HISTORY, History
from orchestrator.report.markdown import (
    bullets,
    candidates_section,
    checklist_section,
    escape,
    evidence_line,
    headline,
    markdown_table,
    section,
    vetoes_section,
)
from orchestrator.report.shortlist import Listed, Shortlist, shortlist
from orchestrator.results import Outcome, SweepEnd, Verdict

MAX_CHARACTERS = 8000
"""Of a tag's value in MLflow 3."""
_MOST_CANDIDATES = 8
"""Rows that are read in a minute; the report has all."""
_LONGEST_TEXT = 600
"""Of a reason or a piece of evidence as it is written; a page of it is no headline."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A section and how soon it is left out: 0 never, then the largest number first."""

    rank: int
    title: str
    text: str


def description(
    verdict: Verdict,
    outcome: Outcome | None = None,
    history: History = NO_HISTORY,
    *,
    figures: Sequence[str] = (),
    limit: int = MAX_CHARACTERS,
) -> str:
    """What a lead reads: verdict, how to answer it, candidates, checklist, what would change it.

    Args:
        verdict: What was decided.
        outcome: Of a full run, where there was one.
        history: Why the sweep ended.
        figures: Names of the figures that lie beside the report.
        limit: Characters, at least 4,000.
    """
    short = _shortened(verdict)
    parts = _parts(short, outcome, history, figures)
    dropped: list[str] = []
    text = _joined(parts, dropped)
    while len(text) > limit and any(part.rank for part in parts):
        least = max(parts, key=lambda part: part.rank)
        parts.remove(least)
        dropped.append(least.title)
        text = _joined(parts, dropped)
    return text


def _joined(parts: Sequence[_Part], dropped: Sequence[str]) -> str:
    texts = [part.text for part in parts]
    if dropped:
        texts.append(f"For want of room not here but in the report: {', '.join(dropped)}.")
    return "\n\n".join(texts) + "\n"


def _parts(verdict: Verdict, outcome: Outcome | None, history: History, figures: Sequence[str]) -> list[_Part]:
    """In the order of reading."""
    parts = [_Part(0, "verdict", "\n\n".join(headline(verdict, outcome)))]
    if outcome is not None:
        table = markdown_table(wording.OUTCOME_HEADER, wording.outcome_rows(outcome, verdict.metric))
        parts.append(_Part(2, "what came of it", section("What came of it", table)))
    if verdict.vetoes:
        parts.append(_Part(1, "what holds it back", vetoes_section(verdict)))
    parts.append(_Part(0, "how to answer", section("How to answer", approval_instructions(verdict))))
    parts.append(_Part(3, "candidates", candidates_section(verdict, _most_telling(shortlist(verdict)), is_narrow=True)))
    parts.append(_Part(4, "checklist", checklist_section(verdict)))
    changes = section("What would change it", bullets(map(_clipped, wording.what_would_change(verdict))))
    parts.append(_Part(5, "what would change it", changes))
    if verdict.assumptions:
        supposed = section("Supposed, not measured", bullets(verdict.assumptions))
        parts.append(_Part(6, "suppositions", supposed))
    parts.append(_Part(7, "cost", section("Cost", _cost(verdict))))
    parts.append(_Part(8, "what it rests on", evidence_line(verdict)))
    if history.sweep_end is not None:
        parts.append(_Part(9, "why the sweep ended", section("Why the sweep ended", _sweep_end(history.sweep_end))))
    return [*parts, _Part(0, "artifacts", _artifacts(figures))]


def _most_telling(chosen: Shortlist) -> Shortlist:
    """At most `_MOST_CANDIDATES` rows: marked ones first, then the cheap end of the frontier; in their order."""
    by_weight = sorted(chosen.shown, key=lambda listed: not listed.marks)
    kept = {listed.forecast.candidate for listed in by_weight[:_MOST_CANDIDATES]}

    def is_kept(listed: Listed) -> bool:
        return listed.forecast.candidate in kept

    shown = tuple(filter(is_kept, chosen.shown))
    return Shortlist(shown=shown, folded=(*(each for each in chosen.shown if not is_kept(each)), *chosen.folded))


def _cost(verdict: Verdict) -> str:
    """One line: the total, and infrastructure, people and risk apart."""
    bill = verdict.best.bill
    kinds = ", ".join(f"{kind} {dollars(bill.totals_usd.get(kind))[0]}" for kind in KINDS)
    total = wording.with_span(bill.total_usd, format_usd)
    price = wording.usd_per_point(verdict.best.gain_per_dollar.median, verdict.metric)
    return escape(f"{total} for {verdict.best.candidate}" + (f": {kinds}" if bill.totals_usd else "") + f"; {price}")


def _sweep_end(end: SweepEnd) -> str:
    lines = [f"{end.cause}: {end.reason} ({end.n_trials} of {end.n_grid} trials, {format_usd(end.spent_usd)})"]
    return bullets(_clipped(line) for line in (*lines, *(f"{each.model}: {each.reason}" for each in end.dropped)))


def _artifacts(figures: Sequence[str]) -> str:
    pictures = ", ".join(f"`figures/{name}.png`" for name in figures)
    beside = f"; figures: {pictures}" if pictures else ""
    return f"The whole report, with every candidate and every trial, is the artifact `report.html`{beside}."


def _shortened(verdict: Verdict) -> Verdict:
    """The same with long texts cut, so that the first lines fit whatever people wrote."""
    return replace(
        verdict,
        reason=_clipped(verdict.reason),
        preference=_clipped(verdict.preference),
        next_step=_clipped(verdict.next_step),
        baseline_source=_clipped(verdict.baseline_source),
        vetoes=tuple(
            replace(v, name=_clipped(v.name), reason=_clipped(v.reason), way_out=_clipped(v.way_out))
            for v in verdict.vetoes
        ),
        checklist=tuple(replace(item, evidence=_clipped(item.evidence)) for item in verdict.checklist),
        assumptions=tuple(map(_clipped, verdict.assumptions)),
        # It is shown as code, which an escape would not reach; ours has only letters and digits.
        inputs_digest="".join(filter(str.isalnum, verdict.inputs_digest))[:64],
    )


def _clipped(text: str) -> str:
    """At most `_LONGEST_TEXT` characters once escaped, as a text of nothing but ampersands grows fivefold."""
    shown = text
    while len(escape(shown)) > _LONGEST_TEXT:
        share = _LONGEST_TEXT / len(escape(shown))
        shown = f"{shown[: int(share * len(shown)) - 4]}..."
    return shown
