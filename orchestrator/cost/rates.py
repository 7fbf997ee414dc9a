"""All prices of one config on one day: instance-hours for each purchase option, storage, transfer.

A figure of the config goes before the price list; what neither has is None, and the bill then leaves the line out.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.cost.lines import UnitPrice
from orchestrator.cost.price_check import implausible_price
from orchestrator.cost.prices import PriceQuote, PriceRow, PriceTable, quotes
from orchestrator.cost.spot import SpotMarket, spot_market
from orchestrator.cost.transfer import TransferItem, TransferTable
from orchestrator.spec import PricingSpec, Purchase


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCard:
    """What the bills of a config are made from."""

    quotes: Mapping[Purchase, PriceQuote]
    """A price of an instance-hour for each purchase option, in the config's order."""
    on_demand_usd_per_instance_hour: float | None
    """What spot is compared with, asked for or not; None for a machine of one's own."""
    storage: UnitPrice | None
    """Of a GB kept for a month."""
    transfer: UnitPrice | None
    """Of a GB that takes ``pricing.transfer.route``."""
    spot: SpotMarket
    """How often one spot instance is taken away."""
    warnings: tuple[str, ...] = ()
    """What reads wrong in a price list of the user's own."""
    core_hour: UnitPrice | None = None
    """Of an hour of one vCPU on the cheapest machine without accelerators of the same cloud; None where none is
    listed."""
    vcpus_per_instance: int | None = None
    """None where the price list does not say."""

    @property
    def worker_hour(self) -> UnitPrice:
        """Of an hour of one worker of the first purchase option."""
        quote = next(iter(self.quotes.values()))
        return UnitPrice(
            usd=quote.usd_per_instance_hour / quote.workers_per_instance, unit="worker-hour", cited=quote.cited
        )

    @property
    def sweep_usd_per_worker_s(self) -> float:
        """What a sweep's worker costs: on-demand when it is quoted, because sweeps start now and run through."""
        quote = self.quotes.get("on_demand") or next(iter(self.quotes.values()))
        return quote.usd_per_instance_hour / quote.workers_per_instance / 3600


def rate_card(
    pricing: PricingSpec,
    table: PriceTable | None,
    transfer_table: TransferTable | None,
    today: datetime.date,
    *,
    reference: PriceTable | None = None,
    spot: SpotMarket | None = None,
) -> RateCard:
    """Price what a config asks for.

    Args:
        pricing: Section ``pricing`` of the config.
        table: Prices by instance; may be None with ``usd_per_worker_hour``.
        transfer_table: Prices of storage and transfer; None when only the config's own figures count.
        today: For the age of the prices.
        reference: Prices to hold those of ``table`` against; None when they need no check.
        spot: The market as its history shows it; None takes the config's figures, or the public traces'.
    Raises: PriceError: No such instance or region, or no price for a purchase option that was asked for.
    """
    found = quotes(pricing, table, today)
    cloud = next(iter(found.values())).cloud
    row = None if table is None or pricing.instance is None else table.find(pricing.instance, pricing.region or "")
    return RateCard(
        quotes=found,
        on_demand_usd_per_instance_hour=None if row is None else row.on_demand_usd_h,
        storage=_listed(pricing.storage.usd_per_gb_month, "GB-month", "object_storage", cloud, transfer_table, today),
        transfer=_transfer_price(pricing, cloud, transfer_table, today),
        spot=spot or spot_market(pricing.spot.mean_uptime_h, pricing.spot.mean_downtime_h),
        warnings=() if row is None or reference is None else _misread(row, reference),
        core_hour=None if row is None or table is None else _core_price(row, table),
        vcpus_per_instance=None if row is None else row.vcpus,
    )


def _core_price(row: PriceRow, table: PriceTable) -> UnitPrice | None:
    """Among machines of the same cloud and region, or of any region of that cloud where there is none."""
    plain = [each for each in table.rows if each.cloud == row.cloud and not each.accelerator and each.vcpus]
    near = [each for each in plain if each.region == row.region] or plain
    if not near:
        return None
    cheapest = min(near, key=lambda each: each.on_demand_usd_h / (each.vcpus or 1))
    return UnitPrice(
        usd=cheapest.on_demand_usd_h / (cheapest.vcpus or 1),
        unit="vCPU-hour",
        cited=f"{cheapest.name} {cheapest.region}, {cheapest.source}, {cheapest.date.isoformat()}",
    )


def _misread(row: PriceRow, reference: PriceTable) -> tuple[str, ...]:
    reason = implausible_price(
        row.on_demand_usd_h, reference, instance=row.name, accelerator=row.accelerator,
        accelerator_count=row.accelerator_count,
    )  # fmt: skip
    return () if reason is None else (f"the on-demand price of {row.name} {row.region} reads wrong: {reason}",)


def _transfer_price(
    pricing: PricingSpec, cloud: str | None, table: TransferTable | None, today: datetime.date
) -> UnitPrice | None:
    asked = pricing.transfer
    if asked is None:
        return None
    if asked.route == "same_zone":
        return UnitPrice(usd=asked.usd_per_gb or 0.0, unit="GB", cited="transfer within a zone is not billed")
    return _listed(asked.usd_per_gb, "GB", asked.route, cloud, table, today)


def _listed(
    own_usd: float | None,
    unit: str,
    item: TransferItem,
    cloud: str | None,
    table: TransferTable | None,
    today: datetime.date,
) -> UnitPrice | None:
    if own_usd is not None:
        return UnitPrice(usd=own_usd, unit=unit, cited="config")
    found = table.find(item, cloud) if table is not None and cloud is not None else None
    if found is None:
        return None
    return UnitPrice(usd=found.usd, unit=unit, cited=found.cited, warning=found.age_warning(today))
