"""Which trials speak about which model, and the baseline they set."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.curves.worker_scaling import TimeMeasurement
from orchestrator.errors import EvidenceError
from orchestrator.results import DataSummary, TrainingResult, TrialResult
from orchestrator.spec import ExperimentSpec, Metric, evidence_scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What the full run must beat."""

    value: float
    std_error: float
    """0 for a number given in the config."""
    source: str


def usable_results(
    spec: ExperimentSpec, data: DataSummary, results: Iterable[TrialResult], model: str
) -> list[TrialResult]:
    """Finished trials of the model under this data, task and training, whose metric is a finite number."""
    scope = evidence_scope(spec, data.fingerprint, model)
    return [
        result
        for result in results
        if result.status == "finished"
        and result.scope == scope
        and result.training is not None
        and (value := metric_of(result.training, spec.decision.metric)) is not None
        and math.isfinite(value)
    ]


def other_data(data: DataSummary, results: Iterable[TrialResult]) -> dict[str, int]:
    """Finished trials by fingerprint, of data other than this; most first."""
    counts = Counter(each.fingerprint for each in results if each.status == "finished")
    return {digest: n for digest, n in counts.most_common() if digest != data.fingerprint}


def mixture(data: DataSummary, results: Iterable[TrialResult]) -> str | None:
    """What to say where trials of other data lie beside those of this, with all digests and the way out; else None.

    They are never fitted together: a curve through two data sets is a curve of neither.
    """
    found = list(results)
    others = other_data(data, found)
    if not others:
        return None
    own = sum(each.status == "finished" and each.fingerprint == data.fingerprint for each in found)
    listed = ", ".join(f"{_trials(n)} of data {digest or 'without a fingerprint'}" for digest, n in others.items())
    return (
        f"the journal holds {listed}, and {_trials(own)} of the data at hand, {data.fingerprint}: they are never "
        "fitted together; measure this data under another experiment name (name: in the config, or name=... behind "
        "it), or put the old data back"
    )


def require_own_evidence(data: DataSummary, results: Iterable[TrialResult]) -> None:
    """Before anything is measured or recorded: refuse data that is not what an experiment's trials are of.

    Raises: EvidenceError: The journal holds finished trials, and none of them of this data.
    """
    found = list(results)
    mixed = mixture(data, found)
    if mixed is not None and all(each.fingerprint != data.fingerprint for each in found if each.status == "finished"):
        raise EvidenceError(mixed)


def _trials(n: int) -> str:
    return f"{n} finished trial" if n == 1 else f"{n} finished trials"


def metric_of(training: TrainingResult, metric: Metric) -> float | None:
    """Validation accuracy or loss, whichever the decision is about."""
    return training.accuracy if metric == "accuracy" else training.loss


def measure_baseline(
    spec: ExperimentSpec, by_model: Mapping[str, Sequence[TrialResult]], noise_std: Mapping[str, float]
) -> Baseline:
    """The number in the config, or the best (model, size) by its mean over seeds.

    The mean over seeds and not the single luckiest trial: luck is not reproduced by the full run either. Its standard
    error pools the seeds' spread over that model's two largest sizes; with one seed a size it is the noise of the
    curve. Sizes with a single seed stand back where there are sizes with more.
    """
    metric = spec.decision.metric
    if spec.decision.baseline != "best_trial":
        return Baseline(value=float(spec.decision.baseline), std_error=0.0, source="config")
    cells = {(name, n): values for name, own in by_model.items() for n, values in seed_means(own, metric).items()}
    repeated = {cell: values for cell, values in cells.items() if len(values) > 1} or cells
    sign = 1.0 if metric == "accuracy" else -1.0
    (name, n), values = max(repeated.items(), key=lambda item: sign * float(np.mean(item[1])))
    alike = [v for cell, v in sorted(cells.items()) if cell[0] == name and len(v) > 1][-2:]
    freedom = sum(len(v) - 1 for v in alike)
    squares = sum(float(np.var(v, ddof=1)) * (len(v) - 1) for v in alike)
    std = math.sqrt(squares / freedom) if freedom else noise_std.get(name, 0.0)
    seeds = "1 seed" if len(values) == 1 else f"mean of {len(values)} seeds"
    source = f"best trials: {name} on {n:,} samples, {seeds}"
    return Baseline(value=float(np.mean(values)), std_error=std / math.sqrt(len(values)), source=source)


def seed_means(own: Sequence[TrialResult], metric: Metric) -> dict[int, list[float]]:
    """The metric by size and seed; worker counts of one seed are one value, because they saw the same subset."""
    values: defaultdict[int, defaultdict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for n_samples, value, result in points_of(own, metric):
        values[n_samples][result.trial.seed].append(value)
    return {n: [float(np.mean(v)) for v in seeds.values()] for n, seeds in values.items()}


def points_of(own: Sequence[TrialResult], metric: Metric) -> list[tuple[int, float, TrialResult]]:
    """Training rows, metric and trial of each result that has the metric."""
    return [
        (result.training.n_train, value, result)
        for result in own
        if result.training is not None and (value := metric_of(result.training, metric)) is not None
    ]


def time_measurements(own: Sequence[TrialResult], global_batch_size: int) -> list[TimeMeasurement]:
    """Where the time of finished trials went."""
    return [
        TimeMeasurement(
            n_samples=training.n_train,
            samples_seen=training.samples_seen,
            epochs=training.epochs_run,
            workers=result.trial.workers,
            steps=training.epochs_run * math.ceil(training.n_train / global_batch_size),
            startup_s=training.time.startup_s,
            compute_s=training.time.compute_s,
            data_wait_s=training.time.data_wait_s,
            gradient_sync_s=training.time.gradient_sync_s,
            validation_s=training.time.validation_s,
            checkpoint_s=training.time.checkpoint_s,
        )
        for result in own
        if (training := result.training) is not None
    ]
