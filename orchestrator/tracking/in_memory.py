"""A tracker that keeps what it was told, for tests and for runs without MLflow."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.ports import ReviewPage
from orchestrator.results import Approval, DataSummary, Outcome, TrialResult, Verdict
from orchestrator.spec import ExperimentSpec


class InMemoryTracker:
    """Implements `ports.Tracker`; everything it was told is in its public attributes."""

    def __init__(self) -> None:
        self.spec: ExperimentSpec | None = None
        self.data: DataSummary | None = None
        self.results: dict[str, TrialResult] = {}
        """By trial key; a finished result is never replaced by a failed one."""
        self.verdicts: list[Verdict] = []
        self.pages: list[ReviewPage] = []
        self.approvals: list[Approval] = []
        self.outcomes: list[Outcome] = []
        self.is_closed = False

    def open(self, spec: ExperimentSpec, data: DataSummary, results: Sequence[TrialResult]) -> None:
        self.spec, self.data, self.is_closed = spec, data, False
        for result in results:
            self.trial_finished(result)

    def trial_finished(self, result: TrialResult) -> None:
        known = self.results.get(result.key)
        if known is None or result.status == "finished" or known.status == "failed":
            self.results[result.key] = result

    def verdict_reached(self, verdict: Verdict, page: ReviewPage) -> None:
        self.verdicts.append(verdict)
        self.pages.append(page)

    def approval_given(self, approval: Approval) -> None:
        self.approvals.append(approval)

    def full_run_finished(self, outcome: Outcome) -> None:
        if outcome not in self.outcomes:
            self.outcomes.append(outcome)

    def settle(self, timeout_s: float = 10.0) -> None:
        """Nothing waits here."""

    def close(self) -> str | None:
        self.is_closed = True
        return None
