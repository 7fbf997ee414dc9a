"""An outcome is scored against its own forecast, and few outcomes prove little."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from orchestrator.calibration import coverage, score_outcome, wilson
from orchestrator.errors import EvidenceError
from orchestrator.intervals import certain
from orchestrator.results import Bill, Candidate, CandidateForecast, Interval, Outcome, TimeSplit, TrainingResult


def training(accuracy: float | None) -> TrainingResult:
    return TrainingResult(
        accuracy=accuracy, loss=0.3, train_accuracy=None, train_loss=0.2, n_train=100, n_validation=20, epochs_run=1,
        samples_seen=100, wall_time_s=10.0, time=TimeSplit(), epochs=(), device="cpu", checkpoint_bytes=1,
    )  # fmt: skip


def outcome(
    accuracy: float | None = 0.95, wall_time_s: float = 10.0, cost_usd: float = 1.0, metric: Any = "accuracy"
) -> Outcome:
    forecast = CandidateForecast(
        candidate=Candidate(model="cnn", fraction=1.0, n_samples=100, workers=1, purchase="on_demand"),
        metric=Interval(low=0.9, median=0.94, high=0.96, mean=0.94), gain=certain(0.01),
        wall_time_s=Interval(low=8, median=10, high=12, mean=10),
        cost_usd=Interval(low=0.8, median=1, high=1.2, mean=1),
        gain_per_dollar=certain(0.01), probability=0.9,
        bill=Bill(lines=(), total_usd=certain(1.0), assumed=False),
    )  # fmt: skip
    return score_outcome(
        forecast=forecast, metric=metric, training=training(accuracy), wall_time_s=wall_time_s, cost_usd=cost_usd,
        checkpoint_path="p", finished_at="2026-02-01T00:00:00+00:00",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("measured", "hits"),
    [
        ({}, (True, True, True)),
        ({"accuracy": 0.9}, (True, True, True)),
        ({"accuracy": 0.97}, (False, True, True)),
        ({"wall_time_s": 12.1}, (True, False, True)),
        ({"cost_usd": 0.7}, (True, True, False)),
        ({"metric": "loss"}, (False, True, True)),
    ],
)
def test_a_hit_is_a_measurement_inside_its_interval(measured: dict[str, Any], hits: tuple[bool, ...]) -> None:
    scored = outcome(**measured)

    assert (scored.metric_hit, scored.wall_time_hit, scored.cost_hit) == hits


def test_a_run_without_the_forecast_metric_cannot_be_scored() -> None:
    with pytest.raises(EvidenceError, match="reports no accuracy"):
        outcome(accuracy=None)


def test_hits_are_counted_by_quantity() -> None:
    found = coverage([outcome(), outcome(cost_usd=9.0), outcome(accuracy=0.5, cost_usd=9.0)])

    assert (found.metric.hits, found.wall_time.hits, found.cost.hits) == (2, 3, 1)
    assert found.cost.share == pytest.approx(1 / 3)


def test_no_outcomes_say_nothing() -> None:
    none = coverage([]).metric

    assert (none.share, none.low, none.high) == (None, 0.0, 1.0)


def test_wilsons_interval_matches_the_published_example() -> None:
    # Newcombe 1998, table I: 81 of 263 at 95% gives 0.2553 to 0.3662.
    found = wilson([True] * 81 + [False] * 182, level=0.95)

    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_the_interval_holds_the_true_share_about_as_often_as_it_claims() -> None:
    rng = np.random.default_rng(5)

    held = [(rate := wilson(list(rng.random(30) < 0.9))).low <= 0.9 <= rate.high for _ in range(1000)]

    assert 0.85 <= np.mean(held) <= 0.97
