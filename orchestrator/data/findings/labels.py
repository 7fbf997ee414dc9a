"""From out-of-fold probabilities to a finding: how many labels are wrong, what that leaves, and the worst rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from orchestrator.data.findings.row_access import RowAccess
from orchestrator.data.findings.store import write_findings
from orchestrator.data.images import ImageReader
from orchestrator.data.manifest import TRAIN, Manifest
from orchestrator.quality.findings import Example, Finding, Findings, NoiseSummary, noise_status
from orchestrator.quality.label_noise import (
    NoiseEstimate,
    accuracy_ceiling,
    confident_joint,
    estimate_noise,
    suggested_labels,
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def add_label_noise(
    folder: Path,
    manifest: Manifest,
    findings: Findings,
    *,
    model: str,
    places: IntArray,
    labels: IntArray,
    probabilities: FloatArray,
    reader: ImageReader | None = None,
    n_examples: int = 24,
) -> Findings:
    """Judge labels by out-of-fold probabilities, and write findings and pictures anew.

    Args:
        folder: The prepared folder.
        manifest: Of it.
        findings: Of it, as `findings.look_through` gave them.
        model: Name of the model that gave the probabilities.
        places: Places of the training pool that were judged. Shape (n,).
        labels: Their class ids. Shape (n,).
        probabilities: Out of fold, rows sum to 1. Shape (n, n_classes).
        reader: Of the images, for pictures of the examples; None for rows that are no images.
        n_examples: Suspects that are kept, the likeliest first.
    Raises: DataError: Shapes do not fit, or rows cannot be read. OSError: the folder cannot be written.
    """
    estimate = estimate_noise(probabilities, labels)
    noise = summarise_noise(model, estimate, probabilities, labels, manifest.class_names, findings.n_validation)
    access = RowAccess(folder, manifest)
    worst = np.argsort(-estimate.wrong_probability, kind="stable")[: min(n_examples, max(noise.n_suspects, 1))]
    where = access.where(TRAIN, places[worst].tolist())
    suggested = suggested_labels(probabilities, labels)
    examples = tuple(
        Example(
            row=where[int(places[i])],
            what="the label is contradicted by the image" if reader is not None else "the label is contradicted",
            suggested=manifest.class_names[int(suggested[i])],
            probability=float(estimate.wrong_probability[i]),
        )
        for i in worst.tolist()
        if estimate.wrong_probability[i] > 0
    )
    finding = Finding(
        kind="label noise",
        # A weak model's bound clears nothing: what it cannot learn reads as noise.
        status="not_checked" if noise.is_upper_estimate else noise_status(noise.rate),
        count=noise.n_suspects,
        n_looked_at=noise.n_rows,
        sentence=f"label noise: {noise_sentence(noise)}",
        examples=examples,
    )
    updated = findings.with_finding(finding, noise)
    rows = [example.row for example in examples]
    write_findings(folder, updated, {} if reader is None else access.pictures(rows, reader))
    return updated


def summarise_noise(
    model: str,
    estimate: NoiseEstimate,
    probabilities: FloatArray,
    labels: IntArray,
    class_names: tuple[str, ...],
    n_validation: int,
) -> NoiseSummary:
    """The numbers of an estimate, with what confident learning says beside them."""
    sizes = np.bincount(labels, minlength=len(class_names))
    wrong = np.bincount(labels, estimate.wrong_probability, len(class_names))
    return NoiseSummary(
        rate=estimate.rate,
        rate_if_alike=estimate.rate_if_alike,
        ceiling=accuracy_ceiling(estimate.rate, n_validation),
        is_upper_estimate=estimate.is_upper_estimate,
        confident_joint_rate=confident_joint(probabilities, labels).noise_rate,
        n_suspects=int((estimate.wrong_probability > 0.5).sum()),
        model=model,
        model_accuracy=estimate.model_accuracy,
        n_rows=len(labels),
        by_class={name: float(wrong[i] / sizes[i]) for i, name in enumerate(class_names) if sizes[i]},
    )


def noise_sentence(noise: NoiseSummary) -> str:
    """Rate and ceiling with their intervals, and on what they rest."""
    rate, alike, ceiling = noise.rate, noise.rate_if_alike, noise.ceiling
    basis = f"out-of-fold {noise.model} on {noise.n_rows:,} rows, {noise.model_accuracy:.1%} right"
    if noise.is_upper_estimate:
        return (
            f"at most {alike.high:.1%} of the labels are wrong if errors fall on all other classes alike, at most "
            f"{rate.high:.1%} if they do not ({basis}: too weak to tell more)"
        )
    return (
        f"{alike.median:.1%} of the labels are wrong if errors fall on all other classes alike ({alike.level:.0%} "
        f"interval {alike.low:.1%} to {alike.high:.1%}), at most {rate.high:.1%} if like classes are mistaken for each "
        f"other ({basis}); {noise.n_suspects:,} rows more likely wrong than not; no model can be expected to exceed "
        f"{ceiling.median:.1%} accuracy ({ceiling.low:.1%} to {ceiling.high:.1%}) on labels like these"
    )
