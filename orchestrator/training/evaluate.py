"""A checkpoint's metrics, counted again from its weights alone: what `drill` compares with what was reported.

The count is made apart from the training loop's, over the same validation batches, so that a fault in one is not in
both.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from orchestrator.results import EpochPoint
from orchestrator.training.checkpoints import read_checkpoint
from orchestrator.training.loop import default_device, train
from orchestrator.training.request import TrainRequest
from orchestrator.training.restore import restored_model
from orchestrator.training.task import SupervisedTask, cached_task


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a checkpoint came to in the process that loaded it."""

    pid: int
    loss: float | None
    """None where only the task itself could evaluate; its state was loaded all the same."""
    accuracy: float | None
    n_rows: int
    """Validation rows."""


def evaluate_checkpoint(request: TrainRequest, weights: Path, state: Path) -> Restored:
    """Load a checkpoint into a model of this process and evaluate it on the validation split.

    A training function's model is known to itself alone: its own code is started and loads ``state``, which holds model
    and optimiser, and finds that every epoch is done.

    Args:
        request: What was trained.
        weights: The model's weights.
        state: The resumable state beside it; read for a training function only.
    Raises: TaskError: the task breaks the protocol. Whatever loading raises passes through.
    """
    task, datasets = cached_task(request.spec, request.data_root)
    n_rows = len(datasets.validation)  # type: ignore[arg-type]  # map-style data sets have a length
    if not isinstance(task, SupervisedTask):
        train(request, checkpoints=_Stored(state))
        return Restored(pid=os.getpid(), loss=None, accuracy=None, n_rows=n_rows)
    device = default_device(request.spec)
    network, _ = restored_model(request.spec, request.data_root, request.trial.model, weights)
    network.to(device)
    total_loss, hits, has_accuracy = 0.0, 0, True
    batches = DataLoader(datasets.validation, request.spec.training.global_batch_size, collate_fn=datasets.collate)
    with torch.no_grad():
        for inputs, targets in batches:
            outputs, wanted = network(inputs.to(device)), targets.to(device)
            total_loss += float(task.loss(outputs, wanted)) * len(targets)
            correct = task.correct(outputs, wanted)
            has_accuracy = has_accuracy and correct is not None
            hits += 0 if correct is None else int(correct)
    accuracy = hits / n_rows if has_accuracy else None
    return Restored(pid=os.getpid(), loss=total_loss / n_rows, accuracy=accuracy, n_rows=n_rows)


class _Stored:
    """A finished training's state, to be loaded and never written."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def save(self, state: dict[str, Any], point: EpochPoint) -> int:
        return 0

    def load(self) -> dict[str, Any] | None:
        return read_checkpoint(self._state)
