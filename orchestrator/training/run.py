"""The handle a training holds: its share of the data, its model made data-parallel, its clock, its report.

A `TrainingRun` belongs to one rank of one training (a sweep trial or the full run). It shards every global batch over
the ranks, so that a step sees the same rows whatever the number of workers, and it keeps the time split of
`results.TimeSplit`: waiting for a batch is data wait, the rest of a step is compute, less the exposed all-reduce;
between the last batch of an epoch and `report` lies validation; inside `report`, the checkpoint.

Exposed all-reduce of a step: from the moment the last gradient bucket is handed to the process group (the backward
pass has then nothing left to compute) to its completion, taken by a DDP communication hook. On CUDA the hook returns
before the kernels end, so there the exposed part stays inside compute.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import GradBucket
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from orchestrator.errors import TaskError
from orchestrator.results import EpochPoint, TimeSplit, TrainingResult
from orchestrator.spec import ModelSpec, Scalar, TrainingSpec
from orchestrator.subsets import nested_order, subset_size, uniform_order
from orchestrator.training.checkpoints import serialised_bytes
from orchestrator.training.task import Datasets


class CheckpointStore(Protocol):
    """Where the state after an epoch goes, and where a resumed training finds it."""

    def save(self, state: dict[str, Any], point: EpochPoint) -> int:
        """Keep the state; every rank calls it, rank 0 holds the state. Returns bytes written on this rank."""

    def load(self) -> dict[str, Any] | None:
        """The newest state, or None for a fresh start."""


@dataclass(slots=True)
class _SyncClock:
    """Exposed all-reduce time of the step under way; written by the communication hook."""

    handed_over_at: float = 0.0
    completed_at: float = 0.0

    def take(self) -> float:
        exposed = max(0.0, self.completed_at - self.handed_over_at)
        self.handed_over_at = self.completed_at = 0.0
        return exposed


def _timed_all_reduce(clock: _SyncClock, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
    clock.handed_over_at = time.perf_counter()
    buffer = bucket.buffer().div_(dist.get_world_size())
    work = dist.all_reduce(buffer, async_op=True)

    def completed(future: torch.futures.Future[list[torch.Tensor]]) -> torch.Tensor:
        clock.completed_at = time.perf_counter()
        return future.value()[0]

    future: torch.futures.Future[torch.Tensor] = work.get_future().then(completed)
    return future


# DDP compares a hook's annotations with the types themselves; postponed annotations are strings.
_timed_all_reduce.__annotations__.update({"bucket": GradBucket, "return": torch.futures.Future[torch.Tensor]})


@dataclass(frozen=True, slots=True)
class _ShardedBatches(Sampler[list[int]]):
    """Batches of one rank: a slice of every global batch of the epoch's permutation.

    The permutation depends on (seed, epoch) alone, so all worker counts walk through the same global batches. Rows that
    would leave one rank with a larger last batch than another are left out of that epoch (fewer than ``world_size``).
    """

    n_rows: int
    global_batch_size: int
    rank: int
    world_size: int
    seed: int
    epoch: int

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.n_rows)
        for start in range(0, self.n_rows, self.global_batch_size):
            batch = order[start : start + self.global_batch_size]
            if len(batch) < self.global_batch_size:
                batch = batch[: len(batch) - len(batch) % self.world_size]
            share = batch[self.rank :: self.world_size]
            if len(share):
                yield share.tolist()

    def __len__(self) -> int:
        return steps_per_epoch(self.n_rows, self.global_batch_size, self.world_size)


def steps_per_epoch(n_rows: int, global_batch_size: int, world_size: int) -> int:
    """Optimiser steps of one epoch; a last batch smaller than the number of ranks is no step."""
    whole, rest = divmod(n_rows, global_batch_size)
    return whole + (rest >= world_size)


class _Loader:
    """Iterates one epoch's batches and charges the run's clock."""

    def __init__(self, run: TrainingRun, dataset: Dataset[Any], collate: Callable[[Any], Any] | None) -> None:
        self._run, self._dataset, self._collate = run, dataset, collate

    def __len__(self) -> int:
        return steps_per_epoch(len(self._dataset), self._run.training.global_batch_size, self._run.world_size)  # type: ignore[arg-type]  # map-style

    def __iter__(self) -> Iterator[Any]:
        run = self._run
        sampler = _ShardedBatches(
            len(self._dataset),  # type: ignore[arg-type]  # map-style data sets have a length
            run.training.global_batch_size,
            run.rank,
            run.world_size,
            run.seed,
            run.epoch,
        )
        batches = iter(DataLoader(self._dataset, batch_sampler=sampler, collate_fn=self._collate))
        while True:
            run._clock.step_ends()
            batch = next(batches, None)
            if batch is None:
                run._clock.epoch_trained()
                return
            batch = _to_device(batch, run.device)
            run._clock.batch_arrived()
            yield batch


def _to_device(batch: Any, device: torch.device) -> Any:
    if device.type == "cpu":
        return batch
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, list | tuple):
        return type(batch)(_to_device(item, device) for item in batch)
    if isinstance(batch, dict):
        return {key: _to_device(item, device) for key, item in batch.items()}
    return batch


class _Clock:
    """Charges every second of a training to one part of its `TimeSplit`."""

    def __init__(self, device: torch.device, started_at: float | None) -> None:
        self._device = device
        self.sync = _SyncClock()
        self.started_at = self._mark = time.perf_counter() if started_at is None else started_at
        self._parts = {"startup_s": 0.0, "compute_s": 0.0, "data_wait_s": 0.0, "gradient_sync_s": 0.0}
        self._parts |= {"validation_s": 0.0, "checkpoint_s": 0.0}
        self._has_started = False

    def _lap(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        lap, self._mark = now - self._mark, now
        return lap

    def step_ends(self) -> None:
        lap = self._lap()
        if not self._has_started:
            self._has_started = True
            self._parts["startup_s"] += lap
            return
        exposed = min(lap, self.sync.take())
        self._parts["gradient_sync_s"] += exposed
        self._parts["compute_s"] += lap - exposed

    def batch_arrived(self) -> None:
        self._parts["data_wait_s"] += self._lap()

    def epoch_trained(self) -> None:
        self._parts["data_wait_s"] += self._lap()

    def validated(self) -> None:
        self._parts["validation_s"] += self._lap()

    def checkpointed(self) -> None:
        self._parts["checkpoint_s"] += self._lap()

    def go_on_from(self, earlier: dict[str, float]) -> None:
        """Add the split of the training that a checkpoint resumes."""
        for part, seconds in earlier.items():
            self._parts[part] += seconds

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self.started_at

    def split(self) -> TimeSplit:
        return TimeSplit(**self._parts)


@dataclass(slots=True)
class _Best:
    """The epoch with the lowest validation loss, kept when early stopping is on."""

    point: EpochPoint | None = None
    state: dict[str, Any] = field(default_factory=dict)


class TrainingRun:
    """One rank's view of one training. Built by the backends; handed to `TrainingFunction.train`."""

    def __init__(
        self,
        *,
        model: ModelSpec,
        training: TrainingSpec,
        fraction: float,
        seed: int,
        fingerprint: str,
        datasets: Datasets,
        checkpoints: CheckpointStore,
        device: torch.device,
        on_epoch: Callable[[EpochPoint], None] | None = None,
        started_at: float | None = None,
    ) -> None:
        self.model, self.training, self.fraction, self.seed, self.device = model, training, fraction, seed, device
        self.epoch = 0
        self._clock = _Clock(device, started_at)
        self._fingerprint, self._datasets, self._checkpoints, self._on_epoch = (
            fingerprint,
            datasets,
            checkpoints,
            on_epoch,
        )
        self._stateful: tuple[Any, ...] = ()
        self._points: list[EpochPoint] = []
        self._best = _Best()
        self._samples_seen = 0
        self._checkpoint_bytes = 0
        self._resumed_wall_time_s = 0.0
        self._n_train = 0
        torch.manual_seed(seed)

    @property
    def options(self) -> dict[str, Scalar]:
        """The model's options from the config."""
        return dict(self.model.options)

    @property
    def rank(self) -> int:
        return dist.get_rank() if dist.is_initialized() else 0

    @property
    def world_size(self) -> int:
        return dist.get_world_size() if dist.is_initialized() else 1

    @property
    def is_main(self) -> bool:
        """True on the rank that prints, saves and reports."""
        return self.rank == 0

    def subset(self, dataset: Dataset[Any]) -> Subset[Any]:
        """The nested stratified share of the training pool that this trial is about."""
        rows = len(dataset)  # type: ignore[arg-type]  # map-style data sets have a length
        labels = self._datasets.train_labels
        if labels is None:
            order = uniform_order(rows, fingerprint=self._fingerprint, seed=self.seed)
        elif len(labels) != rows:
            raise TaskError(
                f"subset: {rows} rows but {len(labels)} labels in Datasets.train_labels; they must be equal"
            )
        else:
            order = nested_order(np.asarray(labels), fingerprint=self._fingerprint, seed=self.seed)
        self._n_train = subset_size(rows, self.fraction)
        return Subset(dataset, order[: self._n_train].tolist())

    def loader(self, dataset: Dataset[Any]) -> _Loader:
        """Batches of this rank, reshuffled every epoch; the global batch stays constant over worker counts."""
        self._n_train = self._n_train or len(dataset)  # type: ignore[arg-type]  # map-style data sets have a length
        return _Loader(self, dataset, self._datasets.collate)

    def prepare(self, model: nn.Module, *stateful: Any) -> nn.Module:
        """Move the model to its device, resume it, and make it data-parallel on two workers and more.

        Args:
            model: The model; its optimiser may already hold its parameters.
            stateful: Optimiser, schedule and whatever else has ``state_dict`` and must survive a restart.
        """
        model.to(self.device)
        self._stateful = (model, *stateful)
        self._resume()
        if self.world_size == 1:
            return model
        parallel = DistributedDataParallel(model, device_ids=[self.device] if self.device.type == "cuda" else None)
        if self.device.type == "cpu":
            parallel.register_comm_hook(self._clock.sync, _timed_all_reduce)
        return parallel

    def _resume(self) -> None:
        state = self._checkpoints.load()
        if state is None:
            return
        for item, item_state in zip(self._stateful, state["stateful"], strict=True):
            item.load_state_dict(item_state)
        self._points = [EpochPoint(**point) for point in state["points"]]
        self.epoch = len(self._points)
        self._samples_seen = state["samples_seen"]
        self._resumed_wall_time_s = self._points[-1].wall_time_s if self._points else 0.0
        self._checkpoint_bytes = serialised_bytes(state)
        self._clock.go_on_from(state["time"])
        if state["best_point"] is not None:
            self._best = _Best(EpochPoint(**state["best_point"]), state["best_state"])

    def epochs(self) -> Iterator[int]:
        """Epoch numbers from the resumed one on, until all are done or early stopping says so."""
        while self.epoch < self.training.epochs and not self._is_exhausted():
            yield self.epoch
            if len(self._points) == self.epoch:
                raise TaskError("the training function ended an epoch without run.report(...); report once per epoch")
            self.epoch += 1

    def _is_exhausted(self) -> bool:
        stopping = self.training.early_stopping
        if stopping is None or self._best.point is None:
            return False
        return self.epoch - 1 - self._best.point.epoch >= stopping.patience

    def report(
        self,
        *,
        validation_loss: float,
        train_loss: float,
        validation_accuracy: float | None = None,
        train_accuracy: float | None = None,
    ) -> None:
        """Once per epoch, on every rank: average the values over the ranks, record the epoch and save the state.

        Raises: TaskError: the validation loss is not a finite number, so training has diverged.
        """
        values: list[float | None] = [validation_loss, train_loss, validation_accuracy, train_accuracy]
        if self.world_size > 1:
            values = self._mean_over_ranks(values)
        loss, mean_train_loss, validation_accuracy, train_accuracy = values
        validation_loss = math.nan if loss is None else loss
        train_loss = math.nan if mean_train_loss is None else mean_train_loss
        self._clock.validated()
        if not np.isfinite(validation_loss):
            raise TaskError(
                f"validation loss is {validation_loss} after epoch {self.epoch}: training diverged; "
                f"lower training.learning_rate (now {self.training.learning_rate:g})"
            )
        world, batch = self.world_size, self.training.global_batch_size
        whole, rest = divmod(self._n_train, batch)
        self._samples_seen += whole * batch + rest - rest % world
        point = EpochPoint(
            epoch=self.epoch,
            samples_seen=self._samples_seen,
            wall_time_s=self._resumed_wall_time_s + self._clock.elapsed_s,
            train_loss=float(train_loss),
            train_accuracy=train_accuracy,
            validation_loss=float(validation_loss),
            validation_accuracy=validation_accuracy,
        )
        self._points.append(point)
        if self._best.point is None or point.validation_loss < self._best.point.validation_loss:
            keep = self.training.early_stopping is not None
            self._best = _Best(point, copy.deepcopy(self._stateful[0].state_dict()) if keep and self._stateful else {})
        self._checkpoint_bytes = self._checkpoints.save(self._state() if self.is_main else {}, point)
        self._clock.checkpointed()
        if self._on_epoch is not None and self.is_main:
            self._on_epoch(point)

    def _state(self) -> dict[str, Any]:
        return {
            "stateful": [item.state_dict() for item in self._stateful],
            "points": [asdict(point) for point in self._points],
            "samples_seen": self._samples_seen,
            "time": asdict(self._clock.split()),
            "best_point": asdict(self._best.point) if self._best.point else None,
            "best_state": self._best.state,
        }

    def finish(self) -> TrainingResult:
        """The result, equal on every rank: metrics of the kept epoch, times averaged over the ranks.

        Raises: TaskError: the training function returned without a report.
        """
        if not self._points:
            raise TaskError("the training function returned without run.report(...); report once per epoch")
        kept = self._best.point if self.training.early_stopping is not None else None
        final = kept or self._points[-1]
        split = self._clock.split()
        if self.world_size > 1:
            parts = self._mean_over_ranks([getattr(split, part.name) for part in fields(split)])
            split = TimeSplit(**{part.name: value or 0.0 for part, value in zip(fields(split), parts, strict=True)})
        return TrainingResult(
            accuracy=final.validation_accuracy,
            loss=final.validation_loss,
            train_accuracy=final.train_accuracy,
            train_loss=final.train_loss,
            n_train=self._n_train,
            n_validation=len(self._datasets.validation),  # type: ignore[arg-type]  # map-style
            epochs_run=len(self._points),
            samples_seen=self._samples_seen,
            wall_time_s=self._resumed_wall_time_s + self._clock.elapsed_s,
            time=split,
            epochs=tuple(self._points),
            device=str(self.device),
            checkpoint_bytes=self._checkpoint_bytes,
        )

    def _mean_over_ranks(self, values: Sequence[float | None]) -> list[float | None]:
        """Means over the ranks; a value that is None (on every rank alike) stays None."""
        means = torch.tensor([0.0 if v is None else float(v) for v in values], dtype=torch.float64, device=self.device)
        dist.all_reduce(means)
        means /= self.world_size
        return [None if given is None else mean for given, mean in zip(values, means.tolist(), strict=True)]

    def final_model_state(self) -> dict[str, Any]:
        """Weights the reported metrics belong to: the best epoch's under early stopping, else the last."""
        return self._best.state or (self._stateful[0].state_dict() if self._stateful else {})
