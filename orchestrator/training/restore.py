"""A trained model back from its checkpoint, for the registry and for whoever wants to serve it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from orchestrator.errors import TaskError
from orchestrator.spec import ExperimentSpec
from orchestrator.training.checkpoints import read_checkpoint
from orchestrator.training.task import SupervisedTask, cached_task


def restored_model(
    spec: ExperimentSpec, data_root: Path | None, model: str, checkpoint: Path
) -> tuple[nn.Module, object]:
    """The network with its trained weights in evaluation mode, and validation rows as an input example.

    Raises: TaskError: the task is a training function, which does not say how its model is built.
    """
    task, datasets = cached_task(spec, data_root)
    if not isinstance(task, SupervisedTask):
        raise TaskError(
            f"task {spec.task!r} is a training function: only it knows how to build the model, so the registry cannot; "
            f"the weights are in {checkpoint}"
        )
    network = task.build_model(spec.model(model))
    network.load_state_dict(read_checkpoint(checkpoint))
    network.eval()
    # Two rows: a graph that is exported with a batch of one takes batches of one for ever.
    rows = Subset(datasets.validation, range(min(2, len(datasets.validation))))  # type: ignore[arg-type]  # map-style
    inputs, _ = next(iter(DataLoader(rows, batch_size=2, collate_fn=datasets.collate)))
    return network, inputs.numpy() if isinstance(inputs, torch.Tensor) else inputs
