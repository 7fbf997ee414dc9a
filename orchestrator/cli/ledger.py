"""Look back: ``status`` of an experiment and the ``history`` of full runs."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.cli.options import (
    as_json,
    experiment_argument,
    format_option,
    mixtures,
    runs_dir_option,
)


@click.command()
@experiment_argument
@runs_dir_option
@format_option
def status(experiment: str, runs_dir: str, form: str) -> None:
    """Where an experiment stands: trials, dollars, verdict, approval, full run."""
    from orchestrator.cli.compose import answer_of, read_experiment
    from orchestrator.intervals import format_usd
    from orchestrator.planner import plan_grid
    from orchestrator.spec import trial_key

    spec, view = read_experiment(experiment, runs_dir)
    plan = {trial_key(spec, view.data.fingerprint, trial) for trial in plan_grid(spec, view.data)}
    finished = {result.key for result in view.results if result.status == "finished"}
    failed = [result for result in view.results if result.status == "failed"]
    answers = {
        "experiment": spec.name,
        "journal": str(view.path),
        "trials": f"{len(plan & finished)} of {len(plan)} finished, {len(failed)} failed",
        "sweep spent": format_usd(sum(result.cost_usd for result in view.results)),
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
@click.option("--runs-dir", default="runs", show_default=True, help="Folder of the journals.")
@format_option
def history(runs_dir: str, form: str) -> None:
    """Every full run beside its forecast, and how often the 90% intervals held."""
    from orchestrator.calibration import coverage
    from orchestrator.report.wording import OUTCOME_HEADER, outcome_rows, plain_table
    from orchestrator.results import Outcome
    from orchestrator.spec import Metric
    from orchestrator.tracking.journal import Journal

    ledger: list[tuple[str, Outcome]] = []
    metrics: dict[str, Metric] = {}
    for path in sorted(Path(runs_dir).glob("*/journal.jsonl")):
        view, name = Journal.read(path.parent), path.parent.name
        if view.outcomes:
            metrics[name] = view.spec.decision.metric
            ledger += [(name, outcome) for outcome in view.outcomes]
    if form == "json":
        click.echo(as_json([{"experiment": name, "outcome": outcome} for name, outcome in ledger]))
        return
    if not ledger:
        click.echo(f"no full run has ended yet in {Path(runs_dir).absolute()}")
        return

    for name, outcome in ledger:
        click.echo(f"{outcome.finished_at}  {name}: {outcome.candidate}")
        click.echo(plain_table(OUTCOME_HEADER, outcome_rows(outcome, metrics[name])))
    found = coverage([outcome for _, outcome in ledger])
    for label, rate in (("metric", found.metric), ("time", found.wall_time), ("dollars", found.cost)):
        click.echo(
            f"{label}: {rate.hits} of {rate.n} in the 90% interval (true share {rate.low:.2f} to {rate.high:.2f})"
        )
