"""Which rows of a class come first: those with the smallest keyed hash of the row's number.

Nobody sorts all rows. A first pass counts rows in cells of class and hash; the cells say which hashes a prefix can hold
at most, so a second pass keeps little more than the prefix itself, and only that is sorted. Hashes are a bijection of
64-bit integers: there are no ties, and a sorted hash is turned back into its row, so no row numbers are carried along.
Labels are read a chunk at a time and never copied whole. Pure: arrays in, arrays out.
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
RowArray = npt.NDArray[np.uint32] | npt.NDArray[np.int64]

_CHUNK = 1 << 16  # rows; ids and hashes of a chunk stay in the cache
_ROWS_PER_CELL = 64
# log2 of the most cells of a class: a quota then cuts 1/64 of a class, which is kept for nothing, or, where rows cut
# cost more, 1/256; more cells leave the cache.
_CELL_BITS_OF_ORDER, _CELL_BITS_OF_LEVELS = 6, 8
_ROWS_PER_STREAM = 1 << 15  # sorted together: its hashes fit into the cache, and streams are few enough to scatter to
_UNDECIDED = 255
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
    z = (rows.astype(np.uint64) + np.uint64(1)) * _GOLDEN + key
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    mixed: HashArray = z ^ (z >> np.uint64(31))
    return mixed


def hashed_rows(hashes: HashArray, key: np.uint64) -> IntArray:
    """The rows that hashes belong to: `row_hashes` backwards."""
    z = (hashes ^ (hashes >> np.uint64(31)) ^ (hashes >> np.uint64(62))) * _UNMIX_2
    z = (z ^ (z >> np.uint64(27)) ^ (z >> np.uint64(54))) * _UNMIX_1
    z = z ^ (z >> np.uint64(30)) ^ (z >> np.uint64(60))
    rows: IntArray = ((z - key) * _UNGOLDEN).view(np.int64) - 1
    return rows


def grouped(ids: npt.NDArray[np.integer], n_classes: int) -> tuple[IntArray, IntArray]:
    """Places of ids in order of class and then of place, and how many there are of each. Shapes (n,), (n_classes,)."""
    # numpy sorts 16-bit integers by radix, several times faster than wider ones.
    keys = ids.astype(np.uint16) if n_classes <= 1 << 16 else ids
    return np.argsort(keys, kind="stable"), np.bincount(ids, minlength=n_classes)


def count_ids(ids: IdArray | IntArray, n_classes: int, kernels: ModuleType | None) -> IntArray:
    """How many there are of each id. Shape (n_classes,)."""
    counts = np.zeros(n_classes, dtype=np.int64)
    if kernels is not None:
        kernels.count_ids(ids, counts)
        return counts
    step = max(_CHUNK, n_classes)  # bincount copies what it counts
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
    """`orchestrator.subset_kernels`, or None for numpy alone; results are the same."""

    def __len__(self) -> int:
        return len(self.column)

    def chunks(self, key: np.uint64) -> Iterator[tuple[int, IdArray, HashArray]]:
        """First row, ids and hashes of stretches of rows."""
        for first in range(0, len(self), _CHUNK):
            ids = self.ids(slice(first, first + _CHUNK))
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
    step = max(_CHUNK, len(counts))
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


def first_rows(column: ClassColumn, quota: IntArray, key: np.uint64) -> tuple[RowArray, IntArray]:
    """The first ``quota[c]`` rows of each class c, by hash.

    Args:
        column: The labels.
        quota: Rows wanted of each class, in ``0..counts``. Shape (n_classes,).
        key: Of the hashes.
    Returns: Rows, class after class, each in the order of their hashes, with a few more than asked of some classes; and
        where each class begins. Shapes (about sum of quota,) and (n_classes,).
    """
    cells = _count_cells(column, key, _CELL_BITS_OF_ORDER)
    # All rows of a cell are kept or none; the last cell kept, within its class, is that of the quota's last row.
    last = np.searchsorted(cells.rows_up_to, cells.class_start + quota, side="left") - cells.base
    last[quota == 0] = -1
    in_class = np.arange(len(cells.counts)) - np.repeat(cells.base, 1 << cells.bits)
    sizes = cells.counts * (in_class <= np.repeat(last, 1 << cells.bits))
    sort = _sort_by_class if column.kernels is None else _sort_by_stream
    return sort(column, cells, last, sizes, key)


def row_levels(column: ClassColumn, quotas: IntArray, key: np.uint64) -> npt.NDArray[np.uint8]:
    """For each row the first of several growing quotas that holds it; ``len(quotas)`` when none does.

    Args:
        column: The labels.
        quotas: Rows of each class by level, not falling; at most 254 levels. Shape (n_levels, n_classes).
        key: Of the hashes.
    Returns: Levels. Shape (n,).
    """
    cells = _count_cells(column, key, _CELL_BITS_OF_LEVELS)
    level_of_cell = _levels_of_cells(cells, quotas)
    levels = np.empty(len(column), dtype=np.uint8)
    undecided = [np.empty(0, dtype=np.int64)]
    for first, ids, hashes in column.chunks(key):
        if column.kernels is None:
            part = level_of_cell[_cells_of(cells, ids, hashes)]
        else:
            part = levels[first : first + len(ids)]
            column.kernels.level_rows(ids, hashes, cells.base, cells.shift, level_of_cell, part)
        levels[first : first + len(ids)] = part
        undecided.append(np.flatnonzero(part == _UNDECIDED) + first)
    _decide(column, cells, quotas, key, np.concatenate(undecided), levels)
    return levels


def deal(classes: IntArray, next_entry: IntArray, rows: RowArray, kernels: ModuleType | None) -> IntArray:
    """Turn the class of each place into the next row of that class, in place.

    Args:
        classes: Class of each place; overwritten with rows. Shape (n_places,).
        next_entry: Where the rows of each class begin in ``rows``; moved on. Shape (n_classes,).
        rows: Rows, class after class.
        kernels: `orchestrator.subset_kernels` or None.
    """
    if kernels is not None:
        kernels.deal(classes, next_entry, rows)
        return classes
    step = max(_CHUNK, len(next_entry))
    for first in range(0, len(classes), step):
        part = classes[first : first + step]
        order, counts = grouped(part, len(next_entry))
        part[order] = rows[_runs(next_entry, counts)]
        next_entry += counts
    return classes


def collect(
    ids: IdArray, first_row: int, next_entry: IntArray, end: IntArray, rows: IntArray, kernels: ModuleType | None
) -> None:
    """Put rows of each class, as they come, into ``rows[next_entry[c]:end[c]]`` until that is full.

    Args:
        ids: Class of each row. Shape (n,).
        first_row: Number of the first of them.
        next_entry: The next free entry of each class; moved on. Shape (n_classes,).
        end: Where the entries of each class end. Shape (n_classes,).
        rows: Written.
        kernels: `orchestrator.subset_kernels` or None.
    """
    if kernels is not None:
        kernels.collect(ids, first_row, next_entry, end, rows)
        return
    order, counts = grouped(ids, len(end))
    taken = np.minimum(counts, end - next_entry)
    rows[_runs(next_entry, taken)] = first_row + order[_runs(np.cumsum(counts) - counts, taken)]
    next_entry += taken


def _runs(start: IntArray, length: IntArray) -> IntArray:
    """``start[i], start[i] + 1, ...`` for ``length[i]`` numbers, one after the other. Shape (sum of length,)."""
    total = int(length.sum())
    entries: IntArray = np.arange(total) + np.repeat(start - (np.cumsum(length) - length), length)
    return entries


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Cells:
    """Rows counted by class and leading bits of the hash. Cells of a class lie together, by rising hash."""

    bits: IntArray
    """log2 of the cells of each class, at least 1. Shape (n_classes,)."""
    base: IntArray
    """First cell of each class. Shape (n_classes,)."""
    shift: HashArray
    """A hash shifted right by this is its cell within the class. Shape (n_classes,)."""
    class_start: IntArray
    """Rows in the classes before each. Shape (n_classes,)."""
    counts: IntArray
    """Rows of each cell. Shape (n_cells,)."""
    rows_up_to: IntArray
    """Running sum of ``counts``. Shape (n_cells,)."""


def _count_cells(column: ClassColumn, key: np.uint64, most_bits: int) -> _Cells:
    bits = np.maximum(
        np.minimum(_bits(column.counts, _ROWS_PER_CELL), most_bits), _bits(column.counts, _ROWS_PER_STREAM)
    )
    base = np.cumsum(1 << bits) - (1 << bits)
    counts = np.zeros(int((1 << bits).sum()), dtype=np.int64)
    shift = (64 - bits).astype(np.uint64)
    for _, ids, hashes in column.chunks(key):
        if column.kernels is None:
            # bincount would make and add an array of all cells for each chunk.
            np.add.at(counts, base[ids] + (hashes >> shift[ids]).view(np.int64), 1)
        else:
            column.kernels.count_cells(ids, hashes, base, shift, counts)
    class_start = np.cumsum(column.counts) - column.counts
    return _Cells(
        bits=bits, base=base, shift=shift, class_start=class_start, counts=counts, rows_up_to=np.cumsum(counts)
    )


def _bits(counts: IntArray, rows_per_part: int) -> IntArray:
    """log2 of the parts that a class is cut into; at least 1, as a shift by all 64 bits is undefined."""
    return np.maximum(1, np.frexp(counts / rows_per_part)[1].astype(np.int64))


def _cells_of(cells: _Cells, ids: IdArray, hashes: HashArray) -> IntArray:
    return cells.base[ids] + (hashes >> cells.shift[ids]).view(np.int64)


def _sort_by_class(
    column: ClassColumn, cells: _Cells, last: IntArray, kept: IntArray, key: np.uint64
) -> tuple[RowArray, IntArray]:
    """In numpy: the hashes kept, class by class, are sorted a class at a time and turned back into rows."""
    sizes = np.add.reduceat(kept, cells.base)
    start = np.cumsum(sizes) - sizes
    values, free = np.empty(int(sizes.sum()), dtype=np.uint64), start.copy()
    for _, ids, hashes in column.chunks(key):
        kept_here = np.flatnonzero((hashes >> cells.shift[ids]).view(np.int64) <= last[ids])
        order, counts = grouped(ids[kept_here], len(sizes))
        values[_runs(free, counts)] = hashes[kept_here[order]]
        free += counts
    for begin, size in zip(start[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        values[begin : begin + size].sort()
    rows = values.view(np.int64)
    for first in range(0, len(values), _CHUNK):
        rows[first : first + _CHUNK] = hashed_rows(values[first : first + _CHUNK], key)
    return rows, start


def _sort_by_stream(
    column: ClassColumn, cells: _Cells, last: IntArray, kept: IntArray, key: np.uint64
) -> tuple[RowArray, IntArray]:
    """Compiled: rows kept are scattered into streams of neighbouring cells, and each stream is sorted in the cache."""
    assert column.kernels is not None
    coarser = cells.bits - np.minimum(cells.bits, _bits(column.counts, _ROWS_PER_STREAM))
    n_streams = 1 << (cells.bits - coarser)
    base = np.cumsum(n_streams) - n_streams
    in_class = np.arange(int(n_streams.sum())) - np.repeat(base, n_streams)
    first_cell = np.repeat(cells.base, n_streams) + (in_class << np.repeat(coarser, n_streams))
    edges = np.concatenate([[0], np.cumsum(np.add.reduceat(kept, first_cell))])
    n_kept = int(edges[-1])
    rows: RowArray = np.empty(n_kept, np.uint32) if len(column) < 1 << 32 else np.empty(n_kept, np.int64)
    streams, numbers = np.empty(_CHUNK + 1, dtype=np.int64), np.empty(_CHUNK + 1, dtype=rows.dtype)
    free, shift = edges[:-1].copy(), cells.shift
    for first, ids, hashes in column.chunks(key):
        column.kernels.scatter_rows(ids, hashes, first, last, shift, coarser, base, streams, numbers, free, rows)
    column.kernels.sort_streams(rows, edges, key)
    return rows, edges[base]


def _levels_of_cells(cells: _Cells, quotas: IntArray) -> npt.NDArray[np.uint8]:
    """Level of all rows of each cell, or 255 where a quota ends within the cell. Shape (n_cells,)."""
    levels = np.zeros(len(cells.counts), dtype=np.uint8)
    cut = np.zeros(len(cells.counts), dtype=bool)
    for quota in quotas:
        end = np.repeat(cells.class_start + quota, 1 << cells.bits)
        levels += cells.rows_up_to > end
        cut |= (cells.rows_up_to > end) & (cells.rows_up_to - cells.counts < end)
    levels[cut] = _UNDECIDED
    return levels


def _decide(
    column: ClassColumn, cells: _Cells, quotas: IntArray, key: np.uint64, rows: IntArray, levels: npt.NDArray[np.uint8]
) -> None:
    """Give the rows of cut cells their levels, by their rank within the class."""
    hashes = row_hashes(rows, key)
    by_hash = np.argsort(hashes)
    order, _ = grouped(column.ids(rows[by_hash]), len(column.counts))
    by_class = by_hash[order]
    rows, hashes = rows[by_class], hashes[by_class]
    ids = column.ids(rows)
    cell = _cells_of(cells, ids, hashes)
    run_start = np.flatnonzero(np.diff(cell, prepend=-1))
    in_cell = np.arange(len(rows)) - np.repeat(run_start, np.diff(run_start, append=len(rows)))
    rank = cells.rows_up_to[cell] - cells.counts[cell] - cells.class_start[ids] + in_cell
    levels[rows] = sum((rank >= quota[ids] for quota in quotas), start=np.zeros(len(rows), dtype=np.uint8))
