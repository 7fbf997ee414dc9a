"""One input at a time: the rate of a part of the time, the lines of a price."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.cost.sensitivity import Known, Uncertain, sensitivities
from orchestrator.intervals import certain
from orchestrator.results import BillLine


def line(unit: str, usd: float) -> BillLine:
    return BillLine(
        item=unit, quantity=certain(usd), unit=unit, unit_price_usd=1.0, cost_usd=certain(usd), source="a list"
    )


def test_an_uncertain_time_moves_the_total_by_its_rate() -> None:
    draws = np.linspace(0, 100, 1001)  # 5% at 5, 95% at 95, mean 50

    (found,) = sensitivities([], 7.0, [Uncertain("training time", draws, 0.02)], [])

    assert (found.low, found.high) == pytest.approx((5, 95))
    assert (found.total_at_low_usd, found.total_at_high_usd) == pytest.approx((7 - 0.9, 7 + 0.9))
    assert found.is_uncertain


def test_a_price_moves_the_lines_of_its_unit_and_no_others() -> None:
    lines = [line("h", 40.0), line("GB", 5.0), line("h", 10.0)]

    found = sensitivities(lines, 55.0, [], [Known("rate", 2.0, "$ per h", "h"), Known("egress", 1.0, "$ per GB", "GB")])

    assert [(each.name, pytest.approx(each.swing_usd)) for each in found] == [("rate", 10.0), ("egress", 1.0)]
    assert (found[0].low, found[0].high) == pytest.approx((1.8, 2.2))
    assert not found[0].is_uncertain


def test_what_does_not_move_the_total_is_not_shown() -> None:
    still = Uncertain("waiting", np.full(10, 3.0), 1.0)
    unpriced = Uncertain("delay", np.arange(10.0), 0.0)

    assert sensitivities([line("h", 1.0)], 1.0, [still, unpriced], [Known("storage", None, "$", "GB")]) == ()
