"""Which class stands at each place of the nested order: earliest deadline first over windows of proportionate fairness.

Write ``n`` for all rows, ``n_c`` for those of class c and ``x_c(m)`` for those of class c among the first m places. For
every m and c, strictly, ``|x_c(m) - m * n_c / n| < 1``: the k-th row of class c (k from 0) may then stand only at the
places ``floor(k n / n_c) .. ceil((k + 1) n / n_c) - 1``. These are the windows of proportionate fairness (Baruah,
Cohen, Plaxton and Varvel, Algorithmica 15, 1996; as the chairman assignment problem, Tijdeman, Discrete Mathematics 32,
1980): they can always be kept, and giving each place to the waiting row with the earliest deadline keeps them. Sorting
by Webster's ``(k + 1/2) / n_c`` is simpler and does not: beside 1,000 classes of one row each, a class of 1,000 rows
strays by 250.

With a floor of k rows per class, the first ``F = sum of min(k, n_c)`` places hold just those rows, fairly mixed, and
the rest follows as before without them: ``x_c(m) = max(min(k, n_c), x_c(s))`` for m >= F, where s is how far the order
without a floor has been walked. Pure: counts in, classes out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt

from orchestrator.subsets.class_column import IntArray
from orchestrator.subsets.rows import grouped

# Places worked out together: enough that numpy's calls, or a round of all classes, cost little; few for the cache.
_BLOCK = 1 << 14
_KERNEL_BLOCK = 1 << 15


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassSequence:
    """The class of each place, for any number of places."""

    counts: IntArray
    """Rows of each class, each at least 1. Shape (n_classes,)."""
    tie_rank: IntArray
    """A permutation of the classes; of equal deadlines the least goes first. Shape (n_classes,)."""
    min_per_class: int = 0
    """Rows that every class holds before any holds more, or all of its rows where it has fewer."""
    kernels: ModuleType | None = None
    """`orchestrator.subsets.kernels`, or None for numpy alone; results are the same."""

    def places(self, n_places: int) -> IntArray:
        """The class of each of the first ``n_places`` places. Shape (n_places,)."""
        if self.min_per_class == 0:
            return self._proportional(self.counts, n_places)
        floors = np.minimum(self.counts, self.min_per_class)
        front = self._proportional(floors, min(n_places, int(floors.sum())))
        rest = _without_first(self._proportional(self.counts, n_places), floors)
        return np.concatenate([front, rest[: n_places - len(front)]])

    def held(self, lengths: IntArray) -> IntArray:
        """Rows of each class among the first ``lengths[i]`` places. Shape (n_lengths, n_classes)."""
        if self.min_per_class == 0:
            return self._proportional_held(lengths)
        places = self.places(int(lengths.max(initial=0)))
        return np.array([np.bincount(places[:length], minlength=len(self.counts)) for length in lengths])

    def _proportional(self, counts: IntArray, n_places: int) -> IntArray:
        """Windows repeat after ``n / gcd(counts)`` places, so at most one period is worked out."""
        period_counts = counts // np.gcd.reduce(counts)
        filled = min(n_places, int(period_counts.sum()))
        places = np.empty(n_places, dtype=np.int64)
        self._first_period(period_counts, places[:filled])
        while filled < n_places:
            more = min(filled, n_places - filled)
            places[filled : filled + more] = places[:more]
            filled += more
        return places

    def _proportional_held(self, lengths: IntArray) -> IntArray:
        period_counts = self.counts // np.gcd.reduce(self.counts)
        periods, bounds = np.divmod(lengths, period_counts.sum())
        held = np.zeros((len(lengths), len(self.counts)), dtype=np.int64)
        if self.kernels is not None:
            self._run_kernel(period_counts, int(bounds.max(initial=0)), np.empty(0, np.int64), bounds, held)
        else:
            for first, classes in _earliest_deadline_first(period_counts, self._by_tie, int(bounds.max(initial=0))):
                for i, bound in enumerate(bounds.tolist()):
                    held[i] += np.bincount(classes[: max(0, bound - first)], minlength=len(self.counts))
        held += periods[:, None] * period_counts
        return held

    def _first_period(self, counts: IntArray, places: IntArray) -> None:
        if self.kernels is not None:
            self._run_kernel(counts, len(places), places, np.empty(0, np.int64), np.empty((0, len(counts)), np.int64))
            return
        for first, classes in _earliest_deadline_first(counts, self._by_tie, len(places)):
            places[first : first + len(classes)] = classes

    def _run_kernel(self, counts: IntArray, n_places: int, places: IntArray, bounds: IntArray, held: IntArray) -> None:
        assert self.kernels is not None
        block = max(_KERNEL_BLOCK, len(counts))
        in_tie_order = np.zeros_like(held)
        self.kernels.earliest_deadline_first(
            counts[self._by_tie], self._by_tie, block, n_places, places, bounds, in_tie_order
        )
        held[:, self._by_tie] = in_tie_order

    @property
    def _by_tie(self) -> IntArray:
        return np.argsort(self.tie_rank)


def _without_first(classes: IntArray, floors: IntArray) -> IntArray:
    """The places of a sequence that are left when the first ``floors[c]`` of each class c are taken out."""
    left, step = floors.copy(), max(_BLOCK, len(floors))
    kept = np.ones(len(classes), dtype=bool)
    for first in range(0, len(classes), step):
        if not left.any():
            break
        part = classes[first : first + step]
        order, counts = grouped(part, len(floors))
        rank = np.arange(len(part)) - np.repeat(np.cumsum(counts) - counts, counts)
        kept[first + order] = rank >= np.repeat(left, counts)
        left -= np.minimum(left, counts)
    return classes[kept]


def _earliest_deadline_first(counts: IntArray, by_tie: IntArray, n_places: int) -> Iterator[tuple[int, IntArray]]:
    """The first ``n_places`` places in blocks: the first place of each, and the classes from there on."""
    n, done = int(counts.sum()), np.zeros(len(counts), dtype=np.int64)
    counts = counts[by_tie]
    step = max(_BLOCK, len(counts))
    for first in range(0, n_places, step):
        end = min(first + step, n_places)
        # Row k of a class is released before `end` when k * n / n_c is.
        waiting = np.minimum(-(-end * counts // n), counts) - done
        owner = np.repeat(np.arange(len(counts)), waiting)
        k = np.arange(len(owner)) + np.repeat(done - (np.cumsum(waiting) - waiting), waiting)
        size = counts[owner]
        deadline = -(-(k + 1) * n // size) - first
        by_key = np.argsort(deadline * len(counts) + owner)
        release = np.maximum(k * n // size - first, 0)[by_key]
        place = _first_free_places(release)
        placed = place < end - first
        classes = np.empty(end - first, dtype=np.int64)
        classes[place[placed]] = owner[by_key[placed]]
        done += np.bincount(classes, minlength=len(counts))
        yield first, by_tie[classes]


def _first_free_places(release: IntArray) -> npt.NDArray[np.integer]:
    """Give each row, in turn, the first place from its release on that no row before it has taken. Shape (n,).

    The off-line minimum problem (Aho, Hopcroft and Ullman 1974, 4.8), by halving: the first half of the rows takes the
    places at which a queue of them alone is busy, which running minima tell; the second half shares out the others.
    All halves of one size are worked out together, so the work is O(n log n) in whole arrays.
    """
    n = len(release)
    if (release <= np.arange(n)).all():
        return np.arange(n)
    # Made a power of two by rows that come last and each have a place of their own.
    size = 1 << (n - 1).bit_length()
    start: npt.NDArray[np.int32] = np.arange(size, dtype=np.int32)
    start[:n] = release
    place: npt.NDArray[np.int32] = np.arange(size, dtype=np.int32)
    while size > 1:
        start = start.reshape(-1, size)
        served = _served_before(start[:, : size // 2], size)
        offset = np.arange(len(start), dtype=np.int32)[:, None] * np.int32(size + 1)
        busy_before = served.ravel().take(start + offset)
        np.subtract(start[:, size // 2 :], busy_before[:, size // 2 :], out=busy_before[:, size // 2 :])
        is_busy = (served[:, 1:] > served[:, :-1]).ravel()
        # Compressing all queues at once keeps them apart, as each is busy at just half of its places.
        halves = [place.compress(each).reshape(len(start), -1) for each in (is_busy, ~is_busy)]
        start, place, size = busy_before, np.concatenate(halves, axis=1).ravel(), size // 2
    return place[:n]


def _served_before(start: npt.NDArray[np.int32], size: int) -> npt.NDArray[np.int32]:
    """How many places before each one a queue with these arrivals is busy at. Shape (n_queues, size + 1).

    By Lindley's recursion, solved: after t places ``t + min over u <= t of (arrivals before u - u)`` are served.
    """
    offset = np.arange(len(start), dtype=np.int32)[:, None] * np.int32(size)
    arrivals = np.bincount((start + offset).ravel(), minlength=len(start) * size).reshape(-1, size)
    served = np.zeros((len(start), size + 1), dtype=np.int32)
    np.cumsum(arrivals, axis=1, dtype=np.int32, out=served[:, 1:])
    time = np.arange(size + 1, dtype=np.int32)
    served -= time
    np.minimum.accumulate(served, axis=1, out=served)
    served += time
    return served
