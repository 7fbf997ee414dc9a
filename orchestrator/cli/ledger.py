"""Look back: ``status`` of an experiment, and the ``history`` of decisions and full runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.options import (
    as_json,
    experiment_argument,
    format_option,
    mixtures,
    runs_dir_option,
    tracking_uri_option,
    warn,
)
from orchestrator.errors import OrchestratorError, TrackingError, UsageError

if TYPE_CHECKING:
    from orchestrator.results import Outcome
    from orchestrator.spec import Metric
    from orchestrator.tracking.chain import Seal
    from orchestrator.tracking.journal import JournalView


@click.command()
@experiment_argument
@runs_dir_option
@tracking_uri_option
@format_option
def status(experiment: str, runs_dir: str, tracking_uri: str | None, form: str) -> None:
    """Where an experiment stands: trials, dollars, verdict, approval, full run."""
    from orchestrator.cli.compose import answer_of, read_experiment
    from orchestrator.intervals import format_usd
    from orchestrator.planner import plan_grid
    from orchestrator.spec import trial_key
    from orchestrator.tracking.mlflow_store import mask

    spec, view = read_experiment(experiment, runs_dir, tracking_uri=tracking_uri)
    plan = {trial_key(spec, view.data.fingerprint, trial) for trial in plan_grid(spec, view.data)}
    finished = {result.key for result in view.results if result.status == "finished"}
    failed = [result for result in view.results if result.status == "failed"]
    answers = {
        "experiment": spec.name,
        "journal": str(view.path) if tracking_uri is None else f"a copy in MLflow, {mask(tracking_uri)}",
        "trials": f"{len(plan & finished)} of {len(plan)} finished, {len(failed)} failed",
        "sweep spent": format_usd(view.trials_usd),
        "verdict": f"{view.verdict.kind}: {view.verdict.reason}" if view.verdict else "none yet",
        "approval": f"{view.approval.decision} by {view.approval.by}" if view.approval else "none",
        "full run": _full_run_state(len(view.outcomes), view.is_full_run_open),
        "warnings": "; ".join((*view.warnings, *mixtures(view))) or "none",
    } | {f"failed {result.trial}": result.error for result in failed}
    text = answer_of(answers)
    click.echo({"table": text, "md": f"```\n{text}\n```", "json": as_json(answers)}[form])


def _full_run_state(n_outcomes: int, is_open: bool) -> str:
    if is_open:
        return "started and not finished; `promote` again goes on with it"
    return f"{n_outcomes} finished" if n_outcomes else "none"


@click.command()
@click.argument("experiment", required=False)
@click.option("--runs-dir", default="runs", show_default=True, help="Folder of the journals.")
@tracking_uri_option
@click.option(
    "--verify", is_flag=True, help="Check that no line of a journal was altered, dropped or moved; exit code 1 if so."
)
@format_option
def history(experiment: str | None, runs_dir: str, tracking_uri: str | None, verify: bool, form: str) -> None:
    """Who decided what and when, every full run beside its forecast, and how often the 90% intervals held.

    Of all experiments, or of EXPERIMENT.
    """
    if tracking_uri is not None and experiment is None:
        raise UsageError("--tracking-uri reads one experiment: name it, as in history digits --tracking-uri URI")
    if verify:
        _verify(experiment, runs_dir, tracking_uri, form)
        return
    from orchestrator.tracking.decisions import decision_rows, decisions
    from orchestrator.tracking.records import to_plain

    names = _views(experiment, runs_dir, tracking_uri)
    ledger = [(name, outcome) for name, view in names.items() for outcome in view.outcomes]
    logs = {name: decisions(view) for name, view in names.items()}
    if form == "json":
        told = [{"experiment": name, **to_plain(each)} for name, log in logs.items() for each in log]
        outcomes = [{"experiment": name, "outcome": outcome} for name, outcome in ledger]
        click.echo(as_json({"decisions": told, "outcomes": outcomes}))
        return
    for name, view in names.items():
        warn(view.warnings)
        if logs[name]:
            click.echo(_headed(name, decision_rows(logs[name]), form))
    metrics = {name: view.spec.decision.metric for name, view in names.items() if view.outcomes}
    _echo_ledger(ledger, metrics, Path(runs_dir))


def _headed(name: str, rows: list[tuple[str, ...]], form: str) -> str:
    from orchestrator.report.markdown import markdown_table
    from orchestrator.report.wording import plain_table
    from orchestrator.tracking.decisions import DECISION_HEADER

    if form == "md":
        return f"### {name}\n\n{markdown_table(DECISION_HEADER, rows)}\n"
    return f"{name}\n{plain_table(DECISION_HEADER, rows)}\n"


def _views(experiment: str | None, runs_dir: str, tracking_uri: str | None) -> dict[str, JournalView]:
    from orchestrator.cli.compose import read_experiment
    from orchestrator.tracking.journal import Journal

    if experiment is not None:
        spec, view = read_experiment(experiment, runs_dir, tracking_uri=tracking_uri)
        return {spec.name: view}
    return {path.parent.name: Journal.read(path.parent) for path in sorted(Path(runs_dir).glob("*/journal.jsonl"))}


def _echo_ledger(ledger: list[tuple[str, Outcome]], metrics: dict[str, Metric], runs_dir: Path) -> None:
    from orchestrator.calibration import coverage
    from orchestrator.report.wording import OUTCOME_HEADER, outcome_rows, plain_table

    if not ledger:
        click.echo(f"no full run has ended yet in {runs_dir.absolute()}")
        return
    for name, outcome in ledger:
        click.echo(f"{outcome.finished_at}  {name}: {outcome.candidate}")
        click.echo(plain_table(OUTCOME_HEADER, outcome_rows(outcome, metrics[name])))
    found = coverage([outcome for _, outcome in ledger])
    for label, rate in (("metric", found.metric), ("time", found.wall_time), ("dollars", found.cost)):
        click.echo(
            f"{label}: {rate.hits} of {rate.n} in the 90% interval (true share {rate.low:.2f} to {rate.high:.2f})"
        )


def _verify(experiment: str | None, runs_dir: str, tracking_uri: str | None, form: str) -> None:
    """A line for each experiment; exit code 1 when anything was found."""
    from orchestrator.tracking.verify import verify_folder

    found = {
        folder.name: verify_folder(folder, _seals_in_mlflow(folder, tracking_uri))
        for folder in _folders(experiment, Path(runs_dir))
    }
    if form == "json":
        click.echo(as_json(found))
    else:
        for name, each in found.items():
            click.echo(f"{name}: {'; '.join(('FOUND', *each.findings)) if each.findings else 'nothing was altered'}")
            click.echo(f"  agrees: {', '.join(each.compared) or 'nothing'}")
            for note in each.not_compared:
                click.echo(f"  {note}")
        if not found:
            click.echo(f"no journal in {Path(runs_dir).absolute()}")
    if any(each.findings for each in found.values()):
        sys.exit(1)


def _folders(experiment: str | None, runs_dir: Path) -> list[Path]:
    """Run folders with a journal, or with the seal of one that is gone. Raises UnknownExperimentError."""
    from orchestrator.cli.compose import read_experiment
    from orchestrator.tracking.journal import run_folder
    from orchestrator.tracking.seal import SEAL_NAME

    if experiment is None:
        return sorted({path.parent for name in ("journal.jsonl", SEAL_NAME) for path in runs_dir.glob(f"*/{name}")})
    is_name = len(Path(experiment).parts) == 1 and not experiment.endswith((".yaml", ".yml"))
    if is_name and (runs_dir / experiment / SEAL_NAME).exists():
        return [run_folder(runs_dir, experiment)]
    return [read_experiment(experiment, str(runs_dir))[1].path.parent]


def _seals_in_mlflow(folder: Path, tracking_uri: str | None) -> Mapping[str, Seal] | TrackingError | None:
    """Of the store at hand, else of the one that the journal names; what went wrong when it cannot be asked."""
    from orchestrator.tracking.journal import Journal
    from orchestrator.tracking.review_store import seals_in

    try:
        view = Journal.read(folder)
        return seals_in(tracking_uri or view.spec.tracking.uri, view.spec.name)
    except TrackingError as error:
        return error
    except OrchestratorError:  # so damaged that it names no store
        if tracking_uri is None:
            return None
    try:
        return seals_in(tracking_uri, folder.name)
    except TrackingError as error:
        return error
