"""Compiled loops of the nested order: the same results as the numpy code beside them, in a tenth of the time.

Imported only where rows are many and numba is installed (extra ``fast``); nothing here is needed. Compiled code is kept
beside this file, or in the user's cache folder where that cannot be written, so that only the first call on a machine
waits for the compiler. Rows come as chunks of class ids, so one compilation serves labels of every type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

Function = TypeVar("Function", bound=Callable[..., object])
IntArray = npt.NDArray[np.int64]
IdArray = npt.NDArray[np.int32]
HashArray = npt.NDArray[np.uint64]
RowArray = npt.NDArray[np.uint32] | npt.NDArray[np.int64]


def compiled(function: Function) -> Function:
    """Compile at the first call, or load what an earlier process compiled."""
    return cast(Function, numba.njit(cache=True, nogil=True)(function))


# Multipliers of `orchestrator.subsets.class_column.row_hashes`, and their inverses modulo 2**64.
_GOLDEN, _MIX_1, _MIX_2 = (np.uint64(each) for each in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_UNGOLDEN, _UNMIX_1, _UNMIX_2 = (np.uint64(pow(int(each), -1, 1 << 64)) for each in (_GOLDEN, _MIX_1, _MIX_2))
_ALL_FREE = np.uint64(0xFFFFFFFFFFFFFFFF)
# The place of a lone set bit by a de Bruijn product (Leiserson, Prokop and Randall, MIT memorandum, 1998).
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
_BIT_PLACE = np.zeros(64, dtype=np.int64)
_BIT_PLACE[(((np.uint64(1) << np.arange(64, dtype=np.uint64)) * _DE_BRUIJN) >> np.uint64(58)).astype(int)] = range(64)


@compiled
def row_hash(row: int | np.int64, key: np.uint64) -> np.uint64:
    """SplitMix64 of one row."""
    z = np.uint64(row + 1) * _GOLDEN + key
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


@compiled
def hashed_row(value: np.uint64, key: np.uint64) -> np.int64:
    """The row that a hash belongs to: `row_hash` backwards."""
    z = (value ^ (value >> np.uint64(31)) ^ (value >> np.uint64(62))) * _UNMIX_2
    z = (z ^ (z >> np.uint64(27)) ^ (z >> np.uint64(54))) * _UNMIX_1
    z = z ^ (z >> np.uint64(30)) ^ (z >> np.uint64(60))
    return np.int64((z - key) * _UNGOLDEN) - 1


@compiled
def hash_rows(first_row: int, key: np.uint64, hashes: HashArray) -> None:
    """Hash ``len(hashes)`` rows from ``first_row`` on; apart from other work, so that the compiler makes it SIMD."""
    for i in range(len(hashes)):
        hashes[i] = row_hash(first_row + i, key)


@compiled
def count_ids(ids: IdArray | IntArray, counts: IntArray) -> None:
    """Add the rows of each class to ``counts``."""
    for i in range(len(ids)):
        counts[ids[i]] += 1


@compiled
def count_cells(ids: IdArray, hashes: HashArray, base: IntArray, shift: HashArray, counts: IntArray) -> None:
    """Add the rows of each cell to ``counts``."""
    for i in range(len(ids)):
        counts[base[ids[i]] + np.int64(hashes[i] >> shift[ids[i]])] += 1


@compiled
def level_rows(
    ids: IdArray,
    hashes: HashArray,
    base: IntArray,
    shift: HashArray,
    level_of_cell: npt.NDArray[np.uint8],
    levels: npt.NDArray[np.uint8],
) -> None:
    """Give each row the level of its cell."""
    for i in range(len(ids)):
        levels[i] = level_of_cell[base[ids[i]] + np.int64(hashes[i] >> shift[ids[i]])]


@compiled
def scatter_rows(
    ids: IdArray,
    hashes: HashArray,
    first_row: int,
    largest: HashArray,
    base: IntArray,
    shift: HashArray,
    kept: IdArray,
    free: IntArray,
    rows: RowArray,
) -> None:
    """Put rows with a hash of at most ``largest[class]`` into their streams, at the next free entry of ``rows``.

    A row's stream is ``base[class] + (hash >> shift[class])``. Kept rows are first listed in ``kept`` (one entry longer
    than ``ids``) by writing always and stepping only for a kept one: whether a row is kept is a toss-up that a
    processor cannot guess.
    """
    n = 0
    for i in range(len(ids)):
        kept[n] = i
        n += hashes[i] <= largest[ids[i]]
    for j in range(n):
        i = kept[j]
        stream = base[ids[i]] + np.int64(hashes[i] >> shift[ids[i]])
        rows[free[stream]] = first_row + i
        free[stream] += 1


@compiled
def sort_streams(rows: RowArray, edges: IntArray, key: np.uint64) -> None:
    """Sort ``rows[edges[s]:edges[s + 1]]`` by hash for each stream s, in place.

    Hashes are as good as uniform within a stream, so a bucket for about every row leaves an insertion sort next to
    nothing to do. Hashes alone are moved, as each says which row it came from.
    """
    widest = np.diff(edges).max()
    values, ordered = np.empty(widest, np.uint64), np.empty(widest, np.uint64)
    ends = np.empty(widest + 2, np.int64)
    for s in range(len(edges) - 1):
        start, n = edges[s], edges[s + 1] - edges[s]
        if n < 2:
            continue
        low, high = _ALL_FREE, np.uint64(0)
        for i in range(n):
            values[i] = row_hash(np.int64(rows[start + i]), key)
            low, high = min(low, values[i]), max(high, values[i])
        shift = np.uint64(0)
        while ((high - low) >> shift) > np.uint64(n):
            shift += np.uint64(1)
        n_buckets = np.int64((high - low) >> shift) + 1
        ends[: n_buckets + 1] = 0
        for i in range(n):
            ends[np.int64((values[i] - low) >> shift) + 1] += 1
        for b in range(n_buckets):
            ends[b + 1] += ends[b]
        for i in range(n):
            bucket = np.int64((values[i] - low) >> shift)
            ordered[ends[bucket]] = values[i]
            ends[bucket] += 1
        for i in range(1, n):
            value, j = ordered[i], i
            while j > 0 and ordered[j - 1] > value:
                ordered[j] = ordered[j - 1]
                j -= 1
            ordered[j] = value
        for i in range(n):
            rows[start + i] = hashed_row(ordered[i], key)


@compiled
def collect(ids: IdArray, first_row: int, free: IntArray, end: IntArray, rows: IntArray) -> None:
    """Put rows of each class, as they come, into ``rows[free[class]:end[class]]`` until that is full."""
    for i in range(len(ids)):
        c = ids[i]
        if free[c] < end[c]:
            rows[free[c]] = first_row + i
            free[c] += 1


@compiled
def deal(classes: IntArray, next_entry: IntArray, rows: RowArray) -> None:
    """Turn the class of each place into the next row of that class, in place."""
    for t in range(len(classes)):
        c = classes[t]
        classes[t] = rows[next_entry[c]]
        next_entry[c] += 1


@compiled
def earliest_deadline_first(
    counts: IntArray, names: IntArray, block: int, n_places: int, places: IntArray, bounds: IntArray, held: IntArray
) -> None:
    """The class of each of the first ``n_places`` places by earliest deadline first, and what prefixes hold.

    Going through the rows by deadline and giving each the first free place since its release is the same schedule: no
    row is ever in the way of one that goes before it. Deadlines are counting-sorted a block at a time; a free place is
    a set bit; words of 64 bits that are full are skipped at the front, and by union-find with path halving elsewhere.

    Args:
        counts: Rows of each class, those that win a tie first. Shape (n_classes,).
        names: What to write for each class. Shape (n_classes,).
        block: Places whose deadlines are sorted together.
        n_places: How many places are wanted.
        places: Written: the class of each place; empty when only the counts are wanted. Shape (n_places,) or (0,).
        bounds: Prefix lengths, each at most ``n_places``. Shape (n_bounds,).
        held: Written: rows of each class in each prefix. Shape (n_bounds, n_classes).
    """
    n_classes = len(counts)
    steps = counts.sum() // counts
    rests = counts.sum() - steps * counts
    release, error = np.zeros(n_classes, np.int64), np.zeros(n_classes, np.int64)
    n_words = (n_places + 63) // 64
    # One word more, which is never full: where rows go that stand beyond the wanted places.
    free, next_word = np.full(n_words + 1, _ALL_FREE, np.uint64), np.arange(n_words + 1)
    ends = np.zeros(block + 1, np.int64)
    row_class, row_release = np.empty(block + n_classes, np.int32), np.empty(block + n_classes, np.int64)
    missing, first, first_word = n_places, 0, 0
    while missing > 0:
        ends[:] = 0
        for counting in (True, False):
            for c in range(n_classes):
                step, rest = steps[c], rests[c]
                r, e = release[c], error[c]
                while r < n_places:
                    # Window k ends before ceil((k + 1) n / n_c), the next begins at its floor; e / n_c is between.
                    r_next, e_next = r + step, e + rest
                    carry = e_next >= counts[c]
                    r_next += carry
                    e_next -= counts[c] * carry
                    deadline = r_next - (e_next == 0) - first
                    if deadline >= block:
                        break
                    if counting:
                        ends[deadline + 1] += 1
                    else:
                        row_class[ends[deadline]], row_release[ends[deadline]] = c, r
                        ends[deadline] += 1
                    r, e = r_next, e_next
                if not counting:
                    release[c], error[c] = r, e
            if counting:
                for d in range(block):
                    ends[d + 1] += ends[d]
        for i in range(ends[block]):
            word = max(row_release[i] >> 6, first_word)
            bits = free[word] & (_ALL_FREE << np.uint64(max(row_release[i] - (word << 6), 0)))
            if bits == 0:
                word += 1
                while next_word[word] != word:
                    next_word[word] = next_word[next_word[word]]
                    word = next_word[word]
                bits = free[word]
            lowest = bits & (~bits + np.uint64(1))
            if word < n_words:
                free[word] ^= lowest
                if free[word] == 0:
                    next_word[word] = word + 1
                    while free[first_word] == 0:
                        first_word += 1
            place = (word << 6) + _BIT_PLACE[np.int64((lowest * _DE_BRUIJN) >> np.uint64(58))]
            if place < n_places:
                missing -= 1
                if len(places) > 0:
                    places[place] = names[row_class[i]]
                for b in range(len(bounds)):
                    held[b, row_class[i]] += place < bounds[b]
        first += block
