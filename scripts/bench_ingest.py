"""Reading, side by side: ours, torch's DataLoader item by item, Ray Data and Hugging Face datasets, with the limit.

    python scripts/bench_ingest.py DATA [--rows 20000] [--repeats 3] [-o FILE.json]

DATA is a Parquet file, or a folder of them, with columns ``image`` (encoded) and ``label``; CIFAR-10's training file
gives the figures of the README. Four questions, each in one run on one machine:

1. Raw tensors in the page cache, batches of 256, a shuffled epoch: rows per second of CPU time and of wall time. The
   limit is one sequential read of the memory map.
2. Encoded images, a first epoch: the same.
3. A 1% subset from a cold page cache: our prefix, a raw read of as many bytes, and the same rows scattered.
4. Share of the steady time that two data-parallel workers wait for data, training the `cnn` of tasks/vision.

CPU seconds are those of the process and its children. Peers that are not installed are left out and named.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 256


def cpu_s() -> float:
    """CPU seconds of this process and of its children that ended."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def measured(epoch: Callable[[], int], repeats: int, *, warm_up: bool = True) -> dict[str, Any]:
    """Rows per second over some epochs: medians of CPU and wall time."""
    if warm_up:
        epoch()
    walls, cpus, rows = [], [], 0
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), cpu_s()
        rows = epoch()
        walls.append(time.perf_counter() - wall)
        cpus.append(max(cpu_s() - cpu, 1e-9))
    return {"rows_per_cpu_s": rows / statistics.median(cpus), "rows_per_s": rows / statistics.median(walls)}


def drained(batches: Iterator[Any], size: Callable[[Any], int]) -> int:
    """Walk through an epoch; its rows."""
    return sum(size(batch) for batch in batches)


def drop_cache(*paths: Path) -> None:
    """Ask the system to forget the content of these files."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def cached_resident_share(path: Path) -> float:
    """Share of a file's pages that are in the page cache, by mincore; to see that dropping worked."""
    import ctypes
    import mmap

    n_bytes = path.stat().st_size
    pages = (n_bytes + mmap.PAGESIZE - 1) // mmap.PAGESIZE
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        array = np.frombuffer(mapped, np.uint8)
        states = (ctypes.c_ubyte * pages)()
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mincore(ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(n_bytes), states)
        share = float(np.mean(np.frombuffer(states, np.uint8) & 1))
        del array
    return share


