"""What stored evidence leads to under a config."""

from __future__ import annotations

from orchestrator.cost.rates import RateCard
from orchestrator.decision import decide
from orchestrator.experiment.accounting import launch_interval
from orchestrator.ports import Evidence, IngestProbe
from orchestrator.progress import full_runs_usd
from orchestrator.results import DataSummary, Verdict
from orchestrator.spec import ExperimentSpec, evidence_scope


def decide_on(spec: ExperimentSpec, data: DataSummary, evidence: Evidence, rates: RateCard) -> Verdict:
    """The verdict that stored evidence leads to under a config. Raises EvidenceError: too few trials finished."""
    return decide(
        spec,
        data,
        evidence.results,
        rates,
        checkpoint_bytes={report.model: report.checkpoint_bytes for report in evidence.smoke},
        full_run_startup_s=launch_interval(evidence),
        trials_usd=evidence.trials_usd,
        full_runs_usd=full_runs_usd(evidence),
        probes={
            probe.model: probe.measurement for probe in evidence.probes if still_holds(probe, spec, data.fingerprint)
        },
        drills=evidence.drills,
    )


def still_holds(probe: IngestProbe, spec: ExperimentSpec, fingerprint: str) -> bool:
    """Whether a probe is of this data, model and loading."""
    if probe.model not in {model.name for model in spec.models}:
        return False
    of_now = (evidence_scope(spec, fingerprint, probe.model), spec.resources.loader_workers)
    return (probe.scope, probe.loader_workers) == of_now
