"""The rows a rank sees: its slice of every global batch, the same global batches whatever the number of ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

if TYPE_CHECKING:
    from orchestrator.training.run import TrainingRun


@dataclass(frozen=True, slots=True)
class ShardedBatches(Sampler[list[int]]):
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


class Loader:
    """Iterates one epoch's batches and charges the run's clock."""

    def __init__(self, run: TrainingRun, dataset: Dataset[Any], collate: Callable[[Any], Any] | None) -> None:
        self._run, self._dataset, self._collate = run, dataset, collate

    def __len__(self) -> int:
        return steps_per_epoch(len(self._dataset), self._run.training.global_batch_size, self._run.world_size)  # type: ignore[arg-type]  # map-style

    def __iter__(self) -> Iterator[Any]:
        run = self._run
        sampler = ShardedBatches(
            len(self._dataset),  # type: ignore[arg-type]  # map-style data sets have a length
            run.training.global_batch_size,
            run.rank,
            run.world_size,
            run.seed,
            run.epoch,
        )
        batches = iter(DataLoader(self._dataset, batch_sampler=sampler, collate_fn=self._collate))
        while True:
            run.clock.step_ends()
            batch = next(batches, None)
            if batch is None:
                run.clock.epoch_trained()
                return
            batch = _to_device(batch, run.device)
            run.clock.batch_arrived()
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
