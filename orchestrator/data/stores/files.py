"""Files of a store that is under test: which are there, what a sample of them is, and test files that go again."""

from __future__ import annotations

import os
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from orchestrator.errors import DataError

SampleName = Literal["image", "row", "file"]

_MOST_FILES = 50_000
"""Listing ends here: enough for a mean size and a sample of files."""
_FOOTERS = 3
"""Parquet files that are asked for their rows."""
_IMAGES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


class SizedFile(NamedTuple):
    """A file as its file system names it."""

    path: str
    size: int


class Listing(NamedTuple):
    """Files under a path."""

    files: list[SizedFile]
    is_complete: bool
    """False when it was cut short, so that there are more."""
    wall_s: float | None
    """None for a path that is itself a file."""


def is_local(file_system: Any) -> bool:
    """Whether paths of it are paths of this machine."""
    return bool(file_system.type_name == "local")


def some_files(file_system: Any, path: str, location: str, seconds: float, *, is_empty_fine: bool) -> Listing:
    """Files under a path, until there are enough or the time is over.

    Raises: DataError: Nothing of that name, or nothing with content, unless that is fine.
    """
    info = file_system.get_file_info(path)
    if info.type == pafs.FileType.NotFound:
        raise DataError(f"{location}: is not there; check the address, or create the folder first")
    if info.type == pafs.FileType.File:
        if not info.size:
            raise DataError(f"{location}: the file is empty, so there is nothing to read")
        return Listing([SizedFile(info.path, info.size)], True, None)
    files: list[SizedFile] = []
    is_complete = True
    started = time.perf_counter()
    for file in _walk_local(path) if is_local(file_system) else _walk(file_system, path):
        files.append(file)
        if len(files) >= _MOST_FILES or time.perf_counter() - started > seconds:
            is_complete = False
            break
    wall_s = time.perf_counter() - started
    if not any(file.size for file in files) and not is_empty_fine:
        what = "only empty files" if files else "no file"
        raise DataError(
            f"{location}: {what} in it, so there is nothing to read; --write measures with files of its own"
        )
    return Listing(files, is_complete, wall_s)


def _walk_local(path: str) -> Iterator[SizedFile]:
    """A folder of a million files is given one by one; pyarrow would give it all at once."""
    folders = deque([path])
    while folders:
        with os.scandir(folders.popleft()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_file():
                    yield SizedFile(entry.path, entry.stat().st_size)


def _walk(file_system: Any, path: str) -> Iterator[SizedFile]:
    folders = deque([path])
    while folders:
        for each in file_system.get_file_info(pafs.FileSelector(folders.popleft(), recursive=False)):
            if each.type == pafs.FileType.Directory:
                folders.append(each.path)
            elif each.type == pafs.FileType.File:
                yield SizedFile(each.path, each.size)


@contextmanager
def scratch_folder(file_system: Any, path: str, location: str) -> Iterator[str]:
    """A new folder under a path, gone afterwards with all that was written into it, whatever happens.

    Raises: DataError: No leave to write there.
    """
    folder = f"{path.rstrip('/')}/.bench-io-{uuid.uuid4().hex[:12]}"
    try:
        file_system.create_dir(folder)
    except PermissionError as error:
        raise DataError(f"{location}: may not be written ({error}); omit --write to measure reading only") from error
    try:
        yield folder
    finally:
        with suppress(FileNotFoundError):
            file_system.delete_dir(folder)


def write_file(file_system: Any, path: str, content: bytes) -> int:
    """Write a file down to the disk; returns its bytes."""
    with file_system.open_output_stream(path) as file:
        file.write(content)
    if is_local(file_system):  # else memory would have been measured
        with open(path, "rb") as written:
            os.fsync(written.fileno())
    return len(content)


def mean_sample(file_system: Any, files: Sequence[SizedFile], largest: int) -> tuple[SampleName, float]:
    """What a sample is here and its mean size in bytes.

    Args:
        file_system: Where they lie.
        files: With at least one that is not empty.
        largest: Where most files are no larger than that, the mean is over these alone.
    """
    filled = [file for file in files if file.size > 0]
    suffixes = [os.path.splitext(file.path)[1].lower() for file in filled]
    if 2 * suffixes.count(".parquet") > len(filled):
        tables = [file for file, suffix in zip(filled, suffixes, strict=True) if suffix == ".parquet"][:_FOOTERS]
        with suppress(OSError, pa.ArrowException):
            n_rows = sum(pq.read_metadata(file.path, filesystem=file_system).num_rows for file in tables)
            if n_rows:
                return "row", sum(file.size for file in tables) / n_rows
    small = [file.size for file in filled if file.size <= largest]
    sizes = small if 2 * len(small) > len(filled) else [file.size for file in filled]
    are_images = 2 * sum(suffix in _IMAGES for suffix in suffixes) > len(filled)
    return "image" if are_images else "file", sum(sizes) / len(sizes)
