"""Frozen records of what was measured, priced and concluded: plain data, JSON in and out.

Times are wall-clock seconds on the rank that was slowest, unless a field says otherwise; accuracies lie in 0..1; money
is in US dollars. A value nobody measured is None, never zero.
"""

from orchestrator.results.concluded import (
    Approval,
    Bottleneck,
    Candidate,
    CandidateForecast,
    CheckItem,
    CurveBand,
    CurvePoint,
    DataPathFinding,
    Drill,
    DroppedModel,
    Frontier,
    MeasurementAdvice,
    Outcome,
    ScalingDiagnosis,
    SweepCause,
    SweepEnd,
    Verdict,
    Veto,
    WorkerScaling,
)
from orchestrator.results.measured import (
    MIN_REPEATS,
    DataQuality,
    DataRead,
    DataSummary,
    EpochPoint,
    IngestMeasurement,
    Rate,
    TimeSplit,
    TrainingResult,
    TrialLaunch,
    TrialResult,
)
from orchestrator.results.priced import Bill, BillLine, CheckpointAdvice, CostKind, Interval, Sensitivity

__all__ = [
    "MIN_REPEATS", "Approval", "Bill", "BillLine", "Bottleneck", "Candidate", "CandidateForecast", "CheckItem",
    "CheckpointAdvice", "CostKind", "CurveBand", "CurvePoint", "DataPathFinding", "DataQuality", "DataRead",
    "DataSummary", "Drill", "DroppedModel", "EpochPoint", "Frontier", "IngestMeasurement", "Interval",
    "MeasurementAdvice", "Outcome", "Rate", "ScalingDiagnosis", "Sensitivity", "SweepCause", "SweepEnd",
    "TimeSplit", "TrainingResult", "TrialLaunch", "TrialResult", "Verdict", "Veto", "WorkerScaling",
]  # fmt: skip
