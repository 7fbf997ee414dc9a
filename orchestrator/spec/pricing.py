"""What is asked about money: prices, and the quantities of a bill that no trial measures."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from orchestrator.spec.checks import STRICT, Checks

Purchase = Literal["on_demand", "spot", "reserved"]
Route = Literal["same_zone", "cross_zone", "inter_region", "cross_cloud", "internet_egress"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotSpec:
    """How often the cloud takes a spot instance back."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    mean_uptime_h: float | None = None
    """Mean hours between preemptions of one instance; None assumes what public traces show, widely spread."""
    mean_downtime_h: float | None = None
    """Mean hours until another instance can be had, which are waited for and not billed; None as above."""
    history: str | None = None
    """CSV file of when an instance could be had, in place of the means: columns available (1 or 0) and seconds."""

    def __post_init__(self) -> None:
        checks = Checks()
        means = [key for key in ("mean_uptime_h", "mean_downtime_h") if getattr(self, key) is not None]
        checks.require(
            self.history is None or not means, "history", f"replaces {' and '.join(means)}; give one of them"
        )
        checks.positive(self.mean_uptime_h, "mean_uptime_h")
        checks.not_negative(self.mean_downtime_h, "mean_downtime_h")
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSpec:
    """What is kept because of the full run: data set, checkpoints, logs."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    usd_per_gb_month: float | None = None
    """None takes the object storage price of the instance's cloud; a machine of one's own then has none."""
    months: float = 1.0
    """How long they are kept."""
    data_gb: float | None = None
    """Size of the stored data set; None takes the prepared data's."""

    def __post_init__(self) -> None:
        checks = Checks()
        checks.not_negative(self.usd_per_gb_month, "usd_per_gb_month")
        checks.not_negative(self.months, "months")
        checks.not_negative(self.data_gb, "data_gb")
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSpec:
    """What travels over a billed network because of the full run."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    route: Route
    """``same_zone`` is free; the others are priced per GB by the cloud that the bytes leave."""
    gb: float | None = None
    """GB that take it; None is the data set once and the kept checkpoints once."""
    usd_per_gb: float | None = None
    """None takes the list price of the instance's cloud."""

    def __post_init__(self) -> None:
        checks = Checks()
        checks.not_negative(self.gb, "gb")
        checks.not_negative(self.usd_per_gb, "usd_per_gb")
        is_priced = self.usd_per_gb is None or self.route != "same_zone"
        checks.require(
            is_priced, "usd_per_gb", "has no meaning within a zone, where transfer is not billed; leave it out"
        )
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleSpec:
    """What people's time is worth; what is None is left out of the bill, and the bill says so."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    engineer_usd_per_h: float | None = None
    """Everything an hour costs, not the salary alone."""
    engineer_h: float | None = None
    """Hours a full run takes of somebody: setting up, watching, reading results."""
    engineer_h_per_failure: float | None = None
    """Hours somebody spends on a crash before the run goes on."""
    delay_usd_per_day: float | None = None
    """What a day until the model is there costs."""

    def __post_init__(self) -> None:
        checks = Checks()
        for key in ("engineer_usd_per_h", "engineer_h", "engineer_h_per_failure", "delay_usd_per_day"):
            checks.not_negative(getattr(self, key), key)
        hours = [key for key in ("engineer_h", "engineer_h_per_failure") if getattr(self, key) is not None]
        checks.require(
            self.engineer_usd_per_h is not None or not hours,
            "engineer_usd_per_h",
            f"is missing; {' and '.join(hours)} cannot be priced without it",
        )
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class PricingSpec:
    """What an hour of a worker costs, and what else a full run makes one pay for."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    instance: str | None = None
    """``cloud/type`` as in the price table, e.g. ``aws/g5.xlarge``."""
    region: str | None = None
    purchase: tuple[Purchase, ...] = ("on_demand",)
    workers_per_instance: int | None = None
    """None takes the price table's: one worker per accelerator, one on a machine without any."""
    usd_per_worker_hour: float | None = None
    """Price of a machine of one's own; replaces ``instance``."""
    catalogue: str | None = None
    """CSV file of prices to use in place of the table that comes along: in its columns, or SkyPilot's catalogue."""
    catalogue_cloud: Literal["aws", "gcp", "azure"] | None = None
    """The cloud of a SkyPilot catalogue, whose rows do not say it."""
    catalogue_date: str | None = None
    """The day a SkyPilot catalogue is good for, YYYY-MM-DD, because it states none."""
    spot: SpotSpec = field(default_factory=SpotSpec)
    storage: StorageSpec = field(default_factory=StorageSpec)
    transfer: TransferSpec | None = None
    """None: where data travel is not known, and egress is left out of the bill."""
    people: PeopleSpec = field(default_factory=PeopleSpec)
    mtbf_worker_h: float | None = None
    """Mean hours between failures of one worker's hardware or software; None assumes a published figure."""

    def __post_init__(self) -> None:
        checks = Checks()
        checks.require(
            (self.instance is None) != (self.usd_per_worker_hour is None),
            "instance",
            "give either instance (with region) or usd_per_worker_hour, and not both",
        )
        if self.instance is not None:
            checks.require(
                bool(re.fullmatch(r"(aws|gcp|azure)/\S+", self.instance)),
                "instance",
                f"must read cloud/type with cloud aws, gcp or azure, got {self.instance!r}",
            )
            checks.require(self.region is not None, "region", f"is missing; {self.instance} is priced per region")
        checks.positive(self.usd_per_worker_hour, "usd_per_worker_hour")
        checks.positive(self.mtbf_worker_h, "mtbf_worker_h")
        checks.require(len(self.purchase) > 0, "purchase", "is empty; [on_demand] is the least")
        checks.require(
            len(set(self.purchase)) == len(self.purchase), "purchase", f"holds repeats: {', '.join(self.purchase)}"
        )
        checks.require(
            self.usd_per_worker_hour is None or self.purchase == ("on_demand",),
            "purchase",
            "has no meaning with usd_per_worker_hour; leave it out",
        )
        for key in ("region", "workers_per_instance"):
            has_meaning = self.usd_per_worker_hour is None or self.instance is not None or getattr(self, key) is None
            checks.require(has_meaning, key, "has no meaning with usd_per_worker_hour; leave it out, or set it to null")
        checks.require(
            self.workers_per_instance is None or self.workers_per_instance >= 1,
            "workers_per_instance",
            f"must be at least 1, got {self.workers_per_instance}",
        )
        for key in ("catalogue_cloud", "catalogue_date"):
            has_meaning = self.catalogue is not None or getattr(self, key) is None
            checks.require(has_meaning, key, "has no meaning without pricing.catalogue; leave it out")
        checks.require(
            _is_date(self.catalogue_date), "catalogue_date", f"must read YYYY-MM-DD, got {self.catalogue_date!r}"
        )
        checks.done()


def _is_date(text: str | None) -> bool:
    try:
        datetime.date.fromisoformat(text or "2000-01-01")
    except ValueError:
        return False
    return True
