"""The grid is cheapest first and resumes; what cannot run is refused before it starts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.planner import (
    ClusterCapacity,
    estimate_sweep,
    infeasible_workers,
    plan_grid,
    remaining,
    subset_faults,
)
from orchestrator.spec import ResourceSpec, TrainingSpec, TrialSpec


def test_every_trial_is_planned_once_smallest_first(synthetic: Any) -> None:
    plan = plan_grid(synthetic.spec(), synthetic.data)

    assert len(plan) == len(set(plan)) == 5 * 2 * (3 + 1)  # fractions x models x (seeds on 1 worker + 1 on 2)
    assert [trial.fraction for trial in plan] == sorted(trial.fraction for trial in plan)


def test_later_worker_counts_take_the_first_scaling_seeds_only(synthetic: Any) -> None:
    spec = synthetic.spec(sweep={"workers": (1, 2, 4), "seeds": 3, "scaling_seeds": 2})

    seeds = {w: {t.seed for t in plan_grid(spec, synthetic.data) if t.workers == w} for w in (1, 2, 4)}

    assert seeds == {1: {0, 1, 2}, 2: {0, 1}, 4: {0, 1}}


def test_fractions_that_come_to_the_same_rows_are_measured_once(synthetic: Any) -> None:
    spec = synthetic.spec(sweep={"fractions": (0.1, 0.10001, 0.2)})

    assert {trial.fraction for trial in plan_grid(spec, synthetic.data)} == {0.1, 0.2}


def test_what_is_done_is_not_planned_again(synthetic: Any) -> None:
    plan = plan_grid(synthetic.spec(), synthetic.data)

    assert remaining(plan, {str(plan[0]), str(plan[3])}, str) == (plan[1], plan[2], *plan[4:])


def test_the_rest_of_a_sweep_is_priced_from_its_smaller_half_within_a_tenth(synthetic: Any) -> None:
    spec = synthetic.spec()
    plan = plan_grid(spec, synthetic.data)
    half, rest = plan[: len(plan) // 2], plan[len(plan) // 2 :]
    truth = synthetic.results(spec, trials=rest)

    estimate = estimate_sweep(rest, synthetic.results(spec, trials=half), synthetic.data, concurrent_trials=2)

    assert estimate.cost_usd == pytest.approx(sum(r.cost_usd for r in truth), rel=0.1)
    assert estimate.hours == pytest.approx(sum(r.wall_time_s for r in truth) / 2 / 3600, rel=0.1)


def test_nothing_measured_means_no_price(synthetic: Any) -> None:
    plan = plan_grid(synthetic.spec(), synthetic.data)

    estimate = estimate_sweep(plan, [], synthetic.data)

    assert (estimate.cost_usd, estimate.hours, estimate.unmeasured_models) == (None, None, ("cnn", "linear"))


def test_a_model_that_was_not_measured_leaves_the_whole_price_open(synthetic: Any) -> None:
    spec = synthetic.spec()
    plan = plan_grid(spec, synthetic.data)
    linear = [trial for trial in plan if trial.model == "linear"]

    estimate = estimate_sweep(plan, synthetic.results(spec, trials=linear), synthetic.data)

    assert (estimate.cost_usd, estimate.unmeasured_models) == (None, ("cnn",))


def test_an_empty_rest_costs_nothing(synthetic: Any) -> None:
    assert estimate_sweep([], [], synthetic.data).cost_usd == 0


def test_one_measured_size_prices_a_larger_one_in_proportion(synthetic: Any) -> None:
    spec = synthetic.spec()
    small = TrialSpec(model="cnn", fraction=0.1, workers=1, seed=0)
    done = synthetic.results(spec, trials=[small])

    estimate = estimate_sweep([replace(small, fraction=0.2)], done, synthetic.data)

    assert estimate.cost_usd == pytest.approx(2 * done[0].cost_usd)


@pytest.mark.parametrize(
    ("resources", "cluster", "phrase"),
    [
        ({}, ClusterCapacity(cpus=3, gpus=0), "4 workers of 1 CPU each, but the cluster has 3 CPUs; ask for at most 3"),
        ({"gpus_per_worker": 1}, ClusterCapacity(cpus=8, gpus=0), "has 0 GPUs; lower resources.gpus_per_worker"),
        ({"cpus_per_worker": 3}, ClusterCapacity(cpus=8, gpus=0), "asks for 4 workers of 3 CPU each"),
    ],
)  # fmt: skip
def test_worker_counts_the_cluster_cannot_hold_are_refused(
    synthetic: Any, resources: dict[str, Any], cluster: ClusterCapacity, phrase: str
) -> None:
    spec = synthetic.spec(sweep={"workers": (1, 4)}, resources=ResourceSpec(**resources))

    (fault,) = infeasible_workers(spec, cluster)

    assert fault.key == "sweep.workers"
    assert phrase in fault.message


def test_the_full_runs_workers_are_checked_only_when_it_runs_here(synthetic: Any) -> None:
    spec = synthetic.spec(full_run={"workers": (1, 16)})
    cluster = ClusterCapacity(cpus=2, gpus=0)

    assert infeasible_workers(spec, cluster) == ()
    assert [f.key for f in infeasible_workers(spec, cluster, full_run_is_local=True)] == ["full_run.workers"]


def test_a_subset_below_one_batch_or_below_the_classes_is_refused(synthetic: Any) -> None:
    spec = synthetic.spec(sweep={"fractions": (0.0005, 0.1, 0.2)}, training=TrainingSpec(global_batch_size=64))

    (fault,) = subset_faults(spec, synthetic.data)

    assert "0.0005 is 5 rows, fewer than training.global_batch_size (64) and classes (10)" in fault.message
    assert "start at 0.0064 or above" in fault.message
