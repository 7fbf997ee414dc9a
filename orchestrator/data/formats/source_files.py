"""Files of a source, each with the digest of its content, in the order of the digests."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from orchestrator.data.stores.faults import reaching
from orchestrator.data.stores.locations import StoredFile
from orchestrator.data.versioning.fingerprint import digest_files, digest_stream, replace_file

LOCAL_MEMORY, REMOTE_MEMORY = "fingerprints.sqlite", "remote_fingerprints.json"
# Stores answer in tens of milliseconds and serve many readers at once; each holds one chunk.
REMOTE_THREADS = 8
# A file changed again within the tick of its time stamp would look unchanged; object stores tell whole seconds, by a
# clock of their own.
_RACY_NS = 60 * 10**9


def with_digests(files: Sequence[StoredFile], cache_dir: Path) -> tuple[StoredFile, ...]:
    """The files with their digests, sorted by digest, so that renaming moves nothing.

    Files that have not changed since an earlier call are not read.

    Raises: DataError: a file cannot be read. OSError: ``cache_dir`` cannot be written.
    """
    local = [file for file in files if file.is_local]
    remote = [file for file in files if not file.is_local]
    found = [*_local(local, cache_dir / LOCAL_MEMORY), *_remote(remote, cache_dir / REMOTE_MEMORY)]
    return tuple(sorted(found, key=lambda file: (file.digest, file.name)))


def _local(files: Sequence[StoredFile], memory: Path) -> list[StoredFile]:
    if not files:
        return []
    by_path = {file.path: file for file in files}
    digests = digest_files([Path(path) for path in by_path], memory)
    return [
        StoredFile(
            name=(listed := by_path[str(each.path)]).name,
            file_system=listed.file_system,
            path=listed.path,
            size=each.size,
            mtime_ns=each.mtime_ns,
            digest=each.digest,
        )
        for each in digests
    ]


def _remote(files: Sequence[StoredFile], memory: Path) -> list[StoredFile]:
    if not files:
        return []
    known = _recall(memory)
    with ThreadPoolExecutor(REMOTE_THREADS, thread_name_prefix="digest") as pool:
        found = list(pool.map(lambda file: _digest(file, known), files))
    fresh = {file.name: [file.size, file.mtime_ns, file.digest] for file in found if _is_settled(file)}
    if any(known.get(name) != entry for name, entry in fresh.items()):
        replace_file(memory, json.dumps({**known, **fresh}).encode())
    return found


def _digest(file: StoredFile, known: dict[str, list[object]]) -> StoredFile:
    recorded = known.get(file.name)
    if recorded is not None and file.mtime_ns is not None and recorded[:2] == [file.size, file.mtime_ns]:
        return replace(file, digest=str(recorded[2]))
    with file.stream() as stream, reaching(file.name):
        digest = digest_stream(stream)
    file.check_current()
    return replace(file, digest=digest)


def _is_settled(file: StoredFile) -> bool:
    return file.mtime_ns is not None and time.time_ns() - file.mtime_ns > _RACY_NS


def _recall(memory: Path) -> dict[str, list[object]]:
    """What was recorded, less anything that does not look like an entry."""
    try:
        entries = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(entries, dict):
        return {}
    return {name: entry for name, entry in entries.items() if isinstance(entry, list) and len(entry) == 3}
