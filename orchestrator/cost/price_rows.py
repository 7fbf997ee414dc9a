"""The rows of a price list: cells to values, and everything that can be told wrong from one row.

Every check adds its reason to a list and goes on, so that a row is mended once.
"""

from __future__ import annotations

import csv
import datetime
import io
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from orchestrator.cost.accelerators import accelerators_of, has_accelerators
from orchestrator.errors import PriceError

# Catalogues write "no price" as zero, a negative number or a run of nines; no list price is one.
_SHORTEST_RUN_OF_NINES = 3
# What SkyPilot's catalogue v8 of Google Cloud (gcp/vms.csv at 006059e0) holds for TPUs of all sizes that have no price.
_NO_TPU_PRICE = 700.0
# The deepest discounts that clouds announce are 90% to 91% off; a cell in other units is off by more.
_LEAST_SHARE = 0.02

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRow:
    """A row that cannot be used."""

    line: int
    """Where it ends in the file, the header being row 1."""
    name: str
    """``cloud/type``, or what can be read of it."""
    region: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"row {self.line} ({self.name} {self.region}): {'; '.join(self.reasons)}"


def read_csv(text: str, source: str) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The column names, and each further row that is not blank with its line number.

    Raises: PriceError: No header. While iterating: a row that is no CSV.
    """
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""))

    def rows() -> Iterator[tuple[int, list[str]]]:
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, cells
        except csv.Error as error:
            raise PriceError(f"{source}: row {reader.line_num} is not CSV text ({error}); save it as CSV") from error

    found = rows()
    header = next(found, None)
    if header is None:
        raise PriceError(f"{source}: is empty; it must start with a row of column names")
    names = [name.strip() for name in header[1]]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PriceError(f"{source}: columns repeat: {', '.join(twice)}; keep one of each")
    return names, found


def parse_rows(
    text: str,
    source: str,
    columns: Sequence[str],
    parse: Callable[[Mapping[str, str], list[str]], T | None],
    *,
    what: str,
    name: Callable[[Mapping[str, str]], str],
    key: Callable[[T], Hashable] | None = None,
) -> tuple[T, ...]:
    """Every row of a file of ours, or a refusal that lists each bad row with its line and all its reasons.

    Args:
        text: The whole file.
        source: Its name, for messages.
        columns: Those it must have.
        parse: A row from its cells; None with faults added.
        what: What a row is called, in the singular.
        name: How a row is told apart in messages.
        key: What no two rows may share; None when rows may repeat.
    Raises: PriceError: Missing columns, no rows, or any bad row.
    """
    header, lines = read_csv(text, source)
    missing = [column for column in columns if column not in header]
    if missing:
        raise PriceError(f"{source}: columns missing: {', '.join(missing)}; the header must read {','.join(columns)}")
    rows: list[T] = []
    faults: list[str] = []
    seen: dict[Hashable, int] = {}
    for line, cells in lines:
        problems: list[str] = []
        fields = named_cells(header, cells, problems)
        row = parse(fields, problems)
        if row is not None:
            first = seen.setdefault(key(row) if key else line, line)
            if first != line:
                problems.append(f"repeats row {first}; keep one of them")
            rows.append(row)
        faults += [f"  row {line}{name(fields)}: {problem}" for problem in problems]
    if faults:
        count = f"1 {what}" if len(faults) == 1 else f"{len(faults)} {what}s"
        raise PriceError("\n".join([f"{source}: {count} cannot be used", *faults]))
    if not rows:
        raise PriceError(f"{source}: holds no {what}s; add a row below the header")
    return tuple(rows)


def named_cells(header: list[str], cells: list[str], faults: list[str]) -> dict[str, str]:
    """Cells by column, without blanks around them; adds a fault when there are more or fewer than columns."""
    if len(cells) != len(header):
        faults.append(f"does not have {len(header)} cells")
    return dict.fromkeys(header, "") | {name: cell.strip() for name, cell in zip(header, cells, strict=False)}


def whole_number(text: str, column: str, faults: list[str], *, least: int = 0) -> int | None:
    """A count; None with a fault when it is none."""
    value = _number(text)
    if value is None or not value.is_integer() or value < least:
        faults.append(f"{column} must be a whole number, {least} or more, got {text!r}")
        return None
    return int(value)


def dollars(text: str, column: str, faults: list[str]) -> float | None:
    """A price above zero; None with a fault for anything else, also for what stands for no price."""
    value = _number(text)
    if value is None:
        faults.append(f"{column} is not a number: {text!r}")
        return None
    if not math.isfinite(value) or value <= 0:
        way_out = "; leave it empty where there is none" if column.lower().startswith(("spot", "reserved")) else ""
        faults.append(f"{column} must be above 0, got {text}{way_out}")
        return None
    if _is_run_of_nines(value):
        faults.append(f"{column} is {text}, which catalogues write where there is no price")
        return None
    return value


def calendar_day(
    text: str, faults: list[str], today: datetime.date | None, column: str = "date"
) -> datetime.date | None:
    """The day; None with a fault when it is none or lies after ``today``."""
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError:
        faults.append(f"{column} must read YYYY-MM-DD, got {text!r}")
        return None
    if today is not None and day > today:
        faults.append(f"{column} {day.isoformat()} lies in the future (today is {today.isoformat()})")
        return None
    return day


def instance_faults(cloud: str, instance: str, accelerator: str, count: int | None, vcpus: int | None) -> list[str]:
    """What is wrong with the machine of a row, whatever it costs."""
    if instance.startswith(("host-only", "accelerator-only")):
        return ["prices a part of a machine: host and accelerators must be one price"]
    faults = []
    if count is not None:
        faults += _accelerator_faults(cloud, instance, accelerator, count)
    if vcpus == 0:
        faults.append("vcpus is 0; leave it empty where the source does not say")
    return faults


def _accelerator_faults(cloud: str, instance: str, accelerator: str, count: int) -> list[str]:
    if (count > 0) != bool(accelerator):
        return [f"accelerator {accelerator!r} does not go with a count of {count}"]
    if count == 0 and has_accelerators(cloud, instance):
        if cloud == "gcp":  # which bills the accelerators of these families apart from the host
            return ["prices a part of a machine: host and accelerators must be one price"]
        return [f"{instance} holds accelerators, and the row names none"]
    known = accelerators_of(cloud, instance)
    if count > 0 and known is not None and count != known:
        return [f"{instance} holds {known} accelerators, the row counts {count}"]
    return []


def price_faults(on_demand: float | None, lower: Mapping[str, float | None], instance: str = "") -> list[str]:
    """What is wrong with prices beside one another; ``lower`` are those that on-demand must not be below."""
    faults = [
        f"{word} price {price:g} is above the on-demand price {on_demand:g}"
        for word, price in lower.items()
        if price is not None and on_demand is not None and price > on_demand
    ]
    faults += [
        f"{word} price {price:g} is less than {_LEAST_SHARE:.0%} of the on-demand price {on_demand:g}"
        for word, price in lower.items()
        if price is not None and on_demand is not None and price < _LEAST_SHARE * on_demand
    ]
    if instance.startswith("tpu-") and _NO_TPU_PRICE in (on_demand, *lower.values()):
        faults.append(f"holds {_NO_TPU_PRICE:g}, which the catalogue writes where a TPU has no price")
    return faults


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    # Python reads 1_000 and digits of other scripts as numbers; in a price list they are typing errors.
    return value if text.isascii() and "_" not in text else None


def _is_run_of_nines(value: float) -> bool:
    digits = f"{value:.6f}".rstrip("0").replace(".", "")
    return set(digits) == {"9"} and len(digits) >= _SHORTEST_RUN_OF_NINES and value >= 10**_SHORTEST_RUN_OF_NINES - 1
