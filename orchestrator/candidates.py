"""Every full run that could be started, with joint draws of its metric, time and cost.

A candidate is a model on ``full_run.fraction`` of the data, on one of ``full_run.workers``, bought in one way. Draw
``i`` takes the same metric, baseline, epochs and start-up for all candidates of a model (common random numbers), so
that candidates differ by what they are and not by luck:

    gain_i            = +-(metric_i - baseline_i)      positive is better
    gain_per_dollar_i = gain_i / cost_usd_i
    probability       = share of draws with gain_per_dollar_i >= decision.min_gain_per_dollar

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

from orchestrator.cost.full_run import PricedRun, RunSize, price_full_run
from orchestrator.cost.job import RunTime
from orchestrator.cost.rates import RateCard
from orchestrator.curves.learning import LearningCurveFit, fit_learning_curve
from orchestrator.curves.questions import bands, marginal_gain, oriented, turned
from orchestrator.curves.worker_scaling import TimeMeasurement, TimeModel, diagnose_scaling, fit_time_model
from orchestrator.errors import EvidenceError
from orchestrator.evidence import Baseline, measure_baseline, points_of, seed_means, usable_results
from orchestrator.intervals import FloatArray, draw, summarise
from orchestrator.results import (
    Candidate,
    CandidateForecast,
    CurveBand,
    CurvePoint,
    DataSummary,
    Interval,
    ScalingDiagnosis,
    TrialResult,
)
from orchestrator.spec import ExperimentSpec, Metric
from orchestrator.subsets import subset_size

LEVEL = 0.9
"""Probability inside every interval that is shown."""
MIN_SIZES = 3
"""Three parameters of the curve need three sizes."""
_GRID_POINTS = 32
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _TimeDraws:
    """Seconds of the full run, shape (n,) each."""

    training_s: FloatArray
    """Without start-up."""
    startup_s: FloatArray
    checkpoint_s: FloatArray
    """All checkpoints together."""
    epochs: FloatArray


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
    metric = spec.decision.metric
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
                fits[name], times[name] = _fit_curve(own, metric, data.n_validation), _fit_time(own, spec)
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
        if name in times:
            candidates += _forecast_model(
                spec, data, by_model[name], fits[name], times[name], rates, name=name, baseline=baseline_draws,
                checkpoint_bytes=checkpoint_bytes.get(name) or _measured_checkpoint_bytes(by_model[name]),
                seeds=(rng_seed, position + 1), launch_s=full_run_startup_s,
            )  # fmt: skip
    target = subset_size(data.n_train, spec.full_run.fraction)
    return Forecasts(
        candidates=tuple(candidates),
        curves=tuple(curve_band(name, fit, by_model[name], metric, target) for name, fit in fits.items()),
        baseline=baseline,
        scaling={name: _diagnose_scaling(spec, by_model[name], model, target) for name, model in times.items()},
        left_out=tuple(left_out),
        n_used=n_used,
        n_excluded=len(results) - n_used,
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


def _fit_time(own: Sequence[TrialResult], spec: ExperimentSpec) -> TimeModel:
    batch = spec.training.global_batch_size
    return fit_time_model(
        [
            TimeMeasurement(
                n_samples=training.n_train,
                samples_seen=training.samples_seen,
                epochs=training.epochs_run,
                workers=result.trial.workers,
                steps=training.epochs_run * math.ceil(training.n_train / batch),
                startup_s=training.time.startup_s,
                compute_s=training.time.compute_s,
                data_wait_s=training.time.data_wait_s,
                gradient_sync_s=training.time.gradient_sync_s,
                validation_s=training.time.validation_s,
                checkpoint_s=training.time.checkpoint_s,
            )
            for result in own
            if (training := result.training) is not None
        ]
    )


def _measured_checkpoint_bytes(own: Sequence[TrialResult]) -> int:
    return max(result.training.checkpoint_bytes for result in own if result.training is not None)


def _measured_log_bytes(own: Sequence[TrialResult]) -> int:
    """Of the largest trial's record in the journal; a full run writes one of the same form."""
    return max(len(json.dumps(asdict(result))) for result in own)


