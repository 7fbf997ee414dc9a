"""Each verdict, veto and tie is reached from evidence whose truth is known."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.candidates import Baseline, Forecasts
from orchestrator.cost.lines import UnitPrice
from orchestrator.cost.prices import COLUMNS, parse_price_table
from orchestrator.cost.rates import rate_card
from orchestrator.cost.spot import SpotMarket, spot_market
from orchestrator.decision import checklist_vetoes, choose, decide, evidence_vetoes, limit_vetoes
from orchestrator.errors import EvidenceError
from orchestrator.ingest import IngestMeasurement, Rate
from orchestrator.intervals import certain
from orchestrator.planner import plan_grid
from orchestrator.results import (
    Bill,
    Candidate,
    CandidateForecast,
    CheckItem,
    CurveBand,
    CurvePoint,
    DataQuality,
    Interval,
    TrialResult,
    Verdict,
)
from orchestrator.spec import BudgetSpec, ExperimentSpec, PricingSpec, SpotSpec, TrackingSpec

ONE_TARGET = {"workers": (1, 2), "smaller_targets": 0}
PRICE_ROW = "aws,g5.xlarge,A10G,1,4,us-east-1,1.006,0.4,,a list,2026-01-21"


def verdict(synthetic: Any, spec: ExperimentSpec, results: list[TrialResult] | None = None, **other: Any) -> Verdict:
    found = synthetic.results(spec) if results is None else results
    values: dict[str, Any] = {"checkpoint_bytes": {}, "n_draws": 1000} | other
    return decide(spec, synthetic.data, found, synthetic.rates(spec), **values)


def candidate(
    model: str = "cnn", workers: int = 1, *, gain: float = 0.05, cost: float = 1.0, p: float = 0.95, hours: float = 1.0,
    noise_units: float | None = 5.0, n: int = 10_000,
) -> CandidateForecast:  # fmt: skip
    def around(value: float) -> Interval:
        return Interval(low=0.8 * value, median=value, high=1.2 * value, mean=value)

    return CandidateForecast(
        candidate=Candidate(model=model, fraction=1.0, n_samples=n, workers=workers, purchase="on_demand"),
        metric=certain(0.9), gain=certain(gain), wall_time_s=around(3600 * hours), cost_usd=around(cost),
        gain_per_dollar=certain(gain / cost), probability=p, noise_units=noise_units,
        bill=Bill(lines=(), total_usd=around(cost), assumed=False),
    )  # fmt: skip


def band(model: str = "cnn", *, noise_std: float = 0.01, **other: Any) -> CurveBand:
    line = (0.9, 0.9)
    values: dict[str, Any] = {
        "model": model, "n_samples": (100.0, 10_000.0), "median": line, "confidence_low": line, "confidence_high": line,
        "prediction_low": line, "prediction_high": line, "noise_std": noise_std, "diagnosis": ("well-behaved",),
        "points": (CurvePoint(n_samples=5000, value=0.9, seed=0, workers=1),),
    }  # fmt: skip
    return CurveBand(**(values | other))


def chosen(synthetic: Any, *pool: CandidateForecast, threshold: float = 0.01, **spec: Any) -> CandidateForecast:
    models = {c.candidate.model for c in pool}
    forecasts = Forecasts(
        candidates=pool, curves=tuple(band(model) for model in sorted(models)), left_out=(), n_used=0, n_excluded=0,
        scaling={}, baseline=Baseline(value=0.8, std_error=0.0, source="config"),
    )  # fmt: skip
    return choose(synthetic.spec(decision={"min_gain_per_dollar": threshold}, **spec), forecasts, 0.0, 4000)


# --- the three verdicts -------------------------------------------------------------------------------------------


def test_a_cheap_and_certain_gain_is_promoted(synthetic: Any) -> None:
    found = verdict(synthetic, synthetic.spec(decision={"baseline": 0.85, "min_gain_per_dollar": 0.5}))

    assert (found.kind, found.vetoes, found.best.candidate.model) == ("PROMOTE", (), "cnn")
    assert found.probability >= 0.9
    assert "approve it to start it" in found.next_step


def test_a_gain_that_cannot_pay_is_rejected(synthetic: Any) -> None:
    found = verdict(synthetic, synthetic.spec(decision={"min_gain_per_dollar": 100.0}))

    assert found.kind == "REJECT"
    assert found.probability <= 0.1


def test_a_threshold_at_the_median_is_held_with_a_priced_measurement(synthetic: Any) -> None:
    spec = synthetic.spec(decision={"baseline": 0.85}, full_run=ONE_TARGET)
    median = verdict(synthetic, spec).best.gain_per_dollar.median

    dear = synthetic.spec(decision={"baseline": 0.85, "min_gain_per_dollar": median}, full_run=ONE_TARGET)
    found = verdict(synthetic, dear)

    assert found.kind == "HOLD"
    assert 0.1 < found.probability < 0.9
    assert "next measurement: cnn on a fraction of 0.71 with 3 seeds (about $" in found.next_step
    assert "no less than the full run's $" in found.next_step  # 3 seeds of 0.71 are twice the full run
    assert found.next_measurement is not None
    assert {trial.fraction for trial in found.next_measurement.trials} == {0.71}
    assert found.next_measurement.description in found.next_step


def test_a_saturated_curve_is_not_promoted_against_its_own_best_trial(synthetic: Any) -> None:
    flat = synthetic.but(error_rates={"cnn": lambda n: 0.1})

    assert verdict(flat, flat.spec(decision={"min_gain_per_dollar": 0.05})).kind != "PROMOTE"


def test_a_model_at_chance_at_every_size_is_never_promoted(synthetic: Any) -> None:
    at_chance = synthetic.but(error_rates={"cnn": lambda n: 0.9}, noise_std=0.003)

    found = verdict(at_chance, at_chance.spec(decision={"min_gain_per_dollar": 0.01}))

    assert found.kind != "PROMOTE"
    assert "flat" in found.curves[0].diagnosis


def test_the_reason_is_one_sentence_with_gain_cost_and_probability(synthetic: Any) -> None:
    spec = synthetic.spec(decision={"baseline": 0.85, "min_gain_per_dollar": 0.5}, full_run=ONE_TARGET)
    reason = verdict(synthetic, spec).reason

    assert reason.startswith("cnn on all of the data, 1 worker, on-demand: +")
    assert "points expected (90%: +" in reason
    assert " for $0.0" in reason
    assert "P(gain per dollar >= 0.5) = " in reason
    assert "\n" not in reason


def test_the_probability_matches_simulated_full_runs(synthetic: Any) -> None:
    """Over many sweeps of one truth, full runs pay about as often as the verdicts said they would."""
    noisy = synthetic.but(noise_std=0.01, error_rates={"cnn": synthetic.error_rates["cnn"]})
    truth = 1 - noisy.error_rates["cnn"](10_000)
    full_run = {"workers": (1,), "smaller_targets": 0}
    spec = noisy.spec(decision={"baseline": truth - 0.01, "min_gain_per_dollar": 0.0}, full_run=full_run)

    said = [verdict(noisy, spec, noisy.results(spec, rng_seed=seed)).probability for seed in range(40)]

    # Were the curve known, P = 0.84: a run falls short when its own noise is below -1 standard deviation. What is not
    # known of the curve takes the probability towards a half, never beyond 0.84 by more than the simulation's error.
    assert 0.6 <= sum(said) / len(said) <= 0.9


def test_same_seed_same_verdict(synthetic: Any) -> None:
    spec = synthetic.spec()

    assert verdict(synthetic, spec) == verdict(synthetic, spec)


def test_no_model_with_enough_sizes_is_an_error_with_the_reason(synthetic: Any) -> None:
    spec = synthetic.spec()
    trials = [t for t in plan_grid(spec, synthetic.data) if t.fraction < 0.2]

    with pytest.raises(EvidenceError, match=r"no model can be forecast yet .*linear: 2 of at least 3"):
        verdict(synthetic, spec, synthetic.results(spec, trials=trials))


# --- which candidate ------------------------------------------------------------------------------------------------


def test_the_highest_net_value_wins_among_those_that_carry(synthetic: Any) -> None:
    pool = (candidate("linear", gain=0.05, p=1.0), candidate("cnn", gain=0.15, p=0.96))

    assert chosen(synthetic, *pool).candidate.model == "cnn"


def test_a_simpler_model_within_the_noise_of_the_best_wins(synthetic: Any) -> None:
    pool = (candidate("linear", gain=0.145, p=1.0), candidate("cnn", gain=0.15, p=1.0))

    assert chosen(synthetic, *pool).candidate.model == "linear"


def test_a_gain_that_could_be_luck_stands_back_behind_one_that_could_not(synthetic: Any) -> None:
    pool = (
        candidate("linear", gain=0.005, p=1.0, noise_units=0.5),
        candidate("cnn", gain=0.014, p=1.0, noise_units=1.4),
    )

    assert chosen(synthetic, *pool).candidate.model == "cnn"


def test_fewer_workers_win_a_tie(synthetic: Any) -> None:
    pool = (candidate(workers=4, cost=1.01), candidate(workers=1), candidate(workers=2))

    assert chosen(synthetic, *pool).candidate.workers == 1


def test_more_workers_are_taken_where_fewer_miss_the_deadline(synthetic: Any) -> None:
    pool = (candidate(workers=1, hours=10), candidate(workers=8, hours=1, cost=1.5))

    assert chosen(synthetic, *pool, full_run={"deadline_h": 2}).candidate.workers == 8


def test_without_one_that_carries_the_likeliest_is_judged(synthetic: Any) -> None:
    pool = (candidate("linear", p=0.3, gain=0.2), candidate("cnn", p=0.6, gain=0.1))

    assert chosen(synthetic, *pool).candidate.model == "cnn"


# --- vetoes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cap", "kind", "names"),
    [(1e-3, "REJECT", ["over budget"]), (1e3, "PROMOTE", [])],
)
def test_a_run_over_the_budget_is_never_promoted(synthetic: Any, cap: float, kind: str, names: list[str]) -> None:
    spec = synthetic.spec(decision={"baseline": 0.85}, budget=BudgetSpec(max_cost_usd=cap))

    found = verdict(synthetic, spec)

    assert (found.kind, [veto.name for veto in found.vetoes]) == (kind, names)
    assert ("raise budget.max_cost_usd" in found.next_step) is (kind == "REJECT")


def test_a_budget_inside_the_interval_holds(synthetic: Any) -> None:
    spec = synthetic.spec(decision={"baseline": 0.85}, full_run={"workers": (1,), "smaller_targets": 0})
    free = verdict(synthetic, spec)
    cap = free.sweep_cost_usd + free.best.cost_usd.median

    found = verdict(synthetic, replace(spec, budget=BudgetSpec(max_cost_usd=cap)))

    assert (found.kind, [veto.name for veto in found.vetoes]) == ("HOLD", ["over budget"])


def test_budget_counts_what_the_sweep_has_spent(synthetic: Any) -> None:
    spec = synthetic.spec(budget=BudgetSpec(max_cost_usd=5.0))

    assert limit_vetoes(spec, candidate(cost=1.0), spent_usd=1.0) == ()
    (veto,) = limit_vetoes(spec, candidate(cost=1.0), spent_usd=4.0)
    assert veto.reason == "the full run may cost $1.20 on top of $4.00 spent, above the budget of $5.00"


def test_a_run_past_the_deadline_is_vetoed(synthetic: Any) -> None:
    (veto,) = limit_vetoes(synthetic.spec(full_run={"deadline_h": 2}), candidate(hours=3), spent_usd=0.0)

    assert veto.name == "past deadline"
    assert "may take 3.6 h, and the deadline is 2 h" in veto.reason


@pytest.mark.parametrize(
    ("forecast", "curve", "name", "phrase"),
    [
        (candidate(noise_units=0.4), band(), "gain below the noise floor", "gain 0.05, spread between seeds 0.01"),
        (candidate(), band(diagnosis=("non-monotone",)), "ill-behaved curve", "falls back between two sizes"),
        (candidate(), band(diagnosis=("wrong-way",)), "ill-behaved curve", "gets worse with more data"),
        (
            candidate(), band(backtest=(Interval(low=0.8, median=0.81, high=0.82, mean=0.81), 0.85)), "backtest missed",
            "from the smaller sizes 0.8 to 0.82 was forecast for the largest one, and 0.85 was measured",
        ),
        (candidate(workers=2), band(), "several workers never tried", "from trials on one, which exchange no"),
        (candidate(n=500_000), band(), "extrapolating too far", "100 times the samples of the largest trial"),
    ],
)  # fmt: skip
def test_each_weakness_of_the_evidence_is_a_veto_with_a_way_out(
    forecast: CandidateForecast, curve: CurveBand, name: str, phrase: str
) -> None:
    (veto,) = evidence_vetoes(forecast, curve)

    assert veto.name == name
    assert phrase in veto.reason
    assert veto.way_out


def test_sound_evidence_has_no_veto() -> None:
    backtest = (Interval(low=0.8, median=0.85, high=0.9, mean=0.85), 0.89)

    assert evidence_vetoes(candidate(n=100_000), band(backtest=backtest, diagnosis=("plateau", "no-replicates"))) == ()


def test_a_cap_is_held_against_what_providers_bill_and_not_against_peoples_time(synthetic: Any) -> None:
    spec = synthetic.spec(budget=BudgetSpec(max_cost_usd=5.0))
    dear = candidate(cost=100.0)
    with_people = replace(dear, bill=replace(dear.bill, invoiced_usd=certain(2.0)))

    assert [veto.name for veto in limit_vetoes(spec, dear, 0.0)] == ["over budget"]
    assert limit_vetoes(spec, with_people, 2.9) == ()
    assert [veto.name for veto in limit_vetoes(spec, with_people, 3.1)] == ["over budget"]


def test_spot_that_misses_a_deadline_is_told_to_buy_on_demand(synthetic: Any) -> None:
    spec = synthetic.spec(full_run={"deadline_h": 1.0})
    late = candidate(hours=3.0)
    spot = replace(late, candidate=replace(late.candidate, purchase="spot"))

    ways_out = [limit_vetoes(spec, each, 0.0)[0].way_out for each in (late, spot)]

    assert "on-demand" not in ways_out[0]
    assert ways_out[1].startswith("buy on-demand")


def test_what_earlier_full_runs_cost_counts_towards_the_cap(synthetic: Any) -> None:
    spec = synthetic.spec(budget=BudgetSpec(max_cost_usd=100.0))

    free, spent = (verdict(synthetic, spec, full_runs_usd=usd) for usd in (0.0, 99.99))

    assert "over budget" not in {veto.name for veto in free.vetoes}
    assert "over budget" in {veto.name for veto in spent.vetoes}
    assert spent.sweep_cost_usd == free.sweep_cost_usd


def test_several_workers_that_were_tried_are_no_veto() -> None:
    points = tuple(CurvePoint(n_samples=5000, value=0.9, seed=0, workers=workers) for workers in (1, 2))

    assert evidence_vetoes(candidate(workers=4), band(points=points)) == ()


def test_a_verdict_says_what_more_workers_bring(synthetic: Any) -> None:
    found = verdict(synthetic, synthetic.spec(full_run={"workers": (1, 2, 4)})).scaling

    assert found is not None
    assert [each.workers for each in found.candidates] == [1, 2, 4]
    assert [each.measured for each in found.candidates] == [True, True, False]
    assert found.candidates[0].bottleneck == "compute"
    assert 0 < found.candidates[1].parallel_efficiency < 1.05


def test_a_failed_checklist_item_is_a_veto_but_the_odds_themselves_are_not() -> None:
    items = [
        CheckItem(name=name, status="fail", evidence="e")
        for name in ("C3 benchmark on subsamples", "C5 worth the cost")
    ]

    assert [veto.name for veto in checklist_vetoes(items)] == ["checklist: C3 benchmark on subsamples"]


def thin(synthetic: Any, spec: ExperimentSpec) -> list[TrialResult]:
    return [r for r in synthetic.results(spec) if r.trial.seed == 0]


def bent(synthetic: Any, spec: ExperimentSpec) -> list[TrialResult]:
    """Accuracy collapses at the largest size."""
    return [
        replace(r, training=replace(r.training, accuracy=0.7)) if r.trial.fraction == 0.5 else r
        for r in synthetic.results(spec)
    ]


@pytest.mark.parametrize(
    ("evidence", "name"), [(thin, "checklist: C3 benchmark on subsamples"), (bent, "ill-behaved curve")]
)
def test_weak_evidence_turns_promotion_into_hold_with_the_way_out(
    synthetic: Any, evidence: Callable[[Any, ExperimentSpec], list[TrialResult]], name: str
) -> None:
    spec = synthetic.spec(decision={"baseline": 0.3, "min_gain_per_dollar": 0.1})

    found = verdict(synthetic, spec, evidence(synthetic, spec))

    assert found.probability >= 0.9
    assert found.kind == "HOLD"
    assert name in {veto.name for veto in found.vetoes}
    assert "held back: " in found.reason
    assert found.vetoes[0].way_out in found.next_step


# --- the record -----------------------------------------------------------------------------------------------------


def test_the_digest_changes_with_evidence_price_and_threshold_only(synthetic: Any) -> None:
    spec = synthetic.spec()
    results = synthetic.results(spec)
    first = verdict(synthetic, spec, results).inputs_digest

    same = replace(spec, tracking=TrackingSpec(uri="sqlite:///elsewhere.db"), name="renamed")
    assert verdict(synthetic, same, results[::-1]).inputs_digest == first
    changed = [
        (spec, results[:-1]),
        (synthetic.spec(decision={"min_gain_per_dollar": 0.2}), results),
        (synthetic.spec(pricing=PricingSpec(usd_per_worker_hour=2.0)), results),
        (spec, [replace(results[0], training=replace(results[0].training, accuracy=0.1)), *results[1:]]),
    ]
    digests = {verdict(synthetic, s, r).inputs_digest for s, r in changed}
    digests.add(verdict(synthetic, spec, results, rng_seed=1).inputs_digest)
    assert len(digests) == 5
    assert first not in digests


def test_the_digest_follows_what_a_price_file_holds_and_not_where_it_lies(synthetic: Any) -> None:
    def digest(market: SpotMarket | None = None, storage_usd: float = 0.02, **pricing: Any) -> str:
        asked = {"instance": "aws/g5.xlarge", "region": "us-east-1", "purchase": ("spot",)} | pricing
        spec = synthetic.spec(pricing=PricingSpec(**asked))
        table = parse_price_table("\n".join([",".join(COLUMNS), PRICE_ROW]), "prices.csv")
        rates = rate_card(spec.pricing, table, None, datetime.date(2026, 1, 22), spot=market)
        rates = replace(rates, storage=UnitPrice(usd=storage_usd, unit="GB-month", cited="a list"))
        return decide(
            spec, synthetic.data, synthetic.results(spec), rates, checkpoint_bytes={}, n_draws=200
        ).inputs_digest

    known = digest()
    assert digest(catalogue="elsewhere/prices.csv", spot=SpotSpec(history="elsewhere/runs.csv")) == known
    assert digest(market=spot_market(1.0, 1.0)) != known
    assert digest(storage_usd=0.03) != known


def test_the_digest_does_not_change_because_a_day_went_by(synthetic: Any) -> None:
    spec = synthetic.spec(pricing=PricingSpec(instance="aws/g5.xlarge", region="us-east-1"))
    table = parse_price_table("\n".join([",".join(COLUMNS), PRICE_ROW]), "prices.csv")
    days = (datetime.date(2026, 1, 22), datetime.date(2026, 12, 1))

    first, later = (
        decide(
            spec,
            synthetic.data,
            synthetic.results(spec),
            rate_card(spec.pricing, table, None, day),
            checkpoint_bytes={},
        )
        for day in days
    )

    assert first.inputs_digest == later.inputs_digest
    assert any("days old" in warning for warning in later.best.bill.warnings)
    assert first.best.bill.assumed


def test_a_diverged_trial_is_counted_and_breaks_nothing(synthetic: Any) -> None:
    spec = synthetic.spec()
    results = synthetic.results(spec)
    diverged = replace(results[0], training=replace(results[0].training, accuracy=math.nan, loss=math.nan))

    found = verdict(synthetic, spec, [diverged, *results[1:]])

    assert (found.n_trials, found.n_excluded) == (len(results) - 1, 1)


def test_the_same_verdict_is_reached_at_any_scale_of_money(synthetic: Any) -> None:
    kinds = set()
    for scale in (1e-6, 1.0, 1e6):
        spec = synthetic.spec(
            pricing=PricingSpec(usd_per_worker_hour=scale),
            decision={"baseline": 0.85, "min_gain_per_dollar": 1.0 / scale},
        )
        found = verdict(synthetic, spec)
        kinds.add((found.kind, found.probability))
    assert len(kinds) == 1


# --- data that cannot keep up -------------------------------------------------------------------------------------


def probe(*, compute: float, loader: float, storage: float) -> IngestMeasurement:
    """One worker's rates, samples/s, nearly without spread; nothing stays in memory."""

    def rate(per_s: float, cpu_s: float | None = None) -> Rate:
        return Rate(repeats=tuple(per_s * f for f in (0.99, 0.995, 1.0, 1.005, 1.01)), cpu_s_per_sample=cpu_s)

    return IngestMeasurement(
        device="cpu", batch_size=32, compute=rate(compute), loader=rate(loader, 1 / loader), cold=rate(storage),
        storage=rate(storage), storage_readers=4, end_to_end=rate(min(compute, loader)), n_rows=10_000,
        bytes_per_sample=1e5, host_cores=2, host_memory_bytes=0,
    )  # fmt: skip


