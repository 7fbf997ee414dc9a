"""The table of trials: a row for each, whatever came of it."""

from __future__ import annotations

from orchestrator.intervals import format_usd
from orchestrator.report import wording
from orchestrator.results import TrialResult

TRIAL_HEADER = ("model", "data", "samples", "workers", "seed", "accuracy", "train accuracy", "loss", "time", "cost")


def trial_row(result: TrialResult) -> tuple[str, ...]:
    """One trial under `TRIAL_HEADER`; what a failed one did not measure is blank."""
    trial, training = result.trial, result.training
    measured = ("", "", "", "")
    if training is not None:
        measured = (
            f"{training.n_train:,}",
            wording.metric_value(training.accuracy, "accuracy"),
            wording.metric_value(training.train_accuracy, "accuracy"),
            wording.metric_value(training.loss, "loss"),
        )
    return (
        trial.model,
        f"{trial.fraction:.4g}",
        measured[0],
        str(trial.workers),
        str(trial.seed),
        *measured[1:],
        wording.duration(result.wall_time_s),
        format_usd(result.cost_usd),
    )
