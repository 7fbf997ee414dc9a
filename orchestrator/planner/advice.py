"""What to measure next for a verdict that is open, with its price and the chance that it settles the matter."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.special import ndtri

from orchestrator.errors import EvidenceError
from orchestrator.evidence import usable_results
from orchestrator.planner.design import chance_to_settle, joint_shares, refit_shares
from orchestrator.planner.estimate import estimate_sweep
from orchestrator.planner.evidence_points import contender_of
from orchestrator.planner.grid import plan_grid
from orchestrator.planner.outlook import Contender
from orchestrator.results import CandidateForecast, DataSummary, MeasurementAdvice, TrialResult
from orchestrator.spec import ExperimentSpec, TrialSpec
from orchestrator.subsets import subset_size

_WORTH_A_SIZE = 1.25
"""A new size below this factor over the largest tells less than repeats at the two largest."""


def advise(
    spec: ExperimentSpec, data: DataSummary, results: Sequence[TrialResult], forecast: CandidateForecast
) -> MeasurementAdvice:
    """What the plan still lacks of the candidate's model, else a larger size, else another seed.

    A larger size shortens the extrapolation and goes halfway, on the logarithmic axis the curve is fitted on, to the
    full run, but not beyond today's data; once that is less than a quarter more rows, repeats at the two largest sizes
    tell more than a new size.

    Args:
        spec: The config.
        data: The data set as prepared.
        results: All trials of the journal, or those of the model; at least one finished trial is the model's.
        forecast: Of the candidate in question.
    """
    model = forecast.candidate.model
    usable = usable_results(spec, data, results, model)
    description, trials = _proposed(spec, data, usable, forecast)
    return MeasurementAdvice(
        description=description,
        trials=trials,
        cost_usd=estimate_sweep(trials, usable, data).cost_usd,
        chance_to_settle=_chance(spec, data, usable, forecast, trials),
    )


def _proposed(
    spec: ExperimentSpec, data: DataSummary, usable: Sequence[TrialResult], forecast: CandidateForecast
) -> tuple[str, tuple[TrialSpec, ...]]:
    model, done = forecast.candidate.model, {result.trial for result in usable}
    left = tuple(trial for trial in plan_grid(spec, data) if trial.model == model and trial not in done)
    if left or not done:
        count = "1 trial" if len(left) == 1 else f"{len(left)} trials"
        return f"finish the sweep of {model}, {count} left", left
    fractions = sorted({trial.fraction for trial in done})
    workers, seeds = spec.sweep.workers[0], max(trial.seed for trial in done) + 1
    halfway = min(math.sqrt(fractions[-1] * spec.full_run.fraction), 1.0)
    if halfway >= _WORTH_A_SIZE * fractions[-1]:
        fraction = float(f"{halfway:.2g}")
        trials = tuple(TrialSpec(model=model, fraction=fraction, workers=workers, seed=seed) for seed in range(seeds))
        return f"{model} on a fraction of {fraction:g} with {seeds} seeds", trials
    sizes = " and ".join(f"{f:g}" for f in fractions[-2:])
    trials = tuple(TrialSpec(model=model, fraction=f, workers=workers, seed=seeds) for f in fractions[-2:])
    return f"{model} on {sizes} of the data with another seed (sweep.seeds: {seeds + 1})", trials


def _chance(
    spec: ExperimentSpec,
    data: DataSummary,
    usable: Sequence[TrialResult],
    forecast: CandidateForecast,
    trials: Sequence[TrialSpec],
) -> float | None:
    """None where no curve can be fitted yet."""
    first = spec.sweep.workers[0]
    sizes = [float(subset_size(data.n_train, trial.fraction)) for trial in trials if trial.workers == first]
    try:
        contender = contender_of(spec, data, usable, forecast)
        share = share_of_all(contender, sizes)
    except EvidenceError:
        return None  # fewer than two sizes: there is no curve whose variance could shrink
    mean, std = _moments(forecast)
    return chance_to_settle(mean, std, share * _curve_share(contender), spec.decision.confidence)


def share_of_all(contender: Contender, sizes: Sequence[float]) -> float:
    """Share of the variance of the value at the target that runs at all of the sizes remove together.

    One after the other, each coming out at its median: each removes its share of what those before it left.
    """
    left = 1.0
    for size in sizes:
        (joint,), (refit,) = joint_shares(contender, [size], None), refit_shares(contender, [size])
        left *= 1 - (joint + refit) / 2
        contender = contender.with_medians([size])
    return 1 - left


def _moments(forecast: CandidateForecast) -> tuple[float, float]:
    """Mean and deviation of the net value; in units of that deviation where only the probability is known."""
    net = forecast.net_value
    if net is None:
        return float(ndtri(min(max(forecast.probability, 1e-6), 1 - 1e-6))), 1.0
    z_edge = float(ndtri((1 + net.level) / 2))
    std = (net.high - net.low) / (2 * z_edge)
    # The verdict reads P(net >= 0): the mean of the normal that has it, not that of a skewed net value.
    return std * float(ndtri(min(max(forecast.probability, 1e-6), 1 - 1e-6))), std


def _curve_share(contender: Contender) -> float:
    """Share of the variance of the net value that is the curve's: trials tell nothing of one run's luck."""
    curve_var = float(contender.fit.worlds([contender.target_n])[0].var())
    noise_var, charge_var = contender.fit.noise_std**2, float(contender.charges.var())
    whole = curve_var + noise_var + charge_var
    return curve_var / whole if whole > 0 else 0.0
