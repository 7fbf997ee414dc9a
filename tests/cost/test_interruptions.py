"""Interrupted work, against limits, an exact formula and a seeded simulation event by event."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from orchestrator.cost.interruptions import (
    GIVE_UP_AFTER,
    InterruptionDraws,
    best_interval_s,
    expected_time_s,
    sample_interruptions,
    young_interval_s,
)
from orchestrator.cost.spot import TRACES, SpotMarket, spot_market
from orchestrator.intervals import certain

HOUR = 3600.0
STEADY = SpotMarket(mean_uptime_s=certain(math.inf), mean_downtime_s=certain(0.0), assumed=False, source="told")


def known_market(up_h: float, down_h: float) -> SpotMarket:
    return SpotMarket(
        mean_uptime_s=certain(up_h * HOUR), mean_downtime_s=certain(down_h * HOUR), assumed=False, source="told"
    )


def sampled(
    market: SpotMarket | None,
    *,
    n: int = 40_000,
    work_h: float = 8.0,
    instances: int = 1,
    failing: SpotMarket | None = None,
    workers: int = 1,
    interval_s: float = 900.0,
    restart_s: float = 300.0,
    give_up_after: float = GIVE_UP_AFTER,
) -> InterruptionDraws:
    return sample_interruptions(
        np.full(n, work_h * HOUR), interval_s=np.full(n, interval_s), checkpoint_s=np.full(n, 30.0),
        restart_s=np.full(n, restart_s), market=market, instances=instances, failing=failing, workers=workers,
        rng=np.random.default_rng(5), give_up_after=give_up_after,
    )  # fmt: skip


def expected(uptime_s: float, work_h: float = 8.0) -> float:
    """Of the whole job: Daly's time, and the first start-up, which may fail too."""
    steps = expected_time_s(work_h * HOUR, interval_s=900.0, checkpoint_s=30.0, restart_s=300.0, mean_uptime_s=uptime_s)
    return float(steps) + uptime_s * math.expm1(300.0 / uptime_s)


def rework_s(drawn: InterruptionDraws) -> np.ndarray:
    return drawn.preemption_rework_s + drawn.failure_rework_s


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


def test_a_checkpoint_that_costs_nothing_may_come_at_any_time() -> None:
    assert best_interval_s(0.0, HOUR) == 0.0
    assert best_interval_s(1e-7, 1.8e8) == pytest.approx(young_interval_s(1e-7, 1.8e8), rel=1e-3)


# --- draws ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("up_h", [0.5, 2.0, 20.0])
def test_a_known_market_is_sampled_with_the_means_of_the_exact_model(up_h: float) -> None:
    down_h = 0.8

    drawn = sampled(known_market(up_h, down_h), n=200_000, give_up_after=math.inf)

    time = expected(up_h * HOUR)
    down_share = down_h / (up_h + down_h)
    first_wait_s = down_share * down_h * HOUR * (1 + 1 / TRACES.downtime_shape) / 2
    assert rework_s(drawn).mean() == pytest.approx(time - 300 - 8 * HOUR * (1 + 30 / 900), rel=0.02)
    assert drawn.preemptions.mean() == pytest.approx(time / (up_h * HOUR), rel=0.02)
    # The squared deviation of a wait is several times its mean's: 2.5% of the mean is about 3 standard errors.
    assert drawn.waiting_s.mean() == pytest.approx(time / up_h * down_h, rel=0.025)
    assert drawn.first_wait_s.mean() == pytest.approx(first_wait_s, rel=0.025)


