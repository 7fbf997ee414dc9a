"""The verdict as text: whole Markdown, and plain lines and tables for the terminal. `description` is MLflow's extract.

All that comes from people or data is escaped.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence

from orchestrator.intervals import format_usd
from orchestrator.report import bill, wording
from orchestrator.report.shortlist import SHORT_HEADER, Shortlist, listed_header, listed_row, short_row, shortlist
from orchestrator.results import Bill, BillLine, CandidateForecast, Outcome, Verdict

WIDTH = 110
STATUS = {"pass": "pass", "warn": "WARN", "fail": "FAIL", "not_checked": "not checked"}
_LARGE_SHARE = 0.05
"""Of the total, from which on a line's note is shown in a terminal."""


def verdict_markdown(verdict: Verdict, outcome: Outcome | None = None, *, is_whole: bool = False) -> str:
    """The whole verdict; with an outcome, forecast beside result follows the first lines.

    Args:
        verdict: What was decided.
        outcome: Of a full run, where there was one.
        is_whole: With all candidates; else with the frontier and the best of each model.
    """
    best = verdict.best
    parts = [*headline(verdict, outcome), *basics(verdict, outcome, shortlist(verdict, is_whole=is_whole))]
    parts.append(section(f"Bill of {escape(str(best.candidate))}", _bill_markdown(best.bill)))
    if purchases := bill.purchase_rows(verdict):
        parts.append(section("Purchase options", markdown_table(bill.PURCHASE_HEADER, purchases)))
    if best.bill.sensitivities:
        moving = markdown_table(bill.SENSITIVITY_HEADER, bill.sensitivity_rows(best.bill))
        parts.append(section("What moves the total", moving))
    if verdict.scaling is not None:
        workers = markdown_table(wording.WORKERS_HEADER, wording.workers_rows(verdict.scaling))
        findings = bullets(verdict.scaling.findings)
        parts.append(section(f"Workers for {escape(best.candidate.model)}", f"{workers}\n\n{findings}"))
    if verdict.data_path is not None:
        table = markdown_table(verdict.data_path.header, verdict.data_path.rows)
        parts.append(section("Is it the data?", f"{table}\n\n{bullets(verdict.data_path.lines)}"))
    parts.append(section("What would change it", bullets(wording.what_would_change(verdict))))
    parts.append(evidence_line(verdict))
    return "\n\n".join(parts) + "\n"


def headline(verdict: Verdict, outcome: Outcome | None) -> list[str]:
    """Verdict with probability and reason, preference, and what to do now."""
    parts = [
        f"**{verdict.kind}, probability {verdict.probability:.2f}** "
        f"({verdict.confidence:.2f} asked for): {escape(verdict.reason)}"
    ]
    if verdict.preference:
        parts.append(escape(verdict.preference))
    return [*parts, f"Next: {escape(wording.next_step(verdict, outcome))}"]


def basics(verdict: Verdict, outcome: Outcome | None, chosen: Shortlist) -> list[str]:
    """Outcome, vetoes, suppositions, candidates, checklist: a section each, where there is something to say."""
    parts = []
    if outcome is not None:
        rows = wording.outcome_rows(outcome, verdict.metric)
        parts.append(section("What came of it", markdown_table(wording.OUTCOME_HEADER, rows)))
    if verdict.vetoes:
        parts.append(vetoes_section(verdict))
    if verdict.assumptions:
        parts.append(section("Supposed, not measured", bullets(verdict.assumptions)))
    parts += [candidates_section(verdict, chosen), checklist_section(verdict)]
    return parts


def vetoes_section(verdict: Verdict) -> str:
    """What holds a full run back, and the way out of each."""
    lines = [f"- **{escape(v.name)}**: {escape(v.reason)}. Way out: {escape(v.way_out)}" for v in verdict.vetoes]
    return section("Held back by", "\n".join(lines))


def candidates_section(verdict: Verdict, chosen: Shortlist, *, is_narrow: bool = False) -> str:
    """The candidates that are shown first, and how many are not; MLflow's column is too narrow for intervals."""
    header = SHORT_HEADER if is_narrow else listed_header(verdict)
    rows = [(short_row if is_narrow else listed_row)(listed, verdict) for listed in chosen.shown]
    return section(
        "Candidates",
        f"{markdown_table(header, rows)}\n\n"
        f"Medians{'' if is_narrow else ' with 90% intervals'}; P is the probability of at least "
        f"{wording.gain_per_dollar(verdict.threshold, verdict.metric)}. "
        f"Baseline {wording.metric_value(verdict.baseline, verdict.metric)} ({escape(verdict.baseline_source)})."
        + _folded(chosen),
    )


def _folded(chosen: Shortlist) -> str:
    return f" {len(chosen.folded)} more candidates are in the report." if chosen.folded else ""


def checklist_section(verdict: Verdict) -> str:
    """Every item with its status and evidence."""
    items = [(item.name, STATUS[item.status], item.evidence) for item in verdict.checklist]
    return section("Checklist", markdown_table(("item", "status", "evidence"), items))


