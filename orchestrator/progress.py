"""Where a sweep stands, told from records alone: trials, dollars of the cap that binds, seconds that are left.

    seconds left = worker-seconds that the trials left will take / workers at work at once

Worker-seconds left come from `planner.estimate_sweep`. How many workers are at work is measured too, from when trials
ran: a config says only how many may run side by side, not how many the cluster holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from orchestrator.planner import estimate_sweep, plan_grid
from orchestrator.ports import Evidence, SweepProgress
from orchestrator.results import DataSummary, TrialResult, Verdict
from orchestrator.spec import ExperimentSpec, TrialSpec, evidence_scope

_FAIR_SHARE = 0.05
"""Of the time: a trial that is noted a moment before the one it followed has ended overlaps with it for less."""


def sweep_progress(
    spec: ExperimentSpec,
    data: DataSummary,
    evidence: Evidence,
    *,
    running: Sequence[TrialSpec] = (),
    verdict: Verdict | None,
) -> SweepProgress:
    """Where the sweep of a config stands.

    Args:
        spec: The config; its grid is the most that a sweep measures.
        data: The data set as prepared.
        evidence: What the journal holds. Trials outside the grid count in dollars only.
        running: Trials that were launched and have not ended; empty where nobody can tell.
        verdict: What the evidence says so far, from the caller, because it takes half a second.
    """
    plan = plan_grid(spec, data)
    scopes = {model.name: evidence_scope(spec, data.fingerprint, model.name) for model in spec.models}
    own = [each for each in evidence.results if scopes.get(each.trial.model) == each.scope]
    finished = {each.trial for each in own if each.status == "finished"} & set(plan)
    failed = {each.trial for each in own if each.status == "failed"} & set(plan) - finished
    left = [trial for trial in plan if trial not in finished and (trial not in failed or trial in running)]
    spent_usd, cap_usd = _spent_of_cap(spec, evidence)
    return SweepProgress(
        n_done=len(finished),
        n_failed=len(failed),
        n_most=len(plan),
        running=tuple(running),
        spent_usd=spent_usd,
        cap_usd=cap_usd,
        left_s=_seconds_left(left, own, data, sum(trial.workers for trial in running)),
        verdict=verdict,
    )


def full_runs_usd(evidence: Evidence) -> float:
    """What providers billed for full runs, which the budget counts; the whole cost where nobody told it apart."""
    return sum(each.cost_usd if each.invoiced_usd is None else each.invoiced_usd for each in evidence.outcomes)


def _spent_of_cap(spec: ExperimentSpec, evidence: Evidence) -> tuple[float, float | None]:
    """Dollars that count against the cap with the least left, and that cap; the sweep's and None without a cap.

    ``sweep.max_cost_usd`` is about trials, ``budget.max_cost_usd`` about trials and full runs together.
    """
    trials_usd = evidence.trials_usd
    against = [
        (spec.sweep.max_cost_usd, trials_usd),
        (spec.budget.max_cost_usd, trials_usd + full_runs_usd(evidence)),
    ]
    caps = [(cap - spent, spent, cap) for cap, spent in against if cap is not None]
    return min(caps)[1:] if caps else (trials_usd, None)


def _seconds_left(
    left: Sequence[TrialSpec], own: Sequence[TrialResult], data: DataSummary, n_running_workers: int
) -> float | None:
    worker_seconds = 0.0
    # The estimate is of trial seconds: taken for each worker count by itself, it gives worker-seconds.
    for workers in sorted({trial.workers for trial in left}):
        alike = [trial for trial in left if trial.workers == workers]
        hours = estimate_sweep(alike, own, data).hours
        if hours is None:
            return None
        worker_seconds += hours * 3600 * workers
    return worker_seconds / max(_busy_workers(own), n_running_workers, 1)


def _busy_workers(results: Sequence[TrialResult]) -> int:
    """The most workers that were at work at once for a fair share of the time; 0 where no trial's times are known.

    The most and not the mean: of trials still running nothing is recorded, so that a mean over what has ended is low.
    """
    changes = []
    for each in results:
        if each.wall_time_s > 0 and (start := _seconds_of(each.started_at)) is not None:
            changes += [(start, each.trial.workers), (start + each.wall_time_s, -each.trial.workers)]
    changes.sort()
    held_s: defaultdict[int, float] = defaultdict(float)
    busy = 0
    for (at, change), (until, _) in pairwise(changes):
        busy += change
        held_s[busy] += until - at
    held_s.pop(0, None)
    enough_s = _FAIR_SHARE * sum(held_s.values())
    return max((n for n in held_s if sum(s for m, s in held_s.items() if m >= n) >= enough_s), default=0)


def _seconds_of(started_at: str) -> float | None:
    try:
        return datetime.fromisoformat(started_at).timestamp()
    except ValueError:  # a journal may come from anywhere; without its start a trial tells nothing about its neighbours
        return None
