"""One writer for each run folder: a lock that the system drops with its process; beside it, who holds it since when."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import LockedError

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK_NAME = "journal.lock"
OWNER_NAME = "journal.owner"


def acquire(folder: Path, now: Callable[[], datetime]) -> BaseFileLock:
    """The folder's lock, with the owner named beside it. Raises LockedError, OSError."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK_NAME)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise LockedError(_locked(folder, now())) from error
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": now().astimezone(UTC).isoformat()}
    # Beside the lock and not in it: some platforms let nobody, the owner included, write to a locked file.
    try:
        (folder / OWNER_NAME).write_text(json.dumps(owner), encoding="utf-8")
    except OSError:
        lock.release()
        raise
    return lock


def release(folder: Path, lock: BaseFileLock) -> None:
    with contextlib.suppress(OSError):
        (folder / OWNER_NAME).unlink()
    lock.release()


def _locked(folder: Path, now: datetime) -> str:
    way_out = "wait for it, stop it, or give the experiment another name"
    try:
        owner = json.loads((folder / OWNER_NAME).read_text(encoding="utf-8"))
        age_s = max((now - datetime.fromisoformat(owner["since"])).total_seconds(), 0.0)
        return f"{folder} is in use by process {owner['pid']} on {owner['host']} for {_age(age_s)}; {way_out}"
    except (OSError, ValueError, KeyError, TypeError):
        return f"{folder} is in use by another process, which has not left its name; {way_out}"


def _age(age_s: float) -> str:
    if age_s < 120:
        return f"{age_s:.0f} s"
    return f"{age_s / 60:.0f} min" if age_s < 7200 else f"{age_s / 3600:.1f} h"
