"""Draws of how long a full run takes, from the trials of its model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.curves.worker_scaling import TimeModel, diagnose_scaling, fit_time_model
from orchestrator.evidence import time_measurements
from orchestrator.intervals import FloatArray
from orchestrator.results import ScalingDiagnosis, TrialResult
from orchestrator.spec import ExperimentSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeDraws:
    """Seconds of the full run, shape (n,) each."""

    training_s: FloatArray
    """Without start-up."""
    startup_s: FloatArray
    checkpoint_s: FloatArray
    """All checkpoints together."""
    epochs: FloatArray


def fit_time(own: Sequence[TrialResult], spec: ExperimentSpec) -> TimeModel:
    """The time model of one model's trials. Raises EvidenceError: a time that cannot be."""
    return fit_time_model(time_measurements(own, spec.training.global_batch_size))


def scaling_of(spec: ExperimentSpec, own: Sequence[TrialResult], model: TimeModel, n_samples: int) -> ScalingDiagnosis:
    """At the full run's size and a typical number of epochs, for the candidates' and the trials' worker counts."""
    epochs = draw_epochs(spec, own, np.random.default_rng(0), 101)
    return diagnose_scaling(
        model,
        n_samples=n_samples,
        epochs=round(float(np.median(epochs))),
        global_batch_size=spec.training.global_batch_size,
        candidates=sorted({*spec.full_run.workers, *model.workers}),
    )


def draw_epochs(spec: ExperimentSpec, own: Sequence[TrialResult], rng: np.random.Generator, size: int) -> FloatArray:
    """Epochs of the full run: as configured, or with early stopping as the trials of the two largest sizes needed.

    That the largest trials' epochs carry over to more data is an assumption: more rows usually need no more epochs.
    """
    if spec.training.early_stopping is None:
        return np.full(size, float(spec.training.epochs))
    runs = [result.training for result in own if result.training is not None]
    largest = sorted({training.n_train for training in runs})[-2:]
    measured = [training.epochs_run for training in runs if training.n_train in largest]
    return rng.choice(np.array(measured, dtype=np.float64), size=size)


def draw_time(
    spec: ExperimentSpec,
    model: TimeModel,
    n_samples: int,
    workers: int,
    epochs: FloatArray,
    rng: np.random.Generator,
) -> TimeDraws:
    """Draws of the time, each with its own number of epochs."""
    training, startup, checkpoint = (np.empty(len(epochs)) for _ in range(3))
    for count in np.unique(epochs):
        chosen = epochs == count
        samples = model.sample(
            n_samples=n_samples, epochs=int(count), global_batch_size=spec.training.global_batch_size, workers=workers,
            rng=rng, size=int(chosen.sum()),
        )  # fmt: skip
        training[chosen] = samples.total_s - samples.startup_s
        startup[chosen] = samples.startup_s
        checkpoint[chosen] = samples.checkpoint_s
    return TimeDraws(training_s=training, startup_s=startup, checkpoint_s=checkpoint, epochs=epochs)
