"""Which rows of a class come first: those with the smallest keyed hash of the row's number.

Nobody sorts all rows. A first pass counts rows in cells of class and hash; the cells say which hashes a prefix can hold
at most, so a second pass keeps little more than the prefix itself, and only that is sorted. Hashes are a bijection of
64-bit integers: there are no ties, and a sorted hash is turned back into its row, so no row numbers are carried along.
Labels are read a chunk at a time and never copied whole. Pure: arrays in, arrays out.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt

from orchestrator.subsets.class_column import CHUNK, ClassColumn, HashArray, IdArray, IntArray, hashed_rows, row_hashes

RowArray = npt.NDArray[np.uint32] | npt.NDArray[np.int64]

_ROWS_PER_CELL = 64
# log2 of the most cells of a class: a quota then cuts 1/64 of a class, which is kept for nothing, or, where rows cut
# cost more, 1/256; more cells leave the cache.
_CELL_BITS_OF_ORDER, _CELL_BITS_OF_LEVELS = 6, 8
_ROWS_PER_STREAM = 1 << 15  # sorted together: its hashes fit into the cache, and streams are few enough to scatter to
_UNDECIDED = 255


def grouped(ids: npt.NDArray[np.integer], n_classes: int) -> tuple[IntArray, IntArray]:
    """Places of ids in order of class and then of place, and how many there are of each. Shapes (n,), (n_classes,)."""
    # numpy sorts 16-bit integers by radix, several times faster than wider ones.
    keys = ids.astype(np.uint16) if n_classes <= 1 << 16 else ids
    return np.argsort(keys, kind="stable"), np.bincount(ids, minlength=n_classes)


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
    # All rows of a cell are kept or none; the last cell kept is that of the quota's last row, or the first one.
    last = np.searchsorted(cells.rows_up_to, cells.class_start + np.maximum(quota, 1), side="left")
    sizes = cells.counts * (np.arange(len(cells.counts)) <= np.repeat(last, 1 << cells.bits))
    # Past the last cell of a class the shift gives 0, and this the largest hash of all.
    largest = ((last - cells.base + 1).astype(np.uint64) << cells.shift) - np.uint64(1)
    sort = _sort_by_class if column.kernels is None else _sort_by_stream
    return sort(column, cells, largest, sizes, key)


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
        kernels: `orchestrator.subsets.kernels` or None.
    """
    if kernels is not None:
        kernels.deal(classes, next_entry, rows)
        return classes
    step = max(CHUNK, len(next_entry))
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
        kernels: `orchestrator.subsets.kernels` or None.
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
    column: ClassColumn, cells: _Cells, largest: HashArray, sizes: IntArray, key: np.uint64
) -> tuple[RowArray, IntArray]:
    """In numpy: the hashes kept, class by class, are sorted a class at a time and turned back into rows."""
    sizes = np.add.reduceat(sizes, cells.base)
    start = np.cumsum(sizes) - sizes
    values, free = np.empty(int(sizes.sum()), dtype=np.uint64), start.copy()
    for _, ids, hashes in column.chunks(key):
        kept = np.flatnonzero(hashes <= largest[ids])
        order, counts = grouped(ids[kept], len(sizes))
        values[_runs(free, counts)] = hashes[kept[order]]
        free += counts
    for begin, size in zip(start[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        values[begin : begin + size].sort()
    rows = values.view(np.int64)
    for first in range(0, len(values), CHUNK):
        rows[first : first + CHUNK] = hashed_rows(values[first : first + CHUNK], key)
    return rows, start


def _sort_by_stream(
    column: ClassColumn, cells: _Cells, largest: HashArray, sizes: IntArray, key: np.uint64
) -> tuple[RowArray, IntArray]:
    """Compiled: rows kept are scattered into streams of neighbouring cells, and each stream is sorted in the cache."""
    assert column.kernels is not None
    bits = np.minimum(cells.bits, _bits(column.counts, _ROWS_PER_STREAM))
    base = np.cumsum(1 << bits) - (1 << bits)
    in_class = np.arange(int((1 << bits).sum())) - np.repeat(base, 1 << bits)
    first_cell = np.repeat(cells.base, 1 << bits) + (in_class << np.repeat(cells.bits - bits, 1 << bits))
    edges = np.concatenate([[0], np.cumsum(np.add.reduceat(sizes, first_cell))])
    n_kept = int(edges[-1])
    rows: RowArray = np.empty(n_kept, np.uint32) if len(column) < 1 << 32 else np.empty(n_kept, np.int64)
    free, kept = edges[:-1].copy(), np.empty(CHUNK + 1, dtype=np.int32)
    shift = (64 - bits).astype(np.uint64)
    for first, ids, hashes in column.chunks(key):
        column.kernels.scatter_rows(ids, hashes, first, largest, base, shift, kept, free, rows)
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
    hashes.sort()
    rows = hashed_rows(hashes, key)
    order, _ = grouped(column.ids(rows), len(column.counts))
    rows, hashes = rows[order], hashes[order]
    ids = column.ids(rows)
    cell = _cells_of(cells, ids, hashes)
    run_start = np.flatnonzero(np.diff(cell, prepend=-1))
    rank = np.arange(len(rows)) - np.repeat(run_start, np.diff(run_start, append=len(rows)))
    rank += cells.rows_up_to[cell] - cells.counts[cell] - cells.class_start[ids]
    decided = np.zeros(len(rows), dtype=np.uint8)
    for quota in quotas:
        decided += rank >= quota[ids]
    levels[rows] = decided
