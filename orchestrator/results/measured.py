"""What was measured: trials, data, and the data path."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field, fields
from typing import Literal

from orchestrator.spec import TrialSpec


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
class TrialLaunch:
    """A trial that was given to the runner; a launch nothing was heard of has cost nobody knows what."""

    key: str
    trial: TrialSpec
    reserved_usd: float | None
    """The most it was expected to cost; None before anything of its model was measured."""


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
