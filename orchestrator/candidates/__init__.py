"""Every full run that could be started: models, targets, worker counts and purchase options, with joint draws."""

from orchestrator.candidates.forecast import MIN_SIZES, Forecasts, LeftOut, forecast_candidates
from orchestrator.candidates.targets import Target, assumptions_of, targets_of
from orchestrator.candidates.times import draw_epochs
from orchestrator.evidence import Baseline

__all__ = [
    "MIN_SIZES", "Baseline", "Forecasts", "LeftOut", "Target", "assumptions_of", "draw_epochs", "forecast_candidates",
    "targets_of",
]  # fmt: skip
