#!/usr/bin/env python
"""What an adaptive sweep saves, and whether it ends in the verdict of the whole grid, replayed on measured curves.

    python scripts/bench_planner.py DATA [--cases 60] [--decide 12] [--full-run-price 10] [--part report|tune] [-o OUT]

DATA is a folder with learning_curves/lcdb11_3seed.parquet: LCDB 1.1 (Yan, Mohr and Viering, NeurIPS 2025, CC BY 4.0),
3 seeds a size drawn with the measured deviation, and the measured mean at the largest size.

A case is two models on one data set, swept at 5 sizes that are 1/32 to 1/2 of the largest, 3 seeds each; the full run
is at the largest. A trial costs its share of the data in dollars, the full run ``--full-run-price`` times that. Half of
the cases have a number for a baseline (what the better model reached at the middle size), half the best trial.
Thresholds are drawn log-uniformly until the grid's verdict is, in turn, PROMOTE, HOLD and REJECT.

    agreement    share of cases that end in the grid's verdict
    dollars      spent, as a share of the grid's

All are given the same forecasts and the same rule for stopping, except where named otherwise, so that rows differ by
which trial comes next. Data sets are split in halves by a digest of their names: what was chosen by hand was chosen on
``--part tune``, and the other half is what a plain run reports. The networks behind the forecasts learned from curves
of both halves; grid and planner use the same ones, so this bears on how good the verdicts are and not on how well two
of them agree.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import re
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from orchestrator.cost.rates import rate_card
from orchestrator.decision import decide
from orchestrator.errors import EvidenceError
from orchestrator.intervals import certain
from orchestrator.planner import next_trial, plan_grid
from orchestrator.planner.adaptive import PROVEN_SEEDS, PROVEN_SIZES, START, unproven_size
from orchestrator.planner.deliberation import N_GRIDS, SURE, deliberate
from orchestrator.planner.design import Option
from orchestrator.planner.outlook import Contender, Kind, Stake, finish, judge
from orchestrator.results import DataSummary, TimeSplit, TrainingResult, TrialResult, Verdict
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

HALVINGS = (5, 4, 3, 2, 1)
"""Swept sizes are the largest over 2 to these powers."""
TOLERANCE = float(np.log(1.12))
LEAST_ROWS = 16
SEEDS = 3
CONFIDENCE = 0.9
CHARGES = (5e-4, 0.3)
"""Threshold times dollars of the full run: from a twentieth of a percentage point to 30."""
KINDS: tuple[Kind, ...] = ("PROMOTE", "HOLD", "REJECT")
DRAWS = 60
HALVED_AFTER = 3
"""Sizes, the least that a curve is fitted to."""
WHOLE = "ours, next_trial and decide"
Points = Mapping[tuple[str, float, int], float]
"""Value by model, size and seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Two models on one data set, with what the grid concludes."""

    dataset: str
    points: Points
    target_n: float
    stake: Stake
    charge: float
    verdict: Kind
    truth: Mapping[str, float]

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(sorted({model for model, _, _ in self.points}))

    @property
    def sizes(self) -> tuple[float, ...]:
        return tuple(sorted({n for _, n, _ in self.points}))

    def option(self, key: tuple[str, float, int]) -> Option:
        model, n, seed = key
        share = n / self.target_n
        trial = TrialSpec(model=model, fraction=share, workers=1, seed=seed)
        return Option(trial=trial, n_samples=n, usd=share)

    def contenders(self, seen: Sequence[tuple[str, float, int]]) -> list[Contender]:
        """Models with two sizes or more."""
        found = []
        for model in self.models:
            own = sorted(key for key in seen if key[0] == model)
            if len({n for _, n, _ in own}) >= 3:
                found.append(contender(self, model, own))
        return found


def contender(case: Case, model: str, keys: Sequence[tuple[str, float, int]]) -> Contender:
    return Contender(
        model=model, n=np.array([n for _, n, _ in keys]), value=np.array([case.points[key] for key in keys]),
        bounds=(0.0, 1.0), validation_size=None, target_n=case.target_n, charge=certain(case.charge),
    )  # fmt: skip


# Cases


def load_cases(folder: Path, part: str, limit: int) -> list[Case]:
    """As many as asked, always the same ones."""
    table = pq.read_table(folder / "learning_curves" / "lcdb11_3seed.parquet")
    text = {name: np.array(table[name].to_pylist(), dtype=str) for name in ("dataset", "model")}
    n, seed, value = (table[name].to_numpy() for name in ("n", "seed", "value"))
    by_set: dict[str, dict[str, list[tuple[float, int, float]]]] = {}
    for row in np.argsort(text["dataset"], kind="stable"):
        of = by_set.setdefault(str(text["dataset"][row]), {}).setdefault(_plain(str(text["model"][row])), [])
        of.append((float(n[row]), int(seed[row]), float(value[row])))
    chosen = [name for name in sorted(by_set) if (zlib.crc32(name.encode()) % 2 == 0) == (part == "tune")]
    rng = np.random.default_rng(0)
    cases: list[Case] = []
    for _ in range(20):
        for name in rng.permutation(chosen):
            if len(cases) == limit:
                return cases
            drawn = _case(str(name), by_set[str(name)], rng, KINDS[len(cases) % 3], is_number=len(cases) // 3 % 2 == 0)
            if drawn is not None:
                cases.append(drawn)
    return cases


def _plain(name: str) -> str:
    """As a config may name a model."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)


