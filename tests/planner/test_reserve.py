"""Dollars set aside before a trial starts: above what it costs, and none invented."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.planner import plan_grid, worst_case_usd
from orchestrator.spec import TrialSpec


def test_every_trial_of_a_sweep_stays_below_what_was_reserved(synthetic: Any) -> None:
    spec = synthetic.spec()
    results = synthetic.results(spec)
    for k, result in enumerate(results):
        worst = worst_case_usd(result.trial, results[:k], synthetic.data, spec)
        assert worst is None or result.cost_usd <= worst <= 30 * result.cost_usd


def test_nothing_is_known_of_a_model_before_anything_is_measured(synthetic: Any) -> None:
    spec = synthetic.spec()
    trial = plan_grid(spec, synthetic.data)[0]

    assert worst_case_usd(trial, [], synthetic.data, spec) is None
    assert worst_case_usd(trial, [], synthetic.data, spec, samples_per_s=1000) is None


def test_the_probes_pace_bounds_a_first_trial(synthetic: Any) -> None:
    """2,000 rows and 2,500 for validation, 5 epochs at 1,000 a second are 22.5 s; threefold and 5 s more, 72.5."""
    spec = synthetic.spec()
    trial = TrialSpec(model="cnn", fraction=0.2, workers=1, seed=0)

    worst = worst_case_usd(trial, [], synthetic.data, spec, samples_per_s=1000, usd_per_worker_s=0.01)

    assert worst == pytest.approx(0.725)
    assert worst > synthetic.result(spec, trial).wall_time_s * 0.01


def test_another_worker_count_is_reserved_more_for(synthetic: Any) -> None:
    spec = synthetic.spec()
    one, two = (TrialSpec(model="cnn", fraction=0.1, workers=w, seed=0) for w in (1, 2))
    done = synthetic.results(spec, trials=[one])

    alone, several = (worst_case_usd(trial, done, synthetic.data, spec) for trial in (one, two))

    assert alone is not None
    assert several is not None
    assert several > 2 * alone
