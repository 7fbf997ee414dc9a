"""A store is measured within its budget, told apart from memory, and left as it was."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from orchestrator.data.stores.bench_io import (
    LIST,
    RANDOM,
    SEQUENTIAL,
    SMALL,
    STAT,
    WRITE,
    IoMeasurement,
    IoReport,
    bench_io,
)
from orchestrator.data.stores.page_cache import available_bytes, forget
from orchestrator.errors import DataError


def measure(path: Path, *, file_system: Any = None, **other: Any) -> IoReport:
    options = {"seconds": 0.5, "threads": 2, "location": "here"} | other
    return bench_io(file_system or pafs.LocalFileSystem(), str(path), **options)


def elsewhere() -> Any:
    """This machine's files behind an interface that does not say that they are."""
    from fsspec.implementations.local import LocalFileSystem

    return pafs.PyFileSystem(pafs.FSSpecHandler(LocalFileSystem()))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Small files in two folders, and one large file."""
    for i in range(60):
        folder = tmp_path / f"class{i % 2}"
        folder.mkdir(exist_ok=True)
        (folder / f"{i}.jpg").write_bytes(os.urandom(10_000 + i))
    (tmp_path / "packed.bin").write_bytes(os.urandom(24 << 20))
    return tmp_path


def kinds(report: IoReport) -> set[tuple[str, int]]:
    return {(each.operation, each.threads) for each in report.measurements}


def test_every_kind_of_access_is_measured_on_one_thread_and_on_several(images: Path) -> None:
    report = measure(images)

    assert kinds(report) == {(LIST, 1)} | {(kind, n) for kind in (SEQUENTIAL, RANDOM, SMALL, STAT) for n in (1, 2)}
    assert (report.n_files, report.is_complete) == (61, True)
    assert report.sample_name == "image"
    assert report.bytes_per_sample == pytest.approx(10_029.5)  # the small ones, of which there are more
    assert report.missing == () or all("cold" in reason for reason in report.missing)


def test_rates_are_what_was_moved_over_how_long_it_took(images: Path) -> None:
    for each in measure(images).measurements:
        assert each.operations_per_s == pytest.approx(each.operations / each.wall_s)
        assert (each.mb_per_s is None) == (each.operation in (LIST, STAT))
        if each.latency_median_s is not None and each.latency_p95_s is not None:
            assert 0 < each.latency_median_s <= each.latency_p95_s <= each.wall_s


def test_cold_and_cached_reads_are_told_apart_on_a_local_disk(images: Path) -> None:
    if forget([images / "packed.bin"]):
        pytest.skip("this file system cannot be emptied from memory")

    caches = {each.cache for each in measure(images).measurements if each.operation in (SEQUENTIAL, RANDOM, SMALL)}

    assert caches == {"cold", "cached"}


def test_elsewhere_the_cache_is_unknown(images: Path) -> None:
    report = measure(images, file_system=elsewhere())

    assert {each.cache for each in report.measurements} == {"unknown"}
    assert (report.n_files, report.bytes_per_sample) == (61, pytest.approx(10_029.5))


def test_time_and_bytes_are_bounded(images: Path) -> None:
    started = time.monotonic()
    report = measure(images, seconds=0.3, max_bytes=30_000_000)

    assert time.monotonic() - started < 10  # generous: opening, emptying and a loaded machine
    assert sum(each.n_bytes for each in report.measurements) < 3 * 30_000_000


def test_reading_only_leaves_everything_as_it_was(images: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in images.rglob("*")}

    measure(images)

    assert {path: path.stat().st_mtime_ns for path in images.rglob("*")} == before


def test_writing_is_measured_when_asked_for_and_cleaned_up(tmp_path: Path) -> None:
    report = measure(tmp_path, write=True, max_bytes=600_000_000)

    assert {(WRITE, 1), (WRITE, 2), (SEQUENTIAL, 1), (SMALL, 2), (RANDOM, 2)} <= kinds(report)
    assert list(tmp_path.iterdir()) == []
    assert report.n_files == 0


def test_test_files_go_also_when_the_measurement_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.data.stores.bench_io._measure", stop)
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path, write=True, max_bytes=200_000_000)

    assert list(tmp_path.iterdir()) == []


def test_rows_of_parquet_are_the_samples(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (2000, 3000), dtype=np.uint8)
    pq.write_table(pa.table({"image": [row.tobytes() for row in rows]}), tmp_path / "a.parquet", compression="none")

    report = measure(tmp_path)

    assert report.sample_name == "row"
    assert report.bytes_per_sample == pytest.approx(3000, rel=0.1)
    assert report.samples_per_s == report.packed_samples_per_s is not None


def test_what_cannot_be_measured_is_missing_with_its_reason(tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / f"{i}.txt").write_bytes(b"x" * 100)

    report = measure(tmp_path)

    assert report.best(SEQUENTIAL) is None
    assert report.packed_samples_per_s is None
    assert f"{SEQUENTIAL} and {RANDOM}: no file of 1 MiB or more is here; --write measures them" in report.missing


def test_a_single_file_can_be_measured(tmp_path: Path) -> None:
    path = tmp_path / "one.bin"
    path.write_bytes(os.urandom(16 << 20))

    report = measure(path)

    assert report.best(SEQUENTIAL) is not None
    assert report.samples_per_s == pytest.approx(report.packed_samples_per_s)
    with pytest.raises(DataError, match="is a file, and test files need a folder"):
        measure(path, write=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "is not there"),
        (lambda path: path.mkdir(), "no file in it"),
        (lambda path: (path.mkdir(), (path / "empty.jpg").touch()), "only empty files in it"),
        (lambda path: path.touch(), "the file is empty"),
    ],
)
def test_nothing_to_read_is_a_plain_error(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "data")

    with pytest.raises(DataError, match=f"here: {message}"):
        measure(tmp_path / "data")


class Forbidden(pafs.FSSpecHandler):  # type: ignore[misc]  # pyarrow's base has no types
    """A store that lists, and lets nobody read or write."""

    def open_input_file(self, path: str) -> Any:
        raise PermissionError(13, "Permission denied", path)

    def create_dir(self, path: str, recursive: bool) -> None:
        raise PermissionError(13, "Permission denied", path)


def test_no_permission_is_a_plain_error_and_writing_is_told_apart(images: Path) -> None:
    from fsspec.implementations.local import LocalFileSystem

    store = pafs.PyFileSystem(Forbidden(LocalFileSystem()))

    with pytest.raises(DataError, match="here: may not be read"):
        measure(images, file_system=store)
    with pytest.raises(DataError, match=r"here: may not be written .* omit --write"):
        measure(images, file_system=store, write=True)


def test_a_disk_that_is_full_is_a_plain_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("orchestrator.data.stores.bench_io.write_file", full)

    with pytest.raises(DataError, match="no space left for test files"):
        measure(tmp_path, write=True)


def test_the_best_is_the_fastest_that_did_not_come_from_memory() -> None:
    def at(threads: int, cache: Any, n_bytes: int) -> IoMeasurement:
        return IoMeasurement(
            operation=SEQUENTIAL, threads=threads, cache=cache, operations=n_bytes // 1000, n_bytes=n_bytes, wall_s=1.0,
            latency_median_s=0.001, latency_p95_s=0.001,
        )  # fmt: skip

    report = IoReport(
        location="here", file_system="local", n_files=1, is_complete=True, n_bytes=1, sample_name="row",
        bytes_per_sample=100.0, missing=(),
        measurements=(at(1, "cold", 2_000_000), at(8, "cold", 3_000_000), at(8, "cached", 9_000_000)),
    )  # fmt: skip

    assert report.samples_per_s == pytest.approx(30_000)


# --- the page cache ---------------------------------------------------------------------------------------------------


def resident(path: Path) -> bool:
    """Whether the first page of a file lies in memory."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.preadv(file, [bytearray(1)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True


