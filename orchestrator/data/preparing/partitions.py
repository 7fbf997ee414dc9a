"""Pass two of `prepare`: rows stream by once, go to their place, and leave as Parquet, in bounded memory.

    pieces --read--> buffer --(full)--> run file: one Arrow batch per slice of places     external bucket sort
    run files, or the buffer itself --slice by slice--> rows sorted by place --> Parquet

A slice is a run of places that one process sorts at a time, a whole number of row groups; a file is a whole number of
slices. Where the slices end depends on the memory allowed, where files and row groups end does not, so that the bytes
written are the same for every memory limit and for any number of processes.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.data.manifest import TRAIN, VALIDATION, PartFile
from orchestrator.data.preparing.layout import IdArray
from orchestrator.data.preparing.row_pool import MAX_COLUMN_BYTES, Buffer, RowPool
from orchestrator.data.rows import SOURCE_ROW, Piece, RowSource
from orchestrator.data.versioning.fingerprint import replace_file
from orchestrator.errors import DataError

_GROUP_BYTES, _MIN_GROUP_ROWS, _MAX_GROUP_ROWS = 4_000_000, 64, 8192
_GROUPS_OF_A_SMALL_SET = 200
"""A 1% subset reads at most half a row group too much of it; more groups make longer footers."""
_FILE_BYTES = 128 * 2**20
_MAX_FILES = 4096
"""Above it files grow instead: each is opened once by whoever reads a whole split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRange:
    """A file to write, and the places in it."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Where row groups, slices and files end."""

    rows_per_group: int
    rows_per_slice: int
    files: tuple[FileRange, ...]

    def slices(self, file: FileRange) -> list[tuple[int, int]]:
        """First place and end of each slice of a file."""
        starts = range(file.start, file.stop, self.rows_per_slice)
        return [(start, min(start + self.rows_per_slice, file.stop)) for start in starts]

    def slice_starts(self) -> npt.NDArray[np.int64]:
        """First place of every slice, rising. A slice is known by its number in here."""
        return np.array([start for file in self.files for start, _ in self.slices(file)], dtype=np.int64)


