"""One split of a prepared folder: rows in nested stratified order, so that a fraction is a short sequential read."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.data.manifest import PartFile
from orchestrator.errors import DataError
from orchestrator.subsets import IntArray, seed_places


@dataclass(slots=True)
class ReadCounter:
    """Bytes that were really asked of the storage, over all files it is given to."""

    n_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RowGroup:
    """Rows that are read together: ``places`` of the split that lie in one row group of one file."""

    part: int
    group: int
    places: range


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The training pool or the validation rows. A place is a row's number in the nested order."""

    name: str
    parts: tuple[PartFile, ...]
    labels: npt.NDArray[np.integer]
    """Class, or stratum, of each place. Shape (n_rows,)."""
    strata: npt.NDArray[np.integer] | None = None
    """What subsets keep the shares of; the labels when None. Shape (n_rows,)."""
    open_part: Callable[[str], BinaryIO]
    """Opens a file of the folder by name, wherever the folder lies."""
    counter: ReadCounter = field(default_factory=ReadCounter)
    footers: dict[str, Any] = field(default_factory=dict, repr=False)
    """Metadata of the files that were opened, so that each footer is read once."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def n_bytes(self) -> int:
        """Of all files of the split."""
        return sum(part.n_bytes for part in self.parts)

    def subset(self, n_samples: int, seed: int) -> IntArray:
        """Places of a nested stratified subset: seed 0 takes the first ones, another seed begins elsewhere.

        Args:
            n_samples: Rows of the subset, in 1..len(self).
            seed: Subsets of one seed are nested; small ones of different seeds share no row.
        Returns: Places in the order in which a larger subset extends a smaller one. Shape (n_samples,).
        """
        return seed_places(self.labels if self.strata is None else self.strata, n_samples, seed)

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns of the rows."""
        with self._file(0) as file:
            return file.schema_arrow

    @cached_property
    def row_groups(self) -> tuple[RowGroup, ...]:
        """What can be read apart, by rising place; the manifest tells, no file is opened."""
        groups: list[RowGroup] = []
        first = 0
        for number, part in enumerate(self.parts):
            for group, start in enumerate(range(0, part.n_rows, part.group_rows)):
                places = range(first + start, first + min(start + part.group_rows, part.n_rows))
                groups.append(RowGroup(part=number, group=group, places=places))
            first += part.n_rows
        return tuple(groups)

    def group_of_each(self, places: IntArray) -> IntArray:
        """Index into `row_groups` of each of these places. Shape (len(places),)."""
        if self._group_rows is not None:  # a tenth of the time of searching
            return places // self._group_rows
        return np.searchsorted(self._stops, places, side="right")

    def groups_of(self, places: IntArray) -> IntArray:
        """Indices into `row_groups` that hold these places, rising, each once."""
        return np.unique(self.group_of_each(places))

    @cached_property
    def _group_rows(self) -> int | None:
        """Rows of every group but the last; None where files end with smaller ones."""
        sizes = {part.group_rows for part in self.parts}
        size = next(iter(sizes), 1)
        return size if len(sizes) == 1 and all(part.n_rows % size == 0 for part in self.parts[:-1]) else None

    @cached_property
    def _stops(self) -> IntArray:
        return np.array([group.places.stop for group in self.row_groups], dtype=np.int64)

    def read_group(self, index: int, columns: Sequence[str]) -> pa.Table:
        """Columns of one row group. Raises DataError: damaged."""
        where = self.row_groups[index]
        with self._file(where.part) as file:
            table = file.read_row_group(where.group, columns=list(columns), use_threads=False)
        if len(table) != len(where.places):
            name = self.parts[where.part].name
            raise DataError(f"{name}: holds other rows than its manifest says; run prepare again")
        return table

    def batches(self, columns: Sequence[str], stop: int | None = None) -> Iterator[pa.Table]:
        """Columns of the first ``stop`` places (all, when None), a row group at a time."""
        stop = len(self) if stop is None else stop
        for index, group in enumerate(self.row_groups):
            if group.places.start >= stop:
                return
            yield self.read_group(index, columns).slice(0, stop - group.places.start)

    def _file(self, number: int) -> _ReadingPart:
        return _ReadingPart(self, self.parts[number].name)


class _ReadingPart:
    """Opens one Parquet file, counts what is read of it, and names it when it is damaged."""

    def __init__(self, split: Split, name: str) -> None:
        self._split, self._name = split, name

    def __enter__(self) -> pq.ParquetFile:
        try:
            self._raw = self._split.open_part(self._name)
        except OSError as error:
            raise self._damaged(error) from error
        try:
            counted = _Counted(self._raw, self._split.counter)
            file = pq.ParquetFile(pa.PythonFile(counted, mode="r"), metadata=self._split.footers.get(self._name))
            self._split.footers[self._name] = file.metadata
            return file
        except (OSError, pa.ArrowException) as error:
            self._raw.close()
            raise self._damaged(error) from error

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._raw.close()
        if isinstance(error, OSError | pa.ArrowException):
            raise self._damaged(error) from error

    def _damaged(self, error: BaseException) -> DataError:
        reason = " ".join(str(error).split())[:160]
        return DataError(f"{self._name}: prepared data cannot be read ({reason}); run prepare again")


class _Counted(io.RawIOBase):
    """Counts the bytes of every read that reaches the storage."""

    def __init__(self, raw: BinaryIO, counter: ReadCounter) -> None:
        super().__init__()
        self._raw, self._counter = raw, counter

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed asks for any Buffer
        content = self._raw.read(len(buffer))
        buffer[: len(content)] = content
        self._counter.n_bytes += len(content)
        return len(content)
