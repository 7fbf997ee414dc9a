"""Spot markets: stated, assumed, and from a history, against hand-worked and simulated ones."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.cost.spot import TRACES, market_from_runs, spot_market

HOUR = 3600.0
# No age counts less, nothing is drawn to the market's mean, nothing drifts: the plain mean of a history.
PLAIN = replace(TRACES, half_life_h=1e9, prior_count=1e-9, uptime_error=0.0, downtime_error=0.0)


def test_stated_figures_centre_the_market() -> None:
    market = spot_market(7.0, 0.25)

    assert market.mean_uptime_s.median == 7 * HOUR
    assert market.mean_downtime_s.median == 0.25 * HOUR
    assert market.mean_uptime_s.low < 7 * HOUR / 2 < 14 * HOUR < market.mean_uptime_s.high
    assert not market.assumed
    assert "up-time 7 h" in market.source
    assert "as stated" in market.source
    assert "ASSUMED" not in market.source


@pytest.mark.parametrize("stated", [(None, None), (7.0, None), (None, 0.25)])
def test_a_figure_that_nobody_states_is_assumed_and_said_to_be(stated: tuple[float | None, float | None]) -> None:
    market = spot_market(*stated)

    assert market.assumed
    assert market.source.count("ASSUMED") == stated.count(None)
    assert market.mean_uptime_s.low < market.mean_uptime_s.median < market.mean_uptime_s.mean


@pytest.mark.parametrize("stated", [(0.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (1.0, -1.0), (1.0, math.inf)])
def test_a_stated_figure_out_of_range_is_refused(stated: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"must be (above 0|at least 0) hours.*give None when it is unknown"):
        spot_market(*stated)


def test_a_short_history_is_weighed_as_worked_out_by_hand() -> None:
    # 2 h up, 1 h down, 4 h up and still going on: 6 h up and 1 preemption, 1 h down and 1 return.
    market = market_from_runs(np.array([2.0, 4.0]) * HOUR, np.array([HOUR]), statistics=PLAIN)

    assert market.mean_uptime_s.median == pytest.approx(6 * HOUR)
    assert market.mean_downtime_s.median == pytest.approx(1 * HOUR)
    assert market.assumed  # one preemption is hardly a measurement


def test_an_hour_one_half_life_ago_counts_half() -> None:
    statistics = replace(PLAIN, half_life_h=10.0, prior_count=0.5)
    # Down for 10 h until now; the preemption before that weighs a half, and so does each hour before it, or less.
    market = market_from_runs(np.array([1000 * HOUR]), np.array([10 * HOUR]), statistics=statistics)

    up_h, preemptions = 0.5 * 10 / math.log(2), 0.5
    mean_h = (up_h + 0.5 * TRACES.mean_uptime_h) / (preemptions + 0.5)
    assert market.mean_uptime_s.median == pytest.approx(mean_h * HOUR, rel=1e-6)


def test_a_history_that_begins_down_is_the_same_shifted_by_one() -> None:
    up, down = np.array([2.0, 4.0]) * HOUR, np.array([3.0, 1.0]) * HOUR

    market = market_from_runs(up, down, starts_up=False, statistics=PLAIN)

    assert market.mean_uptime_s.median == pytest.approx(6 * HOUR)  # 1 preemption: the last up-time goes on
    assert market.mean_downtime_s.median == pytest.approx(2 * HOUR)


def test_no_preemption_yet_leaves_the_markets_mean_and_what_was_survived() -> None:
    market = market_from_runs(np.array([5 * HOUR]), np.array([]), statistics=replace(PLAIN, prior_count=2.0))

    assert market.mean_uptime_s.median == pytest.approx((5 / 2 + TRACES.mean_uptime_h) * HOUR)
    assert market.mean_downtime_s.median == pytest.approx(TRACES.mean_downtime_h * HOUR)


@pytest.mark.parametrize("shape", [1.0, 0.7, 0.5])
def test_a_long_history_recovers_the_means_of_exponential_and_weibull_markets_within_six_percent(shape: float) -> None:
    rng, scale = np.random.default_rng(4), 1 / math.gamma(1 + 1 / shape)
    up, down = (mean * scale * rng.weibull(shape, 8000) * HOUR for mean in (3.0, 1.5))

    market = market_from_runs(up, down, statistics=PLAIN)

    assert market.mean_uptime_s.median == pytest.approx(3 * HOUR, rel=0.06)
    assert market.mean_downtime_s.median == pytest.approx(1.5 * HOUR, rel=0.06)


def test_a_market_that_changed_days_ago_is_forecast_as_it_is_now() -> None:
    rng = np.random.default_rng(6)
    before, now = (rng.exponential(mean * HOUR, n) for mean, n in ((8.0, 50), (1.0, 60)))
    up = np.concatenate([before, now])

    market = market_from_runs(up, np.full(len(up), HOUR))

    assert market.mean_uptime_s.low < HOUR < market.mean_uptime_s.high
    assert market.mean_uptime_s.median < 2 * HOUR < up.mean()


def test_the_interval_of_a_drifting_market_holds_its_next_mean_nine_times_in_ten() -> None:
    rng, held, n = np.random.default_rng(8), 0, 1000
    for _ in range(n):
        of_zone_s = TRACES.mean_uptime_h * HOUR * math.exp(0.6 * rng.standard_normal())
        up, down = rng.exponential(of_zone_s, 100), rng.exponential(HOUR, 100)
        next_s = of_zone_s * math.exp(TRACES.uptime_error * rng.standard_normal())
        interval = market_from_runs(up, down).mean_uptime_s
        held += interval.low <= next_s <= interval.high

    assert held / n == pytest.approx(0.9, abs=0.04)


@pytest.mark.parametrize(
    ("up", "down", "words"),
    [([], [], "must alternate"), ([1.0], [1.0, 1.0, 1.0], "must alternate"), ([1.0, 1.0, 1.0], [1.0], "must alternate"),
     ([1.0, 0.0], [1.0], "above 0"), ([math.nan], [], "above 0"), ([math.inf], [1.0], "above 0")],
)  # fmt: skip
def test_runs_that_are_no_history_are_refused(up: list[float], down: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        market_from_runs(np.array(up), np.array(down))
