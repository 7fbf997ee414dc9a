"""Pass one: labels to classes, and every row to a place."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from orchestrator.data.preparing.layout import (
    LEFT_OUT,
    Target,
    classes_of,
    duplicates_in,
    lay_out,
    missing_in,
    refuse_duplicates,
    refuse_missing,
    strata_of_columns,
    target_of_strata,
)
from orchestrator.data.rows import Piece
from orchestrator.errors import DataError
from orchestrator.subsets import subset_size


def column(values: Any, kind: pa.DataType | None = None) -> pa.ChunkedArray:
    """In two chunks, as files leave it."""
    array = values if isinstance(values, pa.Array) else pa.array(values, kind)
    return pa.chunked_array([array[: len(array) // 2], array[len(array) // 2 :]], type=array.type)


@pytest.mark.parametrize(
    ("values", "names", "ids"),
    [
        ([10, -1, 2, 10, -1, 2], ("-1", "2", "10"), [2, 0, 1, 2, 0, 1]),
        (["dog", "cat", "dog", "cat", "cat", "dog"], ("cat", "dog"), [1, 0, 1, 0, 0, 1]),
        ([True, False, True, False, True, False], ("false", "true"), [1, 0, 1, 0, 1, 0]),
        (pa.array(["b", "a"] * 3).dictionary_encode(), ("a", "b"), [1, 0] * 3),
        (pa.array([1, 3] * 3, pa.uint8()), ("1", "3"), [0, 1] * 3),
        (pa.array([2**64 - 1, 3] * 3, pa.uint64()), ("3", str(2**64 - 1)), [1, 0] * 3),
        (pa.array(["b", "a"] * 3, pa.large_string()), ("a", "b"), [1, 0] * 3),
    ],
    ids=["whole numbers", "text", "booleans", "categories", "small numbers", "huge numbers", "large text"],
)
def test_labels_become_ids_that_rise_with_their_values(values: Any, names: tuple[str, ...], ids: list[int]) -> None:
    target = classes_of(column(values), "label", "here", None)

    assert target.names == names
    assert target.ids.tolist() == ids
    assert target.ids.dtype == np.uint8
    assert target.is_classification


def test_more_than_256_classes_take_two_bytes_a_row() -> None:
    target = classes_of(column(list(range(300))), "label", "here", None)

    assert target.ids.dtype == np.uint16
    assert target.ids.tolist() == list(range(300))


def test_declared_names_are_given_to_the_classes_that_have_rows_and_the_others_are_told() -> None:
    target = classes_of(column([2, 0] * 3), "label", "here", ("cat", "dog", "owl"))

    assert target.names == ("cat", "owl")
    assert target.ids.tolist() == [1, 0] * 3
    assert target.note == "declared in label but without rows: dog"


def test_a_folder_without_a_row_is_told_as_well() -> None:
    target = classes_of(column(["a", "b"] * 3), "label", "here", ("a", "b", "c"))

    assert target.names == ("a", "b")
    assert target.note == "declared in label but without rows: c"


def test_declared_names_that_do_not_fit_the_numbers_are_left_aside() -> None:
    assert classes_of(column([7, 0] * 3), "label", "here", ("cat", "dog")).names == ("0", "7")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["cat"] * 4, "here: data.label 'label' holds one class only ('cat' in all 4 rows); a classifier needs"),
        (pa.array([], pa.int64()), "here: there are no rows; give files with at least two classes"),
        ([b"a", b"b"], "here: data.label: column 'label' is binary; it must hold classes (whole numbers or text)"),
    ],
)
def test_what_is_no_class_is_refused(values: Any, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        classes_of(column(values), "label", "here", None)


# --- missing and repeated -------------------------------------------------------------------------------------------

PIECES = (
    Piece(path="/data/a.parquet", first_row=0, n_rows=2, position=0),
    Piece(path="/data/a.parquet", first_row=2, n_rows=2, position=1),
    Piece(path="/data/b.parquet", first_row=4, n_rows=4),
)


def test_nulls_and_nan_are_missing() -> None:
    assert missing_in(column([1, None, 3])).tolist() == [False, True, False]
    assert missing_in(column([1.0, float("nan"), None])).tolist() == [False, True, True]


@pytest.mark.parametrize(("row", "words"), [(3, "row 3 of a.parquet"), (6, "row 2 of b.parquet")])
def test_missing_labels_are_counted_and_the_first_is_placed_in_its_file(row: int, words: str) -> None:
    missing = np.zeros(8, dtype=bool)
    missing[[row, 7]] = True

    with pytest.raises(DataError, match=rf"is null in 2 of 8 rows \(first: {words}\); .* --drop-missing-labels"):
        refuse_missing(missing, "label", "here", PIECES)


@pytest.mark.parametrize(
    "values",
    [
        [5, 1, 5, 2, 1, 5, None, None, 0],
        ["e", "a", "e", "b", "a", "e", None, None, "0"],
        pa.array(["e", "a", "e", "b", "a", "e", None, None, "0"]).dictionary_encode(),
    ],
    ids=["numbers", "text", "categories"],
)
def test_the_first_of_each_id_is_no_repeat_and_nulls_never_are(values: Any) -> None:
    found = duplicates_in(column(values))

    assert np.flatnonzero(found.is_repeat).tolist() == [2, 4, 5]
    assert found.n == 3


def test_repeats_are_refused_with_the_first_five() -> None:
    found = duplicates_in(column([7] * 8))

    with pytest.raises(DataError) as caught:
        refuse_duplicates(found, "key", "here")

    assert str(caught.value).startswith("here: 7 of 8 rows repeat the 'key' of another (7 in rows 0 and 1, 7 in rows 0")
    assert "rows 0 and 5, ...); remove them, or keep the first of each with --drop-duplicates" in str(caught.value)


# --- places ---------------------------------------------------------------------------------------------------------


def target_of(ids: np.ndarray[Any, Any]) -> Target:
    names = tuple(map(str, range(ids.max() + 1)))
    return Target(ids=ids, names=names, is_classification=True)


def laid_out(n: int = 5000, **changes: Any) -> Any:
    ids = np.random.default_rng(1).choice(np.arange(4, dtype=np.uint8), n, p=[0.6, 0.3, 0.09, 0.01])
    options: dict[str, Any] = {"fingerprint": "f", "validation_fraction": 0.2, "order_seed": 0}
    return ids, lay_out(target_of(ids), None, None, **(options | changes))


def test_every_row_has_one_place_and_labels_lie_at_the_places() -> None:
    ids, layout = laid_out()

    assert sorted(layout.places.tolist()) == list(range(5000))
    assert layout.places.dtype == np.int32
    assert (layout.labels[layout.places] == ids).all()
    assert layout.n_train + layout.n_validation == 5000
    assert layout.n_validation == 1000


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.777])
def test_every_prefix_of_both_sides_keeps_the_shares_to_within_one_row(fraction: float) -> None:
    _, layout = laid_out()

    for side in (layout.labels[: layout.n_train], layout.labels[layout.n_train :]):
        m = subset_size(len(side), fraction)
        exact = np.bincount(side, minlength=4) * m / len(side)
        assert np.abs(np.bincount(side[:m], minlength=4) - exact).max() < 1


def test_the_seed_moves_the_order_and_not_the_split() -> None:
    _, one = laid_out()
    _, other = laid_out(order_seed=1)

    assert ((one.places < one.n_train) == (other.places < other.n_train)).all()
    assert (one.places != other.places).mean() > 0.9


def test_rows_that_are_left_out_have_no_place_and_do_not_move_the_others() -> None:
    ids, _ = laid_out()
    kept = np.random.default_rng(2).random(5000) < 0.7
    target = target_of(ids[kept])
    options: dict[str, Any] = {"fingerprint": "f", "validation_fraction": 0.2, "order_seed": 0}

    layout = lay_out(target, None, kept, **options, left_out={"why": 3})
    alone = lay_out(target, None, None, **options)

    assert (layout.places[~kept] == LEFT_OUT).all()
    assert (layout.places[kept] == alone.places).all()
    assert layout.n_rows == kept.sum()
    assert layout.left_out == {"why": 3}


def test_rows_without_labels_are_one_stratum() -> None:
    strata = strata_of_columns({}, bins=10, n_rows=100)
    target = target_of_strata(strata)
    layout = lay_out(target, strata, None, fingerprint="f", validation_fraction=0.25, order_seed=0)

    assert layout.n_validation == 25
    assert layout.strata == "not at all"
    assert not target.is_classification
    assert sorted(layout.places.tolist()) == list(range(100))


def test_a_class_of_one_row_is_named() -> None:
    target = classes_of(column(["cat", "owl", "cat", "dog", "dog"]), "label", "here", None)

    with pytest.raises(DataError, match="class 'owl' has only 1 row"):
        lay_out(target, None, None, fingerprint="f", validation_fraction=0.2, order_seed=0)


# --- strata ---------------------------------------------------------------------------------------------------------


def test_a_measurement_is_stratified_by_its_quantiles() -> None:
    price = np.random.default_rng(0).lognormal(size=10_000)
    strata = strata_of_columns({"price": column(price)}, bins=10, n_rows=10_000)
    target = target_of_strata(strata)

    layout = lay_out(target, strata, None, fingerprint="f", validation_fraction=0.2, order_seed=0)

    first = np.argsort(layout.places)[:800]
    deciles = np.searchsorted(np.quantile(price, np.arange(1, 10) / 10), price[first])
    assert np.abs(np.bincount(deciles, minlength=10) - 80).max() <= 1
    assert layout.strata == "10 quantile bins of price"
    assert not layout.target.is_classification


def test_joint_shares_of_several_columns_are_kept_and_a_null_is_a_value() -> None:
    rng = np.random.default_rng(1)
    site = column(rng.choice(["north", "south", None], 4000, p=[0.6, 0.3, 0.1]).tolist())
    age = column(rng.normal(40, 10, 4000))
    strata = strata_of_columns({"site": site, "age": age}, bins=2, n_rows=4000)
    ids = np.arange(4000, dtype=np.uint8) % 5
    layout = lay_out(target_of(ids), strata, None, fingerprint="f", validation_fraction=0.2, order_seed=0)

    first = np.argsort(layout.places)[:400]
    names = [strata.names[i] for i in strata.ids]
    for name in set(names):
        assert abs(sum(names[row] == name for row in first) - names.count(name) * 0.1) < 1.2
    assert any(name.startswith("(missing) & age") for name in strata.names)
    assert layout.target.is_classification
    assert (layout.labels[layout.places] == ids).all()


def test_a_stratum_of_one_row_goes_to_the_training_pool() -> None:
    strata = strata_of_columns({"site": column(["a"] * 9 + ["b"])}, bins=2, n_rows=10)

    layout = lay_out(target_of_strata(strata), strata, None, fingerprint="f", validation_fraction=0.2, order_seed=0)

    assert layout.places[9] < layout.n_train


def test_a_measurement_that_is_missing_cannot_be_stratified_by() -> None:
    with pytest.raises(DataError, match=r"column 'age': 1 of 3 values are missing or not finite \(first: row 1\)"):
        strata_of_columns({"age": column([1.0, None, 2.0])}, bins=2, n_rows=3)


def test_a_column_of_bytes_cannot_be_stratified_by() -> None:
    with pytest.raises(DataError, match=r"data.stratify: column 'x' is binary; stratify by whole numbers"):
        strata_of_columns({"x": column([b"a", b"b"])}, bins=2, n_rows=2)


def test_a_least_number_of_each_class_comes_first_in_the_training_pool_and_is_told() -> None:
    ids, layout = laid_out(min_per_class=3)

    assert np.bincount(layout.labels[:12], minlength=4).tolist() == [3, 3, 3, 3]
    assert "at least 3 of each class" in layout.strata
    share = np.bincount(layout.labels[layout.n_train : layout.n_train + 100], minlength=4) / 100
    assert np.abs(share - np.bincount(ids) / len(ids)).max() < 0.011