def simulate_job(rng: np.random.Generator, *, machine_s: float, worker_s: float) -> tuple[float, int, int]:
    """Billed seconds, preemptions and failures of a job, event by event: each start-up and segment until it holds."""
    billed, preemptions, failures = 0.0, 0, 0
    left_machine, left_worker = rng.exponential(machine_s), rng.exponential(worker_s)
    segments, needs = 0, [300.0, *[930.0] * 32]
    while segments < len(needs):
        need = needs[segments]
        until = min(left_machine, left_worker)
        if until >= need:
            billed, left_machine, left_worker = billed + need, left_machine - need, left_worker - need
            segments += 1
            continue
        billed += until
        preemptions, failures = preemptions + (left_machine < left_worker), failures + (left_worker < left_machine)
        left_machine, left_worker = rng.exponential(machine_s), rng.exponential(worker_s)
        # A segment comes again after another start-up, a start-up by itself.
        needs[segments:segments] = [300.0] if need > 300 else []
    return billed, preemptions, failures


@pytest.mark.parametrize(("machine_h", "worker_h"), [(1.0, 1.5), (4.0, 0.6), (0.7, 30.0)])
def test_preemptions_and_failures_together_agree_with_a_simulation_within_four_standard_errors(
    machine_h: float, worker_h: float
) -> None:
    rng = np.random.default_rng(11)
    runs = np.array(
        [simulate_job(rng, machine_s=machine_h * HOUR, worker_s=worker_h * HOUR) for _ in range(1500)], dtype=float
    )

    drawn = sampled(
        known_market(2 * machine_h, 0.0), instances=2, failing=known_market(4 * worker_h, 0.0), workers=4,
        give_up_after=math.inf,
    )  # fmt: skip

    undisturbed = 300 + 32 * 930
    told = (rework_s(drawn).mean() + undisturbed, drawn.preemptions.mean(), drawn.failures.mean())
    errors = runs.std(axis=0) / math.sqrt(len(runs))
    assert (np.abs(runs.mean(axis=0) - told) < 4 * errors).all()


def test_a_start_up_as_long_as_the_up_time_fails_now_and_then_before_any_work() -> None:
    drawn = sampled(known_market(1.0, 0.0), work_h=0.01, restart_s=HOUR, interval_s=36.0, n=200_000)

    # M (e - 1) seconds to have started once, of which R = M are the start-up itself.
    assert rework_s(drawn).mean() == pytest.approx((math.e - 2) * HOUR, rel=0.08)


def test_what_is_rare_enters_with_its_expectation_and_not_as_none() -> None:
    month_h = 30 * 24

    # Eight hours meet a preemption of an up-time of a thousand months once in 90,000 runs.
    drawn = sampled(known_market(1000 * month_h, 0.0), n=4000)

    assert drawn.preemptions == pytest.approx((8 * (1 + 30 / 900) + 1 / 12) / (1000 * month_h), rel=1e-3)
    assert drawn.preemption_rework_s.mean() > 0


@pytest.mark.parametrize("market", [None, STEADY])
def test_without_interruption_nothing_is_done_again_and_nobody_waits(market: SpotMarket | None) -> None:
    drawn = sampled(market)

    for name in ("preemptions", "failures", "preemption_rework_s", "failure_rework_s", "waiting_s", "first_wait_s"):
        assert getattr(drawn, name).max() == 0.0
    assert drawn.finishes.all()


def test_failures_are_waited_for_by_nobody_and_preemptions_are() -> None:
    failed, preempted = sampled(None, failing=known_market(1.0, 0.0)), sampled(known_market(1.0, 0.5))

    assert failed.failures.mean() == pytest.approx(preempted.preemptions.mean(), rel=0.03)
    assert failed.waiting_s.max() == failed.first_wait_s.max() == failed.preemptions.max() == 0.0
    assert preempted.waiting_s.mean() > HOUR
    assert preempted.failures.max() == 0.0


def test_better_times_are_better_in_up_time_and_in_waiting() -> None:
    drawn = sampled(spot_market(5.0, 1.0))
    waits = drawn.preemptions > 0
    wait_of_each_s = drawn.waiting_s[waits] / drawn.preemptions[waits]

    rank = np.corrcoef(np.log(drawn.uptime_s[waits]), np.log(wait_of_each_s + 1e-9))[0, 1]

    assert rank < -0.05  # one wait scatters far more than its mean is known


