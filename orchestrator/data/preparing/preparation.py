"""`prepare`, the whole: rows of a source become a folder of Parquet in nested stratified order, or nothing at all.

    pass one   label column -> classes or strata -> split -> place of every row     (`label_pass`, `layout`)
    pass two   rows -> spilled by slices of places, when they do not fit in memory -> files   (`partitions`)
    finish     counts, manifest, rename                                                 (`work_folder`)

Started again after a kill with the same content and options, it goes on: groups of pieces that were spilled and files
that were written are not made again.
"""

from __future__ import annotations

import datetime
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from orchestrator import __version__
from orchestrator.data.manifest import STRATA, TRAIN, VALIDATION, Manifest, PartFile, write_manifest
from orchestrator.data.preparing import remote_target, work_folder
from orchestrator.data.preparing.label_pass import PrepareOptions, n_rows_of, read_layout, request_of
from orchestrator.data.preparing.layout import COUNTED_FRACTIONS, LEFT_OUT, Layout
from orchestrator.data.preparing.partitions import (
    FromRuns,
    Geometry,
    InMemory,
    PieceGroup,
    Run,
    SpillGroup,
    WriteFile,
    group_pieces,
    output_schema,
    plan_files,
    read_rows,
    sync,
)
from orchestrator.data.preparing.row_pool import Buffer, RowSize, row_size
from orchestrator.data.rows import RowSource
from orchestrator.data.stores.locations import resolve
from orchestrator.data.versioning.fingerprint import combine, digest_bytes
from orchestrator.data.versioning.pointers import version_pointers
from orchestrator.errors import DataError
from orchestrator.results import DataSummary
from orchestrator.subsets import subset_size

__all__ = ["LOCAL", "Local", "PrepareOptions", "Spread", "prepare_folder", "request_of"]

Item = TypeVar("Item")
Result = TypeVar("Result")
Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]

_MAX_MEMORY_BYTES = 4 * 10**9
_SAMPLED_PIECES = 4
_SLACK = 1.15
"""Of what rows take in memory over what a sample of them does."""


class Spread(Protocol):
    """How tasks are run: here, one after the other, or by processes of a cluster. Results come in any order."""

    @property
    def n_processes(self) -> int:
        """Tasks that run at once."""

    def check(self, folder: Path) -> None:
        """Raises DataError: some process cannot reach the folder."""

    def __call__(self, task: Callable[[Item], Result], items: Sequence[Item]) -> Iterable[Result]:
        """Results of all items, as they come."""


