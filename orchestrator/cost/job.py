"""A full run on its instances: how long, interruptions included, and how often it should save.

Draws of an undisturbed run's time come in; what preemption and failure take on top, and what is billed of it all, goes
out. Waiting for the next machine delays and is not billed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.cost.spot import (
    PreemptionDraws,
    SpotMarket,
    best_interval_s,
    break_even_interval_s,
    sample_preemptions,
)
from orchestrator.intervals import FloatArray
from orchestrator.results import CheckpointAdvice

_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTime:
    """Joint draws of how long the parts of a full run take when nothing interrupts it; each of shape (n,)."""

    training_s: FloatArray
    """Without start-up, checkpoints included."""
    startup_s: FloatArray
    """From the first billed second to steady state; paid again at every restart."""
    checkpoint_interval_s: FloatArray
    """From one checkpoint to the next, writing included; an interruption loses at most this."""
    checkpoint_s: FloatArray
    """Writing one checkpoint."""
    startup_note: str = ""
    """What the start-up time does not include."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A synchronous job on its instances, interruptions included."""

    workers: int
    instances: int
    time: RunTime
    market: SpotMarket | None
    """None where machines are not taken away."""
    failing: SpotMarket
    """How long one worker lasts."""
    preemptions: PreemptionDraws | None
    failures: PreemptionDraws | None
    """None, like preemptions, for a run that is over."""

    @property
    def interruptions(self) -> tuple[PreemptionDraws, ...]:
        return tuple(each for each in (self.preemptions, self.failures) if each is not None)

    @property
    def billed_s(self) -> FloatArray:
        parts = [self.time.training_s, self.time.startup_s, *(each.rework_s for each in self.interruptions)]
        return np.asarray(np.add.reduce(parts), dtype=np.float64)

    @property
    def wall_time_s(self) -> FloatArray:
        return np.asarray(self.billed_s + self.waiting_s, dtype=np.float64)

    @property
    def waiting_s(self) -> FloatArray:
        parts = [np.zeros_like(self.time.training_s), *(each.waiting_s for each in self.interruptions)]
        return np.asarray(np.add.reduce(parts), dtype=np.float64)

    @property
    def rate_per_s(self) -> float:
        """Interruptions in a second of running, at the medians of what is believed of market and failures."""
        preempted = 0.0 if self.market is None else self.instances / self.market.mean_uptime_s.median
        return preempted + self.workers / self.failing.mean_uptime_s.median


def start_job(
    time: RunTime,
    *,
    workers: int,
    instances: int,
    market: SpotMarket | None,
    failing: SpotMarket,
    rng: np.random.Generator,
    is_over: bool,
) -> Job:
    """Draw what interrupts a job: of its instances when there is a spot market, of its workers always.

    Args:
        time: What its parts take undisturbed.
        workers: Data-parallel workers, at least 1.
        instances: Machines they are on.
        market: How long one instance is left to its buyer; None when it is not taken away.
        failing: How long one worker lasts.
        rng: For the number of interruptions.
        is_over: Nothing is drawn for a run that has ended.
    """
    return Job(
        workers=workers,
        instances=instances,
        time=time,
        market=market,
        failing=failing,
        preemptions=None if market is None or is_over else _interruptions(time, market, instances, rng),
        failures=None if is_over else _interruptions(time, failing, workers, rng),
    )


def _interruptions(time: RunTime, market: SpotMarket, machines: int, rng: np.random.Generator) -> PreemptionDraws:
    """What interruptions cost; losing any machine stops a synchronous job."""
    # Writing belongs to the interval; at least a thousandth of it is work, lest a slow disk divide by zero.
    work_between_s = np.maximum(time.checkpoint_interval_s - time.checkpoint_s, time.checkpoint_interval_s / 1000)
    return sample_preemptions(
        time.training_s * work_between_s / time.checkpoint_interval_s,
        interval_s=work_between_s,
        checkpoint_s=time.checkpoint_interval_s - work_between_s,
        restart_s=time.startup_s,
        market=market,
        instances=machines,
        rng=rng,
    )


def checkpoint_advice(job: Job, price_ratio: float | None) -> CheckpointAdvice:
    """Daly's interval for all that interrupts the job, and where spot stops paying.

    Args:
        job: The job.
        price_ratio: Price over on-demand price; None when there is nothing to compare.
    """
    time = job.time
    checkpoint_s, interval_s = float(np.mean(time.checkpoint_s)), float(np.mean(time.checkpoint_interval_s))
    break_even = None
    if job.market is not None and price_ratio is not None:
        break_even = break_even_interval_s(
            checkpoint_s=checkpoint_s,
            restart_s=float(np.mean(time.startup_s)),
            mean_uptime_s=1 / job.rate_per_s,
            price_ratio=price_ratio,
        )
    return CheckpointAdvice(
        interval_s=max(interval_s - checkpoint_s, 0.0),
        checkpoint_s=checkpoint_s,
        best_interval_s=best_interval_s(checkpoint_s, 1 / job.rate_per_s),
        break_even_interval_s=break_even,
        time_share=checkpoint_s / interval_s if interval_s > 0 else 0.0,
    )


def interruption_warnings(job: Job) -> tuple[str, ...]:
    """What is assumed of spot instances, and a run that saves too seldom to get on."""
    if job.market is None:
        return ()
    warnings = []
    if job.market.assumed:
        warnings.append(
            "how often spot instances are taken away is ASSUMED; give pricing.spot.mean_uptime_h and mean_downtime_h, "
            "or pricing.spot.history"
        )
    uptime_h = job.market.mean_uptime_s.low / job.instances / _SECONDS_PER_HOUR
    interval_h = float(np.mean(job.time.checkpoint_interval_s)) / _SECONDS_PER_HOUR
    if interval_h > uptime_h:
        warnings.append(
            f"a checkpoint comes every {interval_h:.2g} h, and the job may be interrupted every {uptime_h:.2g} h: it "
            "may never end, and its expected cost is that of the worst draws; write checkpoints more often"
        )
    return tuple(warnings)
