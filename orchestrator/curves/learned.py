"""Error rates beyond the data, forecast by networks that were trained on real learning curves.

They read `features.describe` and correct the families' own forecast (`quantile_net`). The idea of learning to
extrapolate is LC-PFN's (Adriaensen et al. 2023, arXiv:2310.20447), with curves that were measured in place of curves
that were made up. All is in units of the last measured value, so that what is minimised is the pinball loss in
percentage points. ``learned.json`` holds the parameters and how they came about; `scripts/train_learning_curves.py`
derives it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from orchestrator.curves import quantile_net
from orchestrator.curves.features import NEW, describe
from orchestrator.curves.measured import FoldedSizes
from orchestrator.curves.power_law import FloatArray
from orchestrator.curves.quantile_net import QuantileNet

START = "believed"
"""The networks correct this forecast of the description: the families' own, weighted by how well they fit."""
LEAST_UNIT = 0.005
"""Values below half a percentage point are told in this unit, so that a curve that has reached zero still has one."""
_STRETCH = 10.0
_IN_UNITS = ("believed", "lag_", "line_", "slope_", "largest_", "roughness", "seed_std", "last_seed_std", "first_diff",
             "max_diff", "min_diff")  # fmt: skip
_IN_UNITS_OF_FAMILY = ("_best", "_mean", "_std", "_now", "_rms", "_floor")


def design(description: Mapping[str, FloatArray | float], unit: float) -> tuple[tuple[str, ...], FloatArray]:
    """Inputs of the networks: names, and a matrix (n_targets, n_inputs) that still holds NaN.

    Differences of values are told in ``unit`` and pass through arcsinh, for they span four decades.
    """
    matrix = np.empty((np.size(description["ahead"]), len(description)))
    for column, value in enumerate(description.values()):
        matrix[:, column] = value
    names = tuple(description)
    in_units = _in_units(names)
    matrix[:, in_units] = np.arcsinh(matrix[:, in_units] / unit * _STRETCH)
    return names, matrix


@cache
def _in_units(names: tuple[str, ...]) -> NDArray[np.bool_]:
    return np.array(
        [name.startswith(_IN_UNITS) or name.removesuffix(NEW).endswith(_IN_UNITS_OF_FAMILY) for name in names]
    )


def unit_of(last: float) -> float:
    """The last measured value, or `LEAST_UNIT` below it."""
    return max(last, LEAST_UNIT)


def quantiles(net: QuantileNet, measured: FoldedSizes, target_n: FloatArray) -> FloatArray:
    """Values at `quantile_net.LEVELS` for each target, (n_targets, n_levels), not yet held to any bounds.

    Args:
        net: Trained on these descriptions.
        measured: Values in [0, 1] at 2 or more sizes.
        target_n: At or beyond the largest size, (n_targets,).
    """
    last = float(measured.mean[-1])
    unit = unit_of(last)
    description = describe(measured, target_n)
    names, matrix = design(description, unit)
    start = last + np.asarray(description[START])
    changes = net.changes(names, matrix, np.log(target_n / measured.size[-1]))
    values: FloatArray = start[:, None] + unit * changes
    return values


def shipped() -> QuantileNet:
    """The networks that come with the package."""
    return quantile_net.shipped("learned.json")