def _launch_note(launch_s: Interval | None) -> str:
    if launch_s is None:
        return _LAUNCH_NOT_MEASURED
    return f"workers as in the trials, and launching the job: {launch_s.low:.1f} to {launch_s.high:.1f} s"


def _forecast_model(
    spec: ExperimentSpec,
    data: DataSummary,
    own: Sequence[TrialResult],
    curve: LearningCurveFit,
    time_model: TimeModel,
    rates: RateCard,
    *,
    name: str,
    baseline: FloatArray,
    checkpoint_bytes: int,
    seeds: tuple[int, int],
    launch_s: Interval | None,
) -> list[CandidateForecast]:
    """All candidates of one model; the draws of metric, epochs and launch are common to them."""
    n_draws, n_samples = len(baseline), subset_size(data.n_train, spec.full_run.fraction)
    rng = np.random.default_rng(seeds)
    value = curve.sample(n_samples, rng, n_draws, kind="prediction")
    metric = 1 - value if spec.decision.metric == "accuracy" else value
    gain = metric - baseline if spec.decision.metric == "accuracy" else baseline - metric
    epochs = draw_epochs(spec, own, rng, n_draws)
    launch = np.zeros(n_draws) if launch_s is None else np.maximum(draw(launch_s, rng, n_draws), 0.0)
    size = RunSize(
        checkpoint_bytes=checkpoint_bytes, checkpoint_keep=spec.full_run.checkpoint.keep,
        dataset_bytes=data.bytes_on_disk, log_bytes=_measured_log_bytes(own),
    )  # fmt: skip
    forecasts = []
    for workers in spec.full_run.workers:
        drawn = _draw_time(spec, time_model, n_samples, workers, epochs, np.random.default_rng([*seeds, workers]))
        time = RunTime(
            training_s=drawn.training_s, startup_s=drawn.startup_s + launch,
            checkpoint_interval_s=drawn.training_s / drawn.epochs, checkpoint_s=drawn.checkpoint_s / drawn.epochs,
            startup_note=_launch_note(launch_s),
        )  # fmt: skip
        for purchase in rates.quotes:
            priced = price_full_run(
                time, size, workers=workers, purchase=purchase, rates=rates, pricing=spec.pricing,
                # One seed for all: candidates meet the same market, and differ by what they are.
                rng=np.random.default_rng([*seeds, 1]),
            )  # fmt: skip
            candidate = Candidate(
                model=name, fraction=spec.full_run.fraction, n_samples=n_samples, workers=workers, purchase=purchase
            )
            forecasts.append(_summarise(candidate, metric, gain, priced, spec, curve.noise_std))
    return forecasts


def _diagnose_scaling(
    spec: ExperimentSpec, own: Sequence[TrialResult], model: TimeModel, n_samples: int
) -> ScalingDiagnosis:
    """At the full run's size and a typical number of epochs, for the candidates' and the trials' worker counts."""
    epochs = draw_epochs(spec, own, np.random.default_rng(0), 101)
    return diagnose_scaling(
        model,
        n_samples=n_samples,
        epochs=round(float(np.median(epochs))),
        global_batch_size=spec.training.global_batch_size,
        candidates=sorted({*spec.full_run.workers, *model.workers}),
    )


def draw_epochs(spec: ExperimentSpec, own: Sequence[TrialResult], rng: np.random.Generator, size: int) -> FloatArray:
    """Epochs of the full run: as configured, or with early stopping as the trials of the two largest sizes needed.

    That the largest trials' epochs carry over to more data is an assumption: more rows usually need no more epochs.
    """
    if spec.training.early_stopping is None:
        return np.full(size, float(spec.training.epochs))
    runs = [result.training for result in own if result.training is not None]
    largest = sorted({training.n_train for training in runs})[-2:]
    measured = [training.epochs_run for training in runs if training.n_train in largest]
    return rng.choice(np.array(measured, dtype=np.float64), size=size)


