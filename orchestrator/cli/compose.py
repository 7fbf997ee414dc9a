"""Composition: from a config to the pieces an `Experiment` acts through. Frameworks are imported when needed."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import __version__
from orchestrator.cli.console import Narrator
from orchestrator.errors import ConfigError, UnknownExperimentError

if TYPE_CHECKING:
    from orchestrator.cost.rates import RateCard
    from orchestrator.experiment import Experiment
    from orchestrator.ports import Evidence, ReviewPage, TrialRunner
    from orchestrator.results import DataSummary, Outcome, Verdict
    from orchestrator.spec import AlertSpec, ExperimentSpec
    from orchestrator.tracking.journal import Journal, JournalView
    from orchestrator.tracking.mlflow_tracker import MlflowTracker

_PACKAGES = ("ray", "torch", "mlflow", "numpy", "pyarrow", "scipy")


def utc_now() -> datetime:
    """The clock of the shell."""
    return datetime.now(UTC)


def rates_of(spec: ExperimentSpec) -> RateCard:
    """All prices of a config, today. Raises PriceError."""
    from orchestrator.config import rates

    return rates.rates_of(spec, utc_now().date())


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
    overrides: Sequence[str] = (),
    draining: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Experiment, MlflowTracker]]:
    """The experiment with its journal locked and its mirror running; both closed at the end, whatever happens.

    ``config`` and ``overrides`` are what the user gave, for the record.

    Raises: LockedError: another process owns the run folder. JournalError: it cannot be used.
    """
    from orchestrator.evidence import require_own_evidence
    from orchestrator.experiment import Experiment
    from orchestrator.operations.alerts import Webhooks
    from orchestrator.tracking.journal import Journal, run_folder
    from orchestrator.tracking.mlflow_tracker import MlflowTracker

    with Journal.open(run_folder(spec.runs_dir, spec.name), now=utc_now) as journal:
        for warning in journal.view.warnings:
            narrator.warn(warning)
        require_own_evidence(located.summary, journal.view.results)
        _record_start(journal, spec, located.summary, config, overrides)
        tracker = MlflowTracker(spec.tracking.uri, journal=journal.path.absolute())
        spec = replace(spec, alerts=channels_of(spec, config))
        notifier = Webhooks(spec.name, spec.alerts)
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
                    notifier=notifier,
                    draining=draining,
                ),
                tracker,
            )
        finally:
            for fault in (tracker.close(), notifier.close()):
                if fault is not None:
                    narrator.warn(fault)


def channels_of(spec: ExperimentSpec, config: str) -> tuple[AlertSpec, ...]:
    """Where alerts go: a journal keeps no address that may be a password, so those come from the config file again."""
    from orchestrator.config import load_config
    from orchestrator.spec.alerts import is_masked, without_secrets

    if not any(is_masked(alert.url) for alert in spec.alerts):
        return spec.alerts
    named = tuple(alert for alert in spec.alerts if not is_masked(alert.url))
    try:
        loaded = load_config(Path(config))
    except ConfigError:  # moved or changed since: those that name a variable are left
        return named
    is_own = loaded.name == spec.name and without_secrets(loaded.alerts) == spec.alerts
    return loaded.alerts if is_own else named


def _record_start(
    journal: Journal, spec: ExperimentSpec, data: DataSummary, config: str, overrides: Sequence[str]
) -> None:
    """One ``experiment`` record per change of what is asked, not one per command; no secrets."""
    from orchestrator.spec import without_secrets

    spec = replace(spec, alerts=without_secrets(spec.alerts))
    if any(entry.kind == "experiment" for entry in journal.view.entries):
        view = journal.view
        if (view.spec, view.data, view.versions) == (spec, data, versions()):
            return
    given = {"overrides": list(overrides)} if overrides else {}
    journal.append("experiment", {"spec": spec, "data": data, "versions": versions(), "config": config, **given})


def render_review(spec: ExperimentSpec, data: DataSummary, evidence: Evidence, verdict: Verdict) -> ReviewPage:
    """The page of a verdict, with the latest outcome beside it when there is one."""
    from orchestrator.cli.report import history_of
    from orchestrator.report.page import review_page

    outcome = evidence.outcomes[-1] if evidence.outcomes else None
    return review_page(
        spec, data, evidence.results, verdict, outcome=outcome, reads=evidence.data_reads, history=history_of(evidence)
    )


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
    experiment: str, runs_dir: str, overrides: Sequence[str] = (), tracking_uri: str | None = None
) -> tuple[ExperimentSpec, JournalView]:
    """An experiment by name, run folder or config file, with overrides on the config it was last run with.

    One found by name or folder goes on where it was found, though it may have been recorded from another folder. With
    a tracking URI its journal comes from that MLflow store alone; the view's path is then only where one would lie.

    Raises: UnknownExperimentError, ConfigError, JournalError. TrackingError: the store cannot be used.
    """
    from orchestrator.config import load_config, override_spec
    from orchestrator.tracking.journal import Journal, run_folder

    path = Path(experiment)
    if path.suffix in {".yaml", ".yml"}:
        spec = load_config(path, overrides)
        folder = run_folder(spec.runs_dir, spec.name)
        return spec, Journal.read(folder) if tracking_uri is None else _fetched(tracking_uri, spec.name, folder)
    if tracking_uri is not None:
        view = _fetched(tracking_uri, experiment, run_folder(runs_dir, experiment))
        spec = override_spec(view.spec, overrides, source=experiment)
        return replace(spec, runs_dir=runs_dir, tracking=replace(spec.tracking, uri=tracking_uri)), view
    # os.path, because Path.exists raises where a folder may not be entered.
    is_folder = len(path.parts) > 1 or os.path.exists(path / "journal.jsonl")
    folder = path if is_folder else run_folder(runs_dir, experiment)
    try:
        view = Journal.read(folder)
    except UnknownExperimentError as error:
        raise UnknownExperimentError(f"{error} (runs folder: {folder.parent.absolute()})") from error
    spec = override_spec(view.spec, overrides, source=experiment)
    return replace(spec, runs_dir=str(view.path.parent.parent)), view


def _fetched(uri: str, name: str, folder: Path) -> JournalView:
    """The journal that a store keeps of an experiment; its chain and seal were checked. Raises TrackingError."""
    from orchestrator.tracking.journal import FILE_NAME, Journal
    from orchestrator.tracking.mlflow_store import check_store
    from orchestrator.tracking.review_store import fetch_journal

    fault = check_store(uri)
    if fault is not None:
        raise ConfigError("--tracking-uri", (fault,))
    content, _ = fetch_journal(uri, name)
    return Journal.parse(folder / FILE_NAME, content)


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
