"""Time against workers: planted costs come back, uncertainty widens where nothing was measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.curves.worker_scaling import (
    TimeMeasurement,
    TimeModel,
    fit_time_model,
    forecast,
    forecast_size_and_workers,
)
from orchestrator.errors import EvidenceError, UnderdeterminedFitError

COMPUTE, WAIT, SYNC, BATCH, EPOCHS = 2e-3, 2e-4, 5e-3, 64, 5
"""Planted: seconds per sample, per sample, per step; rows; epochs."""


def run(n: int, workers: int, luck: float = 1.0) -> TimeMeasurement:
    steps = int(np.ceil(n / BATCH)) * EPOCHS
    return TimeMeasurement(
        n_samples=n,
        samples_seen=n * EPOCHS,
        epochs=EPOCHS,
        workers=workers,
        steps=steps,
        startup_s=3.0,
        compute_s=COMPUTE * n * EPOCHS / workers * luck,
        data_wait_s=WAIT * n * EPOCHS / workers * luck,
        gradient_sync_s=SYNC * steps * luck if workers > 1 else 0.0,
        validation_s=0.4 * EPOCHS / workers,
        checkpoint_s=0.1 * EPOCHS,
    )


def noisy_model(noise: float, replicates: int, seed: int = 0) -> TimeModel:
    rng = np.random.default_rng(seed)
    return fit_time_model(
        [run(n, w, float(np.exp(noise * rng.standard_normal()))) for n in (6400,) for w in (1, 2, 4)
         for _ in range(replicates)]
    )  # fmt: skip


def log_spread(model: TimeModel, workers: int, n: int = 6400) -> float:
    drawn = model.sample(
        n_samples=n, epochs=5, global_batch_size=BATCH, workers=workers, rng=np.random.default_rng(1), size=4000
    )
    low, high = np.quantile(np.log(drawn.compute_s), [0.05, 0.95])
    return float(high - low)


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
    with pytest.raises(UnderdeterminedFitError):
        fit_time_model([])


def test_planted_costs_are_recovered_at_larger_data_within_1_percent() -> None:
    model = fit_time_model([run(n, w) for n in (1280, 6400) for w in (1, 2)])

    drawn = model.sample(
        n_samples=64000, epochs=10, global_batch_size=BATCH, workers=2, rng=np.random.default_rng(0), size=40000
    )

    assert np.median(drawn.compute_s) == pytest.approx(COMPUTE * 64000 * 10 / 2, rel=0.01)
    assert np.median(drawn.data_wait_s) == pytest.approx(WAIT * 64000 * 10 / 2, rel=0.01)
    assert np.median(drawn.gradient_sync_s) == pytest.approx(SYNC * 1000 * 10, rel=0.01)
    assert np.median(drawn.startup_s) == pytest.approx(3.0, rel=0.01)
    assert np.median(drawn.validation_s) == pytest.approx(0.4 * 10 / 2, rel=0.01)
    assert np.median(drawn.checkpoint_s) == pytest.approx(0.1 * 10, rel=0.01)


def test_total_is_the_sum_of_the_phases() -> None:
    drawn = noisy_model(0.02, 3).sample(
        n_samples=100, epochs=1, global_batch_size=10, workers=2, rng=np.random.default_rng(0), size=7
    )
    parts = (drawn.startup_s, drawn.compute_s, drawn.data_wait_s, drawn.gradient_sync_s, drawn.validation_s)

    assert drawn.total_s == pytest.approx(sum(parts) + drawn.checkpoint_s)


def test_planted_run_noise_is_recovered_within_a_quarter() -> None:
    assert noisy_model(0.1, 30).steady_noise.std == pytest.approx(0.1, rel=0.25)


def test_90_percent_interval_holds_85_to_95_percent_of_new_runs_at_a_measured_count() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for seed in range(300):
        model = noisy_model(0.05, 4, seed)
        drawn = model.sample(n_samples=6400, epochs=EPOCHS, global_batch_size=BATCH, workers=2, rng=rng, size=500)
        low, high = np.quantile(drawn.compute_s, [0.05, 0.95])
        hits += low <= run(6400, 2, float(np.exp(0.05 * rng.standard_normal()))).compute_s <= high

    assert 0.85 <= hits / 300 <= 0.95


def test_uncertainty_widens_beyond_the_measured_workers_and_data() -> None:
    model = noisy_model(0.02, 3)

    assert log_spread(model, 4) < log_spread(model, 8) < log_spread(model, 64)
    assert log_spread(model, 2, n=6400) < log_spread(model, 2, n=640000)


def test_mean_of_a_single_measurement_stays_near_its_median() -> None:
    drawn = fit_time_model([run(6400, 1)]).sample(
        n_samples=6400, epochs=5, global_batch_size=BATCH, workers=1, rng=np.random.default_rng(0), size=20000
    )

    assert drawn.total_s.mean() == pytest.approx(np.median(drawn.total_s), rel=0.01)


def test_order_of_the_measurements_changes_nothing() -> None:
    runs = [run(n, w, 1 + 0.01 * i) for i, (n, w) in enumerate([(640, 1), (640, 2), (6400, 1), (6400, 2)])]

    assert log_spread(fit_time_model(runs), 4) == log_spread(fit_time_model(runs[::-1]), 4)


def test_small_runs_move_the_cost_little() -> None:
    with_outlier = fit_time_model([run(64, 1, 5.0), run(64000, 1)])

    assert with_outlier.rates[1].compute_s == pytest.approx(COMPUTE, rel=0.01)


def test_sync_is_zero_on_one_worker_and_grows_by_the_ring_beyond() -> None:
    model = fit_time_model([run(6400, 1), run(6400, 2)])
    alone = model.sample(
        n_samples=6400, epochs=1, global_batch_size=BATCH, workers=1, rng=np.random.default_rng(0), size=10
    )

    assert not alone.gradient_sync_s.any()
    assert model._rates_off_grid(4).gradient_sync_s == pytest.approx(SYNC * 0.75 / 0.5)


def test_bottleneck_follows_the_planted_costs() -> None:
    assert fit_time_model([run(6400, 1), run(6400, 2)]).bottleneck(1) == "compute"
    slow_sync = fit_time_model([run(6400, 64)])  # 1 ms of compute for each step's 5 ms of sync

    assert slow_sync.bottleneck(64) == "gradient sync"


def test_data_wait_is_named_when_it_leads() -> None:
    assert fit_time_model([replace(run(6400, 1), data_wait_s=900.0)]).bottleneck(1) == "data wait"


def test_largest_useful_workers_stops_where_a_step_no_longer_pays() -> None:
    model = fit_time_model([run(64000, w) for w in (1, 2, 4, 8, 16, 32, 64)])
    found = {
        demand: model.largest_useful_workers(
            n_samples=64000, epochs=5, global_batch_size=BATCH, candidates=(1, 2, 4, 8, 16, 32, 64),
            min_marginal_efficiency=demand,
        )
        for demand in (0.0, 0.5, 1.0)
    }  # fmt: skip

    # Per step: 141 ms of work to share, 5 ms of sync; doubling gains over half of a doubling up to 16.
    assert found == {0.0: 64, 0.5: 16, 1.0: 1}


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([(640, 1)], ("single-measurement", "single-worker-count", "no-replicates")),
        ([(640, 1), (640, 1)], ("single-worker-count",)),
        ([(640, 1), (640, 2)], ("no-replicates",)),
        ([(640, 1), (640, 1), (640, 2)], ()),
    ],
)
def test_thin_evidence_is_diagnosed(runs: list[tuple[int, int]], expected: tuple[str, ...]) -> None:
    assert fit_time_model([run(n, w) for n, w in runs]).diagnosis == expected


def test_a_single_measurement_is_wider_than_replicates() -> None:
    assert log_spread(fit_time_model([run(6400, 1)]), 1) > log_spread(noisy_model(0.01, 10), 1)


def test_measurements_that_cannot_be_are_refused() -> None:
    for change in ({"compute_s": float("nan")}, {"compute_s": -1.0}, {"workers": 0}, {"compute_s": 0.0}):
        with pytest.raises(EvidenceError, match=next(iter(change))):
            replace(run(640, 1), **change)
