"""What cannot be run at all: worker counts beyond the cluster, subsets too small to train on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.errors import Fault
from orchestrator.results import DataSummary
from orchestrator.spec import ExperimentSpec
from orchestrator.subsets import subset_size


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterCapacity:
    """What the machine or cluster has for workers."""

    cpus: float
    gpus: float


def infeasible_workers(
    spec: ExperimentSpec, cluster: ClusterCapacity, *, full_run_is_local: bool = False
) -> tuple[Fault, ...]:
    """Worker counts that the cluster cannot hold, each with what was asked, what was found and the way out.

    Args:
        spec: The config.
        cluster: CPUs and GPUs there are.
        full_run_is_local: Whether the full run would start on this cluster too; then its workers are checked as well.
    """
    asked: dict[str, Sequence[int]] = {"sweep.workers": spec.sweep.workers}
    if full_run_is_local:
        asked["full_run.workers"] = spec.full_run.workers
    per_worker = {
        "CPU": (spec.resources.cpus_per_worker, cluster.cpus, "cpus_per_worker"),
        "GPU": (spec.resources.gpus_per_worker, cluster.gpus, "gpus_per_worker"),
    }
    return tuple(
        fault
        for key, counts in asked.items()
        for unit, (each, found, option) in per_worker.items()
        if (fault := _capacity_fault(key, counts, unit, each, found, option)) is not None
    )


def _capacity_fault(key: str, counts: Sequence[int], unit: str, each: float, found: float, option: str) -> Fault | None:
    too_many = [workers for workers in counts if workers * each > found]
    if not too_many:
        return None
    most = math.floor(found / each)
    fewer = f"ask for at most {most}" if most >= 1 else f"lower resources.{option}"
    return Fault(
        key,
        f"asks for {', '.join(str(w) for w in too_many)} workers of {each:g} {unit} each, "
        f"but the cluster has {found:g} {unit}s; {fewer}, or set RAY_ADDRESS to a larger cluster",
    )


def subset_faults(spec: ExperimentSpec, data: DataSummary) -> tuple[Fault, ...]:
    """Fractions whose subset cannot be trained on: fewer rows than one batch, or than there are classes."""
    needs: Mapping[str, int] = {
        "training.global_batch_size": spec.training.global_batch_size,
        "classes": len(data.class_counts),
    }
    faults = []
    for fraction in spec.sweep.fractions:
        n_rows = subset_size(data.n_train, fraction)
        rows = f"{n_rows} row" if n_rows == 1 else f"{n_rows} rows"
        short = [f"{name} ({need})" for name, need in needs.items() if n_rows < need]
        if short:
            least = max(needs.values()) / data.n_train
            raised = math.ceil(least * 1e4) / 1e4
            way_out = f"start at {raised:g} or above" if raised <= 1 else "the data are too few: lower the batch size"
            faults.append(
                Fault(
                    "sweep.fractions",
                    f"{fraction:g} is {rows}, fewer than {' and '.join(short)}; {way_out}",
                )
            )
    return tuple(faults)
