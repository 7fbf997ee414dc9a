"""The whole grid of trials, and what is left of a plan.

The grid is ordered cheapest first: the curves take shape early, a fault of the task shows on the smallest subset, and
a sweep that is cut short leaves whole curves over the smaller sizes rather than one point at the largest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from orchestrator.results import DataSummary
from orchestrator.spec import ExperimentSpec, TrialSpec
from orchestrator.subsets import subset_size


def plan_grid(spec: ExperimentSpec, data: DataSummary) -> tuple[TrialSpec, ...]:
    """Every trial of the sweep, smallest subsets first.

    Within a fraction the first worker count comes first with every model and seed; the second and later worker counts
    tell time rather than accuracy, so only the first ``sweep.scaling_seeds`` seeds are measured with them. Fractions
    that come to the same number of rows are measured once, by the smallest.
    """
    trials: list[TrialSpec] = []
    seen_rows: set[int] = set()
    for fraction in spec.sweep.fractions:
        n_rows = subset_size(data.n_train, fraction)
        if n_rows in seen_rows:
            continue
        seen_rows.add(n_rows)
        for position, workers in enumerate(spec.sweep.workers):
            seeds = spec.sweep.seeds if position == 0 else spec.sweep.scaling_seeds
            trials += [
                TrialSpec(model=model.name, fraction=fraction, workers=workers, seed=seed)
                for seed in range(seeds)
                for model in spec.models
            ]
    return tuple(trials)


def remaining(
    plan: Sequence[TrialSpec], done_keys: Collection[str], key_of: Callable[[TrialSpec], str]
) -> tuple[TrialSpec, ...]:
    """The trials of a plan whose key is not done, in the plan's order."""
    return tuple(trial for trial in plan if key_of(trial) not in done_keys)


class ListedTrials:
    """`ports.TrialSource` of a fixed list, in its order."""

    def __init__(self, trials: Sequence[TrialSpec]) -> None:
        self._waiting = list(reversed(trials))

    def next(self, running: Sequence[TrialSpec]) -> TrialSpec | None:
        """The next of the list, whatever runs."""
        return self._waiting.pop() if self._waiting else None

    @property
    def n_left(self) -> int:
        return len(self._waiting)
