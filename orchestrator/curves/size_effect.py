"""Seconds per sample against the data size, jointly over worker counts, with run noise: a posterior on a grid.

    log cost(w, x) = level(w) + log(1 - f + f / x) + drift(log x) + noise,    x = samples / largest measured samples

``f`` is the share of the cost at the largest size that is paid however small the data (first batches, a short last
batch); it is common to all worker counts, as is the drift, a Brownian motion in log x that is zero at x = 1 and stands
for a machine that changes between the small runs and the large ones. Noise is of the whole run: the median
deviation between 110 groups of replicated trials was 0.12 whether they took 0.1 s or 100 s, so a long run is no more
precise than a short one, and weighing runs by their size says too much.

Levels have a flat prior and are integrated in closed form (generalised least squares); f, drift and noise are on a
grid. Of 79 pairs of model and worker count in 24 sweeps of small networks on two shared cores, each seen below its
largest size (or its full run) and asked there, the median error of the cost fell from 15% (total seconds over total
samples) to 12%, the error that nine in ten stay below from 58% to 45%, the mean error from 19% too long to 5%; the 90%
interval of the run time held 92%, up from 83%. Most of those sweeps also helped to choose the priors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.curves.power_law import FloatArray
from orchestrator.curves.speedup import SIZE_DRIFT

RUN_NOISE = 0.064
"""Deviation of log cost from run to run when no replicates tell: between those 0.12, on shared cores, and the 0.034
that is the median within sets of replicated Spark jobs (the DOS runtime data; 0.019 in C3O)."""
_NOISE_SPREAD = 0.89
"""Standard deviation of the log of the noise: of those two figures."""
_DRIFT_SPREAD = 1.2
_PROPORTIONAL = 0.5
"""Prior probability that the cost is proportional to the samples, f = 0."""
_SHARE_RATE = 5.0
"""Otherwise the density of f is proportional to exp(-rate * f); 3 to 10 did the same in the backtest."""
_SHARES = np.array([0.0, 0.005, 0.015, 0.03, 0.05, 0.08, 0.12, 0.17, 0.23, 0.3, 0.4, 0.5])
_DRIFTS = np.geomspace(SIZE_DRIFT / 32, 2 * SIZE_DRIFT, 6)
_NOISES = np.geomspace(0.003, 0.6, 16)
_NEGLIGIBLE = 1e-6
"""Cells lighter than this share of the heaviest one are dropped; they move no 5% or 95% quantile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeEffect:
    """Weighted cells, each a Gaussian in log cost. Cell arrays have shape (n_cells,)."""

    workers: tuple[int, ...]
    """Measured worker counts, rising."""
    largest_n: float
    weight: FloatArray
    share: FloatArray
    """f, of the cost at the largest size."""
    drift: FloatArray
    noise: FloatArray
    level: FloatArray
    """Log cost at the largest size, (n_cells, n_workers)."""
    level_var: FloatArray
    """Its variance, (n_cells, n_workers)."""

    def median_level(self, workers: int) -> float:
        """Log cost of a typical run at the largest measured size, on a measured worker count."""
        return self.median(workers, self.largest_n)

    def median(self, workers: int, n_samples: float) -> float:
        """Log cost of a typical run of any size, on a measured worker count."""
        return _weighted_median(self._means(workers, n_samples), self.weight)

    @property
    def median_noise(self) -> float:
        """Deviation of log cost from run to run."""
        return _weighted_median(self.noise, self.weight)

    def draw(self, workers: int, n_samples: float, rng: np.random.Generator, size: int) -> FloatArray:
        """Log cost of a new run on a measured worker count, (size,)."""
        cell = rng.choice(len(self.weight), size=size, p=self.weight)
        log_x = abs(float(np.log(n_samples / self.largest_n)))
        spread = self.level_var[:, self.workers.index(workers)] + self.drift**2 * log_x + self.noise**2
        drawn: FloatArray = self._means(workers, n_samples)[cell] + np.sqrt(spread)[cell] * rng.standard_normal(size)
        return drawn

    def _means(self, workers: int, n_samples: float) -> FloatArray:
        bend = _bend(np.array([n_samples / self.largest_n]), self.share)[0]
        means: FloatArray = self.level[:, self.workers.index(workers)] + bend
        return means


