"""What a store gives: sequential MB/s, random blocks, whole small files and metadata, on one thread and on several.

Every figure is of pyarrow's file systems, which `prepare` and the readers use too. On local disks each read is timed
twice, from the disk and from the page cache; elsewhere nobody can tell the two apart: the cache is ``unknown``. Time
and bytes are bounded. Names and attributes of files stay in the kernel's memory, so local metadata is always cached.
Nothing is written unless asked for, and what was written is deleted again.
"""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from orchestrator.data.stores.faults import explain
from orchestrator.data.stores.files import (
    SampleName,
    SizedFile,
    is_local,
    mean_sample,
    scratch_folder,
    some_files,
    write_file,
)
from orchestrator.data.stores.page_cache import available_bytes, forget
from orchestrator.errors import DataError

Cache = Literal["cold", "cached", "unknown"]
SEQUENTIAL, RANDOM, SMALL, STAT, LIST, WRITE = (
    "sequential read", "random read 4 KiB", "open and read a file", "stat", "list", "sequential write",
)  # fmt: skip

_BLOCK = 4 << 20
"""Of sequential reads: as much as a row group that `prepare` writes."""
_FEW = 8
"""Where all files together hold fewer blocks, blocks are smaller, so that there is something to time."""
_LARGE = 1 << 20
"""A smaller file says more about opening than about transfer: at 100 MB/s it is read in 10 ms."""
_PAGE = 4096
"""The least that a kernel reads from a disk."""
_WRITTEN = 16 << 20
"""Of a large file written for the test."""
_SMALL_WRITTEN, _SMALL_SIZE = 64, 16 << 10
"""Number and size of small ones: about as large as a thumbnail."""
_SAMPLE = 4000
"""Files or blocks of one measurement at most; 95% of them leave 200 to tell the slowest twentieth by."""
_AT_ONCE = 100
"""Files dropped from memory between two looks at the clock."""
_LEAST = 3
"""Fewer operations are no measurement."""

