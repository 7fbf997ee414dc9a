"""The order of an epoch: a permutation that can be entered anywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.training.epoch_order import EpochOrder

LARGE = 70_001
"""Above the size that numpy permutes."""


@given(n_rows=st.one_of(st.integers(1, 300), st.integers(65_530, 70_000)), seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_every_row_stands_at_one_position(n_rows: int, seed: int) -> None:
    assert np.array_equal(np.sort(EpochOrder(n_rows, seed, 0).rows(0, n_rows)), np.arange(n_rows))


@pytest.mark.parametrize("n_rows", [100, LARGE])
def test_an_epoch_entered_in_the_middle_goes_on_as_the_whole_one(n_rows: int) -> None:
    whole = EpochOrder(n_rows, 3, 5).rows(0, n_rows)

    assert np.array_equal(EpochOrder(n_rows, 3, 5).rows(60, 90), whole[60:90])


@pytest.mark.parametrize("n_rows", [100, LARGE])
def test_seeds_and_epochs_have_orders_of_their_own(n_rows: int) -> None:
    orders = {EpochOrder(n_rows, seed, epoch).rows(0, 20).tobytes() for seed in range(4) for epoch in range(4)}

    assert len(orders) == 16


def test_a_row_is_as_likely_at_any_position_and_after_any_other_row() -> None:
    """Chi-square over 16 bins of position, and of the distance to the next row; 0.1% critical value at 15 freedoms."""
    n_rows, bins = LARGE, 16
    positions = np.concatenate([np.flatnonzero(EpochOrder(n_rows, 1, e).rows(0, n_rows) < 40) for e in range(20)])
    order = EpochOrder(n_rows, 1, 0).rows(0, n_rows)
    steps = np.diff(order) % n_rows

    for values in (positions, steps[:2000], order[:2000]):
        found = np.bincount(values * bins // n_rows, minlength=bins)
        assert ((found - len(values) / bins) ** 2 / (len(values) / bins)).sum() < 37.7


def test_a_hundred_million_rows_are_entered_without_a_table() -> None:
    order = EpochOrder(100_000_000, 0, 0)

    rows = order.rows(70_000_000, 70_000_064)

    assert len(set(rows.tolist())) == 64
    assert 0 <= rows.min() <= rows.max() < 100_000_000


def test_more_rows_than_32_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="an epoch has at most 4,294,967,296 rows"):
        EpochOrder(2**32 + 1, 0, 0)
