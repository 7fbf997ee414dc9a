"""Preemption, checkpoints and markets, against limits, hand-worked cases and seeded simulations."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cost.spot import (
    TRACES,
    PreemptionDraws,
    SpotMarket,
    best_interval_s,
    break_even_interval_s,
    expected_time_s,
    market_from_runs,
    sample_preemptions,
    spot_market,
    young_interval_s,
)
from orchestrator.intervals import certain

HOUR = 3600.0
# No age counts less, nothing is drawn to the market's mean, nothing drifts: the plain mean of a history.
PLAIN = replace(TRACES, half_life_h=1e9, prior_count=1e-9, uptime_error=0.0, downtime_error=0.0)


def known_market(up_h: float, down_h: float) -> SpotMarket:
    return SpotMarket(
        mean_uptime_s=certain(up_h * HOUR), mean_downtime_s=certain(down_h * HOUR), assumed=False, source="told"
    )


def sampled(market: SpotMarket, *, n: int = 40_000, work_h: float = 8.0, instances: int = 1) -> PreemptionDraws:
    return sample_preemptions(
        np.full(n, work_h * HOUR), interval_s=np.full(n, 900.0), checkpoint_s=np.full(n, 30.0),
        restart_s=np.full(n, 300.0), market=market, instances=instances, rng=np.random.default_rng(5),
    )  # fmt: skip


def expected(uptime_s: float, work_h: float = 8.0) -> float:
    return float(
        expected_time_s(work_h * HOUR, interval_s=900.0, checkpoint_s=30.0, restart_s=300.0, mean_uptime_s=uptime_s)
    )


# --- the exact model ------------------------------------------------------------------------------------------------


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

    told = float(expected_time_s(3000.0, interval_s=300.0, checkpoint_s=15.0, restart_s=restart, mean_uptime_s=uptime))

    assert abs(times.mean() - told) < 4 * times.std() / np.sqrt(len(times))


def test_without_preemption_only_the_checkpoints_cost() -> None:
    time = expected_time_s(3600.0, interval_s=600.0, checkpoint_s=30.0, restart_s=100.0, mean_uptime_s=1e12)

    assert float(time) == pytest.approx(3600 * (1 + 30 / 600), rel=1e-6)


@pytest.mark.parametrize("shape", [0.5, 0.7, 0.9])
def test_weibull_up_times_of_the_same_mean_are_billed_within_four_percent_of_the_exact_model(shape: float) -> None:
    uptime, tau, d, restart = 2 * HOUR, 900.0, 30.0, 300.0
    ups = np.random.default_rng(2).weibull(shape, 1_000_000) * uptime / math.gamma(1 + 1 / shape)
    work = tau * np.floor(np.maximum(ups - restart, 0.0) / (tau + d)).sum()

    told = expected_time_s(work, interval_s=tau, checkpoint_s=d, restart_s=restart, mean_uptime_s=uptime)

    assert float(told) == pytest.approx(ups.sum(), rel=0.04)


def test_the_best_interval_is_the_minimum_of_the_expected_time() -> None:
    best = best_interval_s(30.0, 3600.0)
    grid = np.linspace(0.3 * best, 3 * best, 20001)

    times = expected_time_s(1e5, interval_s=grid, checkpoint_s=30.0, restart_s=60.0, mean_uptime_s=3600.0)

    assert grid[np.argmin(times)] == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("ratio", [1e-4, 1e-2, 0.1, 0.3])
def test_youngs_interval_costs_at_most_three_percent_more(ratio: float) -> None:
    uptime = 3600.0
    both = np.array([best_interval_s(ratio * uptime, uptime), young_interval_s(ratio * uptime, uptime)])

    best, young = expected_time_s(
        1e5, interval_s=both, checkpoint_s=ratio * uptime, restart_s=0.0, mean_uptime_s=uptime
    )

    assert best <= young <= 1.03 * best


# --- draws ----------------------------------------------------------------------------------------------------------


def test_a_job_that_can_never_finish_has_a_huge_but_finite_time() -> None:
    hopeless = {"interval_s": np.array([1e6]), "checkpoint_s": np.array([1.0]), "restart_s": np.array([60.0])}

    market = known_market(10.0 / HOUR, 0.0)
    drawn = sample_preemptions(np.array([1e7]), **hopeless, market=market, instances=1, rng=np.random.default_rng(0))

    assert np.isfinite(drawn.rework_s).all()
    assert drawn.rework_s[0] > 1e100


def test_what_is_rare_enters_with_its_expectation_and_not_as_none() -> None:
    n, month_h = 4000, 30 * 24
    job = {"interval_s": np.full(n, 900.0), "checkpoint_s": np.zeros(n), "restart_s": np.zeros(n)}

    market = known_market(1000 * month_h, 0.0)  # an hour's job meets a preemption once in 720,000 runs
    drawn = sample_preemptions(
        np.full(n, HOUR), **job, market=market, instances=1, rng=np.random.default_rng(0)
    )  # fmt: skip

    assert drawn.preemptions == pytest.approx(1 / (1000 * month_h), rel=1e-3)
    assert drawn.rework_s == pytest.approx(450 / (1000 * month_h), rel=1e-3)


@pytest.mark.parametrize("up_h", [0.5, 2.0, 20.0])
def test_a_known_market_is_sampled_with_the_means_of_the_exact_model(up_h: float) -> None:
    down_h = 0.8

    drawn = sampled(known_market(up_h, down_h), n=200_000)

    time = expected(up_h * HOUR)
    down_share = down_h / (up_h + down_h)
    first_wait_s = down_share * down_h * HOUR * (1 + 1 / TRACES.downtime_shape) / 2
    assert drawn.rework_s.mean() == pytest.approx(time - 8 * HOUR * (1 + 30 / 900), rel=0.02)
    assert drawn.preemptions.mean() == pytest.approx(time / (up_h * HOUR), rel=0.02)
    # The squared deviation of a wait is several times its mean's: 2.5% of the mean is about 3 standard errors.
    waiting_s = time / up_h * down_h + first_wait_s
    assert drawn.waiting_s.mean() == pytest.approx(waiting_s, rel=0.025)


@pytest.mark.parametrize("up_h", [1e9, math.inf])
def test_without_preemption_nothing_is_done_again_and_nobody_waits(up_h: float) -> None:
    drawn = sampled(known_market(up_h, 1.0))

    # Eight hours against a thousand million: what is rare stays as its expectation.
    assert drawn.preemptions.max() == pytest.approx(8 * (1 + 30 / 900) / up_h, rel=1e-3)
    assert drawn.rework_s.max() < 1e-4
    assert drawn.waiting_s.mean() < 1e-3


def test_a_next_machine_at_once_leaves_only_re_work() -> None:
    drawn = sampled(known_market(1.0, 0.0))

    assert drawn.waiting_s.max() == 0.0
    assert drawn.rework_s.mean() > 0


def test_re_work_and_preemptions_of_twice_the_work_are_twice_as_many_on_average() -> None:
    one, two = (sampled(spot_market(2.0, 0.5), work_h=work_h) for work_h in (24.0, 48.0))

    assert two.preemptions.mean() == pytest.approx(2 * one.preemptions.mean(), rel=0.03)
    assert two.rework_s.mean() == pytest.approx(2 * one.rework_s.mean(), rel=0.03)


def test_more_instances_never_mean_fewer_preemptions_or_less_waiting() -> None:
    draws = [sampled(spot_market(20.0, 0.5), instances=instances) for instances in (1, 2, 4, 8)]

    for fewer, more in itertools.pairwise(draws):
        for name in ("preemptions", "rework_s", "waiting_s"):
            assert getattr(more, name).mean() > getattr(fewer, name).mean()


def test_several_instances_are_one_of_an_up_time_so_much_shorter() -> None:
    one, four = sampled(known_market(2.0, 0.0)), sampled(known_market(8.0, 0.0), instances=4)

    np.testing.assert_allclose(one.rework_s, four.rework_s)


def test_an_uncertain_market_spreads_the_draws_and_a_known_one_less() -> None:
    known, unsure = (sampled(market) for market in (known_market(5.0, 1.0), spot_market(5.0, 1.0)))

    for name in ("rework_s", "waiting_s"):
        low, high = np.quantile(getattr(known, name), [0.05, 0.95])
        wider_low, wider_high = np.quantile(getattr(unsure, name), [0.05, 0.95])
        assert wider_high - wider_low > high - low


def test_the_same_seed_gives_the_same_draws() -> None:
    first, second = sampled(spot_market(None, None), n=100), sampled(spot_market(None, None), n=100)

    np.testing.assert_array_equal(first.waiting_s, second.waiting_s)


def test_hopeless_draws_stay_finite() -> None:
    n = 100
    drawn = sample_preemptions(
        np.full(n, 1e7), interval_s=np.full(n, 1e6), checkpoint_s=np.ones(n), restart_s=np.full(n, 60.0),
        market=known_market(0.01, 1.0), instances=3, rng=np.random.default_rng(0),
    )  # fmt: skip

    for name in ("rework_s", "waiting_s", "preemptions"):
        assert np.isfinite(getattr(drawn, name)).all()


# --- markets --------------------------------------------------------------------------------------------------------


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
    assert not market.assumed


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


# --- break-even -----------------------------------------------------------------------------------------------------

jobs = st.fixed_dictionaries(
    {
        "checkpoint_s": st.floats(0.0, 600.0),
        "restart_s": st.floats(0.0, 1800.0),
        "mean_uptime_s": st.floats(600.0, 1e7),
        "price_ratio": st.floats(0.01, 1.2),
    }
)


def bill_ratio(interval_s: float, job: dict[str, Any]) -> float:
    """Spot's expected bill over on-demand's, of one second of work."""
    job = dict(job)
    price_ratio = job.pop("price_ratio")
    on_demand = (interval_s + job["checkpoint_s"]) / interval_s
    return price_ratio * float(expected_time_s(1.0, interval_s=interval_s, **job)) / on_demand


@given(jobs)
def test_at_break_even_both_bills_are_equal_and_beyond_it_spot_is_dearer(job: dict[str, Any]) -> None:
    interval_s = break_even_interval_s(**job)

    if interval_s is None:
        assert bill_ratio(1e-3, job) > 1 - 1e-5
    else:
        assert bill_ratio(interval_s, job) == pytest.approx(1, rel=1e-6)
        assert bill_ratio(2 * interval_s, job) >= 1 - 1e-6


@given(jobs, st.floats(0.5, 0.99))
def test_a_cheaper_spot_price_never_shortens_the_break_even_interval(job: dict[str, Any], cheaper: float) -> None:
    now = break_even_interval_s(**job)
    then = break_even_interval_s(**{**job, "price_ratio": cheaper * job["price_ratio"]})

    assert now is None or (then is not None and then >= now)


def test_break_even_has_its_limits() -> None:
    job = {"checkpoint_s": 60.0, "restart_s": 300.0}

    assert break_even_interval_s(**job, mean_uptime_s=math.inf, price_ratio=0.9) == math.inf
    assert break_even_interval_s(**job, mean_uptime_s=math.inf, price_ratio=1.1) is None
    assert break_even_interval_s(**job, mean_uptime_s=HOUR, price_ratio=1.0) is None
    assert break_even_interval_s(**job, mean_uptime_s=HOUR, price_ratio=math.exp(-300 / HOUR) * 0.999) is None