def _case(
    dataset: str,
    curves: Mapping[str, list[tuple[float, int, float]]],
    rng: np.random.Generator,
    wanted: Kind,
    *,
    is_number: bool,
) -> Case | None:
    names = sorted(curves)
    if len(names) < 2:
        return None
    pair = [names[i] for i in rng.permutation(len(names))[:2]]
    targets = {max(n for n, _, _ in curves[name]) for name in pair}
    if len(targets) > 1:
        return None
    target = targets.pop()
    sizes = _grid(sorted(set.intersection(*({n for n, s, _ in curves[name] if s >= 0} for name in pair))), target)
    if sizes is None:
        return None
    points = {
        (name, n, seed): value for name in pair for n, seed, value in curves[name] if n in sizes and 0 <= seed < SEEDS
    }
    truth = {name: next(value for n, _, value in curves[name] if n == target) for name in pair}
    middle = min(np.mean([points[name, sizes[2], seed] for seed in range(SEEDS)]) for name in pair)
    stake = Stake(baseline=float(middle) if is_number else None, confidence=CONFIDENCE)
    blank = Case(dataset=dataset, points=points, target_n=target, stake=stake, charge=1.0, verdict="HOLD", truth=truth)
    for charge in np.exp(rng.uniform(*np.log(CHARGES), size=DRAWS)):
        case = replace(blank, charge=float(charge), verdict=wanted)
        if judge(case.contenders(list(points)), stake).kind == wanted:
            return case
    return None


def _grid(sizes: Sequence[float], target: float) -> list[float] | None:
    if not sizes:
        return None
    found = []
    for halvings in HALVINGS:
        near = min(sizes, key=lambda n: abs(np.log(n * 2**halvings / target)))
        if abs(np.log(near * 2**halvings / target)) > TOLERANCE or near < LEAST_ROWS:
            return None
        found.append(near)
    return found


# Strategies: an order of trials and a rule for stopping


Key = tuple[str, float, int]
Next = Callable[[Case, list[Key], list[Key]], "Key | None"]
"""The next trial after those seen, of those left; None to stop."""


def standing(case: Case, seen: Sequence[Key]) -> Kind | None:
    """The verdict so far, as the tool gives it: nothing is promoted on less than the checklist asks."""
    contenders = case.contenders(seen)
    if not contenders:
        return None
    judged = judge(contenders, case.stake)
    if judged.kind != "PROMOTE":
        return judged.kind
    best = contenders[int(np.argmax(judged.probabilities))].model
    proven = sum(count >= PROVEN_SEEDS for count in _seeds(seen, best).values())
    return "PROMOTE" if proven >= PROVEN_SIZES else "HOLD"


