"""The frontier of gain against dollars, its knee, and what is said where a simpler candidate was preferred."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from orchestrator.decision import Choice, frontier_of, preference_sentence
from orchestrator.intervals import certain
from orchestrator.results import Bill, Candidate, CandidateForecast


def forecast(
    name: str, gain: float, cost: float, *, given_up: float = 0.0, fraction: float = 1.0, workers: int = 1
) -> CandidateForecast:
    return CandidateForecast(
        candidate=Candidate(
            model=name, fraction=fraction, n_samples=round(10_000 * fraction), workers=workers, purchase="on_demand"
        ),
        metric=certain(0.9), gain=certain(gain), wall_time_s=certain(1.0), cost_usd=certain(cost),
        gain_per_dollar=certain(gain / cost), probability=0.95,
        bill=Bill(lines=(), total_usd=certain(cost), assumed=False, given_up_share=given_up),
    )  # fmt: skip


def names(*forecasts: CandidateForecast) -> list[str]:
    return [candidate.model for candidate in frontier_of(forecasts).candidates]


def test_only_candidates_that_none_beats_in_both_are_on_the_frontier() -> None:
    found = names(
        forecast("dear", 0.10, 9.0), forecast("beaten", 0.05, 5.0), forecast("cheap", 0.02, 1.0),
        forecast("middle", 0.06, 4.0), forecast("same gain, dearer", 0.06, 4.5),
    )  # fmt: skip

    assert found == ["cheap", "middle", "dear"]


def test_no_candidate_of_a_random_set_beats_one_on_the_frontier_and_each_other_is_beaten() -> None:
    rng = np.random.default_rng(0)
    pool = [forecast(str(i), *rng.uniform(0.01, 1, 2)) for i in range(60)]

    on = set(names(*pool))

    def beats(a: CandidateForecast, b: CandidateForecast) -> bool:
        return a.gain.mean >= b.gain.mean and a.cost_usd.mean <= b.cost_usd.mean and a is not b

    assert {c.candidate.model for c in pool if not any(beats(other, c) for other in pool)} == on


def test_keeping_what_there_is_beats_every_candidate_without_a_gain() -> None:
    assert names(forecast("worse", -0.1, 1.0), forecast("better", 0.1, 2.0)) == ["better"]
    assert names(forecast("worst", -0.2, 1.0), forecast("bad", -0.1, 2.0)) == ["worst", "bad"]
    assert frontier_of([forecast("worst", -0.2, 1.0), forecast("bad", -0.1, 2.0)]).knee is None


def test_a_run_that_often_does_not_end_counts_for_what_it_is_expected_to_gain() -> None:
    assert names(forecast("sure", 0.05, 2.0), forecast("lottery", 0.06, 3.0, given_up=0.5)) == ["sure"]


@pytest.mark.parametrize(
    ("gains", "knee"),
    [
        ([0.04, 0.08, 0.085, 0.09], "2"),  # a dollar buys 0.04 up to the second, 0.005 beyond it
        ([0.02, 0.04, 0.06, 0.08], None),  # straight
        ([0.01, 0.02, 0.04, 0.08], None),  # ever better
        ([0.021, 0.041, 0.06, 0.08], None),  # farthest from the chord by a hair, and no bend
        ([0.08], None),
    ],
)
def test_the_knee_is_where_a_dollar_begins_to_buy_half_as_much(gains: list[float], knee: str | None) -> None:
    pool = [forecast(str(i), gain, float(i)) for i, gain in enumerate(gains, 1)]

    found = frontier_of(pool).knee

    assert (found and found.model) == knee


def test_the_knee_stays_where_it_is_in_any_currency() -> None:
    gains = [0.04, 0.08, 0.085, 0.09]
    pools = [[forecast(str(i), gain, i * rate) for i, gain in enumerate(gains, 1)] for rate in (1e-6, 1.0, 1e6)]

    knees = [frontier_of(pool).knee for pool in pools]

    assert all(a == b for a, b in itertools.pairwise(knees))


def said(synthetic: Any, best: CandidateForecast, top: CandidateForecast, threshold: float = 0.01) -> str:
    spec = synthetic.spec(decision={"min_gain_per_dollar": threshold})
    return preference_sentence(Choice(best=best, top=top, noise_std=0.01), spec)


def test_a_preference_tells_what_was_given_up_and_what_it_saves(synthetic: Any) -> None:
    simple, best = forecast("linear", 0.095, 0.8), forecast("cnn", 0.10, 1.0)

    assert said(synthetic, simple, best) == (
        "linear on all of the data, 1 worker, on-demand is preferred to cnn on all of the data, 1 worker, on-demand: "
        "it gives up 0.5 points (0.5 of the spread between seeds) and saves $0.20 of $1.00, worth 0.2 points at the "
        "threshold, in all 0.3 points (0.3 of the spread between seeds) of net value, which no single full run could "
        "tell apart, so the simpler model suffices"
    )


def test_less_data_and_fewer_workers_suffice_in_their_own_words(synthetic: Any) -> None:
    top = forecast("cnn", 0.10, 1.0, workers=4)

    assert said(synthetic, forecast("cnn", 0.095, 0.8, fraction=0.7), top).endswith("so less data suffices")
    fewer = said(synthetic, forecast("cnn", 0.10, 1.5, workers=2), top)
    assert "it is expected to gain as much and costs $0.50 more, in all 0.5 points" in fewer
    assert fewer.endswith("so fewer workers suffice")


def test_nothing_is_said_where_nothing_was_given_up(synthetic: Any) -> None:
    top = forecast("cnn", 0.10, 1.0)

    assert said(synthetic, top, top) == ""
    assert said(synthetic, forecast("linear", 0.10, 1.0), top) == ""
