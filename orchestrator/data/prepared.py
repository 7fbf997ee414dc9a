"""Prepared data as trials see it: two splits in nested order, and their images as mapped arrays.

`prepare` makes ready what a config names, once per content: a folder that the ``prepare`` command wrote is taken as it
is, any other source is prepared into the cache first. `open_prepared` is what workers call.

    <cache>/<fingerprint>-<options>/    what `prepare` wrote; or its manifest and labels, and ``origin``, a file that
                                        says where the rows are
            decoded-<options>/          images as arrays, filled as they are asked for

The folder's name holds the fingerprint of the content and a digest of the options that shaped it, so a folder is never
brought up to date: other content or options make another one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np

from orchestrator.data.decoded import DecodedImages, image_shape
from orchestrator.data.findings.look import LookOptions, look_through
from orchestrator.data.findings.store import FINDINGS, PICTURES, read_findings
from orchestrator.data.formats import check_rows, open_rows
from orchestrator.data.images import ImageReader, ImageShape
from orchestrator.data.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    STRATA,
    TRAIN,
    VALIDATION,
    Manifest,
    parse_manifest,
    read_manifest,
)
from orchestrator.data.preparing.preparation import PrepareOptions, prepare_folder
from orchestrator.data.splits import ReadCounter, Split
from orchestrator.data.stores.locations import Location, kind_of, list_files, resolve, stored_file
from orchestrator.data.versioning.fingerprint import replace_file
from orchestrator.errors import ConfigError, DataError, Fault
from orchestrator.results import DataQuality, DataSummary
from orchestrator.spec import DataSpec, digest

_ORIGIN = "origin"
_LOOKED_AT_IN_PASSING = 20_000
"""Images, the first of the nested order; the ``prepare`` command looks at up to a million."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedData:
    """The training pool and the validation rows of one data set."""

    root: Path
    manifest: Manifest
    train: Split
    validation: Split
    image: str
    """Column of images, for `train_images` and `validation_images`."""
    image_size: tuple[int, int] | None = None
    """Height and width that encoded images are scaled to."""

    def __reduce__(self) -> tuple[object, ...]:
        """Between processes it travels as the name of its folder."""
        return _reopen, (self.root, self.image, self.image_size)

    @property
    def summary(self) -> DataSummary:
        found = read_findings(self.root)
        return replace(
            self.manifest.summary,
            train_bytes=self.train.n_bytes,
            versions=dict(self.manifest.versions),
            quality=None if found is None else DataQuality(status=found.status, evidence=found.evidence),
            prepared_at=str(self.root),
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.manifest.class_names

    @property
    def bytes_read(self) -> int:
        """Bytes asked of the storage since the folder was opened."""
        return self.train.counter.n_bytes

    @cached_property
    def train_images(self) -> DecodedImages:
        """Images of the training pool, by place. Raises DataError: the column holds no images."""
        return DecodedImages(self.train, self.image_reader, self.image_shape, self._decoded)

    @cached_property
    def validation_images(self) -> DecodedImages:
        """Images of the validation rows, by place. Raises DataError: the column holds no images."""
        return DecodedImages(self.validation, self.image_reader, self.image_shape, self._decoded)

    @cached_property
    def image_shape(self) -> ImageShape:
        """What every image is. Raises DataError: the column holds no images."""
        return image_shape(self.train, self.image_reader, self._decoded)

    @property
    def rows_at(self) -> Path | None:
        """Folder of this machine in which the rows lie; None when they lie in a store."""
        origin = self.root / _ORIGIN
        where = resolve(origin.read_text(encoding="utf-8") if origin.exists() else str(self.root))
        return Path(where.path) if where.is_local else None

    @cached_property
    def image_reader(self) -> ImageReader:
        """How the column of images becomes arrays. Raises DataError: it holds no images."""
        return ImageReader.of(self.train.schema, self.image, self.image_size)

    @property
    def _decoded(self) -> Path:
        return self.root / f"decoded-{digest([self.image, self.image_size])}"


def prepare(data: DataSpec, cache_dir: Path, say: Callable[[str], None]) -> PreparedData:
    """Make a config's source ready, or open what was made before of the same content and options.

    Args:
        data: The config's section.
        cache_dir: Folder of all prepared data; made when it is not there.
        say: Told what is happening.
    Raises: ConfigError: There is no such source, or the folder was prepared otherwise than the config says. DataError:
        it cannot be read or trained on, or not be written.
    """
    with _cache_errors(cache_dir):
        cache_dir.mkdir(parents=True, exist_ok=True)
        root = _enter(data, cache_dir) if is_prepared(data.source) else _prepare(data, cache_dir, say)
        found = open_prepared(root, image=data.image, image_size=data.image_size)
    summary = replace(found.summary, source=data.source)
    return replace(found, manifest=replace(found.manifest, summary=summary))


def open_prepared(root: Path, *, image: str = "image", image_size: tuple[int, int] | None = None) -> PreparedData:
    """Map what `prepare` made. Raises DataError: the folder is not there, of another version, or damaged."""
    manifest = read_manifest(root)
    opener, counter = _opener(root), ReadCounter()
    splits = [
        Split(
            name=name,
            parts=manifest.files(name),
            labels=_labels(root / f"{name}_labels.npy", n_rows),
            strata=_labels(root / STRATA, n_rows) if name == TRAIN and STRATA in manifest.by_place else None,
            open_part=opener,
            counter=counter,
        )
        for name, n_rows in ((TRAIN, manifest.summary.n_train), (VALIDATION, manifest.summary.n_validation))
    ]
    return PreparedData(
        root=root, manifest=manifest, train=splits[0], validation=splits[1], image=image, image_size=image_size
    )


def is_prepared(source: str) -> bool:
    """Whether a source is a folder that ``prepare`` wrote. Raises DataError: its store cannot be reached."""
    return not source.startswith("sklearn:") and kind_of(resolve(source).child(MANIFEST)) == "file"


def _reopen(root: Path, image: str, image_size: tuple[int, int] | None) -> PreparedData:
    return open_prepared(root, image=image, image_size=image_size)


def check_source(data: DataSpec) -> Fault | None:
    """What is wrong with a source before it is read: unknown, not there, unreachable, or without its package.

    Raises OSError: this machine will not look at the path at all.
    """
    try:
        if not data.source.startswith("sklearn:") and (where := resolve(data.source)).is_local:
            with suppress(FileNotFoundError, NotADirectoryError):
                Path(where.path).stat()
        if is_prepared(data.source):
            return None
    except DataError as error:
        return Fault("data.source", str(error))
    return check_rows(data.source, files=data.files)


def _prepare(data: DataSpec, cache_dir: Path, say: Callable[[str], None]) -> Path:
    rows = open_rows(data.source, label=data.label, image=data.image, files=data.files, cache_dir=cache_dir)
    options = PrepareOptions(
        source=data.source,
        label=data.label,
        validation_fraction=data.validation_fraction,
        stratify=data.stratify,
        bins=data.bins,
        min_per_class=data.min_per_class,
    )
    shaped_by = [FORMAT_VERSION, data.label, data.image, data.validation_fraction]
    shaped_by += [data.stratify, data.bins, data.min_per_class]
    root = cache_dir / f"{rows.fingerprint}-{digest(shaped_by)}"
    if root.exists():
        try:
            found = open_prepared(root)
        except DataError as error:
            say(f"{error}; preparing it anew")
            shutil.rmtree(root)
        else:
            _look_in_passing(root, found.manifest, say)
            return root
    manifest = prepare_folder(rows, root, options, say=say)
    made = manifest.summary
    say(f"prepared {made.n_rows:,} rows, {len(made.class_counts)} classes, fingerprint {made.fingerprint}")
    _look_in_passing(root, manifest, say)
    return root


def _look_in_passing(root: Path, manifest: Manifest, say: Callable[[str], None]) -> None:
    """Look through the head of the order, unless somebody did. Raises DataError: images that cannot be decoded."""
    if read_findings(root) is None:
        look_through(root, manifest, LookOptions(max_images=_LOOKED_AT_IN_PASSING, max_undecodable=0.0), say=say)


def _enter(data: DataSpec, cache_dir: Path) -> Path:
    """A folder that was prepared before, wherever it lies: manifest and labels are copied, the rows stay there."""
    where = resolve(data.source)
    with stored_file(where.child(MANIFEST)).open() as file:
        text = file.read()
    root = cache_dir / f"entered-{digest([data.source, text.decode()])}"
    root.mkdir(exist_ok=True)
    origin = str(Path(where.path).absolute()) if where.is_local else data.source
    replace_file(root / _ORIGIN, origin.encode())
    _copy_findings(where, root)
    manifest = parse_manifest(text, where.child(MANIFEST).uri)
    _require_same_options(data, manifest)
    for name in manifest.by_place:
        with stored_file(where.child(name)).open() as file:
            replace_file(root / name, file.read())
    replace_file(root / MANIFEST, text)  # last: it says that the rest is there
    return root


def _copy_findings(where: Location, root: Path) -> None:
    """What was found and its pictures, where somebody looked; a report is made from them."""
    if kind_of(where.child(FINDINGS)) != "file":
        return
    pictures = where.child(PICTURES)
    found = list_files(pictures) if kind_of(pictures) == "folder" else []
    (root / PICTURES).mkdir(exist_ok=True)
    for file, target in [*((each, PICTURES) for each in found), (stored_file(where.child(FINDINGS)), "")]:
        with file.open() as opened:
            replace_file(root / target / Path(file.path).name, opened.read())


def _require_same_options(data: DataSpec, manifest: Manifest) -> None:
    asked = {
        "label": (data.label, manifest.label or data.label),
        "validation_fraction": (data.validation_fraction, manifest.validation_fraction),
        "stratify": (list(data.stratify), list(manifest.stratify)),
        "min_per_class": (data.min_per_class, manifest.min_per_class),
    }
    if data.stratify or not manifest.is_classification:
        asked["bins"] = (data.bins, manifest.bins)
    faults = [
        Fault(
            f"data.{key}",
            f"is {wanted!r}, but {data.source} was prepared with {found!r}; say data.{key}={found!r}, or prepare it "
            "again",
        )
        for key, (wanted, found) in asked.items()
        if wanted != found
    ]
    if faults:
        raise ConfigError("config", tuple(faults))


@dataclass(frozen=True, slots=True)
class _Files:
    """Opens the files of a folder by name. Pickles, so that loader processes can read too."""

    where: Location
    manifest: bytes
    """As it was when the folder was opened."""

    def __call__(self, name: str) -> BinaryIO:
        file = self.where.child(name)
        if file.is_local:
            self._check_manifest()
            return Path(file.path).open("rb", buffering=0)
        opened: BinaryIO = stored_file(file).open()
        return opened

    def _check_manifest(self) -> None:
        """Refuse rows that were prepared again since: their labels would be those of the rows before."""
        path = Path(self.where.child(MANIFEST).path)
        if path.read_bytes() != self.manifest:
            raise DataError(f"{self.where.uri}: was prepared again after it was opened; run the command again")


def _opener(root: Path) -> _Files:
    origin = root / _ORIGIN
    where = resolve(origin.read_text(encoding="utf-8") if origin.exists() else str(root))
    return _Files(where, (root / MANIFEST).read_bytes())


def _labels(path: Path, n_rows: int) -> np.ndarray:
    try:
        labels: np.ndarray = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: prepared data is damaged ({error}); delete the folder and run again") from error
    if labels.shape != (n_rows,) or labels.dtype.kind not in "iu":
        raise DataError(f"{path}: prepared data is damaged (row counts differ); delete the folder and run again")
    return labels


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
