"""Rehearse what must work when it is needed: ``drill`` and ``alert test``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.console import Narrator
from orchestrator.cli.options import as_json, experiment_argument, format_option, overrides_argument, runs_dir_option
from orchestrator.cli.rehearse import HOW_TO_SET_UP, NAMES, Name, rehearse

if TYPE_CHECKING:
    from orchestrator.experiment import Experiment
    from orchestrator.results import Drill
    from orchestrator.spec import ExperimentSpec
    from orchestrator.tracking.journal import JournalView


@click.command("drill")
@experiment_argument
@runs_dir_option
@click.option(
    "--only", type=click.Choice(NAMES), multiple=True, help="Rehearse only this; may be given more than once."
)
@format_option
def drill_command(experiment: str, runs_dir: str, only: tuple[Name, ...], form: str) -> None:
    """Rehearse alert, restart and restore for real; what came of each goes into the checklist.

    alert sends a test message to every channel. restart trains a small full run, kills its worker after the first
    checkpoint and watches whether another one goes on from there. restore loads the last checkpoint in a fresh process
    and evaluates it. They work in a folder of their own, which is removed; a real full run is never touched.
    """
    from orchestrator.cli.compose import locate_data, open_experiment

    narrator = Narrator()
    spec, view = _known(experiment, runs_dir, ())
    located = locate_data(spec, narrator.say)
    wanted = [name for name in NAMES if not only or name in only]
    config = (view.config_path if view else None) or experiment
    # Ray tells of the worker's death on stdout, where only results belong.
    quiet = redirect_stdout(sys.stderr)
    with open_experiment(spec, located, config=config, narrator=narrator) as (opened, _), quiet:
        drills = [_recorded(opened, drill) for drill in rehearse(opened, located, wanted)]
    if form == "json":
        click.echo(as_json({"experiment": spec.name, "drills": drills}))
    else:
        click.echo(_text(drills) if form == "table" else _markdown(drills))
    if not all(drill.passed for drill in drills):
        sys.exit(1)


@click.group("alert")
def alert_group() -> None:
    """The channels that are told what happens."""


@alert_group.command("test")
@experiment_argument
@overrides_argument
@runs_dir_option
def alert_test(experiment: str, overrides: tuple[str, ...], runs_dir: str) -> None:
    """Send a test message to every channel of a config, and tell which answered; nothing is recorded."""
    from orchestrator.cli.compose import channels_of
    from orchestrator.errors import UsageError
    from orchestrator.operations.alerts import Webhooks

    spec, view = _known(experiment, runs_dir, overrides)
    channels = channels_of(spec, (view.config_path if view else None) or experiment)
    if not channels:
        raise UsageError(f"experiment {spec.name} has no alert channel; {HOW_TO_SET_UP}")
    found = Webhooks(spec.name, channels).test()
    for delivery in found:
        click.echo(f"{'answered' if delivery.answered else 'FAILED':<9} {delivery}")
    if not all(delivery.answered for delivery in found):
        sys.exit(1)


def _known(experiment: str, runs_dir: str, overrides: tuple[str, ...]) -> tuple[ExperimentSpec, JournalView | None]:
    """The experiment as recorded, or a config that was not swept yet."""
    from orchestrator.cli.compose import read_experiment
    from orchestrator.cli.preflight import preflight
    from orchestrator.config import load_config
    from orchestrator.errors import UnknownExperimentError

    try:
        return read_experiment(experiment, runs_dir, overrides)
    except UnknownExperimentError:
        if Path(experiment).suffix not in {".yaml", ".yml"}:
            raise
        spec = load_config(Path(experiment), overrides)
        preflight(spec, experiment)
        return spec, None


def _recorded(experiment: Experiment, drill: Drill) -> Drill:
    experiment.journal.append("drill", drill)
    experiment.console.say(f"{drill.name} {'passed' if drill.passed else 'FAILED'}: {drill.evidence}")
    return drill


def _text(drills: Sequence[Drill]) -> str:
    from textwrap import fill

    if not drills:
        return "nothing was rehearsed"
    lines = [f"{'passed' if each.passed else 'FAILED':<8} {each.name:<8} {each.evidence}" for each in drills]
    return "\n".join(fill(line, 110, subsequent_indent=" " * 18) for line in lines)


def _markdown(drills: Sequence[Drill]) -> str:
    rows = [f"| {each.name} | {'passed' if each.passed else 'FAILED'} | {each.evidence} |" for each in drills]
    return "\n".join(["| drill | result | evidence |", "|---|---|---|", *rows])
