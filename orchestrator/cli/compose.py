"""Composition: from a config to the pieces an `Experiment` acts through. Frameworks are imported when needed."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import __version__
from orchestrator.cli.console import Narrator
from orchestrator.errors import ConfigError, PriceError, UnknownExperimentError

if TYPE_CHECKING:
    from orchestrator.cost.prices import PriceTable
    from orchestrator.cost.rates import RateCard
    from orchestrator.cost.spot import SpotMarket
    from orchestrator.experiment import Experiment
    from orchestrator.ports import Evidence, ReviewPage, TrialRunner
    from orchestrator.results import DataSummary, Outcome, Verdict
    from orchestrator.spec import ExperimentSpec, PricingSpec
    from orchestrator.tracking.journal import Journal, JournalView
    from orchestrator.tracking.mlflow_tracker import MlflowTracker

_PACKAGES = ("ray", "torch", "mlflow", "numpy", "pyarrow", "scipy")


def utc_now() -> datetime:
    """The clock of the shell."""
    return datetime.now(UTC)


def rates_of(spec: ExperimentSpec) -> RateCard:
    """All prices of a config, today. Raises PriceError."""
    from orchestrator.cost.prices import parse_price_table
    from orchestrator.cost.rates import rate_card
    from orchestrator.cost.transfer import parse_transfer_table

    today = _today()
    listed = parse_transfer_table(_shipped("transfer_prices.csv"), "orchestrator's transfer prices", today=today)
    shipped = parse_price_table(_shipped("price_table.csv"), "orchestrator's price table", today=today)
    if spec.pricing.catalogue is None:
        return rate_card(spec.pricing, shipped, listed, today, spot=_spot_history(spec.pricing.spot.history))
    table = _catalogue_of(spec.pricing, spec.pricing.catalogue, today)
    spot = _spot_history(spec.pricing.spot.history)
    return rate_card(spec.pricing, table, listed, today, reference=shipped, spot=spot)


def _shipped(name: str) -> str:
    return resources.files("orchestrator.cost").joinpath(name).read_text(encoding="utf-8")


def _catalogue_of(pricing: PricingSpec, path: str, today: date) -> PriceTable:
    from orchestrator.cost.catalogue import parse_prices

    text = _own_text(path, "pricing.catalogue", "of prices")
    stated = None if pricing.catalogue_date is None else date.fromisoformat(pricing.catalogue_date)
    return parse_prices(text, path, cloud=pricing.catalogue_cloud, date=stated, today=today)


def _spot_history(path: str | None) -> SpotMarket | None:
    from orchestrator.cost.availability import parse_availability

    return None if path is None else parse_availability(_own_text(path, "pricing.spot.history", "of runs"), path)


def _own_text(path: str, key: str, content: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise PriceError(f"{key} {path} cannot be read ({reason}); name a CSV file {content}") from error


def _today() -> date:
    return utc_now().date()


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedData:
    """The data of an experiment and the folder workers read it from."""

    summary: DataSummary
    root: Path | None
    """None when the task brings its own data."""


def locate_data(spec: ExperimentSpec, say: Callable[[str], None]) -> LocatedData:
    """Prepare the config's source, or ask the task for its data. Raises DataError, TaskError, ConfigError."""
    if spec.data.source == "task":
        from orchestrator.training.describe import describe_task_data

        say("asking the task for its data")
        return LocatedData(summary=describe_task_data(spec), root=None)
    from orchestrator.data.prepared import prepare

    prepared = prepare(spec.data, Path(spec.runs_dir).absolute() / ".data", say)
    return LocatedData(summary=prepared.summary, root=prepared.root)


def versions() -> dict[str, str]:
    """Versions of ourselves and of the packages that evidence depends on."""
    return {"orchestrator": __version__} | {name: importlib.metadata.version(name) for name in _PACKAGES}


@contextmanager
def open_experiment(
    spec: ExperimentSpec,
    located: LocatedData,
    *,
    config: str,
    narrator: Narrator,
    draining: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Experiment, MlflowTracker]]:
    """The experiment with its journal locked and its mirror running; both closed at the end, whatever happens.

    Raises: LockedError: another process owns the run folder. JournalError: it cannot be used.
    """
    from orchestrator.evidence import require_own_evidence
    from orchestrator.experiment import Experiment
    from orchestrator.tracking.journal import Journal, run_folder
    from orchestrator.tracking.mlflow_tracker import MlflowTracker

    with Journal.open(run_folder(spec.runs_dir, spec.name), now=utc_now) as journal:
        for warning in journal.view.warnings:
            narrator.warn(warning)
        require_own_evidence(located.summary, journal.view.results)
        _record_start(journal, spec, located.summary, config)
        tracker = MlflowTracker(spec.tracking.uri)
        try:
            yield (
                Experiment(
                    spec=spec,
                    data=located.summary,
                    rates=rates_of(spec),
                    journal=journal,
                    tracker=tracker,
                    console=narrator,
                    render=render_review,
                    now=lambda: utc_now().isoformat(timespec="seconds"),
                    draining=draining,
                ),
                tracker,
            )
        finally:
            fault = tracker.close()
            if fault is not None:
                narrator.warn(fault)


