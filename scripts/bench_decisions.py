#!/usr/bin/env python
"""What decisions are worth: the tool's verdict beside other policies, replayed in dollars on measured learning curves.

    python scripts/bench_decisions.py DATA [--curves 250] [--seed 0] [--jobs 1] [--networks FILE] [--json OUT]

DATA is a folder of Parquet files as `bench_learning_curves.py` reads. A case is a curve cut where its largest size, of
1,000 rows or more, is 2, 4 or 8 times the largest size shown; what is shown are the 5 sizes below the cut, each at
least 1.4 times the next, 3 seeds each (losses: 1). The question is whether to train on all rows:

    net value  = value of a point * points truly gained over the best trial's size - what the run really costs
    regret     = max(0, net value of the run) - net value of what the policy did; the sweep is paid for in any case

*Value and cost.* Seconds per row and the value of a point are drawn, from nothing that is known of the curve, such that
a point (1 percentage point of accuracy; 0.03 of a loss) is worth $10 to $1,000 and the run costs what 0.1 to 10 points
are worth, $1 to $10,000, all evenly in logarithms. Prices are those that come with the package, of a machine on which
the run takes 1 to 400 hours, on-demand or spot. Trials and the run vary by 3% around their time. What interrupts the
run is one draw of the tool's own model of failures and spot markets, for no trace says what would have.

*Truth* is the curve's mean over 25 splits, at the sizes measured and log-linear between them. A probability is scored
against the mean run, while the tool speaks of one run: it may be a little too unsure here.

*Policies.* The tool's is `decision.decide` on trial records made from the curve. A HOLD is not run; or goes by the
verdict's own mean net value; or buys the next measurement that is advised, at the nearest size of the curve, at most
twice, pays for it, keeps the better of the models it has then, and is not run when still held. Others: always; never;
a power law a + b n^-c by least squares (scipy), run when its point estimate pays; a line through the last two points in
log n, likewise. All know what the run will cost up to the noise of the trials.

Standard errors of paired differences are clustered by family of data sets (`bench_learning_curves.clustered_se`). Our
forecasts of error rates come from networks that never saw the data set or its twins: --networks FILE keeps them, for
they take 4 minutes. Losses are a group of their own: a few parameters of our model were tuned on these very curves.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import multiprocessing as mp
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from bench_learning_curves import Curve, Folds, clustered_se, load_curves, rounded, thinned, trained_folds
from numpy.typing import NDArray
from scipy.optimize import OptimizeWarning, curve_fit

from orchestrator.cost.full_run import RunSize, price_full_run
from orchestrator.cost.job import RunTime
from orchestrator.cost.prices import parse_price_table
from orchestrator.cost.rates import RateCard, rate_card
from orchestrator.cost.transfer import parse_transfer_table
from orchestrator.curves import learned
from orchestrator.curves.quantile_net import QuantileNet
from orchestrator.decision import decide
from orchestrator.results import DataSummary, EpochPoint, TimeSplit, TrainingResult, TrialResult, Verdict
from orchestrator.spec import (
    DataSpec,
    DecisionSpec,
    ExperimentSpec,
    FullRunSpec,
    ModelSpec,
    PricingSpec,
    SweepSpec,
    TrainingSpec,
    TrialSpec,
    evidence_scope,
    trial_key,
)

FloatArray = NDArray[np.float64]

FACTORS = (2.0, 4.0, 8.0)
N_SIZES, LEAST_SIZES = 5, 4
"""As many sizes as the shipped configs sweep, and the fewest that leave the tool a backtest."""
LEAST_ROWS = 1000
"""At the target: nobody rents a machine for less."""
CUT_TOLERANCE = 1.2
"""The cut is the size nearest to target / factor, and within this ratio of it."""
RATIO = 1.25
"""A size bought beyond the last is this much larger at least, as the tool's own advice."""
POINT = {"accuracy": 0.01, "loss": 0.03}
"""What is called a point."""
POINT_USD = (10.0, 1000.0)
COST_POINTS = (0.1, 10.0)
RUN_HOURS = (1.0, 400.0)
MACHINES = (
    ("gcp/t2d-standard-4", "us-central1"),
    ("aws/g5.xlarge", "us-east-1"),
    ("aws/p4d.24xlarge", "us-east-1"),
    ("aws/p5.48xlarge", "us-east-1"),
)
PURCHASES = ("on_demand", "spot")
TIME_NOISE = 0.03
EPOCHS, STARTUP_S, CHECKPOINT_S, CHECKPOINT_BYTES = 100, 30.0, 1.0, 10**7
PRICED_ON = datetime.date(2026, 2, 1)
"""Fixed, so that the age of a price does not move a figure."""
MOST_BOUGHT = 2
N_DRAWS = 2000
MODEL = "learner"
ERRORS, LOSSES = "error rates", "losses"
CLOSE = 2.0
"""A call is close when the true gain is within this factor of the gain that pays for the run."""
CLASSES = ("clear yes", "close", "clear no")
BINS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)

