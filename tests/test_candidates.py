"""Candidates recover a known truth, count only what belongs, and leave out what cannot be forecast."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from orchestrator.candidates import Forecasts, assumptions_of, forecast_candidates, targets_of
from orchestrator.decision import decide
from orchestrator.errors import EvidenceError
from orchestrator.evidence import measure_baseline, usable_results
from orchestrator.intervals import certain
from orchestrator.planner import plan_grid
from orchestrator.results import CandidateForecast, TrialResult
from orchestrator.spec import DataSpec, EarlyStoppingSpec, ExperimentSpec, PricingSpec, StorageSpec, TrainingSpec


def forecast(synthetic: Any, spec: ExperimentSpec, results: list[TrialResult] | None = None, **other: Any) -> Forecasts:
    values: dict[str, Any] = {"checkpoint_bytes": {}, "rng_seed": 0, "n_draws": 1000} | other
    found = synthetic.results(spec) if results is None else results
    return forecast_candidates(spec, synthetic.data, found, synthetic.rates(spec), **values)


def at_full_size(forecasts: Forecasts) -> list[CandidateForecast]:
    return [c for c in forecasts.candidates if c.candidate.fraction == 1]


def test_candidates_are_models_times_targets_times_workers(synthetic: Any) -> None:
    spec = synthetic.spec(full_run={"workers": (1, 2, 4), "smaller_targets": 1})

    found = [c.candidate for c in forecast(synthetic, spec).candidates]

    assert {(c.model, c.n_samples, c.workers) for c in found} == {
        (m, n, w) for m in ("linear", "cnn") for n in (7100, 10_000) for w in (1, 2, 4)
    }
    assert len(found) == 12


def test_the_odds_of_a_deadline_at_the_median_time_are_even(synthetic: Any) -> None:
    median_s = forecast(synthetic, synthetic.spec()).candidates[0].wall_time_s.median
    spec = synthetic.spec(full_run={"workers": (1, 2), "deadline_h": median_s / 3600})

    (found, *_) = forecast(synthetic, spec).candidates

    assert found.deadline_probability == pytest.approx(0.5, abs=0.01)
    assert forecast(synthetic, synthetic.spec()).candidates[0].deadline_probability is None


def test_a_run_that_is_given_up_gains_nothing_and_is_never_in_time(synthetic: Any) -> None:
    hopeless = PricingSpec(usd_per_worker_hour=1.0, mtbf_worker_h=1e-6)
    spec = synthetic.spec(
        pricing=hopeless, decision={"min_gain_per_dollar": 0.0}, full_run={"workers": (1,), "deadline_h": 1000.0}
    )

    for found in forecast(synthetic, spec).candidates:
        assert (found.probability, found.deadline_probability, found.gain_per_dollar.mean) == (0, 0, 0)
        assert found.bill.given_up_share == 1


def test_intervals_hold_the_true_accuracy_time_and_cost(synthetic: Any) -> None:
    spec = synthetic.spec()
    found = {(c.candidate.model, c.candidate.workers): c for c in at_full_size(forecast(synthetic, spec))}

    for (model, workers), candidate in found.items():
        accuracy = 1 - synthetic.error_rates[model](10_000)
        seconds = synthetic.time(spec, 10_000, workers, np.random.default_rng(0)).total_s
        assert candidate.metric.low <= accuracy <= candidate.metric.high
        assert candidate.wall_time_s.median == pytest.approx(seconds, rel=0.15)
        assert candidate.cost_usd.median == pytest.approx(seconds * workers / 3600, rel=0.15)


def test_gain_is_the_distance_to_a_given_baseline(synthetic: Any) -> None:
    spec = synthetic.spec(decision={"baseline": 0.8})

    for candidate in forecast(synthetic, spec).candidates:
        assert candidate.gain.mean == pytest.approx(candidate.metric.mean - 0.8)


def test_for_a_loss_the_gain_is_the_fall(synthetic: Any) -> None:
    spec = synthetic.spec(decision={"metric": "loss", "baseline": 1.0})

    cnn = next(c for c in at_full_size(forecast(synthetic, spec)) if c.candidate.model == "cnn")

    assert cnn.metric.median == pytest.approx(2 * synthetic.error_rates["cnn"](10_000), rel=0.15)
    assert cnn.gain.mean == pytest.approx(1.0 - cnn.metric.mean)


def test_the_best_trial_is_a_mean_over_seeds_not_the_luckiest(synthetic: Any) -> None:
    noisy = synthetic.but(noise_std=0.02)
    spec = noisy.spec()
    results = noisy.results(spec)
    by_model = {name: usable_results(spec, noisy.data, results, name) for name in ("linear", "cnn")}

    baseline = measure_baseline(spec, by_model, {})

    luckiest = max(r.training.accuracy for r in results if r.training and r.training.accuracy)
    assert baseline.value < luckiest
    assert baseline.value == pytest.approx(1 - noisy.error_rates["cnn"](5000), abs=3 * baseline.std_error)
    assert baseline.std_error == pytest.approx(0.02 / math.sqrt(3), rel=0.8)
    assert baseline.source == "best trials: cnn on 5,000 samples, mean of 3 seeds"


def test_a_size_with_one_seed_stands_back_behind_repeated_ones(synthetic: Any) -> None:
    spec = synthetic.spec()
    trials = [t for t in plan_grid(spec, synthetic.data) if t.fraction < 0.5 or t.seed == 0]

    assert "3,500 samples" in forecast(synthetic, spec, synthetic.results(spec, trials=trials)).baseline.source


def test_same_seed_same_forecast_and_order_of_trials_does_not_matter(synthetic: Any) -> None:
    spec = synthetic.spec()
    results = synthetic.results(spec)

    first, again = forecast(synthetic, spec, results), forecast(synthetic, spec, results)

    assert first == again
    assert forecast(synthetic, spec, results, rng_seed=1) != first
    backwards = forecast(synthetic, spec, results[::-1])
    assert [c.probability for c in backwards.candidates] == pytest.approx([c.probability for c in first.candidates])


def test_trials_that_do_not_belong_are_counted_and_left_out(synthetic: Any) -> None:
    spec = synthetic.spec()
    results = synthetic.results(spec)
    clean = forecast(synthetic, spec, results)
    assert results[0].training is not None
    failed = replace(results[0], status="failed", training=None)
    diverged = replace(results[0], training=replace(results[0].training, accuracy=math.nan))
    foreign = replace(results[0], scope="another", training=replace(results[0].training, accuracy=0.1))

    found = forecast(synthetic, spec, [*results, failed, diverged, foreign])

    assert (found.n_used, found.n_excluded) == (len(results), 3)
    assert found.candidates == clean.candidates


def test_a_model_with_two_sizes_is_left_out_with_the_reason(synthetic: Any) -> None:
    spec = synthetic.spec()
    trials = [t for t in plan_grid(spec, synthetic.data) if t.model == "linear" or t.fraction < 0.2]

    found = forecast(synthetic, spec, synthetic.results(spec, trials=trials))

    assert {c.candidate.model for c in found.candidates} == {"linear"}
    (left,) = found.left_out
    assert left.model == "cnn"
    assert "2 of at least 3 distinct sizes" in left.reason


def test_no_usable_trial_and_a_metric_nobody_reports_are_errors(synthetic: Any) -> None:
    spec = synthetic.spec()
    silent = [replace(r, training=replace(r.training, accuracy=None)) for r in synthetic.results(spec)]

    with pytest.raises(EvidenceError, match="no trial has been recorded yet"):
        forecast(synthetic, spec, [])
    with pytest.raises(EvidenceError, match=r"set decision\.metric: loss"):
        forecast(synthetic, spec, silent)


def test_early_stopping_takes_the_epochs_the_largest_trials_needed(synthetic: Any) -> None:
    training = TrainingSpec(epochs=20, global_batch_size=32, early_stopping=EarlyStoppingSpec(patience=2))
    stopped, full = synthetic.spec(training=training), synthetic.spec(training=replace(training, early_stopping=None))
    half = [
        replace(r, training=replace(r.training, epochs_run=10, samples_seen=r.training.samples_seen // 2, time=replace(
            r.training.time, **{f: getattr(r.training.time, f) / 2 for f in (
                "compute_s", "data_wait_s", "gradient_sync_s", "validation_s", "checkpoint_s")})))
        for r in synthetic.results(stopped)
    ]  # fmt: skip

    early = forecast(synthetic, stopped, half).candidates[0].wall_time_s.median
    late = forecast(synthetic, full).candidates[0].wall_time_s.median

    assert early == pytest.approx(late / 2, rel=0.1)


def test_launch_time_of_earlier_full_runs_is_added_and_its_absence_is_said(synthetic: Any) -> None:
    spec = synthetic.spec()

    without, with_launch = forecast(synthetic, spec), forecast(synthetic, spec, full_run_startup_s=certain(100.0))

    first, second = without.candidates[0], with_launch.candidates[0]
    assert second.wall_time_s.mean - first.wall_time_s.mean == pytest.approx(100.0)
    startup = next(line for line in first.bill.lines if line.item == "start-up")
    assert "launching the job was not measured yet" in startup.note


def test_probability_falls_as_price_or_threshold_rises(synthetic: Any) -> None:
    def odds(usd: float, threshold: float) -> list[float]:
        spec = synthetic.spec(pricing=PricingSpec(usd_per_worker_hour=usd), decision={"min_gain_per_dollar": threshold})
        return [c.probability for c in forecast(synthetic, spec).candidates]

    base = odds(1.0, 0.5)
    assert all(a >= b for a, b in zip(base, odds(10.0, 0.5), strict=True))
    assert all(a >= b for a, b in zip(base, odds(1.0, 5.0), strict=True))
    assert odds(10.0, 0.5) == odds(1.0, 5.0)  # only the product matters


def test_bands_run_from_the_smallest_trial_to_the_full_run_in_the_metrics_own_direction(synthetic: Any) -> None:
    band = next(band for band in forecast(synthetic, synthetic.spec()).curves if band.model == "cnn")

    assert (band.n_samples[0], band.n_samples[-1]) == pytest.approx((500, 10_000))
    assert band.median[-1] > band.median[0]
    bounds = zip(band.prediction_low, band.confidence_low, band.confidence_high, band.prediction_high, strict=True)
    assert all(a <= b <= c <= d for a, b, c, d in bounds)
    assert len(band.points) == 5 * 4
    assert band.backtest is not None
    assert band.backtest[1] == pytest.approx(1 - synthetic.error_rates["cnn"](5000), abs=0.01)


# --- targets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("swept", "full_run", "expected"),
    [
        (0.5, {"fraction": 1.0, "smaller_targets": 3}, [0.59, 0.71, 0.84, 1.0]),
        (0.2, {"fraction": 1.0, "smaller_targets": 1}, [0.45, 1.0]),
        (0.2, {"fraction": 1.0, "smaller_targets": 0}, [1.0]),
        (0.2, {"fraction": 0.2}, [0.2]),  # nothing lies between
        (0.5, {"fraction": 2.0, "smaller_targets": 3}, [0.71, 1.0, 1.4, 2.0]),
        (0.2, {"fraction": 3.0, "smaller_targets": 2}, [0.49, 1.0, 3.0]),  # 1.2 moves to all that there is
        (1.0, {"fraction": 4.0, "smaller_targets": 1}, [2.0, 4.0]),
    ],
)
def test_targets_lie_evenly_between_the_sweep_and_the_full_run(
    synthetic: Any, swept: float, full_run: dict[str, Any], expected: list[float]
) -> None:
    spec = synthetic.spec(sweep={"fractions": (0.05, 0.1, swept)}, full_run=full_run)

    found = targets_of(spec, synthetic.data)

    assert [target.fraction for target in found] == expected
    assert [target.n_samples for target in found] == [round(10_000 * fraction) for fraction in expected]


def test_targets_of_few_rows_are_told_once(synthetic: Any) -> None:
    few = synthetic.but(data=replace(synthetic.data, n_train=4))

    assert [t.n_samples for t in targets_of(few.spec(full_run={"smaller_targets": 20}), few.data)] == [2, 3, 4]


def test_a_fraction_of_nothing_is_refused(synthetic: Any) -> None:
    with pytest.raises(EvidenceError, match="have 0 training rows, and a fraction of nothing is nothing"):
        targets_of(synthetic.spec(), replace(synthetic.data, n_train=0))


def test_targets_lie_on_one_possible_curve_and_meet_one_luck(synthetic: Any) -> None:
    """Between two near targets of one model the draws differ by the curve's slope and not by luck of their own."""
    spec = synthetic.spec(full_run={"workers": (1,), "fraction": 1.0, "smaller_targets": 20})
    found = [c for c in forecast(synthetic, spec).candidates if c.candidate.model == "cnn"]

    lows, times = [c.metric.low for c in found], [c.wall_time_s.median for c in found]
    slope = np.diff([1 - synthetic.error_rates["cnn"](c.candidate.n_samples) for c in found])
    # The spread of single runs is 30 times the slope of a step; draws of one's own would make the steps jump by it.
    assert np.abs(np.diff([c.metric.mean for c in found]) - slope).max() < 1e-3
    assert np.abs(np.diff(lows)).max() < 3e-3
    ratio = np.array(times) / np.array([c.candidate.n_samples for c in found])
    assert (np.diff(ratio) < 0).all()  # fixed costs are spread over more rows, at every step


