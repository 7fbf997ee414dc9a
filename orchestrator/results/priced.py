"""What a full run would cost, line by line, and the interval every forecast is told as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

CostKind = Literal["infrastructure", "people", "risk"]
"""Risk is what is paid only because something goes wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A central interval: ``low`` and ``high`` bound ``level`` of the probability; ``mean`` is the expectation."""

    low: float
    median: float
    high: float
    mean: float
    level: float = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class BillLine:
    """One line of a bill; ``cost_usd`` is quantity times unit price, or None when the line is excluded."""

    item: str
    quantity: Interval | None
    unit: str
    unit_price_usd: float | None
    cost_usd: Interval | None
    source: str
    """Where the price comes from, with its date."""
    included: bool = True
    note: str = ""
    kind: CostKind = "infrastructure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """How far one input alone moves the total of a bill."""

    name: str
    low: float
    """The input at the low end of its own 90% interval, or at 10% below a value that is taken as known."""
    high: float
    unit: str
    total_at_low_usd: float
    total_at_high_usd: float
    is_uncertain: bool
    """True for an interval, False for the 10% either side of a known value."""

    @property
    def swing_usd(self) -> float:
        return abs(self.total_at_high_usd - self.total_at_low_usd)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointAdvice:
    """Seconds of work between two checkpoints: as it is done, as it should be, and where spot stops paying."""

    interval_s: float
    """One epoch, as the full run writes them."""
    checkpoint_s: float
    """What writing one takes."""
    best_interval_s: float | None
    """The interval of the shortest expected time; None where nothing interrupts the run."""
    break_even_interval_s: float | None = None
    """Above it spot costs more than on-demand: 0 when at every interval, infinite when at none; None when not asked."""
    time_share: float = 0.0
    """Share of the training time spent writing checkpoints, in [0, 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """The itemised price of one candidate full run; totals are of the included lines."""

    lines: tuple[BillLine, ...]
    total_usd: Interval
    assumed: bool
    """True when times were measured on other hardware than the one priced."""
    warnings: tuple[str, ...] = ()
    totals_usd: Mapping[CostKind, Interval] = field(default_factory=dict)
    """What infrastructure, people and risk come to; a kind without an included line is not there."""
    invoiced_usd: Interval | None = None
    """The total without people's time: what a cap on dollars is held against."""
    training_s: Interval | None = None
    """Useful seconds of the job."""
    billed_s: Interval | None = None
    """Seconds its instances are paid for: start-up, training and what is done again, without waiting for machines."""
    given_up_share: float = 0.0
    """Share of draws in which interruptions do not let the run end."""
    waiting_s: Interval | None = None
    """Seconds without machines, which delay and are not billed."""
    peak_storage_gb: float | None = None
    """Data set, logs and one checkpoint more than is kept, because the new one is written before the old one goes."""
    storage_usd_per_month: float | None = None
    """What data set, checkpoints and logs go on costing while they are kept; None without a price."""
    sensitivities: tuple[Sensitivity, ...] = ()
    """Largest swing first."""
    checkpoint: CheckpointAdvice | None = None
    expected_interruptions: float | None = None
    """Preemptions and failures of the job together, on average."""

    @property
    def capped_usd(self) -> Interval:
        """What providers bill; the whole total where a bill does not tell the two apart."""
        return self.invoiced_usd or self.total_usd

    def lines_of(self, kind: CostKind) -> tuple[BillLine, ...]:
        return tuple(line for line in self.lines if line.kind == kind)
