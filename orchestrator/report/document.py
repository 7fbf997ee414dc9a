"""The report for other readers than a browser: one Markdown document, or records for a program."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.intervals import format_usd
from orchestrator.report.history import NO_HISTORY, History
from orchestrator.report.markdown import bullets, escape, markdown_table, section, verdict_markdown
from orchestrator.report.reproduce import LOG_HEADER, commands, log_row, reproduce_rows
from orchestrator.report.timeline import timeline_of, timeline_sentences
from orchestrator.report.trials import TRIAL_HEADER, trial_row
from orchestrator.report.wording import printable
from orchestrator.results import DataSummary, Outcome, TrialResult, Verdict
from orchestrator.spec import ExperimentSpec

SCHEMA_VERSION = 1
"""Of `report_record`: rises when a key is renamed, removed or means something else; new keys do not raise it."""


def report_markdown(
    spec: ExperimentSpec,
    data: DataSummary,
    results: Sequence[TrialResult],
    verdict: Verdict,
    outcome: Outcome | None = None,
    history: History = NO_HISTORY,
) -> str:
    """The page's content without its figures."""
    parts = [f"# {escape(spec.name)}", verdict_markdown(verdict, outcome, is_whole=True).rstrip()]
    rows = [trial_row(result) for result in results]
    parts.append(section("Trials", markdown_table(TRIAL_HEADER, rows)))
    failed = [f"{result.trial}: {result.error}" for result in results if result.error]
    parts += [section("Failed trials", bullets(failed))] if failed else []
    timeline = timeline_of(spec, history.attempts or results)
    if timeline is not None:
        parts.append(section("Dollars over time", bullets(timeline_sentences(timeline))))
    end = history.sweep_end
    if end is not None:
        told = f"{end.cause}: {end.reason} ({end.n_trials} of {end.n_grid} trials, {format_usd(end.spent_usd)})"
        dropped = [f"dropped {each.model}: {each.reason}" for each in end.dropped]
        parts.append(section("Why the sweep ended", bullets([told, *dropped])))
    if history.drills:
        drills = [(d.name, "passed" if d.passed else "FAILED", d.evidence, d.at) for d in history.drills]
        parts.append(section("Drills", markdown_table(("drill", "passed", "evidence", "at"), drills)))
    if history.log:
        parts.append(section("Decision log", markdown_table(LOG_HEADER, [log_row(line) for line in history.log])))
    table = markdown_table(("what", "value"), reproduce_rows(spec, data, verdict, history))
    # Indented, not fenced: no name can close an indented block, but for a line's end.
    shell = "\n".join(f"    {printable(' '.join(line.split()))}" for line in commands(spec, verdict, history))
    parts.append(section("How to reproduce", f"{shell}\n\n{table}"))
    return "\n\n".join(parts) + "\n"


def report_record(
    spec: ExperimentSpec,
    data: DataSummary,
    results: Sequence[TrialResult],
    verdict: Verdict,
    outcomes: Sequence[Outcome] = (),
    history: History = NO_HISTORY,
) -> dict[str, object]:
    """All that the page shows, as records; the keys are stable within one `SCHEMA_VERSION`."""
    timeline = timeline_of(spec, history.attempts or results)
    return {
        "schema_version": SCHEMA_VERSION,
        "experiment": spec.name,
        "verdict": verdict,
        "checklist": verdict.checklist,
        "evidence": {
            "n_trials": len(results),
            "n_failed": sum(result.status == "failed" for result in results),
            "n_used": verdict.n_trials,
            "sweep_cost_usd": verdict.sweep_cost_usd,
            "trials": results,
        },
        "spending": None if timeline is None else {
            "total_usd": timeline.total_usd,
            "failed_usd": timeline.failed_usd,
            "cap_usd": timeline.cap_usd,
            "cap_key": timeline.cap_key or None,
            "is_clock_backwards": timeline.is_clock_backwards,
            "steps": [
                {"trial": step.result.key, "status": step.result.status, "total_usd": step.total_usd}
                for step in timeline.steps
            ],
        },
        "sweep_end": history.sweep_end,
        "drills": history.drills,
        "decision_log": history.log,
        "outcomes": outcomes,
        "reproduce": {
            "commands": commands(spec, verdict, history),
            "config": spec,
            "config_path": history.config_path,
            "data": data,
            "journal_sha256": history.journal_digest or None,
            "journal_lines": history.n_lines,
            "versions": dict(history.versions),
        },
    }  # fmt: skip
