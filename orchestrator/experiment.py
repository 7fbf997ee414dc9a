"""The story of an experiment: plan, measure, forecast, price, decide, and scale only when it pays.

Read this file first. It acts only through `ports`: what runs a trial, where evidence is kept and who is told are given
to it, so the same story holds on a laptop, on a cluster and in a test.

    sweep     plan_grid -> what the journal lacks -> TrialRunner -> journal -> tracker
    judge     journal -> curves, cost -> decision -> journal -> tracker
    promote   verdict -> approval -> FullRunner -> outcome beside its forecast -> journal -> tracker
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace

import numpy as np
from scipy.special import stdtrit

from orchestrator.calibration import score_outcome
from orchestrator.cost.full_run import RunSize, price_full_run
from orchestrator.cost.job import RunTime
from orchestrator.cost.rates import RateCard
from orchestrator.decision import decide
from orchestrator.errors import BudgetError, EvidenceError, NotApprovedError
from orchestrator.ingest import rate_text
from orchestrator.intervals import format_usd
from orchestrator.planner import ListedTrials, estimate_sweep, plan_grid, remaining
from orchestrator.ports import (
    Console,
    Evidence,
    EvidenceStore,
    FullRunner,
    FullRunResult,
    IngestProbe,
    ReviewPage,
    Tracker,
    TrialRunner,
)
from orchestrator.results import (
    Approval,
    Bill,
    CandidateForecast,
    DataRead,
    DataSummary,
    Interval,
    Outcome,
    TrialResult,
    Verdict,
)
from orchestrator.spec import ExperimentSpec, TrialSpec, evidence_scope, trial_key
from orchestrator.subsets import subset_size

Render = Callable[[ExperimentSpec, DataSummary, Evidence, Verdict], ReviewPage]
StartRunner = Callable[[], AbstractContextManager[TrialRunner]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One experiment and the doors it acts through."""

    spec: ExperimentSpec
    data: DataSummary
    rates: RateCard
    journal: EvidenceStore
    tracker: Tracker
    console: Console
    render: Render
    """Draws the page a reviewer sees."""
    now: Callable[[], str]
    """UTC, ISO 8601."""
    draining: Callable[[], bool] = lambda: False
    """True once the user asked to stop: running trials end, no new one starts."""


def sweep(experiment: Experiment, start_runner: StartRunner) -> Verdict | None:
    """Measure what the journal lacks of the plan, then judge.

    Returns: The verdict; None when the user stopped the sweep before its end.
    Raises: TaskError: the smoke stage shows that a model cannot be trained. EvidenceError: too few trials finished.
    """
    journal, console = experiment.journal, experiment.console
    plan = plan_grid(experiment.spec, experiment.data)
    left = _missing(experiment, plan)
    experiment.tracker.open(experiment.spec, experiment.data, journal.view.results)
    console.say(f"{len(plan)} trials planned, {len(plan) - len(left)} already in the journal, {len(left)} to run")
    if left and not _cap_reached(experiment):
        console.say("starting Ray and warm workers")
        with start_runner() as runner:
            _make_ready(experiment, runner, left)
            _smoke(experiment, runner)
            _probe(experiment, runner, left)
            experiment.tracker.settle()
            runner.run(ListedTrials(left), _Recorder(experiment, plan).record)
    if experiment.draining():
        done = len(plan) - len(_missing(experiment, plan))
        console.say(f"stopped: {done} of {len(plan)} trials are in the journal; the same command goes on from there")
        return None
    return judge(experiment)


def _missing(experiment: Experiment, plan: tuple[TrialSpec, ...]) -> tuple[TrialSpec, ...]:
    finished = {result.key for result in experiment.journal.view.results if result.status == "finished"}
    return remaining(plan, finished, lambda trial: trial_key(experiment.spec, experiment.data.fingerprint, trial))


def _make_ready(experiment: Experiment, runner: TrialRunner, trials: tuple[TrialSpec, ...]) -> None:
    read = runner.make_ready(trials)
    if read is None:
        return
    experiment.journal.append("data_read", read)
    experiment.console.say(f"data: {format_data_read(read, experiment.data)}")


def format_data_read(read: DataRead, data: DataSummary) -> str:
    """How much of the data was read, in words."""
    of_all = f" of {data.train_bytes / 1e6:,.1f} MB" if data.train_bytes else ""
    return (
        f"{read.n_rows:,} of {read.n_train:,} training rows are needed; read {read.train_bytes_read / 1e6:,.1f}"
        f"{of_all or ' MB'} of them and {read.validation_bytes_read / 1e6:,.1f} MB of validation rows "
        f"in {read.wall_time_s:.1f} s"
    )


