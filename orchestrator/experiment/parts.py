"""The parts an experiment acts through, given to it by the shell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from orchestrator.cost.rates import RateCard
from orchestrator.ports import Console, Evidence, EvidenceStore, Notifier, ReviewPage, Tracker, TrialRunner
from orchestrator.results import DataSummary, Verdict
from orchestrator.spec import AlertEvent, ExperimentSpec

Render = Callable[[ExperimentSpec, DataSummary, Evidence, Verdict], ReviewPage]
StartRunner = Callable[[], AbstractContextManager[TrialRunner]]


class Silence:
    """`ports.Notifier` of an experiment without alerts."""

    def notify(self, event: AlertEvent, text: str, facts: Mapping[str, object] | None = None) -> None:
        """Nobody asked to be told."""

    def close(self, timeout_s: float = 30.0) -> str | None:
        """Nothing is waiting."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One experiment and the doors it acts through."""

    spec: ExperimentSpec
    data: DataSummary
    rates: RateCard
    journal: EvidenceStore
    tracker: Tracker
    console: Console
    render: Render
    """Draws the page a reviewer sees."""
    now: Callable[[], str]
    """UTC, ISO 8601."""
    notifier: Notifier = field(default_factory=Silence)
    draining: Callable[[], bool] = lambda: False
    """True once the user asked to stop: running trials end, no new one starts."""
