"""The protocol between the orchestrator and training code, ours or the user's.

`task: package.module:function` in a config names a function that takes a `TaskContext` and returns either

* a `SupervisedTask` (subclass it: data sets and a model; loss, metric and optimiser have defaults), trained by
  `training.loop`, or
* a `TrainingFunction`: the user's own loop, which takes a `TrainingRun` and reports after every epoch.

Both run unchanged in a sweep trial on one worker and in the full run on many.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.utils.data import Dataset

from orchestrator.data.prepared import PreparedData, open_prepared
from orchestrator.errors import TaskError
from orchestrator.spec import ExperimentSpec, ModelSpec, TrainingSpec, digest
from orchestrator.subsets import IntArray

if TYPE_CHECKING:
    from orchestrator.training.run import TrainingRun


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """What a task factory is told."""

    spec: ExperimentSpec
    data: PreparedData | None
    """The prepared source; None when the config says ``data.source: task``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Datasets:
    """Map-style data sets of a task.

    A data set whose ``__getitems__`` returns a whole batch sets ``collate`` to the identity and is read in one go.
    """

    train: Dataset[Any]
    validation: Dataset[Any]
    train_labels: np.ndarray | None = None
    """Class of each training row, shape (n_train,), integers; None for targets without classes."""
    collate: Callable[[Any], Any] | None = None
    subset: Callable[[int, int], IntArray] | None = None
    """Rows of a nested subset, from its size and a seed, for data that are stored in a nested order; None has one made
    from ``train_labels``."""


class SupervisedTask(ABC):
    """Data sets and a model; the loop is ours. Override what differs from plain classification."""

    @abstractmethod
    def datasets(self) -> Datasets:
        """The training pool (fraction 1.0) and the fixed validation split."""

    @abstractmethod
    def build_model(self, model: ModelSpec) -> nn.Module:
        """A fresh model with random weights. Raises TaskError: unknown name or option."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss over the batch; cross-entropy unless overridden."""
        return nn.functional.cross_entropy(outputs, targets)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """How many of the batch are right, as a scalar tensor; None for tasks without an accuracy."""
        return (outputs.argmax(dim=1) == targets).sum()

    def optimizer(
        self, model: nn.Module, training: TrainingSpec, total_steps: int
    ) -> tuple[Optimizer, LRScheduler | None]:
        """Optimiser and per-step schedule: AdamW under a one-cycle schedule (Smith & Topin 2018) unless overridden.

        Early stopping takes a constant rate: a schedule planned to the last step is no use when steps are left out.
        """
        optimizer = torch.optim.AdamW(model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
        if training.early_stopping is not None:
            return optimizer, None
        # OneCycleLR divides by zero for runs of fewer than four steps.
        return optimizer, OneCycleLR(optimizer, max_lr=training.learning_rate, total_steps=max(total_steps, 4) + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFunction:
    """The user's own loop: ``train(run)`` reports through the run; ``datasets`` tells what its data is."""

    train: Callable[[TrainingRun], None]
    datasets: Datasets


Task = SupervisedTask | TrainingFunction


def load_task(context: TaskContext) -> Task:
    """Import and call the function that ``spec.task`` names.

    Raises: TaskError: it cannot be imported, is not there, or returns something else than a task.
    """
    module_name, _, function_name = context.spec.task.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise TaskError(
            f"task {context.spec.task!r}: cannot import {module_name}: {error}; "
            "the module must be importable from the folder the command runs in"
        ) from error
    factory = getattr(module, function_name, None)
    if not callable(factory):
        own = (name for name, value in vars(module).items() if getattr(value, "__module__", None) == module_name)
        found = ", ".join(name for name in own if not name.startswith("_")) or "none"
        raise TaskError(f"task {context.spec.task!r}: {module_name} has no function {function_name!r}; it has: {found}")
    task = factory(context)
    if not isinstance(task, SupervisedTask | TrainingFunction):
        raise TaskError(
            f"task {context.spec.task!r} returned {type(task).__name__}; return a SupervisedTask or a TrainingFunction"
        )
    return task


def accepted_options(model: ModelSpec, accepted: Iterable[str]) -> dict[str, Any]:
    """The model's options, after refusing those its builder does not know. Raises TaskError."""
    unknown = sorted(set(model.options) - set(accepted))
    if unknown:
        known = ", ".join(sorted(accepted)) or "none"
        raise TaskError(f"models: {model.name} does not take {', '.join(unknown)}; its options are: {known}")
    return dict(model.options)


_open_tasks: dict[str, tuple[Task, Datasets]] = {}


def cached_task(spec: ExperimentSpec, data_root: Path | None) -> tuple[Task, Datasets]:
    """Task and data sets, built once per process and data: a warm worker opens them for its first trial only."""
    key = digest([spec.task, asdict(spec.data), str(data_root)])
    if key not in _open_tasks:
        data = spec.data
        prepared = open_prepared(data_root, image=data.image, image_size=data.image_size) if data_root else None
        task = load_task(TaskContext(spec=spec, data=prepared))
        _open_tasks[key] = (task, task.datasets() if isinstance(task, SupervisedTask) else task.datasets)
    return _open_tasks[key]
