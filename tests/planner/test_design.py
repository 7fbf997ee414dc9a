"""What a run would tell: shares of variance and chances on known truths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.intervals import certain
from orchestrator.planner.deliberation import deliberate
from orchestrator.planner.design import Option, chance_to_settle, joint_shares, refit_shares, worth_of
from orchestrator.planner.outlook import Contender, Finished, Judged, Kind, Stake, finish, judge, kind_of
from orchestrator.results import Interval
from orchestrator.spec import TrialSpec

SIZES = np.array([500.0, 1000.0, 2000.0])


def contender(
    model: str = "cnn", *, noise: float, floor: float = 0.02, seeds: int = 2, charge: float = 0.01
) -> Contender:
    """An error rate of floor + 3 n**-0.5, forecast at 16,000 rows."""
    rng = np.random.default_rng([len(model), seeds])
    n = np.repeat(SIZES, seeds)
    value = np.clip(floor + 3 * n**-0.5 + noise * rng.standard_normal(len(n)), 0, 1)
    return Contender(
        model=model, n=n, value=value, bounds=(0.0, 1.0), validation_size=None, target_n=16_000.0,
        charge=certain(charge),
    )  # fmt: skip


@pytest.mark.parametrize("shares", [refit_shares, lambda c, s: joint_shares(c, s, None)])
def test_without_noise_the_larger_size_tells_more(shares: object) -> None:
    told = shares(contender(noise=1e-5), [2000, 4000, 8000])  # type: ignore[operator]  # one of two functions

    assert list(told) == sorted(told)
    assert told[-1] > told[0] + 0.1


def test_noise_lowers_what_one_run_tells_at_every_size() -> None:
    clear, noisy = (joint_shares(contender(noise=noise), [2000, 4000, 8000], None) for noise in (0.001, 0.05))

    assert (noisy < clear).all()


def test_sizes_below_the_data_tell_nothing_and_do_not_fail() -> None:
    assert joint_shares(contender(noise=0.001), [100, 4000], None)[0] == 0
    assert refit_shares(contender(noise=0.001), [100])[0] == 0


@pytest.mark.parametrize(
    ("mean", "std", "share", "confidence"), [(0.3, 1.0, 0.5, 0.9), (-1.5, 1.0, 0.3, 0.9), (0.0, 2.0, 0.8, 0.8)]
)
def test_the_chance_to_settle_is_that_of_simulated_measurements(
    mean: float, std: float, share: float, confidence: float
) -> None:
    rng = np.random.default_rng(0)
    truth = mean + std * rng.standard_normal(400_000)
    noise_var = std**2 * (1 - share) / share
    seen = truth + np.sqrt(noise_var) * rng.standard_normal(truth.shape)
    posterior_mean = mean + share * (seen - mean)
    z = posterior_mean / (std * np.sqrt(1 - share))
    settled = np.mean(np.abs(z) >= {0.9: 1.2816, 0.8: 0.8416}[confidence])

    assert chance_to_settle(mean, std, share, confidence) == pytest.approx(settled, abs=0.003)


def test_what_tells_nothing_settles_only_what_is_settled() -> None:
    assert chance_to_settle(0.5, 1.0, 0.0, 0.9) == 0
    assert chance_to_settle(2.0, 1.0, 0.0, 0.9) == 1
    assert chance_to_settle(0.5, 1.0, 1.0, 0.9) == pytest.approx(1.0)


def test_the_worth_of_perfect_knowledge_is_the_expected_positive_part() -> None:
    """E[max(0, m + s Z)] = s phi(m/s) + m Phi(m/s); at m = 0, s = 1 it is 1 / sqrt(2 pi)."""
    assert worth_of(0.0, 1.0, 1.0, 0.9, is_promoted=False) == pytest.approx(0.39894, rel=0.002)
    assert worth_of(0.0, 1.0, 1.0, 0.9, is_promoted=True) == pytest.approx(0.39894, rel=0.002)
    assert worth_of(-5.0, 1.0, 0.5, 0.9, is_promoted=False) == pytest.approx(0.0, abs=1e-6)


def test_a_verdict_is_promoted_by_one_sure_model_and_rejected_by_all() -> None:
    assert kind_of([0.95, 0.01], 0.9) == "PROMOTE"
    assert kind_of([0.5, 0.05], 0.9) == "HOLD"
    assert kind_of([0.1, 0.05], 0.9) == "REJECT"


def test_drawn_grids_agree_with_a_verdict_that_nothing_can_change() -> None:
    left = {"cnn": [4000.0, 4000.0, 8000.0, 8000.0]}
    cheap, dear = contender(noise=0.001, charge=1e-4), contender(noise=0.001, charge=0.5)
    stake = Stake(baseline=0.09, confidence=0.9)

    assert judge([cheap], stake).kind == "PROMOTE"
    assert finish([cheap], left, stake, 24).chance("PROMOTE") >= 0.95
    assert finish([dear], left, stake, 24).chance("REJECT") >= 0.95


def told(probability: float, n_grids: int = 24) -> Finished:
    """As many drawn grids, all but a quarter of them with that probability to pay."""
    drawn = [probability] * (n_grids * 3 // 4) + [0.5] * (n_grids // 4)
    return Finished(
        drawn=tuple(Judged(kind="HOLD", probabilities=(p,), net_means=(0.0,)) for p in drawn), confidence=0.9
    )


def test_a_settled_verdict_is_trusted_above_its_drawn_grids_and_an_open_one_below() -> None:
    """Replays: PROMOTE and REJECT told at 0.75 came true in 97% and 100% of the steps, HOLD at 0.88 in 73%."""
    assert 0.55 < told(0.99).chance("PROMOTE") < 0.85
    assert told(0.99).chance_to_stand("PROMOTE") > told(0.99).chance("PROMOTE") + 0.1
    assert told(0.01).chance_to_stand("REJECT") > told(0.01).chance("REJECT") + 0.1
    assert told(0.6).chance_to_stand("HOLD") < told(0.6).chance("HOLD")


@pytest.mark.parametrize("kind", ["PROMOTE", "HOLD", "REJECT"])
def test_the_corrected_chance_rises_with_that_of_the_drawn_grids(kind: Kind) -> None:
    ways = sorted((told(p) for p in np.linspace(0.02, 0.98, 25)), key=lambda each: each.chance(kind))

    corrected = [each.chance_to_stand(kind) for each in ways]

    assert corrected == sorted(corrected)
    assert 0 < corrected[0] < corrected[-1] < 1


def test_an_open_verdict_that_nothing_settles_ends_without_the_trials_of_a_promotion() -> None:
    """The charge is unknown by far more than any trial of accuracy can tell, so the odds stay even."""
    unclear = replace(contender(noise=0.001), charge=Interval(low=-3.0, median=0.0, high=3.0, mean=0.0))
    options = [
        Option(trial=TrialSpec(model="cnn", fraction=n / 16_000, workers=1, seed=0), n_samples=n, usd=n / 16_000)
        for n in (4000.0, 8000.0)
    ]

    found = deliberate(
        [unclear], options, Stake(baseline=0.09, confidence=0.9), now="HOLD", threshold=0.0, needed=options[:1]
    )

    assert (found.end, found.option) == ("nothing worth its price", None)


def test_the_best_trial_of_the_whole_grid_is_what_a_stop_must_beat() -> None:
    """At 2,000 rows the gain to 16,000 is 4.3 points, at 8,000 it is 1.0: for a price of 1.5 the verdict turns."""
    now = contender(noise=0.0005, seeds=3, charge=0.015)
    stake = Stake(baseline=None, confidence=0.9)

    finished = finish([now], {"cnn": [4000.0] * 3 + [8000.0] * 3}, stake, 24)

    assert judge([now], stake).kind == "PROMOTE"
    assert finished.chance("PROMOTE") < 0.2


def test_the_same_points_give_the_same_draws() -> None:
    left, stake = {"cnn": [4000.0]}, Stake(baseline=None, confidence=0.9)

    first, again = (finish([contender(noise=0.01)], left, stake, 6) for _ in range(2))

    assert first == again
