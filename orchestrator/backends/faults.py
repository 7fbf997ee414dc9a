"""A fault of the training code in one line: what was raised, and where in the user's own files."""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.errors import OrchestratorError

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
_COLLECTIVE = re.compile(r"gloo|nccl|process group", re.IGNORECASE)
"""How torch's errors of a broken process group read."""


def is_of_a_collective(error: object) -> bool:
    """Whether a rank failed because a peer had gone; the peer's own fault is then the one to tell."""
    return bool(_COLLECTIVE.search(str(error)))


def in_words(error: BaseException, trace: str) -> str:
    """``ValueError: no such class (train.py:31)``; our own errors speak for themselves.

    Args:
        error: What was raised.
        trace: Its formatted traceback; an exception that crossed processes has lost the real one.
    """
    if isinstance(error, OrchestratorError):
        return str(error)
    lines = str(error).strip().splitlines()
    said = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return f"{said}{_place(trace)}"


def _place(trace: str) -> str:
    """Innermost frame outside installed packages: a wrong shape is raised by torch, but made by its caller."""
    frames = [(found["file"], found["line"]) for found in _FRAME.finditer(trace)]
    own = [frame for frame in frames if "site-packages" not in Path(frame[0]).parts and Path(frame[0]).is_absolute()]
    if not frames:
        return ""
    file, line = (own or frames)[-1]
    return f" ({Path(file).name}:{line})"
