"""Three measured rates of one worker to what w workers get from the same store.

With c, l and k the seconds per sample of a step, of the loader over cached rows and of the loader over cold rows, h the
share of reads that the page cache serves, S the store's samples per second and o the measured share of overlap:

    data(h)     = h * l + (1 - h) * k                            seconds per sample of one worker's loader
    capacity(w) = min(w / data, cores_left / cpu_l, S / (1 - h))
    demand(w)   = min(w / (c + sync), hosts * cores / cpu_c)
    achieved(w) = min(w / (max(c + sync, data) + (1 - o) * min(c + sync, data)), capacity, demand)

where cores_left are those that training at full demand leaves to the loaders, and when these are too few both go at the
rate hosts * cores / (cpu_l + cpu_c); and harmonic means over the epochs: the first finds nothing cached, and epoch e on
one of H hosts finds what that host has read, 1 - (1 - 1/H)**(e - 1) of the rows, as far as its memory holds them. Rates
that are measured apart, of which the least counts: Mohan et al. 2021, "Analyzing and mitigating data stalls in DNN
training" (DS-Analyzer), PVLDB 14(5).

Uncertainty: each rate is drawn from Student's t around its median, from the spread between its own repeats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from orchestrator.ingest.advice import advise
from orchestrator.ingest.records import Hosts, IngestDiagnosis, IngestPrices, IngestProjection, Limit
from orchestrator.ingest.wording import sentence
from orchestrator.intervals import FloatArray, summarise
from orchestrator.results import IngestMeasurement, Interval, Rate

MAX_WAIT_SHARE = 0.1
"""Waiting less than a tenth of the time holds nothing back: the same limit as the checklist's."""
_SESSION_LOG_SD = 0.02
"""Repeats of one probe share its minute; runs of one job at different times differed by 0.019 in C3O."""
_MEDIAN_EFFICIENCY = math.sqrt(math.pi / 2)
"""Standard error of a median over that of a mean, for a normal and many repeats; for few it is a little less."""


class _Draws(NamedTuple):
    """Joint draws, each of shape (n_draws,): seconds per sample, but samples per second for the store."""

    compute_s: FloatArray
    loader_s: FloatArray
    cold_s: FloatArray
    store: FloatArray
    overlap: FloatArray


class _Delivered(NamedTuple):
    """Of one worker count, each of shape (n_draws,)."""

    demand: FloatArray
    capacity: FloatArray
    achieved: FloatArray
    limit: Limit


def diagnose(
    measured: IngestMeasurement,
    *,
    workers: Sequence[int],
    n_samples: int,
    epochs: int,
    hosts: Hosts,
    prices: IngestPrices = IngestPrices(),  # noqa: B008  # frozen
    sync_s_per_sample: Mapping[int, float] | None = None,
    confidence: float = 0.9,
    rng_seed: int = 0,
    n_draws: int = 4000,
    unit: str = "samples",
) -> IngestDiagnosis:
    """What limits one worker, and each candidate worker count.

    Args:
        measured: The probe of one worker.
        workers: Candidate worker counts, in any order; one worker is always added.
        n_samples: Rows of the full run's training set.
        epochs: Passes over them.
        hosts: The machines of the full run.
        prices: For the advice; without them it has no dollars.
        sync_s_per_sample: Exposed gradient sync of one worker per sample of its own, by measured worker count. A count
            that was not measured takes the nearest below it, which is no more than it will be.
        confidence: Probability from which a worker count is called ingest-bound.
        rng_seed: Seed of the joint draws.
        n_draws: How many.
        unit: What a sample is called.
    """
    rng = np.random.default_rng(rng_seed)
    drawn = _draw(measured, rng, n_draws)
    projections = []
    for count in sorted({1, *workers}):
        sync_s = _sync(sync_s_per_sample or {}, count)
        delivered = _deliver(measured, drawn, count, sync_s, hosts, n_samples=n_samples, epochs=epochs)
        projections.append(_projection(measured, delivered, count, hosts, prices, confidence, unit))
    return IngestDiagnosis(
        basis="probe",
        device=measured.device,
        unit=unit,
        confidence=confidence,
        compute=summarise(1 / drawn.compute_s),
        loader=summarise(1 / drawn.loader_s),
        storage=None if _store_rate(measured) is None else summarise(drawn.store),
        cold=None if measured.cold is None else summarise(1 / drawn.cold_s),
        end_to_end=None if measured.end_to_end is None else _interval(measured.end_to_end, rng, n_draws),
        limit=projections[0].limit,
        overlap=None if measured.end_to_end is None else float(np.median(drawn.overlap)),
        projections=tuple(projections),
        mixed_precision_gain=_gain(measured.mixed_precision, measured.compute),
        memory_share=measured.memory_share,
        notes=_notes(measured, hosts, max(workers, default=1), bool(sync_s_per_sample)),
    )


