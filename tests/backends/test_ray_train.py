"""The full run on Ray Train: a real one on two workers, its checkpoint, and what happens when a rank is killed."""

from __future__ import annotations

import os
import re
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from torch.utils.data import DataLoader

from orchestrator.backends.ray_train import RayTrainRunner, _Trainer
from orchestrator.errors import TaskError
from orchestrator.results import Candidate
from orchestrator.spec import ModelSpec
from orchestrator.tasks.vision import ImageClassification
from orchestrator.training.checkpoints import read_checkpoint
from orchestrator.training.restore import restored_model

# Ray 2.60 warns of its own deprecations and leaves pipes to the collector; nothing that we could mend.
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]

EPOCHS = 3


def candidate(model: str, n_samples: int, workers: int = 2) -> Candidate:
    return Candidate(model=model, fraction=1.0, n_samples=n_samples, workers=workers, purchase="on_demand")


@pytest.fixture
def promote(cluster: Any, digits: Any, forecast_of: Any, tmp_path: Path) -> Any:
    """``promote(spec, candidate)``: the full run in this test's storage, and what was said of it."""

    def run(spec: Any, chosen: Candidate) -> tuple[Any, list[str]]:
        said: list[str] = []
        runner = RayTrainRunner(
            spec,
            fingerprint=digits.summary.fingerprint,
            data_root=None if spec.data.source == "task" else digits.root,
            storage_path=tmp_path / "full_run",
        )
        return runner.run(chosen, forecast_of(chosen), said.append), said

    return run


def test_a_full_run_trains_on_two_workers_and_its_checkpoint_is_the_model_that_was_measured(
    promote: Any, digits_spec: Any, digits: Any
) -> None:
    spec, chosen = digits_spec(), candidate("cnn", digits.summary.n_train)

    run, said = promote(spec, chosen)

    training = run.training
    assert (training.n_train, training.epochs_run) == (digits.summary.n_train, EPOCHS)
    assert training.time.gradient_sync_s > 0
    assert training.time.total_s == pytest.approx(training.wall_time_s, rel=0.1, abs=0.1)
    assert run.wall_time_s > training.wall_time_s
    assert [f"epoch {n}:" in line for n, line in enumerate(said, start=1)] == [True] * EPOCHS
    assert _accuracy(spec, digits, run.checkpoint_path) == training.accuracy

    again, said_again = promote(spec, chosen)

    assert said_again == []  # no epoch was trained
    assert again.training.epochs == training.epochs
    assert again.training.accuracy == training.accuracy
    assert again.training.checkpoint_bytes == pytest.approx(training.checkpoint_bytes, rel=0.01)
    assert again.wall_time_s > training.epochs[-1].wall_time_s  # the first job's training is still part of the bill
    assert _accuracy(spec, digits, again.checkpoint_path) == training.accuracy
    state = read_checkpoint(Path(again.checkpoint_path).parent / "state.pt")
    assert len(state["points"]) == EPOCHS  # a third promotion could go on from it


def _accuracy(spec: Any, digits: Any, checkpoint_path: str) -> float:
    """Of the checkpoint's model, counted here on one process."""
    model, example = restored_model(spec, digits.root, "cnn", Path(checkpoint_path))
    assert example.shape == (2, 1, 8, 8)
    data = ImageClassification(digits).datasets()
    with torch.no_grad():
        hits = sum(
            int((model(images).argmax(1) == labels).sum())
            for images, labels in DataLoader(data.validation, 32, collate_fn=data.collate)
        )
    return hits / len(data.validation)


def test_the_wait_for_rays_placement_group_cleaner_is_still_ours_to_shorten(cluster: Any) -> None:
    """`_Trainer` overrides a private method of Ray's; a version that moves it must fail here, not stall each run."""

    def cleaners(trainer: TorchTrainer) -> list[Any]:
        return [c for c in trainer._create_default_callbacks() if isinstance(c, PlacementGroupCleanerCallback)]

    scaling = ScalingConfig(num_workers=1)

    (shipped,) = cleaners(TorchTrainer(print, scaling_config=scaling))
    (ours,) = cleaners(_Trainer(print, scaling_config=scaling))

    assert ours._stop_timeout == 0.5 < shipped._stop_timeout


@pytest.mark.slow
def test_a_killed_rank_costs_the_epoch_in_flight_and_no_other(
    promote: Any, faulty_spec: Any, wait_for: Any, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    options = {"folder": str(marks), "fault": "wait", "at_epoch": 2}
    spec = faulty_spec(ModelSpec(name="bad", options=options))
    spec = replace(spec, training=replace(spec.training, epochs=4))

    def kill_rank_1_in_the_third_epoch() -> None:
        marker = wait_for(lambda: sorted(marks.glob("started-2-1-*")))[0]
        # A checkpoint counts once Ray's controller has registered it, a moment after the next epoch has begun.
        wait_for(lambda: any('"epoch":1' in path.read_text() for path in tmp_path.rglob("checkpoint_manager_*.json")))
        os.kill(int(marker.name.rpartition("-")[2]), signal.SIGKILL)
        (marks / "go").touch()

    killer = threading.Thread(target=kill_rank_1_in_the_third_epoch)
    killer.start()
    run, said = promote(spec, candidate("bad", 200))
    killer.join()

    epochs_of_rank_0 = sorted(int(path.name.split("-")[1]) for path in marks.glob("started-*-0-*"))
    assert epochs_of_rank_0 == [0, 1, 2, 2, 3]
    assert [line.split(":")[1] for line in said] == [" epoch 1", " epoch 2", " epoch 3", " epoch 4"]
    assert run.training.epochs_run == 4
    assert run.training.samples_seen == 800
    assert run.training.time.total_s == pytest.approx(run.training.wall_time_s, rel=0.1, abs=0.1)


@pytest.mark.slow
def test_a_task_that_keeps_raising_ends_the_full_run_with_its_reason(promote: Any, faulty_spec: Any) -> None:
    spec = faulty_spec(ModelSpec(name="bad", options={"fault": "raise", "rank": 1}))

    with pytest.raises(TaskError) as failed:
        promote(spec, candidate("bad", 200))

    told = r"full run of bad .*, 2 workers, on-demand failed: rank 1: ValueError: the labels are all wrong \(faulty_t"
    assert re.match(told, str(failed.value)), str(failed.value)
