"""PROMOTE, HOLD or REJECT: one candidate, the probability that it pays, and the reason in a sentence.

A full run pays when its gain per dollar reaches ``decision.min_gain_per_dollar`` (lambda), that is when its net value
``gain - lambda * cost_usd`` is not negative. With P the probability of that, over the joint draws of `candidates`:

    PROMOTE   P >= confidence and no veto
    REJECT    P <= 1 - confidence, or a veto that more evidence cannot lift
    HOLD      everything between, with the next measurement and its price

Which candidate: among those that P already carries and that keep budget and deadline, the one of highest expected net
value; else, among those still open, the one of highest P. Ties go to the model that is listed first (simplest), then to
fewer workers, unless more are both faster and cheaper, then to the lower cost: net values tie within the spread between
seeds, which no single full run could tell apart, and probabilities within twice their simulation error.

Vetoes never promote. Budget and deadline are vetoes when the high end of the 90% interval breaks them, and turn the
verdict to REJECT when the low end does too: then no measurement can help. All other vetoes hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Literal

from orchestrator.candidates import Forecasts, forecast_candidates
from orchestrator.checklist import WAYS_OUT, WORTH_IT, checklist
from orchestrator.cost.rates import RateCard
from orchestrator.errors import EvidenceError
from orchestrator.evidence import mixture, other_data, usable_results
from orchestrator.ingest import (
    INGEST_HEADER,
    IngestDiagnosis,
    IngestMeasurement,
    diagnose_full_run,
    headroom_text,
    ingest_lines,
    ingest_rows,
    ingest_veto,
)
from orchestrator.intervals import format_probability, format_usd
from orchestrator.planner import next_measurement, plan_grid
from orchestrator.results import (
    CandidateForecast,
    CheckItem,
    CurveBand,
    DataPathFinding,
    DataSummary,
    Interval,
    TrialResult,
    Verdict,
    Veto,
)
from orchestrator.spec import ExperimentSpec, Metric, digest

MAX_EXTRAPOLATION = 20.0
"""Target size over largest measured size. A policy limit: no coverage of ours was measured beyond it."""
MIN_NOISE_UNITS = 1.0
"""A gain smaller than the spread between seeds cannot be told from luck in one full run."""
_FINAL_VETOES = frozenset({"over budget", "past deadline"})
# Of the curve's findings, those that contradict its form; a plateau or few points show in the interval instead.
_SHAPE_FAULTS = {
    "wrong-way": "the metric gets worse with more data, beyond the spread between seeds",
    "non-monotone": "the metric falls back between two sizes, beyond the spread between seeds",
    "flat": "no gain from more data was measured, so a forecast gain rests on what other curves did later",
}
NO_PROBES: Mapping[str, IngestMeasurement] = MappingProxyType({})
NO_DIAGNOSES: Mapping[str, IngestDiagnosis | None] = MappingProxyType({})
_ROUNDING = 1e-12  # 1 - 0.9 is a little less than 0.1 in binary


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
    full_runs_usd: float = 0.0,
    probes: Mapping[str, IngestMeasurement] = NO_PROBES,
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
        full_runs_usd: What providers billed for earlier full runs; the cap counts it.
        probes: What the data path was measured to be, by model.
    Raises: EvidenceError: No model has enough finished trials of this data for a forecast; where the journal holds
        trials of other data, their fingerprints are named.
    """
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
    inputs = inputs_digest(spec, data, results, rates, checkpoint_bytes, full_run_startup_s, rng_seed, probes)
    data_paths = {
        model.name: diagnose_full_run(
            spec, data, usable_results(spec, data, results, model.name), probes.get(model.name), rates
        )
        for model in spec.models
    }
    return judge(
        spec, data, results, forecasts, n_draws=n_draws, inputs=inputs, rng_seed=rng_seed,
        full_runs_usd=full_runs_usd, data_paths=data_paths,
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
    full_runs_usd: float = 0.0,
    data_paths: Mapping[str, IngestDiagnosis | None] = NO_DIAGNOSES,
) -> Verdict:
    """The verdict on forecasts that are already made."""
    sweep_usd = sum(result.cost_usd for result in results)
    spent_usd = sweep_usd + full_runs_usd
    best = choose(spec, forecasts, spent_usd, n_draws, data_paths)
    model = best.candidate.model
    usable = usable_results(spec, data, results, model)
    failed = sum(result.status == "failed" and result.trial.model == model for result in results)
    planned = tuple(trial for trial in plan_grid(spec, data) if trial.model == model)
    data_path = _data_path_finding(data_paths.get(model))
    items = checklist(
        spec, data, usable, planned=planned, n_failed=failed, probability=best.probability, data_path=data_path
    )
    limits = limit_vetoes(spec, best, spent_usd)
    doubts = _doubts(best, forecasts, data_paths)
    vetoes = (*limits, *doubts, *checklist_vetoes(items))
    kind = _kind(best, spec, vetoes, spent_usd)
    return Verdict(
        kind=kind,
        probability=best.probability,
        confidence=spec.decision.confidence,
        threshold=spec.decision.min_gain_per_dollar,
        reason=_reason(spec, best, vetoes) + _left_out(data, results),
        best=best,
        candidates=forecasts.candidates,
        curves=forecasts.curves,
        metric=spec.decision.metric,
        baseline=forecasts.baseline.value,
        baseline_source=forecasts.baseline.source,
        vetoes=vetoes,
        checklist=items,
        next_step=_next_step(kind, spec, data, usable, best, vetoes),
        n_trials=forecasts.n_used,
        n_excluded=forecasts.n_excluded,
        sweep_cost_usd=sweep_usd,
        scaling=forecasts.scaling.get(model),
        data_path=data_path,
        inputs_digest=digest([inputs, kind, asdict(best.candidate)]),
        seed=rng_seed,
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


def _doubts(
    forecast: CandidateForecast, forecasts: Forecasts, data_paths: Mapping[str, IngestDiagnosis | None]
) -> tuple[Veto, ...]:
    """Reasons not to trust the forecast of the metric, and data that cannot keep up."""
    found = evidence_vetoes(forecast, _curve_of(forecast, forecasts))
    diagnosis = data_paths.get(forecast.candidate.model)
    ingest = None if diagnosis is None else ingest_veto(diagnosis, forecast.candidate.workers)
    return found if ingest is None else (*found, ingest)


def choose(
    spec: ExperimentSpec,
    forecasts: Forecasts,
    spent_usd: float,
    n_draws: int,
    data_paths: Mapping[str, IngestDiagnosis | None] = NO_DIAGNOSES,
) -> CandidateForecast:
    """The candidate a verdict is about; the rule is in the module's header."""
    confidence = spec.decision.confidence
    kept = [c for c in forecasts.candidates if not limit_vetoes(spec, c, spent_usd)]
    carried = [c for c in kept if c.probability >= confidence]
    clear = [c for c in carried if not _doubts(c, forecasts, data_paths)]
    if clear or carried:
        return _simplest_of_the_best(clear or carried, spec, forecasts)
    still_open = [c for c in kept if c.probability > 1 - confidence + _ROUNDING] or list(forecasts.candidates)
    top = max(c.probability for c in still_open)
    simulation_error = 2 * math.sqrt(top * (1 - top) / n_draws)
    tied = [c for c in still_open if c.probability >= top - simulation_error]
    return _simplest_of_the_best(tied, spec, forecasts)


def _simplest_of_the_best(
    pool: Sequence[CandidateForecast], spec: ExperimentSpec, forecasts: Forecasts
) -> CandidateForecast:
    """Highest expected net value, or a simpler candidate that lies within the seeds' noise of it."""
    order = {model.name: position for position, model in enumerate(spec.models)}
    price = spec.decision.min_gain_per_dollar
    net_value = {id(c): c.gain.mean - price * c.cost_usd.mean for c in pool}
    top = max(pool, key=lambda c: net_value[id(c)])
    noise = _curve_of(top, forecasts).noise_std
    tied = [c for c in pool if net_value[id(c)] >= net_value[id(top)] - noise]
    tied = [c for c in tied if not any(_is_outdone(c, other) for other in tied)]
    return min(tied, key=lambda c: (order[c.candidate.model], c.candidate.workers, c.cost_usd.mean))


def _is_outdone(forecast: CandidateForecast, other: CandidateForecast) -> bool:
    """Whether the other trains the same model on the same rows both faster and cheaper: no taste prefers this one."""
    mine, theirs = forecast.candidate, other.candidate
    is_same = (mine.model, mine.n_samples) == (theirs.model, theirs.n_samples)
    is_faster = other.wall_time_s.mean < forecast.wall_time_s.mean
    return is_same and is_faster and other.cost_usd.mean < forecast.cost_usd.mean


def _curve_of(forecast: CandidateForecast, forecasts: Forecasts) -> CurveBand:
    return next(band for band in forecasts.curves if band.model == forecast.candidate.model)


def _kind(
    best: CandidateForecast, spec: ExperimentSpec, vetoes: Sequence[Veto], spent_usd: float
) -> Literal["PROMOTE", "HOLD", "REJECT"]:
    confidence = spec.decision.confidence
    if best.probability <= 1 - confidence + _ROUNDING or _is_out_of_reach(spec, best, spent_usd):
        return "REJECT"
    return "PROMOTE" if best.probability >= confidence and not vetoes else "HOLD"


def _is_out_of_reach(spec: ExperimentSpec, forecast: CandidateForecast, spent_usd: float) -> bool:
    """Whether even the low end of the interval breaks the budget or the deadline."""
    budget, deadline_h = spec.budget.max_cost_usd, spec.full_run.deadline_h
    over = budget is not None and spent_usd + forecast.bill.capped_usd.low > budget
    late = deadline_h is not None and forecast.wall_time_s.low > deadline_h * 3600
    return over or late


def limit_vetoes(spec: ExperimentSpec, forecast: CandidateForecast, spent_usd: float) -> tuple[Veto, ...]:
    """Budget and deadline, held against the high end of the forecast."""
    vetoes = []
    budget, deadline_h = spec.budget.max_cost_usd, spec.full_run.deadline_h
    may_cost = forecast.bill.capped_usd.high
    if budget is not None and spent_usd + may_cost > budget:
        reason = (
            f"the full run may cost {format_usd(may_cost)} on top of {format_usd(spent_usd)} spent, "
            f"above the budget of {format_usd(budget)}"
        )
        way_out = "raise budget.max_cost_usd, lower full_run.fraction, or price a cheaper instance or purchase option"
        vetoes.append(Veto(name="over budget", reason=reason, way_out=way_out))
    if deadline_h is not None and forecast.wall_time_s.high > deadline_h * 3600:
        reason = f"the full run may take {forecast.wall_time_s.high / 3600:.3g} h, and the deadline is {deadline_h:g} h"
        way_out = "add a larger count to full_run.workers, lower full_run.fraction, or move full_run.deadline_h"
        if forecast.candidate.purchase == "spot":
            way_out = f"buy on-demand, for spot waits for machines; or {way_out}"
        vetoes.append(Veto(name="past deadline", reason=reason, way_out=way_out))
    return tuple(vetoes)


def evidence_vetoes(forecast: CandidateForecast, curve: CurveBand) -> tuple[Veto, ...]:
    """Reasons not to trust the forecast of the metric."""
    vetoes = []
    if forecast.noise_units is not None and forecast.noise_units < MIN_NOISE_UNITS:
        reason = f"expected gain {forecast.gain.mean:.2g}, spread between seeds {curve.noise_std:.2g}"
        way_out = "forecast a larger full_run.fraction or another model, or keep the present model"
        vetoes.append(Veto(name="gain below the noise floor", reason=reason, way_out=way_out))
    faults = [_SHAPE_FAULTS[finding] for finding in curve.diagnosis if finding in _SHAPE_FAULTS]
    if faults:
        way_out = (
            "look at the curve's points; add larger sizes, or seeds where they scatter, or mend the training first"
        )
        vetoes.append(Veto(name="ill-behaved curve", reason="; ".join(faults), way_out=way_out))
    if curve.backtest is not None and not curve.backtest[0].low <= curve.backtest[1] <= curve.backtest[0].high:
        expected, measured = curve.backtest
        reason = (
            f"from the smaller sizes {expected.low:.4g} to {expected.high:.4g} was forecast for the largest one, "
            f"and {measured:.4g} was measured"
        )
        way_out = "add a larger fraction to sweep.fractions, so that the forecast can prove itself again"
        vetoes.append(Veto(name="backtest missed", reason=reason, way_out=way_out))
    if forecast.candidate.workers > 1 and all(point.workers == 1 for point in curve.points):
        reason = (
            f"{forecast.candidate.workers} workers were forecast from trials on one, which exchange no gradients: "
            "of such forecasts a 90% interval held fewer than half"
        )
        way_out = "add 2 to sweep.workers, or leave only 1 in full_run.workers"
        vetoes.append(Veto(name="several workers never tried", reason=reason, way_out=way_out))
    largest = max(point.n_samples for point in curve.points)
    factor = forecast.candidate.n_samples / largest
    if factor > MAX_EXTRAPOLATION:
        reason = f"{factor:.3g} times the samples of the largest trial; the limit is {MAX_EXTRAPOLATION:g}"
        needed = forecast.candidate.fraction / MAX_EXTRAPOLATION
        way_out = f"add a fraction of at least {needed:.2g} to sweep.fractions"
        vetoes.append(Veto(name="extrapolating too far", reason=reason, way_out=way_out))
    return tuple(vetoes)


def checklist_vetoes(items: Sequence[CheckItem]) -> tuple[Veto, ...]:
    """Failed items, without the one that restates the probability."""
    return tuple(
        Veto(name=f"checklist: {item.name}", reason=item.evidence, way_out=WAYS_OUT[item.name])
        for item in items
        if item.status == "fail" and item.name != WORTH_IT
    )


def _reason(spec: ExperimentSpec, best: CandidateForecast, vetoes: Sequence[Veto]) -> str:
    gain, metric = best.gain, spec.decision.metric
    unit = "points" if metric == "accuracy" else "in loss"
    odds = format_probability(best.probability, spec.decision.confidence)
    sentence = (
        f"{best.candidate}: {_gain(gain.mean, metric)} {unit} expected "
        f"(90%: {_gain(gain.low, metric)} to {_gain(gain.high, metric)}) for {format_usd(best.cost_usd.mean)}; "
        f"P(gain per dollar >= {spec.decision.min_gain_per_dollar:g}) = {odds}"
    )
    if vetoes:
        sentence += f"; held back: {', '.join(veto.name for veto in vetoes)}"
    return sentence


def _left_out(data: DataSummary, results: Sequence[TrialResult]) -> str:
    """What a verdict says of trials of other data: that they are there, and do not count."""
    others = other_data(data, results)
    listed = ", ".join(f"{n} of data {digest or 'without a fingerprint'}" for digest, n in others.items())
    return f"; trials left out: {listed}, for this is data {data.fingerprint}" if others else ""


def _gain(gain: float, metric: Metric) -> str:
    """A gain with its sign: accuracy in percentage points; a loss as the amount by which it falls."""
    value = 100 * gain if metric == "accuracy" else -gain
    return f"{value:+.1f}" if abs(value) >= 1 else f"{value:+.2g}"


def _next_step(
    kind: Literal["PROMOTE", "HOLD", "REJECT"],
    spec: ExperimentSpec,
    data: DataSummary,
    usable: Sequence[TrialResult],
    best: CandidateForecast,
    vetoes: Sequence[Veto],
) -> str:
    if kind == "PROMOTE":
        waiting = "starts by itself (approval: auto)" if spec.decision.approval == "auto" else "approve it to start it"
        return f"full run of {best.candidate}: {waiting}"
    if _FINAL_VETOES & {veto.name for veto in vetoes}:
        return "; ".join(veto.way_out for veto in vetoes if veto.name in _FINAL_VETOES)
    if kind == "REJECT":
        return f"keep what there is: {_even_odds(best.gain_per_dollar.median)}"
    measurement = next_measurement(spec, data, usable, best.candidate.model)
    price = "price not known yet" if measurement.cost_usd is None else f"about {format_usd(measurement.cost_usd)}"
    if measurement.cost_usd is not None and measurement.cost_usd >= best.cost_usd.mean:
        price += f", no less than the full run's {format_usd(best.cost_usd.mean)}"
    advice = [veto.way_out for veto in vetoes[:1]]
    return "; ".join([*advice, f"next measurement: {measurement.description} ({price})"])


def _even_odds(gain_per_dollar: float) -> str:
    if gain_per_dollar <= 0:
        return "no threshold above 0 has even odds, because no gain is the likelier outcome"
    return f"the odds would be even at decision.min_gain_per_dollar={gain_per_dollar:.2g}"


def inputs_digest(
    spec: ExperimentSpec,
    data: DataSummary,
    results: Sequence[TrialResult],
    rates: RateCard,
    checkpoint_bytes: Mapping[str, int],
    full_run_startup_s: Interval | None,
    rng_seed: int,
    probes: Mapping[str, IngestMeasurement] = NO_PROBES,
) -> str:
    """Digest of all that a verdict rests on: an approval holds only for this.

    The age of a price is left out, so that a verdict does not expire overnight; so are names, folders and tracking.
    """
    asked = asdict(spec)
    for key in ("name", "tracking", "runs_dir", "resources"):
        del asked[key]
    del asked["decision"]["approval"]
    # What these files hold counts, in the prices and the market below.
    del asked["pricing"]["catalogue"], asked["pricing"]["spot"]["history"]
    del asked["data"]["source"]  # the fingerprint says what was read, wherever it lay
    # repr keeps every bit of a float, and a diverged loss (NaN) has no JSON.
    evidence = sorted([r.key, r.status, repr(r.training), repr(r.cost_usd)] for r in results)
    prices: dict[str, object] = {
        purchase: [repr(q.usd_per_instance_hour), q.workers_per_instance, q.cited]
        for purchase, q in rates.quotes.items()
    }
    listed = {"storage": rates.storage, "transfer": rates.transfer}
    prices |= {name: [repr(price.usd), price.cited] for name, price in listed.items() if price is not None}
    if "spot" in rates.quotes:  # a history file may change while the config that names it does not
        prices["market"] = [asdict(rates.spot.mean_uptime_s), asdict(rates.spot.mean_downtime_s)]
    launch = None if full_run_startup_s is None else asdict(full_run_startup_s)
    of = [asked, data.fingerprint, data.n_train, evidence, prices, dict(checkpoint_bytes), launch, rng_seed]
    return digest([*of, {model: repr(probe) for model, probe in probes.items()}] if probes else of)
