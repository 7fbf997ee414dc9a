"""The benchmark of decisions: figures on cases small enough to work out by hand, the real verdict on clear ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import bench_decisions as bench
import numpy as np
import pytest
from bench_learning_curves import Curve

from orchestrator.curves import learned
from orchestrator.results import MeasurementAdvice


def law(n: float) -> float:
    return 0.05 + 2.0 * n**-0.5


def curve(*, name: str = "lcdb11/1/net/3seed", scale: float = 1.0, smallest: int = 16) -> Curve:
    """Sizes a factor of the root of two apart up to 4,096, 3 seeds each, a single mean at the last."""
    sizes = np.unique(np.round(np.geomspace(smallest, 4096, 17)))
    rows = [(n, scale * law(n) + 0.002 * seed) for n in sizes[:-1] for seed in (-1, 0, 1)]
    n, value = np.array([*rows, (4096.0, scale * law(4096))]).T
    return Curve(source="lcdb11_3seed", name=name, dataset="d", family="d", is_error=True, n=n, value=value)


def case(factor: float = 4.0, **changes: Any) -> bench.Case:
    found = {each.factor: each for each in bench.cases_of([curve()], {}, seed=0)}[factor]
    return replace(found, **({"purchase": "on_demand"} | changes))


def outcome(run_net: float, *, runs: bool, probability: float = 0.5, family: str = "a", **other: Any) -> bench.Outcome:
    values: dict[str, Any] = {
        "family": family, "group": bench.ERRORS, "factor": 2.0, "call": "close", "kind": "HOLD", "vetoes": (),
        "net": dict.fromkeys(bench.POLICIES, run_net if runs else 0.0), "runs": dict.fromkeys(bench.POLICIES, runs),
        "bought": dict.fromkeys(bench.POLICIES, 0), "advice_over_run": None, "point_usd": 10.0,
    }  # fmt: skip
    return bench.Outcome(run_net=run_net, probability=probability, **(values | other))


# --- cases --------------------------------------------------------------------------------------------------------


def test_a_case_shows_the_five_sizes_below_the_cut_and_asks_for_the_largest() -> None:
    found = case(4.0)

    assert found.target_n == 4096
    assert found.shown[-1] == pytest.approx(1024, rel=0.02)
    assert len(found.shown) == bench.N_SIZES
    assert all(b / a >= 1.39 for a, b in zip(found.shown, found.shown[1:], strict=False))
    assert all(found.shown[-1] < n < 4096 for n in found.beyond)
    assert {len(found.points[n]) for n in found.shown} == {3}


def test_the_money_is_drawn_from_nothing_that_the_curve_shows() -> None:
    one, other = (bench.cases_of([curve(scale=scale)], {}, seed=0) for scale in (1.0, 0.3))

    for a, b in zip(one, other, strict=True):
        assert (a.usd_per_unit, a.seconds_per_row, a.instance, a.purchase) == (
            b.usd_per_unit, b.seconds_per_row, b.instance, b.purchase,
        )  # fmt: skip
    assert one[0].points != other[0].points


def test_an_on_demand_run_costs_what_was_drawn_up_to_noise_and_startup() -> None:
    found = [each for seed in range(12) for each in bench.cases_of([curve()], {}, seed)]

    assert {each.purchase for each in found} == set(bench.PURCHASES)
    for each in found:
        hours = each.seconds_per_row * each.target_n * bench.EPOCHS / 3600
        assert bench.RUN_HOURS[0] * 0.99 <= hours <= bench.RUN_HOURS[1] * 1.01
        if each.purchase == "on_demand":
            cost_usd, is_done = bench.real_run(each, each.target_n)
            assert 0.09 < cost_usd / each.usd_per_unit / 0.01 < 11.5
            assert is_done


def test_too_small_a_curve_and_a_cut_with_too_few_sizes_are_left_out() -> None:
    small = replace(curve(), n=curve().n / 8, value=curve().value)

    assert bench.cases_of([small], {}, seed=0) == []
    assert {each.factor for each in bench.cases_of([curve(smallest=500)], {}, seed=0)} == {2.0}


def test_a_sample_takes_every_family_before_it_takes_one_twice() -> None:
    curves = [replace(curve(name=str(i)), family=family) for i, family in enumerate("aaaaaaaabc")]

    assert {each.family for each in bench.sampled(curves, 3, seed=0)} == {"a", "b", "c"}
    assert bench.sampled(curves, 3, seed=0) == bench.sampled(curves, 3, seed=0)


# --- what policies do, and what it is worth -----------------------------------------------------------------------


def test_a_power_law_is_recovered_and_extrapolated() -> None:
    found = case(points={n: (law(n),) for n in case().points})

    assert bench.power_law_forecast(found) == pytest.approx(law(4096), abs=2e-3)


def test_the_line_through_two_points_runs_on_in_the_logarithm() -> None:
    found = case(shown=(1000, 2000), target_n=4000, points={1000: (0.4,), 2000: (0.3,)})

    assert bench.last_two_forecast(found) == pytest.approx(0.2)


def test_running_is_worth_the_true_gain_less_the_real_cost() -> None:
    found = case()
    gain = found.true_value(found.shown[-1]) - found.true_value(4096)
    cost_usd, _ = bench.real_run(found, 4096)

    assert bench.net_value(found, bench.Play(run_n=4096)) == pytest.approx(found.usd_per_unit * gain - cost_usd)
    assert bench.net_value(found, bench.Play(run_n=None)) == 0.0


def test_a_size_that_was_bought_is_paid_for_and_kept() -> None:
    found = case()
    size = found.beyond[-1]
    gain = found.true_value(found.shown[-1]) - found.true_value(size)

    worth = bench.net_value(found, bench.Play(run_n=None, kept_n=size, bought=(size,), bought_usd=7.0))

    assert worth == pytest.approx(found.usd_per_unit * gain - 7.0)


def test_a_run_that_interruptions_do_not_let_end_is_paid_for_and_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "real_run", lambda case, n: (50.0, False))

    assert bench.net_value(case(), bench.Play(run_n=4096)) == -50.0


def test_the_next_size_is_the_curves_own_nearest_to_the_advice_with_as_many_seeds() -> None:
    found = case(4.0)
    trials = tuple(bench.TrialSpec(model=bench.MODEL, fraction=0.6, workers=1, seed=seed) for seed in (0, 1))
    advice = MeasurementAdvice(description="", trials=trials, cost_usd=1.0)
    verdict = replace(bench.verdict_on(found, found.shown), next_measurement=advice)

    size, seeds = bench.next_size(found, found.shown, verdict)

    assert size in found.beyond
    assert size == pytest.approx(0.6 * 4096, rel=0.2)
    assert seeds == 2
    assert bench.next_size(replace(found, beyond=()), found.shown, verdict) is None
    assert bench.next_size(found, found.shown, replace(verdict, next_measurement=None)) is None


def test_a_point_worth_a_fortune_is_promoted_and_a_worthless_one_is_not() -> None:
    dear, worthless = (bench.plays_of(case(usd_per_unit=usd))[0] for usd in (1e9, 1e-3))

    assert dear[bench.HELD_NOT_RUN].run_n == dear[bench.POWER_LAW].run_n == 4096
    assert worthless[bench.HELD_NOT_RUN].run_n is None
    assert worthless[bench.POWER_LAW].run_n is None
    assert worthless[bench.ALWAYS].run_n == 4096
    assert dear[bench.NEVER].run_n is None


@pytest.mark.parametrize("most", [1, 2])
def test_a_hold_is_followed_as_often_as_allowed_and_paid_for(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "MOST_BOUGHT", most)
    open_question = bench.verdict_on(case(8.0), case(8.0).shown)
    # At 1.8 times the value that pays for the run on average, one more measurement does not settle it.
    found = case(8.0, usd_per_unit=1.8 * open_question.best.cost_usd.mean / open_question.best.gain.mean)
    verdict = bench.verdict_on(found, found.shown)

    play = bench.measured_on(found, verdict)

    assert verdict.kind == "HOLD"
    assert len(play.bought) == most
    assert sorted(play.bought) == list(play.bought)
    rate = bench.rates_of(bench.spec_of(found, found.shown, smaller_targets=0).pricing).sweep_usd_per_worker_s
    seconds = 3 * sum(play.bought) * found.seconds_per_row * bench.EPOCHS
    assert play.bought_usd == pytest.approx(seconds * rate, rel=0.1)
    assert bench.measured_on(found, replace(verdict, kind="REJECT")) == bench.Play(run_n=None, kept_n=512)


def test_networks_are_put_back() -> None:
    shipped = learned.shipped
    net = shipped()

    with bench.networks(net):
        assert learned.shipped() is net
    assert learned.shipped is shipped


# --- scores -------------------------------------------------------------------------------------------------------


def test_regret_is_what_the_oracle_would_have_had_more() -> None:
    found = [
        outcome(100.0, runs=True),
        outcome(100.0, runs=False),
        outcome(-30.0, runs=True),
        outcome(-30.0, runs=False),
        outcome(50.0, runs=False),
    ]

    told = bench.score(found, bench.HELD_NOT_RUN)

    assert bench.regrets(found, bench.HELD_NOT_RUN).tolist() == [0.0, 100.0, 30.0, 0.0, 50.0]
    assert (told["wrong"], told["missed"], told["runs"]) == (0.2, 0.4, 0.4)
    assert told["regret_of_oracle"] == pytest.approx(180 / 250)
    assert told["regret_mean_points"] == pytest.approx(180 / 5 / 10)


def test_the_difference_of_two_policies_is_taken_case_by_case() -> None:
    found = [
        outcome(10.0, runs=True, family=f, net={bench.HELD_NOT_RUN: 10.0, bench.NEVER: 0.0}) for f in ("a", "b", "c")
    ]

    told = bench.difference(found, bench.HELD_NOT_RUN, bench.NEVER)

    assert told["mean_usd"] == -10.0
    assert told["se_usd"] == pytest.approx(0.0)


def test_probabilities_are_told_beside_how_often_runs_paid() -> None:
    found = [outcome(1.0 if i < 3 else -1.0, runs=False, probability=0.8, family=str(i)) for i in range(4)]

    told = bench.calibration(found)

    (row,) = told["rows"]
    assert (row["from"], row["to"], row["n"]) == (0.7, 0.9, 4)
    assert (row["told"], row["paid"]) == (pytest.approx(0.8), 0.75)
    assert told["brier"] == pytest.approx((3 * 0.04 + 0.64) / 4)
    assert told["brier_of_base_rate"] == pytest.approx(0.75 * 0.25)


def test_a_certain_probability_falls_into_the_last_bin() -> None:
    assert bench.calibration([outcome(1.0, runs=True, probability=1.0)])["rows"][0]["to"] == 1.0


def test_what_vetoes_alone_held_back_is_counted_with_its_worth() -> None:
    runs = dict.fromkeys(bench.POLICIES, False) | {bench.NO_VETOES: True}
    found = [
        outcome(50.0, runs=False, vetoes=("backtest missed",)),
        replace(outcome(-20.0, runs=False, vetoes=("backtest missed",)), runs=runs),
        replace(outcome(50.0, runs=False, vetoes=("ill-behaved curve",)), runs=runs),
    ]

    told = bench.vetoed_promotions(found)

    assert (told["n"], told["would_have_paid"], told["net_usd"]) == (2, 1, 30.0)


def test_the_tables_name_every_policy_and_every_bin() -> None:
    found = [outcome(10.0 * i - 30, runs=i % 2 == 0, probability=i / 10, family=str(i % 3)) for i in range(11)]

    text = bench.told({"groups": {bench.ERRORS: bench.group_record(found)}})

    assert all(text.count(policy) >= 2 for policy in bench.POLICIES)
    assert "11 cases of 3 families" in text
    assert text.count(" +- ") >= 6
    assert text.count("ours, a HOLD is not run - ") == len(bench.POLICIES) - 1
    assert max(map(len, text.splitlines())) <= 160
