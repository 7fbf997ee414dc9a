"""The bill adds up, scales with price, tells infrastructure, people and risk apart, and says what it leaves out."""

from __future__ import annotations

import datetime
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.cost.failures import LLAMA3_MTBF_WORKER_H
from orchestrator.cost.full_run import PricedRun, RunSize, hourly_usd, price_full_run
from orchestrator.cost.job import RunTime
from orchestrator.cost.lines import UnitPrice
from orchestrator.cost.prices import PriceQuote
from orchestrator.cost.rates import RateCard
from orchestrator.cost.spot import spot_market
from orchestrator.results import Bill, BillLine
from orchestrator.spec import PeopleSpec, PricingSpec, Purchase, SpotSpec, StorageSpec, TransferSpec

N = 2000
HOURS = 3600.0
STORAGE = UnitPrice(usd=0.023, unit="GB-month", cited="a list, 2026-01-01")
EGRESS = UnitPrice(usd=0.09, unit="GB", cited="a list, 2026-01-01")
PEOPLE = PeopleSpec(engineer_usd_per_h=100, engineer_h=3, engineer_h_per_failure=8, delay_usd_per_day=480)
# Failures so rare that a run of hours does not meet one, for tests of everything else.
NEVER_H = 1e12


def quote(
    usd: float = 1.0, workers_per_instance: int = 1, purchase: Purchase = "on_demand", **other: Any
) -> PriceQuote:
    values: dict[str, Any] = {
        "purchase": purchase, "usd_per_instance_hour": usd, "workers_per_instance": workers_per_instance,
        "source": "a list", "date": datetime.date(2026, 1, 21), "age_days": 5, "stale": False, "assumed": True,
        "label": "aws/g5.xlarge us-east-1", "cloud": "aws", "region": "us-east-1",
        "list_workers_per_instance": None,
    }  # fmt: skip
    return PriceQuote(**(values | other))


def priced(
    q: PriceQuote,
    *,
    hours: float = 2.0,
    workers: int = 1,
    spread: float = 0.1,
    startup_s: float = 60.0,
    intervals: int = 20,
    checkpoint_s: float = 2.0,
    pricing: dict[str, Any] | None = None,
    storage: UnitPrice | None = STORAGE,
    transfer: UnitPrice | None = None,
    size: RunSize | None = None,
    is_over: bool = False,
) -> PricedRun:
    wall = hours * HOURS * np.exp(spread * np.random.default_rng(1).standard_normal(N))
    asked: dict[str, Any] = {
        "instance": "aws/g5.xlarge", "region": "us-east-1", "mtbf_worker_h": NEVER_H,
        "spot": SpotSpec(mean_uptime_h=1.0, mean_downtime_h=0.1),
    }  # fmt: skip
    spec = PricingSpec(**(asked | (pricing or {})))
    return price_full_run(
        RunTime(
            training_s=wall,
            startup_s=np.full(N, startup_s),
            checkpoint_interval_s=wall / intervals,
            checkpoint_s=np.full(N, checkpoint_s),
        ),
        size or RunSize(checkpoint_bytes=10**9, checkpoint_keep=2, dataset_bytes=5 * 10**9, log_bytes=10**6),
        workers=workers,
        purchase=q.purchase,
        rates=RateCard(
            quotes={q.purchase: q},
            on_demand_usd_per_instance_hour=1.0,
            storage=storage,
            transfer=transfer,
            spot=spot_market(spec.spot.mean_uptime_h, spec.spot.mean_downtime_h),
        ),
        pricing=spec,
        rng=np.random.default_rng(2),
        is_over=is_over,
    )


NOTHING_KEPT = RunSize(checkpoint_bytes=0, checkpoint_keep=1, dataset_bytes=0, log_bytes=0)


def line(bill: Bill, item: str) -> BillLine:
    return next(line for line in bill.lines if line.item == item)


def mean_usd(bill: Bill, item: str) -> float:
    cost = line(bill, item).cost_usd
    assert cost is not None
    return cost.mean


