"""An adaptive sweep: what it starts with, what it stops at, what it may spend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator.decision import decide
from orchestrator.errors import EvidenceError
from orchestrator.planner import Step, next_trial, plan_grid
from orchestrator.planner.adaptive import unproven_size
from orchestrator.results import TrialResult, Verdict
from orchestrator.spec import ExperimentSpec, TrialSpec


def verdict_on(synthetic: Any, spec: ExperimentSpec, results: Sequence[TrialResult]) -> Verdict | None:
    try:
        return decide(spec, synthetic.data, results, synthetic.rates(spec), checkpoint_bytes={}, n_draws=1000)
    except EvidenceError:
        return None


def step(synthetic: Any, spec: ExperimentSpec, results: Sequence[TrialResult], **options: Any) -> Step:
    return next_trial(spec, synthetic.data, results, verdict=verdict_on(synthetic, spec, results), **options)


def swept(synthetic: Any, spec: ExperimentSpec, **options: Any) -> tuple[list[TrialResult], Step]:
    """To the end, one trial at a time."""
    results: list[TrialResult] = []
    while (found := step(synthetic, spec, results, **options)).trial is not None:
        results.append(synthetic.result(spec, found.trial))
    return results, found


def start_of(spec: ExperimentSpec, model: str) -> list[TrialSpec]:
    cells = [(0.05, 1, 0), (0.05, 1, 1), (0.1, 1, 0), (0.1, 1, 1), (0.2, 1, 0), (0.1, 2, 0)]
    return [TrialSpec(model=model, fraction=f, workers=w, seed=s) for f, w, s in cells]


def test_the_start_holds_three_sizes_two_pairs_of_seeds_and_two_worker_counts_cheapest_first(synthetic: Any) -> None:
    spec = synthetic.spec()
    trials: list[TrialSpec] = []
    while len(trials) < 12:
        found = step(synthetic, spec, synthetic.results(spec, trials=trials) if trials else [])
        assert found.trial is not None
        trials.append(found.trial)

    assert set(trials) == {*start_of(spec, "linear"), *start_of(spec, "cnn")}
    prices = [trial.fraction * trial.workers for trial in trials]
    assert prices == sorted(prices)


def test_one_worker_is_enough_where_the_full_run_asks_for_one(synthetic: Any) -> None:
    spec = synthetic.spec(full_run={"workers": (1,)}, sweep={"workers": (1, 2)})
    results = synthetic.results(spec, trials=[t for m in ("linear", "cnn") for t in start_of(spec, m)[:5]])

    found = step(synthetic, spec, results)

    assert found.reason.startswith("the starting design") is False


def test_a_failed_trial_is_replaced_by_another_seed(synthetic: Any) -> None:
    from dataclasses import replace

    spec = synthetic.spec(full_run={"workers": (1,)})
    start = [t for m in ("linear", "cnn") for t in start_of(spec, m)[:5]]
    results = synthetic.results(spec, trials=start)
    broken = replace(results[-1], status="failed", training=None, error="out of memory")

    found = step(synthetic, spec, [*results[:-1], broken])

    assert found.trial == replace(start[-1], seed=1)


def test_a_certain_promotion_ends_a_sweep_early_and_on_enough_evidence(synthetic: Any) -> None:
    spec = synthetic.spec(decision={"min_gain_per_dollar": 0.05, "baseline": 0.7})

    results, end = swept(synthetic, spec)

    verdict = verdict_on(synthetic, spec, results)
    assert end.end == "verdict certain"
    assert verdict is not None
    assert (verdict.kind, verdict.vetoes) == ("PROMOTE", ())
    seeds: dict[float, set[int]] = {}
    for result in results:
        if result.trial.model == verdict.best.candidate.model:
            seeds.setdefault(result.trial.fraction, set()).add(result.trial.seed)
    assert sum(len(found) >= 2 for found in seeds.values()) >= 3
    assert len(seeds) >= 4
    assert sum(r.cost_usd for r in results) < 0.4 * sum(r.cost_usd for r in synthetic.results(spec))


def test_a_hopeless_price_ends_after_the_start(synthetic: Any) -> None:
    spec = synthetic.spec(decision={"min_gain_per_dollar": 1e4, "baseline": 0.7})

    results, end = swept(synthetic, spec)

    verdict = verdict_on(synthetic, spec, results)
    assert (end.end, len(results)) == ("verdict certain", 12)
    assert verdict is not None
    assert verdict.kind == "REJECT"
    assert "REJECT stands" in end.reason


def test_a_model_that_cannot_win_is_dropped_with_its_numbers(synthetic: Any) -> None:
    spec = synthetic.spec(decision={"min_gain_per_dollar": 0.3})

    results, end = swept(synthetic, spec)

    (dropped,) = end.dropped
    assert dropped.model == "linear"
    assert "below 0.01" in dropped.reason
    assert {r.trial for r in results if r.trial.model == "linear"} == set(start_of(spec, "linear"))


def test_of_two_equal_models_none_is_dropped(synthetic: Any) -> None:
    twins = synthetic.but(error_rates=dict.fromkeys(("a", "b"), synthetic.error_rates["cnn"]))
    spec = twins.spec(decision={"min_gain_per_dollar": 0.3})
    results = twins.results(spec, trials=[t for m in ("a", "b") for t in start_of(spec, m)])

    assert step(twins, spec, results).dropped == ()


def test_running_trials_are_not_proposed_again_and_an_end_waits_for_them(synthetic: Any) -> None:
    spec = synthetic.spec()
    first = step(synthetic, spec, [], samples_per_s={"cnn": 1e4, "linear": 1e4}, usd_per_worker_s=1e-4).trial
    assert first is not None
    second = step(
        synthetic, spec, [], running=[first], samples_per_s={"cnn": 1e4, "linear": 1e4}, usd_per_worker_s=1e-4
    ).trial

    everything = plan_grid(spec, synthetic.data)
    waiting = step(synthetic, spec, synthetic.results(spec, trials=everything[:-1]), running=[everything[-1]])

    assert second not in (None, first)
    assert (waiting.trial, waiting.end) == (None, None)


def test_what_nobody_can_price_runs_alone(synthetic: Any) -> None:
    spec = synthetic.spec()
    first = step(synthetic, spec, [])
    assert first.trial is not None
    assert first.reserved_usd is None

    assert step(synthetic, spec, [], running=[first.trial]).trial is None


def test_the_cap_is_never_passed_and_is_told(synthetic: Any) -> None:
    spec = synthetic.spec()
    cap, results = 0.02, []
    while True:
        found = step(synthetic, spec, results, cap_left_usd=cap - sum(r.cost_usd for r in results))
        if found.trial is None:
            break
        results.append(synthetic.result(spec, found.trial))

    assert found.end == "cap reached"
    assert 0 < sum(r.cost_usd for r in results) <= cap
    assert "$" in found.reason


def test_a_whole_grid_ends_as_plan_done(synthetic: Any) -> None:
    spec = synthetic.spec()

    assert step(synthetic, spec, synthetic.results(spec)).end == "plan done"


def test_the_same_journal_gives_the_same_step(synthetic: Any) -> None:
    spec = synthetic.spec()
    results = synthetic.results(spec, trials=[t for m in ("linear", "cnn") for t in start_of(spec, m)])

    assert step(synthetic, spec, results) == step(synthetic, spec, results[::-1])


@pytest.mark.parametrize(
    ("seeds", "left", "size"),
    [
        ({100: 2, 200: 2, 400: 1}, [400, 800], 400),
        ({100: 2, 200: 2, 400: 2}, [400, 800, 1600], 800),
        ({100: 2, 200: 2, 400: 2, 800: 1}, [800, 1600], None),
        ({100: 1, 200: 1}, [], None),
    ],
)
def test_what_a_promotion_still_rests_on(seeds: dict[float, int], left: list[float], size: float | None) -> None:
    assert unproven_size(seeds, left) == size
