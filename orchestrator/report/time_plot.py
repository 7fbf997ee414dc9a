"""Where the seconds of a trial went, as a picture; parts differ by colour and by hatching, for prints in grey."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields

from matplotlib.ticker import MaxNLocator

from orchestrator.report import wording
from orchestrator.report.figures import ABOVE, INK, MAX_TICK, Drawing, canvas, drawn, in_legend
from orchestrator.results import TimeSplit, TrialResult

PART_COLOURS = {
    "startup_s": "#999999",
    "compute_s": "#0072B2",
    "data_wait_s": "#E69F00",
    "gradient_sync_s": "#D55E00",
    "validation_s": "#009E73",
    "checkpoint_s": "#CC79A7",
}
PART_HATCHES = {
    "startup_s": "", "compute_s": "", "data_wait_s": "//", "gradient_sync_s": "xx", "validation_s": "\\\\",
    "checkpoint_s": "..",
}  # fmt: skip
"""Beside the colours, for prints in grey."""


def time_against_workers(results: Sequence[TrialResult]) -> Drawing | None:
    """Where the seconds of a trial went, by model and workers, at the size with the most worker counts.

    None when no trial has finished.
    """
    bars = _time_bars(results)
    if not bars:
        return None
    figure, axes = canvas(1.5 + 0.42 * len(bars))
    left = [0.0] * len(bars)
    for field in fields(TimeSplit):
        widths = [getattr(split, field.name) for _, split in bars]
        if not any(widths):
            continue
        label = field.name.removesuffix("_s").replace("_", " ")
        axes.barh(
            range(len(bars)), widths, left=left, label=label, height=0.62, color=PART_COLOURS[field.name],
            hatch=PART_HATCHES[field.name], edgecolor="#ffffff", linewidth=0.6,
        )  # fmt: skip
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for position, total in enumerate(left):
        axes.annotate(
            wording.duration(total),
            (total, position),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=INK,
        )
    axes.set_yticks(range(len(bars)), [label for label, _ in bars])
    axes.invert_yaxis()
    axes.set_xlim(0, max(left) * 1.14)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel("seconds of one trial, mean over seeds")
    axes.grid(False, axis="y")
    axes.legend(**ABOVE, ncols=6, handlelength=1.0)
    totals = [f"{label} {wording.duration(total)}" for (label, _), total in zip(bars, left, strict=True)]
    return drawn(figure, "Time of one trial by its parts: " + "; ".join(totals))


def _time_bars(results: Sequence[TrialResult]) -> list[tuple[str, TimeSplit]]:
    """Label and mean time split of each (model, workers) at its model's largest common size, in order of appearance."""
    splits: dict[str, dict[int, dict[int, list[TimeSplit]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for result in results:
        if result.training is not None:
            trial = result.trial
            splits[trial.model][result.training.n_train][trial.workers].append(result.training.time)
    bars = []
    for model, by_size in splits.items():
        n_train = max(by_size, key=lambda n: (len(by_size[n]), n))
        for workers, group in sorted(by_size[n_train].items()):
            plural = "worker" if workers == 1 else "workers"
            mean = {f.name: sum(getattr(split, f.name) for split in group) / len(group) for f in fields(TimeSplit)}
            name = in_legend(model, MAX_TICK)
            gap = " " if len(name) < MAX_TICK else "\n"
            bars.append((f"{name},{gap}{n_train:,} samples, {workers} {plural}", TimeSplit(**mean)))
    return bars
