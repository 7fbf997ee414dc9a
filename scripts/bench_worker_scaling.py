"""How well run times on more workers are forecast, ours beside peers, from a folder of measured jobs.

    python scripts/bench_worker_scaling.py DATA [--peer FILE.py:FUNCTION ...] [-o FILE.json]

DATA is a folder with time.parquet (see `train_worker_scaling`) and size_and_workers.parquet (columns job, context,
size, instance_count, gross_runtime). Each job with 4 worker counts or more is seen up to a quarter, and up to a half,
of its largest count and asked there; at most 3 replicates a count are seen. In two dimensions a job is seen at up to
80% of its size on up to 6 workers, and asked at all of it on 12; peers are Ernest (Venkataraman et al., NSDI 2016), as
it is and with a term proportional to size.

    error      |forecast - median of the runs| / median of the runs; its median and 90% quantile over jobs
    coverage   share of jobs inside the 90% interval, of all jobs and of each source
    hi/lo      median over jobs of the interval's upper over its lower end
    near       median error of jobs that then lost, or won, less than 10% against ideal scaling from the largest count
               seen: known only afterwards, and chosen so that ideal scaling is right
    looks lin. median error of jobs that lost, or won, less than 10% from the smallest to the largest count seen

Ours are networks that never saw the job's family, each family held out by itself.
Differences are of the absolute error of log seconds, with a standard error clustered by family of jobs. Speeds are
of the same run: all forecasters in turn on the same jobs, median of 5 repeats. A peer is a function forecast(workers,
seconds, target_workers) that returns {"mean": .., "quantiles": {0.05: .., 0.95: ..} or None}.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from bench_learning_curves import clustered_se, load_peer
from scipy.optimize import nnls
from train_worker_scaling import Job, build_table, cross_validated, load_jobs

from orchestrator.curves.speedup import forecast_size_and_workers_with, forecast_with

SHARES = {"quarter": 4, "half": 2}
MOST_REPLICATES = 3
NEAR_LINEAR = 1.1
MOST_SIZE, MOST_WORKERS, ASKED_WORKERS = 0.8, 6, 12
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
    size: np.ndarray | None = None
    """In units of the size that is asked; None where it is one."""

    @property
    def is_near_linear(self) -> bool:
        """Against ideal scaling from the largest count seen."""
        return self.size is None and _is_linear(self._worker_seconds(self.workers.max()),
                                                self.took_s * self.target_workers)  # fmt: skip

    @property
    def looks_linear(self) -> bool:
        """Within the counts seen."""
        return self.size is None and _is_linear(self._worker_seconds(self.workers.min()),
                                                self._worker_seconds(self.workers.max()))  # fmt: skip

    def _worker_seconds(self, count: float) -> float:
        return float(np.median(self.seconds[self.workers == count])) * count


def _is_linear(before: float, after: float) -> bool:
    return bool(abs(np.log(after / before)) < np.log(NEAR_LINEAR))


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


def sized_cases_of(folder: Path) -> list[Case]:
    """Jobs of size_and_workers.parquet with 2 sizes or more."""
    table = pq.read_table(folder / "size_and_workers.parquet")
    job, context = (np.array(table[name].to_pylist(), dtype=str) for name in ("job", "context"))
    size, workers, seconds = (
        table[name].to_numpy().astype(np.float64) for name in ("size", "instance_count", "gross_runtime")
    )
    cases = []
    for name, setting in np.unique(np.column_stack([job, context]), axis=0):
        of = (job == name) & (context == setting)
        share = size / size[of].max()
        seen = of & (share <= MOST_SIZE) & (workers <= MOST_WORKERS)
        asked = of & (share == 1) & (workers == ASKED_WORKERS)
        if seen.any() and asked.any():
            cases.append(
                Case(source="c3o", family=f"c3o:{name}", workers=workers[seen], seconds=seconds[seen],
                     target_workers=float(ASKED_WORKERS), took_s=float(np.median(seconds[asked])), size=share[seen])
            )  # fmt: skip
    return cases


def ernest(case: Case, *, with_size: bool = False) -> dict[str, Any]:
    """Non-negative least squares of the relative error; the data's size is asked at 1."""

    def terms(size: np.ndarray, workers: np.ndarray) -> np.ndarray:
        columns = [np.ones_like(size), size / workers, np.log(workers), workers]
        return np.column_stack([*columns, size] if with_size else columns)

    assert case.size is not None
    relative = terms(case.size, case.workers) / case.seconds[:, None]
    scale = relative.max(0)
    weights, _ = nnls(relative / scale, np.ones(len(relative)))
    asked = terms(np.ones(1), np.array([case.target_workers]))
    return {"mean": float((asked @ (weights / scale)).item()), "quantiles": None}


