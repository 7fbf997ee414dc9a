"""A job on its instances: what is billed and waited for, when to save, and where spot stops paying."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq

from orchestrator.cost.interruptions import expected_time_s
from orchestrator.cost.job import Job, RunTime, checkpoint_advice, interruption_warnings, start_job
from orchestrator.cost.spot import SpotMarket, spot_market
from orchestrator.intervals import certain

HOUR = 3600.0
N = 2000


def market(up_h: float, down_h: float = 0.0, *, assumed: bool = False) -> SpotMarket:
    return SpotMarket(
        mean_uptime_s=certain(up_h * HOUR), mean_downtime_s=certain(down_h * HOUR), assumed=assumed, source="told"
    )


def job(
    spot: SpotMarket | None = None,
    *,
    failing: SpotMarket | None = None,
    interval_s: float = 600.0,
    hours: float = 10.0,
    startup_s: float = 60.0,
    **other: Any,
) -> Job:
    values: dict[str, Any] = {"workers": 1, "instances": 1, "rng": np.random.default_rng(3), "is_over": False}
    return start_job(
        RunTime(
            training_s=np.full(N, hours * HOUR), startup_s=np.full(N, startup_s),
            checkpoint_interval_s=np.full(N, interval_s), checkpoint_s=np.full(N, 6.0),
        ),
        market=spot, failing=failing or market(1e9), **(values | other),
    )  # fmt: skip


def test_billed_time_is_start_up_training_and_re_work_and_wall_time_waits_as_well() -> None:
    found = job(market(1.0, 0.5))

    assert found.billed_s == pytest.approx(10 * HOUR + 60 + found.rework_s)
    assert found.wall_time_s == pytest.approx(found.billed_s + found.waiting_s)
    assert found.waiting_s.mean() > HOUR


def test_a_run_that_is_over_is_what_it_was() -> None:
    found = job(market(1.0, 0.5), is_over=True)

    assert found.wall_time_s == pytest.approx(10 * HOUR + 60)
    assert found.expected_interruptions == 0
    assert found.finishes.all()


def test_preemption_counts_instances_and_failure_counts_workers() -> None:
    by_machines = job(market(20.0), instances=4, workers=8)
    by_workers = job(failing=market(20.0), instances=4, workers=8)

    assert by_machines.interruptions is not None
    assert by_workers.interruptions is not None
    # 10 h over an up-time of 5 h, and of 2.5 h; a little more for what is done again.
    assert by_machines.interruptions.preemptions.mean() == pytest.approx(2.0, rel=0.08)
    assert by_workers.interruptions.failures.mean() == pytest.approx(4.0, rel=0.08)


def test_advice_is_dalys_for_all_that_interrupts() -> None:
    advice = checkpoint_advice(job(market(2.0), failing=market(6.0)), None)

    # Joint up-time 1.5 h; Young's formula is 4% off at this ratio, its second term is d / 3.
    young = math.sqrt(2 * 6 * 1.5 * HOUR)
    assert advice.best_interval_s == pytest.approx(young - 6 * 2 / 3, rel=0.01)
    assert (advice.checkpoint_s, advice.interval_s, advice.time_share) == pytest.approx((6, 594, 0.01))
    assert advice.break_even_interval_s is None


@pytest.mark.parametrize("price_ratio", [0.3, 0.6, 0.9])
def test_break_even_is_where_both_ways_of_buying_cost_the_same(price_ratio: float) -> None:
    up_s, down_s = 2 * HOUR, 20 * HOUR  # of the job with preemption, and by failure alone
    joint_s = 1 / (1 / up_s + 1 / down_s)

    def dearer(interval_s: float) -> float:
        costs = [
            60
            + float(
                expected_time_s(10 * HOUR * 0.99, interval_s=interval_s, checkpoint_s=6, restart_s=60, mean_uptime_s=m)
            )
            for m in (joint_s, down_s)
        ]
        return price_ratio * costs[0] - costs[1]

    advice = checkpoint_advice(job(market(2.0), failing=market(20.0)), price_ratio)

    # The advice is a step of a grid of 64 between the checkpoint's length and the run's.
    assert advice.break_even_interval_s == pytest.approx(brentq(dearer, 10.0, 9 * HOUR), rel=0.16)


def test_spot_that_never_or_always_pays_says_so() -> None:
    never = checkpoint_advice(job(market(2.0)), 1.0).break_even_interval_s
    always = checkpoint_advice(job(market(1e6)), 0.5).break_even_interval_s

    assert (never, always) == (0.0, math.inf)


def test_an_assumed_market_stops_paying_sooner_than_its_median_does() -> None:
    """A rate that may be worse costs more than one that may be better saves."""
    assumed, median = spot_market(None, None), market(2.4)

    told = [checkpoint_advice(job(each, interval_s=1800.0), 0.3).break_even_interval_s for each in (assumed, median)]

    assert told[0] is not None
    assert told[1] is not None
    assert 0 < told[0] < told[1]


def test_a_run_that_may_never_end_is_warned_of_however_it_is_bought() -> None:
    on_demand = job(failing=market(1.0), workers=8, interval_s=5 * HOUR, hours=20)
    long_start = job(market(1.0), startup_s=6 * HOUR, hours=2)
    steady = job(market(100.0))

    assert any("given up" in warning for warning in interruption_warnings(on_demand))
    assert any("given up" in warning for warning in interruption_warnings(long_start))
    assert interruption_warnings(steady) == ()
    assert any("ASSUMED" in warning for warning in interruption_warnings(job(market(100.0, assumed=True))))
