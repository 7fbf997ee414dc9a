"""Arrays of numbers as columns of raw tensors, and the arrays that scikit-learn carries.

A tensor is ``pa.binary(k)``: channels first, C order, little-endian; the field's metadata says ``shape``, ``dtype``
and, where the largest possible value is not the dtype's, ``scale``.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from orchestrator.data.formats.table_rows import Asked, TableRows, check_columns, in_bounds, numbered
from orchestrator.data.rows import Piece
from orchestrator.data.versioning.fingerprint import combine, digest_bytes, replace_file
from orchestrator.errors import DataError, did_you_mean

SKLEARN_SETS = ("digits",)
_CHANNELS = (1, 3, 4)


def tensor_field(
    name: str, kind: np.dtype, row_shape: Sequence[int], source: str, scale: int | None = None
) -> pa.Field:
    """The field of a column of tensors.

    Args:
        name: The column.
        kind: Type of the numbers as stored.
        row_shape: Shape of one row as stored.
        source: For messages.
        scale: The largest value there can be, where it is not the type's.
    Raises: DataError: a type that is neither bytes nor floating.
    """
    stored = _stored_type(kind, name, source)
    shape, _ = _channels_first(row_shape)
    metadata = {"shape": ",".join(map(str, shape)), "dtype": stored.name}
    if scale is not None:
        metadata["scale"] = str(scale)
    return pa.field(name, pa.binary(prod(shape) * stored.itemsize), metadata=metadata)


def tensor_array(rows: npt.NDArray[np.generic]) -> pa.Array:
    """Rows of shape (n, ...) as a column of tensors of a `tensor_field`."""
    _, axes = _channels_first(rows.shape[1:])
    if axes is not None:
        rows = rows.transpose(0, *(axis + 1 for axis in axes))
    content = np.ascontiguousarray(rows, dtype=_stored_type(rows.dtype, "", "").newbyteorder("<"))
    width = content.nbytes // len(content) if len(content) else 0
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), len(content), [None, pa.py_buffer(content.reshape(-1).view(np.uint8))]
    )


def label_array(ids: npt.NDArray[np.generic]) -> pa.Array:
    """A column of numbers or text."""
    if ids.dtype.kind in "iu":
        return pa.array(ids.astype(np.int64))
    if ids.dtype.kind == "S":
        return pa.array([value.decode("utf-8", "replace") for value in ids.tolist()])
    return pa.array(np.ascontiguousarray(ids, dtype=ids.dtype.newbyteorder("=")))


def _stored_type(kind: np.dtype, name: str, source: str) -> np.dtype:
    if kind == np.uint8 or kind == np.bool_:
        return np.dtype(np.uint8)
    if kind.kind == "f":
        return np.dtype(np.float32)
    raise DataError(
        f"{source}: {name!r} holds {kind.name} numbers; tensors are uint8, or floating (read as float32): "
        f"write it as {'uint8' if kind.kind in 'iu' else 'float32'}"
    )


def _channels_first(shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Shape of one row with its channels first, and the order of the stored axes that makes it so, if another."""
    if len(shape) == 2:
        return (1, *shape), None
    # Where either end could be channels, it is the smaller one.
    if len(shape) == 3 and shape[2] in _CHANNELS and (shape[0] not in _CHANNELS or shape[2] < shape[0]):
        return (shape[2], shape[0], shape[1]), (2, 0, 1)
    return tuple(shape), None


class DigitsRows(TableRows):
    """scikit-learn's scanned digits: 1,797 grey images of 8 x 8 pixels with values 0..16, part of the package."""

    format = "scikit-learn"

    def __init__(self, cache_dir: Path) -> None:
        """Take the fingerprint. Raises OSError: ``cache_dir`` cannot be written."""
        # Importing scikit-learn takes 2 s; a released version of a package has one content.
        version = importlib.metadata.version("scikit-learn")
        memory = cache_dir / "sklearn_digits.json"
        try:
            known = json.loads(memory.read_bytes())[version]
            fingerprint, n_rows, n_bytes = str(known["fingerprint"]), int(known["rows"]), int(known["bytes"])
        except (OSError, ValueError, KeyError, TypeError):
            images, ids = self._arrays
            fingerprint = combine([digest_bytes(images.tobytes(), ids.tobytes())])
            n_rows, n_bytes = len(ids), images.nbytes
            entry = {version: {"fingerprint": fingerprint, "rows": n_rows, "bytes": n_bytes}}
            replace_file(memory, json.dumps(entry).encode())
        source = "sklearn:digits"
        image = tensor_field("image", np.dtype(np.uint8), (8, 8), source, scale=16)
        super().__init__((), pa.schema([image, pa.field("label", pa.int64())]), fingerprint)
        self.bytes_on_disk = n_bytes
        self._pieces = numbered([(source, n_rows, 0)])

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """One."""
        return self._pieces

    def batches(self, piece: Piece, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows; they take 115 kB."""
        images, ids = self._arrays
        whole = pa.RecordBatch.from_arrays([tensor_array(images), pa.array(ids)], schema=self.schema)
        yield whole.select(list(names))

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Columns of all rows."""
        self._refuse_unknown(names)
        return pa.Table.from_batches(self.batches(self._pieces[0], names))

    def read(self, piece: Piece) -> Iterator[pa.RecordBatch]:
        """All columns."""
        for batch in self.batches(piece, self.schema.names):
            yield from in_bounds(batch)

    def class_names(self, label: str) -> tuple[str, ...] | None:
        """The digits."""
        return tuple(map(str, range(10))) if label == "label" else None

    @cached_property
    def _arrays(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        return digits.images.astype(np.uint8), digits.target.astype(np.int64)


def check_sklearn(source: str) -> None:
    """Raises DataError: a set that is not here, or scikit-learn is not installed."""
    name = source.removeprefix("sklearn:")
    if name not in SKLEARN_SETS:
        known = ", ".join(f"sklearn:{each}" for each in SKLEARN_SETS)
        near = did_you_mean(name, SKLEARN_SETS) or ";"
        raise DataError(f"there is no 'sklearn:{name}' here{near} known: {known}")
    if importlib.util.find_spec("sklearn") is None:
        raise DataError(f"sklearn:{name} needs scikit-learn, which is not installed: pip install scikit-learn")


def open_sklearn(source: str, asked: Asked) -> DigitsRows:
    """A set of scikit-learn's. Raises DataError: as `check_sklearn`, or there is no such column."""
    check_sklearn(source)
    rows = DigitsRows(asked.cache_dir)
    check_columns(rows.schema, asked, source)
    return rows
