"""The story of an experiment: plan, measure, forecast, price, decide, and scale only when it pays.

Read this file first. It acts only through `ports`: what runs a trial, where evidence is kept and who is told are given
to it, so the same story holds on a laptop, on a cluster and in a test.

    sweep     planner -> TrialRunner -> journal -> tracker, until the plan is done, the verdict certain or a cap reached
    judge     journal -> curves, cost -> decision -> journal -> tracker
    promote   verdict -> approval -> FullRunner -> outcome beside its forecast -> journal -> tracker
"""

from __future__ import annotations

from orchestrator.calibration import score_outcome
from orchestrator.errors import NotApprovedError
from orchestrator.experiment.accounting import check_budget, measured_bill
from orchestrator.experiment.judging import decide_on
from orchestrator.experiment.measuring import Course, make_ready, missing, probe, smoke
from orchestrator.experiment.parts import Experiment, StartRunner
from orchestrator.intervals import format_usd
from orchestrator.ports import FullRunner
from orchestrator.results import Approval, CandidateForecast, Outcome, Verdict


def sweep(experiment: Experiment, start_runner: StartRunner) -> Verdict | None:
    """Measure what the journal lacks of the plan and is worth its price, then judge.

    Returns: The verdict; None when the user stopped the sweep before its end.
    Raises: TaskError: the smoke stage shows that a model cannot be trained. EvidenceError: too few trials finished.
    """
    journal, console = experiment.journal, experiment.console
    course = Course(experiment)
    left = missing(experiment, course.plan)
    experiment.tracker.open(experiment.spec, experiment.data, journal.view.results)
    n_plan = len(course.plan)
    console.say(f"{n_plan} trials planned, {n_plan - len(left)} already in the journal, {len(left)} to run")
    _tell_cut_off(experiment)
    if course.has_work():
        console.say("starting Ray and warm workers")
        with start_runner() as runner:
            make_ready(experiment, runner, left)
            smoke(experiment, runner)
            probe(experiment, runner, left)
            experiment.tracker.settle()
            runner.run(course, course.heard)
    end = course.end()
    if end != journal.view.sweep_end or end.withdrawn:
        journal.append("sweep_end", end)
        if end.cause == "cap reached":
            experiment.notifier.notify("cap", f"the sweep ended: {end.reason}", {"spent_usd": end.spent_usd})
    if experiment.draining():
        done = n_plan - len(missing(experiment, course.plan))
        console.say(f"stopped: {done} of {n_plan} trials are in the journal; the same command goes on from there")
        return None
    return judge(experiment)


def _tell_cut_off(experiment: Experiment) -> None:
    """Trials of which an earlier sweep never heard: nobody knows what they cost, so they count with the most."""
    launches = experiment.journal.view.cut_off
    if not launches:
        return
    most = sum(launch.reserved_usd or 0.0 for launch in launches)
    trials = "1 trial was" if len(launches) == 1 else f"{len(launches)} trials were"
    experiment.console.say(f"{trials} cut off by a crash; caps count what was reserved for them, {format_usd(most)}")


def judge(experiment: Experiment) -> Verdict:
    """Decide on what the journal holds, write the verdict down and show it to the reviewers.

    Raises: EvidenceError: too few trials finished.
    """
    verdict = decide_on(experiment.spec, experiment.data, experiment.journal.view, experiment.rates)
    standing = experiment.journal.view.verdict
    if standing != verdict:
        experiment.journal.append("verdict", verdict)
        facts = {"kind": verdict.kind, "probability": verdict.probability, "candidate": str(verdict.best.candidate)}
        experiment.notifier.notify("verdict", f"{verdict.kind}: {verdict.reason}", facts)
    page = experiment.render(experiment.spec, experiment.data, experiment.journal.view, verdict)
    experiment.tracker.verdict_reached(verdict, page)
    return verdict


def approve(experiment: Experiment, approval: Approval) -> None:
    """Write an answer to the standing verdict down and show it."""
    experiment.journal.append("approval", approval)
    experiment.tracker.approval_given(approval)


def promote(experiment: Experiment, runner: FullRunner, forecast: CandidateForecast) -> Outcome:
    """Train the candidate at full scale and put the outcome beside its forecast.

    Raises: NotApprovedError: nobody approved the standing verdict. BudgetError: its price does not fit the cap.
    """
    verdict, approval = experiment.journal.view.verdict, experiment.journal.view.approval
    if verdict is None or approval is None or approval.decision != "approved":
        state = "has no verdict" if verdict is None else "is rejected" if approval else "awaits approval"
        raise NotApprovedError(f"experiment {experiment.spec.name} {state}; approve it first, or sweep again")
    check_budget(experiment, forecast)
    candidate = forecast.candidate
    experiment.journal.append("full_run_started", {"candidate": candidate, "forecast": forecast})
    experiment.console.say(f"full run: {candidate} ({candidate.n_samples:,} rows)")
    experiment.notifier.notify("promotion", f"the full run begins: {candidate}", {"usd": forecast.cost_usd.median})
    run = runner.run(candidate, forecast, experiment.console.say)
    bill = measured_bill(experiment, forecast, run)
    outcome = score_outcome(
        forecast=forecast,
        metric=verdict.metric,
        training=run.training,
        wall_time_s=run.wall_time_s,
        cost_usd=bill.total_usd.mean,
        invoiced_usd=bill.capped_usd.mean,
        checkpoint_path=run.checkpoint_path,
        finished_at=experiment.now(),
    )
    experiment.journal.append("outcome", outcome)
    experiment.notifier.notify("promotion", f"the full run has ended: {candidate}", {"usd": outcome.cost_usd})
    experiment.tracker.full_run_finished(outcome)
    return outcome
