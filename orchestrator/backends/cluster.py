"""The Ray cluster of sweep and full run: one of our own on this machine, or the user's by ``RAY_ADDRESS``."""

from __future__ import annotations

import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from orchestrator.backends.worker_pool import PoolSize
from orchestrator.errors import InfeasibleError
from orchestrator.planner import ClusterCapacity
from orchestrator.spec import ExperimentSpec

_OBJECT_STORE_BYTES = 200 * 2**20
"""Data reaches workers as memory-mapped files, so the object store carries only requests and results."""


_RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's new default, said here so that it does not warn about it
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # every report waits for a health check: 2 s an epoch as shipped
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}


def local_capacity() -> ClusterCapacity:
    """CPUs this process may use and CUDA devices of this machine, without starting anything."""
    return ClusterCapacity(cpus=len(os.sched_getaffinity(0)), gpus=len(list(Path("/dev").glob("nvidia[0-9]*"))))


def is_remote() -> bool:
    """Whether the user points at a cluster of their own."""
    return bool(os.environ.get("RAY_ADDRESS"))


@dataclass(slots=True)
class RayCluster:
    """A connection to Ray; `close` ends it, and the cluster too when it was ours."""

    COORDINATOR_CPUS: ClassVar[float] = 0.1
    """Ray refuses a Tune trial without CPUs; this is its least."""

    capacity: ClusterCapacity
    dashboard_url: str | None = None

    @classmethod
    def connect(cls, temp_dir: Path | None = None) -> RayCluster:
        """Attach to ``RAY_ADDRESS``, or start a cluster on this machine.

        Raises: InfeasibleError: no cluster answers at ``RAY_ADDRESS``.
        """
        for name, value in _RAY_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        import ray

        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if is_remote():
                try:
                    ray.init(**quiet)
                except ConnectionError as error:
                    raise InfeasibleError(
                        f"RAY_ADDRESS={os.environ['RAY_ADDRESS']}: no Ray cluster answers there ({error}); "
                        "start it, correct the address, or unset RAY_ADDRESS to use this machine"
                    ) from error
                found = ray.cluster_resources()
                return cls(ClusterCapacity(cpus=int(found.get("CPU", 0)), gpus=int(found.get("GPU", 0))))
            capacity = local_capacity()
            # One logical CPU above the physical ones: coordinators wait, workers work.
            ray.init(
                address="local",
                num_cpus=capacity.cpus + 1,
                object_store_memory=_OBJECT_STORE_BYTES,
                include_dashboard=False,
                _temp_dir=str(temp_dir) if temp_dir else None,
                **quiet,
            )
            return cls(capacity)

    def pool_size(self, spec: ExperimentSpec) -> PoolSize:
        """As many warm workers as the cluster holds, and no more than the sweep can use at once."""
        resources = spec.resources
        fits = int(self.capacity.cpus // resources.cpus_per_worker)
        if resources.gpus_per_worker > 0:
            fits = min(fits, int(self.capacity.gpus / resources.gpus_per_worker))
        sweep = spec.sweep
        per_size = sweep.seeds + (len(sweep.workers) - 1) * sweep.scaling_seeds
        n_trials = len(spec.models) * len(sweep.fractions) * per_size
        groups = min(resources.max_concurrent_trials or fits, n_trials)
        return PoolSize(
            workers=max(min(fits, groups * max(spec.sweep.workers)), 1),
            cpus_per_worker=resources.cpus_per_worker,
            gpus_per_worker=resources.gpus_per_worker,
            max_groups=groups,
        )

    def close(self) -> None:
        """Disconnect; a cluster we started ends with all its processes."""
        import ray

        ray.shutdown()
