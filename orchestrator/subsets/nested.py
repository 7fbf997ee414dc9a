"""Nested stratified subsamples: one fixed order of the rows, of which every fraction is a prefix.

Write ``n`` for all rows, ``n_c`` for those of class c and ``x_c(m)`` for those of class c among the first m. The order
of `nested_order` keeps, for every prefix length m and every class, strictly

    |x_c(m) - m * n_c / n| < 1        rows.

Which class stands at each place is worked out in `orchestrator.subsets.sequence`, which also tells why the bound can be
kept; which rows of a class come first is decided by a keyed hash of the row's number alone
(`orchestrator.subsets.rows`), so neither the order of classes in a file nor the version of a random generator matters.

Rare classes are proportional by default: a class with less than one row's share of a subset may be absent from it.
``min_per_class=k`` puts k rows of every class (or all of a class with fewer) before anything else, which bends the
shares of small subsets; `orchestrator.subsets.shares` says by how much. Without numba (extra ``fast``) the same results
come from numpy, several times slower. Pure: arrays in, arrays out.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from types import ModuleType

import numpy as np
import numpy.typing as npt

from orchestrator.errors import DataError
from orchestrator.subsets.class_column import CHUNK, ClassColumn, class_column, count_ids, hash_key, row_hashes
from orchestrator.subsets.rows import collect, deal, first_rows, row_levels
from orchestrator.subsets.sequence import ClassSequence

IntArray = npt.NDArray[np.int64]

# numpy takes 0.4 to 0.8 s at this size, numba 0.5 s to load; the first time on a machine it compiles too, for 7 s.
_COMPILE_FROM_ROWS = 5_000_000


def nested_order(
    labels: npt.ArrayLike,
    *,
    fingerprint: str,
    seed: int,
    upto: int | None = None,
    min_per_class: int = 0,
    compiled: bool | None = None,
) -> IntArray:
    """Order the rows so that every prefix is stratified to within one row per class.

    Args:
        labels: Class id of each row, any integers. Shape (n,).
        fingerprint: Of the data; another one gives another order.
        seed: Another seed gives another order.
        upto: Only the first places are wanted; all when None.
        min_per_class: Rows of every class that come before any class holds more; the bound then holds of the rest.
        compiled: Whether numba's code runs; None decides by the number of rows and whether numba is installed. The
            order is the same.
    Returns: The first ``upto`` entries of a permutation of ``0..n-1``; its first m are the subset of m rows.
        Shape (min(upto, n),).
    """
    column = class_column(labels, _kernels(np.size(labels), compiled))
    n_places = len(column) if upto is None else min(upto, len(column))
    if n_places == 0:
        return np.empty(0, dtype=np.int64)
    places = _sequence(column.counts, fingerprint, seed, min_per_class, column.kernels).places(n_places)
    quota = count_ids(places, len(column.counts), column.kernels)
    rows, start = first_rows(column, quota, hash_key("order", fingerprint, seed))
    return deal(places, start, rows, column.kernels)


def membership_levels(
    labels: npt.ArrayLike,
    fractions: Sequence[float],
    *,
    fingerprint: str,
    seed: int,
    min_per_class: int = 0,
    compiled: bool | None = None,
) -> npt.NDArray[np.uint8]:
    """Tell for each row which subsets hold it, in one byte: the same subsets as the prefixes of `nested_order`.

    Args:
        labels: Class id of each row, any integers. Shape (n,).
        fractions: Shares of all rows, rising, in (0, 1]; at most 254.
        fingerprint: As for `nested_order`.
        seed: As for `nested_order`.
        min_per_class: As for `nested_order`.
        compiled: As for `nested_order`.
    Returns: Index of the smallest fraction that holds the row; ``len(fractions)`` where none does. Shape (n,).
    """
    if len(fractions) > 254 or list(fractions) != sorted(set(fractions)) or not all(0 < f <= 1 for f in fractions):
        raise ValueError(f"fractions must be at most 254, rising and in (0, 1], got {list(fractions)}")
    column = class_column(labels, _kernels(np.size(labels), compiled))
    if len(column) == 0:
        return np.empty(0, dtype=np.uint8)
    sizes = np.array([subset_size(len(column), fraction) for fraction in fractions], dtype=np.int64)
    held = _sequence(column.counts, fingerprint, seed, min_per_class, column.kernels).held(sizes)
    return row_levels(column, held, hash_key("order", fingerprint, seed))


def class_rows_at(
    class_counts: npt.ArrayLike, lengths: Sequence[int], *, fingerprint: str, seed: int, min_per_class: int = 0
) -> IntArray:
    """Rows of each class in prefixes of `nested_order`, from the class counts alone.

    Args:
        class_counts: Rows of each class, in rising order of label, each at least 1. Shape (n_classes,).
        lengths: Prefix lengths, in ``0..n``.
        fingerprint: As for `nested_order`.
        seed: As for `nested_order`.
        min_per_class: As for `nested_order`.
    Returns: Counts. Shape (len(lengths), n_classes).
    """
    counts = np.asarray(class_counts, dtype=np.int64)
    kernels = _kernels(int(counts.sum()), None)
    return _sequence(counts, fingerprint, seed, min_per_class, kernels).held(np.asarray(lengths, dtype=np.int64))


def uniform_order(
    n: int, *, fingerprint: str, seed: int, upto: int | None = None, compiled: bool | None = None
) -> IntArray:
    """A hash order of ``0..n-1`` for rows without classes, or its first ``upto``; every prefix is a uniform sample."""
    n_places = n if upto is None else min(upto, n)
    if n_places == 0:
        return np.empty(0, dtype=np.int64)
    column = class_column(np.broadcast_to(np.uint8(0), n), _kernels(n, compiled))
    rows, _ = first_rows(column, np.array([n_places]), hash_key("order", fingerprint, seed))
    return rows[:n_places].astype(np.int64)


def seed_places(labels: npt.NDArray[np.integer], m: int, seed: int, *, compiled: bool | None = None) -> IntArray:
    """Places of another seed's subset within rows that already stand in nested order.

    Seed s begins at another offset ``o`` of the order: 0, 1/2, 1/4, 3/4, 1/8, ... of n (van der Corput). Its place t,
    of class c, is the row of class c that comes as many rows of c after ``o`` as there are before t, going round at the
    end. So every prefix holds as many rows of each class as the physical prefix, larger subsets of a seed begin with
    smaller ones, small subsets of different seeds share no row (but for classes with too few), and the rows lie
    between ``o`` and little more than ``o + m``: less than ``o + m + 3 n / n_c`` for the rarest class c that the subset
    holds, or two rounds of k classes of equal size.

    Args:
        labels: Class of each place, integers from 0; a memory map is read in pieces. Shape (n,).
        m: Places wanted, at most n.
        seed: 0 is the order itself. At least 0.
        compiled: As for `nested_order`.
    Returns: Places, by rising t. Shape (m,).
    """
    start = seed_offset(len(labels), seed)
    if start == 0 or m == 0:
        return np.arange(m)
    kernels = _kernels(m, compiled)
    places = np.array(labels[:m], dtype=np.int64)
    # One class more, of which nothing is needed, stands for all that the prefix does not hold.
    needed = np.append(np.bincount(places), 0)
    end = np.cumsum(needed)
    next_entry, found = end - needed, np.empty(m, dtype=np.int64)
    for first, stop in (*_stretches(start, len(labels)), *_stretches(0, start)):
        ids = np.minimum(labels[first:stop], len(needed) - 1).astype(np.int32)
        collect(ids, first, next_entry, end, found, kernels)
        if (next_entry == end).all():
            break
    return deal(places, end - needed, found, kernels)


def seed_offset(n: int, seed: int) -> int:
    """The place at which a seed's subsets begin: the van der Corput sequence 0, 1/2, 1/4, 3/4, 1/8, ... of n places."""
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    bits = f"{seed:b}"
    return int(bits[::-1], 2) * n >> len(bits)


