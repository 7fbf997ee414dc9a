"""What is asked: the frozen records a config turns into.

One record per section of the YAML; `config` parses into them. Each record checks itself in ``__post_init__`` and
reports all of its faults at once (`SpecValueError`), so a config with five mistakes is refused once, not five times.
Fractions are in (0, 1], money in US dollars, times carry their unit in the name.
"""

from orchestrator.spec.alerts import AlertEvent, AlertSpec, shown_url, without_secrets
from orchestrator.spec.experiment import (
    BudgetSpec,
    CheckpointSpec,
    DataSpec,
    DecisionSpec,
    EarlyStoppingSpec,
    ExperimentSpec,
    FullRunSpec,
    Metric,
    ModelSpec,
    ResourceSpec,
    Scalar,
    SweepSpec,
    TrackingSpec,
    TrainingSpec,
)
from orchestrator.spec.pricing import PeopleSpec, PricingSpec, Purchase, Route, SpotSpec, StorageSpec, TransferSpec
from orchestrator.spec.trial import TrialSpec, digest, evidence_scope, trial_key

__all__ = [
    "AlertEvent",
    "AlertSpec",
    "BudgetSpec",
    "CheckpointSpec",
    "DataSpec",
    "DecisionSpec",
    "EarlyStoppingSpec",
    "ExperimentSpec",
    "FullRunSpec",
    "Metric",
    "ModelSpec",
    "PeopleSpec",
    "PricingSpec",
    "Purchase",
    "ResourceSpec",
    "Route",
    "Scalar",
    "SpotSpec",
    "StorageSpec",
    "SweepSpec",
    "TrackingSpec",
    "TrainingSpec",
    "TransferSpec",
    "TrialSpec",
    "digest",
    "evidence_scope",
    "shown_url",
    "trial_key",
    "without_secrets",
]
