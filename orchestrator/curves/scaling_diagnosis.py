"""What more workers bring to one training, in plain data: time, speedup, efficiency and bottleneck of each candidate.

    speedup(w) = time(w_min) / time(w),    parallel efficiency(w) = speedup(w) * w_min / w

with times of a typical run, start-up included, and w_min the smallest candidate. Super-linear steps have an efficiency
above 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.curves.time_model import TimeModel
from orchestrator.errors import EvidenceError
from orchestrator.results import Bottleneck, ScalingDiagnosis, WorkerScaling

_WAYS_OUT: dict[Bottleneck, str] = {
    "compute": "faster processors shorten it, and more workers as far as they pay",
    "gradient sync": "a larger global batch or a faster network shortens it, more workers do not",
    "data wait": "faster reading (prepared data, local disk, more reader threads) shortens it, more workers do not",
}

_TOLD_APART = 0.02
"""A run that takes longer by less is not called slower: replicates differ by as much (0.019 in C3O)."""


def diagnose_scaling(
    model: TimeModel,
    *,
    n_samples: int,
    epochs: int,
    global_batch_size: int,
    candidates: Sequence[int],
    min_marginal_efficiency: float = 0.5,
) -> ScalingDiagnosis:
    """Put the candidate worker counts of one full run side by side.

    Args:
        model: Fitted to the trials.
        n_samples: Rows of the training set.
        epochs: Passes over it.
        global_batch_size: Rows per optimiser step over all workers.
        candidates: Worker counts, in any order, repeats allowed.
        min_marginal_efficiency: As `TimeModel.largest_useful_workers`.
    Raises: EvidenceError: No candidate, or a count below 1.
    """
    if not candidates:
        raise EvidenceError("candidates is empty; pass the worker counts to choose from, e.g. full_run.workers")
    ordered = sorted(set(candidates))
    run = {"n_samples": n_samples, "epochs": epochs, "global_batch_size": global_batch_size}
    seconds = {w: model.median_total_s(**run, workers=w) for w in ordered}
    scalings = []
    for w in ordered:
        phases = model.steady_medians(**run, workers=w)
        others = model.other_medians(**run, workers=w)
        leading = max(phases, key=lambda name: phases[name])
        speedup = seconds[ordered[0]] / seconds[w]
        scalings.append(
            WorkerScaling(
                workers=w,
                median_total_s=seconds[w],
                speedup=speedup,
                parallel_efficiency=speedup * ordered[0] / w,
                bottleneck=leading,
                bottleneck_share=phases[leading] / sum(phases.values()),
                validation_share=others["validation"] / seconds[w],
                checkpoint_share=others["checkpoint"] / seconds[w],
                measured=w in model.rates,
            )
        )
    useful = model.largest_useful_workers(**run, candidates=ordered, min_marginal_efficiency=min_marginal_efficiency)
    return ScalingDiagnosis(
        candidates=tuple(scalings),
        largest_useful_workers=useful,
        min_marginal_efficiency=min_marginal_efficiency,
        findings=tuple(_findings(scalings, useful, model.workers, min_marginal_efficiency)),
    )


def _findings(
    scalings: Sequence[WorkerScaling], useful: int, measured: Sequence[int], min_marginal_efficiency: float
) -> list[str]:
    found = [_of_use(scalings, useful, min_marginal_efficiency)]
    found += _bottlenecks(scalings)
    fastest = min(scalings, key=lambda each: each.median_total_s)
    if scalings[-1].median_total_s > (1 + _TOLD_APART) * fastest.median_total_s:
        found.append(
            f"the fastest run is on {_workers(fastest.workers)}; on {scalings[-1].workers} it would take longer"
        )
    guessed = [each.workers for each in scalings if not each.measured]
    if guessed:
        found.append(
            f"{_listed(guessed)} not measured: extrapolated from {_listed(list(measured))}; a trial there would tell"
        )
    if max(measured) == 1 and scalings[-1].workers > 1:
        found.append(
            "gradient sync was never measured, more workers may even be slower than one; run trials on 2 first"
        )
    return found


def _of_use(scalings: Sequence[WorkerScaling], useful: int, min_marginal_efficiency: float) -> str:
    last = next(each for each in scalings if each.workers == useful)
    if useful == scalings[-1].workers:
        return f"every step up to {_workers(useful)} pays: speedup {last.speedup:.2f}"
    after = next(each for each in scalings if each.workers > useful)
    gain, ideal = after.speedup / last.speedup - 1, after.workers / useful - 1
    return (
        f"{_workers(useful)} at most: the step to {after.workers} brings {gain:+.0%} speed for {ideal:.0%} more "
        f"workers, less than the {min_marginal_efficiency * ideal:.0%} asked for"
    )


def _bottlenecks(scalings: Sequence[WorkerScaling]) -> list[str]:
    """A sentence for each stretch of worker counts with the same leading phase."""
    found: list[str] = []
    start = 0
    for i, each in enumerate(scalings):
        if i + 1 < len(scalings) and scalings[i + 1].bottleneck == each.bottleneck:
            continue
        first = scalings[start]
        span = str(first.workers) if start == i else f"{first.workers} to {each.workers}"
        on = f"on {span} {'worker' if span == '1' else 'workers'}"
        share = f"{each.bottleneck_share:.0%} of the steady time" + ("" if start == i else f" on {each.workers}")
        found.append(f"{on} {each.bottleneck} leads, {share}; {_WAYS_OUT[each.bottleneck]}")
        start = i + 1
    return found


def _workers(count: int) -> str:
    return f"{count} worker" if count == 1 else f"{count} workers"


def _listed(counts: Sequence[int]) -> str:
    return ", ".join(map(str, counts))
