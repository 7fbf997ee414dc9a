"""Act on a verdict: ``promote``, at once, after an answer, or by itself after a sweep."""

from __future__ import annotations

import getpass
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from orchestrator.cli.answering import (
    approve,
    by_option,
    not_promote,
    opened_for_answer,
    override_option,
    reason_option,
    record_answer,
    reject,
    standing_verdict,
)
from orchestrator.cli.console import Narrator
from orchestrator.cli.full_run import outcome_text, run_full
from orchestrator.cli.inputs import require_same_inputs, require_same_training
from orchestrator.cli.options import experiment_argument, runs_dir_option, together
from orchestrator.cli.waiting import REJECTED_EXIT_CODE, answer_in_mlflow, wait_for_answer
from orchestrator.errors import InfeasibleError, NotApprovedError, UsageError

if TYPE_CHECKING:
    from orchestrator.approval import Answer
    from orchestrator.cli.compose import LocatedData
    from orchestrator.experiment import Experiment
    from orchestrator.results import Approval, CandidateForecast, Verdict
    from orchestrator.spec import ExperimentSpec
    from orchestrator.tracking.journal import JournalView
    from orchestrator.tracking.mlflow_tracker import MlflowTracker

__all__ = [
    "approve",
    "promote",
    "promote_after_answer",
    "promote_when_allowed",
    "reject",
    "run_full",
    "wait_for_answer",
]


@click.command()
@together(experiment_argument, runs_dir_option, by_option, reason_option, override_option)
@click.option("-y", "--yes", is_flag=True, help="Approve and start without asking.")
@click.option("--workers", type=click.IntRange(min=1), help="Worker count, if not the recommended one.")
@click.option("--wait", is_flag=True, help="Wait until somebody answers, in MLflow or with `approve` or `reject`.")
@click.option("--timeout-s", type=click.FloatRange(min=0), help="Longest wait; then exit code 12.")
def promote(
    experiment: str,
    runs_dir: str,
    by: str | None,
    reason: str,
    yes: bool,
    workers: int | None,
    override: str | None,
    wait: bool,
    timeout_s: float | None,
) -> None:
    """Train the recommended candidate at full scale, and put the outcome beside its forecast.

    An answer that somebody gave in MLflow, in the tag approval, counts like `approve` and `reject`. With --wait, a
    rejection ends the waiting with exit code 11.
    """
    from orchestrator.cli.compose import locate_data, read_experiment

    if wait and (yes or override):
        raise UsageError("--wait waits for somebody's answer; -y and --override are answers: give one or the other")
    if timeout_s is not None and not wait:
        raise UsageError("--timeout-s is how long --wait waits; give --wait too")
    narrator = Narrator()
    spec, view = read_experiment(experiment, runs_dir)
    verdict = standing_verdict(view, spec.name)
    config = view.config_path or experiment
    started = _unfinished(view, workers)
    if started is None:
        forecast = _chosen(verdict, workers)
        require_same_inputs(spec, view, verdict)
        if wait:
            view = _waited(spec, view, narrator, config, timeout_s)
            verdict = standing_verdict(view, spec.name)
            forecast = _chosen(verdict, workers)
            require_same_inputs(spec, view, verdict)
        else:
            view = _heard(spec, view, narrator, config)
        _require_leave(verdict, view.approval, override)
        is_other = forecast.candidate != verdict.best.candidate
        if is_other:
            _require_in_limits(spec, view, forecast, override)
        if view.approval is None or is_other:  # an approval is of the recommended candidate
            _ask(forecast, verdict, yes)
    else:
        require_same_training(spec, view)
        narrator.say(f"going on with the full run that was started and has not ended: {started.candidate}")
        forecast = started
    located = locate_data(spec, narrator.say)
    _require_same_data(view, located)
    _run_approved(
        spec, view, located, narrator, forecast, config=config, by=by or getpass.getuser(), reason=reason,
        override=override,
    )  # fmt: skip


