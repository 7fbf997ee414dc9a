"""A small task whose training goes wrong where a model's options say; named ``faulty_task:make_task`` in a spec.

Options:
    folder          where markers are left: ``started-<epoch>-<rank>-<pid>``, one file per epoch that a process trains
    fault           ``raise``: a `ValueError`; ``wait``: sleep until ``folder/go`` exists; absent: nothing
    at_epoch        epoch of the fault, 0 if not said
    rank            rank of the fault, all if not said
    seed            seed of the trials that are struck, all if not said
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from orchestrator.training.run import TrainingRun
from orchestrator.training.task import Datasets, TaskContext, TrainingFunction

MAX_WAIT_S = 300.0


def make_task(context: TaskContext) -> TrainingFunction:
    """Two clouds of points that a line separates."""
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 2
    points = rng.normal(size=(240, 4)) + 2.0 * labels[:, None]
    rows = TensorDataset(torch.tensor(points, dtype=torch.float32), torch.tensor(labels))
    train_set, validation_set = (TensorDataset(*rows[part]) for part in (slice(0, 200), slice(200, 240)))
    return TrainingFunction(
        train=train, datasets=Datasets(train=train_set, validation=validation_set, train_labels=labels[:200])
    )


def train(run: TrainingRun) -> None:
    datasets = run._datasets
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    parallel = run.prepare(model, optimizer)
    loader = run.loader(run.subset(datasets.train))
    for epoch in run.epochs():
        leave_marker(run, epoch)
        go_wrong(run, epoch)
        for points, labels in loader:
            loss = nn.functional.cross_entropy(parallel(points), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        points, labels = datasets.validation.tensors
        with torch.no_grad():
            outputs = model(points)
        run.report(
            train_loss=loss.item(),
            validation_loss=nn.functional.cross_entropy(outputs, labels).item(),
            validation_accuracy=(outputs.argmax(1) == labels).float().mean().item(),
        )


def leave_marker(run: TrainingRun, epoch: int) -> None:
    if "folder" in run.options:
        Path(str(run.options["folder"]), f"started-{epoch}-{run.rank}-{os.getpid()}").touch()


def go_wrong(run: TrainingRun, epoch: int) -> None:
    options = run.options
    is_struck = (
        epoch == options.get("at_epoch", 0)
        and run.rank == options.get("rank", run.rank)
        and run.seed == options.get("seed", run.seed)
    )
    if is_struck and options.get("fault") == "raise":
        raise ValueError("the labels are all wrong")
    if is_struck and options.get("fault") == "wait":
        deadline = time.monotonic() + MAX_WAIT_S
        while not Path(str(options["folder"]), "go").exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody wrote {options['folder']}/go")
            time.sleep(0.02)
