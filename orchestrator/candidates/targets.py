"""Which shares of the data a full run could be made on, and what is supposed of them.

The largest target is ``full_run.fraction``; smaller ones lie evenly spaced in the logarithm, the axis of the learning
curve, between the largest fraction of the config's sweep and it. The config's sweep and not the trials that are done
sets the lower end, so that a candidate is the same candidate while trials come in: what is forecast, approved and
promoted has one name throughout. A target above 1 asks about rows that do not exist yet. What supposed wrong labels do
is in `curves.label_noise`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from orchestrator.curves.label_noise import effective_share, most_label_noise
from orchestrator.errors import EvidenceError
from orchestrator.results import DataSummary
from orchestrator.spec import ExperimentSpec
from orchestrator.subsets import target_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A share of the data to train on."""

    fraction: float
    """Of the training pool; above 1 where rows are still to be collected."""
    n_samples: int
    """Rows trained on, which cost time and money."""
    effective_n: float
    """Rows with right labels that would teach as much, to a learner that averages wrong ones out."""

    @property
    def is_supposed(self) -> bool:
        """Whether it needs rows that are not there."""
        return self.fraction > 1


def targets_of(spec: ExperimentSpec, data: DataSummary) -> tuple[Target, ...]:
    """All targets by rising size, the last being ``full_run.fraction``.

    Raises: EvidenceError: No training rows, or a supposition about labels that says nothing of this metric or data.
    """
    if data.n_train < 1:
        raise EvidenceError(
            f"the data {data.fingerprint or 'without a fingerprint'} have {data.n_train} training rows, and a fraction "
            "of nothing is nothing; prepare data with rows"
        )
    share = _effective_share(spec, data)
    by_size: dict[int, Target] = {}
    for fraction in reversed(target_fractions(spec)):
        n_samples = target_size(data.n_train, fraction)
        target = Target(fraction=fraction, n_samples=n_samples, effective_n=n_samples * share)
        by_size.setdefault(n_samples, target)
    return tuple(sorted(by_size.values(), key=lambda target: target.n_samples))


def target_fractions(spec: ExperimentSpec) -> tuple[float, ...]:
    """Rising shares of the training pool, each of two digits but for the largest.

    Where the largest target lies beyond today's data, the nearest smaller one is moved to all of it: that is the run
    which one could start instead.
    """
    low, high, n = max(spec.sweep.fractions), spec.full_run.fraction, spec.full_run.smaller_targets
    between = [float(f"{low * (high / low) ** (i / (n + 1)):.2g}") for i in range(1, n + 1)]
    if low < 1 < high and between:
        nearest = min(range(n), key=lambda i: abs(math.log(between[i])))
        between[nearest] = 1.0
    return (*sorted({f for f in between if low < f < high}), high)


def bytes_beyond(data: DataSummary, fraction: float) -> int:
    """Bytes of the data set that the target needs to lie somewhere: today's whole one, or in proportion beyond it."""
    return round(data.bytes_on_disk * max(fraction, 1.0))


def assumptions_of(spec: ExperimentSpec, data: DataSummary) -> tuple[str, ...]:
    """What the config supposes and nobody measured, a sentence each."""
    said = []
    fraction, noise = spec.full_run.fraction, spec.data.label_noise
    if fraction > 1:
        more = target_size(data.n_train, fraction) - data.n_train
        said.append(
            f"full_run.fraction={fraction:g} supposes {more:,} training rows that are still to be collected, drawn and "
            "labelled as today's, and as many bytes each; collecting them is not in the bill"
        )
    if noise is not None and noise > 0:
        share, n_classes = _effective_share(spec, data), len(data.class_counts)
        said.append(
            f"data.label_noise={noise:g} supposes that {100 * noise:.3g}% of the training labels are wrong, moved to "
            f"any of the other {n_classes - 1} classes alike: between teaching like {share:.2g} of the rows and being "
            "learned by heart; today's training labels are taken as right, for no rate is stored with the data, and "
            "validation labels stay as they are"
        )
    return tuple(said)


def _effective_share(spec: ExperimentSpec, data: DataSummary) -> float:
    noise, n_classes = spec.data.label_noise, len(data.class_counts)
    if noise is None:
        return 1.0
    if spec.decision.metric != "accuracy" or n_classes < 2:
        of = "a loss" if spec.decision.metric != "accuracy" else f"data with {n_classes} classes"
        raise EvidenceError(
            f"data.label_noise={noise:g} was asked of {of}: what wrong labels do is known of the accuracy over at "
            "least 2 classes only; leave data.label_noise out, or set decision.metric=accuracy"
        )
    most = most_label_noise(n_classes)
    if noise >= most:
        raise EvidenceError(
            f"data.label_noise={noise:g} leaves nothing to learn: with {n_classes} classes labels are pure chance at "
            f"{most:.3g}; suppose less"
        )
    return effective_share(noise, n_classes)
