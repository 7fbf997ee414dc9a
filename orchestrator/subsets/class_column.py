"""A label column as class ids and row hashes, a chunk at a time.

Labels of 100M rows are never copied whole: integers of a narrow range become ids through a table while they are read.
Rows are hashed by SplitMix64, keyed by what for, by the data and by the seed. Pure: arrays in, arrays out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
IdArray = npt.NDArray[np.int32]
HashArray = npt.NDArray[np.uint64]

CHUNK = 1 << 16
"""Rows that are worked on together: their ids and hashes stay in the cache."""

# Label ranges up to this are looked up in a table; wider ones, as of 64-bit user ids, are sorted once.
_WIDEST_TABLE = 1 << 22

_GOLDEN, _MIX_1, _MIX_2 = (np.uint64(each) for each in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_UNGOLDEN, _UNMIX_1, _UNMIX_2 = (np.uint64(pow(int(each), -1, 1 << 64)) for each in (_GOLDEN, _MIX_1, _MIX_2))


def hash_key(purpose: str, fingerprint: str, seed: int) -> np.uint64:
    """The key of `row_hashes`: by what it is for, the data and the seed."""
    digest = hashlib.blake2b(f"{purpose}|{fingerprint}|{seed}".encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def row_hashes(rows: npt.NDArray[np.integer], key: np.uint64) -> HashArray:
    """A 64-bit hash of each row number. Same shape.

    SplitMix64 (Steele, Lea and Flood, OOPSLA 2014; constants as in Vigna's splitmix64.c). It is a bijection, so hashes
    of one key never collide and no tie is left to the order of the file.
    """
    z = rows.astype(np.uint64)
    z += np.uint64(1)
    z *= _GOLDEN
    z += key
    z ^= z >> np.uint64(30)
    z *= _MIX_1
    z ^= z >> np.uint64(27)
    z *= _MIX_2
    z ^= z >> np.uint64(31)
    return z


def hashed_rows(hashes: HashArray, key: np.uint64) -> IntArray:
    """The rows that hashes belong to: `row_hashes` backwards."""
    z = (hashes ^ (hashes >> np.uint64(31)) ^ (hashes >> np.uint64(62))) * _UNMIX_2
    z = (z ^ (z >> np.uint64(27)) ^ (z >> np.uint64(54))) * _UNMIX_1
    z = z ^ (z >> np.uint64(30)) ^ (z >> np.uint64(60))
    rows: IntArray = ((z - key) * _UNGOLDEN).view(np.int64) - 1
    return rows


def count_ids(ids: IdArray | IntArray, n_classes: int, kernels: ModuleType | None) -> IntArray:
    """How many there are of each id. Shape (n_classes,)."""
    counts = np.zeros(n_classes, dtype=np.int64)
    if kernels is not None:
        kernels.count_ids(ids, counts)
        return counts
    step = max(CHUNK, n_classes)  # bincount copies what it counts
    for first in range(0, len(ids), step):
        counts += np.bincount(ids[first : first + step], minlength=n_classes)
    return counts


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassColumn:
    """Labels as class ids ``0..n_classes-1`` without gaps, made a chunk at a time."""

    column: npt.NDArray[np.integer]
    lowest: int
    id_of: IdArray | None
    """Id of each label, counted from ``lowest``; None when labels have no gaps."""
    values: npt.NDArray[np.generic]
    """The label of each id, rising."""
    counts: IntArray
    """Rows of each id. Shape (n_classes,)."""
    kernels: ModuleType | None = None
    """`orchestrator.subsets.kernels`, or None for numpy alone; results are the same."""

    def __len__(self) -> int:
        return len(self.column)

    def chunks(self, key: np.uint64) -> Iterator[tuple[int, IdArray, HashArray]]:
        """First row, ids and hashes of stretches of rows."""
        for first in range(0, len(self), CHUNK):
            ids = self.ids(slice(first, first + CHUNK))
            if self.kernels is None:
                hashes = row_hashes(np.arange(first, first + len(ids)), key)
            else:
                self.kernels.hash_rows(first, key, hashes := np.empty(len(ids), dtype=np.uint64))
            yield first, ids, hashes

    def ids(self, rows: slice | IntArray) -> IdArray:
        """Class ids of some rows."""
        shifted = _shifted(self.column[rows], self.lowest)
        return shifted if self.id_of is None else self.id_of[shifted]


def class_column(labels: npt.ArrayLike, kernels: ModuleType | None) -> ClassColumn:
    """Look at a label column once. Integers of a narrow range are not copied; anything else is sorted."""
    column = np.asarray(labels)
    if column.size == 0:
        nothing = np.empty(0, dtype=np.int64)
        return ClassColumn(column=nothing, lowest=0, id_of=None, values=nothing, counts=nothing, kernels=kernels)
    column = column.view(np.uint8) if column.dtype == bool else column
    low, high = _range(column) if column.dtype.kind in "iu" else (0, _WIDEST_TABLE)
    if high - low >= _WIDEST_TABLE:
        values, inverse = np.unique(column, return_inverse=True)
        column = inverse.astype(np.int32, copy=False).reshape(column.shape)
        low, high = 0, len(values) - 1
    else:
        values = np.empty(0)
    counts = np.zeros(high - low + 1, dtype=np.int64)
    # A chunk as long as the table, or emptying the table would cost more than counting.
    step = max(CHUNK, len(counts))
    for first in range(0, len(column), step):
        counts += count_ids(_shifted(column[first : first + step], low), len(counts), kernels)
    found = np.flatnonzero(counts)
    gapless = len(found) == found[-1] - found[0] + 1
    id_of = None if gapless else np.cumsum(counts > 0, dtype=np.int32)[found[0] :] - np.int32(1)
    return ClassColumn(
        column=column,
        lowest=low + int(found[0]),
        id_of=id_of,
        values=values if len(values) else found.astype(column.dtype) + column.dtype.type(low),
        counts=counts[found],
        kernels=kernels,
    )


def _shifted(chunk: npt.NDArray[np.integer], lowest: int) -> IdArray:
    """Labels less the lowest one, as 32-bit integers; the range was found to fit."""
    if chunk.dtype.itemsize > 2:
        return np.asarray(chunk - chunk.dtype.type(lowest)).astype(np.int32, copy=False)
    ids = chunk.astype(np.int32)
    if lowest:
        ids -= np.int32(lowest)
    return ids


def _range(column: npt.NDArray[np.integer]) -> tuple[int, int]:
    """Bounds of all labels; those of the type where that is narrow enough."""
    if column.dtype.itemsize <= 2:
        return int(np.iinfo(column.dtype).min), int(np.iinfo(column.dtype).max)
    return int(column.min()), int(column.max())
