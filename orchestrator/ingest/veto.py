"""Ingest-bound as a veto: what extra workers would wait for, with the way out."""

from __future__ import annotations

from orchestrator.ingest.records import IngestDiagnosis
from orchestrator.ingest.wording import workers_text
from orchestrator.intervals import format_probability, format_usd
from orchestrator.results import Veto

INGEST_BOUND = "ingest-bound"


def ingest_veto(diagnosis: IngestDiagnosis, workers: int) -> Veto | None:
    """The veto on a full run with that many workers; None when data keeps up, or when no worker is added."""
    found = diagnosis.at(workers)
    if found is None or workers < 2 or not found.ingest_bound or found.probability is None:
        return None
    odds = format_probability(found.probability, diagnosis.confidence)
    reason = (
        f"{found.sentence} (probability {odds}; {workers_text(workers)} would be idle {found.idle_share.median:.0%}"
    )
    if found.idle_usd_per_hour is not None:
        reason += f", {format_usd(found.idle_usd_per_hour)} an hour"
    ways = [advice.text for advice in found.advice]
    if not ways:
        ways = ["run the probe, which tells loader and storage apart", "pack the rows with `prepare`"]
    if (clear := _largest_clear(diagnosis, workers)) is not None:
        ways.append(f"scale to {workers_text(clear)}, which data keeps up with")
    return Veto(name=INGEST_BOUND, reason=f"{reason})", way_out="; or ".join(ways))


def _largest_clear(diagnosis: IngestDiagnosis, below: int) -> int | None:
    clear = [each.workers for each in diagnosis.projections if each.workers < below and not each.ingest_bound]
    return max(clear, default=None)
