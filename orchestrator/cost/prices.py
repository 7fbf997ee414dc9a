"""What an hour of an instance costs: a dated price table, and the quote a bill is made from.

Prices are US dollars per instance-hour. Every row states where its price comes from and the date it is good for; a row
that cannot be true is refused together with every other bad row, so that a table is mended once. Reading the file is
the caller's; text comes in, records go out.
"""

from __future__ import annotations

import csv
import datetime
import difflib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.errors import PriceError
from orchestrator.spec import PricingSpec, Purchase

STALE_AFTER_DAYS = 90
"""A price older than this is told with every verdict; cloud list prices moved by up to 45% in a year (AWS P4 and P5
price cut of June 2025), so a quarter is a policy limit and no measured one."""

COLUMNS = (
    "cloud", "instance", "accelerator", "accelerator_count", "vcpus", "region",
    "on_demand_usd_h", "spot_usd_h", "reserved_usd_h", "source", "date",
)  # fmt: skip
_CLOUDS = ("aws", "gcp", "azure")
# Catalogues write "no price" as a run of nines, zero or a negative number; a run of nines is no list price.
_SENTINELS = frozenset({999.0, 9999.0, 99999.0, 999999.0})
# Google bills the accelerators of these families apart from the host: a row without any prices half a machine.
_GCP_ACCELERATOR_FAMILIES = ("a2-", "a3-", "a4-", "g2-", "g4-")


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceRow:
    """The price of one instance type in one region."""

    cloud: str
    instance: str
    """The cloud's own name of the type, without the cloud."""
    accelerator: str
    """Empty for a machine without any."""
    accelerator_count: int
    vcpus: int | None
    """None where the source does not say."""
    region: str
    on_demand_usd_h: float
    spot_usd_h: float | None
    reserved_usd_h: float | None
    source: str
    date: datetime.date
    """The day the price is good for, as its source states it."""

    @property
    def name(self) -> str:
        """``cloud/type``, as a config writes it."""
        return f"{self.cloud}/{self.instance}"

    def usd_per_hour(self, purchase: Purchase) -> float | None:
        """Price of an instance-hour bought that way; None where the table has none."""
        prices = {"on_demand": self.on_demand_usd_h, "spot": self.spot_usd_h, "reserved": self.reserved_usd_h}
        return prices[purchase]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTable:
    """Rows that passed every check."""

    rows: tuple[PriceRow, ...]
    source: str
    """Name of the table, for messages."""

    def find(self, instance: str, region: str) -> PriceRow:
        """The row of ``cloud/type`` in ``region``.

        Raises: PriceError: No such instance (names those that read alike), or not in that region (names those it has).
        """
        regions = {row.region: row for row in self.rows if row.name == instance}
        if region in regions:
            return regions[region]
        if regions:
            raise PriceError(
                f"{instance} has no price in {region} in {self.source}; it has {', '.join(sorted(regions))}; "
                "choose one of these, or give pricing.usd_per_worker_hour"
            )
        names = sorted({row.name for row in self.rows})
        close = difflib.get_close_matches(instance, names, n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(names)}"
        raise PriceError(f"{instance} is not in {self.source}; {hint} Or give pricing.usd_per_worker_hour")


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

    @property
    def cited(self) -> str:
        """Source with its date, for the line of a bill."""
        return self.source if self.date is None else f"{self.source}, {self.date.isoformat()}"


def parse_price_table(text: str, source: str) -> PriceTable:
    """Read a CSV price table with the columns of `COLUMNS`.

    Args:
        text: The whole file. Empty spot or reserved price means there is none.
        source: Name of the file, for messages.
    Raises: PriceError: Missing columns, or any bad row; every bad row is listed with its line number and reason.
    """
    reader = csv.DictReader(io.StringIO(text))
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise PriceError(f"{source}: columns missing: {', '.join(missing)}; the header must read {','.join(COLUMNS)}")
    rows: list[PriceRow] = []
    faults: list[str] = []
    seen: dict[tuple[str, str], int] = {}
    for fields in reader:
        line = reader.line_num
        problems, row = _parse_row(fields)
        if row is not None:
            first = seen.setdefault((row.name, row.region), line)
            if first != line:
                problems.append(f"repeats row {first}; keep one of them")
            rows.append(row)
        faults += [f"  row {line} ({_name_of(fields)}): {problem}" for problem in problems]
    if faults:
        count = "1 price" if len(faults) == 1 else f"{len(faults)} prices"
        raise PriceError("\n".join([f"{source}: {count} cannot be used", *faults]))
    if not rows:
        raise PriceError(f"{source}: holds no prices; add a row below the header")
    return PriceTable(rows=tuple(rows), source=source)


