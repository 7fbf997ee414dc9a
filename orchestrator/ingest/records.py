"""What was measured of a data path, and what it comes to: frozen plain data, JSON in and out.

Rates are samples per second. Nothing that was not measured has a number: it is None, with its reason in a note.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.cost.lines import UnitPrice
from orchestrator.results import Interval

Limit = Literal["compute", "loader", "host cores", "storage"]
"""What holds a training back: the step itself, reading and decoding in one worker, the cores that the workers of a host
share for it, or the store that all workers share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """The machines a full run would take; None where it is not known."""

    workers_per_host: int = 1
    cores_per_host: float | None = None
    """Taken to decode as fast as the cores of the probe."""
    cache_bytes_per_host: float | None = None
    """Memory that stays free for the page cache; None counts as none, so that every epoch reads the store."""
    has_own_store: bool = False
    """True when every host has a store of its own (local disks), so that storage is not shared between hosts."""

    def __post_init__(self) -> None:
        if self.workers_per_host < 1:
            raise ValueError(f"workers_per_host must be at least 1, got {self.workers_per_host}")


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestPrices:
    """What idle workers cost, and what cores for decoding would; None where no price is known."""

    worker: UnitPrice | None = None
    """Of a worker-hour."""
    core: UnitPrice | None = None
    """Of an hour of one core of a CPU instance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestAdvice:
    """One way out of waiting for data, with dollars where there are prices."""

    text: str
    usd_per_hour: float | None = None
    """What it costs while the training runs; 0 when it takes what is paid for already."""
    usd_once: float | None = None
    idle_usd_per_hour: float | None = None
    """What waiting costs meanwhile."""

    @property
    def pays(self) -> bool | None:
        """Whether it costs less per hour than waiting; None without both figures."""
        if self.usd_per_hour is None or self.idle_usd_per_hour is None:
            return None
        return self.usd_per_hour < self.idle_usd_per_hour


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestProjection:
    """The data path at one worker count, averaged over the epochs of the run; intervals are of 90%."""

    workers: int
    demand: Interval
    """What all workers could train on if data never kept them waiting."""
    capacity: Interval | None
    """What the data path could deliver to them; None where trials alone do not show it."""
    achieved: Interval
    """What comes out when both run together."""
    idle_share: Interval
    """Share of the steady time that workers wait for data, in [0, 1)."""
    limit: Limit
    """The least of them."""
    probability: float | None
    """P(capacity < demand, and waiting takes more than `MAX_WAIT_SHARE`); None without a spread to judge by."""
    ingest_bound: bool
    """Whether that probability reaches the confidence asked for."""
    is_measured: bool
    sentence: str
    advice: tuple[IngestAdvice, ...] = ()
    idle_usd_per_hour: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestDiagnosis:
    """Whether it is the data: for one worker, and for every candidate worker count."""

    basis: Literal["probe", "trials"]
    device: str
    unit: str
    """What a sample is called, e.g. ``img``."""
    confidence: float
    compute: Interval
    """Of one worker, as are the next four; samples per second."""
    loader: Interval | None
    storage: Interval | None
    """Of the store, for all its readers."""
    cold: Interval | None
    end_to_end: Interval | None
    limit: Limit
    """Of one worker."""
    overlap: float | None
    """Share of the shorter of loading and computing that hides behind the longer: 0 in turns, 1 perfect read-ahead."""
    projections: tuple[IngestProjection, ...]
    """By rising worker count; the first is one worker."""
    mixed_precision_gain: float | None = None
    """Samples per second under bfloat16 autocast over those without."""
    memory_share: float | None = None
    notes: tuple[str, ...] = ()
    """What rests on an assumption or was not measured."""

    def at(self, workers: int) -> IngestProjection | None:
        """The projection for that worker count; None when it was not asked for."""
        return next((each for each in self.projections if each.workers == workers), None)