def _smoke(experiment: Experiment, runner: TrialRunner) -> None:
    experiment.console.say(f"smoke test: one batch through {len(experiment.spec.models)} models")
    reports = runner.smoke()
    experiment.journal.append("smoke", list(reports))
    for report in reports:
        size = report.checkpoint_bytes / 1e6
        experiment.console.say(f"  {report.model}: {report.n_parameters:,} parameters, checkpoint {size:.2f} MB")


def _probe(experiment: Experiment, runner: TrialRunner, trials: tuple[TrialSpec, ...]) -> None:
    """Is it the data? Measured once for each model, before the first paid trial."""
    spec, fingerprint = experiment.spec, experiment.data.fingerprint
    if spec.sweep.probe_s == 0:
        return
    known = {probe.model for probe in experiment.journal.view.probes if _still_holds(probe, spec, fingerprint)}
    largest = subset_size(experiment.data.n_train, max(trial.fraction for trial in trials))
    n_samples = min(largest, _PROBED_BATCHES * spec.training.global_batch_size)
    for model in dict.fromkeys(trial.model for trial in trials if trial.model not in known):
        measurement = runner.probe(model, n_samples)
        if measurement is None:
            return
        loader_workers = spec.resources.loader_workers
        scope = evidence_scope(spec, fingerprint, model)
        probe = IngestProbe(model=model, scope=scope, loader_workers=loader_workers, measurement=measurement)
        experiment.journal.append("ingest", probe)
        experiment.console.say(
            f"data path of {model}: the loader gives {rate_text(measurement.loader.samples_per_s)} samples/s, "
            f"a worker computes {rate_text(measurement.compute.samples_per_s)}"
        )


_PROBED_BATCHES = 50
"""Rows that a probe walks through; a pass over them is one repeat."""


def _still_holds(probe: IngestProbe, spec: ExperimentSpec, fingerprint: str) -> bool:
    if probe.model not in {model.name for model in spec.models}:
        return False
    of_now = (evidence_scope(spec, fingerprint, probe.model), spec.resources.loader_workers)
    return (probe.scope, probe.loader_workers) == of_now


class _Recorder:
    """Takes each result as it arrives: prices it, writes it down, mirrors it, tells the user."""

    def __init__(self, experiment: Experiment, plan: tuple[TrialSpec, ...]) -> None:
        self._experiment, self._plan = experiment, plan
        self._largest_told = 0.0

    def record(self, result: TrialResult) -> bool:
        """Keep one result; False when no further trial may start."""
        experiment = self._experiment
        priced = replace(
            result, cost_usd=result.wall_time_s * result.trial.workers * experiment.rates.sweep_usd_per_worker_s
        )
        experiment.journal.append("trial", priced)
        experiment.tracker.trial_finished(priced)
        self._tell(priced)
        return not _cap_reached(experiment)

    def _tell(self, result: TrialResult) -> None:
        experiment, results = self._experiment, self._experiment.journal.view.results
        left = _missing(experiment, self._plan)
        done = f"[{len(self._plan) - len(left)}/{len(self._plan)}] {result.trial}"
        if result.training is None:
            experiment.console.say(f"{done}: FAILED, {result.error}")
            return
        training = result.training
        accuracy = f"accuracy {training.accuracy:.4f}, " if training.accuracy is not None else ""
        spent = format_usd(sum(each.cost_usd for each in results))
        estimate = estimate_sweep(left, results, experiment.data, concurrent_trials=1)
        rest = f", about {format_usd(estimate.cost_usd)} to go" if estimate.cost_usd else ""
        experiment.console.say(
            f"{done}: {accuracy}loss {training.loss:.4f}, {result.wall_time_s:.1f} s; {spent} spent{rest}"
        )
        self._tell_forecast(left)

    def _tell_forecast(self, left: tuple[TrialSpec, ...]) -> None:
        """After each completed fraction, what the evidence so far says."""
        done = [f for f in self._experiment.spec.sweep.fractions if not left or f < left[0].fraction]
        if not left or not done or done[-1] <= self._largest_told:
            return
        self._largest_told = done[-1]
        try:
            verdict = _decide(self._experiment)
        except EvidenceError:
            return  # two sizes do not make a curve yet
        self._experiment.console.say(f"so far, up to {done[-1]:.4g} of the data: {verdict.kind}: {verdict.reason}")


def _cap_reached(experiment: Experiment) -> bool:
    spec = experiment.spec
    caps = {"sweep.max_cost_usd": spec.sweep.max_cost_usd, "budget.max_cost_usd": spec.budget.max_cost_usd}
    spent = sum(result.cost_usd for result in experiment.journal.view.results)
    reached = {key: cap for key, cap in caps.items() if cap is not None and spent >= cap}
    for key, cap in reached.items():
        experiment.console.say(
            f"{key} of {format_usd(cap)} is reached ({format_usd(spent)} spent): no further trial starts"
        )
    return bool(reached)


