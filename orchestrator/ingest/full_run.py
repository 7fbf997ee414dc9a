"""The data path of one model's full run: from its probe where there is one, else from its trials."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from orchestrator.cost.rates import RateCard
from orchestrator.ingest.projection import diagnose
from orchestrator.ingest.records import Hosts, IngestDiagnosis, IngestPrices
from orchestrator.ingest.trials import diagnose_trials
from orchestrator.results import DataSummary, IngestMeasurement, TrialResult
from orchestrator.spec import ExperimentSpec
from orchestrator.subsets import target_size


def diagnose_full_run(
    spec: ExperimentSpec,
    data: DataSummary,
    trials: Sequence[TrialResult],
    measured: IngestMeasurement | None,
    rates: RateCard,
) -> IngestDiagnosis | None:
    """Whether data keeps up with each of ``full_run.workers``; None when nothing was measured.

    Args:
        spec: The config.
        data: The data set as prepared.
        trials: Finished trials of one model, of this data and training.
        measured: The probe with that model.
        rates: Of the full run's machines.
    """
    prices = _prices(rates)
    if measured is None:
        return diagnose_trials(
            trials,
            workers=spec.full_run.workers,
            prices=prices,
            reads_ahead=spec.resources.loader_workers > 0,
            confidence=spec.decision.confidence,
        )
    return diagnose(
        measured,
        workers=spec.full_run.workers,
        n_samples=target_size(data.n_train, spec.full_run.fraction),
        epochs=spec.training.epochs,
        hosts=Hosts(
            workers_per_host=next(iter(rates.quotes.values())).workers_per_instance,
            cores_per_host=rates.vcpus_per_instance or measured.host_cores,
            cache_bytes_per_host=measured.host_memory_bytes,
        ),
        prices=prices,
        sync_s_per_sample=_sync_s_per_sample(trials),
        confidence=spec.decision.confidence,
    )


def _prices(rates: RateCard) -> IngestPrices:
    return IngestPrices(worker=rates.worker_hour, core=rates.core_hour)


def _sync_s_per_sample(trials: Sequence[TrialResult]) -> dict[int, float]:
    """Exposed gradient sync of a worker for each sample of its own, medians by worker count."""
    found: defaultdict[int, list[float]] = defaultdict(list)
    for trial in trials:
        workers, training = trial.trial.workers, trial.training
        if training is not None and workers > 1 and training.samples_seen > 0:
            found[workers].append(workers * training.time.gradient_sync_s / training.samples_seen)
    return {workers: float(np.median(seconds)) for workers, seconds in found.items()}
