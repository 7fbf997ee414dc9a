"""What trials that were not run yet will take, judged by those that were."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.results import DataSummary, TrialResult
from orchestrator.spec import TrialSpec
from orchestrator.subsets import subset_size


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepEstimate:
    """What the trials that are left will take, judged by those that are done."""

    n_trials: int
    cost_usd: float | None
    """None as long as nothing of some model was measured."""
    hours: float | None
    """Wall time with so many trials side by side; None as ``cost_usd``."""
    unmeasured_models: tuple[str, ...]


def estimate_sweep(
    left: Sequence[TrialSpec], results: Sequence[TrialResult], data: DataSummary, *, concurrent_trials: int = 1
) -> SweepEstimate:
    """Dollars and hours of the trials that are left, from the trials that are done.

    A trial's seconds come from a line through the measured (rows, seconds) of the same model and worker count, or of
    the same model on any worker count where there is none; with one size only, a larger subset is taken to cost in
    proportion and a smaller one the same. Dollars are seconds times workers at the measured dollars per
    worker-second.

    Args:
        left: Trials still to run.
        results: Finished trials; failed ones tell no training time.
        data: For the number of rows.
        concurrent_trials: Trials side by side, at least 1.
    """
    done = [result for result in results if result.training is not None and result.wall_time_s > 0]
    by_model = {result.trial.model for result in done}
    unmeasured = tuple(sorted({trial.model for trial in left} - by_model))
    if unmeasured or not done:
        known = 0.0 if not left else None
        return SweepEstimate(n_trials=len(left), cost_usd=known, hours=known, unmeasured_models=unmeasured)
    worker_seconds = sum(result.wall_time_s * result.trial.workers for result in done)
    usd_per_worker_s = sum(result.cost_usd for result in done) / worker_seconds
    seconds = [(_estimate_seconds(trial, done, data), trial.workers) for trial in left]
    return SweepEstimate(
        n_trials=len(left),
        cost_usd=sum(s * workers for s, workers in seconds) * usd_per_worker_s,
        hours=sum(s for s, _ in seconds) / concurrent_trials / 3600,
        unmeasured_models=(),
    )


def _estimate_seconds(trial: TrialSpec, done: Sequence[TrialResult], data: DataSummary) -> float:
    alike = [r for r in done if r.trial.model == trial.model and r.trial.workers == trial.workers]
    alike = alike or [r for r in done if r.trial.model == trial.model]
    by_rows: defaultdict[int, list[float]] = defaultdict(list)
    for result in alike:
        by_rows[subset_size(data.n_train, result.trial.fraction)].append(result.wall_time_s)
    rows = np.array(sorted(by_rows), dtype=np.float64)
    seconds = np.array([np.mean(by_rows[int(n)]) for n in rows])
    target = subset_size(data.n_train, trial.fraction)
    if len(rows) == 1:
        return float(seconds[0] * max(1.0, target / rows[0]))
    slope, intercept = np.polyfit(rows, seconds, 1)
    if slope <= 0:  # run noise outweighs the sizes: the mean is all that is known
        return float(seconds.mean())
    # A line through noisy points may cut the axis above the smallest sizes; no trial is free.
    return float(max(intercept + slope * target, seconds.min() * min(1.0, target / rows[0])))