def start(case: Case) -> list[Key]:
    keys = [
        (model, case.sizes[rank], seed)
        for rank, count in enumerate(START)
        for seed in range(count)
        for model in case.models
    ]
    return sorted(keys, key=lambda key: (key[1], key[2]))


def ours(full_run_price: float, **options: Any) -> Next:
    """The planner."""

    def following(case: Case, seen: list[Key], left: list[Key]) -> Key | None:
        first = [key for key in start(case) if key in left]
        if first:
            return first[0]
        contenders = case.contenders(seen)
        best = contenders[int(np.argmax(judge(contenders, case.stake).probabilities))].model
        options_of = {case.option(key): key for key in left}
        wanted = unproven_size(_seeds(seen, best), [n for model, n, _ in left if model == best])
        thought = deliberate(
            contenders, list(options_of), case.stake, now=standing(case, seen) or "HOLD",
            threshold=case.charge / full_run_price,
            needed=[option for option, key in options_of.items() if key[:2] == (best, wanted)], **options,
        )  # fmt: skip
        return None if thought.option is None else options_of[thought.option]

    return following


def _seeds(seen: Sequence[Key], model: str) -> Counter[float]:
    """Seeds measured of each size."""
    return Counter(n for each, n, _ in seen if each == model)


def ordered(
    order: Callable[[Case, list[Key], list[Key]], Key | None], stop: Callable[[Case, list[Key], list[Key]], bool]
) -> Next:
    """A fixed order that stops by a rule."""

    def following(case: Case, seen: list[Key], left: list[Key]) -> Key | None:
        return None if stop(case, seen, left) else order(case, seen, left)

    return following


def stops_when_sure(case: Case, seen: list[Key], left: list[Key]) -> bool:
    """The planner's own rule."""
    now = standing(case, seen)
    contenders = case.contenders(seen)
    if now is None or len(contenders) < 2:
        return False
    sizes = {model: [n for m, n, _ in left if m == model] for model in case.models}
    return finish(contenders, sizes, case.stake, N_GRIDS).chance_to_stand(now) >= SURE


def stops_at_first(case: Case, seen: list[Key], left: list[Key]) -> bool:
    """As soon as the verdict so far is PROMOTE or REJECT."""
    return len(case.contenders(seen)) == 2 and standing(case, seen) in ("PROMOTE", "REJECT")


def cheapest(case: Case, seen: list[Key], left: list[Key]) -> Key | None:
    return min(left, key=lambda key: (key[1], key[2], key[0]))


def random(case: Case, seen: list[Key], left: list[Key]) -> Key | None:
    rng = np.random.default_rng([zlib.crc32(case.dataset.encode()), len(seen)])
    return left[int(rng.integers(len(left)))]


def halving(case: Case, seen: list[Key], left: list[Key]) -> Key | None:
    """Successive halving over models: all of them at three sizes, with all seeds; then the better half goes on."""
    rung = case.sizes[HALVED_AFTER - 1]
    entrants = [key for key in left if key[1] <= rung]
    if entrants:
        return cheapest(case, seen, entrants)
    mean = {m: float(np.mean([case.points[m, rung, seed] for seed in range(SEEDS)])) for m in case.models}
    survivor = min(case.models, key=lambda model: mean[model])
    rest = [key for key in left if key[0] == survivor]
    return cheapest(case, seen, rest) if rest else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """How one strategy did on one case."""

    agrees: bool
    verdict: Kind
    share: float
    n_trials: int


def replay(case: Case, following: Next) -> Replay:
    """Run one strategy to its end."""
    left, seen = sorted(case.points), []
    whole = sum(n for _, n, _ in case.points)
    while left:
        key = following(case, seen, left)
        if key is None:
            break
        left.remove(key)
        seen.append(key)
    verdict = standing(case, seen) or "HOLD"
    return Replay(
        agrees=verdict == case.verdict, verdict=verdict, share=sum(n for _, n, _ in seen) / whole, n_trials=len(seen)
    )