def _record_start(journal: Journal, spec: ExperimentSpec, data: DataSummary, config: str) -> None:
    """One ``experiment`` record per change of what is asked, not one per command."""
    if any(entry.kind == "experiment" for entry in journal.view.entries):
        view = journal.view
        if (view.spec, view.data, view.versions) == (spec, data, versions()):
            return
    journal.append("experiment", {"spec": spec, "data": data, "versions": versions(), "config": config})


def render_review(spec: ExperimentSpec, data: DataSummary, evidence: Evidence, verdict: Verdict) -> ReviewPage:
    """The page of a verdict, with the latest outcome beside it when there is one."""
    from orchestrator.report.page import review_page

    outcome = evidence.outcomes[-1] if evidence.outcomes else None
    return review_page(spec, data, evidence.results, verdict, outcome=outcome, reads=evidence.data_reads)


def ray_sweep_runner(
    spec: ExperimentSpec, located: LocatedData, source: str, draining: Callable[[], bool]
) -> Callable[[], AbstractContextManager[TrialRunner]]:
    """Starts Ray and warm workers on entry, ends them on exit. Entering raises ConfigError: infeasible workers."""

    @contextmanager
    def start() -> Iterator[TrialRunner]:
        from orchestrator.backends.cluster import RayCluster, is_remote
        from orchestrator.backends.ray_tune import RayTuneRunner
        from orchestrator.planner import infeasible_workers

        cluster = RayCluster.connect()
        try:
            faults = infeasible_workers(spec, cluster.capacity) if is_remote() else ()
            if faults:
                raise ConfigError(source, faults)
            runner = RayTuneRunner(
                spec,
                fingerprint=located.summary.fingerprint,
                data_root=located.root,
                cluster=cluster,
                draining=draining,
            )
            try:
                yield runner
            finally:
                runner.close()
        finally:
            cluster.close()

    return start


def read_experiment(
    experiment: str, runs_dir: str, overrides: Sequence[str] = ()
) -> tuple[ExperimentSpec, JournalView]:
    """An experiment by name, run folder or config file, with overrides on the config it was last run with.

    One found by name or folder goes on where it was found, though it may have been recorded from another folder.

    Raises: UnknownExperimentError, ConfigError, JournalError.
    """
    from orchestrator.config import load_config, override_spec
    from orchestrator.tracking.journal import Journal, run_folder

    path = Path(experiment)
    if path.suffix in {".yaml", ".yml"}:
        spec = load_config(path, overrides)
        return spec, Journal.read(run_folder(spec.runs_dir, spec.name))
    # os.path, because Path.exists raises where a folder may not be entered.
    is_folder = len(path.parts) > 1 or os.path.exists(path / "journal.jsonl")
    folder = path if is_folder else run_folder(runs_dir, experiment)
    try:
        view = Journal.read(folder)
    except UnknownExperimentError as error:
        raise UnknownExperimentError(f"{error} (runs folder: {folder.parent.absolute()})") from error
    spec = override_spec(view.spec, overrides, source=experiment)
    return replace(spec, runs_dir=str(view.path.parent.parent)), view


def register_model(spec: ExperimentSpec, located: LocatedData, outcome: Outcome, tracker: MlflowTracker) -> None:
    """Put the full run's model into MLflow's registry under the experiment's name. Raises TaskError."""
    from orchestrator.training.restore import restored_model

    model, example = restored_model(spec, located.root, outcome.candidate.model, Path(outcome.checkpoint_path))
    requirements = [f"{name}=={importlib.metadata.version(name)}" for name in ("torch", "numpy")]
    tracker.register_model(spec.name, model, example, requirements)


def answer_of(pairs: Mapping[str, object]) -> str:
    """Two aligned columns for a reader."""
    width = max(map(len, pairs), default=0)
    return "\n".join(f"{key:<{width}}  {value}" for key, value in pairs.items())
