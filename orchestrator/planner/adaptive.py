"""Which trial an adaptive sweep runs next, or why it ends.

    start    for every model, cheapest first: two seeds at the two smallest sizes and one at the third, for level,
             slope, bend, noise; and one trial on several workers beside one on one, where the full run asks for it
    then     `deliberation`: the trial that tells most per dollar, until the verdict is certain or nothing is worth it
    always   within the cap: what a trial may cost at worst must fit what is left of it

Pure, and quick enough for the driver's loop between two trials: the same journal always gives the same step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.evidence import usable_results
from orchestrator.intervals import format_probability, format_usd
from orchestrator.planner.deliberation import LEAST_CHANCE, N_GRIDS, Thought, deliberate
from orchestrator.planner.design import Option
from orchestrator.planner.estimate import estimate_sweep
from orchestrator.planner.evidence_points import contender_of, leading, time_shares
from orchestrator.planner.grid import plan_grid
from orchestrator.planner.outlook import Contender, Kind, Stake
from orchestrator.planner.reserve import worst_case_usd
from orchestrator.results import CandidateForecast, DataSummary, DroppedModel, TrialResult, Verdict
from orchestrator.spec import ExperimentSpec, TrialSpec
from orchestrator.subsets import subset_size

Cause = Literal["plan done", "verdict certain", "cap reached", "nothing worth its price"]

START = (2, 2, 1)
"""Seeds at the smallest sizes: three sizes for three parameters, and two pairs for the noise."""
MIN_SIZES = 3
"""For a forecast."""
PROVEN_SIZES, PROVEN_SEEDS, BACKTESTED_SIZES = 3, 2, 4
"""What a promotion rests on: so many sizes with so many seeds (checklist item C3), and sizes for a backtest."""
_LIFTED_BY_TRIALS = frozenset(
    {"checklist: C3 benchmark on subsamples", "extrapolating too far", "several workers never tried",
     "backtest missed", "ill-behaved curve", "gain below the noise floor"}
)  # fmt: skip
"""Vetoes that more trials can lift."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What an adaptive sweep does next; neither a trial nor an end means: wait for a running trial."""

    trial: TrialSpec | None = None
    end: Cause | None = None
    reason: str
    """One sentence."""
    dropped: tuple[DroppedModel, ...] = ()
    reserved_usd: float | None = None
    """What the trial may cost at worst; None when nothing tells, and it then runs alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Desk:
    """What one step is decided on."""

    spec: ExperimentSpec
    data: DataSummary
    results: Sequence[TrialResult]
    running: Sequence[TrialSpec]
    pool: tuple[TrialSpec, ...]
    worst_usd: Callable[[TrialSpec], float | None]
    cap_left_usd: float | None

    def rows(self, trial: TrialSpec) -> int:
        return subset_size(self.data.n_train, trial.fraction)

    def usd(self, trial: TrialSpec) -> float:
        """Expected dollars; rows times workers where nothing is measured, which orders trials of one model."""
        own = [result for result in self.results if result.trial.model == trial.model]
        expected = estimate_sweep([trial], own, self.data).cost_usd
        return float(self.rows(trial) * trial.workers) if expected is None else expected

    def fits(self, trial: TrialSpec) -> bool:
        """Within the cap, at worst; what nobody can price runs alone and while something is left."""
        worst = self.worst_usd(trial)
        if worst is None:
            return not self.running and (self.cap_left_usd is None or self.cap_left_usd > 0)
        return self.cap_left_usd is None or worst <= self.cap_left_usd


def next_trial(
    spec: ExperimentSpec,
    data: DataSummary,
    results: Sequence[TrialResult],
    *,
    running: Sequence[TrialSpec] = (),
    verdict: Verdict | None = None,
    samples_per_s: Mapping[str, float] | None = None,
    usd_per_worker_s: float | None = None,
    cap_left_usd: float | None = None,
    n_grids: int = N_GRIDS,
) -> Step:
    """The next step of an adaptive sweep.

    Args:
        spec: The config; the grid of its sweep is the pool.
        data: The data set as prepared.
        results: Trials that ended. One that failed is not tried again; leave it out to try it once more.
        running: Trials launched that have not ended; taken as if they had come out at their median.
        verdict: `decision.decide` on ``results``; None while nothing can be forecast.
        samples_per_s: What one worker trains, by model, from the probe.
        usd_per_worker_s: What a worker costs; with ``samples_per_s`` it bounds a model's first trials.
        cap_left_usd: Dollars left once spent and reserved ones are taken off; None without a cap.
        n_grids: Drawn grids behind a stop; see `deliberation.N_GRIDS`.
    """
    # In one order, because a sum of floats in another one may break a tie.
    results = sorted(results, key=lambda result: (str(result.trial), result.key, result.started_at))
    gone = {result.trial for result in results} | set(running)
    paces = samples_per_s or {}

    def worst(trial: TrialSpec) -> float | None:
        pace = paces.get(trial.model)
        return worst_case_usd(trial, results, data, spec, samples_per_s=pace, usd_per_worker_s=usd_per_worker_s)

    desk = _Desk(
        spec=spec, data=data, results=results, running=running, worst_usd=worst, cap_left_usd=cap_left_usd,
        pool=tuple(trial for trial in plan_grid(spec, data) if trial not in gone),
    )  # fmt: skip
    if not desk.pool:
        return _ended(desk, "plan done", "every trial of the grid has run")
    first = _start(desk)
    if first is not None:
        return _launch(desk, [first], "the starting design: sizes, seeds and workers that every forecast needs")
    if verdict is None:
        cheapest = sorted(desk.pool, key=lambda trial: (desk.usd(trial), str(trial)))
        return _launch(desk, cheapest, "no model can be forecast yet: the cheapest trial that is left")
    return _deliberated(desk, verdict, n_grids)


def starting_design(spec: ExperimentSpec, data: DataSummary) -> tuple[TrialSpec, ...]:
    """The trials every adaptive sweep begins with, of all models."""
    plan = plan_grid(spec, data)
    chosen = []
    for model in spec.models:
        for fraction, workers, seeds in _starting_cells(spec, data):
            cell = (model.name, fraction, workers)
            chosen += [t for t in plan if (t.model, t.fraction, t.workers) == cell][:seeds]
    return tuple(chosen)


def _start(desk: _Desk) -> TrialSpec | None:
    """The cheapest trial that the starting design lacks."""
    counted = [result.trial for result in desk.results if result.status == "finished"] + list(desk.running)
    lacking = []
    for model in desk.spec.models:
        for fraction, workers, seeds in _starting_cells(desk.spec, desk.data):
            cell = (model.name, fraction, workers)
            if sum((t.model, t.fraction, t.workers) == cell for t in counted) < seeds:
                lacking += [t for t in desk.pool if (t.model, t.fraction, t.workers) == cell][:1]
    return min(lacking, key=lambda trial: (desk.rows(trial) * trial.workers, trial.seed), default=None)


def _starting_cells(spec: ExperimentSpec, data: DataSummary) -> list[tuple[float, int, int]]:
    """Fraction, workers and seeds, for each model."""
    sweep = spec.sweep
    fractions = sorted({trial.fraction for trial in plan_grid(spec, data)})
    cells = [(fraction, sweep.workers[0], seeds) for fraction, seeds in zip(fractions, START, strict=False)]
    several = [workers for workers in sweep.workers if workers > 1]
    if several and max(spec.full_run.workers) > 1:
        cells.append((fractions[min(1, len(fractions) - 1)], max(several), 1))
    return cells


def _deliberated(desk: _Desk, verdict: Verdict, n_grids: int) -> Step:
    spec = desk.spec
    if verdict.kind == "REJECT" and verdict.best.probability > 1 - verdict.confidence + 1e-12:
        return _ended(desk, "verdict certain", "budget or deadline cannot be kept, and no trial changes that")
    leads = {model.name: lead for model in spec.models if (lead := leading(verdict, model.name)) is not None}
    contenders = [_with_running(desk, contender_of(spec, desk.data, desk.results, lead)) for lead in leads.values()]
    options = [_option(desk, trial) for trial in desk.pool if trial.model in leads]
    held = sorted({veto.name for veto in verdict.vetoes} - _LIFTED_BY_TRIALS)
    now: Kind = "PROMOTE" if held and verdict.best.probability >= verdict.confidence else verdict.kind
    own = [option for option in options if option.trial.model == verdict.best.candidate.model]
    thought = deliberate(
        contenders, options, _stake(spec, verdict), now=now, threshold=verdict.threshold,
        needed=_needed(desk, verdict, own), affordable=[option for option in options if desk.fits(option.trial)],
        time_shares=time_shares(spec, desk.data, desk.results, leads, options), n_grids=n_grids,
    )  # fmt: skip
    dropped = tuple(_dropped(name, chance, leads[name]) for name, chance in thought.dropped)
    return _step(desk, thought, dropped, held if now != verdict.kind else [])


def _step(desk: _Desk, thought: Thought, dropped: tuple[DroppedModel, ...], held: Sequence[str]) -> Step:
    if thought.option is not None:
        return _launch(desk, [thought.option.trial], thought.reason, dropped)
    if thought.end == "verdict certain" and held:
        reason = f"the odds are certain, and no trial lifts what holds the verdict back: {', '.join(held)}"
        return _ended(desk, "nothing worth its price", reason, dropped)
    if thought.end is not None:
        return _ended(desk, thought.end, thought.reason, dropped)
    return _no_room(desk, dropped)


def _stake(spec: ExperimentSpec, verdict: Verdict) -> Stake:
    baseline = spec.decision.baseline
    level = None if baseline == "best_trial" else float(baseline)
    if level is not None and spec.decision.metric == "accuracy":
        level = 1 - level
    return Stake(baseline=level, confidence=verdict.confidence)


def _with_running(desk: _Desk, contender: Contender) -> Contender:
    first = desk.spec.sweep.workers[0]
    own = [float(desk.rows(t)) for t in desk.running if t.model == contender.model and t.workers == first]
    return contender.with_medians(own)


def _option(desk: _Desk, trial: TrialSpec) -> Option:
    return Option(
        trial=trial, n_samples=float(desk.rows(trial)), usd=desk.usd(trial),
        is_for_time=trial.workers != desk.spec.sweep.workers[0],
    )  # fmt: skip


def _needed(desk: _Desk, verdict: Verdict, own: Sequence[Option]) -> list[Option]:
    """Trials of the best model without which it is not promoted, the most urgent first."""
    if any(veto.name == "several workers never tried" for veto in verdict.vetoes):
        return [option for option in own if option.trial.workers > 1]
    model, workers = verdict.best.candidate.model, desk.spec.sweep.workers[0]
    usable = usable_results(desk.spec, desk.data, desk.results, model)
    seeds: dict[float, set[int]] = {}
    for trial in [result.trial for result in usable] + [t for t in desk.running if t.model == model]:
        seeds.setdefault(float(desk.rows(trial)), set()).add(trial.seed)
    size = unproven_size({n: len(found) for n, found in seeds.items()}, [o.n_samples for o in own if not o.is_for_time])
    return [option for option in own if option.n_samples == size and option.trial.workers == workers]


def unproven_size(seeds: Mapping[float, int], left: Sequence[float]) -> float | None:
    """The size to measure next so that a promotion rests on enough, of those left; None when it does already.

    Args:
        seeds: Seeds measured of each size.
        left: Sizes of the trials that are left.
    """
    if sum(count >= PROVEN_SEEDS for count in seeds.values()) < PROVEN_SIZES:
        return min((n for n in left if seeds.get(n, 0) < PROVEN_SEEDS), default=None)
    if len(seeds) < BACKTESTED_SIZES:
        return min((n for n in left if n not in seeds), default=None)
    return None


def _dropped(model: str, chance: float, lead: CandidateForecast) -> DroppedModel:
    odds = format_probability(chance, LEAST_CHANCE)
    return DroppedModel(
        model=model,
        reason=(
            f"its chance to be the best candidate is {odds}, below {LEAST_CHANCE:g}: {lead.metric.low:.4g} to "
            f"{lead.metric.high:.4g} is expected of it (90%) for {format_usd(lead.cost_usd.mean)}"
        ),
    )


def _launch(desk: _Desk, wanted: Sequence[TrialSpec], reason: str, dropped: tuple[DroppedModel, ...] = ()) -> Step:
    for trial in wanted:
        if desk.fits(trial):
            return Step(trial=trial, reason=reason, dropped=dropped, reserved_usd=desk.worst_usd(trial))
    return _no_room(desk, dropped)


def _no_room(desk: _Desk, dropped: tuple[DroppedModel, ...]) -> Step:
    if desk.running:
        return Step(reason="waiting for a running trial", dropped=dropped)
    left = "nothing" if desk.cap_left_usd is None else format_usd(max(desk.cap_left_usd, 0.0))
    return Step(
        end="cap reached", reason=f"{left} is left of the cap, and no further trial is sure to fit", dropped=dropped
    )


def _ended(desk: _Desk, cause: Cause, reason: str, dropped: tuple[DroppedModel, ...] = ()) -> Step:
    """An end is told once nothing runs: what is still running may change it."""
    if desk.running:
        return Step(reason=f"waiting for a running trial: {reason}", dropped=dropped)
    return Step(end=cause, reason=reason, dropped=dropped)
