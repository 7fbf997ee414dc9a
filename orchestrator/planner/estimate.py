"""What trials that were not run yet will take, judged by those that were."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.planner.grid import plan_grid
from orchestrator.results import DataSummary, TrialResult
from orchestrator.spec import ExperimentSpec, TrialSpec
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


@dataclass(frozen=True, slots=True, kw_only=True)
class NextMeasurement:
    """Trials that would narrow the forecast."""

    description: str
    trials: tuple[TrialSpec, ...]
    cost_usd: float | None
    """From the measured cost of the trials that are done; None when there are none."""


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


def next_measurement(
    spec: ExperimentSpec, data: DataSummary, finished: Sequence[TrialResult], model: str
) -> NextMeasurement:
    """What to measure next when the verdict is open: what the plan still lacks, else a larger size, else another seed.

    A larger size shortens the extrapolation and goes halfway, on the logarithmic axis the curve is fitted on, to the
    full run; once that is less than a quarter more rows, repeats at the two largest sizes tell more than a new size.

    Args:
        spec: The config.
        data: The data set as prepared.
        finished: Finished trials of the model, at least one.
        model: Model of the candidate in question.
    """
    done = {result.trial for result in finished}
    left = tuple(trial for trial in plan_grid(spec, data) if trial.model == model and trial not in done)
    if left:
        count = "1 trial" if len(left) == 1 else f"{len(left)} trials"
        return _priced(f"finish the sweep of {model}, {count} left", left, finished, data)
    fractions = sorted({trial.fraction for trial in done})
    workers, seeds = spec.sweep.workers[0], max(trial.seed for trial in done) + 1
    halfway = math.sqrt(fractions[-1] * spec.full_run.fraction)
    if halfway >= 1.25 * fractions[-1]:
        fraction = float(f"{halfway:.2g}")
        trials = tuple(TrialSpec(model=model, fraction=fraction, workers=workers, seed=seed) for seed in range(seeds))
        return _priced(f"{model} on a fraction of {fraction:g} with {seeds} seeds", trials, finished, data)
    trials = tuple(TrialSpec(model=model, fraction=f, workers=workers, seed=seeds) for f in fractions[-2:])
    sizes = " and ".join(f"{f:g}" for f in fractions[-2:])
    return _priced(
        f"{model} on {sizes} of the data with another seed (sweep.seeds: {seeds + 1})", trials, finished, data
    )


def _priced(
    description: str, trials: tuple[TrialSpec, ...], finished: Sequence[TrialResult], data: DataSummary
) -> NextMeasurement:
    cost_usd = estimate_sweep(trials, finished, data).cost_usd
    return NextMeasurement(description=description, trials=trials, cost_usd=cost_usd)
