"""How well run times on more workers are forecast, ours beside peers, from a folder of measured jobs.

    python scripts/bench_worker_scaling.py DATA [--peer FILE.py:FUNCTION ...]

DATA is a folder with time.parquet (see `train_worker_scaling`). Each job with 4 worker counts or more is seen up to a
quarter, and up to a half, of its largest count and asked there; at most 3 replicates a count are seen.

    error      |forecast - median of the runs| / median of the runs; its median and 90% quantile over jobs
    coverage   share of jobs inside the 90% interval, of all jobs and of each source
    hi/lo      median over jobs of the interval's upper over its lower end
    near-linear jobs: those that truly lose less than 10% against ideal scaling from the largest count seen

Ours are networks that never saw the job's family (6 folds of families).
Differences are of the absolute error of log seconds, with a standard error clustered by family of jobs. Speeds are
of the same run: all forecasters in turn on the same jobs, median of 5 repeats. A peer is a function forecast(workers,
seconds, target_workers) that returns {"mean": .., "quantiles": {0.05: .., 0.95: ..} or None}.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench_learning_curves import clustered_se, load_peer
from train_worker_scaling import Job, build_table, cross_validated, load_jobs

from orchestrator.curves.speedup import forecast_with

SHARES = {"quarter": 4, "half": 2}
MOST_REPLICATES = 3
NEAR_LINEAR = 1.1
N_REPEATS = 5
N_TIMED = 100
OURS = "ours, cross-validated"

Forecaster = Callable[["Case"], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is seen of a job, and how long it took on all workers."""

    source: str
    family: str
    workers: np.ndarray
    seconds: np.ndarray
    target_workers: float
    took_s: float

    @property
    def is_near_linear(self) -> bool:
        """Against ideal scaling from the largest count seen."""
        largest = self.workers.max()
        ideal_s = float(np.median(self.seconds[self.workers == largest])) * largest / self.target_workers
        return abs(np.log(self.took_s / ideal_s)) < np.log(NEAR_LINEAR)


def cases_of(jobs: Sequence[Job], divisor: int) -> list[Case]:
    """Jobs with 4 counts or more, of which 2 or more are seen."""
    cases = []
    for job in jobs:
        whole = job.workers.max()
        seen = (job.workers <= whole / divisor) & (job.replicate < MOST_REPLICATES)
        if len(np.unique(job.workers)) >= 4 and len(np.unique(job.workers[seen])) >= 2:
            cases.append(
                Case(source=job.source, family=job.family, workers=job.workers[seen], seconds=job.seconds[seen],
                     target_workers=float(whole), took_s=float(np.median(job.seconds[job.workers == whole])))
            )  # fmt: skip
    return cases


def ideal(case: Case) -> dict[str, Any]:
    """Linear scaling from the largest count seen."""
    largest = case.workers.max()
    seconds = float(np.median(case.seconds[case.workers == largest]))
    return {"mean": seconds * largest / case.target_workers, "quantiles": None}


def score(cases: Sequence[Case], answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of one forecaster."""
    took = np.array([case.took_s for case in cases])
    error = np.abs(np.array([answer["mean"] for answer in answers]) - took) / took
    near = np.array([case.is_near_linear for case in cases])
    found: dict[str, Any] = {
        "median": float(np.median(error)), "p90": float(np.quantile(error, 0.9)), "coverage": None, "hi_lo": None,
        "near_linear": float(np.median(error[near])) if near.any() else None, "by_source": {},
    }  # fmt: skip
    if all(answer.get("quantiles") for answer in answers):
        low, high = (np.array([answer["quantiles"][q] for answer in answers]) for q in (0.05, 0.95))
        held = (low <= took) & (took <= high)
        source = np.array([case.source for case in cases])
        found["coverage"], found["hi_lo"] = float(held.mean()), float(np.median(high / low))
        found["by_source"] = {str(name): float(held[source == name].mean()) for name in np.unique(source)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with time.parquet")
    parser.add_argument("--peer", action="append", default=[], metavar="FILE.py:FUNCTION", help="another forecaster")
    options = parser.parse_args()
    jobs = load_jobs(options.data)
    net_of = {family: net for families, net in cross_validated(build_table(jobs)) for family in families}
    forecasters: dict[str, Forecaster] = {
        OURS: lambda case: dict(forecast_with(net_of[case.family], case.workers, case.seconds, case.target_workers)),
        "ideal scaling": ideal,
    }
    for peer in options.peer:
        function = load_peer(peer)
        forecasters[peer.rpartition(":")[2]] = lambda case, f=function: f(
            case.workers, case.seconds, case.target_workers
        )
    for protocol, divisor in SHARES.items():
        cases = cases_of(jobs, divisor)
        answers = {name: [forecast(case) for case in cases] for name, forecast in forecasters.items()}
        _print(protocol, cases, answers, _speeds(cases[:N_TIMED], forecasters))


def _speeds(cases: Sequence[Case], forecasters: dict[str, Forecaster]) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in forecasters}
    for _ in range(N_REPEATS):
        for name, forecast in forecasters.items():
            started = time.perf_counter()
            for case in cases:
                forecast(case)
            taken[name].append(time.perf_counter() - started)
    return {name: len(cases) / float(np.median(seconds)) for name, seconds in taken.items()}


def _print(
    protocol: str, cases: Sequence[Case], answers: dict[str, list[dict[str, Any]]], speeds: dict[str, float]
) -> None:
    family = np.array([case.family for case in cases])
    took = np.log([case.took_s for case in cases])
    error = {name: np.abs(np.log([a["mean"] for a in told]) - took) for name, told in answers.items()}
    print(f"\n{protocol}: {len(cases)} jobs of {len(set(family))} families")
    print(
        f"{'':<24}{'median':>8}{'p90':>8}{'near':>8}{'cover':>8}{'hi/lo':>8}{'fits/s':>9}   ours minus it, log seconds"
    )
    for name, told in answers.items():
        found = score(cases, told)
        cells = [_cell(found[key]) for key in ("median", "p90", "near_linear", "coverage", "hi_lo")]
        difference = error[OURS] - error[name]
        se = clustered_se(difference, family)
        against = "" if name == OURS or not se else f"   {difference.mean():+.3f} +- {se:.3f}"
        print(f"{name:<24}" + "".join(f"{cell:>8}" for cell in cells) + f"{speeds[name]:>9,.0f}{against}")
        if found["by_source"]:
            print("    coverage: " + ", ".join(f"{source} {share:.2f}" for source, share in found["by_source"].items()))


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
