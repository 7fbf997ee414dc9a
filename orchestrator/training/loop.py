"""Training of one rank: the loop for supervised tasks, and the one door all backends train through.

`train` is called with the same arguments by a sweep trial on a warm worker, by Ray Train on each rank of the full run,
and in process; the process group, when there is one, exists before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, Subset

from orchestrator.results import EpochPoint, TrainingResult
from orchestrator.spec import ExperimentSpec
from orchestrator.training.checkpoints import MemoryCheckpoints
from orchestrator.training.request import SmokeResult, TrainRequest
from orchestrator.training.run import CheckpointStore, TrainingRun
from orchestrator.training.task import Datasets, SupervisedTask, cached_task


def train(
    request: TrainRequest,
    *,
    checkpoints: CheckpointStore,
    on_epoch: Callable[[EpochPoint], None] | None = None,
    device: torch.device | None = None,
    started_at: float | None = None,
) -> tuple[TrainingResult, dict[str, Any]]:
    """Train one model as asked and return its result and final weights.

    ``started_at`` (``time.perf_counter``) charges what the caller did before, such as joining a group, to start-up.

    Raises: TaskError: the task breaks the protocol or diverges. Whatever the user's code raises passes through.
    """
    model = request.spec.model(request.trial.model)
    task, datasets = cached_task(request.spec, request.data_root)
    run = TrainingRun(
        model=model,
        training=request.spec.training,
        fraction=request.trial.fraction,
        seed=request.trial.seed,
        fingerprint=request.fingerprint,
        datasets=datasets,
        checkpoints=checkpoints,
        device=device or default_device(request.spec),
        on_epoch=on_epoch,
        started_at=started_at,
        loader_workers=request.spec.resources.loader_workers,
    )
    try:
        if isinstance(task, SupervisedTask):
            fit(run, task, datasets)
        else:
            task.train(run)
    finally:
        run.close()
    return run.finish(), run.final_model_state()


def default_device(spec: ExperimentSpec) -> torch.device:
    """CUDA when the config gives workers a GPU, else the CPU."""
    return (
        torch.device("cuda", torch.cuda.current_device()) if spec.resources.gpus_per_worker > 0 else torch.device("cpu")
    )


def fit(run: TrainingRun, task: SupervisedTask, datasets: Datasets) -> None:
    network = task.build_model(run.model)
    loader = run.loader(run.subset(datasets.train))
    optimizer, schedule = task.optimizer(network, run.training, len(loader) * run.training.epochs)
    stateful = (optimizer,) if schedule is None else (optimizer, schedule)
    parallel = run.prepare(network, *stateful)
    for _ in run.epochs():
        parallel.train()
        seen = _Tally(run)
        for inputs, targets in loader:
            outputs = parallel(inputs)
            loss = task.loss(outputs, targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
            seen.add(loss.detach(), task.correct(outputs.detach(), targets), len(targets))
        train_loss, train_accuracy = seen.means()
        validation_loss, validation_accuracy = _validate(run, task, network, datasets)
        run.report(
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            validation_loss=validation_loss,
            validation_accuracy=validation_accuracy,
        )


class _Tally:
    """Losses and hits, step by step on the device; they are summed, and leave it, once per epoch."""

    def __init__(self, run: TrainingRun) -> None:
        self._device = run.device
        self._losses: list[torch.Tensor] = []
        self._hits: list[torch.Tensor] = []
        self._counts: list[int] = []

    def add(self, mean_loss: torch.Tensor, correct: torch.Tensor | None, count: int) -> None:
        self._losses.append(mean_loss)
        self._counts.append(count)
        if correct is not None:
            self._hits.append(correct)

    def means(self) -> tuple[float, float | None]:
        """Mean loss and accuracy over all ranks."""
        sums = torch.zeros(3, dtype=torch.float64, device=self._device)
        if self._counts:
            counts = torch.tensor(self._counts, dtype=torch.float64, device=self._device)
            sums[0], sums[2] = torch.stack(self._losses).double() @ counts, counts.sum()
        if self._hits:
            sums[1] = torch.stack(self._hits).sum()
        if dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(sums)
        loss, hits, count = sums.tolist()
        has_accuracy = bool(self._hits) or not self._counts  # a rank without rows takes the word of the others
        return loss / max(count, 1.0), hits / max(count, 1.0) if has_accuracy else None


@torch.no_grad()
def _validate(
    run: TrainingRun, task: SupervisedTask, network: nn.Module, datasets: Datasets
) -> tuple[float, float | None]:
    network.eval()
    seen = _Tally(run)
    rows = range(run.rank, len(datasets.validation), run.world_size)  # type: ignore[arg-type]  # map-style
    shard = Subset(datasets.validation, rows)
    # The training batch fits the memory and the processor's cache: 1,024 rows were 3 times slower on a CPU.
    for inputs, targets in DataLoader(shard, run.training.global_batch_size, collate_fn=datasets.collate):
        inputs, targets = inputs.to(run.device), targets.to(run.device)
        outputs = network(inputs)
        seen.add(task.loss(outputs, targets), task.correct(outputs, targets), len(targets))
    return seen.means()


def smoke(request: TrainRequest) -> SmokeResult:
    """Train one epoch on one batch, alone or as a rank of a group: the cheapest proof that a configuration works.

    Raises: TaskError: the task breaks the protocol. Whatever the user's code raises passes through.
    """
    _, datasets = cached_task(request.spec, request.data_root)
    rows = len(datasets.train)  # type: ignore[arg-type]  # map-style data sets have a length
    batch = min(request.spec.training.global_batch_size, rows)
    one_batch = replace(
        request.spec, training=replace(request.spec.training, epochs=1, early_stopping=None, global_batch_size=batch)
    )
    checkpoints = MemoryCheckpoints()
    trial = replace(request.trial, fraction=max(batch / rows, 1e-9), workers=1)
    _, state = train(replace(request, spec=one_batch, trial=trial), checkpoints=checkpoints)
    return SmokeResult(
        n_parameters=sum(value.numel() for value in state.values() if isinstance(value, torch.Tensor)),
        checkpoint_bytes=checkpoints.bytes_written,
    )
