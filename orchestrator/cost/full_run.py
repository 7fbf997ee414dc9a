"""The bill of one candidate full run, line by line, from samples of its time.

Instances are billed from the moment they are started to the end of the job: start-up, training, and what preemption and
failure make them do again; waiting for the next machine is not billed, but delays. A job of ``w`` workers takes
``ceil(w / workers_per_instance)`` instances, so part of the last one may idle:

    hours = (startup_s + training_s + rework_s) / 3600
    cost  = price * ceil(w / k) * hours + GB * months * price + GB * price of the route
            + engineer hours * rate + days * delay

Infrastructure and people are what a run costs when all goes well, risk what it costs on top because something may not:
work done again and the people who see to it. Each line is quantity times unit price; lines of one draw add up to its
total exactly, and so do the means of the bill (quantiles do not add). What has no price is listed as left out with the
reason, never as zero. 1 GB is 1e9 bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from orchestrator.cost.failures import worker_failures
from orchestrator.cost.job import Job, RunTime, checkpoint_advice, interruption_warnings, start_job
from orchestrator.cost.lines import Ledger, UnitPrice
from orchestrator.cost.prices import STALE_AFTER_DAYS, PriceQuote
from orchestrator.cost.rates import RateCard
from orchestrator.cost.sensitivity import Known, Uncertain, sensitivities
from orchestrator.intervals import FloatArray, format_quantity, summarise
from orchestrator.results import Bill, Sensitivity
from orchestrator.spec import PricingSpec, Purchase

_SECONDS_PER_HOUR = 3600.0
_SECONDS_PER_DAY = 86400.0
_BYTES_PER_GB = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSize:
    """Bytes a full run makes one keep."""

    checkpoint_bytes: int
    checkpoint_keep: int
    dataset_bytes: int
    log_bytes: int | None = None
    """None when no log was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedRun:
    """Joint draws of what a full run costs and how long it takes, and the bill that sums them up."""

    cost_usd: FloatArray
    """Shape (n,)."""
    wall_time_s: FloatArray
    """Start-up, training, re-work and waiting together; what a deadline is held against. Shape (n,)."""
    finishes: np.ndarray
    """False where interruptions do not let it end: it is paid for and comes to nothing. Booleans of shape (n,)."""
    bill: Bill


def hourly_usd(workers: int, quote: PriceQuote) -> float:
    """What the instances of that many workers cost for an hour, busy or not."""
    return math.ceil(workers / quote.workers_per_instance) * quote.usd_per_instance_hour


def price_full_run(
    time: RunTime,
    size: RunSize,
    *,
    workers: int,
    purchase: Purchase,
    rates: RateCard,
    pricing: PricingSpec,
    rng: np.random.Generator,
    is_over: bool = False,
) -> PricedRun:
    """Price a full run from draws of its time.

    Args:
        time: What its parts take.
        size: What it keeps on disk.
        workers: Data-parallel workers, at least 1.
        purchase: How instances are bought; ``rates`` must quote it.
        rates: The prices.
        pricing: The config's quantities: months, GB, hours, mean times between interruptions.
        rng: For the number of interruptions.
        is_over: Whether ``time`` was measured at a run that has ended: what interrupted it is in its time already, and
            nothing is expected on top.
    """
    quote = rates.quotes[purchase]
    instances = math.ceil(workers / quote.workers_per_instance)
    job = start_job(
        time,
        workers=workers,
        instances=instances,
        market=rates.spot if purchase == "spot" else None,
        failing=worker_failures(pricing.mtbf_worker_h),
        rng=rng,
        is_over=is_over,
    )
    ledger = Ledger(len(time.training_s))
    _add_instances(ledger, job, quote)
    _add_storage(ledger, size, rates, pricing)
    _add_transfer(ledger, size, rates, pricing)
    _add_people(ledger, job, pricing)
    _add_risk(ledger, job, quote, pricing)
    if purchase == "reserved":
        ledger.leave_out("infrastructure", "unused reservation", "h", "a reservation is paid for whether used or not")
    ledger.leave_out("infrastructure", "taxes, discounts, support plan", "$", "prices are list prices")
    total = ledger.total_usd
    bill = Bill(
        lines=tuple(ledger.lines),
        total_usd=summarise(total),
        totals_usd=ledger.totals_usd,
        invoiced_usd=summarise(ledger.invoiced_usd),
        assumed=quote.assumed,
        warnings=(*_price_warnings(quote, rates), *interruption_warnings(job)),
        training_s=summarise(time.training_s),
        billed_s=summarise(job.billed_s),
        waiting_s=summarise(job.waiting_s),
        peak_storage_gb=_peak_gb(size, pricing),
        storage_usd_per_month=None if rates.storage is None else _kept_gb(size, pricing) * rates.storage.usd,
        sensitivities=_sensitivities(ledger, job, quote, rates, pricing),
        checkpoint=None if is_over else checkpoint_advice(job, _price_ratio(quote, rates)),
        expected_interruptions=job.expected_interruptions,
        given_up_share=1 - float(np.mean(job.finishes)),
    )
    return PricedRun(cost_usd=total, wall_time_s=job.wall_time_s, finishes=job.finishes, bill=bill)


