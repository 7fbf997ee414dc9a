"""A verdict with every field filled: 108 candidates of three models, a frontier with its knee, a history. Shared."""

from __future__ import annotations

import runpy
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

from orchestrator.report.history import History, LogLine
from orchestrator.results import (
    Bill,
    Candidate,
    CandidateForecast,
    Drill,
    DroppedModel,
    Frontier,
    Interval,
    MeasurementAdvice,
    SweepEnd,
    TrialResult,
    Verdict,
)
from orchestrator.spec import TrialSpec

samples = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "tracking" / "samples.py")))

N_TRAIN = 1437
THRESHOLD = 0.004
MODELS = {"linear": (0.935, 1.1, 0.6, 1.0), "cnn": (0.99, 0.9, 0.45, 4.0), "resnet": (0.995, 1.4, 0.42, 9.0)}
"""Ceiling, factor and exponent of the accuracy, and dollars of all data on one worker on demand."""
FRACTIONS = (0.5, 1.0, 2.0)
WORKERS = (1, 2, 4, 8)
PURCHASES = (("on_demand", 1.0), ("spot", 0.45), ("reserved", 0.7))


def forecast(model: str, fraction: float, workers: int, purchase: str, share: float) -> CandidateForecast:
    ceiling, factor, exponent, usd = MODELS[model]
    n_samples = round(fraction * N_TRAIN)
    accuracy = ceiling - factor * n_samples**-exponent
    gain, cost = accuracy - 0.943, usd * fraction * share * (1 + 0.08 * (workers - 1))
    dollars = Interval(low=0.8 * cost, median=cost, high=1.3 * cost, mean=cost)
    net = gain - THRESHOLD * cost
    return CandidateForecast(
        candidate=Candidate(
            model=model, fraction=fraction, n_samples=n_samples, workers=workers, purchase=purchase
        ),
        metric=Interval(low=accuracy - 0.008, median=accuracy, high=accuracy + 0.006, mean=accuracy),
        gain=Interval(low=gain - 0.008, median=gain, high=gain + 0.006, mean=gain),
        wall_time_s=Interval(low=3000 / workers, median=3600 / workers, high=4000 / workers, mean=3600 / workers),
        cost_usd=dollars,
        gain_per_dollar=Interval(low=gain / cost * 0.3, median=gain / cost, high=gain / cost * 1.8, mean=gain / cost),
        probability=min(max(0.5 + 40 * net, 0.01), 0.99),
        bill=Bill(
            lines=samples.bill(4.0, 1).lines, total_usd=dollars, assumed=False,
            totals_usd={"infrastructure": dollars},
        ),
        noise_units=gain / 0.006,
        net_value=Interval(low=net - 0.01, median=net, high=net + 0.01, mean=net),
    )  # fmt: skip


def frontier_of(candidates: tuple[CandidateForecast, ...]) -> Frontier:
    """Those that no cheaper one matches in expected gain; the knee lies farthest above the chord."""
    kept: list[CandidateForecast] = []
    for each in sorted(candidates, key=lambda c: (c.cost_usd.mean, -c.gain.mean)):
        if not kept or each.gain.mean > kept[-1].gain.mean:
            kept.append(each)
    (x0, y0), (x1, y1) = ((c.cost_usd.mean, c.gain.mean) for c in (kept[0], kept[-1]))
    above = {c.candidate: (c.gain.mean - y0) / (y1 - y0) - (c.cost_usd.mean - x0) / (x1 - x0) for c in kept}
    return Frontier(candidates=tuple(c.candidate for c in kept), knee=max(above, key=lambda c: above[c]))


def verdict(kind: str = "PROMOTE") -> Verdict:
    candidates = tuple(
        forecast(model, fraction, workers, purchase, share)
        for model in MODELS
        for fraction in FRACTIONS
        for workers in WORKERS
        for purchase, share in PURCHASES
    )
    best = max(candidates, key=lambda c: c.net_value.mean if c.net_value else 0.0)
    advice = MeasurementAdvice(
        description="2 more seeds of cnn at 0.5 of the data",
        trials=(TrialSpec(model="cnn", fraction=0.5, workers=1, seed=3),),
        cost_usd=0.41,
        chance_to_settle=0.62,
    )
    curves = (samples.curve("linear"), samples.curve("cnn"), replace(samples.curve("cnn"), model="resnet"))
    return replace(
        samples.verdict(kind),
        best=best,
        candidates=candidates,
        threshold=THRESHOLD,
        probability=best.probability,
        curves=curves,
        frontier=frontier_of(candidates),
        preference="resnet on all of the data gains 0.3 points more for $4.10 more: within the noise between seeds",
        assumptions=("2% of the labels are wrong at full scale (data.label_noise)", "2,874 rows exist"),
        next_measurement=advice if kind == "HOLD" else None,
    )


def trials(*, pause_s: float = 0.0) -> tuple[TrialResult, ...]:
    """The sweep's trials one after another, the fifth failed, with a pause before the last ten."""
    at, found = datetime.fromisoformat("2026-03-01T10:00:00+00:00"), []
    for position, result in enumerate(samples.results()):
        if position == 5:
            result = samples.result(
                result.trial.model,
                result.trial.fraction,
                result.trial.workers,
                result.trial.seed,
                error="out of memory",
            )
        at += timedelta(seconds=pause_s if position == 30 else 0.2)
        found.append(replace(result, started_at=at.isoformat(), wall_time_s=20.0, cost_usd=0.02 + 0.002 * position))
        at += timedelta(seconds=20.0)
    return tuple(found)


def history() -> History:
    return History(
        sweep_end=SweepEnd(
            cause="verdict certain", reason="P = 0.97 after 22 trials, and no trial left could turn it", n_trials=22,
            n_grid=40, spent_usd=1.04, dropped=(DroppedModel(model="linear", reason="chance to win below 1%"),),
        ),
        drills=(Drill(name="restart", passed=True, evidence="killed and resumed", at="2026-03-01T11:00:00+00:00"),),
        log=(
            LogLine(at="2026-03-01T11:00:00.000+00:00", what="HOLD, probability 0.62", reason="open",
                    inputs_digest="ab12cd34ef56ab78"),
            LogLine(at="2026-03-01T11:30:00+00:00", what="approved", by="Ada", reason="worth it",
                    override="the launch is on Friday", source="MLflow tag", inputs_digest="ab12cd34ef56ab78"),
        ),
        versions={"orchestrator": "0.1.0", "torch": "2.13.0"},
        config_path="configs/digits.yaml",
        journal_digest="9c" * 32,
        n_lines=47,
    )  # fmt: skip
