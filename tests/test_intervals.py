"""Intervals keep their probability, and money never reads as nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.intervals import (
    certain,
    draw,
    draw_positive,
    format_probability,
    format_quantity,
    format_usd,
    lognormal,
    summarise,
)
from orchestrator.results import Interval


def test_ninety_percent_of_the_draws_lie_inside() -> None:
    draws = np.random.default_rng(0).standard_normal(100_000)

    interval = summarise(draws)

    assert (interval.low, interval.high) == pytest.approx((-1.645, 1.645), abs=0.02)
    assert np.mean((draws >= interval.low) & (draws <= interval.high)) == pytest.approx(0.9, abs=1e-4)


def test_draws_from_an_interval_give_it_back() -> None:
    asked = Interval(low=1.0, median=2.0, high=5.0, mean=2.4)

    found = summarise(draw(asked, np.random.default_rng(0), 200_000))

    assert (found.low, found.median, found.high) == pytest.approx((1.0, 2.0, 5.0), abs=0.03)


def test_a_certain_quantity_stays_certain() -> None:
    assert np.ptp(draw(certain(3.0), np.random.default_rng(0), 10)) == 0.0


@pytest.mark.parametrize("bad", [[], [1.0, np.nan], [np.inf]])
def test_no_draws_or_infinite_ones_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="needs finite draws"):
        summarise(np.array(bad))


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0.0, "$0.00"), (0.00042, "$0.00042"), (0.0996, "$0.100"), (0.41, "$0.41"), (12.3, "$12.30"),
        (1234567.4, "$1,234,567"), (-0.5, "-$0.50"), (3e-9, "$3.0e-09"), (0.001, "$0.0010"),
    ],
)  # fmt: skip
def test_dollars_read_well_at_every_scale(amount: float, text: str) -> None:
    assert format_usd(amount) == text


def test_an_amount_that_is_not_zero_never_reads_as_zero() -> None:
    for exponent in range(-15, 9):
        text = format_usd(3.0 * 10.0**exponent)
        assert any(digit in text for digit in "123456789")


@pytest.mark.parametrize(
    ("p", "text"), [(0.8996, "0.8996"), (0.9, "0.90"), (0.9004, "0.90"), (0.5, "0.50"), (1.0, "1.00")]
)
def test_a_probability_shows_on_which_side_of_the_limit_it_lies(p: float, text: str) -> None:
    assert format_probability(p, 0.9) == text


def test_a_lognormal_interval_and_the_draws_from_it_agree() -> None:
    interval = lognormal(5.0, 0.8)
    drawn = draw_positive(interval, np.random.default_rng(0).standard_normal(200_000))

    assert np.quantile(drawn, [0.05, 0.5, 0.95]) == pytest.approx([interval.low, 5.0, interval.high], rel=0.02)
    assert drawn.mean() == pytest.approx(interval.mean, rel=0.02)


@pytest.mark.parametrize("median", [0.0, math.inf])
def test_nothing_and_for_ever_are_known_exactly(median: float) -> None:
    interval = lognormal(median, 0.8)

    assert (interval.low, interval.high) == (median, median)
    assert (draw_positive(interval, np.zeros(3)) == median).all()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0156, "0.0156"), (12.5, "12.5"), (999.4, "999"), (15_432_099.0, "15,432,099"), (0.0, "0"), (3e20, "3e+20")],
)
def test_a_quantity_has_three_digits_or_separators(value: float, text: str) -> None:
    assert format_quantity(value) == text
