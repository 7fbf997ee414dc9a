"""Out-of-fold probabilities: every row judged by a model that has not seen it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from orchestrator.errors import TaskError
from orchestrator.spec import ModelSpec, TrainingSpec
from orchestrator.training import out_of_fold as module
from orchestrator.training.out_of_fold import out_of_fold_probabilities
from orchestrator.training.task import Datasets, SupervisedTask

MODEL = ModelSpec(name="linear")
TRAINING = TrainingSpec(epochs=8, global_batch_size=16, learning_rate=0.05)


class Points(Dataset[Any]):
    """Points around one corner per class; a batch at a time, or one by one."""

    def __init__(self, labels: np.ndarray, batched: bool) -> None:
        rng = np.random.default_rng(0)
        self.inputs = torch.from_numpy(4 * np.eye(3)[labels] + rng.standard_normal((len(labels), 3))).float()
        self.labels = torch.from_numpy(labels)
        if batched:
            self.__getitems__ = lambda places: (self.inputs[places], self.labels[places])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.inputs[place], self.labels[place]


class Corners(SupervisedTask):
    """Three classes a linear model can tell apart; remembers what each of its models was trained on."""

    def __init__(self, n_rows: int = 120, batched: bool = True) -> None:
        self.labels = np.arange(n_rows) % 3
        self._points = Points(self.labels, batched)
        self.collate = (lambda batch: batch) if batched else None

    def datasets(self) -> Datasets:
        return Datasets(train=self._points, validation=self._points, train_labels=self.labels, collate=self.collate)

    def build_model(self, model: ModelSpec) -> nn.Module:
        return nn.Linear(3, 3)


def judge(task: SupervisedTask, datasets: Datasets | None = None, **changes: Any) -> module.OutOfFold:
    options = {"n_rows": 90, "seed": 1} | changes
    return out_of_fold_probabilities(task, datasets or task.datasets(), MODEL, TRAINING, **options)


@pytest.mark.parametrize("batched", [True, False])
def test_every_row_of_the_subset_is_judged_once_and_mostly_rightly(batched: bool) -> None:
    task = Corners(batched=batched)

    found = judge(task)

    assert found.probabilities.shape == (90, 3)
    assert found.probabilities.sum(axis=1) == pytest.approx(np.ones(90))
    assert len(set(found.places.tolist())) == 90
    assert (found.labels == task.labels[found.places]).all()
    assert found.accuracy > 0.85
    assert (found.n_folds_done, found.n_folds) == (5, 5)


def test_no_model_judges_a_row_it_was_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[set[int], set[int]]] = []
    fit, predict = module._Fold.fit, module._Fold.predict

    def watched_fit(self: Any, model: ModelSpec, places: np.ndarray, seed: int) -> None:
        seen.append((set(places.tolist()), set()))
        fit(self, model, places, seed)

    def watched_predict(self: Any, places: np.ndarray) -> np.ndarray:
        seen[-1][1].update(places.tolist())
        return predict(self, places)

    monkeypatch.setattr(module._Fold, "fit", watched_fit)
    monkeypatch.setattr(module._Fold, "predict", watched_predict)

    judge(Corners())

    assert len(seen) == 5
    for trained, judged in seen:
        assert trained.isdisjoint(judged)
        assert len(trained | judged) == 90


def test_folds_hold_all_classes_though_the_order_repeats_them_with_a_period_of_the_folds() -> None:
    labels = np.arange(500) % 10

    folds = module._folds(labels, 5, seed=0)

    counts = np.zeros((5, 10), dtype=int)
    np.add.at(counts, (folds, labels), 1)
    assert (counts == 10).all()


def test_the_same_seed_gives_the_same_probabilities() -> None:
    one, same, other = (judge(Corners(), seed=seed) for seed in (3, 3, 4))

    assert np.array_equal(one.probabilities, same.probabilities)
    assert not np.array_equal(one.places, other.places)


def test_a_subset_of_the_task_is_taken_where_it_has_one() -> None:
    task = Corners()
    datasets = Datasets(
        train=task.datasets().train, validation=task.datasets().train, train_labels=task.labels, collate=task.collate,
        subset=lambda n_rows, seed: np.arange(10, 10 + n_rows),
    )  # fmt: skip

    found = judge(task, datasets)

    assert found.places.tolist() == list(range(10, 100))


def test_when_time_is_up_whole_folds_are_left_out() -> None:
    found = judge(Corners(), max_wall_time_s=0.0)

    assert found.n_folds_done == 1
    assert len(found.places) == len(found.probabilities) == 18


def test_rows_without_classes_too_few_rows_and_outputs_that_are_no_logits_are_refused() -> None:
    task = Corners()
    points = task.datasets().train

    with pytest.raises(TaskError, match="need classes"):
        judge(task, Datasets(train=points, validation=points))
    with pytest.raises(TaskError, match="do not make 5 folds"):
        judge(task, n_rows=7)

    class Flat(Corners):
        def build_model(self, model: ModelSpec) -> nn.Module:
            return nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))

        def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return (outputs - targets.float()).square().mean()

    with pytest.raises(TaskError, match="logits of shape"):
        judge(Flat())


def test_a_training_that_diverges_says_so() -> None:
    class Wild(Corners):
        def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return super().loss(outputs, targets) * float("nan")

    with pytest.raises(TaskError, match="diverged"):
        judge(Wild())
