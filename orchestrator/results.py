"""What was measured and what was concluded: frozen records, plain data, JSON in and out.

Times are wall-clock seconds on the rank that was slowest, unless a field says otherwise; accuracies lie in 0..1; money
is in US dollars. A value nobody measured is None, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from orchestrator.spec import Purchase, TrialSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A central interval: ``low`` and ``high`` bound ``level`` of the probability; ``mean`` is the expectation."""

    low: float
    median: float
    high: float
    mean: float
    level: float = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSplit:
    """Where the wall time of one training went, in seconds; the parts do not overlap."""

    startup_s: float = 0.0
    """Process group, data set, model, first batch: everything before steady state."""
    compute_s: float = 0.0
    """Forward, backward and optimiser step."""
    data_wait_s: float = 0.0
    """Waiting for the next batch."""
    gradient_sync_s: float = 0.0
    """Exposed all-reduce: from the last gradient computed to the gradients averaged."""
    validation_s: float = 0.0
    checkpoint_s: float = 0.0

    @property
    def total_s(self) -> float:
        return float(sum(getattr(self, f.name) for f in fields(self)))


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochPoint:
    """The state of one training after an epoch."""

    epoch: int
    samples_seen: int
    wall_time_s: float
    train_loss: float
    train_accuracy: float | None
    validation_loss: float
    validation_accuracy: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What one training came to, whether it was a trial or the full run."""

    accuracy: float | None
    """On the fixed validation split; None when the task has no accuracy."""
    loss: float
    train_accuracy: float | None
    train_loss: float
    n_train: int
    """Rows of the subset trained on."""
    n_validation: int
    epochs_run: int
    samples_seen: int
    """Rows processed over all epochs and workers."""
    wall_time_s: float
    time: TimeSplit
    epochs: tuple[EpochPoint, ...]
    device: str
    checkpoint_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """A trial and what came of it; ``training`` is None exactly when ``status`` is ``failed``."""

    key: str
    scope: str
    """`spec.evidence_scope`: only results of one scope share a curve."""
    fingerprint: str
    trial: TrialSpec
    status: Literal["finished", "failed"]
    training: TrainingResult | None
    error: str | None = None
    wall_time_s: float
    """From the trial's start to its end as the driver saw it; this is what is paid for."""
    queue_wait_s: float = 0.0
    """Waiting for free workers; not paid for."""
    started_at: str
    """UTC, ISO 8601."""
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSummary:
    """What is known of the data without opening it again."""

    fingerprint: str
    source: str
    n_rows: int
    n_train: int
    """Rows of the training pool: fraction 1.0."""
    n_validation: int
    class_counts: dict[str, int] = field(default_factory=dict)
    """Training pool rows per class; empty when the target is not a class."""
    bytes_on_disk: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BillLine:
    """One line of a bill; ``cost_usd`` is quantity times unit price, or None when the line is excluded."""

    item: str
    quantity: Interval | None
    unit: str
    unit_price_usd: float | None
    cost_usd: Interval | None
    source: str
    """Where the price comes from, with its date."""
    included: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """The itemised price of one candidate full run."""

    lines: tuple[BillLine, ...]
    total_usd: Interval
    assumed: bool
    """True when times were measured on other hardware than the one priced."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One full run that could be started."""

    model: str
    fraction: float
    n_samples: int
    workers: int
    purchase: Purchase

    def __str__(self) -> str:
        plural = "worker" if self.workers == 1 else "workers"
        share = "all" if self.fraction == 1 else f"{self.fraction:.1%}"
        return f"{self.model} on {share} of the data, {self.workers} {plural}, {self.purchase.replace('_', '-')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateForecast:
    """What is expected of a candidate, each with its 90% interval, from joint samples."""

    candidate: Candidate
    metric: Interval
    """Accuracy, or loss, of the full run: a prediction interval for a new run."""
    gain: Interval
    """Improvement over the baseline, positive is better."""
    wall_time_s: Interval
    cost_usd: Interval
    gain_per_dollar: Interval
    probability: float
    """P(gain per dollar >= threshold)."""
    bill: Bill
    noise_units: float | None = None
    """Expected gain over the standard deviation between seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Veto:
    """A reason why no probability, however high, leads to promotion, with the way out."""

    name: str
    reason: str
    way_out: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckItem:
    """One line of the pre-scale checklist."""

    name: str
    status: Literal["pass", "warn", "fail", "not_checked"]
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """One measured point of a learning curve."""

    n_samples: int
    value: float
    seed: int
    workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveBand:
    """A fitted learning curve on a grid, for figures and tables."""

    model: str
    n_samples: tuple[float, ...]
    median: tuple[float, ...]
    confidence_low: tuple[float, ...]
    confidence_high: tuple[float, ...]
    prediction_low: tuple[float, ...]
    prediction_high: tuple[float, ...]
    points: tuple[CurvePoint, ...]
    noise_std: float
    diagnosis: tuple[str, ...]
    backtest: tuple[Interval, float] | None = None
    """Forecast of the largest measured size from the smaller ones, and what was measured there."""
    gain_of_more_data: Interval | None = None
    """What a tenth more data would gain beyond the size of the full run; positive is better."""
    overfit_gap: tuple[tuple[int, float], ...] = ()
    """Samples and how much better the training rows were told than the validation rows there, mean over trials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether to scale, to what, how sure, and why."""

    kind: Literal["PROMOTE", "HOLD", "REJECT"]
    probability: float
    confidence: float
    threshold: float
    """Gain per dollar that was asked for."""
    reason: str
    """One sentence."""
    best: CandidateForecast
    candidates: tuple[CandidateForecast, ...]
    curves: tuple[CurveBand, ...]
    metric: Literal["accuracy", "loss"]
    baseline: float
    baseline_source: str
    vetoes: tuple[Veto, ...]
    checklist: tuple[CheckItem, ...]
    next_step: str
    """HOLD: the measurement that would settle most; else what to do now."""
    n_trials: int
    n_excluded: int
    """Journal trials left out: failed, or of another data fingerprint or training setting."""
    sweep_cost_usd: float
    inputs_digest: str
    """Digest of spec, evidence, prices and of what they led to: an approval holds only for this."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A person's (or the config's) leave for one verdict."""

    decision: Literal["approved", "rejected"]
    by: str
    reason: str
    inputs_digest: str
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The full run beside its forecast: one line of the ledger."""

    candidate: Candidate
    training: TrainingResult
    wall_time_s: float
    """Of the whole job as the driver saw it, start-up included; this is what is paid for."""
    cost_usd: float
    forecast: CandidateForecast
    metric_hit: bool
    """Whether the 90% interval held the measured metric."""
    wall_time_hit: bool
    cost_hit: bool
    checkpoint_path: str
    finished_at: str
