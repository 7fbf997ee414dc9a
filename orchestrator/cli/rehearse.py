"""The drills of ``drill``: alert, restart and restore, each for real and with its evidence in a sentence."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from orchestrator.backends.rehearsal import Restart
    from orchestrator.cli.compose import LocatedData
    from orchestrator.experiment import Experiment
    from orchestrator.operations.alerts import Delivery
    from orchestrator.ports import Evidence
    from orchestrator.results import Candidate, CandidateForecast, Drill, TrainingResult
    from orchestrator.training.evaluate import Restored
    from orchestrator.training.request import TrainRequest

Name = Literal["alert", "restart", "restore"]
NAMES: tuple[Name, ...] = ("alert", "restart", "restore")
HOW_TO_SET_UP = "add one to the config: alerts: [{url: https://..., on: [verdict, failure]}]"
_LEAST_EPOCHS, _MOST_EPOCHS = 4, 40
_TRAINING_S = 8.0
"""Long enough that the worker is still at it when its first checkpoint is registered."""
_EPOCH_S = 0.4
"""An epoch of a full run takes hardly less, however few its rows: each report waits for a health check."""
_LOSS_TOLERANCE = 1e-4
"""Relative; sums of float32 in another order differ by less, other weights by more."""


def rehearse(experiment: Experiment, located: LocatedData, wanted: Sequence[Name]) -> Iterator[Drill]:
    """Each drill as it ends."""
    if "alert" in wanted:
        if experiment.spec.alerts:
            yield _rehearse_alert(experiment)
        else:
            experiment.console.say(f"alert is left out: no channel is set up; {HOW_TO_SET_UP}")
    if "restart" in wanted or "restore" in wanted:
        yield from _rehearse_training(experiment, located, wanted)


def _drill(experiment: Experiment, name: Name, passed: bool, evidence: str) -> Drill:
    from orchestrator.results import Drill

    return Drill(name=name, passed=passed, evidence=evidence, at=experiment.now())


def _rehearse_alert(experiment: Experiment) -> Drill:
    from orchestrator.operations.alerts import Webhooks

    experiment.console.say(f"alert: a test message to {len(experiment.spec.alerts)} channel(s)")
    found = Webhooks(experiment.spec.name, experiment.spec.alerts).test()
    return _drill(experiment, "alert", all(each.answered for each in found), alert_evidence(found))


def alert_evidence(found: Sequence[Delivery]) -> str:
    """Channels that failed first, each by its host."""
    ordered = sorted(found, key=lambda delivery: delivery.answered)
    return f"{sum(each.answered for each in found)} of {len(found)} channels answered: {', '.join(map(str, ordered))}"


def _rehearse_training(experiment: Experiment, located: LocatedData, wanted: Sequence[Name]) -> Iterator[Drill]:
    """Restart, then restore from what it left; on a cluster and in a folder of their own."""
    from orchestrator.errors import TaskError

    with _cluster(experiment) as storage:
        try:
            small, restart = _train(experiment, located, storage, is_killed="restart" in wanted)
        except TaskError as error:
            for name in (each for each in wanted if each != "alert"):
                yield _drill(experiment, name, False, f"the small full run failed: {error}")
            return
        if "restart" in wanted:
            yield _drill(experiment, "restart", restart.resumed, restart_evidence(restart, small.epochs))
        if "restore" in wanted:
            yield _rehearse_restore(experiment, located, small, restart)


def _rehearse_restore(experiment: Experiment, located: LocatedData, small: _SmallRun, restart: Restart) -> Drill:
    """The small run's last checkpoint, and the promoted model's where there is one."""
    from orchestrator.backends.rehearsal import restore_elsewhere
    from orchestrator.errors import TaskError

    experiment.console.say("restore: the last checkpoint in a process of its own, on the validation split")
    asked = [("last checkpoint", small.request, restart.run.training, Path(restart.run.checkpoint_path))]
    asked += _promoted(experiment.journal.view, located)
    trained_in = (restart.killed_pid, restart.went_on_in_pid, os.getpid())
    found: list[tuple[bool, str]] = []
    for what, request, reported, weights in asked:
        if not weights.is_file():
            found.append((False, f"{what}: {weights} is not there"))
            continue
        try:
            passed, evidence = compare(restore_elsewhere(request, weights), reported, trained_in)
        except TaskError as error:
            passed, evidence = False, str(error)
        found.append((passed, f"{what} {evidence}"))
    return _drill(experiment, "restore", all(ok for ok, _ in found), "; ".join(text for _, text in found))


def _promoted(view: Evidence, located: LocatedData) -> list[tuple[str, TrainRequest, TrainingResult, Path]]:
    """The latest full run's checkpoint, if it was of this data, under the config it was trained with."""
    from orchestrator.tracking.journal import JournalView
    from orchestrator.training.request import TrainRequest, trial_of

    if not view.outcomes or not isinstance(view, JournalView):
        return []
    last = max(place for place, entry in enumerate(view.entries) if entry.kind == "outcome")
    before = JournalView(view.path, view.entries[:last])
    if before.data.fingerprint != located.summary.fingerprint:
        return []
    outcome = view.outcomes[-1]
    request = TrainRequest(
        spec=before.spec,
        trial=trial_of(outcome.candidate),
        fingerprint=before.data.fingerprint,
        data_root=located.root,
    )
    return [("promoted model", request, outcome.training, Path(outcome.checkpoint_path))]


