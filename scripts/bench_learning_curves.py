#!/usr/bin/env python
"""How well learning curves are forecast, beside forecasts by other means, on measured curves.

    python scripts/bench_learning_curves.py DATA [--peer FILE.py:FUNCTION ...] [--limit N] [--jobs 2] [--json OUT]

DATA is a folder of Parquet files with columns source, curve_id, dataset, metric (error_rate or loss), n, seed, value;
lcdb11.parquet and lcdb11_3seed.parquet are LCDB 1.1 (Yan, Mohr and Viering, NeurIPS 2025, CC BY 4.0), the first as
means of 25 splits, the second as single seeds.

What a forecaster is shown: of a curve with 6 sizes or more, those up to 5, 10, 25 or 50% of the largest, from the
newest back each at least 1.4 times the next, the first 3 seeds of each, when that leaves 4 sizes; or, as a ladder, the
sizes nearest to 1, 2, 5, 10 and 20%. What it is asked for: the mean at the largest size.

    error          |median - target|, or |mean - target| without quantiles; in percentage points, pp
    pinball        mean over q = 5, 50, 95% of max(q (target - told), (q - 1) (target - told)), in pp
                   (Koenker and Bassett 1978, doi:10.2307/1913643)
    regret at p    1 - sum of net over curves promoted / sum of net over curves worth it;  net = gain - threshold, the
                   threshold a share p of the true gains lies below; promoted when the forecast mean gains more
    standard error of a mean over curves that share data sets: clustered by family of data sets (Liang and Zeger 1986,
    doi:10.1093/biomet/73.1.13); twins under several names are one family (families_of in train_learning_curves.py)

Our forecasts of error rates are cross-validated: the networks of five folds never saw the fold's data sets, nor
their twins. To train them takes minutes; --networks FILE keeps them, and trains anew when the data or the code they
came from changed.
A peer is a function forecast(n, value, target_n, bounds) that returns {"mean": .., "quantiles": {0.05: .., 0.5: ..,
0.95: ..} or None}, bounds (0, 1) or (0, inf). Where it fails, the last value counts as its forecast.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import importlib.util
import json
import multiprocessing as mp
import os
import pickle
import platform
import statistics
import sys
import textwrap
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from orchestrator.curves import learned
from orchestrator.curves.families import FAMILIES, FamilyFits, fit_families, shapes
from orchestrator.curves.learning import LearningCurveFit
from orchestrator.curves.measured import fold
from orchestrator.curves.quantile_net import QuantileNet

FloatArray = NDArray[np.float64]
ROOT = Path(__file__).resolve().parents[1]

SHARES = (0.05, 0.1, 0.25, 0.5)
LADDER = (0.01, 0.02, 0.05, 0.1, 0.2)
LADDER_TOLERANCE = float(np.log(1.12))
LADDER_SOURCE = "lcdb11"
THINNED_TO = 1.4
LEAST_SIZES, LEAST_SEEN, MOST_SEEDS = 6, 4, 3
LEVELS = np.array([0.05, 0.5, 0.95])
THRESHOLDS = (0.3, 0.5, 0.7)
LEAST_GAIN = 1e-4
"""A threshold is not below this gain: a hundredth of a percentage point, or of a percent of a loss."""
LEAST_LOGGED = 1e-4
N_TIMED, N_REPEATS = 300, 5

OURS = "ours, cross-validated by data set"
FORECASTERS = (OURS, "families, averaged by fit", "power law with floor", "last value")
POWER_LAW = [family.name for family in FAMILIES].index("power law with floor")
MADE_FROM = ("scripts/train_learning_curves.py", *(f"orchestrator/curves/{name}.py" for name in (
    "families", "features", "learned", "measured", "quantile_net")))  # fmt: skip
"""What the networks of the folds depend on, beside the data."""
KEPT = b"networks of bench_learning_curves.py\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One measured curve; rows by rising size, then seed."""

    source: str
    name: str
    dataset: str
    family: str
    """Of data sets that are one in all but name: held out together, and one cluster of a standard error."""
    is_error: bool
    n: FloatArray
    value: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a forecaster is shown of a curve, and what came out."""

    group: str
    """The source, with " ladder" when shown as one."""
    curve: str
    dataset: str
    family: str
    share: float
    is_error: bool
    n: FloatArray
    value: FloatArray
    target_n: float
    target: float

    @property
    def last(self) -> float:
        """Mean at the largest size shown."""
        return float(self.value[self.n == self.n.max()].mean())

    @property
    def bounds(self) -> tuple[float, float]:
        return (0.0, 1.0) if self.is_error else (0.0, np.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Of one forecaster, one row a task."""

    mean: FloatArray
    quantiles: FloatArray
    """At `LEVELS`, (n_tasks, 3); a row of NaN where none were given."""
    failed: NDArray[np.bool_]

    @property
    def point(self) -> FloatArray:
        """The median where there is one, else the mean: the least absolute error is what it is scored by."""
        return np.where(np.isnan(self.quantiles[:, 1]), self.mean, self.quantiles[:, 1])

    def of(self, mask: NDArray[np.bool_]) -> Answers:
        return Answers(mean=self.mean[mask], quantiles=self.quantiles[mask], failed=self.failed[mask])


