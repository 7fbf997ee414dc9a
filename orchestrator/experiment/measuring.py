"""The measuring part of the story: rows made ready, one batch through everything, then trial after trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.errors import EvidenceError
from orchestrator.experiment.accounting import caps_left_usd
from orchestrator.experiment.judging import decide_on, still_holds
from orchestrator.experiment.parts import Experiment
from orchestrator.ingest import rate_text
from orchestrator.intervals import format_usd
from orchestrator.planner import Step, estimate_sweep, next_trial, plan_grid, remaining, worst_case_usd
from orchestrator.ports import IngestProbe, TrialRunner
from orchestrator.progress import sweep_progress
from orchestrator.results import (
    DataRead,
    DataSummary,
    DroppedModel,
    SweepCause,
    SweepEnd,
    TrialLaunch,
    TrialResult,
    Verdict,
)
from orchestrator.spec import TrialSpec, evidence_scope, trial_key
from orchestrator.subsets import subset_size

_PROBED_BATCHES = 50
"""Rows that a probe walks through; a pass over them is one repeat."""


def make_ready(experiment: Experiment, runner: TrialRunner, trials: Sequence[TrialSpec]) -> None:
    """Have the rows of the trials read and decoded ahead, and write down what that read."""
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


def smoke(experiment: Experiment, runner: TrialRunner) -> None:
    """One batch through every configuration before the first paid trial. Raises TaskError: one cannot be trained."""
    models, workers = len(experiment.spec.models), experiment.spec.sweep.workers
    several = f" on {', '.join(map(str, workers))} workers" if max(workers) > 1 else ""
    experiment.console.say(f"smoke test: one batch through {models} models{several}")
    reports = runner.smoke()
    experiment.journal.append("smoke", list(reports))
    for report in reports:
        size = report.checkpoint_bytes / 1e6
        experiment.console.say(f"  {report.model}: {report.n_parameters:,} parameters, checkpoint {size:.2f} MB")


def probe(experiment: Experiment, runner: TrialRunner, trials: Sequence[TrialSpec]) -> None:
    """Is it the data? Measured once for each model, before the first paid trial."""
    spec, fingerprint = experiment.spec, experiment.data.fingerprint
    if spec.sweep.probe_s == 0:
        return
    known = {each.model for each in experiment.journal.view.probes if still_holds(each, spec, fingerprint)}
    largest = subset_size(experiment.data.n_train, max(trial.fraction for trial in trials))
    n_samples = min(largest, _PROBED_BATCHES * spec.training.global_batch_size)
    for model in dict.fromkeys(trial.model for trial in trials if trial.model not in known):
        measurement = runner.probe(model, n_samples)
        if measurement is None:
            return
        loader_workers = spec.resources.loader_workers
        scope = evidence_scope(spec, fingerprint, model)
        record = IngestProbe(model=model, scope=scope, loader_workers=loader_workers, measurement=measurement)
        experiment.journal.append("ingest", record)
        experiment.console.say(
            f"data path of {model}: the loader gives {rate_text(measurement.loader.samples_per_s)} samples/s, "
            f"a worker computes {rate_text(measurement.compute.samples_per_s)}"
        )


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a step was chosen on; the same question has the same answer, and choosing costs time."""

    n_results: int
    running: tuple[TrialSpec, ...]


