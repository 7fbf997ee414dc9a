"""The seal beside a journal: number and digest of its last line, so that a missing end is found.

It is written after each line, so a crash leaves it behind the journal and never ahead of it: a journal that ends before
its seal has lost lines. The same seal is kept on the experiment's run in MLflow, where the run folder does not reach.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import JournalError
from orchestrator.tracking.chain import Entry, Seal, last_seal

SEAL_NAME = "journal.seal"


def read_seal(folder: Path) -> Seal | None:
    """The seal beside a journal; None when there is none, as for journals from before there were seals.

    Raises: JournalError: It is there and cannot be read.
    """
    path = folder / SEAL_NAME
    try:
        text = path.read_bytes()[:200].decode("ascii", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise JournalError(cannot("read", path, error)) from error
    seal = Seal.parse(text)
    if seal is None:
        raise JournalError(f"{path}: holds no seal; remove it when you know why, and `history --verify` what is left")
    return seal


def write_seal(path: Path, entries: Sequence[Entry]) -> None:
    """In place, at one fixed length: too short to be torn. After the line, so a crash leaves it behind, never ahead."""
    # The line itself is on the disk; a seal that could not follow is only behind, which readers allow.
    with contextlib.suppress(OSError):
        descriptor = os.open(path.with_name(SEAL_NAME), os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(descriptor, f"{last_seal(entries)}\n".encode(), 0)
        finally:
            os.close(descriptor)


def require_sealed(path: Path, entries: Sequence[Entry]) -> None:
    """Raises JournalError: lines that were written are missing, or are not those that were written."""
    seal = read_seal(path.parent)
    fault = None if seal is None else seal.fault(entries)
    if fault is not None:
        raise JournalError(
            f"{path}: {fault}, by {SEAL_NAME} beside it. Put the file back (MLflow keeps a copy as the artifact "
            f"{path.name} of the experiment's run), or go on with what is left: rm {path.with_name(SEAL_NAME)}"
        )


def cannot(verb: str, path: Path, error: OSError) -> str:
    return (
        f"cannot {verb} {path}: {error.strerror or error}; free space or make it writable, "
        "or set runs_dir to another folder. What was recorded before is kept"
    )