@contextmanager
def _cluster(experiment: Experiment) -> Iterator[Path]:
    """Ray, and a scratch folder in the run folder that is gone afterwards."""
    from orchestrator.backends.cluster import RayCluster
    from orchestrator.errors import ConfigError
    from orchestrator.planner import infeasible_workers

    spec = experiment.spec
    folder = (Path(spec.runs_dir) / spec.name).absolute()
    experiment.console.say("starting Ray for the drill")
    cluster = RayCluster.connect()
    try:
        faults = infeasible_workers(replace(spec, sweep=replace(spec.sweep, workers=(1,))), cluster.capacity)
        if faults:
            raise ConfigError(spec.name, faults)
        # A process of the cluster may still be writing its last line when the folder goes.
        with tempfile.TemporaryDirectory(prefix="drill-", dir=folder, ignore_cleanup_errors=True) as scratch:
            yield Path(scratch)
    finally:
        cluster.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _SmallRun:
    """A full run small enough to rehearse with."""

    candidate: Candidate
    epochs: int
    request: TrainRequest


def _train(
    experiment: Experiment, located: LocatedData, storage: Path, *, is_killed: bool
) -> tuple[_SmallRun, Restart]:
    """The small full run, killed once if asked; longer when it was over before it could be killed."""
    from orchestrator.backends.ray_train import RayTrainRunner
    from orchestrator.backends.rehearsal import Restart, rehearse_restart

    epochs = _epochs(experiment)
    while True:
        small = _small_run(experiment, located, epochs)
        spec, candidate = small.request.spec, small.candidate
        runner = RayTrainRunner(
            spec, fingerprint=located.summary.fingerprint, data_root=located.root, storage_path=storage
        )
        what = "its worker is killed on purpose, and Ray will say so" if is_killed else "for its checkpoint"
        experiment.console.say(f"{candidate.model} on {candidate.n_samples:,} rows, {epochs} epochs: {what}")
        if not is_killed:
            run = runner.run(candidate, forecast_of_anything(candidate), lambda _: None)
            return small, Restart(run=run)
        restart = rehearse_restart(runner, candidate, forecast_of_anything(candidate), storage)
        if restart.killed_pid is not None or epochs >= _MOST_EPOCHS:
            return small, restart
        epochs = min(5 * epochs, _MOST_EPOCHS)


def _epochs(experiment: Experiment) -> int:
    """So many that the worker is at it for a while, by what the smallest trials took."""
    trials = [each for each in experiment.journal.view.results if each.training is not None]
    smallest = min((each.trial.fraction for each in trials), default=None)
    seconds = [
        each.training.wall_time_s / each.training.epochs_run
        for each in trials
        if each.training is not None and each.trial.fraction == smallest
    ]
    wanted = math.ceil(_TRAINING_S / max(_EPOCH_S, *seconds)) if seconds else experiment.spec.training.epochs
    return min(max(wanted, _LEAST_EPOCHS), _MOST_EPOCHS)


