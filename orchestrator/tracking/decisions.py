"""The decision log of an experiment, from its journal: who decided what, when, on which inputs, what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.approval import approval_code
from orchestrator.intervals import format_usd
from orchestrator.results import Approval, Outcome, Verdict
from orchestrator.tracking.records import FullRunStart

if TYPE_CHECKING:
    from orchestrator.tracking.journal import JournalView


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One line of the log."""

    line: int
    """Of the journal."""
    at: str
    """UTC, ISO 8601; for people, the order is the journal's."""
    event: str
    """verdict, approved, rejected, full run started or outcome."""
    by: str
    """Who; empty where the program did it."""
    inputs_digest: str
    """Of the verdict that it is or belongs to; empty before the first."""
    probability: float | None
    """Of a verdict."""
    override: str | None
    """Of an approval of a verdict that is not PROMOTE: the reason."""
    detail: str


DECISION_HEADER = ("line", "when (UTC)", "what", "who", "inputs", "P", "in short")


def decisions(view: JournalView) -> tuple[Decision, ...]:
    """Verdicts, answers, full runs and outcomes in the order of the journal. Raises JournalError: an unreadable one."""
    log: list[Decision] = []
    standing = ""
    for entry in view.entries:
        record = view.record(entry)
        if isinstance(record, Verdict):
            standing = record.inputs_digest
        facts = _facts(record)
        if facts is None:
            continue
        event, by, probability, override, detail = facts
        digest = record.inputs_digest if isinstance(record, Approval) else standing
        log.append(
            Decision(
                line=entry.seq,
                at=entry.at,
                event=event,
                by=by,
                inputs_digest=digest,
                probability=probability,
                override=override,
                detail=detail,
            )
        )
    return tuple(log)


def _facts(record: object) -> tuple[str, str, float | None, str | None, str] | None:
    """Event, who, probability, override and a short text; None for what is no decision."""
    if isinstance(record, Verdict):
        vetoes = "".join(f", veto {veto.name}" for veto in record.vetoes)
        return f"verdict {record.kind}", "", record.probability, None, f"{record.best.candidate}{vetoes}"
    if isinstance(record, Approval):
        override = f"override: {record.override}; " if record.override else ""
        return record.decision, record.by, None, record.override, f"{override}{record.reason} ({record.source})"
    if isinstance(record, FullRunStart):
        return "full run started", "", None, None, str(record.candidate)
    if isinstance(record, Outcome):
        metric = record.training.accuracy
        value = f"loss {record.training.loss:.4f}" if metric is None else f"accuracy {metric:.4f}"
        held = "held" if record.metric_hit else "missed"
        return "outcome", "", None, None, f"{value} (the forecast {held}), {format_usd(record.cost_usd)}"
    return None


def decision_rows(log: Sequence[Decision]) -> list[tuple[str, ...]]:
    """The log as cells under `DECISION_HEADER`."""
    return [
        (
            str(each.line),
            each.at[:19].replace("T", " "),
            each.event,
            each.by,
            approval_code(each.inputs_digest),
            "" if each.probability is None else f"{each.probability:.3f}",
            each.detail,
        )
        for each in log
    ]
