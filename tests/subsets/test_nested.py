"""Nested stratified order: what a prefix may hold, and what may not change it."""

from __future__ import annotations

import heapq
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import DataError
from orchestrator.subsets import (
    class_rows_at,
    membership_levels,
    nested_order,
    seed_offset,
    seed_places,
    split_validation,
    subset_size,
    uniform_order,
)
from orchestrator.subsets.class_column import hash_key, hashed_rows, row_hashes

ROOT = Path(__file__).resolve().parents[2]
IntArray = npt.NDArray[np.int64]

needs_numba = pytest.mark.skipif(find_spec("numba") is None, reason="needs numba (extra fast)")
# Each engine by itself; the first compiled call of a machine waits seconds for the compiler, so no deadlines.
engines = pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=needs_numba)])
unhurried = settings(max_examples=50, deadline=None)

# Balanced, mildly and wildly unbalanced: from equal counts to one class beside many single rows.
class_counts = st.lists(st.integers(1, 60) | st.just(1) | st.integers(100, 400), min_size=1, max_size=40)
seeds = st.integers(0, 2**31)


def shuffled_labels(counts: list[int], seed: int) -> IntArray:
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(seed).permutation(labels)


def largest_deviation(labels: IntArray, order: IntArray) -> float:
    """Over all prefixes and classes, in rows."""
    n = len(labels)
    lengths = np.arange(1, n + 1)
    worst = 0.0
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        held = np.cumsum(labels[order] == label)
        # In whole numbers, as 1 - 1e-15 and 1 must not be confused.
        worst = max(worst, float(np.abs(held * n - lengths * count).max()) / n)
    return worst


@given(class_counts, seeds)
def test_every_prefix_holds_each_class_to_within_less_than_one_row(counts: list[int], seed: int) -> None:
    labels = shuffled_labels(counts, seed)

    order = nested_order(labels, fingerprint="f", seed=seed)

    assert largest_deviation(labels, order) < 1


@given(class_counts, seeds)
def test_the_order_holds_every_row_once(counts: list[int], seed: int) -> None:
    labels = shuffled_labels(counts, seed)

    order = nested_order(labels, fingerprint="f", seed=seed)

    assert sorted(order.tolist()) == list(range(len(labels)))


@given(class_counts, seeds, st.floats(0.001, 1), st.floats(0.001, 1))
def test_a_class_never_loses_a_row_as_the_fraction_grows(counts: list[int], seed: int, one: float, two: float) -> None:
    labels = shuffled_labels(counts, seed)
    order = nested_order(labels, fingerprint="f", seed=seed)
    small, large = sorted((subset_size(len(labels), one), subset_size(len(labels), two)))

    held = [np.bincount(labels[order[:size]], minlength=len(counts)) for size in (small, large)]

    assert set(order[:small].tolist()) <= set(order[:large].tolist())
    assert (held[0] <= held[1]).all()


def test_one_large_class_beside_a_thousand_single_rows_keeps_the_bound() -> None:
    """Sorting by Webster's positions would stray by 250 rows here."""
    labels = np.repeat(np.arange(1001), [1000] + [1] * 1000)

    order = nested_order(labels, fingerprint="f", seed=0)

    big = np.cumsum(labels[order] == 0)
    assert np.abs(big - np.arange(1, 2001) / 2).max() < 1


@given(class_counts, seeds)
def test_the_same_fingerprint_and_seed_give_the_same_order(counts: list[int], seed: int) -> None:
    labels = shuffled_labels(counts, 0)

    first, second = (nested_order(labels, fingerprint="f", seed=seed) for _ in range(2))

    assert (first == second).all()


def test_another_seed_or_fingerprint_gives_another_order() -> None:
    labels = shuffled_labels([50, 30, 20], 0)
    order = nested_order(labels, fingerprint="f", seed=0)

    for other in (nested_order(labels, fingerprint="f", seed=1), nested_order(labels, fingerprint="g", seed=0)):
        assert not (order == other).all()
        # 20 rows each, drawn apart: 4 in common are expected, 20 would be a copy.
        assert len(set(order[:20].tolist()) & set(other[:20].tolist())) < 15


