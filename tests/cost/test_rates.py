"""A config's own figures go before the price list, and what neither has is None."""

from __future__ import annotations

import datetime

import pytest

from orchestrator.cost import prices, transfer
from orchestrator.cost.rates import RateCard, rate_card
from orchestrator.errors import PriceError, SpecValueError
from orchestrator.spec import PricingSpec, StorageSpec, TransferSpec

TODAY = datetime.date(2026, 3, 1)
_FIELDS = {
    "cloud": "aws", "instance": "g5.12xlarge", "accelerator": "A10G", "accelerator_count": "4", "vcpus": "48",
    "region": "us-east-1", "on_demand_usd_h": "5.672", "spot_usd_h": "2.5", "source": "a list", "date": "2026-01-21",
}  # fmt: skip
TABLE = prices.parse_price_table(
    "\n".join([",".join(prices.COLUMNS), ",".join(_FIELDS.get(column, "") for column in prices.COLUMNS)]), "a table"
)
LISTED = transfer.parse_transfer_table(
    ",".join(transfer.COLUMNS)
    + "\nobject_storage,aws,0.023,GB-month,US,,a list,2025-01-01"
    + "\ninternet_egress,aws,0.09,GB,US,,a list,2026-02-01",
    "a table",
)


def card(**pricing: object) -> RateCard:
    asked = {"instance": "aws/g5.12xlarge", "region": "us-east-1"} | pricing
    return rate_card(PricingSpec(**asked), TABLE, LISTED, TODAY)  # type: ignore[arg-type]  # one dict for all fields


def test_storage_and_egress_come_from_the_list_of_the_instances_cloud() -> None:
    rates = card(transfer=TransferSpec(route="internet_egress"))

    assert rates.storage is not None
    assert (rates.storage.usd, rates.storage.unit) == (0.023, "GB-month")
    assert "424 days old" in rates.storage.warning
    assert rates.transfer is not None
    assert (rates.transfer.usd, rates.transfer.warning) == (0.09, "")
    assert "2026-02-01" in rates.transfer.cited


def test_a_figure_of_the_config_goes_before_the_list() -> None:
    rates = card(
        storage=StorageSpec(usd_per_gb_month=0.01), transfer=TransferSpec(route="internet_egress", usd_per_gb=0.05)
    )

    assert rates.storage is not None
    assert rates.transfer is not None
    assert (rates.storage.usd, rates.storage.cited) == (0.01, "config")
    assert (rates.transfer.usd, rates.transfer.cited) == (0.05, "config")


def test_transfer_within_a_zone_is_free_and_of_an_unpriced_route_unknown() -> None:
    within, across = (card(transfer=TransferSpec(route=route)).transfer for route in ("same_zone", "inter_region"))

    assert within is not None
    assert within.usd == 0
    assert across is None
    assert card().transfer is None


def test_a_price_of_ones_own_within_a_zone_is_refused() -> None:
    with pytest.raises(SpecValueError, match="usd_per_gb"):
        TransferSpec(route="same_zone", usd_per_gb=0.5)


@pytest.mark.parametrize("amount", [1e308, 1e-320])
def test_figures_that_arithmetic_cannot_hold_are_refused(amount: float) -> None:
    with pytest.raises(SpecValueError, match=r"usd_per_worker_hour.*must lie between 1e-12 and 1e\+12"):
        PricingSpec(usd_per_worker_hour=amount)


def test_an_own_machine_has_no_list_prices() -> None:
    rates = rate_card(PricingSpec(usd_per_worker_hour=2.0), None, LISTED, TODAY)

    assert (rates.storage, rates.transfer, rates.on_demand_usd_per_instance_hour) == (None, None, None)
    assert rates.sweep_usd_per_worker_s == pytest.approx(2 / 3600)


def test_a_sweep_is_paid_on_demand_by_the_share_of_an_instance() -> None:
    rates = card(purchase=("spot", "on_demand"), workers_per_instance=4)

    assert rates.sweep_usd_per_worker_s == pytest.approx(5.672 / 4 / 3600)
    assert card(purchase=("spot",), workers_per_instance=4).on_demand_usd_per_instance_hour == 5.672


def test_workers_of_an_instance_are_its_accelerators_unless_the_config_says_otherwise() -> None:
    listed, asked = (card(**pricing).quotes["on_demand"] for pricing in ({}, {"workers_per_instance": 2}))

    assert (listed.workers_per_instance, asked.workers_per_instance) == (4, 2)


def test_a_purchase_option_without_a_price_is_refused() -> None:
    with pytest.raises(PriceError, match="no reserved price"):
        card(purchase=("reserved",))
