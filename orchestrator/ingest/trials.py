"""Whether it is the data, from the trials' own times alone, when no probe was run.

A trial tells how long its workers waited, not how fast the loader could be. With busy and wait the seconds of a worker
per sample, the loader takes ``busy + wait`` where it reads ahead and waits are seen at all, and ``wait`` where it reads
and trains in turns; so

    capacity / demand = busy / (busy + wait)   with read-ahead,    busy / wait   in turns

Counts between and beyond the measured ones take the waiting of the largest measured count below them: what workers
share, more of them do not make faster.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtr

from orchestrator.ingest.projection import MAX_WAIT_SHARE
from orchestrator.ingest.records import IngestDiagnosis, IngestPrices, IngestProjection, Limit
from orchestrator.ingest.wording import workers_text
from orchestrator.intervals import FloatArray, summarise
from orchestrator.results import TrainingResult, TrialResult

_SESSION_LOG_SD = 0.02
"""As in `projection`: what runs at different times differ by."""


def diagnose_trials(
    results: Sequence[TrialResult],
    *,
    workers: Sequence[int],
    prices: IngestPrices = IngestPrices(),  # noqa: B008  # frozen
    reads_ahead: bool,
    confidence: float = 0.9,
    unit: str = "samples",
) -> IngestDiagnosis | None:
    """What the largest trials of each worker count say; None when none has finished or none measured its steps.

    Args:
        results: Trials of one model, of the same data and training.
        workers: Candidate worker counts; counts that were measured, and one worker, are added.
        prices: For the dollars of waiting.
        reads_ahead: Whether the loader of these trials prepares batches while the last one is trained on.
        confidence: Probability from which a worker count is called ingest-bound.
        unit: What a sample is called.
    """
    measured = _largest(results)
    if not measured:
        return None
    counts = sorted({1, *workers, *measured})
    projections = [
        _projection(measured, count, prices, reads_ahead=reads_ahead, confidence=confidence) for count in counts
    ]
    least = min(measured)
    busy, wait = _seconds(measured[least], least)
    notes = [f"{len(measured[w])} trial(s) on {workers_text(w)}" for w in sorted(measured)]
    if any(each.probability is None for each in projections):
        notes.append(
            "one trial alone has no spread, so nothing is called ingest-bound from it; add seeds or run the probe"
        )
    return IngestDiagnosis(
        basis="trials",
        device=next(iter(measured[least])).device,
        unit=unit,
        confidence=confidence,
        compute=summarise(1 / busy),
        loader=None,
        storage=None,
        cold=None,
        end_to_end=summarise(1 / (busy + wait)),
        limit=projections[0].limit,
        overlap=None,
        projections=tuple(projections),
        notes=("loader and storage limits are not told apart by trials; the probe does", "; ".join(notes)),
    )


def _largest(results: Sequence[TrialResult]) -> dict[int, list[TrainingResult]]:
    """Finished trials of the largest fraction of each worker count."""
    found: defaultdict[int, dict[float, list[TrainingResult]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        training = result.training
        if training is not None and training.samples_seen > 0 and training.time.compute_s > 0:
            found[result.trial.workers][result.trial.fraction].append(training)
    return {workers: by_fraction[max(by_fraction)] for workers, by_fraction in found.items()}


def _seconds(trainings: Sequence[TrainingResult], workers: int) -> tuple[FloatArray, FloatArray]:
    """Busy and waiting seconds of one worker per sample of its own, of each trial."""
    per_sample = np.array([workers / training.samples_seen for training in trainings])
    busy = np.array([training.time.compute_s + training.time.gradient_sync_s for training in trainings])
    wait = np.array([training.time.data_wait_s for training in trainings])
    return busy * per_sample, wait * per_sample


def _projection(
    measured: dict[int, list[TrainingResult]],
    workers: int,
    prices: IngestPrices,
    *,
    reads_ahead: bool,
    confidence: float,
) -> IngestProjection:
    nearest = max((count for count in measured if count <= workers), default=min(measured))
    busy, wait = _seconds(measured[nearest], nearest)
    loader = busy + wait if reads_ahead else wait
    probability = _probability(busy, wait, loader)
    idle = summarise(wait / (busy + wait))
    is_bound = probability is not None and probability >= confidence
    limit: Limit = "loader" if float(np.median(loader)) > float(np.median(busy)) and is_bound else "compute"
    what = f"{workers_text(workers)} {'wait' if workers > 1 else 'waits'} for data {idle.median:.0%} of the steady time"
    if nearest != workers:
        what += f" if no more than {nearest} did"
    return IngestProjection(
        workers=workers,
        demand=summarise(workers / busy),
        capacity=None if reads_ahead or not (wait > 0).all() else summarise(workers / wait),
        achieved=summarise(workers / (busy + wait)),
        idle_share=idle,
        limit=limit,
        probability=probability,
        ingest_bound=is_bound,
        is_measured=nearest == workers,
        sentence=f"{what}: more workers will not help" if is_bound else f"{what}: not ingest-bound beyond noise",
        idle_usd_per_hour=None if prices.worker is None else workers * prices.worker.usd * idle.median,
    )


def _probability(busy: FloatArray, wait: FloatArray, loader: FloatArray) -> float | None:
    """P(the loader is slower than the step, and waiting exceeds its limit), by Student's t of the logs."""
    if len(busy) < 2:
        return None
    if (wait <= 0).any():
        return 0.0
    slower = _above_zero(np.log(loader / busy))
    waits = _above_zero(np.log(wait / (busy + wait) / MAX_WAIT_SHARE))
    return min(slower, waits)


def _above_zero(logs: FloatArray) -> float:
    error = np.hypot(logs.std(ddof=1) / np.sqrt(len(logs)), _SESSION_LOG_SD)
    return float(stdtr(len(logs) - 1, logs.mean() / error))
