"""IDX, the format of MNIST: a file of images and a file of labels, plain or gzipped.

    0, 0, type of the numbers, dimensions; each dimension as a uint32; the numbers        all big-endian

Source: Y. LeCun, C. Cortes, "The MNIST database of handwritten digits", file formats. Columns image and label.
"""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import pyarrow as pa

from orchestrator.data.formats.source_files import with_digests
from orchestrator.data.formats.table_rows import (
    BATCH_BYTES,
    BATCH_ROWS,
    PIECE_BYTES,
    Asked,
    TableRows,
    check_columns,
    damaged,
    numbered,
    reading,
)
from orchestrator.data.formats.tensors import label_array, tensor_array, tensor_field
from orchestrator.data.rows import Piece
from orchestrator.data.stores.locations import StoredFile
from orchestrator.errors import DataError

NAME = "IDX"
_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_DIMENSIONS = 8
# What tells the two files of a pair apart from each other, rather than one pair from another.
_ROLE = re.compile(r"images?|labels?|idx\d?|ubyte|gz|[-._]", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Array:
    """An IDX file and what its header says."""

    file: StoredFile
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    """Where the numbers begin."""

    @property
    def row_bytes(self) -> int:
        return prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def is_gzipped(self) -> bool:
        return is_gzip(self.file)


class IdxRows(TableRows):
    """A pair of IDX files as a `RowSource`; labels may be absent."""

    format = NAME

    def __init__(self, images: _Array, labels: _Array | None) -> None:
        self._images, self._labels = images, labels
        files = [images.file] if labels is None else [images.file, labels.file]
        fields = [tensor_field("image", images.dtype, images.shape[1:], images.file.name)]
        if labels is not None:
            fields.append(pa.field("label", label_array(np.empty(0, labels.dtype)).type))
        super().__init__(files, pa.schema(fields))

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """Runs of rows; ``position`` is the number of the first. What is gzipped is one piece."""
        images, n = self._images, self._images.shape[0]
        step = n if images.is_gzipped else max(1, PIECE_BYTES // max(1, images.row_bytes))
        return numbered([(images.file.name, min(step, n - first), first) for first in range(0, n, max(1, step))])

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Columns of all rows; images are not read for labels."""
        if list(names) == ["label"] and self._labels is not None:
            schema = pa.schema([self.schema.field("label")])
            return pa.table([self._label_column], schema=schema)
        return super().columns(names)

    def batches(self, piece: Piece, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Rows in turn."""
        step = min(BATCH_ROWS, max(1, BATCH_BYTES // max(1, self._images.row_bytes)))
        with _open(self._images, piece.position) as stream:
            for row in range(piece.position, piece.position + piece.n_rows, step):
                n = min(step, piece.position + piece.n_rows - row)
                arrays = [tensor_array(_read(self._images, stream, n))]
                if self._labels is not None:
                    arrays.append(self._label_column.slice(row, n))
                yield pa.RecordBatch.from_arrays(arrays, schema=self.schema).select(list(names))

    @cached_property
    def _label_column(self) -> pa.Array:
        labels = self._labels
        assert labels is not None  # asked for only when there are labels
        with reading(labels.file, NAME), _open(labels, 0) as stream:
            ids = _read(labels, stream, labels.shape[0])
            labels.file.check_current()
        return label_array(ids)


def open_idx(files: Sequence[StoredFile], asked: Asked) -> IdxRows:
    """A pair of IDX files. Raises DataError: not a pair, truncated, or of different lengths."""
    for_images, for_labels = _pair(files, needs_labels=asked.label is not None)
    chosen = [for_images] if for_labels is None else [for_images, for_labels]
    by_name = {file.name: file for file in with_digests(chosen, asked.cache_dir)}
    images = _header(by_name[for_images.name])
    labels = None if for_labels is None else _header(by_name[for_labels.name])
    if len(images.shape) < 2:
        raise DataError(
            f"{for_images.name}: holds {len(images.shape)} dimension, which is no images; give the other file"
        )
    if labels is not None and (len(labels.shape) != 1 or labels.shape[0] != images.shape[0]):
        raise DataError(
            f"{labels.file.name}: has the shape {labels.shape} where {images.shape[0]:,} labels are needed, one for "
            f"each image of {images.file.name}; give files that belong together"
        )
    rows = IdxRows(images, labels)
    check_columns(rows.schema, asked, images.file.name)
    return rows


def looks_like_idx(head: bytes) -> bool:
    """Whether a file may begin so."""
    return len(head) >= 4 and head[:2] == b"\0\0" and head[2] in _TYPES and 1 <= head[3] <= _MAX_DIMENSIONS


def is_gzip(file: StoredFile) -> bool:
    """By its name."""
    return file.path.lower().endswith(".gz")


def partners(file: StoredFile, beside: Sequence[StoredFile]) -> list[StoredFile]:
    """The files beside it that are of the same pair, itself among them."""
    return [other for other in beside if _key(other) == _key(file) and _role(other) is not None]


def _pair(files: Sequence[StoredFile], *, needs_labels: bool) -> tuple[StoredFile, StoredFile | None]:
    pairs: dict[str, dict[str, StoredFile]] = defaultdict(dict)
    for file in files:
        role = _role(file)
        if role is not None:
            pairs[_key(file)].setdefault(role, file)
    whole = [pair for pair in pairs.values() if "images" in pair and ("labels" in pair or not needs_labels)]
    if len(whole) == 1:
        return whole[0]["images"], whole[0].get("labels")
    folder = files[0].name.rpartition("/")[0] or "."
    if whole:
        names = sorted(pair["images"].name.rpartition("/")[2] for pair in whole)
        raise DataError(
            f"{folder}: holds {len(whole)} pairs of IDX files ({', '.join(names)}), which are not merged; choose one "
            f"with data.files, such as {names[-1].partition('images')[0] + '*'!r}"
        )
    names = sorted(file.name.rpartition("/")[2] for file in files)
    raise DataError(
        f"{folder}: no pair of images and labels among {', '.join(names[:5])}; names must differ in 'images' and "
        "'labels' alone, such as train-images-idx3-ubyte and train-labels-idx1-ubyte"
    )


def _role(file: StoredFile) -> str | None:
    name = file.path.rpartition("/")[2].lower()
    return "images" if "image" in name else "labels" if "label" in name else None


def _key(file: StoredFile) -> str:
    folder, _, name = file.path.rpartition("/")
    return f"{folder}/{_ROLE.sub('', name)}"


def _header(file: StoredFile) -> _Array:
    with reading(file, NAME), _stream(file) as stream:
        magic = bytes(stream.read(4))
        if not looks_like_idx(magic):
            raise damaged(file.name, NAME, f"begins with {magic.hex(' ') or 'nothing'}")
        n_dimensions = magic[3]
        sizes = bytes(stream.read(4 * n_dimensions))
        if len(sizes) < 4 * n_dimensions:
            raise damaged(file.name, NAME, "ends within its header")
    shape = struct.unpack(f">{n_dimensions}I", sizes)
    array = _Array(file=file, dtype=np.dtype(_TYPES[magic[2]]), shape=shape, start=4 + 4 * n_dimensions)
    needed = array.start + shape[0] * array.row_bytes
    if not array.is_gzipped and file.size != needed:
        raise damaged(file.name, NAME, f"holds {file.size:,} bytes where its header tells of {needed:,}")
    return array


def _stream(file: StoredFile) -> Any:
    return pa.CompressedInputStream(file.stream(), "gzip") if is_gzip(file) else file.open()


def _open(array: _Array, row: int) -> Any:
    """The numbers from a row on; in what is gzipped, from the first."""
    stream = _stream(array.file)
    if array.is_gzipped:
        stream.read(array.start)
    else:
        stream.seek(array.start + row * array.row_bytes)
    return stream


def _read(array: _Array, stream: Any, n_rows: int) -> np.ndarray[Any, Any]:
    content = stream.read_buffer(n_rows * array.row_bytes)
    if content.size < n_rows * array.row_bytes:
        raise damaged(array.file.name, NAME, "ends before its last row")
    return np.frombuffer(content, array.dtype).reshape(n_rows, *array.shape[1:])
