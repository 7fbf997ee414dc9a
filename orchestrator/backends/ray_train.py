"""The full run: one Ray Train job under a fixed name.

The training function is the one a sweep trial runs. Ray finds the newest checkpoint under (storage path, name) by
itself, so a driver that was killed goes on where it was when the same promotion is asked for again.
"""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

from orchestrator.backends.faults import in_words, is_of_a_collective
from orchestrator.backends.worker_pool import COLLECTIVE_TIMEOUT_S
from orchestrator.errors import OrchestratorError, TaskError
from orchestrator.ports import FullRunResult
from orchestrator.results import Candidate, CandidateForecast, DataRead, EpochPoint, TrainingResult
from orchestrator.spec import ExperimentSpec, digest, evidence_scope
from orchestrator.training.checkpoints import read_checkpoint, write_checkpoint
from orchestrator.training.loop import train
from orchestrator.training.ready import make_ready
from orchestrator.training.request import TrainRequest, trial_of

_STATE, _MODEL = "state.pt", "model.pt"
_RESTARTS = 3
_POLL_S = 0.5


class RayTrainRunner:
    """`ports.FullRunner` on a Ray cluster."""

    def __init__(self, spec: ExperimentSpec, *, fingerprint: str, data_root: Path | None, storage_path: Path) -> None:
        self._spec, self._fingerprint, self._data_root = spec, fingerprint, data_root
        self._storage_path = storage_path

    def make_ready(self, candidate: Candidate) -> DataRead | None:
        """Read and decode the candidate's rows ahead, in a worker. Raises DataError, TaskError."""
        asked = ray.remote(num_cpus=self._spec.resources.cpus_per_worker, max_retries=0)(make_ready)
        try:
            read: DataRead | None = ray.get(asked.remote(self._spec, self._data_root, [trial_of(candidate)]))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, OrchestratorError):
                raise error.cause from None
            raise TaskError(f"reading the data of {candidate} failed: {in_words(error.cause, str(error))}") from error
        return read

    def run(
        self, candidate: Candidate, forecast: CandidateForecast, on_progress: Callable[[str], None]
    ) -> FullRunResult:
        """Train the candidate to its end, from its newest checkpoint when there is one.

        Raises: TaskError: training failed for good, with the reason of the rank that failed first.
        """
        spec = self._spec
        request = TrainRequest(
            spec=spec,
            trial=trial_of(candidate),
            fingerprint=self._fingerprint,
            data_root=self._data_root,
        )
        progress: Any = ray.remote(num_cpus=0)(_Progress).remote()
        use_gpu = spec.resources.gpus_per_worker > 0
        resources: dict[str, float] = {"CPU": spec.resources.cpus_per_worker}
        if use_gpu:
            resources["GPU"] = spec.resources.gpus_per_worker
        trainer = _Trainer(
            _train_one_rank,
            train_loop_config={"request": request, "progress": progress},
            torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo", timeout_s=int(COLLECTIVE_TIMEOUT_S)),
            scaling_config=ScalingConfig(
                num_workers=candidate.workers, use_gpu=use_gpu, resources_per_worker=resources
            ),
            run_config=RunConfig(
                name=self._name(candidate),
                storage_path=str(self._storage_path.resolve()),
                checkpoint_config=CheckpointConfig(num_to_keep=spec.full_run.checkpoint.keep),
                failure_config=FailureConfig(max_failures=_RESTARTS),
            ),
        )
        started_at = time.perf_counter()
        with _own_sigint_handler(), _following(progress, on_progress):
            try:
                result = trainer.fit()
            except ray.train.TrainingFailedError as error:
                raise TaskError(f"full run of {candidate} failed: {_first_cause(error)}") from error
        wall_time_s = time.perf_counter() - started_at
        training = ray.get(progress.result.remote())
        if training is None or result.checkpoint is None:
            raise TaskError(f"full run of {candidate} ended without a result; its storage is {self._storage_path}")
        # What a driver that was killed had trained before is part of the run and of its bill.
        return FullRunResult(
            training=training,
            wall_time_s=wall_time_s + ray.get(progress.trained_earlier_s.remote()),
            checkpoint_path=str(Path(result.checkpoint.path) / _MODEL),
        )

    def _name(self, candidate: Candidate) -> str:
        """One name per question, so that the same promotion resumes and a different one starts afresh."""
        scope = evidence_scope(self._spec, self._fingerprint, candidate.model)
        return f"full-run-{digest([scope, candidate.fraction, candidate.workers])}"


class _Trainer(TorchTrainer):
    """A `TorchTrainer` without the 12 s stall after training.

    Ray 2.60 waits for its placement group cleaner to confirm its end, which it never does (ray#65447). A short wait
    keeps the cleaner's purpose, to free the group of a controller that died.
    """

    def _create_default_callbacks(self) -> list[Any]:
        return [
            PlacementGroupCleanerCallback(stop_timeout=0.5) if isinstance(c, PlacementGroupCleanerCallback) else c
            for c in super()._create_default_callbacks()
        ]


