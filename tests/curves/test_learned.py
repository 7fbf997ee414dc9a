"""The trained forecaster: its quantiles are a distribution, its file is the one its code reads."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.curves import learned
from orchestrator.curves.features import describe
from orchestrator.curves.learned import design, quantiles, shipped
from orchestrator.curves.measured import fold
from orchestrator.curves.quantile_net import LEVELS, MEDIAN, Spread, at_probability

SIZES = np.array([100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0])
FALLING = fold(SIZES, 0.1 + 0.3 * (SIZES / 100) ** -0.5)


def test_the_shipped_file_holds_the_descriptions_that_the_code_makes_and_is_below_300_kb() -> None:
    file = resources.files("orchestrator.curves").joinpath("learned.json")

    assert len(file.read_bytes()) < 300_000
    names, matrix = design(describe(FALLING, np.array([6400.0])), 0.1)
    assert shipped().inputs == names
    assert matrix.shape == (1, len(names))


@settings(max_examples=80, deadline=None)
@given(
    value=st.lists(st.floats(0, 1), min_size=2, max_size=8),
    n_seeds=st.integers(1, 4),
    ahead=st.lists(st.floats(1.01, 1e4), min_size=1, max_size=3),
    first=st.floats(1, 1e9),
)
def test_quantiles_are_finite_and_rise_for_any_curve_and_target(
    value: list[float], n_seeds: int, ahead: list[float], first: float
) -> None:
    sizes = np.repeat(first * 2.0 ** np.arange(len(value)), n_seeds)
    measured = fold(sizes, np.clip(np.repeat(value, n_seeds) + 0.01 * np.sin(np.arange(len(sizes))), 0, 1))

    told = quantiles(shipped(), measured, measured.size[-1] * np.array(ahead))

    assert told.shape == (len(ahead), len(LEVELS))
    assert np.isfinite(told).all()
    assert (np.diff(told, axis=1) >= 0).all()


def test_many_targets_at_once_are_the_same_as_each_alone() -> None:
    targets = np.array([5000.0, 20000.0, 80000.0])

    together = quantiles(shipped(), FALLING, targets)

    alone = [quantiles(shipped(), FALLING, np.array([target]))[0] for target in targets]
    assert together == pytest.approx(np.array(alone), abs=1e-12)


def test_what_is_drawn_has_the_quantiles_that_were_told() -> None:
    row = quantiles(shipped(), FALLING, np.array([20000.0]))[0]

    drawn = at_probability(row, (np.arange(100_000) + 0.5) / 100_000)

    assert np.quantile(drawn, LEVELS) == pytest.approx(row, abs=1e-4)


def test_every_difference_of_values_is_read_in_units_of_the_last_value() -> None:
    halved = fold(SIZES, FALLING.mean / 2)

    names, whole = design(describe(FALLING, np.array([6400.0])), FALLING.mean[-1])
    _, half = design(describe(halved, np.array([6400.0])), halved.mean[-1])

    # Weights and logarithms know of the level (a scatter of 0.1 points is nothing on one scale and much on another).
    free = [i for i, name in enumerate(names) if "log_" not in name and "weight" not in name and name != "last"]
    exact = [i for i in free if "mean" not in names[i] and "std" not in names[i] and "believed" not in names[i]
             and "now" not in names[i]]  # fmt: skip
    assert len(exact) > 50
    assert half[0, exact] == pytest.approx(whole[0, exact], rel=1e-6, abs=1e-6, nan_ok=True)


def test_a_spread_stretches_each_side_of_the_median_by_its_own_factor_between_its_knots() -> None:
    spread = Spread(ahead=(0.0, 2.0), below=(1.0, 3.0), above=(1.0, 1.0))

    factors = spread.factors(np.array([-1.0, 1.0, 5.0]))

    assert factors[:, 0].tolist() == [1.0, 2.0, 3.0]
    assert factors[:, MEDIAN:].tolist() == np.ones((3, len(LEVELS) - MEDIAN)).tolist()


def test_descriptions_do_not_depend_on_the_unit_of_n_but_for_its_logarithm() -> None:
    larger = fold(1000 * SIZES, FALLING.mean)

    first, second = (describe(each, np.array([4.0]) * each.size[-1]) for each in (FALLING, larger))

    for name in first:
        offset = np.log(1000) if name in ("log_n", "log_target_n") else 0.0
        assert second[name] == pytest.approx(np.asarray(first[name]) + offset, nan_ok=True), name


def test_a_description_that_a_short_curve_cannot_have_is_missing_and_read_as_usual() -> None:
    two = fold(SIZES[-2:], FALLING.mean[-2:])

    described = describe(two, np.array([6400.0]))

    assert np.isnan(described["slope_3"])
    assert np.isnan(described["seed_std"])
    names, matrix = design(described, 0.1)
    read = shipped().standardise(matrix)[0]
    assert read[names.index("slope_3")] == 0.0
    assert np.isfinite(read).all()


def test_a_curve_at_zero_error_still_has_a_unit() -> None:
    assert learned.unit_of(0.0) == learned.LEAST_UNIT
    told = quantiles(shipped(), fold(SIZES, np.zeros(6)), np.array([6400.0]))[0]
    assert np.abs(told).max() < 0.01
