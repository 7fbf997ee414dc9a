"""Which format a source is of, by names and first bytes, and which of its files belong to it."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.data.formats import huggingface, idx, image_folder, text, tfrecord
from orchestrator.data.stores.locations import (
    Location,
    StoredFile,
    kind_of,
    list_files,
    list_tree,
    near,
    resolve,
    stored_file,
    walk,
)
from orchestrator.data.versioning.tables import live_files
from orchestrator.errors import DataError, did_you_mean

DEFAULT_FILES = "*.parquet"
OF_FOLDERS = ("images", "huggingface")
FORMATS = ("parquet", "csv", "jsonl", "idx", "npz", "tfrecord", *OF_FOLDERS)
"""Names that ``format`` takes."""
_KNOWN = (
    "Parquet, CSV, JSON lines, IDX, NPZ or TFRecord files, a folder of them, an image folder, a Hugging Face data set "
    "folder, or sklearn:digits"
)
_SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".npz": "npz",
    **dict.fromkeys(text.CSV_SUFFIXES, "csv"),
    **dict.fromkeys(text.JSON_SUFFIXES, "jsonl"),
    **dict.fromkeys(tfrecord.SUFFIXES, "tfrecord"),
}
_PATTERNS = (
    (re.compile(r"\.(tfrecords?|tfrec)-\d+-of-\d+(\.gz)?$"), "tfrecord"),
    (re.compile(r"[-.]idx\d-ubyte(\.gz)?$"), "idx"),
)
_NOT_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(?!//)")  # two letters or more: C:\data is a path
_HEAD_BYTES, _SNIFFED_FILES, _SHOWN = 1 << 10, 32, 5


class NoFilesError(DataError):
    """``data.files`` rather than ``data.source`` is what must be changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """A source and its format."""

    format: str
    location: Location
    files: tuple[StoredFile, ...] = ()
    """Empty for formats that are folders."""


def recognise(source: str, pattern: str | None, format: str | None) -> Recognised:
    """What a source is.

    Args:
        source: A path or an address.
        pattern: Which files of a folder; None, or the default where it matches nothing, takes what is there.
        format: One of `FORMATS`, or None to find out.
    Raises: DataError: it is not there, cannot be reached, or is of no format known; NoFilesError when the glob is why.
    """
    if format is not None and format not in FORMATS:
        near_by = did_you_mean(format, FORMATS) or ";"
        raise DataError(f"there is no format {format!r}{near_by} known: {', '.join(FORMATS)}")
    if source == "task" or (_NOT_URI.match(source) and not Path(source).exists()):
        raise DataError(f"cannot prepare {source!r}: it must be {_KNOWN}")
    location = resolve(source)
    kind = kind_of(location)
    if kind is None:
        raise DataError(f"{location.uri} is not there{near(location)}; give {_KNOWN}")
    if kind == "file":
        return _file(location, format)
    return _folder(location, pattern, format)


def _file(location: Location, format: str | None) -> Recognised:
    file = stored_file(location)
    if format in OF_FOLDERS:
        raise DataError(f"{location.uri}: is a file, and {format!r} is a format of folders; give the folder")
    known = format or _by_name(file) or _by_content(file)
    if known is None:
        raise DataError(f"{location.uri}: is of no format known here; give {_KNOWN}")
    if known != "idx":
        return Recognised(format=known, location=location, files=(file,))
    folder = location.parent
    return Recognised(format=known, location=folder, files=tuple(idx.partners(file, list_files(folder))))


def _folder(folder: Location, pattern: str | None, format: str | None) -> Recognised:
    if format in OF_FOLDERS:
        return Recognised(format=str(format), location=folder)
    top = list_files(folder)
    if format is None and huggingface.is_huggingface([file.path.rpartition("/")[2] for file in top]):
        huggingface.refuse_splits(folder)
        return Recognised(format="huggingface", location=folder)
    is_default = pattern in (None, DEFAULT_FILES)
    if is_default and format in (None, "parquet") and (live := live_files(folder.path, folder.file_system)) is not None:
        return Recognised(format="parquet", location=folder, files=_live(folder, live))
    if pattern is not None:
        chosen = list_files(folder, pattern)
        if chosen:
            return Recognised(format=format or _one_format(folder, chosen), location=folder, files=tuple(chosen))
        if not is_default:
            raise NoFilesError(f"{pattern!r} matches no file in {folder.uri}, which holds: {_holds(folder)}")
    return _by_what_it_holds(folder, top, format)


