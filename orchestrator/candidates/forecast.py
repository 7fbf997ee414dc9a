"""Joint draws of metric, time and cost of every candidate full run.

A candidate is a model on one of the targets, on one of ``full_run.workers``, bought in one way. Draw ``i`` is one
possible learning curve, baseline, luck of the machine, market and launch, the same for all candidates of a model
(common random numbers): targets differ by where they lie on that curve, worker counts by what they scale to, and none
by luck. One new run scatters round its curve; that scatter, too, is the same for all of them.

    gain_i            = +-(metric_i - baseline_i), positive is better; 0 where the run is given up, in what follows
    net_value_i       = gain_i - decision.min_gain_per_dollar * cost_usd_i
    gain_per_dollar_i = gain_i / cost_usd_i
    probability       = share of draws that finish with gain_per_dollar_i >= decision.min_gain_per_dollar

Only finished trials of the candidate's own evidence scope count. All worker counts lie on one learning curve, because
the global batch is constant. Forecast and baseline errors are drawn independently although both come from one sweep;
what they share would cancel, so the gain's interval errs on the wide side.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from orchestrator.candidates.bands import LEVEL, curve_band
from orchestrator.candidates.targets import Target, bytes_beyond, targets_of
from orchestrator.candidates.times import draw_epochs, draw_time, fit_time, scaling_of
from orchestrator.cost.full_run import PricedRun, RunSize, price_full_run
from orchestrator.cost.job import RunTime
from orchestrator.cost.rates import RateCard
from orchestrator.curves.label_noise import error_with_wrong_labels
from orchestrator.curves.learning import LearningCurveFit, fit_learning_curve
from orchestrator.curves.worker_scaling import TimeModel
from orchestrator.errors import EvidenceError
from orchestrator.evidence import Baseline, measure_baseline, seed_means, usable_results
from orchestrator.intervals import FloatArray, draw, summarise
from orchestrator.results import (
    Candidate,
    CandidateForecast,
    CurveBand,
    DataSummary,
    Interval,
    ScalingDiagnosis,
    TrialResult,
)
from orchestrator.spec import ExperimentSpec, Metric

MIN_SIZES = 3
"""Three parameters of the curve need three sizes."""
_LAUNCH_NOT_MEASURED = "of the workers, as in the trials; launching the job was not measured yet and is left out"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A model that cannot be forecast, and why."""

    model: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecasts:
    """What the evidence says about every candidate."""

    candidates: tuple[CandidateForecast, ...]
    curves: tuple[CurveBand, ...]
    baseline: Baseline
    scaling: Mapping[str, ScalingDiagnosis]
    """What more workers bring, by model."""
    left_out: tuple[LeftOut, ...]
    n_used: int
    n_excluded: int
    """Trials left out: failed, diverged, or of another data fingerprint or training setting."""


def forecast_candidates(
    spec: ExperimentSpec,
    data: DataSummary,
    results: Sequence[TrialResult],
    rates: RateCard,
    *,
    checkpoint_bytes: Mapping[str, int],
    rng_seed: int,
    n_draws: int = 4000,
    full_run_startup_s: Interval | None = None,
) -> Forecasts:
    """Forecast and price every candidate full run.

    Args:
        spec: The config.
        data: The data set as prepared.
        results: All trials of the journal; those that do not belong are counted and left out.
        rates: The prices of the config, with a quote for each purchase option.
        checkpoint_bytes: Size of a checkpoint by model; a model that is not in it takes the size its trials measured.
        rng_seed: Same seed, same forecast.
        n_draws: Joint draws per candidate.
        full_run_startup_s: What launching a full run takes beyond the workers' own start-up, from earlier full runs;
            None when there was none, and the bill then says that it is not included.
    Raises: EvidenceError: No finished trial belongs, or none reports the metric that is asked for.
    """
    metric, targets = spec.decision.metric, targets_of(spec, data)
    by_model = {model.name: usable_results(spec, data, results, model.name) for model in spec.models}
    n_used = sum(map(len, by_model.values()))
    if n_used == 0:
        raise EvidenceError(_nothing_usable(metric, results))
    fits: dict[str, LearningCurveFit] = {}
    times: dict[str, TimeModel] = {}
    left_out: list[LeftOut] = []
    for name, own in by_model.items():
        reason = _too_few_sizes(own)
        if reason is None:
            try:
                fits[name], times[name] = _fit_curve(own, metric, data.n_validation), fit_time(own, spec)
            except EvidenceError as error:
                reason = str(error)
        if reason is not None:
            fits.pop(name, None)
            left_out.append(LeftOut(model=name, reason=reason))
    noise = {name: fit.noise_std for name, fit in fits.items()}
    baseline = measure_baseline(spec, by_model, noise)
    baseline_draws = baseline.value + baseline.std_error * np.random.default_rng([rng_seed, 0]).standard_normal(n_draws)
    candidates: list[CandidateForecast] = []
    for position, name in enumerate(by_model):
        if name not in times:
            continue
        known = [target for target in targets if target.effective_n >= fits[name].measured.size[0]]
        if not known:
            left_out.append(LeftOut(model=name, reason=_too_few_effective(targets[-1], fits[name])))
            continue
        candidates += _forecast_model(
            spec, data, by_model[name], fits[name], times[name], rates, known, name=name, baseline=baseline_draws,
            checkpoint_bytes=checkpoint_bytes.get(name) or _measured_checkpoint_bytes(by_model[name]),
            seeds=(rng_seed, position + 1), launch_s=full_run_startup_s,
        )  # fmt: skip
    largest = targets[-1].n_samples
    return Forecasts(
        candidates=tuple(candidates),
        curves=tuple(curve_band(name, fit, by_model[name], metric, largest) for name, fit in fits.items()),
        baseline=baseline,
        scaling={name: scaling_of(spec, by_model[name], model, largest) for name, model in times.items()},
        left_out=tuple(left_out),
        n_used=n_used,
        n_excluded=len(results) - n_used,
    )


