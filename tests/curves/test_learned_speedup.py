"""The trained forecaster of run times: what it reads, and that its quantiles are a distribution."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.curves.learned_speedup import describe, design, log_quantiles, shipped
from orchestrator.curves.measured import fold
from orchestrator.curves.quantile_net import LEVELS, MEDIAN

WORKERS = np.array([1.0, 2.0, 4.0, 8.0])
IDEAL = fold(WORKERS, np.log(100 / WORKERS))


def test_the_shipped_file_holds_the_descriptions_that_the_code_makes_and_is_below_300_kb() -> None:
    file = resources.files("orchestrator.curves").joinpath("learned_speedup.json")

    assert len(file.read_bytes()) < 300_000
    assert shipped().inputs == design(describe(IDEAL, np.array([16.0])))[0]


@settings(max_examples=80, deadline=None)
@given(
    log_seconds=st.lists(st.floats(-20, 20), min_size=2, max_size=8),
    first=st.integers(1, 500),
    ahead=st.floats(1.01, 1000),
)
def test_quantiles_are_finite_and_rise_for_any_job_and_target(
    log_seconds: list[float], first: int, ahead: float
) -> None:
    measured = fold(first * 2.0 ** np.arange(len(log_seconds)), np.array(log_seconds))

    row = log_quantiles(shipped(), measured, ahead * measured.size[-1:])[0]

    assert np.isfinite(row).all()
    assert (np.diff(row) >= 0).all()


def test_the_unit_of_time_changes_nothing_but_the_unit() -> None:
    in_hours = fold(WORKERS, IDEAL.mean - np.log(3600.0))

    seconds, hours = (log_quantiles(shipped(), job, np.array([32.0])) for job in (IDEAL, in_hours))

    assert hours + np.log(3600.0) == pytest.approx(seconds)


def test_a_job_that_scaled_ideally_is_forecast_within_a_tenth_of_ideal_at_twice_the_workers() -> None:
    row = log_quantiles(shipped(), IDEAL, np.array([16.0]))[0]

    assert np.exp(row[MEDIAN]) == pytest.approx(100 / 16, rel=0.10)
    assert np.exp(row[list(LEVELS).index(0.05)]) <= 100 / 16 <= np.exp(row[list(LEVELS).index(0.95)])
