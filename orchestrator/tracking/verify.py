"""Is a journal what was written? Its chain, the seal beside it, and the seals that MLflow keeps, compared.

Each finds what the one before cannot: the chain a line that was altered, dropped or moved; the seal beside it a missing
end; MLflow's seal a chain that was written anew as a whole, together with the seal beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import JournalError, TrackingError
from orchestrator.tracking.chain import Scan, Seal, scan_lines
from orchestrator.tracking.journal import FILE_NAME
from orchestrator.tracking.seal import SEAL_NAME, read_seal


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was compared, and what was found."""

    n_lines: int
    """Intact ones."""
    compared: tuple[str, ...]
    """What agrees."""
    not_compared: tuple[str, ...]
    """What could not be looked at, and therefore proves nothing."""
    findings: tuple[str, ...]
    """What is wrong; empty when nothing is."""


def verify_folder(folder: Path, kept: Mapping[str, Seal] | TrackingError | None) -> Verification:
    """Check the journal in a run folder.

    Args:
        folder: The run folder.
        kept: Seals that MLflow keeps, by the beginning of the digest of the journal's first line; the error when it
            could not be asked, None when there is no store to ask.
    """
    path = folder / FILE_NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = b""
    except OSError as error:
        return _unreadable(f"{path} cannot be read: {error.strerror}")
    scan = scan_lines(content)
    try:
        seal = read_seal(folder)
    except JournalError as error:
        return _unreadable(str(error), len(scan.entries))
    return _join(len(scan.entries), _chain(scan, seal), _beside(scan, seal), _in_mlflow(scan, kept))


def _unreadable(finding: str, n_lines: int = 0) -> Verification:
    return Verification(n_lines=n_lines, compared=(), not_compared=(), findings=(finding,))


_Part = tuple[str, str, str]
"""What agrees, what was not compared, what is wrong: one of them, the others empty."""


def _chain(scan: Scan, seal: Seal | None) -> _Part:
    n = len(scan.entries)
    if scan.fault is None:
        return f"chain of {n} lines", "", ""
    # A crash leaves a torn line that no seal knows of yet; a torn line that a seal knows was cut later.
    if scan.is_torn and (seal is None or (seal.seq == n and seal.fault(scan.entries) is None)):
        return "", f"line {n + 1} was cut off while it was written (a crash); the next command sets it aside", ""
    return "", "", f"line {n + 1} is damaged: {scan.fault}; the {n} lines before it are intact"


def _beside(scan: Scan, seal: Seal | None) -> _Part:
    if seal is None:
        return "", f"no {SEAL_NAME} beside it: a missing end would not be seen here", ""
    fault = seal.fault(scan.entries)
    return (f"{SEAL_NAME} (line {seal.seq})", "", "") if fault is None else ("", "", f"{fault}, by {SEAL_NAME}")


def _in_mlflow(scan: Scan, kept: Mapping[str, Seal] | TrackingError | None) -> _Part:
    if kept is None:
        return "", "no MLflow store was asked", ""
    if isinstance(kept, TrackingError):
        return "", f"not compared with MLflow: {kept}", ""
    if not kept:
        return "", "MLflow keeps no seal of this experiment yet", ""
    own = kept.get(scan.entries[0].sha256[:8]) if scan.entries else None
    if own is None:
        known = ", ".join(f"of {seal.seq} lines" for seal in kept.values())
        return "", "", f"MLflow keeps a seal of another journal of this name ({known}), and none of this one"
    fault = own.fault(scan.entries)
    return (f"MLflow's seal (line {own.seq})", "", "") if fault is None else ("", "", f"{fault}, by MLflow's seal")


def _join(n_lines: int, *parts: _Part) -> Verification:
    compared, not_compared, findings = (tuple(filter(None, column)) for column in zip(*parts, strict=True))
    return Verification(n_lines=n_lines, compared=compared, not_compared=not_compared, findings=findings)
