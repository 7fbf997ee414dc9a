"""Show: ``report`` and ``ui``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click

from orchestrator.cli.options import (
    experiment_argument,
    mixtures,
    overrides_argument,
    runs_dir_option,
    warn,
)
from orchestrator.errors import UsageError


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
    warn(mixtures(view))
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
