"""The bill of one candidate full run, line by line, from samples of its time.

Instances are billed from the moment they are started to the end of the job: start-up, training, and what preemption
makes them do again. A job of ``w`` workers takes ``ceil(w / workers_per_instance)`` instances, so part of the last
one may idle:

    hours = (startup_s + training_s + rework_s) / 3600
    cost  = price * ceil(w / k) * hours + GB * months * price per GB-month

Each line is quantity times unit price; lines of one draw add up to its total exactly, and so do the means of the bill
(quantiles do not add). What is not priced yet is listed as excluded with the reason, never as zero. 1 GB is 1e9 bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from orchestrator.cost.prices import STALE_AFTER_DAYS, PriceQuote
from orchestrator.cost.spot import sample_rework_s
from orchestrator.errors import PriceError
from orchestrator.intervals import FloatArray, certain, summarise
from orchestrator.results import Bill, BillLine
from orchestrator.spec import PricingSpec

_SECONDS_PER_HOUR = 3600.0
_BYTES_PER_GB = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedRun:
    """Joint draws of what a full run costs and how long it takes, and the bill that sums them up."""

    cost_usd: FloatArray
    """Shape (n,)."""
    wall_time_s: FloatArray
    """Start-up, training and re-work together; what a deadline is held against. Shape (n,)."""
    bill: Bill


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """The seconds of one job on its instances; each array of shape (n,)."""

    training_s: FloatArray
    startup_s: FloatArray
    rework_s: FloatArray | None
    """None when machines are not taken away."""

    @property
    def total_s(self) -> FloatArray:
        rework = 0.0 if self.rework_s is None else self.rework_s
        return np.asarray(self.training_s + self.startup_s + rework, dtype=np.float64)


def price_full_run(
    *,
    wall_time_s: FloatArray,
    startup_s: FloatArray,
    workers: int,
    quote: PriceQuote,
    pricing: PricingSpec,
    checkpoint_bytes: int,
    checkpoint_keep: int,
    checkpoint_interval_s: FloatArray,
    checkpoint_s: FloatArray,
    dataset_bytes: int,
    startup_note: str = "",
    rng: np.random.Generator,
) -> PricedRun:
    """Price a full run from draws of its time.

    Args:
        wall_time_s: Training seconds of the job without start-up or preemption, checkpoints included. Shape (n,).
        startup_s: Seconds from the first billed one to steady state. Shape (n,).
        workers: Data-parallel workers, at least 1.
        quote: The price of an instance-hour and how many workers an instance holds.
        pricing: Storage price, months kept, and for spot the mean up-time of one instance.
        checkpoint_bytes: Size of one checkpoint.
        checkpoint_keep: How many are kept.
        checkpoint_interval_s: Training seconds between two checkpoints, writing included; spot redoes at most this.
            Shape (n,).
        checkpoint_s: Seconds one checkpoint takes. Shape (n,).
        dataset_bytes: Size of the data, for the line that says its storage is not priced.
        startup_note: What the start-up time does not include.
        rng: For the number of preemptions; not drawn from for on-demand and reserved.
    Raises: PriceError: Spot without ``pricing.spot_mean_uptime_h``.
    """
    instances = math.ceil(workers / quote.workers_per_instance)
    rework = None
    if quote.purchase == "spot":
        rework = _rework_s(pricing, instances, wall_time_s, startup_s, checkpoint_interval_s, checkpoint_s, rng)
    job = _Job(training_s=wall_time_s, startup_s=startup_s, rework_s=rework)
    priced = _instance_lines(job, workers, instances, quote, startup_note)
    priced.append(_checkpoint_line(pricing, checkpoint_bytes, checkpoint_keep, len(wall_time_s)))
    cost: FloatArray = np.add.reduce([samples for _, samples in priced])
    bill = Bill(
        lines=(*(line for line, _ in priced), *_excluded_lines(quote, dataset_bytes)),
        total_usd=summarise(cost),
        assumed=quote.assumed,
        warnings=_warnings(quote, pricing),
    )
    return PricedRun(cost_usd=cost, wall_time_s=job.total_s, bill=bill)


def _rework_s(
    pricing: PricingSpec,
    instances: int,
    wall_time_s: FloatArray,
    startup_s: FloatArray,
    checkpoint_interval_s: FloatArray,
    checkpoint_s: FloatArray,
    rng: np.random.Generator,
) -> FloatArray:
    """Seconds lost to preemption. Losing any instance stops a synchronous job: its up-time is M over instances."""
    if pricing.spot_mean_uptime_h is None:
        raise PriceError("spot cannot be priced without pricing.spot_mean_uptime_h; give it, or leave spot out")
    # Writing belongs to the interval; at least a thousandth of it is work, lest a slow disk divide by zero.
    work_between_s = np.maximum(checkpoint_interval_s - checkpoint_s, checkpoint_interval_s / 1000)
    return sample_rework_s(
        wall_time_s * work_between_s / checkpoint_interval_s,
        interval_s=work_between_s,
        checkpoint_s=checkpoint_interval_s - work_between_s,
        restart_s=startup_s,
        mean_uptime_s=pricing.spot_mean_uptime_h * _SECONDS_PER_HOUR / instances,
        rng=rng,
    )


def _instance_lines(
    job: _Job, workers: int, instances: int, quote: PriceQuote, startup_note: str
) -> list[tuple[BillLine, FloatArray]]:
    """Compute, start-up, re-work and the idle share of the last instance; each with its draws in dollars."""
    busy = workers / quote.workers_per_instance
    lines = [
        _hours_line("training", job.training_s * busy, quote, f"{_workers(workers)}, {instances} x {quote.label}"),
        _hours_line("start-up", job.startup_s * busy, quote, startup_note),
    ]
    if job.rework_s is not None:
        note = "work done again and restarts after preemption, expected number drawn from a Poisson process"
        lines.append(_hours_line("re-work after preemption", job.rework_s * busy, quote, note))
    if instances > busy:
        share = f"{instances - busy:.3g} of {instances} instances"
        note = f"{_workers(workers)} {'leaves' if workers == 1 else 'leave'} {share} empty"
        lines.append(_hours_line("idle share of the last instance", job.total_s * (instances - busy), quote, note))
    return lines


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"


def _hours_line(item: str, instance_s: FloatArray, quote: PriceQuote, note: str) -> tuple[BillLine, FloatArray]:
    hours = np.asarray(instance_s / _SECONDS_PER_HOUR, dtype=np.float64)
    cost = hours * quote.usd_per_instance_hour
    line = BillLine(
        item=item,
        quantity=summarise(hours),
        unit="instance-hour",
        unit_price_usd=quote.usd_per_instance_hour,
        cost_usd=summarise(cost),
        source=quote.cited,
        note=note,
    )
    return line, cost


def _checkpoint_line(
    pricing: PricingSpec, checkpoint_bytes: int, checkpoint_keep: int, n_draws: int
) -> tuple[BillLine, FloatArray]:
    gigabytes = checkpoint_bytes * checkpoint_keep / _BYTES_PER_GB
    gb_months = gigabytes * pricing.checkpoint_months
    cost = gb_months * pricing.checkpoint_storage_usd_per_gb_month
    line = BillLine(
        item="checkpoint storage",
        quantity=certain(gb_months),
        unit="GB-month",
        unit_price_usd=pricing.checkpoint_storage_usd_per_gb_month,
        cost_usd=certain(cost),
        source="config",
        note=f"{checkpoint_keep} kept, {gigabytes:.3g} GB together; months: {pricing.checkpoint_months:g}",
    )
    return line, np.full(n_draws, cost)


def _excluded_lines(quote: PriceQuote, dataset_bytes: int) -> tuple[BillLine, ...]:
    """What a full run also costs and this bill leaves out, each with its reason."""
    gigabytes = dataset_bytes / _BYTES_PER_GB
    reasons = {
        "egress": ("GB", "not priced yet: where data and checkpoints travel is not known"),
        "data set storage": ("GB", f"not priced yet: {gigabytes:.3g} GB, kept whether or not it is trained on"),
        "logging": ("GB", "not priced yet: its volume was not measured"),
        "engineer time": ("h", "not priced yet: no hourly rate is asked for"),
        "failure other than preemption": ("h", "not priced yet: no failure rate was measured"),
    }
    if quote.purchase == "reserved":
        reasons["unused reservation"] = ("h", "not priced: a reservation is paid for whether or not it is used")
    return tuple(
        BillLine(
            item=item,
            quantity=None,
            unit=unit,
            unit_price_usd=None,
            cost_usd=None,
            source="",
            included=False,
            note=note,
        )
        for item, (unit, note) in reasons.items()
    )


def _warnings(quote: PriceQuote, pricing: PricingSpec) -> tuple[str, ...]:
    warnings = []
    if quote.stale and quote.date is not None and quote.age_days is not None:
        age = f"{quote.age_days} days old" if quote.age_days >= 0 else f"dated {-quote.age_days} days after today"
        warnings.append(
            f"the price of {quote.label} is {age} ({quote.date.isoformat()}; limit {STALE_AFTER_DAYS} days): "
            "check it, or give pricing.usd_per_worker_hour"
        )
    if quote.assumed:
        warnings.append(f"times were not measured on {quote.label}; the bill assumes that it is as fast")
    if quote.purchase == "spot":
        warnings.append(
            f"spot assumes {pricing.spot_mean_uptime_h:g} h between preemptions of one instance, as the config says"
        )
    return tuple(warnings)