def test_re_work_and_preemptions_of_twice_the_work_are_twice_as_many_on_average() -> None:
    one, two = (sampled(known_market(2.0, 0.5), work_h=work_h) for work_h in (24.0, 48.0))

    assert two.preemptions.mean() == pytest.approx(2 * one.preemptions.mean(), rel=0.03)
    assert rework_s(two).mean() == pytest.approx(2 * rework_s(one).mean(), rel=0.03)


def test_more_instances_never_mean_fewer_preemptions_or_less_waiting() -> None:
    draws = [sampled(spot_market(20.0, 0.5), instances=instances) for instances in (1, 2, 4, 8)]

    for fewer, more in itertools.pairwise(draws):
        for name in ("preemptions", "preemption_rework_s", "waiting_s"):
            assert getattr(more, name).mean() > getattr(fewer, name).mean()


def test_several_instances_or_workers_are_one_of_an_up_time_so_much_shorter() -> None:
    one, four = sampled(known_market(2.0, 0.0)), sampled(known_market(8.0, 0.0), instances=4)
    of_workers = sampled(None, failing=known_market(8.0, 0.0), workers=4)

    np.testing.assert_allclose(one.preemption_rework_s, four.preemption_rework_s)
    assert of_workers.failures.mean() == pytest.approx(one.preemptions.mean(), rel=0.03)


def test_jobs_drawn_with_one_seed_meet_the_same_market() -> None:
    one, four = (sampled(spot_market(None, None), n=200, instances=instances) for instances in (1, 4))

    np.testing.assert_allclose(one.uptime_s, 4 * four.uptime_s)
    np.testing.assert_array_equal(one.first_wait_s > 0, one.first_wait_s > 0)


def test_an_uncertain_market_spreads_the_draws_and_a_known_one_less() -> None:
    known, unsure = (sampled(market) for market in (known_market(5.0, 1.0), spot_market(5.0, 1.0)))

    for name in ("preemption_rework_s", "waiting_s"):
        low, high = np.quantile(getattr(known, name), [0.05, 0.95])
        wider_low, wider_high = np.quantile(getattr(unsure, name), [0.05, 0.95])
        assert wider_high - wider_low > high - low


def test_a_run_that_does_not_get_on_is_given_up_and_paid_for_to_that_point() -> None:
    drawn = sampled(known_market(0.05, 1.0), instances=3, failing=known_market(1e4, 0.0))

    undisturbed_s = 8 * HOUR * (1 + 30 / 900) + 300
    assert not drawn.finishes.any()
    assert rework_s(drawn) == pytest.approx((GIVE_UP_AFTER - 1) * undisturbed_s)
    assert np.isfinite(drawn.waiting_s).all()
    # It was interrupted as often as that much time allows, a minute apart.
    assert drawn.preemptions.mean() == pytest.approx((GIVE_UP_AFTER - 1) * undisturbed_s / 60, rel=0.15)


def test_over_an_uncertain_rate_the_mean_does_not_depend_on_the_draws() -> None:
    market = spot_market(None, None)
    means = [
        rework_s(
            sample_interruptions(
                np.full(4000, 10 * HOUR), interval_s=np.full(4000, 2 * HOUR), checkpoint_s=np.full(4000, 30.0),
                restart_s=np.full(4000, 300.0), market=market, instances=1, failing=None, workers=8,
                rng=np.random.default_rng(seed),
            )
        ).mean()
        for seed in range(8)
    ]  # fmt: skip

    assert max(means) < 1.25 * min(means)


def test_the_same_seed_gives_the_same_draws() -> None:
    first, second = sampled(spot_market(None, None), n=100), sampled(spot_market(None, None), n=100)

    np.testing.assert_array_equal(first.waiting_s, second.waiting_s)
    np.testing.assert_array_equal(first.preemption_rework_s, second.preemption_rework_s)
