"""What was seen of an experiment at work, in words: news as lines, the live block, the state as a table or as facts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orchestrator.cli.sweep_text import (
    block_lines,
    forecast_text,
    left_text,
    plain_line,
    spent_text,
    trial_text,
    trials_text,
    verdict_headline,
)
from orchestrator.cli.watched import Owner, Watched
from orchestrator.report.wording import duration

if TYPE_CHECKING:
    from rich.text import Text

    from orchestrator.cli.live_block import View
    from orchestrator.tracking.chain import Entry


def news_lines(seen: Watched, since: int | None) -> list[str]:
    """What the journal says beyond its first ``since`` lines, each with its time; or where it stands."""
    name = seen.view.path.parent.name
    if since is None:
        who = process_text(seen)
        return [f"{name}: {plain_line(seen.progress)}; {who}"]
    return [
        f"{entry.at[11:19]} UTC  {text}" for entry in seen.view.entries[since:] if (text := _entry_text(seen, entry))
    ]


def _entry_text(seen: Watched, entry: Entry) -> str | None:
    view, said = seen.view, entry.payload
    if entry.kind == "trial":
        latest = {result.key: result for result in view.results}
        return trial_text(latest[said["key"]]) if said.get("key") in latest else None
    texts = {
        "data_read": "the data of the trials is read",
        "smoke": "smoke test passed",
        "ingest": f"data path of {said.get('model')} measured",
        "sweep_end": f"the sweep has ended: {said.get('reason')}",
        "verdict": f"verdict {said.get('kind')}: {said.get('reason')}",
        "approval": f"{said.get('decision')} by {said.get('by')}",
        "full_run_started": "the full run has started",
        "outcome": "the full run has ended",
    }
    return texts.get(entry.kind)


def view_of(seen: Watched) -> View:
    """The live block of what was seen; its clocks go on."""
    seen_at = time.monotonic()
    more = {key: text for key, text in _answers(seen).items() if text != "none"}

    def lines(width: int, ascii_only: bool) -> Sequence[Text]:
        elapsed_s = None if seen.owner is None else _age_s(seen.owner)
        since_s = time.monotonic() - seen_at
        return block_lines(
            seen.progress,
            elapsed_s=elapsed_s,
            since_s=since_s,
            width=width,
            ascii_only=ascii_only,
            is_final=seen.is_recorded,
            more=more,
        )

    return lines


def process_text(seen: Watched) -> str:
    """Who is at work."""
    owner = seen.owner
    if owner is None:
        return "no process is at work on it"
    age = duration(_age_s(owner))
    if owner.state == "gone":
        return f"{owner}, which began {age} ago, is gone without having closed the journal; the same command goes on"
    if owner.state == "at work":
        return f"{owner} is at work since {age}"
    return f"{owner} signed {age} ago; whether it lives can be told only there"


def _age_s(owner: Owner) -> float:
    """By this machine's clock, which may have been set back since."""
    return max((datetime.now(UTC) - owner.since).total_seconds(), 0.0)


def rows(seen: Watched) -> dict[str, str]:
    """The state for a reader."""
    progress, verdict = seen.progress, seen.progress.verdict
    so_far = "" if seen.is_recorded else ", so far"
    return {
        "experiment": seen.view.spec.name,
        "journal": str(seen.view.path),
        "process": process_text(seen),
        "trials": trials_text(progress),
        "spent": spent_text(progress),
        "time": left_text(progress),
        "verdict": "none yet" if verdict is None else f"{verdict_headline(verdict)}{so_far}",
        "forecast": "none yet" if verdict is None else forecast_text(verdict),
        "sweep": _sweep_text(seen),
        **_answers(seen),
        "warnings": "; ".join(seen.warnings) or "none",
    }


def _sweep_text(seen: Watched) -> str:
    if seen.sweep_end is not None:
        return f"ended, {seen.sweep_end.cause}: {seen.sweep_end.reason}"
    if seen.is_recorded:
        return "ended"
    return "going on" if seen.is_at_work else "stopped before its end; the same `sweep` command goes on"


def facts(seen: Watched) -> dict[str, Any]:
    """The state for a program: records as they are."""
    owner = seen.owner
    return {
        "experiment": seen.view.spec.name,
        "journal": str(seen.view.path),
        "process": None
        if owner is None
        else {"pid": owner.pid, "host": owner.host, "since": owner.since.isoformat(), "state": owner.state},
        "progress": seen.progress,
        "verdict_is_recorded": seen.is_recorded,
        "sweep_end": seen.sweep_end,
        "approval": seen.view.approval,
        "full_run": seen.view.full_run_started if seen.view.is_full_run_open else None,
        "outcome": seen.view.outcomes[-1] if seen.view.outcomes else None,
        "warnings": seen.warnings,
    }


def _answers(seen: Watched) -> dict[str, str]:
    """Approval and full run; ``none`` where there is none."""
    view = seen.view
    approval = view.approval if seen.is_recorded else None
    started, ended = view.full_run_started, view.outcomes
    full_run = "none"
    if view.is_full_run_open and started is not None:
        expected = duration(started.forecast.wall_time_s.median)
        full_run = f"started: {started.candidate}, {expected} expected"
        full_run += "" if seen.is_at_work else "; not finished, `promote` again goes on with it"
    elif ended:
        full_run = f"ended {ended[-1].finished_at}: {ended[-1].candidate}"
    return {
        "approval": "none" if approval is None else f"{approval.decision} by {approval.by}",
        "full run": full_run,
    }
