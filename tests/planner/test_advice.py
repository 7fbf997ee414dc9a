"""Advice for an open verdict: what to measure, its price, and the chance that it settles the matter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.candidates import forecast_candidates
from orchestrator.planner import advise, plan_grid
from orchestrator.results import CandidateForecast


def forecast_of(synthetic: Any, spec: Any, results: Any, model: str = "cnn") -> CandidateForecast:
    found = forecast_candidates(
        spec, synthetic.data, results, synthetic.rates(spec), checkpoint_bytes={}, rng_seed=0, n_draws=1000
    )
    return next(c for c in found.candidates if c.candidate.model == model)


def test_first_what_the_plan_lacks(synthetic: Any) -> None:
    spec = synthetic.spec()
    own = [t for t in plan_grid(spec, synthetic.data) if t.model == "cnn"]
    results = synthetic.results(spec, trials=own[:-2])

    found = advise(spec, synthetic.data, results, forecast_of(synthetic, spec, results))

    assert found.trials == tuple(own[-2:])
    assert found.description == "finish the sweep of cnn, 2 trials left"
    assert found.cost_usd is not None


def test_then_a_size_halfway_to_the_full_run_and_last_another_seed(synthetic: Any) -> None:
    halfway, near = (synthetic.spec(sweep={"fractions": (0.05, 0.1, top)}) for top in (0.25, 0.9))
    of_halfway, of_near = synthetic.results(halfway), synthetic.results(near)

    size = advise(halfway, synthetic.data, of_halfway, forecast_of(synthetic, halfway, of_halfway))
    seed = advise(near, synthetic.data, of_near, forecast_of(synthetic, near, of_near))

    assert {trial.fraction for trial in size.trials} == {0.5}
    assert [(trial.fraction, trial.seed) for trial in seed.trials] == [(0.1, 3), (0.9, 3)]


def test_no_size_beyond_todays_data_is_proposed(synthetic: Any) -> None:
    spec = synthetic.spec(sweep={"fractions": (0.05, 0.1, 0.5)}, full_run={"fraction": 10.0})
    results = synthetic.results(spec)

    found = advise(spec, synthetic.data, results, forecast_of(synthetic, spec, results))

    assert {trial.fraction for trial in found.trials} == {1.0}


def test_an_even_matter_is_likelier_settled_by_a_large_size_than_by_another_seed_of_a_small_one(synthetic: Any) -> None:
    spec = synthetic.spec(sweep={"fractions": (0.05, 0.1, 0.2)})
    results = synthetic.results(spec)
    even = replace(forecast_of(synthetic, spec, results), probability=0.5, net_value=None)

    large = advise(spec, synthetic.data, results, even)
    small = advise(spec, synthetic.data, results[:-2], even)

    assert large.chance_to_settle is not None
    assert small.chance_to_settle is not None
    assert 0 <= small.chance_to_settle < large.chance_to_settle <= 1


@pytest.mark.parametrize(("probability", "low", "high"), [(0.5, 0.0, 0.7), (0.899, 0.4, 1.0)])
def test_what_is_nearly_certain_is_likelier_settled(
    synthetic: Any, probability: float, low: float, high: float
) -> None:
    spec = synthetic.spec()
    results = synthetic.results(spec)
    forecast = replace(forecast_of(synthetic, spec, results), probability=probability, net_value=None)

    chance = advise(spec, synthetic.data, results, forecast).chance_to_settle

    assert chance is not None
    assert low <= chance <= high
