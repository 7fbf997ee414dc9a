"""What another terminal can tell of an experiment at work: from its journal and its lock's owner, both only read.

A verdict takes half a second that the trials could use, so that one is worked out only where the journal has none for
its evidence, and then so rarely that it costs at most `MAX_VERDICT_SHARE` of a core.
"""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from orchestrator.errors import EvidenceError, OrchestratorError
from orchestrator.ports import SweepProgress
from orchestrator.progress import sweep_progress
from orchestrator.results import SweepEnd, Verdict
from orchestrator.spec import TrialSpec
from orchestrator.tracking.journal import FILE_NAME, OWNER_NAME, Journal, JournalView

MAX_VERDICT_SHARE = 1 / 60
"""Of a core, spent on verdicts while a sweep runs: one in 30 s where it takes half a second."""

_SIGNING_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The process that holds a run folder's lock, as it signed."""

    pid: int
    host: str
    since: datetime
    state: Literal["at work", "gone", "on another machine"]

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """One look at an experiment."""

    view: JournalView
    progress: SweepProgress
    owner: Owner | None
    """None: nobody holds the run folder."""
    is_recorded: bool
    """The verdict is the journal's own, for all of its evidence."""
    sweep_end: SweepEnd | None
    """None while a sweep may still go on."""
    warnings: tuple[str, ...] = ()

    @property
    def is_at_work(self) -> bool:
        """Whether something may still happen without a new command."""
        return self.owner is not None and self.owner.state != "gone"


class Watcher:
    """Reads a run folder again and again, at little cost."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._state: tuple[int, int] | None = None
        self._view: JournalView | None = None
        self._verdict: Verdict | None = None
        self._verdict_of = -1
        self._no_verdict: str | None = None
        self._next_verdict_at = 0.0

    def look(self) -> Watched:
        """What stands there now. Raises UnknownExperimentError, JournalError."""
        owner = owner_of(self._folder)  # before the journal: whoever is gone by now has written all it will
        view, warnings = self._read()
        is_over = owner is None or owner.state == "gone"
        verdict, is_recorded = self._verdict_on(view, must=is_over)
        running = () if is_over else _running(view, owner)
        progress = sweep_progress(view.spec, view.data, view, running=running, verdict=verdict)
        sweep_end = view.sweep_end if _last(view, "sweep_end") > _last(view, "trial", "experiment") else None
        if is_recorded or sweep_end is not None:
            progress = replace(progress, left_s=0.0)
        told = (*warnings, *([self._no_verdict] if self._no_verdict and verdict is None else []))
        return Watched(
            view=view,
            progress=progress,
            owner=owner,
            is_recorded=is_recorded,
            sweep_end=sweep_end,
            warnings=told,
        )

    def _read(self) -> tuple[JournalView, tuple[str, ...]]:
        """The journal, decoded anew when the file changed, and what is wrong with it.

        A last line that is just being written is no fault: a warning counts once the file has stood still with it.
        """
        state = _size_and_time(self._folder / FILE_NAME)
        if self._view is not None and state == self._state:
            return self._view, self._view.warnings
        self._view, self._state = Journal.read(self._folder), state
        return self._view, ()

    def _verdict_on(self, view: JournalView, *, must: bool) -> tuple[Verdict | None, bool]:
        """The journal's own verdict where it is about all evidence, else one of ours, perhaps a little old."""
        if _last(view, "verdict") > _last(view, "trial", "experiment"):
            return view.verdict, True
        evidence = _last(view, "trial", "experiment")
        if evidence != self._verdict_of and (must or time.monotonic() >= self._next_verdict_at):
            started = time.process_time()
            self._verdict, self._no_verdict = _worked_out(view)
            self._verdict_of = evidence
            self._next_verdict_at = time.monotonic() + (time.process_time() - started) / MAX_VERDICT_SHARE
        return self._verdict, False


def _worked_out(view: JournalView) -> tuple[Verdict | None, str | None]:
    """The verdict on what is there, or why there is none, where that is a fault and not a lack of trials."""
    from orchestrator.cli.compose import rates_of
    from orchestrator.experiment import decide_on

    try:
        return decide_on(view.spec, view.data, view, rates_of(view.spec)), None
    except OrchestratorError as error:  # the sweep itself will say so; what was measured is shown all the same
        return None, None if type(error) is EvidenceError else f"no verdict: {error}"


def _last(view: JournalView, *kinds: str) -> int:
    """Number of the last line of these kinds; 0 without one."""
    return max((entry.seq for entry in reversed(view.entries) if entry.kind in kinds), default=0)


def _size_and_time(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:  # reading it says what is wrong
        return None
    return stat.st_size, stat.st_mtime_ns


def _running(view: JournalView, owner: Owner | None) -> tuple[TrialSpec, ...]:
    """Trials that the process at work has launched and not heard of; older launches were cut off by a crash."""
    since = None if owner is None else owner.since
    of_now = {
        entry.payload["key"]
        for entry in view.entries
        if entry.kind == "launch" and (since is None or datetime.fromisoformat(entry.at) >= since)
    }
    return tuple(launch.trial for launch in view.cut_off if launch.key in of_now)


def owner_of(folder: Path) -> Owner | None:
    """Who holds a run folder, and whether that process still lives; None when nobody does, or left no name."""
    try:
        text = (folder / OWNER_NAME).read_text(encoding="utf-8")
        if not text:  # caught between its making and its signing
            time.sleep(_SIGNING_S)
            text = (folder / OWNER_NAME).read_text(encoding="utf-8")
        signed = json.loads(text)
        pid, host, since = int(signed["pid"]), str(signed["host"]), datetime.fromisoformat(signed["since"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if host != socket.gethostname():
        return Owner(pid=pid, host=host, since=since, state="on another machine")
    return Owner(pid=pid, host=host, since=since, state="at work" if _lives(pid) else "gone")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's process; and a number that is none leaves it open
        return True
    return True
