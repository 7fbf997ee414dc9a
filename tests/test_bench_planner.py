"""The replay of the planner: strategies order as they say, a promotion rests on enough, a grid agrees with itself."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "bench_planner.py"


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("bench_planner", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_planner"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["bench_planner"]


@pytest.fixture
def case(bench: ModuleType):  # type: ignore[no-untyped-def]  # a class of the script
    """Error rates of 0.02 and 0.2 + 2 n**-0.5 at 100 to 1,600 rows, asked at 3,200."""
    rng = np.random.default_rng(0)
    points = {
        (model, float(n), seed): floor + 2 * n**-0.5 + 0.002 * float(rng.standard_normal())
        for model, floor in (("good", 0.02), ("poor", 0.2))
        for n in (100, 200, 400, 800, 1600)
        for seed in range(3)
    }
    return bench.Case(
        dataset="made", points=points, target_n=3200.0, stake=bench.Stake(baseline=0.15, confidence=0.9), charge=1e-3,
        verdict="PROMOTE", truth={"good": 0.055, "poor": 0.235},
    )  # fmt: skip


def test_the_grid_agrees_with_itself_at_its_own_price(bench: ModuleType, case) -> None:  # type: ignore[no-untyped-def]  # see the fixture
    done = bench.replay(case, bench.ordered(bench.cheapest, lambda *_: False))

    assert (done.agrees, done.share, done.n_trials) == (True, 1.0, 30)


def test_an_easy_case_is_promoted_by_the_planner_below_a_third_of_the_dollars(bench: ModuleType, case) -> None:  # type: ignore[no-untyped-def]  # see the fixture
    done = bench.replay(case, bench.ours(10.0))

    assert done.agrees
    assert done.share < 1 / 3


def test_nothing_is_promoted_on_fewer_than_three_sizes_with_two_seeds(bench: ModuleType, case) -> None:  # type: ignore[no-untyped-def]  # see the fixture
    one_seed = [key for key in case.points if key[2] == 0]

    assert bench.standing(case, one_seed) == "HOLD"
    assert bench.standing(case, list(case.points)) == "PROMOTE"


def test_successive_halving_goes_on_with_the_better_model(bench: ModuleType, case) -> None:  # type: ignore[no-untyped-def]  # see the fixture
    entered = [key for key in case.points if key[1] <= 400]
    left = [key for key in case.points if key[1] > 400]

    assert bench.halving(case, entered, left)[0] == "good"
    assert bench.halving(case, entered[1:], [entered[0], *left]) == entered[0]


def test_the_whole_tool_replays_a_case_to_the_grids_verdict(bench: ModuleType, case) -> None:  # type: ignore[no-untyped-def]  # see the fixture
    done, grid, took = bench.replay_whole(case, 10.0)

    assert (done.agrees, grid) == (True, "PROMOTE")
    assert len(took) == done.n_trials + 1


def test_figures_count_agreement_and_slips(bench: ModuleType) -> None:
    replays = [bench.Replay(agrees=a, verdict="HOLD", share=s, n_trials=1) for a, s in ((True, 0.1), (False, 0.5))]
    stakes = [bench.Stake(baseline=b, confidence=0.9) for b in (None, 0.2)]

    found = bench.figures("x", ["HOLD", "REJECT"], stakes, replays)

    assert (found["agreement"], found["mean_share"], found["within_a_quarter"]) == (0.5, 0.3, 0.5)
    assert found["slips"] == {"REJECT -> HOLD": 1}