HELD_NOT_RUN = "ours, a HOLD is not run"
HELD_BY_MEAN = "ours, a HOLD goes by its mean net value"
HELD_BUYS = "ours, a HOLD measures on"
HELD_BUYS_CHEAP = "ours, a HOLD measures on where that is cheaper than the run"
NO_VETOES = "ours without vetoes: P alone"
MEAN_ONLY = "ours without P and vetoes: mean net value"
SMALLER = "ours, smaller targets may be chosen"
ALWAYS, NEVER, POWER_LAW, LAST_TWO = "always", "never", "power law, point estimate", "last two points, extrapolated"
POLICIES = (
    HELD_NOT_RUN, HELD_BY_MEAN, HELD_BUYS, HELD_BUYS_CHEAP, SMALLER, NO_VETOES, MEAN_ONLY,
    ALWAYS, NEVER, POWER_LAW, LAST_TWO,
)  # fmt: skip
REFERENCES = (HELD_NOT_RUN, HELD_BY_MEAN)
"""Whose differences to the others are told."""


# Cases


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question: a curve, seen up to a cut, and money."""

    name: str
    family: str
    group: str
    metric: str
    factor: float
    """Target over the largest size shown."""
    target_n: int
    shown: tuple[int, ...]
    beyond: tuple[int, ...]
    """Sizes between the cut and the target, which can be bought."""
    points: Mapping[int, tuple[float, ...]]
    """Error rates or losses by size, one a seed."""
    truth_n: tuple[float, ...]
    truth: tuple[float, ...]
    """The curve's mean at every size it was measured at."""
    instance: str
    region: str
    purchase: str
    seconds_per_row: float
    """Of one epoch."""
    usd_per_unit: float
    """Value of an accuracy, or a loss, that is better by 1."""
    rng_seed: int

    def true_value(self, n: float) -> float:
        """Error rate or loss of the mean run on so many rows."""
        return float(np.interp(math.log(n), np.log(self.truth_n), self.truth))

    def mean_at(self, n: int) -> float:
        return float(np.mean(self.points[n]))


def cases_of(curves: Sequence[Curve], truths: Mapping[str, Curve], seed: int) -> list[Case]:
    """Every cut of every curve, with the money drawn."""
    return [
        case
        for curve in curves
        for factor in FACTORS
        if (case := _case(curve, truths.get(curve.name.removesuffix("/3seed"), curve), factor, seed)) is not None
    ]


def _case(curve: Curve, truth: Curve, factor: float, seed: int) -> Case | None:
    sizes = np.unique(curve.n)
    target = float(sizes[-1])
    cut = float(sizes[np.abs(np.log(sizes * factor / target)).argmin()])
    shown = thinned(sizes[sizes <= cut])[-N_SIZES:]
    is_near = max(cut * factor / target, target / (cut * factor)) <= CUT_TOLERANCE
    if len(shown) < LEAST_SIZES or not is_near or target < LEAST_ROWS:
        return None
    points = {int(n): tuple(float(v) for v in curve.value[curve.n == n][:3]) for n in sizes[:-1]}
    rng = np.random.default_rng([seed, round(factor), *curve.name.encode()])
    metric = "accuracy" if curve.is_error else "loss"
    cost_points, point_usd = (float(np.exp(rng.uniform(*np.log(ends)))) for ends in (COST_POINTS, POINT_USD))
    purchase = str(rng.choice(PURCHASES))
    name, region, usd_per_s = _machine(cost_points * point_usd, purchase, rng)
    return Case(
        name=curve.name, family=curve.family, group=ERRORS if len(points[int(shown[-1])]) > 1 else LOSSES,
        metric=metric, factor=factor, target_n=int(target), shown=tuple(int(n) for n in shown),
        beyond=tuple(int(n) for n in sizes if cut < n < target), points=points,
        truth_n=tuple(np.unique(truth.n)), truth=_means(truth),
        instance=name, region=region, purchase=purchase,
        seconds_per_row=cost_points * point_usd / usd_per_s / target / EPOCHS,
        usd_per_unit=point_usd / POINT[metric], rng_seed=int(rng.integers(2**31)),
    )  # fmt: skip


