"""Sweep trials on a real local Ray cluster: same answers on any number of workers, and faults that stay small."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from orchestrator.backends.ray_tune import _AHEAD
from orchestrator.errors import JournalError, TaskError
from orchestrator.planner import ListedTrials
from orchestrator.results import TrialResult
from orchestrator.spec import ModelSpec, trial_key

# Ray 2.60 warns of its own deprecations and leaves pipes to the collector; nothing that we could mend.
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]

SLOTS = 2


@pytest.fixture
def two_clouds(faulty_spec: Callable[..., Any]) -> Callable[..., Any]:
    """``two_clouds(**options)``: a good model beside one with the given options of `faulty_task`."""
    return lambda **options: faulty_spec(ModelSpec(name="good"), ModelSpec(name="bad", options=options))


def test_a_trial_on_two_workers_comes_to_the_same_as_on_one_and_tells_its_sync_time(
    swept: Any,
) -> None:
    one, two = (swept.result("cnn", 0.2, workers).training for workers in (1, 2))

    assert one.n_train == 288  # nine whole batches: no row is left out for the ranks' sake
    # Sums of 32-bit floats in another order, over 27 steps.
    assert two.loss == pytest.approx(one.loss, rel=1e-4)
    assert two.train_loss == pytest.approx(one.train_loss, rel=1e-4)
    assert two.accuracy == pytest.approx(one.accuracy, abs=1.01 / one.n_validation)  # a row at the border may tip over
    assert (two.n_train, two.samples_seen, two.epochs_run) == (one.n_train, one.samples_seen, one.epochs_run)
    assert one.time.gradient_sync_s == 0
    assert two.time.gradient_sync_s > 0


def test_every_planned_trial_comes_back_exactly_once_with_its_time_split(
    swept: Any, digits_spec: Any, digits: Any
) -> None:
    spec, fingerprint = digits_spec(), digits.summary.fingerprint

    assert [report.model for report in swept.smoke] == ["linear", "cnn"]
    assert all(report.n_parameters > 0 and report.checkpoint_bytes > 0 for report in swept.smoke)
    planned = Counter(trial_key(spec, fingerprint, trial) for trial in swept.plan)
    assert Counter(result.key for result in swept.results) == planned
    assert [result.error for result in swept.results if result.status != "finished"] == []
    for result in swept.results:
        # Between the last report and the end lie an all-reduce and a few lines of Python.
        assert result.training.time.total_s == pytest.approx(result.training.wall_time_s, rel=0.1, abs=0.1)
        assert result.wall_time_s >= result.training.wall_time_s
        assert result.queue_wait_s >= 0


def test_a_task_that_raises_is_a_failed_trial_with_its_place_and_the_sweep_goes_on(
    start_runner: Any, two_clouds: Any, make_trial: Any, measure: Any
) -> None:
    trials = [make_trial("bad", 0.2), make_trial("bad", 0.4), make_trial("good", 0.2), make_trial("good", 0.4)]

    with start_runner(two_clouds(fault="raise")) as runner:
        before = runner.worker_pids
        results = {(r.trial.model, r.trial.fraction): r for r in measure(runner, trials)}

        assert sorted(ray.get(runner._pool.ready.remote())) == sorted(before)

    assert len(results) == 4
    line = _line_of('raise ValueError("the labels are all wrong")')
    for fraction in (0.2, 0.4):
        failed, finished = results["bad", fraction], results["good", fraction]
        assert (failed.status, failed.training) == ("failed", None)
        assert failed.error == f"ValueError: the labels are all wrong (faulty_task.py:{line})"
        assert finished.status == "finished"


def test_the_rank_that_raised_is_told_and_not_its_peer_that_waited_for_it(
    start_runner: Any, two_clouds: Any, make_trial: Any, measure: Any
) -> None:
    with start_runner(two_clouds(fault="raise", rank=1, at_epoch=1)) as runner:
        (failed,) = measure(runner, [make_trial("bad", workers=2)])
        (after,) = measure(runner, [make_trial("good", workers=2)])

    assert failed.error.startswith("ValueError: the labels are all wrong (faulty_task.py:")
    assert after.status == "finished"


def test_no_trial_starts_once_the_handler_says_stop(
    start_runner: Any, faulty_spec: Any, make_trial: Any, measure: Any
) -> None:
    trials = [make_trial("good", fraction, seed=seed) for fraction in (0.1, 0.2, 0.4) for seed in range(4)]
    results: list[TrialResult] = []

    def stop(result: TrialResult) -> bool:
        results.append(result)
        return False

    with start_runner(faulty_spec()) as runner:
        runner.run(ListedTrials(trials), stop)
        n_stopped = len(results)
        rest = measure(runner, trials[n_stopped:])

    # Those that ran beside the first, and the one that took its workers before the handler was asked.
    assert 1 <= n_stopped <= 1 + SLOTS
    assert n_stopped + _AHEAD < len(trials)
    assert Counter(r.key for r in results + rest) == Counter({r.key: 1 for r in results + rest})
    assert len(results + rest) == len(trials)


def test_draining_ends_what_runs_and_starts_nothing_more(
    start_runner: Any, two_clouds: Any, make_trial: Any, wait_for: Any, tmp_path: Path
) -> None:
    asked, results = threading.Event(), []
    trials = [make_trial("bad", 0.2, seed=seed) for seed in range(6)]

    def drain_while_the_first_train() -> None:
        wait_for(lambda: len(list(tmp_path.glob("started-0-*"))) == SLOTS)
        asked.set()
        threading.Event().wait(1.0)  # Tune looks several times a second
        (tmp_path / "go").touch()

    user = threading.Thread(target=drain_while_the_first_train)
    with start_runner(two_clouds(fault="wait", folder=str(tmp_path)), draining=asked.is_set) as runner:
        user.start()
        runner.run(ListedTrials(trials), lambda result: results.append(result) is None)
        user.join()
        runner.run(ListedTrials(trials), lambda result: results.append(result) is None)

    assert [r.status for r in results] == ["finished"] * SLOTS


def test_a_fault_of_the_handler_surfaces_once_running_trials_have_ended(
    start_runner: Any, faulty_spec: Any, make_trial: Any, measure: Any
) -> None:
    calls = []

    def disk_full(result: TrialResult) -> bool:
        calls.append(result)
        raise JournalError("cannot append: no space left")

    with start_runner(faulty_spec()) as runner:
        with pytest.raises(JournalError, match="no space left"):
            runner.run(ListedTrials([make_trial("good", seed=seed) for seed in range(8)]), disk_full)

        assert len(calls) == 1
        assert len(measure(runner, [make_trial("good", workers=2)])) == 1  # every worker was given back


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ModelSpec(name="cnn", options={"widht": 8}), "cnn does not take widht; its options are: depth, width"),
        (ModelSpec(name="resnet"), "image_classification has no 'resnet'; it has: linear, cnn"),
    ],
)
def test_the_smoke_test_refuses_a_model_that_cannot_be_built(
    start_runner: Any, digits_spec: Any, model: ModelSpec, message: str
) -> None:
    with start_runner(digits_spec(model)) as runner, pytest.raises(TaskError, match=message):
        runner.smoke()


def test_the_smoke_test_names_the_model_whose_training_raises(start_runner: Any, two_clouds: Any) -> None:
    message = r"smoke test of bad: ValueError: the labels are all wrong \(faulty_task\.py:"

    with start_runner(two_clouds(fault="raise")) as runner, pytest.raises(TaskError, match=message):
        runner.smoke()


def test_the_smoke_test_finds_what_only_goes_wrong_in_a_group(start_runner: Any, two_clouds: Any) -> None:
    message = r"smoke test of bad on 2 workers: ValueError: the labels are all wrong \(faulty_task\.py:"

    with start_runner(two_clouds(fault="raise", rank=1)) as runner, pytest.raises(TaskError, match=message):
        runner.smoke()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_trial_whose_worker_process_is_killed_is_tried_again_on_a_fresh_one(
    start_runner: Any, two_clouds: Any, make_trial: Any, measure: Any, wait_for: Any, tmp_path: Path, workers: int
) -> None:
    victims: list[int] = []

    def kill_the_last_rank() -> None:
        marker = wait_for(lambda: sorted(tmp_path.glob(f"started-0-{workers - 1}-*")))[0]
        victims.append(int(marker.name.rpartition("-")[2]))
        os.kill(victims[0], signal.SIGKILL)
        (tmp_path / "go").touch()

    killer = threading.Thread(target=kill_the_last_rank)
    with start_runner(two_clouds(fault="wait", folder=str(tmp_path), rank=workers - 1)) as runner:
        before = runner.worker_pids
        killer.start()
        (result,) = measure(runner, [make_trial("bad", workers=workers)])
        killer.join()
        after = ray.get(runner._pool.ready.remote())

    assert victims[0] in before
    assert victims[0] not in after
    assert len(after) == len(before)
    assert (result.status, result.error) == ("finished", None)
    assert len(list(tmp_path.glob("started-0-*"))) == 2 * workers


def test_a_worker_that_dies_in_the_smoke_test_is_told_with_the_likely_cause(
    start_runner: Any, two_clouds: Any, wait_for: Any, tmp_path: Path
) -> None:
    def kill() -> None:
        marker = wait_for(lambda: sorted(tmp_path.glob("started-0-*")))[0]
        os.kill(int(marker.name.rpartition("-")[2]), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    with start_runner(two_clouds(fault="wait", folder=str(tmp_path))) as runner:
        killer.start()
        with pytest.raises(TaskError, match="smoke test of bad: the worker process died; often that is memory"):
            runner.smoke()
        killer.join()


def _line_of(code: str) -> int:
    lines = (Path(__file__).parent / "faulty_task.py").read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, start=1) if line.strip() == code)
