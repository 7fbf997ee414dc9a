"""A full run on its instances: how long, interruptions included, and how often it should save.

Draws of an undisturbed run's time come in; what preemption and failure take on top, and what is billed of it all, goes
out. Waiting for machines delays and is not billed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from orchestrator.cost.interruptions import (
    GIVE_UP_AFTER,
    InterruptionDraws,
    best_interval_s,
    expected_time_s,
    sample_interruptions,
)
from orchestrator.cost.spot import SpotMarket
from orchestrator.intervals import FloatArray
from orchestrator.results import CheckpointAdvice

# Share of runs that do not end from which a reader is warned.
_WORTH_A_WARNING = 0.01
_N_INTERVALS = 64
# Up-times behind a break-even, evenly spread over what is believed of them: of 192 break-evens of two sweeps in three
# markets, all 4,000 draws moved one, by one of the intervals that are tried.
_N_UPTIMES = 512


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
    interruptions: InterruptionDraws | None
    """None for a run that is over."""

    @property
    def rework_s(self) -> FloatArray:
        found = self.interruptions
        return (
            np.zeros_like(self.time.training_s) if found is None else found.preemption_rework_s + found.failure_rework_s
        )

    @property
    def billed_s(self) -> FloatArray:
        return np.asarray(self.time.training_s + self.time.startup_s + self.rework_s, dtype=np.float64)

    @property
    def waiting_s(self) -> FloatArray:
        found = self.interruptions
        return np.zeros_like(self.time.training_s) if found is None else found.first_wait_s + found.waiting_s

    @property
    def wall_time_s(self) -> FloatArray:
        return np.asarray(self.billed_s + self.waiting_s, dtype=np.float64)

    @property
    def finishes(self) -> np.ndarray:
        """False where the run is given up; booleans of shape (n,)."""
        found = self.interruptions
        return np.ones(len(self.time.training_s), dtype=bool) if found is None else found.finishes

    @property
    def expected_interruptions(self) -> float:
        found = self.interruptions
        return 0.0 if found is None else float(np.mean(found.preemptions + found.failures))


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
        rng: For rates and luck.
        is_over: Nothing is drawn for a run that has ended.
    """
    # Writing belongs to the interval; at least a thousandth of it is work, lest a slow disk divide by zero.
    work_between_s = np.maximum(time.checkpoint_interval_s - time.checkpoint_s, time.checkpoint_interval_s / 1000)
    interruptions = None
    if not is_over:
        interruptions = sample_interruptions(
            time.training_s * work_between_s / time.checkpoint_interval_s,
            interval_s=work_between_s,
            checkpoint_s=time.checkpoint_interval_s - work_between_s,
            restart_s=time.startup_s,
            market=market,
            instances=instances,
            failing=failing,
            workers=workers,
            rng=rng,
        )
    return Job(
        workers=workers, instances=instances, time=time, market=market, failing=failing, interruptions=interruptions
    )


def checkpoint_advice(job: Job, price_ratio: float | None) -> CheckpointAdvice:
    """Daly's interval for all that interrupts the job, and where spot stops paying.

    Args:
        job: The job, not over.
        price_ratio: Price over on-demand price; None when there is nothing to compare.
    """
    time, found = job.time, job.interruptions
    checkpoint_s, interval_s = float(np.mean(time.checkpoint_s)), float(np.mean(time.checkpoint_interval_s))
    break_even = None
    if found is not None and job.market is not None and price_ratio is not None:
        break_even = _break_even_interval_s(job, found, price_ratio)
    return CheckpointAdvice(
        interval_s=max(interval_s - checkpoint_s, 0.0),
        checkpoint_s=checkpoint_s,
        best_interval_s=None if found is None else best_interval_s(checkpoint_s, float(np.median(found.uptime_s))),
        break_even_interval_s=break_even,
        time_share=checkpoint_s / interval_s if interval_s > 0 else 0.0,
    )


def _break_even_interval_s(job: Job, found: InterruptionDraws, price_ratio: float) -> float:
    """The most work between two checkpoints at which a run that ends is expected to cost no more than on-demand.

    Over the draws of what is believed of market and failures; both ways of buying save at the same interval and fail
    alike. 0 when spot costs more at every interval, infinite when at none up to the whole run.
    """
    time = job.time
    share = np.mean(1 - time.checkpoint_s / time.checkpoint_interval_s)
    work_s, checkpoint_s = float(np.mean(time.training_s) * share), float(np.mean(time.checkpoint_s))
    restart_s = float(np.mean(time.startup_s))

    uptimes = [_spread(found.uptime_s), _spread(found.failure_uptime_s)]

    def is_cheaper(interval_s: float) -> bool:
        costs = []
        for uptime_s in uptimes:
            expected_s = restart_s + expected_time_s(
                work_s, interval_s=interval_s, checkpoint_s=checkpoint_s, restart_s=restart_s, mean_uptime_s=uptime_s
            )
            most_s = GIVE_UP_AFTER * (restart_s + work_s * (1 + checkpoint_s / interval_s))
            ended = np.mean(expected_s <= most_s)
            costs.append(float(np.mean(np.minimum(expected_s, most_s)) / ended) if ended else math.inf)
        return price_ratio * costs[0] <= costs[1]

    intervals = np.geomspace(min(max(checkpoint_s, work_s * 1e-4), work_s), work_s, _N_INTERVALS)
    cheaper = [is_cheaper(float(interval)) for interval in intervals]
    if not any(cheaper):
        return 0.0
    last = int(np.flatnonzero(cheaper)[-1])
    return math.inf if last == len(intervals) - 1 else float(intervals[last])


def _spread(draws: FloatArray) -> FloatArray:
    """As many draws as are worth their time, one from the middle of each of so many equally likely parts."""
    if len(draws) <= _N_UPTIMES:
        return draws
    places = (np.arange(_N_UPTIMES) + 0.5) * len(draws) / _N_UPTIMES
    spread: FloatArray = np.sort(draws)[places.astype(np.intp)]
    return spread


def interruption_warnings(job: Job) -> tuple[str, ...]:
    """What is assumed of spot instances, and a run that saves too seldom to get on."""
    warnings = []
    if job.market is not None and job.market.assumed:
        warnings.append(
            "how often spot instances are taken away is ASSUMED; give pricing.spot.mean_uptime_h and mean_downtime_h, "
            "or pricing.spot.history"
        )
    given_up = 1 - float(np.mean(job.finishes))
    if given_up >= _WORTH_A_WARNING:
        warnings.append(
            f"{100 * given_up:.2g}% of the draws do not end within {GIVE_UP_AFTER:g} times their undisturbed time: "
            "they are counted as given up, paid for to that point and without gain; write checkpoints more often"
        )
    return tuple(warnings)
