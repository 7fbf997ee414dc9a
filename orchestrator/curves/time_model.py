"""Run time of a training on w workers, from split times: what is extrapolated, and how surely.

    total = start-up + [compute(w) + data_wait(w)] * samples / w + sync(w) * steps
            + [validation / w + checkpoint] * epochs

compute and data_wait are seconds of one worker per sample and may differ by w (workers on one machine share it); sync
is seconds per optimiser step, 0 on one worker. These rates say how a run's steady time divides into phases, and what
another batch size changes. How long it is in all comes from the steady seconds per sample, fitted jointly over data
sizes and worker counts with run noise (`size_effect`), and at a count that was not measured from `speedup`, the same
forecast that `worker_scaling.forecast` gives. There sync goes as a ring all-reduce, (w - 1) / w (Patarasuk and Yuan
2009), and a data wait that grew over the measured counts goes on growing, as one source shared by all workers makes it;
the forecast is never below these two. Start-up is paid once a run and never extrapolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit

from orchestrator.curves.power_law import FloatArray
from orchestrator.curves.size_effect import SizeEffect, fit_size_effect
from orchestrator.curves.speedup import sample_log_seconds
from orchestrator.errors import EvidenceError, UnderdeterminedFitError
from orchestrator.results import Bottleneck

Steady = Literal["compute_s", "data_wait_s", "gradient_sync_s"]
_STEADY: dict[Steady, Bottleneck] = {
    "compute_s": "compute",
    "data_wait_s": "data wait",
    "gradient_sync_s": "gradient sync",
}
_STARTUP_NOISE = 0.5
"""Run-to-run deviation of log start-up when no replicates tell: about the median over 110 groups of replicated trials,
where it was 0.25 in the shortest trials and 0.4 to 0.7 in the others."""
_STARTUP_NOISE_DOF = 2.0
"""What that prior weighs beside replicates; low, so that a few of them overrule it."""
_HALF = np.array([0.5])


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeMeasurement:
    """Where the time of one finished training went; seconds on the slowest rank."""

    n_samples: int
    """Rows of the subset."""
    samples_seen: int
    """Rows processed over all epochs and workers."""
    epochs: int
    workers: int
    steps: int
    """Optimiser steps over all epochs."""
    startup_s: float
    compute_s: float
    data_wait_s: float
    gradient_sync_s: float
    validation_s: float
    checkpoint_s: float

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            least = 0.0 if f.name.endswith("_s") else 1.0
            if not (np.isfinite(value) and value >= least):
                raise EvidenceError(f"{f.name} must be finite and at least {least:g}, got {value}; leave that run out")
        if self.compute_s == 0:
            raise EvidenceError("compute_s must be above 0, got 0; a run without compute says nothing about time")

    @property
    def steady_s_per_sample(self) -> float:
        return (self.compute_s + self.data_wait_s + self.gradient_sync_s) / self.samples_seen


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSamples:
    """Joint draws of a new run's seconds, per phase; arrays of shape (size,)."""

    startup_s: FloatArray
    compute_s: FloatArray
    data_wait_s: FloatArray
    gradient_sync_s: FloatArray
    validation_s: FloatArray
    checkpoint_s: FloatArray

    @property
    def total_s(self) -> FloatArray:
        total: FloatArray = np.sum([getattr(self, f.name) for f in fields(self)], axis=0)
        return total


