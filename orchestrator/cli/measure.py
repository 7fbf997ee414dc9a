"""Look before leaping, and measure: ``plan``, ``sweep``, ``config schema``."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from orchestrator.cli.console import Narrator
from orchestrator.cli.options import config_argument, exit_code_option, format_option, overrides_argument

if TYPE_CHECKING:
    from orchestrator.cli.compose import LocatedData
    from orchestrator.experiment import Experiment
    from orchestrator.results import Approval, SweepEnd, Verdict
    from orchestrator.spec import ExperimentSpec
    from orchestrator.tracking.mlflow_tracker import MlflowTracker


@click.command()
@config_argument
@overrides_argument
@format_option
def plan(config: str, overrides: tuple[str, ...], form: str) -> None:
    """Trials, dollars, hours, disk and checklist of a sweep; nothing is trained."""
    from orchestrator.cli.compose import locate_data, rates_of
    from orchestrator.cli.planning import describe_plan
    from orchestrator.cli.preflight import preflight, require_rows
    from orchestrator.config import load_config

    spec = load_config(Path(config), overrides)
    preflight(spec, config)
    located = locate_data(spec, Narrator().say)
    require_rows(spec, config, located.summary)
    click.echo(describe_plan(spec, located.summary, rates_of(spec), form))


@click.command()
@config_argument
@overrides_argument
@exit_code_option
@click.option("--dry-run", is_flag=True, help="Only plan; the same as `plan`.")
@click.option("--wait", is_flag=True, help="After a PROMOTE wait for its answer, in MLflow or by `approve`.")
@click.pass_context
def sweep(
    context: click.Context, config: str, overrides: tuple[str, ...], exit_code: bool, dry_run: bool, wait: bool
) -> None:
    """Measure on small fractions, forecast, price, and give the verdict.

    Ctrl-C lets running trials end and stops; a second Ctrl-C stops at once. The same command goes on where it was.
    """
    if dry_run:
        context.invoke(plan, config=config, overrides=overrides, form="table")
        return
    from orchestrator.cli.scale import promote_after_answer
    from orchestrator.config import load_config
    from orchestrator.report.markdown import verdict_text

    spec = load_config(Path(config), overrides)
    with Narrator() as narrator:
        located, experiment, tracker, verdict = _swept(spec, config, overrides, narrator)
    click.echo(verdict_text(verdict))
    _tell_where_to_look(experiment, tracker)
    view = experiment.journal.view
    if wait and verdict.kind == "PROMOTE" and view.approval is None:
        promote_after_answer(spec, located, narrator, config=config)
    if exit_code:
        sys.exit(exit_code_of(verdict, view.approval, view.sweep_end))


def _swept(
    spec: ExperimentSpec, config: str, overrides: Sequence[str], narrator: Narrator
) -> tuple[LocatedData, Experiment, MlflowTracker, Verdict]:
    """The sweep, and the full run when the config promotes by itself. Raises SystemExit: the user stopped it."""
    from orchestrator.cli.compose import locate_data, open_experiment, ray_sweep_runner
    from orchestrator.cli.preflight import preflight, require_rows
    from orchestrator.cli.scale import promote_when_allowed
    from orchestrator.experiment import sweep as run_sweep

    preflight(spec, config)
    narrator.say(f"experiment {spec.name}: preparing data from {spec.data.source}")
    located = locate_data(spec, narrator.say)
    summary = located.summary
    narrator.say(
        f"data: {summary.n_train:,} training and {summary.n_validation:,} validation rows, "
        f"{len(summary.class_counts)} classes, fingerprint {summary.fingerprint[:12]}"
    )
    require_rows(spec, config, summary)
    with (
        _drain_on_interrupt(narrator) as drain,
        open_experiment(
            spec, located, config=config, narrator=narrator, overrides=overrides, draining=drain.is_asked
        ) as (experiment, tracker),
    ):
        verdict = run_sweep(experiment, ray_sweep_runner(spec, located, config, drain.is_asked))
        if verdict is None:
            sys.exit(130)
        promote_when_allowed(experiment, located, tracker, verdict, narrator)
    return located, experiment, tracker, verdict


def exit_code_of(verdict: Verdict, approval: Approval | None, end: SweepEnd | None = None) -> int:
    """0 promote, 10 hold, 11 reject (the verdict, or a person's answer to it), 12 promote that awaits its answer.

    20 where a cap ended the sweep before the verdict was settled.
    """
    if verdict.kind == "HOLD" and end is not None and end.cause == "cap reached":
        return 20
    if verdict.kind == "PROMOTE":
        if approval is None or approval.inputs_digest != verdict.inputs_digest:
            return 12
        return 0 if approval.decision == "approved" else 11
    return {"HOLD": 10, "REJECT": 11}[verdict.kind]


def _tell_where_to_look(experiment: Experiment, tracker: MlflowTracker) -> None:
    spec = experiment.spec
    click.echo(f"\nreport:   python -m orchestrator report {spec.name} --runs-dir {spec.runs_dir}")
    click.echo(f"MLflow:   python -m orchestrator ui {spec.name} --runs-dir {spec.runs_dir}")
    if tracker.review_path:
        click.echo(f"          then http://127.0.0.1:5000/{tracker.review_path}")


class _Drain:
    """Whether the user asked to stop."""

    def __init__(self) -> None:
        self._asked = False

    def is_asked(self) -> bool:
        return self._asked

    def ask(self) -> None:
        self._asked = True


@contextmanager
def _drain_on_interrupt(narrator: Narrator) -> Iterator[_Drain]:
    """The first Ctrl-C drains; the second interrupts as usual."""
    drain = _Drain()

    def handle(signum: int, frame: FrameType | None) -> None:
        if drain.is_asked():
            raise KeyboardInterrupt
        drain.ask()
        narrator.say("stopping: running trials end, no new one starts; Ctrl-C again stops at once")

    def resend(unraisable: sys.UnraisableHookArgs) -> None:
        """An interrupt that falls into a destructor, Ray's for one, is lost there behind a traceback: send it again."""
        if unraisable.exc_type is KeyboardInterrupt:
            threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            hook(unraisable)

    before, hook = signal.signal(signal.SIGINT, handle), sys.unraisablehook
    sys.unraisablehook = resend
    try:
        yield drain
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGINT, before)


@click.group("config")
def config_group() -> None:
    """What may stand in a config."""


@config_group.command()
def schema() -> None:
    """JSON Schema of a config."""
    from orchestrator.config import config_schema

    click.echo(json.dumps(config_schema(), indent=2))
