"""From samples to a central interval and back, and money as text.

Every number a verdict rests on is a set of joint draws; what is stored and shown is their `results.Interval`. The
mean is kept beside the quantiles because means of lines add up to the mean of a sum, and quantiles do not.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from orchestrator.results import Interval

FloatArray = NDArray[np.float64]

_TOO_LARGE = 1e15
"""From here on digits say nothing, and a row of them would burst every table."""


def summarise(samples: FloatArray, level: float = 0.9) -> Interval:
    """Central interval of draws: the middle ``level`` of them, their median and mean.

    Args:
        samples: Draws of one quantity, all finite. Shape (n,), n at least 1.
        level: Probability between ``low`` and ``high``, in (0, 1).
    Raises: ValueError: No draws, or a draw that is not finite.
    """
    draws = np.asarray(samples, dtype=np.float64)
    if draws.size == 0 or not np.isfinite(draws).all():
        raise ValueError(f"an interval needs finite draws, got {draws.size}, {np.isfinite(draws).sum()} of them finite")
    tail = (1 - level) / 2
    low, median, high = (float(q) for q in np.quantile(draws, [tail, 0.5, 1 - tail]))
    return Interval(low=low, median=median, high=high, mean=float(draws.mean()), level=level)


def certain(value: float, level: float = 0.9) -> Interval:
    """The interval of a quantity that is known exactly."""
    return Interval(low=value, median=value, high=value, mean=value, level=level)


def draw(interval: Interval, rng: np.random.Generator, size: int) -> FloatArray:
    """Draws of a quantity known only by its interval, by a split normal: each side of the median has its own spread.

    Half of the draws lie on either side, and ``low`` and ``high`` keep their probability; the tails beyond are a
    normal's.
    """
    z_edge = float(ndtri((1 + interval.level) / 2))
    z = rng.standard_normal(size)
    spread = np.where(z < 0, interval.median - interval.low, interval.high - interval.median) / z_edge
    return np.asarray(interval.median + z * spread, dtype=np.float64)


def lognormal(median: float, log_sd: float, level: float = 0.9) -> Interval:
    """The interval of a positive quantity whose logarithm is normal; a median of 0 or infinity is known exactly."""
    if median == 0 or math.isinf(median):
        return certain(median, level)
    edge = math.exp(float(ndtri((1 + level) / 2)) * log_sd)
    mean = median * math.exp(log_sd**2 / 2)
    return Interval(low=median / edge, median=median, high=median * edge, mean=mean, level=level)


def draw_positive(interval: Interval, z: FloatArray) -> FloatArray:
    """A positive quantity at standard normal ``z``: as `draw`, of the logarithm, for draws that are to go together."""
    if interval.low == interval.high:
        return np.full(np.shape(z), interval.median)
    low, median, high = np.log([interval.low, interval.median, interval.high])
    z_edge = float(ndtri((1 + interval.level) / 2))
    return np.asarray(np.exp(median + z / z_edge * np.where(z < 0, median - low, high - median)), dtype=np.float64)


def format_probability(probability: float, limit: float) -> str:
    """Two decimals, or as many as it takes to show on which side of ``limit`` it lies: 0.898 against 0.9, not 0.90."""
    for decimals in (2, 3, 4, 5):
        text = f"{probability:.{decimals}f}"
        if (float(text) >= limit) == (probability >= limit):
            return text
    return str(probability)


def format_quantity(value: float) -> str:
    """Three significant digits, or whole numbers with separators from 1,000 up: ``0.0156``, ``15,432,099``."""
    if not math.isfinite(value) or abs(value) >= _TOO_LARGE:
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def format_usd(amount: float) -> str:
    """Dollars for a reader: cents from ten cents up, two significant digits below, no cents from $1,000 up.

    An amount that is not zero never reads as zero: ``$0.00042``, ``$12.30``, ``$1,234,567``.
    """
    sign, size = ("-" if amount < 0 else ""), abs(amount)
    if not math.isfinite(size):
        return f"{sign}${size}"
    if size >= _TOO_LARGE:
        return f"{sign}${size:.1e}"
    if size >= 1000:
        return f"{sign}${size:,.0f}"
    if size >= 0.1 or size == 0:
        return f"{sign}${size:.2f}"
    if size < 1e-6:
        return f"{sign}${size:.1e}"
    decimals = 1 - math.floor(math.log10(size))
    return f"{sign}${size:.{decimals}f}"
