"""Run time of a training on w workers, from split times: what is extrapolated, and how surely.

    total = start-up + [compute(w) + data_wait(w)] * samples / w + sync(w) * steps
            + [validation / w + checkpoint] * epochs

compute and data_wait are seconds of one worker per sample and may differ by w (workers on one machine share it); sync
is seconds per optimiser step, 0 on one worker, and off the measured counts goes as a ring all-reduce, (w - 1) / w
(Patarasuk and Yuan 2009). A rate is total seconds over total units, which weighs a run by its size. At a measured
worker count the rates stand as measured; elsewhere the steady state as a whole follows `speedup`, whose interval widens
with log(w / w_max), and the phases keep their measured shares. Start-up is paid once a run and never extrapolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit

from orchestrator.curves.power_law import FloatArray, Posterior
from orchestrator.curves.speedup import SIZE_DRIFT, TAIL, fit_speedup
from orchestrator.errors import EvidenceError, UnderdeterminedFitError

Bottleneck = Literal["compute", "gradient sync", "data wait"]
_STEADY: tuple[Literal["compute_s", "data_wait_s", "gradient_sync_s"], ...] = (
    "compute_s",
    "data_wait_s",
    "gradient_sync_s",
)

RUN_NOISE = 0.034
"""Run-to-run deviation of log time when no replicates tell: the larger of the medians within two sets of replicated
Spark jobs (0.019 in C3O, 0.034 in the DOS runtime data)."""
_RUN_NOISE_DOF = 2.0
"""What that prior weighs beside replicates; low, so that a few of them overrule it."""


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


class _Noise(NamedTuple):
    """Run-to-run deviation of the log of a cost, and the degrees of freedom behind it, the prior's included."""

    std: float
    dof: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeModel:
    """Costs by measured worker count, with noise and a diagnosis."""

    rates: dict[int, Rates]
    effective_runs: dict[int, float]
    """Runs behind the rates of a worker count, small ones counting for less (Kish's effective number)."""
    steady_noise: _Noise
    startup_noise: _Noise
    speedup: Posterior
    """Of log steady seconds per sample over log(workers / largest measured count)."""
    samples_per_step: float
    """Rows per optimiser step in the measurements, the batch that ``speedup`` was measured with."""
    largest_n_samples: int
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
        pace = np.exp(self._log_pace(workers, n_samples, rng, size))
        steady = {name: typical[name] * pace for name in (*_STEADY, "validation_s")}
        if workers not in self.rates:
            _move_excess_to_sync(steady, typical, pace, first_sync=max(self.rates) == 1 and workers > 1)
        return TimeSamples(
            startup_s=typical["startup_s"] * np.exp(self._new_run(self.startup_noise, workers, rng, size)),
            checkpoint_s=typical["checkpoint_s"] * np.exp(self._new_run(self.steady_noise, workers, rng, size)),
            compute_s=steady["compute_s"],
            data_wait_s=steady["data_wait_s"],
            gradient_sync_s=steady["gradient_sync_s"],
            validation_s=steady["validation_s"],
        )

    def bottleneck(self, workers: int) -> Bottleneck:
        """The largest steady phase on that many workers, at the measured batch size. Raises EvidenceError."""
        _at_least_one(workers=workers)
        step = self._typical(self.samples_per_step, 1, self.samples_per_step, workers)
        pace = np.array([self._median_pace(workers)])
        phases: dict[str, FloatArray] = {name: step[name] * pace for name in _STEADY}
        if workers not in self.rates:
            _move_excess_to_sync(phases, step, pace, first_sync=max(self.rates) == 1 and workers > 1)
        names: tuple[Bottleneck, ...] = ("compute", "data wait", "gradient sync")
        return names[int(np.argmax([phases[name][0] for name in _STEADY]))]

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
        seconds = [self._median_total_s(n_samples, epochs, global_batch_size, w) for w in ordered]
        useful = ordered[0]
        for v, w, before, after in zip(ordered, ordered[1:], seconds, seconds[1:], strict=False):
            if before / after - 1 < min_marginal_efficiency * (w / v - 1):
                break
            useful = w
        return useful

    def _median_total_s(self, n_samples: int, epochs: int, batch: int, workers: int) -> float:
        typical = self._typical(n_samples, epochs, batch, workers)
        paced = sum(typical[name] for name in (*_STEADY, "validation_s"))
        return typical["startup_s"] + typical["checkpoint_s"] + paced * self._median_pace(workers)

    def _typical(self, n_samples: float, epochs: int, batch: float, workers: int) -> dict[str, float]:
        """Seconds per phase by the physics alone; off the measured counts still to be multiplied by the pace."""
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
        """Costs of the nearest measured count (in the log), sync by the ring and validation by the share of rows."""
        near = min(self.workers, key=lambda w: (abs(np.log(w / workers)), w))
        rates = self.rates[near]
        sync_from = near if near > 1 else next((w for w in self.workers if w > 1), 1)
        ring = (1 - 1 / workers) / (1 - 1 / sync_from) if sync_from > 1 else 0.0
        return rates._replace(
            gradient_sync_s=self.rates[sync_from].gradient_sync_s * ring,
            validation_s=rates.validation_s * near / workers,
        )

    def _physics_log_s_per_sample(self, workers: int) -> float:
        step = self._typical(self.samples_per_step, 1, self.samples_per_step, workers)
        return float(np.log(sum(step[name] for name in _STEADY) / self.samples_per_step))

    def _median_pace(self, workers: int) -> float:
        """Steady time over what physics alone says; 1 at a measured count."""
        if workers in self.rates:
            return 1.0
        mean, _ = self.speedup.moments(float(np.log(workers / max(self.rates))), TAIL)
        return float(np.exp(self.speedup.weight @ mean - self._physics_log_s_per_sample(workers)))

    def _log_pace(self, workers: int, n_samples: int, rng: np.random.Generator, size: int) -> FloatArray:
        """Log of the factor on the steady phases: worker count not measured, larger data, and this run's own luck."""
        out = self._new_run(self.steady_noise, workers, rng, size)
        beyond = max(float(np.log(n_samples / self.largest_n_samples)), 0.0)
        out += SIZE_DRIFT * np.sqrt(beyond) * rng.standard_normal(size)
        if workers not in self.rates:
            u = np.clip(rng.random((4, size)), 1e-12, 1 - 1e-12)
            log_s, _ = self.speedup.draw(float(np.log(workers / max(self.rates))), TAIL, u)
            out += log_s - self._physics_log_s_per_sample(workers)
        return out

    def _new_run(self, noise: _Noise, workers: int, rng: np.random.Generator, size: int) -> FloatArray:
        """Log deviation of a new run from the estimate: its own noise, and that of the runs behind the estimate."""
        behind = self.effective_runs.get(workers, np.inf)  # off the grid the speedup's level carries it
        # A normal as wide at 90% as Student's t: the exponential of a t has no mean, and dollars are averaged.
        heavier = float(stdtrit(noise.dof, 0.95) / ndtri(0.95))
        draws: FloatArray = noise.std * heavier * np.sqrt(1 + 1 / behind) * rng.standard_normal(size)
        return draws


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
    steady = {w: np.array([m.steady_s_per_sample for m in g]) for w, g in groups.items()}
    levels = {w: float(np.log(np.average(steady[w], weights=_seen(g)))) for w, g in groups.items()}
    return TimeModel(
        rates=rates,
        effective_runs={w: float(_seen(g).sum() ** 2 / (_seen(g) ** 2).sum()) for w, g in groups.items()},
        steady_noise=_noise([(np.log(steady[w]), _seen(g)) for w, g in groups.items()]),
        startup_noise=_startup_noise(groups),
        speedup=fit_speedup(np.array(list(levels), dtype=np.float64), np.array(list(levels.values()))),
        samples_per_step=sum(m.samples_seen for m in runs) / sum(m.steps for m in runs),
        largest_n_samples=max(m.n_samples for m in runs),
        diagnosis=_diagnose(groups),
    )