class Local:
    """Tasks in this process."""

    n_processes = 1

    def check(self, folder: Path) -> None:
        """Nothing can be wrong."""

    def __call__(self, task: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        return map(task, items)


LOCAL = Local()


def prepare_folder(
    rows: RowSource,
    target: Path | str,
    options: PrepareOptions,
    *,
    say: Say = lambda message: None,
    progress: Progress = lambda phase, done, total: None,
    spread: Spread = LOCAL,
) -> Manifest:
    """Prepare a source, go on where an earlier process was stopped, or find what was prepared before.

    Args:
        rows: The source.
        target: Folder to make, or an address such as ``s3://bucket/folder``.
        options: How.
        say: Told what is happening.
        progress: Told phase, rows done and rows in all.
        spread: Who does the work.
    Raises: DataError: content that cannot be trained on, other content in the target, no space, an unreachable store;
        the target is then as it was.
    """
    if "://" in str(target) and not str(target).startswith("file://"):
        return _prepare_remote(rows, str(target), options, say, progress, spread)
    folder = Path(str(target).removeprefix("file://")).expanduser().absolute()
    _refuse_source_inside(rows, folder, options)
    request = request_of(rows, options)
    with work_folder.telling_of_disk_errors(folder), work_folder.locked(folder, say):
        done = work_folder.done_before(folder, request, overwrite=options.overwrite)
        if done is not None:
            work_folder.remove_work(folder)
            say(f"{folder} holds just that already: fingerprint {rows.fingerprint}, the same options; nothing to do")
            return done
        say(f"reading labels of {n_rows_of(rows):,} rows")
        layout = read_layout(rows, options)
        work = work_folder.open_work(folder, request, say)
        files = _write_rows(rows, layout, work, options, say, progress, spread)
        manifest = _manifest(rows, layout, options, files)
        _write_rest(work, layout, manifest)
        work_folder.finish(work, folder)
    return manifest


def counts_at(layout: Layout) -> dict[str, dict[str, int]]:
    """Rows per class at some fractions of the training pool."""
    train = layout.labels[: layout.n_train]
    found = {}
    for fraction in COUNTED_FRACTIONS:
        counts = np.bincount(train[: subset_size(layout.n_train, fraction)], minlength=len(layout.target.names))
        found[f"{fraction:g}"] = dict(zip(layout.target.names, counts.tolist(), strict=True))
    return found


def default_memory_bytes() -> int:
    """A quarter of the memory that is free, by the kernel's own estimate, and at most 4 GB."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        free = _MAX_MEMORY_BYTES
    return min(free // 4, _MAX_MEMORY_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """How much memory there is, and what that means."""

    memory_bytes: int
    row: RowSize
    is_spilled: bool


def _write_rows(
    rows: RowSource,
    layout: Layout,
    work: Path,
    options: PrepareOptions,
    say: Say,
    progress: Progress,
    spread: Spread,
) -> tuple[PartFile, ...]:
    """Pass two: all Parquet files, in the order of their places."""
    schema = output_schema(rows.schema)
    plan = _plan(rows, layout, work, options, spread)
    geometry = plan_files(layout.n_train, layout.n_validation, plan.row.n_bytes, plan.memory_bytes / 4)
    _check_space(work, layout.n_rows, plan)
    tell = _Tell("reading", n_rows_of(rows), progress)
    sorted_rows: Any = None
    if not plan.is_spilled:
        sorted_rows = _in_memory(rows, layout, schema, plan, tell)
        if sorted_rows is None:
            say("rows are larger than they looked: going by way of the disk")
    if sorted_rows is None:
        sorted_rows = _spilled(rows, layout, work, geometry, schema, plan, say, tell, spread)
    progress("reading", tell.total, tell.total)
    writing = WriteFile(folder=work, schema=schema, rows_per_group=geometry.rows_per_group, sorted_rows=sorted_rows)
    parts: dict[str, PartFile] = {}
    tell = _Tell("writing", layout.n_rows, progress)
    runner = spread if isinstance(sorted_rows, FromRuns) else LOCAL
    for part in runner(writing, geometry.files):
        parts[part.name] = part
        tell(part.n_rows)
    return tuple(parts[file.name] for file in geometry.files)


def _in_memory(
    rows: RowSource, layout: Layout, schema: pa.Schema, plan: _Plan, tell: Callable[[int], None]
) -> InMemory | None:
    """All rows, or None when they turn out not to fit."""
    buffer = Buffer()
    for batch, places in read_rows(rows, rows.pieces, layout.places, schema):
        buffer.add(batch, places)
        tell(len(batch))
        if buffer.n_bytes * plan.row.peak / plan.row.n_bytes > plan.memory_bytes * _SLACK:
            return None
    return InMemory(buffer, schema)


def _spilled(
    rows: RowSource,
    layout: Layout,
    work: Path,
    geometry: Geometry,
    schema: pa.Schema,
    plan: _Plan,
    say: Say,
    tell: Callable[[int], None],
    spread: Spread,
) -> FromRuns:
    """Rows by way of the disk, in run files."""
    spill, places_file = work / work_folder.SPILL, work / work_folder.PLACES
    spill.mkdir(exist_ok=True)
    np.save(places_file, layout.places)
    spread.check(work)
    groups = _groups(rows, plan, spread)
    say(
        f"{_gb(layout.n_rows * plan.row.n_bytes)} of rows go by way of the disk, in {len(groups):,} "
        f"{'part' if len(groups) == 1 else 'parts'}, within {_gb(plan.memory_bytes)} of memory"
    )
    task = SpillGroup(
        rows=rows,
        schema=schema,
        geometry=geometry,
        places_file=places_file,
        folder=spill,
        buffer_bytes=plan.memory_bytes * 0.4,
        tell=tell if spread is LOCAL else None,
    )
    runs: list[Run] = []
    for group, found in enumerate(spread(task, groups)):
        runs.extend(found)
        if spread is not LOCAL:
            tell(groups[group].n_rows)
    runs.sort(key=lambda run: run.name)
    return FromRuns(folder=spill, runs=tuple(runs), places_file=places_file, geometry=geometry, schema=schema)


def _groups(rows: RowSource, plan: _Plan, spread: Spread) -> list[PieceGroup]:
    """Pieces that are spilled together: a buffer full, or less when many processes share them."""
    full = plan.memory_bytes * 0.4 / plan.row.n_bytes
    shared = n_rows_of(rows) / (4 * spread.n_processes) if spread.n_processes > 1 else full
    return group_pieces(rows.pieces, min(full, shared))


def _plan(rows: RowSource, layout: Layout, work: Path, options: PrepareOptions, spread: Spread) -> _Plan:
    """What the run that began this work decided, unless less memory is allowed now; else decided now."""
    before = work_folder.read_plan(work)
    asked = options.memory_bytes or default_memory_bytes()
    memory = asked
    if before and (options.memory_bytes is None or before["memory_bytes"] <= asked):
        memory = int(before["memory_bytes"])
    elif before:
        shutil.rmtree(work / work_folder.SPILL, ignore_errors=True)
    row = _sample(rows)
    is_spilled = spread.n_processes > 1 or layout.n_rows * row.peak * _SLACK > memory
    plan = _Plan(memory_bytes=memory, row=row, is_spilled=is_spilled)
    processes = spread.n_processes
    if before and before["processes"] != processes:
        shutil.rmtree(work / work_folder.SPILL, ignore_errors=True)
    work_folder.write_plan(work, {"memory_bytes": memory, "processes": processes})
    return plan


def _sample(rows: RowSource) -> RowSize:
    """Size of a row, from the heads of a few pieces.

    The same pieces each time, so that row groups and files end at the same rows each time.
    """
    pieces = [piece for piece in rows.pieces if piece.n_rows]
    # A tenth of the pieces at most: the format may have to read a whole piece to give its head.
    n_chosen = min(_SAMPLED_PIECES, 1 + len(pieces) // 10)
    chosen = np.unique(np.linspace(0, len(pieces) - 1, n_chosen).astype(int)).tolist()
    heads = [next(iter(rows.read(pieces[i]))) for i in chosen]
    return row_size(heads)


def _check_space(work: Path, n_rows: int, plan: _Plan) -> None:
    """Refuse to begin what cannot end: spilled rows as they are, and of the result what will not be compressed."""
    present = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
    needed = n_rows * (plan.row.blobs + (plan.row.n_bytes if plan.is_spilled else 0)) - present
    free = shutil.disk_usage(work).free
    if needed > free:
        if not (work / work_folder.SPILL).exists() and not any(work.glob("*.parquet")):
            shutil.rmtree(work)
        raise DataError(
            f"{work.parent}: about {_gb(needed)} are needed there and {_gb(free)} are free; free some, or give a "
            "target on another disk"
        )


def _write_rest(work: Path, layout: Layout, manifest: Manifest) -> None:
    """Labels by place, then the manifest, and away with what only the making needed."""
    by_place = {f"{TRAIN}_labels.npy": layout.labels[: layout.n_train]}
    by_place[f"{VALIDATION}_labels.npy"] = layout.labels[layout.n_train :]
    if layout.train_strata is not None:
        by_place[STRATA] = layout.train_strata
    for name, ids in by_place.items():
        np.save(work / name, ids)
        sync(work / name)
    shutil.rmtree(work / work_folder.SPILL, ignore_errors=True)
    for name in (work_folder.PLACES, work_folder.PLAN):
        (work / name).unlink(missing_ok=True)
    write_manifest(work, manifest)
    sync(work / "manifest.json")


def _fingerprint(rows: RowSource, options: PrepareOptions, layout: Layout) -> str:
    """Of the rows that were written and the order they stand in: the content's own, where all of it was written in the
    usual order. Trials of another pool, or of other subsets of it, are then other evidence."""
    if not layout.left_out and options.order_seed == 0:
        return rows.fingerprint
    kept = digest_bytes(np.packbits(layout.places != LEFT_OUT).tobytes())
    return combine([rows.fingerprint, f"order {options.order_seed}", f"rows {kept}"])


def _manifest(rows: RowSource, layout: Layout, options: PrepareOptions, files: Sequence[PartFile]) -> Manifest:
    target = layout.target
    counts = counts_at(layout)
    return Manifest(
        summary=DataSummary(
            fingerprint=_fingerprint(rows, options, layout),
            source=options.source,
            n_rows=layout.n_rows,
            n_train=layout.n_train,
            n_validation=layout.n_validation,
            class_counts=counts["1"] if target.is_classification else {},
            bytes_on_disk=sum(file.n_bytes for file in files),
        ),
        label=options.label or "",
        class_names=target.names,
        is_classification=target.is_classification,
        strata=layout.strata,
        order_seed=options.order_seed,
        min_per_class=options.min_per_class,
        validation_fraction=options.validation_fraction,
        source_format=rows.format,
        columns={field.name: str(field.type) for field in output_schema(rows.schema)},
        train_files=tuple(file for file in files if file.name.startswith(TRAIN)),
        validation_files=tuple(file for file in files if file.name.startswith(VALIDATION)),
        counts_at=counts,
        tool_version=__version__,
        made_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=version_pointers(options.source),
        left_out=layout.left_out,
        stratify=options.stratify,
        bins=options.bins,
    )


def _prepare_remote(
    rows: RowSource, uri: str, options: PrepareOptions, say: Say, progress: Progress, spread: Spread
) -> Manifest:
    """Prepare on this machine, upload, and forget the copy here."""
    target = resolve(uri)
    done = remote_target.done_before(target, request_of(rows, options), overwrite=options.overwrite)
    if done is not None:
        say(f"{target.uri} holds just that already: fingerprint {rows.fingerprint}, the same options; nothing to do")
        return done
    name = f"prepared-{hashlib.blake2b(uri.encode(), digest_size=6).hexdigest()}"
    staged = (options.scratch or Path(tempfile.gettempdir())).absolute() / name
    # Overwriting is about the target; the copy here is ours, and may be of an earlier call.
    here = replace(options, overwrite=True)
    manifest = prepare_folder(rows, staged, here, say=say, progress=progress, spread=spread)
    say(f"uploading {_gb(manifest.summary.bytes_on_disk)} to {target.uri}")
    remote_target.upload(staged, target, progress)
    shutil.rmtree(staged, ignore_errors=True)
    return manifest


def _refuse_source_inside(rows: RowSource, folder: Path, options: PrepareOptions) -> None:
    for piece in rows.pieces:
        if Path(piece.path).expanduser().absolute().is_relative_to(folder):
            raise DataError(f"{folder}: the source lies in it ({piece.path}); give another target")
    source = Path(options.source.removeprefix("file://")).expanduser().absolute()
    if source.is_dir() and folder.is_relative_to(source):
        raise DataError(f"{folder}: lies in the source, whose files would then hold it; give a target outside {source}")


class _Tell:
    """Adds up rows for a progress callback."""

    def __init__(self, phase: str, total: int, progress: Progress) -> None:
        self.total = total
        self._phase, self._progress, self._done = phase, progress, 0

    def __call__(self, n_rows: int) -> None:
        self._done = min(self._done + n_rows, self.total)
        self._progress(self._phase, self._done, self.total)


def _gb(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"
