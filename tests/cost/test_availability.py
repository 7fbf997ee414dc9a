"""A history of availability becomes a market, and a wrong row is named."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.cost.availability import parse_availability
from orchestrator.cost.spot import TRACES
from orchestrator.errors import PriceError


def history(rows: list[tuple[object, object]]) -> str:
    return "\n".join(["available,seconds", *(f"{available},{seconds}" for available, seconds in rows)])


def test_a_long_history_outweighs_the_public_traces() -> None:
    rng = np.random.default_rng(5)
    rows = [(1 - i % 2, f"{rng.exponential(600.0 if i % 2 else 7200.0):.3f}") for i in range(400)]

    market = parse_availability(history(rows), "history.csv")  # type: ignore[arg-type]  # text cells

    # The latest 12 hours count most, about five preemptions beside the two that the traces count for.
    assert not market.assumed
    assert market.mean_uptime_s.low < 7200 < market.mean_uptime_s.high
    assert market.mean_downtime_s.low < 600 < market.mean_downtime_s.high
    assert market.mean_downtime_s.median < TRACES.mean_downtime_h * 3600


def test_neighbouring_rows_of_one_kind_are_one_run() -> None:
    split = parse_availability(history([(1, 3000), (1, 600), (0, 60), (1, 100), (1, 900)]), "a")
    joined = parse_availability(history([(1, 3600), (0, 60), (1, 1000)]), "a")

    assert split == joined


def test_every_wrong_row_is_named() -> None:
    with pytest.raises(PriceError) as refused:
        parse_availability(history([(1, 60), ("yes", 60), (0, -5), (1, "nan"), (0, "")]), "history.csv")

    message = str(refused.value)
    assert message.startswith("history.csv: 4 runs cannot be used")
    assert "row 3: available must be 1 or 0, got 'yes'" in message
    assert "row 4: seconds must be a number above 0, got '-5'" in message
    assert "row 5" in message
    assert "row 6" in message


def test_a_file_without_runs_or_columns_is_refused() -> None:
    with pytest.raises(PriceError, match="holds no runs"):
        parse_availability("available,seconds\n", "a")
    with pytest.raises(PriceError, match="columns missing: seconds"):
        parse_availability("available\n1\n", "a")
