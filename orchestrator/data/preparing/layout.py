"""Pass one of `prepare`: from the label column alone to the split and the place of every row.

    place = 0 .. n_train - 1             training pool, in nested stratified order
            n_train .. n_train + n_v - 1  validation rows, in a nested stratified order of their own
            -1                            rows that were left out

Places take 4 bytes a row below 2**31 rows and 8 above. Arrow columns in, numpy arrays out; nothing is read or written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.data.rows import Piece
from orchestrator.errors import DataError
from orchestrator.subsets import nested_order, split_validation
from orchestrator.subsets.shares import share_report
from orchestrator.subsets.strata import Strata, strata_of

BoolArray = npt.NDArray[np.bool_]
IdArray = npt.NDArray[np.integer]

LEFT_OUT = -1
"""Place of a row that is not written."""
COUNTED_FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Of the training pool, at which the manifest counts the rows of each class."""
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """What the label column holds."""

    ids: IdArray
    """Class, or stratum where the target is not a class, of each row. Shape (n,)."""
    names: tuple[str, ...]
    """Of each id."""
    is_classification: bool
    note: str = ""
    """What else is to be told of it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """Where every row of the source goes."""

    places: IdArray
    """Place of each source row, or LEFT_OUT. Shape (n_source_rows,)."""
    n_train: int
    n_validation: int
    labels: IdArray
    """Class or stratum of each place. Shape (n_train + n_validation,)."""
    train_strata: IdArray | None
    """Stratum of each place of the training pool where that is not its label. Shape (n_train,)."""
    target: Target
    strata: str
    """How the rows were stratified, in words."""
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        """Rows that are written."""
        return self.n_train + self.n_validation


def classes_of(column: pa.ChunkedArray, label: str, source: str, declared: Sequence[str] | None) -> Target:
    """Classes of a column; whole numbers rise in their own order, text alphabetically.

    Args:
        column: Whole numbers, text or booleans, without nulls.
        label: The column's name, for messages.
        source: Where it comes from, for messages.
        declared: Names behind the whole numbers ``0..len-1`` where the source carries them.
    Raises: DataError: no rows, one class only, or a type that is no class.
    """
    column = _as_classes(column, label, source)
    if len(column) == 0:
        raise DataError(f"{source}: there are no rows; give files with at least two classes")
    values = pc.unique(column).sort()
    if len(values) == 1:
        raise DataError(
            f"{source}: data.label {label!r} holds one class only ({values[0].as_py()!r} in all "
            f"{len(column):,} rows); a classifier needs at least two"
        )
    names, absent = _class_names(values.to_pylist(), declared)
    note = f"declared in {label} but without rows: {_listed(absent)}" if absent else ""
    return Target(ids=_indices(column, values), names=names, is_classification=True, note=note)


def strata_of_columns(columns: Mapping[str, pa.ChunkedArray], *, bins: int, n_rows: int) -> Strata:
    """Strata by the joint value of some columns; measurements in quantile bins, a null being a value of its own.

    Args:
        columns: By name; none of them gives one stratum.
        bins: Quantile bins of a measurement.
        n_rows: Rows there are.
    Raises: DataError: a measurement is missing, or a column is of a type that has no strata.
    """
    values: dict[str, npt.NDArray[np.generic]] = {}
    names: dict[str, tuple[str, ...]] = {}
    for name, column in columns.items():
        if is_continuous(column.type):
            # Filled with what strata_of refuses, and counts.
            values[name] = column.cast(pa.float64()).fill_null(float("nan")).to_numpy()
        else:
            values[name], names[name] = _categories(column, name)
    return strata_of(values, bins=bins, class_names=names, n_rows=n_rows)


def target_of_strata(strata: Strata) -> Target:
    """What stands for the classes where nothing is classified."""
    return Target(ids=strata.ids, names=strata.names, is_classification=False)


def missing_in(column: pa.ChunkedArray) -> BoolArray:
    """Where a column is null or not a number. Shape (n,)."""
    is_float = pa.types.is_floating(column.type)
    if column.null_count == 0 and not is_float:
        return np.zeros(len(column), dtype=bool)
    found: BoolArray = pc.is_null(column, nan_is_null=is_float).to_numpy()
    return found


def is_continuous(kind: pa.DataType) -> bool:
    """Whether a column of this type is a measurement rather than a class."""
    return bool(pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def refuse_missing(missing: BoolArray, label: str, source: str, pieces: Sequence[Piece]) -> None:
    """Raises DataError: rows without a label, with their number and the first of them."""
    n = int(np.count_nonzero(missing))
    if n:
        row = int(np.argmax(missing))
        raise DataError(
            f"{source}: data.label: column {label!r} is null in {n:,} of {len(missing):,} rows "
            f"(first: {row_in_words(row, pieces)}); fill them in, or leave these rows out with --drop-missing-labels"
        )


def row_in_words(row: int, pieces: Sequence[Piece]) -> str:
    """``row 2 of train.parquet`` for a row of the source."""
    starts = [piece.first_row for piece in pieces]
    piece = pieces[int(np.searchsorted(starts, row, side="right")) - 1]
    first = min(each.first_row for each in pieces if each.path == piece.path)
    return f"row {row - first:,} of {piece.path.rstrip('/').rsplit('/', 1)[-1]}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Duplicates:
    """Rows whose id another row had before them."""

    is_repeat: BoolArray
    """Shape (n,)."""
    shown: tuple[str, ...]
    """The first few, in words."""

    @property
    def n(self) -> int:
        return int(np.count_nonzero(self.is_repeat))


def duplicates_in(column: pa.ChunkedArray) -> Duplicates:
    """Rows that repeat the id of an earlier row; a null is nobody's repeat."""
    ids = _dense_ids(column)
    by_id = np.argsort(ids, kind="stable")
    same = np.zeros(len(ids), dtype=bool)
    same[1:] = ids[by_id[1:]] == ids[by_id[:-1]]
    is_repeat = np.zeros(len(ids), dtype=bool)
    is_repeat[by_id[same]] = True
    is_repeat &= ~missing_in(column)
    shown = []
    for row in np.flatnonzero(is_repeat)[:_SHOWN].tolist():
        first = int(np.argmax(ids == ids[row]))
        shown.append(f"{column[row].as_py()!r} in rows {first:,} and {row:,}")
    return Duplicates(is_repeat=is_repeat, shown=tuple(shown))


