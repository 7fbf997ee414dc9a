"""The verdict as text: Markdown for the run's description in MLflow, plain lines and tables for the terminal.

MLflow's page shows two lines of a description and hides the rest behind "Show more", so the first line is the verdict
with its probability and reason. All that comes from people or data is escaped.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from orchestrator.intervals import format_usd
from orchestrator.report import bill, wording
from orchestrator.results import Bill, BillLine, CandidateForecast, Outcome, Verdict

WIDTH = 110
_LARGE_SHARE = 0.05
"""Of the total, from which on a line's note is shown in a terminal."""
_STATUS = {"pass": "pass", "warn": "WARN", "fail": "FAIL", "not_checked": "not checked"}


def verdict_markdown(verdict: Verdict, outcome: Outcome | None = None) -> str:
    """The whole verdict; with an outcome, forecast beside result follows the first lines."""
    best, metric = verdict.best, verdict.metric
    parts = [
        f"**{verdict.kind}, probability {verdict.probability:.2f}** "
        f"({verdict.confidence:.2f} asked for): {escape(verdict.reason)}",
        f"Next: {escape(wording.next_step(verdict, outcome))}",
    ]
    if outcome is not None:
        parts.append(
            _section("What came of it", markdown_table(wording.OUTCOME_HEADER, wording.outcome_rows(outcome, metric)))
        )
    if verdict.vetoes:
        vetoes = [f"- **{escape(v.name)}**: {escape(v.reason)}. Way out: {escape(v.way_out)}" for v in verdict.vetoes]
        parts.append(_section("Held back by", "\n".join(vetoes)))
    rows = [wording.candidate_row(forecast, metric) for forecast in verdict.candidates]
    parts.append(
        _section(
            "Candidates",
            markdown_table(wording.candidate_header(verdict), rows)
            + f"\n\nMedians with 90% intervals; P is the probability of at least "
            f"{wording.gain_per_dollar(verdict.threshold, metric)}. "
            f"Baseline {wording.metric_value(verdict.baseline, metric)} ({escape(verdict.baseline_source)}).",
        )
    )
    items = [(item.name, _STATUS[item.status], item.evidence) for item in verdict.checklist]
    parts.append(_section("Checklist", markdown_table(("item", "status", "evidence"), items)))
    parts.append(_section(f"Bill of {escape(str(best.candidate))}", _bill_markdown(best.bill)))
    if purchases := bill.purchase_rows(verdict):
        parts.append(_section("Purchase options", markdown_table(bill.PURCHASE_HEADER, purchases)))
    if best.bill.sensitivities:
        moving = markdown_table(bill.SENSITIVITY_HEADER, bill.sensitivity_rows(best.bill))
        parts.append(_section("What moves the total", moving))
    if verdict.scaling is not None:
        workers = markdown_table(wording.WORKERS_HEADER, wording.workers_rows(verdict.scaling))
        findings = "\n".join(f"- {escape(finding)}" for finding in verdict.scaling.findings)
        parts.append(_section(f"Workers for {escape(best.candidate.model)}", f"{workers}\n\n{findings}"))
    if verdict.data_path is not None:
        found = "\n".join(f"- {escape(line)}" for line in verdict.data_path.lines)
        parts.append(
            _section(
                "Is it the data?", f"{markdown_table(verdict.data_path.header, verdict.data_path.rows)}\n\n{found}"
            )
        )
    changes = "\n".join(f"- {escape(line)}" for line in wording.what_would_change(verdict))
    parts.append(_section("What would change it", changes))
    parts.append(_evidence(verdict))
    return "\n\n".join(parts) + "\n"


def verdict_text(verdict: Verdict) -> str:
    """The verdict for a terminal or a pipe: no colour, no markup."""
    best, metric = verdict.best, verdict.metric
    lines = [
        f"{verdict.kind}  probability {verdict.probability:.2f} ({verdict.confidence:.2f} asked for)",
        _wrapped(verdict.reason),
        "",
        f"candidates (median, 90% interval; P: at least {wording.gain_per_dollar(verdict.threshold, metric)})",
        wording.plain_table(
            wording.candidate_header(verdict), [wording.candidate_row(each, metric) for each in verdict.candidates]
        ),
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
    if verdict.vetoes:
        lines += ["", "held back by"]
        lines += [_wrapped(f"{veto.name}: {veto.reason}; {veto.way_out}") for veto in verdict.vetoes]
    items = [(_STATUS[item.status], item.name, item.evidence) for item in verdict.checklist]
    lines += ["", "checklist", *(_wrapped(f"{status:<11}  {name}: {text}", hang=15) for status, name, text in items)]
    lines += ["", "what would change it", *(_wrapped(line) for line in wording.what_would_change(verdict))]
    excluded = f", {verdict.n_excluded} left out" if verdict.n_excluded else ""
    lines += ["", f"from {verdict.n_trials} trials{excluded}, {format_usd(verdict.sweep_cost_usd)} spent on the sweep"]
    lines.append(f"next: {verdict.next_step}")
    return "\n".join(lines)


def bill_text(forecast: CandidateForecast) -> str:
    """The bill of one candidate for a terminal, under its name."""
    return "\n".join([f"bill of {forecast.candidate}", *_bill_lines(forecast.bill)])


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


def comparison_text(left_name: str, left: Verdict, right_name: str, right: Verdict) -> str:
    """Two verdicts side by side for a terminal."""
    return wording.plain_table(("", left_name, right_name), bill.comparison_rows(left, right), indent="")


def comparison_markdown(left_name: str, left: Verdict, right_name: str, right: Verdict) -> str:
    """Two verdicts side by side."""
    return markdown_table(("", left_name, right_name), bill.comparison_rows(left, right))


def _evidence(verdict: Verdict) -> str:
    return (
        f"From {verdict.n_trials} trials ({verdict.n_excluded} left out), "
        f"{format_usd(verdict.sweep_cost_usd)} spent on the sweep. Inputs `{verdict.inputs_digest}`. "
        "An answer holds for exactly these inputs and is given by the commands `approve` and `reject`; "
        "the tag `approval` shows it."
    )


def _section(title: str, body: str) -> str:
    return f"### {title}\n\n{body}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell if cell == '---' else escape(cell) for cell in line)} |" for line in lines)


def escape(text: str) -> str:
    """Text that Markdown and HTML take literally, on one line."""
    flat = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", flat)


def _wrapped(text: str, *, hang: int = 2) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent=" " * hang, break_long_words=False)