def _means(curve: Curve) -> tuple[float, ...]:
    return tuple(float(curve.value[curve.n == n].mean()) for n in np.unique(curve.n))


def _machine(cost_usd: float, purchase: str, rng: np.random.Generator) -> tuple[str, str, float]:
    """One of those on which so many dollars last for a usual time, with its price per second."""
    price = {name: _usd_per_hour(name, region, purchase) for name, region in MACHINES}
    usual = [each for each in MACHINES if RUN_HOURS[0] <= cost_usd / price[each[0]] <= RUN_HOURS[1]]
    name, region = usual[int(rng.integers(len(usual)))]
    return name, region, price[name] / 3600


def _usd_per_hour(name: str, region: str, purchase: str) -> float:
    (quote,) = rates_of(_pricing(name, region, purchase)).quotes.values()
    return quote.usd_per_instance_hour


def _pricing(name: str, region: str, purchase: str) -> PricingSpec:
    return PricingSpec(instance=name, region=region, purchase=(purchase,), workers_per_instance=1)  # type: ignore[arg-type]  # one of PURCHASES


@cache
def rates_of(pricing: PricingSpec) -> RateCard:
    """From the tables that come with the package, whatever the day."""
    tables = resources.files("orchestrator.cost")
    prices, transfer = (
        tables.joinpath(f"{name}.csv").read_text(encoding="utf-8") for name in ("price_table", "transfer_prices")
    )
    return rate_card(
        pricing,
        parse_price_table(prices, "shipped prices", today=PRICED_ON),
        parse_transfer_table(transfer, "shipped transfer prices", today=PRICED_ON),
        PRICED_ON,
    )


def sampled(curves: Sequence[Curve], n: int, seed: int) -> list[Curve]:
    """So many curves (0: all), as many families of data sets as there can be, and always the same."""
    rng = np.random.default_rng([seed, 1])
    shuffled = [curves[i] for i in rng.permutation(len(curves))]
    seen: Counter[str] = Counter()
    rank: list[int] = []
    for curve in shuffled:
        rank.append(seen[curve.family])
        seen[curve.family] += 1
    first = sorted(range(len(shuffled)), key=lambda i: rank[i])[: n or None]
    return sorted((shuffled[i] for i in first), key=lambda curve: curve.name)


# Records of a case


def spec_of(case: Case, shown: Sequence[int], *, smaller_targets: int) -> ExperimentSpec:
    """The config that asks the case's question."""
    return ExperimentSpec(
        name="replay",
        task="replay:task",
        data=DataSpec(source="task"),
        models=(ModelSpec(name=MODEL),),
        sweep=SweepSpec(fractions=tuple(n / case.target_n for n in shown), seeds=len(case.points[shown[0]])),
        training=TrainingSpec(epochs=EPOCHS, global_batch_size=1),
        decision=DecisionSpec(min_gain_per_dollar=1 / case.usd_per_unit, metric=case.metric),  # type: ignore[arg-type]  # a key of POINT
        full_run=FullRunSpec(smaller_targets=smaller_targets),
        pricing=_pricing(case.instance, case.region, case.purchase),
    )


def data_of(case: Case) -> DataSummary:
    """Rows only: what storing the data costs does not hang on the decision."""
    return DataSummary(
        fingerprint=case.name, source="task", n_rows=2 * case.target_n, n_train=case.target_n,
        n_validation=case.target_n,
    )  # fmt: skip


def trials_of(case: Case, spec: ExperimentSpec, sizes: Sequence[int]) -> list[TrialResult]:
    """What the sweep recorded at these sizes."""
    return [_trial(case, spec, n, seed, value) for n in sizes for seed, value in enumerate(case.points[n])]


