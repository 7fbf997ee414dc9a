"""Synthetic evidence with a known truth, for the tests of the pure core."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from orchestrator.cost.rates import RateCard, rate_card
from orchestrator.planner import plan_grid
from orchestrator.results import DataSummary, EpochPoint, TimeSplit, TrainingResult, TrialResult
from orchestrator.spec import (
    DataSpec,
    DecisionSpec,
    ExperimentSpec,
    FullRunSpec,
    ModelSpec,
    PricingSpec,
    SweepSpec,
    TrainingSpec,
    TrialSpec,
    evidence_scope,
    trial_key,
)
from orchestrator.subsets import subset_size

ErrorRate = Callable[[float], float]


def power_law(floor: float, scale: float, exponent: float) -> ErrorRate:
    """Error rate ``floor + scale * n**-exponent``."""
    return lambda n: floor + scale * n**-exponent


_DATA = DataSummary(
    fingerprint="f" * 64, source="synthetic", n_rows=12_500, n_train=10_000, n_validation=2_500,
    class_counts={str(k): 1000 for k in range(10)}, bytes_on_disk=10**7,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Synthetic:
    """A task whose learning curves and step times are known, so that a verdict can be checked against the truth."""

    error_rates: Mapping[str, ErrorRate] = field(
        default_factory=lambda: {"linear": power_law(0.15, 1.0, 0.5), "cnn": power_law(0.02, 4.0, 0.5)}
    )
    noise_std: float = 0.003
    seconds_per_sample: float = 1e-3
    data: DataSummary = _DATA

    def but(self, **changes: Any) -> Synthetic:
        return replace(self, **changes)

    def spec(
        self,
        *,
        sweep: Mapping[str, Any] | None = None,
        decision: Mapping[str, Any] | None = None,
        full_run: Mapping[str, Any] | None = None,
        pricing: PricingSpec | None = None,
        **other: Any,
    ) -> ExperimentSpec:
        values: dict[str, Any] = {
            "name": "synthetic",
            "task": "synthetic:task",
            "data": DataSpec(source="task"),
            "models": tuple(ModelSpec(name=name) for name in self.error_rates),
            "sweep": SweepSpec(**({"fractions": (0.05, 0.1, 0.2, 0.35, 0.5), "workers": (1, 2)} | dict(sweep or {}))),
            "training": TrainingSpec(epochs=5, global_batch_size=32),
            "decision": DecisionSpec(**({"min_gain_per_dollar": 0.1} | dict(decision or {}))),
            "full_run": FullRunSpec(**({"workers": (1, 2)} | dict(full_run or {}))),
            "pricing": pricing or PricingSpec(usd_per_worker_hour=1.0),
        }
        return ExperimentSpec(**(values | other))

    def rates(self, spec: ExperimentSpec) -> RateCard:
        return rate_card(spec.pricing, None, None, datetime.date(2026, 2, 1))

    def results(
        self, spec: ExperimentSpec, *, trials: Sequence[TrialSpec] | None = None, rng_seed: int = 0
    ) -> list[TrialResult]:
        return [self.result(spec, trial, rng_seed) for trial in (trials or plan_grid(spec, self.data))]

    def result(self, spec: ExperimentSpec, trial: TrialSpec, rng_seed: int = 0) -> TrialResult:
        n = subset_size(self.data.n_train, trial.fraction)
        # A seed fixes subset and weights, so that worker counts differ in time and not in accuracy.
        rng = np.random.default_rng([rng_seed, trial.seed, n, len(trial.model)])
        error = float(np.clip(self.error_rates[trial.model](n) + self.noise_std * rng.standard_normal(), 1e-6, 1))
        time = self.time(spec, n, trial.workers, np.random.default_rng([rng_seed, trial.seed, n, trial.workers]))
        return TrialResult(
            key=trial_key(spec, self.data.fingerprint, trial),
            scope=evidence_scope(spec, self.data.fingerprint, trial.model),
            fingerprint=self.data.fingerprint,
            trial=trial,
            status="finished",
            training=self.training(spec, n, error, time),
            wall_time_s=time.total_s,
            started_at="2026-02-01T00:00:00+00:00",
            cost_usd=time.total_s * trial.workers / 3600,
        )

    def time(self, spec: ExperimentSpec, n: int, workers: int, rng: np.random.Generator) -> TimeSplit:
        seen = n * spec.training.epochs
        steps = spec.training.epochs * -(-n // spec.training.global_batch_size)
        luck = float(np.exp(0.03 * rng.standard_normal()))
        return TimeSplit(
            startup_s=0.5,
            compute_s=self.seconds_per_sample * seen / workers * luck,
            data_wait_s=1e-5 * seen / workers * luck,
            gradient_sync_s=1e-3 * steps * luck if workers > 1 else 0.0,
            validation_s=1e-4 * self.data.n_validation * spec.training.epochs / workers * luck,
            checkpoint_s=0.01 * spec.training.epochs,
        )

    def training(self, spec: ExperimentSpec, n: int, error: float, time: TimeSplit) -> TrainingResult:
        epochs = spec.training.epochs
        point = EpochPoint(
            epoch=epochs, samples_seen=n * epochs, wall_time_s=time.total_s, train_loss=error, train_accuracy=1 - error,
            validation_loss=2 * error, validation_accuracy=1 - error,
        )  # fmt: skip
        return TrainingResult(
            accuracy=1 - error, loss=2 * error, train_accuracy=1 - error, train_loss=error, n_train=n,
            n_validation=self.data.n_validation, epochs_run=epochs, samples_seen=n * epochs, wall_time_s=time.total_s,
            time=time, epochs=(point,), device="cpu", checkpoint_bytes=40_000,
        )  # fmt: skip


@pytest.fixture(scope="session")
def synthetic() -> Synthetic:
    """The synthetic task; ``synthetic.but(...)`` makes a variant."""
    return Synthetic()
