"""What an hour of an instance costs: a dated price table, and the quote a bill is made from.

Prices are US dollars per instance-hour. Every row states where its prices come from and the date they are good for; a
row that cannot be true is refused together with every other bad row, so that a table is mended once. Reading the file
is the caller's; text comes in, records go out. SkyPilot's catalogues, with the whole market, are in `cost.catalogue`.

How many data-parallel workers an instance holds, where the config does not say: one per accelerator; one on a machine
without any, because a worker there takes all cores.
"""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from orchestrator.cost.price_rows import (
    RefusedRow,
    calendar_day,
    dollars,
    instance_faults,
    parse_rows,
    price_faults,
    whole_number,
)
from orchestrator.errors import PriceError
from orchestrator.spec import PricingSpec, Purchase

STALE_AFTER_DAYS = 90
"""A price older than this is told with every verdict; cloud list prices moved by up to 45% in a year (AWS P4 and P5
price cut of June 2025), so a quarter is a policy limit and no measured one."""

Cloud = Literal["aws", "gcp", "azure"]
CLOUDS: tuple[Cloud, ...] = ("aws", "gcp", "azure")
COLUMNS = (
    "cloud", "instance", "accelerator", "accelerator_count", "vcpus", "region",
    "on_demand_usd_h", "spot_usd_h", "reserved_usd_h", "source", "date",
)  # fmt: skip
OPTIONAL_COLUMNS = ("workers_per_instance", "spot_source", "spot_date")
"""Spot prices change by the hour and may come from elsewhere: with a source and a date of their own."""
_PRICES = ("on_demand_usd_h", "spot_usd_h", "reserved_usd_h")

# More names than this in an error help nobody.
_NAMES_TOLD = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceRow:
    """The price of one instance type in one region."""

    cloud: str
    instance: str
    """The cloud's own name of the type, without the cloud."""
    accelerator: str
    """Empty for a machine without any."""
    accelerator_count: int
    workers_per_instance: int | None
    """Data-parallel workers it naturally holds; None where nobody says."""
    vcpus: int | None
    """None where the source does not say."""
    region: str
    on_demand_usd_h: float
    spot_usd_h: float | None
    reserved_usd_h: float | None
    source: str
    date: datetime.date
    """The day the price is good for, as its source states it."""
    spot_source: str | None = None
    """Where the spot price comes from, when not from ``source``; a derived price says how."""
    spot_date: datetime.date | None = None

    @property
    def name(self) -> str:
        """``cloud/type``, as a config writes it."""
        return f"{self.cloud}/{self.instance}"

    def usd_per_hour(self, purchase: Purchase) -> float | None:
        """Price of an instance-hour bought that way; None where the table has none."""
        prices = {"on_demand": self.on_demand_usd_h, "spot": self.spot_usd_h, "reserved": self.reserved_usd_h}
        return prices[purchase]

    def origin(self, purchase: Purchase) -> tuple[str, datetime.date]:
        """Source and date of the price bought that way."""
        if purchase == "spot" and self.spot_source is not None and self.spot_date is not None:
            return self.spot_source, self.spot_date
        return self.source, self.date


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTable:
    """Rows that passed every check."""

    rows: tuple[PriceRow, ...]
    source: str
    """Name of the table, for messages."""
    refused: tuple[RefusedRow, ...] = ()
    """Rows of a catalogue that did not pass; a config that names one is told why."""

    def find(self, instance: str, region: str) -> PriceRow:
        """The row of ``cloud/type`` in ``region``.

        Raises: PriceError: The row was refused (with its number and reason), no such instance (names those that read
            alike), or not in that region (names those it has).
        """
        regions = {row.region: row for row in self.rows if row.name == instance}
        if region in regions:
            return regions[region]
        bad = [row for row in self.refused if row.name == instance and row.region == region]
        if bad:
            raise PriceError(
                f"{instance} in {region} cannot be priced from {self.source}: {_several(bad)}; "
                "choose another, or give pricing.usd_per_worker_hour"
            )
        if regions:
            raise PriceError(
                f"{instance} has no price in {region} in {self.source}; it has {', '.join(sorted(regions))}; "
                "choose one of these, or give pricing.usd_per_worker_hour"
            )
        elsewhere = [row for row in self.refused if row.name == instance]
        if elsewhere:
            raise PriceError(
                f"{instance} cannot be priced from {self.source} in any region: {_several(elsewhere)}; "
                "choose another, or give pricing.usd_per_worker_hour"
            )
        raise PriceError(f"{instance} is not in {self.source}; {self._alike(instance)}")

    def _alike(self, instance: str) -> str:
        names = sorted({row.name for row in self.rows})
        close = difflib.get_close_matches(instance, names, n=3, cutoff=0.6)
        more = f" and {len(names) - _NAMES_TOLD:,} more" if len(names) > _NAMES_TOLD else ""
        hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(names[:_NAMES_TOLD])}{more}."
        return f"{hint} Or give pricing.usd_per_worker_hour"


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceQuote:
    """The price one bill is made with, and how far it can be trusted."""

    purchase: Purchase
    usd_per_instance_hour: float
    workers_per_instance: int
    source: str
    date: datetime.date | None
    """None for the owner's own figure, which has no date."""
    age_days: int | None
    stale: bool
    assumed: bool
    """True for a cloud instance: the times it is multiplied with were measured on another machine."""
    label: str
    cloud: str | None = None
    """None for a machine of one's own, as are ``region`` and ``list_workers_per_instance``."""
    region: str | None = None
    list_workers_per_instance: int | None = None
    """What the price table says, whatever the config says; None where it does not say."""
    workers_note: str = ""
    """Why ``workers_per_instance`` is a guess; empty when the config or the table says it."""

    @property
    def cited(self) -> str:
        """Source with its date, for the line of a bill."""
        return self.source if self.date is None else f"{self.source}, {self.date.isoformat()}"