def _trial(case: Case, spec: ExperimentSpec, n: int, seed: int, value: float) -> TrialResult:
    rng = np.random.default_rng([case.rng_seed, n, seed])
    time_s = TimeSplit(
        startup_s=STARTUP_S, checkpoint_s=CHECKPOINT_S * EPOCHS,
        compute_s=case.seconds_per_row * n * EPOCHS * float(np.exp(TIME_NOISE * rng.standard_normal())),
    )  # fmt: skip
    trial = TrialSpec(model=MODEL, fraction=n / case.target_n, workers=1, seed=seed)
    accuracy = 1 - value if case.metric == "accuracy" else None
    seen = n * EPOCHS
    epoch = EpochPoint(
        epoch=EPOCHS, samples_seen=seen, wall_time_s=time_s.total_s, train_loss=value, train_accuracy=None,
        validation_loss=value, validation_accuracy=accuracy,
    )  # fmt: skip
    training = TrainingResult(
        accuracy=accuracy, loss=value, train_accuracy=None, train_loss=value, n_train=n, n_validation=case.target_n,
        epochs_run=EPOCHS, samples_seen=seen, wall_time_s=time_s.total_s, time=time_s, epochs=(epoch,),
        device="replayed", checkpoint_bytes=CHECKPOINT_BYTES,
    )  # fmt: skip
    return TrialResult(
        key=trial_key(spec, case.name, trial), scope=evidence_scope(spec, case.name, MODEL), fingerprint=case.name,
        trial=trial, status="finished", training=training, wall_time_s=time_s.total_s,
        started_at="2026-02-01T00:00:00+00:00",
        cost_usd=time_s.total_s * rates_of(spec.pricing).sweep_usd_per_worker_s,
    )  # fmt: skip


def real_run(case: Case, n: float) -> tuple[float, bool]:
    """Dollars of training on so many rows, interruptions included, and whether they let it end."""
    spec = spec_of(case, case.shown, smaller_targets=0)
    rng = np.random.default_rng([case.rng_seed, 0])
    training_s = case.seconds_per_row * n * EPOCHS * float(np.exp(TIME_NOISE * rng.standard_normal()))
    checkpoints_s = CHECKPOINT_S * EPOCHS
    priced = price_full_run(
        RunTime(
            training_s=np.array([training_s + checkpoints_s]), startup_s=np.array([STARTUP_S]),
            checkpoint_interval_s=np.array([training_s / EPOCHS]), checkpoint_s=np.array([CHECKPOINT_S]),
        ),
        RunSize(checkpoint_bytes=CHECKPOINT_BYTES, checkpoint_keep=spec.full_run.checkpoint.keep, dataset_bytes=0),
        workers=1, purchase=case.purchase, rates=rates_of(spec.pricing), pricing=spec.pricing, rng=rng,  # type: ignore[arg-type]  # one of PURCHASES
    )  # fmt: skip
    return float(priced.cost_usd[0]), bool(priced.finishes[0])


# Policies


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """What a policy did."""

    run_n: float | None
    """Rows of the run it started; None for none."""
    kept_n: int | None = None
    """Rows of the best model it has without that run; None for the best of the sweep."""
    bought: tuple[int, ...] = ()
    bought_usd: float = 0.0


def net_value(case: Case, play: Play) -> float:
    """Dollars against keeping the best trial's model and starting nothing."""
    kept = best_size(case, case.shown)
    model_n, cost = float(play.kept_n or kept), 0.0
    if play.run_n is not None:
        cost, is_done = real_run(case, play.run_n)
        model_n = play.run_n if is_done else model_n
    gain = case.true_value(kept) - case.true_value(model_n)
    return case.usd_per_unit * gain - cost - play.bought_usd


def best_size(case: Case, sizes: Sequence[int]) -> int:
    """Of the model one has: the lowest measured mean."""
    return min(sizes, key=case.mean_at)


def plays_of(case: Case) -> tuple[dict[str, Play], Verdict]:
    """What every policy does, and the verdict ours rest on."""
    verdict = verdict_on(case, case.shown)
    expected = _mean_net(verdict, case) > 0
    whole = Play(run_n=case.target_n)
    nothing = Play(run_n=None)

    def run_if(condition: bool) -> Play:
        return whole if condition else nothing

    is_promoted, is_held = verdict.kind == "PROMOTE", verdict.kind == "HOLD"
    plays = {
        HELD_NOT_RUN: run_if(is_promoted),
        HELD_BY_MEAN: run_if(is_promoted or (is_held and expected)),
        HELD_BUYS: measured_on(case, verdict),
        HELD_BUYS_CHEAP: measured_on(case, verdict, cheaper_than_run=True),
        SMALLER: _smaller_target(case),
        NO_VETOES: run_if(verdict.probability >= verdict.confidence),
        MEAN_ONLY: run_if(expected),
        ALWAYS: whole,
        NEVER: nothing,
        POWER_LAW: run_if(_pays(case, power_law_forecast(case))),
        LAST_TWO: run_if(_pays(case, last_two_forecast(case))),
    }
    return plays, verdict


