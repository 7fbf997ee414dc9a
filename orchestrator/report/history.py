"""What happened around a verdict, for the page: why the sweep ended, who answered, what it was made with.

Old journals hold less; every field may be empty, and the page then has no such section.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.results import Drill, SweepEnd, TrialResult


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of the decision log."""

    at: str
    """UTC, ISO 8601."""
    what: str
    """A verdict, an answer, or a full run."""
    by: str = ""
    reason: str = ""
    override: str = ""
    """Why the full run may start although the verdict is not PROMOTE; empty where nobody overrode it."""
    source: str = ""
    """Where a person answered."""
    inputs_digest: str = ""
    """Of the verdict; an answer holds for this one only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All of it, as far as the journal tells."""

    sweep_end: SweepEnd | None = None
    drills: tuple[Drill, ...] = ()
    log: tuple[LogLine, ...] = ()
    """Oldest first."""
    attempts: tuple[TrialResult, ...] = ()
    """Every trial that was paid for in the journal's order, those that were tried again included."""
    versions: Mapping[str, str] = field(default_factory=dict)
    config_path: str | None = None
    """As the user gave it."""
    overrides: tuple[str, ...] = ()
    """``a.b=value`` each, given behind it."""
    journal_digest: str = ""
    """SHA-256 of the journal's last line, which seals all before it."""
    n_lines: int = 0
    """Of the journal."""


NO_HISTORY = History()
