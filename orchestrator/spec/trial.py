"""One measurement that is asked for, and the digest by which it is known."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from orchestrator.spec.experiment import DataSpec, ExperimentSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialSpec:
    """One measurement to be made: a model on a fraction of the data, on so many workers, with one seed."""

    model: str
    fraction: float
    workers: int
    seed: int

    def __str__(self) -> str:
        plural = "worker" if self.workers == 1 else "workers"
        return f"{self.model} {self.fraction:.4g} x {self.workers} {plural} seed {self.seed}"


def digest(value: object) -> str:
    """SHA-256 of the canonical JSON of plain data, first 16 hex digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def evidence_scope(spec: ExperimentSpec, fingerprint: str, model: str) -> str:
    """Digest of all that must be equal for two trials of a model to lie on one curve."""
    return digest(
        {
            "task": spec.task,
            "model": asdict(spec.model(model)),
            "training": asdict(spec.training),
            "fingerprint": fingerprint,
            "columns": [spec.data.image, spec.data.label],
            "validation_fraction": spec.data.validation_fraction,
            **_unusual(spec.data),
        }
    )


def _unusual(data: DataSpec) -> dict[str, object]:
    """Options that change which rows are drawn or what an input is, where set: evidence without them keeps its keys."""
    usual = DataSpec(source=data.source)
    names = ("stratify", "bins", "min_per_class", "image_size")
    return {name: getattr(data, name) for name in names if getattr(data, name) != getattr(usual, name)}


def trial_key(spec: ExperimentSpec, fingerprint: str, trial: TrialSpec) -> str:
    """Content address of a trial: the same question always has the same key, so it is measured once.

    Only what changes the answer goes in; names of experiments, prices and thresholds do not.
    """
    return digest([evidence_scope(spec, fingerprint, trial.model), trial.fraction, trial.workers, trial.seed])
