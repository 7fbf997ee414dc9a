"""Images as one mapped array per split, decoded a row group at a time when it is first asked for.

    <cache>/train.bin        all images in nested order, raw; a hole until decoded
            train.done       one byte per row group: 1 once its images are in train.bin
            shape.json       what an image is

A batch is then one gather from a memory map. The file is written with ordinary writes, never through the map: storing
into a map of a disk that fills up ends the process with SIGBUS, where a write raises an error that can be told. Two
processes that decode the same rows write the same bytes.
"""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from orchestrator.data.images import BadImages, ImageReader, ImageShape
from orchestrator.data.rows import SOURCE_ROW
from orchestrator.data.splits import Split
from orchestrator.data.versioning.fingerprint import replace_file
from orchestrator.errors import DataError
from orchestrator.subsets import IntArray

STATISTICS_ROWS = 2048
"""Mean and standard deviation are taken over so many rows at the head of the order, a stratified sample. On CIFAR-10
means are within 1% of a standard deviation of those of all 45,000 rows, the deviations within 0.6%."""

_GROUPS_AT_ONCE = 64
"""Row groups after which images of several sizes are told, rather than when all are decoded."""


class DecodedImages:
    """All images of a split as an array that fills itself. Indexed by places."""

    def __init__(self, split: Split, reader: ImageReader, shape: ImageShape, cache: Path) -> None:
        """Map the cache, making it when it is not there. Raises DataError: it cannot be made."""
        self._split, self._reader, self.image = split, reader, shape
        self._lock = threading.Lock()
        try:
            cache.mkdir(parents=True, exist_ok=True)
            self.content = _sized(cache / f"{split.name}.bin", len(split) * shape.n_bytes)
            self._done_file = _sized(cache / f"{split.name}.done", len(split.row_groups))
        except OSError as error:
            raise _cannot_write(cache, error) from error
        self._done = np.memmap(self._done_file, dtype=np.uint8, mode="r")
        self.array: npt.NDArray[np.generic] = np.memmap(
            self.content, dtype=shape.dtype, mode="r", shape=(len(split), *shape.shape)
        )
        self._rows = np.asarray(self.array)  # a map is a subclass of array, which every operation has to ask
        self._is_complete = bool(self._done.all())

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, places: IntArray) -> npt.NDArray[np.generic]:
        """A copy of the images at these places. Shape (len(places), channels, height, width)."""
        if not self._is_complete and not self._done[self._split.group_of_each(places)].all():
            self.ensure(places)
        return self._rows.take(places, axis=0)

    def missing_groups(self, places: IntArray) -> list[int]:
        """Row groups that hold some of these places and are not decoded yet."""
        return [int(group) for group in self._split.groups_of(places) if not self._done[group]]

    def ensure(self, places: IntArray, *, threads: int = 1) -> int:
        """Decode what is not decoded yet of these places.

        Args:
            places: Rows of the split.
            threads: Images are decoded outside Python's lock.
        Returns: Bytes that were asked of the storage for it.
        Raises: DataError: images that cannot be decoded or have another size, all of them counted; no space.
        """
        missing = self.missing_groups(places)
        if not missing:
            return 0
        self._require_space(missing)
        before, bad = self._split.counter.n_bytes, BadImages(self._reader.column)
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(missing), _GROUPS_AT_ONCE):
                for found in pool.map(self._decode_group, missing[start : start + _GROUPS_AT_ONCE]):
                    bad.add(found)
                bad.check_sizes(self.image.shape)
        bad.check(self.image.shape)
        self._is_complete = bool(self._done.all())
        return self._split.counter.n_bytes - before

    def _decode_group(self, index: int) -> BadImages:
        """Decode one row group, keep it when all of it is good, and tell what is not."""
        places = self._split.row_groups[index].places
        with self._lock:  # one reader at a time: the files and their counter are shared
            table = self._split.read_group(index, [self._reader.column, SOURCE_ROW])
        images, bad = self._reader.decode(table.column(0), table.column(1).to_pylist(), self.image)
        if not bad:
            try:
                _write(self.content, images, places.start * self.image.n_bytes)
                _write(self._done_file, np.ones(1, np.uint8), index)
            except OSError as error:
                raise _cannot_write(self.content, error) from error
        return bad

    def _require_space(self, missing: list[int]) -> None:
        needed = sum(len(self._split.row_groups[index].places) for index in missing) * self.image.n_bytes
        status = os.statvfs(self.content.parent)
        free = status.f_bavail * status.f_frsize
        if needed > free:
            raise DataError(
                f"{self.content}: decoded images need {needed / 1e9:,.1f} GB and {free / 1e9:,.1f} GB are free; free "
                "some space, set runs_dir to a larger disk, or have images scaled down with data.image_size"
            )

    @cached_property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel of ``images / scale``, over the head of the order.

        A channel that never changes has a standard deviation of 1, so that dividing by it is safe.
        """
        head = np.arange(min(STATISTICS_ROWS, len(self)))
        sample = self[head].astype(np.float64) / self.image.scale
        mean, std = sample.mean(axis=(0, 2, 3)), sample.std(axis=(0, 2, 3))
        changes = sample.max(axis=(0, 2, 3)) > sample.min(axis=(0, 2, 3))
        return tuple(mean.tolist()), tuple(np.where(changes, std, 1.0).tolist())


def image_shape(split: Split, reader: ImageReader, cache: Path) -> ImageShape:
    """What the images of a data set are: read from the cache, else off the first image that can be decoded."""
    path = cache / "shape.json"
    try:
        known = json.loads(path.read_bytes())
        return ImageShape(shape=tuple(known["shape"]), dtype=known["dtype"], scale=known["scale"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    shape = reader.shape_of(split.read_group(0, [reader.column]).column(0))
    try:
        cache.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(asdict(shape)).encode())
    except OSError as error:
        raise _cannot_write(path, error) from error
    return shape


def _sized(path: Path, n_bytes: int) -> Path:
    """The file, as long as asked; a new one is a hole that takes no space."""
    with path.open("ab") as file:
        if file.tell() != n_bytes:
            file.truncate(n_bytes)
    return path


def _write(path: Path, content: npt.NDArray[np.generic], offset: int) -> None:
    """To the disk before returning, so that no mark outlives the content it stands for."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        view = np.ascontiguousarray(content).reshape(-1).view(np.uint8).data
        while len(view):
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _cannot_write(path: Path, error: OSError) -> DataError:
    return DataError(
        f"{error.filename or path}: decoded images cannot be written ({error.strerror}); free some space, allow "
        "writing there, or set runs_dir to another folder"
    )
