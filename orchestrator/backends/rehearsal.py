"""Rehearsals on Ray: a full run whose worker is killed, and its checkpoint loaded where nothing is left of it.

The full run is `ray_train`'s, unchanged. The worker is found in Ray's own table of this job's actors and killed by
SIGKILL on the machine it runs on, once Ray Train has registered a checkpoint, which is a moment after the epoch ended.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray._private.state import actors  # the public listing needs the dashboard, which we do not start
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.backends.faults import in_words
from orchestrator.errors import OrchestratorError, TaskError
from orchestrator.ports import FullRunner, FullRunResult
from orchestrator.results import Candidate, CandidateForecast
from orchestrator.training.evaluate import Restored, evaluate_checkpoint
from orchestrator.training.request import TrainRequest

_WORKER_CLASS = "RayTrainWorker"
_EPOCH_TOLD = re.compile(r"epoch (\d+):")
_EPOCH_STORED = re.compile(r'"epoch": ?(\d+)')
_LOOK_S = 0.02
_START_S = 300.0
"""A busy machine took over a minute to launch a worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """What became of a full run whose worker was killed."""

    run: FullRunResult
    killed_pid: int | None = None
    """None when the training ended before a checkpoint was there to kill it after."""
    killed_after_epoch: int = 0
    """Epochs whose checkpoint was registered, counted from 1."""
    went_on_in_pid: int | None = None
    """The worker that Ray Train started instead."""
    redone: tuple[int, ...] = ()
    """Epochs that were told as finished twice."""
    lost_s: float | None = None
    """From the kill to the next finished epoch."""

    @property
    def resumed(self) -> bool:
        """Whether another worker went on from the checkpoint: nothing up to it was trained again."""
        is_other = self.went_on_in_pid is not None and self.went_on_in_pid != self.killed_pid
        return is_other and all(epoch > self.killed_after_epoch for epoch in self.redone)


def rehearse_restart(runner: FullRunner, candidate: Candidate, forecast: CandidateForecast, storage: Path) -> Restart:
    """Train the candidate and kill its worker after the first checkpoint.

    Args:
        runner: A `RayTrainRunner` that stores below ``storage``.
        candidate: On one worker.
        forecast: Passed to the runner.
        storage: A folder that holds nothing else.
    Raises: TaskError: training failed for good, killed or not.
    """
    told = _Told()
    killer = _Killer(storage, told)
    killer.start()
    try:
        run = runner.run(candidate, forecast, told.hear)
    finally:
        killer.stop()
    counts = Counter(epoch for epoch, _ in told.epochs)
    return Restart(
        run=run,
        killed_pid=killer.killed_pid,
        killed_after_epoch=killer.killed_after_epoch,
        went_on_in_pid=killer.next_pid,
        redone=tuple(sorted(epoch for epoch, n in counts.items() if n > 1)),
        lost_s=killer.lost_s(),
    )


@dataclass(slots=True)
class _Told:
    """The runner's own lines, each with when it came."""

    epochs: list[tuple[int, float]] = field(default_factory=list)

    def hear(self, line: str) -> None:
        found = _EPOCH_TOLD.search(line)
        if found is not None:
            self.epochs.append((int(found[1]), time.monotonic()))


class _Killer(threading.Thread):
    """Waits for a checkpoint, kills the worker, and waits for the next one."""

    def __init__(self, storage: Path, told: _Told) -> None:
        super().__init__(name="killer", daemon=True)
        self._storage, self._told = storage, told
        self._is_over = threading.Event()
        self.killed_pid: int | None = None
        self.killed_after_epoch = 0
        self.next_pid: int | None = None
        self._killed_at = self._next_at = 0.0

    def run(self) -> None:
        while self.killed_pid is None and not self._is_over.wait(_LOOK_S):
            if stored := _stored_epochs(self._storage):
                self._kill_after(stored)
        while self.killed_pid is not None and not self._is_over.wait(_LOOK_S):
            others = [pid for pid in _training_workers() if pid != self.killed_pid]
            if others:
                self.next_pid, self._next_at = others[0], time.monotonic()
                return

    def _kill_after(self, stored: int) -> None:
        for pid, node in _training_workers().items():
            with suppress(ProcessLookupError):  # it ended by itself a moment ago; then nothing is left to kill
                _kill(pid, node)
                self.killed_pid, self._killed_at = pid, time.monotonic()
                # What was registered while the kill was on its way counts as kept.
                self.killed_after_epoch = max(stored, _stored_epochs(self._storage))
                return

    def stop(self) -> None:
        self._is_over.set()
        self.join(_START_S)

    def lost_s(self) -> float | None:
        after = [at for _, at in self._told.epochs if self.next_pid is not None and at > self._next_at]
        return min(after) - self._killed_at if after else None


def _stored_epochs(storage: Path) -> int:
    """Epochs whose checkpoint Ray Train has registered; 0 before the first."""
    texts = [path.read_text(encoding="utf-8") for path in storage.rglob("checkpoint_manager_*.json")]
    found = [int(epoch) for text in texts for epoch in _EPOCH_STORED.findall(text)]
    return max(found, default=-1) + 1


def _training_workers() -> dict[int, str]:
    """Process id to node of this job's training workers that are alive; nobody else's."""
    job = ray.get_runtime_context().get_job_id()
    table: dict[str, dict[str, Any]] = actors(actor_state_name="ALIVE")
    return {
        actor["Pid"]: actor["Address"]["NodeID"]
        for actor in table.values()
        if actor["ActorClassName"].endswith(_WORKER_CLASS) and actor["JobID"] == job and actor["Pid"]
    }


def _kill(pid: int, node: str) -> None:
    """SIGKILL on the machine where the process runs."""
    if node == ray.get_runtime_context().get_node_id():
        os.kill(pid, signal.SIGKILL)
        return
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    ray.get(ray.remote(num_cpus=0, max_retries=0)(os.kill).options(scheduling_strategy=there).remote(pid, 9))


def restore_elsewhere(request: TrainRequest, weights: Path) -> Restored:
    """Evaluate a checkpoint in a worker process of its own. Raises TaskError: it cannot be loaded or evaluated."""
    resources = request.spec.resources
    gpus = {"num_gpus": resources.gpus_per_worker} if resources.gpus_per_worker > 0 else {}
    # max_calls=1: the process ends with the call, and none that trained is there to answer from memory.
    asked = ray.remote(num_cpus=resources.cpus_per_worker, max_retries=0, max_calls=1, **gpus)(evaluate_checkpoint)
    try:
        restored: Restored = ray.get(asked.remote(request, weights, weights.with_name("state.pt")))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, OrchestratorError):
            raise error.cause from None
        raise TaskError(f"{weights.name} cannot be restored: {in_words(error.cause, str(error))}") from error
    return restored
