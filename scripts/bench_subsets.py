#!/usr/bin/env python
"""CPU seconds, memory and exactness of nested stratified subsets, beside what people use for them.

    python scripts/bench_subsets.py [--rows 10_000_000] [--classes 1000] [--shares even|skewed] [--repeats 3]
                                    [--only ours,polars,...]

Every method is given the same label column (the smallest unsigned integers that hold it, drawn at random) in a process
of its own, and makes index arrays of 1%, 10% and 50% of the rows. Before anything is measured each makes subsets of a
small column, so that neither imports nor compilers count; what ours takes when nothing has been compiled is printed
below. CPU seconds are of all threads, the median of the repeats. Memory is the peak of the process over what it held
with the labels in it. Deviation is the largest |rows of a class in a subset - exact share|, in rows. Times are also
given over ours. The limit is reading the label column from a file in the page cache.

ours makes one index array, of which all subsets are prefixes; ours-levels gives one byte for each row instead, and
ours-numpy does without numba. packed-sort sorts keys of class, random bits and row in numpy. pandas and scikit-learn
are chained (each subset is drawn from the larger one): unchained they are faster and not nested.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing as mp
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from orchestrator.subsets import membership_levels, nested_order, subset_size

FRACTIONS = (0.01, 0.1, 0.5)
SEED = 0
Labels = npt.NDArray[np.unsignedinteger]
Subsets = list[npt.NDArray[np.integer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One method on one label column."""

    cpu_s: float
    peak_bytes_per_row: float
    """Over what the process held before."""
    deviation_rows: float
    """The largest of any class and fraction."""
    size_off_rows: int
    """The largest difference of a subset's size from its fraction of all rows, rounded."""
    is_nested: bool


def ours(labels: Labels) -> Subsets:
    sizes = [subset_size(len(labels), fraction) for fraction in FRACTIONS]
    order = nested_order(labels, fingerprint="bench", seed=SEED, upto=sizes[-1], compiled=True)
    return [order[:size] for size in sizes]


def ours_in_numpy(labels: Labels) -> Subsets:
    sizes = [subset_size(len(labels), fraction) for fraction in FRACTIONS]
    order = nested_order(labels, fingerprint="bench", seed=SEED, upto=sizes[-1], compiled=False)
    return [order[:size] for size in sizes]


def ours_levels(labels: Labels) -> npt.NDArray[np.uint8]:
    return membership_levels(labels, FRACTIONS, fingerprint="bench", seed=SEED, compiled=True)


def packed_sort(labels: Labels) -> Subsets:
    """Class, random bits and row in one 64-bit key; the sorted keys of a class are a random order of its rows."""
    row_bits = len(labels).bit_length()
    random_bits = 64 - row_bits - int(labels.max()).bit_length()
    keys = np.random.default_rng(SEED).integers(0, 1 << random_bits, len(labels), dtype=np.uint64)
    keys |= labels.astype(np.uint64) << np.uint64(random_bits)
    keys <<= np.uint64(row_bits)
    keys |= np.arange(len(labels), dtype=np.uint64)
    keys.sort()
    keys &= np.uint64((1 << row_bits) - 1)
    counts = np.bincount(labels)
    start = np.cumsum(counts) - counts
    return [
        np.concatenate(
            [keys[s : s + q] for s, q in zip(start.tolist(), quotas(counts, fraction).tolist(), strict=True)]
        )
        for fraction in FRACTIONS
    ]


def pandas(labels: Labels) -> Subsets:
    import pandas as pd

    frame = pd.DataFrame({"label": labels})
    found: Subsets = []
    for fraction, larger in zip(reversed(FRACTIONS), (1.0, *reversed(FRACTIONS)), strict=False):
        frame = frame.groupby("label").sample(frac=fraction / larger, random_state=SEED)
        found.insert(0, frame.index.to_numpy())
    return found


