"""A prepared folder in an object store: made here, then copied file by file, its manifest last.

A store has no rename, so the manifest alone says that the folder is whole: it goes first when other content comes, and
comes last. An upload that was stopped goes on with the files that are not there in full.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from orchestrator.data.manifest import MANIFEST, Manifest, read_manifest
from orchestrator.data.preparing.work_folder import REQUEST, same_or_refused
from orchestrator.data.stores.faults import bounded, reason_of
from orchestrator.data.stores.locations import Location
from orchestrator.errors import DataError


def done_before(target: Location, request: Mapping[str, Any], *, overwrite: bool) -> Manifest | None:
    """What a target holds when it is just what is asked for, or None when it is to be made.

    Raises: DataError: it holds something else, which may not be overwritten, or the store cannot be reached.
    """
    content = _read(target.child(MANIFEST))
    if content is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / MANIFEST).write_bytes(content)
        try:
            manifest = read_manifest(Path(folder))
        except DataError as error:
            if overwrite:
                return None
            raise DataError(f"{target.uri}: its manifest cannot be used; replace it with --overwrite") from error
    found = json.loads(_read(target.child(REQUEST)) or b"{}")
    present = _sizes(target)
    files = manifest.train_files + manifest.validation_files
    missing = [file.name for file in files if present.get(file.name) != file.n_bytes]
    return same_or_refused(target.uri, manifest, found, request, missing, overwrite=overwrite)


def upload(folder: Path, target: Location, progress: Callable[[str, int, int], None]) -> None:
    """Copy a whole folder to a store, its manifest last. Raises DataError: the store does not take it."""
    store = target.file_system
    files = sorted((file for file in folder.iterdir() if file.is_file()), key=lambda file: file.name == MANIFEST)
    total, done = sum(file.stat().st_size for file in files), 0
    try:
        store.create_dir(target.path, recursive=True)
        _retract(target, _sizes(target), keep={file.name: file.stat().st_size for file in files}, folder=folder)
        present = _sizes(target)
        for file in files:
            # Of an interrupted upload of the same request, whose bytes are these.
            if file.suffix != ".parquet" or present.get(file.name) != file.stat().st_size:
                pafs.copy_files(str(file), target.child(file.name).path, pafs.LocalFileSystem(), store)
            done += file.stat().st_size
            progress("uploading", done, total)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{target.uri}: cannot be written ({reason_of(error)}); check the address and the credentials; what was "
            f"prepared is kept in {folder}, and the same command goes on from there"
        ) from error


def _retract(target: Location, present: Mapping[str, int], *, keep: Mapping[str, int], folder: Path) -> None:
    """Take away what is there of other content, the manifest first; files of the same request stay."""
    is_same = _read(target.child(REQUEST)) == (folder / REQUEST).read_bytes()
    for name in sorted(present, key=lambda name: name != MANIFEST):
        of_ours = name in (MANIFEST, REQUEST) or name.endswith((".parquet", ".npy"))
        if of_ours and not (is_same and name != MANIFEST and present[name] == keep.get(name)):
            target.file_system.delete_file(target.child(name).path)


def _sizes(target: Location) -> dict[str, int]:
    selector = pafs.FileSelector(target.path, allow_not_found=True)
    return {info.base_name: info.size for info in target.file_system.get_file_info(selector) if info.is_file}


def _read(file: Location) -> bytes | None:
    """Content of a file; None when it is not there. Raises DataError: the store cannot be reached."""
    info = bounded(file.uri, lambda: file.file_system.get_file_info(file.path))
    if not info.is_file:
        return None
    with file.file_system.open_input_file(file.path) as stream:
        content: bytes = stream.read()
    return content
