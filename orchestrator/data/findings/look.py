"""Looks through a prepared folder for what spoils a training: one pass over the rows, in bounded memory.

Kept per row are a digest (8 bytes), for images a perceptual hash and the size (16 bytes) and, in a temporary file, a
thumbnail (256 bytes); everything else is read again for the few rows that are shown. Digests, missing values and
constant columns are taken of all rows; images are decoded up to a limit, which takes the same share off the front of
both splits: by the nested order, a stratified sample.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.data.findings import conclusions
from orchestrator.data.findings.row_access import RowAccess, class_ids
from orchestrator.data.findings.row_digests import digest_rows
from orchestrator.data.findings.scan import ImageNotes, RowNotes
from orchestrator.data.findings.store import write_findings
from orchestrator.data.findings.thumbnails import find_image_column, look_at
from orchestrator.data.images import ImageReader
from orchestrator.data.manifest import TRAIN, VALIDATION, Manifest
from orchestrator.data.rows import SOURCE_ROW
from orchestrator.errors import DataError
from orchestrator.quality.findings import Findings

ID_COLUMNS = frozenset({"id", "row_id", "uuid", "guid", "image_id", "sample_id"})
"""Columns that should not hold a value twice."""
NAME_COLUMNS = ID_COLUMNS | {"path", "file", "file_name", "filename", "index", "__index_level_0__", SOURCE_ROW}
"""Columns that name a row rather than describe it; rows that differ in them alone are duplicates."""
MAX_IMAGES = 1_000_000
"""Images that are decoded: 7 to 9 thousand small ones a second and core (CIFAR-10)."""

_TELL_EVERY_S = 10.0
_MAX_THREADS = 16
_ROWS_AT_ONCE = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class LookOptions:
    """How closely to look."""

    image: str | None = None
    """Column of images; None takes the one that holds some."""
    max_images: int = MAX_IMAGES
    """Rows whose images are decoded, over both splits."""
    max_undecodable: float = 0.01
    """Share of images that may be broken before the data are refused, in 0..1."""
    n_examples: int = 12
    """Rows shown of each kind."""
    n_threads: int | None = None
    """Threads that decode; None takes the processors there are, up to 16."""


def look_through(
    folder: Path,
    manifest: Manifest,
    options: LookOptions | None = None,
    *,
    say: Callable[[str], None] = lambda message: None,
) -> Findings:
    """Look for all kinds of findings but label noise, and write them and their pictures into the folder.

    Args:
        folder: Files of both splits and their ``*_labels.npy``.
        manifest: Of that folder; it may not have been written yet.
        options: How closely.
        say: Told how far it is, and how fast it went.
    Raises: DataError: A file cannot be read, or too many images cannot be decoded. OSError: nothing can be written.
    """
    options = options or LookOptions()
    n_threads = options.n_threads or min(os.cpu_count() or 1, _MAX_THREADS)
    with ThreadPoolExecutor(n_threads, thread_name_prefix="look") as pool, tempfile.TemporaryFile() as scratch:
        look = _Look(folder, manifest, options, pool, say)
        started = time.perf_counter()
        rows, images = look.scan(scratch.fileno())
        findings = conclusions.conclude(manifest, rows, images, look.access, n_examples=options.n_examples)
        seconds = time.perf_counter() - started
        if images is not None:
            conclusions.refuse_undecodable(images, options.max_undecodable, look.access)
    speed = manifest.summary.n_rows / max(seconds, 1e-9)
    say(f"findings: {manifest.summary.n_rows:,} rows in {seconds:.1f} s, {speed:,.0f} rows/s on {n_threads} threads")
    findings = conclusions.with_speed(findings, speed)
    shown = [row for each in findings.findings for e in each.examples for row in (e.row, e.other) if row is not None]
    write_findings(folder, findings, {} if look.reader is None else look.access.pictures(shown, look.reader))
    return findings


class _Look:
    """One pass over one folder."""

    def __init__(
        self, folder: Path, manifest: Manifest, options: LookOptions, pool: Executor, say: Callable[[str], None]
    ) -> None:
        self._folder, self._manifest, self._options, self._pool, self._say = folder, manifest, options, pool, say
        self.access = RowAccess(folder, manifest)
        first = next(self._tables(TRAIN), None)
        if first is None or first.num_rows == 0:
            raise DataError(f"{folder}: the training pool holds no rows; run prepare again")
        image = options.image or find_image_column(first.schema, first.slice(0, 16))
        self.reader = None if image is None else ImageReader.of(first.schema, image, None)
        self._names = first.schema.names
        content = [name for name in self._names if name.lower() not in NAME_COLUMNS and name != manifest.label]
        self._content = content if image is None else [image]
        self._ids = next((name for name in self._names if name.lower() in ID_COLUMNS), None)

    def scan(self, scratch: int) -> tuple[RowNotes, ImageNotes | None]:
        """Read every row once; ``scratch`` is a file descriptor for thumbnails."""
        sizes = {split: sum(file.n_rows for file in self._manifest.files(split)) for split in (TRAIN, VALIDATION)}
        n_rows = sum(sizes.values())
        share = min(1.0, self._options.max_images / n_rows)
        looked_at = {split: int(np.ceil(n * share)) for split, n in sizes.items()}
        rows = RowNotes(sizes, self._names, self._content, is_images=self.reader is not None, id_column=self._ids)
        images = None if self.reader is None else ImageNotes(looked_at, scratch)
        told = time.monotonic()
        for split in (TRAIN, VALIDATION):
            place = 0
            for table in self._tables(split):
                self._take(split, place, table, rows, images)
                place += table.num_rows
                if time.monotonic() - told >= _TELL_EVERY_S:
                    told = time.monotonic()
                    self._say(f"findings: looked at {place:,} of {sizes[split]:,} rows of {split}")
            if place != sizes[split]:
                raise DataError(f"{self._folder}: {split} holds {place:,} rows, not {sizes[split]:,}; prepare again")
        self._take_labels(rows)
        return rows, images

    def _take(self, split: str, place: int, table: pa.Table, rows: RowNotes, images: ImageNotes | None) -> None:
        digests = digest_rows(table, self._content) if self._content else None
        ids = None if self._ids is None else digest_rows(table, [self._ids])
        rows.take(split, place, table, digests, ids)
        if not self._manifest.is_classification and self._manifest.label in self._names:
            rows.take_labels(split, place, digest_rows(table, [self._manifest.label]))
        if images is not None and self.reader is not None:
            wanted = max(0, images.n_wanted(split) - place)
            column = table.column(self.reader.column).slice(0, wanted)
            if len(column):
                images.take(split, place, look_at(column, self.reader, self._pool))

    def _take_labels(self, rows: RowNotes) -> None:
        if self._manifest.is_classification:
            for split in (TRAIN, VALIDATION):
                rows.take_labels(split, 0, class_ids(self._folder, split).astype(np.uint64))

    def _tables(self, split: str) -> Iterator[pa.Table]:
        """Rows of a split, a row group at a time."""
        for part in self._manifest.files(split):
            path = self._folder / part.name
            try:
                with pq.ParquetFile(path) as file:
                    for group in range(file.num_row_groups):
                        table = file.read_row_group(group)
                        for start in range(0, table.num_rows, _ROWS_AT_ONCE):
                            yield table.slice(start, _ROWS_AT_ONCE)
            except (OSError, pa.ArrowException) as error:
                raise DataError(f"{path}: cannot be read ({error}); run prepare again") from error