def test_the_order_is_the_same_on_every_machine() -> None:
    """Golden: an evidence journal is only worth keeping when next year's subset is this year's."""
    order = nested_order([0, 1, 0, 0, 2, 1, 0, 0, 1, 0], fingerprint="206408104fe638b2", seed=7)

    assert order.tolist() == GOLDEN


GOLDEN = [3, 1, 0, 9, 8, 7, 2, 5, 6, 4]


def test_names_of_classes_do_not_matter_only_their_order() -> None:
    labels = shuffled_labels([5, 9, 13], 3)

    assert (
        nested_order(labels, fingerprint="f", seed=0) == nested_order(labels * 10 - 4, fingerprint="f", seed=0)
    ).all()


def test_which_rows_of_a_class_come_first_does_not_depend_on_the_order_of_classes_in_the_file() -> None:
    """Sorted files are common; the chosen rows must spread over all of a class's stretch."""
    labels = np.repeat(np.arange(10), 1000)

    chosen = nested_order(labels, fingerprint="f", seed=0)[:1000]

    mean_place_in_class = (chosen % 1000).mean()
    # Uniform places have mean 499.5 and, over 1,000 of them, a standard error of 9.1; 5 of those.
    assert mean_place_in_class == pytest.approx(499.5, abs=46)


def test_a_million_rows_of_a_thousand_classes_take_seconds() -> None:
    shares = np.random.default_rng(0).dirichlet(np.ones(1000))
    labels = np.random.default_rng(1).choice(1000, 1_000_000, p=shares)
    start = time.process_time()

    nested_order(labels, fingerprint="f", seed=0)

    # Measured 1.1 s on a slow core; three times that is allowed for a busy machine.
    assert time.process_time() - start < 3.5


def test_no_rows_have_an_empty_order() -> None:
    assert nested_order([], fingerprint="f", seed=0).tolist() == []


@given(st.integers(0, 500), seeds)
def test_uniform_order_holds_every_row_once_and_is_repeatable(n: int, seed: int) -> None:
    order = uniform_order(n, fingerprint="f", seed=seed)

    assert sorted(order.tolist()) == list(range(n))
    assert (order == uniform_order(n, fingerprint="f", seed=seed)).all()


def test_uniform_order_spreads_a_prefix_over_all_rows() -> None:
    chosen = uniform_order(100_000, fingerprint="f", seed=0)[:10_000]

    # Ten stretches of 10,000 rows; each expects 1,000 with standard deviation 29 (hypergeometric); 5 of those.
    assert np.bincount(chosen // 10_000) == pytest.approx(np.full(10, 1000), abs=145)


@pytest.mark.parametrize(
    ("n_train", "fraction", "size"),
    [
        (1000, 0.0285, 29),
        (10, 0.25, 3),
        (10, 0.05, 1),
        (10, 0.001, 1),
        (7, 1.0, 7),
        (45_000, 0.1, 4500),
        (1438, 0.35, 503),
    ],
)
def test_subset_size_rounds_half_up_in_the_decimal_that_was_written(n_train: int, fraction: float, size: int) -> None:
    assert subset_size(n_train, fraction) == size


@given(st.lists(st.integers(2, 60), min_size=1, max_size=30), st.floats(0.01, 0.99), seeds)
def test_split_puts_every_class_on_both_sides_and_every_row_on_one(counts: list[int], share: float, seed: int) -> None:
    labels = shuffled_labels(counts, seed)

    train, validation = split_validation(labels, share, "f")

    assert sorted([*train.tolist(), *validation.tolist()]) == list(range(len(labels)))
    for side in (train, validation):
        assert (np.bincount(labels[side], minlength=len(counts)) >= 1).all()
        assert (np.diff(side) > 0).all()


@unhurried
@given(st.lists(st.integers(20, 200), min_size=2, max_size=20), st.floats(0.1, 0.9), seeds)
def test_split_of_classes_that_are_not_rare_is_exact_in_total_and_to_one_row_per_class(
    counts: list[int], share: float, seed: int
) -> None:
    labels = shuffled_labels(counts, seed)

    validation = split_validation(labels, share, "f")[1]

    assert len(validation) == subset_size(len(labels), share)
    assert (np.abs(np.bincount(labels[validation]) - np.array(counts) * share) < 1).all()


def test_the_split_is_fixed_by_the_fingerprint() -> None:
    labels = shuffled_labels([50, 50], 0)

    first, second, other = (split_validation(labels, 0.2, name)[1].tolist() for name in ("f", "f", "g"))

    assert first == second != other


def test_a_class_of_one_row_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"class 'zebra' has only 1 row, .*; add rows of it, leave it out"):
        split_validation([0, 0, 1, 1, 2], 0.5, "f", ("cat", "dog", "zebra"))


