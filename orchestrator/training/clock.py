"""Where the time of one training goes: every second is charged to one part of `results.TimeSplit`.

Exposed all-reduce of a step: from the moment the last gradient bucket is handed to the process group (the backward
pass has then nothing left to compute) to its completion, taken by a DDP communication hook. On CUDA the hook returns
before the kernels end, so there the exposed part stays inside compute.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import GradBucket

from orchestrator.results import TimeSplit


@dataclass(slots=True)
class SyncClock:
    """Exposed all-reduce time of the step under way; written by the communication hook."""

    handed_over_at: float = 0.0
    completed_at: float = 0.0

    def take(self) -> float:
        exposed = max(0.0, self.completed_at - self.handed_over_at)
        self.handed_over_at = self.completed_at = 0.0
        return exposed


def timed_all_reduce(clock: SyncClock, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
    clock.handed_over_at = time.perf_counter()
    buffer = bucket.buffer().div_(dist.get_world_size())
    work = dist.all_reduce(buffer, async_op=True)

    def completed(future: torch.futures.Future[list[torch.Tensor]]) -> torch.Tensor:
        clock.completed_at = time.perf_counter()
        return future.value()[0]

    future: torch.futures.Future[torch.Tensor] = work.get_future().then(completed)
    return future


# DDP compares a hook's annotations with the types themselves; postponed annotations are strings.
timed_all_reduce.__annotations__.update({"bucket": GradBucket, "return": torch.futures.Future[torch.Tensor]})


class Clock:
    """Charges every second of a training to one part of its `TimeSplit`."""

    def __init__(self, device: torch.device, started_at: float | None) -> None:
        self._device = device
        self.sync = SyncClock()
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
