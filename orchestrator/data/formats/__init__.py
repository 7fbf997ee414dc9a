"""The formats `prepare` reads, each as a `RowSource`: `open_rows` is the door, `check_rows` the look before it.

Adding one: a module with a function from files to a `TableRows`, an entry in `_OF_FILES` or `_OF_FOLDERS`, and how to
know it in `recognise`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.data.formats import huggingface, idx, image_folder, npz, parquet, tensors, text, tfrecord
from orchestrator.data.formats.recognise import DEFAULT_FILES, FORMATS, NoFilesError, recognise
from orchestrator.data.formats.table_rows import DEFAULT_IMAGE, Asked, TableRows
from orchestrator.data.rows import RowSource
from orchestrator.data.stores.locations import Location, StoredFile
from orchestrator.errors import DataError, Fault

__all__ = ["DEFAULT_FILES", "FORMATS", "check_rows", "open_rows"]

_OF_FILES: dict[str, Callable[[Sequence[StoredFile], Asked], TableRows]] = {
    "parquet": parquet.open_parquet,
    "csv": text.open_csv,
    "jsonl": text.open_json_lines,
    "idx": idx.open_idx,
    "npz": npz.open_npz,
    "tfrecord": tfrecord.open_tfrecord,
}
_OF_FOLDERS: dict[str, Callable[[Location, Asked], TableRows]] = {
    "images": image_folder.open_image_folder,
    "huggingface": huggingface.open_huggingface,
}


def open_rows(
    source: str,
    *,
    label: str | None,
    image: str | None = DEFAULT_IMAGE,
    files: str | None = DEFAULT_FILES,
    cache_dir: Path,
    format: str | None = None,
) -> RowSource:
    """The rows that a source names, fingerprinted.

    Args:
        source: A path, an address, or ``sklearn:digits``.
        label: The label column, None for none.
        image: The column of images; the default may be absent, None for rows that are not images.
        files: Which files of a folder, as a glob. None, or the default where it matches nothing, takes what is there.
        cache_dir: Where digests are remembered.
        format: One of `FORMATS`; by default it is known from names and first bytes.
    Raises: DataError: there is no such source, or it cannot be read. OSError: ``cache_dir`` cannot be written.
    """
    asked = Asked(label=label, image=image, cache_dir=cache_dir)
    if source.startswith("sklearn:"):
        return tensors.open_sklearn(source, asked)
    found = recognise(source, files, format)
    if found.format in _OF_FOLDERS:
        return _OF_FOLDERS[found.format](found.location, asked)
    return _OF_FILES[found.format](found.files, asked)


def check_rows(source: str, *, files: str | None = DEFAULT_FILES, format: str | None = None) -> Fault | None:
    """What is wrong with a source before it is read: unknown, not there, unreachable, or without its package."""
    try:
        if source.startswith("sklearn:"):
            tensors.check_sklearn(source)
        elif recognise(source, files, format).format == "tfrecord":
            tfrecord.check_packages()
    except NoFilesError as error:
        return Fault("data.files", str(error))
    except DataError as error:
        return Fault("data.source", str(error))
    return None
