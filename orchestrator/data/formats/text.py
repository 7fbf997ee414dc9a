"""CSV and JSON lines, read block by block. A piece is a file.

Text declares no types: they are inferred from the first `BLOCK_BYTES` of every file, joined over files (whole numbers
with decimals, nulls with anything), and then hold. A value of another type further down is refused with its row.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.json as pajson

from orchestrator.data.formats.source_files import with_digests
from orchestrator.data.formats.table_rows import Asked, TableRows, check_columns, numbered, one_schema, reading
from orchestrator.data.rows import Piece
from orchestrator.data.stores.faults import reason_of
from orchestrator.data.stores.locations import StoredFile
from orchestrator.errors import DataError

CSV, JSON_LINES = "CSV", "JSON lines"
BLOCK_BYTES = 8 << 20
CSV_SUFFIXES = frozenset({".csv", ".tsv"})
JSON_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json"})
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_DELIMITERS = (",", "\t", ";", "|")
# pyarrow counts the header as row 1, so its row 2 is the first of the data.
_CSV_ROW = re.compile(r"Row #(\d+)")
_CSV_COLUMN = re.compile(r"In CSV column #(\d+)")
_JSON_ROW = re.compile(r"in row (\d+)")


class TextRows(TableRows):
    """Files of text as a `RowSource`."""

    def __init__(self, files: Sequence[StoredFile], schema: pa.Schema, label: str | None) -> None:
        super().__init__(files, schema)
        self._label = label

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """Files. Counting rows reads them once; the fingerprint alone does not."""
        return numbered([(file.name, self._n_rows(file), 0) for file in self.files])

    def batches(self, piece: Piece, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Rows of a file; an empty text is no label."""
        for batch in self.parse(self._file_of[piece.path], names):
            yield _without_empty_labels(batch, self._label)

    @abstractmethod
    def parse(self, file: StoredFile, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Columns of a file, block by block."""

    @abstractmethod
    def count(self, file: StoredFile) -> int:
        """Rows of a file."""

    def _n_rows(self, file: StoredFile) -> int:
        with reading(file, self.format):
            n_rows = self.count(file)
            file.check_current()
        return n_rows


class CsvRows(TextRows):
    """CSV files with a header; the delimiter is seen from it. Quoted values may hold line breaks."""

    format = CSV

    def parse(self, file: StoredFile, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Columns of a file, block by block."""
        n_rows = 0
        types = {field.name: field.type for field in self.schema}
        try:
            for batch in _open_csv(file, pacsv.ConvertOptions(column_types=types, include_columns=list(names))):
                yield batch
                n_rows += len(batch)
        except pa.ArrowInvalid as error:
            raise _csv_fault(file, self.schema, n_rows, error) from error

    def count(self, file: StoredFile) -> int:
        """Rows of a file, by reading its last column as text."""
        last = self.schema.names[-1]
        options = pacsv.ConvertOptions(column_types={last: pa.binary()}, include_columns=[last])
        n_rows = 0
        try:
            for batch in _open_csv(file, options):
                n_rows += len(batch)
        except pa.ArrowInvalid as error:
            raise _csv_fault(file, self.schema, n_rows, error) from error
        return n_rows


class JsonRows(TextRows):
    """Files of one JSON object a line."""

    format = JSON_LINES

    def parse(self, file: StoredFile, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Columns of a file, block by block."""
        n_rows = 0
        for block in _line_blocks(file):
            try:
                table = _read_json(block, self.schema)
            except pa.ArrowInvalid as error:
                raise _json_fault(file, n_rows, error) from error
            n_rows += len(table)
            yield from table.select(list(names)).to_batches()

    def count(self, file: StoredFile) -> int:
        """Rows of a file: its lines that are not blank."""
        return sum(_n_lines(block) for block in _line_blocks(file))


def open_csv(files: Sequence[StoredFile], asked: Asked) -> CsvRows:
    """CSV files. Raises DataError: one cannot be read, they differ in columns, or lack one that was asked for."""
    known = with_digests(files, asked.cache_dir)
    schema = _schema_of([(file, _csv_head(file)) for file in known], asked)
    return CsvRows(known, schema, asked.label)


def open_json_lines(files: Sequence[StoredFile], asked: Asked) -> JsonRows:
    """Files of JSON lines. Raises DataError: as `open_csv`."""
    known = with_digests(files, asked.cache_dir)
    schema = _schema_of([(file, _json_head(file)) for file in known], asked)
    return JsonRows(known, schema, asked.label)


def joined_numbers(known: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Decimals hold whole numbers; no other types are joined."""
    pair = {known, other}
    return pa.float64() if pair == {pa.int64(), pa.float64()} else None


def text_suffix(path: str) -> str:
    """The suffix, without that of a compression."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _schema_of(heads: Sequence[tuple[StoredFile, pa.Schema]], asked: Asked) -> pa.Schema:
    schema = one_schema([(file.name, head) for file, head in heads], asked, joined_numbers)
    # Without a value in the first block nothing is known; text holds whatever comes.
    fields = [field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in schema]
    schema = pa.schema(fields)
    check_columns(schema, asked, heads[0][0].name, may_hold_images=False)
    return schema


def _open_stream(file: StoredFile) -> Any:
    compression = COMPRESSIONS.get(Path(file.path).suffix.lower())
    opened = file.stream()
    return opened if compression is None else pa.CompressedInputStream(opened, compression)


def _open_csv(file: StoredFile, options: pacsv.ConvertOptions) -> Any:
    return pacsv.open_csv(
        _open_stream(file),
        read_options=pacsv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
        parse_options=pacsv.ParseOptions(delimiter=_delimiter(file), newlines_in_values=True),
        convert_options=options,
    )


def _delimiter(file: StoredFile) -> str:
    with _open_stream(file) as stream:
        header = bytes(stream.read(1 << 16)).partition(b"\n")[0].decode("utf-8", "replace")
    return max(_DELIMITERS, key=header.count)


def _csv_head(file: StoredFile) -> pa.Schema:
    with reading(file, CSV):
        try:
            schema = _open_csv(file, pacsv.ConvertOptions()).schema
        except pa.ArrowInvalid as error:
            if _CSV_ROW.search(str(error)) is None:
                raise
            raise _csv_fault(file, None, 0, error) from error
        file.check_current()
    if "" in schema.names:
        raise DataError(
            f"{file.name}: column {schema.names.index('') + 1} of the header has no name; name it, or drop it"
        )
    return schema


def _csv_fault(file: StoredFile, schema: pa.Schema | None, n_rows: int, error: pa.ArrowInvalid) -> DataError:
    text = str(error)
    row = _CSV_ROW.search(text)
    where = f"row {int(row[1]) - 1:,}" if row else f"row {n_rows + 1:,} or soon after"
    column = _CSV_COLUMN.search(text)
    if column is None or schema is None:
        return DataError(f"{file.name}: {where} cannot be read as CSV ({reason_of(error)}); repair or remove it")
    name = _csv_head(file).names[int(column[1])]
    value = re.search(r"invalid value '(.*?)'", text, re.DOTALL)
    found = f"holds {value[1][:60]!r}" if value else f"does not ({reason_of(error)})"
    begins = f"column {name!r} begins as {schema.field(name).type}, but {where} {found}"
    return DataError(
        f"{file.name}: {begins}; it must have one type in all rows: repair them, or give Parquet, which declares types"
    )


def _line_blocks(file: StoredFile) -> Iterator[bytes]:
    """The file in blocks of whole lines, each with a line that is not blank."""
    with _open_stream(file) as stream:
        rest = b""
        while chunk := bytes(stream.read(BLOCK_BYTES)):
            lines, newline, rest_of_chunk = chunk.rpartition(b"\n")
            if not newline:
                rest += chunk
                continue
            if block := (rest + lines + newline).strip():
                yield block + b"\n"
            rest = rest_of_chunk
        if rest.strip():
            yield rest.strip() + b"\n"


def _read_json(block: bytes, schema: pa.Schema | None) -> pa.Table:
    return pajson.read_json(
        pa.BufferReader(block),
        read_options=pajson.ReadOptions(use_threads=False, block_size=len(block) + 1),
        parse_options=pajson.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior="infer" if schema is None else "error"
        ),
    )


def _json_head(file: StoredFile) -> pa.Schema:
    with reading(file, JSON_LINES):
        block = next(_line_blocks(file), b"")
        if not block:
            raise DataError(f"{file.name}: is empty; remove it, or fetch or write it again")
        if block.startswith(b"["):
            raise DataError(
                f"{file.name}: is one JSON list; write one object per line (JSON lines), such as with jq -c '.[]'"
            )
        try:
            schema = _read_json(block, None).schema
        except pa.ArrowInvalid as error:
            raise _json_fault(file, 0, error) from error
        file.check_current()
    return schema


def _json_fault(file: StoredFile, n_rows: int, error: pa.ArrowInvalid) -> DataError:
    text = str(error)
    row = _JSON_ROW.search(text)
    where = f"row {n_rows + int(row[1]) + 1:,}" if row else f"row {n_rows + 1:,} or soon after"
    if "changed from" in text or "conversion" in text:
        return DataError(
            f"{file.name}: a value changes its type in {where} ({reason_of(error)}); it must have one type in all "
            "rows: repair them, or give Parquet, which declares types"
        )
    if "unexpected field" in text:
        return DataError(
            f"{file.name}: {where} has a field that the first {BLOCK_BYTES >> 20} MB lack ({reason_of(error)}); put "
            "such a row first, or give Parquet"
        )
    return DataError(f"{file.name}: {where} cannot be read as JSON ({reason_of(error)}); repair or remove it")


def _n_lines(block: bytes) -> int:
    if re.search(rb"\n\s*\n", block):
        return sum(1 for line in block.splitlines() if line.strip())
    return block.count(b"\n")


def _without_empty_labels(batch: pa.RecordBatch, label: str | None) -> pa.RecordBatch:
    position = -1 if label is None else batch.schema.get_field_index(label)
    if position < 0 or not pa.types.is_string(batch.schema.field(position).type):
        return batch
    column = batch.column(position)
    is_empty = pc.equal(column, "")
    if not pc.any(is_empty).as_py():
        return batch
    return batch.set_column(position, batch.schema.field(position), pc.if_else(is_empty, None, column))