Forecast = tuple[float, Sequence[float] | None]
"""Mean, and quantiles at `LEVELS`."""
Forecaster = Callable[[Task], Forecast]
Folds = Sequence[tuple[list[str], QuantileNet]]
"""Families of data sets, and networks that never saw them."""


# Curves and tasks


def load_curves(folder: Path, limit: int = 0) -> list[Curve]:
    """Curves of every Parquet file, at most ``limit`` of each source (0: all), always the same ones."""
    if not (folder / "lcdb11.parquet").is_file():
        raise SystemExit(f"{folder} has no lcdb11.parquet; DATA is a folder with it, and with any other sources")
    from train_learning_curves import families_of  # torch, which nothing else here needs
    from train_learning_curves import load_curves as load_lcdb

    family = families_of(load_lcdb(folder))
    curves = [curve for path in sorted(folder.glob("*.parquet")) for curve in _curves_of(path, family)]
    of_source = {source: [c for c in curves if c.source == source] for source in sorted({c.source for c in curves})}
    return [curve for source, found in of_source.items() for curve in _some(source, found, limit)]


def _curves_of(path: Path, family: Mapping[str, str]) -> Iterator[Curve]:
    table = pq.read_table(path)
    text = {key: np.array(table[key].to_pylist(), dtype=str) for key in ("source", "curve_id", "dataset", "metric")}
    n, seed, value = (table[key].to_numpy().astype(np.float64) for key in ("n", "seed", "value"))
    order = np.lexsort((seed, n, text["curve_id"]))
    names, starts = np.unique(text["curve_id"][order], return_index=True)
    for name, rows in zip(names, np.split(order, starts[1:]), strict=True):
        first = rows[0]
        dataset = str(text["dataset"][first])
        yield Curve(source=str(text["source"][first]), name=str(name), dataset=dataset,
                    family=family.get(dataset, dataset),
                    is_error=bool(text["metric"][first] == "error_rate"), n=n[rows], value=value[rows])  # fmt: skip


def _some(source: str, curves: Sequence[Curve], limit: int) -> list[Curve]:
    in_order = sorted(curves, key=lambda curve: curve.name)
    if not 0 < limit < len(in_order):
        return in_order
    rng = np.random.default_rng([0, zlib.crc32(source.encode())])
    return [in_order[i] for i in np.sort(rng.choice(len(in_order), limit, replace=False))]


def tasks_of(curve: Curve) -> list[Task]:
    """Every way one curve is shown."""
    sizes = np.unique(curve.n)
    if len(sizes) < LEAST_SIZES:
        return []
    shown = [(curve.source, share, thinned(sizes[sizes <= share * sizes[-1] * (1 + 1e-9)])) for share in SHARES]
    if curve.source == LADDER_SOURCE:
        shown.append((f"{curve.source} ladder", LADDER[-1], ladder(sizes)))
    return [_task(curve, group, share, seen) for group, share, seen in shown if len(seen) >= LEAST_SEEN]