def judge(experiment: Experiment) -> Verdict:
    """Decide on what the journal holds, write the verdict down and show it to the reviewers.

    Raises: EvidenceError: too few trials finished.
    """
    verdict = _decide(experiment)
    standing = experiment.journal.view.verdict
    if standing != verdict:
        experiment.journal.append("verdict", verdict)
    page = experiment.render(experiment.spec, experiment.data, experiment.journal.view, verdict)
    experiment.tracker.verdict_reached(verdict, page)
    return verdict


def _decide(experiment: Experiment) -> Verdict:
    return decide_on(experiment.spec, experiment.data, experiment.journal.view, experiment.rates)


def decide_on(spec: ExperimentSpec, data: DataSummary, evidence: Evidence, rates: RateCard) -> Verdict:
    """The verdict that stored evidence leads to under a config. Raises EvidenceError: too few trials finished."""
    return decide(
        spec,
        data,
        evidence.results,
        rates,
        checkpoint_bytes={report.model: report.checkpoint_bytes for report in evidence.smoke},
        full_run_startup_s=launch_interval(evidence),
        full_runs_usd=_invoiced_full_runs_usd(evidence),
        probes={
            probe.model: probe.measurement for probe in evidence.probes if _still_holds(probe, spec, data.fingerprint)
        },
    )


def _invoiced_full_runs_usd(evidence: Evidence) -> float:
    return sum(outcome.invoiced_usd or outcome.cost_usd for outcome in evidence.outcomes)


REFERENCE_LAUNCHES_S = (10.02, 11.47, 9.74, 10.78)
"""Ray Train jobs of the digits full run on one machine of 2 cores, 2026-11-23: wall time less the training's own."""


def launch_interval(evidence: Evidence) -> Interval:
    """What launching the next full run takes beyond its training: from this experiment's own full runs, else ours.

    A prediction interval for one more launch, by Student's t on the logarithms; a single launch of one's own takes the
    spread of the reference.
    """
    own = [max(each.wall_time_s - each.training.time.total_s, 0.1) for each in evidence.outcomes]
    reference = np.log(REFERENCE_LAUNCHES_S)
    logs = np.log(own) if own else reference
    spread = float(np.std(logs if len(logs) > 1 else reference, ddof=1))
    freedom = max(len(logs), len(reference) if len(logs) == 1 else 0) - 1
    half_width = float(stdtrit(freedom, 0.95)) * spread * math.sqrt(1 + 1 / len(logs))
    middle = float(np.mean(logs))
    low, median, high = (math.exp(middle + side * half_width) for side in (-1, 0, 1))
    return Interval(low=low, median=median, high=high, mean=median)


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
    run = runner.run(candidate, forecast, experiment.console.say)
    bill = _measured_bill(experiment, forecast, run)
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
    experiment.tracker.full_run_finished(outcome)
    return outcome


def _measured_bill(experiment: Experiment, forecast: CandidateForecast, run: FullRunResult) -> Bill:
    """The forecast's own bill, with measured time and checkpoint size in place of the expected ones."""
    spec, candidate = experiment.spec, forecast.candidate
    no_time = np.zeros(1)
    priced = price_full_run(
        RunTime(
            training_s=np.asarray([run.wall_time_s]),
            startup_s=no_time,
            checkpoint_interval_s=no_time,
            checkpoint_s=no_time,
        ),
        RunSize(
            checkpoint_bytes=run.training.checkpoint_bytes,
            checkpoint_keep=spec.full_run.checkpoint.keep,
            dataset_bytes=experiment.data.bytes_on_disk,
            log_bytes=len(json.dumps(asdict(run.training))),
        ),
        workers=candidate.workers,
        purchase=candidate.purchase,
        rates=experiment.rates,
        pricing=spec.pricing,
        rng=np.random.default_rng(0),
        is_over=True,
    )
    return priced.bill


def check_budget(experiment: Experiment, forecast: CandidateForecast) -> None:
    """Raises BudgetError: what is spent and what the full run may cost do not fit the cap together."""
    cap = experiment.spec.budget.max_cost_usd
    spent = sum(result.cost_usd for result in experiment.journal.view.results)
    spent += _invoiced_full_runs_usd(experiment.journal.view)
    may_cost = forecast.bill.capped_usd.high
    if cap is not None and spent + may_cost > cap:
        raise BudgetError(
            f"budget.max_cost_usd is {format_usd(cap)}, {format_usd(spent)} is spent and the full run may cost "
            f"{format_usd(may_cost)}; raise the cap, or choose a cheaper candidate"
        )


def approve(experiment: Experiment, approval: Approval) -> None:
    """Write an answer to the standing verdict down and show it."""
    experiment.journal.append("approval", approval)
    experiment.tracker.approval_given(approval)
