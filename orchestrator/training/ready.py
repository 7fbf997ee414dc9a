"""Rows read and decoded before the first paid second, so that a trial neither waits for storage nor for a decoder.

A data set that wants it has a method ``make_ready(places, threads) -> int``: it makes those rows quick to read and
returns the bytes it asked of the storage.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from orchestrator.results import DataRead, IngestMeasurement
from orchestrator.spec import ExperimentSpec, TrialSpec
from orchestrator.subsets import subset_size
from orchestrator.training.probe import probe
from orchestrator.training.task import SupervisedTask, cached_task


def probe_ingest(
    spec: ExperimentSpec, data_root: Path | None, model: str, n_samples: int, device: torch.device
) -> IngestMeasurement | None:
    """Measure one worker's data path and step; None for a task with a training loop of its own.

    A data set that says in ``files`` what its rows are read from has its storage measured too, by ``files_beside`` on
    the same disk where other processes keep the files in memory.
    """
    task, datasets = cached_task(spec, data_root)
    if not isinstance(task, SupervisedTask):
        return None
    return probe(
        task,
        datasets,
        spec.model(model),
        spec.training,
        device,
        rows=n_samples,
        files=getattr(datasets.train, "files", ()),
        beside=getattr(datasets.train, "files_beside", ()),
        budget_s=spec.sweep.probe_s,
        loader_workers=spec.resources.loader_workers,
    )


def make_ready(spec: ExperimentSpec, data_root: Path | None, trials: Sequence[TrialSpec]) -> DataRead | None:
    """Make the rows of these trials and of the validation split quick to read.

    Returns: What was read for it; None when the task's data sets have nothing to make ready.
    Raises: DataError: rows that cannot be read or decoded. TaskError: the task breaks the protocol.
    """
    _, datasets = cached_task(spec, data_root)
    of_train = getattr(datasets.train, "make_ready", None)
    if of_train is None or datasets.subset is None:
        return None
    begun, threads = time.perf_counter(), os.cpu_count() or 1
    n_rows = len(datasets.train)  # type: ignore[arg-type]  # map-style data sets have a length
    wanted = np.zeros(n_rows, dtype=bool)
    for fraction, seed in {(trial.fraction, trial.seed) for trial in trials}:
        wanted[datasets.subset(subset_size(n_rows, fraction), seed)] = True
    train_bytes = of_train(np.flatnonzero(wanted), threads)
    of_validation = getattr(datasets.validation, "make_ready", None)
    n_validation = len(datasets.validation)  # type: ignore[arg-type]  # map-style data sets have a length
    validation_bytes = of_validation(np.arange(n_validation), threads) if of_validation else 0
    return DataRead(
        n_rows=int(np.count_nonzero(wanted)),
        n_train=n_rows,
        train_bytes_read=train_bytes,
        validation_bytes_read=validation_bytes,
        wall_time_s=time.perf_counter() - begun,
    )
