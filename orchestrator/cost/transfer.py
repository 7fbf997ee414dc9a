"""What moving and keeping data costs: egress, transfer between regions and zones, object storage.

Prices are US dollars per GB moved or per GB kept for a month, for the first tier of volume in the clouds' American
regions; 1 GB is 1e9 bytes. A pair of item and cloud has one price, or none: then the bill leaves the line out. Not in
the shipped table, because no source is at hand: transfer between regions of Azure and Google Cloud and what they bill
for data to another cloud, and Azure's zones, where sources contradict one another (0.01 dollars in each direction; and
no charge since May 2024).
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from orchestrator.cost.price_rows import calendar_day, dollars, parse_rows
from orchestrator.cost.prices import CLOUDS, STALE_AFTER_DAYS, is_stale

TransferItem = Literal["internet_egress", "inter_region", "cross_cloud", "cross_zone", "object_storage"]
ITEMS: tuple[TransferItem, ...] = get_args(TransferItem)
COLUMNS = ("item", "cloud", "usd", "unit", "where", "note", "source", "date")
_UNITS = {item: "GB-month" if item == "object_storage" else "GB" for item in ITEMS}
# A GB has never cost as much on any list known here; a cents-for-dollars or per-TB slip does.
_MOST_USD = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferPrice:
    """What a GB costs at one cloud."""

    item: TransferItem
    cloud: str
    usd: float
    unit: str
    """``GB`` moved, or ``GB-month`` kept."""
    where: str
    """Regions it holds for."""
    note: str
    """Tier of volume or of service, and what is counted."""
    source: str
    date: datetime.date
    """The day the price is good for; the first of the year or month where its source states no day."""

    @property
    def cited(self) -> str:
        """Source with its date, for the line of a bill."""
        note = f" ({self.note})" if self.note else ""
        return f"{self.source}{note}, {self.date.isoformat()}"

    def age_days(self, today: datetime.date) -> int:
        """Days since the price was good; negative for one from the future."""
        return (today - self.date).days

    def is_stale(self, today: datetime.date) -> bool:
        """Whether it is older than `STALE_AFTER_DAYS`, or from the future."""
        return is_stale(self.age_days(today))

    def age_warning(self, today: datetime.date) -> str:
        """What to tell when it is stale; empty when it is not."""
        if not self.is_stale(today):
            return ""
        days = self.age_days(today)
        age = f"{days} days old" if days >= 0 else f"dated {-days} days after today"
        return (
            f"the {self.item.replace('_', ' ')} price of {self.cloud} is {age} ({self.date.isoformat()}; "
            f"limit {STALE_AFTER_DAYS} days): check it, or give your own"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferTable:
    """Rows that passed every check."""

    rows: tuple[TransferPrice, ...]
    source: str
    """Name of the table, for messages."""

    def find(self, item: TransferItem, cloud: str) -> TransferPrice | None:
        """The price of ``item`` at ``cloud``, which the bytes leave; None where the table has none."""
        return next((row for row in self.rows if row.item == item and row.cloud == cloud), None)


def parse_transfer_table(text: str, source: str, *, today: datetime.date | None = None) -> TransferTable:
    """Read a CSV table with the columns of `COLUMNS`.

    Args:
        text: The whole file.
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
        name=lambda fields: f" ({fields['cloud'] or '?'} {fields['item'] or '?'})",
        key=lambda row: (row.item, row.cloud),
    )
    return TransferTable(rows=rows, source=source)


def _parse_row(text: Mapping[str, str], faults: list[str], today: datetime.date | None) -> TransferPrice | None:
    item = next((known for known in ITEMS if known == text["item"]), None)
    if item is None:
        faults.append(f"item must be one of {', '.join(ITEMS)}, got {text['item']!r}")
    if text["cloud"] not in CLOUDS:
        faults.append(f"cloud must be one of {', '.join(CLOUDS)}, got {text['cloud']!r}")
    faults += [f"{column} is missing" for column in ("where", "source", "date") if not text[column]]
    if item is not None and text["unit"] != _UNITS[item]:
        faults.append(f"unit of {item} must be {_UNITS[item]}, got {text['unit']!r}")
    usd = dollars(text["usd"], "usd", faults)
    if usd is not None and usd > _MOST_USD:
        faults.append(f"usd is {usd:g}, and no list asks more than {_MOST_USD:g} per GB; cents, or a TB?")
    date = calendar_day(text["date"], faults, today) if text["date"] else None
    if faults or item is None or usd is None or date is None:
        return None
    return TransferPrice(
        item=item, cloud=text["cloud"], usd=usd, unit=text["unit"], where=text["where"], note=text["note"],
        source=text["source"], date=date,
    )  # fmt: skip
