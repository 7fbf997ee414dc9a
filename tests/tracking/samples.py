"""Records of a plausible small experiment: scanned digits, two models, three seeds. Shared by the tests beside it.

Accuracies follow ``0.99 - 0.9 * n**-0.45`` for the CNN and saturate at 0.93 for the linear model, with a fixed ripple
over the seeds in place of noise, so that every figure made from them is the same each time.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.results import (
    Approval,
    Bill,
    BillLine,
    Candidate,
    CandidateForecast,
    CheckItem,
    CurveBand,
    CurvePoint,
    DataSummary,
    EpochPoint,
    Interval,
    Outcome,
    TimeSplit,
    TrainingResult,
    TrialResult,
    Verdict,
    Veto,
)
from orchestrator.spec import (
    DataSpec,
    DecisionSpec,
    EarlyStoppingSpec,
    ExperimentSpec,
    FullRunSpec,
    ModelSpec,
    PricingSpec,
    SweepSpec,
    TrackingSpec,
    TrainingSpec,
    TrialSpec,
    evidence_scope,
    trial_key,
)

FRACTIONS = (0.05, 0.1, 0.2, 0.35, 0.5)
SHAPES = {"linear": (0.935, 1.1, 0.6), "cnn": (0.99, 0.9, 0.45)}
RIPPLE = (-0.6, 0.1, 0.5)
USD_PER_S = 1.006 / 3600


def spec(**changes: object) -> ExperimentSpec:
    """The config of the experiment, with any of its fields replaced."""
    base = ExperimentSpec(
        name="digits-cnn",
        task="orchestrator.tasks.vision:image_classification",
        data=DataSpec(source="sklearn:digits"),
        models=(ModelSpec(name="linear"), ModelSpec(name="cnn", options={"width": 16, "norm": True})),
        sweep=SweepSpec(fractions=FRACTIONS, workers=(1, 2), seeds=3, scaling_seeds=1),
        decision=DecisionSpec(min_gain_per_dollar=0.002),
        pricing=PricingSpec(instance="aws/g5.xlarge", region="us-east-1"),
        training=TrainingSpec(epochs=3, early_stopping=EarlyStoppingSpec(patience=4)),
        full_run=FullRunSpec(workers=(1, 2)),
        tracking=TrackingSpec(uri="sqlite:///mlflow.db"),
    )
    return replace(base, **changes)


def data() -> DataSummary:
    return DataSummary(
        fingerprint="5f1c" * 16,
        source="sklearn:digits",
        n_rows=1797,
        n_train=1437,
        n_validation=360,
        class_counts={str(digit): 143 + (digit < 7) for digit in range(10)},
        bytes_on_disk=115_008,
    )


def mean_accuracy(model: str, n_samples: float) -> float:
    ceiling, factor, exponent = SHAPES[model]
    return ceiling - factor * n_samples**-exponent


def training(model: str, n_train: int, workers: int, seed: int, epochs: int = 3) -> TrainingResult:
    accuracy = mean_accuracy(model, n_train) + RIPPLE[seed % 3] * 0.35 * n_train**-0.6
    compute_s = n_train * epochs * (2e-4 if model == "linear" else 9e-4) / workers
    time = TimeSplit(
        startup_s=0.4 + 0.3 * workers,
        compute_s=compute_s,
        data_wait_s=0.06 * compute_s,
        gradient_sync_s=0.0 if workers == 1 else 0.12 * compute_s,
        validation_s=0.15,
        checkpoint_s=0.05,
    )
    points = tuple(
        EpochPoint(
            epoch=epoch,
            samples_seen=n_train * epoch,
            wall_time_s=time.total_s * epoch / epochs,
            train_loss=2.0 * (1 - accuracy) + 0.3 / epoch,
            train_accuracy=min(accuracy + 0.01, 1.0),
            validation_loss=2.2 * (1 - accuracy) + 0.3 / epoch,
            validation_accuracy=accuracy - 0.05 / epoch,
        )
        for epoch in range(1, epochs + 1)
    )
    return TrainingResult(
        accuracy=accuracy,
        loss=2.2 * (1 - accuracy),
        train_accuracy=min(accuracy + 0.01, 1.0),
        train_loss=2.0 * (1 - accuracy),
        n_train=n_train,
        n_validation=360,
        epochs_run=epochs,
        samples_seen=n_train * epochs,
        wall_time_s=time.total_s,
        time=time,
        epochs=points,
        device="cpu",
        checkpoint_bytes=41_000,
    )


def result(
    model: str, fraction: float, workers: int, seed: int, *, error: str | None = None, of: ExperimentSpec | None = None
) -> TrialResult:
    """One trial of the experiment; with ``error``, a failed one."""
    of = of or spec()
    trial = TrialSpec(model=model, fraction=fraction, workers=workers, seed=seed)
    trained = None if error else training(model, round(fraction * 1437), workers, seed)
    wall_time_s = trained.wall_time_s + 0.5 if trained else 0.8
    return TrialResult(
        key=trial_key(of, data().fingerprint, trial),
        scope=evidence_scope(of, data().fingerprint, model),
        fingerprint=data().fingerprint,
        trial=trial,
        status="failed" if error else "finished",
        training=trained,
        error=error,
        wall_time_s=wall_time_s,
        queue_wait_s=0.1,
        started_at="2026-03-01T10:00:00+00:00",
        cost_usd=wall_time_s * workers * USD_PER_S,
    )


def results(n_fractions: int = 5) -> tuple[TrialResult, ...]:
    """Every trial of the grid: each size and seed on one worker, the first seed on two."""
    grid = [
        (model, fraction, workers, seed)
        for model in SHAPES
        for fraction in FRACTIONS[:n_fractions]
        for workers, seeds in ((1, 3), (2, 1))
        for seed in range(seeds)
    ]
    return tuple(result(*point) for point in grid)


def interval(median: float, half_width: float, *, floor: float = 0.0) -> Interval:
    return Interval(low=max(median - half_width, floor), median=median, high=median + half_width, mean=median)


def bill(wall_time_s: float, workers: int) -> Bill:
    hours = wall_time_s * workers / 3600
    compute = interval(hours * 1.006, hours * 0.2)
    lines = (
        BillLine(
            item="compute",
            quantity=interval(hours, hours * 0.2),
            unit="instance hour",
            unit_price_usd=1.006,
            cost_usd=compute,
            source="AWS price list, us-east-1, on demand, 2026-02-14",
        ),
        BillLine(
            item="checkpoint storage",
            quantity=interval(8.2e-5, 0.0),
            unit="GB month",
            unit_price_usd=0.023,
            cost_usd=interval(1.9e-6, 0.0),
            source="S3 standard, us-east-1, 2026-02-14",
            note="2 checkpoints kept",
        ),
        BillLine(
            item="egress",
            quantity=None,
            unit="GB",
            unit_price_usd=None,
            cost_usd=None,
            source="not priced",
            included=False,
            note="the data is assumed to lie in the region of the instance",
        ),
        BillLine(
            item="engineer time",
            quantity=None,
            unit="hour",
            unit_price_usd=None,
            cost_usd=None,
            source="no rate was given",
            included=False,
        ),
    )
    return Bill(
        lines=lines,
        total_usd=compute,
        assumed=True,
        warnings=("times were measured on cpu and priced as aws/g5.xlarge",),
    )


def forecast(model: str, workers: int, *, probability: float, baseline: float = 0.943) -> CandidateForecast:
    accuracy = mean_accuracy(model, 1437)
    wall_time_s = (4.0 if model == "cnn" else 1.2) * (1.0 if workers == 1 else 0.62) + 0.9
    gain = accuracy - baseline
    priced = bill(wall_time_s, workers)
    per_dollar = gain / priced.total_usd.median
    return CandidateForecast(
        candidate=Candidate(model=model, fraction=1.0, n_samples=1437, workers=workers, purchase="on_demand"),
        metric=Interval(low=accuracy - 0.012, median=accuracy, high=accuracy + 0.009, mean=accuracy - 0.001),
        gain=Interval(low=gain - 0.012, median=gain, high=gain + 0.009, mean=gain - 0.001),
        wall_time_s=interval(wall_time_s, 0.2 * wall_time_s),
        cost_usd=priced.total_usd,
        gain_per_dollar=Interval(low=per_dollar * 0.3, median=per_dollar, high=per_dollar * 1.8, mean=per_dollar),
        probability=probability,
        bill=priced,
        noise_units=gain / 0.006,
    )


def curve(model: str) -> CurveBand:
    """The fitted curve of the model from half its smallest size to half beyond the target."""
    grid = tuple(30.0 * 1.08**step for step in range(56))
    median = tuple(mean_accuracy(model, n) for n in grid)
    confidence = tuple(0.0035 + 0.0009 * abs(step - 20) ** 0.7 / 2 for step in range(56))
    prediction = tuple(c + 0.35 * n**-0.6 for c, n in zip(confidence, grid, strict=True))
    points = tuple(
        CurvePoint(n_samples=r.training.n_train, value=r.training.accuracy, seed=r.trial.seed, workers=r.trial.workers)
        for r in results()
        if r.trial.model == model and r.trial.workers == 1 and r.training and r.training.accuracy is not None
    )
    return CurveBand(
        model=model,
        n_samples=grid,
        median=median,
        confidence_low=tuple(m - c for m, c in zip(median, confidence, strict=True)),
        confidence_high=tuple(min(m + c, 1.0) for m, c in zip(median, confidence, strict=True)),
        prediction_low=tuple(m - p for m, p in zip(median, prediction, strict=True)),
        prediction_high=tuple(min(m + p, 1.0) for m, p in zip(median, prediction, strict=True)),
        points=points,
        noise_std=0.006,
        diagnosis=("well behaved",),
        backtest=(interval(mean_accuracy(model, 718), 0.01), mean_accuracy(model, 718) + 0.002),
    )


def verdict(kind: str = "PROMOTE", *, probability: float = 0.94, vetoes: tuple[Veto, ...] = ()) -> Verdict:
    """A verdict on the experiment, with four candidates and both curves."""
    candidates = (
        forecast("cnn", 1, probability=probability),
        forecast("cnn", 2, probability=probability - 0.02),
        forecast("linear", 1, probability=0.001),
        forecast("linear", 2, probability=0.001),
    )
    reasons = {
        "PROMOTE": "cnn on all of the data gains 1.3 points for $0.0014, above the threshold with 94% probability",
        "HOLD": "the gain per dollar may lie on either side of the threshold (probability 55%)",
        "REJECT": "the curve is flat: the full data adds less than the noise between seeds",
    }
    return Verdict(
        kind=kind,  # type: ignore[arg-type]  # tests choose by name
        probability=probability,
        confidence=0.9,
        threshold=0.002,
        reason=reasons[kind],
        best=candidates[0],
        candidates=candidates,
        curves=(curve("linear"), curve("cnn")),
        metric="accuracy",
        baseline=0.943,
        baseline_source="best trial: cnn 0.5 x 1 worker seed 2",
        vetoes=vetoes,
        checklist=(
            CheckItem(name="benchmarked on subsamples", status="pass", evidence="5 fractions x 3 seeds; backtest held"),
            CheckItem(
                name="data clean and versioned", status="warn", evidence="fingerprint recorded; labels unchecked"
            ),
            CheckItem(name="single machine used well", status="not_checked", evidence="no profile was taken"),
            CheckItem(name="worth the cost", status="pass", evidence="P(gain/$ >= threshold) = 0.94"),
        ),
        next_step="approve it, then `promote digits-cnn`",
        n_trials=40,
        n_excluded=1,
        sweep_cost_usd=0.0213,
        inputs_digest="ab12cd34ef56ab78",
    )


def approval(decision: str = "approved") -> Approval:
    return Approval(
        decision=decision,  # type: ignore[arg-type]  # tests choose by name
        by="ada",
        reason="worth it",
        inputs_digest="ab12cd34ef56ab78",
        at="2026-03-01T11:00:00+00:00",
    )


def outcome() -> Outcome:
    trained = training("cnn", 1437, 1, 0)
    return Outcome(
        candidate=verdict().best.candidate,
        training=trained,
        wall_time_s=trained.wall_time_s + 1.5,
        cost_usd=(trained.wall_time_s + 1.5) * USD_PER_S,
        forecast=verdict().best,
        metric_hit=True,
        wall_time_hit=False,
        cost_hit=True,
        checkpoint_path="runs/digits-cnn/full-run/checkpoint",
        finished_at="2026-03-01T12:00:00+00:00",
    )
