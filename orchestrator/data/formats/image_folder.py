"""Image folders: ROOT/class name/.../image file. Columns image (the file's bytes), label (the class), path below ROOT.

Rows are in the order of (digest of the file, class), so that renaming images or ROOT moves nothing; the names of the
classes belong to the content, so renaming one changes the fingerprint.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from orchestrator.data.formats.source_files import REMOTE_THREADS, with_digests
from orchestrator.data.formats.table_rows import (
    BATCH_BYTES,
    BATCH_ROWS,
    PIECE_BYTES,
    Asked,
    TableRows,
    check_columns,
    in_bounds,
    numbered,
    reading,
)
from orchestrator.data.rows import Piece
from orchestrator.data.stores.faults import explain
from orchestrator.data.stores.locations import Location, StoredFile, list_tree, path_below
from orchestrator.data.versioning.fingerprint import combine, digest_bytes
from orchestrator.errors import DataError

NAME = "image folder"
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval"})
_SCHEMA = pa.schema([("image", pa.binary()), ("label", pa.string()), ("path", pa.string())])
_SHOWN = 5


class ImageFolderRows(TableRows):
    """An image folder as a `RowSource`; a piece is a run of images."""

    format = NAME

    def __init__(self, root: Location, files: Sequence[StoredFile]) -> None:
        below = {file.name: path_below(root, file) for file in files}
        ordered = sorted(files, key=lambda file: (file.digest, _class_of(below[file.name]), below[file.name]))
        names = [below[file.name] for file in ordered]
        labels = [_class_of(name) for name in names]
        digests = (digest_bytes(f"{file.digest} {label}".encode()) for file, label in zip(ordered, labels, strict=True))
        super().__init__(ordered, _SCHEMA, combine(digests))
        self._root = root
        self._columns = pa.table({"label": labels, "path": names}, pa.schema([_SCHEMA.field(1), _SCHEMA.field(2)]))
        self._pieces = numbered([(root.uri, stop - start, start) for start, stop in _runs(ordered, PIECE_BYTES)])

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Runs of images; ``position`` is the number of the first."""
        return self._pieces

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Columns of all rows; no file is read for labels."""
        self._refuse_unknown(names)
        if "image" not in names:
            return self._columns.select(list(names))
        found = [batch for piece in self._pieces for batch in self.read(piece)]
        return pa.Table.from_batches(found, _SCHEMA).select(list(names))

    def read(self, piece: Piece) -> Iterator[pa.RecordBatch]:
        """All columns of a piece."""
        for batch in self.batches(piece, _SCHEMA.names):
            yield from in_bounds(batch)

    def batches(self, piece: Piece, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Images of bounded size together, each file read whole."""
        files = self.files[piece.position : piece.position + piece.n_rows]
        is_local = self._root.is_local
        with ThreadPoolExecutor(1 if is_local else REMOTE_THREADS, thread_name_prefix="images") as pool:
            for start, stop in _runs(files, BATCH_BYTES, BATCH_ROWS):
                chosen = files[start:stop]
                images = list(map(_local_image, chosen) if is_local else pool.map(_stored_image, chosen))
                rest = self._columns.slice(piece.position + start, stop - start).combine_chunks()
                arrays = [pa.array(images, pa.binary()), *(column.chunk(0) for column in rest.columns)]
                yield pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA).select(list(names))


def open_image_folder(root: Location, asked: Asked) -> ImageFolderRows:
    """An image folder. Raises DataError: no classes, an empty one, splits in place of classes, an unreadable file."""
    files, folders = list_tree(root, recursive=True)
    images = [file for file in files if is_image(file)]
    _refuse_other_layouts(root, images, folders)
    check_columns(_SCHEMA, asked, root.uri)
    return ImageFolderRows(root, with_digests(images, asked.cache_dir))


def is_image(file: StoredFile) -> bool:
    """By its name."""
    return Path(file.path).suffix.lower() in SUFFIXES


def _refuse_other_layouts(root: Location, images: Sequence[StoredFile], folders: Sequence[str]) -> None:
    below = [path_below(root, file) for file in images]
    classes = Counter(_class_of(name) for name in below if "/" in name)
    if not classes:
        raise DataError(
            f"{root.uri}: holds no folders with images; an image folder has one folder per class, such as cat/1.jpg"
        )
    if all(name.lower() in _SPLITS for name in classes):
        raise DataError(
            f"{root.uri}: holds splits ({', '.join(sorted(classes))}), which are not merged; give one of them, such as "
            f"{root.child(_preferred(classes)).uri}"
        )
    loose = [name for name in below if "/" not in name]
    if loose:
        lie = "1 image lies" if len(loose) == 1 else f"{len(loose):,} images lie"
        raise DataError(f"{root.uri}: {lie} outside the class folders ({loose[0]}); move into one, or away")
    empty = [name for name in folders if "/" not in name and name not in classes]
    if empty:
        shown = ", ".join(map(repr, empty[:_SHOWN])) + (", ..." if len(empty) > _SHOWN else "")
        raise DataError(f"{root.uri}: no image in class folder {shown}; fill it, or remove it")


def _preferred(splits: Counter[str]) -> str:
    return max(splits, key=lambda name: (name.lower().startswith("train"), splits[name]))


def _class_of(path: str) -> str:
    return path.partition("/")[0]


def _runs(files: Sequence[StoredFile], max_bytes: int, max_rows: int | None = None) -> Iterator[tuple[int, int]]:
    """First and last-but-one of files that together stay below a size, at least one at a time."""
    start = n_bytes = 0
    for i, file in enumerate(files):
        if i > start and (n_bytes + file.size > max_bytes or (max_rows is not None and i - start >= max_rows)):
            yield start, i
            start, n_bytes = i, 0
        n_bytes += file.size
    if len(files) > start:
        yield start, len(files)


def _local_image(file: StoredFile) -> bytes:
    # Four calls of the system and no more: of small files it is these that take the time.
    try:
        opened = os.open(file.path, os.O_RDONLY)
        try:
            stat = os.fstat(opened)
            content = os.read(opened, file.size + 1)
        finally:
            os.close(opened)
    except OSError as error:
        raise explain(file.name, error) from error
    if (len(content), stat.st_mtime_ns) != (file.size, file.mtime_ns):
        raise _changed(file)
    return content


def _stored_image(file: StoredFile) -> bytes:
    with reading(file, "an image file"), file.stream() as opened:
        content: bytes = opened.read()
    if len(content) != file.size:
        raise _changed(file)
    return content


def _changed(file: StoredFile) -> DataError:
    return DataError(f"{file.name}: changed while it was read; run again when nothing writes to it")
