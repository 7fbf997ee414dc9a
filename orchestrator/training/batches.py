"""The rows a rank sees: its slice of every global batch, the same global batches whatever the number of ranks."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from orchestrator.training.epoch_order import EpochOrder

if TYPE_CHECKING:
    from orchestrator.training.run import TrainingRun

IntArray = npt.NDArray[np.int64]

_ORDERED_AT_ONCE = 8192
"""Positions of the epoch's order computed in one go; a resumed epoch waits for one such block."""


_BATCHES_AHEAD = 4
"""Batches that each loader process keeps ready."""


class Rows(Dataset[Any]):
    """Some rows of a map-style data set, with their classes. Positions are an array, 8 bytes each."""

    def __init__(self, dataset: Dataset[Any], places: IntArray, labels: npt.NDArray[np.integer] | None) -> None:
        self.dataset, self.places, self.labels = dataset, places, labels
        self._read_batch: Callable[[IntArray], Any] | None = getattr(dataset, "__getitems__", None)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, position: int) -> Any:
        return self.dataset[int(self.places[position])]

    def __getitems__(self, positions: Sequence[int] | IntArray) -> Any:
        places = self.places[positions]
        if self._read_batch is not None:
            return self._read_batch(places)
        return [self.dataset[place] for place in places.tolist()]


@dataclass(frozen=True)
class ShardedBatches(Sampler[IntArray]):
    """Batches of one rank: a slice of every global batch of the epoch's permutation.

    The permutation depends on (seed, epoch) alone, so all worker counts walk through the same global batches. Within a
    batch, rows are dealt out class by class: shares of the ranks are equal in size to within one row, and so are their
    rows of each class. Rows that would leave one rank with a larger last batch than another are left out of that epoch
    (fewer than ``world_size``).
    """

    n_rows: int
    global_batch_size: int
    rank: int
    world_size: int
    seed: int
    epoch: int
    labels: npt.NDArray[np.integer] | None = None
    """Class of each row. Shape (n_rows,)."""
    first_step: int = 0
    """Where a resumed epoch goes on."""
    _order: EpochOrder = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_order", EpochOrder(self.n_rows, self.seed, self.epoch))

    def __iter__(self) -> Iterator[IntArray]:
        for batch in self._global_batches():
            if len(batch) < self.global_batch_size:
                batch = batch[: len(batch) - len(batch) % self.world_size]
            if len(batch):
                yield self._share(batch)

    def __len__(self) -> int:
        return steps_per_epoch(self.n_rows, self.global_batch_size, self.world_size) - self.first_step

    def _global_batches(self) -> Iterator[IntArray]:
        batch = self.global_batch_size
        block = max(1, _ORDERED_AT_ONCE // batch) * batch
        for start in range(self.first_step * batch, self.n_rows, block):
            rows = self._order.rows(start, min(start + block, self.n_rows))
            for first in range(0, len(rows), batch):
                yield rows[first : first + batch]

    def _share(self, batch: IntArray) -> IntArray:
        if self.world_size == 1:
            return batch
        if self.labels is not None:
            batch = batch[np.argsort(self.labels[batch], kind="stable")]
        return batch[self.rank :: self.world_size]


def steps_per_epoch(n_rows: int, global_batch_size: int, world_size: int) -> int:
    """Optimiser steps of one epoch; a last batch smaller than the number of ranks is no step."""
    whole, rest = divmod(n_rows, global_batch_size)
    return whole + (rest >= world_size)


class Loader:
    """Iterates one epoch's batches and charges the run's clock.

    With ``resources.loader_workers`` above 0, as many processes beside the training read and decode batches ahead.
    """

    def __init__(self, run: TrainingRun, dataset: Dataset[Any], collate: Callable[[Any], Any] | None) -> None:
        self._run, self._collate = run, collate or default_collate
        n_rows = len(dataset)  # type: ignore[arg-type]  # map-style data sets have a length
        self._rows = dataset if isinstance(dataset, Rows) else Rows(dataset, np.arange(n_rows), None)
        self._epochs = _EveryEpoch(run, self._rows)
        self._processes: DataLoader[Any] | None = None

    def __len__(self) -> int:
        return steps_per_epoch(len(self._rows), self._run.training.global_batch_size, self._run.world_size)

    def __iter__(self) -> Iterator[Any]:
        run = self._run
        batches = self._batches()
        while True:
            run.clock.step_ends()
            batch = next(batches, None)
            if batch is None:
                run.clock.epoch_trained()
                return
            batch = _to_device(batch, run.device)
            run.clock.batch_arrived()
            yield batch

    def _batches(self) -> Iterator[Any]:
        if self._run.loader_workers == 0:
            return (self._collate(self._rows.__getitems__(places)) for places in self._epochs)
        if self._processes is None:
            self._processes = DataLoader(
                self._rows,
                batch_sampler=self._epochs,
                collate_fn=self._collate,
                num_workers=self._run.loader_workers,
                prefetch_factor=_BATCHES_AHEAD,
                persistent_workers=True,
                pin_memory=self._run.device.type == "cuda",
                multiprocessing_context=_fork_server(),
            )
        return iter(self._processes)

    def close(self) -> None:
        """End the loader's processes now: left to the garbage collector, they end within some later trial's time."""
        self._processes = None


def _fork_server() -> Any:
    """Processes forked off a small one that holds torch: a worker of Ray has threads, which no fork survives."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["orchestrator.training.task"])
    return context


class _EveryEpoch(Sampler[Any]):
    """The batches of whatever epoch it is when a new pass begins, for a loader whose processes outlive an epoch.

    It knows the run and not the loader: without a cycle, closing the loader ends its processes at once.
    """

    def __init__(self, run: TrainingRun, rows: Rows) -> None:
        self._run, self._rows = run, rows

    def of_now(self) -> ShardedBatches:
        run, rows = self._run, self._rows
        return ShardedBatches(
            len(rows), run.training.global_batch_size, run.rank, run.world_size, run.seed, run.epoch, rows.labels
        )

    def __iter__(self) -> Iterator[Any]:
        return iter(self.of_now())

    def __len__(self) -> int:
        return len(self.of_now())


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
