"""Prepared data: written once per content, mapped afterwards, whole or not at all."""

from __future__ import annotations

import os
import pickle
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from orchestrator.data.prepared import PreparedData, open_prepared, prepare
from orchestrator.data.source import Labels
from orchestrator.data.writer import write_prepared
from orchestrator.errors import ConfigError, DataError
from orchestrator.spec import DataSpec
from orchestrator.subsets import nested_order

Pixels = npt.NDArray[np.uint8]
WriteParquet = Callable[..., Path]
RandomPixels = Callable[..., Pixels]


def silent(_message: str) -> None:
    """For tests that do not care what is said."""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def digits(cache: Path) -> PreparedData:
    return prepare(DataSpec(source="sklearn:digits"), cache, silent)


def folders(cache: Path) -> list[str]:
    """Folders in the cache, unfinished ones too."""
    return sorted(path.name for path in cache.iterdir() if path.is_dir())


def test_digits_are_the_ones_that_scikit_learn_ships(digits: PreparedData) -> None:
    from sklearn.datasets import load_digits

    truth = load_digits()

    assert digits.inputs.shape == (1797, 1, 8, 8)
    assert digits.inputs.dtype == np.uint8
    assert (digits.inputs[:, 0] == truth.images).all()
    assert (digits.labels == truth.target).all()
    assert digits.input_scale == truth.images.max() == 16
    assert digits.class_names == tuple("0123456789")


def test_the_summary_counts_what_the_arrays_hold(digits: PreparedData) -> None:
    summary = digits.summary

    assert (summary.n_rows, summary.n_train, summary.n_validation) == (1797, 1438, 359)
    assert summary.n_train == len(digits.train_rows) == sum(summary.class_counts.values())
    assert summary.class_counts["3"] == np.count_nonzero(digits.labels[digits.train_rows] == 3)
    assert summary.bytes_on_disk == digits.inputs.nbytes
    assert len(summary.fingerprint) == 16


def test_mean_and_std_are_those_of_the_training_pool(digits: PreparedData) -> None:
    pool = digits.inputs[digits.train_rows] / 16

    assert digits.mean == pytest.approx([pool.mean()], rel=1e-12)
    assert digits.std == pytest.approx([pool.std()], rel=1e-12)


def test_a_channel_that_never_changes_has_std_1(
    write_parquet: WriteParquet, cache: Path, random_pixels: RandomPixels
) -> None:
    pixels = random_pixels(8)
    pixels[..., 2] = 51
    prepared = prepare(DataSpec(source=str(write_parquet(pixels, [0, 1] * 4))), cache, silent)

    assert prepared.std[2] == 1.0
    assert prepared.mean[2] == pytest.approx(0.2, rel=1e-12)
    assert 0 < prepared.std[0] < 0.5


def test_subsets_are_nested_stratified_and_inside_the_training_pool(digits: PreparedData) -> None:
    small, large = digits.subset(0.1, seed=3), digits.subset(0.5, seed=3)

    assert (len(small), len(large)) == (144, 719)
    assert small.tolist() == large[:144].tolist()
    assert not set(large.tolist()) & set(digits.validation_rows.tolist())
    shares = np.bincount(digits.labels[digits.train_rows]) / 1438
    assert (np.abs(np.bincount(digits.labels[small]) - shares * 144) < 1).all()


def test_a_cached_order_is_the_computed_one_and_a_damaged_one_is_replaced(digits: PreparedData) -> None:
    first = digits.subset(1.0, seed=1)
    cached = digits.subset(1.0, seed=1)
    (digits.root / "order-1.npy").write_bytes(b"half a fi")

    repaired = digits.subset(1.0, seed=1)

    pool = digits.labels[digits.train_rows]
    order = nested_order(pool, fingerprint=digits.summary.fingerprint, seed=1)
    for rows in (first, cached, repaired):
        assert (rows == digits.train_rows[order]).all()
    assert len(np.load(digits.root / "order-1.npy")) == 1438