def _too_few_effective(target: Target, fit: LearningCurveFit) -> str:
    smallest = fit.measured.size[0]
    return (
        f"with data.label_noise, {target.n_samples:,} rows may teach as little as {target.effective_n:,.0f}, fewer "
        f"than the smallest measured {smallest:,.0f}; suppose less noise, or measure smaller fractions"
    )


def _nothing_usable(metric: Metric, results: Sequence[TrialResult]) -> str:
    if not results:
        return "no trial has been recorded yet; run `sweep` with this config first"
    finished = [result.training for result in results if result.training is not None]
    if metric == "accuracy" and finished and all(training.accuracy is None for training in finished):
        return "the task reports no accuracy, but decision.metric asks for it; set decision.metric: loss"
    return (
        f"none of {len(results)} recorded trials can be used: they failed, diverged, or belong to other data or "
        "training settings; run the sweep with this config"
    )


def _too_few_sizes(own: Sequence[TrialResult]) -> str | None:
    sizes = {result.training.n_train for result in own if result.training is not None}
    if len(sizes) >= MIN_SIZES:
        return None
    return f"{len(sizes)} of at least {MIN_SIZES} distinct sizes have a finished trial; run the sweep on"


def _fit_curve(own: Sequence[TrialResult], metric: Metric, n_validation: int) -> LearningCurveFit:
    """Learning curve of the value that falls: error rate, or loss.

    Worker counts of one seed saw the same subset and are averaged first: taken as replicates they would make the noise
    between seeds look smaller than it is.
    """
    means = seed_means(own, metric)
    n_samples = np.array([n for n, values in means.items() for _ in values], dtype=np.float64)
    values = np.array([value for values in means.values() for value in values], dtype=np.float64)
    if metric == "accuracy":
        return fit_learning_curve(n_samples, 1 - values, bounds=(0.0, 1.0), validation_size=n_validation)
    return fit_learning_curve(n_samples, values, bounds=(0.0, math.inf))


def _measured_checkpoint_bytes(own: Sequence[TrialResult]) -> int:
    return max(result.training.checkpoint_bytes for result in own if result.training is not None)


def _measured_log_bytes(own: Sequence[TrialResult]) -> int:
    """Of the longest trial's record in the journal; a full run writes one of the same form."""
    longest = max(len(result.training.epochs) for result in own if result.training is not None)
    told = [r for r in own if r.training is not None and len(r.training.epochs) == longest]
    return len(json.dumps(asdict(max(told, key=lambda r: (r.trial.fraction, r.key)))))


