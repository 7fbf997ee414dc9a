"""SkyPilot's price catalogues, which hold the whole market of one cloud, and telling them from our own layout.

A catalogue (github.com/skypilot-org/skypilot-catalog, ``catalogs/v8/aws/vms.csv`` and its like; schemas v2 to v9 share
the columns used here) has one row for each instance type, region and availability zone, thousands in all, and bad rows
among them: hosts without their accelerators, accelerators without host, zero and placeholder prices, a spot price above
the on-demand one. Bad rows are set aside with their reason and the good ones stay usable; a config that names a bad one
is told why (`PriceTable.find`).

One price stands for a region: the highest on-demand price of its zones, which are the same in most, and of their spot
prices the median (the upper one of two), so that half of the zones ask no more. A spot price that equals the on-demand
price is what catalogues write where none is known, and counts as none. A TPU has no instance type of its own and is
called by its accelerator; catalogues count a whole slice as 1, and its name tells the number of devices. A catalogue
has no reserved prices, and states neither cloud nor date: the caller does.
"""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.cost.accelerators import accelerators_of
from orchestrator.cost.price_rows import (
    RefusedRow,
    dollars,
    instance_faults,
    named_cells,
    price_faults,
    read_csv,
    whole_number,
)
from orchestrator.cost.prices import CLOUDS, COLUMNS, PriceRow, PriceTable, parse_price_table
from orchestrator.errors import PriceError