def strategies(full_run_price: float, **options: Any) -> Iterator[tuple[str, Next]]:
    yield "ours", ours(full_run_price, **options)
    yield "cheapest first", ordered(cheapest, stops_when_sure)
    yield "random", ordered(random, stops_when_sure)
    yield "successive halving", ordered(halving, stops_when_sure)
    yield "cheapest first, stops at once", ordered(cheapest, stops_at_first)
    yield "grid", ordered(cheapest, lambda *_: False)


# The whole tool: `next_trial` and `decide` on records as a journal holds them


def spec_of(case: Case, full_run_price: float) -> ExperimentSpec:
    """One hour of training on as many rows as the full run's, at its price."""
    return ExperimentSpec(
        name="replay", task="replay:task", data=DataSpec(source="task"),
        models=tuple(ModelSpec(name=model) for model in case.models),
        sweep=SweepSpec(fractions=tuple(n / case.target_n for n in case.sizes), seeds=SEEDS, strategy="adaptive"),
        training=TrainingSpec(epochs=1, global_batch_size=8),
        decision=DecisionSpec(
            min_gain_per_dollar=case.charge / full_run_price, confidence=CONFIDENCE,
            baseline="best_trial" if case.stake.baseline is None else 1 - case.stake.baseline,
        ),
        full_run=FullRunSpec(smaller_targets=0),
        pricing=PricingSpec(usd_per_worker_hour=full_run_price),
    )  # fmt: skip


def data_of(case: Case) -> DataSummary:
    n_train = int(case.target_n)
    return DataSummary(fingerprint="replay", source="replay", n_rows=2 * n_train, n_train=n_train, n_validation=10**9)


def result_of(case: Case, spec: ExperimentSpec, trial: TrialSpec) -> TrialResult:
    """The measured error rate, with an hour for as many rows as the full run's."""
    n = min(case.sizes, key=lambda size: abs(size - trial.fraction * case.target_n))
    error = case.points[trial.model, n, trial.seed]
    wall_s = 3600 * n / case.target_n
    training = TrainingResult(
        accuracy=1 - error, loss=error, train_accuracy=None, train_loss=0.0, n_train=int(n), n_validation=10**9,
        epochs_run=1, samples_seen=int(n), wall_time_s=wall_s, time=TimeSplit(compute_s=wall_s), epochs=(),
        device="cpu", checkpoint_bytes=1,
    )  # fmt: skip
    return TrialResult(
        key=trial_key(spec, "replay", trial), scope=evidence_scope(spec, "replay", trial.model), fingerprint="replay",
        trial=trial, status="finished", training=training, wall_time_s=wall_s, started_at="2026-01-01T00:00:00+00:00",
        cost_usd=n / case.target_n,
    )  # fmt: skip


def replay_whole(case: Case, full_run_price: float) -> tuple[Replay, Kind, list[float]]:
    """As `replay`, with the grid's verdict by the whole tool and the planner's CPU seconds for each step."""
    spec, data = spec_of(case, full_run_price), data_of(case)
    rates = rate_card(spec.pricing, None, None, datetime.date(2026, 1, 1))

    def decided(results: Sequence[TrialResult]) -> Verdict | None:
        try:
            return decide(spec, data, results, rates, checkpoint_bytes={})
        except EvidenceError:
            return None  # too few sizes for a curve

    whole = [result_of(case, spec, trial) for trial in plan_grid(spec, data)]
    results: list[TrialResult] = []
    took: list[float] = []
    while True:
        verdict = decided(results)
        begun = time.process_time()
        step = next_trial(spec, data, results, verdict=verdict)
        took.append(time.process_time() - begun)
        if step.trial is None:
            break
        results.append(result_of(case, spec, step.trial))
    grid = decided(whole)
    assert grid is not None, "a whole grid has sizes enough"
    kind = "HOLD" if verdict is None else verdict.kind
    spent = sum(r.cost_usd for r in results) / sum(r.cost_usd for r in whole)
    return Replay(agrees=kind == grid.kind, verdict=kind, share=spent, n_trials=len(results)), grid.kind, took


# Figures