Job = Callable[[], int]
"""One operation; returns the bytes it moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IoMeasurement:
    """One kind of operation, on so many threads."""

    operation: str
    threads: int
    cache: Cache
    operations: int
    n_bytes: int
    wall_s: float
    latency_median_s: float | None
    """Of one operation: a block, a file, a call; None for listing, which comes in one stream."""
    latency_p95_s: float | None

    @property
    def mb_per_s(self) -> float | None:
        """Megabytes (1e6 bytes) per second; None for metadata."""
        return self.n_bytes / 1e6 / self.wall_s if self.n_bytes else None

    @property
    def operations_per_s(self) -> float:
        return self.operations / self.wall_s


@dataclass(frozen=True, slots=True, kw_only=True)
class IoReport:
    """All that was measured of one place, and what was not."""

    location: str
    file_system: str
    n_files: int
    is_complete: bool
    """False when listing was cut short, so that there are more files."""
    n_bytes: int
    """Of the files that were listed."""
    sample_name: SampleName
    bytes_per_sample: float
    """Mean size of a file, or of a row where files are Parquet."""
    measurements: tuple[IoMeasurement, ...]
    missing: tuple[str, ...]
    """What was not measured, each with its reason."""

    @property
    def is_packed(self) -> bool:
        """Whether samples are reached by reading on rather than by opening the next file."""
        return self.sample_name == "row" or self.bytes_per_sample > _BLOCK

    def best(self, operation: str) -> IoMeasurement | None:
        """The fastest that was not served from memory, where that can be told."""
        found = [each for each in self.measurements if each.operation == operation and each.cache != "cached"]
        return max(found, key=lambda each: each.operations_per_s, default=None)

    @property
    def packed_samples_per_s(self) -> float | None:
        """Samples per second if they lay one after the other in large files; None without a sequential read."""
        found = self.best(SEQUENTIAL)
        return None if found is None or found.mb_per_s is None else found.mb_per_s * 1e6 / self.bytes_per_sample

    @property
    def samples_per_s(self) -> float | None:
        """Samples per second as the files lie here; None where it was not measured."""
        if self.is_packed:
            return self.packed_samples_per_s
        found = self.best(SMALL)
        return None if found is None else found.operations_per_s


@dataclass(slots=True)
class _Bench:
    """One place under test, with its budget."""

    file_system: Any
    slice_s: float
    slice_bytes: int
    rng: np.random.Generator
    measurements: list[IoMeasurement] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def reads(
        self,
        operation: str,
        files: Sequence[SizedFile],
        jobs_of: Callable[[Sequence[SizedFile]], list[Job]],
        threads: int,
    ) -> None:
        """Time reads cold and then again over the same places, where that can be told; else once."""
        if not is_local(self.file_system):
            self.run(operation, threads, "unknown", jobs_of(files))
            return
        cold, reason = self._emptied(files)
        if not cold:
            self.say(f"{operation}, cold: {reason}")
            self.run(operation, threads, "unknown", jobs_of(files))
            return
        done = self.run(operation, threads, "cold", jobs_of(cold))
        memory = available_bytes()
        if done and memory is not None and self.measurements[-1].n_bytes < memory / 2:
            self.run(operation, threads, "cached", done)

    def _emptied(self, files: Sequence[SizedFile]) -> tuple[list[SizedFile], str]:
        """Those of the files that left memory, as far as the time goes; none, with the reason, when most did not."""
        cold: list[SizedFile] = []
        stayed: dict[Path, str] = {}
        started = time.perf_counter()
        for first in range(0, len(files), _AT_ONCE):
            some = files[first : first + _AT_ONCE]
            stayed |= forget([Path(file.path) for file in some])
            cold += [file for file in some if Path(file.path) not in stayed]
            if time.perf_counter() - started >= self.slice_s:
                break
        return ([], next(iter(stayed.values()))) if len(stayed) > len(cold) else (cold, "")

    def say(self, reason: str) -> None:
        if reason not in self.missing:
            self.missing.append(reason)

    def run(self, operation: str, threads: int, cache: Cache, jobs: Sequence[Job]) -> list[Job]:
        """Time jobs within the budget of one measurement; returns those that were run."""
        if len(jobs) < _LEAST:
            self.say(f"{operation}: no more than {len(jobs)} would be timed; --write measures with files of its own")
            return []
        latencies, n_bytes, wall_s, done = _timed(jobs, threads, self.slice_s, self.slice_bytes)
        median, p95 = (float(q) for q in np.quantile(latencies, [0.5, 0.95]))
        self.measurements.append(
            IoMeasurement(
                operation=operation, threads=threads, cache=cache, operations=len(latencies), n_bytes=n_bytes,
                wall_s=wall_s, latency_median_s=median, latency_p95_s=p95,
            )
        )  # fmt: skip
        return done


def bench_io(
    file_system: Any,
    path: str,
    *,
    location: str,
    seconds: float = 10.0,
    max_bytes: int = 2_000_000_000,
    threads: int = 8,
    write: bool = False,
    seed: int = 0,
) -> IoReport:
    """Measure what lies at ``path``.

    Args:
        file_system: A ``pyarrow.fs.FileSystem``.
        path: A file or a folder, as the file system writes it.
        location: What the user calls it.
        seconds: Time for all measurements; a measurement under way ends with its operation.
        max_bytes: Bytes read, and bytes written, at most, but for one operation of each measurement.
        threads: Readers beside the measurements on one thread.
        write: Also measure writing, and with files written here what the present ones do not allow.
        seed: Of the places that are read.
    Raises: DataError: Nothing there, nothing in it, or no leave to read or write it.
    """
    counts = sorted({1, threads})
    # Three kinds of reads, cold and cached; stat; write.
    steps = len(counts) * (3 * 2 + 1 + write)
    bench = _Bench(
        file_system=file_system,
        slice_s=0.75 * seconds / steps,  # the rest is for listing
        slice_bytes=max_bytes // (6 * len(counts)),
        rng=np.random.default_rng(seed),
    )
    with _explained(location):
        listing = some_files(file_system, path, location, seconds / 4, is_empty_fine=write)
        _note_listing(bench, len(listing.files), listing.wall_s)
        if write and listing.wall_s is None:
            raise DataError(f"{location}: is a file, and test files need a folder; name the folder, or omit --write")
        if write:
            with scratch_folder(file_system, path, location) as folder:
                written = _write(bench, folder, counts)
                _measure(bench, listing.files, written, counts)
        else:
            written = []
            _measure(bench, listing.files, written, counts)
        has_files = any(file.size for file in listing.files)
        small = [file for file in written if file.size == _SMALL_SIZE]
        name, size = mean_sample(file_system, listing.files if has_files else small, _BLOCK)
    return IoReport(
        location=location,
        file_system=str(file_system.type_name),
        n_files=len(listing.files),
        is_complete=listing.is_complete,
        n_bytes=sum(file.size for file in listing.files),
        sample_name=name,
        bytes_per_sample=size,
        measurements=tuple(bench.measurements),
        missing=tuple(bench.missing),
    )


def _note_listing(bench: _Bench, n_files: int, wall_s: float | None) -> None:
    if wall_s is None or n_files < _LEAST:
        bench.say(f"{LIST}: fewer than {_LEAST} files are here")
        return
    cache: Cache = "cached" if is_local(bench.file_system) else "unknown"
    bench.measurements.append(
        IoMeasurement(
            operation=LIST, threads=1, cache=cache, operations=n_files, n_bytes=0, wall_s=wall_s,
            latency_median_s=None, latency_p95_s=None,
        )
    )  # fmt: skip


def _write(bench: _Bench, folder: str, counts: Sequence[int]) -> list[SizedFile]:
    """Large files, timed, and small ones to read."""
    content = bench.rng.bytes(_WRITTEN)  # a store that compresses gains nothing from it
    files = []
    n_files = max(_LEAST, min(bench.slice_bytes // _WRITTEN, _SAMPLE))
    for count in counts:
        names = [f"{folder}/large-{count}-{i}" for i in range(n_files)]
        done = bench.run(WRITE, count, "unknown", [partial(write_file, bench.file_system, n, content) for n in names])
        files += [SizedFile(name, _WRITTEN) for name in names[: len(done)]]
    for i in range(_SMALL_WRITTEN):
        write_file(bench.file_system, f"{folder}/small-{i}", content[:_SMALL_SIZE])
        files.append(SizedFile(f"{folder}/small-{i}", _SMALL_SIZE))
    return files


def _measure(bench: _Bench, files: Sequence[SizedFile], written: Sequence[SizedFile], counts: Sequence[int]) -> None:
    filled = [file for file in files if file.size > 0]
    large = [file for file in filled if file.size >= _LARGE] or [f for f in written if f.size >= _LARGE]
    small = [file for file in filled if file.size <= _BLOCK] or [f for f in written if f.size <= _BLOCK]
    if not large:
        bench.say(f"{SEQUENTIAL} and {RANDOM}: no file of 1 MiB or more is here; --write measures them")
    if not small:
        bench.say(f"{SMALL}: no file of 4 MiB or less is here; --write measures it")
    sampled, stats = (_shuffled(bench.rng, some)[:_SAMPLE] for some in (small, filled or written))
    chosen = _up_to(large, bench.slice_bytes)
    file_system = bench.file_system
    metadata: Cache = "cached" if is_local(file_system) else "unknown"
    for count in counts:
        if chosen:
            bench.reads(SEQUENTIAL, chosen, lambda some: _blocks(file_system, some), count)
            bench.reads(RANDOM, chosen, lambda some: _random_pages(bench, some), count)
        if sampled:
            bench.reads(SMALL, sampled, lambda some: [partial(_whole, file_system, file) for file in some], count)
        repeats = -(-_SAMPLE // len(stats))
        bench.run(STAT, count, metadata, [partial(_stat, file_system, file) for file in stats * repeats][:_SAMPLE])


def _timed(
    jobs: Sequence[Job], threads: int, seconds: float, max_bytes: int
) -> tuple[list[float], int, float, list[Job]]:
    """Run jobs in their order until a limit is reached, but at least `_LEAST`.

    Returns: Latency of each, bytes, wall-clock seconds, and the jobs that were run.
    """
    waiting, lock = deque(jobs), threading.Lock()
    latencies: list[float] = []
    done: list[Job] = []
    moved = 0
    started = time.perf_counter()

    def work() -> None:
        nonlocal moved
        while True:
            with lock:
                is_over = moved >= max_bytes or time.perf_counter() - started >= seconds
                if not waiting or (is_over and len(done) >= _LEAST):
                    return
                job = waiting.popleft()
                done.append(job)
            begun = time.perf_counter()
            n_bytes = job()
            with lock:
                latencies.append(time.perf_counter() - begun)
                moved += n_bytes

    if threads == 1:
        work()
    else:
        with ThreadPoolExecutor(threads) as pool:
            for each in [pool.submit(work) for _ in range(threads)]:
                each.result()
    return latencies, moved, time.perf_counter() - started, done


def _blocks(file_system: Any, files: Sequence[SizedFile]) -> list[Job]:
    """Blocks from the start of each file on; several threads take turns, as the readers of one data set do."""
    block = min(_BLOCK, max(_PAGE, sum(file.size for file in files) // _FEW))
    jobs: list[Job] = []
    for file in files:
        opened = file_system.open_input_file(file.path)
        jobs += [partial(_block, opened, start, min(block, file.size - start)) for start in range(0, file.size, block)]
    return jobs


def _random_pages(bench: _Bench, files: Sequence[SizedFile]) -> list[Job]:
    """Pages of all files, none twice."""
    opened = [bench.file_system.open_input_file(file.path) for file in files]
    first = np.cumsum([0, *(file.size // _PAGE for file in files)])
    pages = bench.rng.choice(first[-1], size=min(_SAMPLE, int(first[-1])), replace=False, shuffle=True)
    of = np.searchsorted(first, pages, side="right") - 1
    starts = (pages - first[of]) * _PAGE
    return [partial(_block, opened[i], int(start), _PAGE) for i, start in zip(of, starts, strict=True)]


def _block(file: Any, start: int, length: int) -> int:
    return len(file.read_at(length, start))


def _whole(file_system: Any, file: SizedFile) -> int:
    with file_system.open_input_file(file.path) as opened:
        return len(opened.read_at(file.size, 0))


def _stat(file_system: Any, file: SizedFile) -> int:
    file_system.get_file_info(file.path)
    return 0


def _shuffled(rng: np.random.Generator, files: Sequence[SizedFile]) -> list[SizedFile]:
    return [files[i] for i in rng.permutation(len(files))]


def _up_to(files: Sequence[SizedFile], n_bytes: int) -> list[SizedFile]:
    """The first files that hold so many bytes together."""
    before = np.cumsum([0, *(file.size for file in files)])[:-1]
    return [file for file, start in zip(files, before, strict=True) if start < n_bytes]


@contextmanager
def _explained(location: str) -> Iterator[None]:
    """File system errors as one plain sentence."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise DataError(f"{location}: no space left for test files; lower --max-gb, or omit --write") from error
        raise explain(location, error) from error
