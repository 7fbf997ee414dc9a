"""Which candidate a verdict is about.

Among those that the asked probability already carries and that keep budget and deadline: the one of highest expected
net value, or a simpler one that ties with it; those with no doubt about their forecast go first. Else, among those
still open: of highest probability, by the same tie-break. Net values tie within the spread between seeds, which no
single full run could tell apart, and probabilities within twice their simulation error. Simpler is, in this order: a
model listed earlier, less data, fewer workers unless more are both faster and cheaper, a lower cost.

Rows that are still to be collected are no reason to pass a candidate over: who asks about them is told about them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from orchestrator.candidates import Forecasts
from orchestrator.decision.frontier import expected_gain
from orchestrator.decision.vetoes import doubts_of, limit_vetoes
from orchestrator.ingest import IngestDiagnosis
from orchestrator.intervals import format_usd
from orchestrator.results import CandidateForecast, CurveBand
from orchestrator.spec import ExperimentSpec, Metric

NO_DIAGNOSES: Mapping[str, IngestDiagnosis | None] = MappingProxyType({})
ROUNDING = 1e-12
"""1 - 0.9 is a little less than 0.1 in binary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The candidate a verdict is about, and the one it was preferred to."""

    best: CandidateForecast
    top: CandidateForecast
    """Of highest expected net value among those that were weighed; often ``best`` itself."""
    noise_std: float
    """Between seeds of ``top``'s model: how much net value was given up at most."""


def choose(
    spec: ExperimentSpec,
    forecasts: Forecasts,
    spent_usd: float,
    n_draws: int,
    data_paths: Mapping[str, IngestDiagnosis | None] = NO_DIAGNOSES,
) -> CandidateForecast:
    """`weigh` without what was passed over."""
    return weigh(spec, forecasts, spent_usd, n_draws, data_paths).best


def weigh(
    spec: ExperimentSpec,
    forecasts: Forecasts,
    spent_usd: float,
    n_draws: int,
    data_paths: Mapping[str, IngestDiagnosis | None] = NO_DIAGNOSES,
) -> Choice:
    """The candidate a verdict is about; the rule is in the module's header.

    Args:
        spec: The config.
        forecasts: At least one candidate.
        spent_usd: By the sweep and earlier full runs; the cap counts it.
        n_draws: Behind each probability.
        data_paths: Whether data keeps up, by model.
    """
    confidence = spec.decision.confidence
    kept = [c for c in forecasts.candidates if not limit_vetoes(spec, c, spent_usd)]
    carried = [c for c in kept if c.probability >= confidence]
    clear = [c for c in carried if not doubts_of(c, curve_of(c, forecasts), data_paths)]
    if clear or carried:
        return _simplest_of_the_best(clear or carried, spec, forecasts)
    still_open = [c for c in kept if c.probability > 1 - confidence + ROUNDING] or list(forecasts.candidates)
    top = max(c.probability for c in still_open)
    simulation_error = 2 * math.sqrt(top * (1 - top) / n_draws)
    tied = [c for c in still_open if c.probability >= top - simulation_error]
    return _simplest_of_the_best(tied, spec, forecasts)


def expected_net_value(forecast: CandidateForecast, spec: ExperimentSpec) -> float:
    """Mean gain less threshold times dollars, in units of the metric."""
    if forecast.net_value is not None:
        return forecast.net_value.mean
    return forecast.gain.mean - spec.decision.min_gain_per_dollar * forecast.cost_usd.mean


def curve_of(forecast: CandidateForecast, forecasts: Forecasts) -> CurveBand:
    """The learning curve of the candidate's model."""
    return next(band for band in forecasts.curves if band.model == forecast.candidate.model)


def preference_sentence(choice: Choice, spec: ExperimentSpec) -> str:
    """What was preferred to what, what that gives up and what it saves; empty when nothing was given up."""
    best, top, metric = choice.best, choice.top, spec.decision.metric
    given_up = expected_net_value(top, spec) - expected_net_value(best, spec)
    if best.candidate == top.candidate or given_up <= 0:
        return ""
    terms = [_gain_given_up(expected_gain(top) - expected_gain(best), choice.noise_std, metric)]
    saved, price = top.cost_usd.mean - best.cost_usd.mean, spec.decision.min_gain_per_dollar
    if saved > 0:
        worth = f", worth {_amount(price * saved, metric)} at the threshold" if price > 0 else ""
        terms.append(f"saves {format_usd(saved)} of {format_usd(top.cost_usd.mean)}{worth}")
    elif saved < 0:
        terms.append(f"costs {format_usd(-saved)} more")
    net = f"{_amount(given_up, metric)}{_units(given_up, choice.noise_std)} of net value"
    return (
        f"{best.candidate} is preferred to {top.candidate}: it {' and '.join(terms)}, in all {net}, which no single "
        f"full run could tell apart, so {_what_suffices(best, top)}"
    )


def _gain_given_up(lost: float, noise_std: float, metric: Metric) -> str:
    if lost <= 0:
        return "is expected to gain as much"
    return f"gives up {_amount(lost, metric)}{_units(lost, noise_std)}"


def _amount(gain: float, metric: Metric) -> str:
    return f"{100 * gain:.2g} points" if metric == "accuracy" else f"{gain:.2g} of loss"


def _units(gain: float, noise_std: float) -> str:
    return f" ({gain / noise_std:.2g} of the spread between seeds)" if noise_std > 0 else ""


def _what_suffices(best: CandidateForecast, top: CandidateForecast) -> str:
    mine, theirs = best.candidate, top.candidate
    if mine.model != theirs.model:
        return "the simpler model suffices"
    if mine.n_samples != theirs.n_samples:
        return "less data suffices"
    return "fewer workers suffice" if mine.workers < theirs.workers else "the simpler run suffices"


def _simplest_of_the_best(pool: Sequence[CandidateForecast], spec: ExperimentSpec, forecasts: Forecasts) -> Choice:
    """Highest expected net value, or a simpler candidate that lies within the seeds' noise of it."""
    order = {model.name: position for position, model in enumerate(spec.models)}
    net_value = {id(c): expected_net_value(c, spec) for c in pool}
    top = max(pool, key=lambda c: net_value[id(c)])
    noise = curve_of(top, forecasts).noise_std
    tied = [c for c in pool if net_value[id(c)] >= net_value[id(top)] - noise]
    tied = [c for c in tied if not any(_is_outdone(c, other) for other in tied)]
    best = min(
        tied, key=lambda c: (order[c.candidate.model], c.candidate.n_samples, c.candidate.workers, c.cost_usd.mean)
    )
    return Choice(best=best, top=top, noise_std=noise)


def _is_outdone(forecast: CandidateForecast, other: CandidateForecast) -> bool:
    """Whether the other trains the same model on the same rows both faster and cheaper: no taste prefers this one."""
    mine, theirs = forecast.candidate, other.candidate
    is_same = (mine.model, mine.n_samples) == (theirs.model, theirs.n_samples)
    is_faster = other.wall_time_s.mean < forecast.wall_time_s.mean
    return is_same and is_faster and other.cost_usd.mean < forecast.cost_usd.mean