def polars(labels: Labels) -> Subsets:
    import polars as pl

    frame = pl.DataFrame({"label": labels}).with_row_index("row")
    rank = pl.int_range(pl.len()).shuffle(seed=SEED).over("label")
    frame = frame.with_columns(rank=rank, size=pl.len().over("label"))
    return [
        frame.filter(pl.col("rank") < (pl.col("size") * fraction).round())["row"].to_numpy() for fraction in FRACTIONS
    ]


def duckdb(labels: Labels) -> Subsets:
    import duckdb as db

    with db.connect() as connection:
        connection.register("labels", {"label": labels, "row": np.arange(len(labels), dtype=np.uint32)})
        connection.execute(
            "create table ranked as select row, row_number() over (partition by label order by hash(row)) as rank, "
            "count(*) over (partition by label) as size from labels"
        )
        query = "select row from ranked where rank <= round(size * ?)"
        return [connection.execute(query, [fraction]).fetchnumpy()["row"] for fraction in FRACTIONS]


def scikit_learn(labels: Labels) -> Subsets:
    from sklearn.model_selection import StratifiedShuffleSplit

    rows = np.arange(len(labels))
    found: Subsets = []
    for fraction in reversed(FRACTIONS):
        size = subset_size(len(labels), fraction)
        splitter = StratifiedShuffleSplit(n_splits=1, train_size=size, test_size=None, random_state=SEED)
        kept, _ = next(splitter.split(np.empty((len(rows), 0)), labels[rows]))
        rows = rows[kept]
        found.insert(0, rows)
    return found


METHODS: dict[str, tuple[str, Callable[[Labels], Subsets | npt.NDArray[np.uint8]]]] = {
    "ours": ("numba", ours),
    "ours-levels": ("numba", ours_levels),
    "ours-numpy": ("numpy", ours_in_numpy),
    "packed-sort": ("numpy", packed_sort),
    "pandas": ("pandas", pandas),
    "polars": ("polars", polars),
    "duckdb": ("duckdb", duckdb),
    "scikit-learn": ("sklearn", scikit_learn),
}


def quotas(counts: npt.NDArray[np.int64], fraction: float) -> npt.NDArray[np.int64]:
    return np.floor(counts * fraction + 0.5).astype(np.int64)


def make_labels(n: int, n_classes: int, shares: str) -> Labels:
    """Labels drawn with equal shares, or with shares of a flat Dirichlet. A million at a time: peaks are measured."""
    rng = np.random.default_rng(SEED)
    p = np.full(n_classes, 1 / n_classes) if shares == "even" else rng.dirichlet(np.ones(n_classes))
    bounds = np.cumsum(p)[:-1]
    labels = np.empty(n, dtype=np.uint8 if n_classes <= 1 << 8 else np.uint16 if n_classes <= 1 << 16 else np.uint32)
    for first in range(0, n, 1_000_000):
        part = labels[first : first + 1_000_000]
        part[:] = np.searchsorted(bounds, rng.random(len(part)), side="right")
    return labels


def judge(labels: Labels, subsets: Subsets) -> tuple[float, int, bool]:
    """Largest deviation and error of size in rows, and whether each subset holds the ones before it."""
    counts = np.bincount(labels)
    deviation, size_off, is_nested = 0.0, 0, True
    before = np.zeros(len(labels), dtype=bool)
    for fraction, rows in zip(FRACTIONS, subsets, strict=True):
        held = np.bincount(labels[rows], minlength=len(counts))
        deviation = max(deviation, float(np.abs(held - fraction * counts).max()))
        size_off = max(size_off, abs(len(rows) - subset_size(len(labels), fraction)))
        now = np.zeros(len(labels), dtype=bool)
        now[rows] = True
        is_nested &= bool(now[before].all())
        before = now
    return deviation, size_off, is_nested


