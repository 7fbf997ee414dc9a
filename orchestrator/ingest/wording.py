"""A diagnosis in words: one sentence per worker count, lines for the terminal, rows for a page."""

from __future__ import annotations

from orchestrator.ingest.records import IngestDiagnosis, IngestProjection, Limit
from orchestrator.intervals import format_probability, format_usd
from orchestrator.results import Interval

INGEST_HEADER = ("workers", "could train", "data path gives", "achieved", "waits", "limit", "P(ingest-bound)")


def rate_text(per_s: float) -> str:
    """Two to three digits with k, M or G: ``850``, ``3.1k``, ``12.4k``, ``1.2M``."""
    size, suffix = per_s, ""
    for suffix in ("", "k", "M", "G"):
        if abs(size) < 999.5 or suffix == "G":
            break
        size /= 1000
    digits = 1 if suffix and size < 99.95 else 0 if size >= 99.5 else 1
    text = f"{size:.{digits}f}" if suffix or size >= 9.95 else f"{size:.2g}"
    return f"{text.removesuffix('.0')}{suffix}"


def workers_text(count: int) -> str:
    return f"{count} worker" if count == 1 else f"{count} workers"


def sentence(
    limit: Limit, demand: float, capacity: float | None, idle_share: float, workers: int, *, is_bound: bool, unit: str
) -> str:
    """``loader 3.1k img/s < compute 5.4k: more workers will not help``, or that data keeps up."""
    on = f" on {workers_text(workers)}"
    if capacity is None:
        return f"waits for data {idle_share:.0%} of the steady time{on}"
    source = {"compute": "data path", "host cores": "loader on the hosts' cores"}.get(limit, limit)
    sign = "<" if capacity < demand else ">="
    facts = f"{source} {rate_text(capacity)} {unit}/s {sign} compute {rate_text(demand)}{on}"
    if not is_bound:
        if capacity < demand:
            return f"{facts}: within noise, or waits of {idle_share:.0%} that cost little"
        return f"{facts}: data keeps up" + (
            f", yet {idle_share:.0%} is waited; resources.loader_workers reads ahead" if idle_share >= 0.1 else ""
        )
    if limit == "loader":
        return f"{facts}: more workers will not help the wait of {idle_share:.0%}, a faster loader will"
    return f"{facts}: more workers will not help"


def headroom_text(diagnosis: IngestDiagnosis) -> str:
    """The loader headroom of one worker, for the checklist's single-machine item."""
    one = diagnosis.projections[0]
    if diagnosis.loader is None:
        return (
            f"one worker waits for data {one.idle_share.median:.1%} of its steady time (from trials; no probe was run)"
        )
    times = diagnosis.loader.median / diagnosis.compute.median
    parts = [
        f"the loader delivers {_times(times)} times what one worker computes "
        f"({rate_text(diagnosis.loader.median)} against {rate_text(diagnosis.compute.median)} {diagnosis.unit}/s)",
        _storage_part(diagnosis),
        _precision_part(diagnosis),
    ]
    if diagnosis.memory_share is not None:
        parts.append(f"a step takes {diagnosis.memory_share:.0%} of the accelerator's memory")
    return "; ".join(parts)


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"


def _storage_part(diagnosis: IngestDiagnosis) -> str:
    if diagnosis.storage is None:
        return "storage was not measured"
    return f"the store gives {rate_text(diagnosis.storage.median)} {diagnosis.unit}/s"


def _precision_part(diagnosis: IngestDiagnosis) -> str:
    if diagnosis.mixed_precision_gain is None:
        if diagnosis.device.startswith("cpu"):
            return "it runs on a CPU, where mixed precision and accelerator utilisation do not apply"
        return "mixed precision was not measured"
    gain = diagnosis.mixed_precision_gain
    return f"bfloat16 autocast runs the same step at {gain:.2g} times the speed"


def ingest_lines(diagnosis: IngestDiagnosis) -> list[str]:
    """What a reader of the terminal is told, most wanted first."""
    limits = ["compute " + _with_span(diagnosis.compute)]
    limits += [
        f"{name} {_with_span(interval)}"
        for name, interval in (
            ("loader", diagnosis.loader), ("cold", diagnosis.cold), ("storage", diagnosis.storage),
            ("together", diagnosis.end_to_end),
        )
        if interval is not None
    ]  # fmt: skip
    basis = "probe of one worker" if diagnosis.basis == "probe" else "from the trials' own times"
    lines = [f"data path ({basis}, {diagnosis.unit}/s, 90%): {', '.join(limits)}; limit: {diagnosis.limit}"]
    lines += [each.sentence for each in diagnosis.projections]
    worst = max(diagnosis.projections, key=lambda each: (each.ingest_bound, each.workers))
    if worst.idle_usd_per_hour is not None and worst.ingest_bound:
        lines.append(f"idle on {workers_text(worst.workers)}: {format_usd(worst.idle_usd_per_hour)} an hour")
    lines += [f"way out: {each.text}" for each in worst.advice]
    return lines + [f"note: {note}" for note in diagnosis.notes]


def ingest_rows(diagnosis: IngestDiagnosis) -> list[tuple[str, ...]]:
    """A row for each worker count, under `INGEST_HEADER`."""
    return [_row(each, diagnosis.confidence) for each in diagnosis.projections]


def _row(each: IngestProjection, confidence: float) -> tuple[str, ...]:
    return (
        str(each.workers),
        _with_span(each.demand),
        "not known" if each.capacity is None else _with_span(each.capacity),
        _with_span(each.achieved),
        f"{each.idle_share.median:.0%}",
        each.limit,
        "not known" if each.probability is None else format_probability(each.probability, confidence),
    )


def _with_span(interval: Interval) -> str:
    return f"{rate_text(interval.median)} ({rate_text(interval.low)} to {rate_text(interval.high)})"