def _seen(group: Sequence[TimeMeasurement]) -> FloatArray:
    return np.array([m.samples_seen for m in group], dtype=np.float64)


def _rates(group: Sequence[TimeMeasurement]) -> Rates:
    """Total seconds over total units, so that a long run weighs more than a short, noisy one."""
    workers, n_runs = group[0].workers, len(group)
    seen, steps = sum(m.samples_seen for m in group), sum(m.steps for m in group)
    epochs = sum(m.epochs for m in group)
    return Rates(
        startup_s=sum(m.startup_s for m in group) / n_runs,
        compute_s=sum(m.compute_s for m in group) * workers / seen,
        data_wait_s=sum(m.data_wait_s for m in group) * workers / seen,
        gradient_sync_s=sum(m.gradient_sync_s for m in group) / steps if workers > 1 else 0.0,
        validation_s=sum(m.validation_s for m in group) / epochs,
        checkpoint_s=sum(m.checkpoint_s for m in group) / epochs,
    )


def _noise(groups: Sequence[tuple[FloatArray, FloatArray]]) -> _Noise:
    """Pooled deviation of log costs round their group's mean, at the largest run's size, with the prior's share.

    Residuals are weighted by size over the largest size, so that small runs do not set the noise of a large one.
    """
    top = max(float(size.max()) for _, size in groups)
    squares, dof = _RUN_NOISE_DOF * RUN_NOISE**2, _RUN_NOISE_DOF
    for log_cost, size in groups:
        residual = log_cost - np.average(log_cost, weights=size)
        squares += float((size / top * residual**2).sum())
        dof += len(size) - 1
    return _Noise(float(np.sqrt(squares / dof)), dof)


def _startup_noise(groups: dict[int, list[TimeMeasurement]]) -> _Noise:
    timed = [np.array([m.startup_s for m in g if m.startup_s > 0]) for g in groups.values()]
    logs = [(np.log(seconds), np.ones_like(seconds)) for seconds in timed if len(seconds)]
    return _noise(logs) if logs else _Noise(RUN_NOISE, _RUN_NOISE_DOF)


def _diagnose(groups: dict[int, list[TimeMeasurement]]) -> tuple[str, ...]:
    n_runs = sum(len(g) for g in groups.values())
    found = {
        "single-measurement": n_runs == 1,
        "single-worker-count": len(groups) == 1,
        "no-replicates": n_runs == len(groups),
    }
    return tuple(name for name, holds in found.items() if holds)


def _move_excess_to_sync(
    phases: dict[str, FloatArray], typical: dict[str, float], pace: FloatArray, *, first_sync: bool
) -> None:
    """From runs on one worker alone no sync is known: what the pace takes beyond ideal scaling is put down to it."""
    if not first_sync:
        return
    local = np.minimum(pace, 1.0)
    excess = sum(typical[name] for name in _STEADY) * (pace - local)
    phases["compute_s"] = typical["compute_s"] * local
    phases["data_wait_s"] = typical["data_wait_s"] * local
    phases["gradient_sync_s"] = np.asarray(excess)


def _at_least_one(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise EvidenceError(f"{name} must be at least 1, got {count}")
