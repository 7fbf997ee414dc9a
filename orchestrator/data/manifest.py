"""The manifest of a prepared folder: what it was made from and how, and what lies in it. Written last, read first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from orchestrator.data.versioning.fingerprint import replace_file
from orchestrator.errors import DataError
from orchestrator.results import DataSummary

FORMAT_VERSION = 2
"""Raised when the folder's content changes its meaning; folders of another version are not read."""
MANIFEST = "manifest.json"
TRAIN, VALIDATION = "train", "validation"
STRATA = "train_strata.npy"
"""Stratum of each place of the training pool, where ``stratify`` names other columns than the label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFile:
    """One Parquet file of a split; files of a split are in the order of their places."""

    name: str
    n_rows: int
    n_bytes: int
    group_rows: int
    """Rows of each row group but the last, which may have fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A prepared folder in words and numbers."""

    summary: DataSummary
    label: str
    class_names: tuple[str, ...]
    """Name of each id in ``*_labels.npy``; of the strata where the target is not a class."""
    is_classification: bool
    """False: the ids are strata (bins, or one for unlabelled rows), and the target is the label column itself."""
    strata: str
    """How rows were stratified, in words: ``classes of label``, ``10 quantile bins of price``, ``not at all``."""
    order_seed: int
    min_per_class: int
    validation_fraction: float
    source_format: str
    columns: Mapping[str, str]
    """Arrow type of each column."""
    train_files: tuple[PartFile, ...]
    validation_files: tuple[PartFile, ...]
    counts_at: Mapping[str, Mapping[str, int]]
    """Rows per class at some fractions of the training pool."""
    tool_version: str
    made_at: str
    """UTC, ISO 8601."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Pointers of data versioning tools found beside the source, such as ``dvc: md5 ...``."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Rows that were refused and left out, by reason."""
    stratify: tuple[str, ...] = ()
    """As the config's ``data.stratify``."""
    bins: int = 10
    """As the config's ``data.bins``."""

    @property
    def by_place(self) -> tuple[str, ...]:
        """Files beside the rows that say what stands at each place."""
        labels = tuple(f"{split}_labels.npy" for split in (TRAIN, VALIDATION))
        return (*labels, STRATA) if self.stratify and self.is_classification else labels

    def files(self, split: str) -> tuple[PartFile, ...]:
        """Files of ``train`` or ``validation``."""
        return self.train_files if split == TRAIN else self.validation_files


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make the folder whole. Raises OSError."""
    content = {"version": FORMAT_VERSION, **asdict(manifest)}
    replace_file(folder / MANIFEST, json.dumps(content, indent=1, ensure_ascii=False).encode())


def read_manifest(folder: Path) -> Manifest:
    """What a prepared folder holds. Raises DataError: it is no such folder, damaged, or of another version."""
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{folder}: is not prepared data ({MANIFEST} is not there); run prepare again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}); run prepare again") from error
    return parse_manifest(text, str(path))


def parse_manifest(text: bytes, name: str) -> Manifest:
    """The manifest that a file of this name holds. Raises DataError: damaged, or of another version."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise DataError(f"{name}: cannot be read ({error}); run prepare again") from error
    version = content.pop("version", None) if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        raise DataError(f"{name}: has version {version}, this is {FORMAT_VERSION}; run prepare again")
    try:
        return _parse(content)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{name}: is damaged ({error}); run prepare again") from error


def _parse(content: dict[str, Any]) -> Manifest:
    known = {each.name for each in fields(Manifest)}
    plain: dict[str, Any] = {key: value for key, value in content.items() if key in known}
    plain["summary"] = DataSummary(**plain["summary"])
    for name in ("class_names", "stratify"):
        plain[name] = tuple(plain.get(name, ()))
    for split in ("train_files", "validation_files"):
        plain[split] = tuple(PartFile(**file) for file in plain[split])
    return Manifest(**plain)