def asked_of_two_workers(synthetic: Any, measured: IngestMeasurement) -> Verdict:
    spec = synthetic.spec(decision={"baseline": 0.85, "min_gain_per_dollar": 0.5}, full_run={"workers": (2,)})
    return verdict(synthetic, spec, probes={"cnn": measured})


def test_workers_that_would_wait_for_the_store_are_vetoed_with_a_way_out(synthetic: Any) -> None:
    found = asked_of_two_workers(synthetic, probe(compute=1000, loader=5000, storage=1000))

    (veto,) = (each for each in found.vetoes if each.name == "ingest-bound")
    assert found.kind == "HOLD"
    assert found.probability >= 0.9
    assert "more workers will not help" in veto.reason
    assert "scale to 1 worker" in veto.way_out
    assert found.data_path is not None
    assert [row[0] for row in found.data_path.rows] == ["1", "2"]


def test_workers_whose_data_keep_up_are_promoted(synthetic: Any) -> None:
    found = asked_of_two_workers(synthetic, probe(compute=1000, loader=50_000, storage=50_000))

    assert (found.kind, found.vetoes) == ("PROMOTE", ())


def test_one_worker_wins_where_the_second_would_wait_for_data(synthetic: Any) -> None:
    spec = synthetic.spec(decision={"baseline": 0.85, "min_gain_per_dollar": 0.5}, full_run={"workers": (1, 2)})
    measured = {"cnn": probe(compute=1000, loader=5000, storage=1000)}

    assert verdict(synthetic, spec, probes=measured).best.candidate.workers == 1