@pytest.mark.parametrize("purchase", ["on_demand", "spot", "reserved"])
@pytest.mark.parametrize(("workers", "workers_per_instance"), [(1, 1), (4, 1), (3, 2), (9, 8)])
@pytest.mark.parametrize("usd", [1e-7, 1.0, 1e6])
def test_lines_add_up_to_the_totals_of_their_kind_and_these_to_the_total(
    purchase: Purchase, workers: int, workers_per_instance: int, usd: float
) -> None:
    run = priced(
        quote(usd, workers_per_instance, purchase), workers=workers, transfer=EGRESS,
        pricing={"people": PEOPLE, "transfer": TransferSpec(route="internet_egress"), "mtbf_worker_h": 50.0},
    )  # fmt: skip

    for kind, total in run.bill.totals_usd.items():
        costs = [line.cost_usd.mean for line in run.bill.lines_of(kind) if line.cost_usd is not None]
        assert sum(costs) == pytest.approx(total.mean)
    assert set(run.bill.totals_usd) == {"infrastructure", "people", "risk"}
    assert sum(total.mean for total in run.bill.totals_usd.values()) == pytest.approx(run.bill.total_usd.mean)
    assert run.cost_usd.mean() == pytest.approx(run.bill.total_usd.mean)


def test_every_included_line_is_quantity_times_unit_price() -> None:
    bill = priced(
        quote(0.7, 2, "spot"), workers=3, transfer=EGRESS,
        pricing={"people": PEOPLE, "transfer": TransferSpec(route="internet_egress")},
    ).bill  # fmt: skip

    included = [line for line in bill.lines if line.included]
    assert len(included) == 12
    for each in included:
        assert each.quantity is not None
        assert each.unit_price_usd is not None
        assert each.cost_usd is not None
        assert each.cost_usd.mean == pytest.approx(each.quantity.mean * each.unit_price_usd)
        assert each.source


def test_a_bill_worked_out_by_hand() -> None:
    pricing = {
        "people": PEOPLE,
        "transfer": TransferSpec(route="internet_egress"),
        "storage": StorageSpec(months=3),
        "mtbf_worker_h": 100.0,
    }
    bill = priced(quote(3.0), spread=0.0, transfer=EGRESS, pricing=pricing).bill

    assert mean_usd(bill, "training") == pytest.approx(2 * 3.0)
    assert mean_usd(bill, "start-up") == pytest.approx(3.0 / 60)
    assert mean_usd(bill, "data set storage") == pytest.approx(5 * 3 * 0.023)
    assert mean_usd(bill, "checkpoint storage") == pytest.approx(2 * 3 * 0.023)
    assert mean_usd(bill, "logging") == pytest.approx(0.001 * 3 * 0.023)
    assert mean_usd(bill, "egress") == pytest.approx((5 + 2) * 0.09)
    assert mean_usd(bill, "engineer time") == pytest.approx(3 * 100)
    # 2 h of work at one failure in 100 h: 0.02 failures, each of half an interval of 6 min and a start of 1 min lost.
    failures = line(bill, "engineer time after failure").quantity
    assert failures is not None
    assert failures.mean / 8 == pytest.approx(0.02, abs=0.01)  # 2,000 draws: standard error 0.003
    lost_s = 180 + 60
    rework_usd = mean_usd(bill, "re-work after failure")
    assert rework_usd == pytest.approx(failures.mean / 8 * lost_s / 3600 * 3, rel=0.02)
    wall_days = (2 * HOURS + 60) / 86400
    assert mean_usd(bill, "delay") == pytest.approx(wall_days * 480, rel=0.005)
    assert bill.peak_storage_gb == pytest.approx(5 + 3 + 0.001)
    assert bill.storage_usd_per_month == pytest.approx((5 + 2 + 0.001) * 0.023)


def test_providers_bill_all_but_peoples_time() -> None:
    bill = priced(quote(), pricing={"people": PEOPLE, "mtbf_worker_h": 10.0}).bill

    people = ("engineer time", "delay", "engineer time after failure")
    assert bill.invoiced_usd is not None
    assert bill.invoiced_usd.mean == pytest.approx(bill.total_usd.mean - sum(mean_usd(bill, item) for item in people))