def verdict_on(case: Case, shown: Sequence[int], *, smaller_targets: int = 0) -> Verdict:
    """The tool's."""
    spec = spec_of(case, shown, smaller_targets=smaller_targets)
    return decide(
        spec, data_of(case), trials_of(case, spec, shown), rates_of(spec.pricing),
        checkpoint_bytes={MODEL: CHECKPOINT_BYTES}, n_draws=N_DRAWS,
    )  # fmt: skip


def _mean_net(verdict: Verdict, case: Case) -> float:
    return case.usd_per_unit * verdict.best.gain.mean - verdict.best.cost_usd.mean


def _smaller_target(case: Case) -> Play:
    verdict = verdict_on(case, case.shown, smaller_targets=3)
    return Play(run_n=verdict.best.candidate.n_samples if verdict.kind == "PROMOTE" else None)


def measured_on(case: Case, verdict: Verdict, *, cheaper_than_run: bool = False) -> Play:
    """A HOLD's advice followed, at most `MOST_BOUGHT` times."""
    shown, paid = case.shown, 0.0
    while verdict.kind == "HOLD" and len(shown) < len(case.shown) + MOST_BOUGHT:
        advised = next_size(case, shown, verdict)
        if advised is None:
            break
        size, seeds = advised
        seen = replace(case, points={**case.points, size: case.points[size][:seeds]})
        trials = trials_of(seen, spec_of(seen, (*shown, size), smaller_targets=0), [size])
        price = sum(trial.cost_usd for trial in trials)
        if cheaper_than_run and price >= verdict.best.cost_usd.mean:
            break
        case, shown, paid = seen, (*shown, size), paid + price
        verdict = verdict_on(case, shown)
    return Play(
        run_n=case.target_n if verdict.kind == "PROMOTE" else None,
        kept_n=best_size(case, shown), bought=tuple(shown[len(case.shown) :]), bought_usd=paid,
    )  # fmt: skip


def next_size(case: Case, shown: Sequence[int], verdict: Verdict) -> tuple[int, int] | None:
    """The curve's own size nearest to the largest that is advised, and how many seeds; None when no new size is."""
    trials = () if verdict.next_measurement is None else verdict.next_measurement.trials
    largest = max((trial.fraction for trial in trials), default=0.0)
    asked = largest * case.target_n
    left = [n for n in case.beyond if n >= RATIO * shown[-1]]
    if asked < RATIO * shown[-1] or not left:
        return None
    return min(left, key=lambda n: abs(math.log(n / asked))), sum(trial.fraction == largest for trial in trials)


def _pays(case: Case, forecast: float) -> bool:
    gain = case.mean_at(best_size(case, case.shown)) - forecast
    return case.usd_per_unit * gain > expected_cost_usd(case)


def expected_cost_usd(case: Case) -> float:
    """From the median speed of the trials, at the price per hour, without interruptions."""
    spec = spec_of(case, case.shown, smaller_targets=0)
    trials = [trial.training for trial in trials_of(case, spec, case.shown) if trial.training is not None]
    per_row_s = float(np.median([trial.time.compute_s / trial.n_train for trial in trials]))
    return (per_row_s * case.target_n + STARTUP_S) * rates_of(spec.pricing).sweep_usd_per_worker_s


def power_law_forecast(case: Case) -> float:
    """``a + b n^-c`` through the means; the last value where the fit fails."""
    n = np.array(case.shown, dtype=np.float64)
    mean = np.array([case.mean_at(each) for each in case.shown])
    x, last = n / n[-1], float(mean[-1])

    def law(x: FloatArray, a: float, b: float, c: float) -> FloatArray:
        return np.asarray(a + b * x**-c)

    start = (0.5 * last, max(0.5 * last, 1e-6), 0.5)
    try:
        found, _ = curve_fit(law, x, mean, p0=start, bounds=([0, 0, 0], [max(mean.max(), 1e-6), np.inf, 5]))
    except (RuntimeError, ValueError, OptimizeWarning):  # no convergence: what stands is what was measured last
        return last
    return float(law(np.array([case.target_n / n[-1]]), *found)[0])


def last_two_forecast(case: Case) -> float:
    """The line through the last two means in log n, no lower than 0."""
    (n0, n1), target = case.shown[-2:], case.target_n
    first, last = case.mean_at(n0), case.mean_at(n1)
    return max(0.0, last + (last - first) * math.log(target / n1) / math.log(n1 / n0))


# Outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A case, played by all."""

    family: str
    group: str
    factor: float
    call: str
    """One of `CLASSES`."""
    kind: str
    probability: float
    vetoes: tuple[str, ...]
    run_net: float
    """What the run is really worth, net."""
    net: Mapping[str, float]
    """By policy."""
    runs: Mapping[str, bool]
    bought: Mapping[str, int]
    advice_over_run: float | None
    """Price of the advised measurement over the run's, where a HOLD advised one."""
    point_usd: float


def outcome_of(case: Case) -> Outcome:
    """All policies on one case."""
    plays, verdict = plays_of(case)
    gain = case.true_value(best_size(case, case.shown)) - case.true_value(case.target_n)
    pays_from = real_run(case, case.target_n)[0] / case.usd_per_unit
    call = "close" if pays_from / CLOSE < gain < pays_from * CLOSE else "clear yes" if gain > pays_from else "clear no"
    advised = verdict.next_measurement
    price = None if advised is None else advised.cost_usd
    return Outcome(
        family=case.family, group=case.group, factor=case.factor, call=call, kind=verdict.kind,
        probability=verdict.probability, vetoes=tuple(veto.name for veto in verdict.vetoes),
        run_net=net_value(case, Play(run_n=case.target_n)),
        net={name: net_value(case, play) for name, play in plays.items()},
        runs={name: play.run_n is not None for name, play in plays.items()},
        bought={name: len(play.bought) for name, play in plays.items()},
        advice_over_run=None if price is None else price / verdict.best.cost_usd.mean,
        point_usd=case.usd_per_unit * POINT[case.metric],
    )  # fmt: skip


_nets: dict[str, QuantileNet] = {}
"""Of one worker process: the networks that never saw a family."""


def _start(folds: Folds) -> None:
    _nets.update({family: net for families, net in folds for family in families})


def _play(case: Case) -> Outcome:
    with networks(_nets.get(case.family)):
        return outcome_of(case)


@contextmanager
def networks(net: QuantileNet | None) -> Iterator[None]:
    """Forecasts by these in place of the shipped ones, which were trained on the very curves of this benchmark."""
    shipped: Callable[[], QuantileNet] = learned.shipped
    if net is not None:
        learned.shipped = lambda: net
    try:
        yield
    finally:
        learned.shipped = shipped


# Scores


def regrets(outcomes: Sequence[Outcome], policy: str) -> FloatArray:
    """Dollars each case fell short of the oracle, which knows the run's net value; (n_cases,)."""
    return np.array([max(0.0, each.run_net) - each.net[policy] for each in outcomes])


def score(outcomes: Sequence[Outcome], policy: str) -> dict[str, Any]:
    """Of one policy on one group of cases."""
    lost = regrets(outcomes, policy)
    pays = np.array([each.run_net > 0 for each in outcomes])
    runs = np.array([each.runs[policy] for each in outcomes])
    possible = float(sum(max(0.0, each.run_net) for each in outcomes))
    points = lost / np.array([each.point_usd for each in outcomes])
    return {
        "runs": float(runs.mean()),
        "wrong": float((runs & ~pays).mean()),
        "missed": float((~runs & pays).mean()),
        "bought": float(np.mean([each.bought[policy] for each in outcomes])),
        "regret_mean_usd": float(lost.mean()),
        "regret_median_usd": float(np.median(lost)),
        "regret_p90_usd": float(np.quantile(lost, 0.9)),
        "regret_sum_usd": float(lost.sum()),
        "regret_of_oracle": float(lost.sum()) / possible if possible > 0 else None,
        "regret_mean_points": float(points.mean()),
    }


def difference(outcomes: Sequence[Outcome], ours: str, other: str) -> dict[str, Any]:
    """Ours minus the other's regret on the same cases; below 0 ours is better."""
    x = regrets(outcomes, ours) - regrets(outcomes, other)
    se = clustered_se(x, np.array([each.family for each in outcomes]))
    return {"mean_usd": float(x.mean()), "se_usd": se, "ratio": float(x.mean()) / se if se else None}