CATALOGUE_COLUMNS = ("InstanceType", "AcceleratorName", "AcceleratorCount", "vCPUs", "Price", "SpotPrice", "Region")
"""Needed; ``AvailabilityZone`` is used where there is one, other columns are left alone."""
# Zones of a region list one on-demand price; a factor of 1.5 is more than any two regions of a type need.
_MOST_BETWEEN_ZONES = 1.5
_REASONS_TOLD = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueResult:
    """What of a catalogue can be used, and what cannot."""

    table: PriceTable
    refused: tuple[RefusedRow, ...]
    """In the order of the file."""
    row_count: int
    """Rows below the header, zones counted singly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _ZoneRow:
    """A good row of a catalogue."""

    line: int
    instance: str
    accelerator: str
    accelerator_count: int
    vcpus: int | None
    region: str
    zone: str
    on_demand_usd_h: float
    spot_usd_h: float | None

    @property
    def machine(self) -> tuple[str, int, int | None]:
        return self.accelerator, self.accelerator_count, self.vcpus


def parse_prices(
    text: str, source: str, *, cloud: str | None, date: datetime.date | None, today: datetime.date | None = None
) -> PriceTable:
    """Read prices in either layout, told apart by their column names.

    Args:
        text: The whole file.
        source: Name of the file, for messages.
        cloud: Of a SkyPilot catalogue; has no meaning for a table in our own columns, which says it in every row.
        date: The day a SkyPilot catalogue is good for, likewise.
        today: Refuses prices dated later, when given.
    Raises: PriceError: Neither layout, a catalogue without cloud or date, or what the parser of the layout raises.
    """
    header, _ = read_csv(text, source)
    if "InstanceType" not in header:
        if "instance" not in header:
            raise PriceError(
                f"{source}: is neither a price table (columns {','.join(COLUMNS)}) nor a SkyPilot catalogue "
                f"(columns {','.join(CATALOGUE_COLUMNS)}); its header reads {','.join(header)[:200]}"
            )
        return parse_price_table(text, source, today=today)
    stated = {"pricing.catalogue_cloud": cloud, "pricing.catalogue_date": date}
    missing = [key for key, value in stated.items() if value is None]
    if cloud is None or date is None:
        raise PriceError(f"{source}: is a SkyPilot catalogue, which states neither; give {' and '.join(missing)}")
    return parse_catalogue(text, source, cloud=cloud, date=date, today=today).table


def parse_catalogue(
    text: str, source: str, *, cloud: str, date: datetime.date, today: datetime.date | None = None
) -> CatalogueResult:
    """Read a SkyPilot catalogue of one cloud.

    Args:
        text: The whole file.
        source: Name of the file, for messages and as the source of its prices.
        cloud: ``aws``, ``gcp`` or ``azure``.
        date: The day its prices are good for.
        today: Refuses a ``date`` after it, when given.
    Raises: PriceError: Unknown cloud, a date in the future, missing columns, text that is no CSV, or no usable row.
    """
    if cloud not in CLOUDS:
        raise PriceError(f"pricing.catalogue_cloud must be one of {', '.join(CLOUDS)}, got {cloud!r}")
    if today is not None and date > today:
        raise PriceError(
            f"pricing.catalogue_date {date} lies in the future (today is {today}); give the day it was fetched"
        )
    header, lines = read_csv(text, source)
    missing = [column for column in CATALOGUE_COLUMNS if column not in header]
    if missing:
        raise PriceError(
            f"{source}: columns missing: {', '.join(missing)}; a SkyPilot catalogue has {','.join(CATALOGUE_COLUMNS)}"
        )
    good: dict[tuple[str, str], dict[str, _ZoneRow]] = {}
    refused: list[RefusedRow] = []
    row_count = 0
    for line, cells in lines:
        row_count += 1
        row = _parse_row(header, cells, cloud, line)
        if isinstance(row, _ZoneRow):
            zones = good.setdefault((row.instance, row.region), {})
            reason = _misfit(row, zones)
            if reason is None:
                zones[row.zone] = row
                continue
            row = RefusedRow(line=line, name=f"{cloud}/{row.instance}", region=row.region, reasons=(reason,))
        refused.append(row)
    rows = tuple(_merged(tuple(zones.values()), cloud, source, date) for zones in good.values())
    if not rows:
        raise PriceError("\n".join([f"{source}: holds no usable price", *_first(refused)]))
    table = PriceTable(rows=rows, source=source, refused=tuple(refused))
    return CatalogueResult(table=table, refused=tuple(refused), row_count=row_count)


def _parse_row(header: list[str], cells: list[str], cloud: str, line: int) -> _ZoneRow | RefusedRow:
    faults: list[str] = []
    text = named_cells(header, cells, faults)
    accelerator, instance = text["AcceleratorName"], text["InstanceType"]
    is_tpu = cloud == "gcp" and accelerator.startswith("tpu-") and instance in ("", "TPU-VM")
    if is_tpu:
        instance = accelerator
    elif not instance:
        faults.append("prices a part of a machine: an accelerator without its host")
    if not text["Region"]:
        faults.append("Region is missing")
    count = _count(text["AcceleratorCount"], faults)
    if is_tpu and count is not None:
        count = accelerators_of(cloud, instance) or count
    vcpus = whole_number(text["vCPUs"], "vCPUs", faults) if text["vCPUs"] else None
    on_demand = dollars(text["Price"], "Price", faults)
    spot = dollars(text["SpotPrice"], "SpotPrice", faults) if text["SpotPrice"] else None
    faults += price_faults(on_demand, {"spot": spot}, instance)
    if instance:
        faults += instance_faults(cloud, instance, accelerator, count, vcpus)
    if faults or on_demand is None or count is None:
        name = f"{cloud}/{instance or accelerator or '?'}"
        return RefusedRow(line=line, name=name, region=text["Region"] or "?", reasons=tuple(faults))
    return _ZoneRow(
        line=line, instance=instance, accelerator=accelerator, accelerator_count=count, vcpus=vcpus,
        region=text["Region"], zone=text.get("AvailabilityZone", ""), on_demand_usd_h=on_demand,
        spot_usd_h=None if spot == on_demand else spot,
    )  # fmt: skip


def _count(text: str, faults: list[str]) -> int | None:
    """Accelerators; catalogues leave the cell empty for none."""
    return whole_number(text, "AcceleratorCount", faults) if text else 0


def _misfit(row: _ZoneRow, zones: Mapping[str, _ZoneRow]) -> str | None:
    """Why a row cannot stand beside the others of its type and region."""
    if row.zone in zones:
        return f"repeats row {zones[row.zone].line}"
    first = next(iter(zones.values()), row)
    if first.machine != row.machine:
        return f"is another machine than row {first.line}: {_machine(row)}, there {_machine(first)}"
    low, high = sorted((first.on_demand_usd_h, row.on_demand_usd_h))
    if high > _MOST_BETWEEN_ZONES * low:
        there = f"row {first.line}, of the same region, costs {first.on_demand_usd_h:g}"
        return f"costs {row.on_demand_usd_h:g} where {there}"
    return None


def _machine(row: _ZoneRow) -> str:
    return f"{row.accelerator_count} x {row.accelerator or 'no accelerator'}, {row.vcpus} vCPUs"


def _merged(zones: Sequence[_ZoneRow], cloud: str, source: str, date: datetime.date) -> PriceRow:
    first = zones[0]
    spots = [zone.spot_usd_h for zone in zones if zone.spot_usd_h is not None]
    return PriceRow(
        cloud=cloud, instance=first.instance, accelerator=first.accelerator, accelerator_count=first.accelerator_count,
        workers_per_instance=first.accelerator_count or None, vcpus=first.vcpus, region=first.region,
        on_demand_usd_h=max(zone.on_demand_usd_h for zone in zones),
        spot_usd_h=statistics.median_high(spots) if spots else None, reserved_usd_h=None, source=source, date=date,
    )  # fmt: skip


def _first(refused: Iterable[RefusedRow]) -> list[str]:
    told = [f"  {row}" for row in refused]
    more = [f"  and {len(told) - _REASONS_TOLD:,} more rows"] if len(told) > _REASONS_TOLD else []
    return told[:_REASONS_TOLD] + more