def from_levels(levels: npt.NDArray[np.uint8]) -> Subsets:
    return [np.flatnonzero(levels <= i) for i in range(len(FRACTIONS))]


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure(name: str, n: int, n_classes: int, shares: str, repeats: int) -> Measured:
    method = METHODS[name][1]
    method(make_labels(max(10_000, 200 * n_classes), n_classes, "even"))
    labels = make_labels(n, n_classes, shares)
    held, seconds = peak_bytes(), []
    for _ in range(repeats):
        found = None  # the last result is gone before the next is made
        start = time.process_time()
        found = method(labels)
        seconds.append(time.process_time() - start)
    peak = peak_bytes() - held
    deviation, size_off, is_nested = judge(labels, found if isinstance(found, list) else from_levels(found))
    return Measured(
        cpu_s=statistics.median(seconds),
        peak_bytes_per_row=peak / n,
        deviation_rows=deviation,
        size_off_rows=size_off,
        is_nested=is_nested,
    )


def is_installed(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def in_own_process(name: str, arguments: argparse.Namespace) -> Measured | str:
    if not is_installed(METHODS[name][0]):
        return f"{METHODS[name][0]} is not installed"
    context = mp.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, name, arguments))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        process.join()
        return f"ended with exit code {process.exitcode} (out of memory?)"
    finally:
        process.join()


def _child(sender: Connection, name: str, arguments: argparse.Namespace) -> None:
    try:
        sender.send(measure(name, arguments.rows, arguments.classes, arguments.shares, arguments.repeats))
    except Exception as error:  # a peer that cannot do it is a line of the table
        sender.send(f"fails: {' '.join(str(error).split())[:90]}")


def reading_s(arguments: argparse.Namespace) -> float:
    """CPU seconds of loading the label column from a file just written."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.npy"
        np.save(path, make_labels(arguments.rows, arguments.classes, arguments.shares))
        seconds = []
        for _ in range(arguments.repeats):
            start = time.process_time()
            np.load(path)
            seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def first_call_s() -> tuple[float, float]:
    """CPU seconds of a process's first order of 20,000 rows with nothing compiled, and with all of it in the cache."""
    code = (
        "import time, numpy as np; from orchestrator.subsets import nested_order; start = time.process_time();"
        "nested_order(np.arange(20_000, dtype=np.uint16) % 7, fingerprint='f', seed=0, upto=10_000, compiled=True);"
        "print(time.process_time() - start)"
    )
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder, "PYTHONPATH": os.pathsep.join(sys.path)}
        cold, warm = (
            float(subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout)
            for _ in range(2)
        )
    return cold, warm


def line(name: str, found: Measured | str, baseline_s: float | None) -> str:
    if isinstance(found, str):
        return f"{name:22s} {found}"
    ratio = "" if baseline_s is None else f"{found.cpu_s / baseline_s:.1f}x"
    off = f" ({found.size_off_rows:+d} in size)" if found.size_off_rows else ""
    return (
        f"{name:22s} {found.cpu_s:8.3f} {ratio:>8s} {found.peak_bytes_per_row:9.1f}   {found.deviation_rows:7.2f}   "
        f"{'yes' if found.is_nested else 'NO'}{off}"
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--shares", choices=["even", "skewed"], default="even")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--only", help=f"names, separated by commas, of: {', '.join(METHODS)}; 'ours' is all three of ours"
    )
    arguments = parser.parse_args(argv)
    asked = list(METHODS) if arguments.only is None else [each.strip() for each in arguments.only.split(",")]
    names = [name for name in METHODS if name in asked or name.split("-")[0] in asked]
    if not names:
        parser.error(f"--only {arguments.only}: none of {', '.join(METHODS)}")
    print(f"{arguments.rows:,} rows, {arguments.classes:,} classes, {arguments.shares} shares, fractions {FRACTIONS}")
    print(f"{'':22s} {'CPU s':>8s} {'/ ours':>8s} {'bytes/row':>9s} {'rows off':>9s}   nested")
    baseline_s = None
    for name in names:
        found = in_own_process(name, arguments)
        if name == "ours" and isinstance(found, Measured):
            baseline_s = found.cpu_s
        print(line(name, found, baseline_s), flush=True)
    print(f"{'limit: reading labels':22s} {reading_s(arguments):8.3f}")
    if baseline_s is not None:
        cold, warm = first_call_s()
        print(
            f"first call of a process: {cold:.1f} CPU s with nothing compiled, {warm:.1f} s from the compiler's cache"
        )


if __name__ == "__main__":
    main()
