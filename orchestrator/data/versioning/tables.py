"""Delta Lake and Iceberg tables: the version a folder is at, and the Parquet files that belong to it.

Such a folder also holds files of earlier versions, which a plain listing would read again. For Delta the log is
replayed; for Iceberg, whose manifests are Avro, a folder is read only where its own count says that nothing is stale.
What a list of files cannot say (rows deleted inside a file, columns that are not in the files) is refused.

Delta: PROTOCOL.md of delta-io/delta (delta log entries, checkpoints, action reconciliation, reader requirements).
Iceberg: format/spec.md of apache/iceberg (table metadata, snapshot summary, file system tables).
"""

from __future__ import annotations

import gzip
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from orchestrator.errors import DataError

_MAX_METADATA_BYTES = 256 << 20
_HEAD_BYTES = 1 << 20
_WAY_OUT_DELTA = "write the table out as plain Parquet first, with `deltalake` or Spark, and name that folder"
_WAY_OUT_ICEBERG = "write the table out as plain Parquet first, with `pyiceberg` or Spark, and name that folder"

_DELTA_COMMIT = re.compile(r"(\d{20})\.json")
_DELTA_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10})|\.[0-9a-fA-F-]{36})?\.(?:parquet|json)")
# Of a checkpoint's columns, what a list of files needs; statistics are most of its bytes.
_DELTA_COLUMNS = (
    "add.path", "add.deletionVector", "metaData.partitionColumns", "metaData.configuration",
    "protocol.minReaderVersion", "protocol.readerFeatures", "sidecar.path",
)  # fmt: skip
# Features that change nothing in a list of files, or whose use is refused where it shows.
_DELTA_FEATURES = frozenset({"columnMapping", "deletionVectors", "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"})
# Metadata names of catalogs (00003-<uuid>.metadata.json) and of file system tables (v3.metadata.json).
_ICEBERG_METADATA = re.compile(r"(?:v(\d+)|(\d+)-[^/]+?)(?:\.gz)?\.metadata\.json(?:\.gz)?")

Action = dict[str, Any]


def live_files(folder: str | Path, filesystem: pafs.FileSystem | None = None) -> list[str] | None:
    """Paths of the Parquet files of a table's latest version, absolute on this machine; None where there is no table.

    Args:
        folder: Path in the file system.
        filesystem: Where it lies; None for this machine.
    Raises: DataError: The log is damaged, or says something that a list of files cannot, such as rows deleted in part.
    """
    table = _Folder.at(folder, filesystem)
    try:
        log = _DeltaLog.of(table)
        if log is not None:
            return _delta_files(log)
        metadata = _iceberg_metadata(table)
        return None if metadata is None else _iceberg_files(table, *metadata)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(
            f"{folder}: the table's own log cannot be read ({reason}); repair or fetch it again, or "
            "copy the Parquet files that belong to it into a folder of their own"
        ) from error


def delta_pointers(folder: str | Path, filesystem: pafs.FileSystem | None = None) -> dict[str, str]:
    """Version of a Delta table and, where the commit says it, when it was written; empty for another folder."""
    log = _DeltaLog.of(_Folder.at(folder, filesystem))
    if log is None:
        return {}
    pointers = {"delta.version": str(log.version)}
    if log.version in log.commits:
        for line in log.folder.head(log.commits[log.version]).splitlines():
            stamp = _commit_ms(line)
            if stamp is not None:
                pointers["delta.timestamp"] = datetime.fromtimestamp(stamp / 1000, UTC).isoformat(
                    timespec="milliseconds"
                )
                break
    return pointers