def plan_files(n_train: int, n_validation: int, row_bytes: float, slice_bytes: float) -> Geometry:
    """Divide the places.

    Args:
        n_train: Rows of the training pool.
        n_validation: Rows held out.
        row_bytes: Of one row in memory, on average; decides row groups and files.
        slice_bytes: What one process may hold of a sorted slice.
    """
    row_bytes = max(row_bytes, 1.0)
    rows = min(_GROUP_BYTES / row_bytes, n_train / _GROUPS_OF_A_SMALL_SET)
    group = int(np.clip(rows, _MIN_GROUP_ROWS, _MAX_GROUP_ROWS))
    group = max(1, min(group, int(MAX_COLUMN_BYTES / 2 / row_bytes)))
    file_bytes = max(_FILE_BYTES, (n_train + n_validation) * row_bytes / _MAX_FILES)
    groups_per_file = max(1, round(file_bytes / (group * row_bytes)))
    fitting = int(slice_bytes / (group * row_bytes))
    # A whole number of slices a file, so that no slice belongs to two files.
    slices_per_file = -(-groups_per_file // max(1, min(fitting, groups_per_file)))
    groups_per_slice = -(-groups_per_file // slices_per_file)
    files = []
    for split, first, n in ((TRAIN, 0, n_train), (VALIDATION, n_train, n_validation)):
        step = group * groups_per_file
        for number, start in enumerate(range(first, first + n, step)):
            files.append(
                FileRange(name=f"{split}-{number:05d}.parquet", start=start, stop=min(start + step, first + n))
            )
    return Geometry(rows_per_group=group, rows_per_slice=group * groups_per_slice, files=tuple(files))


def output_schema(schema: pa.Schema) -> pa.Schema:
    """Columns of the prepared files: the source's, dictionaries decoded, and the row's number in the source."""
    fields = [field.with_type(_decoded(field.type)) for field in schema if field.name != SOURCE_ROW]
    metadata = {key: value for key, value in (schema.metadata or {}).items() if key != b"pandas"}
    return pa.schema([*fields, pa.field(SOURCE_ROW, pa.int64(), nullable=False)], metadata=metadata or None)


def read_rows(
    rows: RowSource, pieces: Iterable[Piece], places: IdArray, schema: pa.Schema
) -> Iterator[tuple[pa.RecordBatch, IdArray]]:
    """Rows of pieces as they will be written, with their places; those without a place are left out.

    Raises: DataError: a piece holds other rows than it did.
    """
    for piece in pieces:
        row = piece.first_row
        for batch in rows.read(piece):
            found = places[row : min(row + len(batch), piece.first_row + piece.n_rows)]
            if len(found) < len(batch):
                raise _changed(piece)
            yield _as_written(batch, row, found, schema)
            row += len(batch)
        if row != piece.first_row + piece.n_rows:
            raise _changed(piece)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A spilled file of sorted rows: batch ``i`` holds rows of slice ``slices[i]``."""

    name: str
    slices: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceGroup:
    """Pieces that one process reads and spills together; what is redone when it is stopped."""

    number: int
    pieces: tuple[Piece, ...]

    @property
    def n_rows(self) -> int:
        return sum(piece.n_rows for piece in self.pieces)


def group_pieces(pieces: Sequence[Piece], max_rows: float) -> list[PieceGroup]:
    """Runs of pieces of at most so many rows; a larger piece makes a group of its own."""
    groups: list[list[Piece]] = []
    n = 0
    for piece in pieces:
        if not groups or n + piece.n_rows > max_rows:
            groups.append([])
            n = 0
        groups[-1].append(piece)
        n += piece.n_rows
    return [PieceGroup(number=number, pieces=tuple(group)) for number, group in enumerate(groups)]


@dataclass(frozen=True, kw_only=True)
class SpillGroup:
    """Reads a group of pieces and writes its rows to run files by slice. Pickles, so that another process can."""

    rows: RowSource
    schema: pa.Schema
    geometry: Geometry
    places_file: Path
    folder: Path
    buffer_bytes: float
    tell: Callable[[int], None] | None = None
    """Told of rows that were read; left out between processes."""

    def __call__(self, group: PieceGroup) -> tuple[Run, ...]:
        """Runs of the group; made before, it is not read again."""
        record = self._record(group)
        if not record.exists():
            for stale in self.folder.glob(f"group-{group.number:05d}-*"):
                stale.unlink()
            runs = tuple(self._spill(group))
            replace_file(record, json.dumps([asdict(run) for run in runs]).encode())
            return runs
        if self.tell:
            self.tell(group.n_rows)
        return tuple(Run(name=run["name"], slices=tuple(run["slices"])) for run in json.loads(record.read_bytes()))

    def _record(self, group: PieceGroup) -> Path:
        return self.folder / f"group-{group.number:05d}.json"

    def _spill(self, group: PieceGroup) -> Iterator[Run]:
        starts = self.geometry.slice_starts()
        buffer = Buffer()
        number = 0
        places = np.load(self.places_file, mmap_mode="r")
        for batch, found in read_rows(self.rows, group.pieces, places, self.schema):
            if buffer.n_bytes and buffer.n_bytes + batch.nbytes > self.buffer_bytes:
                yield self._write(buffer, f"group-{group.number:05d}-{number:03d}.arrow", starts)
                buffer, number = Buffer(), number + 1
            buffer.add(batch, found)
            if self.tell:
                self.tell(len(batch))
        if buffer.batches:
            yield self._write(buffer, f"group-{group.number:05d}-{number:03d}.arrow", starts)

    def _write(self, buffer: Buffer, name: str, starts: npt.NDArray[np.int64]) -> Run:
        pool, order, places = buffer.sorted(self.schema)
        slices, first = np.unique(np.searchsorted(starts, places, side="right") - 1, return_index=True)
        path = self.folder / name
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, self.schema) as writer:
            for chosen in np.split(order, first[1:]):
                writer.write_batch(pool.take(chosen))
        sync(path)
        return Run(name=name, slices=tuple(slices.tolist()))


class InMemory:
    """Sorted rows straight from the buffer."""

    def __init__(self, buffer: Buffer, schema: pa.Schema) -> None:
        self._pool, self._order, _ = buffer.sorted(schema)

    def __call__(self, start: int, stop: int, step: int) -> Iterator[pa.RecordBatch]:
        """Rows of places ``start..stop`` in batches of ``step``; every place is filled, so a place is a rank."""
        for first in range(start, stop, step):
            yield self._pool.take(self._order[first : min(first + step, stop)])


@dataclass(frozen=True, kw_only=True)
class FromRuns:
    """Sorted rows from run files, a slice at a time. Pickles."""

    folder: Path
    runs: tuple[Run, ...]
    places_file: Path
    geometry: Geometry
    schema: pa.Schema

    def __call__(self, start: int, stop: int, step: int) -> Iterator[pa.RecordBatch]:
        """Rows of places ``start..stop`` in batches of ``step``. Raises DataError: spilled rows are missing."""
        starts = self.geometry.slice_starts()
        all_places = np.load(self.places_file, mmap_mode="r")
        for number in range(*np.searchsorted(starts, [start, stop]).tolist()):
            batches = list(self._batches_of(number))
            first_place = int(starts[number])
            n_rows = min(first_place + self.geometry.rows_per_slice, stop) - first_place
            if sum(map(len, batches)) != n_rows:
                raise DataError(f"{self.folder}: spilled rows are missing; delete {self.folder.parent} and run again")
            places = np.concatenate([all_places[batch.column(SOURCE_ROW).to_numpy()] for batch in batches])
            order = np.argsort(places, kind="stable")
            pool = RowPool(batches, self.schema)
            del batches
            for first in range(0, len(order), step):
                yield pool.take(order[first : first + step])

    def _batches_of(self, number: int) -> Iterator[pa.RecordBatch]:
        for run in self.runs:
            index = bisect_left(run.slices, number)
            if index < len(run.slices) and run.slices[index] == number:
                # Read rather than mapped: mapped pages would count as ours and one open file per run would add up.
                with pa.OSFile(str(self.folder / run.name)) as file:
                    yield pa.ipc.open_file(file).get_batch(index)


@dataclass(frozen=True, kw_only=True)
class WriteFile:
    """Writes one Parquet file of the result. Pickles when its rows do."""

    folder: Path
    schema: pa.Schema
    rows_per_group: int
    sorted_rows: Callable[[int, int, int], Iterator[pa.RecordBatch]]

    def __call__(self, file: FileRange) -> PartFile:
        """The file, whole; made before, it is left as it is."""
        path = self.folder / file.name
        if not path.exists():
            part = path.with_suffix(".part")
            with pq.ParquetWriter(part, self.schema, **parquet_options(self.schema)) as writer:
                for batch in self.sorted_rows(file.start, file.stop, self.rows_per_group):
                    writer.write_batch(batch, row_group_size=self.rows_per_group)
            sync(part)
            part.rename(path)
        return PartFile(
            name=file.name,
            n_rows=file.stop - file.start,
            n_bytes=path.stat().st_size,
            group_rows=self.rows_per_group,
        )


def parquet_options(schema: pa.Schema) -> dict[str, Any]:
    """Encoded images and raw tensors are stored as they are, without statistics; the rest is compressed by zstd."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    leaves = pq.read_metadata(pa.BufferReader(sink.getvalue())).schema
    columns = [leaves.column(i) for i in range(len(leaves))]
    plain = [leaf.path for leaf in columns if not _is_blob(leaf)]
    return {
        "compression": dict.fromkeys(plain, "zstd"),
        "use_dictionary": [path for path in plain if path != SOURCE_ROW],
        "write_statistics": plain,
    }


def sync(path: Path) -> None:
    """To the disk, so that a power cut cannot leave a whole-looking file of holes."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _as_written(
    batch: pa.RecordBatch, first_row: int, places: IdArray, schema: pa.Schema
) -> tuple[pa.RecordBatch, IdArray]:
    columns = []
    for field in schema:
        if field.name == SOURCE_ROW:
            columns.append(pa.array(np.arange(first_row, first_row + len(batch), dtype=np.int64)))
        else:
            column = batch.column(field.name)
            columns.append(column if column.type == field.type else column.cast(field.type))
    whole = pa.RecordBatch.from_arrays(columns, schema=schema)
    kept = np.asarray(places) >= 0
    return (whole, places) if kept.all() else (whole.filter(pa.array(kept)), places[kept])


def _changed(piece: Piece) -> DataError:
    return DataError(
        f"{piece.path}: holds other rows than when its labels were read: it changed while it was read; run again when "
        "nothing writes to it"
    )


def _decoded(kind: pa.DataType) -> pa.DataType:
    """The type without dictionaries, at any depth of structs and lists."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_decoded(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_decoded(kind.value_type)))
    return kind


def _is_blob(leaf: pq.ColumnSchema) -> bool:
    return leaf.physical_type in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY") and leaf.logical_type.type == "NONE"
