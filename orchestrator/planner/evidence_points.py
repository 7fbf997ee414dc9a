"""From the journal's records to what the planner reckons with: contenders, and what a trial tells about time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from orchestrator.curves.worker_scaling import TimeMeasurement, TimeModel, fit_time_model
from orchestrator.evidence import seed_means, time_measurements, usable_results
from orchestrator.planner.design import Option
from orchestrator.planner.outlook import Contender
from orchestrator.results import CandidateForecast, DataSummary, Interval, TrialResult, Verdict
from orchestrator.spec import ExperimentSpec

MATTERS = 0.02
"""Share of the variance of the net value below which time is taken as known: no trial is chosen for so little."""
_N_TIMES = 400
"""Draws behind a variance of time: 7% off at most, nine times in ten."""


def leading(verdict: Verdict, model: str) -> CandidateForecast | None:
    """The model's candidate that a verdict would be about; None when it has none."""
    if verdict.best.candidate.model == model:
        return verdict.best
    own = [each for each in verdict.candidates if each.candidate.model == model]
    worth = verdict.threshold
    return max(own, key=lambda c: (c.probability, c.gain.mean - worth * c.cost_usd.mean), default=None)


def contender_of(
    spec: ExperimentSpec, data: DataSummary, results: Sequence[TrialResult], lead: CandidateForecast
) -> Contender:
    """A model's points and its full run, as the planner reckons with them."""
    metric = spec.decision.metric
    means = seed_means(usable_results(spec, data, results, lead.candidate.model), metric)
    value = np.array([v for values in means.values() for v in values], dtype=np.float64)
    is_rate = metric == "accuracy"
    return Contender(
        model=lead.candidate.model,
        n=np.array([n for n, values in means.items() for _ in values], dtype=np.float64),
        value=1 - value if is_rate else value,
        bounds=(0.0, 1.0) if is_rate else (0.0, math.inf),
        validation_size=data.n_validation if is_rate else None,
        target_n=float(lead.candidate.n_samples),
        charge=_scaled(lead.cost_usd, spec.decision.min_gain_per_dollar),
    )


def _scaled(interval: Interval, factor: float) -> Interval:
    return Interval(
        low=factor * interval.low, median=factor * interval.median, high=factor * interval.high,
        mean=factor * interval.mean, level=interval.level,
    )  # fmt: skip


def time_shares(
    spec: ExperimentSpec,
    data: DataSummary,
    results: Sequence[TrialResult],
    leads: Mapping[str, CandidateForecast],
    options: Sequence[Option],
) -> dict[Option, float]:
    """Share of the variance of the log run time that is gone once an option came out at its median.

    Only of models whose cost, at the threshold's price, makes up more than `MATTERS` of what is open about them.
    """
    shares: dict[Option, float] = {}
    for model, lead in leads.items():
        if not _cost_matters(lead, spec.decision.min_gain_per_dollar):
            continue
        measured = time_measurements(usable_results(spec, data, results, model), spec.training.global_batch_size)
        before = _log_variance(fit_time_model(measured), spec, lead)
        by_kind: dict[tuple[float, int], float] = {}
        for option in (o for o in options if o.trial.model == model):
            kind = (option.n_samples, option.trial.workers)
            if kind not in by_kind:
                added = _median_run(fit_time_model(measured), spec, int(option.n_samples), option.trial.workers)
                after = _log_variance(fit_time_model([*measured, added]), spec, lead)
                by_kind[kind] = max(1 - after / before, 0.0) if before > 0 else 0.0
            shares[option] = by_kind[kind]
    return shares


def _cost_matters(lead: CandidateForecast, threshold: float) -> bool:
    cost = threshold * (lead.cost_usd.high - lead.cost_usd.low)
    gain = lead.gain.high - lead.gain.low
    return cost**2 > MATTERS * (cost**2 + gain**2)


def _median_run(model: TimeModel, spec: ExperimentSpec, n_samples: int, workers: int) -> TimeMeasurement:
    epochs, batch = spec.training.epochs, spec.training.global_batch_size
    steady = model.steady_medians(n_samples=n_samples, epochs=epochs, global_batch_size=batch, workers=workers)
    other = model.other_medians(n_samples=n_samples, epochs=epochs, global_batch_size=batch, workers=workers)
    return TimeMeasurement(
        n_samples=n_samples, samples_seen=n_samples * epochs, epochs=epochs, workers=workers,
        steps=epochs * math.ceil(n_samples / batch), startup_s=other["startup"], compute_s=steady["compute"],
        data_wait_s=steady["data wait"], gradient_sync_s=steady["gradient sync"], validation_s=other["validation"],
        checkpoint_s=other["checkpoint"],
    )  # fmt: skip


def _log_variance(model: TimeModel, spec: ExperimentSpec, lead: CandidateForecast) -> float:
    candidate = lead.candidate
    drawn = model.sample(
        n_samples=candidate.n_samples, epochs=spec.training.epochs, workers=candidate.workers,
        global_batch_size=spec.training.global_batch_size, rng=np.random.default_rng(0), size=_N_TIMES,
    )  # fmt: skip
    return float(np.log(drawn.total_s).var())
