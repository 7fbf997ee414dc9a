"""The bill adds up, scales with price, and says what it leaves out."""

from __future__ import annotations

import datetime
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from orchestrator.cost.full_run import PricedRun, price_full_run
from orchestrator.cost.prices import PriceQuote
from orchestrator.errors import PriceError
from orchestrator.spec import PricingSpec, Purchase

N = 2000
HOURS = 3600.0
BILLED_ITEMS = {
    "training",
    "start-up",
    "re-work after preemption",
    "idle share of the last instance",
    "checkpoint storage",
}


def quote(
    usd: float = 1.0, workers_per_instance: int = 1, purchase: Purchase = "on_demand", **other: Any
) -> PriceQuote:
    values: dict[str, Any] = {
        "purchase": purchase, "usd_per_instance_hour": usd, "workers_per_instance": workers_per_instance,
        "source": "a list", "date": datetime.date(2026, 1, 21), "age_days": 5, "stale": False, "assumed": True,
        "label": "aws/g5.xlarge us-east-1",
    }  # fmt: skip
    return PriceQuote(**(values | other))


def priced(
    q: PriceQuote,
    *,
    hours: float = 2.0,
    workers: int = 1,
    spread: float = 0.1,
    uptime_h: float | None = 1.0,
    **other: Any,
) -> PricedRun:
    rng = np.random.default_rng(1)
    wall = hours * HOURS * np.exp(spread * rng.standard_normal(N))
    pricing = PricingSpec(instance="aws/g5.xlarge", region="us-east-1", spot_mean_uptime_h=uptime_h)
    values: dict[str, Any] = {
        "wall_time_s": wall, "startup_s": np.full(N, 60.0), "workers": workers, "quote": q, "pricing": pricing,
        "checkpoint_bytes": 10**9, "checkpoint_keep": 2, "checkpoint_interval_s": wall / 20,
        "checkpoint_s": np.full(N, 2.0), "dataset_bytes": 5 * 10**9, "rng": np.random.default_rng(2),
    }  # fmt: skip
    return price_full_run(**(values | other))


@pytest.mark.parametrize("purchase", ["on_demand", "spot", "reserved"])
@pytest.mark.parametrize(("workers", "workers_per_instance"), [(1, 1), (4, 1), (3, 2), (9, 8)])
@pytest.mark.parametrize("usd", [1e-7, 1.0, 1e6])
def test_included_lines_add_up_to_the_total_at_any_price(
    purchase: Purchase, workers: int, workers_per_instance: int, usd: float
) -> None:
    run = priced(quote(usd, workers_per_instance, purchase), workers=workers)

    included = [line for line in run.bill.lines if line.included]
    assert sum(line.cost_usd.mean for line in included if line.cost_usd) == pytest.approx(run.bill.total_usd.mean)
    assert run.cost_usd.mean() == pytest.approx(run.bill.total_usd.mean)
    assert {line.item for line in included} <= BILLED_ITEMS


def test_every_line_is_quantity_times_unit_price() -> None:
    for line in priced(quote(0.7, 2, "spot"), workers=3).bill.lines:
        if line.included:
            assert line.quantity is not None
            assert line.unit_price_usd is not None
            assert line.cost_usd is not None
            assert line.cost_usd.mean == pytest.approx(line.quantity.mean * line.unit_price_usd)


def test_one_instance_for_two_hours_at_three_dollars_is_six_dollars_and_its_extras() -> None:
    run = priced(quote(3.0), spread=0.0)

    costs = {line.item: line.cost_usd.mean for line in run.bill.lines if line.cost_usd}
    assert costs["training"] == pytest.approx(6.0)
    assert costs["start-up"] == pytest.approx(3.0 / 60)
    assert costs["checkpoint storage"] == pytest.approx(2 * 0.023)  # two of 1 GB for a month
    assert run.wall_time_s[0] == pytest.approx(2 * HOURS + 60)


def test_an_instance_that_is_half_empty_is_paid_in_full() -> None:
    three_on_two = priced(quote(1.0, workers_per_instance=2), workers=3, spread=0.0)
    four_on_two = priced(quote(1.0, workers_per_instance=2), workers=4, spread=0.0)

    idle = next(line for line in three_on_two.bill.lines if line.item.startswith("idle"))
    assert idle.quantity is not None
    assert idle.quantity.mean == pytest.approx(0.5 * (2 + 1 / 60))
    assert three_on_two.cost_usd.mean() == pytest.approx(four_on_two.cost_usd.mean())


@pytest.mark.parametrize("purchase", ["on_demand", "spot"])
def test_cost_rises_with_the_price_of_an_hour(purchase: Purchase) -> None:
    costs = [priced(quote(usd, purchase=purchase)).cost_usd.mean() for usd in (0.5, 1.0, 2.0)]

    assert costs[0] < costs[1] < costs[2]


def test_the_same_run_in_seconds_at_any_scale_keeps_its_price_per_hour() -> None:
    cents, millions = (priced(quote(1.0), hours=h, checkpoint_bytes=0, startup_s=np.zeros(N)) for h in (1e-3, 1e7))

    assert millions.cost_usd.mean() / cents.cost_usd.mean() == pytest.approx(1e10)
    assert 0 < cents.cost_usd.mean() < 0.01
    assert millions.cost_usd.mean() > 9e6


def test_more_workers_never_lower_the_price_of_an_hour() -> None:
    per_hour = []
    for workers in range(1, 10):
        run = priced(quote(1.0, workers_per_instance=4), workers=workers, checkpoint_bytes=0)
        per_hour.append(float(run.cost_usd.mean() / run.wall_time_s.mean()))

    assert all(a <= b + 1e-15 for a, b in pairwise(per_hour))


def test_spot_pays_for_work_done_again_and_more_so_with_more_instances() -> None:
    one, eight = (priced(quote(1.0, purchase="spot"), workers=w, spread=0.0, uptime_h=2.0) for w in (1, 8))
    steady = priced(quote(1.0), spread=0.0)

    assert steady.wall_time_s.mean() < one.wall_time_s.mean() < eight.wall_time_s.mean()
    assert "re-work after preemption" not in {line.item for line in steady.bill.lines}


def test_spot_without_an_uptime_is_refused() -> None:
    with pytest.raises(PriceError, match="spot_mean_uptime_h"):
        priced(quote(1.0, purchase="spot"), uptime_h=None)


def test_what_is_left_out_is_listed_with_its_reason_and_no_amount() -> None:
    left_out = {line.item: line for line in priced(quote()).bill.lines if not line.included}

    assert {"egress", "data set storage", "logging", "engineer time", "failure other than preemption"} == set(left_out)
    assert all(line.cost_usd is None and line.note for line in left_out.values())
    assert "5 GB" in left_out["data set storage"].note


def test_a_stale_or_assumed_price_is_said_in_the_warnings() -> None:
    stale = priced(quote(stale=True, age_days=306)).bill
    own = priced(quote(assumed=False, date=None, age_days=None)).bill

    assert any("306 days old" in warning for warning in stale.warnings)
    assert any("not measured on" in warning for warning in stale.warnings)
    assert (own.warnings, own.assumed) == ((), False)
