"""Learning curves: known truths come back, intervals hold what they say, bad input is refused or diagnosed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from orchestrator.curves.families import FAMILIES, Family
from orchestrator.curves.learning import backtest, fit_learning_curve, forecast
from orchestrator.curves.learning_prior import RUN_NOISE_DECAY
from orchestrator.errors import EvidenceError, UnderdeterminedFitError

SIZES = np.array([100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0])
LOSS_BOUNDS = (0.0, float("inf"))


def power_law(n: np.ndarray, c: float, a: float, b: float) -> np.ndarray:
    """a is the reducible part at the smallest size."""
    value: np.ndarray = c + a * (n / SIZES[0]) ** -b
    return value


def width(n: np.ndarray, value: np.ndarray, target: float) -> float:
    quantiles = forecast(n, value, target)["quantiles"]
    return quantiles[0.95] - quantiles[0.05]


@pytest.mark.parametrize(
    ("floor", "bounds", "exponent", "tolerance"),
    [(1.8, LOSS_BOUNDS, exponent, 0.03) for exponent in (0.2, 0.5, 1.0)]
    # The networks forecast no formula: at this one 0.6 points of error too low, which is 7% of it.
    + [(0.05, (0.0, 1.0), 0.2, 0.03), (0.05, (0.0, 1.0), 0.5, 0.08), (0.05, (0.0, 1.0), 1.0, 0.03)],
)
def test_noise_free_power_law_is_forecast_at_four_times_the_data_within_3_and_once_8_percent_of_the_value(
    floor: float, bounds: tuple[float, float], exponent: float, tolerance: float
) -> None:
    truth = float(power_law(np.array([4 * SIZES[-1]]), floor, 0.4, exponent)[0])

    found = forecast(SIZES, power_law(SIZES, floor, 0.4, exponent), 4 * SIZES[-1], bounds)

    assert found["quantiles"][0.5] == pytest.approx(truth, rel=tolerance)
    assert found["quantiles"][0.05] <= truth <= found["quantiles"][0.95]


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(12)))
def test_order_and_grouping_of_the_trials_change_nothing(order: list[int]) -> None:
    n = np.repeat(SIZES, 2)
    value = power_law(n, 0.1, 0.3, 0.5) + 0.01 * np.sin(np.arange(12.0))

    assert forecast(n[order], value[order], 8000) == forecast(n, value, 8000)


@settings(max_examples=60, deadline=None)
@given(
    scale=st.floats(0.0005, 0.02), more=st.floats(1.0, 4.0), exponent=st.floats(0.1, 1.2), seed=st.integers(0, 1000),
    is_new_run=st.booleans(),
)  # fmt: skip
def test_more_noise_between_seeds_never_narrows_the_forecast(
    scale: float, more: float, exponent: float, seed: int, is_new_run: bool
) -> None:
    n = np.repeat(SIZES, 4)
    pattern = np.random.default_rng(seed).standard_normal((len(SIZES), 4))
    pattern = (pattern - pattern.mean(1, keepdims=True)).ravel()  # sizes keep their means, only the spread grows
    clean = power_law(n, 0.2, 0.3, exponent)

    def found(noise: float) -> float:
        fit = fit_learning_curve(n, clean + noise * pattern)
        interval = fit.interval(8000, kind="prediction" if is_new_run else "confidence")
        return interval.high - interval.low

    # 2% or a hundredth of a point: the networks learned it from examples, nothing in their form demands it.
    assert found(more * scale) > 0.98 * found(scale) - 1e-4


def test_90_percent_prediction_interval_holds_85_to_97_percent_of_new_runs_on_drifting_power_laws() -> None:
    rng = np.random.default_rng(11)
    n = np.repeat(SIZES, 3)
    hits = 0
    for _ in range(400):
        floor, gain, b, tau = rng.uniform(0.02, 0.2), rng.uniform(0.1, 0.5), rng.lognormal(-0.5, 0.4), 0.06
        steps = np.append(np.diff(np.log(SIZES)), np.log(4.0))
        drift = np.concatenate([[0.0], np.cumsum(tau * np.sqrt(steps) * rng.standard_normal(len(steps)))])
        curve = power_law(np.append(SIZES, 4 * SIZES[-1]), floor, gain, b) * np.exp(drift)
        noise = 0.03 * curve
        seen = np.repeat(curve[:-1], 3) + np.repeat(noise[:-1], 3) * rng.standard_normal(len(n))
        new_run = curve[-1] + noise[-1] * rng.standard_normal()
        found = fit_learning_curve(n, np.clip(seen, 0, 1)).interval(4 * SIZES[-1])
        hits += found.low <= new_run <= found.high

    # 400 simulations tell a rate to 1.5 points; what a curve may wander was learned from others than these.
    assert 0.85 <= hits / 400 <= 0.97


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_90_percent_interval_of_the_curve_holds_84_to_100_percent_of_the_curves_of_each_family(family: Family) -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(200):
        ahead = np.exp(rng.uniform(np.log(1.5), np.log(20.0)))
        x = np.append(np.geomspace(np.exp(rng.uniform(np.log(0.01), np.log(0.2))), 1.0, rng.integers(4, 9)), ahead)
        phi = family.shape(x, family.cells[rng.integers(len(family.cells))][None, :])[0]
        low, high = np.sort(rng.uniform(0.02, 0.9, 2))
        phi, low = (phi - phi[-1], low) if family.has_floor else (phi, 0.0)
        curve = low + (high - low) * phi / phi[0]
        n = 1e4 * np.repeat(x[:-1], 3)
        seen = np.repeat(curve[:-1], 3) + 0.005 * rng.standard_normal(len(n))
        found = fit_learning_curve(n, np.clip(seen, 0, 1)).interval(1e4 * ahead, kind="confidence")
        hits += found.low <= curve[-1] <= found.high

    assert 0.84 <= hits / 200 <= 1.0


def test_prediction_interval_is_the_confidence_interval_widened_by_the_seed_noise() -> None:
    rng = np.random.default_rng(2)
    n = np.repeat(SIZES, 5)
    fit = fit_learning_curve(n, power_law(n, 0.2, 0.3, 0.5) + 0.01 * rng.standard_normal(len(n)))

    run = fit.sample(SIZES[-1], np.random.default_rng(0), 20000, "prediction")
    curve = fit.sample(SIZES[-1], np.random.default_rng(0), 20000, "confidence")

    dof = fit.noise_dof + 2
    student = fit.noise_std**2 * dof / (dof - 2)
    assert run.var() - curve.var() == pytest.approx(student, rel=0.15)


@pytest.mark.parametrize("decay", [0.0, 0.3, 1.0])
def test_seed_noise_is_pooled_from_replicates_within_a_quarter_however_it_falls_with_n(decay: float) -> None:
    rng = np.random.default_rng(3)
    n = np.repeat(SIZES, 20)
    spread = 0.004 * (SIZES[-1] / n) ** (decay / 2)

    fit = fit_learning_curve(n, power_law(n, 0.3, 0.3, 0.5) + spread * rng.standard_normal(len(n)))

    assert fit.noise_std == pytest.approx(0.004, rel=0.25)
    assert fit.noise_decay == pytest.approx(decay, abs=0.3)


def test_binomial_noise_of_the_validation_set_is_the_least_the_noise_can_be() -> None:
    n = np.repeat(SIZES, 2)
    fit = fit_learning_curve(n, power_law(n, 0.2, 0.3, 0.5), validation_size=100)

    p = float(power_law(SIZES[-1:], 0.2, 0.3, 0.5)[0])
    assert fit.noise_std == pytest.approx(np.sqrt(p * (1 - p) / 100))


def test_interval_widens_relative_to_the_value_with_the_extrapolation_factor() -> None:
    fit = fit_learning_curve(SIZES, power_law(SIZES, 0.1, 0.3, 0.5))

    # In units of the value the width may stop growing: the curve falls, and its lower end cannot pass the bound.
    found = [fit.interval(k * SIZES[-1]) for k in (1, 2, 8, 32)]
    widths = [(interval.high - interval.low) / interval.median for interval in found]

    assert widths == sorted(widths)
    assert fit.extrapolation_factor(2 * SIZES[-1]) == 2


@given(value=st.lists(st.floats(0, 1), min_size=6, max_size=6), target=st.floats(100, 1e7), infinite=st.booleans())
@example(value=[0.0] * 5 + [5e-324], target=100.0, infinite=True)
@settings(max_examples=60, deadline=None)
def test_forecasts_are_finite_ordered_and_inside_the_bounds(value: list[float], target: float, infinite: bool) -> None:
    bounds = LOSS_BOUNDS if infinite else (0.0, 1.0)
    assume(not infinite or max(value) > 0)  # refused, with a message; see below

    found = forecast(SIZES, value, target, bounds)
    low, middle, high = (found["quantiles"][q] for q in (0.05, 0.5, 0.95))

    assert bounds[0] <= low <= middle <= high <= bounds[1]
    assert np.isfinite([low, middle, high, found["mean"]]).all()


def test_backtest_forecasts_the_largest_size_from_the_smaller_ones() -> None:
    value = power_law(SIZES, 0.05, 0.4, 0.5)

    result = backtest(SIZES, value)

    assert result is not None
    interval, measured = result
    assert measured == value[-1]
    assert interval.low <= measured <= interval.high


def test_backtest_needs_three_smaller_sizes() -> None:
    assert backtest(SIZES[:3], [0.5, 0.4, 0.35]) is None


def test_backtest_never_sees_the_point_it_forecasts() -> None:
    value = power_law(SIZES, 0.05, 0.4, 0.5)
    altered = np.append(value[:-1], 0.9)

    first, second = backtest(SIZES, value), backtest(SIZES, altered)

    assert first is not None
    assert second is not None
    assert first[0] == second[0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([0.5, 0.4, 0.32, 0.26, 0.21, 0.17], "well-behaved"),
        ([0.3, 0.3, 0.3, 0.3, 0.3, 0.3], "flat"),
        ([0.5, 0.4, 0.32, 0.301, 0.3, 0.3], "plateau"),
        ([0.2, 0.25, 0.3, 0.35, 0.4, 0.45], "wrong-way"),
        ([0.5, 0.3, 0.45, 0.25, 0.2, 0.17], "non-monotone"),
    ],
)
def test_shape_of_the_curve_is_diagnosed(value: list[float], expected: str) -> None:
    pairs = np.ravel([[v - 0.001, v + 0.001] for v in value])

    assert expected in fit_learning_curve(np.repeat(SIZES, 2), pairs).diagnosis


def test_single_seeds_are_diagnosed_as_no_replicates() -> None:
    assert "no-replicates" in fit_learning_curve(SIZES, power_law(SIZES, 0.1, 0.3, 0.5)).diagnosis


def test_two_sizes_give_a_diagnosed_answer_wider_than_six() -> None:
    value = power_law(SIZES, 0.1, 0.3, 0.5)
    two = fit_learning_curve(SIZES[-2:], value[-2:])

    assert "too-few-points" in two.diagnosis
    assert width(SIZES[-2:], value[-2:], 12800) > width(SIZES, value, 12800)


@pytest.mark.parametrize(("n", "value"), [([100], [0.3]), ([100, 100, 100], [0.3, 0.31, 0.29]), ([], [])])
def test_fewer_than_two_sizes_are_refused(n: list[float], value: list[float]) -> None:
    with pytest.raises(UnderdeterminedFitError, match=r"at least 2 distinct points.*sweep\.fractions"):
        forecast(n, value, 1000)


@pytest.mark.parametrize(
    ("n", "value", "target", "message"),
    [
        ([100, 200], [0.3, float("nan")], 400, "value must be finite, got nan at position 1"),
        ([100, 200], [0.3, float("inf")], 400, "value must be finite, got inf"),
        ([100, float("inf")], [0.3, 0.2], 400, "n must be finite and above 0, got inf"),
        ([0, 200], [0.3, 0.2], 400, "n must be finite and above 0, got 0"),
        ([100, -5], [0.3, 0.2], 400, "n must be finite and above 0, got -5"),
        ([100, 200], [70.0, 80.0], 400, "percent: divide by 100"),
        ([100, 200], [-0.1, 0.2], 400, "outside the bounds"),
        ([100, 200], [0.3], 400, "n has 2, value has 1"),
        ([100, 200], [0.3, 0.2], 50, "below the smallest measured size 100"),
        ([100, 200], [0.3, 0.2], float("nan"), "target_n must be finite"),
    ],
)
def test_bad_input_is_refused_with_what_was_found(
    n: list[float], value: list[float], target: float, message: str
) -> None:
    with pytest.raises(EvidenceError, match=message):
        forecast(n, value, target)


@pytest.mark.parametrize("bounds", [(1.0, 0.0), (float("-inf"), 1.0), (0.0, float("nan"))])
def test_bounds_that_bound_nothing_are_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(EvidenceError, match="bounds must be"):
        forecast([100, 200], [0.3, 0.2], 400, bounds)


@pytest.mark.parametrize("rate", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("n_seeds", [1, 3])
def test_a_model_that_learns_nothing_is_told_flat_and_may_stay_so_at_any_size(rate: float, n_seeds: int) -> None:
    n = np.repeat(SIZES, n_seeds)
    value = rate + 0.003 * np.random.default_rng(1).standard_normal(len(n))

    fit = fit_learning_curve(n, np.clip(value, 0, 1))

    assert "flat" in fit.diagnosis
    for interval in fit.intervals([2 * SIZES[-1], 5 * SIZES[-1], 10 * SIZES[-1]]):
        assert interval.low <= rate <= interval.high


@pytest.mark.parametrize(("noise_std", "n_sizes"), [(0.005, 10), (0.02, 10), (0.01, 5)])
def test_with_single_seeds_the_interval_of_a_new_run_still_holds_82_percent_at_and_beyond_the_data(
    noise_std: float, n_sizes: int
) -> None:
    rng = np.random.default_rng(4)
    sizes = 100.0 * 2.0 ** np.arange(n_sizes)
    hits = []
    for _ in range(80):
        fit = fit_learning_curve(sizes, power_law(sizes, 0.1, 0.3, 0.5) + noise_std * rng.standard_normal(n_sizes))
        for interval, factor in zip(fit.intervals(sizes[-1] * np.array([1.0, 1.2, 4.0])), (1.0, 1.2, 4.0), strict=True):
            truth = power_law(np.array([factor * sizes[-1]]), 0.1, 0.3, 0.5)[0] + noise_std * rng.standard_normal()
            hits.append(interval.low <= truth <= interval.high)

    # The curves of one simulation share their points: 240 trials tell a rate to some 3 points.
    assert np.mean(hits) >= 0.82


@pytest.mark.parametrize(("n_seeds", "n_sizes"), [(1, 10), (3, 6), (3, 10)])
def test_a_flat_noisy_curve_is_told_to_rise_or_to_go_the_wrong_way_in_at_most_a_tenth_of_cases(
    n_seeds: int, n_sizes: int
) -> None:
    rng = np.random.default_rng(6)
    sizes = 100.0 * 2.0 ** np.arange(n_sizes)
    n = np.repeat(sizes, n_seeds)
    std = 0.01 * (n / n[-1]) ** (-RUN_NOISE_DECAY[0] / 2)

    found = [fit_learning_curve(n, 0.3 + std * rng.standard_normal(len(n))).diagnosis for _ in range(100)]

    # 5% is aimed at; of 100, two standard errors.
    assert sum("non-monotone" in each or "wrong-way" in each for each in found) <= 10


def test_possible_curves_are_one_across_the_join_of_the_two_models() -> None:
    rng = np.random.default_rng(8)
    n = np.repeat(SIZES, 2)
    fit = fit_learning_curve(n, power_law(n, 0.1, 0.3, 0.5) + 0.01 * rng.standard_normal(len(n)))

    at, near, beyond = fit.worlds(SIZES[-1] * np.array([1.0, 1.1, 1.5]))

    assert np.corrcoef(at, near)[0, 1] > 0.9
    assert np.corrcoef(near, beyond)[0, 1] > 0.7


def test_two_sizes_are_not_told_surer_where_the_models_join_than_at_the_data() -> None:
    fit = fit_learning_curve([100, 200], [0.125, 0.103])

    at, *joined = (i.high - i.low for i in fit.intervals(200 * np.array([1.0, 1.1, 1.2, 1.3, 1.4])))

    assert min(joined) > 0.5 * at


def test_percent_with_their_own_bounds_are_a_hundred_times_the_rates() -> None:
    value = power_law(SIZES, 0.1, 0.3, 0.5)

    rate, percent = forecast(SIZES, value, 8000), forecast(SIZES, 100 * value, 8000, (0.0, 100.0))

    assert percent["quantiles"] == pytest.approx({q: 100 * each for q, each in rate["quantiles"].items()})


def test_widening_stretches_the_interval_about_its_median() -> None:
    value = power_law(SIZES, 0.2, 0.3, 0.5)
    plain, wide = (fit_learning_curve(SIZES, value, widen=w).interval(8000, kind="confidence") for w in (1.0, 1.5))

    assert wide.median == pytest.approx(plain.median)
    assert wide.high - wide.low == pytest.approx(1.5 * (plain.high - plain.low))


def test_losses_that_were_rounded_to_zero_are_forecast_wide_and_all_zero_is_refused() -> None:
    found = fit_learning_curve(SIZES, [0.9, 0.4, 0.1, 0.01, 0, 0], bounds=LOSS_BOUNDS).interval(8000)

    assert 0 <= found.low <= found.median <= found.high < 0.1
    assert found.high > 1e-3
    with pytest.raises(EvidenceError, match="every value is 0"):
        fit_learning_curve(SIZES, np.zeros(6), bounds=LOSS_BOUNDS)


def test_fractions_in_place_of_sample_counts_are_refused() -> None:
    with pytest.raises(EvidenceError, match=r"n is 0\.01 .* multiply it by the number of rows"):
        forecast([0.01, 0.02, 0.1], [0.5, 0.4, 0.3], 1)
