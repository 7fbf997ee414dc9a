"""Families of learning curves, fitted by variable projection, all of them at once.

    value(x) = c + a * phi(x; theta),    x = n / largest measured n,    c >= 0, a >= 0, phi falling

Only ``theta`` is searched, on a fixed grid; the best ``c`` and ``a`` are linear in the values and have a closed form
(Golub and Pereyra 1973, doi:10.1137/0710036), so one matrix product per curve fits every cell of every family. No
family is right: which one extrapolates best differs from curve to curve (Viering and Loog 2021, arXiv:2103.10948), and
the spread between and within them is what `learned` is told. Pure: arrays in, arrays out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from orchestrator.curves.power_law import FloatArray

Shape = Callable[[FloatArray, FloatArray], FloatArray]
"""``shape(x, theta)``: phi for sizes (n_sizes,) and cells (n_cells, n_parameters), of shape (n_cells, n_sizes)."""

_SPREAD_FLOOR = 1e-3
"""Scatter below a tenth of a percentage point is no evidence between families: seeds alone differ by more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One formula with the cells of its grid."""

    name: str
    formula: str
    source: str
    shape: Shape
    cells: FloatArray
    """Parameters theta of each cell, (n_cells, n_parameters)."""
    has_floor: bool = True
    """Whether ``c`` is free; else it is 0."""

    @property
    def n_parameters(self) -> int:
        return int(self.cells.shape[1]) + 1 + self.has_floor


def _cells(*axes: FloatArray) -> FloatArray:
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)


def _power(x: FloatArray, theta: FloatArray) -> FloatArray:
    return np.exp(-theta[:, :1] * np.log(x))


def _exponential(x: FloatArray, theta: FloatArray) -> FloatArray:
    return np.exp(-theta[:, :1] * (x - 1.0))


def _hill(x: FloatArray, theta: FloatArray) -> FloatArray:
    from scipy.special import expit  # 0.2 s to import

    out: FloatArray = expit(-theta[:, :1] * (np.log(x) - np.log(theta[:, 1:])))
    return out


def _shifted_power(x: FloatArray, theta: FloatArray) -> FloatArray:
    return np.exp(-theta[:, :1] * np.log((x + theta[:, 1:]) / (1.0 + theta[:, 1:])))


FAMILIES = (
    Family(
        name="power law",
        formula="a * x**-b",
        source="Hestness et al. 2017, arXiv:1712.00409",
        shape=_power,
        cells=_cells(np.geomspace(0.02, 3.0, 20)),
        has_floor=False,
    ),
    Family(
        name="power law with floor",
        formula="c + a * x**-b",
        source="Cortes et al. 1993, Learning curves: asymptotic values and rate of convergence",
        shape=_power,
        cells=_cells(np.geomspace(0.05, 3.0, 32)),
    ),
    Family(
        name="exponential",
        formula="c + a * exp(-k * x)",
        source="Gu, Hu and Liu 2001, doi:10.1007/3-540-47714-4_29",
        shape=_exponential,
        cells=_cells(np.geomspace(0.2, 30.0, 14)),
    ),
    Family(
        name="Hill (MMF)",
        formula="c + a / (1 + (x / h)**b)",
        source="Morgan, Mercer and Flodin 1975, doi:10.1073/pnas.72.11.4327",
        shape=_hill,
        cells=_cells(np.geomspace(0.4, 4.0, 7), np.geomspace(0.004, 3.0, 8)),
    ),
    Family(
        name="shifted power law",
        formula="c + a * (x + d)**-b",
        source="POW4 of Mohr et al. 2022, LCDB 1.0, doi:10.1007/978-3-031-26419-1_1",
        shape=_shifted_power,
        cells=_cells(np.geomspace(0.1, 4.0, 8), np.geomspace(0.004, 1.0, 5)),
    ),
)
_OF_CELL = np.repeat(np.arange(len(FAMILIES)), [len(family.cells) for family in FAMILIES])
_HAS_FLOOR = np.array([family.has_floor for family in FAMILIES])[_OF_CELL]
_N_PARAMETERS = np.array([family.n_parameters for family in FAMILIES], dtype=np.float64)
_STARTS = np.searchsorted(_OF_CELL, np.arange(len(FAMILIES)))


def shapes(x: FloatArray) -> FloatArray:
    """phi of every cell of every family, (n_cells, n_sizes); x relative to the largest measured size."""
    return np.concatenate([family.shape(x, family.cells) for family in FAMILIES])


@dataclass(frozen=True, kw_only=True)
class FamilyFits:
    """Every cell fitted. Cell arrays of shape (n_cells,), family arrays of shape (n_families,)."""

    floor: FloatArray
    amplitude: FloatArray
    misfit: FloatArray
    """Weighted mean of the squared residuals."""
    n_sizes: int

    @cached_property
    def cell_weight(self) -> FloatArray:
        """Weight of each cell within its family, from its likelihood at unknown noise; sums to 1 in each family."""
        log_weight = -0.5 * self.n_sizes * np.log(self.misfit + _SPREAD_FLOOR**2)
        log_weight = log_weight - np.maximum.reduceat(log_weight, _STARTS)[_OF_CELL]
        weight = np.exp(log_weight)
        share: FloatArray = weight / np.add.reduceat(weight, _STARTS)[_OF_CELL]
        return share

    @cached_property
    def best_cell(self) -> NDArray[np.intp]:
        """Position of each family's best cell."""
        ends = np.append(_STARTS[1:], len(self.misfit))
        return np.array(
            [start + np.argmin(self.misfit[start:end]) for start, end in zip(_STARTS, ends, strict=True)], dtype=np.intp
        )

    @cached_property
    def family_weight(self) -> FloatArray:
        """How much each family is believed: exp(-BIC / 2) of its best cell (Schwarz 1978), normalised."""
        bic = self.n_sizes * np.log(self.misfit[self.best_cell] + _SPREAD_FLOOR**2)
        bic = bic + _N_PARAMETERS * np.log(self.n_sizes)
        weight = np.exp(-0.5 * (bic - bic.min()))
        share: FloatArray = weight / weight.sum()
        return share

    def forecasts(self, target_phi: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The best cell's value, the weighted mean over cells and its standard deviation, each (n_families, n_targets).

        ``target_phi`` is `shapes` of the targets, (n_cells, n_targets).
        """
        value = self.floor[:, None] + self.amplitude[:, None] * target_phi
        weight = self.cell_weight[:, None]
        mean = np.add.reduceat(weight * value, _STARTS)
        var = np.add.reduceat(weight * (value - mean[_OF_CELL]) ** 2, _STARTS)
        return value[self.best_cell], mean, np.sqrt(var)


def fit_families(phi: FloatArray, value: FloatArray, weight: FloatArray) -> FamilyFits:
    """Fit c and a of every cell by weighted least squares under c >= 0 and a >= 0.

    Args:
        phi: `shapes` of the measured sizes, (n_cells, n_sizes).
        value: Above the lower bound of the metric by that much, at least 0, shape (n_sizes,).
        weight: At least 0, any scale, same shape.
    """
    w = weight / weight.sum()
    phi_mean, mean = phi @ w, float(value @ w)
    centred = phi - phi_mean[:, None]
    amplitude = np.maximum((centred * (value - mean)) @ w / np.maximum((centred**2) @ w, 1e-300), 0.0)
    floor = mean - amplitude * phi_mean
    through_zero = (phi * value) @ w / np.maximum((phi**2) @ w, 1e-300)
    is_bound = ~_HAS_FLOOR | (floor < 0)
    amplitude = np.where(is_bound, through_zero, amplitude)
    floor = np.where(is_bound, 0.0, floor)
    residual = value - floor[:, None] - amplitude[:, None] * phi
    return FamilyFits(floor=floor, amplitude=amplitude, misfit=(residual**2) @ w, n_sizes=len(value))
