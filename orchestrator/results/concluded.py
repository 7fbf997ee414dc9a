"""What was concluded: candidates with their forecasts, the verdict, the answer to it, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.results.measured import TrainingResult
from orchestrator.results.priced import Bill, Interval
from orchestrator.spec import Purchase, TrialSpec

Bottleneck = Literal["compute", "gradient sync", "data wait"]
"""The largest part of the steady time."""
SweepCause = Literal["plan done", "verdict certain", "cap reached", "nothing worth its price", "stopped by the user"]


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
        share = "all of the data" if self.fraction == 1 else f"{100 * self.fraction:.3g}% of the data"
        if self.fraction > 1:
            share = f"{self.fraction:.4g}x of today's data"
        return f"{self.model} on {share}, {self.workers} {plural}, {self.purchase.replace('_', '-')}"


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
    net_value: Interval | None = None
    """Gain less threshold times dollars, in units of the metric: not negative exactly when the run pays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """Candidates that none beats in expected gain and expected cost at once."""

    candidates: tuple[Candidate, ...]
    """By rising expected cost."""
    knee: Candidate | None
    """After it a dollar buys much less than before; None where the frontier has no bend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementAdvice:
    """Trials that would tell most about an open verdict."""

    description: str
    trials: tuple[TrialSpec, ...]
    cost_usd: float | None
    """From the measured cost of trials that are done; None when there are none."""
    chance_to_settle: float | None = None
    """P(the verdict is PROMOTE or REJECT once they are done), in [0, 1]; None where it cannot be told."""


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
    frontier: Frontier | None = None
    preference: str = ""
    """Which costlier candidate the best one was preferred to because it lies within the noise, in a sentence."""
    assumptions: tuple[str, ...] = ()
    """What the config supposes and nobody measured, in sentences."""
    next_measurement: MeasurementAdvice | None = None
    """HOLD only."""
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
    override: str | None = None
    """Why the full run may start although the verdict is not PROMOTE; None where it is."""
    source: Literal["command line", "MLflow tag", "config"] = "command line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """A rehearsal of something that must work when it is needed."""

    name: Literal["alert", "restart", "restore"]
    passed: bool
    evidence: str
    at: str
    """UTC, ISO 8601."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedModel:
    """A model that an adaptive sweep no longer measures."""

    model: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepEnd:
    """Why a sweep launched no further trial."""

    cause: SweepCause
    reason: str
    """One sentence."""
    n_trials: int
    """In the journal by then."""
    n_grid: int
    """That the whole grid would have been."""
    spent_usd: float
    dropped: tuple[DroppedModel, ...] = ()
    withdrawn: tuple[str, ...] = ()
    """Keys of trials that were launched and called back before they began."""


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