def test_the_largest_target_is_the_same_whatever_smaller_ones_there_are(synthetic: Any) -> None:
    alone, among = (
        at_full_size(forecast(synthetic, synthetic.spec(full_run={"smaller_targets": n}), n_draws=4096)) for n in (0, 3)
    )

    for a, b in zip(alone, among, strict=True):
        assert a.metric.mean == pytest.approx(b.metric.mean, abs=5e-4)
        assert (a.metric.low, a.metric.high) == pytest.approx((b.metric.low, b.metric.high), abs=2e-3)
        assert (a.cost_usd, a.wall_time_s) == (b.cost_usd, b.wall_time_s)


def test_net_value_is_gain_less_threshold_times_dollars(synthetic: Any) -> None:
    for threshold in (0.0, 2.0):
        for c in forecast(synthetic, synthetic.spec(decision={"min_gain_per_dollar": threshold})).candidates:
            assert c.net_value is not None
            assert c.net_value.mean == pytest.approx(c.gain.mean - threshold * c.cost_usd.mean, abs=1e-9)


def test_a_run_that_is_given_up_is_paid_for_all_the_same(synthetic: Any) -> None:
    hopeless = PricingSpec(usd_per_worker_hour=1.0, mtbf_worker_h=1e-6)
    spec = synthetic.spec(pricing=hopeless, decision={"min_gain_per_dollar": 0.5}, full_run={"workers": (1,)})

    for found in forecast(synthetic, spec).candidates:
        assert found.net_value is not None
        assert found.net_value.mean == pytest.approx(-0.5 * found.cost_usd.mean)