def test_two_threads_asking_for_one_order_at_once_get_the_same(digits: PreparedData) -> None:
    found: list[list[int]] = []
    threads = [threading.Thread(target=lambda: found.append(digits.subset(0.3, seed=9).tolist())) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    assert all(rows == found[0] for rows in found)
    assert [path.name for path in digits.root.glob("*order*")] == ["order-9.npy"]


def test_a_second_call_finds_the_first_ones_work(digits: PreparedData, cache: Path, said: list[str]) -> None:
    again = prepare(DataSpec(source="sklearn:digits"), cache, said.append)

    assert said == []
    assert (again.root, again.summary) == (digits.root, digits.summary)


def test_another_validation_fraction_is_another_folder_of_the_same_fingerprint(
    digits: PreparedData, cache: Path
) -> None:
    other = prepare(DataSpec(source="sklearn:digits", validation_fraction=0.1), cache, silent)

    assert other.root != digits.root
    assert other.summary.fingerprint == digits.summary.fingerprint
    assert other.summary.n_validation == 180


def test_renaming_and_splitting_off_another_order_of_files_changes_nothing(
    write_parquet: WriteParquet, cache: Path, tmp_path: Path, said: list[str], random_pixels: RandomPixels
) -> None:
    one, two = random_pixels(10, seed=1), random_pixels(10, seed=2)
    write_parquet(one, [0, 1] * 5, "a.parquet")
    write_parquet(two, [0, 1] * 5, "b.parquet")
    before = prepare(DataSpec(source=str(tmp_path / "data")), cache, silent)
    (tmp_path / "data").rename(tmp_path / "moved")
    (tmp_path / "moved" / "a.parquet").rename(tmp_path / "moved" / "z.parquet")

    after = prepare(DataSpec(source=str(tmp_path / "moved")), cache, said.append)

    assert said == []
    assert after.root == before.root
    assert after.summary.source == str(tmp_path / "moved")


def test_changed_content_has_another_fingerprint_even_at_the_same_size_and_name(
    write_parquet: WriteParquet, cache: Path, random_pixels: RandomPixels
) -> None:
    pixels = random_pixels(8)
    path = write_parquet(pixels, [0, 1] * 4)
    before = prepare(DataSpec(source=str(path)), cache, silent)
    size = path.stat().st_size
    write_parquet(pixels, [1, 0] * 4)

    after = prepare(DataSpec(source=str(path)), cache, silent)

    assert path.stat().st_size == size
    assert after.summary.fingerprint != before.summary.fingerprint


def test_an_unchanged_file_is_not_read_again(
    write_parquet: WriteParquet, cache: Path, random_pixels: RandomPixels
) -> None:
    """Told by giving other content the old size and time: only reading would notice."""
    pixels = random_pixels(8)
    path = write_parquet(pixels, [0, 1] * 4)
    os.utime(path, ns=(10**18, 10**18))
    before = prepare(DataSpec(source=str(path)), cache, silent)
    write_parquet(pixels, [1, 0] * 4)
    os.utime(path, ns=(10**18, 10**18))

    after = prepare(DataSpec(source=str(path)), cache, silent)

    assert after.summary.fingerprint == before.summary.fingerprint


def test_opening_imports_neither_pyarrow_nor_pillow_nor_sklearn(digits: PreparedData) -> None:
    code = (
        "import sys, pathlib; from orchestrator.data.prepared import open_prepared;"
        f"open_prepared(pathlib.Path({str(digits.root)!r})).subset(0.1, 0);"
        "print([name for name in ('pyarrow', 'PIL', 'sklearn', 'torch', 'ray', 'mlflow') if name in sys.modules])"
    )

    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_it_travels_between_processes_as_the_name_of_its_folder(digits: PreparedData) -> None:
    packed = pickle.dumps(digits)

    assert len(packed) < 1000
    assert (pickle.loads(packed).inputs == digits.inputs).all()


def test_arrays_are_mapped_and_cannot_be_written(digits: PreparedData) -> None:
    assert isinstance(digits.inputs, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        digits.inputs[0] = 0


# --- what can go wrong ----------------------------------------------------------------------------------------------


def damage_inputs(root: Path) -> None:
    (root / "inputs.npy").write_bytes((root / "inputs.npy").read_bytes()[:5000])


def damage_manifest(root: Path) -> None:
    (root / "manifest.json").write_text('{"version": 1, "summ')


def remove_labels(root: Path) -> None:
    (root / "labels.npy").unlink()


def shorten_rows(root: Path) -> None:
    np.save(root / "train_rows.npy", np.arange(5))


def age_version(root: Path) -> None:
    (root / "manifest.json").write_text('{"version": 0}')


@pytest.mark.parametrize("damage", [damage_inputs, damage_manifest, remove_labels, shorten_rows, age_version])
def test_a_damaged_folder_is_refused_by_workers_and_made_anew_by_prepare(
    digits: PreparedData, cache: Path, said: list[str], damage: object
) -> None:
    assert callable(damage)
    damage(digits.root)

    with pytest.raises(DataError, match="delete the folder and run again"):
        open_prepared(digits.root)
    again = prepare(DataSpec(source="sklearn:digits"), cache, said.append)

    assert "preparing it anew" in said[0]
    assert again.inputs.shape == (1797, 1, 8, 8)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not prepared data \(manifest.json is not there\)"):
        open_prepared(tmp_path / "nowhere")


def test_a_cache_that_cannot_be_made_is_told_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(DataError, match=r"prepared data cannot be written \(Not a directory\); .*set runs_dir"):
        prepare(DataSpec(source="sklearn:digits"), tmp_path / "file" / "cache", silent)


@contextmanager
def files_no_larger_than(n_bytes: int) -> Iterator[None]:
    """The kernel refuses longer files, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_running_out_of_space_is_told_and_leaves_nothing_half_written(cache: Path) -> None:
    with (
        files_no_larger_than(50_000),
        pytest.raises(DataError, match=r"cannot be written \(File too large\); free some"),
    ):
        prepare(DataSpec(source="sklearn:digits"), cache, silent)

    assert folders(cache) == []


def test_a_refused_source_leaves_nothing_half_written(write_parquet: WriteParquet, cache: Path) -> None:
    path = write_parquet([b"no image"] * 4, [0, 1, 0, 1])

    with pytest.raises(DataError):
        prepare(DataSpec(source=str(path)), cache, silent)

    assert folders(cache) == []


class Interrupted:
    """A source in the middle of which the user presses Ctrl-C."""

    fingerprint, bytes_on_disk, input_scale = "0123456789abcdef", 100, 255.0

    def labels(self) -> Labels:
        return Labels(ids=np.array([0, 1, 0, 1]), class_names=("a", "b"))

    def batches(self) -> Iterator[Pixels]:
        yield np.zeros((2, 3, 4, 4), dtype=np.uint8)
        raise KeyboardInterrupt


def test_an_interrupt_leaves_nothing_half_written(cache: Path) -> None:
    cache.mkdir()

    with pytest.raises(KeyboardInterrupt):
        write_prepared(Interrupted(), DataSpec(source="x", validation_fraction=0.5), cache / "root", silent)

    assert folders(cache) == []


def test_what_a_killed_process_left_is_removed_after_a_day(cache: Path) -> None:
    for name, age_s in (("old", 25 * 3600), ("young", 3600)):
        (cache / f".preparing-{name}").mkdir(parents=True)
        then = os.stat(cache).st_mtime - age_s
        os.utime(cache / f".preparing-{name}", (then, then))

    prepare(DataSpec(source="sklearn:digits"), cache, silent)

    assert folders(cache)[0] == ".preparing-young"
    assert len(folders(cache)) == 2


def test_two_processes_preparing_at_once_end_with_one_folder(cache: Path) -> None:
    code = (
        "import pathlib, sys; from orchestrator.data.prepared import prepare; from orchestrator.spec import DataSpec;"
        f"p = prepare(DataSpec(source='sklearn:digits'), pathlib.Path({str(cache)!r}), lambda message: None);"
        "sys.stdout.write(f'{p.root.name} {p.inputs.sum()}')"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]

    out = [process.communicate()[0] for process in both]

    assert [process.returncode for process in both] == [0, 0]
    assert out[0] == out[1]
    assert len(folders(cache)) == 1


def test_a_source_that_is_not_there_is_the_fault_of_its_key(cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.source: nowhere.parquet is not there"):
        prepare(DataSpec(source="nowhere.parquet"), cache, silent)
