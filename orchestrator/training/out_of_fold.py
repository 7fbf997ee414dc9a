"""Out-of-fold probabilities: what a model says of each row when it has not been trained on it.

The rows of a nested subset are dealt into k folds, class by class; each fold is predicted by a model trained on the
other k - 1. It is the input of confident learning (`quality.label_noise`), taken with the cheapest model of a config:
one process, folds in order, seeded, within a bound of seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.data import Dataset, default_collate

from orchestrator.errors import TaskError
from orchestrator.spec import ModelSpec, TrainingSpec
from orchestrator.subsets import nested_order
from orchestrator.training.task import Datasets, SupervisedTask

IntArray = npt.NDArray[np.int64]

N_FOLDS = 5
"""Each model then has four fifths of the rows, at five trainings in all (Kohavi, IJCAI 1995: 5 to 10 folds)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutOfFold:
    """Predictions for rows of the training pool; rows of folds that found no time are not in it."""

    places: IntArray
    """Position of each row in ``datasets.train``. Shape (n,)."""
    labels: npt.NDArray[np.int64]
    """Its given class. Shape (n,)."""
    probabilities: npt.NDArray[np.float64]
    """Of each class, by a model that has not seen the row; rows sum to 1. Shape (n, n_classes)."""
    model: str
    n_folds_done: int
    n_folds: int
    wall_time_s: float

    @property
    def accuracy(self) -> float:
        """Share of rows whose given label is the likeliest."""
        return float((self.probabilities.argmax(axis=1) == self.labels).mean())


def out_of_fold_probabilities(
    task: SupervisedTask,
    datasets: Datasets,
    model: ModelSpec,
    training: TrainingSpec,
    *,
    n_rows: int,
    seed: int = 0,
    fingerprint: str = "",
    n_folds: int = N_FOLDS,
    max_wall_time_s: float | None = None,
    device: torch.device | None = None,
    n_threads: int | None = None,
) -> OutOfFold:
    """Train ``n_folds`` models on a nested subset of the training pool and predict what each has not seen.

    Args:
        task: Builds the model; its outputs are logits, shape (batch, n_classes).
        datasets: Of the task; ``train_labels`` must be there.
        model: Usually the cheapest of the config.
        training: Epochs, batch and rate; early stopping is not applied, because it would look at the fold.
        n_rows: Rows of the subset, at most those of the training pool.
        seed: Moves subset, folds, weights and batches.
        fingerprint: Of the data, for tasks whose rows do not lie in nested order.
        n_folds: Folds, at least 2.
        max_wall_time_s: No fold is begun that would end later, judged by the longest so far; the first is always
            trained. None knows no bound.
        device: Where to train; None is the CPU.
        n_threads: Of torch; as many as a worker has cores, for more make small models several times slower on a busy
            machine. None leaves them as they are.
    Raises: TaskError: There are no labels, too few rows, or training diverged.
    """
    started = time.perf_counter()
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    places, labels = _subset(datasets, n_rows, seed, fingerprint)
    if n_folds < 2 or len(places) < 2 * n_folds:
        raise TaskError(f"out-of-fold predictions: {len(places)} rows do not make {n_folds} folds; give more rows")
    fold_of = _folds(labels, n_folds, seed)
    held_out: list[IntArray] = []
    predicted: list[npt.NDArray[np.float64]] = []
    longest_s = 0.0
    for fold in range(n_folds):
        begun = time.perf_counter()
        if predicted and max_wall_time_s is not None and begun - started + longest_s > max_wall_time_s:
            break
        trainer = _Fold(task, datasets, training, device or torch.device("cpu"))
        rows = np.flatnonzero(fold_of == fold)
        trainer.fit(model, places[fold_of != fold], seed * n_folds + fold)
        predicted.append(trainer.predict(places[rows]))
        held_out.append(rows)
        longest_s = max(longest_s, time.perf_counter() - begun)
    rows = np.concatenate(held_out)
    in_order = np.argsort(rows, kind="stable")
    return OutOfFold(
        places=places[rows[in_order]],
        labels=labels[rows[in_order]],
        probabilities=np.concatenate(predicted)[in_order],
        model=model.name,
        n_folds_done=len(predicted),
        n_folds=n_folds,
        wall_time_s=time.perf_counter() - started,
    )


