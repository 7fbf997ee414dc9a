"""The journal: every fact of an experiment, one JSON line each, on the disk before anyone else hears of it.

One process writes (`Journal.open` holds a lock), any number read without one (`Journal.read`). A crash in the middle of
a write leaves at most one torn last line, which the next `open` sets aside. Readers keep all that lies before a damage.
``at`` is for people: nothing is ordered or decided by the clock. The line format and its chain are `chain`'s.
Beside the journal lies the seal of its last line, written after each append: with it, a missing end is found.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from orchestrator.errors import JournalError, UnknownExperimentError, UsageError
from orchestrator.ports import IngestProbe, SmokeReport
from orchestrator.results import (
    Approval,
    Candidate,
    CandidateForecast,
    DataRead,
    DataSummary,
    Drill,
    Outcome,
    SweepEnd,
    TrialLaunch,
    TrialResult,
    Verdict,
)
from orchestrator.spec import ExperimentSpec
from orchestrator.tracking.chain import FIRST_PREVIOUS, Entry, Scan, scan_lines, sealed_line
from orchestrator.tracking.lock import LOCK_NAME, OWNER_NAME, acquire, release
from orchestrator.tracking.records import FullRunStart, from_plain, to_plain, without_retired_keys
from orchestrator.tracking.seal import cannot, require_sealed, write_seal

if TYPE_CHECKING:
    from filelock import BaseFileLock

T = TypeVar("T")

__all__ = ["FILE_NAME", "LOCK_NAME", "OWNER_NAME", "Journal", "JournalView", "run_folder"]

FILE_NAME = "journal.jsonl"
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


_DECISIONS: dict[str, type[Verdict | Approval | FullRunStart | Outcome]] = {
    "verdict": Verdict, "approval": Approval, "full_run_started": FullRunStart, "outcome": Outcome,
}  # fmt: skip


@dataclass(frozen=True)
class JournalView:
    """What a journal says, as records; each is decoded on first use. Not slotted: `cached_property` needs its dict."""

    path: Path
    entries: tuple[Entry, ...]
    warnings: tuple[str, ...] = ()

    @cached_property
    def spec(self) -> ExperimentSpec:
        """The latest config. Raises JournalError when none was written."""
        return self._decode(self._experiment, ExperimentSpec, "spec")

    @cached_property
    def data(self) -> DataSummary:
        """The latest data summary. Raises JournalError when none was written."""
        return self._decode(self._experiment, DataSummary, "data")

    @property
    def versions(self) -> dict[str, str]:
        """Package versions at the latest start; empty when they were not written."""
        return dict(self._experiment.payload.get("versions") or {})

    @property
    def config_path(self) -> str | None:
        """The config file of the latest start, as the user gave it."""
        return self._experiment.payload.get("config")

    @property
    def overrides(self) -> tuple[str, ...]:
        """What the user gave behind the config file at the latest start."""
        return tuple(self._experiment.payload.get("overrides") or ())

    @cached_property
    def results(self) -> tuple[TrialResult, ...]:
        """Trials by first appearance, the latest of each key; a failed one never replaces a finished one."""
        latest: dict[str, TrialResult] = {}
        for entry in self._of("trial"):
            result = self._decode(entry, TrialResult)
            known = latest.get(result.key)
            if known is None or result.status == "finished" or known.status == "failed":
                latest[result.key] = result
        return tuple(latest.values())

    @cached_property
    def data_reads(self) -> tuple[DataRead, ...]:
        """What sweeps and full runs read of the data before they began, oldest first."""
        return tuple(self._decode(entry, DataRead) for entry in self._of("data_read"))

    @cached_property
    def probes(self) -> tuple[IngestProbe, ...]:
        """What the data path was measured to be, the latest of each model."""
        latest = {probe.model: probe for probe in (self._decode(each, IngestProbe) for each in self._of("ingest"))}
        return tuple(latest.values())

    @cached_property
    def smoke(self) -> tuple[SmokeReport, ...]:
        """The latest smoke stage; empty before it."""
        entries = self._of("smoke")
        return self._decode(entries[-1], tuple[SmokeReport, ...], "reports") if entries else ()

    @cached_property
    def verdict(self) -> Verdict | None:
        """The latest verdict."""
        entries = self._of("verdict")
        return self._decode(entries[-1], Verdict) if entries else None

    @cached_property
    def answers(self) -> tuple[Approval, ...]:
        """Every approval and rejection of exactly the latest verdict, oldest first."""
        if self.verdict is None:
            return ()
        answers = [self._decode(entry, Approval) for entry in self._of("approval")]
        return tuple(answer for answer in answers if answer.inputs_digest == self.verdict.inputs_digest)

    @property
    def approval(self) -> Approval | None:
        """The latest approval or rejection of exactly the latest verdict."""
        return self.answers[-1] if self.answers else None

    @cached_property
    def spec_of_verdict(self) -> ExperimentSpec | None:
        """The config that the latest verdict was reached under; None without a verdict."""
        kinds = [entry.kind for entry in self.entries]
        if "verdict" not in kinds:
            return None
        at = len(kinds) - 1 - kinds[::-1].index("verdict")
        return JournalView(self.path, self.entries[:at]).spec

    def record(self, entry: Entry) -> object | None:
        """The record of a line that is about a decision; None for every other kind. Raises JournalError."""
        kind = _DECISIONS.get(entry.kind)
        return None if kind is None else self._decode(entry, kind)

    def since_verdict(self, kind: str) -> int:
        """Records of a kind that were written after the latest verdict."""
        n = 0
        for entry in reversed(self.entries):
            if entry.kind == "verdict":
                break
            n += entry.kind == kind
        return n

    @cached_property
    def full_run_started(self) -> FullRunStart | None:
        """The latest full run that was begun, whether or not it has ended."""
        entries = self._of("full_run_started")
        return self._decode(entries[-1], FullRunStart) if entries else None

    @cached_property
    def is_full_run_open(self) -> bool:
        """Whether a full run was begun and its outcome has not been written."""
        marks = [entry.kind for entry in self.entries if entry.kind in ("full_run_started", "outcome")]
        return bool(marks) and marks[-1] == "full_run_started"

    @cached_property
    def outcomes(self) -> tuple[Outcome, ...]:
        """Every full run that ended, oldest first."""
        return tuple(self._decode(entry, Outcome) for entry in self._of("outcome"))

    @cached_property
    def trials_usd(self) -> float:
        """What all attempts at trials cost, those that failed and were run again included."""
        return float(sum(self._decode(entry, TrialResult).cost_usd for entry in self._of("trial")))

    @cached_property
    def open_full_runs(self) -> tuple[CandidateForecast, ...]:
        """Full runs that were begun and have not ended, each candidate once: their dollars are not known yet."""
        found: dict[Candidate, CandidateForecast] = {}
        for entry in self.entries:
            if entry.kind == "outcome":
                found.pop(self._decode(entry, Outcome).candidate, None)
            elif entry.kind == "full_run_started":
                start = self._decode(entry, FullRunStart)
                found[start.candidate] = start.forecast
        return tuple(found.values())

    @cached_property
    def cut_off(self) -> tuple[TrialLaunch, ...]:
        """Launches of which nothing was heard: still running, or cut off by a crash."""
        heard = Counter(entry.payload["key"] for entry in self._of("trial"))
        for entry in self._of("sweep_end"):
            heard.update(entry.payload["withdrawn"])
        launches = [self._decode(entry, TrialLaunch) for entry in self._of("launch")]
        silent = []
        for launch in reversed(launches):  # the latest launch of a trial is the one that was heard of
            if heard[launch.key] > 0:
                heard[launch.key] -= 1
            else:
                silent.append(launch)
        return tuple(reversed(silent))

    @cached_property
    def drills(self) -> tuple[Drill, ...]:
        """Rehearsals, the latest of each name."""
        latest = {drill.name: drill for drill in (self._decode(entry, Drill) for entry in self._of("drill"))}
        return tuple(latest.values())

    @cached_property
    def sweep_end(self) -> SweepEnd | None:
        """Why the latest sweep ended."""
        entries = self._of("sweep_end")
        return self._decode(entries[-1], SweepEnd) if entries else None

    def _of(self, kind: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.kind == kind]

    @property
    def _experiment(self) -> Entry:
        entries = self._of("experiment")
        if not entries:
            raise JournalError(f"{self.path}: holds no experiment yet; run `sweep` on its config first")
        return entries[-1]

    def _decode(self, entry: Entry, kind: type[T], key: str | None = None) -> T:
        try:
            plain = entry.payload if key is None else entry.payload[key]
            return from_plain(kind, without_retired_keys(plain) if kind is ExperimentSpec else plain)
        except (KeyError, ValueError, TypeError) as error:
            cause = str(error).replace("\n", "; ")[:300]
            raise JournalError(
                f"{self.path}, line {entry.seq}: the {entry.kind} record does not fit this version ({cause}); "
                "read it with the version that wrote it, or move the run folder aside and sweep again"
            ) from error


class Journal:
    """The one writer of a run folder. Use `open`; close it, or use it in a ``with``, to let the next writer in."""

    def __init__(self, path: Path, descriptor: int, lock: BaseFileLock, view: JournalView, now: Callable[[], datetime]):
        self.path = path
        self._descriptor = descriptor
        self._lock = lock
        self._entries = list(view.entries)
        self._warnings = view.warnings
        self._now = now
        self._turn = threading.Lock()
        self._view: JournalView | None = None

    @classmethod
    def open(cls, folder: Path, *, now: Callable[[], datetime]) -> Journal:
        """Lock the folder (made when missing), set a torn last line aside, and stand ready to append.

        Raises:
            LockedError: Another process writes there; the message names it and its age.
            JournalError: The folder cannot be written, the journal is damaged before its last line, or lines that were
                written are missing.
        """
        path = folder / FILE_NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = acquire(folder, now)
        except OSError as error:
            raise JournalError(cannot("use", folder, error)) from error
        try:
            view = _recover(path)
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            _fsync_folder(folder)
            return cls(path, descriptor, lock, view, now)
        except BaseException as error:
            release(folder, lock)
            if isinstance(error, OSError):
                raise JournalError(cannot("open", path, error)) from error
            raise

    @staticmethod
    def read(folder: Path) -> JournalView:
        """What the journal in ``folder`` says up to a damage, which is told in ``warnings``; takes no lock.

        Raises:
            UnknownExperimentError: There is no journal.
            JournalError: It cannot be read.
        """
        return Journal.parse(folder / FILE_NAME, _content(folder))

    @staticmethod
    def parse(path: Path, content: bytes) -> JournalView:
        """As `read`, of bytes that came from elsewhere; ``path`` only names them."""
        return _view(path, scan_lines(content))

    @staticmethod
    def verify(folder: Path) -> int:
        """Check every line against its digest, the one before and the seal; their number.

        Raises: JournalError: A line was altered, dropped or moved, or the end is missing.
        """
        path = folder / FILE_NAME
        scan = scan_lines(_content(folder))
        if scan.fault is not None:
            raise JournalError(_damage(path, scan))
        require_sealed(path, scan.entries)
        return len(scan.entries)

    @property
    def view(self) -> JournalView:
        """What has been written so far, this process's appends included; decoded once between two appends."""
        if self._view is None:
            self._view = JournalView(self.path, tuple(self._entries), self._warnings)
        return self._view

    def append(self, kind: str, payload: object) -> None:
        """Write one record and wait until the disk has it.

        Args:
            kind: ``experiment``, ``data_read``, ``ingest``, ``smoke``, ``launch``, ``trial``, ``sweep_end``,
                ``verdict``, ``drill``, ``approval``, ``full_run_started`` or ``outcome``.
            payload: The record, or a mapping that may hold records; a list of smoke reports for ``smoke``.

        Raises:
            JournalError: The disk refused; what had been half-written is taken back.
        """
        plain = to_plain({"reports": payload} if isinstance(payload, list | tuple) else payload)
        with self._turn:
            previous = self._entries[-1].sha256 if self._entries else FIRST_PREVIOUS
            at = self._now().astimezone(UTC).isoformat(timespec="milliseconds")
            line, seal = sealed_line(len(self._entries) + 1, at, kind, plain, previous)
            self._write(line)
            self._view = None
            self._entries.append(Entry(seq=len(self._entries) + 1, at=at, kind=kind, payload=plain, sha256=seal))
            write_seal(self.path, self._entries)

    def close(self) -> None:
        """Let the next writer in; safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            release(self.path.parent, self._lock)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        if self._descriptor < 0:
            raise JournalError(f"{self.path}: is closed in this process; open it again to append")
        length = os.fstat(self._descriptor).st_size
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError as error:
            try:
                os.ftruncate(self._descriptor, length)
            except OSError:  # a torn line stays behind; appending after it would bury it in the middle
                self.close()
            raise JournalError(cannot("append to", self.path, error)) from error


def run_folder(runs_dir: Path | str, name: str) -> Path:
    """``runs_dir/name``. Raises UsageError for a name that could lead out of ``runs_dir``."""
    if not _RUN_NAME.fullmatch(name):
        raise UsageError(
            f"experiment name {name!r} must start with a letter or digit and hold only those, '.', '_' and '-'"
        )
    return Path(runs_dir) / name


def _content(folder: Path) -> bytes:
    path = folder / FILE_NAME
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UnknownExperimentError(_unknown(folder)) from error
    except OSError as error:
        raise JournalError(cannot("read", path, error)) from error


def _view(path: Path, scan: Scan) -> JournalView:
    if scan.fault is None:
        return JournalView(path, scan.entries)
    if scan.is_torn:
        warning = (
            f"{path}: line {len(scan.entries) + 1} is incomplete, being written or cut off by a crash; passed over"
        )
    else:
        warning = _damage(path, scan)
    return JournalView(path, scan.entries, (warning,))


def _recover(path: Path) -> JournalView:
    """The journal's view after a torn last line was moved aside. Raises JournalError on damage before it."""
    if not path.exists():
        require_sealed(path, ())
        return JournalView(path, ())
    content = path.read_bytes()
    scan = scan_lines(content)
    if scan.fault is not None and not scan.is_torn:
        raise JournalError(_damage(path, scan))
    require_sealed(path, scan.entries)
    if scan.fault is None:
        if content and not content.endswith(b"\n"):  # killed between the line and its newline: the line is whole
            with path.open("ab") as file:
                file.write(b"\n")
        return JournalView(path, scan.entries)
    aside = _free_name(path.with_name(f"journal.damaged-{len(scan.entries) + 1}"))
    aside.write_bytes(scan.tail)
    os.truncate(path, scan.n_good_bytes)
    warning = (
        f"{path}: line {len(scan.entries) + 1} was cut off by a crash and is kept in {aside.name}; "
        f"the {len(scan.entries)} lines before it are intact, and whatever it recorded will be measured again"
    )
    return JournalView(path, scan.entries, (warning,))


def _free_name(path: Path) -> Path:
    names = (path if n == 1 else path.with_name(f"{path.name}.{n}") for n in range(1, 10_000))
    return next(name for name in names if not name.exists())


def _damage(path: Path, scan: Scan) -> str:
    line = len(scan.entries) + 1
    return (
        f"{path}: line {line} is damaged: {scan.fault}; the {len(scan.entries)} lines before it are intact. "
        f"Restore the file from a copy, or keep them: head -n {line - 1} {FILE_NAME} > kept && mv kept {FILE_NAME}"
    )


def _unknown(folder: Path) -> str:
    try:
        names = sorted(child.parent.name for child in folder.parent.glob(f"*/{FILE_NAME}"))
    except OSError:
        names = []
    close = difflib.get_close_matches(folder.name, names, n=1)
    if close:
        hint = f"did you mean {close[0]}?"
    elif names:
        hint = f"there are: {', '.join(names[:10])}"
    else:
        hint = "nothing was swept there yet"
    return f"no experiment {folder.name!r} in {folder.parent}; {hint}"


def _fsync_folder(folder: Path) -> None:
    """Make the new file's name itself durable; a platform that cannot open folders has nothing to sync."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
