"""What was measured and what was concluded: frozen records, plain data, JSON in and out.

Times are wall-clock seconds on the rank that was slowest, unless a field says otherwise; accuracies lie in 0..1; money
is in US dollars. A value nobody measured is None, never zero.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from orchestrator.spec import Purchase, TrialSpec

CostKind = Literal["infrastructure", "people", "risk"]
"""Risk is what is paid only because something goes wrong."""
Bottleneck = Literal["compute", "gradient sync", "data wait"]
"""The largest part of the steady time."""


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
class DataQuality:
    """What was found when somebody looked through the data."""

    status: Literal["pass", "warn", "fail", "not_checked"]
    evidence: str


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
    versions: dict[str, str] = field(default_factory=dict)
    """Pointers of data versioning tools to the source, such as ``dvc.md5``; empty when there are none."""
    train_bytes: int = 0
    """Of the training rows as they were prepared; 0 when the task brings its own data."""
    quality: DataQuality | None = None
    """None when nobody has looked."""
    prepared_at: str = ""
    """Folder with the findings and their pictures, for the report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRead:
    """What was read of the data before trials or a full run could start."""

    n_rows: int
    """Training rows that the subsets hold together."""
    n_train: int
    """Rows of the training pool."""
    train_bytes_read: int
    """Asked of the storage for them; 0 when all had been read before."""
    validation_bytes_read: int
    wall_time_s: float
    """Reading and decoding."""


