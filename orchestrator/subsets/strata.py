"""Columns to strata: what a nested order keeps the shares of.

A column of classes stands as it is. A continuous one (floating point, or integers where asked) is cut at quantiles of
its own values into bins of about equal numbers of rows. Equal values are never parted: an edge is a value that occurs
and belongs to the bin above it, so many equal values make a wide bin, and fewer bins than asked where edges coincide.
Several columns make one stratum of each combination that occurs; none make a single stratum, whose order is uniform.
Pure: arrays in, a record out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestrator.errors import DataError
from orchestrator.subsets.class_column import class_column

UNLABELLED = "all rows"
"""Name of the one stratum of rows that nothing tells apart."""

_CHUNK = 1 << 20
# Digits that edges are shown with; more only where two edges would read the same.
_DIGITS = range(3, 18)

Ids = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Strata:
    """One stratum id for each row."""

    ids: Ids
    """From 0 without gaps, in the smallest of uint8, uint16 and int32 that holds them. Shape (n,)."""
    names: tuple[str, ...]
    """Name of each id, such as ``cat & price [0.1, 2.3)``."""
    sentence: str
    """How rows were stratified: ``classes of animal and 10 quantile bins of price, 37 combinations``."""


def strata_of(
    columns: Mapping[str, npt.NDArray[np.generic]],
    *,
    bins: int,
    continuous: Collection[str] = (),
    class_names: Mapping[str, Sequence[str]] | None = None,
    n_rows: int | None = None,
) -> Strata:
    """Strata of rows by the joint value of some columns.

    Args:
        columns: Values by column name; each of shape (n,). None of them gives one stratum.
        bins: Quantile bins of a continuous column, at least 2.
        continuous: Columns of integers that are measurements rather than classes; those of floats always are.
        class_names: Names of the classes ``0, 1, ...`` of columns that hold ids; others are named by their values.
        n_rows: Rows there are, where there are no columns.
    Raises: DataError: a value is missing or not finite; columns are not of one length.
    """
    if bins < 2:
        raise ValueError(f"bins must be at least 2, got {bins}")
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
        raise DataError(f"columns to stratify by are of different lengths ({found}); give one value for each row")
    if not columns:
        return Strata(ids=np.zeros(n_rows or 0, dtype=np.uint8), names=(UNLABELLED,), sentence="not at all")
    one = len(columns) == 1
    parts = [
        _bins_of(name, values, bins)
        if name in continuous or values.dtype.kind == "f"
        else _classes_of(name, values, (class_names or {}).get(name))
        for name, values in columns.items()
    ]
    return parts[0] if one else _joint(parts)


def _classes_of(name: str, values: npt.NDArray[np.generic], names: Sequence[str] | None) -> Strata:
    if values.dtype.kind == "O":
        _refuse(name, np.array([value is None or value != value for value in values], dtype=bool), "are missing")
        values = values.astype(str)
    ids, found = _compact(values)
    shown = found if names is None else [names[int(each)] for each in found]
    return Strata(ids=ids, names=tuple(str(each) for each in shown), sentence=f"classes of {name}")


def _bins_of(name: str, values: npt.NDArray[np.generic], bins: int) -> Strata:
    if values.dtype.kind not in "biuf":
        raise DataError(
            f"column {name!r} holds no numbers ({values.dtype}), so it has no quantiles; stratify by classes"
        )
    numbers = values.astype(np.float64, copy=False)
    _refuse(name, ~np.isfinite(numbers), "are missing or not finite")
    # The least value is no edge, as nothing lies below it.
    first_of_bin = np.arange(1, bins) * len(numbers) // bins
    edges = np.unique(np.partition(numbers, first_of_bin)[first_of_bin]) if len(numbers) else np.empty(0)
    edges = edges[edges > numbers.min(initial=np.inf)]
    ids = _empty_ids(len(numbers), len(edges) + 1)
    for first in range(0, len(numbers), _CHUNK):
        ids[first : first + _CHUNK] = np.searchsorted(edges, numbers[first : first + _CHUNK], side="right")
    made = len(edges) + 1
    sentence = f"{bins} quantile bins of {name}"
    if made < bins:
        sentence = f"{made} quantile bins of {name} ({bins} asked; equal values stay together)"
    return Strata(ids=ids, names=_bin_names(name, numbers, edges), sentence=sentence)


def _bin_names(name: str, numbers: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> tuple[str, ...]:
    if len(numbers) == 0:
        return (name,)
    bounds = np.array([numbers.min(), *edges, numbers.max()])
    for digits in _DIGITS:
        shown = [f"{bound:.{digits}g}" for bound in bounds]
        if len(set(shown)) == len(np.unique(bounds)):
            break
    last = len(bounds) - 2
    return tuple(f"{name} [{shown[i]}, {shown[i + 1]}{']' if i == last else ')'}" for i in range(last + 1))


def _joint(parts: Sequence[Strata]) -> Strata:
    """One stratum for each combination that occurs, the first column varying slowest."""
    ids: Ids = parts[0].ids
    names = parts[0].names
    for part in parts[1:]:
        width = len(part.names)
        ids, found = _compact(_pairs(ids, part.ids, width, len(names) * width))
        names = tuple(
            f"{names[pair // width]} & {part.names[pair % width]}" for pair in found.astype(np.int64).tolist()
        )
    described = [part.sentence for part in parts]
    sentence = f"{', '.join(described[:-1])} and {described[-1]}, {len(names):,} combinations"
    return Strata(ids=ids, names=names, sentence=sentence)


def _pairs(slow: Ids, fast: Ids, width: int, n_pairs: int) -> Ids:
    pairs: Ids = np.empty(len(slow), np.int32) if n_pairs < 1 << 31 else np.empty(len(slow), np.int64)
    for first in range(0, len(slow), _CHUNK):
        part = slice(first, first + _CHUNK)
        pairs[part] = slow[part].astype(np.int64) * width + fast[part]
    return pairs


def _compact(values: npt.NDArray[np.generic]) -> tuple[Ids, npt.NDArray[np.generic]]:
    """Ids without gaps in a small type, and the value of each, rising."""
    column = class_column(values, None)
    ids = _empty_ids(len(values), len(column.counts))
    for first in range(0, len(values), _CHUNK):
        ids[first : first + _CHUNK] = column.ids(slice(first, first + _CHUNK))
    return ids, column.values.astype(bool) if values.dtype.kind == "b" else column.values


def _empty_ids(n: int, n_ids: int) -> Ids:
    if n_ids > 1 << 16:
        return np.empty(n, dtype=np.int32)
    return np.empty(n, dtype=np.uint16) if n_ids > 1 << 8 else np.empty(n, dtype=np.uint8)


def _refuse(name: str, wrong: npt.NDArray[np.bool_], what: str) -> None:
    n = int(np.count_nonzero(wrong))
    if n:
        raise DataError(
            f"column {name!r}: {n:,} of {len(wrong):,} values {what} (first: row {int(np.argmax(wrong)):,}); "
            "fill them in, leave these rows out, or stratify by another column"
        )
