#!/usr/bin/env python
"""What the orchestrator adds to the training it manages.

    python scripts/bench_overhead.py configs/vision.yaml [KEY=VALUE ...] [--repeats 3]

For each repeat, in one run and in turn: the trials of the config in bare torch (a plain loop in as many warm processes
as the sweep has workers, the same rows, models, batches and validations), then the same trials through the sweep with
warm workers, then the whole command cold from a new process. Printed are the ratios to bare torch and where the rest
goes.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from orchestrator.backends.cluster import RayCluster
from orchestrator.backends.ray_tune import RayTuneRunner
from orchestrator.config import load_config
from orchestrator.data.prepared import open_prepared, prepare
from orchestrator.planner import ListedTrials, plan_grid
from orchestrator.results import TrialResult
from orchestrator.spec import ExperimentSpec, TrialSpec
from orchestrator.subsets import nested_order, subset_size


def bare_trial(spec: ExperimentSpec, root: Path, trial: TrialSpec, rank: int, address: str) -> None:
    """One trial as one would write it by hand: DDP when it has several ranks, no clock, no checkpoint, no report."""
    import torch.distributed as dist

    if trial.workers == 1:
        bare_training(spec, root, trial, rank)
        return
    dist.init_process_group("gloo", init_method=f"tcp://{address}", rank=rank, world_size=trial.workers)
    try:
        bare_training(spec, root, trial, rank)
    finally:
        dist.destroy_process_group()  # after DDP itself is gone: freeing it later waits for ever


def bare_training(spec: ExperimentSpec, root: Path, trial: TrialSpec, rank: int) -> None:
    import numpy as np
    import torch
    import torch.distributed as dist
    from torch import nn

    from orchestrator.tasks.vision import ImageClassification

    torch.manual_seed(trial.seed)
    data = open_prepared(root)
    task = ImageClassification(data)
    sets = task.datasets()
    order = nested_order(sets.train_labels, fingerprint=data.summary.fingerprint, seed=trial.seed)
    rows = order[: subset_size(len(order), trial.fraction)]
    world, batch = trial.workers, spec.training.global_batch_size
    model: nn.Module = task.build_model(spec.model(trial.model))
    parallel = nn.parallel.DistributedDataParallel(model) if world > 1 else model
    steps = -(-len(rows) // batch)
    optimizer, schedule = task.optimizer(model, spec.training, steps * spec.training.epochs)
    validation = np.arange(len(sets.validation))[rank::world]
    best, since_best = float("inf"), 0
    for epoch in range(spec.training.epochs):
        shuffled = rows[np.random.default_rng([trial.seed, epoch]).permutation(len(rows))]
        parallel.train()
        for start in range(0, len(shuffled), batch):
            share = shuffled[start : start + batch]
            share = share[: len(share) - len(share) % world][rank::world] if len(share) < batch else share[rank::world]
            if not len(share):
                continue
            inputs, targets = sets.train.__getitems__(share.tolist())
            loss = nn.functional.cross_entropy(parallel(inputs), targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
        model.eval()
        with torch.no_grad():
            total = torch.zeros(1)
            for start in range(0, len(validation), batch):
                inputs, targets = sets.validation.__getitems__(validation[start : start + batch].tolist())
                total += nn.functional.cross_entropy(model(inputs), targets, reduction="sum")
        if world > 1:
            dist.all_reduce(total)
        stopping = spec.training.early_stopping
        since_best, best = (0, float(total)) if float(total) < best else (since_best + 1, best)
        if stopping is not None and since_best >= stopping.patience:
            break


def bare_process(spec: ExperimentSpec, root: Path, inbox: Any, outbox: Any) -> None:
    """A warm process that trains whatever is put into its inbox."""
    import torch

    torch.set_num_threads(spec.resources.cpus_per_worker)
    warm = TrialSpec(model=spec.models[0].name, fraction=min(spec.sweep.fractions), workers=1, seed=0)
    bare_trial(spec, root, warm, 0, "")
    outbox.put("ready")
    while (job := inbox.get()) is not None:
        bare_trial(spec, root, *job)
        outbox.put("done")


def bare_seconds(spec: ExperimentSpec, root: Path, trials: tuple[TrialSpec, ...], processes: int) -> float:
    """Wall time of all trials in bare torch: single-worker ones side by side, then those that need all processes."""
    context = mp.get_context("spawn")
    shared, outbox = context.Queue(), context.Queue()
    alone = [trial for trial in trials if trial.workers == 1]
    together = [trial for trial in trials if trial.workers > 1]
    workers = [context.Process(target=bare_process, args=(spec, root, shared, outbox)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    for _ in workers:
        outbox.get()
    begun = time.perf_counter()
    for trial in alone:
        shared.put((trial, 0, ""))
    for _ in alone:
        outbox.get()
    for trial in together:
        address = free_address()
        for rank in range(trial.workers):
            shared.put((trial, rank, address))
        for _ in range(trial.workers):
            outbox.get()
    seconds = time.perf_counter() - begun
    for _ in workers:
        shared.put(None)
    for worker in workers:
        worker.join()
    return seconds


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def warm_seconds(spec: ExperimentSpec, root: Path, fingerprint: str, trials: tuple[TrialSpec, ...]) -> dict[str, float]:
    """Wall time of the trials through Ray Tune and the warm pool, and its parts."""
    marks = {"start": time.perf_counter()}
    cluster = RayCluster.connect()
    marks["ray"] = time.perf_counter()
    runner = RayTuneRunner(spec, fingerprint=fingerprint, data_root=root, cluster=cluster)
    marks["pool"] = time.perf_counter()
    runner.smoke()
    marks["smoke"] = time.perf_counter()
    results: list[TrialResult] = []
    first_at: list[float] = []

    def keep(result: TrialResult) -> bool:
        if not first_at:
            first_at.append(time.perf_counter() - result.wall_time_s)
        results.append(result)
        return True

    runner.run(ListedTrials(trials), keep)
    marks["end"] = last = time.perf_counter()
    runner.close()
    cluster.close()
    failed = [result.error for result in results if result.status == "failed"]
    if failed:
        raise SystemExit(f"{len(failed)} trials failed: {failed[0]}")
    busy = sum(result.wall_time_s * result.trial.workers for result in results)
    inside = sum(result.training.time.total_s * result.trial.workers for result in results if result.training)
    started = sum(result.training.time.startup_s * result.trial.workers for result in results if result.training)
    saved = sum(result.training.time.checkpoint_s * result.trial.workers for result in results if result.training)
    slots = cluster.pool_size(spec).workers
    return {
        "trials_s": last - first_at[0],
        "ray_start_s": marks["ray"] - marks["start"],
        "pool_start_s": marks["pool"] - marks["ray"],
        "smoke_s": marks["smoke"] - marks["pool"],
        "tune_start_s": first_at[0] - marks["smoke"],
        "trial_startup_worker_s": started,
        "checkpoints_worker_s": saved,
        "calls_worker_s": busy - inside,
        "idle_worker_s": slots * (last - first_at[0]) - busy,
    }


def cold_seconds(config: str, overrides: list[str], folder: Path) -> float:
    """Wall time of the whole command in a new process and an empty run folder, to its verdict."""
    # The same trials as the other two: an adaptive sweep would leave some out.
    command = [sys.executable, "-m", "orchestrator", "sweep", config, *overrides, "sweep.strategy=grid"]
    command += [f"runs_dir={folder / 'runs'}", f"tracking.uri=sqlite:///{folder / 'mlflow.db'}"]
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skip-cold", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    spec = load_config(Path(options.config), options.overrides)
    rows = []
    for repeat in range(options.repeats):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            prepared = prepare(spec.data, folder / "data", lambda message: None)
            trials = plan_grid(spec, prepared.summary)
            bare = bare_seconds(spec, prepared.root, trials, max(spec.sweep.workers))
            warm = warm_seconds(spec, prepared.root, prepared.summary.fingerprint, trials)
            cold = float("nan") if options.skip_cold else cold_seconds(options.config, options.overrides, folder)
        rows.append({"bare_s": bare, "cold_s": cold, **warm})
        print(
            f"repeat {repeat + 1}: {len(trials)} trials; bare torch {bare:.1f} s, warm sweep {warm['trials_s']:.1f} s "
            f"({warm['trials_s'] / bare:.2f}x), whole command {cold:.1f} s ({cold / bare:.2f}x)",
            flush=True,
        )
    median = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    warm_ratio = statistics.median(row["trials_s"] / row["bare_s"] for row in rows)
    cold_ratio = statistics.median(row["cold_s"] / row["bare_s"] for row in rows)
    print(f"\nmedian of {len(rows)}: warm {warm_ratio:.2f}x, cold {cold_ratio:.2f}x of bare torch")
    print("where it goes (median seconds; worker-seconds where so named)")
    for key, value in median.items():
        print(f"  {key:<24} {value:8.2f}")


if __name__ == "__main__":
    main()
