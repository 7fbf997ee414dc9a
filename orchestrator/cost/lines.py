"""The lines of a bill while it is being made: quantity times unit price, as draws, so that sums are exact.

What is left out is a line too, with its reason, so that nobody takes a missing cost for none.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from orchestrator.intervals import FloatArray, certain, summarise
from orchestrator.results import BillLine, CostKind, Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitPrice:
    """Dollars of one unit, and where the figure comes from."""

    usd: float
    unit: str
    cited: str
    """Source with its date."""
    warning: str = ""
    """Why it may not hold, for a price that is too old."""


@dataclass(slots=True)
class Ledger:
    """Lines in the order they are added, with their draws of dollars."""

    n_draws: int
    lines: list[BillLine] = field(default_factory=list)
    draws_usd: dict[CostKind, FloatArray] = field(default_factory=dict)
    """Sum of the included lines of each kind; each of shape (n_draws,)."""
    people_usd: FloatArray | float = 0.0
    """Sum of the included lines that no provider sends an invoice for."""

    def add(
        self,
        kind: CostKind,
        item: str,
        quantity: FloatArray | float,
        price: UnitPrice,
        note: str = "",
        *,
        is_invoiced: bool = True,
    ) -> None:
        """Add a line.

        Args:
            kind: Which total it counts in.
            item: What it is for.
            quantity: In units of the price. Shape (n_draws,), or one number that is known.
            price: Dollars of a unit.
            note: What a reader must know beside the numbers.
            is_invoiced: Whether a provider bills it; people's time is paid otherwise.
        """
        amounts = np.asarray(quantity, dtype=np.float64)
        cost = amounts * price.usd
        self.draws_usd[kind] = self.draws_usd.get(kind, np.zeros(self.n_draws)) + cost
        told = summarise(amounts) if amounts.ndim else certain(float(amounts))
        if not is_invoiced:
            self.people_usd = self.people_usd + cost
        self.lines.append(
            BillLine(
                item=item,
                quantity=told,
                unit=price.unit,
                unit_price_usd=price.usd,
                cost_usd=_times(told, price.usd),
                source=price.cited,
                note=note,
                kind=kind,
            )
        )

    def leave_out(self, kind: CostKind, item: str, unit: str, reason: str, quantity: float | None = None) -> None:
        """Add a line that no total counts, with the reason; the quantity where it is known."""
        known = None if quantity is None else certain(quantity)
        self.lines.append(
            BillLine(
                item=item,
                quantity=known,
                unit=unit,
                unit_price_usd=None,
                cost_usd=None,
                source="",
                included=False,
                note=reason,
                kind=kind,
            )
        )

    @property
    def total_usd(self) -> FloatArray:
        """Draws of all included lines together. Shape (n_draws,)."""
        total: FloatArray = np.add.reduce([np.zeros(self.n_draws), *self.draws_usd.values()])
        return total

    @property
    def invoiced_usd(self) -> FloatArray:
        """Draws of what providers bill. Shape (n_draws,)."""
        return self.total_usd - self.people_usd

    @property
    def totals_usd(self) -> dict[CostKind, Interval]:
        return {kind: summarise(draws) for kind, draws in self.draws_usd.items()}


def _times(interval: Interval, usd: float) -> Interval:
    """A quantity at a price that is not negative, which keeps the order of draws and so every quantile."""
    return Interval(
        low=interval.low * usd, median=interval.median * usd, high=interval.high * usd, mean=interval.mean * usd,
        level=interval.level,
    )  # fmt: skip