class Course:
    """Which trial runs next under the caps, and what becomes of each result: `ports.TrialSource` and its listener."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self.plan = plan_grid(experiment.spec, experiment.data)
        self._waiting = list(missing(experiment, self.plan))
        # What failed in an earlier sweep is tried again, once.
        self._failed_before = {r.key for r in experiment.journal.view.results if r.status == "failed"}
        self._n_heard = 0
        self._launched: Counter[str] = Counter()
        self._running: list[TrialSpec] = []
        self._asked: _Asked | None = None
        self._step = Step(reason="nothing was asked yet")
        self._cause: SweepCause | None = None
        self._reason = ""
        self._dropped: dict[str, DroppedModel] = {}
        self._verdict: Verdict | None = None
        self._judged_at = -1
        self._largest_told = 0.0

    @property
    def n_left(self) -> int:
        """Trials that may still be launched, at most."""
        return 0 if self._cause is not None else len(self._waiting)

    def has_work(self) -> bool:
        """Whether a trial would be launched now; nothing is started or written."""
        self._choose(())
        return self._cause is None and self.n_left > 0

    def next(self, running: Sequence[TrialSpec]) -> TrialSpec | None:
        """The next trial, written down as launched with what is reserved for it."""
        self._choose(tuple(running))
        trial = self._step.trial
        if self._cause is not None or trial is None:
            return None
        experiment = self._experiment
        key = trial_key(experiment.spec, experiment.data.fingerprint, trial)
        experiment.journal.append("launch", TrialLaunch(key=key, trial=trial, reserved_usd=self._step.reserved_usd))
        self._waiting.remove(trial)
        self._running.append(trial)
        self._launched[key] += 1
        self._asked = None
        return trial

    def heard(self, result: TrialResult) -> bool:
        """Price one result, write it down, mirror it, tell the user; False when no further trial may start."""
        experiment = self._experiment
        priced = replace(
            result, cost_usd=result.wall_time_s * result.trial.workers * experiment.rates.sweep_usd_per_worker_s
        )
        experiment.journal.append("trial", priced)
        experiment.tracker.trial_finished(priced)
        self._failed_before.discard(priced.key)
        self._n_heard += 1
        self._launched[priced.key] -= 1
        if priced.trial in self._running:
            self._running.remove(priced.trial)
        self._tell(priced)
        return self._cause is None

    def end(self) -> SweepEnd:
        """Why nothing more is launched."""
        experiment = self._experiment
        cause, reason = self._cause, self._reason
        if experiment.draining():
            cause, reason = "stopped by the user", "the user asked to stop; the same command goes on from there"
        elif cause is None:
            cause, reason = "plan done", f"all {len(self.plan)} trials of the grid have been run"
        results = experiment.journal.view.results
        return SweepEnd(
            cause=cause,
            reason=reason,
            n_trials=len(results),
            n_grid=len(self.plan),
            spent_usd=experiment.journal.view.trials_usd,
            dropped=tuple(self._dropped.values()),
            withdrawn=tuple(self._launched.elements()),
        )

    def _choose(self, running: tuple[TrialSpec, ...]) -> None:
        """Bring the step up to date with what is known and what runs."""
        asked = _Asked(self._n_heard, running)
        if self._cause is not None or asked == self._asked:
            return
        self._asked = asked
        self._step = self._adaptive(running) if self._is_adaptive else self._listed(running)
        for each in self._step.dropped:
            if each.model not in self._dropped:
                self._experiment.console.say(f"{each.model} is measured no further: {each.reason}")
        self._dropped = {each.model: each for each in self._step.dropped} if self._is_adaptive else {}
        if self._step.end is not None:
            self._cause, self._reason = self._step.end, self._step.reason
            self._experiment.console.say(f"no further trial starts: {self._reason}")

    @property
    def _is_adaptive(self) -> bool:
        return self._experiment.spec.sweep.strategy == "adaptive"

    def _listed(self, running: tuple[TrialSpec, ...]) -> Step:
        """The grid's next trial, when what it may cost fits the caps beside what is reserved for the running ones."""
        if not self._waiting:
            return Step(reason="nothing of the grid is left")
        experiment, trial = self._experiment, self._waiting[0]
        may_cost = worst_case_usd(
            trial, self._own_results(), experiment.data, experiment.spec,
            samples_per_s=self._paces.get(trial.model), usd_per_worker_s=experiment.rates.sweep_usd_per_worker_s,
        )  # fmt: skip
        for key, (cap, left) in caps_left_usd(experiment.spec, experiment.journal.view).items():
            if may_cost is not None and may_cost <= left:
                continue
            if running:  # they may cost less than is reserved for them, and will tell what this one may cost
                return Step(reason="waiting for a running trial")
            if left <= 0:
                return Step(end="cap reached", reason=f"{key} of {format_usd(cap)} is reached")
            if may_cost is not None:
                reason = (
                    f"{key} of {format_usd(cap)} leaves {format_usd(left)}, and {trial} may cost {format_usd(may_cost)}"
                )
                return Step(end="cap reached", reason=reason)
        return Step(trial=trial, reason="the grid's next", reserved_usd=may_cost)

    def _adaptive(self, running: tuple[TrialSpec, ...]) -> Step:
        """The planner's choice on what the verdict is so far."""
        experiment = self._experiment
        view = experiment.journal.view
        lefts = [left for _, left in caps_left_usd(experiment.spec, view).values()]
        return next_trial(
            experiment.spec,
            experiment.data,
            [result for result in self._own_results() if result.key not in self._failed_before],
            running=running,
            verdict=self._verdict_so_far(),
            samples_per_s=self._paces,
            usd_per_worker_s=experiment.rates.sweep_usd_per_worker_s,
            cap_left_usd=min(lefts, default=None),
        )

    def _own_results(self) -> list[TrialResult]:
        """Trials of this data, task and training; others neither count as run nor tell what one costs."""
        spec, fingerprint = self._experiment.spec, self._experiment.data.fingerprint
        scopes = {evidence_scope(spec, fingerprint, model.name) for model in spec.models}
        return [result for result in self._experiment.journal.view.results if result.scope in scopes]

    @property
    def _paces(self) -> dict[str, float]:
        """Samples per second of one worker by model, as far as they were probed."""
        spec, fingerprint = self._experiment.spec, self._experiment.data.fingerprint
        return {
            probe.model: (probe.measurement.end_to_end or probe.measurement.compute).samples_per_s
            for probe in self._experiment.journal.view.probes
            if still_holds(probe, spec, fingerprint)
        }

    def _verdict_so_far(self) -> Verdict | None:
        """Judged once for every new result; None while no model can be forecast."""
        if self._judged_at != self._n_heard:
            self._judged_at = self._n_heard
            experiment = self._experiment
            try:
                self._verdict = decide_on(experiment.spec, experiment.data, experiment.journal.view, experiment.rates)
            except EvidenceError:
                self._verdict = None
        return self._verdict

    def _tell(self, result: TrialResult) -> None:
        experiment, view = self._experiment, self._experiment.journal.view
        n_done = len(self.plan) - len(missing(experiment, self.plan))
        done = f"[{n_done}/{len(self.plan)}] {result.trial}"
        if result.training is None:
            experiment.console.say(f"{done}: FAILED, {result.error}")
            experiment.notifier.notify("failure", f"{result.trial} failed: {result.error}")
        else:
            training = result.training
            accuracy = f"accuracy {training.accuracy:.4f}, " if training.accuracy is not None else ""
            spent = format_usd(view.trials_usd)
            experiment.console.say(
                f"{done}: {accuracy}loss {training.loss:.4f}, {result.wall_time_s:.1f} s; {spent} spent{self._rest()}"
            )
            self._tell_forecast()
        experiment.console.progress(
            sweep_progress(experiment.spec, experiment.data, view, running=tuple(self._running), verdict=self._verdict)
        )

    def _rest(self) -> str:
        """What the rest of a grid will cost; of an adaptive sweep it is the most."""
        cost_usd = estimate_sweep(self._waiting, self._own_results(), self._experiment.data).cost_usd
        return f", {'at most' if self._is_adaptive else 'about'} {format_usd(cost_usd)} to go" if cost_usd else ""

    def _tell_forecast(self) -> None:
        """What the evidence so far says: after each fraction of a grid, and whenever an adaptive verdict turns."""
        before = self._verdict
        if self._is_adaptive:
            now = self._verdict_so_far()
            if now is not None and (before is None or now.kind != before.kind):
                self._experiment.console.say(f"so far: {now.kind}: {now.reason}")
            return
        left = self._waiting
        done = [f for f in self._experiment.spec.sweep.fractions if not left or f < left[0].fraction]
        if not left or not done or done[-1] <= self._largest_told:
            return
        self._largest_told = done[-1]
        verdict = self._verdict_so_far()
        if verdict is not None:
            self._experiment.console.say(f"so far, up to {done[-1]:.4g} of the data: {verdict.kind}: {verdict.reason}")


def missing(experiment: Experiment, plan: Sequence[TrialSpec]) -> tuple[TrialSpec, ...]:
    """What of a plan has no finished trial in the journal."""
    finished = {result.key for result in experiment.journal.view.results if result.status == "finished"}
    return remaining(plan, finished, lambda trial: trial_key(experiment.spec, experiment.data.fingerprint, trial))