def thinned(sizes: FloatArray) -> list[float]:
    """From the largest down, each size that lies at least `THINNED_TO` times below the one kept before; rising."""
    kept: list[float] = []
    for size in sizes[::-1]:
        if not kept or kept[-1] / size >= THINNED_TO * 0.999:
            kept.append(float(size))
    return kept[::-1]


def ladder(sizes: FloatArray) -> list[float]:
    """The sizes nearest to each share of `LADDER`, where one is near enough."""
    away = np.abs(np.log(sizes / (np.array(LADDER)[:, None] * sizes[-1])))
    near = away.min(axis=1) <= LADDER_TOLERANCE
    return [float(size) for size in np.unique(sizes[away.argmin(axis=1)[near]])]


def _task(curve: Curve, group: str, share: float, seen: Sequence[float]) -> Task:
    rows = np.concatenate([np.flatnonzero(curve.n == size)[:MOST_SEEDS] for size in seen])
    whole = float(curve.n[-1])
    return Task(
        group=group, curve=curve.name, dataset=curve.dataset, family=curve.family, share=share,
        is_error=curve.is_error, n=curve.n[rows], value=curve.value[rows], target_n=whole,
        target=float(curve.value[curve.n == whole].mean()),
    )  # fmt: skip


# Forecasters


def forecasters(folds: Folds, peers: Sequence[str]) -> dict[str, Forecaster]:
    """By name: `FORECASTERS`, then peers given as FILE.py:FUNCTION."""
    net_of = {family: net for families, net in folds for family in families}

    def ours(task: Task) -> Forecast:
        # No fold holds the data sets of other sources: the shipped networks never saw them either.
        net = net_of.get(task.family) or learned.shipped() if task.is_error else None
        fit = LearningCurveFit(measured=fold(task.n, task.value), bounds=task.bounds, net=net)
        told = fit.intervals([task.target_n], kind="confidence")[0]
        return told.mean, (told.low, told.median, told.high)

    own = (ours, _averaged, _power_law, lambda task: (task.last, None))
    return dict(zip(FORECASTERS, own, strict=True)) | {peer.rpartition(":")[2]: _peer(peer) for peer in peers}


def _fitted(task: Task) -> tuple[FamilyFits, FloatArray]:
    """Every family fitted to a task, and the forecast of each one's best cell."""
    measured = fold(task.n, task.value)
    largest = measured.size[-1]
    fits = fit_families(shapes(measured.size / largest), measured.mean, measured.count)
    return fits, fits.forecasts(shapes(np.array([task.target_n / largest])))[0][:, 0]


def _averaged(task: Task) -> Forecast:
    fits, told = _fitted(task)
    return float(np.clip(fits.family_weight @ told, *task.bounds)), None


def _power_law(task: Task) -> Forecast:
    return float(np.clip(_fitted(task)[1][POWER_LAW], *task.bounds)), None


def load_peer(peer: str) -> Callable[..., Any]:
    """The function of FILE.py:FUNCTION."""
    path, _, name = peer.rpartition(":")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path) if Path(path).is_file() else None
    if spec is None or spec.loader is None:
        raise SystemExit(f"--peer {peer}: no Python file there; give FILE.py:FUNCTION")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(function := getattr(module, name, None)):
        raise SystemExit(f"--peer {peer}: the file has no function {name}")
    found: Callable[..., Any] = function
    return found


def _peer(peer: str) -> Forecaster:
    function = load_peer(peer)

    def forecast(task: Task) -> Forecast:
        try:
            told = function(task.n, task.value, task.target_n, task.bounds)
        except Exception:  # of whatever kind: a failed forecast, counted and shown
            return np.nan, None
        quantiles = told.get("quantiles")
        return float(told["mean"]), None if quantiles is None else [float(quantiles[level]) for level in LEVELS]

    return forecast


_in_worker: dict[str, Forecaster] = {}
"""Of one worker process."""


