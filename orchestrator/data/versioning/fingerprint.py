"""Fingerprints of content: SHA-256 over every byte, blind to the names and the order of files.

    fingerprint = SHA-256( the files' own SHA-256 digests, sorted )     first 16 hex digits; 32 of each file's

SHA-256 because processors have instructions for it, and hashlib uses them: one core of an AMD EPYC 9004 takes in
1.8 GB/s, where BLAKE2b takes in 0.5 to 0.8. With the instructions masked off it is 0.48 GB/s, of the same digests.

A file is read again only when its size or one of its times has changed since its digest was recorded, as in git's
index; the record always holds the digest of the full content.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from orchestrator.data.versioning.digest_memory import SAVE_EVERY_S, DigestMemory, Known
from orchestrator.errors import DataError

# A file changed again within the clock tick of its recording would look unchanged; git calls such entries racy.
# 2 s is the coarsest tick in use (FAT).
_RACY_NS = 2_000_000_000
_CHUNK_BYTES = 1 << 20
_MAX_THREADS = 8
_BATCH_FILES = 1000
_JOB_FILES, _JOB_BYTES = 64, 16 << 20  # handing over a small file one by one would cost more than hashing it
_TELL_EVERY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDigest:
    """A file's content as it was when it was read."""

    path: Path
    size: int
    mtime_ns: int
    digest: str

    def is_current(self) -> bool:
        """Whether size and modification time are still those of the digest."""
        stat = self.path.stat()
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.mtime_ns)


def combine(digests: Iterable[str]) -> str:
    """One fingerprint of many digests, whatever their order. 16 hex digits."""
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()[:16]


def digest_bytes(*chunks: bytes) -> str:
    """Digest of content that is in memory. 32 hex digits, those of a file of the same content."""
    state = hashlib.sha256()
    for chunk in chunks:
        state.update(chunk)
    return state.hexdigest()[:32]


def digest_stream(file: BinaryIO) -> str:
    """Digest of what is left in a stream, in bounded memory. 32 hex digits, those of a file of the same content."""
    state = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        state.update(chunk)
    return state.hexdigest()[:32]