def test_a_probe_is_part_of_what_an_approval_holds_for(synthetic: Any) -> None:
    keeps_up = asked_of_two_workers(synthetic, probe(compute=1000, loader=50_000, storage=50_000))
    other = asked_of_two_workers(synthetic, probe(compute=1000, loader=50_000, storage=60_000))

    assert keeps_up.inputs_digest != other.inputs_digest


def test_dirty_data_hold_a_promotion(synthetic: Any) -> None:
    leaking = DataQuality(
        status="fail", evidence="exact leakage: 500 of 2,500 validation rows are in the training pool"
    )
    dirty = synthetic.but(data=replace(synthetic.data, quality=leaking))

    found = verdict(dirty, dirty.spec(decision={"baseline": 0.85, "min_gain_per_dollar": 0.5}))

    (veto,) = found.vetoes
    assert found.kind == "HOLD"
    assert veto.name == "checklist: C2 data clean and versioned"
    assert "exact leakage: 500 of 2,500" in veto.reason


def test_fewer_workers_are_no_virtue_where_more_are_faster_and_cheaper(synthetic: Any) -> None:
    slow = candidate(workers=2, cost=1.0, hours=2.0)
    quick = candidate(workers=4, cost=0.9, hours=1.0)
    dear = candidate(workers=4, cost=1.1, hours=1.0)

    assert chosen(synthetic, slow, quick) == quick
    assert chosen(synthetic, slow, dear) == slow
