"""How well spot instances' bill and wall time are forecast from the past, on traces of real availability.

    python scripts/bench_spot.py DATA [--json | --derive]

DATA is a folder with traces.parquet: runs of ticks with the count of instances that could be had, by dataset and zone
(skypilot-org/spot-traces). Each trace is learned from its first half; jobs of 8, 24 and 72 h of work that save every
15 min, every hour, or as often as Daly's formula says of the first half, start at 200 times of its second half and
walk its true runs. A job is kept when half of its starts finish before the trace ends. The first start is not counted:
restarts are. Wall time runs from submission, so a job may wait for its first machine.

    error      |forecast - mean of the replays| / mean of the replays; median and 90% quantile over traces, a trace
               counting by the mean over its jobs, and over jobs
    coverage   share of single replays inside the 90% interval, each trace counting the same
    ours minus it: of the error, paired by trace, with a standard error clustered by dataset

Traces of more than one instance are up while all of them are. The half-life and every statistic of ours come from
other datasets than the trace's. Peers: Poisson with the whole first half's rates ("naive": without waiting; "past":
with), with the second half's ("oracle", which nobody has), and no preemption at all.

--derive prints what `orchestrator.cost.spot.TRACES` holds, from all traces.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from bench_learning_curves import clustered_se
from scipy.special import ndtri, polygamma

from orchestrator.cost.interruptions import (
    best_interval_s,
    expected_time_s,
    sample_interruptions,
    young_interval_s,
)
from orchestrator.cost.spot import (
    TRACES,
    MarketStatistics,
    SpotMarket,
    market_from_runs,
)

CHECKPOINT_S = 60.0
RESTART_S = 300.0
WORK_H = (8.0, 24.0, 72.0)
N_STARTS = 200
N_DRAWS = 4000
# In mean up-times: Young's interval is held against the best up to checkpoints as long as this.
LONGEST_CHECKPOINT = 0.3
# Departures below which a mean of a history is no measurement.
FEWEST = 3
HALF_LIVES_H = (3.0, 6.0, 9.0, 12.0, 18.0, 24.0, 36.0, 48.0, 72.0, 150.0, 1e6)
# Rolling origins of what the statistics are learned from, as shares of a trace; each forecasts the next quarter.
ORIGINS = (0.25, 0.375, 0.5, 0.625, 0.75)
HORIZON = 0.25
PRIOR_COUNTS = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
H = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Whether the instances could be had, tick by tick."""

    kind: str
    nodes: int
    dataset: str
    zone: str
    gap_s: float
    counts: np.ndarray

    @property
    def is_up(self) -> np.ndarray:
        return self.counts >= self.nodes

    @property
    def is_single(self) -> bool:
        """Availability of one instance, tick by tick."""
        return self.kind == "availability" and self.nodes == 1

    def half(self, which: int) -> Runs:
        middle = len(self.counts) // 2
        return runs_of(self.is_up[:middle] if which == 0 else self.is_up[middle:], self.gap_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Alternating runs; of the last one nobody knows how long it is."""

    is_up: np.ndarray
    length_s: np.ndarray

    def of(self, up: bool) -> np.ndarray:
        return np.asarray(self.length_s[self.is_up == up])

    def mean_s(self, up: bool) -> float | None:
        """Time in a state over departures from it; None when too few were seen."""
        departures = int((self.is_up[:-1] == up).sum())
        total = float(self.of(up).sum())
        return total / departures if departures >= FEWEST and total else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A job and how often it saves."""

    work_s: float
    interval_s: float
    checkpoint_s: float = CHECKPOINT_S
    restart_s: float = RESTART_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A job on a trace, and what its replays came to; arrays of shape (n_starts,), seconds."""

    trace: Trace
    plan: Plan
    billed_s: np.ndarray
    wall_s: np.ndarray


def load_traces(folder: Path) -> list[Trace]:
    rows = pq.read_table(folder / "traces.parquet").to_pylist()

    def key(r: dict[str, Any]) -> tuple[Any, ...]:
        return r["kind"], r["nodes"], r["dataset"], r["zone_gpu"], r["gap_seconds"]

    traces = []
    for (kind, nodes, dataset, zone, gap), group in itertools.groupby(sorted(rows, key=key), key):
        ordered = sorted(group, key=lambda r: r["start_tick"])
        counts = np.repeat([r["available"] for r in ordered], [r["length_ticks"] for r in ordered])
        traces.append(Trace(kind=kind, nodes=nodes, dataset=dataset, zone=zone, gap_s=float(gap), counts=counts))
    return traces


def runs_of(is_up: np.ndarray, gap_s: float) -> Runs:
    edges = np.r_[0, np.flatnonzero(np.diff(is_up.astype(int))) + 1, len(is_up)]
    return Runs(is_up=is_up[edges[:-1]], length_s=np.diff(edges) * gap_s)


def replay(runs: Runs, plan: Plan) -> tuple[float, float] | None:
    """Billed and wall seconds of one job submitted at the first run's begin; None when the runs end before it does."""
    left_s, billed_s, wall_s, restart_s = plan.work_s, 0.0, 0.0, 0.0
    for up, length_s in zip(runs.is_up.tolist(), runs.length_s.tolist(), strict=True):
        if not up:
            wall_s += length_s
            continue
        need_s = restart_s + left_s + math.ceil(left_s / plan.interval_s - 1e-9) * plan.checkpoint_s
        if need_s <= length_s:
            return billed_s + need_s, wall_s + need_s
        saved = max(0.0, (length_s - restart_s) // (plan.interval_s + plan.checkpoint_s))
        left_s -= saved * plan.interval_s
        billed_s, wall_s, restart_s = billed_s + length_s, wall_s + length_s, plan.restart_s
    return None


def replays(trace: Trace, plan: Plan) -> Case | None:
    """Starts spread over the second half, up to the last that finishes; None when fewer than half do."""
    second = trace.is_up[len(trace.counts) // 2 :]
    starts = np.unique(np.linspace(0, len(second) - 1, N_STARTS).astype(int))
    found = []
    for start in starts:
        came = replay(runs_of(second[start:], trace.gap_s), plan)
        # Later starts finish no earlier, so nothing is picked by its outcome.
        if came is None:
            break
        found.append(came)
    if len(found) < len(starts) / 2:
        return None
    billed, wall = np.array(found).T
    return Case(trace=trace, plan=plan, billed_s=billed, wall_s=wall)


def plans(trace: Trace) -> list[Plan]:
    mean_uptime_s = trace.half(0).mean_s(True)
    intervals = [900.0, 3600.0]
    if mean_uptime_s is not None:
        intervals.append(best_interval_s(CHECKPOINT_S, mean_uptime_s))
    return [Plan(work_s=hours * H, interval_s=interval) for interval in intervals for hours in WORK_H]


# --- what the traces teach --------------------------------------------------------------------------------------


def derive(traces: Sequence[Trace]) -> MarketStatistics:
    """Statistics of the markets of these traces; half-life and prior count are those of the least squared log error."""
    pairs = [(trace.half(0), trace.half(1)) for trace in traces]
    logs = {up: np.array([[_log_h(half.mean_s(up)) for half in pair] for pair in pairs]) for up in (True, False)}
    drift = {up: math.sqrt(np.nanmean((values[:, 1] - values[:, 0]) ** 2)) for up, values in logs.items()}
    downs = [runs_of(trace.is_up, trace.gap_s).of(False) for trace in traces]
    known = replace(
        TRACES,
        mean_uptime_h=math.exp(np.nanmean(logs[True])), mean_downtime_h=math.exp(np.nanmean(logs[False])),
        uptime_spread=float(np.nanstd(logs[True], ddof=1)), downtime_spread=float(np.nanstd(logs[False], ddof=1)),
        uptime_drift=drift[True], downtime_drift=drift[False], uptime_error=0.0, downtime_error=0.0,
        downtime_shape=float(1 / np.median([(d.std() / d.mean()) ** 2 for d in downs if len(d) >= FEWEST])),
    )  # fmt: skip
    grid = [replace(known, half_life_h=h, prior_count=c) for h, c in itertools.product(HALF_LIVES_H, PRIOR_COUNTS)]
    best = min(grid, key=lambda statistics: _by_trace(forecast_errors(traces, statistics)[..., 0] ** 2).mean())
    found = forecast_errors(traces, best)
    errors, variances = found[..., 0], found[..., 1]
    beyond = np.sqrt(np.maximum(_by_trace(errors**2 - variances).mean(axis=0), 0.0))
    both = errors[np.isfinite(errors).all(axis=-1)]
    return replace(best, uptime_error=float(beyond[0]), downtime_error=float(beyond[1]),
                   correlation=float(np.corrcoef(both.T)[0, 1]))  # fmt: skip


def _log_h(seconds: float | None) -> float:
    return math.nan if seconds is None else math.log(seconds / H)


def _by_trace(values: np.ndarray) -> np.ndarray:
    """Means over the origins of each trace that has any, (n_traces, n_origins, 2) to (n, 2)."""
    return np.asarray([np.nanmean(each, axis=0) for each in values if np.isfinite(each).any(axis=0).all()])


def forecast_errors(traces: Sequence[Trace], statistics: MarketStatistics) -> np.ndarray:
    """Forecasts of the next quarter of each trace, from several origins.

    Returns: For up-times and down-times the log of the mean that came over the forecast, and its variance that is the
        noise of counting; NaN where too little came. Shape (n_traces, n_origins, 2, 2).
    """
    certain = replace(statistics, uptime_error=0.0, downtime_error=0.0)
    found = np.full((len(traces), len(ORIGINS), 2, 2), math.nan)
    for (i, trace), (j, origin) in itertools.product(enumerate(traces), enumerate(ORIGINS)):
        now, until = (round(share * len(trace.counts)) for share in (origin, origin + HORIZON))
        market = forecast_market(runs_of(trace.is_up[:now], trace.gap_s), certain)
        came = runs_of(trace.is_up[now:until], trace.gap_s)
        for k, (up, told) in enumerate(((True, market.mean_uptime_s), (False, market.mean_downtime_s))):
            came_s = came.mean_s(up)
            if came_s is not None:
                of_forecast = (math.log(told.high / told.median) / ndtri(0.95)) ** 2
                of_count = polygamma(1, int((came.is_up[:-1] == up).sum()))
                found[i, j, k] = math.log(came_s / told.median), of_forecast + of_count
    return found


def forecast_market(history: Runs, statistics: MarketStatistics) -> SpotMarket:
    return market_from_runs(
        history.of(True), history.of(False), starts_up=bool(history.is_up[0]), statistics=statistics
    )


# --- forecasters ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Seconds; ``draws`` are of shape (n, 2), billed and wall, where the forecaster has them."""

    billed_s: float
    wall_s: float
    draws: np.ndarray | None = None


def ours(case: Case, statistics: MarketStatistics) -> Forecast:
    """The point is what the median market leads one to expect; waiting as the sampler has it on average."""
    market, plan = forecast_market(case.trace.half(0), statistics), case.plan
    up_s, down_s = market.mean_uptime_s.median, market.mean_downtime_s.median
    billed_s = _expected_s(plan, up_s)
    first_wait_s = down_s / (up_s + down_s) * down_s * (1 + 1 / statistics.downtime_shape) / 2
    work, interval, checkpoint, restart = (
        np.full(N_DRAWS, value) for value in (plan.work_s, plan.interval_s, plan.checkpoint_s, plan.restart_s)
    )
    drawn = sample_interruptions(
        work, interval_s=interval, checkpoint_s=checkpoint, restart_s=restart, market=market, instances=1,
        failing=None, workers=1, rng=np.random.default_rng(0), statistics=statistics, is_started=True,
        give_up_after=math.inf,
    )  # fmt: skip
    billed = plan.work_s * (1 + plan.checkpoint_s / plan.interval_s) + drawn.preemption_rework_s
    return Forecast(
        billed_s=billed_s,
        wall_s=billed_s * (1 + down_s / up_s) + first_wait_s,
        draws=np.stack([billed, billed + drawn.first_wait_s + drawn.waiting_s], axis=1),
    )


def poisson(case: Case, half: int, *, waits: bool) -> Forecast:
    """The exact model with the mean up-time of a half, and its mean down-time after each preemption."""
    runs = case.trace.half(half)
    up_s, down_s = runs.mean_s(True) or math.inf, runs.mean_s(False) or 0.0
    billed_s = _expected_s(case.plan, up_s)
    return Forecast(billed_s=billed_s, wall_s=billed_s * (1 + down_s / up_s) if waits else billed_s)


def no_preemption(case: Case) -> Forecast:
    billed_s = _expected_s(case.plan, math.inf)
    return Forecast(billed_s=billed_s, wall_s=billed_s)


def _expected_s(plan: Plan, mean_uptime_s: float) -> float:
    if math.isinf(mean_uptime_s):
        return plan.work_s * (1 + plan.checkpoint_s / plan.interval_s)
    return float(
        expected_time_s(plan.work_s, interval_s=plan.interval_s, checkpoint_s=plan.checkpoint_s,
                        restart_s=plan.restart_s, mean_uptime_s=mean_uptime_s)
    )  # fmt: skip


OURS = "ours, other datasets' statistics"


def forecasters(traces: Sequence[Trace]) -> dict[str, Callable[[Case], Forecast]]:
    others = {
        dataset: derive([trace for trace in traces if trace.dataset != dataset])
        for dataset in {trace.dataset for trace in traces}
    }
    return {
        OURS: lambda case: ours(case, others[case.trace.dataset]),
        "Poisson, past's rates": lambda case: poisson(case, 0, waits=True),
        "Poisson, past's, no waiting": lambda case: poisson(case, 0, waits=False),
        "no preemption": no_preemption,
        "Poisson, true rates (oracle)": lambda case: poisson(case, 1, waits=True),
    }


# --- scores -----------------------------------------------------------------------------------------------------


def score(cases: Sequence[Case], told: Sequence[Forecast]) -> dict[str, Any]:
    """The figures of one forecaster; ``by_trace`` has the mean errors of each trace's jobs, billed and wall."""
    came = np.array([[case.billed_s.mean(), case.wall_s.mean()] for case in cases])
    error = np.abs(np.array([[each.billed_s, each.wall_s] for each in told]) / came - 1)
    names = [f"{case.trace.kind} {case.trace.dataset} {case.trace.zone}" for case in cases]
    by_trace = {name: error[[other == name for other in names]].mean(axis=0) for name in dict.fromkeys(names)}
    found: dict[str, Any] = {"by_trace": by_trace, "coverage": None, "hi_lo": None}
    for label, values in (("jobs", error), ("traces", np.array(list(by_trace.values())))):
        found[f"median_{label}"], found[f"p90_{label}"] = np.median(values, axis=0), np.quantile(values, 0.9, axis=0)
    if all(each.draws is not None for each in told):
        held, ratio = zip(*(_held(case, each.draws) for case, each in zip(cases, told, strict=True)), strict=True)
        per_trace = [np.mean([h for h, n in zip(held, names, strict=True) if n == name], axis=0) for name in by_trace]
        found["coverage"], found["hi_lo"] = np.mean(per_trace, axis=0), np.median(ratio, axis=0)
    return found


def _held(case: Case, draws: Any) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    # A draw and a replay without preemption are the same number up to rounding.
    single = np.stack([case.billed_s, case.wall_s], axis=1)
    return ((low * (1 - 1e-9) <= single) & (single <= high * (1 + 1e-9))).mean(axis=0), high / low


def interval_costs(traces: Sequence[Trace]) -> dict[str, list[float]]:
    """What each rule's interval costs over the best of a grid on the second half: a job of 8 h, mean bill minus 1."""
    others = {t.dataset: derive([o for o in traces if o.dataset != t.dataset]) for t in traces if t.is_single}
    costs: dict[str, list[float]] = {}
    for trace in (trace for trace in traces if trace.is_single):
        past_s, true_s = (trace.half(which).mean_s(True) for which in (0, 1))
        if past_s is None or true_s is None:
            continue
        ours_s = forecast_market(trace.half(0), others[trace.dataset]).mean_uptime_s.median
        grid = np.geomspace(300, 8 * H, 25).tolist()
        bills = [_mean_bill(trace, interval) for interval in grid]
        known = [bill for bill in bills if bill is not None]
        if not known:
            continue
        rules = {
            "Daly's of our forecast": best_interval_s(CHECKPOINT_S, ours_s),
            "Daly's of the past's rate": best_interval_s(CHECKPOINT_S, past_s),
            "Daly's of the true rate": best_interval_s(CHECKPOINT_S, true_s),
            "every 15 min": 900.0,
            "every hour": 3600.0,
        }
        for name, interval in rules.items():
            bill = _mean_bill(trace, interval)
            if bill is not None:
                costs.setdefault(name, []).append(bill / min(known) - 1)
    return costs


def _mean_bill(trace: Trace, interval_s: float) -> float | None:
    case = replays(trace, Plan(work_s=8 * H, interval_s=interval_s))
    return None if case is None else float(case.billed_s.mean())


def model_checks() -> dict[str, float]:
    """The exact time against a simulation of up-times, and Young's interval against the best, at their worst."""
    rng, worst, n = np.random.default_rng(0), 0.0, 4_000_000
    for interval, checkpoint, restart, uptime in ((900.0, 60.0, 300.0, 7200.0), (3600.0, 60.0, 300.0, 3600.0),
                                                  (600.0, 30.0, 120.0, 2000.0)):  # fmt: skip
        ups = rng.exponential(uptime, n)
        worked = interval * np.floor(np.maximum(ups - restart, 0) / (interval + checkpoint)).sum()
        told = float(expected_time_s(worked, interval_s=interval, checkpoint_s=checkpoint, restart_s=restart,
                                     mean_uptime_s=uptime))  # fmt: skip
        worst = max(worst, abs(told / ups.sum() - 1))
    young = 0.0
    for ratio in np.geomspace(1e-5, LONGEST_CHECKPOINT, 200):
        times = expected_time_s(1.0, interval_s=np.array([young_interval_s(ratio, 1.0), best_interval_s(ratio, 1.0)]),
                                checkpoint_s=ratio, restart_s=0.0, mean_uptime_s=1.0)  # fmt: skip
        young = max(young, float(times[0] / times[1]) - 1)
    return {"expected time against simulation": worst, "Young's interval over the best": young}


def together(traces: Sequence[Trace]) -> list[dict[str, Any]]:
    """Whether instances are lost independently: the up-time of all at once against one instance's."""
    found = []
    for trace in (trace for trace in traces if trace.nodes > 1):
        lost = int(np.maximum(-np.diff(trace.counts), 0).sum())
        all_s = runs_of(trace.is_up, trace.gap_s).mean_s(True)
        if lost and all_s is not None:
            one_h = float(trace.counts.sum()) * trace.gap_s / lost / H
            found.append({"dataset": trace.dataset, "zone": trace.zone, "instances": trace.nodes, "one_h": one_h,
                          "all_h": all_s / H, "independent_h": one_h / trace.nodes})  # fmt: skip
    return found


# --- the command ------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with traces.parquet")
    parser.add_argument("--json", action="store_true", help="the same figures for a machine")
    parser.add_argument("--derive", action="store_true", help="only the statistics of all traces")
    options = parser.parse_args()
    traces = load_traces(options.data)
    if options.derive:
        print(json.dumps(asdict(derive(traces)), indent=2))
        return
    found = run(traces)
    if options.json:
        print(json.dumps(found, indent=2, default=np.ndarray.tolist))
    else:
        _print(found)


def run(traces: Sequence[Trace]) -> dict[str, Any]:
    """Every figure of the benchmark, ours and peers in one pass over the same jobs."""
    cases = [case for trace in traces for plan in plans(trace) if (case := replays(trace, plan)) is not None]
    told = {name: [forecast(case) for case in cases] for name, forecast in forecasters(traces).items()}
    groups = {
        "one instance's availability": [case.trace.is_single for case in cases],
        "all traces": [True] * len(cases),
    }
    found: dict[str, Any] = {"groups": {}, "collapsed": collapsed(traces, cases)}
    for group, chosen in groups.items():
        kept = list(itertools.compress(cases, chosen))
        scores = {name: score(kept, list(itertools.compress(each, chosen))) for name, each in told.items()}
        _compare(scores, kept)
        found["groups"][group] = {"n_jobs": len(kept), "n_datasets": len({case.trace.dataset for case in kept}),
                                  "forecasters": scores}  # fmt: skip
    return found | {"interval_costs": interval_costs(traces), "checks": model_checks(), "together": together(traces)}


def collapsed(traces: Sequence[Trace], cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Traces on which no job is scored, since most starts never finish, and what ours said of 8 h there.

    ``share_held`` is of the starts whose forecast's upper end comes before the trace's; those still unfinished by then
    are outside.
    """
    finished = {id(case.trace) for case in cases}
    found = []
    for trace in (trace for trace in traces if id(trace) not in finished):
        plan, nothing = Plan(work_s=8 * H, interval_s=900.0), np.empty(0)
        statistics = derive([other for other in traces if other.dataset != trace.dataset])
        told = ours(Case(trace=trace, plan=plan, billed_s=nothing, wall_s=nothing), statistics)
        high_s = float(np.quantile(told.draws, 0.95, axis=0)[1]) if told.draws is not None else math.nan
        second = trace.is_up[len(trace.counts) // 2 :]
        latest = int(len(second) - high_s / trace.gap_s)
        starts = np.unique(np.linspace(0, latest, N_STARTS).astype(int)) if latest > 0 else np.empty(0, int)
        came = [replay(runs_of(second[start:], trace.gap_s), plan) for start in starts]
        share = float(np.mean([each is not None and each[1] <= high_s for each in came])) if came else None
        name = f"{trace.kind} {trace.dataset} {trace.zone}"
        found.append({"trace": name, "upper_wall_h": high_s / H, "share_held": share, "is_single": trace.is_single})
    return found


def _compare(scores: dict[str, dict[str, Any]], cases: Sequence[Case]) -> None:
    """Ours minus each other's error, paired by trace; adds ``ours_minus_it``, mean and standard error of each kind."""
    dataset = {f"{c.trace.kind} {c.trace.dataset} {c.trace.zone}": c.trace.dataset for c in cases}
    clusters = np.array(list(dataset.values()))
    for name, each in scores.items():
        difference = np.array([scores[OURS]["by_trace"][trace] - each["by_trace"][trace] for trace in dataset])
        each["ours_minus_it"] = None if name == OURS else [
            (float(column.mean()), clustered_se(column, clusters)) for column in difference.T
        ]  # fmt: skip


def _print(found: dict[str, Any]) -> None:
    for group, figures in found["groups"].items():
        first = next(iter(figures["forecasters"].values()))
        n_traces = len(first["by_trace"])
        print(f"\n{group}: {figures['n_jobs']} jobs on {n_traces} traces of {figures['n_datasets']} datasets")
        heads = ("billed, trace", "wall, trace", "billed, job", "wall, job", "cover b w", "hi/lo b w")
        print(f"{'error: median/p90':<33}" + "".join(f"{h:>14}" for h in heads) + "   ours minus it, billed and wall")
        for name, each in figures["forecasters"].items():
            cells = [
                f"{each[f'median_{by}'][k]:.3f}/{each[f'p90_{by}'][k]:.3f}" for by in ("traces", "jobs") for k in (0, 1)
            ]
            for key in ("coverage", "hi_lo"):
                cells.append("-" if each[key] is None else f"{each[key][0]:.2f} {each[key][1]:.2f}")
            against = "" if each["ours_minus_it"] is None else "   " + ", ".join(
                f"{mean:+.3f} +- {se:.3f}" if se is not None else f"{mean:+.3f}" for mean, se in each["ours_minus_it"]
            )  # fmt: skip
            print(f"{name:<33}" + "".join(f"{cell:>14}" for cell in cells) + against)
    print("\nnot scored, for most jobs never finish; ours for 8 h of work: upper end of the wall time, share below it")
    for row in found["collapsed"]:
        share = "trace too short" if row["share_held"] is None else f"{row['share_held']:.2f}"
        print(f"    {row['trace']}: {row['upper_wall_h']:.0f} h, {share}")
    print("\nbill over that of the best interval, one instance, 8 h of work: median, worst of traces")
    for name, costs in found["interval_costs"].items():
        print(f"    {name:<28}{np.median(costs):>8.3f}{max(costs):>8.3f}")
    print()
    for name, value in found["checks"].items():
        print(f"{name}: at most {value:.4%}")
    print("\nup-time of all instances at once, beside what independent losses would make it")
    for row in found["together"]:
        print(
            f"    {row['dataset']} {row['zone']}: one {row['one_h']:.2f} h, "
            f"all {row['instances']} {row['all_h']:.2f} h, independent {row['independent_h']:.2f} h"
        )


if __name__ == "__main__":
    main()