def _launch_note(launch_s: Interval | None) -> str:
    if launch_s is None:
        return _LAUNCH_NOT_MEASURED
    return f"workers as in the trials, and launching the job: {launch_s.low:.1f} to {launch_s.high:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Luck:
    """What is common to all candidates of a model, draw by draw; each array of shape (n_draws,)."""

    baseline: FloatArray
    epochs: FloatArray
    launch_s: FloatArray
    seeds: tuple[int, int]
    """Of generators that are made anew for each candidate, so that all meet the same machine and market."""

    def rng(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng([*self.seeds, purpose])


_MARKET, _MACHINE = 1, 2


def _forecast_model(
    spec: ExperimentSpec,
    data: DataSummary,
    own: Sequence[TrialResult],
    curve: LearningCurveFit,
    time_model: TimeModel,
    rates: RateCard,
    targets: Sequence[Target],
    *,
    name: str,
    baseline: FloatArray,
    checkpoint_bytes: int,
    seeds: tuple[int, int],
    launch_s: Interval | None,
) -> list[CandidateForecast]:
    """All candidates of one model."""
    n_draws, rng = len(baseline), np.random.default_rng(seeds)
    values = _metric_draws(spec, data, curve, targets, rng, n_draws)
    luck = _Luck(
        baseline=baseline,
        epochs=draw_epochs(spec, own, rng, n_draws),
        launch_s=np.zeros(n_draws) if launch_s is None else np.maximum(draw(launch_s, rng, n_draws), 0.0),
        seeds=seeds,
    )
    log_bytes = _measured_log_bytes(own)
    forecasts = []
    for target, value in zip(targets, values, strict=True):
        size = RunSize(
            checkpoint_bytes=checkpoint_bytes, checkpoint_keep=spec.full_run.checkpoint.keep,
            dataset_bytes=bytes_beyond(data, target.fraction), log_bytes=log_bytes,
        )  # fmt: skip
        for workers in spec.full_run.workers:
            time = _run_time(spec, time_model, target, workers, luck, _launch_note(launch_s))
            for purchase in rates.quotes:
                priced = price_full_run(
                    time, size, workers=workers, purchase=purchase, rates=rates, pricing=spec.pricing,
                    rng=luck.rng(_MARKET),
                )  # fmt: skip
                candidate = Candidate(
                    model=name, fraction=target.fraction, n_samples=target.n_samples, workers=workers, purchase=purchase
                )
                forecasts.append(_summarise(candidate, value, luck.baseline, priced, spec, curve.noise_std))
    return forecasts


def _metric_draws(
    spec: ExperimentSpec,
    data: DataSummary,
    curve: LearningCurveFit,
    targets: Sequence[Target],
    rng: np.random.Generator,
    n_draws: int,
) -> FloatArray:
    """The metric of a new run at each target, (n_targets, n_draws); a column is one possible curve.

    Every possible curve comes as often as any other, give or take one, in an order of its own for each model.
    """
    n, label_noise = len(targets), spec.data.label_noise or 0.0
    sizes = [float(target.n_samples) for target in targets]
    if label_noise > 0:
        sizes += [target.effective_n for target in targets]
    worlds = curve.worlds(sizes, kind="prediction")
    n_worlds = worlds.shape[1]
    repeats = np.tile(np.arange(n_worlds), (-(-n_draws // n_worlds), 1))
    which = rng.permuted(repeats, axis=1).ravel()[:n_draws]
    value: FloatArray = worlds[:n, which]
    if label_noise > 0:
        value = error_with_wrong_labels(
            value, worlds[n:, which], rng.random(n_draws), label_noise=label_noise, n_classes=len(data.class_counts)
        )
    return 1 - value if spec.decision.metric == "accuracy" else value


def _run_time(spec: ExperimentSpec, model: TimeModel, target: Target, workers: int, luck: _Luck, note: str) -> RunTime:
    drawn = draw_time(spec, model, target.n_samples, workers, luck.epochs, luck.rng(_MACHINE))
    return RunTime(
        training_s=drawn.training_s,
        startup_s=drawn.startup_s + luck.launch_s,
        checkpoint_interval_s=drawn.training_s / drawn.epochs,
        checkpoint_s=drawn.checkpoint_s / drawn.epochs,
        startup_note=note,
    )


def _summarise(
    candidate: Candidate,
    metric: FloatArray,
    baseline: FloatArray,
    priced: PricedRun,
    spec: ExperimentSpec,
    noise_std: float,
) -> CandidateForecast:
    price = spec.decision.min_gain_per_dollar
    gain = metric - baseline if spec.decision.metric == "accuracy" else baseline - metric
    # A run that is given up has been paid for and gains nothing.
    realised = np.where(priced.finishes, gain, 0.0)
    gain_per_dollar = realised / priced.cost_usd
    pays = priced.finishes & (gain_per_dollar >= price)
    return CandidateForecast(
        candidate=candidate,
        metric=summarise(metric, LEVEL),
        gain=summarise(gain, LEVEL),
        wall_time_s=summarise(priced.wall_time_s, LEVEL),
        cost_usd=summarise(priced.cost_usd, LEVEL),
        gain_per_dollar=summarise(gain_per_dollar, LEVEL),
        probability=float(np.mean(pays)),
        bill=priced.bill,
        noise_units=float(np.mean(gain)) / noise_std if noise_std > 0 else None,
        deadline_probability=_deadline_probability(priced, spec.full_run.deadline_h),
        net_value=summarise(realised - price * priced.cost_usd, LEVEL),
    )


def _deadline_probability(priced: PricedRun, deadline_h: float | None) -> float | None:
    if deadline_h is None:
        return None
    return float(np.mean(priced.finishes & (priced.wall_time_s <= deadline_h * 3600)))
