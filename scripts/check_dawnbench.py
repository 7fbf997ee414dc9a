#!/usr/bin/env python
"""DAWNBench's training bills, made again from hours and hourly price, and its hourly prices checked.

    python scripts/check_dawnbench.py DATA

DATA is a Parquet file, or a folder with dawnbench.parquet, of the entries of stanford-futuredata/dawn-bench-entries,
with columns file, hw (the hardware in words), cost (dollars per hour of all machines), usd (the bill, where the entry
states it), hours and epochs.

Each entry with hours and a price is billed as the orchestrator bills a full run, and held against the product of the
two figures in decimal arithmetic, and against the stated bill where there is one (to the cent). The hourly price is
held against our price table, per machine: the type when its name is in the hardware, else the kind and number of its
accelerators. Exit code 1 when a bill is not reproduced.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from orchestrator.cost.lines import Ledger, UnitPrice
from orchestrator.cost.price_check import implausible_price
from orchestrator.cost.prices import PriceTable, parse_price_table

_AWS_TYPE = re.compile(r"(?<![\w.-])((?:p|g|c|m)\d[a-z]*\.\d*x?large)\b")
_MACHINES = re.compile(r"^(\d+) (?:nodes\b|p\d)|\((\d+) machines\b")
_ACCELERATORS = ("K80", "M60", "P100", "V100", "T4", "P4")
_RELATIVE_ERROR = 1e-12  # of double arithmetic on two factors, with room
_CENT = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One priced entry."""

    name: str
    hardware: str
    hours: float
    usd_per_hour: float
    bill_usd: float
    stated_usd: float | None
    is_reproduced: bool
    is_compared: bool
    """Whether our price table knows the type or its accelerators."""
    flag: str | None
    """Why its hourly price reads wrong."""
    note: str
    """What else looks wrong."""


def check_entries(entries: Sequence[Mapping[str, Any]], reference: PriceTable) -> list[Checked]:
    """Every entry that has both hours and a price."""
    return [_check(entry, reference) for entry in entries if entry["cost"] is not None and entry["hours"] is not None]


def _check(entry: Mapping[str, Any], reference: PriceTable) -> Checked:
    hours, usd_per_hour = float(entry["hours"]), float(entry["cost"])
    stated = None if entry["usd"] is None else float(entry["usd"])
    bill = bill_usd(hours, usd_per_hour)
    exact = Decimal(repr(hours)) * Decimal(str(entry["cost"]))
    is_exact = abs(Decimal(bill) - exact) <= Decimal(_RELATIVE_ERROR) * abs(exact)
    instance, accelerator, count = machine_of(entry["hw"])
    flag = implausible_price(
        usd_per_hour / machines_of(entry["hw"]), reference,
        instance=instance, accelerator=accelerator, accelerator_count=count,
    )  # fmt: skip
    return Checked(
        name=entry["file"], hardware=entry["hw"], hours=hours, usd_per_hour=usd_per_hour, bill_usd=bill,
        stated_usd=stated, is_reproduced=is_exact and (stated is None or abs(bill - stated) <= _CENT),
        is_compared=any(row.name == instance or row.accelerator == accelerator != "" for row in reference.rows),
        flag=flag, note="hours equal epochs: columns swapped?" if hours == entry["epochs"] else "",
    )  # fmt: skip


def bill_usd(hours: float, usd_per_hour: float) -> float:
    """Dollars of a bill with one line."""
    ledger = Ledger(n_draws=1)
    ledger.add("infrastructure", "training", hours, UnitPrice(usd=usd_per_hour, unit="hour", cited="DAWNBench"))
    return float(ledger.total_usd[0])


def machines_of(hardware: str) -> int:
    """How many machines the hourly price is for."""
    found = _MACHINES.search(hardware)
    return int(found[1] or found[2]) if found else 1


def machine_of(hardware: str) -> tuple[str | None, str, int]:
    """``cloud/type`` where it is named, and kind and number of the accelerators in one machine where they are."""
    named = _AWS_TYPE.search(hardware)
    kind = next((kind for kind in _ACCELERATORS if re.search(rf"(?<![A-Z]){kind}\b", hardware)), "")
    count = re.search(rf"(\d+) ?\*? ?{kind}\b|{kind} ?\* ?(\d+)", hardware) if kind else None
    number = int(count[1] or count[2]) if count else 1
    return (f"aws/{named[1]}" if named else None), kind, max(1, number // machines_of(hardware))


def render(checked: Sequence[Checked], n_entries: int) -> str:
    """The table and its summary."""
    lines = [f"{'hours':>9} {'$/hour':>8} {'bill $':>12}  {'reproduced':10}  entry"]
    for row in checked:
        said = "yes" if row.is_reproduced else f"no: {row.stated_usd}"
        lines.append(f"{row.hours:9.4f} {row.usd_per_hour:8g} {row.bill_usd:12.6f}  {said:10}  {row.name}")
        lines += [f"{'':33}! {text}" for text in (row.flag, row.note) if text]
    flagged = [row for row in checked if row.flag is not None]
    stated = sum(row.stated_usd is not None for row in checked)
    lines += [
        "",
        f"entries: {n_entries}, with hours and an hourly price: {len(checked)}, of these with a stated bill: {stated}",
        f"reproduced (hours times price, exactly): {sum(row.is_reproduced for row in checked)} of {len(checked)}",
        f"hourly prices compared with our table: {sum(row.is_compared for row in checked)}; flagged: {len(flagged)}",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    data = parser.parse_args(arguments).data
    text = files("orchestrator.cost").joinpath("price_table.csv").read_text(encoding="utf-8")
    entries = pq.read_table(data / "dawnbench.parquet" if data.is_dir() else data).to_pylist()
    checked = check_entries(entries, parse_price_table(text, "our price table"))
    print(render(checked, len(entries)))
    return 0 if all(row.is_reproduced for row in checked) else 1


if __name__ == "__main__":
    sys.exit(main())
