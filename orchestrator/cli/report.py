"""Show: ``report`` and ``ui``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.options import (
    as_json,
    experiment_argument,
    mixtures,
    overrides_argument,
    runs_dir_option,
    tracking_uri_option,
    warn,
)
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.ports import Evidence
    from orchestrator.report.history import History, LogLine
    from orchestrator.results import Verdict
    from orchestrator.spec import ExperimentSpec
    from orchestrator.tracking.chain import Entry
    from orchestrator.tracking.journal import JournalView


@click.command()
@experiment_argument
@overrides_argument
@runs_dir_option
@tracking_uri_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "md", "json"]),
    default="html",
    show_default=True,
    help="A page, a document, or records.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    help="File to write [default: report.html of the run, NAME-report.html for one from MLflow; md and json go to "
    "standard output].",
)
def report(
    experiment: str,
    overrides: tuple[str, ...],
    runs_dir: str,
    tracking_uri: str | None,
    form: str,
    output: str | None,
) -> None:
    """Write one self-contained page: verdict, curves, costs, frontier, checklist, trials, dollars, decisions."""
    from orchestrator.cli.compose import rates_of, read_experiment
    from orchestrator.experiment import decide_on

    spec, view = read_experiment(experiment, runs_dir, overrides, tracking_uri=tracking_uri)
    warn(view.warnings)
    verdict = decide_on(spec, view.data, view, rates_of(spec))
    warn(mixtures(view))
    text = _written(spec, view, verdict, form)
    if output is None and form != "html":
        click.echo(text, nl=not text.endswith("\n"))
        return
    # A journal that was read from MLflow has no run folder here.
    path = Path(output or f"{spec.name}-report.html") if output or tracking_uri else view.path.parent / "report.html"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}); name another file with -o") from error
    click.echo(str(path))


def _written(spec: ExperimentSpec, view: JournalView, verdict: Verdict, form: str) -> str:
    outcome = view.outcomes[-1] if view.outcomes else None
    history = history_of(view)
    if form == "html":
        from orchestrator.report.page import build_page

        return build_page(
            spec, view.data, view.results, verdict, outcome=outcome, reads=view.data_reads, history=history
        )
    from orchestrator.report.document import report_markdown, report_record

    if form == "json":
        return as_json(report_record(spec, view.data, view.results, verdict, view.outcomes, history))
    return report_markdown(spec, view.data, view.results, verdict, outcome, history)


def history_of(view: Evidence) -> History:
    """What the journal tells of how a verdict came about; what it does not tell is empty."""
    from orchestrator.report.history import History
    from orchestrator.results import TrialResult
    from orchestrator.tracking.journal import JournalView
    from orchestrator.tracking.records import from_plain

    if not isinstance(view, JournalView):  # evidence that is no journal has no lines to tell of
        return History(sweep_end=view.sweep_end, drills=view.drills)
    return History(
        sweep_end=view.sweep_end,
        drills=view.drills,
        log=tuple(line for entry in view.entries if (line := _log_line(entry)) is not None),
        attempts=tuple(from_plain(TrialResult, entry.payload) for entry in view.entries if entry.kind == "trial"),
        versions=view.versions,
        config_path=view.config_path,
        overrides=view.overrides,
        journal_digest=view.entries[-1].sha256 if view.entries else "",
        n_lines=len(view.entries),
    )


def _log_line(entry: Entry) -> LogLine | None:
    """What a line of the journal adds to the log of decisions; None for measurements."""
    from orchestrator.report.history import LogLine

    said: dict[str, Any] = entry.payload
    if entry.kind == "verdict":
        what = f"{said['kind']}, probability {said['probability']:.2f}"
        return LogLine(at=entry.at, what=what, reason=said["reason"], inputs_digest=said["inputs_digest"])
    if entry.kind == "approval":
        return LogLine(
            at=said["at"], what=said["decision"], by=said["by"], reason=said["reason"],
            override=said.get("override") or "", source=said.get("source") or "", inputs_digest=said["inputs_digest"],
        )  # fmt: skip
    if entry.kind in ("full_run_started", "outcome"):
        candidate = said["candidate"]
        began = "full run started" if entry.kind == "full_run_started" else "full run ended"
        return LogLine(at=entry.at, what=f"{began}: {candidate['model']} on {candidate['n_samples']:,} samples")
    return None


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