class Bench:
    """One data set, prepared once, and every reader over it."""

    def __init__(self, source: str, label: str, image: str, n_rows: int, repeats: int, work: Path) -> None:
        from orchestrator.data.prepared import prepare
        from orchestrator.spec import DataSpec

        self.repeats = repeats
        spec = DataSpec(source=source, label=label, image=image, validation_fraction=0.1)
        self.data = prepare(spec, work / "cache", lambda message: print(message, file=sys.stderr))
        self.n_rows = min(n_rows, len(self.data.train))
        self.places = self.data.train.subset(self.n_rows, 0)

    def ours(self, data: Any = None) -> Callable[[], int]:
        """Our loader over prepared images, as a trial on one worker uses it."""
        from orchestrator.tasks.vision import ImageClassification
        from orchestrator.training.batches import Rows, ShardedBatches

        datasets = ImageClassification(data or self.data).datasets()
        places = self.places
        rows = Rows(datasets.train, places, np.asarray(self.data.train.labels)[places])
        epochs = iter(range(10**9))

        def epoch() -> int:
            order = ShardedBatches(len(rows), BATCH, 0, 1, 0, next(epochs), rows.labels)
            return drained((rows.__getitems__(batch) for batch in order), lambda batch: len(batch[1]))

        return epoch

    def raw_tensors(self) -> dict[str, Any]:
        """Question 1."""
        import torch
        from torch.utils.data import DataLoader, TensorDataset

        images = self.data.train_images
        images.ensure(self.places, threads=os.cpu_count() or 1)
        array, labels = images.array, np.asarray(self.data.train.labels)

        def sequential() -> int:
            return drained((array[start : start + BATCH].copy() for start in range(0, self.n_rows, BATCH)), len)

        def fresh_sequential() -> int:
            again = _reopened(self.data).train_images.array
            return drained((again[start : start + BATCH].copy() for start in range(0, self.n_rows, BATCH)), len)

        shuffled = np.random.default_rng(0).permutation(self.n_rows)

        def gather() -> int:
            return drained(
                (array.take(shuffled[start : start + BATCH], axis=0) for start in range(0, self.n_rows, BATCH)), len
            )

        found = {
            "limit: sequential read, mapped before": measured(sequential, self.repeats),
            "limit of any shuffled order: bare gather, mapped before": measured(gather, self.repeats),
            "ours, mapped before": measured(self.ours(), self.repeats),
            "sequential read, first epoch of a process": measured(fresh_sequential, self.repeats),
            "ours, first epoch of a process": measured(lambda: self.ours(_reopened(self.data))(), self.repeats),
        }
        in_memory = np.array(array[: self.n_rows])
        tensors = TensorDataset(torch.from_numpy(in_memory), torch.from_numpy(labels[: self.n_rows].astype(np.int64)))

        def per_item() -> int:
            loader = DataLoader(tensors, batch_size=BATCH, shuffle=True)
            return drained(iter(loader), lambda batch: len(batch[1]))

        found["torch DataLoader, per item"] = measured(per_item, self.repeats)
        self._with_peers(found, in_memory, labels[: self.n_rows])
        return found

    def _with_peers(self, found: dict[str, Any], images: np.ndarray, labels: np.ndarray) -> None:
        if importlib.util.find_spec("datasets") is None:
            found["Hugging Face datasets"] = None
        else:
            found["Hugging Face datasets"] = measured(_hugging_face(images, labels), self.repeats)
        found["Ray Data iter_torch_batches"] = measured(_ray_data(images, labels), self.repeats)

    def encoded(self) -> dict[str, Any]:
        """Question 2: the first epoch over encoded images."""
        from PIL import Image
        from torch.utils.data import DataLoader, Dataset

        table = next(iter(self.data.train.batches([self.data.image])))
        encoded = table.column(0).to_pylist()
        n_rows = len(encoded)

        def ours_first() -> int:
            for path in self.data._decoded.glob("train.*"):
                path.unlink()
            fresh = _reopened(self.data)
            places = np.arange(n_rows)
            fresh.train_images.ensure(places, threads=1)
            return drained((fresh.train_images[places[i : i + BATCH]] for i in range(0, n_rows, BATCH)), len)

        class Decoding(Dataset[Any]):
            def __len__(self) -> int:
                return n_rows

            def __getitem__(self, row: int) -> Any:
                with Image.open(io.BytesIO(encoded[row])) as image:
                    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)

        def per_item() -> int:
            return drained(iter(DataLoader(Decoding(), batch_size=BATCH, shuffle=True)), len)

        return {
            "ours, decoded once": measured(ours_first, self.repeats, warm_up=False),
            "torch DataLoader, per item": measured(per_item, self.repeats, warm_up=False),
        }

    def cold_subsets(self, work: Path) -> dict[str, Any]:
        """Question 3, for the images as they are encoded and for raw tensors."""
        from orchestrator.data.prepared import prepare
        from orchestrator.spec import DataSpec

        found = self.cold_subset(self.data, "encoded images")
        self.data.train_images.ensure(self.places, threads=os.cpu_count() or 1)
        raw = work / "raw.npz"
        labels = np.asarray(self.data.train.labels)[self.places].astype(np.int64)
        np.savez(raw, image=np.asarray(self.data.train_images[self.places]), label=labels)
        data = prepare(DataSpec(source=str(raw)), work / "cache", lambda message: print(message, file=sys.stderr))
        return found | self.cold_subset(data, "raw tensors")

    def cold_subset(self, data: Any, kind: str) -> dict[str, Any]:
        """Bytes of 1% of the rows from a cold page cache, in milliseconds, medians."""
        n = max(1, len(data.train) // 100)
        files = [data.root / part.name for part in data.train.parts]
        last = int(data.train.groups_of(np.array([n - 1]))[0])
        n_bytes = round(data.train.n_bytes * n / len(data.train))

        def prefix() -> int:
            fresh = _reopened(data)
            for group in range(last + 1):
                fresh.train.read_group(group, [data.image])
            return fresh.bytes_read

        def raw() -> int:
            with files[0].open("rb", buffering=0) as file:
                return len(file.read(n_bytes))

        scattered_places = np.sort(np.random.default_rng(0).choice(len(data.train), n, replace=False))

        def scattered() -> int:
            fresh = _reopened(data)
            for group in fresh.train.groups_of(scattered_places):
                fresh.train.read_group(int(group), [data.image])
            return fresh.bytes_read

        return {
            f"{kind}: {name}": _cold(reader, files, self.repeats * 3)
            for name, reader in (
                ("raw prefix", raw),
                ("our 1% prefix", prefix),
                ("as many rows, scattered", scattered),
            )
        }


def _cold(reader: Callable[[], int], files: list[Path], repeats: int) -> dict[str, Any]:
    times, resident, n_bytes = [], [], 0
    for _ in range(repeats):
        drop_cache(*files)
        resident.append(cached_resident_share(files[0]))
        begun = time.perf_counter()
        n_bytes = reader()
        times.append((time.perf_counter() - begun) * 1e3)
    return {"ms": statistics.median(times), "mb_read": n_bytes / 1e6, "cached_before": statistics.median(resident)}


def _reopened(data: Any) -> Any:
    from orchestrator.data.prepared import open_prepared

    return open_prepared(data.root, image=data.image, image_size=data.image_size)


def _hugging_face(images: np.ndarray, labels: np.ndarray) -> Callable[[], int]:
    from datasets import Array3D, Dataset, Features, Value

    features = Features({"image": Array3D(images.shape[1:], "uint8"), "label": Value("int64")})
    table = Dataset.from_dict({"image": list(images), "label": labels.tolist()}, features=features)

    def epoch() -> int:
        shuffled = table.shuffle(seed=0).with_format("torch")
        return drained(shuffled.iter(batch_size=BATCH), lambda batch: len(batch["label"]))

    return epoch


def _ray_data(images: np.ndarray, labels: np.ndarray) -> Callable[[], int]:
    import ray

    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error",
        object_store_memory=10**9,
    )  # fmt: skip
    ray.data.DataContext.get_current().enable_progress_bars = False
    table = ray.data.from_numpy([images[start : start + 4096] for start in range(0, len(images), 4096)]).materialize()

    def epoch() -> int:
        batches = table.iter_torch_batches(batch_size=BATCH, local_shuffle_buffer_size=4096)
        return drained(iter(batches), lambda batch: len(next(iter(batch.values()))))

    return epoch


