"""A fitted curve as figures and tables show it: on a grid, with the points it was fitted to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.curves.learning import LearningCurveFit
from orchestrator.curves.questions import bands, marginal_gain, oriented, turned
from orchestrator.evidence import points_of
from orchestrator.results import CurveBand, CurvePoint, TrialResult
from orchestrator.spec import Metric

LEVEL = 0.9
"""Probability inside every interval that is shown."""
_GRID_POINTS = 32


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
