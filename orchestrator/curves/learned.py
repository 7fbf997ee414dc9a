"""A forecaster of error rates that was trained on real learning curves: quantiles from a curve's description.

Small networks read `features.describe` and return the quantiles of the value at a target size, from 1% to 99%, each
the median plus a sum of positive steps, so that they never cross; the answer is the mean of the networks' quantiles.
The idea of learning to extrapolate is LC-PFN's (Adriaensen et al. 2023, arXiv:2310.20447), with curves that were
measured in place of curves that were made up. All is in units of the last measured value, so that what is minimised
is the pinball loss in percentage points. ``learned.json`` beside this file holds the parameters and how they came
about; `scripts/train_learning_curves.py` derives it again. Pure: the file is a constant of the package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.curves.features import NEW, describe
from orchestrator.curves.measured import FoldedSizes
from orchestrator.curves.power_law import FloatArray

LEVELS = np.array([0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.975, 0.99])
MEDIAN = 6
"""Position of 0.5 in `LEVELS`."""
START = "believed"
"""The networks correct this forecast of the description: the families' own, weighted by how well they fit."""
LEAST_UNIT = 0.005
"""Values below half a percentage point are told in this unit, so that a curve that has reached zero still has one."""
CLIP = 4.0
"""A description farther than this from the training curves' mean, in their standard deviations, counts as this far."""
_STRETCH = 10.0
_IN_UNITS = ("believed", "lag_", "line_", "slope_", "largest_", "roughness", "seed_std", "last_seed_std", "first_diff",
             "max_diff", "min_diff")  # fmt: skip
_IN_UNITS_OF_FAMILY = ("_best", "_mean", "_std", "_now", "_rms", "_floor")
_TAIL = 1.0
"""Beyond 1 and 99% a quantile goes on by the last step between levels, once, and ends: rarer still is not told."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """What quantiles below and above the median are stretched by, so that 90% intervals hold 90% of the curves that
    were held out (conformalized quantiles, Romano et al. 2019, arXiv:1905.03222); straight between the knots."""

    ahead: tuple[float, ...] = (0.0,)
    """Knots: log of the target over the largest measured size, rising."""
    below: tuple[float, ...] = (1.0,)
    above: tuple[float, ...] = (1.0,)

    def factors(self, ahead: FloatArray) -> FloatArray:
        """Of each level at each target, (n_targets, n_levels)."""
        below, above = (np.interp(ahead, self.ahead, side) for side in (self.below, self.above))
        factors: FloatArray = np.where(np.arange(len(LEVELS)) < MEDIAN, below[:, None], above[:, None])
        return factors


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantileNet:
    """Networks of two hidden layers with SiLU, averaged."""

    inputs: tuple[str, ...]
    centre: FloatArray
    scale: FloatArray
    members: tuple[tuple[tuple[FloatArray, FloatArray], ...], ...]
    """Of each network its layers: weight (n_out, n_in) and bias (n_out,)."""
    spread: Spread

    def standardise(self, matrix: FloatArray) -> FloatArray:
        """What the first layer reads: NaN becomes the training curves' mean."""
        return np.clip(np.nan_to_num((matrix - self.centre) / self.scale), -CLIP, CLIP)

    def told(self, x: FloatArray) -> FloatArray:
        """Quantiles (n, n_levels) of the change in units, before the spread."""
        told: FloatArray = np.mean([_rising(_forward(layers, x)) for layers in self.members], axis=0)
        return told

    def quantiles(self, measured: FoldedSizes, target_n: FloatArray) -> FloatArray:
        """Values at `LEVELS` for each target, (n_targets, n_levels), not yet held to any bounds.

        Args:
            measured: Values in [0, 1] at 2 or more sizes.
            target_n: At or beyond the largest size, (n_targets,).
        """
        last = float(measured.mean[-1])
        unit = unit_of(last)
        description = describe(measured, target_n)
        names, matrix = design(description, unit)
        assert names == self.inputs, (
            "learned.json was made for other descriptions; run scripts/train_learning_curves.py"
        )
        told = self.told(self.standardise(matrix))
        median = told[:, MEDIAN : MEDIAN + 1]
        stretch = self.spread.factors(np.log(target_n / measured.size[-1]))
        start = last + np.asarray(description[START])
        quantiles: FloatArray = start[:, None] + unit * (median + (told - median) * stretch)
        return quantiles


def _rising(output: FloatArray) -> FloatArray:
    """A network's raw output (n, n_levels), the median and 12 steps before softplus, as rising quantiles."""
    step = np.logaddexp(0.0, output[:, 1:])
    below = np.cumsum(step[:, :MEDIAN][:, ::-1], axis=1)[:, ::-1]
    above = np.cumsum(step[:, MEDIAN:], axis=1)
    median = output[:, :1]
    return np.concatenate([median - below, median, median + above], axis=1)


def at_probability(quantiles: FloatArray, u: FloatArray) -> FloatArray:
    """The value at each probability ``u`` of one row of quantiles, straight between levels."""
    low = quantiles[0] - _TAIL * (quantiles[1] - quantiles[0])
    high = quantiles[-1] + _TAIL * (quantiles[-1] - quantiles[-2])
    values: FloatArray = np.interp(u, [0.0, *LEVELS, 1.0], [low, *quantiles, high])
    return values


def _forward(layers: Sequence[tuple[FloatArray, FloatArray]], x: FloatArray) -> FloatArray:
    for weight, bias in layers[:-1]:
        z = x @ weight.T + bias
        x = z / (1.0 + np.exp(-z))
    weight, bias = layers[-1]
    out: FloatArray = x @ weight.T + bias
    return out


def from_record(record: Mapping[str, Any]) -> QuantileNet:
    """From the content of ``learned.json``."""
    inputs = record["inputs"]
    return QuantileNet(
        inputs=tuple(inputs),
        centre=np.array([each["centre"] for each in inputs.values()]),
        scale=np.array([each["scale"] for each in inputs.values()]),
        members=tuple(
            tuple((np.array(layer["weight"]), np.array(layer["bias"])) for layer in member)
            for member in record["members"]
        ),
        spread=Spread(**{name: tuple(values) for name, values in record["spread"].items()}),
    )


@cache
def shipped() -> QuantileNet:
    """The networks that come with the package."""
    return from_record(json.loads(resources.files(__package__).joinpath("learned.json").read_text(encoding="utf-8")))
