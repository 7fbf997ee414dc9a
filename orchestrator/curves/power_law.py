"""Posterior of a power law with an offset and a drifting residual, on a grid, vectorised.

    log y(x) = level + log(r + (1 - r) * x**-b) + drift(log x) + noise(x),    x = size / largest measured size

``r`` is the share of y at the largest measured size that does not shrink with x (1: a plateau), ``b`` the exponent (no
unit). With y = value - lower this is value = c + a * n**-b, c >= lower, a >= 0 (power laws of learning: Hestness et al.
2017, arXiv:1712.00409; bounded and Bayesian: Domhan et al. 2015); with y = seconds and x = workers it is Amdahl's law
with a softened exponent. Nothing real follows a power law to the end, so the residual is a Brownian motion in log x of
variance tau**2 per unit (a model discrepancy in the sense of Kennedy and O'Hagan 2001), tied to zero at x = 1: within
the data it bends the curve, beyond them it widens with the log of the extrapolation factor.

``level`` enters linearly, has a flat prior and is integrated in closed form (variable projection); b, r, tau and the
noise are on a grid. Pure: arrays in, arrays out. Priors live with their curves: `learning_prior`, `speedup`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class Forecast(TypedDict):
    """A point forecast with its 5%, 50% and 95% quantiles."""

    mean: float
    quantiles: dict[float, float]


_JITTER = 1e-10
"""Added to variances of log y so that noise-free, drift-free grid cells stay factorable; far below any real noise."""
_NEGLIGIBLE = 1e-6
"""Cells lighter than this share of the heaviest one are dropped; they move no 5% or 95% quantile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The cells of a posterior with their log prior: shapes (b, r) and scales (tau, noise), each flattened."""

    exponent: FloatArray
    floor_share: FloatArray
    log_shape_prior: FloatArray
    drift: FloatArray
    noise: FloatArray
    log_scale_prior: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPoints:
    """Measurements folded to distinct sizes, rising. Arrays of shape (n_sizes,)."""

    log_x: FloatArray
    """log(size / largest size); the last is 0."""
    log_y: FloatArray
    noise_shape: FloatArray
    """Variance of log_y in units of the squared noise, the number of replicates already divided out."""
    extra_var: FloatArray
    """Variance of log_y that is known beforehand."""
    within_ss: float = 0.0
    """Squared deviations of replicates from their mean, scaled to the noise at x = 1."""
    within_dof: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """How uncertainty grows beyond the data; ``ell`` is the log of the extrapolation factor."""

    widening: float = 1.0
    growth: float = 1.0
    """Drift variance beyond the data is widening * tau**2 * ell**growth."""
    cliff_rate: float = 0.0
    """Late drops per unit of ell."""
    cliff_size: float = 1.0
    """Mean drop of log y in a cliff, exponentially distributed."""


def scale_grid(
    drifts: FloatArray, noises: FloatArray, drift_prior: tuple[float, float], noise_prior: tuple[float, float]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """All (tau, noise) pairs with a log-normal prior, each given as (median, standard deviation of the log)."""
    tau, sigma = (g.ravel() for g in np.meshgrid(drifts, noises, indexing="ij"))
    log_prior = -0.5 * (np.log(tau / drift_prior[0]) / drift_prior[1]) ** 2
    log_prior -= 0.5 * (np.log(sigma / noise_prior[0]) / noise_prior[1]) ** 2
    return tau, sigma, log_prior - np.logaddexp.reduce(log_prior)


def log_shape(log_x: FloatArray, exponent: FloatArray, floor_share: FloatArray) -> FloatArray:
    """log(r + (1 - r) x**-b) for arrays that broadcast; r may be slightly negative (faster than a pure power)."""
    with np.errstate(over="ignore"):
        share: FloatArray = np.maximum(floor_share + (1.0 - floor_share) * np.exp(-exponent * log_x), 1e-3)
    return np.log(share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """Weighted cells, each a Gaussian in log y at any x. Cell arrays have shape (n_cells,)."""

    points: LogPoints
    whitener: FloatArray
    """Inverse Cholesky factor of the covariance of log_y for each scale pair, (n_scales, n_sizes, n_sizes)."""
    scale_index: NDArray[np.intp]
    weight: FloatArray
    exponent: FloatArray
    floor_share: FloatArray
    drift: FloatArray
    noise: FloatArray
    level: FloatArray
    level_var: FloatArray

    @property
    def median_noise(self) -> float:
        """Weighted median of the noise, as a standard deviation of log y at x = 1."""
        order = np.argsort(self.noise, kind="stable")
        middle = int(np.searchsorted(np.cumsum(self.weight[order]), 0.5))
        return float(self.noise[order][min(middle, len(order) - 1)])

    def moments(self, log_x: float, tail: Tail) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of the log curve at x in each cell."""
        mean: FloatArray = self.level + log_shape(np.full(1, log_x), self.exponent, self.floor_share)
        if log_x >= 0:
            return mean, self.level_var + tail.widening * self.drift**2 * log_x**tail.growth
        return self._moments_within(log_x, mean)

    def _moments_within(self, log_x: float, mean: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Kriging inside or below the measured range, where neighbours on both sides bound the drift."""
        distance = -self.points.log_x
        shared = np.minimum(distance, -log_x)
        weights = np.einsum("kji,kjl,l->ki", self.whitener, self.whitener, shared)
        weights = weights[self.scale_index] * self.drift[:, None] ** 2
        shape = log_shape(self.points.log_x, self.exponent[:, None], self.floor_share[:, None])
        residual = self.points.log_y - shape - self.level[:, None]
        explained = self.drift**2 * (weights @ shared)
        var = -(self.drift**2) * log_x - explained + (1.0 - weights.sum(1)) ** 2 * self.level_var
        return mean + (weights * residual).sum(1), np.maximum(var, 0.0)

    def draw(self, log_x: float, tail: Tail, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Draws of the log curve at x, and of the noise beside them, from uniforms of shape (4, size)."""
        from scipy.special import ndtri  # 0.2 s to import

        mean, var = self.moments(log_x, tail)
        cell = np.minimum(np.searchsorted(np.cumsum(self.weight), u[0]), len(self.weight) - 1)
        out = mean[cell] + np.sqrt(var[cell]) * ndtri(u[1])
        falls = u[2] < -np.expm1(-tail.cliff_rate * max(log_x, 0.0))
        out += np.where(falls, tail.cliff_size * np.log(u[3]), 0.0)
        return out, self.noise[cell]


def fit_posterior(points: LogPoints, grid: Grid, noise_floor: float = 0.0) -> Posterior:
    """Weigh every cell of the grid by prior times marginal likelihood.

    Args:
        points: At least one size.
        grid: Cells and prior.
        noise_floor: Noise that is there whatever the replicates say (standard deviation of log y at x = 1).
    """
    sigma2 = grid.noise**2 + noise_floor**2
    white, half_log_det = _whiten(points, grid, sigma2)
    shape = log_shape(points.log_x[:, None], grid.exponent[None, :], grid.floor_share[None, :])
    residual = white @ (points.log_y[:, None] - shape)
    one = white.sum(2)
    s11 = (one * one).sum(1)
    s1r = (one[:, None, :] @ residual)[:, 0, :]
    level = s1r / s11[:, None]
    misfit = np.einsum("kmc,kmc->kc", residual, residual) - s1r * level
    by_scale = grid.log_scale_prior - half_log_det - 0.5 * np.log(s11)
    by_scale -= 0.5 * (points.within_dof * np.log(sigma2) + points.within_ss / sigma2)
    log_weight = by_scale[:, None] + grid.log_shape_prior - 0.5 * misfit
    weight = np.exp(log_weight - log_weight.max())
    k, c = np.nonzero(weight > _NEGLIGIBLE)
    kept = weight[k, c]
    return Posterior(
        points=points, whitener=white, scale_index=k, weight=kept / kept.sum(), exponent=grid.exponent[c],
        floor_share=grid.floor_share[c], drift=grid.drift[k], noise=np.sqrt(sigma2)[k], level=level[k, c],
        level_var=(1.0 / s11)[k],
    )  # fmt: skip


def _whiten(points: LogPoints, grid: Grid, sigma2: FloatArray) -> tuple[FloatArray, FloatArray]:
    distance = -points.log_x
    cov = grid.drift[:, None, None] ** 2 * np.minimum(distance[:, None], distance[None, :])
    diagonal = np.arange(len(distance))
    cov[:, diagonal, diagonal] += sigma2[:, None] * points.noise_shape + points.extra_var + _JITTER
    chol = np.linalg.cholesky(cov)
    return np.linalg.inv(chol), np.log(chol[:, diagonal, diagonal]).sum(1)


def even_uniforms(dimensions: int, size: int) -> FloatArray:
    """A fixed, evenly spread set of points in the open unit cube, shape (dimensions, size): Roberts' R sequence (2018).

    Forecasts that must be the same every time use it in place of a random generator.
    """
    phi = 2.0
    for _ in range(60):  # fixed point of phi**(d + 1) = phi + 1, the generalised golden ratio
        phi = (1.0 + phi) ** (1.0 / (dimensions + 1))
    steps = phi ** -np.arange(1, dimensions + 1)
    u: FloatArray = np.mod(0.5 + steps[:, None] * np.arange(1, size + 1), 1.0)
    return np.clip(u, 1e-9, 1 - 1e-9)
