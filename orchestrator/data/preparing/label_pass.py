"""What is asked of `prepare`, and its first pass: the label column alone, from which the places of all rows follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from orchestrator.data.images import undecodable_rows
from orchestrator.data.preparing import layout as pass_one
from orchestrator.data.preparing.layout import Layout, Target
from orchestrator.data.rows import RowSource
from orchestrator.errors import DataError, did_you_mean
from orchestrator.subsets.strata import Strata


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareOptions:
    """How a source is prepared. Those below `memory_bytes` leave the result alone."""

    source: str
    """As the user wrote it."""
    label: str | None
    """Column of classes (whole numbers, text) or of a measurement; None for rows without labels."""
    validation_fraction: float = 0.2
    order_seed: int = 0
    stratify: tuple[str, ...] = ()
    """Columns whose joint shares every prefix keeps; the label when none is named."""
    bins: int = 10
    """Quantile bins of a measurement."""
    min_per_class: int = 0
    """Rows of each class that even the smallest prefix holds; 0 keeps the shares exact."""
    id_column: str | None = None
    """Column that no two rows may share."""
    drop_duplicates: bool = False
    drop_missing_labels: bool = False
    drop_undecodable: str | None = None
    """Column of images; rows whose image cannot be decoded are left out. None keeps all rows."""
    max_undecodable: float = 0.01
    """Share of rows that may be left out for that, in [0, 1)."""
    memory_bytes: int | None = None
    """Of one process; a quarter of what is free, and at most 4 GB, when None."""
    overwrite: bool = False
    scratch: Path | None = None
    """Where a target in an object store is prepared before it is uploaded; the temporary folder when None."""


def request_of(rows: RowSource, options: PrepareOptions) -> dict[str, Any]:
    """What a prepared folder is the answer to: content, and the options that shape the result."""
    without = {"source", "memory_bytes", "overwrite", "scratch"}
    shaping = {key: value for key, value in asdict(options).items() if key not in without}
    return {"fingerprint": rows.fingerprint, **shaping, "stratify": list(options.stratify)}


def read_layout(rows: RowSource, options: PrepareOptions) -> Layout:
    """Pass one. Raises DataError: labels that cannot be trained on, duplicate ids, a column that is not there."""
    source, label, n_rows = options.source, options.label, n_rows_of(rows)
    names = list(dict.fromkeys(name for name in (label, *options.stratify, options.id_column) if name is not None))
    _check_columns(rows, options)
    if n_rows == 0:
        raise DataError(f"{source}: there are no rows; give files with at least two classes")
    columns = rows.columns(names) if names else pa.table({})
    if names and len(columns) != n_rows:
        raise DataError(
            f"{source}: {len(columns):,} labels for {n_rows:,} rows: it changed while it was read; run again"
        )
    kept, left_out = _kept(rows, columns, options)
    if kept is not None:
        columns = columns.filter(pa.array(kept))
    target, strata = _target_and_strata(rows, columns, n_rows if kept is None else int(kept.sum()), options)
    return pass_one.lay_out(
        target,
        strata,
        kept,
        fingerprint=rows.fingerprint,
        validation_fraction=options.validation_fraction,
        order_seed=options.order_seed,
        min_per_class=options.min_per_class,
        left_out=left_out,
        label=label or "",
    )


def n_rows_of(rows: RowSource) -> int:
    return sum(piece.n_rows for piece in rows.pieces)


def _kept(
    rows: RowSource, columns: pa.Table, options: PrepareOptions
) -> tuple[npt.NDArray[np.bool_] | None, dict[str, int]]:
    """Which rows are written, None for all, and how many are not and why."""
    left_out = {}
    kept = np.ones(n_rows_of(rows), dtype=bool)
    if options.label is not None:
        missing = pass_one.missing_in(columns.column(options.label))
        if not options.drop_missing_labels:
            pass_one.refuse_missing(missing, options.label, options.source, rows.pieces)
        if missing.any():
            left_out["label is missing"] = int(np.count_nonzero(missing))
            kept &= ~missing
    if options.drop_undecodable is not None:
        broken = undecodable_rows(rows, options.drop_undecodable)
        n_broken = int(np.count_nonzero(broken))
        if n_broken > options.max_undecodable * len(broken):
            raise DataError(
                f"{options.source}: {n_broken:,} of {len(broken):,} images cannot be decoded, first row "
                f"{int(np.argmax(broken)):,}; at most {options.max_undecodable:.1%} may be left out: mend the source, "
                "or allow more with --max-undecodable"
            )
        if n_broken:
            left_out["image cannot be decoded"] = n_broken
            kept &= ~broken
    if options.id_column is not None:
        # Among the rows that are left, so that the first of them stays where an earlier one was left out.
        ids = columns.column(options.id_column)
        duplicates = pass_one.duplicates_in(ids if kept.all() else ids.filter(pa.array(kept)))
        if not options.drop_duplicates:
            pass_one.refuse_duplicates(duplicates, options.id_column, options.source)
        if duplicates.n:
            left_out[f"{options.id_column} is another row's"] = duplicates.n
            kept[np.flatnonzero(kept)[duplicates.is_repeat]] = False
    return (kept, left_out) if left_out else (None, left_out)


def _target_and_strata(
    rows: RowSource, columns: pa.Table, n_rows: int, options: PrepareOptions
) -> tuple[Target, Strata | None]:
    """Classes, or strata in their stead; and what to stratify by, None for the classes themselves."""
    label = options.label
    if label is not None and not pass_one.is_continuous(columns.schema.field(label).type):
        target = pass_one.classes_of(columns.column(label), label, options.source, rows.class_names(label))
        if not options.stratify:
            return target, None
    else:
        target = None
    by = options.stratify or (() if label is None else (label,))
    strata = pass_one.strata_of_columns({name: columns.column(name) for name in by}, bins=options.bins, n_rows=n_rows)
    return target or pass_one.target_of_strata(strata), strata


def _check_columns(rows: RowSource, options: PrepareOptions) -> None:
    names = rows.schema.names
    asked: Mapping[str, Sequence[str]] = {
        "label": [options.label] if options.label is not None else [],
        "stratify": options.stratify,
        "id": [options.id_column] if options.id_column is not None else [],
    }
    for key, columns in asked.items():
        for column in columns:
            if column not in names:
                near = did_you_mean(column, names) or ";"
                raise DataError(
                    f"{options.source}: data.{key}: there is no column {column!r}{near} columns: {', '.join(names)}"
                )
