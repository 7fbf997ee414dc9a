"""Prepared data: arrays that every process maps instead of reading the source again.

    <cache>/<fingerprint>-<options>/    inputs.npy  labels.npy  train_rows.npy  validation_rows.npy  manifest.json
                                        order-<seed>.npy, made when first asked for

The folder's name holds the fingerprint of the content and a digest of the options that shaped it, so a folder is never
brought up to date: other content or options make another one. Opening needs numpy alone.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.data.fingerprint import replace_file
from orchestrator.errors import DataError
from orchestrator.results import DataSummary
from orchestrator.spec import DataSpec, digest
from orchestrator.subsets import IntArray, nested_order, subset_size

FORMAT_VERSION = 1
"""Raised when the folder's content changes its meaning; older folders are then left alone and made anew."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedData:
    """Images with classes, split once; arrays are mapped from disk, read-only."""

    root: Path
    summary: DataSummary
    inputs: npt.NDArray[np.uint8]
    """Shape (n_rows, channels, height, width)."""
    labels: npt.NDArray[np.int64]
    """Index into ``class_names``. Shape (n_rows,)."""
    train_rows: IntArray
    """Rows of the training pool, rising. Shape (n_train,)."""
    validation_rows: IntArray
    """Rows held out, rising. Shape (n_validation,)."""
    class_names: tuple[str, ...]
    input_scale: float
    """The largest value an input can have."""
    mean: tuple[float, ...]
    """Per channel, of ``inputs / input_scale`` over the training pool."""
    std: tuple[float, ...]
    """Likewise; 1 for a channel that never changes, so that dividing by it is safe."""

    def subset(self, fraction: float, seed: int) -> IntArray:
        """Rows into ``inputs`` of a nested stratified subset; larger fractions of a seed begin with the same rows.

        Args:
            fraction: Share of the training pool, in (0, 1].
            seed: Another seed gives another subset.
        Returns: Rows in nested order. Shape (subset_size(n_train, fraction),).
        """
        return np.array(self._order(seed)[: subset_size(len(self.train_rows), fraction)])

    def _order(self, seed: int) -> IntArray:
        path = self.root / f"order-{seed}.npy"
        cached = _load_order(path, len(self.train_rows))
        if cached is not None:
            return cached
        pool_labels = self.labels[self.train_rows]
        order: IntArray = self.train_rows[nested_order(pool_labels, fingerprint=self.summary.fingerprint, seed=seed)]
        content = io.BytesIO()
        np.save(content, order)
        with suppress(OSError):  # a read-only or full cache: the order is the same each time it is computed
            replace_file(path, content.getvalue())
        return order

    def __reduce__(self) -> tuple[Callable[[Path], PreparedData], tuple[Path]]:
        """Travels between processes as its folder's name: pickling a memory map would copy the data."""
        return open_prepared, (self.root,)


def prepare(data: DataSpec, cache_dir: Path, say: Callable[[str], None]) -> PreparedData:
    """Read, check, split and write a source, or find what was written before for the same content and options.

    Args:
        data: The config's section.
        cache_dir: Folder of all prepared data; made when it is not there.
        say: Told what is happening.
    Raises: ConfigError: There is no such source. DataError: It cannot be read or trained on, or not be written.
    """
    from orchestrator.data.source import open_source
    from orchestrator.data.writer import write_prepared

    with _cache_errors(cache_dir):
        cache_dir.mkdir(parents=True, exist_ok=True)
        source = open_source(data, cache_dir)
        options = [FORMAT_VERSION, data.label, data.image, data.validation_fraction]
        root = cache_dir / f"{source.fingerprint}-{digest(options)}"
        if root.exists():
            try:
                found = open_prepared(root)
            except DataError as error:
                say(f"{error}; preparing it anew")
                shutil.rmtree(root)
            else:
                return replace(found, summary=replace(found.summary, source=data.source))
        write_prepared(source, data, root, say)
        return open_prepared(root)


def open_prepared(root: Path) -> PreparedData:
    """Map what `prepare` wrote. Raises DataError: the folder is not there, of another version, or damaged."""
    manifest = _read_manifest(root)
    try:
        prepared = PreparedData(
            root=root,
            summary=DataSummary(**manifest["summary"]),
            inputs=np.load(root / "inputs.npy", mmap_mode="r"),
            labels=np.load(root / "labels.npy", mmap_mode="r"),
            train_rows=np.load(root / "train_rows.npy", mmap_mode="r"),
            validation_rows=np.load(root / "validation_rows.npy", mmap_mode="r"),
            class_names=tuple(manifest["class_names"]),
            input_scale=float(manifest["input_scale"]),
            mean=tuple(manifest["mean"]),
            std=tuple(manifest["std"]),
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise DataError(f"{root}: prepared data is damaged ({error}); delete the folder and run again") from error
    summary = prepared.summary
    lengths = [len(a) for a in (prepared.inputs, prepared.labels, prepared.train_rows, prepared.validation_rows)]
    if lengths != [summary.n_rows, summary.n_rows, summary.n_train, summary.n_validation]:
        raise DataError(f"{root}: prepared data is damaged (row counts differ); delete the folder and run again")
    return prepared


def manifest_of(
    summary: DataSummary, class_names: tuple[str, ...], input_scale: float, mean: list[float], std: list[float]
) -> str:
    """The manifest's text."""
    content = {
        "version": FORMAT_VERSION,
        "summary": asdict(summary),
        "class_names": class_names,
        "input_scale": input_scale,
        "mean": mean,
        "std": std,
    }
    return json.dumps(content, indent=1, ensure_ascii=False)


def _read_manifest(root: Path) -> dict[str, Any]:
    path = root / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{root}: is not prepared data (manifest.json is not there); run the sweep again") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete the folder and run again") from error
    version = manifest.get("version") if isinstance(manifest, dict) else None
    if not isinstance(manifest, dict) or version != FORMAT_VERSION:
        raise DataError(f"{path}: has version {version}, this is {FORMAT_VERSION}; delete the folder and run again")
    return manifest


def _load_order(path: Path, n_train: int) -> IntArray | None:
    """A cached order, or None when there is none that can be used."""
    try:
        order: IntArray = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return order if order.shape == (n_train,) and order.dtype == np.int64 else None


@contextmanager
def _cache_errors(cache_dir: Path) -> Iterator[None]:
    """Sources report their own faults as DataError; what is left of OSError comes from the cache folder."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{error.filename or cache_dir}: prepared data cannot be written ({error.strerror}); "
            "free some space, allow writing there, or set runs_dir to another folder"
        ) from error
