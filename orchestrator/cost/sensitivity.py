"""Which input moves a bill's total most, one at a time, the others staying as expected.

A bill is linear in each part of its time and in each price. So an uncertain time moves the mean total by its rate
times its distance from its own mean, taken at both ends of its 90% interval; a price taken as known moves it by the
lines that are counted in its unit, and is shown 10% either side, which is no statement about how wrong it may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.intervals import FloatArray
from orchestrator.results import BillLine, Sensitivity

STEP = 0.1
"""Share by which a known value is moved."""


@dataclass(frozen=True, slots=True)
class Uncertain:
    """Seconds of one part of the run, and what a second of it costs."""

    name: str
    draws_s: FloatArray
    usd_per_s: float


@dataclass(frozen=True, slots=True)
class Known:
    """A price that is taken as it stands; None where the bill has none."""

    name: str
    value: float | None
    unit: str
    line_unit: str
    """Unit of the lines it multiplies."""


def sensitivities(
    lines: Sequence[BillLine], total_usd: float, uncertain: Sequence[Uncertain], known: Sequence[Known]
) -> tuple[Sensitivity, ...]:
    """Every input that moves the total, largest swing first.

    Args:
        lines: All lines of the bill.
        total_usd: Its mean.
        uncertain: Parts of the run's time.
        known: Prices.
    """
    found = [_of_time(each, total_usd) for each in uncertain] + [_of_price(each, lines, total_usd) for each in known]
    return tuple(sorted((s for s in found if s is not None and s.swing_usd > 0), key=lambda s: -s.swing_usd))


def _of_time(part: Uncertain, total_usd: float) -> Sensitivity:
    mean = float(np.mean(part.draws_s))
    low, high = (float(q) for q in np.quantile(part.draws_s, [0.05, 0.95]))
    return Sensitivity(
        name=part.name,
        low=low,
        high=high,
        unit="s",
        total_at_low_usd=total_usd + (low - mean) * part.usd_per_s,
        total_at_high_usd=total_usd + (high - mean) * part.usd_per_s,
        is_uncertain=True,
    )


def _of_price(price: Known, lines: Sequence[BillLine], total_usd: float) -> Sensitivity | None:
    if price.value is None:
        return None
    share = sum(line.cost_usd.mean for line in lines if line.cost_usd is not None and line.unit == price.line_unit)
    return Sensitivity(
        name=price.name,
        low=price.value * (1 - STEP),
        high=price.value * (1 + STEP),
        unit=price.unit,
        total_at_low_usd=total_usd - STEP * share,
        total_at_high_usd=total_usd + STEP * share,
        is_uncertain=False,
    )