def refuse_duplicates(duplicates: Duplicates, column: str, source: str) -> None:
    """Raises DataError: ids that stand in more than one row."""
    if duplicates.n:
        more = ", ..." if duplicates.n > len(duplicates.shown) else ""
        raise DataError(
            f"{source}: {duplicates.n:,} of {len(duplicates.is_repeat):,} rows repeat the {column!r} of another "
            f"({', '.join(duplicates.shown)}{more}); remove them, or keep the first of each with --drop-duplicates"
        )


def lay_out(
    target: Target,
    strata: Strata | None,
    kept: BoolArray | None,
    *,
    fingerprint: str,
    validation_fraction: float,
    order_seed: int,
    min_per_class: int = 0,
    left_out: Mapping[str, int] | None = None,
    label: str = "label",
) -> Layout:
    """Split the rows and order both sides.

    Args:
        target: Of the rows that are kept.
        strata: What split and order keep the shares of; the target's classes when None.
        kept: Which source rows they are; None is all of them. Shape (n_source_rows,).
        fingerprint: Of the data; split and order are keyed by it.
        validation_fraction: Share of the kept rows held out, between 0 and 1.
        order_seed: Another seed gives another order, and leaves the split as it is.
        left_out: Rows that are not kept, by reason.
        min_per_class: Rows of each stratum that come first in the training pool, whatever its share.
        label: Name of the target's column, for the words about strata.
    Raises: DataError: a class has one row only.
    """
    by = strata or Strata(ids=target.ids, names=target.names, sentence=f"classes of {label}")
    train, validation = split_validation(
        by.ids, validation_fraction, fingerprint, by.names, refuse_single_rows=strata is None
    )
    n = len(by.ids)
    places: IdArray = np.empty(n, dtype=np.int32 if n < 2**31 else np.int64)
    labels = np.empty(n, dtype=target.ids.dtype)
    train_strata: IdArray | None = None
    first = 0
    for rows, least in ((train, min_per_class), (validation, 0)):
        order = rows[nested_order(by.ids[rows], fingerprint=fingerprint, seed=order_seed, min_per_class=least)]
        if first == 0 and strata is not None and target.is_classification:
            train_strata = by.ids[order]
        places[order] = np.arange(first, first + len(order), dtype=places.dtype)
        labels[first : first + len(order)] = target.ids[order]
        first += len(order)
    return Layout(
        places=places if kept is None else _with_gaps(places, kept),
        n_train=len(train),
        n_validation=len(validation),
        labels=labels,
        train_strata=train_strata,
        target=target,
        strata=_strata_in_words(by, target, train, fingerprint, order_seed, min_per_class),
        left_out=left_out or {},
    )


