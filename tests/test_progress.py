"""Where a sweep stands: counts by the grid, the cap that binds, and a time left that a replayed sweep confirms."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.planner import plan_grid
from orchestrator.ports import SweepProgress
from orchestrator.progress import full_runs_usd, sweep_progress
from orchestrator.results import TrialResult
from orchestrator.spec import BudgetSpec, ExperimentSpec

START = datetime(2026, 2, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Invoice:
    """Of a full run, as the ledger has it."""

    cost_usd: float
    invoiced_usd: float | None = None


@dataclass(frozen=True, kw_only=True)
class Records:
    """As much of `ports.Evidence` as tells where a sweep stands."""

    results: tuple[TrialResult, ...] = ()
    outcomes: tuple[Invoice, ...] = ()

    @property
    def trials_usd(self) -> float:
        return sum(each.cost_usd for each in self.results)


def told(synthetic: Any, spec: ExperimentSpec, results: Any, **other: Any) -> SweepProgress:
    outcomes = tuple(other.pop("outcomes", ()))
    evidence: Any = Records(results=tuple(results), outcomes=outcomes)
    return sweep_progress(spec, synthetic.data, evidence, verdict=None, **other)


def on_slots(results: list[TrialResult], n_slots: int) -> list[TrialResult]:
    """The trials as a cluster of so many one-worker slots runs them, a free slot at a time, in their order."""
    free = [0.0] * n_slots
    placed = []
    for result in results:
        starts = [heapq.heappop(free) for _ in range(result.trial.workers)]
        start = max(starts)
        for _ in starts:
            heapq.heappush(free, start + result.wall_time_s)
        placed.append(replace(result, started_at=(START + timedelta(seconds=start)).isoformat()))
    return placed


def test_a_sweep_that_has_not_begun_knows_its_grid_and_nothing_else(synthetic: Any) -> None:
    spec = synthetic.spec()

    progress = told(synthetic, spec, [])

    assert (progress.n_done, progress.n_failed, progress.n_most) == (0, 0, len(plan_grid(spec, synthetic.data)))
    assert (progress.spent_usd, progress.cap_usd, progress.left_s, progress.verdict) == (0.0, None, None, None)


def test_trials_of_another_training_or_off_the_grid_count_in_dollars_only(synthetic: Any) -> None:
    spec = synthetic.spec()
    grid = synthetic.results(spec)
    other = synthetic.results(replace(spec, training=replace(spec.training, epochs=9)))[:3]
    off = synthetic.result(spec, replace(grid[0].trial, seed=77))

    progress = told(synthetic, spec, [*grid[:4], *other, off])

    assert progress.n_done == 4
    assert progress.spent_usd == pytest.approx(sum(each.cost_usd for each in [*grid[:4], *other, off]))


def test_a_failed_trial_is_told_and_not_waited_for_unless_it_runs_again(synthetic: Any) -> None:
    spec = synthetic.spec()
    results = synthetic.results(spec)
    failed = replace(results[-1], status="failed", training=None, error="out of memory")

    once, again = (told(synthetic, spec, [*results[:-1], failed], running=run) for run in ((), (failed.trial,)))

    assert (once.n_done, once.n_failed, once.left_s) == (len(results) - 1, 1, 0.0)
    assert again.running == (failed.trial,)
    assert again.left_s is not None
    assert again.left_s > 0


@pytest.mark.parametrize(
    ("sweep_cap", "budget", "expected"),
    [
        (None, None, (0.3, None)),
        (1.0, None, (0.3, 1.0)),
        (1.0, 20.0, (0.3, 1.0)),
        (1.0, 5.0, (4.8, 5.0)),  # 0.2 left of the budget, 0.7 left of the sweep's cap
        (None, 4.0, (4.8, 4.0)),
    ],
)
def test_the_cap_with_the_least_left_binds_and_the_budget_counts_full_runs(
    synthetic: Any, sweep_cap: float | None, budget: float | None, expected: tuple[float, float | None]
) -> None:
    spec = synthetic.spec(sweep={"max_cost_usd": sweep_cap}, budget=BudgetSpec(max_cost_usd=budget))
    trials = [replace(each, cost_usd=0.1) for each in synthetic.results(spec)[:3]]
    full_runs = [Invoice(cost_usd=9.0, invoiced_usd=4.0), Invoice(cost_usd=0.5)]

    progress = told(synthetic, spec, trials, outcomes=full_runs)

    assert progress.spent_usd == pytest.approx(expected[0])
    assert progress.cap_usd == expected[1]


def test_a_full_run_that_nothing_was_billed_for_costs_nothing() -> None:
    evidence: Any = Records(outcomes=(Invoice(cost_usd=9.0, invoiced_usd=0.0),))

    assert full_runs_usd(evidence) == 0.0


@pytest.mark.parametrize("n_slots", [2, 4])
def test_the_time_left_of_a_replayed_sweep_is_right_within_a_third(synthetic: Any, n_slots: int) -> None:
    """From half of the trials on, when every model and worker count has two sizes to draw a line through."""
    spec = synthetic.spec()
    results = on_slots(synthetic.results(spec), n_slots)
    end_s = max(seconds(each) + each.wall_time_s for each in results)

    for n_done in range(len(results) // 2, len(results) - 4):
        now_s = seconds(results[n_done])
        done = [each for each in results if seconds(each) + each.wall_time_s <= now_s]
        left_s = told(synthetic, spec, done).left_s
        assert left_s == pytest.approx(end_s - now_s, rel=0.35, abs=3.0), n_done


def seconds(result: TrialResult) -> float:
    return (datetime.fromisoformat(result.started_at) - START).total_seconds()


def test_workers_at_work_shorten_the_time_left_before_any_two_trials_overlapped(synthetic: Any) -> None:
    spec = synthetic.spec()
    results = on_slots(synthetic.results(spec)[:2], 1)
    running = tuple(each.trial for each in synthetic.results(spec)[2:6])

    alone, together = told(synthetic, spec, results), told(synthetic, spec, results, running=running)

    assert alone.left_s is not None
    assert together.left_s == pytest.approx(alone.left_s / sum(trial.workers for trial in running))


def test_a_trial_noted_a_moment_before_the_last_one_ended_was_not_beside_it(synthetic: Any) -> None:
    spec = synthetic.spec()
    one_by_one = on_slots(synthetic.results(spec)[:6], 1)
    early = [
        replace(each, started_at=(START + timedelta(seconds=seconds(each) - 0.005 * position)).isoformat())
        for position, each in enumerate(one_by_one)
    ]

    untimed = [replace(each, started_at="unknown") for each in one_by_one]
    assert told(synthetic, spec, early).left_s == told(synthetic, spec, untimed).left_s


def test_a_start_that_cannot_be_read_is_passed_over(synthetic: Any) -> None:
    spec = synthetic.spec()
    results = [replace(each, started_at="yesterday") for each in synthetic.results(spec)[:8]]

    assert told(synthetic, spec, results).left_s is not None
