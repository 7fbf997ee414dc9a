"""One rank's training: what it is shown, what it reports, where its time goes."""

from __future__ import annotations

import copy
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import TensorDataset

from orchestrator.errors import TaskError
from orchestrator.results import EpochPoint, TrainingResult
from orchestrator.spec import EarlyStoppingSpec, ModelSpec, TrainingSpec
from orchestrator.training.batches import ShardedBatches, steps_per_epoch
from orchestrator.training.checkpoints import MemoryCheckpoints, read_checkpoint, write_checkpoint
from orchestrator.training.run import TrainingRun
from orchestrator.training.task import Datasets

N_ROWS = 100


def batches_of(rank: int, world_size: int, *, n_rows: int = N_ROWS, batch: int = 16, epoch: int = 0) -> list[set[int]]:
    sampler = ShardedBatches(n_rows, batch, rank, world_size, seed=7, epoch=epoch)
    return [set(rows.tolist()) for rows in sampler]


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_a_step_sees_the_same_rows_whatever_the_number_of_workers(world_size: int) -> None:
    alone = batches_of(0, 1)[:-1]  # the last, smaller batch may lose fewer rows than there are ranks

    shares = zip(*(batches_of(rank, world_size) for rank in range(world_size)), strict=True)

    assert [set.union(*share) for share in shares][: len(alone)] == alone


@pytest.mark.parametrize(
    ("n_rows", "batch", "world_size"), [(100, 16, 3), (5, 8, 2), (17, 16, 2), (16, 16, 4), (3, 8, 4)]
)
def test_every_rank_takes_the_same_number_of_steps(n_rows: int, batch: int, world_size: int) -> None:
    steps = {len(batches_of(rank, world_size, n_rows=n_rows, batch=batch)) for rank in range(world_size)}

    assert steps == {steps_per_epoch(n_rows, batch, world_size)}


def test_one_worker_sees_every_row_once_per_epoch_in_an_order_that_changes() -> None:
    first, second = batches_of(0, 1, epoch=0), batches_of(0, 1, epoch=1)

    assert sorted(row for rows in first for row in rows) == list(range(N_ROWS))
    assert first != second


def shares(labels: np.ndarray, batch: int, world_size: int) -> list[list[np.ndarray]]:
    """What each rank sees of each step."""
    per_rank = [list(ShardedBatches(len(labels), batch, rank, world_size, 7, 0, labels)) for rank in range(world_size)]
    return [list(step) for step in zip(*per_rank, strict=True)]


@given(n_rows=st.integers(1, 120), n_classes=st.integers(1, 9), batch=st.integers(1, 40), world_size=st.integers(1, 7))
@settings(deadline=None)
def test_a_step_is_dealt_out_evenly_in_rows_and_in_classes(
    n_rows: int, n_classes: int, batch: int, world_size: int
) -> None:
    labels = np.random.default_rng(n_rows).integers(0, n_classes, n_rows).astype(np.uint8)

    for step in shares(labels, max(batch, world_size), world_size):
        sizes = [len(rows) for rows in step]
        counts = np.array([np.bincount(labels[rows], minlength=n_classes) for rows in step])
        assert max(sizes) - min(sizes) <= 1
        assert (counts.max(axis=0) - counts.min(axis=0) <= 1).all()
        assert len(set(np.concatenate(step).tolist())) == sum(sizes)


def test_classes_do_not_change_which_rows_a_step_sees() -> None:
    labels = np.arange(N_ROWS) % 3

    with_classes = [set(np.concatenate(step).tolist()) for step in shares(labels, 16, 4)]

    assert with_classes == [set.union(*step) for step in zip(*(batches_of(r, 4) for r in range(4)), strict=True)]


def test_an_epoch_that_is_resumed_goes_on_at_its_step() -> None:
    whole = list(ShardedBatches(N_ROWS, 16, 1, 2, seed=7, epoch=3))
    resumed = ShardedBatches(N_ROWS, 16, 1, 2, seed=7, epoch=3, first_step=4)

    assert len(resumed) == len(whole) - 4
    assert [rows.tolist() for rows in resumed] == [rows.tolist() for rows in whole[4:]]


