"""Reasons why no probability, however high, leads to promotion, each with a way out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.checklist import BENCHMARK, WAYS_OUT, WORTH_IT
from orchestrator.ingest import IngestDiagnosis, ingest_veto
from orchestrator.intervals import format_usd
from orchestrator.results import CandidateForecast, CheckItem, CurveBand, DataSummary, Veto
from orchestrator.spec import ExperimentSpec

MAX_EXTRAPOLATION = 20.0
"""Target size over largest measured size. A policy limit: no coverage of ours was measured beyond it."""
MIN_NOISE_UNITS = 1.0
"""A gain smaller than the spread between seeds cannot be told from luck in one full run."""
BACKTEST_MISSED = "backtest missed"
FINAL_VETOES = frozenset({"over budget", "past deadline"})
"""Those that more evidence cannot lift."""
# Of the curve's findings, those that contradict its form; a plateau or few points show in the interval instead.
_SHAPE_FAULTS = {
    "wrong-way": "the metric gets worse with more data, beyond the spread between seeds",
    "non-monotone": "the metric falls back between two sizes, beyond the spread between seeds",
    "flat": "no gain from more data was measured, so a forecast gain rests on what other curves did later",
}


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


def is_out_of_reach(spec: ExperimentSpec, forecast: CandidateForecast, spent_usd: float) -> bool:
    """Whether even the low end of the interval breaks the budget or the deadline."""
    budget, deadline_h = spec.budget.max_cost_usd, spec.full_run.deadline_h
    over = budget is not None and spent_usd + forecast.bill.capped_usd.low > budget
    late = deadline_h is not None and forecast.wall_time_s.low > deadline_h * 3600
    return over or late


def doubts_of(
    forecast: CandidateForecast, curve: CurveBand, data_paths: Mapping[str, IngestDiagnosis | None]
) -> tuple[Veto, ...]:
    """Reasons not to trust the forecast of the metric, and data that cannot keep up."""
    found = evidence_vetoes(forecast, curve)
    diagnosis = data_paths.get(forecast.candidate.model)
    ingest = None if diagnosis is None else ingest_veto(diagnosis, forecast.candidate.workers)
    return found if ingest is None else (*found, ingest)


def supposed_vetoes(forecast: CandidateForecast, data: DataSummary) -> tuple[Veto, ...]:
    """Rows that are supposed cannot be trained on."""
    candidate = forecast.candidate
    missing = candidate.n_samples - data.n_train
    if missing <= 0:
        return ()
    rows = f"{data.n_train:,} training rows, and {candidate.n_samples:,} were asked about"
    way_out = f"collect {missing:,} more training rows, or ask for full_run.fraction=1"
    return (Veto(name="more data than there is", reason=f"there are {rows}", way_out=way_out),)


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
        vetoes.append(Veto(name=BACKTEST_MISSED, reason=reason, way_out=way_out))
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


def checklist_vetoes(items: Sequence[CheckItem], known: Sequence[Veto] = ()) -> tuple[Veto, ...]:
    """Failed items, without the one that restates the probability and without what ``known`` vetoes say already."""
    said = {WORTH_IT} | ({BENCHMARK} if any(veto.name == BACKTEST_MISSED for veto in known) else set())
    return tuple(
        Veto(name=f"checklist: {item.name}", reason=item.evidence, way_out=WAYS_OUT[item.name])
        for item in items
        if item.status == "fail" and item.name not in said
    )
