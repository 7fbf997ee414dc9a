"""What is asked: the frozen records a config turns into.

One record per section of the YAML; ``config.py`` parses into them. Each record checks itself in ``__post_init__`` and
reports all of its faults at once (`SpecValueError`), so a config with five mistakes is refused once, not five times.
Fractions are in (0, 1], money in US dollars, times carry their unit in the name.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from orchestrator.errors import Fault, SpecValueError

Scalar = bool | int | float | str | None
Purchase = Literal["on_demand", "spot", "reserved"]
Route = Literal["same_zone", "cross_zone", "inter_region", "cross_cloud", "internet_egress"]
Metric = Literal["accuracy", "loss"]

_STRICT: dict[str, Any] = {"extra": "forbid", "use_attribute_docstrings": True}
_LEAST, _MOST = 1e-12, 1e12
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class _Checks:
    """Collects the faults of one record, then raises them together."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def require(self, ok: bool, key: str, message: str) -> None:
        if not ok:
            self._faults.append(Fault(key, message))

    def positive(self, value: float | None, key: str) -> None:
        self.require(value is None or (math.isfinite(value) and value > 0), key, f"must be above 0, got {value}")
        # What lies beyond is a slip, and its products would leave what arithmetic can hold.
        in_range = value is None or not value > 0 or _LEAST <= value <= _MOST
        self.require(in_range, key, f"must lie between {_LEAST:g} and {_MOST:g}, got {value}")

    def not_negative(self, value: float | None, key: str) -> None:
        ok = value is None or (math.isfinite(value) and value >= 0)
        self.require(ok, key, f"must not be negative, got {value}")
        self.require(value is None or not value > _MOST, key, f"must be at most {_MOST:g}, got {value}")

    def done(self) -> None:
        if self._faults:
            raise SpecValueError(*self._faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSpec:
    """Where the rows come from and how the fixed validation split is cut."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    source: str
    """``sklearn:digits``, a Parquet file, a folder of Parquet files, or ``task`` when the task brings its own data."""
    label: str = "label"
    """Label column."""
    image: str = "image"
    """Column of encoded images (bytes, or Hugging Face's struct with ``bytes``)."""
    files: str = "*.parquet"
    """Which files of a folder are training data, as a glob."""
    validation_fraction: float = 0.2
    """Share of all rows held out, stratified, the same for every trial and the full run."""

    def __post_init__(self) -> None:
        checks = _Checks()
        checks.require(
            bool(self.source.strip()), "source", "is empty; name a Parquet file or folder, or sklearn:digits"
        )
        checks.require(
            0 < self.validation_fraction < 1,
            "validation_fraction",
            f"must lie between 0 and 1, got {self.validation_fraction:g}",
        )
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model by name, with the options its task gives meaning to."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    name: str
    options: Mapping[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks = _Checks()
        checks.require(
            bool(_NAME.fullmatch(self.name)), "name", f"{self.name!r} may hold only letters, digits, '.', '_' and '-'"
        )
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStoppingSpec:
    """Stop a trial when validation loss has not improved for ``patience`` epochs; the best epoch's weights are kept."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    patience: int

    def __post_init__(self) -> None:
        checks = _Checks()
        checks.require(self.patience >= 1, "patience", f"must be at least 1, got {self.patience}")
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec:
    """How one model is trained; identical for a trial and for the full run."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    epochs: int = 20
    global_batch_size: int = 64
    """Samples per optimiser step over all workers together, so that workers change time and not accuracy."""
    learning_rate: float = 0.003
    weight_decay: float = 0.0
    early_stopping: EarlyStoppingSpec | None = None

    def __post_init__(self) -> None:
        checks = _Checks()
        checks.require(self.epochs >= 1, "epochs", f"must be at least 1, got {self.epochs}")
        checks.require(
            self.global_batch_size >= 1, "global_batch_size", f"must be at least 1, got {self.global_batch_size}"
        )
        checks.positive(self.learning_rate, "learning_rate")
        checks.require(self.weight_decay >= 0, "weight_decay", f"must not be negative, got {self.weight_decay:g}")
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSpec:
    """Which small measurements are made."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    fractions: tuple[float, ...]
    """Shares of the training pool, rising, each in (0, 1]."""
    workers: tuple[int, ...] = (1,)
    seeds: int = 3
    """How many seeds each (model, fraction, workers) is measured with; a seed moves subset, weights and batch order."""
    scaling_seeds: int = 1
    """How many of those seeds are also measured on later worker counts, which tell time, not accuracy."""
    strategy: Literal["grid"] = "grid"
    max_cost_usd: float | None = None

    def __post_init__(self) -> None:
        checks = _Checks()
        checks.require(len(self.fractions) > 0, "fractions", "is empty; give at least three, e.g. [0.05, 0.1, 0.2]")
        bad = [f for f in self.fractions if not 0 < f <= 1]
        checks.require(
            not bad, "fractions", f"must lie in (0, 1], got {', '.join(f'{f:g}' for f in bad)} (0.2 means 20%)"
        )
        rising = all(a < b for a, b in zip(self.fractions, self.fractions[1:], strict=False))
        ordered = ", ".join(f"{f:g}" for f in sorted(set(self.fractions)))
        checks.require(rising, "fractions", f"must rise without repeats, got {list(self.fractions)}; write [{ordered}]")
        checks.require(len(self.workers) > 0, "workers", "is empty; [1] is the least")
        checks.require(
            all(w >= 1 for w in self.workers), "workers", f"must be at least 1 each, got {list(self.workers)}"
        )
        checks.require(len(set(self.workers)) == len(self.workers), "workers", f"holds repeats: {list(self.workers)}")
        checks.require(self.seeds >= 1, "seeds", f"must be at least 1, got {self.seeds}")
        checks.require(
            1 <= self.scaling_seeds <= max(self.seeds, 1),
            "scaling_seeds",
            f"must lie in 1..seeds ({self.seeds}), got {self.scaling_seeds}",
        )
        checks.positive(self.max_cost_usd, "max_cost_usd")
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSpec:
    """What one worker occupies, and how many trials run side by side."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    cpus_per_worker: int = 1
    gpus_per_worker: float = 0
    max_concurrent_trials: int | None = None
    """Upper bound on trials at once; None fills the cluster."""

    def __post_init__(self) -> None:
        checks = _Checks()
        checks.require(self.cpus_per_worker >= 1, "cpus_per_worker", f"must be at least 1, got {self.cpus_per_worker}")
        checks.require(
            self.gpus_per_worker >= 0, "gpus_per_worker", f"must not be negative, got {self.gpus_per_worker}"
        )
        checks.require(
            self.max_concurrent_trials is None or self.max_concurrent_trials >= 1,
            "max_concurrent_trials",
            f"must be at least 1, got {self.max_concurrent_trials}",
        )
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotSpec:
    """How often the cloud takes a spot instance back."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    mean_uptime_h: float | None = None
    """Mean hours between preemptions of one instance; None assumes what public traces show, widely spread."""
    mean_downtime_h: float | None = None
    """Mean hours until another instance can be had, which are waited for and not billed; None as above."""
    history: str | None = None
    """CSV file of when an instance could be had, in place of the means: columns available (1 or 0) and seconds."""

    def __post_init__(self) -> None:
        checks = _Checks()
        means = [key for key in ("mean_uptime_h", "mean_downtime_h") if getattr(self, key) is not None]
        checks.require(
            self.history is None or not means, "history", f"replaces {' and '.join(means)}; give one of them"
        )
        checks.positive(self.mean_uptime_h, "mean_uptime_h")
        checks.not_negative(self.mean_downtime_h, "mean_downtime_h")
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSpec:
    """What is kept because of the full run: data set, checkpoints, logs."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    usd_per_gb_month: float | None = None
    """None takes the object storage price of the instance's cloud; a machine of one's own then has none."""
    months: float = 1.0
    """How long they are kept."""
    data_gb: float | None = None
    """Size of the stored data set; None takes the prepared data's."""

    def __post_init__(self) -> None:
        checks = _Checks()
        checks.not_negative(self.usd_per_gb_month, "usd_per_gb_month")
        checks.not_negative(self.months, "months")
        checks.not_negative(self.data_gb, "data_gb")
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSpec:
    """What travels over a billed network because of the full run."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    route: Route
    """``same_zone`` is free; the others are priced per GB by the cloud that the bytes leave."""
    gb: float | None = None
    """GB that take it; None is the data set once and the kept checkpoints once."""
    usd_per_gb: float | None = None
    """None takes the list price of the instance's cloud."""

    def __post_init__(self) -> None:
        checks = _Checks()
        checks.not_negative(self.gb, "gb")
        checks.not_negative(self.usd_per_gb, "usd_per_gb")
        is_priced = self.usd_per_gb is None or self.route != "same_zone"
        checks.require(
            is_priced, "usd_per_gb", "has no meaning within a zone, where transfer is not billed; leave it out"
        )
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleSpec:
    """What people's time is worth; what is None is left out of the bill, and the bill says so."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    engineer_usd_per_h: float | None = None
    """Everything an hour costs, not the salary alone."""
    engineer_h: float | None = None
    """Hours a full run takes of somebody: setting up, watching, reading results."""
    engineer_h_per_failure: float | None = None
    """Hours somebody spends on a crash before the run goes on."""
    delay_usd_per_day: float | None = None
    """What a day until the model is there costs."""

    def __post_init__(self) -> None:
        checks = _Checks()
        for key in ("engineer_usd_per_h", "engineer_h", "engineer_h_per_failure", "delay_usd_per_day"):
            checks.not_negative(getattr(self, key), key)
        hours = [key for key in ("engineer_h", "engineer_h_per_failure") if getattr(self, key) is not None]
        checks.require(
            self.engineer_usd_per_h is not None or not hours,
            "engineer_usd_per_h",
            f"is missing; {' and '.join(hours)} cannot be priced without it",
        )
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class PricingSpec:
    """What an hour of a worker costs, and what else a full run makes one pay for."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    instance: str | None = None
    """``cloud/type`` as in the price table, e.g. ``aws/g5.xlarge``."""
    region: str | None = None
    purchase: tuple[Purchase, ...] = ("on_demand",)
    workers_per_instance: int | None = None
    """None takes the price table's: one worker per accelerator, one on a machine without any."""
    usd_per_worker_hour: float | None = None
    """Price of a machine of one's own; replaces ``instance``."""
    catalogue: str | None = None
    """CSV file of prices to use in place of the table that comes along: in its columns, or SkyPilot's catalogue."""
    catalogue_cloud: Literal["aws", "gcp", "azure"] | None = None
    """The cloud of a SkyPilot catalogue, whose rows do not say it."""
    catalogue_date: str | None = None
    """The day a SkyPilot catalogue is good for, YYYY-MM-DD, because it states none."""
    spot: SpotSpec = field(default_factory=SpotSpec)
    storage: StorageSpec = field(default_factory=StorageSpec)
    transfer: TransferSpec | None = None
    """None: where data travel is not known, and egress is left out of the bill."""
    people: PeopleSpec = field(default_factory=PeopleSpec)
    mtbf_worker_h: float | None = None
    """Mean hours between failures of one worker's hardware or software; None assumes a published figure."""

    def __post_init__(self) -> None:
        checks = _Checks()
        checks.require(
            (self.instance is None) != (self.usd_per_worker_hour is None),
            "instance",
            "give either instance (with region) or usd_per_worker_hour, and not both",
        )
        if self.instance is not None:
            checks.require(
                bool(re.fullmatch(r"(aws|gcp|azure)/\S+", self.instance)),
                "instance",
                f"must read cloud/type with cloud aws, gcp or azure, got {self.instance!r}",
            )
            checks.require(self.region is not None, "region", f"is missing; {self.instance} is priced per region")
        checks.positive(self.usd_per_worker_hour, "usd_per_worker_hour")
        checks.positive(self.mtbf_worker_h, "mtbf_worker_h")
        checks.require(len(self.purchase) > 0, "purchase", "is empty; [on_demand] is the least")
        checks.require(
            len(set(self.purchase)) == len(self.purchase), "purchase", f"holds repeats: {', '.join(self.purchase)}"
        )
        checks.require(
            self.usd_per_worker_hour is None or self.purchase == ("on_demand",),
            "purchase",
            "has no meaning with usd_per_worker_hour; leave it out",
        )
        for key in ("region", "workers_per_instance"):
            has_meaning = self.usd_per_worker_hour is None or self.instance is not None or getattr(self, key) is None
            checks.require(has_meaning, key, "has no meaning with usd_per_worker_hour; leave it out, or set it to null")
        checks.require(
            self.workers_per_instance is None or self.workers_per_instance >= 1,
            "workers_per_instance",
            f"must be at least 1, got {self.workers_per_instance}",
        )
        for key in ("catalogue_cloud", "catalogue_date"):
            has_meaning = self.catalogue is not None or getattr(self, key) is None
            checks.require(has_meaning, key, "has no meaning without pricing.catalogue; leave it out")
        checks.require(
            _is_date(self.catalogue_date), "catalogue_date", f"must read YYYY-MM-DD, got {self.catalogue_date!r}"
        )
        checks.done()


def _is_date(text: str | None) -> bool:
    try:
        datetime.date.fromisoformat(text or "2000-01-01")
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSpec:
    """How many checkpoints the full run keeps."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    keep: int = 2

    def __post_init__(self) -> None:
        checks = _Checks()
        checks.require(self.keep >= 1, "keep", f"must be at least 1, got {self.keep}")
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class FullRunSpec:
    """The run that is being decided on."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    fraction: float = 1.0
    workers: tuple[int, ...] = (1,)
    checkpoint: CheckpointSpec = field(default_factory=CheckpointSpec)
    deadline_h: float | None = None

    def __post_init__(self) -> None:
        checks = _Checks()
        checks.require(0 < self.fraction <= 1, "fraction", f"must lie in (0, 1], got {self.fraction:g}")
        checks.require(
            len(self.workers) > 0 and all(w >= 1 for w in self.workers),
            "workers",
            f"needs at least one count, each at least 1, got {list(self.workers)}",
        )
        checks.positive(self.deadline_h, "deadline_h")
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionSpec:
    """When the full run is worth its money."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    min_gain_per_dollar: float
    """Gain of the metric (accuracy in 0..1, or loss) per US dollar of the full run."""
    metric: Metric = "accuracy"
    baseline: float | Literal["best_trial"] = "best_trial"
    """What the full run must beat: the best measured trial, or the metric of the model in production."""
    confidence: float = 0.9
    approval: Literal["review", "auto"] = "review"

    def __post_init__(self) -> None:
        checks = _Checks()
        checks.require(
            math.isfinite(self.min_gain_per_dollar) and self.min_gain_per_dollar >= 0,
            "min_gain_per_dollar",
            f"must not be negative, got {self.min_gain_per_dollar}",
        )
        checks.require(0.5 < self.confidence < 1, "confidence", f"must lie between 0.5 and 1, got {self.confidence:g}")
        if self.baseline != "best_trial" and self.metric == "accuracy":
            checks.require(
                0 <= float(self.baseline) <= 1,
                "baseline",
                f"must be an accuracy in 0..1, got {self.baseline} (0.93 means 93%)",
            )
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSpec:
    """One cap over sweep and promotion."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    max_cost_usd: float | None = None

    def __post_init__(self) -> None:
        checks = _Checks()
        checks.positive(self.max_cost_usd, "max_cost_usd")
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingSpec:
    """Where MLflow keeps the mirror of the journal."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    uri: str = "sqlite:///mlflow.db"
    experiment: str | None = None
    """MLflow experiment name; None takes the config's ``name``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentSpec:
    """A whole config: sweep, forecast, price, verdict and, if it pays, the full run."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    name: str
    task: str
    """``module:function`` that builds the task; ours is ``orchestrator.tasks.vision:image_classification``."""
    data: DataSpec
    models: tuple[ModelSpec, ...]
    """Simplest first."""
    sweep: SweepSpec
    decision: DecisionSpec
    pricing: PricingSpec
    training: TrainingSpec = field(default_factory=TrainingSpec)
    resources: ResourceSpec = field(default_factory=ResourceSpec)
    full_run: FullRunSpec = field(default_factory=FullRunSpec)
    budget: BudgetSpec = field(default_factory=BudgetSpec)
    tracking: TrackingSpec = field(default_factory=TrackingSpec)
    runs_dir: str = "runs"
    """Folder of the journals; the run's own folder is ``runs_dir/name``."""

    def __post_init__(self) -> None:
        checks = _Checks()
        checks.require(
            bool(_NAME.fullmatch(self.name)), "name", f"{self.name!r} may hold only letters, digits, '.', '_' and '-'"
        )
        checks.require(
            bool(re.fullmatch(r"[\w.]+:\w+", self.task)),
            "task",
            f"must read module:function, got {self.task!r}; ours is orchestrator.tasks.vision:image_classification",
        )
        checks.require(bool(self.runs_dir.strip()), "runs_dir", "is empty; name a folder, or leave it out for runs")
        names = [model.name for model in self.models]
        checks.require(len(names) > 0, "models", "is empty; list at least one, simplest first")
        checks.require(len(set(names)) == len(names), "models", f"names repeat: {', '.join(names)}; names must differ")
        widest = max((*self.sweep.workers, *self.full_run.workers), default=1)
        checks.require(
            self.training.global_batch_size >= widest,
            "training.global_batch_size",
            f"is {self.training.global_batch_size}, too few for {widest} workers; raise it or ask for fewer workers",
        )
        checks.require(
            self.full_run.fraction >= max(self.sweep.fractions, default=0),
            "full_run.fraction",
            f"is {self.full_run.fraction:g}, below the largest swept fraction {max(self.sweep.fractions, default=0):g}",
        )
        checks.done()

    @property
    def mlflow_experiment(self) -> str:
        return self.tracking.experiment or self.name

    def model(self, name: str) -> ModelSpec:
        """The model of that name; raises KeyError."""
        return {model.name: model for model in self.models}[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialSpec:
    """One measurement to be made: a model on a fraction of the data, on so many workers, with one seed."""

    model: str
    fraction: float
    workers: int
    seed: int

    def __str__(self) -> str:
        plural = "worker" if self.workers == 1 else "workers"
        return f"{self.model} {self.fraction:.4g} x {self.workers} {plural} seed {self.seed}"


def digest(value: object) -> str:
    """SHA-256 of the canonical JSON of plain data, first 16 hex digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def evidence_scope(spec: ExperimentSpec, fingerprint: str, model: str) -> str:
    """Digest of all that must be equal for two trials of a model to lie on one curve."""
    return digest(
        {
            "task": spec.task,
            "model": asdict(spec.model(model)),
            "training": asdict(spec.training),
            "fingerprint": fingerprint,
            "columns": [spec.data.image, spec.data.label],
            "validation_fraction": spec.data.validation_fraction,
        }
    )


def trial_key(spec: ExperimentSpec, fingerprint: str, trial: TrialSpec) -> str:
    """Content address of a trial: the same question always has the same key, so it is measured once.

    Only what changes the answer goes in; names of experiments, prices and thresholds do not.
    """
    return digest([evidence_scope(spec, fingerprint, trial.model), trial.fraction, trial.workers, trial.seed])
