"""The five questions before scaling, answered from evidence only.

Each item is pass, warn or fail with the numbers it rests on, or ``not_checked`` where nothing was measured: an item
nobody looked at is never reported as passed. A fail of items 1 to 4 holds a promotion; item 5 only restates the
verdict's odds.

single_machine.py   C1: how much of one worker's time is training, and what one machine still has room for
evidence.py         C2 data, C3 benchmark, C4 drills, C5 worth the cost
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.checklist.evidence import benchmark, data_quality, monitoring, worth_it
from orchestrator.checklist.names import (
    BENCHMARK,
    DATA_QUALITY,
    MONITORING,
    SINGLE_MACHINE,
    WAYS_OUT,
    WORTH_IT,
)
from orchestrator.checklist.single_machine import single_machine
from orchestrator.results import (
    Approval,
    CheckItem,
    DataPathFinding,
    DataSummary,
    Drill,
    IngestMeasurement,
    Interval,
    TrialResult,
)
from orchestrator.spec import ExperimentSpec, TrialSpec

__all__ = [
    "BENCHMARK",
    "DATA_QUALITY",
    "MONITORING",
    "SINGLE_MACHINE",
    "WAYS_OUT",
    "WORTH_IT",
    "checklist",
]


def checklist(
    spec: ExperimentSpec,
    data: DataSummary,
    results: Sequence[TrialResult],
    *,
    planned: Sequence[TrialSpec],
    n_failed: int,
    probability: float | None,
    data_path: DataPathFinding | None = None,
    probe: IngestMeasurement | None = None,
    backtest: tuple[Interval, float] | None = None,
    drills: Sequence[Drill] = (),
    approval: Approval | None = None,
) -> tuple[CheckItem, ...]:
    """The checklist for promoting one model.

    Args:
        spec: The config.
        data: The data set as prepared.
        results: Finished trials of that model which belong to this data and training.
        planned: Trials of that model that the whole grid consists of.
        n_failed: Trials of that model that failed.
        probability: P(gain per dollar >= threshold) of the candidate; None before there is a forecast.
        data_path: Whether data keeps up with that model, as measured; speaks where ``probe`` is not given.
        probe: The probe with that model.
        backtest: `CurveBand.backtest` of that model.
        drills: Rehearsals, the latest of each name.
        approval: The answer to the standing verdict.
    """
    return (
        single_machine(results, probe, data_path),
        data_quality(data),
        benchmark(spec, results, planned, n_failed, backtest),
        monitoring(spec, drills),
        worth_it(probability, spec.decision.confidence, approval),
    )