def _several(rows: list[RefusedRow]) -> str:
    more = "" if len(rows) == 1 else f"; and {len(rows) - 1} more such rows"
    return f"{rows[0]}{more}"


def parse_price_table(text: str, source: str, *, today: datetime.date | None = None) -> PriceTable:
    """Read a CSV price table with the columns of `COLUMNS`, and those of `OPTIONAL_COLUMNS` where it has them.

    Args:
        text: The whole file. Empty spot or reserved price means there is none.
        source: Name of the file, for messages.
        today: Refuses rows dated later, when given.
    Raises: PriceError: Missing columns, or any bad row; every bad row is listed with its line number and reason.
    """
    rows = parse_rows(
        text,
        source,
        COLUMNS,
        lambda fields, faults: _parse_row(fields, faults, today),
        what="price",
        name=_name_of,
        key=lambda row: (row.name, row.region),
    )
    return PriceTable(rows=rows, source=source)


def _name_of(fields: Mapping[str, str]) -> str:
    return f" ({fields['cloud'] or '?'}/{fields['instance'] or '?'} {fields['region'] or '?'})"


def _parse_row(text: Mapping[str, str], faults: list[str], today: datetime.date | None) -> PriceRow | None:
    """The row, or None with every fault of it in ``faults``."""
    if text["cloud"] not in CLOUDS:
        faults.append(f"cloud must be one of {', '.join(CLOUDS)}, got {text['cloud']!r}")
    faults += [f"{column} is missing" for column in ("instance", "region", "source", "date") if not text[column]]
    count = whole_number(text["accelerator_count"], "accelerator_count", faults)
    vcpus = whole_number(text["vcpus"], "vcpus", faults) if text["vcpus"] else None
    workers = _workers(text.get("workers_per_instance", ""), count, faults)
    prices = {key: dollars(text[key], key, faults) for key in _PRICES if text[key] or key == "on_demand_usd_h"}
    date = calendar_day(text["date"], faults, today) if text["date"] else None
    spot_source, spot_date = _spot_origin(text, faults, today)
    on_demand, spot, reserved = (prices.get(key) for key in _PRICES)
    faults += price_faults(on_demand, {"spot": spot, "reserved": reserved}, text["instance"])
    faults += instance_faults(text["cloud"], text["instance"], text["accelerator"], count, vcpus)
    if faults or on_demand is None or count is None or date is None:
        return None
    return PriceRow(
        cloud=text["cloud"], instance=text["instance"], accelerator=text["accelerator"], accelerator_count=count,
        workers_per_instance=workers, vcpus=vcpus, region=text["region"], on_demand_usd_h=on_demand, spot_usd_h=spot,
        reserved_usd_h=reserved, source=text["source"], date=date, spot_source=spot_source, spot_date=spot_date,
    )  # fmt: skip


