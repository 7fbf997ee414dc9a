"""The doors of the pure core: what a shell must be able to do, as Protocols.

`experiment` acts only through these; `backends` and `tracking` implement them. A port's method may block; none may
raise for a single failed trial, which is a result like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.results import (
    Approval,
    Candidate,
    CandidateForecast,
    DataRead,
    DataSummary,
    Drill,
    IngestMeasurement,
    Outcome,
    SweepEnd,
    TrainingResult,
    TrialLaunch,
    TrialResult,
    Verdict,
)
from orchestrator.spec import AlertEvent, ExperimentSpec, TrialSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeReport:
    """What one batch through a model showed before the first paid trial."""

    model: str
    n_parameters: int
    checkpoint_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestProbe:
    """What one worker's data path and step were measured to be, with one model."""

    model: str
    scope: str
    """`spec.evidence_scope`: the data, the model and how it is trained."""
    loader_workers: int
    measurement: IngestMeasurement


class TrialSource(Protocol):
    """Says which trial runs next; asked in the driver whenever a place is free."""

    def next(self, running: Sequence[TrialSpec]) -> TrialSpec | None:
        """The next trial; None when none is to start now. ``running`` are those launched that have not ended."""

    @property
    def n_left(self) -> int:
        """Trials that may still be launched, at most; 0 once none will be, whatever the running ones come to."""


class TrialRunner(Protocol):
    """Runs trials, side by side where it can."""

    def make_ready(self, trials: Sequence[TrialSpec]) -> DataRead | None:
        """Read and decode the rows of the trials ahead; None when there is nothing to make ready.

        Raises: DataError: rows that cannot be read or decoded. TaskError: the task breaks the protocol.
        """

    def smoke(self) -> Sequence[SmokeReport]:
        """One training step of every model. Raises TaskError: a model cannot be built or trained."""

    def probe(self, model: str, n_samples: int) -> IngestMeasurement | None:
        """Measure the data path and the step of one worker over so many rows; None when the task's loop is its own.

        Raises: TaskError: the model cannot be trained.
        """

    def run(self, source: TrialSource, on_result: Callable[[TrialResult], bool]) -> None:
        """Run what ``source`` gives, calling ``on_result`` in the driver as each ends; False ends launching."""

    def close(self) -> None:
        """Give back every process and resource."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FullRunResult:
    """What the full run came to, as its runner saw it."""

    training: TrainingResult
    wall_time_s: float
    checkpoint_path: str


class FullRunner(Protocol):
    """Runs one candidate at full scale, resuming by itself when asked again after a crash."""

    def make_ready(self, candidate: Candidate) -> DataRead | None:
        """As `TrialRunner.make_ready`, for the candidate's rows."""

    def run(
        self, candidate: Candidate, forecast: CandidateForecast, on_progress: Callable[[str], None]
    ) -> FullRunResult:
        """Train the candidate to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewPage:
    """What a reviewer sees of a verdict: Markdown for the run's description, figures as PNG bytes, an HTML page."""

    description: str
    figures: Mapping[str, bytes]
    html: str


class Tracker(Protocol):
    """A mirror of the journal that people look at. It never raises into the sweep: faults are told at close."""

    def open(self, spec: ExperimentSpec, data: DataSummary, results: Sequence[TrialResult]) -> None:
        """Bring the mirror up to date with what the journal already holds."""

    def trial_finished(self, result: TrialResult) -> None: ...

    def verdict_reached(self, verdict: Verdict, page: ReviewPage) -> None: ...

    def approval_given(self, approval: Approval) -> None: ...

    def full_run_finished(self, outcome: Outcome) -> None: ...

    def settle(self, timeout_s: float = 10.0) -> None:
        """Wait, but not long, until the mirror is up to date: work of its own would distort what is measured next."""

    def close(self) -> str | None:
        """Flush what is waiting; returns one line about what could not be mirrored, or None."""


class Evidence(Protocol):
    """What the journal says so far."""

    @property
    def results(self) -> tuple[TrialResult, ...]:
        """Trials, the latest of each key."""

    @property
    def data_reads(self) -> tuple[DataRead, ...]:
        """What sweeps and full runs read of the data before they began, oldest first."""

    @property
    def probes(self) -> tuple[IngestProbe, ...]:
        """What the data path was measured to be, the latest of each model."""

    @property
    def smoke(self) -> tuple[SmokeReport, ...]:
        """The latest smoke stage; empty before it."""

    @property
    def verdict(self) -> Verdict | None: ...

    @property
    def approval(self) -> Approval | None:
        """The latest answer to exactly the latest verdict."""

    @property
    def outcomes(self) -> tuple[Outcome, ...]: ...

    @property
    def trials_usd(self) -> float:
        """What all attempts at trials cost, those that failed and were run again included."""

    @property
    def open_full_runs(self) -> tuple[CandidateForecast, ...]:
        """Full runs that were begun and have not ended, each candidate once: their dollars are not known yet."""

    @property
    def cut_off(self) -> tuple[TrialLaunch, ...]:
        """Launches of which nothing was heard: still running, or cut off by a crash."""

    @property
    def drills(self) -> tuple[Drill, ...]:
        """Rehearsals, the latest of each name."""

    @property
    def sweep_end(self) -> SweepEnd | None:
        """Why the latest sweep ended."""


class EvidenceStore(Protocol):
    """The journal: what is appended is on the disk when the call returns."""

    @property
    def view(self) -> Evidence: ...

    def append(self, kind: str, payload: object) -> None:
        """Write one record. Raises JournalError: the disk refused."""


class Notifier(Protocol):
    """Tells people who are not watching. It never raises into a sweep: faults are told at close."""

    def notify(self, event: AlertEvent, text: str, facts: Mapping[str, object] | None = None) -> None:
        """Send a message to every channel that asked for such events, in the background."""

    def close(self, timeout_s: float = 30.0) -> str | None:
        """Send what is waiting; returns one line about what could not be sent, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepProgress:
    """Where a sweep stands, after every trial."""

    n_done: int
    n_failed: int
    n_most: int
    """Trials of the whole grid; an adaptive sweep usually ends with fewer."""
    running: tuple[TrialSpec, ...]
    spent_usd: float
    cap_usd: float | None
    """The tighter of the caps; None without one."""
    left_s: float | None
    """Wall seconds until the plan is done, an upper bound for an adaptive sweep; None while nothing tells."""
    verdict: Verdict | None
    """So far; None until a model can be forecast."""


class Console(Protocol):
    """Where the user is told what is happening."""

    def say(self, message: str) -> None: ...

    def progress(self, progress: SweepProgress) -> None:
        """Show where the sweep stands, in place of what was shown before."""
