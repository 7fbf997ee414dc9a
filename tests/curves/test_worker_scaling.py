"""Time against workers, from total run times: known laws come back, uncertainty widens where nothing was measured."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.curves.worker_scaling import forecast, forecast_size_and_workers
from orchestrator.errors import EvidenceError, UnderdeterminedFitError


@pytest.mark.parametrize(("exponent", "tolerance"), [(1.0, 0.05), (0.9, 0.05), (0.7, 0.10)])
def test_power_of_the_worker_count_is_forecast_at_twice_the_workers_within_5_and_once_10_percent(
    exponent: float, tolerance: float
) -> None:
    w = np.array([1.0, 2.0, 4.0, 8.0])

    found = forecast(w, 100 * w**-exponent, 16)

    assert found["mean"] == pytest.approx(100 * 16**-exponent, rel=tolerance)


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(8)))
def test_order_of_the_runs_changes_nothing(order: list[int]) -> None:
    w = np.repeat([1.0, 2.0, 4.0, 8.0], 2)
    t = 100 / w + np.arange(8.0)

    assert forecast(w[order], t[order], 16) == forecast(w, t, 16)


def test_change_of_time_unit_scales_the_forecast() -> None:
    w = np.array([1.0, 2.0, 4.0])
    t = np.array([100.0, 60.0, 40.0])

    assert forecast(w, 1000 * t, 8)["mean"] == pytest.approx(1000 * forecast(w, t, 8)["mean"])


def test_interval_widens_away_from_the_measured_counts() -> None:
    ratios = []
    for target in (4, 8, 32):
        q = forecast([1, 2, 4], [100, 55, 30], target)["quantiles"]
        ratios.append(q[0.95] / q[0.05])

    assert ratios == sorted(ratios)


def test_one_worker_count_gives_a_wide_answer_between_no_gain_and_ideal() -> None:
    found = forecast([1], [100.0], 4)

    assert 25 <= found["mean"] <= 100
    assert found["quantiles"][0.95] / found["quantiles"][0.05] > 1.3


def test_size_and_workers_recover_an_ernest_surface_within_10_percent() -> None:
    size, workers = (g.ravel() for g in np.meshgrid([1.0, 2.0, 4.0], [1.0, 2.0, 4.0]))

    found = forecast_size_and_workers(size, workers, 5 + 20 * size / workers, 8, 8)

    assert found["mean"] == pytest.approx(25, rel=0.1)


@pytest.mark.parametrize(
    ("workers", "seconds", "target", "message"),
    [
        ([1, 2], [10, float("nan")], 4, "seconds must be finite"),
        ([1, 0], [10, 5], 4, "workers must be finite and above 0"),
        ([1, 2], [10, -5], 4, "seconds must be finite and above 0"),
        ([1, 2], [10], 4, "workers has 2, seconds has 1"),
        ([2, 4], [10, 5], 1, "below the smallest measured count"),
    ],
)
def test_bad_runs_are_refused(workers: list[float], seconds: list[float], target: float, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        forecast(workers, seconds, target)


def test_no_runs_are_refused() -> None:
    with pytest.raises(UnderdeterminedFitError):
        forecast([], [], 4)


# --- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "seconds", "asked", "plateau"),
    [
        ([1, 2, 4, 8], [64, 32, 32, 32], 16, 32.0),
        ([2, 4, 8], [32, 32, 32], 16, 32.0),
        ([1, 2, 4, 8, 16], [100, 60, 45, 42, 41], 32, 40.0),
        ([1, 2, 4, 8], [100, 55, 54, 53], 32, 52.0),
        ([1, 2, 4, 8, 16], [100, 52, 30, 29, 29.5], 64, 29.0),
    ],
)
def test_where_a_limit_has_shown_the_interval_holds_it_and_holds_that_the_job_goes_on(
    workers: list[int], seconds: list[float], asked: int, plateau: float
) -> None:
    told = forecast(workers, seconds, asked)["quantiles"]

    assert told[0.05] < 0.7 * plateau
    assert told[0.95] > plateau


def test_one_step_that_brought_nothing_is_no_limit_yet() -> None:
    bent, going_on = (forecast([1, 2, 4, 8], seconds, 16)["mean"] for seconds in ([64, 32, 16, 16], [64, 32, 16, 8]))

    assert bent < 16
    assert going_on == pytest.approx(4, rel=0.1)
