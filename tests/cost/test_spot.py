"""Checkpoint and restart under preemption, against limits and a seeded simulation."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.cost.spot import best_interval_s, expected_time_s, sample_rework_s, young_interval_s


def simulate(rng: np.random.Generator, *, segments: int, tau: float, d: float, restart: float, uptime: float) -> float:
    """Wall time of one job, preempted at exponential times, every segment and every restart repeated until it holds."""
    time, left = 0.0, rng.exponential(uptime)
    for _ in range(segments):
        need = tau + d
        while left < need:
            time, left = time + left, rng.exponential(uptime)
            while left < restart:
                time, left = time + left, rng.exponential(uptime)
            time, left = time + restart, left - restart
        time, left = time + need, left - need
    return time


@pytest.mark.parametrize(("uptime", "restart"), [(3600.0, 120.0), (600.0, 60.0), (300.0, 200.0)])
def test_expected_time_agrees_with_simulation_within_four_standard_errors(uptime: float, restart: float) -> None:
    rng = np.random.default_rng(7)
    times = np.array(
        [simulate(rng, segments=10, tau=300.0, d=15.0, restart=restart, uptime=uptime) for _ in range(2000)]
    )

    expected = float(
        expected_time_s(3000.0, interval_s=300.0, checkpoint_s=15.0, restart_s=restart, mean_uptime_s=uptime)
    )

    assert abs(times.mean() - expected) < 4 * times.std() / np.sqrt(len(times))


def test_without_preemption_only_the_checkpoints_cost() -> None:
    time = expected_time_s(3600.0, interval_s=600.0, checkpoint_s=30.0, restart_s=100.0, mean_uptime_s=1e12)

    assert float(time) == pytest.approx(3600 * (1 + 30 / 600), rel=1e-6)


def test_the_best_interval_is_the_minimum_of_the_expected_time() -> None:
    best = best_interval_s(30.0, 3600.0)
    grid = np.linspace(0.3 * best, 3 * best, 20001)

    times = expected_time_s(1e5, interval_s=grid, checkpoint_s=30.0, restart_s=60.0, mean_uptime_s=3600.0)

    assert grid[np.argmin(times)] == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("ratio", [1e-4, 1e-2, 0.1])
def test_youngs_interval_costs_at_most_three_percent_more(ratio: float) -> None:
    uptime = 3600.0
    both = np.array([best_interval_s(ratio * uptime, uptime), young_interval_s(ratio * uptime, uptime)])

    best, young = expected_time_s(
        1e5, interval_s=both, checkpoint_s=ratio * uptime, restart_s=0.0, mean_uptime_s=uptime
    )

    assert best <= young <= 1.03 * best


def test_sampled_rework_has_the_exact_mean() -> None:
    n = 40_000
    full = {"interval_s": np.full(n, 300.0), "checkpoint_s": np.full(n, 15.0), "restart_s": np.full(n, 60.0)}

    rework = sample_rework_s(np.full(n, 3000.0), **full, mean_uptime_s=600.0, rng=np.random.default_rng(3))

    expected = float(expected_time_s(3000.0, interval_s=300.0, checkpoint_s=15.0, restart_s=60.0, mean_uptime_s=600.0))
    assert rework.mean() == pytest.approx(expected - 3000 * (1 + 15 / 300), rel=0.02)
    assert rework.min() == 0.0  # some jobs are lucky


def test_a_job_that_can_never_finish_has_a_huge_but_finite_time() -> None:
    hopeless = {"interval_s": np.array([1e6]), "checkpoint_s": np.array([1.0]), "restart_s": np.array([60.0])}

    rework = sample_rework_s(np.array([1e7]), **hopeless, mean_uptime_s=10.0, rng=np.random.default_rng(0))

    assert np.isfinite(rework).all()
    assert rework[0] > 1e100