def small_ids(ids: npt.NDArray[np.integer], n_names: int) -> IdArray:
    """Ids in the fewest bytes that hold them."""
    kind = np.uint8 if n_names <= 2**8 else np.uint16 if n_names <= 2**16 else np.int32
    return ids.astype(kind, copy=False)


def _with_gaps(places: IdArray, kept: BoolArray) -> IdArray:
    every: IdArray = np.full(len(kept), LEFT_OUT, dtype=places.dtype)
    every[kept] = places
    return every


def _strata_in_words(
    strata: Strata, target: Target, train: npt.NDArray[np.int64], fingerprint: str, seed: int, min_per_class: int
) -> str:
    """How rows were stratified, and how far a least number of each bends the shares."""
    told = [strata.sentence]
    if min_per_class:
        counts = np.bincount(strata.ids[train], minlength=len(strata.names))
        present = np.flatnonzero(counts)
        report = share_report(
            counts[present],
            COUNTED_FRACTIONS,
            fingerprint=fingerprint,
            seed=seed,
            min_per_class=min_per_class,
            class_names=[strata.names[i] for i in present],
        )
        told.append(report.sentence)
    return "; ".join([*told, target.note] if target.note else told)


def _categories(column: pa.ChunkedArray, name: str) -> tuple[IdArray, tuple[str, ...]]:
    """Values of any column of classes as ids, rising; a null comes last."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        raise DataError(f"data.stratify: column {name!r} is {kind}; stratify by whole numbers, text or measurements")
    column = column.cast(kind)
    values = pc.drop_null(pc.unique(column)).sort()
    n = len(values)
    ids = np.empty(len(column), dtype=small_ids(np.empty(0, dtype=np.int64), n + 1).dtype)
    row = 0
    for chunk in column.chunks:
        ids[row : row + len(chunk)] = pc.fill_null(pc.index_in(chunk, values), n).to_numpy(zero_copy_only=False)
        row += len(chunk)
    return ids, (*map(str, values.to_pylist()), "(missing)")


def _as_classes(column: pa.ChunkedArray, label: str, source: str) -> pa.ChunkedArray:
    """The column as int64 or string."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        column = column.cast(kind)
    if pa.types.is_integer(kind):
        return column.cast(pa.int64()) if kind != pa.uint64() else column
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column
    if pa.types.is_boolean(kind):
        return column.cast(pa.string())
    raise DataError(
        f"{source}: data.label: column {label!r} is {kind}; it must hold classes (whole numbers or text) or a "
        "measurement (floating point)"
    )


def _indices(column: pa.ChunkedArray, values: pa.Array) -> IdArray:
    """Position of each row's value among ``values``. Shape (n,)."""
    ids = np.empty(len(column), dtype=small_ids(np.empty(0, dtype=np.int64), len(values)).dtype)
    row = 0
    for chunk in column.chunks:
        ids[row : row + len(chunk)] = pc.index_in(chunk, values).to_numpy()
        row += len(chunk)
    return ids


def _class_names(values: list[Any], declared: Sequence[str] | None) -> tuple[tuple[str, ...], list[str]]:
    """The classes as text, and the declared ones that no row has."""
    if declared and all(isinstance(value, int) and 0 <= value < len(declared) for value in values):
        present = set(values)
        return (
            tuple(declared[value] for value in values),
            [name for value, name in enumerate(declared) if value not in present],
        )
    names = tuple(map(str, values))
    # Text that a source declares beforehand, as a folder that holds no image.
    return names, [name for name in declared or () if name not in set(names)] if isinstance(values[0], str) else []


def _dense_ids(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """A whole number for each value: itself where it is one, else its position among the distinct ones."""
    if pa.types.is_integer(column.type) and column.type != pa.uint64() and column.null_count == 0:
        numbers: npt.NDArray[np.int64] = column.cast(pa.int64()).to_numpy()
        return numbers
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    distinct = pc.unique(column.cast(kind))
    ids: npt.NDArray[np.int64] = np.concatenate(
        [np.empty(0, dtype=np.int64), *(pc.index_in(chunk.cast(kind), distinct).to_numpy() for chunk in column.chunks)]
    )
    return ids


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