def _by_what_it_holds(folder: Location, top: Sequence[StoredFile], format: str | None) -> Recognised:
    formats = {known: files for known, files in _by_format(top).items() if format in (None, known)}
    if len(formats) > 1:
        shown = ", ".join(f"{known}: {len(files):,}" for known, files in sorted(formats.items()))
        raise NoFilesError(
            f"{folder.uri} holds files of several formats ({shown}); choose one with data.files or format"
        )
    for known, files in formats.items():
        return Recognised(format=known, location=folder, files=tuple(files))
    below: Counter[str] = Counter()
    for files in walk(folder):
        if format is None and any(map(image_folder.is_image, files)):
            return Recognised(format="images", location=folder)
        below.update(Path(file.path).suffix for file in files if _by_name(file) is not None)
    hint = ""
    if below:
        suffix, n = below.most_common(1)[0]
        hint = f"; {n:,} {suffix} files lie deeper: give their folder, or data.files '**/*{suffix}'"
    raise NoFilesError(f"{DEFAULT_FILES!r} matches no file in {folder.uri}, which holds: {_holds(folder)}{hint}")


def _one_format(folder: Location, files: Sequence[StoredFile]) -> str:
    """The format of files that were chosen."""
    formats = _by_format(files)
    if len(formats) > 1:
        shown = ", ".join(f"{known}: {len(some):,}" for known, some in sorted(formats.items()))
        raise NoFilesError(f"the files chosen in {folder.uri} are of several formats ({shown}); choose fewer")
    if not formats:
        raise DataError(f"{files[0].name}: is of no format known here; give {_KNOWN}")
    return next(iter(formats))


def _by_format(files: Sequence[StoredFile]) -> dict[str, list[StoredFile]]:
    """Files whose format is known: by name, and where no name says it, by content."""
    found = _sorted(files, [_by_name(file) for file in files])
    if found:
        return found
    unknown = [file for file in files if not image_folder.is_image(file)]
    if not any(_by_content(file) for file in unknown[:_SNIFFED_FILES]):
        return {}
    return _sorted(unknown, [_by_content(file) for file in unknown])


def _sorted(files: Sequence[StoredFile], formats: Sequence[str | None]) -> dict[str, list[StoredFile]]:
    found: dict[str, list[StoredFile]] = {}
    for file, known in zip(files, formats, strict=True):
        if known is not None:
            found.setdefault(known, []).append(file)
    return found


def _by_name(file: StoredFile) -> str | None:
    for pattern, known in _PATTERNS:
        if pattern.search(file.path):
            return known
    return _SUFFIXES.get(text.text_suffix(file.path))


def _by_content(file: StoredFile) -> str | None:
    with file.open() as stream:
        head = bytes(stream.read(_HEAD_BYTES))
    if head[:2] == b"\x1f\x8b":
        try:
            head = zlib.decompressobj(wbits=31).decompress(head)
        except zlib.error:
            return None
    if head[:4] == b"PAR1":
        return "parquet"
    if idx.looks_like_idx(head):
        return "idx"
    return "tfrecord" if tfrecord.looks_like_tfrecord(head) else None


def _live(folder: Location, paths: Sequence[str]) -> tuple[StoredFile, ...]:
    """Files that a table's log names; it keeps files of earlier versions beside them."""
    present = {file.path: file for file in list_tree(folder, recursive=True)[0]}
    for path in paths:
        if path not in present:
            raise DataError(f"{folder.name_of(path)}: is not there, though the table's log names it; repair the table")
    if not paths:
        raise NoFilesError(f"{folder.uri}: the table has no rows in its latest version; give one that has some")
    return tuple(present[path] for path in paths)


def _holds(folder: Location) -> str:
    files, folders = list_tree(folder, recursive=False)
    names = sorted([*(file.path.rpartition("/")[2] for file in files), *folders])
    if not names:
        return "nothing"
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