MIN_REPEATS = 3
"""Of a rate; fewer leave one degree of freedom or none, and no statement about spread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """One rate of one worker, measured a few times."""

    repeats: tuple[float, ...]
    """Samples per second of each repeat, above 0; at least `MIN_REPEATS`."""
    cpu_s_per_sample: float | None = None
    """CPU seconds of all threads and processes for one sample; None where they cannot be counted."""

    def __post_init__(self) -> None:
        if len(self.repeats) < MIN_REPEATS:
            raise ValueError(f"a rate needs at least {MIN_REPEATS} repeats, got {len(self.repeats)}; measure longer")
        if not all(math.isfinite(rate) and rate > 0 for rate in self.repeats):
            raise ValueError(f"rates must be finite and above 0, got {self.repeats}")

    @property
    def samples_per_s(self) -> float:
        """The median: a neighbour's burst of work moves it little."""
        return statistics.median(self.repeats)

    @property
    def log_sd(self) -> float:
        """Standard deviation of the logarithm between repeats."""
        return statistics.stdev(math.log(rate) for rate in self.repeats)


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestMeasurement:
    """The probe of one worker: the step without data, the loader without a step, the store, and all together."""

    device: str
    batch_size: int
    """Rows of a step of this worker."""
    compute: Rate
    """Training steps on one batch that is held in memory: what no loader can exceed."""
    loader: Rate
    """The training's own loader without a model, over rows it has just read: page cache, decoding, collating."""
    cold: Rate | None = None
    """The same loader over rows that are not in the page cache."""
    storage: Rate | None = None
    """What the store gives to several readers together, read in sequence, in samples of the mean size."""
    storage_readers: int | None = None
    end_to_end: Rate | None = None
    """Loader and step together over cached rows, as a trial trains."""
    mixed_precision: Rate | None = None
    """As ``compute``, under bfloat16 autocast; accelerators only."""
    memory_share: float | None = None
    """Peak memory of a step over the accelerator's memory, in (0, 1]."""
    n_rows: int
    """Rows of the training pool."""
    bytes_per_sample: float | None = None
    """On disk."""
    host_cores: int | None = None
    """Cores that the probe's process may use."""
    host_memory_bytes: int | None = None
    """What the probe's machine could still keep in its page cache."""
    not_measured: tuple[str, ...] = ()
    """What is missing, each with its reason."""


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
    kind: CostKind = "infrastructure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """How far one input alone moves the total of a bill."""

    name: str
    low: float
    """The input at the low end of its own 90% interval, or at 10% below a value that is taken as known."""
    high: float
    unit: str
    total_at_low_usd: float
    total_at_high_usd: float
    is_uncertain: bool
    """True for an interval, False for the 10% either side of a known value."""

    @property
    def swing_usd(self) -> float:
        return abs(self.total_at_high_usd - self.total_at_low_usd)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointAdvice:
    """Seconds of work between two checkpoints: as it is done, as it should be, and where spot stops paying."""

    interval_s: float
    """One epoch, as the full run writes them."""
    checkpoint_s: float
    """What writing one takes."""
    best_interval_s: float | None
    """The interval of the shortest expected time; None where nothing interrupts the run."""
    break_even_interval_s: float | None = None
    """Above it spot costs more than on-demand: 0 when at every interval, infinite when at none; None when not asked."""
    time_share: float = 0.0
    """Share of the training time spent writing checkpoints, in [0, 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """The itemised price of one candidate full run; totals are of the included lines."""

    lines: tuple[BillLine, ...]
    total_usd: Interval
    assumed: bool
    """True when times were measured on other hardware than the one priced."""
    warnings: tuple[str, ...] = ()
    totals_usd: Mapping[CostKind, Interval] = field(default_factory=dict)
    """What infrastructure, people and risk come to; a kind without an included line is not there."""
    invoiced_usd: Interval | None = None
    """The total without people's time: what a cap on dollars is held against."""
    training_s: Interval | None = None
    """Useful seconds of the job."""
    billed_s: Interval | None = None
    """Seconds its instances are paid for: start-up, training and what is done again, without waiting for machines."""
    given_up_share: float = 0.0
    """Share of draws in which interruptions do not let the run end."""
    waiting_s: Interval | None = None
    """Seconds without machines, which delay and are not billed."""
    peak_storage_gb: float | None = None
    """Data set, logs and one checkpoint more than is kept, because the new one is written before the old one goes."""
    storage_usd_per_month: float | None = None
    """What data set, checkpoints and logs go on costing while they are kept; None without a price."""
    sensitivities: tuple[Sensitivity, ...] = ()
    """Largest swing first."""
    checkpoint: CheckpointAdvice | None = None
    expected_interruptions: float | None = None
    """Preemptions and failures of the job together, on average."""

    @property
    def capped_usd(self) -> Interval:
        """What providers bill; the whole total where a bill does not tell the two apart."""
        return self.invoiced_usd or self.total_usd

    def lines_of(self, kind: CostKind) -> tuple[BillLine, ...]:
        return tuple(line for line in self.lines if line.kind == kind)


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
    deadline_probability: float | None = None
    """P(time <= deadline); None without a deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerScaling:
    """What a typical run comes to on one worker count."""

    workers: int
    median_total_s: float
    speedup: float
    """Against the smallest candidate."""
    parallel_efficiency: float
    """Speedup over the ratio of workers; above 1 where a step is super-linear."""
    bottleneck: Bottleneck
    bottleneck_share: float
    """Of compute, data wait and gradient sync together, in (0, 1]."""
    validation_share: float
    """Of the whole time, in [0, 1)."""
    checkpoint_share: float
    """Of the whole time, in [0, 1)."""
    measured: bool
    """False: extrapolated to that worker count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingDiagnosis:
    """How far more workers help, and what stops them."""

    candidates: tuple[WorkerScaling, ...]
    """By rising worker count."""
    largest_useful_workers: int
    min_marginal_efficiency: float
    """What the last useful step had to bring, as a share of what its added workers would ideally."""
    findings: tuple[str, ...]
    """One sentence each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataPathFinding:
    """Whether data keeps up with the workers, in sentences and as a table, for the candidate a verdict is about."""

    basis: Literal["probe", "trials"]
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """A row for each worker count."""
    lines: tuple[str, ...]
    headroom: str
    """Of one worker."""
    idle_share: float
    """Of one worker's steady time, waiting for data, in [0, 1)."""


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
    scaling: ScalingDiagnosis | None = None
    """What more workers bring to the best candidate's model."""
    data_path: DataPathFinding | None = None
    """None when neither a probe nor a trial measured it."""
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
    invoiced_usd: float | None = None
    """``cost_usd`` without people's time; None where nobody told them apart."""
    metric_hit: bool
    """Whether the 90% interval held the measured metric."""
    wall_time_hit: bool
    cost_hit: bool
    checkpoint_path: str
    finished_at: str
