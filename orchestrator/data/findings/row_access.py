"""Single rows of a prepared folder by split and place: what an example needs, read by the row group."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from PIL import Image

from orchestrator.data.images import ImageReader, decode_rgb
from orchestrator.data.manifest import Manifest
from orchestrator.data.rows import SOURCE_ROW
from orchestrator.errors import DataError
from orchestrator.quality.findings import Where

_PICTURE_SIDE = 96
"""Of a picture in the report, in pixels."""
_SHOWN_LABEL = 80


class RowAccess:
    """Reads a few rows of a folder; the last row groups are remembered."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder, self._manifest = folder, manifest
        self._group = lru_cache(maxsize=4)(self._read_group)
        self._starts = lru_cache(maxsize=None)(self._group_starts)

    def where(self, split: str, places: Sequence[int]) -> dict[int, Where]:
        """Source row and label of each place."""
        label = self._manifest.label
        names = [name for name in (SOURCE_ROW, label) if name in self._manifest.columns]
        ids = class_ids(self._folder, split) if self._manifest.is_classification else None
        found: dict[int, Where] = {}
        for place, row in self._rows(split, places, names):
            value = row.get(label) if ids is None else self._manifest.class_names[int(ids[place])]
            source_row = row.get(SOURCE_ROW)
            found[place] = Where(
                split=split,
                place=place,
                source_row=None if source_row is None else int(source_row),
                label="" if value is None else str(value)[:_SHOWN_LABEL],
            )
        return found

    def pictures(self, rows: Iterable[Where], reader: ImageReader) -> dict[tuple[str, int], bytes]:
        """PNG of each row's image, at most 96 pixels a side; those that cannot be decoded are left out."""
        wanted: dict[str, set[int]] = {}
        for row in rows:
            wanted.setdefault(row.split, set()).add(row.place)
        return {
            (split, place): png
            for split, places in wanted.items()
            for place, row in self._rows(split, sorted(places), [reader.column])
            if (png := _png(row[reader.column], reader)) is not None
        }

    def _rows(self, split: str, places: Sequence[int], names: Sequence[str]) -> Iterable[tuple[int, dict[str, Any]]]:
        starts = self._starts(split)
        firsts = np.array([first for first, _, _ in starts])
        for place in sorted(places):
            at = int(np.searchsorted(firsts, place, side="right")) - 1
            first, part, group = starts[at]
            table = self._group(split, part, group, tuple(names))
            yield place, table.slice(place - first, 1).to_pylist()[0]

    def _read_group(self, split: str, part: int, group: int, names: tuple[str, ...]) -> Any:
        with pq.ParquetFile(self._folder / self._manifest.files(split)[part].name) as file:
            return file.read_row_group(group, columns=list(names))

    def _group_starts(self, split: str) -> list[tuple[int, int, int]]:
        """First place, file and number of each row group."""
        starts: list[tuple[int, int, int]] = []
        place = 0
        for part, file in enumerate(self._manifest.files(split)):
            metadata = pq.read_metadata(self._folder / file.name)
            for group in range(metadata.num_row_groups):
                starts.append((place, part, group))
                place += metadata.row_group(group).num_rows
        return starts


def class_ids(folder: Path, split: str) -> npt.NDArray[np.integer]:
    """Class or stratum of each place, mapped. Raises DataError: the file is not there or damaged."""
    path = folder / f"{split}_labels.npy"
    try:
        return np.asarray(np.load(path, mmap_mode="r"))
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}); run prepare again") from error


def _png(content: bytes | None, reader: ImageReader) -> bytes | None:
    try:
        image = Image.fromarray(_pixels(content, reader))
    except Exception:  # whatever broken bytes lead Pillow's readers to; such a row has no picture
        return None
    image.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return buffer.getvalue()


def _pixels(content: bytes | None, reader: ImageReader) -> npt.NDArray[np.uint8]:
    if reader.raw is None or content is None:
        return decode_rgb(content)
    values = np.frombuffer(content, reader.raw.dtype).reshape(reader.raw.shape).astype(np.float32)
    bytes_ = np.clip((values * (255.0 / reader.raw.scale)).round(), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(bytes_.transpose(1, 2, 0)) if len(bytes_) == 3 else bytes_[0]