def _draw(measured: IngestMeasurement, rng: np.random.Generator, n: int) -> _Draws:
    whole = measured.end_to_end
    # A part that seems to take longer than the whole was measured while something else took the machine.
    compute_s, loader_s = (
        1 / (_rates(part, rng, n) * (1 if whole is None else max(1, whole.samples_per_s / part.samples_per_s)))
        for part in (measured.compute, measured.loader)
    )
    store_rate = _store_rate(measured)
    store = np.full(n, np.inf) if store_rate is None else _rates(store_rate, rng, n)
    if measured.cold is not None:
        # Cold reads do all the work of cached ones; where noise says otherwise, they are as fast.
        cold_s = np.maximum(1 / _rates(measured.cold, rng, n), loader_s)
    else:
        cold_s = np.maximum(loader_s, 1 / store)
    overlap = np.ones(n)
    if whole is not None:
        step_s = 1 / _rates(whole, rng, n)
        # Waiting for a batch takes no longer than making it. What is beyond both, one after the other, is the step's,
        # which runs slower on rows that are fresh in memory than on the one batch that is held.
        compute_s = np.maximum(compute_s, step_s - loader_s)
        overlap = np.clip((compute_s + loader_s - step_s) / np.minimum(compute_s, loader_s), 0, 1)
    return _Draws(compute_s, loader_s, cold_s, store, overlap)


def _rates(rate: Rate, rng: np.random.Generator, n: int) -> FloatArray:
    repeats = len(rate.repeats)
    error = rate.log_sd * _MEDIAN_EFFICIENCY / math.sqrt(repeats)
    logs = error * rng.standard_t(repeats - 1, n) + _SESSION_LOG_SD * rng.standard_normal(n)
    return np.asarray(rate.samples_per_s * np.exp(logs), dtype=np.float64)


def _interval(rate: Rate, rng: np.random.Generator, n: int) -> Interval:
    return summarise(_rates(rate, rng, n))


def _store_rate(measured: IngestMeasurement) -> Rate | None:
    """What the store gives all readers; one worker's cold reads where nobody measured several readers."""
    return measured.storage or measured.cold


def _deliver(
    measured: IngestMeasurement,
    drawn: _Draws,
    workers: int,
    sync_s: float,
    hosts: Hosts,
    *,
    n_samples: int,
    epochs: int,
) -> _Delivered:
    n_hosts = math.ceil(workers / hosts.workers_per_host)
    step_s = drawn.compute_s + sync_s
    cpu_step, cpu_load = measured.compute.cpu_s_per_sample, measured.loader.cpu_s_per_sample
    cores = math.inf if hosts.cores_per_host is None else n_hosts * hosts.cores_per_host
    demand = np.minimum(workers / step_s, cores / cpu_step if cpu_step else math.inf)
    on_cores = _on_cores(cores, cpu_step or 0.0, cpu_load, demand)
    store = drawn.store * (n_hosts if hosts.has_own_store else 1)
    seconds = np.zeros((5, len(step_s)))  # per sample and epoch: capacity, achieved, and what each limit alone allows
    for cached, share in _cached_shares(measured, hosts, n_hosts, n_samples, epochs):
        data_s = cached * drawn.loader_s + (1 - cached) * drawn.cold_s
        allowed = (data_s / workers, 1 / on_cores, (1 - cached) / store)
        capacity_s = np.maximum.reduce(allowed)
        both_s = np.maximum(step_s, data_s) + (1 - drawn.overlap) * np.minimum(step_s, data_s)
        achieved_s = np.maximum.reduce([both_s / workers, capacity_s, 1 / demand])
        seconds += share * np.stack([capacity_s, achieved_s, *allowed])
    capacity, achieved = 1 / seconds[0], 1 / seconds[1]
    limit = _limit(seconds[2:], demand, workers, drawn)
    return _Delivered(demand, capacity, achieved, limit)


def _on_cores(cores: float, cpu_step: float, cpu_load: float | None, demand: FloatArray) -> FloatArray:
    """Samples per second that the cores of the hosts can load beside the training, which takes cores as well."""
    if not cpu_load or math.isinf(cores):
        return np.full_like(demand, np.inf)
    together = cores / (cpu_load + cpu_step)
    return np.where(together < demand, together, (cores - demand * cpu_step) / cpu_load)


