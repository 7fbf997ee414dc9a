"""PROMOTE, HOLD or REJECT: one candidate, the probability that it pays, and the reason in a sentence.

A full run pays when its gain per dollar reaches ``decision.min_gain_per_dollar`` (lambda), that is when its net value
``gain - lambda * cost_usd`` is not negative. With P the probability of that, over the joint draws of `candidates`:

    PROMOTE   P >= confidence and no veto
    REJECT    P <= 1 - confidence, or a veto that more evidence cannot lift
    HOLD      everything between, with the next measurement and its price

Which candidate is `choice`. Vetoes never promote. Budget and deadline are vetoes when the high end of the 90% interval
breaks them, and turn the verdict to REJECT when the low end does too: then no measurement can help. All other vetoes
hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Literal

from orchestrator.candidates import Forecasts, assumptions_of, forecast_candidates
from orchestrator.checklist import checklist
from orchestrator.cost.rates import RateCard
from orchestrator.decision.choice import NO_DIAGNOSES, ROUNDING, curve_of, preference_sentence, weigh
from orchestrator.decision.frontier import frontier_of
from orchestrator.decision.inputs import NO_PROBES, inputs_digest
from orchestrator.decision.vetoes import (
    checklist_vetoes,
    doubts_of,
    is_out_of_reach,
    limit_vetoes,
    supposed_vetoes,
)
from orchestrator.decision.wording import left_out, next_step_of, reason_of
from orchestrator.errors import EvidenceError, PriceError
from orchestrator.evidence import mixture, usable_results
from orchestrator.ingest import (
    INGEST_HEADER,
    IngestDiagnosis,
    IngestMeasurement,
    diagnose_full_run,
    headroom_text,
    ingest_lines,
    ingest_rows,
)
from orchestrator.planner import advise, plan_grid
from orchestrator.results import (
    CandidateForecast,
    CheckItem,
    CurveBand,
    DataPathFinding,
    DataSummary,
    Drill,
    Interval,
    TrialResult,
    Verdict,
    Veto,
)
from orchestrator.spec import ExperimentSpec, digest


def decide(
    spec: ExperimentSpec,
    data: DataSummary,
    results: Sequence[TrialResult],
    rates: RateCard,
    *,
    checkpoint_bytes: Mapping[str, int],
    rng_seed: int = 0,
    n_draws: int = 4000,
    full_run_startup_s: Interval | None = None,
    trials_usd: float | None = None,
    full_runs_usd: float = 0.0,
    probes: Mapping[str, IngestMeasurement] = NO_PROBES,
    drills: Sequence[Drill] = (),
) -> Verdict:
    """The verdict on stored evidence; same inputs and seed, same verdict.

    Args:
        spec: The config.
        data: The data set as prepared.
        results: All trials of the journal, in any order.
        rates: `cost.rates.rate_card` of the config.
        checkpoint_bytes: Size of a checkpoint by model, as the smoke stage measured it; may be empty.
        rng_seed: Seed of the joint draws.
        n_draws: Draws per candidate.
        full_run_startup_s: Launch time of earlier full runs, if there were any.
        trials_usd: What all attempts at trials cost; None takes the cost of ``results``.
        full_runs_usd: What providers billed for earlier full runs; the cap counts it.
        probes: What the data path was measured to be, by model.
        drills: What was rehearsed, the latest of each name.
    Raises:
        EvidenceError: No model has enough finished trials of this data for a forecast; where the journal holds trials
            of other data, their fingerprints are named. Or a supposition of the config says nothing of this data.
        PriceError: A purchase option without a price, or a price that cannot be.
    """
    _check_prices(spec, rates)
    try:
        forecasts = forecast_candidates(
            spec, data, results, rates, checkpoint_bytes=checkpoint_bytes, rng_seed=rng_seed, n_draws=n_draws,
            full_run_startup_s=full_run_startup_s,
        )  # fmt: skip
        if not forecasts.candidates:
            reasons = "; ".join(f"{left.model}: {left.reason}" for left in forecasts.left_out)
            raise EvidenceError(f"no model can be forecast yet ({reasons})")
    except EvidenceError as error:
        mixed = mixture(data, results)
        if mixed is None:
            raise
        raise EvidenceError(f"{mixed} ({error})") from error
    inputs = inputs_digest(spec, data, results, rates, checkpoint_bytes, full_run_startup_s, rng_seed, probes, drills)
    data_paths = {
        model.name: diagnose_full_run(
            spec, data, usable_results(spec, data, results, model.name), probes.get(model.name), rates
        )
        for model in spec.models
    }
    return judge(
        spec, data, results, forecasts, n_draws=n_draws, inputs=inputs, rng_seed=rng_seed,
        trials_usd=trials_usd, full_runs_usd=full_runs_usd, data_paths=data_paths, probes=probes, drills=drills,
    )  # fmt: skip


def judge(
    spec: ExperimentSpec,
    data: DataSummary,
    results: Sequence[TrialResult],
    forecasts: Forecasts,
    *,
    n_draws: int,
    inputs: str,
    rng_seed: int,
    trials_usd: float | None = None,
    full_runs_usd: float = 0.0,
    data_paths: Mapping[str, IngestDiagnosis | None] = NO_DIAGNOSES,
    probes: Mapping[str, IngestMeasurement] = NO_PROBES,
    drills: Sequence[Drill] = (),
) -> Verdict:
    """The verdict on forecasts that are already made; arguments as of `decide`."""
    sweep_usd = sum(result.cost_usd for result in results) if trials_usd is None else trials_usd
    spent_usd = sweep_usd + full_runs_usd
    choice = weigh(spec, forecasts, spent_usd, n_draws, data_paths)
    best = choice.best
    data_path = _data_path_finding(data_paths.get(best.candidate.model))
    curve, probe = curve_of(best, forecasts), probes.get(best.candidate.model)
    items = _checklist(spec, data, results, best, data_path, curve=curve, probe=probe, drills=drills)
    vetoes: tuple[Veto, ...] = (
        *limit_vetoes(spec, best, spent_usd),
        *supposed_vetoes(best, data),
        *doubts_of(best, curve, data_paths),
    )
    vetoes += checklist_vetoes(items, known=vetoes)
    kind = _kind(best, spec, vetoes, spent_usd)
    advice = advise(spec, data, results, best) if kind == "HOLD" else None
    return Verdict(
        kind=kind,
        probability=best.probability,
        confidence=spec.decision.confidence,
        threshold=spec.decision.min_gain_per_dollar,
        reason=reason_of(spec, best, vetoes) + left_out(data, results),
        best=best,
        candidates=forecasts.candidates,
        curves=forecasts.curves,
        metric=spec.decision.metric,
        baseline=forecasts.baseline.value,
        baseline_source=forecasts.baseline.source,
        vetoes=vetoes,
        checklist=items,
        next_step=next_step_of(kind, spec, best, vetoes, advice),
        n_trials=forecasts.n_used,
        n_excluded=forecasts.n_excluded,
        sweep_cost_usd=sweep_usd,
        scaling=forecasts.scaling.get(best.candidate.model),
        data_path=data_path,
        frontier=frontier_of(forecasts.candidates),
        preference=preference_sentence(choice, spec),
        assumptions=assumptions_of(spec, data),
        next_measurement=advice,
        inputs_digest=digest([inputs, kind, asdict(best.candidate), sorted(veto.name for veto in vetoes)]),
        seed=rng_seed,
    )


def _check_prices(spec: ExperimentSpec, rates: RateCard) -> None:
    """Every purchase option that was asked for has a price, and prices are amounts one can pay."""
    missing = [purchase for purchase in spec.pricing.purchase if purchase not in rates.quotes]
    if missing:
        raise PriceError(
            f"no price for {', '.join(missing)}; there are prices for {', '.join(rates.quotes) or 'nothing'}: "
            "change pricing.purchase, or give a price list that has it"
        )
    for purchase, quote in rates.quotes.items():
        if not (math.isfinite(quote.usd_per_instance_hour) and quote.usd_per_instance_hour > 0):
            raise PriceError(
                f"the {purchase} price of {quote.label} is {quote.usd_per_instance_hour:g} dollars an hour; it must "
                "be above 0: mend the price list, or give pricing.usd_per_worker_hour"
            )


def _checklist(
    spec: ExperimentSpec,
    data: DataSummary,
    results: Sequence[TrialResult],
    best: CandidateForecast,
    data_path: DataPathFinding | None,
    *,
    curve: CurveBand,
    probe: IngestMeasurement | None,
    drills: Sequence[Drill],
) -> tuple[CheckItem, ...]:
    """The checklist of the candidate's model."""
    model = best.candidate.model
    return checklist(
        spec,
        data,
        usable_results(spec, data, results, model),
        planned=tuple(trial for trial in plan_grid(spec, data) if trial.model == model),
        n_failed=sum(result.status == "failed" and result.trial.model == model for result in results),
        probability=best.probability,
        data_path=data_path,
        probe=probe,
        backtest=curve.backtest,
        drills=drills,
    )


def _data_path_finding(diagnosis: IngestDiagnosis | None) -> DataPathFinding | None:
    if diagnosis is None:
        return None
    return DataPathFinding(
        basis=diagnosis.basis,
        header=INGEST_HEADER,
        rows=tuple(ingest_rows(diagnosis)),
        lines=tuple(ingest_lines(diagnosis)),
        headroom=headroom_text(diagnosis),
        idle_share=diagnosis.projections[0].idle_share.median,
    )


def _kind(
    best: CandidateForecast, spec: ExperimentSpec, vetoes: Sequence[Veto], spent_usd: float
) -> Literal["PROMOTE", "HOLD", "REJECT"]:
    confidence = spec.decision.confidence
    if best.probability <= 1 - confidence + ROUNDING or is_out_of_reach(spec, best, spent_usd):
        return "REJECT"
    return "PROMOTE" if best.probability >= confidence and not vetoes else "HOLD"