def _name_of(fields: Mapping[str, str | None]) -> str:
    return f"{fields.get('cloud') or '?'}/{fields.get('instance') or '?'} {fields.get('region') or '?'}"


def _parse_row(fields: Mapping[str, str | None]) -> tuple[list[str], PriceRow | None]:
    """Every fault of one row, and the row where there is none."""
    text = {column: (fields.get(column) or "").strip() for column in COLUMNS}
    faults: list[str] = []
    if None in fields.values() or None in fields:
        faults.append(f"does not have {len(COLUMNS)} cells")
    if text["cloud"] not in _CLOUDS:
        faults.append(f"cloud must be one of {', '.join(_CLOUDS)}, got {text['cloud']!r}")
    faults += [f"{column} is missing" for column in ("instance", "region", "source", "date") if not text[column]]
    count = _whole(text["accelerator_count"], "accelerator_count", faults)
    vcpus = _whole(text["vcpus"], "vcpus", faults) if text["vcpus"] else None
    prices = {
        key: _price(text[key], key, faults)
        for key in ("on_demand_usd_h", "spot_usd_h", "reserved_usd_h")
        if text[key] or key == "on_demand_usd_h"
    }
    date = _date(text["date"], faults) if text["date"] else None
    faults += _contradictions(text, count, vcpus, prices)
    on_demand = prices["on_demand_usd_h"]
    if faults or on_demand is None or count is None or date is None:
        return faults, None
    return [], PriceRow(
        cloud=text["cloud"], instance=text["instance"], accelerator=text["accelerator"], accelerator_count=count,
        vcpus=vcpus, region=text["region"], on_demand_usd_h=on_demand, spot_usd_h=prices.get("spot_usd_h"),
        reserved_usd_h=prices.get("reserved_usd_h"), source=text["source"], date=date,
    )  # fmt: skip


def _whole(text: str, column: str, faults: list[str]) -> int | None:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value.is_integer() or value < 0:
        faults.append(f"{column} must be a whole number, 0 or more, got {text!r}")
        return None
    return int(value)


def _price(text: str, column: str, faults: list[str]) -> float | None:
    try:
        value = float(text)
    except ValueError:
        faults.append(f"{column} is not a number: {text!r}")
        return None
    if not math.isfinite(value) or value <= 0:
        faults.append(f"{column} must be above 0, got {text}; leave spot or reserved empty where there is none")
        return None
    if value in _SENTINELS:
        faults.append(f"{column} is {text}, which catalogues write where there is no price")
        return None
    return value


def _date(text: str, faults: list[str]) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        faults.append(f"date must read YYYY-MM-DD, got {text!r}")
        return None


def _contradictions(
    text: Mapping[str, str], count: int | None, vcpus: int | None, prices: Mapping[str, float | None]
) -> list[str]:
    """What is possible by itself but not together."""
    faults = []
    on_demand = prices["on_demand_usd_h"]
    for key, word in (("spot_usd_h", "spot"), ("reserved_usd_h", "reserved")):
        price = prices.get(key)
        if price is not None and on_demand is not None and price > on_demand:
            faults.append(f"{word} price {price:g} is above the on-demand price {on_demand:g}")
    if count is not None and (count > 0) != bool(text["accelerator"]):
        faults.append(f"accelerator {text['accelerator']!r} does not go with a count of {count}")
    if vcpus == 0:
        faults.append("vcpus is 0; leave it empty where the source does not say")
    part = text["instance"].startswith(("host-only", "accelerator-only"))
    if part or (text["cloud"] == "gcp" and count == 0 and text["instance"].startswith(_GCP_ACCELERATOR_FAMILIES)):
        faults.append("prices a part of a machine: host and accelerators must be one price")
    return faults


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


def _table_quote(row: PriceRow, purchase: Purchase, workers_per_instance: int, today: datetime.date) -> PriceQuote:
    price = row.usd_per_hour(purchase)
    if price is None:
        raise PriceError(f"{row.name} in {row.region} has no {purchase} price")
    age_days = (today - row.date).days
    return PriceQuote(
        purchase=purchase, usd_per_instance_hour=price, workers_per_instance=workers_per_instance, source=row.source,
        date=row.date, age_days=age_days,
        # A price from the future says that a clock or the table is wrong: not to be relied on either.
        stale=not 0 <= age_days <= STALE_AFTER_DAYS,
        assumed=True, label=f"{row.name} {row.region} {purchase}",
    )  # fmt: skip
