"""The memory of `fingerprint`: digests of files by path, size and times, in an SQLite database that many may share.

What is lost only costs reading files again: so a damaged database is replaced, and one that cannot be locked is done
without. What keeps the memory from ever working (a full disk, a folder that may not be written) is an OSError.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

SAVE_EVERY_S = 2.0
LOCK_TIMEOUT_S = 20.0  # others hold it for milliseconds


class Known(NamedTuple):
    """A file as it was when it was read. The change time tells of content that came with the old size and time."""

    path: bytes
    """As the file system has it, which need not be text."""
    size: int
    mtime_ns: int
    ctime_ns: int
    digest: str


_VERSION = 1
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})  # ERROR: no such table
# Locked for longer than the timeout, or on a file system without locks.
_NO_LOCK = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOLFS})
_NO_LOCK_EXTENDED = frozenset({sqlite3.SQLITE_IOERR_LOCK, sqlite3.SQLITE_IOERR_RDLOCK, sqlite3.SQLITE_IOERR_UNLOCK})
_ERRNO = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_PERM: errno.EACCES,
}


class DigestMemory:
    """Digests of earlier runs, by path, size and times. Used from one thread; other processes may write meanwhile."""

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        self._path, self._tell = path, tell
        self._waiting: list[Known] = []
        self._saved_at = time.monotonic()
        self._database: sqlite3.Connection | None = None
        self._is_new = False

    def __enter__(self) -> DigestMemory:
        """Raises OSError: the database can neither be opened nor made."""
        if not self._path.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._path.parent))
        with self._guarded():
            self._open()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self._save()
        except OSError:
            if kind is None:  # what ended the reading is what the user must hear of
                raise
        finally:
            self._close()

    def recall(self, files: Sequence[tuple[Path, os.stat_result]]) -> list[str | None]:
        """Digest of each file that has not changed since it was recorded; None for any other."""
        nothing: list[str | None] = [None] * len(files)
        if self._database is None:
            return nothing
        query = "SELECT digest FROM files WHERE path = ? AND size = ? AND mtime_ns = ? AND ctime_ns = ?"
        with self._guarded(), self._database as database:
            database.execute("BEGIN")  # one lock for all of them: it takes longer than the search
            rows = [
                database.execute(
                    query, (os.fsencode(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
                ).fetchone()
                for path, stat in files
            ]
            return [row[0] if row else None for row in rows]
        return nothing  # the database was damaged, and is new now

    def record(self, files: Iterable[Known]) -> None:
        """Remember files with the next save."""
        self._waiting += files

    def save_when_due(self) -> None:
        """Write what is waiting, every few seconds. Raises OSError."""
        if time.monotonic() - self._saved_at >= SAVE_EVERY_S:
            self._save()

    def _save(self) -> None:
        rows, self._waiting = self._waiting, []
        self._saved_at = time.monotonic()
        if rows and self._database is not None:
            with self._guarded(), self._database:
                self._database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", rows)

    def _open(self) -> None:
        self._database = sqlite3.connect(self._path, timeout=LOCK_TIMEOUT_S)
        version = self._database.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, _VERSION):
            raise _other_version()
        if version == 0:
            with self._database:
                self._database.execute(
                    "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, "
                    "ctime_ns INTEGER, digest TEXT) WITHOUT ROWID"
                )
                self._database.execute(f"PRAGMA user_version = {_VERSION}")

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Replace a damaged database, do without one that cannot be locked, and raise OSError for the rest."""
        try:
            yield
        except sqlite3.Error as error:
            extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
            code = extended & 0xFF  # the primary code; the rest says where it came from
            self._close()
            if code in _DAMAGED and not self._is_new:
                self._replace()
            elif code in _NO_LOCK or extended in _NO_LOCK_EXTENDED:
                self._tell(f"{self._path}: cannot be locked ({error}); going on without it")
            else:
                raise OSError(_ERRNO.get(code, errno.EIO), str(error), str(self._path)) from error

    def _replace(self) -> None:
        # With the journal of an unfinished write beside it, the new database would be rolled back to the old one.
        for name in (self._path, self._path.with_name(f"{self._path.name}-journal")):
            name.unlink(missing_ok=True)
        self._is_new = True
        with self._guarded():
            self._open()


def _other_version() -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError("written by another version")
    error.sqlite_errorcode = sqlite3.SQLITE_NOTADB
    return error
