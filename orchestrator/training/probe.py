"""Is it the data? The step without data, the loader without a step, the store, and all together, on one worker.

Each is measured for about a second with the user's own task, the training's own loader and the training's own step, and
goes to `orchestrator.ingest` as samples per second:

    compute      full training steps on one batch that is held in memory
    loader       batches over rows that were just read, without a model
    cold         the same, after the page cache of the files has been emptied
    storage      the files read in sequence by several threads, in samples of the mean size
    end to end   loader and step together, over cached rows

What cannot be measured is None, and the measurement says why. A step ends with a synchronisation of the device, because
the training's clock asks for one.
"""

from __future__ import annotations

import copy
import itertools
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from orchestrator.data.stores.page_cache import available_bytes, forget
from orchestrator.errors import TaskError
from orchestrator.ingest import MIN_REPEATS, IngestMeasurement, Rate
from orchestrator.spec import ModelSpec, TrainingSpec
from orchestrator.training.checkpoints import MemoryCheckpoints
from orchestrator.training.run import TrainingRun
from orchestrator.training.task import Datasets, SupervisedTask

_REPEATS = 5
"""Stretches that a measurement is cut into; their spread is its noise. Five leave four degrees of freedom."""
_READERS = 8
"""Threads that read the store at once: a host of eight accelerators has as many workers."""
_BLOCK = 4 << 20
"""As `bench-io` reads: a row group that `prepare` writes."""
_PASSES = 20
"""Cold passes at most: emptying the cache of many files takes longer than reading a few batches."""
_MOST_FILES = 5000
"""Emptying the cache of more takes longer than the probe is meant to: about 0.1 ms each."""
_WARM_UP = 3
"""Steps that are not timed: the first ones choose kernels and allocate."""

Forget = Callable[[Sequence[Path]], dict[Path, str]]
"""Drops files from memory; returns those that stayed, with reasons."""


@dataclass(slots=True)
class _Stretch:
    """Batches one after the other: rows and seconds of each, and CPU seconds of all."""

    rows: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cpu_s: float | None = 0.0

    @property
    def total_s(self) -> float:
        return sum(self.seconds)

    @property
    def is_enough(self) -> bool:
        return len(self.rows) >= MIN_REPEATS

    def rate(self) -> Rate:
        """Samples per second of each of a few parts of equal length."""
        n_parts = min(_REPEATS, len(self.rows))
        parts = np.array_split(np.arange(len(self.rows)), n_parts)
        rows, seconds = np.array(self.rows, dtype=np.float64), np.array(self.seconds)
        cpu = None if self.cpu_s is None else self.cpu_s / float(rows.sum())
        return Rate(repeats=tuple(float(rows[p].sum() / seconds[p].sum()) for p in parts), cpu_s_per_sample=cpu)


def probe(
    task: SupervisedTask,
    datasets: Datasets,
    model_spec: ModelSpec,
    training_spec: TrainingSpec,
    device: torch.device,
    *,
    rows: int,
    files: Sequence[Path],
    budget_s: float = 1.0,
    loader_workers: int = 0,
    forget_files: Forget = forget,
    beside: Sequence[Path] = (),
) -> IngestMeasurement:
    """Measure one worker's data path and step.

    Args:
        task: The user's task.
        datasets: Its data sets.
        model_spec: The model to step with.
        training_spec: For batch size and optimiser.
        device: Where it trains.
        rows: Rows of the training pool that take part, as the sweep's subset of that size; it should fit into memory.
        files: What the training pool is read from, whole; empty when it lies in memory or in a store that is no local
            disk, and storage is then not measured.
        budget_s: Seconds of each measurement, which ends with a batch and has three of them at least.
        loader_workers: As the trials' ``resources.loader_workers``.
        beside: Other files of the same disk, for when ``files`` stay in memory because other processes map them.
        forget_files: How files are dropped from memory; another one for a store with a cache of its own.
    Raises: TaskError: fewer rows than one. Whatever the user's code raises passes through.
    """
    n_train = len(datasets.train)  # type: ignore[arg-type]  # map-style data sets have a length
    if not 1 <= rows <= n_train:
        raise TaskError(f"probe: rows must lie in 1..{n_train}, the training pool, got {rows}")
    run = TrainingRun(
        model=model_spec, training=training_spec, fraction=rows / n_train, seed=0, fingerprint="probe",
        datasets=datasets, checkpoints=MemoryCheckpoints(), device=device, loader_workers=loader_workers,
    )  # fmt: skip
    bench = _Bench(run, run.loader(run.subset(datasets.train)), budget_s, loader_workers)
    missing: list[str] = []
    cold = bench.cold(files, forget_files, missing)
    loader = bench.cached()
    held = copy.deepcopy(next(bench.batches(1)))
    step = _Step(task, model_spec, training_spec, device)
    compute, memory_share = _compute(step, held, budget_s)
    end_to_end = bench.cached(step)
    sizes = _sizes(files)
    per_sample = sum(sizes.values()) / n_train if files else None
    storage = None
    if per_sample and len(files) <= _MOST_FILES:
        stayed = forget_files(files) and beside
        storage = _storage(_sizes(beside) if stayed else sizes, per_sample, forget_files, budget_s, missing)
        if stayed and storage is not None:
            missing.append("storage was read from other files of the same disk, for these stay in memory")
    measured = IngestMeasurement(
        device=str(device),
        batch_size=len(held[1]),
        compute=compute,
        loader=loader,
        cold=cold,
        storage=storage,
        storage_readers=None if storage is None else _READERS,
        end_to_end=end_to_end,
        mixed_precision=_mixed_precision(task, model_spec, training_spec, device, held, budget_s),
        memory_share=memory_share,
        n_rows=n_train,
        bytes_per_sample=per_sample,
        host_cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        host_memory_bytes=available_bytes(),
        not_measured=tuple(missing),
    )
    run.close()
    return measured


