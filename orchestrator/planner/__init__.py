"""Which measurements are made, in which order, what they will cost, when to stop, and which cannot be made at all."""

from orchestrator.planner.adaptive import Step, next_trial, starting_design
from orchestrator.planner.advice import advise
from orchestrator.planner.estimate import SweepEstimate, estimate_sweep
from orchestrator.planner.feasible import ClusterCapacity, infeasible_workers, subset_faults
from orchestrator.planner.grid import ListedTrials, plan_grid, remaining
from orchestrator.planner.reserve import worst_case_usd

__all__ = [
    "ClusterCapacity", "ListedTrials", "Step", "SweepEstimate", "advise", "estimate_sweep", "infeasible_workers",
    "next_trial", "plan_grid", "remaining", "starting_design", "subset_faults", "worst_case_usd",
]  # fmt: skip
