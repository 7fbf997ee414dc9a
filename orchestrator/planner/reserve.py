"""What one trial may cost at worst, from what others cost: the dollars that are set aside before it starts."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.planner.estimate import estimate_sweep
from orchestrator.results import DataSummary, TrialResult
from orchestrator.spec import ExperimentSpec, TrialSpec
from orchestrator.subsets import subset_size

ALIKE, OTHER_WORKERS, PROBED = 3.0, 5.0, 3.0
"""Factors over what is expected: from trials of the model on as many workers, from its trials on other counts alone,
and from the probe. Of 563 trials in 23 sweeps of small networks on shared cores 0.9% cost more than 3 times what those
before them let expect (2% more than 2.5 times, one 7 times); of 42 on another count than any before, none more than
4.2 times."""
LEAST_S = 5.0
"""Granted on every worker above a probe's seconds, for starting: warm workers take 0.5 s and cold ones 3 s."""


def worst_case_usd(
    trial: TrialSpec,
    results: Sequence[TrialResult],
    data: DataSummary,
    spec: ExperimentSpec,
    *,
    samples_per_s: float | None = None,
    usd_per_worker_s: float | None = None,
) -> float | None:
    """A high bound of a trial's dollars: a factor over `estimate_sweep`, or over the probe's pace.

    Args:
        trial: To be run.
        results: Trials that ended; failed ones have been paid for and tell no duration.
        data: For the number of rows.
        spec: For epochs.
        samples_per_s: What one worker trains by the probe, used while nothing of the model is measured.
        usd_per_worker_s: What a worker costs, for the same case.
    Returns: None while neither tells anything: run such a trial alone, the smallest first.
    """
    own = [r for r in results if r.training is not None and r.wall_time_s > 0 and r.trial.model == trial.model]
    expected = estimate_sweep([trial], own, data).cost_usd
    if expected is not None:
        alike = any(r.trial.workers == trial.workers for r in own)
        return expected * (ALIKE if alike else OTHER_WORKERS)
    if samples_per_s is None or usd_per_worker_s is None:
        return None
    rows = subset_size(data.n_train, trial.fraction) + data.n_validation  # a validation row takes at most a step's time
    seconds = PROBED * rows * spec.training.epochs / samples_per_s + LEAST_S * trial.workers
    return seconds * usd_per_worker_s
