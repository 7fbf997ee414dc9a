"""Quantiles from small trained networks: what `learned` and `learned_speedup` have in common.

A network reads a description and returns a median and twelve positive steps around it, so that its quantiles, from 1%
to 99%, never cross; the answer is the mean over a few networks, stretched by what was held out while they were trained.
Parameters are constants of the package, JSON files beside this one. Pure: arrays in, arrays out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from orchestrator.curves.power_law import FloatArray

LEVELS = np.array([0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.975, 0.99])
MEDIAN = 6
"""Position of 0.5 in `LEVELS`."""
CLIP = 4.0
"""A description farther than this from the mean of those trained on, in standard deviations, counts as this far."""
_TAIL = 1.0
"""Beyond 1 and 99% a quantile goes on by the last step between levels, once, and ends: rarer still is not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """What quantiles below and above the median are stretched by, so that 90% intervals hold 90% of what was
    held out (conformalized quantiles, Romano et al. 2019, arXiv:1905.03222); straight between the knots."""

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
        """What the first layer reads: NaN becomes the training examples' mean."""
        return np.clip(np.nan_to_num((matrix - self.centre) / self.scale), -CLIP, CLIP)

    def told(self, x: FloatArray) -> FloatArray:
        """Quantiles (n, n_levels) before the spread."""
        told: FloatArray = np.mean([_rising(_forward(layers, x)) for layers in self.members], axis=0)
        return told

    def changes(self, names: tuple[str, ...], matrix: FloatArray, ahead: FloatArray) -> FloatArray:
        """Quantiles (n, n_levels) of what was learned, in the units of the training target, stretched by the spread.

        Args:
            names: Of the columns; they must be those of the training.
            matrix: Descriptions (n, n_inputs), NaN where one cannot be had.
            ahead: Log of the target over the largest measured size, (n,).
        """
        assert names == self.inputs, "the parameters were made for other descriptions; run the script that derives them"
        told = self.told(self.standardise(matrix))
        median = told[:, MEDIAN : MEDIAN + 1]
        changes: FloatArray = median + (told - median) * self.spread.factors(ahead)
        return changes


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
    """From the content of a parameter file."""
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
def shipped(file_name: str) -> QuantileNet:
    """Networks that come with the package."""
    return from_record(json.loads(resources.files(__package__).joinpath(file_name).read_text(encoding="utf-8")))
