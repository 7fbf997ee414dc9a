"""Answers that a known curve has: sizes that reach a goal, gains of more data, and nothing said beyond the limit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.curves.learning import fit_learning_curve
from orchestrator.curves.questions import (
    MORE_DATA,
    SizeToReach,
    ask,
    fault_of_value,
    marginal_gain,
    oriented,
    size_to_reach,
    turned,
)
from orchestrator.errors import EvidenceError
from orchestrator.results import Interval

SIZES = np.array([100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0])
LOSS_BOUNDS = (0.0, math.inf)


def power_law(n: np.ndarray | float, floor: float, reducible: float, exponent: float) -> np.ndarray:
    """``reducible`` is the part at the smallest size that more data takes away."""
    value: np.ndarray = floor + reducible * (np.asarray(n) / SIZES[0]) ** -exponent
    return value


def fit_of(floor: float, reducible: float, exponent: float, *, noise: float = 0.0, seeds: int = 1, rng_seed: int = 0):
    n = np.repeat(SIZES, seeds)
    scatter = noise * np.random.default_rng(rng_seed).standard_normal(len(n))
    return fit_learning_curve(n, np.clip(power_law(n, floor, reducible, exponent) + scatter, 0, 1))


def ends(found: SizeToReach) -> list[float]:
    """Low, median and high, infinite where the goal is not reached."""
    return [math.inf if n is None else n for n in (found.low_n, found.median_n, found.high_n)]


# --- size to reach ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("true_n", [300.0, 1000.0, 2500.0])
def test_a_size_within_the_data_is_found_to_a_tenth(exponent: float, true_n: float) -> None:
    goal = float(power_law(true_n, 0.05, 0.4, exponent))

    found = size_to_reach(fit_of(0.05, 0.4, exponent), goal, 12_800)

    assert found.median_n == pytest.approx(true_n, rel=0.10)
    assert found.probability > 0.95


@pytest.mark.parametrize(("exponent", "tolerance"), [(0.5, 0.25), (0.9, 0.33)])
def test_a_size_of_twice_the_data_is_found_to_a_quarter_or_near_a_floor_to_a_third_and_lies_in_the_interval(
    exponent: float, tolerance: float
) -> None:
    true_n = 2 * SIZES[-1]
    goal = float(power_law(true_n, 0.02, 0.4, exponent))

    found = size_to_reach(fit_of(0.02, 0.4, exponent), goal, 100 * SIZES[-1])

    # Near a floor a third of the size is 0.4 points of error, which is what the forecast is good to.
    assert found.median_n == pytest.approx(true_n, rel=tolerance)
    low, _, high = ends(found)
    assert low <= true_n <= high


def test_the_90_percent_interval_holds_the_true_size_in_at_least_80_percent_of_noisy_curves() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for trial in range(60):
        floor, reducible, exponent = rng.uniform(0.0, 0.1), rng.uniform(0.2, 0.5), rng.uniform(0.3, 0.9)
        true_n = 2 * SIZES[-1]
        fit = fit_of(floor, reducible, exponent, noise=0.004, seeds=3, rng_seed=trial)
        low, _, high = ends(size_to_reach(fit, float(power_law(true_n, floor, reducible, exponent)), 50 * SIZES[-1]))
        hits += low <= true_n <= high

    # 60 simulations tell a rate to 4 points; the prior expects more drift than these curves have.
    assert hits / 60 >= 0.80


@given(max_n=st.floats(SIZES[0], 1e7), goal=st.floats(0.0, 1.0))
@settings(max_examples=40, deadline=None)
def test_no_size_beyond_the_limit_is_ever_named(max_n: float, goal: float) -> None:
    found = size_to_reach(fit_of(0.05, 0.4, 0.5), goal, max_n)

    named = [n for n in (found.low_n, found.median_n, found.high_n, found.measured_n) if n is not None]
    assert all(SIZES[0] <= n <= max_n * (1 + 1e-9) for n in named)
    assert ends(found) == sorted(ends(found))
    assert 0 <= found.probability <= 1
    assert (found.median_n is None) == (found.probability <= 0.5)


@given(easier=st.floats(0.0, 0.2), farther=st.floats(1.0, 50.0))
@settings(max_examples=12, deadline=None)
def test_an_easier_goal_and_a_farther_limit_never_lower_the_probability(easier: float, farther: float) -> None:
    fit = fit_of(0.05, 0.4, 0.5)
    first = size_to_reach(fit, 0.09, 6400)

    # The grids of two limits differ, so that a draw which dips between two of their sizes may be seen by one alone.
    assert size_to_reach(fit, 0.09, 6400 * farther).probability >= first.probability - 0.02
    assert size_to_reach(fit, 0.09 + easier, 6400).probability >= first.probability
    assert all(np.array(ends(size_to_reach(fit, 0.09 + easier, 6400))) <= np.array(ends(first)))


def test_the_probability_is_the_share_of_curves_at_or_below_the_goal_by_the_limit() -> None:
    fit = fit_of(0.0, 0.4, 0.5)
    goal = float(np.median(fit.worlds([10 * SIZES[-1]])))

    found = size_to_reach(fit, goal, 10 * SIZES[-1])

    # A draw may reach the goal and rise again, hence the upper side.
    assert 0.5 <= found.probability <= 0.6


def test_a_goal_that_a_measured_size_reached_is_answered_with_that_size() -> None:
    fit = fit_of(0.05, 0.4, 0.5)

    found = size_to_reach(fit, float(power_law(800.0, 0.05, 0.4, 0.5)) + 1e-9, 3200)

    assert found.measured_n == 800
    assert found.median_n == pytest.approx(800, rel=0.1)


def test_a_goal_that_the_smallest_size_reached_already_is_answered_with_it() -> None:
    found = size_to_reach(fit_of(0.05, 0.4, 0.5), 0.9, 3200)

    assert ends(found) == [SIZES[0]] * 3
    assert (found.smallest_n, found.measured_n, found.probability) == (SIZES[0], SIZES[0], 1.0)


def test_a_goal_out_of_reach_has_no_size_and_a_probability_near_0() -> None:
    found = size_to_reach(fit_of(0.2, 0.3, 0.5), 0.01, 2 * SIZES[-1])

    assert (found.median_n, found.high_n, found.measured_n) == (None, None, None)
    assert found.probability < 0.1


def test_a_size_that_was_measured_but_lies_beyond_the_limit_is_no_answer() -> None:
    goal = float(power_law(3200.0, 0.05, 0.4, 0.5)) + 1e-9

    assert size_to_reach(fit_of(0.05, 0.4, 0.5), goal, 1600).measured_n is None


@pytest.mark.parametrize(
    ("value", "max_n", "level", "message"),
    [
        (1.5, 3200, 0.9, "must lie in 0 to 1, got 1.5"),
        (math.nan, 3200, 0.9, "must lie in 0 to 1, got nan"),
        (0.1, 50, 0.9, "at least the smallest measured size 100, got 50"),
        (0.1, math.inf, 0.9, "max_n must be at least"),
        (0.1, 3200, 90, "0.9 means 90%"),
    ],
)
def test_an_impossible_question_is_refused(value: float, max_n: float, level: float, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        size_to_reach(fit_of(0.05, 0.4, 0.5), value, max_n, level)


# --- marginal gain ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("factor", [1.0, 4.0])
def test_the_gain_of_doubling_a_known_curve_lies_in_its_interval(exponent: float, factor: float) -> None:
    at_n = factor * SIZES[-1]
    truth = float(power_law(at_n, 0.05, 0.4, exponent) - power_law(2 * at_n, 0.05, 0.4, exponent))

    found = marginal_gain(fit_of(0.05, 0.4, exponent), at_n, more=1.0)

    assert found.low <= truth <= found.high
    assert found.median == pytest.approx(truth, abs=0.01)


@given(at_n=st.floats(SIZES[-1], 1e6), more=st.floats(0.01, 10.0))
@settings(max_examples=30, deadline=None)
def test_gains_along_one_curve_add_up(at_n: float, more: float) -> None:
    fit = fit_of(0.05, 0.4, 0.5)
    middle = at_n * (1 + more)

    first, second = marginal_gain(fit, at_n, more), marginal_gain(fit, middle, more)
    both = marginal_gain(fit, at_n, (1 + more) ** 2 - 1)

    assert both.mean == pytest.approx(first.mean + second.mean, abs=1e-9)


def test_a_gain_is_told_along_one_curve_and_not_between_two_separate_uncertainties() -> None:
    fit = fit_of(0.05, 0.4, 0.5, noise=0.004, seeds=3)
    at_n = 5 * SIZES[-1]
    before, after = fit.interval(at_n, kind="confidence"), fit.interval(at_n * 1.1, kind="confidence")

    found = marginal_gain(fit, at_n)

    assert found.high - found.low < 0.5 * math.hypot(before.high - before.low, after.high - after.low)


def test_a_curve_that_went_flat_gains_less_than_one_that_falls() -> None:
    flat, falling = fit_of(0.30, 0.001, 0.5), fit_of(0.0, 0.3, 0.5)

    assert marginal_gain(flat, SIZES[-1]).median < marginal_gain(falling, SIZES[-1]).median


@pytest.mark.parametrize(
    ("at_n", "more", "message"),
    [(50, 0.1, "below the smallest measured size"), (3200, 0.0, "more must be"), (3200, math.nan, "more must be")],
)
def test_a_gain_below_the_data_or_of_no_more_data_is_refused(at_n: float, more: float, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        marginal_gain(fit_of(0.05, 0.4, 0.5), at_n, more)


# --- all at once ------------------------------------------------------------------------------------------------------


def test_an_accuracy_is_answered_as_the_mirror_image_of_its_error_rate() -> None:
    fit = fit_of(0.05, 0.4, 0.5, noise=0.004, seeds=3)

    accuracy, error = ask(fit, "accuracy", 10_000, reach=0.9), ask(fit, "error_rate", 10_000, reach=0.1)

    assert accuracy.curve == oriented(error.curve, "accuracy")
    assert accuracy.new_run.low == 1 - error.new_run.high
    assert accuracy.backtest is not None
    assert error.backtest is not None
    assert accuracy.backtest[1] == 1 - error.backtest[1]
    assert (accuracy.gain_at_largest, accuracy.gain_at_target) == (error.gain_at_largest, error.gain_at_target)
    assert accuracy.reach is not None
    assert error.reach is not None
    assert accuracy.reach.value == 0.9
    assert ends(accuracy.reach) == pytest.approx(ends(error.reach), rel=1e-6)


def test_the_answers_say_what_they_rest_on() -> None:
    answers = ask(fit_of(0.05, 0.4, 0.5, noise=0.004, seeds=3), "error_rate", 16_000)

    assert (answers.n_sizes, answers.n_points) == (6, 18)
    assert (answers.smallest_n, answers.largest_n, answers.extrapolation_factor) == (100, 3200, 5)
    assert answers.is_backtest_held
    assert answers.reach is None
    assert answers.gain_at_target == marginal_gain(fit_of(0.05, 0.4, 0.5, noise=0.004, seeds=3), 16_000, more=MORE_DATA)


def test_a_new_run_is_never_surer_than_the_curve() -> None:
    for metric in ("accuracy", "error_rate"):
        answers = ask(fit_of(0.0, 0.4, 0.9), metric, 1e6)

        assert answers.new_run.low <= answers.curve.low
        assert answers.new_run.high >= answers.curve.high


def test_a_loss_may_exceed_1() -> None:
    fit = fit_learning_curve(SIZES, 2 + power_law(SIZES, 0.0, 3.0, 0.5), bounds=LOSS_BOUNDS)

    answers = ask(fit, "loss", 10_000, reach=2.5)

    assert answers.curve.low <= float(2 + power_law(10_000, 0.0, 3.0, 0.5)) <= answers.curve.high
    assert answers.reach is not None
    assert answers.reach.value == 2.5


def test_three_sizes_have_no_backtest() -> None:
    answers = ask(fit_learning_curve(SIZES[:3], [0.5, 0.4, 0.35]), "error_rate", 1000)

    assert (answers.backtest, answers.is_backtest_held) == (None, None)


@pytest.mark.parametrize(
    ("value", "metric", "message"),
    [
        (math.nan, "loss", "loss is nan"),
        (-0.1, "loss", "at least 0"),
        (93.0, "accuracy", "divide by 100"),
        (-0.1, "error_rate", "must lie in 0 to 1"),
        (101.0, "accuracy", "must lie in 0 to 1"),
    ],
)
def test_a_number_that_cannot_be_the_metric_is_told_so(value: float, metric: str, message: str) -> None:
    fault = fault_of_value(value, metric)

    assert fault is not None
    assert message in fault


@given(value=st.floats(0, 1))
def test_turning_a_value_twice_gives_it_back(value: float) -> None:
    for metric in ("accuracy", "error_rate", "loss"):
        assert turned(turned(value, metric), metric) == pytest.approx(value)
        assert fault_of_value(value, metric) is None


def test_an_interval_of_the_error_rate_is_turned_with_its_ends_swapped() -> None:
    error = Interval(low=0.1, median=0.2, high=0.4, mean=0.25)

    assert oriented(error, "accuracy") == Interval(low=0.6, median=0.8, high=0.9, mean=0.75)
    assert oriented(error, "error_rate") is error
