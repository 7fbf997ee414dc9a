"""Trials and the full run in process: the same training as on Ray, on one worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.backends.local import LocalFullRunner, LocalRunner
from orchestrator.errors import InfeasibleError, TaskError
from orchestrator.planner import ListedTrials
from orchestrator.results import Candidate
from orchestrator.spec import ModelSpec, SweepSpec

ALONE = SweepSpec(fractions=(0.1, 0.2, 0.4), workers=(1,), seeds=2)


def local(spec: Any, digits: Any, **options: Any) -> LocalRunner:
    root = None if spec.data.source == "task" else digits.root
    return LocalRunner(spec, fingerprint=digits.summary.fingerprint, data_root=root, **options)


@pytest.fixture
def faulty_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.mark.ray
@pytest.mark.filterwarnings("default")  # Ray's own
def test_the_same_trial_comes_to_the_same_here_and_on_ray(
    swept: Any, digits_spec: Any, digits: Any, make_trial: Any, measure: Any
) -> None:
    trials = [make_trial("linear", 0.2, seed=1), make_trial("cnn", 0.2)]

    results = measure(local(digits_spec(sweep=ALONE), digits), trials)

    for result, other in zip(results, [swept.result("linear", 0.2, seed=1), swept.result("cnn", 0.2)], strict=True):
        assert (result.key, result.trial, result.scope) == (other.key, other.trial, other.scope)
        # The same operations in the same order on the same processor.
        assert result.training.loss == pytest.approx(other.training.loss, rel=1e-6)
        assert result.training.accuracy == other.training.accuracy
        assert result.training.samples_seen == other.training.samples_seen


def test_the_smoke_test_measures_every_model(digits_spec: Any, digits: Any) -> None:
    linear, cnn = local(digits_spec(sweep=ALONE), digits).smoke()

    assert (linear.model, cnn.model) == ("linear", "cnn")
    assert linear.n_parameters == 64 * 10 + 10
    # Weights in 4 bytes each, twice more in the optimiser, and the file's own structure.
    assert linear.checkpoint_bytes > 3 * 4 * linear.n_parameters


def test_more_than_one_worker_is_refused_with_the_way_out(digits_spec: Any, digits: Any) -> None:
    with pytest.raises(InfeasibleError, match=r"sweep.workers is \[1, 2\]; in process there is one worker: set \[1\]"):
        local(digits_spec(), digits)


def test_a_task_that_raises_is_a_failed_trial_with_its_place(
    faulty_on_path: None, faulty_spec: Any, digits: Any, make_trial: Any, measure: Any
) -> None:
    models = (ModelSpec(name="good"), ModelSpec(name="bad", options={"fault": "raise"}))
    runner = local(faulty_spec(*models, sweep=ALONE), digits)

    failed, finished = measure(runner, [make_trial("bad"), make_trial("good")])

    assert (failed.status, finished.status) == ("failed", "finished")
    assert failed.error.startswith("ValueError: the labels are all wrong (faulty_task.py:")


def test_a_refusal_of_the_task_is_told_in_its_own_words(
    digits_spec: Any, digits: Any, make_trial: Any, measure: Any
) -> None:
    runner = local(digits_spec(ModelSpec(name="cnn", options={"width": "wide"}), sweep=ALONE), digits)

    (failed,) = measure(runner, [make_trial("cnn")])

    assert failed.error == "models: cnn width must be a multiple of 4, got 'wide'"


def test_stopping_and_draining_start_no_further_trial(
    faulty_on_path: None, faulty_spec: Any, digits: Any, make_trial: Any, measure: Any
) -> None:
    trials, results = [make_trial("good", seed=seed) for seed in range(4)], []
    spec = faulty_spec(sweep=ALONE)

    local(spec, digits).run(ListedTrials(trials), lambda result: results.append(result) is not None)
    drained = local(spec, digits, draining=lambda: len(results) > 2)
    drained.run(ListedTrials(trials[1:]), lambda result: results.append(result) is None)

    assert [result.trial.seed for result in results] == [0, 1, 2]


def test_the_full_run_writes_weights_and_tells_each_epoch(
    faulty_on_path: None, faulty_spec: Any, digits: Any, forecast_of: Any, tmp_path: Path
) -> None:
    candidate = Candidate(model="good", fraction=1.0, n_samples=200, workers=1, purchase="on_demand")
    runner = LocalFullRunner(faulty_spec(sweep=ALONE), fingerprint="f", data_root=None, storage_path=tmp_path)
    said: list[str] = []

    run = runner.run(candidate, forecast_of(candidate), said.append)

    assert run.training.n_train == 200
    assert run.wall_time_s >= run.training.wall_time_s
    assert Path(run.checkpoint_path).stat().st_size > 0
    assert [line.partition(":")[2].partition(":")[0] for line in said] == [" epoch 1", " epoch 2", " epoch 3"]


def test_a_full_run_on_two_workers_is_refused_with_the_way_out(
    faulty_spec: Any, forecast_of: Any, tmp_path: Path
) -> None:
    candidate = Candidate(model="good", fraction=1.0, n_samples=200, workers=2, purchase="on_demand")
    runner = LocalFullRunner(faulty_spec(sweep=ALONE), fingerprint="f", data_root=None, storage_path=tmp_path)

    with pytest.raises(InfeasibleError, match="in process there is one worker; choose the candidate with 1 worker"):
        runner.run(candidate, forecast_of(candidate), print)


def test_a_missing_data_folder_fails_the_trial_and_not_the_sweep(
    digits_spec: Any, make_trial: Any, measure: Any, tmp_path: Path
) -> None:
    runner = LocalRunner(digits_spec(sweep=ALONE), fingerprint="f", data_root=tmp_path / "gone")

    (failed,) = measure(runner, [make_trial("linear")])

    assert "is not prepared data" in failed.error


def test_the_smoke_test_passes_the_tasks_refusal_on(digits_spec: Any, digits: Any) -> None:
    with pytest.raises(TaskError, match="has no 'resnet'"):
        local(digits_spec(ModelSpec(name="resnet"), sweep=ALONE), digits).smoke()
