"""What a data source is, which ones there are, and which of them a config names."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from orchestrator.errors import ConfigError, Fault, did_you_mean
from orchestrator.spec import DataSpec

_SKLEARN_SETS = ("digits",)
_KNOWN = "a Parquet file, a folder of Parquet files, or sklearn:digits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The classes of all rows: ``ids`` of shape (n,), int64, index ``class_names``."""

    ids: npt.NDArray[np.int64]
    class_names: tuple[str, ...]


class Source(Protocol):
    """Rows of images with classes. Every method raises DataError for content that cannot be trained on."""

    @property
    def fingerprint(self) -> str:
        """Of the full content, 16 hex digits."""

    @property
    def bytes_on_disk(self) -> int:
        """Of the source as it lies there."""

    @property
    def input_scale(self) -> float:
        """The largest value an input can have; dividing by it gives 0..1."""

    def labels(self) -> Labels:
        """Classes of all rows, in the order of `batches`."""

    def batches(self) -> Iterator[npt.NDArray[np.uint8]]:
        """Images of all rows in turn, each batch of shape (rows, channels, height, width)."""


def open_source(data: DataSpec, cache_dir: Path) -> Source:
    """The source that a config names, fingerprinted.

    Raises: ConfigError: no such source. DataError: it cannot be read. OSError: ``cache_dir`` cannot be written.
    """
    fault = check_source(data)
    if fault is not None:
        raise ConfigError("config", (fault,))
    if data.source.startswith("sklearn:"):
        from orchestrator.data.digits import Digits

        return Digits(cache_dir)
    from orchestrator.data.parquet import ParquetImages

    return ParquetImages(_files(data), label=data.label, image=data.image, cache_dir=cache_dir)


def check_source(data: DataSpec) -> Fault | None:
    """What is wrong with a source before it is read: unknown, not there, or without its package."""
    path = Path(data.source).expanduser()
    if path.exists():
        if path.is_dir() and not _files(data):
            holds = sorted(child.name for child in path.iterdir())
            shown = ", ".join(holds[:5]) + (", ..." if len(holds) > 5 else "") if holds else "nothing"
            return Fault("data.files", f"{data.files!r} matches no file in {path}, which holds: {shown}")
        return None
    name = data.source.removeprefix("sklearn:")
    if name != data.source:
        return _check_sklearn(name)
    # Two letters or more: C:\data is a path.
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", data.source)
    if scheme or data.source == "task":
        return Fault("data.source", f"cannot prepare {data.source!r}: it must be {_KNOWN}")
    return Fault("data.source", f"{path} is not there{_near(path)}; give {_KNOWN}")


def _check_sklearn(name: str) -> Fault | None:
    if name not in _SKLEARN_SETS:
        known = ", ".join(f"sklearn:{known}" for known in _SKLEARN_SETS)
        return Fault(
            "data.source", f"there is no 'sklearn:{name}' here{did_you_mean(name, _SKLEARN_SETS)}; known: {known}"
        )
    if importlib.util.find_spec("sklearn") is None:
        return Fault(
            "data.source", f"sklearn:{name} needs scikit-learn, which is not installed: pip install scikit-learn"
        )
    return None


def _files(data: DataSpec) -> list[Path]:
    path = Path(data.source).expanduser()
    return sorted(file for file in path.glob(data.files) if file.is_file()) if path.is_dir() else [path]


def _near(path: Path) -> str:
    """What may have been meant: the nearest folder that exists, and a name in it like the one asked for."""
    missing = path
    while not missing.parent.exists():
        missing = missing.parent
    if missing != path:
        return f", nor is the folder {missing}"
    if not path.parent.is_dir():
        return f", for {path.parent} is a file"
    return did_you_mean(path.name, [child.name for child in path.parent.iterdir()]).rstrip("?")