def _draw_time(
    spec: ExperimentSpec,
    model: TimeModel,
    n_samples: int,
    workers: int,
    epochs: FloatArray,
    rng: np.random.Generator,
) -> _TimeDraws:
    """Draws of the time, each with its own number of epochs."""
    training, startup, checkpoint = (np.empty(len(epochs)) for _ in range(3))
    for count in np.unique(epochs):
        chosen = epochs == count
        samples = model.sample(
            n_samples=n_samples, epochs=int(count), global_batch_size=spec.training.global_batch_size, workers=workers,
            rng=rng, size=int(chosen.sum()),
        )  # fmt: skip
        training[chosen] = samples.total_s - samples.startup_s
        startup[chosen] = samples.startup_s
        checkpoint[chosen] = samples.checkpoint_s
    return _TimeDraws(training_s=training, startup_s=startup, checkpoint_s=checkpoint, epochs=epochs)


def _summarise(
    candidate: Candidate,
    metric: FloatArray,
    gain: FloatArray,
    priced: PricedRun,
    spec: ExperimentSpec,
    noise_std: float,
) -> CandidateForecast:
    # A run that is given up has been paid for and gains nothing.
    gain_per_dollar = np.where(priced.finishes, gain, 0.0) / priced.cost_usd
    pays = priced.finishes & (gain_per_dollar >= spec.decision.min_gain_per_dollar)
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
    )


def _deadline_probability(priced: PricedRun, deadline_h: float | None) -> float | None:
    if deadline_h is None:
        return None
    return float(np.mean(priced.finishes & (priced.wall_time_s <= deadline_h * 3600)))


def curve_band(
    name: str, fit: LearningCurveFit, own: Sequence[TrialResult], metric: Metric, target_n: int
) -> CurveBand:
    """The fitted curve from the smallest measured size to the target, in the metric's own direction."""
    points = sorted(points_of(own, metric), key=lambda point: (point[0], point[2].trial.seed, point[2].trial.workers))
    grid = np.geomspace(points[0][0], max(target_n, points[-1][0]), _GRID_POINTS)
    both = [(oriented(curve, metric), oriented(run, metric)) for curve, run in bands(fit, grid, LEVEL)]
    backtest = fit.backtest()
    return CurveBand(
        model=name,
        n_samples=tuple(float(n) for n in grid),
        median=tuple(curve.median for curve, _ in both),
        confidence_low=tuple(curve.low for curve, _ in both),
        confidence_high=tuple(curve.high for curve, _ in both),
        prediction_low=tuple(run.low for _, run in both),
        prediction_high=tuple(run.high for _, run in both),
        points=tuple(
            CurvePoint(n_samples=n, value=value, seed=result.trial.seed, workers=result.trial.workers)
            for n, value, result in points
        ),
        noise_std=fit.noise_std,
        diagnosis=tuple(fit.diagnosis),
        backtest=None if backtest is None else (oriented(backtest[0], metric), turned(backtest[1], metric)),
        gain_of_more_data=marginal_gain(fit, float(grid[-1])),
        overfit_gap=_overfit_gap(own, metric),
    )


def _overfit_gap(own: Sequence[TrialResult], metric: Metric) -> tuple[tuple[int, float], ...]:
    gaps: dict[int, list[float]] = {}
    for training in (result.training for result in own):
        if training is None:
            continue
        if metric == "loss":
            gaps.setdefault(training.n_train, []).append(training.loss - training.train_loss)
        elif training.accuracy is not None and training.train_accuracy is not None:
            gaps.setdefault(training.n_train, []).append(training.train_accuracy - training.accuracy)
    return tuple((n, float(np.mean(values))) for n, values in sorted(gaps.items()))