def _train_one_rank(config: dict[str, Any]) -> None:
    request: TrainRequest = config["request"]
    torch.set_num_threads(request.spec.resources.cpus_per_worker)
    store = _RayTrainCheckpoints(config["progress"])

    def on_epoch(point: EpochPoint) -> None:
        config["progress"].tell.remote(point)

    result, model_state = train(
        request,
        checkpoints=store,
        on_epoch=on_epoch,
        device=ray.train.torch.get_device(),
        started_at=time.perf_counter(),
    )
    store.finish(model_state)
    if ray.train.get_context().get_world_rank() == 0:
        ray.get(config["progress"].finish.remote(result))


class _RayTrainCheckpoints:
    """Reports each epoch's state to Ray Train, which stores it and finds it again after a failure."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._state: dict[str, Any] = {}

    def save(self, state: dict[str, Any], point: EpochPoint) -> int:
        self._state = state
        return self._report({_STATE: state}, {"epoch": point.epoch, "validation_loss": point.validation_loss})

    def finish(self, model_state: dict[str, Any]) -> None:
        """The last checkpoint: resumable state and the weights the metrics belong to, side by side."""
        self._report({_STATE: self._state, _MODEL: model_state}, {})

    def _report(self, files: dict[str, dict[str, Any]], metrics: dict[str, Any]) -> int:
        if ray.train.get_context().get_world_rank() != 0:
            ray.train.report(metrics)
            return 0
        with tempfile.TemporaryDirectory() as folder:
            written = [write_checkpoint(state, Path(folder) / name) for name, state in files.items()]
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))
        return sum(written)

    def load(self) -> dict[str, Any] | None:
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is not None:
            with checkpoint.as_directory() as folder:
                # Kept for `finish`, which is next when every epoch was trained before.
                self._state = read_checkpoint(Path(folder) / _STATE)
        if ray.train.get_context().get_world_rank() == 0:
            points = self._state.get("points") or [{"wall_time_s": 0.0}]
            ray.get(self._progress.started.remote(points[-1]["wall_time_s"]))
        return self._state or None


class _Progress:
    """Epochs and the result as rank 0 reports them, waiting for the driver to fetch them."""

    def __init__(self) -> None:
        self._points: list[EpochPoint] = []
        self._result: TrainingResult | None = None
        self._trained_earlier_s: float | None = None

    def started(self, trained_s: float) -> None:
        """A start or restart from a checkpoint; only before the first one did another driver train."""
        if self._trained_earlier_s is None:
            self._trained_earlier_s = trained_s

    def trained_earlier_s(self) -> float:
        return self._trained_earlier_s or 0.0

    def finish(self, result: TrainingResult) -> None:
        self._result = result

    def result(self) -> TrainingResult | None:
        return self._result

    def tell(self, point: EpochPoint) -> None:
        self._points.append(point)

    def take(self) -> list[EpochPoint]:
        points, self._points = self._points, []
        return points


@contextmanager
def _following(progress: Any, say: Callable[[str], None]) -> Iterator[None]:
    """Say each finished epoch while the block runs."""
    ended = threading.Event()

    def tell_all() -> None:
        for point in ray.get(progress.take.remote()):
            accuracy = point.validation_accuracy
            shown = f"accuracy {accuracy:.4f}, " if accuracy is not None else ""
            loss, after_s = point.validation_loss, point.wall_time_s
            say(f"full run: epoch {point.epoch + 1}: {shown}loss {loss:.4f} after {after_s:.1f} s")

    def poll() -> None:
        while not ended.wait(_POLL_S):
            tell_all()

    follower = threading.Thread(target=poll, name="full-run-progress", daemon=True)
    follower.start()
    try:
        yield
    finally:
        ended.set()
        follower.join()
        tell_all()


@contextmanager
def _own_sigint_handler() -> Iterator[None]:
    """`fit` leaves its SIGINT handler behind; put ours back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, ours)


def _first_cause(error: ray.train.TrainingFailedError) -> str:
    failures = getattr(error, "worker_failures", {})
    if not failures:
        return str(error).strip().splitlines()[-1]
    causes = {rank: cause for rank, cause in failures.items() if not is_of_a_collective(cause)} or failures
    rank, cause = min(causes.items(), key=lambda item: item[0])
    # The exceptions come without their tracebacks; those are in the message, a section for each kind of fault.
    sections = str(error).split("[Rank ")
    trace = next((section for section in sections if str(cause) in section), "")
    return f"rank {rank}: {in_words(cause, trace)}"