def subset_size(n_train: int, fraction: float) -> int:
    """Rows of a fraction of the training pool: rounded half up in the decimal the user wrote, and at least 1."""
    # 0.0285 * 1000 is 28.499999999999996 in binary; the config says 28.5, and that rounds to 29.
    exact = Decimal(repr(float(fraction))) * n_train
    return max(1, min(n_train, int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP))))


def target_size(n_train: int, fraction: float) -> int:
    """Rows of a target; unlike `subset_size` also of one beyond today's data."""
    if fraction <= 1:
        return subset_size(n_train, fraction)
    return int((Decimal(repr(float(fraction))) * n_train).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def split_validation(
    labels: npt.ArrayLike,
    validation_fraction: float,
    fingerprint: str,
    class_names: Sequence[str] | None = None,
    *,
    refuse_single_rows: bool = True,
    compiled: bool | None = None,
) -> tuple[IntArray, IntArray]:
    """Cut the rows once into a training pool and a stratified validation split.

    Both sides hold at least one row of every class; where that asks for more rows than the fraction gives (rare
    classes), the validation split grows by those rows.

    Args:
        labels: Class id of each row, any integers. Shape (n,).
        validation_fraction: Share of all rows held out, between 0 and 1.
        fingerprint: Of the data; the split depends on nothing else, so it is the same for every trial and seed.
        class_names: Names for the error message, in rising order of class id; None shows the ids.
        refuse_single_rows: False puts the only row of a class into the training pool, as suits strata that nobody
            predicts.
        compiled: As for `nested_order`.
    Returns: Training rows and validation rows, each rising. Shapes (n - v,) and (v,).
    Raises: DataError: A class has one row, which cannot be on both sides.
    """
    column = class_column(labels, _kernels(np.size(labels), compiled))
    if refuse_single_rows:
        _refuse_single_rows(column, class_names)
    quota = _validation_counts(column.counts, subset_size(len(column), validation_fraction), validation_fraction)
    levels = row_levels(column, quota[None, :], hash_key("validation", fingerprint, 0))
    return np.flatnonzero(levels), np.flatnonzero(levels == 0)


def _sequence(
    counts: IntArray, fingerprint: str, seed: int, min_per_class: int, kernels: ModuleType | None
) -> ClassSequence:
    hashes = row_hashes(np.arange(len(counts)), hash_key("tie", fingerprint, seed))
    tie_rank = np.argsort(np.argsort(hashes))
    return ClassSequence(counts=counts, tie_rank=tie_rank, min_per_class=min_per_class, kernels=kernels)


def _kernels(n_rows: int, compiled: bool | None) -> ModuleType | None:
    """Compiled loops where they are worth loading and can be; None means numpy."""
    if compiled is False or (compiled is None and n_rows < _COMPILE_FROM_ROWS):
        return None
    try:
        from orchestrator.subsets import kernels
    except (ImportError, RuntimeError):  # numba is not there, does not suit this numpy, or finds no cache folder
        if compiled:
            raise
        return None
    return kernels


def _stretches(start: int, stop: int) -> list[tuple[int, int]]:
    return [(first, min(first + CHUNK, stop)) for first in range(start, stop, CHUNK)]


def _validation_counts(counts: IntArray, total: int, fraction: float) -> IntArray:
    """Rows of each class that are held out: largest remainders, kept within ``1..n_c - 1``."""
    quota = counts * fraction
    held: IntArray = np.clip(np.floor(quota).astype(np.int64), 1, counts - 1)
    short = max(0, total - int(held.sum()))
    # Stable, so that equal remainders fall to the lower class id on every machine.
    neediest = np.argsort(np.where(held < counts - 1, held - quota, np.inf), kind="stable")[:short]
    held[neediest] += held[neediest] < counts[neediest] - 1
    return held


def _refuse_single_rows(column: ClassColumn, class_names: Sequence[str] | None) -> None:
    single = np.flatnonzero(column.counts == 1)
    if len(single) == 0:
        return
    names = class_names if class_names is not None else [str(value) for value in column.values]
    if len(single) == 1:
        found = f"class {names[single[0]]!r} has only 1 row"
    else:
        shown = ", ".join(repr(names[i]) for i in single[:3]) + (", ..." if len(single) > 3 else "")
        found = f"{len(single)} of {len(column.counts)} classes have only 1 row ({shown})"
    raise DataError(
        f"{found}, which cannot be in both the training pool and the validation split; "
        "add rows of it, leave it out, or check that data.label names a column of classes"
    )
