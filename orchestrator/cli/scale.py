"""Answer and act: ``approve``, ``reject``, ``promote``."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from orchestrator.cli.console import Narrator
from orchestrator.cli.options import experiment_argument, runs_dir_option, together
from orchestrator.errors import ConfigError, InfeasibleError, NotApprovedError, TaskError

if TYPE_CHECKING:
    from orchestrator.cli.compose import LocatedData
    from orchestrator.experiment import Experiment
    from orchestrator.planner import ClusterCapacity
    from orchestrator.ports import Evidence
    from orchestrator.results import Approval, CandidateForecast, Outcome, Verdict
    from orchestrator.spec import ExperimentSpec
    from orchestrator.tracking.mlflow_tracker import MlflowTracker

_by_option = click.option("--by", default=None, help="Who answers; the login name if not given.")
_reason_option = click.option("--reason", default="", help="Why, for the record.")


@click.command()
@together(experiment_argument, runs_dir_option, _by_option, _reason_option)
def approve(experiment: str, runs_dir: str, by: str | None, reason: str) -> None:
    """Approve the standing verdict for promotion; the answer holds for exactly that verdict."""
    _answer(experiment, runs_dir, "approved", by, reason)


@click.command()
@together(experiment_argument, runs_dir_option, _by_option, _reason_option)
def reject(experiment: str, runs_dir: str, by: str | None, reason: str) -> None:
    """Reject the standing verdict; `promote` will refuse."""
    _answer(experiment, runs_dir, "rejected", by, reason)


def _answer(name: str, runs_dir: str, decision: Literal["approved", "rejected"], by: str | None, reason: str) -> None:
    from orchestrator.cli.compose import LocatedData, open_experiment, read_experiment

    spec, view = read_experiment(name, runs_dir)
    _standing_verdict(view, spec.name)
    located = LocatedData(summary=view.data, root=None)
    with open_experiment(spec, located, config=view.config_path or name, narrator=Narrator()) as (experiment, tracker):
        tracker.open(spec, view.data, view.results)
        verdict = _record_answer(experiment, decision, by, reason)
    click.echo(f"{decision}: {verdict.kind} of {verdict.best.candidate}")


def _record_answer(
    experiment: Experiment, decision: Literal["approved", "rejected"], by: str | None, reason: str
) -> Verdict:
    from orchestrator.experiment import approve as record
    from orchestrator.results import Approval

    verdict = _standing_verdict(experiment.journal.view, experiment.spec.name)
    record(
        experiment,
        Approval(
            decision=decision,
            by=by or getpass.getuser(),
            reason=reason,
            inputs_digest=verdict.inputs_digest,
            at=experiment.now(),
        ),
    )
    return verdict


def _standing_verdict(evidence: Evidence, name: str) -> Verdict:
    if evidence.verdict is None:
        raise NotApprovedError(f"experiment {name} has no verdict yet; run `sweep` to its end first")
    return evidence.verdict


@click.command()
@together(experiment_argument, runs_dir_option, _by_option, _reason_option)
@click.option("-y", "--yes", is_flag=True, help="Approve and start without asking.")
@click.option("--workers", type=click.IntRange(min=1), help="Worker count, if not the recommended one.")
@click.option("--override", metavar="REASON", help="Start although the verdict is not PROMOTE; the reason is recorded.")
def promote(
    experiment: str, runs_dir: str, by: str | None, reason: str, yes: bool, workers: int | None, override: str | None
) -> None:
    """Train the recommended candidate at full scale, and put the outcome beside its forecast."""
    from orchestrator.cli.compose import locate_data, open_experiment, read_experiment

    narrator = Narrator()
    spec, view = read_experiment(experiment, runs_dir)
    verdict = _standing_verdict(view, spec.name)
    forecast = _chosen(verdict, workers)
    _require_leave(verdict, view.approval, override)
    if view.approval is None:
        _ask(forecast, verdict, yes)
    located = locate_data(spec, narrator.say)
    if located.summary.fingerprint != view.data.fingerprint:
        raise NotApprovedError(
            f"the data changed since the verdict: fingerprint {view.data.fingerprint[:12]} then, "
            f"{located.summary.fingerprint[:12]} now; sweep again"
        )
    with open_experiment(spec, located, config=view.config_path or experiment, narrator=narrator) as (opened, tracker):
        tracker.open(spec, located.summary, view.results)
        if view.approval is None:
            _record_answer(opened, "approved", by, override or reason)
        outcome = run_full(opened, located, tracker, forecast)
    click.echo(outcome_text(outcome, verdict.metric))


def _chosen(verdict: Verdict, workers: int | None) -> CandidateForecast:
    best = verdict.best
    if workers is None or workers == best.candidate.workers:
        return best
    same = [c for c in verdict.candidates if c.candidate.model == best.candidate.model]
    for candidate in same:
        if candidate.candidate.workers == workers and candidate.candidate.purchase == best.candidate.purchase:
            return candidate
    counts = sorted({candidate.candidate.workers for candidate in same})
    raise InfeasibleError(f"--workers {workers} was not forecast; full_run.workers has {counts}")


def _require_leave(verdict: Verdict, approval: Approval | None, override: str | None) -> None:
    if approval is not None and approval.decision == "rejected":
        because = f": {approval.reason}" if approval.reason else ""
        raise NotApprovedError(f"{approval.by} rejected this verdict{because}; `approve` it first, or sweep again")
    if verdict.kind == "PROMOTE" or override:
        return
    vetoes = "".join(f"\n  veto {veto.name}: {veto.reason}; {veto.way_out}" for veto in verdict.vetoes)
    raise NotApprovedError(
        f"the verdict is {verdict.kind}, not PROMOTE: {verdict.reason}{vetoes}\n"
        "  to start all the same, give --override REASON, which is recorded"
    )


def _ask(forecast: CandidateForecast, verdict: Verdict, yes: bool) -> None:
    from orchestrator.intervals import format_usd

    if yes:
        return
    if not sys.stdin.isatty():
        raise NotApprovedError(
            "nobody approved this verdict and there is no terminal to ask on; `approve` it, or give -y"
        )
    cost = forecast.cost_usd
    question = (
        f"{verdict.reason}\nStart {forecast.candidate} for {format_usd(cost.median)} (up to {format_usd(cost.high)})?"
    )
    if not click.confirm(question, err=True):
        raise NotApprovedError("not approved; nothing was started")


def promote_when_allowed(
    experiment: Experiment, located: LocatedData, tracker: MlflowTracker, verdict: Verdict
) -> None:
    """After a sweep: start the full run when the config says ``approval: auto`` and the verdict is PROMOTE."""
    if verdict.kind != "PROMOTE" or experiment.spec.decision.approval != "auto":
        return
    # By model and rows: what the first full run taught of time may recommend another worker count for the same model.
    promoted = {(done.candidate.model, done.candidate.n_samples) for done in experiment.journal.view.outcomes}
    if (verdict.best.candidate.model, verdict.best.candidate.n_samples) in promoted:
        experiment.console.say("this model was promoted on these rows before; its outcome is in `history`")
        return
    approval = experiment.journal.view.approval
    if approval is not None and approval.decision == "rejected":
        experiment.console.say(
            f"not promoted: {approval.by} rejected this verdict; `approve` and `promote` it to go on"
        )
        return
    if approval is None:
        _record_answer(experiment, "approved", "decision.approval: auto", "as configured")
    outcome = run_full(experiment, located, tracker, verdict.best)
    click.echo(outcome_text(outcome, verdict.metric))


def run_full(
    experiment: Experiment, located: LocatedData, tracker: MlflowTracker, forecast: CandidateForecast
) -> Outcome:
    """The full run on Ray Train, its outcome and its registered model. Raises ConfigError, TaskError, BudgetError."""
    from orchestrator.backends.cluster import RayCluster, is_remote, local_capacity
    from orchestrator.cli.compose import register_model, render_review
    from orchestrator.experiment import check_budget
    from orchestrator.experiment import promote as run_promotion

    spec, narrator = experiment.spec, experiment.console
    check_budget(experiment, forecast)
    if not is_remote():
        _require_capacity(local_capacity(), spec, forecast)
    narrator.say("starting Ray for the full run")
    cluster = RayCluster.connect()
    try:
        _require_capacity(cluster.capacity, spec, forecast)
        from orchestrator.backends.ray_train import RayTrainRunner

        storage = Path(spec.runs_dir) / spec.name / "full_run"
        runner = RayTrainRunner(
            spec, fingerprint=located.summary.fingerprint, data_root=located.root, storage_path=storage
        )
        outcome = run_promotion(experiment, runner, forecast)
    finally:
        cluster.close()
    try:
        register_model(spec, located, outcome, tracker)
        narrator.say(f"model registered in MLflow as {spec.name}")
    except TaskError as error:
        narrator.say(f"not registered: {error}")
    verdict = experiment.journal.view.verdict
    if verdict is not None:
        tracker.verdict_reached(verdict, render_review(spec, located.summary, experiment.journal.view, verdict))
    return outcome


def _require_capacity(capacity: ClusterCapacity, spec: ExperimentSpec, forecast: CandidateForecast) -> None:
    """Raises ConfigError: the cluster cannot hold the candidate's workers."""
    from dataclasses import replace

    from orchestrator.planner import infeasible_workers

    asked = replace(spec, full_run=replace(spec.full_run, workers=(forecast.candidate.workers,)))
    faults = infeasible_workers(asked, capacity, full_run_is_local=True)
    own = tuple(fault for fault in faults if fault.key.startswith("full_run"))
    if own:
        raise ConfigError(spec.name, own)


def outcome_text(outcome: Outcome, metric: Literal["accuracy", "loss"]) -> str:
    """Forecast beside outcome, a line each."""
    from orchestrator.report.wording import OUTCOME_HEADER, outcome_rows, plain_table

    table = plain_table(OUTCOME_HEADER, outcome_rows(outcome, metric))
    return f"full run of {outcome.candidate}\n{table}\ncheckpoint: {outcome.checkpoint_path}"
