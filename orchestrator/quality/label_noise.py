"""Wrong labels from out-of-fold probabilities: which rows, how many, and what accuracy they leave within reach.

Three answers from the same input, p(row, class) of a model that has not seen the row:

* Confident learning (Northcutt, Jiang and Chuang, JAIR 70, 2021): a row counts for class j when p(row, j) reaches the
  mean self-confidence of class j; rows that count for another class than their own fill the confident joint, whose
  off-diagonal says how many rows to prune. It finds nearly all wrong labels, among many right ones when the model is
  weak: a model that is right on half of the rows reads a twentieth of wrong labels as 45%.
* A tempered mixture, for the rate. The given label is taken as the model's own calibrated opinion, or as an error that
  fell on any other class alike:

      P(given) = (1 - rate) q + rate (1 - q) / (k - 1),      q = softmax(log p / temperature)[given]

  Temperature scaling is Guo et al., ICML 2017; the noise layer Sukhbaatar et al., ICLR workshop 2015. Both parameters
  by maximum likelihood, the interval by profile likelihood. What the model doubts is doubt, what it contradicts with
  confidence is noise: the same twentieth is read as 5.5% (4.3% to 6.8%). But errors between two like classes look like
  doubt: of 10% of labels moved to the next class it sees 0.6%. It is a lower bound then.
* The rows a model is surest of, for an upper bound: where errors depend on the class and not on the image, even they
  are labelled otherwise as often as labels are wrong, and the model's own mistakes only add to that.

`scripts/check_quality.py` makes these figures on CIFAR-10. Where hard images are mislabelled more often than easy ones,
neither bound holds. Pure: arrays in, records out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, minimize_scalar
from scipy.special import log_softmax, ndtri
from scipy.stats import chi2

from orchestrator.errors import DataError
from orchestrator.results import Interval

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

MIN_ACCURACY = 0.5
"""Of the model on rows that are labelled right, below which its rate is an upper estimate. On CIFAR-10 a linear model
(0.42) reads clean labels as 7% wrong and a twentieth as 11%; a small convolutional network (0.51 to 0.56) reads 0, 5
and 20% of wrong labels as 0.1, 5.5 and 21%."""

_LOG_SCALES = np.linspace(np.log(0.1), np.log(10.0), 15)
"""Inverse temperatures that are tried; a second grid of as many lies between the neighbours of the best."""
_SUREST_SHARES = np.array([0.02, 0.05, 0.1, 0.2, 0.5, 1.0])
_LEAST_SUREST = 20
_TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConfidentJoint:
    """Given against probable class."""

    thresholds: FloatArray
    """Mean self-confidence of each class. Shape (k,)."""
    counts: IntArray
    """Rows of given class i that count for class j. Shape (k, k)."""
    joint: FloatArray
    """Estimated share of all rows with given class i and true class j; sums to 1. Shape (k, k)."""

    @property
    def noise_rate(self) -> float:
        """Share of rows off the diagonal."""
        return float(1.0 - np.trace(self.joint))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NoiseEstimate:
    """The share of wrong labels."""

    rate: Interval
    """For errors that depend on the class: from the low end of ``rate_if_alike`` to the upper bound by the surest rows,
    with the median of ``rate_if_alike``."""
    rate_if_alike: Interval
    """If errors fall on all other classes alike: the tempered mixture."""
    is_upper_estimate: bool
    """The model knows too little: what it cannot learn reads as noise, so ``rate.low`` is 0."""
    model_accuracy: float
    """Share of given labels that the model predicted."""
    temperature: float
    """Above 1 for a model that is surer than it should be."""
    wrong_probability: FloatArray
    """That a row's label is wrong; their mean is the rate. Shape (n,)."""


def confident_joint(probabilities: FloatArray, labels: IntArray) -> ConfidentJoint:
    """Count rows by given and confidently predicted class, then calibrate to the given classes' sizes.

    Args:
        probabilities: Out of fold; rows sum to 1. Shape (n, k).
        labels: Given classes in 0..k-1. Shape (n,).
    Raises: DataError: The shapes do not fit, or there are no rows.
    """
    _check(probabilities, labels)
    k = probabilities.shape[1]
    sizes = np.bincount(labels, minlength=k)
    own = probabilities[np.arange(len(labels)), labels]
    # A class without rows has no threshold that anything could reach.
    thresholds = np.where(sizes > 0, np.bincount(labels, own, k) / np.maximum(sizes, 1), np.inf)
    reaching = np.where(probabilities >= thresholds, probabilities, -1.0)
    confident = reaching.max(axis=1) >= 0
    counts = np.zeros((k, k), dtype=np.int64)
    np.add.at(counts, (labels[confident], reaching[confident].argmax(axis=1)), 1)
    shares = _row_shares(counts)
    joint = shares * sizes[:, None] / len(labels)
    return ConfidentJoint(thresholds=thresholds, counts=counts, joint=joint)