def _workers(text: str, accelerators: int | None, faults: list[str]) -> int | None:
    if text:
        return whole_number(text, "workers_per_instance", faults, least=1)
    return accelerators or None


def _spot_origin(
    text: Mapping[str, str], faults: list[str], today: datetime.date | None
) -> tuple[str | None, datetime.date | None]:
    source, day = text.get("spot_source", ""), text.get("spot_date", "")
    if not source and not day:
        return None, None
    if not (source and day and text["spot_usd_h"]):
        faults.append("spot_source and spot_date go together, with a spot price; leave both empty or give all three")
        return None, None
    return source, calendar_day(day, faults, today, "spot_date")


def quotes(pricing: PricingSpec, table: PriceTable | None, today: datetime.date) -> dict[Purchase, PriceQuote]:
    """The price of every purchase option a config asks for, in its order.

    Args:
        pricing: Section ``pricing`` of the config.
        table: Prices by instance; may be None with ``usd_per_worker_hour``.
        today: The day the quote is made, for its age.
    Raises: PriceError: No such instance or region, or no price for a purchase option that was asked for.
    """
    if pricing.usd_per_worker_hour is not None:
        return {"on_demand": _own_quote(pricing.usd_per_worker_hour)}
    if pricing.instance is None or pricing.region is None or table is None:
        raise PriceError("pricing names no instance with a region in a price table; give pricing.usd_per_worker_hour")
    row = table.find(pricing.instance, pricing.region)
    unpriced = [purchase for purchase in pricing.purchase if row.usd_per_hour(purchase) is None]
    if unpriced:
        known = [p for p in ("on_demand", "spot", "reserved") if row.usd_per_hour(p) is not None]
        raise PriceError(
            f"{row.name} in {row.region} has no {' or '.join(unpriced)} price in {table.source}; "
            f"set pricing.purchase to {known}, or add the price with its source"
        )
    return {purchase: _table_quote(row, purchase, pricing.workers_per_instance, today) for purchase in pricing.purchase}


def _own_quote(usd_per_worker_hour: float) -> PriceQuote:
    return PriceQuote(
        purchase="on_demand", usd_per_instance_hour=usd_per_worker_hour, workers_per_instance=1, source="config",
        date=None, age_days=None, stale=False, assumed=False, label="own machine",
    )  # fmt: skip


def _table_quote(row: PriceRow, purchase: Purchase, asked_workers: int | None, today: datetime.date) -> PriceQuote:
    price = row.usd_per_hour(purchase)
    if price is None:
        raise PriceError(f"{row.name} in {row.region} has no {purchase} price")
    source, date = row.origin(purchase)
    age_days = (today - date).days
    workers = asked_workers or row.workers_per_instance
    note = "" if workers else f"{row.name} has no accelerators to count workers by: one worker for each is assumed"
    return PriceQuote(
        purchase=purchase, usd_per_instance_hour=price, workers_per_instance=workers or 1, source=source, date=date,
        age_days=age_days, stale=is_stale(age_days), assumed=True, label=f"{row.name} {row.region} {purchase}",
        cloud=row.cloud, region=row.region, list_workers_per_instance=row.workers_per_instance, workers_note=note,
    )  # fmt: skip


def is_stale(age_days: int) -> bool:
    """Whether a price is too old; one from the future says that a clock or the table is wrong, and counts as old."""
    return not 0 <= age_days <= STALE_AFTER_DAYS