# --- suppositions ---------------------------------------------------------------------------------------------------


def test_rows_that_do_not_exist_are_forecast_and_their_bytes_are_billed(synthetic: Any) -> None:
    pricing = PricingSpec(usd_per_worker_hour=1.0, storage=StorageSpec(usd_per_gb_month=1000.0))
    spec = synthetic.spec(full_run={"fraction": 3.0, "smaller_targets": 1, "workers": (1,)}, pricing=pricing)

    found = {(c.candidate.model, c.candidate.fraction): c for c in forecast(synthetic, spec).candidates}

    more = found["cnn", 3.0]
    assert more.candidate.n_samples == 30_000
    assert str(more.candidate) == "cnn on 3x of today's data, 1 worker, on-demand"
    assert more.metric.low <= 1 - synthetic.error_rates["cnn"](30_000) <= more.metric.high
    assert more.wall_time_s.median == pytest.approx(3 * found["cnn", 1.0].wall_time_s.median, rel=0.1)
    stored = {f: line.cost_usd.mean for (_, f), c in found.items() for line in c.bill.lines
              if line.item == "data set storage" and line.cost_usd is not None}  # fmt: skip
    assert stored[3.0] == pytest.approx(3 * stored[1.0])
    (said,) = assumptions_of(spec, synthetic.data)
    assert "supposes 20,000 training rows that are still to be collected" in said