def _start(folds: Folds, peers: Sequence[str]) -> None:
    _in_worker.update(forecasters(folds, peers))


def _row(job: tuple[str, Task]) -> tuple[float, float, float, float, bool]:
    name, task = job
    mean, quantiles = _in_worker[name](task)
    low, median, high = quantiles if quantiles is not None else (np.nan,) * 3
    failed = not np.isfinite(mean)
    return task.last if failed else mean, low, median, high, failed


def _seconds(name: str, tasks: Sequence[Task]) -> float:
    begun = time.perf_counter()
    for task in tasks:
        _row((name, task))
    return time.perf_counter() - begun


def answers_of(pool: Any, name: str, tasks: Sequence[Task]) -> Answers:
    """All forecasts of one forecaster."""
    rows = np.array(pool.map(_row, [(name, task) for task in tasks], chunksize=64), dtype=np.float64)
    return Answers(mean=rows[:, 0], quantiles=rows[:, 1:4], failed=rows[:, 4] == 1)


def fits_per_s(pool: Any, names: Sequence[str], tasks: Sequence[Task]) -> dict[str, float]:
    """One process; all forecasters in turn on the same tasks, `N_REPEATS` times, the median of each."""
    taken = [{name: pool.apply(_seconds, (name, tasks)) for name in names} for _ in range(N_REPEATS)]
    return {name: len(tasks) / statistics.median(seconds[name] for seconds in taken) for name in names}


# Networks of the folds


def trained_folds(folder: Path, kept: Path | None) -> Folds:
    """From the file, when it was made of this data by this code; else trained, and kept there."""
    sources = [folder / "lcdb11.parquet", *(ROOT / name for name in MADE_FROM)]
    made_of = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).digest()
    if kept is not None and kept.exists() and (found := read_folds(kept, made_of)):
        return found
    print("training the networks of 5 folds: 4 minutes on one core", file=sys.stderr, flush=True)
    from train_learning_curves import build_table, cross_validated  # torch, which nothing else here needs

    folds: Folds = cross_validated(build_table(folder))
    if kept is not None:
        write_folds(kept, folds, made_of)
    return folds


def write_folds(path: Path, folds: Folds, made_of: bytes) -> None:
    """A pickle behind what it was made of."""
    path.write_bytes(KEPT + made_of + pickle.dumps(folds))


def read_folds(path: Path, made_of: bytes) -> Folds:
    """Empty when the file is of other data or other code. Raises SystemExit for a file of another kind."""
    content = path.read_bytes()
    if not content.startswith(KEPT):
        raise SystemExit(f"--networks {path}: not written by this script; name another file")
    head = KEPT + made_of
    # What stands behind the digest of this very data and code was written by `write_folds`.
    folds: Folds = pickle.loads(content[len(head) :]) if content.startswith(head) else []
    return folds


# Scores


def pinball(quantiles: FloatArray, target: FloatArray) -> FloatArray:
    """Mean over `LEVELS` of the pinball loss of each row, (n_tasks,)."""
    error = target[:, None] - quantiles
    loss: FloatArray = np.maximum(LEVELS * error, (LEVELS - 1) * error).mean(axis=1)
    return loss


def is_held(quantiles: FloatArray, target: FloatArray) -> NDArray[np.bool_]:
    """Whether each target lies in its interval, ends included."""
    return (target >= quantiles[:, 0] - 1e-12) & (target <= quantiles[:, 2] + 1e-12)


def regret(gain: FloatArray, forecast_gain: FloatArray, threshold: float) -> float | None:
    """Share of the possible net gain that deciding by the forecast gives away; None when there is none to have."""
    least = max(float(np.quantile(gain, threshold)), LEAST_GAIN)
    net, promoted = gain - least, forecast_gain > least
    possible = net[net > 0].sum()
    return float(1 - net[promoted].sum() / possible) if possible > 0 else None


