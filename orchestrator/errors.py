"""The error family: what was asked, what was found, the way out.

Every error a user can cause or meet derives from `OrchestratorError`; the command line prints it in one piece and turns
``exit_code`` into the process's own. Arguments go to ``super().__init__`` so that an error survives pickling between
Ray's processes.

    OrchestratorError
    +-- UsageError                exit 2: something was asked that cannot be
    |   +-- ConfigError           all faults of a config at once
    |   +-- InfeasibleError       the machine or cluster cannot do what was asked
    |   +-- UnknownExperimentError
    +-- DataError                 exit 1: a data source that cannot be read or is not fit for training
    +-- EvidenceError             the journal, or too little in it
    |   +-- JournalError
    |   +-- UnderdeterminedFitError
    +-- PriceError                a price table or an instance that cannot be used
    +-- TaskError                 the user's training code does not keep the protocol, or raised
    +-- TrackingError             the MLflow store
    +-- LockedError               another process owns the run folder
    +-- NotApprovedError          promotion without leave
    +-- BudgetError               the dollar cap is reached
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


def did_you_mean(asked: str, known: Iterable[str]) -> str:
    """``"; did you mean 'label'?"`` when something close to ``asked`` is known, else nothing."""
    from difflib import get_close_matches

    spelling = {name.lower(): name for name in known}
    close = get_close_matches(asked.lower(), spelling, n=1)
    return f"; did you mean {spelling[close[0]]!r}?" if close else ""


class OrchestratorError(Exception):
    """Base of everything the command line prints without a traceback."""

    exit_code: int = 1


class UsageError(OrchestratorError):
    """Something was asked that cannot be; exit code 2."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a config: ``key`` is the dotted path, ``message`` says what was found and the way out."""

    key: str
    message: str


class ConfigError(UsageError):
    """Every fault of one config, listed together."""

    def __init__(self, source: str, faults: tuple[Fault, ...]) -> None:
        super().__init__(source, faults)
        self.source, self.faults = source, faults

    def __str__(self) -> str:
        if len(self.faults) == 1 and not self.faults[0].key:
            return f"{self.source}: {self.faults[0].message}"
        count = "1 fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
        lines = [f"{self.source}: {count}"]
        lines += [f"  {fault.key or '(whole file)'}: {fault.message}" for fault in self.faults]
        return "\n".join(lines)


class SpecValueError(ValueError):
    """Faults found by a spec record about itself; ``faults`` are relative to that record."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__(*faults)
        self.faults = faults

    def __str__(self) -> str:
        return "; ".join(f"{fault.key}: {fault.message}" if fault.key else fault.message for fault in self.faults)


class InfeasibleError(UsageError):
    """The cluster cannot hold what was asked."""


class UnknownExperimentError(UsageError):
    """No journal under that name."""


class DataError(OrchestratorError):
    """A data source that cannot be read, or whose content does not allow training."""


class EvidenceError(OrchestratorError):
    """The evidence is missing, damaged, or too thin for what was asked."""


class JournalError(EvidenceError):
    """The journal cannot be read or written."""


class UnderdeterminedFitError(EvidenceError):
    """Too few distinct measurements for a fit."""

    def __init__(self, what: str, got: int, need: int, way_out: str) -> None:
        super().__init__(what, got, need, way_out)
        self.what, self.got, self.need, self.way_out = what, got, need, way_out

    def __str__(self) -> str:
        return f"{self.what} needs at least {self.need} distinct points, got {self.got}; {self.way_out}"


class PriceError(OrchestratorError):
    """A price that is missing or cannot be true."""

    exit_code = 2


class TaskError(OrchestratorError):
    """The training code named by ``task`` cannot be used, or raised."""


class TrackingError(OrchestratorError):
    """The MLflow store cannot be used."""


class LockedError(OrchestratorError):
    """Another process owns the run folder."""


class NotApprovedError(OrchestratorError):
    """Promotion was asked for without an approval that still holds."""


class BudgetError(OrchestratorError):
    """The dollar cap leaves no room for what was asked."""