def _cached_shares(
    measured: IngestMeasurement, hosts: Hosts, n_hosts: int, n_samples: int, epochs: int
) -> list[tuple[float, float]]:
    """(share of reads that the page cache serves, share of the epochs with that), over the run."""
    if measured.bytes_per_sample is None or not hosts.cache_bytes_per_host:
        fits = 0.0
    else:
        fits = min(1.0, hosts.cache_bytes_per_host / (measured.bytes_per_sample * n_samples))
    read_before = 1 - (1 - 1 / n_hosts) ** np.arange(epochs)
    shares, counts = np.unique(np.minimum(fits, read_before), return_counts=True)
    return [(float(share), float(count) / epochs) for share, count in zip(shares, counts, strict=True)]


def _limit(allowed_s: FloatArray, demand: FloatArray, workers: int, drawn: _Draws) -> Limit:
    """The largest of the seconds per sample; a loader that mostly waits for cold reads is limited by storage."""
    per_worker_s, cores_s, store_s = (float(np.median(each)) for each in allowed_s)
    if max(per_worker_s, cores_s, store_s) <= float(np.median(1 / demand)):
        return "compute"
    if cores_s >= max(per_worker_s, store_s):
        return "host cores"
    if store_s >= per_worker_s:
        return "storage"
    decoding_s = float(np.median(drawn.loader_s)) / workers
    return "storage" if per_worker_s - decoding_s > decoding_s else "loader"


def _projection(
    measured: IngestMeasurement,
    delivered: _Delivered,
    workers: int,
    hosts: Hosts,
    prices: IngestPrices,
    confidence: float,
    unit: str,
) -> IngestProjection:
    idle = np.maximum(0.0, 1 - delivered.achieved / delivered.demand)
    probability = float(np.mean((delivered.capacity < delivered.demand) & (idle > MAX_WAIT_SHARE)))
    demand, capacity, achieved, idle_share = (
        summarise(draws) for draws in (delivered.demand, delivered.capacity, delivered.achieved, idle)
    )
    is_bound = probability >= confidence
    idle_usd = None if prices.worker is None else workers * prices.worker.usd * idle_share.median
    advice = (
        advise(
            measured, workers=workers, hosts=hosts, prices=prices, limit=delivered.limit, demand=demand.median,
            capacity=capacity.median, idle_usd_per_hour=idle_usd, unit=unit,
        )
        if is_bound
        else ()
    )  # fmt: skip
    return IngestProjection(
        workers=workers,
        demand=demand,
        capacity=capacity,
        achieved=achieved,
        idle_share=idle_share,
        limit=delivered.limit,
        probability=probability,
        ingest_bound=is_bound,
        is_measured=workers == 1,
        sentence=sentence(
            delivered.limit, demand.median, capacity.median, idle_share.median, workers, is_bound=is_bound, unit=unit
        ),
        advice=advice,
        idle_usd_per_hour=idle_usd,
    )


def _sync(measured: Mapping[int, float], workers: int) -> float:
    known = [count for count in measured if count <= workers]
    return measured[max(known)] if known and workers > 1 else 0.0


def _gain(rate: Rate | None, base: Rate) -> float | None:
    return None if rate is None else rate.samples_per_s / base.samples_per_s


def _notes(measured: IngestMeasurement, hosts: Hosts, most: int, has_sync: bool) -> tuple[str, ...]:
    notes = list(measured.not_measured)
    if measured.storage is None and measured.cold is not None:
        notes.append(
            "storage for all workers is taken to be what one worker's cold reads reached; "
            "`bench-io` measures more readers"
        )
    if _store_rate(measured) is None:
        notes.append("no storage limit is known, so none is held against more workers")
    elif measured.bytes_per_sample is None or hosts.cache_bytes_per_host is None:
        notes.append("how much of the data stays in memory is not known: every epoch counts as read from the store")
    if measured.end_to_end is None:
        notes.append("loading and computing together were not measured: what is achieved is an upper bound")
    if most > 1 and hosts.cores_per_host is None:
        notes.append("cores per host are not known: every worker is taken to load as fast as one alone")
    elif most > hosts.workers_per_host or most > 1:
        notes.append("a core of the full run's hosts is taken to decode as fast as one of the probe's")
    if most > 1 and not has_sync:
        notes.append("gradient sync is left out, so more workers may ask for less data than stated")
    return tuple(notes)