def clustered_se(x: FloatArray, cluster: NDArray[np.str_]) -> float | None:
    """Standard error of the mean of ``x`` when rows of one cluster go together; None for a single cluster."""
    names, of = np.unique(cluster, return_inverse=True)
    if len(names) < 2:
        return None
    deviation = np.bincount(of, x - x.mean())
    return float(np.sqrt((deviation**2).sum() * len(names) / (len(names) - 1)) / len(x))


def score(tasks: Sequence[Task], answers: Answers) -> dict[str, Any]:
    """All figures of one forecaster on one group of tasks; None where it told no quantiles."""
    target = np.array([task.target for task in tasks])
    told = ~np.isnan(answers.quantiles).any(axis=1)
    held = is_held(answers.quantiles[told], target[told])
    share = np.array([task.share for task in tasks])
    logs = np.log(np.maximum(answers.point, LEAST_LOGGED)) - np.log(np.maximum(target, LEAST_LOGGED))
    found: dict[str, Any] = {
        "failed": int(answers.failed.sum()),
        "log_rmse": float(np.sqrt((logs**2).mean())),
        "coverage": _mean(held),
        "coverage_at": {f"{each:.0%}": _mean(held[share[told] == each]) for each in np.unique(share)},
    }
    if not tasks[0].is_error:
        return found
    family = np.array([task.family for task in tasks])
    last = np.array([task.last for task in tasks])
    error = np.abs(answers.point - target)
    quantiles = answers.quantiles[told]
    return found | {
        "mae_pp": 100 * float(error.mean()),
        "mae_se_pp": _percent(clustered_se(error, family)),
        "width_pp": _percent(_mean(quantiles[:, 2] - quantiles[:, 0])),
        "pinball_pp": _percent(_mean(pinball(quantiles, target[told]))),
        "regret_at": {f"{p:.0%}": regret(last - target, last - answers.mean, p) for p in THRESHOLDS},
    }


def _mean(x: NDArray[Any]) -> float | None:
    return float(x.mean()) if len(x) else None


def _percent(x: float | None) -> float | None:
    return None if x is None else 100 * x


def paired(tasks: Sequence[Task], ours: Answers, other: Answers) -> dict[str, Any]:
    """Ours minus the other on the same tasks, in pp, with the standard error and their ratio; below 0 ours is better.
    Of the pinball loss on the tasks where both told quantiles, None where they never did."""
    target = np.array([task.target for task in tasks])
    family = np.array([task.family for task in tasks])
    both = ~(np.isnan(ours.quantiles) | np.isnan(other.quantiles)).any(axis=1)
    error = np.abs(ours.point - target) - np.abs(other.point - target)
    loss = pinball(ours.quantiles[both], target[both]) - pinball(other.quantiles[both], target[both])
    return {
        "error": _difference(error, family),
        "pinball": _difference(loss, family[both]) if both.any() else None,
    }


def _difference(x: FloatArray, family: NDArray[np.str_]) -> dict[str, float | None]:
    se = clustered_se(x, family)
    mean = float(x.mean())
    return {"mean_pp": 100 * mean, "se_pp": _percent(se), "ratio": mean / se if se else None}


# The record and its table


