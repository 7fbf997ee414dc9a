"""Strata: bins of equal numbers of rows, combinations that occur, names one can read."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import DataError
from orchestrator.subsets import nested_order
from orchestrator.subsets.strata import strata_of


def test_classes_stand_as_they_are_and_are_named_by_their_values() -> None:
    strata = strata_of({"animal": np.array(["dog", "cat", "dog"])}, bins=4)

    assert strata.ids.tolist() == [1, 0, 1]
    assert strata.ids.dtype == np.uint8
    assert strata.names == ("cat", "dog")
    assert strata.sentence == "classes of animal"


def test_ids_are_named_by_the_names_that_are_given() -> None:
    strata = strata_of({"animal": np.array([2, 0, 2])}, bins=4, class_names={"animal": ["cat", "dog", "eel"]})

    assert strata.ids.tolist() == [1, 0, 1]
    assert strata.names == ("cat", "eel")


@pytest.mark.parametrize(("n_classes", "kind"), [(200, np.uint8), (300, np.uint16), (70_000, np.int32)])
def test_ids_take_the_smallest_type_that_holds_them(n_classes: int, kind: type) -> None:
    assert strata_of({"x": np.arange(n_classes)}, bins=2).ids.dtype == kind


def test_booleans_are_two_classes() -> None:
    strata = strata_of({"sold": np.array([True, False, True])}, bins=2)

    assert strata.names == ("False", "True")
    assert strata.ids.tolist() == [1, 0, 1]


@settings(max_examples=50)
@given(st.integers(2, 20), st.integers(40, 500), st.integers(0, 1000))
def test_bins_of_distinct_values_hold_equal_numbers_of_rows_to_within_one(bins: int, n: int, seed: int) -> None:
    price = np.random.default_rng(seed).permutation(n) * 0.37 - 5

    strata = strata_of({"price": price}, bins=bins)

    held = np.bincount(strata.ids, minlength=bins)
    assert len(held) == bins
    assert np.abs(held - n / bins).max() < 1
    for low, high in zip(range(bins - 1), range(1, bins), strict=True):
        assert price[strata.ids == low].max() < price[strata.ids == high].min()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(2, 12))
def test_equal_values_are_never_parted_and_bins_have_no_gaps(values: list[int], bins: int) -> None:
    strata = strata_of({"price": np.array(values, dtype=np.float32)}, bins=bins)

    for value in set(values):
        assert len({int(i) for i, each in zip(strata.ids, values, strict=True) if each == value}) == 1
    assert set(strata.ids.tolist()) == set(range(len(strata.names)))


def test_fewer_bins_than_asked_are_told() -> None:
    strata = strata_of({"price": np.array([0.0] * 90 + [1.0, 2.0] * 5)}, bins=10)

    assert strata.names == ("price [0, 1)", "price [1, 2]")
    assert strata.sentence == "2 quantile bins of price (10 asked; equal values stay together)"


def test_bins_are_named_by_their_edges() -> None:
    strata = strata_of({"price": np.array([0.1, 2.3, 0.5, 9.9])}, bins=2)

    assert strata.names == ("price [0.1, 2.3)", "price [2.3, 9.9]")
    assert strata.sentence == "2 quantile bins of price"


def test_edges_that_are_close_are_shown_with_as_many_digits_as_tell_them_apart() -> None:
    strata = strata_of({"t": np.array([1000.001, 1000.002, 1000.003, 1000.004])}, bins=2)

    assert strata.names == ("t [1000.001, 1000.003)", "t [1000.003, 1000.004]")


def test_integers_are_classes_unless_asked_to_be_continuous() -> None:
    year = np.arange(1000)

    assert len(strata_of({"year": year}, bins=4).names) == 1000
    assert len(strata_of({"year": year}, bins=4, continuous=["year"]).names) == 4


def test_several_columns_make_the_combinations_that_occur() -> None:
    animal = np.array(["cat", "cat", "dog", "dog", "dog", "cat"])
    price = np.array([0.1, 2.3, 0.2, 0.3, 0.4, 9.9])

    strata = strata_of({"animal": animal, "price": price}, bins=2)

    assert strata.ids.tolist() == [0, 1, 2, 2, 3, 1]
    assert strata.names == (
        "cat & price [0.1, 0.4)",
        "cat & price [0.4, 9.9]",
        "dog & price [0.1, 0.4)",
        "dog & price [0.4, 9.9]",
    )
    assert strata.sentence == "classes of animal and 2 quantile bins of price, 4 combinations"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=80))
def test_joint_strata_tell_rows_apart_exactly_as_their_columns_do(rows: list[tuple[int, int, int]]) -> None:
    a, b, c = (np.array(column) for column in zip(*rows, strict=True))

    strata = strata_of({"a": a, "b": b, "c": c}, bins=2)

    assert len(set(strata.ids.tolist())) == len(strata.names) == len(set(rows))
    for row, stratum in zip(rows, strata.ids.tolist(), strict=True):
        assert strata.names[stratum] == " & ".join(str(each) for each in row)


def test_rows_without_columns_are_one_stratum_whose_order_is_a_plain_one() -> None:
    strata = strata_of({}, bins=2, n_rows=5)

    assert strata.ids.tolist() == [0] * 5
    assert strata.names == ("all rows",)
    assert strata.sentence == "not at all"
    assert sorted(nested_order(strata.ids, fingerprint="f", seed=0).tolist()) == [0, 1, 2, 3, 4]


def test_no_rows_have_no_strata_that_matter() -> None:
    assert strata_of({"price": np.empty(0)}, bins=2).ids.tolist() == []
    assert strata_of({"x": np.empty(0, dtype=np.int64)}, bins=2).ids.tolist() == []


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_missing_or_infinite_is_refused_with_its_row(wrong: float) -> None:
    with pytest.raises(DataError, match=r"column 'price': 2 of 4 values are missing or not finite \(first: row 1\);"):
        strata_of({"price": np.array([1.0, wrong, wrong, 2.0])}, bins=2)


def test_a_class_that_is_missing_is_refused_with_its_row() -> None:
    with pytest.raises(DataError, match=r"column 'animal': 1 of 3 values are missing \(first: row 2\); fill them in"):
        strata_of({"animal": np.array(["cat", "dog", None], dtype=object)}, bins=2)


@pytest.mark.parametrize(
    ("columns", "continuous", "message"),
    [
        ({"name": np.array(["a", "b"])}, ["name"], r"column 'name' holds no numbers \(<U1\)"),
        ({"a": np.array([1]), "b": np.array([1, 2])}, [], r"of different lengths \(a 1, b 2\); give one value"),
    ],
)
def test_columns_that_cannot_be_used_are_refused(
    columns: dict[str, npt.NDArray[np.generic]], continuous: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        strata_of(columns, bins=2, continuous=continuous)


def test_one_bin_is_refused() -> None:
    with pytest.raises(ValueError, match="bins must be at least 2, got 1"):
        strata_of({}, bins=1)


def test_a_prefix_of_an_order_over_bins_has_the_quantiles_of_all_rows() -> None:
    """The point of binning a continuous target: a 1% subset has its distribution, here to one row per bin."""
    price = np.random.default_rng(0).lognormal(size=50_000)
    strata = strata_of({"price": price}, bins=50)

    subset = price[nested_order(strata.ids, fingerprint="f", seed=0, upto=500)]

    shares = np.array([0.1, 0.5, 0.9])
    # The bins around a quantile hold 2% of the rows each; one row more or less in each of 50 cannot move it further.
    found = np.searchsorted(np.sort(price), np.quantile(subset, shares)) / len(price)
    assert found == pytest.approx(shares, abs=0.02)