def test_many_classes_of_one_row_are_counted_and_some_are_named() -> None:
    with pytest.raises(
        DataError, match=r"5 of 5 classes have only 1 row \('10', '11', '12', ...\).*check that data.label"
    ):
        split_validation([10, 11, 12, 13, 14], 0.5, "f")


def reference_sequence(counts: list[int], tie_rank: list[int]) -> list[int]:
    """Earliest deadline first as one would write it on a blackboard: a heap of released rows, place by place."""
    n = sum(counts)
    rows = sorted(
        (k * n // size, -(-(k + 1) * n // size), tie_rank[c], c) for c, size in enumerate(counts) for k in range(size)
    )
    waiting: list[tuple[int, int, int]] = []
    classes = []
    for place in range(n):
        while rows and rows[0][0] <= place:
            heapq.heappush(waiting, heapq.heappop(rows)[1:])
        classes.append(heapq.heappop(waiting)[2])
    return classes


def reference_order(labels: IntArray, counts: list[int], seed: int) -> list[int]:
    """The order of the header, from a heap and a sort of every class."""
    tie = row_hashes(np.arange(len(counts)), hash_key("tie", "f", seed))
    hashes = row_hashes(np.arange(len(labels)), hash_key("order", "f", seed))
    rows = {c: iter(sorted(np.flatnonzero(labels == c).tolist(), key=hashes.__getitem__)) for c in range(len(counts))}
    return [next(rows[c]) for c in reference_sequence(counts, np.argsort(np.argsort(tie)).tolist())]


@engines
@unhurried
@given(counts=class_counts, seed=seeds)
def test_the_order_is_that_of_a_heap_and_a_sort_whether_compiled_or_not(
    compiled: bool, counts: list[int], seed: int
) -> None:
    labels = shuffled_labels(counts, seed)

    order = nested_order(labels, fingerprint="f", seed=seed, compiled=compiled)

    assert order.tolist() == reference_order(labels, counts, seed)
    assert order.dtype == np.int64


def skewed_labels(n: int, n_classes: int) -> IntArray:
    shares = np.random.default_rng(0).dirichlet(np.full(n_classes, 0.3))
    return np.random.default_rng(1).choice(n_classes, n, p=shares)


MANY_ROWS = {
    "skewed": skewed_labels(200_000, 1000),
    "nearly equal, in the order of their class": np.repeat(np.arange(300), np.r_[np.full(299, 400), 399]),
    "more classes than a block of places": shuffled_labels([2, 3, 1, 4, 2] * 5_000, 0),
    "one large class beside single rows": shuffled_labels([60_000] + [1] * 40_000, 0),
    "one class": np.zeros(150_000, dtype=np.int64),
    "two classes, one of one row": shuffled_labels([1, 90_000], 0),
}


@needs_numba
@pytest.mark.parametrize("name", MANY_ROWS)
def test_compiled_code_and_numpy_agree_byte_for_byte_on_many_rows(name: str) -> None:
    labels = MANY_ROWS[name]
    fractions = [0.001, 0.01, 0.3, 0.77]

    for least in (0, 3):
        orders = [
            nested_order(labels, fingerprint="f", seed=1, min_per_class=least, compiled=compiled)
            for compiled in (False, True)
        ]
        levels = [
            membership_levels(labels, fractions, fingerprint="f", seed=1, min_per_class=least, compiled=compiled)
            for compiled in (False, True)
        ]
        assert orders[0].tobytes() == orders[1].tobytes()
        assert levels[0].tobytes() == levels[1].tobytes()


@engines
@pytest.mark.parametrize("name", MANY_ROWS)
def test_the_bound_holds_on_many_rows_at_every_thousandth_prefix(compiled: bool, name: str) -> None:
    labels = MANY_ROWS[name]
    order = nested_order(labels, fingerprint="f", seed=0, compiled=compiled)
    n, counts = len(labels), np.bincount(labels)

    held = np.zeros(len(counts), dtype=np.int64)
    for m, before in zip(range(1000, n + 1, 1000), range(0, n, 1000), strict=False):
        held += np.bincount(labels[order[before:m]], minlength=len(counts))
        assert (np.abs(held * n - m * counts) < n).all()
    assert (np.bincount(order, minlength=n) == 1).all()


@engines
@unhurried
@given(counts=class_counts, seed=seeds, share=st.floats(0, 1), least=st.integers(0, 3))
def test_the_first_places_are_the_prefix_of_the_whole_order(
    compiled: bool, counts: list[int], seed: int, share: float, least: int
) -> None:
    labels = shuffled_labels(counts, seed)
    upto = int(share * len(labels))

    whole = nested_order(labels, fingerprint="f", seed=seed, min_per_class=least, compiled=compiled)
    first = nested_order(labels, fingerprint="f", seed=seed, min_per_class=least, compiled=compiled, upto=upto)

    assert first.tolist() == whole[:upto].tolist()


def test_more_places_than_rows_are_all_rows() -> None:
    assert sorted(nested_order([1, 0, 1], fingerprint="f", seed=0, upto=9).tolist()) == [0, 1, 2]
    assert nested_order([1, 0, 1], fingerprint="f", seed=0, upto=0).tolist() == []
    assert sorted(uniform_order(3, fingerprint="f", seed=0, upto=9).tolist()) == [0, 1, 2]


@engines
@unhurried
@given(
    counts=class_counts,
    seed=seeds,
    fractions=st.lists(st.floats(0.001, 1), min_size=1, max_size=5, unique=True),
    least=st.integers(0, 3),
)
def test_levels_are_the_prefixes_of_the_order(
    compiled: bool, counts: list[int], seed: int, fractions: list[float], least: int
) -> None:
    labels = shuffled_labels(counts, seed)
    fractions = sorted(fractions)
    order = nested_order(labels, fingerprint="f", seed=seed, min_per_class=least)

    levels = membership_levels(labels, fractions, fingerprint="f", seed=seed, min_per_class=least, compiled=compiled)

    assert levels.dtype == np.uint8
    for level, fraction in enumerate(fractions):
        assert set(np.flatnonzero(levels <= level)) == set(order[: subset_size(len(labels), fraction)].tolist())
    assert int(levels.max()) <= len(fractions)


@pytest.mark.parametrize("fractions", [[0.5, 0.1], [0.1, 0.1], [0.0, 0.5], [0.5, 1.5]])
def test_levels_of_fractions_that_are_no_rising_shares_are_refused(fractions: list[float]) -> None:
    with pytest.raises(ValueError, match=r"rising and in \(0, 1\], got \["):
        membership_levels([0, 1], fractions, fingerprint="f", seed=0)


@engines
@pytest.mark.parametrize(
    "relabel",
    [
        lambda ids: ids.astype(np.uint8),
        lambda ids: ids.astype(np.uint16),
        lambda ids: (ids - 100).astype(np.int8),
        lambda ids: (ids * 1000 - 20_000).astype(np.int16),
        lambda ids: (ids * 7 - 50).astype(np.int32),
        lambda ids: ids * 10**15 - 10**16,
        lambda ids: (ids + 2**63).astype(np.uint64),
        lambda ids: np.array([f"class {each:02d}" for each in ids]),
        lambda ids: ids.tolist(),
    ],
    ids=["uint8", "uint16", "int8", "gaps", "int32", "wide gaps", "uint64", "text", "list"],
)
def test_labels_of_every_type_give_the_same_order(compiled: bool, relabel: object) -> None:
    assert callable(relabel)
    ids = shuffled_labels([31, 1, 9, 200, 9, 9, 9, 40], 5).astype(np.uint64)
    expected = nested_order(ids, fingerprint="f", seed=0)

    order = nested_order(relabel(ids), fingerprint="f", seed=0, compiled=compiled)

    assert (order == expected).all()


def test_labels_may_be_a_memory_map_and_booleans(tmp_path: Path) -> None:
    labels = shuffled_labels([70, 30], 0).astype(np.uint16)
    np.save(tmp_path / "labels.npy", labels)
    expected = nested_order(labels, fingerprint="f", seed=0)

    for same in (np.load(tmp_path / "labels.npy", mmap_mode="r"), labels.astype(bool)):
        assert (nested_order(same, fingerprint="f", seed=0) == expected).all()


@given(class_counts, seeds)
def test_within_a_class_rows_come_as_in_the_uniform_order_whatever_the_other_classes_are(
    counts: list[int], seed: int
) -> None:
    labels = shuffled_labels(counts, seed)

    order = nested_order(labels, fingerprint="f", seed=seed)
    uniform = uniform_order(len(labels), fingerprint="f", seed=seed)

    for c in range(len(counts)):
        assert order[labels[order] == c].tolist() == uniform[labels[uniform] == c].tolist()


@engines
@unhurried
@given(n=st.integers(1, 3000), seed=seeds, share=st.floats(0, 1))
def test_uniform_order_is_a_sort_by_hash(compiled: bool, n: int, seed: int, share: float) -> None:
    upto = int(share * n)

    order = uniform_order(n, fingerprint="f", seed=seed, upto=upto, compiled=compiled)

    assert order.tolist() == np.argsort(row_hashes(np.arange(n), hash_key("order", "f", seed)))[:upto].tolist()


@given(st.lists(st.integers(0, 2**62), max_size=20), seeds)
def test_a_hash_is_turned_back_into_its_row(rows: list[int], seed: int) -> None:
    key = hash_key("order", "f", seed)

    assert hashed_rows(row_hashes(np.array(rows, dtype=np.int64), key), key).tolist() == rows


@given(class_counts, seeds, st.integers(1, 5))
def test_a_floor_gives_every_class_its_rows_first_and_the_rest_as_without_it(
    counts: list[int], seed: int, least: int
) -> None:
    labels = shuffled_labels(counts, seed)
    floors = np.minimum(counts, least)
    bent = labels[nested_order(labels, fingerprint="f", seed=seed, min_per_class=least)]
    plain = labels[nested_order(labels, fingerprint="f", seed=seed)]

    held = np.cumsum(bent[:, None] == np.arange(len(counts)), axis=0)
    unbent = np.cumsum(plain[:, None] == np.arange(len(counts)), axis=0)

    assert (held[floors.sum() - 1 :] >= floors).all()
    assert (held[floors.sum() - 1] == floors).all()
    assert (held[-1] == counts).all()
    # Each prefix holds what some prefix of the plain order holds, but at least the floors.
    expected = {tuple(np.maximum(floors, row)) for row in unbent} | {tuple(floors)}
    assert all(tuple(row) in expected for row in held[floors.sum() - 1 :])


@given(class_counts, seeds, st.integers(0, 4), st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_rows_of_each_class_in_a_prefix_are_known_from_the_counts_alone(
    counts: list[int], seed: int, least: int, shares: list[float]
) -> None:
    labels = shuffled_labels(counts, seed)
    lengths = [int(share * len(labels)) for share in shares]
    order = nested_order(labels, fingerprint="f", seed=seed, min_per_class=least)

    held = class_rows_at(counts, lengths, fingerprint="f", seed=seed, min_per_class=least)

    for length, row in zip(lengths, held, strict=True):
        assert row.tolist() == np.bincount(labels[order[:length]], minlength=len(counts)).tolist()


def test_without_numba_numpy_gives_the_order_and_asking_for_compiled_code_is_an_error() -> None:
    """More rows than compiled code is loaded for, in a process where numba cannot be imported."""
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "import numpy as np\n"
        "from orchestrator.subsets import nested_order\n"
        "labels = np.resize(np.array([0, 0, 0, 1, 1, 2], dtype=np.uint8), 5_000_001)\n"
        "print(nested_order(labels, fingerprint='f', seed=0, upto=1000).tolist())\n"
        "try: nested_order(labels, fingerprint='f', seed=0, upto=1000, compiled=True)\n"
        "except ImportError: print('refused')\n"
    )
    labels = np.resize(np.array([0, 0, 0, 1, 1, 2], dtype=np.uint8), 5_000_001)
    expected = nested_order(labels, fingerprint="f", seed=0, upto=1000, compiled=None if find_spec("numba") else False)

    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert shown.splitlines() == [str(expected.tolist()), "refused"]


def test_few_rows_load_no_compiler() -> None:
    code = (
        "import sys, numpy as np\n"
        "from orchestrator.subsets import nested_order, split_validation\n"
        "labels = np.arange(300_000) % 7\n"
        "nested_order(labels, fingerprint='f', seed=0); split_validation(labels, 0.1, 'f')\n"
        "print('numba' in sys.modules)\n"
    )

    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert shown == "False\n"


def peak_bytes(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_stays_within_bytes_per_row_of_labels_that_are_never_copied() -> None:
    """numpy alone, at 1% / 10% / 50% of rows, between one and two million rows: buffers of fixed size cancel."""
    peaks = []
    for n in (1_000_000, 2_000_000):
        labels = (np.arange(n) % 100).astype(np.uint16)
        levels = peak_bytes(partial(membership_levels, labels, [0.01, 0.1, 0.5], fingerprint="f", seed=0))
        order = peak_bytes(partial(nested_order, labels, fingerprint="f", seed=0, upto=n // 2))
        peaks.append((levels, order))

    levels_per_row, order_per_row = (np.array(peaks[1]) - np.array(peaks[0])) / 1_000_000
    # One byte is the answer, and a limit leaves 1/256 of the rows undecided, whose numbers and hashes are sorted.
    assert levels_per_row < 1 + 3 / 256 * 64
    # Half of the rows are 4 bytes of answer and 4 of hashes; 1/256 more is kept and cut.
    assert order_per_row < 8.1


def test_the_split_takes_the_rows_of_each_class_with_the_smallest_hashes() -> None:
    labels = shuffled_labels([50, 30, 21], 0)
    hashes = row_hashes(np.arange(len(labels)), hash_key("validation", "f", 0))

    validation = split_validation(labels, 0.2, "f")[1]

    for c, quota in enumerate([10, 6, 4]):
        rows = np.flatnonzero(labels == c)
        assert set(validation[labels[validation] == c]) == set(rows[np.argsort(hashes[rows])][:quota])


def test_the_split_is_the_same_on_every_machine() -> None:
    assert split_validation([0, 1, 0, 0, 2, 1, 0, 2, 1, 0], 0.3, "206408104fe638b2")[1].tolist() == GOLDEN_SPLIT


GOLDEN_SPLIT = [0, 4, 8]


@needs_numba
def test_the_split_is_the_same_compiled_or_not() -> None:
    labels = np.arange(100_000) % 700 % 50

    split, compiled = (split_validation(labels, 0.1, "f", compiled=compiled) for compiled in (False, True))

    assert all((a == b).all() for a, b in zip(split, compiled, strict=True))


def test_the_only_row_of_a_stratum_may_be_let_into_the_training_pool() -> None:
    train, validation = split_validation([0, 0, 1, 1, 2], 0.5, "f", refuse_single_rows=False)

    assert 4 in train
    assert sorted([*train.tolist(), *validation.tolist()]) == [0, 1, 2, 3, 4]


def test_seeds_begin_at_places_that_fill_the_order_evenly() -> None:
    assert [seed_offset(800, seed) for seed in range(8)] == [0, 400, 200, 600, 100, 500, 300, 700]
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        seed_offset(800, -1)


def brute_seed_places(labels: list[int], m: int, start: int) -> list[int]:
    """By the definition: place t takes the row of its class that is as many later, going round, as stand before t."""
    places_of = {c: [t for t, label in enumerate(labels) if label == c] for c in set(labels)}
    seen = dict.fromkeys(places_of, 0)
    found = []
    for c in labels[:m]:
        skipped = sum(place < start for place in places_of[c])
        found.append(places_of[c][(seen[c] + skipped) % len(places_of[c])])
        seen[c] += 1
    return found


@engines
@unhurried
@given(counts=class_counts, seed=seeds, share=st.floats(0, 1), start=st.integers(0, 9))
def test_another_seeds_places_follow_their_definition(
    compiled: bool, counts: list[int], seed: int, share: float, start: int
) -> None:
    labels = shuffled_labels(counts, seed)[nested_order(shuffled_labels(counts, seed), fingerprint="f", seed=0)]
    m = int(share * len(labels))

    places = seed_places(labels.astype(np.uint16), m, start, compiled=compiled)

    assert places.tolist() == brute_seed_places(labels.tolist(), m, seed_offset(len(labels), start))


@given(class_counts, seeds, st.integers(0, 100))
def test_prefixes_of_another_seed_hold_the_classes_of_the_physical_prefix_and_every_row_once(
    counts: list[int], seed: int, start: int
) -> None:
    rows = shuffled_labels(counts, seed)
    labels = rows[nested_order(rows, fingerprint="f", seed=seed)].astype(np.uint16)

    places = seed_places(labels, len(labels), start)

    assert (labels[places] == labels).all()
    assert sorted(places.tolist()) == list(range(len(labels)))
    half = len(labels) // 2
    assert seed_places(labels, half, start).tolist() == places[:half].tolist()


def test_seed_zero_is_the_order_itself() -> None:
    assert seed_places(np.array([0, 1, 0, 1], dtype=np.uint8), 3, 0).tolist() == [0, 1, 2]


def test_small_subsets_of_eight_seeds_share_no_row() -> None:
    rows = np.repeat(np.arange(4), [20_000, 15_000, 4_800, 200])
    labels = rows[nested_order(rows, fingerprint="f", seed=0)].astype(np.uint16)

    subsets = [set(seed_places(labels, 2000, seed).tolist()) for seed in range(8)]

    assert len(set.union(*subsets)) == sum(map(len, subsets))


@pytest.mark.parametrize("n_classes", [2, 10, 100])
def test_the_rows_of_another_seed_lie_within_two_rounds_of_balanced_classes(n_classes: int) -> None:
    rows = np.repeat(np.arange(n_classes), 1003)
    labels = rows[nested_order(rows, fingerprint="f", seed=0)].astype(np.uint16)

    for seed in range(1, 8):
        for m in (1, n_classes, 7 * n_classes + 3):
            start = seed_offset(len(labels), seed)
            reach = (seed_places(labels, m, seed) - start) % len(labels)
            assert reach.max() < m + 2 * n_classes


@given(class_counts, seeds, st.integers(1, 16), st.floats(0.01, 0.3))
def test_the_rows_of_another_seed_lie_within_three_rounds_of_the_rarest_class_among_them(
    counts: list[int], seed: int, start: int, share: float
) -> None:
    rows = shuffled_labels(counts, seed)
    labels = rows[nested_order(rows, fingerprint="f", seed=seed)].astype(np.uint16)
    m = max(1, int(share * len(labels)))

    reach = (seed_places(labels, m, start) - seed_offset(len(labels), start)) % len(labels)

    rarest = np.bincount(labels)[np.unique(labels[:m])].min()
    assert reach.max() < m + 3 * len(labels) / rarest


def test_shares_of_a_thousand_classes_are_exact_to_the_row_in_growing_subsets() -> None:
    labels = skewed_labels(300_000, 1000)
    counts = np.bincount(labels, minlength=1000)
    sizes = [subset_size(len(labels), fraction) for fraction in (0.01, 0.1, 0.5)]

    order = nested_order(labels, fingerprint="f", seed=0, upto=sizes[-1])

    held = [np.bincount(labels[order[:size]], minlength=1000) for size in sizes]
    for size, row in zip(sizes, held, strict=True):
        assert (np.abs(row - size * counts / len(labels)) < 1).all()
    assert all((small <= large).all() for small, large in pairwise(held))
