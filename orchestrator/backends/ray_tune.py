"""Sweep trials on Ray Tune.

A Tune trial is a thin coordinator: it borrows a group of warm workers (`worker_pool`), has them train, and reports one
result. Tune brings scheduling and the searcher protocol (the planner's order is a `Searcher`); the journal, not Tune's
experiment folder, is what a restart goes on from, so a killed driver needs nothing of Tune's state.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from orchestrator.backends.cluster import RayCluster
from orchestrator.backends.faults import in_words, is_of_a_collective
from orchestrator.backends.worker_pool import GroupPlace, WorkerPool
from orchestrator.errors import OrchestratorError, TaskError
from orchestrator.ports import SmokeReport, TrialSource
from orchestrator.results import DataRead, IngestMeasurement, TrainingResult, TrialResult
from orchestrator.spec import ExperimentSpec, TrialSpec, evidence_scope, trial_key
from orchestrator.training.request import SmokeResult, TrainRequest

_ATTEMPTS = 2
"""A trial whose worker process died is tried once more on fresh workers; an error raised by the task is not."""

_RANKS_FAIL_TOGETHER_S = 2.0
"""How long the other ranks get to end by themselves after one has raised, before their processes are replaced."""

_AHEAD = 1
"""Coordinators waiting for workers beyond those training, so that Tune's own time per trial hides behind training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """What a coordinator reports of one trial."""

    training: TrainingResult | None
    error: str | None
    wall_time_s: float
    queue_wait_s: float
    started_at: str