def prune_by_class(probabilities: FloatArray, labels: IntArray, joint: FloatArray) -> BoolArray:
    """Of each class, the rows of least self-confidence, as many as the joint says are wrong. Shape (n,)."""
    chosen = np.zeros(len(labels), dtype=bool)
    for given in range(len(joint)):
        rows = np.flatnonzero(labels == given)
        n_wrong = round(len(labels) * float(joint[given].sum() - joint[given, given]))
        chosen[rows[np.argsort(probabilities[rows, given], kind="stable")[:n_wrong]]] = True
    return chosen


def prune_by_noise_rate(probabilities: FloatArray, labels: IntArray, joint: FloatArray) -> BoolArray:
    """Of each pair of given and true class, the rows of largest margin, as many as the joint says. Shape (n,)."""
    chosen = np.zeros(len(labels), dtype=bool)
    for given in range(len(joint)):
        rows = np.flatnonzero(labels == given)
        margins = probabilities[rows] - probabilities[rows, given][:, None]
        for true in np.flatnonzero(joint[given]):
            if true != given:
                n_wrong = round(len(labels) * float(joint[given, true]))
                chosen[rows[np.argsort(-margins[:, true], kind="stable")[:n_wrong]]] = True
    return chosen


def estimate_noise(probabilities: FloatArray, labels: IntArray, *, level: float = 0.9) -> NoiseEstimate:
    """Share of wrong labels, and the probability that each is, by the tempered mixture of the module's header.

    Args:
        probabilities: Out of fold; rows sum to 1. Shape (n, k), k at least 2.
        labels: Given classes in 0..k-1. Shape (n,).
        level: Probability between the ends of the interval.
    Raises: DataError: The shapes do not fit, or there are no rows.
    """
    _check(probabilities, labels)
    # An error falls on a class that is given at all; softmax makes up for what the others had.
    given, ids = np.unique(labels, return_inverse=True)
    if len(given) < 2:
        raise DataError(f"label noise needs at least 2 classes, all {len(labels)} rows are of class {given[0]}")
    mixture = _Mixture(np.log(np.clip(probabilities[:, given], _TINY, 1.0)), ids)
    rate = mixture.best_rate()
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    is_upper = accuracy / (1 - rate) < MIN_ACCURACY
    low, high = mixture.profile_interval(rate, level)
    low = 0.0 if is_upper else low
    bound = max(high, surest_mismatch(probabilities, labels, level))
    wrong, scale = mixture.wrong_probability(rate)
    return NoiseEstimate(
        rate=Interval(low=low, median=rate, high=bound, mean=rate, level=level),
        rate_if_alike=Interval(low=low, median=rate, high=high, mean=rate, level=level),
        is_upper_estimate=is_upper,
        model_accuracy=accuracy,
        temperature=1 / scale,
        wrong_probability=wrong,
    )


def surest_mismatch(probabilities: FloatArray, labels: IntArray, level: float) -> float:
    """How often the rows that a model is surest of are labelled otherwise, at most.

    Of the rows predicted as each class, the surest 2%, 5%, 10%, 20%, 50% or all are taken, at least 20; classes are
    weighted by their given rows. The least of the upper ends is the bound, each at a level that allows for choosing.

    Args:
        probabilities: Out of fold. Shape (n, k).
        labels: Given classes. Shape (n,).
        level: Of a central interval, whose upper end this is.
    """
    predicted, sureness = probabilities.argmax(axis=1), probabilities.max(axis=1)
    given, weights = np.unique(labels, return_counts=True)
    z = float(ndtri(1 - (1 - level) / 2 / len(_SUREST_SHARES)))
    means, variances = np.ones((2, len(given), len(_SUREST_SHARES)))
    for at, of_class in enumerate(given):
        rows = np.flatnonzero(predicted == of_class)
        # A class that is never predicted keeps the bound that is always true, 1.
        if len(rows):
            differs = (labels[rows] != of_class)[np.argsort(-sureness[rows], kind="stable")]
            sizes = np.minimum(len(rows), np.maximum(_LEAST_SUREST, np.ceil(_SUREST_SHARES * len(rows)))).astype(int)
            means[at] = np.cumsum(differs)[sizes - 1] / sizes
            # Agresti and Coull's two further successes and failures keep the spread off zero (Am. Stat. 52, 1998).
            smooth = (means[at] * sizes + 2) / (sizes + 4)
            variances[at] = smooth * (1 - smooth) / sizes
    share = weights / weights.sum()
    upper = share @ means + z * np.sqrt(share**2 @ variances)
    return float(min(1.0, upper.min()))


def suggested_labels(probabilities: FloatArray, labels: IntArray) -> IntArray:
    """The likeliest class other than the given one. Shape (n,)."""
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = -1.0
    return np.asarray(others.argmax(axis=1), dtype=np.int64)


