"""One suite for every tracker: in memory, and MLflow on an SQLite store made anew for each test."""

from __future__ import annotations

import runpy
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.ports import ReviewPage, Tracker
from orchestrator.tracking.in_memory import InMemoryTracker
from orchestrator.tracking.mlflow_store import connect
from orchestrator.tracking.mlflow_tracker import MlflowTracker

# Raised inside MLflow 3.17 by the SQLAlchemy it brings; our own warnings stay errors.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")
samples = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "tracking" / "samples.py")))
PAGE = ReviewPage(description="**PROMOTE**", figures={"learning_curve": b"\x89PNG"}, html="<!doctype html><p>page</p>")


@dataclass(frozen=True)
class Store:
    """A kind of tracker: how to make one on the same store, and how to see what the store holds."""

    make: Callable[[], Tracker]
    trials: Callable[[], dict[str, list[str]]]
    """Trial key to the status of every run (or record) kept for it."""
    verdicts: Callable[[], list[str]]
    n_outcomes: Callable[[], int]


def in_memory_store() -> Store:
    tracker = InMemoryTracker()
    return Store(
        make=lambda: tracker,
        trials=lambda: {key: [result.status] for key, result in tracker.results.items()},
        verdicts=lambda: [verdict.kind for verdict in tracker.verdicts],
        n_outcomes=lambda: len(tracker.outcomes),
    )


def mlflow_store(uri: str) -> Store:
    client = connect(uri)

    def runs(kind: str) -> list[SimpleNamespace]:
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return client.search_runs(experiments, f"tags.`orchestrator.kind` = '{kind}'")

    def trials() -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for run in runs("trial"):
            assert run.data.tags["orchestrator.complete"] == "1"
            found.setdefault(run.data.tags["orchestrator.trial_key"], []).append(run.info.status.lower())
        return found

    return Store(
        make=lambda: MlflowTracker(uri),
        trials=trials,
        verdicts=lambda: [run.data.tags["verdict"] for run in runs("experiment") if "verdict" in run.data.tags],
        n_outcomes=lambda: len(runs("full_run")),
    )


@pytest.fixture(scope="session")
def template_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mlflow") / "template.db"
    connect(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["in memory", "mlflow"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "in memory":
        yield in_memory_store()
        return
    shutil.copy(request.getfixturevalue("template_database"), tmp_path / "mlflow.db")
    yield mlflow_store(f"sqlite:///{tmp_path / 'mlflow.db'}")


def test_every_trial_is_kept_once_with_its_status(store: Store) -> None:
    finished, failed = samples.result("cnn", 0.05, 1, 0), samples.result("cnn", 0.1, 1, 0, error="loss is nan")
    tracker = store.make()

    tracker.open(samples.spec(), samples.data(), [])
    tracker.trial_finished(finished)
    tracker.trial_finished(failed)

    assert tracker.close() is None
    assert store.trials() == {finished.key: ["finished"], failed.key: ["failed"]}


def test_opening_again_adds_what_is_missing_and_doubles_nothing(store: Store) -> None:
    results = samples.results(n_fractions=1)
    first = store.make()
    first.open(samples.spec(), samples.data(), results[:3])
    assert first.close() is None

    again = store.make()
    again.open(samples.spec(), samples.data(), results)
    assert again.close() is None

    assert store.trials() == {result.key: ["finished"] for result in results}


def test_a_failed_trial_that_was_made_good_is_kept_as_finished_and_never_goes_back(store: Store) -> None:
    failed = samples.result("linear", 0.05, 1, 0, error="worker lost")
    finished = samples.result("linear", 0.05, 1, 0)
    tracker = store.make()

    tracker.open(samples.spec(), samples.data(), [failed])
    tracker.trial_finished(finished)
    tracker.trial_finished(failed)

    assert tracker.close() is None
    assert store.trials() == {finished.key: ["finished"]}


def test_the_latest_verdict_is_what_stands(store: Store) -> None:
    tracker = store.make()

    tracker.open(samples.spec(), samples.data(), samples.results(n_fractions=1)[:1])
    tracker.verdict_reached(samples.verdict("HOLD", probability=0.55), PAGE)
    tracker.verdict_reached(samples.verdict("PROMOTE"), PAGE)
    tracker.approval_given(samples.approval())

    assert tracker.close() is None
    assert store.verdicts()[-1] == "PROMOTE"


def test_an_outcome_told_twice_is_kept_once(store: Store) -> None:
    tracker = store.make()

    tracker.open(samples.spec(), samples.data(), [])
    tracker.full_run_finished(samples.outcome())
    tracker.full_run_finished(samples.outcome())

    assert tracker.close() is None
    assert store.n_outcomes() == 1


def test_closing_twice_or_without_opening_is_harmless(store: Store) -> None:
    tracker = store.make()

    assert tracker.close() is None
    assert tracker.close() is None
