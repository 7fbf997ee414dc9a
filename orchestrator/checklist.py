"""The five questions before scaling, answered from evidence only.

Each item is pass, warn or fail with the numbers it rests on, or ``not_checked`` where nothing was measured: an item
nobody looked at is never reported as passed. A fail of items 1 to 4 holds a promotion; item 5 only restates the
verdict's odds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from orchestrator.intervals import format_probability
from orchestrator.results import CheckItem, DataPathFinding, DataSummary, TrialResult
from orchestrator.spec import ExperimentSpec, TrialSpec

SINGLE_MACHINE = "C1 single-machine performance"
DATA_QUALITY = "C2 data clean and versioned"
BENCHMARK = "C3 benchmark on subsamples"
MONITORING = "C4 monitoring and rollback"
WORTH_IT = "C5 worth the cost"

WAYS_OUT = {
    SINGLE_MACHINE: "mend the one-worker run first",
    DATA_QUALITY: "mend what was found at the source and prepare it again; the report shows the worst examples",
    BENCHMARK: "finish the sweep with at least 3 fractions and 2 seeds",
    MONITORING: "set up alerts and try a restart",
    WORTH_IT: "lower decision.min_gain_per_dollar, or find a cheaper run",
}
"""What lifts a failed item."""

# Three sizes determine the three parameters of the curve, two seeds the noise around it.
MIN_FRACTIONS = 3
MIN_SEEDS = 2
# A loader that keeps the worker waiting a tenth of the time is worth mending before more workers are paid for.
MAX_DATA_WAIT_SHARE = 0.1


def checklist(
    spec: ExperimentSpec,
    data: DataSummary,
    results: Sequence[TrialResult],
    *,
    planned: Sequence[TrialSpec],
    n_failed: int,
    probability: float,
    data_path: DataPathFinding | None = None,
) -> tuple[CheckItem, ...]:
    """The checklist for promoting one model.

    Args:
        spec: The config.
        data: The data set as prepared.
        results: Finished trials of that model which belong to this data and training.
        planned: Trials of that model the sweep consists of.
        n_failed: Trials of that model that failed.
        probability: P(gain per dollar >= threshold) of the candidate.
        data_path: Whether data keeps up with that model, as measured.
    """
    return (
        _single_machine(results, data_path),
        _data(data),
        _benchmark(results, planned, n_failed),
        CheckItem(
            name=MONITORING,
            status="not_checked",
            evidence="no alert was sent, no restart tried and no checkpoint restored by this tool yet",
        ),
        _worth_it(probability, spec.decision.confidence),
    )


def _single_machine(results: Sequence[TrialResult], data_path: DataPathFinding | None) -> CheckItem:
    """Data wait of one worker, and how well a second one was used."""
    single = [r for r in results if r.training is not None and r.trial.workers == 1]
    if not single:
        return CheckItem(name=SINGLE_MACHINE, status="not_checked", evidence="no trial on one worker has finished")
    share = _data_wait_share(single)
    waits = f"one worker waits for data {share:.1%} of its steady time"
    unmeasured = "device utilisation and mixed precision were not checked"
    if data_path is not None and data_path.basis == "probe":
        unmeasured = f"by the probe, {data_path.headroom}"
    efficiency = _parallel_efficiency(results)
    if efficiency is None:
        evidence = f"{waits}; no larger worker count was measured at the same size, and {unmeasured}"
        return CheckItem(name=SINGLE_MACHINE, status="not_checked", evidence=evidence)
    workers, value = efficiency
    evidence = f"{waits}; {workers} workers reach {value:.0%} parallel efficiency; {unmeasured}"
    return CheckItem(name=SINGLE_MACHINE, status="pass" if share < MAX_DATA_WAIT_SHARE else "warn", evidence=evidence)


def _data_wait_share(single: Sequence[TrialResult]) -> float:
    largest = max(r.trial.fraction for r in single)
    shares = []
    for result in single:
        if result.training is not None and result.trial.fraction == largest:
            time = result.training.time
            steady_s = time.compute_s + time.data_wait_s + time.gradient_sync_s
            shares.append(time.data_wait_s / steady_s if steady_s > 0 else 0.0)
    return float(np.mean(shares))


def _parallel_efficiency(results: Sequence[TrialResult]) -> tuple[int, float] | None:
    """Largest worker count measured beside one worker at the same size and seed, and its efficiency per sample."""
    seconds: defaultdict[tuple[float, int], dict[int, float]] = defaultdict(dict)
    for result in results:
        training = result.training
        if training is not None and training.samples_seen > 0:
            time = training.time
            steady_s = time.compute_s + time.data_wait_s + time.gradient_sync_s
            seconds[result.trial.fraction, result.trial.seed][result.trial.workers] = steady_s / training.samples_seen
    pairs = [
        (fraction, workers, by_workers[1] / (workers * per_sample_s))
        for (fraction, _), by_workers in seconds.items()
        for workers, per_sample_s in by_workers.items()
        if workers > 1 and 1 in by_workers and per_sample_s > 0
    ]
    if not pairs:
        return None
    widest = max(workers for _, workers, _ in pairs)
    largest = max(fraction for fraction, workers, _ in pairs if workers == widest)
    at_largest = [value for fraction, workers, value in pairs if (fraction, workers) == (largest, widest)]
    return widest, float(np.mean(at_largest))


def _data(data: DataSummary) -> CheckItem:
    unchecked = "labels, duplicates and leakage were not checked"
    if not data.fingerprint:
        return CheckItem(name=DATA_QUALITY, status="fail", evidence=f"the data has no fingerprint; {unchecked}")
    versions = "".join(f", {name} {value}" for name, value in data.versions.items() if name != "note")
    versioned = f"versioned by fingerprint {data.fingerprint[:16]}{versions}"
    if data.quality is None:
        return CheckItem(name=DATA_QUALITY, status="not_checked", evidence=f"{versioned}; {unchecked}")
    return CheckItem(name=DATA_QUALITY, status=data.quality.status, evidence=f"{versioned}; {data.quality.evidence}")


def _benchmark(results: Sequence[TrialResult], planned: Sequence[TrialSpec], n_failed: int) -> CheckItem:
    """Fractions measured with enough seeds, and what of the plan is missing."""
    seeds: defaultdict[float, set[int]] = defaultdict(set)
    for result in results:
        seeds[result.trial.fraction].add(result.trial.seed)
    missing = len(set(planned) - {result.trial for result in results})
    enough = sum(len(found) >= MIN_SEEDS for found in seeds.values())
    evidence = (
        f"{enough} fractions with at least {MIN_SEEDS} seeds (needs {MIN_FRACTIONS}); "
        f"{len(results)} trials finished, {missing} of {len(planned)} planned are missing, {n_failed} failed"
    )
    if enough < MIN_FRACTIONS:
        return CheckItem(name=BENCHMARK, status="fail", evidence=evidence)
    return CheckItem(name=BENCHMARK, status="warn" if missing else "pass", evidence=evidence)


def _worth_it(probability: float, confidence: float) -> CheckItem:
    odds = format_probability(probability, confidence)
    evidence = f"P(gain per dollar reaches the threshold) = {odds}; {confidence:g} is asked for"
    if probability >= confidence:
        return CheckItem(name=WORTH_IT, status="pass", evidence=evidence)
    # The margin absorbs binary rounding: 1 - 0.9 is a little less than 0.1.
    return CheckItem(
        name=WORTH_IT, status="fail" if probability <= 1 - confidence + 1e-12 else "warn", evidence=evidence
    )
