"""Rows in memory that are taken out in any order.

Taking rows out of a chunked Arrow column costs 5 to 60 times more than out of a contiguous one (pyarrow 25), so narrow
columns are made contiguous first. Wide rows are put together from slices of one row each instead, which copies them
once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from orchestrator.data.preparing.layout import IdArray

MAX_COLUMN_BYTES = 2**31 - 1
"""Offsets of Arrow's text and binary columns have 32 bits."""
_WIDE_ROW_BYTES = 4096
"""CPU time of contiguous over sliced, measured: 0.22 at 300 bytes a row, 0.26 at 930, 0.5 at 2,000, 1.5 at 3,000 with a
first touch of the memory, 3 at 65,536."""


class RowPool:
    """Batches in memory that rows can be taken out of in any order."""

    def __init__(self, batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> None:
        self._schema = schema
        self._n_rows = sum(len(batch) for batch in batches)
        self._ends = np.cumsum([len(batch) for batch in batches])
        self._columns = [self._column([batch.column(i) for batch in batches]) for i in range(len(schema))]

    def take(self, rows: npt.NDArray[np.int64]) -> pa.RecordBatch:
        """Rows by their number in the pool, every column in one chunk."""
        chunk = np.searchsorted(self._ends, rows, side="right")
        within = rows - np.concatenate([[0], self._ends])[chunk]
        is_sliced = any(isinstance(column, list) for column in self._columns)
        where = list(zip(chunk.tolist(), within.tolist(), strict=True)) if is_sliced else []
        indices = pa.array(rows)
        arrays = [
            pa.concat_arrays([column[c].slice(r, 1) for c, r in where])
            if isinstance(column, list)
            else column.take(indices)
            for column in self._columns
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _column(self, chunks: list[pa.Array]) -> pa.Array | list[pa.Array]:
        n_bytes = sum(chunk.nbytes for chunk in chunks)
        if len(chunks) == 1:
            return chunks[0]
        if n_bytes > _WIDE_ROW_BYTES * self._n_rows or n_bytes > MAX_COLUMN_BYTES:
            return chunks
        return pa.concat_arrays(chunks)


class Buffer:
    """Batches that wait with the places of their rows."""

    def __init__(self) -> None:
        self.batches: list[pa.RecordBatch] = []
        self.n_bytes = 0
        self._places: list[IdArray] = []

    def add(self, batch: pa.RecordBatch, places: IdArray) -> None:
        if len(batch):
            self.batches.append(batch)
            self._places.append(np.array(places))
            self.n_bytes += batch.nbytes

    def sorted(self, schema: pa.Schema) -> tuple[RowPool, npt.NDArray[np.int64], IdArray]:
        """The rows to take from, in which order, and the places that gives. The buffer is empty afterwards."""
        places = np.concatenate(self._places)
        order = np.argsort(places, kind="stable")
        pool = RowPool(self.batches, schema)
        self.batches, self._places = [], []
        return pool, order, places[order]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSize:
    """What an average row takes, in bytes."""

    n_bytes: float
    """In memory."""
    peak: float
    """While rows are put into order: narrow columns are there twice."""
    blobs: float
    """Of encoded images and raw tensors, which no compression will touch."""


def row_size(batches: Sequence[pa.RecordBatch]) -> RowSize:
    """The average row of some batches of one schema."""
    n = max(1, sum(len(batch) for batch in batches))
    schema = batches[0].schema
    sizes = [sum(batch.column(i).nbytes for batch in batches) / n for i in range(len(schema))]
    whole = sum(sizes) + np.dtype(np.int64).itemsize  # with the source row
    return RowSize(
        n_bytes=whole,
        peak=whole + sum(size for size in sizes if size <= _WIDE_ROW_BYTES),
        blobs=sum(size for size, field in zip(sizes, schema, strict=True) if _holds_blob(field.type)),
    )


def _holds_blob(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(_holds_blob(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))
