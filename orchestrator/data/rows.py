"""What a source of rows is: Arrow record batches in pieces that can be read apart, in an order only content decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

SOURCE_ROW = "source_row"
"""Column that `prepare` adds: the row's number in the order of the source's pieces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Rows that are read in one go by one process: a file, or a run of rows of one. Plain data, so that it pickles."""

    path: str
    """Where the rows come from, as a user would write it."""
    first_row: int
    """Number of its first row among all rows of the source."""
    n_rows: int
    position: int = 0
    """The format's own pointer into the file, such as a row group or a byte offset."""


class RowSource(Protocol):
    """Rows of a data set. Pickles, so that another process can read pieces of it.

    Every method raises DataError, naming file, column or row, for content that cannot be read.
    """

    @property
    def format(self) -> str:
        """What it is, in words: ``Parquet``, ``image folder``, ``CSV``, ..."""

    @property
    def schema(self) -> pa.Schema:
        """Columns of the batches, the same for every piece."""

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """All rows, in an order that content alone decides: renaming files moves nothing."""

    @property
    def fingerprint(self) -> str:
        """Of the full content and of what names classes (folders), 16 hex digits."""

    @property
    def bytes_on_disk(self) -> int:
        """Of the source as it lies there."""

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Columns of all rows, in the order of the pieces, read without the others where the format can."""

    def read(self, piece: Piece) -> Iterator[pa.RecordBatch]:
        """All columns of a piece, in batches of bounded size."""

    def class_names(self, label: str) -> tuple[str, ...] | None:
        """Names behind whole-number labels where the source carries them, in the order of the numbers; else None."""
