"""What is written where in MLflow, as plain data: names, params, metrics and tags of each run. No MLflow import.

One parent run per experiment, one child run per trial, one child run per full run. Trials are found again by tags:

    orchestrator.kind         experiment, trial or full_run
    orchestrator.experiment   the config's ``name``
    orchestrator.trial_key    content address of the trial
    orchestrator.record       digest of the journal record that the run shows; with another, the run is out of date
    orchestrator.complete     1 once everything of the run has been written

and compared by the data they were made of, which is also the digest of their MLflow dataset:

    data.fingerprint          of the full content
    data.version.*            what data versioning tools call it: `data.versions`

A person answers on the parent run in one tag, and in no other; we write into it only while nobody has answered:

    approval                  our prompt, or the answer: see `orchestrator.approval`
    approval.state            pending, not needed, approved or rejected: what the journal says
    approval.answer           what became of the text in ``approval``
    approval.by, .reason ...  the recorded answer

The parent run also keeps the journal itself and its seal, out of reach of who can write to the run folder only:

    journal.seal.DIGEST       number and digest of a line that was the last; DIGEST begins that of the first line
    journal.finding           that a later journal did not hold a line sealed before; then nothing was replaced
"""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import NamedTuple

from orchestrator.approval import approval_code
from orchestrator.results import (
    Approval,
    DataSummary,
    Interval,
    Outcome,
    TimeSplit,
    TrainingResult,
    TrialResult,
    Verdict,
)
from orchestrator.spec import ExperimentSpec, digest, evidence_scope
from orchestrator.tracking.chain import Entry, Seal, last_seal
from orchestrator.tracking.records import to_plain

KIND = "orchestrator.kind"
EXPERIMENT = "orchestrator.experiment"
TRIAL_KEY = "orchestrator.trial_key"
RECORD = "orchestrator.record"
COMPLETE = "orchestrator.complete"
FINGERPRINT = "orchestrator.fingerprint"
DATA_FINGERPRINT = "data.fingerprint"
DATA_VERSION = "data.version."
INPUTS = "orchestrator.inputs_digest"
DESCRIPTION = "mlflow.note.content"
PARENT = "mlflow.parentRunId"
APPROVAL = "approval"
APPROVAL_STATE = "approval.state"
APPROVAL_ANSWER = "approval.answer"
JOURNAL = "journal.jsonl"
JOURNAL_SEAL = "journal.seal."
JOURNAL_FINDING = "journal.finding"

# MLflow refuses tags beyond 8000 characters; an error's first thousand say what happened.
MAX_ERROR_CHARACTERS = 1000


class MetricPoint(NamedTuple):
    """One value of one metric; ``time_ms`` is since 1970, UTC."""

    key: str
    value: float
    step: int
    time_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveMean:
    """Mean over seeds at one size of one model's learning curve."""

    model: str
    metric: str
    scope: str
    n_samples: int
    value: float
    is_complete: bool
    """Every seed that the config asks for is in."""


def record_digest(record: object) -> str:
    """Digest of any record, for telling whether a run shows this one or an earlier one."""
    return digest(to_plain(record))


def start_ms(iso: str) -> int:
    """Milliseconds since 1970 of an ISO 8601 time; without a zone it is UTC."""
    moment = datetime.fromisoformat(iso)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def end_ms(result: TrialResult) -> int:
    return start_ms(result.started_at) + int(result.wall_time_s * 1000)


def trial_params(spec: ExperimentSpec, fingerprint: str, result: TrialResult) -> dict[str, str]:
    """Params of a trial's run; the config's settings only where the trial was made under them."""
    trial = result.trial
    params: dict[str, object] = {
        "model": trial.model,
        "fraction": f"{trial.fraction:.6g}",
        "workers": trial.workers,
        "seed": trial.seed,
    }
    if result.training is not None:
        params["n_train"] = result.training.n_train
    if result.scope in scopes(spec, fingerprint).values():
        params |= {f"model.{key}": value for key, value in spec.model(trial.model).options.items()}
        params |= _flat("training", asdict(spec.training))
    return {key: str(value) for key, value in params.items() if value is not None}


def scopes(spec: ExperimentSpec, fingerprint: str) -> dict[str, str]:
    """Model name to the scope its trials must have to lie on its curve now."""
    return {model.name: evidence_scope(spec, fingerprint, model.name) for model in spec.models}


