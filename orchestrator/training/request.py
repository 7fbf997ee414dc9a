"""What a worker is asked and what a smoke test answers; free of torch, so that the driver stays light."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.results import Candidate
from orchestrator.spec import ExperimentSpec, TrialSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """All a rank must know to train; pickled to the workers."""

    spec: ExperimentSpec
    trial: TrialSpec
    fingerprint: str
    data_root: Path | None
    """Folder of the prepared data; None when the task brings its own."""


def trial_of(candidate: Candidate) -> TrialSpec:
    """The full run of a candidate as what a rank is asked: its first seed."""
    return TrialSpec(model=candidate.model, fraction=candidate.fraction, workers=candidate.workers, seed=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeResult:
    """One step of a model: it can be built, trained and saved."""

    n_parameters: int
    checkpoint_bytes: int