def digest_files(paths: Iterable[Path], memory: Path, say: Callable[[str], None] | None = None) -> list[FileDigest]:
    """Digests of files, sorted by digest, so that renaming a file moves nothing.

    Whatever ends it early, files that were read to their end are remembered and not read again.

    Args:
        paths: The files.
        memory: SQLite database of earlier digests; it is brought up to date, and a damaged one is replaced.
        say: Told how far it is, every few seconds.
    Raises:
        DataError: A file cannot be read, or was written to while it was read.
        OSError: ``memory`` cannot be written.
    """
    tell = say or (lambda message: None)
    found: list[FileDigest] = []
    unread: list[tuple[Path, int]] = []
    with DigestMemory(memory, tell) as known:
        for batch in _batches(paths):
            for (path, stat), digest in zip(batch, known.recall(batch), strict=True):
                if digest is None:
                    unread.append((path, stat.st_size))
                else:
                    found.append(FileDigest(path=path, size=stat.st_size, mtime_ns=stat.st_mtime_ns, digest=digest))
        found += _read(unread, known, tell)
    return sorted(found, key=lambda file: (file.digest, file.path))


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part. Raises OSError."""
    part = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        part.write_bytes(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _batches(paths: Iterable[Path]) -> Iterator[list[tuple[Path, os.stat_result]]]:
    rest = iter(paths)
    while batch := list(islice(rest, _BATCH_FILES)):
        yield [_with_stat(path.absolute()) for path in batch]


def _with_stat(path: Path) -> tuple[Path, os.stat_result]:
    try:
        return path, path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot be read: {error.strerror}; check that it exists and may be read")


@dataclass(slots=True)
class _Job:
    """Files that one thread reads; what it found fills up until the end, a fault, or a stop."""

    paths: list[Path]
    found: list[FileDigest] = field(default_factory=list)
    known: list[Known] = field(default_factory=list)
    """Those of them that may be remembered."""
    fault: Exception | None = None


def _read(unread: Sequence[tuple[Path, int]], known: DigestMemory, tell: Callable[[str], None]) -> list[FileDigest]:
    """Read files by a few threads; each is remembered soon after its end, whatever becomes of the others."""
    found: list[FileDigest] = []
    progress = _Progress(unread, tell)
    stop = threading.Event()
    n_threads = min(os.cpu_count() or 1, _MAX_THREADS)
    running: set[Future[_Job]] = set()

    def collect(ended: Iterable[Future[_Job]]) -> None:
        jobs = [future.result() for future in ended]
        for job in jobs:
            found.extend(job.found)
            known.record(job.known)
            progress.add(job.found)
        known.save_when_due()
        for fault in (job.fault for job in jobs if job.fault is not None):
            raise fault

    with ThreadPoolExecutor(n_threads, thread_name_prefix="digest") as pool:
        try:
            for job in _jobs(unread):
                running.add(pool.submit(_work, job, stop))
                while len(running) >= 2 * n_threads:
                    ended, running = wait(running, timeout=SAVE_EVERY_S, return_when=FIRST_COMPLETED)
                    collect(ended)
            while running:
                ended, running = wait(running, timeout=SAVE_EVERY_S, return_when=FIRST_COMPLETED)
                collect(ended)
        except BaseException:  # an interrupt above all: threads leave their files at the next chunk
            stop.set()
            pool.shutdown(cancel_futures=True)
            for future in running:
                if not future.cancelled():
                    known.record(future.result().known)
            raise
    return found


def _jobs(unread: Sequence[tuple[Path, int]]) -> Iterator[_Job]:
    job, n_bytes = _Job([]), 0
    for path, size in unread:
        job.paths.append(path)
        n_bytes += size
        if len(job.paths) >= _JOB_FILES or n_bytes >= _JOB_BYTES:
            yield job
            job, n_bytes = _Job([]), 0
    if job.paths:
        yield job


def _work(job: _Job, stop: threading.Event) -> _Job:
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    for path in job.paths:
        try:
            if not _read_file(path, job, buffer, stop):
                return job
        except Exception as error:  # the thread's edge: raised again where results are collected
            job.fault = error
            return job
    return job


def _read_file(path: Path, job: _Job, buffer: memoryview, stop: threading.Event) -> bool:
    """False when it was told to stop before the file's end."""
    began_ns = time.time_ns()
    state = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            while n_read := file.readinto(buffer):
                state.update(buffer[:n_read])
                if stop.is_set():
                    return False
            stat = os.fstat(file.fileno())
    except OSError as error:
        raise _unreadable(path, error) from error
    if (before.st_size, before.st_mtime_ns) != (stat.st_size, stat.st_mtime_ns):
        raise DataError(f"{path}: changed while it was read; run again when nothing writes to it")
    digest = state.hexdigest()[:32]
    job.found.append(FileDigest(path=path, size=stat.st_size, mtime_ns=stat.st_mtime_ns, digest=digest))
    if began_ns - stat.st_mtime_ns >= _RACY_NS:
        job.known.append(Known(os.fsencode(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, digest))
    return True


class _Progress:
    """Says how far reading is, not more often than every few seconds."""

    def __init__(self, unread: Sequence[tuple[Path, int]], tell: Callable[[str], None]) -> None:
        self._tell, self._n_bytes = tell, sum(size for _, size in unread)
        self._began = self._told = time.monotonic()
        self._done = 0

    def add(self, files: Iterable[FileDigest]) -> None:
        self._done += sum(file.size for file in files)
        now = time.monotonic()
        if now - self._told >= _TELL_EVERY_S:
            self._told = now
            speed = self._done / 1e9 / (now - self._began)
            self._tell(f"fingerprint: {self._done / 1e9:.1f} of {self._n_bytes / 1e9:.1f} GB read, {speed:.2f} GB/s")
