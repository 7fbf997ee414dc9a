"""The full run itself: capacity, Ray Train, outcome, registered model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from orchestrator.errors import ConfigError, TaskError

if TYPE_CHECKING:
    from orchestrator.cli.compose import LocatedData
    from orchestrator.experiment import Experiment
    from orchestrator.planner import ClusterCapacity
    from orchestrator.results import CandidateForecast, Outcome
    from orchestrator.spec import ExperimentSpec
    from orchestrator.tracking.mlflow_tracker import MlflowTracker


def run_full(
    experiment: Experiment, located: LocatedData, tracker: MlflowTracker, forecast: CandidateForecast
) -> Outcome:
    """The full run on Ray Train, its outcome and its registered model. Raises ConfigError, TaskError, BudgetError."""
    from orchestrator.backends.cluster import RayCluster, is_remote, local_capacity
    from orchestrator.cli.compose import register_model, render_review
    from orchestrator.experiment import check_budget
    from orchestrator.experiment import promote as run_promotion

    spec, narrator = experiment.spec, experiment.console
    check_budget(experiment, forecast)
    if not is_remote():
        _require_capacity(local_capacity(), spec, forecast)
    narrator.say("starting Ray for the full run")
    cluster = RayCluster.connect()
    try:
        _require_capacity(cluster.capacity, spec, forecast)
        from orchestrator.backends.ray_train import RayTrainRunner

        storage = Path(spec.runs_dir) / spec.name / "full_run"
        runner = RayTrainRunner(
            spec, fingerprint=located.summary.fingerprint, data_root=located.root, storage_path=storage
        )
        outcome = run_promotion(experiment, runner, forecast)
    finally:
        cluster.close()
    try:
        register_model(spec, located, outcome, tracker)
        narrator.say(f"model registered in MLflow as {spec.name}")
    except TaskError as error:
        narrator.say(f"not registered: {error}")
    verdict = experiment.journal.view.verdict
    if verdict is not None:
        tracker.verdict_reached(verdict, render_review(spec, located.summary, experiment.journal.view, verdict))
    return outcome


def _require_capacity(capacity: ClusterCapacity, spec: ExperimentSpec, forecast: CandidateForecast) -> None:
    """Raises ConfigError: the cluster cannot hold the candidate's workers."""
    from dataclasses import replace

    from orchestrator.planner import infeasible_workers

    asked = replace(spec, full_run=replace(spec.full_run, workers=(forecast.candidate.workers,)))
    faults = infeasible_workers(asked, capacity, full_run_is_local=True)
    own = tuple(fault for fault in faults if fault.key.startswith("full_run"))
    if own:
        raise ConfigError(spec.name, own)


def outcome_text(outcome: Outcome, metric: Literal["accuracy", "loss"]) -> str:
    """Forecast beside outcome, a line each."""
    from orchestrator.report.wording import OUTCOME_HEADER, outcome_rows, plain_table

    table = plain_table(OUTCOME_HEADER, outcome_rows(outcome, metric))
    return f"full run of {outcome.candidate}\n{table}\ncheckpoint: {outcome.checkpoint_path}"
