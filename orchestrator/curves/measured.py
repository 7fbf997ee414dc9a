"""Measured points, checked and folded to distinct sizes: where every fit of this folder begins.

Sorting by (size, value) before anything is summed makes every later figure independent, to the last bit, of the order
in which trials happened to finish.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.curves.power_law import FloatArray
from orchestrator.errors import EvidenceError, UnderdeterminedFitError

Numbers = Sequence[float] | NDArray[np.floating] | NDArray[np.integer]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldedSizes:
    """Replicates folded to their mean. Arrays of shape (n_sizes,), sizes rising."""

    size: FloatArray
    mean: FloatArray
    count: FloatArray
    deviation_ss: FloatArray
    """Sum of squared deviations of the replicates from their mean."""

    @property
    def replicate_dof(self) -> float:
        return float((self.count - 1).sum())


def checked(name: str, values: Numbers, *, positive: bool) -> FloatArray:
    """One-dimensional finite floats. Raises EvidenceError naming the first value that is not."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise EvidenceError(f"{name} must be one-dimensional, got shape {array.shape}; pass one value per trial")
    bad = ~np.isfinite(array) | (array <= 0 if positive else False)
    if bad.any():
        at = int(np.argmax(bad))
        need = "finite and above 0" if positive else "finite"
        raise EvidenceError(f"{name} must be {need}, got {array[at]:g} at position {at}; leave that trial out")
    return array


def same_length(**columns: FloatArray) -> None:
    """Raises EvidenceError when columns differ in length."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise EvidenceError(f"one value per trial is needed in each column, got: {found}")


def fold(size: FloatArray, value: FloatArray) -> FoldedSizes:
    """Group by size, replicates to their mean."""
    order = np.lexsort((value, size))
    size, value = size[order], value[order]
    distinct, group = np.unique(size, return_inverse=True)
    count = np.bincount(group).astype(np.float64)
    mean = np.bincount(group, value) / count
    deviation_ss: FloatArray = np.bincount(group, (value - mean[group]) ** 2).astype(np.float64)
    return FoldedSizes(size=distinct, mean=mean, count=count, deviation_ss=deviation_ss)


def fold_learning_points(n: Numbers, value: Numbers, bounds: tuple[float, float], need: int) -> FoldedSizes:
    """Check sample counts and values of a learning curve, then fold them.

    Raises:
        EvidenceError: A value that is not finite, outside the bounds, or a size that is not positive.
        UnderdeterminedFitError: Fewer than ``need`` distinct sizes.
    """
    lower, upper = bounds
    if not (np.isfinite(lower) and upper > lower):
        raise EvidenceError(
            f"bounds must be (finite, larger), got {bounds}; (0, 1) for error rates, (0, inf) for losses"
        )
    sizes, values = checked("n", n, positive=True), checked("value", value, positive=False)
    same_length(n=sizes, value=values)
    if (sizes < 1).any():
        raise EvidenceError(
            f"n is {sizes.min():g} and must be a number of samples, 1 or more; if it is a fraction of the data, "
            "multiply it by the number of rows"
        )
    outside = (values < lower) | (values > upper)
    if outside.any():
        raise EvidenceError(_outside(float(values[outside][0]), bounds))
    folded = fold(sizes, values)
    if len(folded.size) < need:
        raise UnderdeterminedFitError(
            "a learning curve", len(folded.size), need, "measure another sample count, e.g. add to sweep.fractions"
        )
    return folded


def _outside(found: float, bounds: tuple[float, float]) -> str:
    text = f"value {found:g} lies outside the bounds {bounds[0]:g} to {bounds[1]:g}"
    if bounds == (0.0, 1.0) and 1 < found <= 100:
        return f"{text}; it looks like percent: divide by 100, and pass the error rate, 1 - accuracy"
    return f"{text}; for a loss without an upper bound pass bounds=(0, inf)"
