"""The verdict as text: Markdown for the run's description in MLflow, plain lines and tables for the terminal.

MLflow's page shows two lines of a description and hides the rest behind "Show more", so the first line is the verdict
with its probability and reason. All that comes from people or data is escaped.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from orchestrator.intervals import format_usd
from orchestrator.report import wording
from orchestrator.results import Bill, Outcome, Verdict

WIDTH = 110
_STATUS = {"pass": "pass", "warn": "WARN", "fail": "FAIL", "not_checked": "not checked"}


def verdict_markdown(verdict: Verdict, outcome: Outcome | None = None) -> str:
    """The whole verdict; with an outcome, forecast beside result follows the first lines."""
    best, metric = verdict.best, verdict.metric
    parts = [
        f"**{verdict.kind}, probability {verdict.probability:.2f}** "
        f"({verdict.confidence:.2f} asked for): {_escape(verdict.reason)}",
        f"Next: {_escape(wording.next_step(verdict, outcome))}",
    ]
    if outcome is not None:
        parts.append(_section("What came of it", _table(wording.OUTCOME_HEADER, wording.outcome_rows(outcome, metric))))
    if verdict.vetoes:
        vetoes = [
            f"- **{_escape(v.name)}**: {_escape(v.reason)}. Way out: {_escape(v.way_out)}" for v in verdict.vetoes
        ]
        parts.append(_section("Held back by", "\n".join(vetoes)))
    rows = [wording.candidate_row(forecast, metric) for forecast in verdict.candidates]
    parts.append(
        _section(
            "Candidates",
            _table(wording.candidate_header(metric), rows)
            + f"\n\nMedians with 90% intervals; P is the probability of at least "
            f"{wording.gain_per_dollar(verdict.threshold, metric)}. "
            f"Baseline {wording.metric_value(verdict.baseline, metric)} ({_escape(verdict.baseline_source)}).",
        )
    )
    items = [(item.name, _STATUS[item.status], item.evidence) for item in verdict.checklist]
    parts.append(_section("Checklist", _table(("item", "status", "evidence"), items)))
    bill = _table(wording.BILL_HEADER, [wording.bill_row(line) for line in best.bill.lines])
    notes = "".join(f"\n\n{_escape(note)}" for note in best.bill.warnings)
    total = f"\n\nTotal {wording.with_span(best.bill.total_usd, format_usd)}."
    parts.append(_section(f"Bill of {_escape(str(best.candidate))}", bill + total + notes))
    changes = "\n".join(f"- {_escape(line)}" for line in wording.what_would_change(verdict))
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
            wording.candidate_header(metric), [wording.candidate_row(each, metric) for each in verdict.candidates]
        ),
        f"  baseline {wording.metric_value(verdict.baseline, metric)} ({verdict.baseline_source})",
        "",
        f"bill of {best.candidate}",
        *_bill_lines(best.bill),
        *(_wrapped(warning) for warning in best.bill.warnings),
    ]
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


def _bill_lines(bill: Bill) -> list[str]:
    """What is included as a table, each price's source once, and what is left out with its reason."""
    included = [line for line in bill.lines if line.included]
    rows = [wording.bill_row(line)[:4] for line in included]
    rows.append(("total", "", "", wording.with_span(bill.total_usd, format_usd)))
    notes = [f"{line.item}: {line.note}" for line in included if line.note]
    sources = ", ".join(dict.fromkeys(line.source for line in included))
    excluded = "; ".join(line.item for line in bill.lines if not line.included)
    said = [*notes, f"price sources: {sources}", f"not included: {excluded} (reasons in the report)"]
    return [wording.plain_table(wording.BILL_HEADER[:4], rows), *map(_wrapped, said)]


def _evidence(verdict: Verdict) -> str:
    return (
        f"From {verdict.n_trials} trials ({verdict.n_excluded} left out), "
        f"{format_usd(verdict.sweep_cost_usd)} spent on the sweep. Inputs `{verdict.inputs_digest}`. "
        "An answer holds for exactly these inputs and is given by the commands `approve` and `reject`; "
        "the tag `approval` shows it."
    )


def _section(title: str, body: str) -> str:
    return f"### {title}\n\n{body}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell if cell == '---' else _escape(cell) for cell in line)} |" for line in lines)


def _escape(text: str) -> str:
    """Text that Markdown and HTML take literally, on one line."""
    flat = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", flat)


def _wrapped(text: str, *, hang: int = 2) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent=" " * hang, break_long_words=False)