def fit_size_effect(workers: Sequence[int], n_samples: Sequence[float], cost: Sequence[float]) -> SizeEffect:
    """Fit the cost of a sample to runs of any sizes and worker counts.

    Args:
        workers: Worker count of each run. Shape (n_runs,), n_runs at least 1.
        n_samples: Rows of the data of each run, above 0.
        cost: Seconds per sample, above 0.
    """
    points = _fold(workers, n_samples, cost)
    drift, noise = (g.ravel() for g in np.meshgrid(_DRIFTS, _NOISES, indexing="ij"))
    largest = points.size.max()
    distance = np.log(largest / points.size)
    covariance = drift[:, None, None] ** 2 * np.minimum(distance[:, None], distance[None, :])
    covariance += noise[:, None, None] ** 2 * np.diag(1 / points.count)
    precision = np.linalg.inv(covariance)
    counts = tuple(sorted(set(workers)))
    design = (points.workers[:, None] == np.array(counts)).astype(np.float64)
    level_cov = np.linalg.inv(design.T @ precision @ design)
    straight = points.log_cost[:, None] - _bend(points.size / largest, _SHARES)
    level = level_cov @ (design.T @ precision @ straight)
    residual = straight - design @ level
    misfit = np.einsum("kpc,kpq,kqc->kc", residual, precision, residual)
    by_scale = _log_scale_prior(drift, noise) - 0.5 * (points.within_dof * 2 * np.log(noise))
    by_scale -= 0.5 * (points.within_ss / noise**2 + np.linalg.slogdet(covariance)[1] - np.linalg.slogdet(level_cov)[1])
    log_weight = by_scale[:, None] + _log_share_prior() - 0.5 * misfit
    weight = np.exp(log_weight - log_weight.max())
    scale, share = np.nonzero(weight > _NEGLIGIBLE)
    kept = weight[scale, share]
    return SizeEffect(
        workers=counts, largest_n=float(largest), weight=kept / kept.sum(), share=_SHARES[share],
        drift=drift[scale], noise=noise[scale], level=level[scale, :, share],
        level_var=np.diagonal(level_cov, axis1=1, axis2=2)[scale],
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Points:
    """Runs folded to distinct (workers, size); arrays of shape (n_points,)."""

    workers: FloatArray
    size: FloatArray
    log_cost: FloatArray
    count: FloatArray
    within_ss: float
    within_dof: int


def _fold(workers: Sequence[int], n_samples: Sequence[float], cost: Sequence[float]) -> _Points:
    runs = np.column_stack([np.asarray(workers, np.float64), np.asarray(n_samples, np.float64)])
    log_cost = np.log(np.asarray(cost, np.float64))
    keys, which = np.unique(runs, axis=0, return_inverse=True)
    count = np.bincount(which).astype(np.float64)
    mean = np.bincount(which, weights=log_cost) / count
    return _Points(
        workers=keys[:, 0], size=keys[:, 1], log_cost=mean, count=count,
        within_ss=float(((log_cost - mean[which]) ** 2).sum()), within_dof=len(log_cost) - len(count),
    )  # fmt: skip


def _bend(x: FloatArray, share: FloatArray) -> FloatArray:
    """log(1 - f + f / x), (n_sizes, n_shares)."""
    bend: FloatArray = np.log(1 - share + share / x[:, None])
    return bend


def _log_share_prior() -> FloatArray:
    slab = np.exp(-_SHARE_RATE * _SHARES) * np.gradient(_SHARES)
    slab[0] = 0.0
    prior = (1 - _PROPORTIONAL) * slab / slab.sum()
    prior[0] = _PROPORTIONAL
    log_prior: FloatArray = np.log(prior)
    return log_prior


def _log_scale_prior(drift: FloatArray, noise: FloatArray) -> FloatArray:
    log_prior: FloatArray = -0.5 * (np.log(drift / SIZE_DRIFT) / _DRIFT_SPREAD) ** 2
    return log_prior - 0.5 * (np.log(noise / RUN_NOISE) / _NOISE_SPREAD) ** 2


def _weighted_median(values: FloatArray, weight: FloatArray) -> float:
    order = np.argsort(values, kind="stable")
    middle = int(np.searchsorted(np.cumsum(weight[order]), 0.5))
    return float(values[order][min(middle, len(order) - 1)])
