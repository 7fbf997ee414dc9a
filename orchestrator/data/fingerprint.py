"""Fingerprints of content: BLAKE2b over every byte, blind to the names and the order of files.

    fingerprint = BLAKE2b-64( the files' own BLAKE2b-128 digests, sorted )        16 hex digits

A file is read again only when its size or modification time has changed since its digest was recorded, as in git's
index; the record always holds the digest of the full content.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import DataError

# A file changed again within the clock tick of its recording would look unchanged; git calls such entries racy.
# 2 s is the coarsest tick in use (FAT).
_RACY_NS = 2_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDigest:
    """A file's content as it was when it was read."""

    path: Path
    size: int
    mtime_ns: int
    digest: str

    def is_current(self) -> bool:
        """Whether size and modification time are still those of the digest."""
        stat = self.path.stat()
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.mtime_ns)


def combine(digests: Iterable[str]) -> str:
    """One fingerprint of many digests, whatever their order. 16 hex digits."""
    return hashlib.blake2b("\n".join(sorted(digests)).encode(), digest_size=8).hexdigest()


def digest_bytes(*chunks: bytes) -> str:
    """Digest of content that is in memory. 32 hex digits."""
    state = hashlib.blake2b(digest_size=16)
    for chunk in chunks:
        state.update(chunk)
    return state.hexdigest()


def digest_files(paths: Iterable[Path], memory: Path) -> list[FileDigest]:
    """Digests of files, sorted by digest, so that renaming a file moves nothing.

    Args:
        paths: The files.
        memory: JSON file of earlier digests; it is brought up to date, and a damaged one is replaced.
    Raises: DataError: A file cannot be read. OSError: ``memory`` cannot be written.
    """
    known = _recall(memory)
    found = [_digest_file(path.absolute(), known) for path in paths]
    fresh = {
        str(file.path): [file.size, file.mtime_ns, file.digest]
        for file in found
        if time.time_ns() - file.mtime_ns > _RACY_NS
    }
    if any(known.get(name) != entry for name, entry in fresh.items()):
        # Two processes may write at once: the later one wins, and a lost entry only costs reading a file again.
        replace_file(memory, json.dumps({**known, **fresh}).encode())
    return sorted(found, key=lambda file: (file.digest, file.path))


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part. Raises OSError."""
    part = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        part.write_bytes(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _digest_file(path: Path, known: dict[str, list[object]]) -> FileDigest:
    try:
        stat = path.stat()
        recorded = known.get(str(path))
        if recorded is not None and recorded[:2] == [stat.st_size, stat.st_mtime_ns]:
            return FileDigest(path=path, size=stat.st_size, mtime_ns=stat.st_mtime_ns, digest=str(recorded[2]))
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; check that it exists and may be read") from error
    return FileDigest(path=path, size=stat.st_size, mtime_ns=stat.st_mtime_ns, digest=digest)


def _recall(memory: Path) -> dict[str, list[object]]:
    """What was recorded, less anything that does not look like an entry."""
    try:
        entries = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(entries, dict):
        return {}
    return {name: entry for name, entry in entries.items() if isinstance(entry, list) and len(entry) == 3}
