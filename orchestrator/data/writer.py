"""Writes prepared data: once, in bounded memory, and whole or not at all."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from orchestrator.data.prepared import manifest_of
from orchestrator.data.source import Labels, Source
from orchestrator.errors import DataError
from orchestrator.results import DataSummary
from orchestrator.spec import DataSpec
from orchestrator.subsets import IntArray, split_validation

_UNFINISHED = ".preparing-"
_STALE_AFTER_S = 24 * 3600  # an unfinished folder older than this belongs to a process that was killed
_SAY_EVERY_S = 5.0


def write_prepared(source: Source, data: DataSpec, root: Path, say: Callable[[str], None]) -> None:
    """Read a source to its end and write ``root``.

    Raises: DataError: The content cannot be trained on; nothing is left behind. OSError: It cannot be written.
    """
    say(f"preparing {data.source}: reading labels")
    labels = source.labels()
    train_rows, validation_rows = split_validation(
        labels.ids, data.validation_fraction, source.fingerprint, labels.class_names
    )
    with _whole_or_not_at_all(root) as folder:
        np.save(folder / "labels.npy", labels.ids)
        np.save(folder / "train_rows.npy", train_rows)
        np.save(folder / "validation_rows.npy", validation_rows)
        histogram = _write_inputs(folder / "inputs.npy", source, len(labels.ids), train_rows, say)
        mean, std = _mean_and_std(histogram, source.input_scale)
        summary = _summary(source, data, labels, train_rows, len(validation_rows))
        manifest = manifest_of(summary, labels.class_names, source.input_scale, mean, std)
        (folder / "manifest.json").write_text(manifest, encoding="utf-8")
    say(f"prepared {summary.n_rows:,} rows, {len(labels.class_names)} classes, fingerprint {summary.fingerprint}")


def _summary(source: Source, data: DataSpec, labels: Labels, train_rows: IntArray, n_validation: int) -> DataSummary:
    counts = np.bincount(labels.ids[train_rows], minlength=len(labels.class_names))
    return DataSummary(
        fingerprint=source.fingerprint,
        source=data.source,
        n_rows=len(labels.ids),
        n_train=len(train_rows),
        n_validation=n_validation,
        class_counts=dict(zip(labels.class_names, counts.tolist(), strict=True)),
        bytes_on_disk=source.bytes_on_disk,
    )


def _write_inputs(
    path: Path, source: Source, n_rows: int, train_rows: IntArray, say: Callable[[str], None]
) -> npt.NDArray[np.int64]:
    """Write the images; how often each value stands in each channel of the training pool. Shape (channels, 256).

    Written front to back with ordinary writes: storing into a memory map of a disk that fills up ends the process with
    SIGBUS, where a write raises an error that can be told.
    """
    in_training = np.zeros(n_rows, dtype=bool)
    in_training[train_rows] = True
    histogram = np.zeros((0, 256), dtype=np.int64)
    row, said = 0, time.monotonic()
    with path.open("wb") as file:
        for batch in source.batches():
            if len(batch) == 0:
                continue
            if row == 0:
                _write_header(file, (n_rows, *batch.shape[1:]))
                histogram = np.zeros((batch.shape[1], 256), dtype=np.int64)
            file.write(batch.tobytes())
            histogram += _histogram(batch[in_training[row : row + len(batch)]])
            row += len(batch)
            if time.monotonic() - said > _SAY_EVERY_S:
                say(f"decoded {row:,} of {n_rows:,} images ({row / n_rows:.0%})")
                said = time.monotonic()
    if row != n_rows:
        raise DataError(f"{row:,} images for {n_rows:,} labels: the source changed while it was read; run again")
    return histogram


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _histogram(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    channels = [np.bincount(images[:, c].ravel(), minlength=256) for c in range(images.shape[1])]
    return np.stack(channels).astype(np.int64)


def _mean_and_std(histogram: npt.NDArray[np.int64], input_scale: float) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of ``inputs / input_scale`` per channel, exact whatever the number of rows."""
    values = np.arange(256) / input_scale
    share = histogram / histogram.sum(axis=1, keepdims=True)
    mean = share @ values
    variance = (share * (values - mean[:, None]) ** 2).sum(axis=1)
    is_constant = np.count_nonzero(histogram, axis=1) == 1
    return mean.tolist(), np.where(is_constant, 1.0, np.sqrt(variance)).tolist()


@contextmanager
def _whole_or_not_at_all(root: Path) -> Iterator[Path]:
    """A folder beside ``root`` to write into, which becomes ``root`` when the block ends well, else vanishes."""
    _remove_stale(root.parent)
    folder = root.parent / f"{_UNFINISHED}{root.name}-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    try:
        yield folder
        for file in folder.iterdir():
            _sync(file)
        try:
            folder.rename(root)
        except OSError:
            if not root.is_dir():
                raise
            # Another process prepared the same content first; a folder of that name holds the same bytes.
            shutil.rmtree(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _sync(path: Path) -> None:
    """To the disk, so that a power cut after the rename cannot leave a whole-looking folder of holes."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _remove_stale(cache_dir: Path) -> None:
    for folder in cache_dir.glob(f"{_UNFINISHED}*"):
        if time.time() - folder.stat().st_mtime > _STALE_AFTER_S:
            shutil.rmtree(folder, ignore_errors=True)