@pytest.fixture
def on_disk(tmp_path: Path) -> Path:
    path = tmp_path / "rows.bin"
    path.write_bytes(os.urandom(1 << 20))
    if forget([path]):
        pytest.skip("this file system cannot be emptied from memory")
    return path


def test_a_file_leaves_memory_and_comes_back_when_it_is_read(on_disk: Path) -> None:
    on_disk.read_bytes()
    assert resident(on_disk)

    assert forget([on_disk]) == {}

    assert not resident(on_disk)


def test_rows_that_this_process_maps_leave_memory_too_and_are_read_again(on_disk: Path) -> None:
    rows = np.memmap(on_disk, dtype=np.uint8, mode="r")
    total = int(rows.sum(dtype=np.int64))

    assert forget([on_disk]) == {}

    assert not resident(on_disk)
    assert int(rows.sum(dtype=np.int64)) == total


def test_a_map_that_may_hold_changes_is_left_alone(on_disk: Path) -> None:
    rows = np.memmap(on_disk, dtype=np.uint8, mode="c")
    rows[0] = changed = int(rows[0]) ^ 255

    forget([on_disk])

    assert rows[0] == changed


def test_a_file_that_is_not_there_is_told_among_those_that_stayed(tmp_path: Path) -> None:
    stayed = forget([tmp_path / "none.bin"])

    assert stayed == {tmp_path / "none.bin": "No such file or directory"}


def test_memory_for_the_cache_is_a_number_or_not_known() -> None:
    free = available_bytes()

    assert free is None or free > 0
