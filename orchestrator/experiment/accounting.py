"""Dollars and launches: what is spent, what a cap leaves, what a full run was billed."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
from scipy.special import stdtrit

from orchestrator.cost.full_run import RunSize, price_full_run
from orchestrator.cost.job import RunTime
from orchestrator.errors import BudgetError
from orchestrator.experiment.parts import Experiment
from orchestrator.intervals import format_usd
from orchestrator.ports import Evidence, FullRunResult
from orchestrator.progress import full_runs_usd
from orchestrator.results import Bill, CandidateForecast, Interval
from orchestrator.spec import ExperimentSpec

REFERENCE_LAUNCHES_S = (10.02, 11.47, 9.74, 10.78)
"""Ray Train jobs of the digits full run on one machine of 2 cores, 2026-11-23: wall time less the training's own."""


def caps_left_usd(spec: ExperimentSpec, evidence: Evidence) -> dict[str, tuple[float, float]]:
    """By config key, each cap that is set and what it leaves for further trials; negative once it is passed.

    Trials that a crash cut off, and full runs that were begun and have not ended, count with the most they may cost:
    nobody knows what they really did.
    """
    begun = sum(forecast.bill.capped_usd.high for forecast in evidence.open_full_runs)
    swept = evidence.trials_usd + sum(launch.reserved_usd or 0.0 for launch in evidence.cut_off)
    caps = {
        "sweep.max_cost_usd": (spec.sweep.max_cost_usd, swept),
        "budget.max_cost_usd": (spec.budget.max_cost_usd, swept + full_runs_usd(evidence) + begun),
    }
    return {key: (cap, cap - spent) for key, (cap, spent) in caps.items() if cap is not None}


def check_budget(experiment: Experiment, forecast: CandidateForecast) -> None:
    """Raises BudgetError: what is spent and what the full run may cost do not fit the cap together."""
    cap = experiment.spec.budget.max_cost_usd
    if cap is None:
        return
    _, left = caps_left_usd(experiment.spec, experiment.journal.view)["budget.max_cost_usd"]
    may_cost = forecast.bill.capped_usd.high
    # One that goes on where it was is counted already.
    left += sum(
        each.bill.capped_usd.high
        for each in experiment.journal.view.open_full_runs
        if each.candidate == forecast.candidate
    )
    if may_cost > left:
        raise BudgetError(
            f"budget.max_cost_usd is {format_usd(cap)}, {format_usd(cap - left)} is spent and the full run may cost "
            f"{format_usd(may_cost)}; raise the cap, or choose a cheaper candidate"
        )


def launch_interval(evidence: Evidence) -> Interval:
    """What launching the next full run takes beyond its training: from this experiment's own full runs, else ours.

    A prediction interval for one more launch, by Student's t on the logarithms; a single launch of one's own takes the
    spread of the reference.
    """
    own = [max(each.wall_time_s - each.training.time.total_s, 0.1) for each in evidence.outcomes]
    reference = np.log(REFERENCE_LAUNCHES_S)
    logs = np.log(own) if own else reference
    spread = float(np.std(logs if len(logs) > 1 else reference, ddof=1))
    freedom = max(len(logs), len(reference) if len(logs) == 1 else 0) - 1
    half_width = float(stdtrit(freedom, 0.95)) * spread * math.sqrt(1 + 1 / len(logs))
    middle = float(np.mean(logs))
    low, median, high = (math.exp(middle + side * half_width) for side in (-1, 0, 1))
    return Interval(low=low, median=median, high=high, mean=median)


def measured_bill(experiment: Experiment, forecast: CandidateForecast, run: FullRunResult) -> Bill:
    """The forecast's own bill, with measured time and checkpoint size in place of the expected ones."""
    spec, candidate = experiment.spec, forecast.candidate
    no_time = np.zeros(1)
    priced = price_full_run(
        RunTime(
            training_s=np.asarray([run.wall_time_s]),
            startup_s=no_time,
            checkpoint_interval_s=no_time,
            checkpoint_s=no_time,
        ),
        RunSize(
            checkpoint_bytes=run.training.checkpoint_bytes,
            checkpoint_keep=spec.full_run.checkpoint.keep,
            dataset_bytes=experiment.data.bytes_on_disk,
            log_bytes=len(json.dumps(asdict(run.training))),
        ),
        workers=candidate.workers,
        purchase=candidate.purchase,
        rates=experiment.rates,
        pricing=spec.pricing,
        rng=np.random.default_rng(0),
        is_over=True,
    )
    return priced.bill
