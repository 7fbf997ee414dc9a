"""Warm training processes, lent to sweep trials in groups.

Starting a process that has torch imported costs seconds; a trial often trains for less. So the sweep starts its worker
processes once, and every trial borrows as many as it has workers, forms a fresh process group on them and gives them
back. Lending is first come, first served, so that a trial that needs every worker is not starved by small ones.

`WorkerPool` is an asynchronous Ray actor without a CPU of its own; a `TrainWorker` occupies what the config says.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ray

from orchestrator.errors import InfeasibleError
from orchestrator.results import DataRead, IngestMeasurement, TrainingResult
from orchestrator.spec import TrialSpec
from orchestrator.training.request import SmokeResult, TrainRequest

COLLECTIVE_TIMEOUT_S = 60.0
"""A rank that waits longer for another gives up; gloo's own 30 minutes would bill half an hour of idle workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPlace:
    """One worker's place in a process group."""

    rank: int
    world_size: int
    host: str
    port: int


class TrainWorker:
    """One warm process that trains whatever it is handed."""

    def __init__(self, threads: int) -> None:
        import torch

        import orchestrator.training.loop  # noqa: F401  # warm: the first trial should not pay for the import

        torch.set_num_threads(threads)

    def ready(self) -> int:
        """The process id, once the imports are done."""
        return os.getpid()

    def free_address(self) -> tuple[str, int]:
        """Where a process group with this worker as rank 0 can meet."""
        host = ray.util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind(("", 0))
            return host, int(probe.getsockname()[1])

    def train(self, request: TrainRequest, place: GroupPlace | None) -> TrainingResult:
        """Train as one rank of a group, or alone. Raises what the task raises."""
        from orchestrator.training.checkpoints import MemoryCheckpoints
        from orchestrator.training.loop import train

        started_at = time.perf_counter()
        with _joined(request, place):
            return train(request, checkpoints=MemoryCheckpoints(), started_at=started_at)[0]

    def make_ready(self, request: TrainRequest, trials: Sequence[TrialSpec]) -> DataRead | None:
        """Read and decode the rows of the trials ahead."""
        from orchestrator.training.ready import make_ready

        return make_ready(request.spec, request.data_root, trials)

    def probe(self, request: TrainRequest, n_samples: int) -> IngestMeasurement | None:
        """The data path and the step of the model the request names."""
        from orchestrator.training.loop import default_device
        from orchestrator.training.ready import probe_ingest

        return probe_ingest(
            request.spec, request.data_root, request.trial.model, n_samples, default_device(request.spec)
        )

    def smoke(self, request: TrainRequest, place: GroupPlace | None = None) -> SmokeResult:
        """One step of the model the request names, as one rank of a group or alone."""
        from orchestrator.training.loop import smoke

        with _joined(request, place):
            return smoke(request)


@contextmanager
def _joined(request: TrainRequest, place: GroupPlace | None) -> Iterator[None]:
    """In the process group of that place; alone without one."""
    import torch.distributed as dist

    if place is None:
        yield
        return
    dist.init_process_group(
        "nccl" if request.spec.resources.gpus_per_worker > 0 else "gloo",
        init_method=f"tcp://{place.host}:{place.port}",
        rank=place.rank,
        world_size=place.world_size,
        timeout=timedelta(seconds=COLLECTIVE_TIMEOUT_S),
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSize:
    """How many workers the pool holds, what each occupies, and how many groups may be out at once."""

    workers: int
    cpus_per_worker: int
    gpus_per_worker: float
    max_groups: int


_BORROWERS_WAIT_S = 30.0
"""How long the first borrowers wait for the others at the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Someone who waits for a group; ``turn`` gets it."""

    lease: str
    count: int
    turn: asyncio.Future[list[Any]]


class WorkerPool:
    """Lends workers in groups, in the order of asking; replaces the broken."""

    def __init__(self, size: PoolSize) -> None:
        self._size = size
        self._idle: list[Any] = [self._start() for _ in range(size.workers)]
        self._lent: dict[str, list[Any]] = {}
        self._queue: deque[_Asked] = deque()
        self._is_lending = True
        self._awaited = 0
        self._patience: asyncio.TimerHandle | None = None

    async def start_lending(self, awaited: int) -> None:
        """Lend, but nothing until so many have asked, or the wait is over.

        Borrowers start together, each importing Ray Tune for seconds; a trial that trained beside them was measured 4
        to 6 times slower than it is.
        """
        self._is_lending, self._awaited = True, awaited
        if self._patience is not None:
            self._patience.cancel()
        self._patience = asyncio.get_running_loop().call_later(_BORROWERS_WAIT_S, self._stop_waiting)

    def _stop_waiting(self) -> None:
        self._awaited = 0
        self._serve()

    async def stop_lending(self) -> None:
        """Send all who wait away with an empty group, and whoever asks from now on; lent groups stay out."""
        self._is_lending = False
        self._turn_away(list(self._queue))

    def _turn_away(self, gone: list[_Asked]) -> None:
        for asked in gone:
            self._queue.remove(asked)
            asked.turn.set_result([])

    def _start(self) -> Any:
        size = self._size
        actor = ray.remote(num_cpus=size.cpus_per_worker, num_gpus=size.gpus_per_worker, max_concurrency=1)(TrainWorker)
        return actor.remote(size.cpus_per_worker)

    async def ready(self) -> list[int]:
        """Process ids of all workers, once they are warm."""
        return list(await asyncio.gather(*(worker.ready.remote() for worker in self._idle)))

    async def borrow(self, lease: str, count: int) -> list[Any]:
        """Wait for ``count`` workers and lend them under the name ``lease``; an empty group when lending has stopped.

        Raises: InfeasibleError: the pool has fewer, so that the wait would never end.
        """
        if count > self._size.workers:
            raise InfeasibleError(f"{count} workers asked for, but the pool has {self._size.workers}; ask for fewer")
        if not self._is_lending:
            return []
        asked = _Asked(lease=lease, count=count, turn=asyncio.get_running_loop().create_future())
        self._queue.append(asked)
        self._serve()
        return await asked.turn

    def _serve(self) -> None:
        """Lend to the head of the queue as long as its group is there; the rest wait behind it.

        The group is taken out here and not by the coroutine that waits for it: that one runs later, and in between the
        same workers could be promised to another.
        """
        if len(self._queue) < self._awaited:
            return
        self._awaited = 0
        while self._queue and self._queue[0].count <= len(self._idle) and len(self._lent) < self._size.max_groups:
            asked = self._queue.popleft()
            self._lent[asked.lease], self._idle = self._idle[: asked.count], self._idle[asked.count :]
            asked.turn.set_result(self._lent[asked.lease])

    async def give_back(self, lease: str, is_broken: bool = False) -> None:
        """Return a group; a broken one is killed and replaced by fresh workers. Unknown leases are nothing to do.

        A lease that still waits is taken off the queue: whoever asked is gone.
        """
        self._turn_away([asked for asked in self._queue if asked.lease == lease])
        group = self._lent.pop(lease, [])
        if is_broken:
            for worker in group:
                ray.kill(worker)
            group = [self._start() for _ in group]
        self._idle.extend(group)
        self._serve()
