#!/usr/bin/env python3
"""What fingerprinting costs: of a folder, or of files made for it, in seconds of CPU and in GB/s per core.

    scripts/bench_fingerprint.py FOLDER
    scripts/bench_fingerprint.py --make-gb 2 --make-files 100000 [--repeats 3]

Ours is `digest_files`, the first time and again with nothing changed. Beside it, one thread each over the same files:
reading alone (the limit), and reading with other hashes of hashlib, and with xxhash and blake3 where they are there.
Files are in the page cache. The median of the repeats is shown; without SHA instructions (OPENSSL_ia32cap=:~0x20000000
masks them off on x86) the first line is what such a processor gives.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import platform
import random
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.data.versioning.fingerprint import digest_files

CHUNK_BYTES = 1 << 20
SMALL_FILE_BYTES = 3_000  # about a CIFAR-10 image as PNG
LARGE_FILE_BYTES = 256 << 20


class Nothing:
    """A hash that only has the bytes read."""

    def update(self, chunk: memoryview) -> None:
        """Bytes are dropped."""


def peers() -> dict[str, Callable[[], Any]]:
    """Name to a new hash state."""
    found: dict[str, Callable[[], Any]] = {"reading alone": Nothing}
    found |= {f"hashlib {name}": getattr(hashlib, name) for name in ("sha256", "blake2b", "sha1", "md5")}
    for module, name in (("xxhash", "xxh3_128"), ("blake3", "blake3")):
        try:
            found[f"{module} {name}"] = getattr(importlib.import_module(module), name)
        except ImportError:
            continue
    return found


def read_all(paths: Sequence[Path], new_state: Callable[[], Any]) -> None:
    """One file after the other, on this thread."""
    buffer = memoryview(bytearray(CHUNK_BYTES))
    for path in paths:
        state = new_state()
        with path.open("rb", buffering=0) as file:
            while n_read := file.readinto(buffer):
                state.update(buffer[:n_read])


def measured(
    repeats: int, work: Callable[[], object], prepare: Callable[[], object] = lambda: None
) -> tuple[float, float]:
    """Median seconds of CPU, of all threads together, and of wall time."""
    cpu, wall = [], []
    for _ in range(repeats):
        prepare()
        began = time.process_time(), time.perf_counter()
        work()
        cpu.append(time.process_time() - began[0])
        wall.append(time.perf_counter() - began[1])
    return statistics.median(cpu), statistics.median(wall)


def compare(paths: Sequence[Path], repeats: int) -> None:
    """A table for these files."""
    n_bytes = sum(path.stat().st_size for path in paths)
    print(f"\n{len(paths):,} files, {n_bytes / 1e9:.3f} GB")
    print(f"{'':<34} {'CPU s':>8} {'wall s':>8} {'GB/s per core':>14} {'us per file':>12}")

    def show(name: str, seconds: tuple[float, float]) -> None:
        cpu, wall = seconds
        print(f"{name:<34} {cpu:8.3f} {wall:8.3f} {n_bytes / 1e9 / cpu:14.2f} {1e6 * cpu / len(paths):12.1f}")

    with tempfile.TemporaryDirectory() as folder:
        memory = Path(folder) / "fingerprints.sqlite"
        show(
            "ours, first time",
            measured(repeats, lambda: digest_files(paths, memory), lambda: memory.unlink(missing_ok=True)),
        )
        show("ours, nothing changed", measured(repeats, lambda: digest_files(paths, memory)))
        print(f"{'':<34} the memory has {memory.stat().st_size / 1e6:.1f} MB")
    for name, new_state in peers().items():
        show(name, measured(repeats, lambda new=new_state: read_all(paths, new)))


@contextmanager
def made(n_files: int, file_bytes: int) -> Iterator[list[Path]]:
    """Files of different content, last written long enough ago to be remembered."""
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number // 1000:05d}" / f"{number:08d}" for number in range(n_files)]
        block = rng.randbytes(min(file_bytes, 1 << 20))
        long_ago = time.time_ns() - 10**11
        for number, path in enumerate(paths):
            path.parent.mkdir(exist_ok=True)
            with path.open("wb") as file:
                file.write(number.to_bytes(8, "little"))
                for start in range(8, file_bytes, len(block)):
                    file.write(block[: file_bytes - start])
            os.utime(path, ns=(long_ago, long_ago))
        yield paths


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="files to read; made for the occasion when left out")
    parser.add_argument("--make-gb", type=float, default=2.0, help="of large files [2]")
    parser.add_argument("--make-files", type=int, default=100_000, help=f"of {SMALL_FILE_BYTES:,} bytes [100,000]")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, of which the median is shown [3]")
    asked = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {ssl.OPENSSL_VERSION}")
    if asked.folder is not None:
        compare(sorted(path for path in asked.folder.rglob("*") if path.is_file()), asked.repeats)
        return
    n_large = max(round(asked.make_gb * 1e9 / LARGE_FILE_BYTES), 1) if asked.make_gb else 0
    for n_files, size in ((n_large, LARGE_FILE_BYTES), (asked.make_files, SMALL_FILE_BYTES)):
        if n_files:
            with made(n_files, size) as paths:
                compare(paths, asked.repeats)


if __name__ == "__main__":
    main()