def benchmark(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that is measured, as it is stored."""
    curves = load_curves(options.data, options.limit)
    tasks = [task for curve in curves for task in tasks_of(curve)]
    folds = trained_folds(options.data, options.networks)
    names = list(forecasters(folds, options.peer))  # a peer that cannot be loaded is found here, not in a worker
    group_of = np.array([task.group for task in tasks])
    groups = {group: group_of == group for group in sorted(set(group_of))}
    in_group = {group: [task for task in tasks if task.group == group] for group in groups}
    context = mp.get_context("spawn")
    with context.Pool(options.jobs, _start, (folds, options.peer)) as pool:
        answers = {name: answers_of(pool, name, tasks) for name in names}
    timed = np.random.default_rng(0).permutation(len(in_group[LADDER_SOURCE]))[:N_TIMED]
    with context.Pool(1, _start, (folds, options.peer)) as pool:
        speed = fits_per_s(pool, names, [in_group[LADDER_SOURCE][i] for i in timed])
    return {
        "what": "learning curves forecast by several means; protocol and figures: scripts/bench_learning_curves.py",
        "data": "LCDB 1.1: Yan, Mohr and Viering, NeurIPS 2025, CC BY 4.0",
        "run": _run(options.limit, len(timed)),
        "sources": _measured(curves),
        "groups": {group: _counts(in_group[group]) for group in groups},
        "forecasters": [
            {"name": name, "fits_per_s": speed[name],
             "scores": {group: score(in_group[group], answers[name].of(mask)) for group, mask in groups.items()}}
            for name in names
        ],
        "differences": [
            {"other": name, "group": group, **paired(in_group[group], answers[OURS].of(mask), answers[name].of(mask))}
            for name in names[1:] for group, mask in groups.items() if group.startswith(LADDER_SOURCE)
        ],
    }  # fmt: skip


def _run(limit: int, n_timed: int) -> dict[str, Any]:
    """Which run it was."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": f"{_cpu()}, {os.cpu_count()} cores",
        "limit": limit,
        "timed_tasks": n_timed,
        "timed_repeats": N_REPEATS,
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _measured(curves: Sequence[Curve]) -> dict[str, dict[str, int]]:
    of_source = {name: [curve for curve in curves if curve.source == name] for name in {c.source for c in curves}}
    return {
        name: {"curves": len(found), "datasets": len({curve.dataset for curve in found})}
        for name, found in sorted(of_source.items())
    }


def _counts(tasks: Sequence[Task]) -> dict[str, Any]:
    return {
        "tasks": len(tasks),
        "curves": len({task.curve for task in tasks}),
        "datasets": len({task.dataset for task in tasks}),
        "families": len({task.family for task in tasks}),
        "metric": "error_rate" if tasks[0].is_error else "loss",
    }


NAME_WIDTH = 21
MAE_OF = ("lcdb11", "lcdb11_3seed", "lcdb11 ladder")
LOGS_OF = ("formll", "gnmt", "openlm", "gvision")


def table(record: Mapping[str, Any]) -> str:
    """One row a forecaster, with a legend."""
    lines = [*_head(), *(line for each in record["forecasters"] for line in _lines(each))]
    groups, run = record["groups"], record["run"]
    counted = "; ".join(f"{name} {each['tasks']:,} of {each['curves']:,} curves, {each['datasets']} data sets"
                        for name, each in groups.items())  # fmt: skip
    legend = [
        f"Forecasts: {counted}." + (f" At most {run['limit']} curves of a source." if run["limit"] else ""),
        "mean, seed, lad.: LCDB 1.1 as means of 25 splits, as 3 seeds (both seen to 5, 10, 25 and 50% of the data, "
        "pooled), and means seen at 1, 2, 5, 10, 20%. Of the first are the coverage of the 90% interval by the share "
        "seen, its width, the pinball loss, and the regret at thresholds that 30, 50 and 70% of the gains lie below.",
        "in sample: a few hyperparameters of our model of losses were tuned on these curves. never seen: few-shot "
        "error rates; nothing of ours was trained or tuned on them. The other forecasters learn from no other curve.",
        f"fits/s: on one core, measured in this run ({run['date']}, {run['machine']}, Python {run['python']}, numpy "
        f"{run['numpy']}), all forecasters in turn on the same {run['timed_tasks']} tasks: median of "
        f"{run['timed_repeats']} repeats.",
        *(
            f"{each['name']} failed on {failed} tasks; the last value counts there."
            for each in record["forecasters"]
            if (failed := sum(of["failed"] for of in each["scores"].values()))
        ),
    ]
    return "\n".join([*lines, "", *(line for text in legend for line in textwrap.wrap(text, 119))])


def _head() -> list[str]:
    shares = "".join(f"{100 * share:>3.0f}" for share in SHARES)
    thresholds = "".join(f"{100 * p:>5.0f}" for p in THRESHOLDS)
    logs = "".join(f"{name:^9}" for name in LOGS_OF)
    rows = (
        ("MAE, pp", "coverage, %", "width", "pinb.", "regret, %", "RMSE of log / coverage, %", "fits"),
        ("", "share seen, %", "pp", "pp", "threshold, %", "-- losses, in sample --    never seen", "/s"),
        (" mean seed lad.", shares, "", "", thresholds, logs, ""),
    )
    return [
        f"{'':{NAME_WIDTH}}{mae:^15}{coverage:^13}{width:>6}{loss:>6} {regrets:^15}{log:^36}{fits:>6}".rstrip()
        for mae, coverage, width, loss, regrets, log, fits in rows
    ]


def _lines(forecaster: Mapping[str, Any]) -> list[str]:
    scores = forecaster["scores"]
    main = scores.get(MAE_OF[0], {})
    mae = "".join(_cell(scores.get(group, {}).get("mae_pp"), ".2f", 5) for group in MAE_OF)
    coverage = "".join(_cell(_percent(main["coverage_at"].get(f"{share:.0%}")), ".0f", 3) for share in SHARES)
    regrets = "".join(_regret_cell(main["regret_at"][f"{p:.0%}"]) for p in THRESHOLDS)
    logs = "".join(_log_cell(scores.get(group)) for group in LOGS_OF)
    first, *more = textwrap.wrap(forecaster["name"], NAME_WIDTH)
    return [
        f"{first:{NAME_WIDTH}}{mae} {coverage}{_cell(main['width_pp'], '.1f', 6)}{_cell(main['pinball_pp'], '.3f', 6)} "
        f"{regrets}{logs}{forecaster['fits_per_s']:6.0f}",
        *(f"  {line}" for line in more),
    ]


def _cell(x: float | None, form: str, width: int) -> str:
    return f"{'-' if x is None else format(x, form):>{width}}"


def _regret_cell(share: float | None) -> str:
    return _cell(_percent(share), ".1f" if share is None or share < 0.9995 else ".0f", 5)


def _log_cell(scores: Mapping[str, Any] | None) -> str:
    if scores is None:
        return f"{'-':^9}"
    rmse = f"{scores['log_rmse']:.3f}"[:5].removeprefix("0")
    return f"{rmse:>5}/{_cell(_percent(scores['coverage']), '.0f', 1):<3}"


def difference_table(record: Mapping[str, Any]) -> str:
    """Ours minus each other forecaster."""
    lines = [
        "ours minus another on the same tasks, pp: mean +- standard error clustered by family of data sets, and ratio;",
        "better or worse where it is over two standard errors",
        f"{'':43}{'absolute error':<36}pinball loss",
    ]
    for each in record["differences"]:
        error, loss = (_told_difference(each[of]) for of in ("error", "pinball"))
        lines.append(f"  {each['other']:<27}{each['group']:<14}{error:<36}{loss}".rstrip())
    return "\n".join(lines)


def _told_difference(each: Mapping[str, Any] | None) -> str:
    if each is None:
        return ""
    if each["ratio"] is None:
        return f"{each['mean_pp']:+.3f}, no standard error"
    verdict = "within" if abs(each["ratio"]) <= 2 else "better" if each["ratio"] < 0 else "worse"
    return f"{each['mean_pp']:+.3f} +- {each['se_pp']:.3f} {each['ratio']:+6.2f} {verdict}"


def rounded(value: Any) -> Any:
    """Six significant digits are more than any of it is known to."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of Parquet files with measured curves")
    parser.add_argument("--peer", action="append", default=[], metavar="FILE.py:FUNCTION", help="another forecaster")
    parser.add_argument("--limit", type=int, default=0, help="at most so many curves of each source; 0: all")
    parser.add_argument("--jobs", type=int, default=2, help="processes; fits/s are always measured in one")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every figure there")
    parser.add_argument("--networks", type=Path, metavar="FILE", help="keep the folds' networks there (.npz)")
    return parser.parse_args(arguments)


def main() -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # read by the worker processes, where all forecasts are made
    options = parse()
    record = rounded(benchmark(options))
    if options.json is not None:
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{table(record)}\n\n{difference_table(record)}")


if __name__ == "__main__":
    main()