def _sizes(files: Sequence[Path]) -> dict[Path, int]:
    return {path: path.stat().st_size for path in files}


class _Step:
    """The training loop's step on a model of its own."""

    def __init__(
        self,
        task: SupervisedTask,
        model: ModelSpec,
        training: TrainingSpec,
        device: torch.device,
        precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._task, self._device, self._precision = task, device, precision
        self._network: nn.Module = task.build_model(model).to(device).train()
        self._optimizer, _ = task.optimizer(self._network, training, total_steps=10**6)

    def __call__(self, batch: Any) -> None:
        inputs, targets = batch
        with self._precision():
            outputs = self._network(inputs)
            loss = self._task.loss(outputs, targets)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self._task.correct(outputs.detach(), targets)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


class _Bench:
    """The training's loader under test, always over the same first batches of the same epoch."""

    def __init__(self, run: TrainingRun, loader: Any, budget_s: float, loader_workers: int) -> None:
        self._run, self._loader, self._budget_s = run, loader, budget_s
        self._n_batches: int = len(loader)
        # Batches that were made while the processes started, and the first, which waits for that start.
        self._unsteady = min(1 + loader_workers, self._n_batches // 2)

    def batches(self, count: int) -> Iterator[Any]:
        return itertools.islice(iter(self._loader), count)

    def cold(self, files: Sequence[Path], forget_files: Forget, missing: list[str]) -> Rate | None:
        """Passes over rows that are not in memory, each as far as the budget goes."""
        if not files:
            missing.append("cold reads: the data set names no files of this machine")
            return None
        if len(files) > _MOST_FILES:
            missing.append(f"cold reads and storage: {len(files):,} files are too many to empty; `prepare` packs them")
            return None
        stretch, n_batches = _Stretch(), 0
        for _ in range(_PASSES):
            stayed = forget_files(files)
            if stayed:
                path, reason = next(iter(stayed.items()))
                missing.append(f"cold reads: {path.name}: {reason}")
                return None
            n_batches = max(n_batches, self._pass(stretch, self._n_batches, until_s=self._budget_s))
            if stretch.is_enough and stretch.total_s >= self._budget_s:
                break
        # A pass over as many cached rows is bounded like this one.
        self._n_batches = min(self._n_batches, max(n_batches, MIN_REPEATS + self._unsteady))
        if not stretch.is_enough:
            missing.append("cold reads: the training pool has too few batches")
            return None
        return stretch.rate()

    def cached(self, step: Callable[[Any], None] | None = None) -> Rate:
        """Passes over the same rows until the budget is spent; the first is not counted, for it fills the cache."""
        passed = self._pass(_Stretch(), self._n_batches, until_s=self._budget_s, step=step)
        self._n_batches = min(self._n_batches, passed)
        stretch = _Stretch()
        while not (stretch.is_enough and stretch.total_s >= self._budget_s):
            self._pass(stretch, self._n_batches, until_s=self._budget_s, step=step)
        return stretch.rate()

    def _pass(
        self, stretch: _Stretch, n_batches: int, *, until_s: float, step: Callable[[Any], None] | None = None
    ) -> int:
        """One pass over the first batches; returns how many it got through before the stretch was long enough."""
        skipped = self._unsteady if n_batches > self._unsteady else 0
        passed = 0
        cpu = _cpu_seconds()
        mark = time.perf_counter()
        for batch in self.batches(n_batches):
            if step is not None:
                step(batch)
            now = time.perf_counter()
            passed += 1
            if passed == skipped:
                cpu = _cpu_seconds()
            if passed > skipped:
                stretch.rows.append(len(batch[1]))
                stretch.seconds.append(now - mark)
            if stretch.is_enough and stretch.total_s >= until_s:
                break
            mark = time.perf_counter()
        after = _cpu_seconds()
        used = None if cpu is None or after is None else after - cpu
        stretch.cpu_s = None if used is None or stretch.cpu_s is None else stretch.cpu_s + used
        return passed


def _cpu_seconds() -> float | None:
    """Of this process and its loader processes; None where those cannot be looked at."""
    children = multiprocessing.active_children()
    total = time.process_time()
    try:
        for child in children:
            # Fields 14 and 15 of proc(5), after the name, which ends with the last bracket.
            parts = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return None
    return total


def _compute(step: _Step, batch: Any, budget_s: float) -> tuple[Rate, float | None]:
    """Steps on one batch; on an accelerator also the share of its memory that they take."""
    device = batch[1].device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(_WARM_UP):
        step(batch)
    stretch, cpu = _Stretch(), time.process_time()
    while not (stretch.is_enough and stretch.total_s >= budget_s):
        begun = time.perf_counter()
        step(batch)
        stretch.seconds.append(time.perf_counter() - begun)
        stretch.rows.append(len(batch[1]))
    stretch.cpu_s = time.process_time() - cpu
    if device.type != "cuda":
        return stretch.rate(), None
    return stretch.rate(), torch.cuda.max_memory_reserved(device) / torch.cuda.get_device_properties(
        device
    ).total_memory


def _mixed_precision(
    task: SupervisedTask,
    model: ModelSpec,
    training: TrainingSpec,
    device: torch.device,
    batch: Any,
    budget_s: float,
) -> Rate | None:
    """The same step under bfloat16, on accelerators that have it; a loss that cannot is not measured."""
    if device.type != "cuda" or not torch.cuda.is_bf16_supported():
        return None
    autocast = partial(torch.autocast, "cuda", dtype=torch.bfloat16)
    try:
        return _compute(_Step(task, model, training, device, autocast), batch, budget_s)[0]
    except RuntimeError:  # a task's own operation that has no bfloat16 form
        return None


def _storage(
    sizes: Mapping[Path, int], bytes_per_sample: float, forget_files: Forget, budget_s: float, missing: list[str]
) -> Rate | None:
    """All files in sequence by several threads, a few times, going on where the last time ended."""
    blocks = [(path, start) for path, size in sizes.items() for start in range(0, size, _BLOCK)]
    if len(blocks) < MIN_REPEATS:
        missing.append(f"storage: the files hold {len(blocks)} blocks of 4 MiB, too few to read side by side")
        return None
    repeats: list[float] = []
    first = 0
    for _ in range(_REPEATS):
        if forget_files(tuple(sizes)):
            missing.append("storage: the files stay in memory")
            return None
        n_bytes, n_blocks, seconds = _read([*blocks[first:], *blocks[:first]], budget_s / _REPEATS)
        first = (first + n_blocks) % len(blocks)
        repeats.append(n_bytes / seconds / bytes_per_sample)
    return Rate(repeats=tuple(repeats))


def _read(blocks: Sequence[tuple[Path, int]], seconds: float) -> tuple[int, int, float]:
    """Bytes, blocks and seconds of reading blocks in their order until the time is over, by `_READERS` threads."""
    waiting, lock = iter(blocks), threading.Lock()
    started = time.perf_counter()

    def work() -> list[int]:
        buffer = bytearray(_BLOCK)
        sizes: list[int] = []
        while time.perf_counter() - started < seconds or not sizes:
            with lock:
                path, start = next(waiting, (None, 0))
            if path is None:
                break
            with open(path, "rb", buffering=0) as file:
                file.seek(start)
                sizes.append(file.readinto(buffer) or 0)
        return sizes

    with ThreadPoolExecutor(_READERS) as pool:
        sizes = [size for done in [pool.submit(work) for _ in range(_READERS)] for size in done.result()]
    return sum(sizes), len(sizes), time.perf_counter() - started