def data_wait(bench: Bench, epochs: int) -> dict[str, Any]:
    """Question 4: two ranks of one group, each in its own process."""
    import torch.multiprocessing as mp

    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        mp.spawn(_one_rank, args=(str(bench.data.root), bench.data.image, epochs, folder, str(answer)), nprocs=2)
        return dict(json.loads(answer.read_text()))


def _one_rank(rank: int, root: str, image: str, epochs: int, folder: str, answer: str) -> None:
    import torch
    import torch.distributed as dist

    from orchestrator.data.prepared import open_prepared
    from orchestrator.spec import ModelSpec, TrainingSpec
    from orchestrator.subsets import subset_size
    from orchestrator.tasks.vision import ImageClassification
    from orchestrator.training.checkpoints import MemoryCheckpoints
    from orchestrator.training.loop import fit
    from orchestrator.training.run import TrainingRun

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    data = open_prepared(Path(root), image=image)
    task = ImageClassification(data)
    datasets = task.datasets()
    run = TrainingRun(
        model=ModelSpec(name="cnn", options={"width": 16}),
        training=TrainingSpec(epochs=epochs, global_batch_size=64),
        fraction=0.2,
        seed=0,
        fingerprint=data.summary.fingerprint,
        datasets=datasets,
        checkpoints=MemoryCheckpoints(),
        device=torch.device("cpu"),
    )
    datasets.train.make_ready(datasets.subset(subset_size(len(data.train), 0.2), 0), 1)
    datasets.validation.make_ready(np.arange(len(data.validation)), 1)
    fit(run, task, datasets)
    time_s = run.finish().time
    steady_s = time_s.compute_s + time_s.data_wait_s + time_s.gradient_sync_s
    if rank == 0:
        found = {"data_wait_share": time_s.data_wait_s / steady_s, "steady_s": steady_s}
        Path(answer).write_text(json.dumps(found))
    dist.destroy_process_group()


def told(results: dict[str, Any]) -> str:
    """Tables as Markdown."""
    lines = []
    for title, key in (("Raw tensors in the page cache", "raw_tensors"), ("Encoded images, first epoch", "encoded")):
        rows = results[key]
        reference = next(iter(rows.values()))["rows_per_cpu_s"]
        lines += [
            f"{title}, batches of {BATCH}",
            "",
            "| | rows / CPU s | rows / s | of the first line |",
            "|---|---|---|---|",
        ]
        for name, row in rows.items():
            if row is None:
                lines.append(f"| {name} | not installed | | |")
                continue
            share = row["rows_per_cpu_s"] / reference
            lines.append(f"| {name} | {row['rows_per_cpu_s']:,.0f} | {row['rows_per_s']:,.0f} | {share:.3f} |")
        lines.append("")
    lines += [
        "A 1% subset, page cache dropped",
        "",
        "| | ms | MB read | of its raw prefix | in the cache before |",
        "|---|---|---|---|---|",
    ]
    reference = 1.0
    for name, row in results["cold_subset"].items():
        reference = row["ms"] if name.endswith("raw prefix") else reference
        share = f"{row['ms'] / reference:.2f}"
        lines.append(f"| {name} | {row['ms']:.2f} | {row['mb_read']:.2f} | {share} | {row['cached_before']:.0%} |")
    wait = results["data_wait"]
    lines += [
        "",
        f"Two workers wait for data {wait['data_wait_share']:.2%} of {wait['steady_s']:.1f} s of steady time.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", help="Parquet file or folder")
    parser.add_argument("--label", default="label")
    parser.add_argument("--image", default="image")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3, help="of the training that question 4 watches")
    parser.add_argument("-o", "--output", type=Path, help="also write the figures as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-ingest-", dir=Path.cwd()) as work:
        bench = Bench(options.data, options.label, options.image, options.rows, options.repeats, Path(work))
        results = {
            "cold_subset": bench.cold_subsets(Path(work)),
            "raw_tensors": bench.raw_tensors(),
            "encoded": bench.encoded(),
            "data_wait": data_wait(bench, options.epochs),
        }
    print(told(results))
    if options.output:
        options.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
