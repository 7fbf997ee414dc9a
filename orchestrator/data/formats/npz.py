"""NPZ, numpy's archive of arrays: rows along the first axis of all of them. A piece is a file, streamed.

The arrays of images and labels are found by the names that were asked for, else by names in common use. Other arrays of
as many rows become columns too; a shorter array of text named like classes gives their names.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from typing import IO, Any

import numpy as np
import pyarrow as pa

from orchestrator.data.formats.source_files import with_digests
from orchestrator.data.formats.table_rows import (
    BATCH_BYTES,
    BATCH_ROWS,
    DEFAULT_IMAGE,
    Asked,
    TableRows,
    check_columns,
    damaged,
    numbered,
    one_schema,
    reading,
)
from orchestrator.data.formats.tensors import label_array, tensor_array, tensor_field
from orchestrator.data.rows import Piece
from orchestrator.data.stores.locations import StoredFile
from orchestrator.errors import DataError

NAME = "NPZ"
_DEFAULT_LABEL = "label"
_WINDOW_BYTES = 4 << 20
_IMAGES = ("x", "images", "X", "data", "x_train", "train_images")
_LABELS = ("y", "labels", "Y", "targets", "target", "y_train", "train_labels")
_TEST_SPLITS = ("x_test", "y_test", "test_images", "test_labels", "x_val", "val_images", "val_labels")
_NAMES = ("class_names", "classes", "label_names", "target_names")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """An array of the archive."""

    key: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        return prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def is_tensor(self) -> bool:
        return len(self.shape) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Archive:
    """A file and the arrays that make its columns."""

    file: StoredFile
    members: dict[str, _Member]
    """By the name of the column."""
    class_names: tuple[str, ...] | None

    @property
    def n_rows(self) -> int:
        return next(iter(self.members.values())).shape[0]


class NpzRows(TableRows):
    """NPZ files as a `RowSource`."""

    format = NAME

    def __init__(self, archives: Sequence[_Archive], schema: pa.Schema, label: str | None) -> None:
        super().__init__([archive.file for archive in archives], schema)
        self._archives = {archive.file.name: archive for archive in archives}
        self._label = label
        self._pieces = numbered([(archive.file.name, archive.n_rows, 0) for archive in archives])

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Files."""
        return self._pieces

    def batches(self, piece: Piece, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Rows of the arrays side by side; stored and compressed ones alike, with their checksums."""
        archive = self._archives[piece.path]
        members = [archive.members[name] for name in names]
        step = min(BATCH_ROWS, max(1, BATCH_BYTES // max(1, sum(member.row_bytes for member in members))))
        with ExitStack() as stack:
            # Each its own way into the file, so that a window of one is not lost to the next.
            streams = [
                _skip_header(stack.enter_context(stack.enter_context(_open(archive.file)).open(f"{member.key}.npy")))
                for member in members
            ]
            for row in range(0, archive.n_rows, step):
                n = min(step, archive.n_rows - row)
                arrays = [
                    _column(_read(archive.file, member, stream, n), member)
                    for member, stream in zip(members, streams, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(arrays, names=list(names))

    def class_names(self, label: str) -> tuple[str, ...] | None:
        """Names that an array of the archive gives."""
        if label != self._label or not pa.types.is_integer(self.schema.field(label).type):
            return None
        return next(iter(self._archives.values())).class_names


def open_npz(files: Sequence[StoredFile], asked: Asked) -> NpzRows:
    """NPZ files. Raises DataError: damaged, pickled objects, no array of that name, or splits that were not chosen."""
    known = with_digests(files, asked.cache_dir)
    archives = [_archive(file, asked) for file in known]
    schema = one_schema([(archive.file.name, _schema(archive)) for archive in archives], asked)
    check_columns(schema, asked, known[0].name)
    if len({archive.class_names for archive in archives}) > 1:
        raise DataError(
            f"{known[0].name} and {len(known) - 1} more: class names differ between files; write them again"
        )
    return NpzRows(archives, schema, asked.label)


def _archive(file: StoredFile, asked: Asked) -> _Archive:
    with reading(file, NAME), _open(file) as zipped:
        members = {key: _member(file, zipped, key) for key in _keys(zipped)}
        image = _find(file, members, asked.image, DEFAULT_IMAGE, _IMAGES)
        label = _find(file, members, asked.label, _DEFAULT_LABEL, _LABELS)
        leading = members.get(image or label or next(iter(members), ""))
        if leading is None or not leading.shape:
            raise DataError(f"{file.name}: holds no array of rows; give arrays such as x and y")
        if label is not None and members[label].shape[:1] != leading.shape[:1]:
            raise DataError(
                f"{file.name}: {label!r} has the shape {members[label].shape} but {leading.key!r} {leading.shape}; "
                "they must have as many rows"
            )
        named = {image: asked.image, label: asked.label}
        columns = {
            str(named.get(key) or key): member
            for key, member in members.items()
            if member.shape[:1] == leading.shape[:1]
        }
        _refuse_objects(file, columns)
        return _Archive(file=file, members=columns, class_names=_class_names(zipped, members, columns))


def _keys(zipped: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in zipped.namelist() if name.endswith(".npy")]


def _find(
    file: StoredFile, members: dict[str, _Member], asked: str | None, default: str, usual: Sequence[str]
) -> str | None:
    """The array that is meant by a name."""
    if asked is None or asked in members or asked != default:
        return asked if asked in members else None
    splits = [key for key in _TEST_SPLITS if key in members]
    found = next((key for key in usual if key in members), None)
    if found is not None and splits and "train" in found:
        raise DataError(
            f"{file.name}: holds splits ({', '.join(members)}), which are not merged; name the arrays of one, such as "
            f"data.{default}: {found}"
        )
    return found


def _member(file: StoredFile, zipped: zipfile.ZipFile, key: str) -> _Member:
    with zipped.open(f"{key}.npy") as stream:
        try:
            shape, is_fortran, dtype = _header(stream)
        except ValueError as error:
            raise damaged(file.name, NAME, f"array {key!r}: {error}") from error
    if is_fortran and len(shape) > 1:
        raise DataError(
            f"{file.name}: array {key!r} is stored column by column; save it again with np.ascontiguousarray"
        )
    return _Member(key=key, dtype=dtype, shape=shape)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)


def _skip_header(stream: IO[bytes]) -> IO[bytes]:
    _header(stream)
    return stream


def _schema(archive: _Archive) -> pa.Schema:
    return pa.schema(
        [
            tensor_field(name, member.dtype, member.shape[1:], archive.file.name)
            if member.is_tensor
            else pa.field(name, label_array(np.empty(0, member.dtype)).type)
            for name, member in archive.members.items()
        ]
    )


def _refuse_objects(file: StoredFile, columns: dict[str, _Member]) -> None:
    for member in columns.values():
        if member.dtype.hasobject:
            raise DataError(
                f"{file.name}: array {member.key!r} holds pickled Python objects, which are not read since they can "
                "run code; save numbers or text"
            )


def _class_names(
    zipped: zipfile.ZipFile, members: dict[str, _Member], columns: dict[str, _Member]
) -> tuple[str, ...] | None:
    in_use = {member.key for member in columns.values()}
    for key in _NAMES:
        member = members.get(key)
        if member is not None and key not in in_use and member.dtype.kind in "US" and len(member.shape) == 1:
            with zipped.open(f"{key}.npy") as stream:
                names = np.lib.format.read_array(stream, allow_pickle=False)
            return tuple(map(str, names.astype(str).tolist()))
    return None


def _open(file: StoredFile) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BufferedReader(file.open(), _WINDOW_BYTES))


def _read(file: StoredFile, member: _Member, stream: IO[bytes], n_rows: int) -> np.ndarray[Any, Any]:
    content = stream.read(n_rows * member.row_bytes)
    if len(content) < n_rows * member.row_bytes:
        raise damaged(file.name, NAME, f"array {member.key!r} ends before its last row")
    return np.frombuffer(content, member.dtype).reshape(n_rows, *member.shape[1:])


def _column(rows: np.ndarray[Any, Any], member: _Member) -> pa.Array:
    return tensor_array(rows) if member.is_tensor else label_array(rows)
