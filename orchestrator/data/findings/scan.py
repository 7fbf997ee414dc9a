"""What a pass over the rows keeps: a few numbers per row, in arrays that are there from the start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.data.findings.thumbnails import Thumbnails
from orchestrator.data.manifest import TRAIN, VALIDATION
from orchestrator.data.rows import SOURCE_ROW
from orchestrator.quality.duplicates import THUMBNAIL_SIDE, is_blank, perceptual_hash, thumbnails

HashArray = npt.NDArray[np.uint64]
Place = tuple[str, int]


class RowNotes:
    """Of all rows: digests, labels, missing values, columns that never change."""

    def __init__(
        self,
        sizes: Mapping[str, int],
        columns: Sequence[str],
        content: Sequence[str],
        *,
        is_images: bool,
        id_column: str | None,
    ) -> None:
        self.sizes, self.content, self.is_images, self.id_column = dict(sizes), tuple(content), is_images, id_column
        n_rows = sum(sizes.values())
        self.digests: HashArray | None = np.zeros(n_rows, dtype=np.uint64) if content else None
        self.ids: HashArray | None = np.zeros(n_rows, dtype=np.uint64) if id_column else None
        self.labels: HashArray | None = None
        self.missing: Counter[str] = Counter()
        self.first_missing: dict[str, Place] = {}
        self._first_value: dict[str, Any] = {}
        self._may_be_constant = [name for name in columns if name != SOURCE_ROW]

    def position(self, split: str, place: int) -> int:
        """Of a row among all: the training pool, then validation."""
        return place if split == TRAIN else self.sizes[TRAIN] + place

    def place(self, position: int) -> Place:
        """The reverse of `position`."""
        n_train = self.sizes[TRAIN]
        return (TRAIN, position) if position < n_train else (VALIDATION, position - n_train)

    @property
    def constant(self) -> list[str]:
        """Columns with one value in all rows; none when there is one row."""
        return sorted(self._may_be_constant) if sum(self.sizes.values()) > 1 else []

    def take(self, split: str, place: int, table: pa.Table, digests: HashArray | None, ids: HashArray | None) -> None:
        """Rows from ``place`` on."""
        at = slice(self.position(split, place), self.position(split, place) + table.num_rows)
        if self.digests is not None and digests is not None:
            self.digests[at] = digests
        if self.ids is not None and ids is not None:
            self.ids[at] = ids
        for name in table.schema.names:
            self._count_missing(split, place, name, table.column(name))
        self._may_be_constant = [name for name in self._may_be_constant if self._is_constant(name, table.column(name))]

    def take_labels(self, split: str, place: int, labels: HashArray) -> None:
        """Class ids, or digests of another target, from ``place`` on."""
        if self.labels is None:
            self.labels = np.zeros(sum(self.sizes.values()), dtype=np.uint64)
        start = self.position(split, place)
        self.labels[start : start + len(labels)] = labels

    def _count_missing(self, split: str, place: int, name: str, column: pa.ChunkedArray) -> None:
        is_float = pa.types.is_floating(column.type)
        if not is_float and not column.null_count:
            return
        missing = np.asarray(pc.is_null(column, nan_is_null=is_float))
        n = int(missing.sum())
        if n:
            self.missing[name] += n
            self.first_missing.setdefault(name, (split, place + int(missing.argmax())))

    def _is_constant(self, name: str, column: pa.ChunkedArray) -> bool:
        if pa.types.is_nested(column.type) or len(column) == 0:
            return len(column) == 0
        first = self._first_value.setdefault(name, column[0])
        if not first.is_valid:
            return bool(column.null_count == len(column))
        return column.null_count == 0 and bool(pc.all(pc.equal(column, first)).as_py())


class ImageNotes:
    """Of the images that were decoded: hash, thumbnail, size, faults. A position counts training, then validation."""

    def __init__(self, n_wanted: Mapping[str, int], scratch: int) -> None:
        self._wanted = dict(n_wanted)
        n = max(1, sum(n_wanted.values()))
        self.hashes = np.zeros(n, dtype=np.uint64)
        self.sizes = np.zeros((n, 2), dtype=np.int32)
        self.is_usable = np.zeros(n, dtype=bool)
        """Decoded and not blank."""
        self.is_blank = np.zeros(n, dtype=bool)
        self.faults: dict[Place, str] = {}
        # Opened by its descriptor, so that the file is gone with the process whatever happens.
        with open(scratch, "w+b", closefd=False) as file:
            self.thumbs = np.memmap(file, dtype=np.uint8, mode="w+", shape=(n, THUMBNAIL_SIDE**2))

    @property
    def n_looked_at(self) -> int:
        return sum(self._wanted.values())

    def n_wanted(self, split: str) -> int:
        """Rows at the front of a split whose images are decoded."""
        return self._wanted[split]

    def place(self, position: int) -> Place:
        """Split and place of an image."""
        n_train = self._wanted[TRAIN]
        return (TRAIN, position) if position < n_train else (VALIDATION, position - n_train)

    def take(self, split: str, place: int, batch: Thumbnails) -> None:
        """Images from ``place`` on."""
        start = place if split == TRAIN else self._wanted[TRAIN] + place
        at = slice(start, start + len(batch.grey))
        thumbs = thumbnails(batch.grey)
        self.hashes[at] = perceptual_hash(batch.grey)
        self.thumbs[at] = thumbs
        self.sizes[at] = batch.sizes
        is_whole = batch.sizes[:, 0] > 0
        self.is_blank[at] = is_whole & is_blank(thumbs)
        self.is_usable[at] = is_whole & ~self.is_blank[at]
        self.faults |= {(split, place + i): fault for i, fault in batch.faults.items()}
