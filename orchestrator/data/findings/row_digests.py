"""A 64-bit digest of what a row holds, column by column and without a Python object per number."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

HashArray = npt.NDArray[np.uint64]

_NULL = np.uint64(0x9E3779B97F4A7C15)
"""Stands for a null; a number that hashes to it is no likelier than any other collision."""


def digest_rows(table: pa.Table, columns: Sequence[str]) -> HashArray:
    """Digests of the rows of some columns; equal content gives equal digests in every table. Shape (n_rows,)."""
    digests = np.zeros(table.num_rows, dtype=np.uint64)
    for name in sorted(columns):
        digests = _mix(digests ^ _mix(digest_column(table.column(name)) + _digest_bytes(name.encode())))
    return digests


def digest_column(column: pa.ChunkedArray) -> HashArray:
    """Digests of single values; null is a value of its own, NaN equals NaN and -0 equals 0. Shape (n_rows,)."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # an empty column has no chunk to combine
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if _is_number(kind):
        values = _number_bits(array)
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        values = _digest_slices(array, np.int32)
    elif pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        values = _digest_slices(array, np.int64)
    elif pa.types.is_fixed_size_binary(kind):
        values = _digest_slices(array.cast(pa.binary()), np.int32)
    else:  # lists, structs, decimals: rare in training data, and slow
        values = np.array([_digest_bytes(repr(value).encode()) for value in array.to_pylist()], dtype=np.uint64)
    if array.null_count:
        values[np.asarray(array.is_null())] = _NULL
    return values


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or (pa.types.is_temporal(kind) and kind.bit_width in (32, 64))
    )


def _number_bits(array: pa.Array) -> HashArray:
    """The bits of numbers, widened to 64 and mixed."""
    kind = array.type
    if pa.types.is_temporal(kind):
        array = array.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    elif pa.types.is_boolean(kind):
        array = array.cast(pa.uint8())
    filled = pc.fill_null(array, 0).to_numpy(zero_copy_only=False)
    if filled.dtype.kind == "f":
        wide = filled.astype(np.float64) + 0.0
        wide[np.isnan(wide)] = np.nan
        return _mix(wide.view(np.uint64))
    return _mix(filled.astype(np.uint64 if filled.dtype.kind == "u" else np.int64).view(np.uint64))


def _digest_slices(array: pa.Array, offset_type: type[np.int32] | type[np.int64]) -> HashArray:
    """BLAKE2b of each value, read from the column's buffer."""
    if len(array) == 0:
        return np.empty(0, dtype=np.uint64)
    _, offsets_buffer, data = array.buffers()
    offsets = np.frombuffer(offsets_buffer, offset_type)[array.offset : array.offset + len(array) + 1].tolist()
    content = memoryview(data if data is not None else b"")
    digests = b"".join(
        hashlib.blake2b(content[start:stop], digest_size=8).digest() for start, stop in itertools.pairwise(offsets)
    )
    return np.frombuffer(digests, np.uint64).copy()


def _digest_bytes(content: bytes) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little"))


def _mix(values: HashArray) -> HashArray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a bijection that spreads every bit."""
    z = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: HashArray = z ^ (z >> np.uint64(31))
    return mixed