def accuracy_ceiling(noise_rate: Interval, n_validation: int) -> Interval:
    """Accuracy of a model that knows every true class, on validation labels as wrong as the training pool's.

    The spread joins that of the rate with the luck of ``n_validation`` labels (binomial, as a normal).

    Args:
        noise_rate: Share of wrong labels, in 0..1; `NoiseEstimate.rate` allows for errors between like classes.
        n_validation: Rows that accuracy is measured on.
    """
    rate = noise_rate.median
    z = float(ndtri((1 + noise_rate.level) / 2))
    luck = z * np.sqrt(rate * (1 - rate) / max(n_validation, 1))
    below = float(np.hypot(noise_rate.high - rate, luck))
    above = float(np.hypot(rate - noise_rate.low, luck))
    return Interval(
        low=max(0.0, 1 - rate - below),
        median=1 - rate,
        high=min(1.0, 1 - rate + above),
        mean=1 - rate,
        level=noise_rate.level,
    )


class _Mixture:
    """The likelihood of a rate, with the temperature chosen anew for each rate.

    The probability of the given label is computed once per temperature of a grid; a rate then costs one pass over
    these, and the best temperature between grid points follows from the parabola through the best three.
    """

    def __init__(self, log_p: FloatArray, labels: IntArray) -> None:
        self._k = log_p.shape[1]
        self._log_p, self._labels = log_p, labels
        # At a rate of (k - 1) / k the label says nothing of the class.
        self._max_rate = 0.999 * (self._k - 1) / self._k
        self._given = np.stack([self._given_probability(scale) for scale in _LOG_SCALES])
        self._scales = _LOG_SCALES
        best = int(np.argmin(self._losses(self.best_rate())))
        step = float(_LOG_SCALES[1] - _LOG_SCALES[0])
        self._scales = np.linspace(_LOG_SCALES[best] - step, _LOG_SCALES[best] + step, len(_LOG_SCALES))
        self._given = np.stack([self._given_probability(scale) for scale in self._scales])

    def best_rate(self) -> float:
        """The likeliest rate."""
        found = minimize_scalar(self._loss, bounds=(0.0, self._max_rate), method="bounded", options={"xatol": 1e-6})
        return 0.0 if self._loss(0.0) <= found.fun else float(found.x)

    def profile_interval(self, rate: float, level: float) -> tuple[float, float]:
        """Rates whose likelihood is within chi-square's reach of the best."""
        reach = self._loss(rate) + float(chi2.ppf(level, 1)) / 2

        def beyond(value: float) -> float:
            return self._loss(value) - reach

        low = 0.0 if rate == 0 or beyond(0.0) <= 0 else float(brentq(beyond, 0.0, rate, xtol=1e-6))
        high = self._max_rate
        return low, high if beyond(high) <= 0 else float(brentq(beyond, rate, high, xtol=1e-6))

    def wrong_probability(self, rate: float) -> tuple[FloatArray, float]:
        """Of each row, and the inverse temperature it was had at."""
        best = int(np.argmin(self._losses(rate)))
        q = self._given[best]
        noise = rate * (1 - q) / (self._k - 1)
        return noise / np.maximum((1 - rate) * q + noise, _TINY), float(np.exp(self._scales[best]))

    def _given_probability(self, log_scale: float) -> FloatArray:
        scaled = log_softmax(self._log_p * np.exp(log_scale), axis=1)
        return np.asarray(np.exp(scaled[np.arange(len(self._labels)), self._labels]))

    def _losses(self, rate: float) -> FloatArray:
        """Negative log-likelihood at each temperature, in nats."""
        mixed = (1 - rate) * self._given + rate / (self._k - 1) * (1 - self._given)
        return np.asarray(-np.log(np.maximum(mixed, _TINY)).sum(axis=1))

    def _loss(self, rate: float) -> float:
        losses = self._losses(rate)
        best = int(np.argmin(losses))
        if best in (0, len(losses) - 1):
            return float(losses[best])
        left, middle, right = losses[best - 1 : best + 2]
        bend = left - 2 * middle + right
        return float(middle - (left - right) ** 2 / (8 * bend)) if bend > 0 else float(middle)


def _check(probabilities: FloatArray, labels: IntArray) -> None:
    shape = probabilities.shape
    if len(shape) != 2 or shape[0] != len(labels) or shape[0] == 0 or shape[1] < 2:
        raise DataError(
            f"label noise needs probabilities of shape (rows, at least 2 classes) and a label for each row, got {shape}"
            f" and {len(labels)} labels"
        )
    if labels.min() < 0 or labels.max() >= shape[1]:
        raise DataError(f"label noise: labels reach {labels.max()}, but there are {shape[1]} classes of probabilities")


def _row_shares(counts: IntArray) -> FloatArray:
    """Each row divided by its sum; a class that nothing counts for is taken to be right."""
    totals = counts.sum(axis=1, keepdims=True)
    return np.asarray(np.where(totals > 0, counts / np.maximum(totals, 1), np.eye(len(counts))))
