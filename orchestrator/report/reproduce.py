"""What a page says of how its verdict came about: the log of decisions, the drills, and how to get it again."""

from __future__ import annotations

import shlex

from orchestrator.intervals import format_usd
from orchestrator.report.history import History, LogLine
from orchestrator.results import DataSummary, Verdict
from orchestrator.spec import ExperimentSpec

LOG_HEADER = ("at (UTC)", "what", "by", "reason", "answered in", "inputs")
_PROGRAM = "python -m orchestrator"


def of_history(spec: ExperimentSpec, data: DataSummary, verdict: Verdict, history: History) -> dict[str, object]:
    """The template's values; empty where the journal does not tell."""
    end = history.sweep_end
    return {
        "end_spent": "" if end is None else f"{format_usd(end.spent_usd)} spent",
        "dropped_rows": [] if end is None else [(each.model, each.reason) for each in end.dropped],
        "drill_rows": [
            (drill.name, "passed" if drill.passed else "FAILED", drill.evidence, drill.at) for drill in history.drills
        ],
        "log_header": LOG_HEADER,
        "log_rows": [log_row(line) for line in history.log],
        "commands": commands(spec, verdict, history),
        "reproduce_rows": reproduce_rows(spec, data, verdict, history),
    }


def log_row(line: LogLine) -> tuple[str, ...]:
    """One line under `LOG_HEADER`."""
    reason = f"{line.reason} (override: {line.override})" if line.override else line.reason
    return (line.at[:19].replace("T", " "), line.what, line.by, reason, line.source, line.inputs_digest[:8])


def commands(spec: ExperimentSpec, verdict: Verdict, history: History) -> list[str]:
    """Lines for a shell, quoted for it."""
    name, threshold = shlex.quote(spec.name), f"decision.min_gain_per_dollar={verdict.threshold:.4g}"
    where = "" if spec.runs_dir == "runs" else f" --runs-dir {shlex.quote(spec.runs_dir)}"
    config = "CONFIG.yaml" if history.config_path is None else shlex.quote(history.config_path)
    return [
        f"{_PROGRAM} decide {name}{where}",
        f"{_PROGRAM} what-if {name} {threshold}{where}",
        f"{_PROGRAM} report {name}{where}",
        " ".join([f"{_PROGRAM} sweep {config}", *map(shlex.quote, history.overrides)]),
    ]


def reproduce_rows(
    spec: ExperimentSpec, data: DataSummary, verdict: Verdict, history: History
) -> list[tuple[str, str]]:
    """What must be equal for the same verdict: data, inputs, seed, journal, versions."""
    rows = [
        ("data fingerprint", data.fingerprint),
        ("inputs of the verdict", verdict.inputs_digest),
        ("random seed", str(verdict.seed)),
        ("journal", f"{spec.runs_dir}/{spec.name}/journal.jsonl"),
    ]
    if history.journal_digest:
        rows.append((f"journal, {history.n_lines} lines", f"sha256 {history.journal_digest}"))
    if history.config_path is not None:
        rows.append(("config file", history.config_path))
    if history.versions:
        rows.append(("versions", ", ".join(f"{name} {version}" for name, version in history.versions.items())))
    return rows
