"""A verdict in sentences: the reason, what was left out, and what to do now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from orchestrator.decision.vetoes import FINAL_VETOES
from orchestrator.evidence import other_data
from orchestrator.intervals import format_probability, format_usd
from orchestrator.results import CandidateForecast, DataSummary, MeasurementAdvice, TrialResult, Veto
from orchestrator.spec import ExperimentSpec, Metric


def reason_of(spec: ExperimentSpec, best: CandidateForecast, vetoes: Sequence[Veto]) -> str:
    """What is expected of the candidate, what it costs and how likely it pays, and what holds it back."""
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


def left_out(data: DataSummary, results: Sequence[TrialResult]) -> str:
    """What a verdict says of trials of other data: that they are there, and do not count."""
    others = other_data(data, results)
    listed = ", ".join(f"{n} of data {digest or 'without a fingerprint'}" for digest, n in others.items())
    return f"; trials left out: {listed}, for this is data {data.fingerprint}" if others else ""


def next_step_of(
    kind: Literal["PROMOTE", "HOLD", "REJECT"],
    spec: ExperimentSpec,
    best: CandidateForecast,
    vetoes: Sequence[Veto],
    advice: MeasurementAdvice | None,
) -> str:
    """What to do now; ``advice`` is what a HOLD would measure next."""
    if kind == "PROMOTE":
        waiting = "starts by itself (approval: auto)" if spec.decision.approval == "auto" else "approve it to start it"
        return f"full run of {best.candidate}: {waiting}"
    if FINAL_VETOES & {veto.name for veto in vetoes}:
        return "; ".join(veto.way_out for veto in vetoes if veto.name in FINAL_VETOES)
    if kind == "REJECT" or advice is None:
        return f"keep what there is: {_even_odds(best.gain_per_dollar.median)}"
    now = _if_decided_now(spec, best)
    return "; ".join([*(veto.way_out for veto in vetoes[:1]), _measurement(advice, best), *([now] if now else [])])


def _if_decided_now(spec: ExperimentSpec, best: CandidateForecast) -> str:
    """The mean net value in dollars, by which an open verdict lost least on replayed curves (`bench_decisions`)."""
    threshold = spec.decision.min_gain_per_dollar
    if best.net_value is None or threshold == 0:
        return ""
    net_usd = best.net_value.mean / threshold
    side = "more" if net_usd >= 0 else "less"
    return (
        "if it must be decided now: at the threshold the gain is expected to be worth "
        f"{format_usd(abs(net_usd))} {side} than the run costs"
    )


def _measurement(advice: MeasurementAdvice, best: CandidateForecast) -> str:
    price = "price not known yet" if advice.cost_usd is None else f"about {format_usd(advice.cost_usd)}"
    if advice.cost_usd is not None and advice.cost_usd >= best.cost_usd.mean:
        price += f", no less than the full run's {format_usd(best.cost_usd.mean)}"
    chance = advice.chance_to_settle
    settles = "" if chance is None else f" would settle it with probability {chance:.2f}"
    return f"next measurement: {advice.description} ({price}){settles}"


def _even_odds(gain_per_dollar: float) -> str:
    if gain_per_dollar <= 0:
        return "no threshold above 0 has even odds, because no gain is the likelier outcome"
    return f"the odds would be even at decision.min_gain_per_dollar={gain_per_dollar:.2g}"


def _gain(gain: float, metric: Metric) -> str:
    """A gain with its sign: accuracy in percentage points; a loss as the amount by which it falls."""
    value = 100 * gain if metric == "accuracy" else -gain
    return f"{value:+.1f}" if abs(value) >= 1 else f"{value:+.2g}"
