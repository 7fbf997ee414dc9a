"""Forecasts against outcomes: whether each 90% interval held, and how often over all full runs so far.

A forecast that claims 90% is honest when about nine in ten outcomes fall inside; with few outcomes little can be
said, so the share of hits carries Wilson's interval (Wilson 1927), which stays inside [0, 1] and is usable from one
outcome on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import ndtri

from orchestrator.errors import EvidenceError
from orchestrator.results import CandidateForecast, Interval, Outcome, TrainingResult
from orchestrator.spec import Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class HitRate:
    """How many outcomes fell inside their interval."""

    hits: int
    n: int
    low: float
    """Wilson's bounds on the true share, 90% together; 0 and 1 when there are no outcomes."""
    high: float

    @property
    def share(self) -> float | None:
        """Hits over outcomes; None without outcomes."""
        return self.hits / self.n if self.n else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Hit rates of the three quantities that are forecast."""

    metric: HitRate
    wall_time: HitRate
    cost: HitRate


def score_outcome(
    *,
    forecast: CandidateForecast,
    metric: Metric,
    training: TrainingResult,
    wall_time_s: float,
    cost_usd: float,
    invoiced_usd: float | None = None,
    checkpoint_path: str,
    finished_at: str,
) -> Outcome:
    """Put a full run beside its forecast.

    Args:
        forecast: What was expected of the candidate that ran.
        metric: Which of accuracy and loss was forecast.
        training: What came out.
        wall_time_s: Of the whole job, start-up included.
        cost_usd: What the job came to at the quoted prices.
        invoiced_usd: The part of it that providers bill, where it was told apart.
        checkpoint_path: Where the model is.
        finished_at: UTC, ISO 8601.
    Raises: EvidenceError: The run reports no accuracy although accuracy was forecast.
    """
    value = training.accuracy if metric == "accuracy" else training.loss
    if value is None:
        raise EvidenceError("the full run reports no accuracy, but accuracy was forecast; set decision.metric: loss")
    return Outcome(
        candidate=forecast.candidate,
        training=training,
        wall_time_s=wall_time_s,
        cost_usd=cost_usd,
        invoiced_usd=invoiced_usd,
        forecast=forecast,
        metric_hit=_holds(forecast.metric, value),
        wall_time_hit=_holds(forecast.wall_time_s, wall_time_s),
        cost_hit=_holds(forecast.cost_usd, cost_usd),
        checkpoint_path=checkpoint_path,
        finished_at=finished_at,
    )


def coverage(outcomes: Sequence[Outcome]) -> Coverage:
    """How often the intervals held so far, by quantity."""
    return Coverage(
        metric=wilson([outcome.metric_hit for outcome in outcomes]),
        wall_time=wilson([outcome.wall_time_hit for outcome in outcomes]),
        cost=wilson([outcome.cost_hit for outcome in outcomes]),
    )


def wilson(hits: Sequence[bool], level: float = 0.9) -> HitRate:
    """Wilson's score interval for the share of hits."""
    n, k = len(hits), sum(hits)
    if n == 0:
        return HitRate(hits=0, n=0, low=0.0, high=1.0)
    z = float(ndtri((1 + level) / 2))
    share, shrink = k / n, 1 + z * z / n
    middle = (share + z * z / (2 * n)) / shrink
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / shrink
    return HitRate(hits=k, n=n, low=max(0.0, middle - half), high=min(1.0, middle + half))


def _holds(interval: Interval, value: float) -> bool:
    return interval.low <= value <= interval.high