def _instance_hour(quote: PriceQuote) -> UnitPrice:
    return UnitPrice(usd=quote.usd_per_instance_hour, unit="instance-hour", cited=quote.cited)


def _hours(seconds: FloatArray) -> FloatArray:
    return np.asarray(seconds / _SECONDS_PER_HOUR, dtype=np.float64)


def _add_instances(ledger: Ledger, job: Job, quote: PriceQuote) -> None:
    """Training, start-up, and what stands empty meanwhile."""
    price, time = _instance_hour(quote), job.time
    busy = job.workers / quote.workers_per_instance
    note = f"{_count(job.workers, 'worker')} on {job.instances} x {quote.label}"
    if quote.workers_note:
        note += f"; {quote.workers_note}"
    ledger.add("infrastructure", "training", _hours(time.training_s * busy), price, note)
    ledger.add("infrastructure", "start-up", _hours(time.startup_s * busy), price, time.startup_note)
    empty = job.instances - busy
    if empty > 0:
        leaves = "leaves" if job.workers == 1 else "leave"
        note = f"{_count(job.workers, 'worker')} {leaves} {empty:.3g} of {_count(job.instances, 'instance')} empty"
        idle_s = (time.training_s + time.startup_s) * empty
        ledger.add("infrastructure", "idle share of the last instance", _hours(idle_s), price, note)


def _count(n: int, what: str) -> str:
    return f"1 {what}" if n == 1 else f"{n} {what}s"


def _dataset_gb(size: RunSize, pricing: PricingSpec) -> float:
    return size.dataset_bytes / _BYTES_PER_GB if pricing.storage.data_gb is None else pricing.storage.data_gb


def _checkpoints_gb(size: RunSize) -> float:
    return size.checkpoint_bytes * size.checkpoint_keep / _BYTES_PER_GB


def _kept_gb(size: RunSize, pricing: PricingSpec) -> float:
    return _dataset_gb(size, pricing) + _checkpoints_gb(size) + (size.log_bytes or 0) / _BYTES_PER_GB


def _peak_gb(size: RunSize, pricing: PricingSpec) -> float:
    return _kept_gb(size, pricing) + size.checkpoint_bytes / _BYTES_PER_GB


