"""Derive orchestrator/curves/learned_speedup.json again, from measured jobs.

    python scripts/train_worker_scaling.py DATA          writes the file
    python scripts/train_worker_scaling.py DATA --check  fails when the file is not what comes out

DATA is a folder with time.parquet: columns source, family, job_id, workers, seconds, rep; seconds of the same job on
several worker counts (MLPerf Training, Gavel, Sia, LLM Foundry, and Spark jobs of C3O and DOS). Each job is cut at
every count but the last, and every later count is forecast. Held out one family of jobs at a time, so that no dealing
of families to folds can be a lucky one. Takes about 3 minutes on one core.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import quantile_training
from quantile_training import Settings, Table, derived, run, text_of

from orchestrator.curves.learned_speedup import describe, design
from orchestrator.curves.measured import fold
from orchestrator.curves.quantile_net import QuantileNet

TARGET = Path(__file__).parents[1] / "orchestrator" / "curves" / "learned_speedup.json"
SETTINGS = Settings(
    hidden=(24, 12), epochs=30, batch_size=128, weight_decay=0.1, dropout=0.1, n_folds=22, n_members=6, balance=0.25,
    spread_level=0.965, spread_edges=(float(np.log(3)), float(np.log(6))),
)  # fmt: skip
"""Each family is a fold. The level is above 0.95 because a factor read off some families holds less in another one."""
ASKED_SHARES = (2, 4)
"""Intervals are made for jobs seen up to a half or a quarter of their workers, and asked at all;"""
FAR = 6.0
"""and for jobs asked at more than this many times the workers seen, from wherever."""
LEAST_STEP = 1.25
"""Counts nearer than this are no extrapolation."""
MOST_REPLICATES = 3
SYNTHETIC_SHARE = 1.0
"""Made-up jobs for each measured one; they weigh less, having fewer counts."""
SIDE_WEIGHT = 0.3
"""Of cuts other than those at up to half of the job's largest count, asked there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Runs of one job, in no order."""

    name: str
    source: str
    family: str
    workers: np.ndarray
    seconds: np.ndarray
    replicate: np.ndarray


def load_jobs(folder: Path) -> list[Job]:
    """Jobs with 3 worker counts or more."""
    table = pq.read_table(folder / "time.parquet", columns=["source", "family", "job_id", "workers", "seconds", "rep"])
    text = {name: np.array(table[name].to_pylist(), dtype=str) for name in ("source", "family", "job_id")}
    number = {name: table[name].to_numpy().astype(np.float64) for name in ("workers", "seconds", "rep")}
    jobs = []
    for name in np.unique(text["job_id"]):
        rows = np.flatnonzero(text["job_id"] == name)
        if len(np.unique(number["workers"][rows])) >= 3:
            jobs.append(
                Job(name=str(name), source=str(text["source"][rows[0]]), family=str(text["family"][rows[0]]),
                    workers=number["workers"][rows], seconds=number["seconds"][rows], replicate=number["rep"][rows])
            )  # fmt: skip
    return jobs


def examples_of(job: Job) -> Iterator[tuple[np.ndarray, float, float, bool, tuple[str, ...]]]:
    """Inputs, what came out, weight, whether it tells the spread, and names, for every cut of one job."""
    counts = np.unique(job.workers)
    seen_most = {counts[counts <= counts[-1] / share].max(initial=0.0) for share in ASKED_SHARES}
    kept = job.replicate < MOST_REPLICATES
    for last in range(1, len(counts) - 1):
        seen = kept & (job.workers <= counts[last])
        measured = fold(job.workers[seen], np.log(job.seconds[seen]))
        for target in counts[last + 1 :]:
            if target / counts[last] < LEAST_STEP:
                continue
            names, row = design(describe(measured, np.array([target])))
            took = float(np.median(np.log(job.seconds[job.workers == target])))
            is_asked = target == counts[-1] and counts[last] <= target / 2
            ideal = measured.mean[-1] - float(np.log(target / counts[last]))
            tells_spread = target == counts[-1] and (counts[last] in seen_most or target / counts[last] > FAR)
            yield row[0], took - ideal, 1.0 if is_asked else SIDE_WEIGHT, bool(tells_spread), names


def synthetic(count: int) -> list[Job]:
    """Jobs that lose nothing, a little at every doubling, or a serial share (Amdahl 1967), from any count on."""
    rng = np.random.default_rng(quantile_training.SEED)
    jobs = []
    for position in range(count):
        workers = 2.0 ** (rng.integers(0, 9) + np.arange(rng.integers(3, 8)))
        per_doubling = abs(rng.normal()) * (0.02 if rng.random() < 0.5 else 0.15)
        serial_share = float(rng.choice([0.0, np.exp(rng.uniform(np.log(0.001), np.log(0.1)))])) / workers[0]
        seconds = (serial_share + (1 - serial_share) / workers) * (workers / workers[0]) ** per_doubling
        noise = np.exp(rng.uniform(np.log(0.002), np.log(0.05))) * rng.normal(size=len(workers))
        jobs.append(Job(name=f"made up {position}", source="", family="", workers=workers,
                        seconds=seconds * np.exp(noise), replicate=np.zeros(len(workers))))  # fmt: skip
    return jobs


def build_table(jobs: list[Job]) -> Table:
    """All examples, measured and made up; the group is the family of jobs."""
    jobs = [*jobs, *synthetic(int(SYNTHETIC_SHARE * len(jobs)))]
    rows = [(*example, job.family) for job in jobs for example in examples_of(job)]
    x, target, weight, tells_spread, names, family = zip(*rows, strict=True)
    return Table(
        np.array(x), np.array(target), np.array(weight), np.array(family), names[0], np.array(tells_spread)
    )  # fmt: skip


def cross_validated(table: Table) -> list[tuple[list[str], QuantileNet]]:
    """For each fold its families of jobs, and networks that never saw them; spread by the other folds."""
    return quantile_training.cross_validated(table, SETTINGS)


def derive(folder: Path) -> str:
    """The text of ``learned_speedup.json``."""
    jobs = load_jobs(folder)
    table = build_table(jobs)
    about = {
        "version": 1,
        "what": "quantiles of log seconds over ideal scaling; read by orchestrator/curves/learned_speedup.py",
        "derived_by": "scripts/train_worker_scaling.py",
        "data": f"{len(jobs)} jobs of {len({job.family for job in jobs})} families of "
        f"{', '.join(sorted({job.source for job in jobs}))}; {len(table.target)} examples",
    }
    return text_of(about, derived(table, SETTINGS))


if __name__ == "__main__":
    sys.exit(run(__doc__, "time.parquet", TARGET, derive))
