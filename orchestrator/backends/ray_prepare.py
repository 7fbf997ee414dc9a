"""`prepare` over a Ray cluster: its tasks run as a Ray Data pipeline, one piece group or one file per row.

Rows travel by way of a folder that every node reaches, not through the object store: what a task returns is a few
names. A task that is lost with its node is run again by Ray Data, and a file is renamed into place when it is whole.
"""

from __future__ import annotations

import logging
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.errors import DataError, OrchestratorError

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHECK_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class RaySpread:
    """A `Spread` over the cluster that this process is connected to."""

    n_processes: int

    @classmethod
    def of_cluster(cls) -> RaySpread:
        """As many tasks at once as the cluster has CPUs, and at least 2, so that nothing is kept in the driver."""
        import ray

        return cls(max(2, int(ray.cluster_resources().get("CPU", 1))))

    def check(self, folder: Path) -> None:
        """Raises DataError: a node cannot see what this process writes in the folder."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        probe = folder / f"probe-{uuid.uuid4().hex[:8]}"
        probe.write_text("")
        sees = ray.remote(num_cpus=0)(_exists)
        nodes = [node for node in ray.nodes() if node["Alive"]]
        asked = [
            sees.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                str(probe)
            )
            for node in nodes
        ]
        try:
            blind = [
                node["NodeManagerAddress"]
                for node, found in zip(nodes, ray.get(asked, timeout=_CHECK_TIMEOUT_S), strict=True)
                if not found
            ]
        finally:
            probe.unlink(missing_ok=True)
        if blind:
            raise DataError(
                f"{folder}: is not seen by {len(blind)} of {len(nodes)} nodes of the cluster ({', '.join(blind[:3])}); "
                "give a target on a file system that all of them share, or leave --ray out"
            )

    def __call__(self, task: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Results as they come. Raises what the task raised, where it is an error of ours."""
        import ray
        from ray import cloudpickle
        from ray.data import DataContext

        rows = [{"item": cloudpickle.dumps(item)} for item in items]
        run = _Run(cloudpickle.dumps(task))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray Data warns of its own defaults
            # The pipeline's own bars and plans would stand between our lines.
            logging.getLogger("ray.data").setLevel(logging.ERROR)
            DataContext.get_current().enable_progress_bars = False
            dataset = ray.data.from_items(rows, override_num_blocks=max(1, len(rows)))
            results = dataset.map(run.result_of, num_cpus=1).iter_rows()
        for row in results:
            result, error = cloudpickle.loads(row["result"])
            if error is not None:
                raise error
            yield result


@dataclass(frozen=True, slots=True)
class _Run:
    """A task as bytes, so that only Ray's own types travel through its blocks."""

    task: bytes

    def result_of(self, row: dict[str, Any]) -> dict[str, Any]:
        """The result of one item, or the error that a user can cause, for the driver to raise as it is."""
        from ray import cloudpickle

        try:
            outcome: tuple[Any, Exception | None] = (cloudpickle.loads(self.task)(cloudpickle.loads(row["item"])), None)
        except (OrchestratorError, OSError) as error:
            outcome = (None, error)
        return {"result": cloudpickle.dumps(outcome)}


def _exists(path: str) -> bool:
    return Path(path).exists()
