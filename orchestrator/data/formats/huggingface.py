"""Folders that Hugging Face's ``Dataset.save_to_disk`` writes: dataset_info.json, state.json, and Arrow streams.

Local streams are mapped into memory, so that counting rows or skipping to a piece reads no column.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa

from orchestrator.data.formats.source_files import with_digests
from orchestrator.data.formats.table_rows import Asked, TableRows, check_columns, grouped, numbered, one_schema, reading
from orchestrator.data.rows import Piece
from orchestrator.data.stores.locations import Location, StoredFile, kind_of, list_files, stored_file
from orchestrator.errors import DataError

NAME = "Hugging Face data set"
INFO, STATE, SPLITS = "dataset_info.json", "state.json", "dataset_dict.json"


class HuggingFaceRows(TableRows):
    """A folder of Arrow streams as a `RowSource`."""

    format = NAME

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """Runs of record batches, ``position`` the number of the first; of a remote file, all of it."""
        return numbered([run for file in self.files for run in _runs(file)])

    def batches(self, piece: Piece, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Record batches of a piece."""
        n_rows = 0
        with _open(self._file_of[piece.path]) as stream:
            for number, batch in enumerate(stream):
                if number < piece.position:
                    continue
                if n_rows >= piece.n_rows:
                    break
                n_rows += len(batch)
                yield batch.select(list(names))


def open_huggingface(folder: Location, asked: Asked) -> HuggingFaceRows:
    """A saved data set. Raises DataError: several splits, a file that is missing or damaged, no such column."""
    refuse_splits(folder)
    files = with_digests(_data_files(folder), asked.cache_dir)
    schemas = []
    for file in files:
        with reading(file, "an Arrow stream"), _open(file) as stream:
            schemas.append((file.name, stream.schema))
    schema = one_schema(schemas, asked)
    check_columns(schema, asked, folder.uri)
    return HuggingFaceRows(files, schema)


def is_huggingface(names: Sequence[str]) -> bool:
    """From the names of the files of a folder."""
    return SPLITS in names or (INFO in names and STATE in names)


def refuse_splits(folder: Location) -> None:
    """Raises DataError: the folder holds several splits, with their names."""
    if kind_of(folder.child(SPLITS)) is None:
        return
    listed = _read_json(folder.child(SPLITS)).get("splits")
    splits = [str(split) for split in listed] if isinstance(listed, list) else []
    way_out = f"give one of them, such as {folder.child(splits[0]).uri}" if splits else "give one of its folders"
    raise DataError(f"{folder.uri}: holds splits ({', '.join(splits) or 'none'}), which are not merged; {way_out}")


def _data_files(folder: Location) -> list[StoredFile]:
    state = _read_json(folder.child(STATE))
    if state.get("_indices_data_files") or state.get("_indices_files"):  # as early releases wrote them
        raise DataError(
            f"{folder.uri}: holds a selection of rows beside the rows; write it again after flatten_indices()"
        )
    listed = state.get("_data_files")
    try:
        names = [str(each["filename"]) for each in listed or []]
    except (TypeError, KeyError):
        names = []
    if not names:
        raise DataError(f"{folder.child(STATE).uri}: names no data files; write the data set again with save_to_disk")
    present = {file.path.rpartition("/")[2]: file for file in list_files(folder, "*.arrow")}
    for name in names:
        if name not in present:
            raise DataError(
                f"{folder.uri}: {name} is not there, though {STATE} names it; fetch or write the data set again"
            )
    return [present[name] for name in names]


def _read_json(location: Location) -> dict[str, Any]:
    file = stored_file(location)
    with reading(file, "JSON"), file.open() as stream:
        try:
            content = json.loads(stream.read())
        except ValueError as error:
            raise DataError(f"{file.name}: is no JSON ({error}); write the data set again with save_to_disk") from error
    return content if isinstance(content, dict) else {}


def _open(file: StoredFile) -> Any:
    return pa.ipc.open_stream(pa.memory_map(file.path) if file.is_local else file.stream())


def _runs(file: StoredFile) -> list[tuple[str, int, int]]:
    """Path, rows and number of the first batch, of runs of batches."""
    with reading(file, "an Arrow stream"), _open(file) as stream:
        sizes = [(len(batch), batch.nbytes) for batch in stream]
        file.check_current()
    if not file.is_local:
        return [(file.name, sum(n_rows for n_rows, _ in sizes), 0)]
    return [(file.name, n_rows, first) for first, n_rows in grouped(sizes)]
