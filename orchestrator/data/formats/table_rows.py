"""What all sources have in common: columns that are asked for, one schema for all files, batches of bounded size.

A format gives schema, pieces and the batches of a piece; the rest is here.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.data.rows import Piece
from orchestrator.data.stores.faults import explain, reason_of
from orchestrator.data.stores.locations import StoredFile
from orchestrator.data.versioning.fingerprint import combine
from orchestrator.errors import DataError, did_you_mean

BATCH_ROWS, BATCH_BYTES = 1024, 16 << 20
PIECE_BYTES = 64 << 20
"""About how much one piece holds in memory, where a file can be read in parts."""
DEFAULT_IMAGE = "image"

Join = Callable[[pa.DataType, pa.DataType], pa.DataType | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Columns by name, and where digests are remembered."""

    label: str | None
    image: str | None
    cache_dir: Path


class TableRows(ABC):
    """Rows of files as a `RowSource`."""

    format: str

    def __init__(self, files: Sequence[StoredFile], schema: pa.Schema, fingerprint: str | None = None) -> None:
        """Take files in the order of their digests; the fingerprint is that of the files unless one is given."""
        self.files = tuple(files)
        self.schema = schema
        self.fingerprint = fingerprint or combine(file.digest for file in files)
        self.bytes_on_disk = sum(file.size for file in files)
        self._file_of = {file.name: file for file in self.files}

    @property
    @abstractmethod
    def pieces(self) -> tuple[Piece, ...]:
        """All rows, in an order that content alone decides."""

    @abstractmethod
    def batches(self, piece: Piece, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Columns of a piece, of any size and as the file has them."""

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Columns of all rows, in the order of the pieces."""
        self._refuse_unknown(names)
        schema = pa.schema([self.schema.field(name) for name in names], self.schema.metadata)
        found = [batch for piece in self.pieces for batch in self._conformed(piece, schema)]
        return pa.Table.from_batches(found, schema)

    def read(self, piece: Piece) -> Iterator[pa.RecordBatch]:
        """All columns of a piece, in batches of bounded size."""
        for batch in self._conformed(piece, self.schema):
            yield from in_bounds(batch)

    def class_names(self, label: str) -> tuple[str, ...] | None:
        """Names behind whole-number labels that the schema's metadata carries."""
        if label not in self.schema.names or not pa.types.is_integer(self.schema.field(label).type):
            return None
        return declared_names(self.schema.metadata, label)

    def _conformed(self, piece: Piece, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        file = self._file_of[piece.path]
        with reading(file, self.format):
            for batch in self.batches(piece, schema.names):
                if len(batch):
                    yield conform(batch, schema, file.name)
            file.check_current()

    def _refuse_unknown(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.schema.names:
                near = did_you_mean(name, self.schema.names) or ";"
                raise DataError(f"there is no column {name!r}{near} columns: {', '.join(self.schema.names)}")


def check_columns(schema: pa.Schema, asked: Asked, name: str, *, may_hold_images: bool = True) -> None:
    """Refuse a source without the columns that were asked for.

    The image column may be absent as long as nobody named one and no other could be meant: rows need not be images.

    Args:
        schema: What there is.
        asked: What should be there.
        name: Of the source, for messages.
        may_hold_images: False for formats of text, where a column of that name can be anything.
    """
    names = schema.names
    have = f"columns: {', '.join(names) or 'none'}"
    if asked.label is not None and asked.label not in names:
        near = did_you_mean(asked.label, names)
        raise DataError(f"{name}: data.label: there is no column {asked.label!r}{near or ';'} {have}")
    usable = [field.name for field in schema if holds_bytes(field.type)]
    is_default = asked.image in (None, DEFAULT_IMAGE)
    if asked.image is None or (is_default and not may_hold_images):
        return
    hint = f"of bytes: {', '.join(usable) or 'none'}; {have}"
    if asked.image not in names:
        if is_default and not usable:
            return
        near = did_you_mean(asked.image, usable or names)
        raise DataError(f"{name}: data.image: there is no column {asked.image!r}{near or ';'} {hint}")
    if asked.image not in usable:
        found = schema.field(asked.image).type
        raise DataError(f"{name}: data.image: column {asked.image!r} is {found}, not encoded images; {hint}")


def one_schema(schemas: Sequence[tuple[str, pa.Schema]], asked: Asked, join: Join | None = None) -> pa.Schema:
    """The schema of all files.

    Args:
        schemas: Name and schema of each file; at least one.
        asked: The label's class names must be the same in all files.
        join: The type that holds values of two types, None when there is none; types must be equal without it.
    Raises: DataError: files differ, with both files, the column and both types.
    """
    first_name, first = schemas[0]
    fields: dict[str, pa.Field] = {}
    settled_by: dict[str, str] = {}
    for name, schema in schemas:
        _refuse_repeats(name, schema)
        _refuse_other_columns((first_name, first), (name, schema))
        for field in schema:
            plain = _plain_field(field)
            if field.name not in fields or pa.types.is_null(fields[field.name].type):
                fields[field.name], settled_by[field.name] = plain, name
                continue
            known = fields[field.name]
            joined = _join(known.type, plain.type, join)
            if joined is None:
                key = "data.label: " if field.name == asked.label else ""
                raise DataError(
                    f"{key}column {field.name!r} is {known.type} in {settled_by[field.name]} but {plain.type} in "
                    f"{name}; it must have one type in all files"
                )
            if joined != known.type:
                settled_by[field.name] = name
            fields[field.name] = known.with_type(joined)
        _refuse_other_names((first_name, first), (name, schema), asked.label)
    return pa.schema([fields[name] for name in first.names], first.metadata)


def conform(batch: pa.RecordBatch, schema: pa.Schema, name: str = "") -> pa.RecordBatch:
    """The batch with the schema's columns and types."""
    arrays = [_conform(batch.column(field.name), field, name) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def in_bounds(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch in parts of at most 1,024 rows and about 16 MB."""
    n_rows = min(BATCH_ROWS, max(1, BATCH_BYTES * len(batch) // max(1, batch.nbytes)))
    for start in range(0, len(batch), n_rows):
        yield batch.slice(start, n_rows)


@contextmanager
def reading(file: StoredFile, what: str) -> Iterator[None]:
    """Names the file when its content is damaged, has changed, or its store stops answering."""
    try:
        yield
    except DataError:
        file.check_current()
        raise
    except (pa.ArrowException, OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        if isinstance(error, PermissionError | FileNotFoundError | TimeoutError | ConnectionError) or (
            not file.is_local and _is_of_network(error)
        ):
            raise explain(file.name, error) from error
        file.check_current()
        raise damaged(file.name, what, reason_of(error)) from error


def damaged(name: str, what: str, reason: str) -> DataError:
    """A file that is not what it should be."""
    return DataError(
        f"{name}: cannot be read as {what} ({reason}); it may be truncated or of another format: fetch or "
        "write it again"
    )


def declared_names(metadata: dict[bytes, bytes] | None, label: str) -> tuple[str, ...] | None:
    """Class names from a schema's metadata, else None.

    Known are what `datasets` writes (huggingface: info.features.<label>.names) and ``classes`` with commas between.
    """
    metadata = metadata or {}
    try:
        described: Any = json.loads(metadata.get(b"huggingface", b"{}"))
        names = described["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        names = None
    if isinstance(names, list) and names:
        return tuple(map(str, names))
    classes = metadata.get(b"classes", b"").decode("utf-8", "replace")
    return tuple(name.strip() for name in classes.split(",")) if classes.strip() else None


def holds_bytes(kind: pa.DataType) -> bool:
    """Encoded images or raw tensors."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type that batches have: no dictionaries, no 64-bit offsets, Hugging Face's images without the struct."""
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if _is_image_struct(kind):
        return pa.binary()
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    return kind


def numbered(counts: Sequence[tuple[str, int, int]]) -> tuple[Piece, ...]:
    """Pieces from path, rows and position, their first rows added up; those without rows are left out."""
    pieces, row = [], 0
    for path, n_rows, position in counts:
        if n_rows:
            pieces.append(Piece(path=path, first_row=row, n_rows=n_rows, position=position))
        row += n_rows
    return tuple(pieces)


def grouped(sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Runs of parts of about `PIECE_BYTES`: number of the first part, and rows. From rows and bytes of each part."""
    runs: list[tuple[int, int]] = []
    n_bytes = PIECE_BYTES
    for number, (n_rows, size) in enumerate(sizes):
        if n_bytes >= PIECE_BYTES:
            runs.append((number, 0))
            n_bytes = 0
        runs[-1] = (runs[-1][0], runs[-1][1] + n_rows)
        n_bytes += size
    return runs


def _conform(column: pa.Array, field: pa.Field, name: str) -> pa.Array:
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if _is_image_struct(column.type):
        column = _bytes_of(column, field.name, name)
    return column if column.type == field.type else column.cast(field.type)


def _bytes_of(column: pa.Array, field: str, name: str) -> pa.Array:
    content = pc.struct_field(column, "bytes")
    if content.null_count > column.null_count and column.type.get_field_index("path") >= 0:
        paths = pc.struct_field(column, "path").filter(content.is_null()).drop_null()
        if len(paths):
            raise DataError(
                f"{name}: column {field!r} holds names of image files ({paths[0].as_py()!r}) in place of their bytes; "
                "write it again with the images embedded, or give an image folder"
            )
    return content


def _is_image_struct(kind: pa.DataType) -> bool:
    """Hugging Face's {bytes, path}."""
    if not pa.types.is_struct(kind):
        return False
    position = kind.get_field_index("bytes")
    names = {kind.field(i).name for i in range(kind.num_fields)}
    return position >= 0 and names <= {"bytes", "path"} and holds_bytes(kind.field(position).type)


def _plain_field(field: pa.Field) -> pa.Field:
    kept = {key: value for key, value in (field.metadata or {}).items() if not key.startswith(b"PARQUET:")}
    return pa.field(field.name, plain_type(field.type), metadata=kept or None)


def _join(known: pa.DataType, other: pa.DataType, join: Join | None) -> pa.DataType | None:
    if known == other or pa.types.is_null(other):
        return known
    return join(known, other) if join else None


def _refuse_repeats(name: str, schema: pa.Schema) -> None:
    repeated = [each for each in dict.fromkeys(schema.names) if schema.names.count(each) > 1]
    if repeated:
        raise DataError(f"{name}: column {repeated[0]!r} is there more than once; rename one of them")


def _refuse_other_columns(first: tuple[str, pa.Schema], other: tuple[str, pa.Schema]) -> None:
    for (has, schema), (lacks, without) in ((first, other), (other, first)):
        missing = [name for name in schema.names if name not in without.names]
        if missing:
            raise DataError(
                f"column {missing[0]!r} is in {has} but not in {lacks} (which has: {', '.join(without.names) or 'none'}"
                "); all files must have the same columns: choose them with data.files, or write them again"
            )


def _refuse_other_names(first: tuple[str, pa.Schema], other: tuple[str, pa.Schema], label: str | None) -> None:
    """The same number would mean another class."""
    if label is None:
        return
    here, there = declared_names(first[1].metadata, label), declared_names(other[1].metadata, label)
    if here != there:
        raise DataError(
            f"data.label: class names of column {label!r} are {_listed(here)} in {first[0]} but {_listed(there)} in "
            f"{other[0]}; a number must stand for one class in all files"
        )


def _listed(names: tuple[str, ...] | None) -> str:
    if names is None:
        return "not given"
    return ", ".join(names[:5]) + (f", ... ({len(names)})" if len(names) > 5 else "")


def _is_of_network(error: BaseException) -> bool:
    return isinstance(error, OSError) and not isinstance(error, EOFError) and "AWS Error" in str(error)
