"""One Ray cluster for the whole session, the digits as prepared once, and specs of small experiments."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.backends.cluster import RayCluster
from orchestrator.backends.ray_tune import RayTuneRunner
from orchestrator.candidates import forecast_candidates
from orchestrator.data.prepared import PreparedData, prepare
from orchestrator.planner import ListedTrials, plan_grid
from orchestrator.ports import SmokeReport
from orchestrator.results import Candidate, CandidateForecast, TrialResult
from orchestrator.spec import (
    DataSpec,
    DecisionSpec,
    ExperimentSpec,
    FullRunSpec,
    ModelSpec,
    PricingSpec,
    ResourceSpec,
    SweepSpec,
    TrainingSpec,
    TrialSpec,
)

StartRunner = Callable[..., AbstractContextManager[RayTuneRunner]]
MakeSpec = Callable[..., ExperimentSpec]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """More threads than cores slow everything down; Ray gives its workers one as well."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cluster() -> Iterator[RayCluster]:
    """A local cluster of two workers, which can import `faulty_task`."""
    with (
        pytest.MonkeyPatch.context() as patch,
        # Directly under /tmp: the path of a Unix socket may have 107 bytes, and pytest's own folders are too deep.
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder,
    ):
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else Ray writes a token into the home folder
        patch.delenv("RAY_ADDRESS", raising=False)
        here = str(Path(__file__).parent)
        patch.setattr(sys, "path", [here, *sys.path])
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")])))
        connected = RayCluster.connect(Path(folder))
        if connected.capacity.cpus < 2:
            connected.close()
            pytest.skip("two workers need two CPUs")
        yield connected
        connected.close()


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """scikit-learn's digits, prepared."""
    return prepare(DataSpec(source="sklearn:digits"), tmp_path_factory.mktemp("prepared"), lambda message: None)


def make_spec(*models: ModelSpec, **changes: Any) -> ExperimentSpec:
    values: dict[str, Any] = {
        "name": "small",
        "task": "orchestrator.tasks.vision:image_classification",
        "data": DataSpec(source="sklearn:digits"),
        "models": models or (ModelSpec(name="linear"), ModelSpec(name="cnn", options={"width": 4})),
        "training": TrainingSpec(epochs=3, global_batch_size=32),
        "sweep": SweepSpec(fractions=(0.1, 0.2, 0.4), workers=(1, 2), seeds=2),
        "resources": ResourceSpec(max_concurrent_trials=2),
        "pricing": PricingSpec(usd_per_worker_hour=1.0),
        "full_run": FullRunSpec(workers=(1, 2)),
        "decision": DecisionSpec(min_gain_per_dollar=0.1),
    }
    return ExperimentSpec(**(values | changes))


@pytest.fixture(scope="session")
def digits_spec() -> MakeSpec:
    """``digits_spec(*models, **sections)``: a small experiment on the digits."""
    return make_spec


@pytest.fixture(scope="session")
def faulty_spec() -> MakeSpec:
    """``faulty_spec(*models, **sections)``: the same with `faulty_task`; models carry its options."""

    def make(*models: ModelSpec, **changes: Any) -> ExperimentSpec:
        task = {"task": "faulty_task:make_task", "data": DataSpec(source="task")}
        return make_spec(*(models or (ModelSpec(name="good"),)), **(task | changes))

    return make


@pytest.fixture(scope="session")
def start_runner(cluster: RayCluster, digits: PreparedData) -> StartRunner:
    """``with start_runner(spec) as runner``: warm workers on the session's cluster, ended with the block."""

    @contextmanager
    def start(spec: ExperimentSpec, **options: Any) -> Iterator[RayTuneRunner]:
        root = None if spec.data.source == "task" else digits.root
        runner = RayTuneRunner(spec, fingerprint=digits.summary.fingerprint, data_root=root, cluster=cluster, **options)
        try:
            yield runner
        finally:
            runner.close()

    return start


def trial(model: str, fraction: float = 0.2, workers: int = 1, seed: int = 0) -> TrialSpec:
    return TrialSpec(model=model, fraction=fraction, workers=workers, seed=seed)


@pytest.fixture(scope="session")
def make_trial() -> Callable[..., TrialSpec]:
    """``make_trial(model, fraction, workers, seed)``."""
    return trial


@pytest.fixture(scope="session")
def measure() -> Callable[..., list[TrialResult]]:
    """``measure(runner, trials)``: all results, in the order in which they came."""

    def run(runner: Any, trials: list[TrialSpec]) -> list[TrialResult]:
        results: list[TrialResult] = []

        def keep(result: TrialResult) -> bool:
            results.append(result)
            return True

        runner.run(ListedTrials(trials), keep)
        return results

    return run


@dataclass(frozen=True)
class Swept:
    """A whole sweep of the digits on Ray, and what it came to."""

    plan: tuple[TrialSpec, ...]
    smoke: list[SmokeReport]
    results: list[TrialResult]

    def result(self, model: str, fraction: float, workers: int = 1, seed: int = 0) -> TrialResult:
        asked = trial(model, fraction, workers, seed)
        return next(result for result in self.results if result.trial == asked)


@pytest.fixture(scope="session")
def swept(start_runner: StartRunner, digits: PreparedData, measure: Callable[..., list[TrialResult]]) -> Swept:
    """`digits_spec()`, swept once; several tests look at it."""
    spec = make_spec()
    plan = plan_grid(spec, digits.summary)
    with start_runner(spec) as runner:
        return Swept(plan, runner.smoke(), measure(runner, list(plan)))


@pytest.fixture(scope="session")
def forecast_of(synthetic: Any) -> Callable[[Candidate], CandidateForecast]:
    """Some forecast of a candidate; runners of full runs pass it on unread."""
    spec = synthetic.spec()
    forecasts = forecast_candidates(
        spec, synthetic.data, synthetic.results(spec), synthetic.rates(spec), checkpoint_bytes={}, rng_seed=0
    )
    return lambda candidate: replace(forecasts.candidates[0], candidate=candidate)


@pytest.fixture(scope="session")
def wait_for() -> Callable[[Callable[[], Any]], Any]:
    """``wait_for(look)``: what ``look`` returns once it is true; fails the test after five minutes.

    A busy machine took over one to launch.
    """

    def wait(look: Callable[[], Any], timeout_s: float = 300.0) -> Any:
        deadline = time.monotonic() + timeout_s
        while not (found := look()):
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.05)
        return found

    return wait