def _add_storage(ledger: Ledger, size: RunSize, rates: RateCard, pricing: PricingSpec) -> None:
    months, price = pricing.storage.months, rates.storage
    for_months = f"for {months:g} months" if months != 1 else "for a month"
    kept = {
        "data set storage": (
            _dataset_gb(size, pricing),
            f"{format_quantity(_dataset_gb(size, pricing))} GB {for_months}",
        ),
        "checkpoint storage": (
            _checkpoints_gb(size),
            f"{size.checkpoint_keep} kept {for_months}, {format_quantity(_checkpoints_gb(size))} GB together; "
            f"at the peak {size.checkpoint_keep + 1}",
        ),
    }
    if size.log_bytes is not None:
        gigabytes = size.log_bytes / _BYTES_PER_GB
        kept["logging"] = (
            gigabytes,
            f"{size.log_bytes / 1e3:,.3g} kB of records as the trials wrote them, {for_months}",
        )
    for item, (gigabytes, note) in kept.items():
        if price is None:
            reason = f"no price: give pricing.storage.usd_per_gb_month; {note}"
            ledger.leave_out("infrastructure", item, "GB-month", reason, gigabytes * months)
        else:
            ledger.add("infrastructure", item, gigabytes * months, price, note)
    if size.log_bytes is None:
        ledger.leave_out("infrastructure", "logging", "GB-month", "no trial has written a log yet")


def _add_transfer(ledger: Ledger, size: RunSize, rates: RateCard, pricing: PricingSpec) -> None:
    asked = pricing.transfer
    if asked is None:
        reason = "where data and checkpoints travel is not known: give pricing.transfer.route"
        ledger.leave_out("infrastructure", "egress", "GB", reason)
        return
    gigabytes = _dataset_gb(size, pricing) + _checkpoints_gb(size) if asked.gb is None else asked.gb
    route = asked.route.replace("_", " ")
    if rates.transfer is None:
        reason = f"no price for {route}: give pricing.transfer.usd_per_gb"
        ledger.leave_out("infrastructure", "egress", "GB", reason, gigabytes)
        return
    what = "the data set and the kept checkpoints, once" if asked.gb is None else "as the config says"
    note = f"{route}: {what}, at the price of the first tier"
    ledger.add("infrastructure", "egress", gigabytes, rates.transfer, note)


def _add_people(ledger: Ledger, job: Job, pricing: PricingSpec) -> None:
    people = pricing.people
    if people.engineer_usd_per_h is None or people.engineer_h is None:
        reason = "give pricing.people.engineer_usd_per_h and engineer_h"
        ledger.leave_out("people", "engineer time", "h", reason, people.engineer_h)
    else:
        price = UnitPrice(usd=people.engineer_usd_per_h, unit="h", cited="config")
        ledger.add(
            "people",
            "engineer time",
            people.engineer_h,
            price,
            "setting up, watching, reading results",
            is_invoiced=False,
        )
    if people.delay_usd_per_day is None:
        reason = "give pricing.people.delay_usd_per_day"
        ledger.leave_out("people", "delay", "day", reason, float(np.mean(job.wall_time_s)) / _SECONDS_PER_DAY)
    else:
        price = UnitPrice(usd=people.delay_usd_per_day, unit="day", cited="config")
        ledger.add(
            "people", "delay", job.wall_time_s / _SECONDS_PER_DAY, price, "until the run has ended", is_invoiced=False
        )


def _add_risk(ledger: Ledger, job: Job, quote: PriceQuote, pricing: PricingSpec) -> None:
    """What interruptions are expected to cost: work lost, restarts, and the hours of whoever sees to it."""
    price, found = _instance_hour(quote), job.interruptions
    if found is None:
        return
    if job.market is not None:
        note = f"{_expected(found.preemptions)}; {job.market.source}"
        if job.instances > 1:
            note += f"; {job.instances} instances as if taken independently, which is the worst case"
        hours = _hours(found.preemption_rework_s * job.instances)
        ledger.add("risk", "re-work after preemption", hours, price, note)
    note = f"{_expected(found.failures)}; {job.failing.source}"
    ledger.add("risk", "re-work after failure", _hours(found.failure_rework_s * job.instances), price, note)
    people = pricing.people
    if people.engineer_usd_per_h is None or people.engineer_h_per_failure is None:
        reason = "give pricing.people.engineer_usd_per_h and engineer_h_per_failure"
        ledger.leave_out("risk", "engineer time after failure", "h", reason)
    else:
        hourly = UnitPrice(usd=people.engineer_usd_per_h, unit="h", cited="config")
        note = f"{people.engineer_h_per_failure:g} h for each failure"
        hours = found.failures * people.engineer_h_per_failure
        ledger.add("risk", "engineer time after failure", hours, hourly, note, is_invoiced=False)


