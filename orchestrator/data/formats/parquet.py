"""Parquet: one file or thousands. A piece is a run of row groups of one file; columns are read without the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.data.formats.source_files import REMOTE_THREADS, with_digests
from orchestrator.data.formats.table_rows import (
    BATCH_BYTES,
    BATCH_ROWS,
    Asked,
    TableRows,
    check_columns,
    conform,
    grouped,
    numbered,
    one_schema,
    reading,
)
from orchestrator.data.rows import Piece
from orchestrator.data.stores.locations import StoredFile

NAME = "Parquet"
# Pages are read in windows of this size rather than whole column chunks, which can be of any size.
_WINDOW_BYTES = 4 << 20


class ParquetRows(TableRows):
    """Parquet files as a `RowSource`."""

    format = NAME

    def __init__(self, files: Sequence[StoredFile], footers: Sequence[pq.FileMetaData], schema: pa.Schema) -> None:
        super().__init__(files, schema)
        counts = [
            (file.name, n_rows, group)
            for file, footer in zip(files, footers, strict=True)
            for group, n_rows in grouped(_group_sizes(footer))
        ]
        self._pieces = numbered(counts)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Runs of row groups; ``position`` is the number of the first."""
        return self._pieces

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Columns of all rows, read without the others."""
        self._refuse_unknown(names)
        schema = pa.schema([self.schema.field(name) for name in names], self.schema.metadata)
        found: list[pa.RecordBatch] = []
        for file in self.files:
            with reading(file, NAME), _open(file) as parquet:
                table = parquet.read(columns=list(names), use_threads=False)
                found += [conform(batch, schema, file.name) for batch in table.to_batches()]
                file.check_current()
        return pa.Table.from_batches(found, schema)

    def batches(self, piece: Piece, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Rows of the piece's row groups."""
        with _open(self._file_of[piece.path]) as parquet:
            n_groups, n_rows, n_bytes = 0, 0, 0
            while n_rows < piece.n_rows and piece.position + n_groups < parquet.num_row_groups:
                group = parquet.metadata.row_group(piece.position + n_groups)
                n_groups, n_rows, n_bytes = n_groups + 1, n_rows + group.num_rows, n_bytes + group.total_byte_size
            yield from parquet.iter_batches(
                batch_size=min(BATCH_ROWS, max(1, BATCH_BYTES * n_rows // max(1, n_bytes))),
                row_groups=range(piece.position, piece.position + n_groups),
                columns=list(names),
                use_threads=False,
            )


def open_parquet(files: Sequence[StoredFile], asked: Asked) -> ParquetRows:
    """Parquet files. Raises DataError: one cannot be read, they differ in columns, or lack one that was asked for."""
    known = with_digests(files, asked.cache_dir)
    if all(file.is_local for file in known):
        heads = list(map(_head, known))
    else:
        with ThreadPoolExecutor(REMOTE_THREADS, thread_name_prefix="footer") as pool:
            heads = list(pool.map(_head, known))
    schema = one_schema([(file.name, head[1]) for file, head in zip(known, heads, strict=True)], asked)
    check_columns(schema, asked, known[0].name)
    return ParquetRows(known, [head[0] for head in heads], schema)


def _head(file: StoredFile) -> tuple[pq.FileMetaData, pa.Schema]:
    with reading(file, NAME), _open(file) as parquet:
        return parquet.metadata, parquet.schema_arrow


def _open(file: StoredFile) -> Any:
    return pq.ParquetFile(file.open(), buffer_size=_WINDOW_BYTES, pre_buffer=False)


def _group_sizes(footer: pq.FileMetaData) -> list[tuple[int, int]]:
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    return [(group.num_rows, group.total_byte_size) for group in groups]
