"""What-if: each supposition moves the verdict as it should, and impossible ones are refused in words."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.cost.prices import COLUMNS, parse_price_table
from orchestrator.cost.rates import rate_card
from orchestrator.decision import decide, inputs_digest
from orchestrator.errors import EvidenceError, PriceError
from orchestrator.planner import plan_grid
from orchestrator.results import Drill, Verdict
from orchestrator.spec import DataSpec, ExperimentSpec, PricingSpec, SpotSpec

PRICE_ROW = "aws,g5.xlarge,A10G,1,4,us-east-1,1.006,0.4,,a list,2026-01-21"
TABLE = parse_price_table("\n".join([",".join(COLUMNS), PRICE_ROW]), "prices.csv")
ON_AWS = {"instance": "aws/g5.xlarge", "region": "us-east-1"}
ASKED: dict[str, Any] = {
    "decision": {"baseline": 0.85, "min_gain_per_dollar": 0.5},
    "full_run": {"workers": (1,), "smaller_targets": 1},
    "pricing": PricingSpec(**ON_AWS),
}


def judged(synthetic: Any, **changes: Any) -> Verdict:
    asked = {
        key: ASKED[key] | changes[key] if isinstance(ASKED.get(key), dict) and key in changes else value
        for key, value in (ASKED | changes).items()
    }
    spec = synthetic.spec(**asked)
    rates = rate_card(spec.pricing, TABLE, None, datetime.date(2026, 2, 1))
    found: Verdict = decide(spec, synthetic.data, synthetic.results(spec), rates, checkpoint_bytes={}, n_draws=512)
    return found


def largest(verdict: Verdict) -> Any:
    return max(verdict.candidates, key=lambda c: (c.candidate.model == "cnn", c.candidate.n_samples))


Same = Callable[[Verdict, Verdict], bool]


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({"pricing": PricingSpec(**ON_AWS, purchase=("spot",))},
         lambda a, b: b.best.cost_usd.mean < a.best.cost_usd.mean),
        ({"pricing": PricingSpec(**ON_AWS, purchase=("spot",), spot=SpotSpec(mean_uptime_h=1e-5, mean_downtime_h=1.0))},
         lambda a, b: b.kind != "PROMOTE" and b.probability < a.probability),
        ({"pricing": PricingSpec(usd_per_worker_hour=1e4)}, lambda a, b: b.kind == "REJECT"),
        ({"pricing": PricingSpec(usd_per_worker_hour=1e-3)}, lambda a, b: b.probability >= a.probability),
        ({"full_run": {"deadline_h": 1e-3}}, lambda a, b: b.kind == "REJECT" and b.vetoes[0].name == "past deadline"),
        ({"full_run": {"deadline_h": 10.0}}, lambda a, b: b.kind == a.kind and b.best.deadline_probability == 1.0),
        ({"full_run": {"workers": (2,)}}, lambda a, b: b.best.wall_time_s.mean < a.best.wall_time_s.mean),
        ({"decision": {"min_gain_per_dollar": 0.0}}, lambda a, b: b.probability >= a.probability),
        ({"decision": {"min_gain_per_dollar": 1e3}}, lambda a, b: b.kind == "REJECT"),
        ({"decision": {"baseline": 0.99}}, lambda a, b: b.kind == "REJECT"),
        ({"decision": {"confidence": 0.999}}, lambda a, b: b.confidence == 0.999),
        ({"full_run": {"smaller_targets": 0}}, lambda a, b: len(b.candidates) == len(a.candidates) // 2),
        ({"full_run": {"fraction": 2.0}}, lambda a, b: largest(b).candidate.n_samples == 20_000),
        ({"data": DataSpec(source="task", label_noise=0.2)},
         lambda a, b: largest(b).gain.mean < largest(a).gain.mean and len(b.assumptions) == 1),
    ],
)  # fmt: skip
def test_a_supposition_moves_the_verdict_its_way(synthetic: Any, changes: dict[str, Any], holds: Same) -> None:
    standing, supposed = judged(synthetic), judged(synthetic, **changes)

    assert standing.kind == "PROMOTE"
    assert standing.assumptions == ()
    assert holds(standing, supposed)
    assert supposed.inputs_digest != standing.inputs_digest


def test_rows_that_do_not_exist_are_at_best_held_with_how_many_to_collect(synthetic: Any) -> None:
    """A curve that still falls steeply, so that twice the data are the best candidate by more than the noise."""
    steep = synthetic.but(error_rates={"cnn": lambda n: 40 * n**-0.6}, noise_std=0.002)

    asked = {"baseline": 0.7, "min_gain_per_dollar": 0.01}
    found = judged(steep, full_run={"fraction": 2.0, "smaller_targets": 1}, decision=asked)

    assert (found.best.candidate.n_samples, found.kind) == (20_000, "HOLD")
    assert found.probability >= 0.9
    veto = found.vetoes[0]
    assert veto.name == "more data than there is"
    assert veto.reason == "there are 10,000 training rows, and 20,000 were asked about"
    assert "collect 10,000 more training rows" in veto.way_out
    assert veto.way_out in found.next_step
    assert "on 2x of today's data" in found.reason
    assert "10,000 training rows that are still to be collected" in found.assumptions[0]


def test_what_there_is_suffices_where_more_data_gain_less_than_the_noise(synthetic: Any) -> None:
    noisy, asked = synthetic.but(noise_std=0.02), {"min_gain_per_dollar": 0.0}
    found = judged(noisy, full_run={"fraction": 2.0, "smaller_targets": 1}, decision=asked)

    assert found.best.candidate.fraction <= 1
    assert "more data than there is" not in {veto.name for veto in found.vetoes}
    assert "is preferred to cnn on 2x of today's data" in found.preference
    assert found.preference.endswith("so less data suffices")


# --- what cannot be -------------------------------------------------------------------------------------------------


def decided(synthetic: Any, spec: ExperimentSpec, price: float | None = None, **other: Any) -> Verdict:
    rates = rate_card(spec.pricing, TABLE, None, datetime.date(2026, 2, 1))
    if price is not None:
        quotes = {name: replace(quote, usd_per_instance_hour=price) for name, quote in rates.quotes.items()}
        rates = replace(rates, quotes=quotes)
    values = {"data": synthetic.data, "results": synthetic.results(spec), "rates": rates} | other
    return decide(spec, values["data"], values["results"], values["rates"], checkpoint_bytes={}, n_draws=200)


@pytest.mark.parametrize("price", [-1.0, 0.0, float("nan"), float("inf")])
def test_a_price_that_cannot_be_is_refused(synthetic: Any, price: float) -> None:
    with pytest.raises(PriceError, match=r"on_demand price of .* must be above 0: mend the price list"):
        decided(synthetic, synthetic.spec(pricing=PricingSpec(**ON_AWS)), price)


def test_a_purchase_option_without_a_price_is_refused(synthetic: Any) -> None:
    spec = synthetic.spec(pricing=PricingSpec(**ON_AWS))
    rates = rate_card(spec.pricing, TABLE, None, datetime.date(2026, 2, 1))
    both = replace(spec, pricing=replace(spec.pricing, purchase=("on_demand", "spot")))

    with pytest.raises(
        PriceError, match=r"no price for spot; there are prices for on_demand: change pricing\.purchase"
    ):
        decided(synthetic, both, rates=rates)


def test_missing_evidence_is_an_error_with_the_way_out(synthetic: Any) -> None:
    spec = synthetic.spec()
    failed = [replace(r, status="failed", training=None) for r in synthetic.results(spec)]

    with pytest.raises(EvidenceError, match="no trial has been recorded yet; run `sweep`"):
        decided(synthetic, spec, results=[])
    with pytest.raises(EvidenceError, match="recorded trials can be used: they failed"):
        decided(synthetic, spec, results=failed)
    with pytest.raises(EvidenceError, match="0 training rows"):
        decided(synthetic, spec, data=replace(synthetic.data, n_train=0))


# --- what an approval holds for ---------------------------------------------------------------------------------------


def drill(name: Any, *, passed: bool, at: str = "2026-02-01T00:00:00+00:00") -> Drill:
    return Drill(name=name, passed=passed, evidence="resumed in 3 s", at=at)


def test_a_failed_drill_ends_an_approval_and_a_passed_one_or_the_day_of_it_does_not(synthetic: Any) -> None:
    spec = synthetic.spec()
    results = synthetic.results(spec, trials=plan_grid(spec, synthetic.data)[:3])

    def of(*drills: Drill) -> str:
        return inputs_digest(spec, synthetic.data, results, synthetic.rates(spec), {}, None, 0, drills=drills)

    passed, failed = drill("restart", passed=True), drill("restart", passed=False)
    assert of() == of(passed) == of(passed, drill("alert", passed=True))
    assert len({of(), of(failed), of(failed, drill("alert", passed=False))}) == 3
    assert of(failed) == of(replace(failed, at="2026-03-01T00:00:00+00:00", evidence="resumed in 4 s"))


def test_the_digest_knows_the_size_of_a_checkpoint(synthetic: Any) -> None:
    spec = synthetic.spec()
    results = synthetic.results(spec, trials=plan_grid(spec, synthetic.data)[:3])

    def of(sizes: dict[str, int]) -> str:
        return inputs_digest(spec, synthetic.data, results, synthetic.rates(spec), sizes, None, 0)

    assert len({of({}), of({"cnn": 1}), of({"cnn": 2})}) == 3
