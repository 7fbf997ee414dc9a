"""A user's own history of a spot instance: when it could be had and when not, as text, into a market.

A CSV file with the columns ``available`` (1 or 0) and ``seconds``, oldest run first; neighbouring rows of one kind are
one run. That is what a probe writes that asks for an instance now and then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import groupby

import numpy as np

from orchestrator.cost.price_rows import parse_rows
from orchestrator.cost.spot import SpotMarket, market_from_runs

COLUMNS = ("available", "seconds")


def parse_availability(text: str, source: str) -> SpotMarket:
    """The market that a history leads one to expect.

    Args:
        text: The whole file.
        source: Its name, for messages and for the bill.
    Raises: PriceError: Missing columns, no rows, or any bad row; every bad row is listed with its line and reason.
    """
    runs = parse_rows(text, source, COLUMNS, _parse_run, what="run", name=lambda fields: "")
    joined = [(is_up, sum(s for _, s in group)) for is_up, group in groupby(runs, key=lambda run: run[0])]
    return market_from_runs(
        np.array([seconds for is_up, seconds in joined if is_up]),
        np.array([seconds for is_up, seconds in joined if not is_up]),
        starts_up=joined[0][0],
    )


def _parse_run(text: Mapping[str, str], faults: list[str]) -> tuple[bool, float] | None:
    seconds = _seconds(text["seconds"])
    if text["available"] not in ("0", "1"):
        faults.append(f"available must be 1 or 0, got {text['available']!r}")
    if seconds is None:
        faults.append(f"seconds must be a number above 0, got {text['seconds']!r}")
    return None if faults or seconds is None else (text["available"] == "1", seconds)


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