def ideal(case: Case) -> dict[str, Any]:
    """Linear scaling from the largest count seen."""
    largest = case.workers.max()
    seconds = float(np.median(case.seconds[case.workers == largest]))
    return {"mean": seconds * largest / case.target_workers, "quantiles": None}


def score(cases: Sequence[Case], answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of one forecaster."""
    took = np.array([case.took_s for case in cases])
    error = np.abs(np.array([answer["mean"] for answer in answers]) - took) / took
    near, looks = (np.array([getattr(case, name) for case in cases]) for name in ("is_near_linear", "looks_linear"))
    found: dict[str, Any] = {
        "median": float(np.median(error)), "p90": float(np.quantile(error, 0.9)), "coverage": None, "hi_lo": None,
        "near_linear": float(np.median(error[near])) if near.any() else None,
        "looks_linear": float(np.median(error[looks])) if looks.any() else None, "by_source": {},
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
    parser.add_argument("-o", "--output", type=Path, help="write the figures here too, as JSON")
    options = parser.parse_args()
    record: dict[str, Any] = {}
    jobs = load_jobs(options.data)
    folds = cross_validated(build_table(jobs))
    net_of = {family: net for families, net in folds for family in families}
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
        record[protocol] = _print(protocol, cases, answers, _speeds(cases[:N_TIMED], forecasters))
    sized: dict[str, Forecaster] = {
        # of a family that no network saw, any fold's
        OURS: lambda case: dict(forecast_size_and_workers_with(
            net_of.get(case.family, folds[0][1]), case.size, case.workers, case.seconds, 1.0, case.target_workers)),
        "Ernest": ernest,
        "Ernest and size": lambda case: ernest(case, with_size=True),
    }  # fmt: skip
    cases = sized_cases_of(options.data)
    answers = {name: [forecast(case) for case in cases] for name, forecast in sized.items()}
    record["size and workers"] = _print("size and workers", cases, answers, _speeds(cases, sized))
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps({"protocols": record}, indent=1) + "\n", encoding="utf-8")


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
) -> dict[str, Any]:
    """Print the figures of one protocol, and give them back."""
    told_all = []
    family = np.array([case.family for case in cases])
    took = np.log([case.took_s for case in cases])
    error = {name: np.abs(np.log([a["mean"] for a in told]) - took) for name, told in answers.items()}
    print(f"\n{protocol}: {len(cases)} jobs of {len(set(family))} families")
    print(
        f"{'':<24}{'median':>8}{'p90':>8}{'near':>8}{'looks lin.':>12}{'cover':>8}{'hi/lo':>8}{'fits/s':>9}"
        "   ours minus it, log seconds"
    )
    for name, told in answers.items():
        found = score(cases, told)
        told_all.append({"name": name, "fits_per_s": round(speeds[name]), **found})
        cells = [_cell(found[key]) for key in ("median", "p90", "near_linear")]
        cells += [f"{_cell(found['looks_linear']):>12}", _cell(found["coverage"]), _cell(found["hi_lo"])]
        difference = error[OURS] - error[name]
        se = clustered_se(difference, family)
        against = "" if name == OURS or not se else f"   {difference.mean():+.3f} +- {se:.3f}"
        print(f"{name:<24}" + "".join(f"{cell:>8}" for cell in cells) + f"{speeds[name]:>9,.0f}{against}")
        if found["by_source"]:
            print("    coverage: " + ", ".join(f"{source} {share:.2f}" for source, share in found["by_source"].items()))
    return {"n_jobs": len(cases), "n_families": len(set(family)), "forecasters": told_all}


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