def test_an_instance_that_is_half_empty_is_paid_in_full() -> None:
    three_on_two = priced(quote(1.0, workers_per_instance=2), workers=3, spread=0.0)
    four_on_two = priced(quote(1.0, workers_per_instance=2), workers=4, spread=0.0)

    idle = line(three_on_two.bill, "idle share of the last instance").quantity
    assert idle is not None
    assert idle.mean == pytest.approx(0.5 * (2 + 1 / 60))
    assert three_on_two.cost_usd.mean() == pytest.approx(four_on_two.cost_usd.mean())


@pytest.mark.parametrize("purchase", ["on_demand", "spot"])
def test_cost_rises_with_the_price_of_an_hour(purchase: Purchase) -> None:
    costs = [priced(quote(usd, purchase=purchase)).cost_usd.mean() for usd in (0.5, 1.0, 2.0)]

    assert costs[0] < costs[1] < costs[2]


@settings(max_examples=25, deadline=None)
@given(
    hours=st.floats(1e-6, 1e6), workers=st.integers(1, 512), per_instance=st.integers(1, 16),
    usd=st.floats(1e-4, 1e4), purchase=st.sampled_from(["on_demand", "spot", "reserved"]),
)  # fmt: skip
def test_any_run_has_a_finite_bill_above_zero_that_is_proportional_to_its_price(
    hours: float, workers: int, per_instance: int, usd: float, purchase: Purchase
) -> None:
    def bill_at(price: float) -> Bill:
        return priced(
            quote(price, per_instance, purchase), hours=hours, workers=workers, size=NOTHING_KEPT,
            intervals=max(math.ceil(hours * 4), 1), checkpoint_s=0.0,
        ).bill  # fmt: skip

    once, twice = bill_at(usd), bill_at(2 * usd)

    assert 0 < once.total_usd.low <= once.total_usd.high < math.inf
    assert twice.total_usd.mean == pytest.approx(2 * once.total_usd.mean)


@settings(max_examples=50, deadline=None)
@given(workers=st.integers(1, 1000), per_instance=st.integers(1, 16))
def test_more_workers_never_lower_the_price_of_an_hour(workers: int, per_instance: int) -> None:
    q = quote(2.5, per_instance)

    assert hourly_usd(workers, q) <= hourly_usd(workers + 1, q)
    assert hourly_usd(workers, q) >= 2.5 * workers / per_instance


def test_more_workers_never_lower_infrastructure_dollars_of_an_hour_of_the_bill() -> None:
    per_hour = []
    for workers in range(1, 10):
        run = priced(quote(1.0, workers_per_instance=4), workers=workers, size=NOTHING_KEPT)
        infrastructure = run.bill.totals_usd["infrastructure"].mean
        per_hour.append(infrastructure / float(run.wall_time_s.mean()))

    assert all(a <= b + 1e-15 for a, b in pairwise(per_hour))


def test_the_same_run_in_seconds_at_any_scale_keeps_its_price_per_hour() -> None:
    cents, millions = (priced(quote(1.0), hours=h, size=NOTHING_KEPT, startup_s=0.0) for h in (1e-3, 1e7))

    assert millions.cost_usd.mean() / cents.cost_usd.mean() == pytest.approx(1e10, rel=1e-4)
    assert 0 < cents.cost_usd.mean() < 0.01
    assert millions.cost_usd.mean() > 9e6


def test_spot_pays_for_work_done_again_and_more_so_with_more_instances() -> None:
    one, eight = (priced(quote(1.0, purchase="spot"), workers=w, spread=0.0) for w in (1, 8))
    steady = priced(quote(1.0), spread=0.0)

    assert steady.wall_time_s.mean() < one.wall_time_s.mean() < eight.wall_time_s.mean()
    assert "re-work after preemption" not in {each.item for each in steady.bill.lines}
    assert one.bill.expected_interruptions is not None
    assert eight.bill.expected_interruptions is not None
    assert one.bill.expected_interruptions < eight.bill.expected_interruptions


