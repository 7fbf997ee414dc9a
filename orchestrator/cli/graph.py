"""``graph``: the stages of an experiment and where it stands."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.cli.options import as_json, experiment_argument, format_option, runs_dir_option
from orchestrator.errors import UnknownExperimentError


@click.command()
@experiment_argument
@runs_dir_option
@format_option
def graph(experiment: str, runs_dir: str, form: str) -> None:
    """The stages from source to ledger, what each takes and gives, and which comes next."""
    from orchestrator.cli.compose import read_experiment
    from orchestrator.config import load_config
    from orchestrator.report.stages import STAGE_HEADER, mermaid, stages
    from orchestrator.report.wording import plain_table

    try:
        spec, view = read_experiment(experiment, runs_dir)
    except UnknownExperimentError:
        if not experiment.endswith((".yaml", ".yml")):
            raise
        found = stages(load_config(Path(experiment)), None, None)
    else:
        found = stages(spec, view.data, view, is_full_run_open=view.is_full_run_open)
    rows = [(stage.name, stage.state, stage.takes, stage.gives) for stage in found]
    if form == "json":
        click.echo(as_json({"stages": list(found)}))
    elif form == "md":
        click.echo(mermaid(found))
    else:
        click.echo(plain_table(STAGE_HEADER, rows, indent=""))
