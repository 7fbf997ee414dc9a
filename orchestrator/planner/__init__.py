"""Which measurements are made, in which order, what they will cost, and which cannot be made at all."""

from orchestrator.planner.estimate import NextMeasurement, SweepEstimate, estimate_sweep, next_measurement
from orchestrator.planner.feasible import ClusterCapacity, infeasible_workers, subset_faults
from orchestrator.planner.grid import ListedTrials, plan_grid, remaining

__all__ = [
    "ClusterCapacity", "ListedTrials", "NextMeasurement", "SweepEstimate", "estimate_sweep", "infeasible_workers",
    "next_measurement", "plan_grid", "remaining", "subset_faults",
]  # fmt: skip
