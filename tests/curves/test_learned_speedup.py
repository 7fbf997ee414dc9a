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
from orchestrator.curves.speedup import forecast, forecast_size_and_workers

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


@pytest.mark.parametrize("first", [1.0, 4.0])
def test_intervals_widen_with_every_step_beyond_the_largest_count(first: float) -> None:
    workers = first * np.array([1.0, 2.0, 4.0, 8.0])
    told = [forecast(workers, workers**-0.8, first * target)["quantiles"] for target in (16, 24, 32, 48, 64)]

    widths = [q[0.95] / q[0.05] for q in told]
    assert widths == sorted(widths)


SIZES, COUNTS = (g.ravel() for g in np.meshgrid([0.5, 0.6, 0.7, 0.8], [2.0, 4.0, 6.0]))


@pytest.mark.parametrize("costs", [(10, 100, 0), (10, 100, 50), (0, 0, 100), (0, 100, 0)])
def test_fixed_shared_and_proportional_costs_are_recovered_at_more_data_and_twice_the_workers_within_2_percent(
    costs: tuple[float, float, float],
) -> None:
    fixed, shared, proportional = costs

    told = forecast_size_and_workers(SIZES, COUNTS, fixed + shared * SIZES / COUNTS + proportional * SIZES, 1.0, 12)

    assert told["mean"] == pytest.approx(fixed + shared / 12 + proportional, rel=0.02)
    assert told["quantiles"][0.05] < told["mean"] < told["quantiles"][0.95]


def test_a_few_workers_short_of_memory_move_the_forecast_for_many_by_less_than_a_tenth() -> None:
    seconds = 10 + 100 * SIZES / COUNTS
    short = np.where((COUNTS == 2) & (SIZES == 0.8), 5 * seconds, seconds)

    clean, found = (forecast_size_and_workers(SIZES, COUNTS, t, 1.0, 12)["mean"] for t in (seconds, short))

    assert found == pytest.approx(clean, rel=0.10)


def test_one_size_grows_by_less_than_in_proportion_and_says_how_little_it_knows() -> None:
    near, far = (forecast_size_and_workers([1.0] * 3, [2, 4, 8], [80, 42, 22], size, 16) for size in (1.0, 4.0))

    assert 1 < far["mean"] / near["mean"] < 4
    width = [told["quantiles"][0.95] / told["quantiles"][0.05] for told in (near, far)]
    assert width[1] > 1.3 * width[0]


def test_the_units_of_size_and_time_change_nothing_but_the_unit() -> None:
    seconds = 10 + 100 * SIZES / COUNTS

    told = forecast_size_and_workers(SIZES, COUNTS, seconds, 1.0, 12)["mean"]

    assert forecast_size_and_workers(1e9 * SIZES, COUNTS, seconds, 1e9, 12)["mean"] == pytest.approx(told, rel=1e-6)
    assert forecast_size_and_workers(SIZES, COUNTS, 1e-3 * seconds, 1.0, 12)["mean"] == pytest.approx(
        1e-3 * told, rel=1e-6
    )


def test_time_that_only_grows_with_the_log_of_the_workers_is_forecast_though_one_worker_then_takes_none() -> None:
    size, workers = (g.ravel() for g in np.meshgrid([1.0, 2.0], [1.0, 2.0, 4.0, 8.0]))

    told = forecast_size_and_workers(size, workers, np.where(workers == 1, 1e-6, np.log(workers)), 2.0, 16)

    assert np.isfinite(told["mean"])
    assert told["quantiles"][0.05] <= told["mean"] <= told["quantiles"][0.95]