def test_more_wrong_labels_are_never_better_and_none_change_nothing(synthetic: Any) -> None:
    def cnn(noise: float | None) -> CandidateForecast:
        spec = synthetic.spec(data=DataSpec(source="task", label_noise=noise))
        # Scope and keys of the evidence do not know of suppositions.
        return next(c for c in at_full_size(forecast(synthetic, spec)) if c.candidate.model == "cnn")

    means = [cnn(noise).metric.mean for noise in (0.0, 0.01, 0.1, 0.3)]

    assert cnn(None).metric == cnn(0.0).metric
    assert all(a > b for a, b in itertools.pairwise(means))
    # Between averaging (23% fewer rows) and learning by heart (10% more errors), uniform: half-way is 5% below.
    assert means[0] - means[2] == pytest.approx(0.05, abs=0.015)
    assert cnn(0.1).cost_usd == cnn(None).cost_usd


@pytest.mark.parametrize(
    ("noise", "metric", "classes", "message"),
    [
        (0.9, "accuracy", 10, "with 10 classes labels are pure chance at 0.9; suppose less"),
        (0.5, "accuracy", 2, "with 2 classes labels are pure chance at 0.5"),
        (0.1, "loss", 10, "was asked of a loss"),
        (0.1, "accuracy", 0, "was asked of data with 0 classes"),
        (0.8, "accuracy", 10, "10,000 rows may teach as little as 123, fewer than the smallest measured 500"),
    ],
)
def test_a_supposition_that_nothing_is_known_of_is_refused(
    synthetic: Any, noise: float, metric: str, classes: int, message: str
) -> None:
    other = synthetic.but(data=replace(synthetic.data, class_counts={str(k): 10 for k in range(classes)}))
    spec = other.spec(data=DataSpec(source="task", label_noise=noise), decision={"metric": metric})

    with pytest.raises(EvidenceError, match=message):
        decide(spec, other.data, other.results(spec), other.rates(spec), checkpoint_bytes={}, n_draws=200)


def test_what_is_supposed_of_labels_is_said_with_what_is_assumed_of_the_others(synthetic: Any) -> None:
    (said,) = assumptions_of(synthetic.spec(data=DataSpec(source="task", label_noise=0.1)), synthetic.data)

    assert "10% of the training labels are wrong" in said
    assert "teaching like 0.79 of the rows" in said
    assert "today's training labels are taken as right" in said
    assert "validation labels stay as they are" in said
    assert assumptions_of(synthetic.spec(), synthetic.data) == ()