def verdict_text(verdict: Verdict, *, is_whole: bool = False) -> str:
    """The verdict for a terminal or a pipe: no colour, no markup; with ``is_whole``, all candidates."""
    best, metric = verdict.best, verdict.metric
    chosen = shortlist(verdict, is_whole=is_whole)
    lines = [
        f"{verdict.kind}  probability {verdict.probability:.2f} ({verdict.confidence:.2f} asked for)",
        _wrapped(verdict.reason),
        *(_wrapped(sentence) for sentence in (verdict.preference,) if sentence),
        "",
        f"candidates (median, 90% interval; P: at least {wording.gain_per_dollar(verdict.threshold, metric)})",
        wording.plain_table(listed_header(verdict), [listed_row(each, verdict) for each in chosen.shown]),
        *([f"  and {len(chosen.folded)} more: --all shows them"] if chosen.folded else []),
        f"  baseline {wording.metric_value(verdict.baseline, metric)} ({verdict.baseline_source})",
        "",
        f"bill of {best.candidate}",
        *_bill_lines(best.bill),
    ]
    if purchases := bill.purchase_rows(verdict):
        lines += ["", "purchase options", wording.plain_table(bill.PURCHASE_HEADER, purchases)]
    if best.bill.sensitivities:
        moving = wording.plain_table(bill.SENSITIVITY_HEADER, bill.sensitivity_rows(best.bill))
        lines += ["", "what moves the total", moving]
    if verdict.scaling is not None:
        workers = wording.plain_table(wording.WORKERS_HEADER, wording.workers_rows(verdict.scaling))
        lines += ["", f"workers for {best.candidate.model}", workers, *map(_wrapped, verdict.scaling.findings)]
    if verdict.data_path is not None:
        keeping_up = wording.plain_table(verdict.data_path.header, verdict.data_path.rows)
        lines += ["", f"is it the data? ({best.candidate.model})", keeping_up, *map(_wrapped, verdict.data_path.lines)]
    return wording.printable("\n".join([*lines, *_judgement_lines(verdict)]))


def _judgement_lines(verdict: Verdict) -> list[str]:
    """Suppositions, vetoes, checklist, what would change it, what it rests on, what to do now."""
    lines = ["", *assumption_lines(verdict)] if verdict.assumptions else []
    if verdict.vetoes:
        lines += ["", "held back by"]
        lines += [_wrapped(f"{veto.name}: {veto.reason}; {veto.way_out}") for veto in verdict.vetoes]
    items = [(STATUS[item.status], item.name, item.evidence) for item in verdict.checklist]
    lines += ["", "checklist", *(_wrapped(f"{status:<11}  {name}: {text}", hang=15) for status, name, text in items)]
    lines += ["", "what would change it", *(_wrapped(line) for line in wording.what_would_change(verdict))]
    excluded = f", {verdict.n_excluded} left out" if verdict.n_excluded else ""
    lines += ["", f"from {verdict.n_trials} trials{excluded}, {format_usd(verdict.sweep_cost_usd)} spent on the sweep"]
    return [*lines, f"next: {verdict.next_step}"]


def assumption_lines(verdict: Verdict) -> list[str]:
    """What the config supposes, as lines of a terminal; empty where it supposes nothing."""
    return ["supposed, not measured", *map(_wrapped, verdict.assumptions)] if verdict.assumptions else []


def bill_text(forecast: CandidateForecast) -> str:
    """The bill of one candidate for a terminal, under its name."""
    return wording.printable("\n".join([f"bill of {forecast.candidate}", *_bill_lines(forecast.bill)]))


def _bill_markdown(of: Bill) -> str:
    bill_table = markdown_table(bill.BILL_HEADER, [cells for cells, _ in bill.bill_rows(of)])
    return "\n\n".join([bill_table, *map(escape, (*bill.bill_sentences(of), *of.warnings))])


def _bill_lines(of: Bill) -> list[str]:
    """What is included as a table, each price's source once, and what is left out with its reason."""
    rows = [
        (cells if style in ("kind", "total") else (f"  {cells[0]}", *cells[1:]))[:5]
        for cells, style in bill.bill_rows(of)
        if style != "out"
    ]
    included = [line for line in of.lines if line.included]
    # A reader of a terminal is told what rests on an assumption and what makes the total; the page has every note.
    told = [line for line in included if line.note and ("assumed" in line.note.lower() or _is_large(line, of))]
    notes = [f"{line.item}: {line.note}" for line in told]
    left_out = [f"{line.item} ({line.note})" for line in of.lines if not line.included]
    said = [*notes, *bill.bill_sentences(of), f"left out: {'; '.join(left_out)}"]
    return [wording.plain_table(bill.BILL_HEADER[:5], rows), *map(_wrapped, (*said, *of.warnings))]


def _is_large(line: BillLine, of: Bill) -> bool:
    return line.cost_usd is not None and line.cost_usd.mean >= _LARGE_SHARE * of.total_usd.mean


def evidence_line(verdict: Verdict) -> str:
    """What the verdict rests on, and the digest that an answer is bound to."""
    return (
        f"From {verdict.n_trials} trials ({verdict.n_excluded} left out), "
        f"{format_usd(verdict.sweep_cost_usd)} spent on the sweep. Inputs {escape(verdict.inputs_digest)}: "
        "an answer holds for exactly these."
    )


def section(title: str, body: str) -> str:
    """A heading and what belongs under it; the title is ready."""
    return f"### {title}\n\n{body}"


def bullets(lines: Iterable[str]) -> str:
    """A list, each line escaped."""
    return "\n".join(f"- {escape(line)}" for line in lines)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, is_last_ready: bool = False) -> str:
    """A table with every cell escaped; with ``is_last_ready``, but for the last cell of each row."""
    shown = [[escape(cell) for cell in header], ["---"] * len(header)]
    for row in rows:
        *others, last = row
        shown.append([*map(escape, others), last if is_last_ready else escape(last)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in shown)


def escape(text: str) -> str:
    """Text that Markdown and HTML take literally, on one line, without control and direction characters."""
    flat = wording.printable(" ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", flat)


def _wrapped(text: str, *, hang: int = 2) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent=" " * hang, break_long_words=False)
