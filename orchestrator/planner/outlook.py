"""What is known of each model's full run, as joint draws, and what finishing a grid would make of it.

A contender is a model with its measured points and the full run that would be bought. Its net value, in units of the
metric and positive when the run pays, is

    net_i = baseline_i - value_i(target) - charge_i          charge = threshold * dollars of the full run

where value is what falls, error rate or loss, and the baseline a number of the config or the best measured mean. With
``baseline: best_trial`` a sweep that ends at small sizes beats an easier baseline than the grid would have set; what is
decided here is therefore always the verdict that the *whole grid* is expected to give (`finish`): points that are still
missing are drawn from the fitted curve, each drawn grid is fitted and judged as the real one would be.

    Monte Carlo over possible worlds: Frazier 2018 (arXiv:1807.02811), preposterior analysis: Raiffa and Schlaifer 1961.

Pure: points in, draws out; the same input gives the same draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.special import expit, logit, ndtr, ndtri

from orchestrator.curves.learning import LearningCurveFit, fit_learning_curve
from orchestrator.intervals import FloatArray, draw
from orchestrator.results import Interval

Kind = Literal["PROMOTE", "HOLD", "REJECT"]

N_DRAWS = 1024
"""What `LearningCurveFit.worlds` gives."""
_SEEDS = (20_240, 1)
"""Of the fixed streams for noise and charges: any will do, and the same ones make plans repeat."""
_ROUNDING = 1e-12
_LEAST = 0.5 / N_DRAWS
"""Probabilities nearer to 0 or 1 cannot be told from them by so many draws."""
_CAME_TRUE: Mapping[Kind, tuple[float, float]] = {
    "PROMOTE": (1.84, 0.79),
    "HOLD": (-0.61, 0.91),
    "REJECT": (1.93, 0.61),
}
"""Intercept and slope, by standing verdict, of the log odds that the whole grid ends in it, against those of the drawn
grids. Logistic regressions over 401, 699 and 177 steps of 150 replayed sweeps (`scripts/bench_planner.py --part tune`),
a third of which end in each verdict. Drawn grids end in HOLD too often: a PROMOTE or REJECT told at 0.75 came true in
97% and 100% of such steps, a HOLD told at 0.88 in 73%."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A model with what was measured of it, and the full run it would be promoted to."""

    model: str
    n: FloatArray
    """Training rows of each (size, seed), worker counts averaged. Shape (n_points,)."""
    value: FloatArray
    """Error rate or loss there. Shape (n_points,)."""
    bounds: tuple[float, float]
    validation_size: int | None
    target_n: float
    charge: Interval
    """Threshold times dollars of the full run, in units of the metric."""

    @cached_property
    def fit(self) -> LearningCurveFit:
        return fit_learning_curve(self.n, self.value, bounds=self.bounds, validation_size=self.validation_size)

    @cached_property
    def charges(self) -> FloatArray:
        """Draws of the charge, (1024,)."""
        return draw(self.charge, np.random.default_rng(_SEEDS[1]), N_DRAWS)

    def run_noise(self, n: FloatArray) -> FloatArray:
        """Standard deviation of a single run at each size; not taken to be smaller beyond the data than at its end."""
        shrunk = np.minimum(n / self.fit.measured.size[-1], 1.0) ** (-0.5 * self.fit.noise_decay)
        noise: FloatArray = self.fit.noise_std * shrunk
        return noise

    def with_points(self, n: Sequence[float], value: Sequence[float]) -> Contender:
        """As if those had been measured too."""
        return replace(self, n=np.append(self.n, n), value=np.append(self.value, value))

    def with_medians(self, n: Sequence[float]) -> Contender:
        """As if runs at those sizes had come out at their median; sizes below the data are left out."""
        known = [size for size in n if size >= self.fit.measured.size[0]]
        if not known:
            return self
        middle = [interval.median for interval in self.fit.intervals(known, kind="confidence")]
        return self.with_points(known, middle)

    def cells(self) -> list[FloatArray]:
        """Values of each size, sizes rising."""
        return [self.value[self.n == size] for size in np.unique(self.n)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stake:
    """What is asked of a verdict."""

    baseline: float | None
    """The falling value that a full run must stay below; None for the best measured mean."""
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One verdict, measured or drawn."""

    kind: Kind
    probabilities: tuple[float, ...]
    """P(net value >= 0) by contender."""
    net_means: tuple[float, ...]


def judge(contenders: Sequence[Contender], stake: Stake) -> Judged:
    """The verdict's rule on the points of the contenders alone: no vetoes, one candidate a model."""
    baseline, error = _baseline(contenders, stake)
    z = np.random.default_rng(_SEEDS).standard_normal(N_DRAWS)
    nets = [_net(each, baseline + error * z) for each in contenders]
    chances = tuple(float(np.mean(net >= 0)) for net in nets)
    return Judged(
        kind=kind_of(chances, stake.confidence), probabilities=chances, net_means=tuple(float(n.mean()) for n in nets)
    )


def kind_of(probabilities: Sequence[float], confidence: float) -> Kind:
    """PROMOTE when one is sure enough, REJECT when all are sure not to pay."""
    if max(probabilities) >= confidence:
        return "PROMOTE"
    return "REJECT" if max(probabilities) <= 1 - confidence + _ROUNDING else "HOLD"


def _net(contender: Contender, baseline: FloatArray) -> FloatArray:
    value = contender.fit.worlds([contender.target_n])[0]
    noise = contender.fit.noise_std * np.random.default_rng(_SEEDS[0]).standard_normal(N_DRAWS)
    net: FloatArray = baseline - np.clip(value + noise, *contender.bounds) - contender.charges
    return net


def net_moments(contender: Contender, stake: Stake) -> tuple[float, float]:
    """Mean and deviation of the net value of one new full run, against the baseline as it stands."""
    level, error = (stake.baseline, 0.0) if stake.baseline is not None else _baseline([contender], stake)
    net = _net(contender, np.full(N_DRAWS, level))
    return float(net.mean()), math.hypot(float(net.std()), error)


def chances_to_win(contenders: Sequence[Contender]) -> tuple[float, ...]:
    """Share of joint draws in which each has the highest net value, its curve's and not one lucky run's."""
    rng = np.random.default_rng(_SEEDS)
    worlds = [rng.permutation(each.fit.worlds([each.target_n])[0]) + rng.permutation(each.charges)
              for each in contenders]  # fmt: skip
    winner = np.argmin(worlds, axis=0)
    return tuple(float(np.mean(winner == i)) for i in range(len(contenders)))


def _baseline(contenders: Sequence[Contender], stake: Stake) -> tuple[float, float]:
    """The level to beat and its standard error: as `evidence.measure_baseline`, on the falling value."""
    if stake.baseline is not None:
        return stake.baseline, 0.0
    cells = [(cell, each) for each in contenders for cell in each.cells()]
    repeated = [pair for pair in cells if len(pair[0]) > 1] or cells
    best, owner = min(repeated, key=lambda pair: float(pair[0].mean()))
    alike = [cell for cell in owner.cells() if len(cell) > 1][-2:]
    freedom = sum(len(cell) - 1 for cell in alike)
    squares = sum(float(((cell - cell.mean()) ** 2).sum()) for cell in alike)
    std = math.sqrt(squares / freedom) if freedom else owner.fit.noise_std
    return float(best.mean()), std / math.sqrt(len(best))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What verdicts the grid would come to, over drawn outcomes of the trials that are left."""

    drawn: tuple[Judged, ...]
    confidence: float

    def chance(self, kind: Kind) -> float:
        """Share of grids that end in that verdict, by a kernel estimate from the drawn ones.

        Each counts by how far it lies on its side of the limit, in normal quantiles of its probability, and not only
        by its side, which tells more from 24 draws than counting them. The kernel is a normal of Silverman's width
        (1986, eq. 3.28); half a draw is granted to either outcome, so that a few never make certainty.
        """
        z = ndtri(np.clip([max(each.probabilities) for each in self.drawn], _LEAST, 1 - _LEAST))
        width = max(1.06 * float(z.std()) * len(z) ** -0.2, _LEAST)
        limit = float(ndtri(self.confidence))
        above, below = (float(ndtr((side * z - limit) / width).mean()) for side in (1, -1))
        share = {"PROMOTE": above, "REJECT": below, "HOLD": max(1 - above - below, 0.0)}[kind]
        return (share * len(z) + 0.5) / (len(z) + 1)

    def chance_to_stand(self, kind: Kind) -> float:
        """`chance`, corrected by how often such a standing verdict was the whole grid's in the end."""
        intercept, slope = _CAME_TRUE[kind]
        return float(expit(intercept + slope * logit(self.chance(kind))))


def finish(
    contenders: Sequence[Contender], left: Mapping[str, Sequence[float]], stake: Stake, n_grids: int
) -> Finished:
    """Draw the trials that are left, as often as asked, and judge each grid.

    Args:
        contenders: Each with a curve that can be fitted.
        left: Sizes of the trials still to come, by model; repeats are seeds. Those below the data are left out.
        stake: What is asked.
        n_grids: Grids to draw.
    """
    rng = np.random.default_rng(_SEEDS)
    drawn = {each.model: _outcomes(each, left.get(each.model, ()), n_grids, rng) for each in contenders}
    return Finished(
        drawn=tuple(
            judge([_completed(each, *drawn[each.model], grid) for each in contenders], stake) for grid in range(n_grids)
        ),
        confidence=stake.confidence,
    )


def _outcomes(
    contender: Contender, left: Sequence[float], n_grids: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Sizes (n_left,) and values (n_left, n_grids); a column is one possible curve with its own luck."""
    size = np.array([n for n in left if n >= contender.fit.measured.size[0]])
    column = rng.permutation(N_DRAWS)[:n_grids]
    luck = rng.standard_normal((len(size), n_grids))
    if len(size) == 0:
        return size, luck
    distinct, place = np.unique(size, return_inverse=True)
    curves = contender.fit.worlds(distinct)[place][:, column]
    values: FloatArray = np.clip(curves + contender.run_noise(size)[:, None] * luck, *contender.bounds)
    return size, values


def _completed(contender: Contender, size: FloatArray, values: FloatArray, grid: int) -> Contender:
    return contender if len(size) == 0 else contender.with_points(list(size), list(values[:, grid]))
