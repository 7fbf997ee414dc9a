"""Nested stratified subsamples: one fixed order of the rows, of which every fraction is a prefix.

Write ``n`` for all rows, ``n_c`` for those of class c and ``x_c(m)`` for those of class c among the first m. The order
of `nested_order` keeps, for every prefix length m and every class, strictly

    |x_c(m) - m * n_c / n| < 1        rows.

The k-th row of class c (k from 0) may then stand only at the places ``floor(k n / n_c) .. ceil((k + 1) n / n_c) - 1``.
These are the windows of proportionate fairness (Baruah, Cohen, Plaxton and Varvel, Algorithmica 15, 1996; as the
chairman assignment problem, Tijdeman, Discrete Mathematics 32, 1980): they can always be kept, and giving each place to
the waiting row with the earliest deadline keeps them. Sorting by Webster's ``(k + 1/2) / n_c`` is simpler and does not:
beside 1,000 classes of one row each, a class of 1,000 rows strays by 250.

Which rows of a class come first is decided by a keyed hash of the row's index alone, so neither the order of classes in
a file nor the version of a random generator matters. Pure: arrays in, arrays out, O(n log n).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from heapq import heapify, heappop, heappush, heappushpop

import numpy as np
import numpy.typing as npt

from orchestrator.errors import DataError

IntArray = npt.NDArray[np.int64]
HashArray = npt.NDArray[np.uint64]


def nested_order(labels: npt.ArrayLike, *, fingerprint: str, seed: int) -> IntArray:
    """Order the rows so that every prefix is stratified to within one row per class.

    Args:
        labels: Class id of each row, any integers. Shape (n,).
        fingerprint: Of the data; another one gives another order.
        seed: Another seed gives another order.
    Returns: A permutation of ``0..n-1``; its first m entries are the subset of m rows. Shape (n,).
    """
    classes, counts = _class_ids(labels)
    if len(classes) == 0:
        return np.empty(0, dtype=np.int64)
    by_class = np.lexsort((_row_hashes(len(classes), "order", fingerprint, seed), classes))
    tie_rank = np.argsort(np.argsort(_row_hashes(len(counts), "tie", fingerprint, seed), kind="stable"))
    places = np.argsort(_class_sequence(counts, tie_rank), kind="stable")
    order = np.empty(len(classes), dtype=np.int64)
    order[places] = by_class
    return order


def uniform_order(n: int, *, fingerprint: str, seed: int) -> IntArray:
    """A hash order of ``0..n-1`` for rows without classes; every prefix is a uniform subsample. Shape (n,)."""
    order: IntArray = np.argsort(_row_hashes(n, "order", fingerprint, seed), kind="stable")
    return order


def subset_size(n_train: int, fraction: float) -> int:
    """Rows of a fraction of the training pool: rounded half up in the decimal the user wrote, and at least 1."""
    # 0.0285 * 1000 is 28.499999999999996 in binary; the config says 28.5, and that rounds to 29.
    exact = Decimal(repr(float(fraction))) * n_train
    return max(1, min(n_train, int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP))))


def split_validation(
    labels: npt.ArrayLike, validation_fraction: float, fingerprint: str, class_names: Sequence[str] | None = None
) -> tuple[IntArray, IntArray]:
    """Cut the rows once into a training pool and a stratified validation split.

    Both sides hold at least one row of every class; where that asks for more rows than the fraction gives (rare
    classes), the validation split grows by those rows.

    Args:
        labels: Class id of each row, any integers. Shape (n,).
        validation_fraction: Share of all rows held out, between 0 and 1.
        fingerprint: Of the data; the split depends on nothing else, so it is the same for every trial and seed.
        class_names: Names for the error message, in rising order of class id; None shows the ids.
    Returns: Training rows and validation rows, each rising. Shapes (n - v,) and (v,).
    Raises: DataError: A class has one row, which cannot be on both sides.
    """
    classes, counts = _class_ids(labels)
    _refuse_single_rows(labels, counts, class_names)
    quota = _validation_counts(counts, subset_size(len(classes), validation_fraction), validation_fraction)
    by_class = np.lexsort((_row_hashes(len(classes), "validation", fingerprint, 0), classes))
    rank_in_class = np.arange(len(classes)) - np.repeat(np.cumsum(counts) - counts, counts)
    held_out = np.zeros(len(classes), dtype=bool)
    held_out[by_class] = rank_in_class < np.repeat(quota, counts)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _class_ids(labels: npt.ArrayLike) -> tuple[IntArray, IntArray]:
    """Labels as ids ``0..n_classes-1`` without gaps, and the rows of each."""
    array = np.asarray(labels)
    if array.size == 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    _, ids, counts = np.unique(array, return_inverse=True, return_counts=True)
    return ids.astype(np.int64, copy=False), counts.astype(np.int64, copy=False)


def _class_sequence(counts: IntArray, tie_rank: IntArray) -> IntArray:
    """The class of each place, by earliest deadline first over the windows of the module's header. Shape (n,).

    ``tie_rank`` settles equal deadlines. Windows repeat after ``n / gcd(counts)`` places, so one period is computed.
    """
    repeats = int(np.gcd.reduce(counts))
    period_counts = counts // repeats
    release, keys = _windows(period_counts, tie_rank)
    n = len(keys)
    released_by = np.searchsorted(release, np.arange(n), side="right").tolist()
    placed = _earliest_deadline_first(keys.tolist(), released_by)
    class_of_rank = np.empty(len(counts), dtype=np.int64)
    class_of_rank[tie_rank] = np.arange(len(counts))
    return np.tile(class_of_rank[np.array(placed, dtype=np.int64) % len(counts)], repeats)


def _windows(counts: IntArray, tie_rank: IntArray) -> tuple[IntArray, IntArray]:
    """First allowed place of each row, rising, and its key ``deadline * n_classes + tie_rank``. Shapes (n,)."""
    n = int(counts.sum())
    owner = np.repeat(np.arange(len(counts)), counts)
    k = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)
    size = counts[owner]
    release = k * n // size
    deadline = -(-(k + 1) * n // size) - 1
    by_release = np.argsort(release, kind="stable")
    return release[by_release], (deadline * len(counts) + tie_rank[owner])[by_release]


def _earliest_deadline_first(keys: list[int], released_by: list[int]) -> list[int]:
    """Give place t to the least key among ``keys[:released_by[t]]`` that has no place yet.

    A plain heap: at 1,000 classes a place costs about half a microsecond, far below reading the row it stands for.
    """
    waiting: list[int] = []
    placed: list[int] = []
    seen = 0
    for upto in released_by:
        if upto == seen + 1:
            placed.append(heappushpop(waiting, keys[seen]))
        else:
            if not waiting:
                waiting = keys[seen:upto]
                heapify(waiting)
            else:
                for key in keys[seen:upto]:
                    heappush(waiting, key)
            placed.append(heappop(waiting))
        seen = upto
    return placed


def _validation_counts(counts: IntArray, total: int, fraction: float) -> IntArray:
    """Rows of each class that are held out: largest remainders, kept within ``1..n_c - 1``."""
    quota = counts * fraction
    held: IntArray = np.clip(np.floor(quota).astype(np.int64), 1, counts - 1)
    short = max(0, total - int(held.sum()))
    # Stable, so that equal remainders fall to the lower class id on every machine.
    neediest = np.argsort(np.where(held < counts - 1, held - quota, np.inf), kind="stable")[:short]
    held[neediest] += held[neediest] < counts[neediest] - 1
    return held


def _refuse_single_rows(labels: npt.ArrayLike, counts: IntArray, class_names: Sequence[str] | None) -> None:
    single = np.flatnonzero(counts == 1)
    if len(single) == 0:
        return
    names = class_names if class_names is not None else [str(label) for label in np.unique(np.asarray(labels))]
    if len(single) == 1:
        found = f"class {names[single[0]]!r} has only 1 row"
    else:
        shown = ", ".join(repr(names[i]) for i in single[:3]) + (", ..." if len(single) > 3 else "")
        found = f"{len(single)} of {len(counts)} classes have only 1 row ({shown})"
    raise DataError(
        f"{found}, which cannot be in both the training pool and the validation split; "
        "add rows of it, leave it out, or check that data.label names a column of classes"
    )


def _row_hashes(n: int, purpose: str, fingerprint: str, seed: int) -> HashArray:
    """A 64-bit hash of each index in ``0..n-1``, keyed by what it is for, the data and the seed. Shape (n,).

    SplitMix64 (Steele, Lea and Flood, OOPSLA 2014; constants as in Vigna's splitmix64.c) from a BLAKE2b key. It is a
    bijection of 64-bit integers, so hashes of one key never collide and no tie is left to the order of the file.
    """
    key = hashlib.blake2b(f"{purpose}|{fingerprint}|{seed}".encode(), digest_size=8).digest()
    z = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(int.from_bytes(key, "little"))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: HashArray = z ^ (z >> np.uint64(31))
    return mixed