class StateKeeper:
    """Keeps checkpoints in memory and hands the last one back."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        self.state = state
        self.epochs: list[int] = []

    def save(self, state: dict[str, Any], point: EpochPoint) -> int:
        self.state = copy.deepcopy(state)
        self.epochs.append(point.epoch)
        return 1

    def load(self) -> dict[str, Any] | None:
        return self.state


@pytest.fixture
def make_run() -> Callable[..., TrainingRun]:
    def make(checkpoints: Any = None, **training: Any) -> TrainingRun:
        torch.manual_seed(0)
        rows = TensorDataset(torch.randn(N_ROWS, 4), torch.arange(N_ROWS) % 2)
        return TrainingRun(
            model=ModelSpec(name="m"),
            training=TrainingSpec(**({"epochs": 4, "global_batch_size": 16} | training)),
            fraction=0.5,
            seed=1,
            fingerprint="abc",
            datasets=Datasets(train=rows, validation=rows, train_labels=rows.tensors[1].numpy()),
            checkpoints=checkpoints or MemoryCheckpoints(),
            device=torch.device("cpu"),
        )

    return make


def train(run: TrainingRun, validation_losses: list[float]) -> TrainingResult:
    """A loop that really steps, and reports the given validation losses."""
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    parallel = run.prepare(model, optimizer)
    loader = run.loader(run.subset(run._datasets.train))
    for epoch in run.epochs():
        for inputs, targets in loader:
            loss = nn.functional.cross_entropy(parallel(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        run.report(train_loss=loss.item(), validation_loss=validation_losses[epoch])
    return run.finish()


def test_the_result_counts_rows_epochs_and_the_subset(make_run: Callable[..., TrainingRun]) -> None:
    result = train(make_run(), [0.9, 0.8, 0.7, 0.75])

    assert (result.n_train, result.n_validation, result.epochs_run, result.samples_seen) == (50, 100, 4, 200)
    assert result.loss == 0.75
    assert [point.samples_seen for point in result.epochs] == [50, 100, 150, 200]
    assert result.accuracy is None


def test_the_parts_of_the_time_add_up_to_the_wall_time(make_run: Callable[..., TrainingRun]) -> None:
    result = train(make_run(), [0.9] * 4)

    # What is left out lies between the last report and finish, a few lines of Python.
    assert result.time.total_s == pytest.approx(result.wall_time_s, rel=0.05, abs=0.01)
    assert result.time.gradient_sync_s == 0
    assert min(result.time.compute_s, result.time.data_wait_s, result.time.startup_s, result.time.checkpoint_s) > 0


def test_early_stopping_ends_after_its_patience_and_keeps_the_best_epoch(make_run: Callable[..., TrainingRun]) -> None:
    run = make_run(early_stopping=EarlyStoppingSpec(patience=2), epochs=10)

    result = train(run, [0.9, 0.5, 0.6, 0.7, 0.1])

    assert result.epochs_run == 4
    assert result.loss == 0.5


def test_a_resumed_training_goes_on_with_the_next_epoch_and_the_same_weights(
    make_run: Callable[..., TrainingRun],
) -> None:
    losses = [0.9, 0.8, 0.7, 0.6]
    whole = make_run()
    train(whole, losses)
    interrupted = StateKeeper()
    with pytest.raises(IndexError):
        train(make_run(interrupted), losses[:2])  # the third epoch cannot be reported: a crash
    resumed = make_run(StateKeeper(interrupted.state))

    result = train(resumed, losses)

    assert result.epochs_run == 4
    assert [point.validation_loss for point in result.epochs] == losses
    for name, weights in whole.final_model_state().items():
        torch.testing.assert_close(resumed.final_model_state()[name], weights)


def test_a_resumed_training_accounts_for_all_of_its_time_and_its_checkpoint(
    make_run: Callable[..., TrainingRun],
) -> None:
    losses, interrupted = [0.9, 0.8, 0.7, 0.6], StateKeeper()
    before = train(make_run(interrupted), losses)

    again = train(make_run(StateKeeper(interrupted.state)), losses)  # nothing is left to train

    assert again.epochs == before.epochs
    assert again.wall_time_s >= before.epochs[-1].wall_time_s
    assert again.time.total_s == pytest.approx(again.wall_time_s, rel=0.05, abs=0.01)
    assert again.time.compute_s == before.time.compute_s
    assert again.checkpoint_bytes > 0


def test_a_diverged_loss_is_refused_with_the_learning_rate(make_run: Callable[..., TrainingRun]) -> None:
    with pytest.raises(TaskError, match=r"validation loss is nan after epoch 1: training diverged; lower .*0\.003"):
        train(make_run(), [0.9, float("nan")])


def test_a_training_function_that_forgets_to_report_is_told_so(make_run: Callable[..., TrainingRun]) -> None:
    run = make_run()

    with pytest.raises(TaskError, match="report once per epoch"):
        for _ in run.epochs():
            pass
    with pytest.raises(TaskError, match="report once per epoch"):
        make_run().finish()


def test_a_checkpoint_comes_back_as_it_was_and_leaves_no_partial_file(tmp_path: Any) -> None:
    state = {"weights": torch.arange(3.0), "points": [{"epoch": 0}]}

    written = write_checkpoint(state, tmp_path / "state.pt")

    assert written == (tmp_path / "state.pt").stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
    torch.testing.assert_close(read_checkpoint(tmp_path / "state.pt")["weights"], state["weights"])


def test_a_checkpoint_that_holds_code_is_refused(tmp_path: Any) -> None:
    torch.save({"weights": pytest.approx}, tmp_path / "evil.pt")

    with pytest.raises(Exception, match=r"weights_only|Weights only"):
        read_checkpoint(tmp_path / "evil.pt")


def test_loader_processes_bring_the_same_batches_in_the_same_order(make_run: Callable[..., TrainingRun]) -> None:
    seen: dict[int, list[list[float]]] = {}
    for loader_workers in (0, 2):
        run = make_run(epochs=2)
        run.loader_workers = loader_workers
        loader = run.loader(run.subset(run._datasets.train))
        seen[loader_workers] = []
        for run.epoch in (0, 1):
            seen[loader_workers] += [inputs[:, 0].tolist() for inputs, _ in loader]
        run.close()

    assert len(seen[0]) == 2 * len(loader)
    assert seen[2] == seen[0]


def test_data_in_nested_order_say_themselves_which_rows_a_subset_holds(make_run: Callable[..., TrainingRun]) -> None:
    run = make_run()
    run._datasets = replace(run._datasets, subset=lambda n_samples, seed: np.arange(n_samples) + seed)

    rows = run.subset(run._datasets.train)

    assert rows.places.tolist() == list(range(1, 51))
    assert rows.labels is not None
    assert rows.labels.tolist() == [place % 2 for place in range(1, 51)]
    assert torch.equal(rows[3][0], run._datasets.train[4][0])


def test_every_epoch_of_a_loader_is_shuffled_anew(make_run: Callable[..., TrainingRun]) -> None:
    run = make_run()
    loader = run.loader(run.subset(run._datasets.train))
    orders = []
    for run.epoch in (0, 1):
        orders.append(torch.cat([inputs[:, 0] for inputs, _ in loader]).tolist())

    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]


def test_a_closed_loader_leaves_no_process_behind(make_run: Callable[..., TrainingRun]) -> None:
    run = make_run()
    run.loader_workers = 2
    loader = run.loader(run.subset(run._datasets.train))
    next(iter(loader))
    during = len(multiprocessing.active_children())
    run.close()

    assert during == 2
    assert multiprocessing.active_children() == []