def trial_tags(spec: ExperimentSpec, result: TrialResult) -> dict[str, str]:
    tags = {
        KIND: "trial",
        EXPERIMENT: spec.name,
        TRIAL_KEY: result.key,
        RECORD: record_digest(result),
        FINGERPRINT: result.fingerprint,
        "orchestrator.scope": result.scope,
        "model": result.trial.model,
    }
    if result.error is not None:
        tags["error"] = result.error[:MAX_ERROR_CHARACTERS]
    return tags


def data_tags(data: DataSummary, fingerprint: str) -> dict[str, str]:
    """What data a run was made of; pointers only where it was the data at hand."""
    versions = data.versions if fingerprint == data.fingerprint else {}
    # MLflow allows letters, digits, and _ - . space : / in a tag's name.
    named = {DATA_VERSION + re.sub(r"[^\w\-. :/]", "_", key): value for key, value in versions.items()}
    return {DATA_FINGERPRINT: fingerprint, **named}


def training_metrics(training: TrainingResult, *, began_ms: int, ended_ms: int) -> list[MetricPoint]:
    """Final metrics at the last sample seen, and the state after each epoch at the samples seen by then."""
    final = {
        "accuracy": training.accuracy,
        "loss": training.loss,
        "train_accuracy": training.train_accuracy,
        "train_loss": training.train_loss,
        "epochs_run": training.epochs_run,
        "checkpoint_bytes": training.checkpoint_bytes,
    }
    final |= {f"time/{field.name}": getattr(training.time, field.name) for field in fields(TimeSplit)}
    points = [MetricPoint(k, float(v), training.samples_seen, ended_ms) for k, v in final.items() if v is not None]
    for epoch in training.epochs:
        time_ms = began_ms + int(epoch.wall_time_s * 1000)
        values = {
            "epoch/train_loss": epoch.train_loss,
            "epoch/train_accuracy": epoch.train_accuracy,
            "epoch/validation_loss": epoch.validation_loss,
            "epoch/validation_accuracy": epoch.validation_accuracy,
        }
        points += [MetricPoint(k, v, epoch.samples_seen, time_ms) for k, v in values.items() if v is not None]
    return points


def trial_metrics(result: TrialResult) -> list[MetricPoint]:
    ended = end_ms(result)
    points = [
        MetricPoint("wall_time_s", result.wall_time_s, 0, ended),
        MetricPoint("queue_wait_s", result.queue_wait_s, 0, ended),
        MetricPoint("cost_usd", result.cost_usd, 0, ended),
    ]
    if result.training is None:
        return points
    return points + training_metrics(result.training, began_ms=start_ms(result.started_at), ended_ms=ended)


def curve_means(spec: ExperimentSpec, data: DataSummary, results: Sequence[TrialResult]) -> list[CurveMean]:
    """Mean accuracy and loss of each model at each size, over the seeds, on the first worker count.

    Only finished trials of the present data, model and training settings count; sizes rise within a model.
    """
    current = scopes(spec, data.fingerprint)
    seen: dict[tuple[str, int], list[TrainingResult]] = defaultdict(list)
    for result in results:
        trial, training = result.trial, result.training
        if training is None or trial.workers != spec.sweep.workers[0] or current.get(trial.model) != result.scope:
            continue
        seen[trial.model, training.n_train].append(training)
    means = []
    for (model, n_samples), trainings in sorted(seen.items()):
        is_complete = len(trainings) >= spec.sweep.seeds
        for metric in ("accuracy", "loss"):
            values = [getattr(training, metric) for training in trainings]
            if None in values or not all(math.isfinite(value) for value in values):
                continue
            means.append(
                CurveMean(
                    model=model,
                    metric=metric,
                    scope=current[model],
                    n_samples=n_samples,
                    value=statistics.fmean(values),
                    is_complete=is_complete,
                )
            )
    return means


def verdict_tags(verdict: Verdict) -> dict[str, str]:
    """Tags to filter on; those of the answer are set apart, because a person may have changed them."""
    best = verdict.best.candidate
    return {
        "verdict": verdict.kind,
        "probability": f"{verdict.probability:.3f}",
        "reason": verdict.reason[:MAX_ERROR_CHARACTERS],
        "vetoes": ", ".join(veto.name for veto in verdict.vetoes) or "none",
        "recommended": str(best) if verdict.kind == "PROMOTE" else "none",
        INPUTS: verdict.inputs_digest,
    }