class Rates(NamedTuple):
    """Expected costs at one worker count."""

    startup_s: float
    compute_s: float
    """Of one worker, per sample."""
    data_wait_s: float
    """Of one worker, per sample."""
    gradient_sync_s: float
    """Per optimiser step."""
    validation_s: float
    """Per epoch, on that many workers together."""
    checkpoint_s: float
    """Per epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeModel:
    """Costs by measured worker count, with noise and a diagnosis."""

    rates: dict[int, Rates]
    cost: SizeEffect
    """Steady seconds per sample, on all workers together."""
    startup_std: float
    """Run-to-run deviation of log start-up, of a normal as wide at 90% as Student's t of what is known."""
    samples_per_step: float
    """Rows per optimiser step in the measurements, the batch that ``cost`` was measured with."""
    diagnosis: tuple[str, ...]
    """Any of single-measurement, single-worker-count, no-replicates; empty when there is nothing to say."""

    @property
    def workers(self) -> tuple[int, ...]:
        """Measured worker counts, rising."""
        return tuple(sorted(self.rates))

    def sample(
        self, *, n_samples: int, epochs: int, global_batch_size: int, workers: int, rng: np.random.Generator, size: int
    ) -> TimeSamples:
        """Draw the seconds of a new run.

        Args:
            n_samples: Rows of the training set.
            epochs: Passes over it.
            global_batch_size: Rows per optimiser step over all workers.
            workers: Worker count, measured or not.
            rng: Source of randomness.
            size: Number of draws.
        Raises: EvidenceError: A count below 1.
        """
        _at_least_one(
            n_samples=n_samples, epochs=epochs, global_batch_size=global_batch_size, workers=workers, size=size
        )
        typical = self._typical(n_samples, epochs, global_batch_size, workers)
        luck = np.exp(self._log_luck(workers, n_samples, rng, size))
        scaling = np.exp(self._log_scaling(workers, rng.random(size)))
        steady = self._steady(typical, luck * np.exp(self._log_size_pace(workers, n_samples)), scaling, workers)
        return TimeSamples(
            startup_s=typical["startup_s"] * np.exp(self.startup_std * rng.standard_normal(size)),
            compute_s=steady["compute_s"],
            data_wait_s=steady["data_wait_s"],
            gradient_sync_s=steady["gradient_sync_s"],
            validation_s=typical["validation_s"] * scaling * luck,
            checkpoint_s=typical["checkpoint_s"] * luck,
        )

    def steady_medians(
        self, *, n_samples: int, epochs: int, global_batch_size: float, workers: int
    ) -> dict[Bottleneck, float]:
        """Seconds of compute, data wait and gradient sync of a typical run. Raises EvidenceError: a count below 1."""
        _at_least_one(n_samples=n_samples, epochs=epochs, global_batch_size=global_batch_size, workers=workers)
        typical = self._typical(n_samples, epochs, global_batch_size, workers)
        pace = np.exp(np.array([self._log_size_pace(workers, n_samples)]))
        steady = self._steady(typical, pace, np.exp(self._log_scaling(workers, _HALF)), workers)
        return {name: float(steady[phase][0]) for phase, name in _STEADY.items()}

    def median_total_s(self, *, n_samples: int, epochs: int, global_batch_size: int, workers: int) -> float:
        """Seconds of a typical run, start-up included. Raises EvidenceError: a count below 1."""
        run = {"n_samples": n_samples, "epochs": epochs, "global_batch_size": global_batch_size, "workers": workers}
        return sum(self.steady_medians(**run).values()) + sum(self.other_medians(**run).values())

    def other_medians(
        self, *, n_samples: int, epochs: int, global_batch_size: int, workers: int
    ) -> dict[Literal["startup", "validation", "checkpoint"], float]:
        """Seconds of a typical run outside its steps. Raises EvidenceError: a count below 1."""
        _at_least_one(n_samples=n_samples, epochs=epochs, global_batch_size=global_batch_size, workers=workers)
        typical = self._typical(n_samples, epochs, global_batch_size, workers)
        scaling = float(np.exp(self._log_scaling(workers, _HALF))[0])
        return {
            "startup": typical["startup_s"],
            "validation": typical["validation_s"] * scaling,
            "checkpoint": typical["checkpoint_s"],
        }

    def bottleneck(self, workers: int) -> Bottleneck:
        """The largest steady phase on that many workers, at the measured batch size. Raises EvidenceError."""
        phases = self.steady_medians(
            n_samples=int(self.cost.largest_n), epochs=1, global_batch_size=self.samples_per_step, workers=workers
        )
        return max(phases, key=lambda name: phases[name])

    def largest_useful_workers(
        self,
        *,
        n_samples: int,
        epochs: int,
        global_batch_size: int,
        candidates: Sequence[int],
        min_marginal_efficiency: float = 0.5,
    ) -> int:
        """The largest candidate up to which every step still pays.

        A step from v to w workers pays when time(v) / time(w) - 1 is at least ``min_marginal_efficiency`` times
        w / v - 1: at 1 every added worker must bring a worker's worth, at 0.5 half of it, at 0 it must only not slow
        the run down.

        Raises: EvidenceError: No candidate, or a count below 1.
        """
        if not candidates:
            raise EvidenceError("candidates is empty; pass the worker counts to choose from, e.g. full_run.workers")
        ordered = sorted(set(candidates))
        _at_least_one(workers=ordered[0])
        seconds = [
            self.median_total_s(n_samples=n_samples, epochs=epochs, global_batch_size=global_batch_size, workers=w)
            for w in ordered
        ]
        useful = ordered[0]
        for v, w, before, after in zip(ordered, ordered[1:], seconds, seconds[1:], strict=False):
            if before / after - 1 < min_marginal_efficiency * (w / v - 1):
                break
            useful = w
        return useful

    def _typical(self, n_samples: float, epochs: int, batch: float, workers: int) -> dict[str, float]:
        """Seconds per phase by the rates alone; the steady ones still to be multiplied by the pace."""
        rates = self.rates.get(workers) or self._rates_off_grid(workers)
        per_worker = n_samples * epochs / workers
        return {
            "startup_s": rates.startup_s,
            "compute_s": rates.compute_s * per_worker,
            "data_wait_s": rates.data_wait_s * per_worker,
            "gradient_sync_s": rates.gradient_sync_s * np.ceil(n_samples / batch) * epochs,
            "validation_s": rates.validation_s * epochs,
            "checkpoint_s": rates.checkpoint_s * epochs,
        }

    def _rates_off_grid(self, workers: int) -> Rates:
        """Costs of the nearest measured count (in the log), sync by the ring, validation by the share of rows."""
        near = min(self.workers, key=lambda w: (abs(np.log(w / workers)), w))
        rates = self.rates[near]
        sync_from = near if near > 1 else next((w for w in self.workers if w > 1), 1)
        ring = (1 - 1 / workers) / (1 - 1 / sync_from) if sync_from > 1 else 0.0
        return rates._replace(
            data_wait_s=rates.data_wait_s + self._wait_growth(near) * max(workers - near, 0),
            gradient_sync_s=self.rates[sync_from].gradient_sync_s * ring,
            validation_s=rates.validation_s * near / workers,
        )

    def _wait_growth(self, workers: int) -> float:
        """By how much another worker raises each one's wait per sample, from the step up to that measured count.

        A source that all workers share has them wait (w * its seconds per sample - compute), a line in w.
        """
        below = [w for w in self.workers if w < workers]
        if not below:
            return 0.0
        rise = self.rates[workers].data_wait_s - self.rates[below[-1]].data_wait_s
        return max(rise / (workers - below[-1]), 0.0)

    def _log_rates_s_per_sample(self, workers: int) -> float:
        step = self._typical(self.samples_per_step, 1, self.samples_per_step, workers)
        return float(np.log(sum(step[name] for name in _STEADY) / self.samples_per_step))

    def _reference(self, workers: int) -> int:
        """The measured count whose noise and effect of the data size are taken: this one, else the largest."""
        return workers if workers in self.rates else self.workers[-1]

    def _log_size_pace(self, workers: int, n_samples: int) -> float:
        """Log of the typical steady time for that data size, over the rates' (off the grid over the largest size's)."""
        reference = self._reference(workers)
        base = self._log_rates_s_per_sample(workers) if workers in self.rates else self.cost.median_level(reference)
        return self.cost.median(reference, n_samples) - base

    def _log_scaling(self, workers: int, u: FloatArray) -> FloatArray:
        """Log steady time over the rates' at each probability ``u``, on a count that was not measured; else 0."""
        if workers in self.rates:
            return np.zeros_like(u)
        levels = np.array([self.cost.median_level(w) for w in self.workers])
        log_s = sample_log_seconds(np.array(self.workers, dtype=np.float64), levels, workers, u)
        largest = self.workers[-1]
        floor = self._floor_s_per_sample(workers) * np.exp(levels[-1] - self._log_rates_s_per_sample(largest))
        log_floor = float(np.log(max(floor, np.finfo(float).tiny)))
        scaling: FloatArray = np.maximum(log_s, log_floor) - self._log_rates_s_per_sample(workers)
        return scaling

    def _floor_s_per_sample(self, workers: int) -> float:
        """What no number of workers shortens: gradient sync, and the time of a source that all of them share.

        Total times do not show it before it binds; a wait that was measured to grow with the workers does.
        """
        if workers < self.workers[-1]:
            return 0.0
        return self._rates_off_grid(workers).gradient_sync_s / self.samples_per_step + self._wait_growth(
            self.workers[-1]
        )

    def _log_luck(self, workers: int, n_samples: int, rng: np.random.Generator, size: int) -> FloatArray:
        """Log deviation from the typical time by this run's noise, its data size and what few runs leave open."""
        reference = self._reference(workers)
        return self.cost.draw(reference, n_samples, rng, size) - self.cost.median(reference, n_samples)

    def _steady(
        self, typical: dict[str, float], pace: FloatArray, scaling: FloatArray, workers: int
    ) -> dict[Steady, FloatArray]:
        """Seconds per steady phase.

        From runs on one worker alone no sync is known: what exceeds ideal scaling is put down to it.
        """
        if max(self.rates) > 1 or workers == 1:
            return {name: typical[name] * pace * scaling for name in _STEADY}
        local = pace * np.minimum(scaling, 1.0)
        return {
            "compute_s": typical["compute_s"] * local,
            "data_wait_s": typical["data_wait_s"] * local,
            "gradient_sync_s": sum(typical[name] for name in _STEADY) * pace * np.maximum(scaling - 1, 0.0),
        }


