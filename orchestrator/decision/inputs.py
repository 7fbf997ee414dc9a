"""What a verdict rests on, as one digest: an approval holds only for this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType

from orchestrator.cost.rates import RateCard
from orchestrator.ingest import IngestMeasurement
from orchestrator.results import DataSummary, Drill, Interval, TrialResult
from orchestrator.spec import ExperimentSpec, digest

NO_PROBES: Mapping[str, IngestMeasurement] = MappingProxyType({})


def inputs_digest(
    spec: ExperimentSpec,
    data: DataSummary,
    results: Sequence[TrialResult],
    rates: RateCard,
    checkpoint_bytes: Mapping[str, int],
    full_run_startup_s: Interval | None,
    rng_seed: int,
    probes: Mapping[str, IngestMeasurement] = NO_PROBES,
    drills: Sequence[Drill] = (),
) -> str:
    """Digest of all that a verdict rests on: an approval holds only for this.

    The age of a price is left out, so that a verdict does not expire overnight; so are names, folders, tracking and
    alerts. Of drills those count that failed: one that passes takes nothing away from an answer.
    """
    asked = asdict(spec)
    for key in ("name", "tracking", "runs_dir", "resources", "alerts"):
        del asked[key]
    del asked["decision"]["approval"]
    # What these files hold counts, in the prices and the market below.
    del asked["pricing"]["catalogue"], asked["pricing"]["spot"]["history"]
    del asked["data"]["source"]  # the fingerprint says what was read, wherever it lay
    # repr keeps every bit of a float, and a diverged loss (NaN) has no JSON.
    evidence = sorted([r.key, r.status, repr(r.training), repr(r.cost_usd)] for r in results)
    prices: dict[str, object] = {
        purchase: [repr(q.usd_per_instance_hour), q.workers_per_instance, q.cited]
        for purchase, q in rates.quotes.items()
    }
    listed = {"storage": rates.storage, "transfer": rates.transfer}
    prices |= {name: [repr(price.usd), price.cited] for name, price in listed.items() if price is not None}
    if "spot" in rates.quotes:  # a history file may change while the config that names it does not
        prices["market"] = [asdict(rates.spot.mean_uptime_s), asdict(rates.spot.mean_downtime_s)]
    launch = None if full_run_startup_s is None else asdict(full_run_startup_s)
    of: list[object] = [
        asked,
        data.fingerprint,
        data.n_train,
        evidence,
        prices,
        dict(checkpoint_bytes),
        launch,
        rng_seed,
    ]
    if probes:
        of.append({model: repr(probe) for model, probe in probes.items()})
    failed = sorted(drill.name for drill in drills if not drill.passed)
    if failed:
        of.append(failed)
    return digest(of)
