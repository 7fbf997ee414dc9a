"""A user's own history of a spot instance: when it could be had and when not, as text, into a market.

A CSV file with the columns ``available`` (1 or 0) and ``seconds``, oldest run first; neighbouring rows of one kind are
one run. That is what a probe writes that asks for an instance now and then.
"""

from __future__ import annotations

import math
from itertools import groupby

import numpy as np

from orchestrator.cost.price_rows import named_cells, read_csv
from orchestrator.cost.spot import SpotMarket, market_from_runs
from orchestrator.errors import PriceError

COLUMNS = ("available", "seconds")


def parse_availability(text: str, source: str) -> SpotMarket:
    """The market that a history leads one to expect.

    Args:
        text: The whole file.
        source: Its name, for messages and for the bill.
    Raises: PriceError: Missing columns, no rows, or any bad row; every bad row is listed with its line and reason.
    """
    header, lines = read_csv(text, source)
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise PriceError(f"{source}: columns missing: {', '.join(missing)}; the header must read {','.join(COLUMNS)}")
    runs: list[tuple[bool, float]] = []
    faults: list[str] = []
    for line, cells in lines:
        problems: list[str] = []
        fields = named_cells(header, cells, problems)
        seconds = _seconds(fields["seconds"])
        if fields["available"] not in ("0", "1"):
            problems.append(f"available must be 1 or 0, got {fields['available']!r}")
        if seconds is None:
            problems.append(f"seconds must be a number above 0, got {fields['seconds']!r}")
        else:
            runs.append((fields["available"] == "1", seconds))
        faults += [f"  row {line}: {problem}" for problem in problems]
    if faults:
        raise PriceError("\n".join([f"{source}: runs that cannot be used; mend or leave out these rows", *faults]))
    if not runs:
        raise PriceError(f"{source}: holds no runs; add rows of available,seconds below the header")
    joined = [(is_up, sum(s for _, s in group)) for is_up, group in groupby(runs, key=lambda run: run[0])]
    return market_from_runs(
        np.array([seconds for is_up, seconds in joined if is_up]),
        np.array([seconds for is_up, seconds in joined if not is_up]),
        starts_up=joined[0][0],
    )


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