def _run_approved(
    spec: ExperimentSpec,
    view: JournalView,
    located: LocatedData,
    narrator: Narrator,
    forecast: CandidateForecast,
    *,
    config: str,
    by: str = "",
    reason: str = "",
    override: str | None = None,
) -> None:
    """Write the answer down where it is not yet, and train. ``view`` is of before the journal was opened."""
    from orchestrator.cli.compose import open_experiment

    verdict = standing_verdict(view, spec.name)
    with open_experiment(spec, located, config=config, narrator=narrator) as (opened, tracker):
        tracker.open(spec, located.summary, view.results)
        approval = opened.journal.view.approval
        _require_standing(opened, verdict)
        if len(opened.journal.view.outcomes) > len(view.outcomes):
            raise NotApprovedError("a full run of this verdict ended in the meantime; `sweep` again for a new verdict")
        _require_leave(verdict, approval, override)
        if approval is None or (override and verdict.kind != "PROMOTE" and approval.override is None):
            record_answer(opened, "approved", by, reason or override or "", override=override)
        else:
            tracker.approval_given(approval)  # the store may have been away when it was given
        tracker.settle()
        outcome = run_full(opened, located, tracker, forecast)
    click.echo(outcome_text(outcome, verdict.metric))


def promote_after_answer(
    spec: ExperimentSpec,
    located: LocatedData,
    narrator: Narrator,
    *,
    config: str,
    timeout_s: float | None = None,
) -> None:
    """Wait for an answer to the standing verdict, and train when it is an approval; for `sweep --wait`.

    Call it with the run folder closed: nothing is locked while it waits.

    Raises: SystemExit: 11 when somebody rejected the verdict, 12 when nobody answered in time. NotApprovedError: the
        inputs changed while it waited.
    """
    from orchestrator.tracking.journal import Journal, run_folder

    view = _waited(spec, Journal.read(run_folder(spec.runs_dir, spec.name)), narrator, config, timeout_s)
    verdict = standing_verdict(view, spec.name)
    require_same_inputs(spec, view, verdict)
    if view.approval is None:
        raise NotApprovedError("another verdict was reached after the answer; look at it, and answer that")
    _require_leave(verdict, view.approval, None)
    _run_approved(spec, view, located, narrator, verdict.best, config=config)


def _waited(
    spec: ExperimentSpec, view: JournalView, narrator: Narrator, config: str, timeout_s: float | None
) -> JournalView:
    """The journal once somebody answered. Raises SystemExit: rejected, or nobody answered in time."""
    from orchestrator.tracking.journal import Journal

    folder = view.path.parent
    approval = wait_for_answer(
        spec,
        folder,
        narrator,
        record=lambda answer: _record_from_mlflow(spec, Journal.read(folder), config, narrator, answer),
        show=lambda: _show_in_mlflow(spec, Journal.read(folder), config, narrator),
        timeout_s=timeout_s,
    )
    if approval.decision == "rejected":
        because = f": {approval.reason}" if approval.reason else ""
        click.echo(f"rejected by {approval.by} ({approval.source}){because}; nothing was started", err=True)
        sys.exit(REJECTED_EXIT_CODE)
    narrator.say(f"approved by {approval.by} ({approval.source}): {approval.reason}")
    return Journal.read(folder)


def _heard(spec: ExperimentSpec, view: JournalView, narrator: Narrator, config: str) -> JournalView:
    """The journal after one look at MLflow, with what somebody answered there written down."""
    from orchestrator.tracking.journal import Journal

    found = answer_in_mlflow(spec, view, narrator)
    if found is None:
        return view
    narrator.say(f"{found.decision} in MLflow by {found.by}: {found.reason}")
    _record_from_mlflow(spec, view, config, narrator, found)
    return Journal.read(view.path.parent)


def _record_from_mlflow(
    spec: ExperimentSpec, view: JournalView, config: str, narrator: Narrator, answer: Answer
) -> None:
    """Raises LockedError: somebody else writes to the run folder at this moment."""
    with opened_for_answer(spec, view, config, narrator) as (opened, _):
        # Between the look and the lock another verdict may have been reached, which this text does not answer.
        _require_standing(opened, standing_verdict(view, spec.name))
        record_answer(opened, answer.decision, answer.by, answer.reason, override=answer.override, source="MLflow tag")


def _show_in_mlflow(spec: ExperimentSpec, view: JournalView, config: str, narrator: Narrator) -> None:
    from orchestrator.cli.compose import render_review

    with opened_for_answer(spec, view, config, narrator) as (opened, tracker):
        verdict = standing_verdict(opened.journal.view, spec.name)
        tracker.verdict_reached(verdict, render_review(spec, view.data, opened.journal.view, verdict))