def test_waiting_for_a_machine_is_not_billed_but_delays() -> None:
    spot = {"spot": SpotSpec(mean_uptime_h=1.0, mean_downtime_h=5.0), "people": PeopleSpec(delay_usd_per_day=24)}
    run = priced(quote(purchase="spot"), size=NOTHING_KEPT, pricing=spot)

    assert run.bill.billed_s is not None
    waited_s = run.wall_time_s.mean() - run.bill.billed_s.mean
    assert waited_s > HOURS
    hours = [each.quantity for each in run.bill.lines if each.included and each.unit == "instance-hour"]
    assert sum(each.mean for each in hours if each) == pytest.approx(run.bill.billed_s.mean / HOURS)
    assert mean_usd(run.bill, "delay") == pytest.approx(run.wall_time_s.mean() / HOURS)


def test_spot_nobody_knows_is_priced_with_public_traces_and_said_to_be_assumed() -> None:
    bill = priced(quote(purchase="spot"), pricing={"spot": SpotSpec()}).bill

    assert any("ASSUMED" in warning and "pricing.spot.mean_uptime_h" in warning for warning in bill.warnings)
    assert mean_usd(bill, "re-work after preemption") > 0


def test_spot_says_beyond_which_checkpoint_interval_it_costs_more_than_on_demand() -> None:
    spot = {"spot": SpotSpec(mean_uptime_h=1.0, mean_downtime_h=0.1)}
    cheap = priced(quote(0.5, purchase="spot"), pricing=spot).bill.checkpoint
    dear = priced(quote(0.999, purchase="spot"), pricing=spot).bill.checkpoint
    steady = priced(quote()).bill.checkpoint

    assert cheap is not None
    assert cheap.break_even_interval_s is not None
    assert 0 < cheap.break_even_interval_s < 2 * HOURS
    assert dear is not None
    assert dear.break_even_interval_s == 0
    assert steady is not None
    assert steady.break_even_interval_s is None
    assert cheap.time_share == pytest.approx(2 / 360, rel=0.02)


def test_a_run_that_may_never_end_is_warned_of_and_its_bill_stays_finite() -> None:
    rare = priced(quote(purchase="spot"), hours=20, intervals=2, workers=2, size=NOTHING_KEPT)
    often = priced(quote(purchase="spot"), hours=20, intervals=200, workers=2)

    assert any("given up" in warning for warning in rare.bill.warnings)
    assert rare.bill.given_up_share > 0.5
    assert rare.bill.given_up_share == pytest.approx(1 - rare.finishes.mean())
    assert rare.bill.total_usd.mean < 10 * 2 * 21  # ten times two instances for 20 h and a little more
    assert not any("given up" in warning for warning in often.bill.warnings)


def test_work_done_again_is_paid_for_on_every_instance_and_counts_every_worker() -> None:
    asked = {"spot": SpotSpec(mean_uptime_h=40.0, mean_downtime_h=0.1), "mtbf_worker_h": 80.0}
    bill = priced(
        quote(2.0, 2, "spot"), hours=20, workers=8, spread=0.0, intervals=40, pricing=asked,
    ).bill  # fmt: skip

    # 8 workers on 4 instances: 20 h over an up-time of 40 h / 4, which drifts, and over 80 h / 8; a loss is 15 min and
    # 60 s to start. 1.37 is the mean of 1 over a log-normal up-time whose logarithm deviates by 0.8.
    failures, preemptions = (line(bill, f"re-work after {cause}").quantity for cause in ("failure", "preemption"))
    assert failures is not None
    assert failures.mean == pytest.approx(4 * 2.0 * (0.25 + 60 / HOURS), rel=0.15)
    assert preemptions is not None
    assert preemptions.mean == pytest.approx(1.37 * 4 * 2.0 * (0.25 + 60 / HOURS), rel=0.25)


def test_a_config_that_puts_fewer_workers_on_an_instance_than_it_has_accelerators_is_warned_of() -> None:
    eight = quote(workers_per_instance=2, list_workers_per_instance=8)

    assert any("has 8 accelerators" in warning for warning in priced(eight, workers=8).bill.warnings)
    for fine in (quote(list_workers_per_instance=1), quote(workers_per_instance=2, list_workers_per_instance=1)):
        assert not any("accelerators" in warning for warning in priced(fine).bill.warnings)


def test_the_best_interval_is_youngs_for_rare_interruptions() -> None:
    advice = priced(quote(), workers=4, pricing={"mtbf_worker_h": 1000.0}).bill.checkpoint

    assert advice is not None
    # sqrt(2 d M) with d = 2 s and M = 1,000 h over 4 workers; higher orders are below 1% here.
    assert advice.best_interval_s == pytest.approx(math.sqrt(2 * 2.0 * 250 * HOURS), rel=0.01)