def figures(name: str, expected: Sequence[Kind], stakes: Sequence[Stake], done: Sequence[Replay]) -> dict[str, Any]:
    """Agreement and dollars over all cases, by verdict of the grid and by baseline."""
    share, agrees = np.array([each.share for each in done]), np.array([each.agrees for each in done])
    groups: dict[str, list[bool]] = {kind: [each == kind for each in expected] for kind in KINDS}
    groups["number"] = [stake.baseline is not None for stake in stakes]
    groups["best trial"] = [stake.baseline is None for stake in stakes]
    slips = Counter(f"{a} -> {r.verdict}" for a, r in zip(expected, done, strict=True) if not r.agrees)
    by_group = {
        group: {"agreement": float(agrees[mask].mean()), "mean_share": float(share[mask].mean())}
        for group, mask in groups.items()
        if any(mask)
    }
    return {
        "name": name, "n_cases": len(done), "agreement": float(agrees.mean()),
        "standard_error": float(agrees.std() / math.sqrt(len(done))), "median_share": float(np.median(share)),
        "mean_share": float(share.mean()), "within_a_quarter": float(np.mean(share <= 0.25)),
        "by_group": by_group, "slips": dict(slips),
    }  # fmt: skip


def show(found: Mapping[str, Any], seconds: float) -> None:
    groups = "  ".join(
        f"{group} {each['agreement']:.2f} at {each['mean_share']:.2f}" for group, each in found["by_group"].items()
    )
    print(
        f"{found['name']:<30}{found['agreement']:>8.3f} +-{found['standard_error']:.3f}{found['median_share']:>9.3f}"
        f"{found['mean_share']:>8.3f}{found['within_a_quarter']:>8.2f}   {groups}   {seconds:.0f} s",
        flush=True,
    )
    if found["slips"]:
        print("    " + ", ".join(f"{slip}: {count}" for slip, count in sorted(found["slips"].items())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with learning_curves/lcdb11_3seed.parquet")
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--decide", type=int, default=12, help="cases replayed by the whole tool; 0 leaves them out")
    parser.add_argument("--part", choices=("report", "tune"), default="report")
    parser.add_argument("--full-run-price", type=float, default=10.0, help="dollars; a trial on as many rows costs 1")
    parser.add_argument("--only", help="one strategy, by name")
    parser.add_argument("--planner", type=json.loads, default={}, metavar="JSON", help="options of `deliberate`")
    parser.add_argument("-o", "--output", type=Path, help="write the figures here too, as JSON")
    options = parser.parse_args()
    cases = load_cases(options.data, options.part, options.cases)
    stakes = [case.stake for case in cases]
    mixture = Counter(case.verdict for case in cases)
    print(f"{len(cases)} cases of {len({case.dataset for case in cases})} data sets, part {options.part}: "
          + ", ".join(f"{mixture[kind]} {kind}" for kind in KINDS))  # fmt: skip
    print(f"{'':<30}{'agrees':>8}{'':>7}{'dollars, median':>9}{'mean':>5}{'<= 1/4':>8}")
    record: list[dict[str, Any]] = []
    for name, following in strategies(options.full_run_price, **options.planner):
        if options.only in (None, name):
            begun = time.process_time()
            done = [replay(case, following) for case in cases]
            record.append(figures(name, [case.verdict for case in cases], stakes, done))
            show(record[-1], time.process_time() - begun)
    if options.decide and options.only in (None, WHOLE):
        begun = time.process_time()
        whole = [replay_whole(case, options.full_run_price) for case in cases[: options.decide]]
        record.append(
            figures(WHOLE, [kind for _, kind, _ in whole], stakes[: options.decide], [r for r, _, _ in whole])
        )
        show(record[-1], time.process_time() - begun)
        took = np.array([seconds for _, _, steps in whole for seconds in steps])
        print(f"    a step of the planner takes {np.median(took) * 1e3:.0f} ms of CPU, {took.max() * 1e3:.0f} at most")
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps({"mixture": mixture, "strategies": record}, indent=1) + "\n")


if __name__ == "__main__":
    main()
