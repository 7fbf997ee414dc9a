"""Records to plain JSON data and back, for the journal and for digests.

Out: `to_plain` turns frozen records, mappings and tuples into what `json` writes, with the three floats that JSON does
not know (nan and both infinities) as the strings pydantic reads back. In: `from_plain` checks plain data against a
record's own annotations. pydantic is imported on first use only, and its adapters are kept.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from orchestrator.results import Candidate, CandidateForecast

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FullRunStart:
    """A full run that was begun: what was started and what was expected of it."""

    candidate: Candidate
    forecast: CandidateForecast


def to_plain(value: object) -> Any:
    """Plain JSON data of a record, a mapping, a sequence or a scalar; raises TypeError for anything else."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _name_of(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no place in the journal; pass records, mappings, lists or scalars")


def from_plain(kind: type[T], data: object) -> T:
    """The record that ``data`` describes. Raises ValueError (pydantic's) when it does not fit ``kind``."""
    return cast(T, _adapter(cast(Hashable, kind)).validate_python(data))


_RETIRED_STORAGE_USD = 0.023
"""What storage cost before there was a list: nobody had stated it."""


def without_retired_keys(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded config whose prices have the keys of November 2026, with today's keys instead."""
    pricing = dict(spec["pricing"])
    if "spot_mean_uptime_h" in pricing:
        pricing["spot"] = {"mean_uptime_h": pricing.pop("spot_mean_uptime_h")}
        stated = pricing.pop("checkpoint_storage_usd_per_gb_month")
        pricing["storage"] = {
            "usd_per_gb_month": None if stated == _RETIRED_STORAGE_USD else stated,
            "months": pricing.pop("checkpoint_months"),
        }
    return {**spec, "pricing": pricing}


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _name_of(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