def approval_tags(approval: Approval) -> dict[str, str]:
    """What the journal says of the answer; the tag ``approval`` itself stays as its writer left it."""
    override = {} if approval.override is None else {"approval.override": approval.override[:MAX_ERROR_CHARACTERS]}
    return {
        APPROVAL_STATE: approval.decision,
        APPROVAL_ANSWER: f"recorded: {approval.decision} {approval_code(approval.inputs_digest)} by {approval.by}",
        "approval.by": approval.by,
        "approval.reason": approval.reason[:MAX_ERROR_CHARACTERS],
        "approval.at": approval.at,
        "approval.source": approval.source,
        "approval.inputs_digest": approval.inputs_digest,
    } | override


def seal_tags(entries: Sequence[Entry]) -> dict[str, str]:
    """The seal of the last line, under a name of this journal's own."""
    seal = last_seal(entries)
    return {} if seal is None else {_seal_name(entries): str(seal)}


def seals_of(tags: Mapping[str, str], entries: Sequence[Entry]) -> list[Seal]:
    """The seal that a run keeps of this very journal, told by its first line; none for another journal."""
    seal = Seal.parse(tags.get(_seal_name(entries), "")) if entries else None
    return [] if seal is None else [seal]


def all_seals(tags: Mapping[str, str]) -> dict[str, Seal]:
    """Every seal that a run keeps, by the beginning of the digest of the journal's first line."""
    read = {
        key.removeprefix(JOURNAL_SEAL): Seal.parse(value) for key, value in tags.items() if key.startswith(JOURNAL_SEAL)
    }
    return {key: seal for key, seal in read.items() if seal is not None}


def _seal_name(entries: Sequence[Entry]) -> str:
    return JOURNAL_SEAL + entries[0].sha256[:8]


def verdict_metrics(verdict: Verdict) -> dict[str, float]:
    """The best candidate's forecast, medians, so that experiments can be compared in MLflow's table."""
    best = verdict.best
    values = {
        "forecast/probability": verdict.probability,
        f"forecast/{verdict.metric}": best.metric.median,
        "forecast/gain": best.gain.median,
        "forecast/cost_usd": best.cost_usd.median,
        "forecast/wall_time_s": best.wall_time_s.median,
        "sweep_cost_usd": verdict.sweep_cost_usd,
    }
    return {key: value for key, value in values.items() if math.isfinite(value)}


def outcome_metrics(outcome: Outcome) -> list[MetricPoint]:
    ended = start_ms(outcome.finished_at)
    began = ended - int(outcome.wall_time_s * 1000)
    points = training_metrics(outcome.training, began_ms=began, ended_ms=ended)
    points.append(MetricPoint("wall_time_s", outcome.wall_time_s, 0, ended))
    points.append(MetricPoint("cost_usd", outcome.cost_usd, 0, ended))
    return points


def outcome_table(outcome: Outcome, metric: str) -> dict[str, list[object]]:
    """Forecast beside result, by column: quantity, forecast low, median, high, measured, whether the interval held."""
    measured = outcome.training.loss if metric == "loss" else outcome.training.accuracy
    rows: list[tuple[str, Interval, float | None, bool]] = [
        (metric, outcome.forecast.metric, measured, outcome.metric_hit),
        ("wall_time_s", outcome.forecast.wall_time_s, outcome.wall_time_s, outcome.wall_time_hit),
        ("cost_usd", outcome.forecast.cost_usd, outcome.cost_usd, outcome.cost_hit),
    ]
    return {
        "quantity": [row[0] for row in rows],
        "forecast_low": [row[1].low for row in rows],
        "forecast_median": [row[1].median for row in rows],
        "forecast_high": [row[1].high for row in rows],
        "measured": [row[2] for row in rows],
        "interval_held": [row[3] for row in rows],
    }


def _flat(prefix: str, values: dict[str, object]) -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in values.items():
        flat |= _flat(f"{prefix}.{key}", value) if isinstance(value, dict) else {f"{prefix}.{key}": value}
    return flat
