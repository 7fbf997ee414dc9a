"""Ways out of waiting for data, in dollars: idle workers against cores that decode elsewhere, or decoding once.

cores of a pool = missing samples/s * CPU seconds of the loader per sample
decoding once   = rows * CPU seconds of the loader per sample * price of a core-second
"""

from __future__ import annotations

import math

from orchestrator.ingest.records import Hosts, IngestAdvice, IngestPrices, Limit
from orchestrator.ingest.wording import rate_text, workers_text
from orchestrator.intervals import format_usd
from orchestrator.results import IngestMeasurement

_BUSY = 0.5
"""A loader that keeps less than half a core busy spends most of its time waiting, and cores for it would wait too."""
_SCATTERED = 0.5
"""Cold reads of rows that reach less than half of what the same store gives in sequence lose more by seeking than by
transfer."""


def advise(
    measured: IngestMeasurement,
    *,
    workers: int,
    hosts: Hosts,
    prices: IngestPrices,
    limit: Limit,
    demand: float,
    capacity: float,
    idle_usd_per_hour: float | None,
    unit: str,
) -> tuple[IngestAdvice, ...]:
    """What to do at one worker count that waits for data, cheapest to try first.

    Args:
        measured: The probe of one worker.
        workers: The worker count.
        hosts: Where it would run.
        prices: Of workers and of cores.
        limit: What holds it back.
        demand: Samples per second that the workers could train on.
        capacity: Samples per second that reach them.
        idle_usd_per_hour: What the waiting costs; None without a price.
        unit: What a sample is called.
    """
    if limit == "storage":
        return _for_storage(measured, workers, demand, capacity, idle_usd_per_hour, unit)
    cpu_s = measured.loader.cpu_s_per_sample
    if cpu_s is None or _busy_share(measured, cpu_s) < _BUSY:
        return (_more_readers(measured, idle_usd_per_hour),)
    advice = [_pool(measured, cpu_s, hosts, prices, limit, demand, capacity, workers, idle_usd_per_hour)]
    spare = _spare_cores(measured, cpu_s, hosts, workers, capacity)
    if limit == "loader" and spare >= 1:
        text = f"raise resources.loader_workers first: the hosts have {spare:.0f} cores to spare, paid for already"
        advice.insert(0, IngestAdvice(text=text, usd_per_hour=0.0, idle_usd_per_hour=idle_usd_per_hour))
    return (*advice, _decode_once(measured, cpu_s, prices, idle_usd_per_hour))


def _busy_share(measured: IngestMeasurement, cpu_s: float) -> float:
    """Cores that the loader keeps busy, over those that the step had on the same, perhaps shared, machine."""
    step = measured.compute
    had = 1.0 if step.cpu_s_per_sample is None else min(1.0, step.cpu_s_per_sample * step.samples_per_s)
    return cpu_s * measured.loader.samples_per_s / had


def _more_readers(measured: IngestMeasurement, idle_usd: float | None) -> IngestAdvice:
    cpu_s = measured.loader.cpu_s_per_sample
    busy = "" if cpu_s is None else f" and keeps {_busy_share(measured, cpu_s):.2g} of a core busy"
    text = (
        f"the loader waits even for rows just read{busy}: raise resources.loader_workers to read ahead, "
        "or pack the rows with `prepare`"
    )
    return IngestAdvice(text=text, usd_per_hour=None if cpu_s is None else 0.0, idle_usd_per_hour=idle_usd)


def _pool(
    measured: IngestMeasurement,
    cpu_s: float,
    hosts: Hosts,
    prices: IngestPrices,
    limit: Limit,
    demand: float,
    capacity: float,
    workers: int,
    idle_usd: float | None,
) -> IngestAdvice:
    """Cores that decode what the hosts do not get done."""
    missing = (demand - capacity) * cpu_s
    if limit == "host cores" and hosts.cores_per_host is not None:
        # With the pool's help the hosts also compute more, and computing takes cores of theirs.
        of_hosts = math.ceil(workers / hosts.workers_per_host) * hosts.cores_per_host
        missing = demand * (cpu_s + (measured.compute.cpu_s_per_sample or 0.0)) - of_hosts
    cores = max(1, math.ceil(missing))
    plural = "core" if cores == 1 else "cores"
    idle = "" if idle_usd is None or prices.worker is None else (
        f", against {format_usd(idle_usd)} an hour of idle workers ({prices.worker.cited})"
    )  # fmt: skip
    if prices.core is None:
        text = f"decode on a CPU pool of {cores} {plural} (no price of a CPU instance is known){idle}"
        return IngestAdvice(text=text, idle_usd_per_hour=idle_usd)
    usd = cores * prices.core.usd
    price = f"{format_usd(usd)} an hour at {format_usd(prices.core.usd)} a core-hour ({prices.core.cited})"
    text = f"decode on a CPU pool of {cores} {plural}: {price}{idle}"
    if idle_usd is not None:
        text += ": it pays" if usd < idle_usd else ": waiting is cheaper"
    return IngestAdvice(text=text, usd_per_hour=usd, idle_usd_per_hour=idle_usd)


def _spare_cores(measured: IngestMeasurement, cpu_s: float, hosts: Hosts, workers: int, capacity: float) -> float:
    if hosts.cores_per_host is None:
        return 0.0
    n_hosts = math.ceil(workers / hosts.workers_per_host)
    used = capacity * (cpu_s + (measured.compute.cpu_s_per_sample or 0.0))
    return math.floor(n_hosts * hosts.cores_per_host - used)


def _decode_once(
    measured: IngestMeasurement, cpu_s: float, prices: IngestPrices, idle_usd: float | None
) -> IngestAdvice:
    core_hours = measured.n_rows * cpu_s / 3600
    work = f"{core_hours:.2g} core-hours for {measured.n_rows:,} rows"
    usd = None if prices.core is None else core_hours * prices.core.usd
    dollars = "" if usd is None else f", {format_usd(usd)} once"
    text = f"decode once: store raw tensors with `prepare` instead of decoding every epoch ({work}{dollars})"
    return IngestAdvice(text=text, usd_once=usd, idle_usd_per_hour=idle_usd)


def _for_storage(
    measured: IngestMeasurement, workers: int, demand: float, capacity: float, idle_usd: float | None, unit: str
) -> tuple[IngestAdvice, ...]:
    advice = []
    cold, store = measured.cold, measured.storage
    if cold is not None and store is not None and cold.samples_per_s < _SCATTERED * store.samples_per_s:
        text = (
            f"one worker's cold reads reach {rate_text(cold.samples_per_s)} {unit}/s where the store gives "
            f"{rate_text(store.samples_per_s)} in sequence: "
            "pack the rows with `prepare`, or raise resources.loader_workers"
        )
        advice.append(IngestAdvice(text=text, idle_usd_per_hour=idle_usd))
    per_sample = measured.bytes_per_sample
    if per_sample is None:
        text = f"a store that gives {rate_text(demand)} {unit}/s, or a copy of the data on each host's own disk"
    else:
        size_gb, asked, given = (
            x / 1e9 for x in (per_sample * measured.n_rows, per_sample * demand, per_sample * capacity)
        )
        text = (
            f"{workers_text(workers)} ask for {asked * 1e3:,.3g} MB/s and get {given * 1e3:,.3g}: copy "
            f"the {size_gb:,.3g} GB to each host's own disk or memory, or store fewer bytes per sample"
        )
    if idle_usd is not None:
        text += f"; it may cost up to the {format_usd(idle_usd)} an hour that waiting does"
    return (*advice, IngestAdvice(text=text, idle_usd_per_hour=idle_usd))
