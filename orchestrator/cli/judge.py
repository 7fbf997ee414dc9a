"""Read and ask: ``decide``, ``what-if``, ``report``, ``ui``, ``status``, ``history``, without torch or Ray."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.options import (
    as_json,
    exit_code_option,
    experiment_argument,
    format_option,
    overrides_argument,
    runs_dir_option,
)
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.tracking.journal import JournalView


@click.command("decide")
@experiment_argument
@overrides_argument
@runs_dir_option
@format_option
@exit_code_option
def decide_command(experiment: str, overrides: tuple[str, ...], runs_dir: str, form: str, exit_code: bool) -> None:
    """The verdict from stored evidence, under changed thresholds or prices if you like; nothing is trained."""
    from orchestrator.cli.compose import rates_of, read_experiment
    from orchestrator.cli.measure import exit_code_of
    from orchestrator.experiment import decide_on
    from orchestrator.report.markdown import verdict_markdown, verdict_text

    spec, view = read_experiment(experiment, runs_dir, overrides)
    _warn(view.warnings)
    verdict = decide_on(spec, view.data, view, rates_of(spec))
    _warn(_mixtures(view))
    show = {"table": verdict_text, "md": verdict_markdown, "json": as_json}[form]
    click.echo(show(verdict))
    if overrides and view.verdict is not None:
        click.echo(f"\nstanding verdict: {view.verdict.kind}, P {view.verdict.probability:.3f} (not changed)", err=True)
    if exit_code:
        sys.exit(exit_code_of(verdict, view.approval))


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


def _mixtures(view: JournalView) -> tuple[str, ...]:
    """Trials that do not count because they are of other data, when there are some."""
    from orchestrator.evidence import mixture

    mixed = mixture(view.data, view.results)
    return () if mixed is None else (mixed,)


@click.command("what-if")
@experiment_argument
@overrides_argument
@runs_dir_option
@format_option
def what_if(experiment: str, overrides: tuple[str, ...], runs_dir: str, form: str) -> None:
    """The verdict under changed keys beside the one as configured, and the changed bill; nothing is written or trained.

    For example: what-if digits pricing.purchase=spot full_run.deadline_h=2
    """
    from orchestrator.cli.compose import rates_of, read_experiment
    from orchestrator.experiment import decide_on
    from orchestrator.report.markdown import bill_text, comparison_markdown, comparison_text

    if not overrides:
        raise UsageError("what-if needs at least one KEY=VALUE, such as pricing.purchase=spot")
    spec, view = read_experiment(experiment, runs_dir)
    changed, _ = read_experiment(experiment, runs_dir, overrides)
    _warn(view.warnings)
    standing = decide_on(spec, view.data, view, rates_of(spec))
    other = decide_on(changed, view.data, view, rates_of(changed))
    _warn(_mixtures(view))
    if form == "json":
        click.echo(as_json({"as_configured": standing, "what_if": other}))
        return
    compare = comparison_text if form == "table" else comparison_markdown
    click.echo(compare("as configured", standing, "what if", other))
    bill = f"what if: {bill_text(other.best)}"
    click.echo(f"\n{bill}" if form == "table" else f"\n```\n{bill}\n```")


@click.command()
@experiment_argument
@overrides_argument
@runs_dir_option
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), help="File to write [default: report.html of the run]."
)
def report(experiment: str, overrides: tuple[str, ...], runs_dir: str, output: str | None) -> None:
    """Write one self-contained HTML page: verdict, curves, costs, checklist, trials."""
    from orchestrator.cli.compose import rates_of, read_experiment
    from orchestrator.experiment import decide_on
    from orchestrator.report.page import build_page

    spec, view = read_experiment(experiment, runs_dir, overrides)
    verdict = decide_on(spec, view.data, view, rates_of(spec))
    _warn(_mixtures(view))
    outcome = view.outcomes[-1] if view.outcomes else None
    path = Path(output) if output else view.path.parent / "report.html"
    page = build_page(spec, view.data, view.results, verdict, outcome=outcome, reads=view.data_reads)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}); name another file with -o") from error
    click.echo(str(path))


@click.command()
@experiment_argument
@runs_dir_option
@click.option("--port", default=5000, show_default=True, help="Port on 127.0.0.1.")
def ui(experiment: str, runs_dir: str, port: int) -> None:
    """Serve the MLflow UI of an experiment's tracking store on this machine, until Ctrl-C."""
    from orchestrator.cli.compose import read_experiment
    from orchestrator.config import load_config

    is_config = experiment.endswith((".yaml", ".yml"))
    spec = load_config(Path(experiment)) if is_config else read_experiment(experiment, runs_dir)[0]
    if spec.tracking.uri.startswith(("http://", "https://")):
        click.echo(f"the tracking store is a server already: {spec.tracking.uri}")
        return
    mlflow = shutil.which("mlflow", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    # Without job execution the server is 2 processes instead of 10, of 250 MB each.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command = [mlflow or "mlflow", "server", "--backend-store-uri", spec.tracking.uri, "--host", "127.0.0.1"]
    click.echo(f"MLflow UI on http://127.0.0.1:{port} (starting takes about 10 s; Ctrl-C ends it)", err=True)
    sys.exit(subprocess.run([*command, "--port", str(port)], env=environment, check=False).returncode)


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
        "warnings": "; ".join((*view.warnings, *_mixtures(view))) or "none",
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