def _small_run(experiment: Experiment, located: LocatedData, epochs: int) -> _SmallRun:
    """The model the verdict is about, or the simplest one, on the smallest fraction and one worker."""
    from orchestrator.results import Candidate
    from orchestrator.subsets import subset_size
    from orchestrator.training.request import TrainRequest, trial_of

    spec, verdict = experiment.spec, experiment.journal.view.verdict
    names = [model.name for model in spec.models]
    chosen = verdict.best.candidate.model if verdict is not None else names[0]
    fraction = min(spec.sweep.fractions)
    candidate = Candidate(
        model=chosen if chosen in names else names[0],
        fraction=fraction,
        n_samples=subset_size(located.summary.n_train, fraction),
        workers=1,
        purchase=spec.pricing.purchase[0],
    )
    # Early stopping might end the run before it could be killed.
    training = replace(spec.training, epochs=epochs, early_stopping=None)
    request = TrainRequest(
        spec=replace(spec, training=training),
        trial=trial_of(candidate),
        fingerprint=located.summary.fingerprint,
        data_root=located.root,
    )
    return _SmallRun(candidate=candidate, epochs=epochs, request=request)


def forecast_of_anything(candidate: Candidate) -> CandidateForecast:
    """A forecast that no run can leave: a drill is no evidence, and nothing is expected of it."""
    from orchestrator.results import Bill, CandidateForecast, Interval

    anything = Interval(low=-math.inf, median=0.0, high=math.inf, mean=0.0)
    return CandidateForecast(
        candidate=candidate,
        metric=anything,
        gain=anything,
        wall_time_s=anything,
        cost_usd=anything,
        gain_per_dollar=anything,
        probability=0.0,
        bill=Bill(lines=(), total_usd=anything, assumed=True),
    )


def restart_evidence(restart: Restart, epochs: int) -> str:
    """What was killed when, what went on, and what it cost."""
    if restart.killed_pid is None:
        return f"{epochs} epochs were over before a checkpoint was registered, so that nothing could be killed"
    killed = f"worker killed (SIGKILL) after the checkpoint of epoch {restart.killed_after_epoch} of {epochs}"
    if restart.went_on_in_pid is None:
        return f"{killed}; no other worker was seen to start"
    if not restart.resumed:
        again = ", ".join(map(str, restart.redone))
        return f"{killed}; another worker finished, but trained again what the checkpoint held: epochs {again}"
    n = len(restart.redone)
    again = "no finished epoch redone" if n == 0 else f"{n} finished epoch{'s' if n > 1 else ''} redone"
    lost = "" if restart.lost_s is None else f", {restart.lost_s:.1f} s lost"
    return f"{killed}, another one went on from there to the end: {again}{lost}"


def compare(restored: Restored, reported: TrainingResult, pids: Sequence[int | None]) -> tuple[bool, str]:
    """Whether a restored checkpoint has the metrics that were reported, with the tolerance in words.

    Args:
        restored: What the checkpoint came to.
        reported: What the training said.
        pids: Processes that had the model in memory.
    """
    if restored.pid in pids:
        return False, "was loaded by a process that had trained it, which proves nothing"
    if restored.loss is None:
        return True, (
            "was loaded by the training function into a fresh model and optimiser; only that function could evaluate "
            "it, so no metric was compared"
        )
    close = abs(restored.loss - reported.loss) <= _LOSS_TOLERANCE * max(abs(reported.loss), 1e-12)
    told = f"loss {restored.loss:.6g}, {reported.loss:.6g} reported ({_LOSS_TOLERANCE:.2%} may differ)"
    if reported.accuracy is not None and restored.accuracy is not None:
        # Two classes within rounding of each other may change places, in one row but hardly in two.
        close = close and abs(restored.accuracy - reported.accuracy) <= 1.5 / restored.n_rows
        told = f"accuracy {restored.accuracy:.4f}, {reported.accuracy:.4f} reported (one row may differ), {told}"
    return close, f"in a fresh process on {restored.n_rows:,} validation rows: {told}"