def test_failures_of_a_huge_run_are_those_of_the_cluster_they_were_counted_on() -> None:
    run = priced(
        quote(), hours=54 * 24, workers=16384, spread=0.0, startup_s=0.0, intervals=54 * 24 * 60, checkpoint_s=0.0,
        pricing={"mtbf_worker_h": LLAMA3_MTBF_WORKER_H},
    )  # fmt: skip

    # With a checkpoint a minute next to nothing is done again; 2,000 draws have a standard error of 0.5.
    assert run.bill.expected_interruptions == pytest.approx(419, rel=0.01)


def test_failures_nobody_counted_are_assumed_and_said_so() -> None:
    rework = line(priced(quote(), pricing={"mtbf_worker_h": None}).bill, "re-work after failure")

    assert "assumed" in rework.note
    assert "16,384 GPUs" in rework.note
    assert rework.cost_usd is not None
    assert rework.cost_usd.mean > 0  # a hundred-thousandth of a failure is not none


def test_a_run_that_is_over_expects_nothing_more_to_go_wrong() -> None:
    bill = priced(quote(purchase="spot"), is_over=True, pricing={"people": PEOPLE}).bill

    assert {each.item for each in bill.lines_of("risk")} == set()
    assert bill.expected_interruptions == 0
    assert bill.checkpoint is None


def test_what_is_left_out_is_listed_with_its_reason_and_no_amount() -> None:
    bill = priced(quote(purchase="reserved"), storage=None).bill
    left_out = {each.item: each for each in bill.lines if not each.included}

    assert set(left_out) == {
        "data set storage", "checkpoint storage", "logging", "egress", "engineer time", "delay",
        "engineer time after failure", "unused reservation", "taxes, discounts, support plan",
    }  # fmt: skip
    assert all(each.cost_usd is None and each.note for each in left_out.values())
    stored = left_out["data set storage"].quantity
    assert stored is not None
    assert stored.mean == 5
    assert bill.storage_usd_per_month is None


def test_egress_without_a_list_price_is_left_out_with_its_gigabytes() -> None:
    asked = {"transfer": TransferSpec(route="cross_cloud", gb=70)}
    egress = line(priced(quote(), pricing=asked).bill, "egress")

    assert not egress.included
    assert egress.quantity is not None
    assert egress.quantity.mean == 70
    assert "pricing.transfer.usd_per_gb" in egress.note


def test_a_stale_or_assumed_price_is_said_in_the_warnings() -> None:
    stale = priced(quote(stale=True, age_days=306)).bill
    own = priced(quote(assumed=False, date=None, age_days=None)).bill
    old_storage = UnitPrice(usd=0.023, unit="GB-month", cited="a list", warning="storage price is 400 days old")
    stored = priced(quote(assumed=False), storage=old_storage).bill

    assert any("306 days old" in warning for warning in stale.warnings)
    assert any("not measured on" in warning for warning in stale.warnings)
    assert (own.warnings, own.assumed) == ((), False)
    assert stored.warnings == ("storage price is 400 days old",)


def test_the_largest_sensitivity_is_that_of_the_largest_uncertain_part() -> None:
    bill = priced(quote(1.0), spread=0.5, pricing={"people": PeopleSpec(delay_usd_per_day=1.0)}).bill
    moved = {each.name: each for each in bill.sensitivities}

    assert bill.sensitivities[0].name == "training time"
    training = moved["training time"]
    # An hour of training costs a dollar on the instance and a twenty-fourth of one in delay.
    assert training.swing_usd == pytest.approx((training.high - training.low) / HOURS * (1 + 1 / 24))
    price = moved["price of an instance-hour"]
    hours = sum(each.quantity.mean for each in bill.lines if each.unit == "instance-hour" and each.quantity)
    assert price.swing_usd == pytest.approx(0.2 * hours)
    assert price.total_at_low_usd < bill.total_usd.mean < price.total_at_high_usd
    swings = [each.swing_usd for each in bill.sensitivities]
    assert swings == sorted(swings, reverse=True)