def _expected(counts: FloatArray) -> str:
    """``0.12 expected, at least one in 11% of runs``."""
    # Counts below 1 are expectations of a Poisson count; whole ones were drawn.
    chance = float(np.mean(np.where(counts >= 1, 1.0, -np.expm1(-counts))))
    runs = "nearly every run" if chance > 0.99 else f"{100 * chance:.2g}% of runs"
    return f"{format_quantity(float(np.mean(counts)))} expected, at least one in {runs}"


def _sensitivities(
    ledger: Ledger, job: Job, quote: PriceQuote, rates: RateCard, pricing: PricingSpec
) -> tuple[Sensitivity, ...]:
    people, time, found = pricing.people, job.time, job.interruptions
    delay = (people.delay_usd_per_day or 0.0) / _SECONDS_PER_DAY
    running = job.instances * quote.usd_per_instance_hour / _SECONDS_PER_HOUR + delay
    uncertain = [Uncertain("start-up time", time.startup_s, running)]
    for_training = running
    if found is not None:
        # What interruptions cost grows with the training they interrupt.
        hours = float(np.mean(found.failures)) * (people.engineer_h_per_failure or 0.0)
        with_it = running * job.rework_s + delay * found.waiting_s
        lost_usd = float(np.mean(with_it)) + hours * (people.engineer_usd_per_h or 0.0)
        for_training += lost_usd / float(np.mean(time.training_s))
        uncertain += [
            Uncertain("time lost to preemption", found.preemption_rework_s, running),
            Uncertain("time lost to failure", found.failure_rework_s, running),
            Uncertain("waiting for machines", job.waiting_s, delay),
        ]
    uncertain.append(Uncertain("training time", time.training_s, for_training))
    known = [
        Known("price of an instance-hour", quote.usd_per_instance_hour, "$ per instance-hour", "instance-hour"),
        Known("engineer's rate", people.engineer_usd_per_h, "$ per h", "h"),
        Known("cost of delay", people.delay_usd_per_day, "$ per day", "day"),
        Known("price of storage", rates.storage.usd if rates.storage else None, "$ per GB-month", "GB-month"),
        Known("price of transfer", rates.transfer.usd if rates.transfer else None, "$ per GB", "GB"),
    ]
    return sensitivities(ledger.lines, float(np.mean(ledger.total_usd)), uncertain, known)


def _price_ratio(quote: PriceQuote, rates: RateCard) -> float | None:
    on_demand = rates.on_demand_usd_per_instance_hour
    return None if on_demand is None else quote.usd_per_instance_hour / on_demand


def _price_warnings(quote: PriceQuote, rates: RateCard) -> tuple[str, ...]:
    warnings = []
    if quote.stale and quote.date is not None and quote.age_days is not None:
        age = f"{quote.age_days} days old" if quote.age_days >= 0 else f"dated {-quote.age_days} days after today"
        warnings.append(
            f"the price of {quote.label} is {age} ({quote.date.isoformat()}; limit {STALE_AFTER_DAYS} days): "
            "check it, or give pricing.usd_per_worker_hour"
        )
    warnings += rates.warnings
    warnings += [price.warning for price in (rates.storage, rates.transfer) if price is not None and price.warning]
    listed, taken = quote.list_workers_per_instance, quote.workers_per_instance
    if listed is not None and taken < listed:
        warnings.append(
            f"{quote.label} has {listed} accelerators, and pricing.workers_per_instance puts {_count(taken, 'worker')} "
            "on it: leave it out, or set it to null, for one worker each"
        )
    if quote.assumed:
        warnings.append(f"times were not measured on {quote.label}; the bill assumes that it is as fast")
    return tuple(warnings)
