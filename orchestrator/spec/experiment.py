"""What is asked of an experiment: one record per section of the YAML; prices are in `pricing`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from orchestrator.spec.alerts import AlertSpec
from orchestrator.spec.checks import NAME, STRICT, Checks
from orchestrator.spec.pricing import PricingSpec

Scalar = bool | int | float | str | None
Metric = Literal["accuracy", "loss"]
MAX_FRACTION = 1000.0
"""Of a target beyond today's data; a thousandfold is a slip of the decimal point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSpec:
    """Where the rows come from and how the fixed validation split is cut."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    source: str
    """A folder made by `prepare`, what `prepare` can read, ``sklearn:digits``, or ``task`` for a task's own data."""
    label: str = "label"
    """Label column."""
    image: str = "image"
    """Column of encoded images (bytes, or Hugging Face's struct with ``bytes``)."""
    files: str = "*.parquet"
    """Which files of a folder are training data, as a glob."""
    validation_fraction: float = 0.2
    """Share of all rows held out, stratified, the same for every trial and the full run."""
    stratify: tuple[str, ...] = ()
    """Columns whose joint shares every subset keeps; the label when none is named."""
    bins: int = 10
    """Quantile bins that a continuous column is stratified by."""
    min_per_class: int = 0
    """Rows that even the smallest subset holds of each class; 0 keeps the shares exact."""
    image_size: tuple[int, int] | None = None
    """Height and width that images are scaled to; None asks for images of one size."""
    label_noise: float | None = None
    """A supposition for `what-if`: share of training labels that would be wrong at full scale; None leaves them as they
    are."""

    def __post_init__(self) -> None:
        checks = Checks()
        checks.require(
            bool(self.source.strip()), "source", "is empty; name a Parquet file or folder, or sklearn:digits"
        )
        checks.require(
            0 < self.validation_fraction < 1,
            "validation_fraction",
            f"must lie between 0 and 1, got {self.validation_fraction:g}",
        )
        checks.require(len(set(self.stratify)) == len(self.stratify), "stratify", f"holds repeats: {self.stratify}")
        checks.require(2 <= self.bins <= 1000, "bins", f"must lie in 2..1000, got {self.bins}")
        checks.require(self.min_per_class >= 0, "min_per_class", f"must not be negative, got {self.min_per_class}")
        checks.require(
            self.image_size is None or all(1 <= side <= 10_000 for side in self.image_size),
            "image_size",
            f"must be height and width in 1..10000, got {self.image_size}",
        )
        checks.require(
            self.label_noise is None or 0 <= self.label_noise < 1,
            "label_noise",
            f"must lie in 0..1 (0.02 means 2% wrong), got {self.label_noise}",
        )
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model by name, with the options its task gives meaning to."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: str
    options: Mapping[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks = Checks()
        checks.require(
            bool(NAME.fullmatch(self.name)), "name", f"{self.name!r} may hold only letters, digits, '.', '_' and '-'"
        )
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStoppingSpec:
    """Stop a trial when validation loss has not improved for ``patience`` epochs; the best epoch's weights are kept."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    patience: int

    def __post_init__(self) -> None:
        checks = Checks()
        checks.require(self.patience >= 1, "patience", f"must be at least 1, got {self.patience}")
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec:
    """How one model is trained; identical for a trial and for the full run."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    epochs: int = 20
    global_batch_size: int = 64
    """Samples per optimiser step over all workers together, so that workers change time and not accuracy."""
    learning_rate: float = 0.003
    weight_decay: float = 0.0
    early_stopping: EarlyStoppingSpec | None = None

    def __post_init__(self) -> None:
        checks = Checks()
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

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    fractions: tuple[float, ...]
    """Shares of the training pool, rising, each in (0, 1]."""
    workers: tuple[int, ...] = (1,)
    seeds: int = 3
    """How many seeds each (model, fraction, workers) is measured with; a seed moves subset, weights and batch order."""
    scaling_seeds: int = 1
    """How many of those seeds are also measured on later worker counts, which tell time, not accuracy."""
    strategy: Literal["grid", "adaptive"] = "grid"
    """``grid`` measures everything; ``adaptive`` what tells most per dollar, until the verdict is certain."""
    max_cost_usd: float | None = None
    probe_s: float = 0.3
    """Seconds of each part of the probe that tells whether compute, loader or storage is the limit; 0 leaves it out."""

    def __post_init__(self) -> None:
        checks = Checks()
        checks.require(0 <= self.probe_s <= 60, "probe_s", f"must lie in 0..60, got {self.probe_s:g}")
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

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    cpus_per_worker: int = 1
    gpus_per_worker: float = 0
    loader_workers: int = 0
    """Processes beside each worker that read and decode batches ahead; 0 reads in the training process, which is best
    for data that are mapped as arrays."""
    max_concurrent_trials: int | None = None
    """Upper bound on trials at once; None fills the cluster."""

    def __post_init__(self) -> None:
        checks = Checks()
        checks.require(self.cpus_per_worker >= 1, "cpus_per_worker", f"must be at least 1, got {self.cpus_per_worker}")
        checks.require(
            self.gpus_per_worker >= 0, "gpus_per_worker", f"must not be negative, got {self.gpus_per_worker}"
        )
        checks.require(
            0 <= self.loader_workers <= 256, "loader_workers", f"must lie in 0..256, got {self.loader_workers}"
        )
        checks.require(
            self.max_concurrent_trials is None or self.max_concurrent_trials >= 1,
            "max_concurrent_trials",
            f"must be at least 1, got {self.max_concurrent_trials}",
        )
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSpec:
    """How many checkpoints the full run keeps."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    keep: int = 2

    def __post_init__(self) -> None:
        checks = Checks()
        checks.require(self.keep >= 1, "keep", f"must be at least 1, got {self.keep}")
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class FullRunSpec:
    """The run that is being decided on."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    fraction: float = 1.0
    """The largest target, as a share of the training pool; above 1 asks about rows that are still to be collected."""
    smaller_targets: int = 3
    """Smaller targets between the largest swept fraction and ``fraction``, evenly spaced in the logarithm; 0 leaves
    them out."""
    workers: tuple[int, ...] = (1,)
    checkpoint: CheckpointSpec = field(default_factory=CheckpointSpec)
    deadline_h: float | None = None

    def __post_init__(self) -> None:
        checks = Checks()
        checks.require(
            0 < self.fraction <= MAX_FRACTION,
            "fraction",
            f"must lie above 0 and at most {MAX_FRACTION:g}, got {self.fraction:g} (1 is all of today's data)",
        )
        checks.require(
            0 <= self.smaller_targets <= 20, "smaller_targets", f"must lie in 0..20, got {self.smaller_targets}"
        )
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

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    min_gain_per_dollar: float
    """Gain of the metric (accuracy in 0..1, or loss) per US dollar of the full run."""
    metric: Metric = "accuracy"
    baseline: float | Literal["best_trial"] = "best_trial"
    """What the full run must beat: the best measured trial, or the metric of the model in production."""
    confidence: float = 0.9
    approval: Literal["review", "auto"] = "review"

    def __post_init__(self) -> None:
        checks = Checks()
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

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    max_cost_usd: float | None = None

    def __post_init__(self) -> None:
        checks = Checks()
        checks.positive(self.max_cost_usd, "max_cost_usd")
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingSpec:
    """Where MLflow keeps the mirror of the journal."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    uri: str = "sqlite:///mlflow.db"
    experiment: str | None = None
    """MLflow experiment name; None takes the config's ``name``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentSpec:
    """A whole config: sweep, forecast, price, verdict and, if it pays, the full run."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

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
    alerts: tuple[AlertSpec, ...] = ()
    runs_dir: str = "runs"
    """Folder of the journals; the run's own folder is ``runs_dir/name``."""

    def __post_init__(self) -> None:
        checks = Checks()
        checks.require(
            bool(NAME.fullmatch(self.name)), "name", f"{self.name!r} may hold only letters, digits, '.', '_' and '-'"
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