def calibration(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The probabilities against how often runs paid."""
    told = np.array([each.probability for each in outcomes])
    pays = np.array([each.run_net > 0 for each in outcomes], dtype=np.float64)
    family = np.array([each.family for each in outcomes])
    bins = np.clip(np.searchsorted(BINS, told, side="right") - 1, 0, len(BINS) - 2)
    rows = [
        {"from": BINS[i], "to": BINS[i + 1], "n": int(mask.sum()), "told": float(told[mask].mean()),
         "paid": float(pays[mask].mean()), "se": clustered_se(pays[mask], family[mask])}
        for i in range(len(BINS) - 1)
        if (mask := bins == i).any()
    ]  # fmt: skip
    return {
        "brier": float(((told - pays) ** 2).mean()),
        "brier_of_base_rate": float(pays.mean() * (1 - pays.mean())),
        "rows": rows,
    }


def benchmark(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that is measured, as it is stored."""
    begun = time.process_time()
    curves = load_curves(options.data)
    folds = trained_folds(options.data, options.networks)
    cases = cases_of(chosen_curves(curves, options.curves, options.seed), truths_of(curves), options.seed)
    outcomes = played(cases, folds, options.jobs)
    groups = {
        name: [each for each in outcomes if each.group == name]
        for name in (ERRORS, LOSSES)
        if any(each.group == name for each in outcomes)
    }
    return {
        "what": "decisions replayed on learning curves; protocol and figures: scripts/bench_decisions.py",
        "data": "LCDB 1.1: Yan, Mohr and Viering, NeurIPS 2025, CC BY 4.0; losses: openlm and formll, MIT",
        "run": {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "curves": options.curves,
            "seed": options.seed,
            "cpu_s": time.process_time() - begun if options.jobs == 1 else None,
        },
        "groups": {name: group_record(found) for name, found in groups.items()},
    }


def truths_of(curves: Sequence[Curve]) -> dict[str, Curve]:
    """Means of 25 splits, by the curve's name."""
    return {curve.name: curve for curve in curves if curve.source == "lcdb11"}


def chosen_curves(curves: Sequence[Curve], n: int, seed: int) -> list[Curve]:
    """So many with 3 seeds, and as many losses; few-shot errors of one seed are too few for a group."""
    seeds = [curve for curve in curves if curve.source == "lcdb11_3seed"]
    losses = [curve for curve in curves if not curve.is_error]
    return [*sampled(seeds, n, seed), *sampled(losses, n, seed)]


def played(cases: Sequence[Case], folds: Folds, jobs: int) -> list[Outcome]:
    """In the cases' order, with a line of progress."""
    found = []
    if jobs == 1:
        _start(folds)
        for number, case in enumerate(cases, 1):
            found.append(_play(case))
            _tell(number, len(cases))
        return found
    with mp.get_context("spawn").Pool(jobs, _start, (folds,)) as pool:
        for number, outcome in enumerate(pool.imap(_play, cases, chunksize=4), 1):
            found.append(outcome)
            _tell(number, len(cases))
    return found


def _tell(number: int, of: int) -> None:
    if number % 50 == 0 or number == of:
        print(f"{number} of {of} cases", file=sys.stderr, flush=True)


def group_record(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """All figures of one group of cases."""
    parts = {f"{factor:g}x": [each for each in outcomes if each.factor == factor] for factor in FACTORS}
    parts |= {call: [each for each in outcomes if each.call == call] for call in CLASSES}
    ratios = [each.advice_over_run for each in outcomes if each.advice_over_run is not None]
    return {
        "cases": len(outcomes),
        "families": len({each.family for each in outcomes}),
        "pays": float(np.mean([each.run_net > 0 for each in outcomes])),
        "oracle_usd": float(sum(max(0.0, each.run_net) for each in outcomes)),
        "verdicts": dict(Counter(each.kind for each in outcomes).most_common()),
        "vetoes": dict(Counter(name for each in outcomes for name in each.vetoes).most_common()),
        "vetoed_promotions": vetoed_promotions(outcomes),
        "advice_over_run_median": float(np.median(ratios)) if ratios else None,
        "policies": {name: score(outcomes, name) for name in POLICIES},
        "parts": {
            name: {"cases": len(found), "oracle_usd": float(sum(max(0.0, each.run_net) for each in found)),
                   "regret_mean_usd": {p: float(regrets(found, p).mean()) for p in POLICIES}}
            for name, found in parts.items() if found
        },
        "differences": [
            {"ours": ours, "other": other, **difference(outcomes, ours, other)}
            for ours in REFERENCES for other in POLICIES if other != ours
        ],
        "calibration": calibration(outcomes),
    }  # fmt: skip


def vetoed_promotions(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What the vetoes alone held back: how often it would have paid, and what it would have been worth."""
    held = [each for each in outcomes if each.vetoes and each.runs[NO_VETOES] and each.kind != "PROMOTE"]
    return {
        "n": len(held),
        "would_have_paid": sum(each.run_net > 0 for each in held),
        "net_usd": float(sum(each.run_net for each in held)),
        "names": dict(Counter(name for each in held for name in each.vetoes).most_common()),
    }


# The record as tables


WIDTH = 60


def told(record: Mapping[str, Any]) -> str:
    """Tables of every group."""
    return "\n\n".join(_group_text(name, group) for name, group in record["groups"].items())


def _group_text(name: str, group: Mapping[str, Any]) -> str:
    verdicts = ", ".join(f"{n} {kind}" for kind, n in group["verdicts"].items())
    vetoes = ", ".join(f"{n} {veto}" for veto, n in group["vetoes"].items()) or "none"
    held = group["vetoed_promotions"]
    ratio = group["advice_over_run_median"]
    lines = [
        f"{name}: {group['cases']} cases of {group['families']} families of data sets; the run pays in "
        f"{group['pays']:.0%}; the oracle earns ${group['oracle_usd']:,.0f}",
        f"verdicts: {verdicts}; vetoes: {vetoes}",
        f"vetoes alone held {held['n']} runs back, of which {held['would_have_paid']} would have paid "
        f"(${held['net_usd']:,.0f} together)",
        *([f"the advised measurement costs {ratio:.2g} times the run in the median"] if ratio is not None else []),
        "",
        f"{'':{WIDTH}}  run wrong missed  regret, $: mean  median     p90      sum  of oracle  points",
        *(_policy_line(policy, found) for policy, found in group["policies"].items()),
        "",
        *_parts_table(group["parts"]),
        "",
        "ours minus another's regret, $ a case: mean +- standard error clustered by family, ratio (below 0: ours is "
        "better)",
        *(_difference_line(each) for each in group["differences"]),
        "",
        *_calibration_table(group["calibration"]),
    ]
    return "\n".join(lines)


def _policy_line(policy: str, found: Mapping[str, Any]) -> str:
    share = found["regret_of_oracle"]
    return (
        f"{policy:{WIDTH}}{found['runs']:5.0%}{found['wrong']:6.1%}{found['missed']:7.1%}"
        f"{found['regret_mean_usd']:16,.1f}{found['regret_median_usd']:8,.1f}{found['regret_p90_usd']:8,.0f}"
        f"{found['regret_sum_usd']:9,.0f}{'-' if share is None else format(share, '.1%'):>11}"
        f"{found['regret_mean_points']:8.2f}"
    )


def _parts_table(parts: Mapping[str, Any]) -> list[str]:
    head = "".join(f"{name:>11}" for name in parts)
    counts = "".join(f"{each['cases']:11}" for each in parts.values())
    rows = [
        f"{policy:{WIDTH}}" + "".join(f"{each['regret_mean_usd'][policy]:11,.1f}" for each in parts.values())
        for policy in POLICIES
    ]
    return [f"{'mean regret, $, by extrapolation and by call':{WIDTH}}{head}", f"{'cases':{WIDTH}}{counts}", *rows]


def _difference_line(each: Mapping[str, Any]) -> str:
    names = f"{each['ours']} - {each['other']}"
    if each["ratio"] is None:
        return f"  {names:<100}{each['mean_usd']:+9,.1f}"
    word = "within" if abs(each["ratio"]) <= 2 else "better" if each["ratio"] < 0 else "worse"
    return f"  {names:<100}{each['mean_usd']:+9,.1f} +- {each['se_usd']:6,.1f} {each['ratio']:+6.1f} {word}"


def _calibration_table(found: Mapping[str, Any]) -> list[str]:
    rows = [
        f"  {row['from']:.1f} to {row['to']:.1f}{row['n']:7}{row['told']:9.2f}{row['paid']:9.2f}"
        + ("" if row["se"] is None else f" +- {row['se']:.2f}")
        for row in found["rows"]
    ]
    return [
        f"is P honest? Brier score {found['brier']:.3f}; of the base rate alone {found['brier_of_base_rate']:.3f}",
        "  P             cases     told     paid",
        *rows,
    ]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of Parquet files with measured curves")
    parser.add_argument("--curves", type=int, default=250, help="curves of each group; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample, and of the money")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--networks", type=Path, metavar="FILE", help="keep the folds' networks there")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every figure there")
    return parser.parse_args(arguments)


def main() -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    options = parse()
    record = rounded(benchmark(options))
    if options.json is not None:
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(told(record))


if __name__ == "__main__":
    main()
