"""Images in Parquet: one column of encoded bytes, one of classes, in one file or many.

Rows are taken in the order of the files' digests, so that renaming files changes neither fingerprint nor subsets.
Labels are read first and alone, which settles classes and split; images then stream by in batches, in bounded memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from orchestrator.data.fingerprint import FileDigest, combine, digest_files
from orchestrator.data.images import ImageDecoder
from orchestrator.data.source import Labels
from orchestrator.errors import DataError, did_you_mean

_BATCH_ROWS = 1024


class ParquetImages:
    """Parquet files as a `Source`."""

    input_scale = 255.0

    def __init__(self, paths: Sequence[Path], *, label: str, image: str, cache_dir: Path) -> None:
        """Take the fingerprint. Raises DataError: a file cannot be read. OSError: ``cache_dir`` cannot be written."""
        self._label, self._image = label, image
        self._files = digest_files(paths, cache_dir / "fingerprints.json")
        self.fingerprint = combine(file.digest for file in self._files)
        self.bytes_on_disk = sum(file.size for file in self._files)

    def labels(self) -> Labels:
        """Classes of all rows; whole numbers rise in their own order, text alphabetically."""
        columns = [self._label_column(file) for file in self._files]
        self._refuse_mixed_types(columns)
        column = pa.chunked_array([chunk for part in columns for chunk in part.chunks], type=columns[0].type)
        if len(column) == 0:
            raise DataError(f"{self._names()}: there are no rows; give files with at least two classes")
        self._refuse_nulls(column)
        names = pc.unique(column).sort()
        if len(names) == 1:
            raise DataError(
                f"{self._names()}: data.label {self._label!r} holds one class only ({names[0].as_py()!r} in all "
                f"{len(column):,} rows); a classifier needs at least two"
            )
        ids = pc.index_in(column, names).to_numpy().astype(np.int64)
        return Labels(ids=ids, class_names=self._class_names([name.as_py() for name in names]))

    def batches(self) -> Iterator[npt.NDArray[np.uint8]]:
        """Decoded images; raises at the end when some could not be, so that all of them are known."""
        decoder = ImageDecoder(f"{self._names()}, column {self._image!r}")
        for file in self._files:
            for batch in self._image_batches(file):
                yield decoder.decode(batch)
            if not file.is_current():
                raise DataError(f"{file.path}: changed while it was read; run again when nothing writes to it")
        decoder.check()

    def _label_column(self, file: FileDigest) -> pa.ChunkedArray:
        with _reading(file), pq.ParquetFile(file.path) as parquet:
            schema = parquet.schema_arrow
            self._check_columns(file, schema)
            column = parquet.read(columns=[self._label]).column(self._label)
        return self._as_classes(file, column)

    def _image_batches(self, file: FileDigest) -> Iterator[list[bytes | None]]:
        with _reading(file), pq.ParquetFile(file.path) as parquet:
            for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=[self._image]):
                column = batch.column(0)
                if pa.types.is_struct(column.type):
                    column = pc.struct_field(column, "bytes")
                yield column.to_pylist()

    def _check_columns(self, file: FileDigest, schema: pa.Schema) -> None:
        names = schema.names
        have = f"columns: {', '.join(names) or 'none'}"
        if self._label not in names:
            near = did_you_mean(self._label, names)
            raise DataError(f"{file.path}: data.label: there is no column {self._label!r}{near or ';'} {have}")
        usable = [field.name for field in schema if _holds_bytes(field.type)]
        hint = f"of bytes: {', '.join(usable) or 'none'}; {have}"
        if self._image not in names:
            near = did_you_mean(self._image, usable or names)
            raise DataError(f"{file.path}: data.image: there is no column {self._image!r}{near or ';'} {hint}")
        if self._image not in usable:
            found = schema.field(self._image).type
            raise DataError(f"{file.path}: data.image: column {self._image!r} is {found}, not encoded images; {hint}")

    def _as_classes(self, file: FileDigest, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """The column as int64 or string."""
        kind = column.type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
            column = column.cast(kind)
        if pa.types.is_integer(kind):
            return column.cast(pa.int64())
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind):
            return column.cast(pa.string())
        raise DataError(
            f"{file.path}: data.label: column {self._label!r} is {kind}; classes must be whole numbers or text"
        )

    def _refuse_mixed_types(self, columns: Sequence[pa.ChunkedArray]) -> None:
        for file, column in zip(self._files, columns, strict=True):
            if column.type != columns[0].type:
                raise DataError(
                    f"data.label: column {self._label!r} is {columns[0].type} in {self._files[0].path} but "
                    f"{column.type} in {file.path}; it must have one type in all files"
                )

    def _refuse_nulls(self, column: pa.ChunkedArray) -> None:
        if column.null_count == 0:
            return
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        for file in self._files:
            rows = pq.read_metadata(file.path).num_rows
            if row < rows:
                break
            row -= rows
        raise DataError(
            f"{self._names()}: data.label: column {self._label!r} is null in {column.null_count:,} of {len(column):,} "
            f"rows (first: row {row} of {file.path.name}); fill them in or remove these rows"
        )

    def _class_names(self, values: list[int] | list[str]) -> tuple[str, ...]:
        """The classes as text: by Hugging Face's names where the files carry them, else as the column has them."""
        metadata = pq.read_schema(self._files[0].path).metadata or {}
        known = _huggingface_names(metadata.get(b"huggingface"), self._label)
        if known and all(isinstance(value, int) and 0 <= value < len(known) for value in values):
            return tuple(known[int(value)] for value in values)
        return tuple(map(str, values))

    def _names(self) -> str:
        first = str(self._files[0].path)
        return first if len(self._files) == 1 else f"{first} and {len(self._files) - 1} more"


class _reading:
    """Names the file when its content is damaged."""

    def __init__(self, file: FileDigest) -> None:
        self._path = file.path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, pa.ArrowException | OSError):
            reason = " ".join(str(error).split())[:160]
            raise DataError(
                f"{self._path}: cannot be read as Parquet ({reason}); it may be truncated or of another format: "
                "fetch or write it again"
            ) from error


def _holds_bytes(kind: pa.DataType) -> bool:
    """Bytes, or Hugging Face's struct around them."""
    if pa.types.is_struct(kind):
        position = kind.get_field_index("bytes")
        return position >= 0 and _holds_bytes(kind.field(position).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _huggingface_names(metadata: bytes | None, label: str) -> list[str]:
    """Class names from the schema metadata that `datasets` writes: info.features.<label>.names."""
    try:
        described: Any = json.loads(metadata or b"{}")
        names = described["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []
