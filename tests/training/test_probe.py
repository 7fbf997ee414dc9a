"""The probe finds the part that was slowed down, and only then is more hardware held back."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from orchestrator.data.stores.page_cache import forget
from orchestrator.errors import TaskError
from orchestrator.ingest import Hosts, IngestDiagnosis, IngestMeasurement, diagnose, ingest_veto
from orchestrator.spec import ModelSpec, TrainingSpec
from orchestrator.training.probe import probe
from orchestrator.training.task import Datasets, SupervisedTask

N_ROWS, WIDTH, BATCH = 256, 1024, 32
BUDGET_S = 0.1
NO_CACHE = Hosts(cache_bytes_per_host=0.0)
IN_MEMORY = Hosts(cache_bytes_per_host=1e12)
# A step takes 5 to 20 ms on a slow core; a batch of the throttled readers takes 320 ms, of the others under 1 ms.
SLEEP_S = 0.01
LONG_STEP_S = 0.05
"""Fifty times what a batch takes to read: data keep up with four workers on a busy machine."""


class Rows(Dataset[Any]):
    """Rows in memory."""

    def __init__(self, sleep_s: float = 0.0) -> None:
        self._sleep_s = sleep_s
        self._inputs = torch.from_numpy(np.random.default_rng(0).standard_normal((N_ROWS, WIDTH), dtype=np.float32))

    def __len__(self) -> int:
        return N_ROWS

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        if self._sleep_s:
            time.sleep(self._sleep_s)
        return self._inputs[row], row % 2


class SlowStore:
    """A file that gives a row late the first time, and at once from its cache until that is emptied."""

    def __init__(self, path: Path, sleep_s: float) -> None:
        self.path, self._sleep_s = path, sleep_s
        self._cached: set[int] = set()
        np.random.default_rng(0).standard_normal((N_ROWS, WIDTH), dtype=np.float32).tofile(path)

    def read(self, row: int) -> np.ndarray:
        if row not in self._cached:
            time.sleep(self._sleep_s)
            self._cached.add(row)
        return np.fromfile(self.path, dtype=np.float32, count=WIDTH, offset=row * WIDTH * 4)

    def forget(self, files: Sequence[Path]) -> dict[Path, str]:
        self._cached.clear()
        return {}


class StoredRows(Dataset[Any]):
    def __init__(self, store: SlowStore) -> None:
        self._store = store

    def __len__(self) -> int:
        return N_ROWS

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return torch.from_numpy(self._store.read(row)), row % 2


class Task(SupervisedTask):
    def __init__(self, rows: Dataset[Any], step_s: float = 0.0) -> None:
        self._rows, self._step_s = rows, step_s

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        time.sleep(self._step_s)
        return super().loss(outputs, targets)

    def datasets(self) -> Datasets:
        return Datasets(train=self._rows, validation=self._rows, train_labels=np.arange(N_ROWS) % 2)

    def build_model(self, model: ModelSpec) -> nn.Module:
        return nn.Sequential(
            nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2)
        )


def measure(
    rows: Dataset[Any], *, n_rows: int = N_ROWS, files: Sequence[Path] = (), step_s: float = 0.0, **other: Any
) -> IngestMeasurement:
    task = Task(rows, step_s)
    training = TrainingSpec(epochs=1, global_batch_size=BATCH)
    return probe(
        task, task.datasets(), ModelSpec(name="wide"), training, torch.device("cpu"), rows=n_rows, files=files,
        budget_s=BUDGET_S, **other,
    )  # fmt: skip


def judged(measured: IngestMeasurement, hosts: Hosts) -> IngestDiagnosis:
    return diagnose(measured, workers=(1, 4), n_samples=N_ROWS, epochs=2, hosts=hosts)


def test_rows_in_memory_keep_the_step_busy_and_nothing_is_vetoed() -> None:
    found = judged(measure(Rows(), step_s=LONG_STEP_S), IN_MEMORY)

    assert found.limit == "compute"
    assert ingest_veto(found, 4) is None


def test_a_reader_that_sleeps_is_found_to_be_the_loader_and_vetoes_more_workers() -> None:
    found = judged(measure(Rows(SLEEP_S)), IN_MEMORY)

    veto = ingest_veto(found, 4)
    assert found.limit == "loader"
    assert veto is not None
    assert veto.reason.startswith("loader ")
    assert "raise resources.loader_workers" in veto.way_out  # it sleeps, and more cores would sleep too


def test_a_store_that_is_slow_until_cached_is_found_to_be_storage(tmp_path: Path) -> None:
    store = SlowStore(tmp_path / "rows.bin", SLEEP_S)
    measured = measure(StoredRows(store), files=[store.path], forget_files=store.forget)

    found = judged(measured, NO_CACHE)

    assert measured.cold is not None
    assert measured.cold.samples_per_s < measured.loader.samples_per_s / 5
    assert found.limit == "storage"
    veto = ingest_veto(found, 4)
    assert veto is not None
    assert veto.reason.startswith("storage ")


def test_the_same_store_unthrottled_vetoes_nothing(tmp_path: Path) -> None:
    store = SlowStore(tmp_path / "rows.bin", 0.0)

    measured = measure(StoredRows(store), files=[store.path], forget_files=store.forget, step_s=LONG_STEP_S)

    assert ingest_veto(judged(measured, NO_CACHE), 4) is None


def test_a_slow_store_of_rows_that_stay_in_memory_is_forgiven_over_many_epochs(tmp_path: Path) -> None:
    store = SlowStore(tmp_path / "rows.bin", SLEEP_S)
    measured = measure(StoredRows(store), files=[store.path], forget_files=store.forget)

    found = diagnose(measured, workers=(1, 4), n_samples=N_ROWS, epochs=10_000, hosts=Hosts(
        workers_per_host=4, cache_bytes_per_host=1e12))  # fmt: skip

    assert ingest_veto(found, 4) is None


def test_files_of_this_disk_are_really_read_cold(tmp_path: Path) -> None:
    store = SlowStore(tmp_path / "rows.bin", 0.0)
    (tmp_path / "rest.bin").write_bytes(os.urandom(16 << 20))
    files = [store.path, tmp_path / "rest.bin"]

    measured = measure(StoredRows(store), files=files)

    if forget(files):
        assert measured.cold is None
        assert any(text.startswith("cold reads: ") for text in measured.not_measured)
    else:
        assert measured.cold is not None
        assert measured.storage is not None
        assert measured.bytes_per_sample == pytest.approx((16 << 20) / N_ROWS + 4 * WIDTH)


def test_without_files_storage_is_missing_and_not_zero() -> None:
    measured = measure(Rows())

    assert (measured.cold, measured.storage, measured.bytes_per_sample) == (None, None, None)
    assert measured.not_measured == ("cold reads: the data set names no files of this machine",)
    assert (measured.mixed_precision, measured.memory_share) == (None, None)


def test_files_that_stay_in_memory_are_said(tmp_path: Path) -> None:
    path = tmp_path / "rows.bin"
    store = SlowStore(path, 0.0)

    measured = measure(
        StoredRows(store), files=[path], forget_files=lambda files: dict.fromkeys(files, "it is a memory file system")
    )

    assert measured.cold is None
    assert "cold reads: rows.bin: it is a memory file system" in measured.not_measured


def test_loader_processes_are_measured_with_their_processor_time() -> None:
    measured = measure(Rows(SLEEP_S / 10), loader_workers=2)

    alone = measure(Rows(SLEEP_S / 10))
    assert measured.loader.cpu_s_per_sample is not None
    # Two readers sleep side by side; below twice, because these cores are shared.
    assert measured.loader.samples_per_s > 1.2 * alone.loader.samples_per_s


@pytest.mark.parametrize("n_rows", [BATCH // 2, BATCH, BATCH + 1])
def test_a_pool_of_a_batch_or_two_is_enough_for_the_probe(n_rows: int) -> None:
    measured = measure(Rows(), n_rows=n_rows)

    assert measured.loader.samples_per_s > 0
    assert measured.batch_size <= BATCH


def test_more_rows_than_there_are_is_refused() -> None:
    with pytest.raises(TaskError, match=f"1..{N_ROWS}"):
        measure(Rows(), n_rows=N_ROWS + 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_mixed_precision_and_memory_are_measured_too() -> None:
    task = Task(Rows())
    training = TrainingSpec(epochs=1, global_batch_size=BATCH)

    measured = probe(
        task, task.datasets(), ModelSpec(name="wide"), training, torch.device("cuda", 0), rows=N_ROWS, files=(),
        budget_s=BUDGET_S,
    )  # fmt: skip

    assert measured.mixed_precision is not None
    assert measured.memory_share is not None
    assert 0 < measured.memory_share < 1
