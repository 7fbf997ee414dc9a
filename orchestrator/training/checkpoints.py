"""Checkpoint stores of a sweep trial. (The full run's store speaks to Ray Train and lives in its backend.)"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch

from orchestrator.results import EpochPoint


class MemoryCheckpoints:
    """Serialises the state as a real checkpoint would be, measures it and forgets it.

    A sweep trial is short and is simply run again after a crash, but its checkpoint time and size are part of what the
    sweep is there to measure.
    """

    def __init__(self) -> None:
        self.bytes_written = 0

    def save(self, state: dict[str, Any], point: EpochPoint) -> int:
        self.bytes_written = serialised_bytes(state) if state else 0
        return self.bytes_written

    def load(self) -> dict[str, Any] | None:
        return None


def serialised_bytes(state: dict[str, Any]) -> int:
    """Size of the state as a checkpoint."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.tell()


def write_checkpoint(state: dict[str, Any], path: Path) -> int:
    """Write atomically, so that a crash leaves the old file or the new one; returns bytes."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return path.stat().st_size


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load with ``weights_only=True``: a checkpoint holds tensors and plain data, never code to run."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
