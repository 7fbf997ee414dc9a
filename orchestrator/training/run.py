"""The handle a training holds: its share of the data, its model made data-parallel, its clock, its report.

A `TrainingRun` belongs to one rank of one training (a sweep trial or the full run). It shards every global batch over
the ranks, so that a step sees the same rows whatever the number of workers, and it keeps the time split of
`results.TimeSplit`: waiting for a batch is data wait, the rest of a step is compute, less the exposed all-reduce;
between the last batch of an epoch and `report` lies validation; inside `report`, the checkpoint.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

from orchestrator.errors import TaskError
from orchestrator.results import EpochPoint, TimeSplit, TrainingResult
from orchestrator.spec import ModelSpec, Scalar, TrainingSpec
from orchestrator.subsets import IntArray, nested_order, subset_size, uniform_order
from orchestrator.training.batches import Loader, Rows
from orchestrator.training.checkpoints import serialised_bytes
from orchestrator.training.clock import Clock, timed_all_reduce
from orchestrator.training.task import Datasets


class CheckpointStore(Protocol):
    """Where the state after an epoch goes, and where a resumed training finds it."""

    def save(self, state: dict[str, Any], point: EpochPoint) -> int:
        """Keep the state; every rank calls it, rank 0 holds the state. Returns bytes written on this rank."""

    def load(self) -> dict[str, Any] | None:
        """The newest state, or None for a fresh start."""


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
        loader_workers: int = 0,
    ) -> None:
        self.loader_workers = loader_workers
        self.model, self.training, self.fraction, self.seed, self.device = model, training, fraction, seed, device
        self.epoch = 0
        self.clock = Clock(device, started_at)
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
        self._loaders: list[Loader] = []
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

    def subset(self, dataset: Dataset[Any]) -> Rows:
        """The nested stratified share of the training pool that this trial is about.

        Raises: TaskError: ``Datasets.train_labels`` are not those of this data set.
        """
        n_rows = len(dataset)  # type: ignore[arg-type]  # map-style data sets have a length
        labels = self._datasets.train_labels
        if labels is not None and len(labels) != n_rows:
            raise TaskError(
                f"subset: {n_rows} rows but {len(labels)} labels in Datasets.train_labels; they must be equal"
            )
        self._n_train = subset_size(n_rows, self.fraction)
        places = self._places(n_rows, labels)
        return Rows(dataset, places, None if labels is None else np.asarray(labels)[places])

    def _places(self, n_rows: int, labels: np.ndarray | None) -> IntArray:
        if self._datasets.subset is not None:
            return self._datasets.subset(self._n_train, self.seed)
        if labels is None:
            return uniform_order(n_rows, fingerprint=self._fingerprint, seed=self.seed)[: self._n_train]
        return nested_order(np.asarray(labels), fingerprint=self._fingerprint, seed=self.seed)[: self._n_train]

    def loader(self, dataset: Dataset[Any]) -> Loader:
        """Batches of this rank, reshuffled every epoch; the global batch stays constant over worker counts."""
        self._n_train = self._n_train or len(dataset)  # type: ignore[arg-type]  # map-style data sets have a length
        self._loaders.append(Loader(self, dataset, self._datasets.collate))
        return self._loaders[-1]

    def close(self) -> None:
        """End the loaders' processes, if there are any."""
        for loader in self._loaders:
            loader.close()

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
            parallel.register_comm_hook(self.clock.sync, timed_all_reduce)
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
        self.clock.go_on_from(state["time"])
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
        self.clock.validated()
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
            wall_time_s=self._resumed_wall_time_s + self.clock.elapsed_s,
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
        self.clock.checkpointed()
        if self._on_epoch is not None and self.is_main:
            self._on_epoch(point)

    def _state(self) -> dict[str, Any]:
        return {
            "stateful": [item.state_dict() for item in self._stateful],
            "points": [asdict(point) for point in self._points],
            "samples_seen": self._samples_seen,
            "time": asdict(self.clock.split()),
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
        split = self.clock.split()
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
            wall_time_s=self._resumed_wall_time_s + self.clock.elapsed_s,
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