def iceberg_pointers(folder: str | Path, filesystem: pafs.FileSystem | None = None) -> dict[str, str]:
    """Snapshot, schema and metadata file of an Iceberg table; empty for another folder.

    The newest metadata file of the folder is taken: with a catalog, only that knows whether it is current.
    """
    found = _iceberg_metadata(_Folder.at(folder, filesystem))
    if found is None:
        return {}
    name, metadata = found
    snapshot, schema = _snapshot_id(metadata), metadata.get("current-schema-id")
    pointers = {"iceberg.metadata": name, "iceberg.snapshot_id": "none" if snapshot is None else str(snapshot)}
    return pointers if schema is None else {**pointers, "iceberg.schema_id": str(int(schema))}


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder of some file system."""

    filesystem: pafs.FileSystem
    path: str

    @classmethod
    def at(cls, folder: str | Path, filesystem: pafs.FileSystem | None) -> _Folder:
        if filesystem is None:
            return cls(pafs.LocalFileSystem(), os.path.abspath(folder))  # else a name such as a:b is taken for a URI
        return cls(filesystem, str(folder).rstrip("/"))

    def within(self, name: str) -> _Folder:
        return _Folder(self.filesystem, f"{self.path}/{name}")

    def files(self, *, recursive: bool = False) -> list[str]:
        """Paths below the folder, relative to it; none when there is no such folder."""
        selector = pafs.FileSelector(self.path, allow_not_found=True, recursive=recursive)
        found = self.filesystem.get_file_info(selector)
        start = len(self.filesystem.normalize_path(self.path)) + 1
        return [info.path[start:] for info in found if info.type == pafs.FileType.File]

    def read(self, name: str) -> bytes:
        with self.filesystem.open_input_file(f"{self.path}/{name}") as file:
            if file.size() > _MAX_METADATA_BYTES:
                raise ValueError(f"{name} has {file.size():,} bytes, beyond the {_MAX_METADATA_BYTES:,} read of a log")
            content: bytes = file.read()
        return content

    def head(self, name: str) -> bytes:
        with self.filesystem.open_input_file(f"{self.path}/{name}") as file:
            content: bytes = file.read(_HEAD_BYTES)
        return content

    def rows(self, name: str) -> Iterator[Action]:
        """Rows of a checkpoint in Parquet, without the columns that nobody here needs."""
        with self.filesystem.open_input_file(f"{self.path}/{name}") as file:
            for batch in pq.ParquetFile(file).iter_batches(columns=list(_DELTA_COLUMNS)):
                yield from batch.to_pylist()


@dataclass(slots=True)
class _DeltaLog:
    """The files of a ``_delta_log`` folder by the version they bring the table to."""

    folder: _Folder
    commits: dict[int, str] = field(default_factory=dict)
    checkpoints: dict[int, list[str]] = field(default_factory=dict)
    """Complete ones: of two for a version, one."""

    @classmethod
    def of(cls, table: _Folder) -> _DeltaLog | None:
        log = cls(table.within("_delta_log"))
        parts: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
        for name in log.folder.files():
            if found := _DELTA_COMMIT.fullmatch(name):
                log.commits[int(found[1])] = name
            elif found := _DELTA_CHECKPOINT.fullmatch(name):
                if found[3]:
                    parts[int(found[1]), int(found[3])].append(name)
                else:
                    log.checkpoints[int(found[1])] = [name]
        for (version, n_parts), names in parts.items():
            if len(names) == n_parts:  # readers must ignore one with missing parts
                log.checkpoints.setdefault(version, names)
        return log if log.commits or log.checkpoints else None

    @property
    def version(self) -> int:
        return max([*self.commits, *self.checkpoints])

    def actions(self) -> Iterator[Action]:
        """All that made the latest version: the newest checkpoint, and the commits after it."""
        start = max(self.checkpoints, default=-1)
        for name in self.checkpoints.get(start, ()):
            yield from self._checkpoint(name)
        for version in range(start + 1, self.version + 1):
            if version not in self.commits:
                raise ValueError(f"version {version} is missing between {start} and {self.version}")
            yield from self._lines(self.commits[version])

    def _checkpoint(self, name: str) -> Iterator[Action]:
        for action in self._lines(name) if name.endswith(".json") else self.folder.rows(name):
            if sidecar := action.get("sidecar"):
                yield from self.folder.within("_sidecars").rows(sidecar["path"])
            else:
                yield action

    def _lines(self, name: str) -> Iterator[Action]:
        for line in self.folder.read(name).splitlines():
            if line.strip():
                yield json.loads(line)


def _delta_files(log: _DeltaLog) -> list[str]:
    live: dict[tuple[object, ...], Action] = {}
    metadata: Action = {}
    protocol: Action = {}
    for action in log.actions():
        if removed := action.get("remove"):
            live.pop(_delta_key(removed), None)
        if added := action.get("add"):
            live[_delta_key(added)] = added
        metadata, protocol = action.get("metaData") or metadata, action.get("protocol") or protocol
    table = log.folder.path.removesuffix("/_delta_log")
    _refuse_delta(table, metadata, protocol, list(live.values()))
    return sorted(f"{table}/{unquote(added['path'])}" for added in live.values())


def _delta_key(action: Action) -> tuple[object, ...]:
    """What the protocol tells files apart by: the path and the deletion vector."""
    vector = action.get("deletionVector") or {}
    return action["path"], vector.get("storageType"), vector.get("pathOrInlineDv"), vector.get("offset")


def _refuse_delta(table: str, metadata: Action, protocol: Action, live: list[Action]) -> None:
    """Raises DataError for what reading the files alone would get wrong."""
    unknown = sorted(set(protocol.get("readerFeatures") or ()) - _DELTA_FEATURES)
    columns = metadata.get("partitionColumns") or []
    mapping = dict(metadata.get("configuration") or {}).get("delta.columnMapping.mode", "none")
    cut = sum(bool(added.get("deletionVector")) for added in live)
    elsewhere = [added["path"] for added in live if "://" in added["path"] or added["path"].startswith(("/", "file:"))]
    faults = {
        f"it uses {', '.join(unknown)}, unknown to this version": unknown,
        f"its columns {', '.join(columns)} are in the log and not in the files": columns,
        f"its columns have other names in the files (column mapping by {mapping})": mapping != "none",
        f"rows of {cut:,} of its {len(live):,} files are deleted by deletion vectors": cut,
        f"{len(elsewhere):,} of its files lie elsewhere ({elsewhere[:1]})": elsewhere,
    }
    fault = next((fault for fault, is_found in faults.items() if is_found), None)
    if fault is not None:
        raise DataError(
            f"{table}: is a Delta table whose files cannot be read by themselves: {fault}; {_WAY_OUT_DELTA}"
        )


def _commit_ms(line: bytes) -> int | None:
    """When a commit says that it was made, in milliseconds since 1970."""
    if not line.lstrip().startswith(b'{"commitInfo"'):
        return None
    said = json.loads(line)["commitInfo"]
    stamp = said.get("inCommitTimestamp", said.get("timestamp"))
    return None if stamp is None else int(stamp)


def _iceberg_metadata(table: _Folder) -> tuple[str, Action] | None:
    """Name and content of the newest metadata file."""
    folder = table.within("metadata")
    numbered: defaultdict[int, list[str]] = defaultdict(list)
    for name in folder.files():
        if found := _ICEBERG_METADATA.fullmatch(name):
            numbered[int(found[1] or found[2])].append(name)
    if not numbered:
        return None
    # version-hint.text may lag behind, for which readers look on from it: the highest number is where they end.
    newest = numbered[max(numbered)]
    if len(newest) > 1:
        raise ValueError(
            f"{' and '.join(sorted(newest)[:2])} have the same number; only the catalog knows which counts"
        )
    content = folder.read(newest[0])
    metadata = json.loads(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    if not isinstance(metadata, dict) or "format-version" not in metadata:
        raise ValueError(f"{newest[0]} is no Iceberg table metadata")
    return newest[0], metadata


def _snapshot_id(metadata: Action) -> int | None:
    snapshot = metadata.get("current-snapshot-id")
    return None if snapshot in (None, -1) else int(snapshot)  # -1: none yet, as early writers had it


def _iceberg_files(table: _Folder, name: str, metadata: Action) -> list[str]:
    """All Parquet files of the folder, when the snapshot has as many and deletes no rows: then none is stale."""
    current = _snapshot_id(metadata)
    snapshots = {each["snapshot-id"]: each for each in metadata.get("snapshots") or ()}
    summary = snapshots.get(current, {}).get("summary") or {}
    n_live = 0 if current is None else int(summary.get("total-data-files", -1))
    n_deletes = 0 if current is None else int(summary.get("total-delete-files", -1))
    files = [
        path for path in table.files(recursive=True) if path.endswith(".parquet") and not path.startswith("metadata/")
    ]
    if n_deletes == 0 and n_live == len(files):
        return sorted(f"{table.path}/{path}" for path in files)
    counts = "an unknown number" if n_live < 0 else f"{n_live:,}"
    deletes = f", and {n_deletes:,} files of deleted rows" if n_deletes > 0 else ""
    raise DataError(
        f"{table.path}: is an Iceberg table ({name}) of {counts} data files{deletes}, "
        f"and the folder has {len(files):,}; which of them are of older snapshots is not read here: {_WAY_OUT_ICEBERG}"
    )
