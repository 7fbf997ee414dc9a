"""What a floor under rare classes costs the others, in shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.subsets import nested_order
from orchestrator.subsets.shares import share_report

COUNTS = [9_000, 900, 90, 10]


def test_the_report_counts_what_the_prefixes_hold() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), COUNTS))
    order = nested_order(labels, fingerprint="f", seed=0, min_per_class=2)

    report = share_report(COUNTS, [0.01, 0.1], fingerprint="f", seed=0, min_per_class=2)

    for subset, size in zip(report.subsets, (100, 1000), strict=True):
        assert subset.rows.tolist() == np.bincount(labels[order[:size]]).tolist()
        assert subset.share == pytest.approx(subset.rows / size)


def test_a_floor_raises_rare_classes_by_as_much_as_is_said() -> None:
    names = ["cat", "dog", "eel", "fox"]

    report = share_report(COUNTS, [0.01], fingerprint="f", seed=0, min_per_class=2, class_names=names)

    # 100 rows, of which fox has 2 rather than 0.1: 20-fold; cat gives what fox and eel take, to within a row.
    assert report.subsets[0].rows[3] == 2
    assert report.largest_ratio == pytest.approx(20)
    assert report.largest_points == pytest.approx(3, abs=1)
    assert report.n_absent == 0
    assert report.sentence.startswith("Subsets are at least 2 of each class: shares move by at most ")
    assert report.sentence.endswith("and at most 20-fold ('fox' at 0.01).")


def test_without_a_floor_rare_classes_are_absent_and_that_is_said() -> None:
    report = share_report(COUNTS, [0.1, 0.001], fingerprint="f", seed=0)

    # 10 rows of 10,000: neither the class of 90 nor that of 10 has a whole row's share, though one may have the row.
    assert report.n_absent >= 1
    assert report.sentence.startswith("Subsets are proportional to the row: ")
    assert f"; {report.n_absent} of 4 classes have no row in the smallest subset." in report.sentence


@given(st.lists(st.integers(1, 500), min_size=1, max_size=20), st.lists(st.floats(0.01, 1), min_size=1, max_size=3))
def test_without_a_floor_no_share_moves_by_a_row(counts: list[int], fractions: list[float]) -> None:
    report = share_report(counts, fractions, fingerprint="f", seed=0)

    for subset in report.subsets:
        assert np.abs(subset.points).max() < 100 / subset.rows.sum() + 1e-9
    assert report.largest_points == max(np.abs(subset.points).max() for subset in report.subsets)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=20), st.integers(0, 5))
def test_all_rows_have_the_shares_of_all_rows(counts: list[int], least: int) -> None:
    report = share_report(counts, [1.0], fingerprint="f", seed=0, min_per_class=least)

    assert report.largest_points == 0
    assert report.largest_ratio == 1
    assert report.subsets[0].rows.tolist() == counts