def _require_standing(experiment: Experiment, verdict: Verdict) -> None:
    """Raises NotApprovedError: another verdict was reached since this one was read."""
    if standing_verdict(experiment.journal.view, experiment.spec.name).inputs_digest != verdict.inputs_digest:
        raise NotApprovedError("another verdict was reached in the meantime; look at it, and answer that")


def _require_same_data(view: JournalView, located: LocatedData) -> None:
    if located.summary.fingerprint != view.data.fingerprint:
        raise NotApprovedError(
            f"the data changed since the verdict: fingerprint {view.data.fingerprint[:12]} then, "
            f"{located.summary.fingerprint[:12]} now; sweep again"
        )


def _unfinished(view: JournalView, workers: int | None) -> CandidateForecast | None:
    """A full run that was begun under the standing verdict and its approval, and has not ended; it needs no other."""
    start, approval = view.full_run_started, view.approval
    if start is None or not view.is_full_run_open or view.since_verdict("full_run_started") == 0:
        return None
    is_same = workers is None or workers == start.candidate.workers
    return start.forecast if is_same and approval is not None and approval.decision == "approved" else None


def _chosen(verdict: Verdict, workers: int | None) -> CandidateForecast:
    best = verdict.best
    if workers is None or workers == best.candidate.workers:
        return best
    asked = replace(best.candidate, workers=workers)
    for each in verdict.candidates:
        if each.candidate == asked:
            return each
    counts = sorted({each.candidate.workers for each in verdict.candidates if each.candidate.model == asked.model})
    raise InfeasibleError(f"--workers {workers} was not forecast; full_run.workers has {counts}")


def _require_leave(verdict: Verdict, approval: Approval | None, override: str | None) -> None:
    if approval is not None and approval.decision == "rejected":
        because = f": {approval.reason}" if approval.reason else ""
        raise NotApprovedError(f"{approval.by} rejected this verdict{because}; `approve` it first, or sweep again")
    if verdict.kind == "PROMOTE" or override or (approval is not None and approval.override):
        return
    raise NotApprovedError(not_promote(verdict))


def _require_in_limits(
    spec: ExperimentSpec, view: JournalView, forecast: CandidateForecast, override: str | None
) -> None:
    """What the recommended candidate was held against, for another one. Raises NotApprovedError."""
    from orchestrator.decision import limit_vetoes
    from orchestrator.progress import full_runs_usd

    vetoes = limit_vetoes(spec, forecast, view.trials_usd + full_runs_usd(view))
    if vetoes and not override:
        listed = "; ".join(f"{veto.name}: {veto.reason}" for veto in vetoes)
        raise NotApprovedError(f"{forecast.candidate} is not within the limits ({listed}); or give --override REASON")


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
    experiment: Experiment, located: LocatedData, tracker: MlflowTracker, verdict: Verdict, narrator: Narrator
) -> None:
    """After a sweep: start the full run when the config says ``approval: auto`` and the verdict is PROMOTE."""
    from orchestrator.tracking.journal import Journal, run_folder

    if verdict.kind != "PROMOTE" or experiment.spec.decision.approval != "auto":
        return
    # By model and rows: what the first full run taught of time may recommend another worker count for the same model.
    promoted = {(done.candidate.model, done.candidate.n_samples) for done in experiment.journal.view.outcomes}
    if (verdict.best.candidate.model, verdict.best.candidate.n_samples) in promoted:
        experiment.console.say("this model was promoted on these rows before; its outcome is in `history`")
        return
    tracker.settle()
    view = Journal.read(run_folder(experiment.spec.runs_dir, experiment.spec.name))
    answer = answer_in_mlflow(experiment.spec, view, narrator)
    if answer is not None and view.approval is None:
        record_answer(experiment, answer.decision, answer.by, answer.reason, source="MLflow tag")
    approval = experiment.journal.view.approval
    if approval is not None and approval.decision == "rejected":
        experiment.console.say(
            f"not promoted: {approval.by} rejected this verdict; `approve` and `promote` it to go on"
        )
        return
    if approval is None:
        record_answer(experiment, "approved", "decision.approval: auto", "as configured", source="config")
    outcome = run_full(experiment, located, tracker, verdict.best)
    click.echo(outcome_text(outcome, verdict.metric))