class RayTuneRunner:
    """`ports.TrialRunner` on a Ray cluster."""

    def __init__(
        self,
        spec: ExperimentSpec,
        *,
        fingerprint: str,
        data_root: Path | None,
        cluster: RayCluster,
        draining: Callable[[], bool] = lambda: False,
    ) -> None:
        """Start the warm workers.

        Args:
            spec: The experiment.
            fingerprint: Of the data, part of every trial's key.
            data_root: Folder of the prepared data, readable on every node; None when the task brings its own.
            cluster: A connected cluster.
            draining: Asked before each launch; True stops launching while running trials finish.
        """
        self._spec, self._fingerprint, self._draining = spec, fingerprint, draining
        self._request = TrainRequest(
            spec=spec,
            trial=TrialSpec(model=spec.models[0].name, fraction=1.0, workers=1, seed=0),
            fingerprint=fingerprint,
            data_root=data_root,
        )
        size = cluster.pool_size(spec)
        self._n_workers, self._slots = size.workers, min(size.workers, size.max_groups)
        self._pool: Any = ray.remote(num_cpus=0, max_concurrency=1000)(WorkerPool).remote(size)
        self.worker_pids: list[int] = ray.get(self._pool.ready.remote())

    def make_ready(self, trials: Sequence[TrialSpec]) -> DataRead | None:
        """Have one worker read and decode the rows of the trials ahead. Raises DataError, TaskError."""
        read: DataRead | None = self._on_one_worker(
            "reading the data ahead", lambda worker: worker.make_ready.remote(self._request, trials)
        )
        return read

    def probe(self, model: str, n_samples: int) -> IngestMeasurement | None:
        """Measure the data path and the step on one worker, the others idle. Raises TaskError."""
        request = self._request_for(model)
        measured: IngestMeasurement | None = self._on_one_worker(
            f"probing {model}", lambda worker: worker.probe.remote(request, n_samples)
        )
        return measured

    def _on_one_worker(self, what: str, ask: Callable[[Any], Any]) -> Any:
        """The answer of one worker. Raises our own errors as they are, and TaskError for any other."""
        (worker,) = ray.get(self._pool.borrow.remote(what, 1))
        try:
            return ray.get(ask(worker))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, OrchestratorError):
                raise error.cause from None
            raise TaskError(f"{what} with task {self._spec.task!r} failed: {_told(error)}") from error
        except ray.exceptions.RayError as error:
            raise TaskError(
                f"{what}: the worker process died; often that is memory: lower training.global_batch_size or the "
                f"size of the rows ({str(error).strip().splitlines()[0]})"
            ) from error
        finally:
            ray.get(self._pool.give_back.remote(what))

    def smoke(self) -> list[SmokeReport]:
        """One training step of every model on every worker count, and at least one on every worker.

        So no trial pays for a cold worker, and a model that cannot be trained in a group is known before one is paid.

        Raises: TaskError: a model cannot be built or trained.
        """
        workers = ray.get(self._pool.borrow.remote("smoke", self._n_workers))
        try:
            models = [model.name for model in self._spec.models]
            reports = self._smoke_alone(models, workers)
            for model in models:
                for count in sorted({count for count in self._spec.sweep.workers if count > 1}):
                    self._smoke_group(model, workers[:count])
        finally:
            ray.get(self._pool.give_back.remote("smoke"))
        return reports

    def _smoke_alone(self, models: Sequence[str], workers: Sequence[Any]) -> list[SmokeReport]:
        asked = [(model, worker.smoke.remote(self._request_for(model))) for model, worker in _cover(models, workers)]
        # Every answer is waited for: Ray prints the traceback of an error that nobody fetched.
        answers = [(model, _smoke_answer(model, ref)) for model, ref in asked]
        for _, answer in answers:
            if isinstance(answer, TaskError):
                raise answer
        reports = {m: SmokeReport(model=m, **asdict(a)) for m, a in answers if isinstance(a, SmokeResult)}
        return list(reports.values())

    def _smoke_group(self, model: str, group: list[Any]) -> None:
        what = f"smoke test of {model} on {len(group)} workers"
        try:
            places = _places(group)
        except ray.exceptions.RayError as error:
            raise TaskError(f"{what}: a worker process died ({str(error).strip().splitlines()[0]})") from error
        request = self._request_for(model)
        ranks = [worker.smoke.remote(request, place) for worker, place in zip(group, places, strict=True)]
        failures, _ = _first_failures(ranks)
        if failures:
            cause = _cause_of(failures)
            raise TaskError(f"{what}: {_told(cause) if isinstance(cause, ray.exceptions.RayTaskError) else cause}")

    def _request_for(self, model: str) -> TrainRequest:
        return replace(self._request, trial=replace(self._request.trial, model=model))

    def run(self, source: TrialSource, on_result: Callable[[TrialResult], bool]) -> None:
        """Run what the source gives, a coordinator each, and hand every result over in this process."""
        if source.n_left == 0 or self._draining():
            return
        queue = _SourceSearcher(source, self._draining)
        hand_over = _HandOver(self._as_result, on_result, queue, self._pool, self._draining)
        n_coordinators = self._slots + _AHEAD
        ray.get(self._pool.start_lending.remote(min(n_coordinators, source.n_left)))
        coordinator = tune.with_parameters(_coordinate, pool=self._pool, request=self._request)
        _quiet_tune()
        with TemporaryDirectory(prefix="orchestrator-tune-", ignore_cleanup_errors=True) as folder:
            tuner = tune.Tuner(
                tune.with_resources(coordinator, {"cpu": RayCluster.COORDINATOR_CPUS}),
                tune_config=tune.TuneConfig(
                    search_alg=queue,
                    num_samples=-1,
                    max_concurrent_trials=n_coordinators,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(name="sweep", storage_path=folder, verbose=0, callbacks=[hand_over]),
            )
            tuner.fit()
        if hand_over.fault is not None:
            raise hand_over.fault

    def _as_result(self, trial: TrialSpec, measured: _Measured) -> TrialResult:
        return TrialResult(
            key=trial_key(self._spec, self._fingerprint, trial),
            scope=evidence_scope(self._spec, self._fingerprint, trial.model),
            fingerprint=self._fingerprint,
            trial=trial,
            status="finished" if measured.training is not None else "failed",
            training=measured.training,
            error=measured.error,
            wall_time_s=measured.wall_time_s,
            queue_wait_s=measured.queue_wait_s,
            started_at=measured.started_at,
        )

    def close(self) -> None:
        """End the warm workers. (Killing the pool ends its workers: it owns them.)"""
        ray.kill(self._pool)


def _coordinate(config: dict[str, Any], pool: Any, request: TrainRequest) -> None:
    """The Tune trainable: one trial from borrowing its workers to its report."""
    trial, lease = TrialSpec(**config["trial"]), config["lease"]
    queue_wait_s = wall_time_s = 0.0
    attempt = None
    for _ in range(_ATTEMPTS):
        asked_at = time.perf_counter()
        group = ray.get(pool.borrow.remote(lease, trial.workers))
        if not group:  # the sweep has stopped
            break
        started_at, begun = datetime.now(UTC), time.perf_counter()
        attempt = _train_on(group, replace(request, trial=trial))
        wall_time_s += time.perf_counter() - begun
        queue_wait_s += begun - asked_at
        ray.get(pool.give_back.remote(lease, attempt.is_broken))
        if not attempt.is_worth_retrying:
            break
    if attempt is None:
        tune.report({"wall_time_s": 0.0})
        return
    measured = _Measured(
        training=attempt.training,
        error=attempt.error,
        wall_time_s=wall_time_s,
        queue_wait_s=queue_wait_s,
        started_at=started_at.isoformat(timespec="milliseconds"),
    )
    tune.report({"measured": measured, "wall_time_s": wall_time_s})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """One try at a trial: its result or its error, and the state it left the workers in."""

    training: TrainingResult | None = None
    error: str | None = None
    is_broken: bool = False
    is_worth_retrying: bool = False


def _train_on(group: list[Any], request: TrainRequest) -> _Attempt:
    """Train on borrowed workers."""
    if len(group) == 1:
        ranks = [group[0].train.remote(request, None)]
    else:
        try:
            places = _places(group)
        except ray.exceptions.RayError as error:
            return _lost(error)
        ranks = [worker.train.remote(request, place) for worker, place in zip(group, places, strict=True)]
    # Waiting for whichever ends first, not for rank 0, shows a rank that raised while the others wait for it.
    failures, pending = _first_failures(ranks)
    if not failures:
        return _Attempt(training=ray.get(ranks[0]))
    lost = [error for error in failures if not isinstance(error, ray.exceptions.RayTaskError)]
    if lost:
        return _lost(lost[0])
    return _Attempt(error=_told(_cause_of(failures)), is_broken=bool(pending))


def _places(group: list[Any]) -> list[GroupPlace]:
    """Where the ranks of a group meet. Raises RayError: the first worker is gone."""
    host, port = ray.get(group[0].free_address.remote())
    return [GroupPlace(rank=rank, world_size=len(group), host=host, port=port) for rank in range(len(group))]


def _cause_of(failures: Sequence[Any]) -> Any:
    """The failure that brought the others about: one that is not of a collective, which only waited in vain."""
    return next((error for error in failures if not is_of_a_collective(getattr(error, "cause", None))), failures[0])


def _first_failures(ranks: list[Any]) -> tuple[list[ray.exceptions.RayError], list[Any]]:
    """Wait until all ranks are done or some have failed; the failures, and the ranks that then still hang."""
    failures: list[ray.exceptions.RayError] = []
    pending, timeout_s = ranks, None
    while pending:
        done, pending = ray.wait(pending, timeout=timeout_s)
        if not done:
            break
        try:
            ray.get(done)
        except ray.exceptions.RayError as error:
            failures.append(error)
            # The same fault on every rank (a diverged loss) ends them all; else the others sit in a collective.
            timeout_s = _RANKS_FAIL_TOGETHER_S
    return failures, pending


def _lost(error: ray.exceptions.RayError) -> _Attempt:
    reason = f"worker process lost: {str(error).strip().splitlines()[0]}"
    return _Attempt(error=reason, is_broken=True, is_worth_retrying=True)


def _told(error: ray.exceptions.RayTaskError) -> str:
    cause = error.cause if isinstance(error.cause, BaseException) else error
    return in_words(cause, str(error))


def _cover(models: Sequence[str], workers: Sequence[Any]) -> list[tuple[str, Any]]:
    """Pairs that use every model and every worker at least once, the models in order first."""
    n = max(len(models), len(workers))
    return [(models[i % len(models)], workers[i % len(workers)]) for i in range(n)]


def _smoke_answer(model: str, ref: Any) -> SmokeResult | TaskError:
    try:
        result: SmokeResult = ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        return (
            error.cause if isinstance(error.cause, TaskError) else TaskError(f"smoke test of {model}: {_told(error)}")
        )
    except ray.exceptions.RayError as error:
        return TaskError(
            f"smoke test of {model}: the worker process died; often that is memory: lower "
            f"training.global_batch_size or the model's size ({str(error).strip().splitlines()[0]})"
        )
    return result


class _StaysHere:
    """Tune writes its callbacks and searcher to disk as it goes; ours point into this process and need no restoring."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _SourceSearcher(_StaysHere, Searcher):
    """Hands Tune whatever the planner's source gives next."""

    def __init__(self, source: TrialSource, draining: Callable[[], bool]) -> None:
        super().__init__(metric="wall_time_s", mode="min")
        self._source = source
        self._draining = draining
        self.running: dict[str, TrialSpec] = {}
        """By Tune's own id."""
        self.is_stopped = False

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self.is_stopped or self._draining():
            return str(Searcher.FINISHED)
        trial = self._source.next(tuple(self.running.values()))
        if trial is None:
            # None has Tune ask again after the next result.
            return str(Searcher.FINISHED) if self._source.n_left == 0 else None
        self.running[trial_id] = trial
        return {"trial": asdict(trial), "lease": trial_id}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing to learn from the report: the planner has the journal."""
        self.running.pop(trial_id, None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to keep: a restart plans from the journal."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to bring back: a restart plans from the journal."""


class _HandOver(_StaysHere, tune.Callback):
    """Passes each result to the sweep as it arrives; a fault in the sweep's own handling ends the sweep, not Tune."""

    def __init__(
        self,
        as_result: Callable[[TrialSpec, _Measured], TrialResult],
        on_result: Callable[[TrialResult], bool],
        queue: _SourceSearcher,
        pool: Any,
        draining: Callable[[], bool],
    ) -> None:
        self._as_result, self._on_result, self._queue, self._pool = as_result, on_result, queue, pool
        self._draining = draining
        self.fault: Exception | None = None

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Several times a second: see whether the user asked to stop."""
        if self._draining():
            self._stop()

    def _stop(self) -> None:
        """Launch nothing more: neither what is planned, nor the coordinators that wait for workers."""
        if not self._queue.is_stopped:
            self._queue.is_stopped = True
            ray.get(self._pool.stop_lending.remote())

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "measured" in result:
            # Before the source is asked again: this trial is in the journal then, and no longer running.
            self._queue.running.pop(trial.config["lease"], None)
            self._pass_on(TrialSpec(**trial.config["trial"]), result["measured"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The coordinator itself died: free its workers and record the trial as failed."""
        ray.get(self._pool.give_back.remote(trial.config["lease"], True))
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        lost = _Measured(training=None, error="coordinator lost", wall_time_s=0.0, queue_wait_s=0.0, started_at=now)
        self._pass_on(TrialSpec(**trial.config["trial"]), lost)

    def _pass_on(self, trial: TrialSpec, measured: _Measured) -> None:
        if self.fault is not None:
            return
        try:
            go_on = self._on_result(self._as_result(trial, measured))
        except Exception as error:  # raised again by `run` once Tune has wound down
            self.fault, go_on = error, False
        if not go_on:
            self._stop()


def _quiet_tune() -> None:
    """Tune's own tables, loggers and signal handler are replaced by ours."""
    os.environ.update(
        TUNE_DISABLE_SIGINT_HANDLER="1",
        TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
        TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S="0",
        RAY_AIR_NEW_OUTPUT="0",
    )