def fit_time_model(measurements: Sequence[TimeMeasurement]) -> TimeModel:
    """Fit the costs of one model's training.

    Args:
        measurements: Finished runs of one model with one batch size, in any order; one is enough, and is diagnosed.
    Raises: UnderdeterminedFitError: No measurement.
    """
    if not measurements:
        raise UnderdeterminedFitError("a time model", 0, 1, "measure at least one trial")
    runs = sorted(measurements, key=lambda m: tuple(getattr(m, f.name) for f in fields(m)))
    groups = {w: [m for m in runs if m.workers == w] for w in sorted({m.workers for m in runs})}
    rates = {w: _rates(group) for w, group in groups.items()}
    return TimeModel(
        rates=rates,
        cost=fit_size_effect(
            [m.workers for m in runs], [m.n_samples for m in runs], [m.steady_s_per_sample for m in runs]
        ),
        startup_std=_startup_std(groups),
        samples_per_step=sum(m.samples_seen for m in runs) / sum(m.steps for m in runs),
        diagnosis=_diagnose(groups),
    )


def _rates(group: Sequence[TimeMeasurement]) -> Rates:
    """Total seconds over total units. Validation and checkpoints are weighed by the samples seen as well.

    Small runs come first, while the machine is still at other work: told from those below the largest size, half of the
    trials' validation was missed by 12% either way, nine in ten by up to 65% without and 38% with that weight.
    """
    workers, n_runs = group[0].workers, len(group)
    seen, steps = sum(m.samples_seen for m in group), sum(m.steps for m in group)
    return Rates(
        startup_s=sum(m.startup_s for m in group) / n_runs,
        compute_s=sum(m.compute_s for m in group) * workers / seen,
        data_wait_s=sum(m.data_wait_s for m in group) * workers / seen,
        gradient_sync_s=sum(m.gradient_sync_s for m in group) / steps if workers > 1 else 0.0,
        validation_s=sum(m.validation_s / m.epochs * m.samples_seen for m in group) / seen,
        checkpoint_s=sum(m.checkpoint_s / m.epochs * m.samples_seen for m in group) / seen,
    )


def _startup_std(groups: dict[int, list[TimeMeasurement]]) -> float:
    """Pooled over worker counts, with the prior's share; as wide at 90% as Student's t.

    The exponential of a t has no mean, and dollars are averaged, so it is a normal.
    """
    squares, dof = _STARTUP_NOISE_DOF * _STARTUP_NOISE**2, _STARTUP_NOISE_DOF
    for group in groups.values():
        log_s = np.log([m.startup_s for m in group if m.startup_s > 0])
        if len(log_s) > 1:
            squares += float(((log_s - log_s.mean()) ** 2).sum())
            dof += len(log_s) - 1
    return float(np.sqrt(squares / dof) * stdtrit(dof, 0.95) / ndtri(0.95))


def _diagnose(groups: dict[int, list[TimeMeasurement]]) -> tuple[str, ...]:
    n_runs = sum(len(g) for g in groups.values())
    found = {
        "single-measurement": n_runs == 1,
        "single-worker-count": len(groups) == 1,
        "no-replicates": n_runs == len(groups),
    }
    return tuple(name for name, holds in found.items() if holds)


def _at_least_one(**counts: float) -> None:
    for name, count in counts.items():
        if count < 1:
            raise EvidenceError(f"{name} must be at least 1, got {count}")
