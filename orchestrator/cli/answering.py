"""Answer a verdict on the command line: ``approve``, ``reject``; and writing an answer down, wherever it came from."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import click

from orchestrator.cli.console import Narrator
from orchestrator.cli.options import experiment_argument, runs_dir_option, together
from orchestrator.errors import NotApprovedError

if TYPE_CHECKING:
    from orchestrator.experiment import Experiment
    from orchestrator.ports import Evidence
    from orchestrator.results import Verdict
    from orchestrator.spec import ExperimentSpec
    from orchestrator.tracking.journal import JournalView
    from orchestrator.tracking.mlflow_tracker import MlflowTracker

AnswerSource = Literal["command line", "MLflow tag", "config"]

by_option = click.option("--by", default=None, help="Who answers; the login name if not given.")
reason_option = click.option("--reason", default="", help="Why, for the record.")


override_option = click.option(
    "--override", metavar="REASON", help="Go on although the verdict is not PROMOTE; the reason is recorded."
)


@click.command()
@together(experiment_argument, runs_dir_option, by_option, reason_option, override_option)
def approve(experiment: str, runs_dir: str, by: str | None, reason: str, override: str | None) -> None:
    """Approve the standing verdict for promotion; the answer holds for exactly that verdict."""
    _answer(experiment, runs_dir, "approved", by, reason, override)


@click.command()
@together(experiment_argument, runs_dir_option, by_option, reason_option)
def reject(experiment: str, runs_dir: str, by: str | None, reason: str) -> None:
    """Reject the standing verdict; `promote` will refuse."""
    _answer(experiment, runs_dir, "rejected", by, reason)


def _answer(
    name: str,
    runs_dir: str,
    decision: Literal["approved", "rejected"],
    by: str | None,
    reason: str,
    override: str | None = None,
) -> None:
    from orchestrator.cli.compose import read_experiment

    spec, view = read_experiment(name, runs_dir)
    verdict = standing_verdict(view, spec.name)
    if decision == "approved" and verdict.kind != "PROMOTE" and not (override or "").strip():
        raise NotApprovedError(not_promote(verdict))
    with opened_for_answer(spec, view, view.config_path or name, Narrator()) as (experiment, _):
        if standing_verdict(experiment.journal.view, spec.name).inputs_digest != verdict.inputs_digest:
            raise NotApprovedError("another verdict was reached in the meantime; look at it, and answer that")
        record_answer(experiment, decision, by or getpass.getuser(), reason or override or "", override=override)
    click.echo(f"{decision}: {verdict.kind} of {verdict.best.candidate}")


@contextmanager
def opened_for_answer(
    spec: ExperimentSpec, view: JournalView, config: str, narrator: Narrator
) -> Iterator[tuple[Experiment, MlflowTracker]]:
    """The experiment for writing an answer down; nothing is trained, so its data need not be there."""
    from orchestrator.cli.compose import LocatedData, open_experiment

    located = LocatedData(summary=view.data, root=None)
    with open_experiment(spec, located, config=config, narrator=narrator) as (experiment, tracker):
        tracker.open(spec, view.data, view.results)
        yield experiment, tracker


def record_answer(
    experiment: Experiment,
    decision: Literal["approved", "rejected"],
    by: str,
    reason: str,
    *,
    override: str | None = None,
    source: AnswerSource = "command line",
) -> None:
    from orchestrator.experiment import approve as record
    from orchestrator.results import Approval

    verdict = standing_verdict(experiment.journal.view, experiment.spec.name)
    record(
        experiment,
        Approval(
            decision=decision,
            by=by,
            reason=reason,
            inputs_digest=verdict.inputs_digest,
            at=experiment.now(),
            override=override if decision == "approved" and verdict.kind != "PROMOTE" else None,
            source=source,
        ),
    )


def standing_verdict(evidence: Evidence, name: str) -> Verdict:
    if evidence.verdict is None:
        raise NotApprovedError(f"experiment {name} has no verdict yet; run `sweep` to its end first")
    return evidence.verdict


def not_promote(verdict: Verdict) -> str:
    """Why a verdict that is not PROMOTE starts nothing by itself, with its vetoes and the way out."""
    vetoes = "".join(f"\n  veto {veto.name}: {veto.reason}; {veto.way_out}" for veto in verdict.vetoes)
    return (
        f"the verdict is {verdict.kind}, not PROMOTE: {verdict.reason}{vetoes}\n"
        "  to start all the same, give --override REASON, which is recorded"
    )