def _subset(datasets: Datasets, n_rows: int, seed: int, fingerprint: str) -> tuple[IntArray, npt.NDArray[np.int64]]:
    """Places of a nested subset and the labels there. Raises TaskError."""
    if datasets.train_labels is None:
        raise TaskError("out-of-fold predictions need classes: Datasets.train_labels is None")
    labels = np.asarray(datasets.train_labels)
    n = min(n_rows, len(labels))
    if datasets.subset is not None:
        places = np.asarray(datasets.subset(n, seed))
    else:
        places = nested_order(labels, fingerprint=fingerprint, seed=seed)[:n]
    return places, labels[places].astype(np.int64)


def _folds(labels: npt.NDArray[np.int64], n_folds: int, seed: int) -> IntArray:
    """Fold of each row, every class spread evenly. Shape (n,).

    Counting along the rows would not do: nested order repeats its classes with a period, and a period that shares a
    factor with the number of folds leaves classes out of folds.
    """
    shuffled = np.random.default_rng([seed, n_folds]).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    folds = np.empty(len(labels), dtype=np.int64)
    folds[by_class] = np.arange(len(labels)) % n_folds
    return folds


class _Fold:
    """One model of one fold."""

    def __init__(self, task: SupervisedTask, datasets: Datasets, training: TrainingSpec, device: torch.device) -> None:
        self._task, self._training, self._device = task, training, device
        self._read = _batch_reader(datasets)

    def fit(self, model: ModelSpec, places: IntArray, seed: int) -> None:
        """Train on these rows for all epochs of the config. Raises TaskError: the loss is no number."""
        torch.manual_seed(seed)
        batch = self._training.global_batch_size
        self._network: nn.Module = self._task.build_model(model).to(self._device)
        steps = -(-len(places) // batch) * self._training.epochs
        optimizer, schedule = self._task.optimizer(self._network, self._training, steps)
        self._network.train()
        loss = torch.zeros(())
        for epoch in range(self._training.epochs):
            order = np.random.default_rng([seed, epoch]).permutation(len(places))
            for inputs, targets in self._batches(places[order], batch):
                loss = self._task.loss(self._network(inputs), targets)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                if schedule is not None:
                    schedule.step()
        if not torch.isfinite(loss):
            raise TaskError(
                f"out-of-fold predictions: training of {model.name} diverged (loss {loss.item()}); "
                f"lower training.learning_rate (now {self._training.learning_rate:g})"
            )

    @torch.no_grad()
    def predict(self, places: IntArray) -> npt.NDArray[np.float64]:
        """Softmax of the outputs. Shape (len(places), n_classes)."""
        self._network.eval()
        batches = self._batches(places, self._training.global_batch_size)
        outputs = torch.cat([self._network(inputs).double().cpu() for inputs, _ in batches])
        if outputs.ndim != 2:
            raise TaskError(f"out-of-fold predictions need logits of shape (batch, classes), got {list(outputs.shape)}")
        return np.asarray(torch.softmax(outputs, dim=1).numpy())

    def _batches(self, places: IntArray, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start in range(0, len(places), size):
            inputs, targets = self._read(places[start : start + size])
            yield inputs.to(self._device), targets.to(self._device)


def _batch_reader(datasets: Datasets) -> Callable[[IntArray], Any]:
    """Places to a collated batch, in one go where the data set can."""
    dataset: Dataset[Any] = datasets.train
    collate = datasets.collate or default_collate
    whole = getattr(dataset, "__getitems__", None)
    if whole is not None:
        return lambda places: collate(whole(places))
    return lambda places: collate([dataset[place] for place in places.tolist()])
