"""Is it the data? Measured rates of one worker in, diagnosis, projection, veto and a priced way out.

full_run.py     the story: from a config, a probe and trials to the diagnosis of a full run
projection.py   the probe's rates to what each worker count gets        trials.py    the same from trials alone
advice.py       ways out in dollars      wording.py   sentences, lines and rows      records.py   all records
"""

from __future__ import annotations

from orchestrator.ingest.full_run import diagnose_full_run
from orchestrator.ingest.projection import MAX_WAIT_SHARE, diagnose
from orchestrator.ingest.records import Hosts, IngestAdvice, IngestDiagnosis, IngestPrices, IngestProjection, Limit
from orchestrator.ingest.trials import diagnose_trials
from orchestrator.ingest.veto import ingest_veto
from orchestrator.ingest.wording import INGEST_HEADER, headroom_text, ingest_lines, ingest_rows, rate_text
from orchestrator.results import MIN_REPEATS, IngestMeasurement, Rate

__all__ = [
    "INGEST_HEADER",
    "MAX_WAIT_SHARE",
    "MIN_REPEATS",
    "Hosts",
    "IngestAdvice",
    "IngestDiagnosis",
    "IngestMeasurement",
    "IngestPrices",
    "IngestProjection",
    "Limit",
    "Rate",
    "diagnose",
    "diagnose_full_run",
    "diagnose_trials",
    "headroom_text",
    "ingest_lines",
    "ingest_rows",
    "ingest_veto",
    "rate_text",
]
