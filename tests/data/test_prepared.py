"""Prepared data as trials see it: made once per content, opened afterwards, its rows wherever they lie."""

from __future__ import annotations

import pickle
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.data.formats import open_rows
from orchestrator.data.manifest import MANIFEST
from orchestrator.data.prepared import PreparedData, check_source, open_prepared, prepare
from orchestrator.data.preparing.preparation import PrepareOptions, prepare_folder
from orchestrator.errors import ConfigError, DataError
from orchestrator.spec import DataSpec

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


def source_rows(data: PreparedData) -> npt.NDArray[np.int64]:
    """Row in the source of each place of the training pool."""
    columns = [table.column(0).to_numpy() for table in data.train.batches(["source_row"])]
    return np.concatenate(columns)


def folders(cache: Path) -> list[str]:
    """Folders in the cache, unfinished ones too."""
    return sorted(path.name for path in cache.iterdir() if path.is_dir())


def test_digits_are_the_ones_that_scikit_learn_ships(digits: PreparedData) -> None:
    from sklearn.datasets import load_digits

    truth = load_digits()
    rows, places = source_rows(digits), np.arange(len(digits.train))

    assert (digits.train_images[places][:, 0] == truth.images[rows]).all()
    assert (digits.train.labels == truth.target[rows]).all()
    assert digits.image_shape.scale == truth.images.max() == 16
    assert digits.class_names == tuple("0123456789")


def test_the_summary_counts_what_the_splits_hold(digits: PreparedData) -> None:
    summary = digits.summary

    assert (summary.n_rows, summary.n_train, summary.n_validation) == (1797, 1438, 359)
    assert summary.n_train == len(digits.train) == sum(summary.class_counts.values())
    assert summary.class_counts["3"] == np.count_nonzero(digits.train.labels == 3)
    assert summary.train_bytes == sum((digits.root / part.name).stat().st_size for part in digits.train.parts)
    assert len(summary.fingerprint) == 16


@pytest.mark.parametrize("seed", [0, 1, 5])
def test_subsets_are_nested_and_stratified(digits: PreparedData, seed: int) -> None:
    small, large = digits.train.subset(144, seed), digits.train.subset(719, seed)

    assert small.tolist() == large[:144].tolist()
    shares = np.bincount(digits.train.labels) / 1438
    for places in (small, large):
        assert (np.abs(np.bincount(digits.train.labels[places]) - shares * len(places)) < 1).all()


def test_the_first_seed_takes_the_head_of_the_order_and_the_second_a_stretch_of_it(digits: PreparedData) -> None:
    first, second = digits.train.subset(140, 0), digits.train.subset(140, 1)

    assert first.tolist() == list(range(140))
    assert not set(first.tolist()) & set(second.tolist())
    assert np.ptp(second) < 140 + 3 * 10


def test_a_small_subset_reads_a_small_part_of_the_file(
    write_parquet: WriteParquet, cache: Path, random_pixels: RandomPixels
) -> None:
    """24 rows of 1,200; a row group of 64 rows, read twice, and a footer add to it."""
    path = write_parquet(random_pixels(1500, 16, 16), np.arange(1500) % 3)
    data = prepare(DataSpec(source=str(path)), cache, silent)
    data.train_images.ensure(data.train.subset(24, 0))
    small = data.bytes_read
    data.train_images.ensure(np.arange(len(data.train)))

    assert small < 0.2 * data.bytes_read
    assert data.bytes_read >= 0.9 * data.train.n_bytes


def test_a_second_call_finds_the_first_ones_work(digits: PreparedData, cache: Path, said: list[str]) -> None:
    again = prepare(DataSpec(source="sklearn:digits"), cache, said.append)

    assert said == []
    assert (again.root, again.summary) == (digits.root, digits.summary)


@pytest.mark.parametrize("other", [{"validation_fraction": 0.1}, {"min_per_class": 1}], ids=str)
def test_other_options_are_another_folder_of_the_same_fingerprint(
    digits: PreparedData, cache: Path, other: dict[str, Any]
) -> None:
    found = prepare(DataSpec(source="sklearn:digits", **other), cache, silent)

    assert found.root != digits.root
    assert found.summary.fingerprint == digits.summary.fingerprint


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


def test_it_travels_between_processes_as_the_name_of_its_folder(digits: PreparedData) -> None:
    packed = pickle.dumps(digits)

    assert len(packed) < 1000
    places = np.array([3, 1, 4])
    assert (pickle.loads(packed).train_images[places] == digits.train_images[places]).all()


def test_arrays_are_mapped_and_cannot_be_written(digits: PreparedData) -> None:
    assert isinstance(digits.train_images.array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        digits.train_images.array[0] = 0


# --- a folder that was prepared before ------------------------------------------------------------------------------


@pytest.fixture
def by_hand(tmp_path: Path, write_parquet: WriteParquet, random_pixels: RandomPixels) -> Path:
    """What the ``prepare`` command would write, with a quarter held out."""
    source = str(write_parquet(random_pixels(60), np.arange(60) % 3))
    rows = open_rows(source, label="label", cache_dir=tmp_path)
    options = PrepareOptions(source=source, label="label", validation_fraction=0.25)
    prepare_folder(rows, tmp_path / "by-hand", options)
    return tmp_path / "by-hand"


def test_a_prepared_folder_is_read_where_it_lies(by_hand: Path, cache: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in by_hand.iterdir()}
    data = prepare(DataSpec(source=str(by_hand), validation_fraction=0.25), cache, silent)
    data.train_images.ensure(np.arange(len(data.train)))

    assert (data.summary.n_train, data.summary.n_validation) == (45, 15)
    assert data.summary.source == str(by_hand)
    assert list(data.root.glob("*.parquet")) == []
    assert {path: path.stat().st_mtime_ns for path in by_hand.iterdir()} == before


def test_it_gives_the_same_rows_as_preparing_in_passing(by_hand: Path, cache: Path, tmp_path: Path) -> None:
    entered = prepare(DataSpec(source=str(by_hand), validation_fraction=0.25), cache, silent)
    own = prepare(DataSpec(source=str(tmp_path / "data"), validation_fraction=0.25), cache, silent)

    assert entered.summary.fingerprint == own.summary.fingerprint
    assert source_rows(entered).tolist() == source_rows(own).tolist()


def test_a_prepared_folder_in_a_store_is_read_there(by_hand: Path, cache: Path) -> None:
    pytest.importorskip("fsspec", reason="addresses outside pyarrow's stores need fsspec")
    import fsspec

    store = fsspec.filesystem("memory")
    store.put(str(by_hand), "/bucket/by-hand", recursive=True)
    data = prepare(DataSpec(source="memory://bucket/by-hand", validation_fraction=0.25), cache, silent)

    assert len(data.train_images[np.arange(45)]) == 45
    assert list(data.root.glob("*.parquet")) == []


def test_options_it_was_prepared_otherwise_with_are_told_all_at_once(by_hand: Path, cache: Path) -> None:
    with pytest.raises(ConfigError) as told:
        prepare(DataSpec(source=str(by_hand), label="class", min_per_class=2), cache, silent)

    assert [fault.key for fault in told.value.faults] == [
        "data.label",
        "data.validation_fraction",
        "data.min_per_class",
    ]
    assert "say data.validation_fraction=0.25, or prepare it again" in str(told.value)


@pytest.mark.parametrize("option", [{"stratify": ("id",)}, {"stratify": ("id",), "bins": 20}], ids=str)
def test_each_option_of_the_order_is_compared(by_hand: Path, cache: Path, option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as told:
        prepare(DataSpec(source=str(by_hand), validation_fraction=0.25, **option), cache, silent)

    assert {fault.key for fault in told.value.faults} == {f"data.{key}" for key in option}


def test_a_folder_that_was_prepared_again_is_entered_anew_and_never_read_with_old_labels(
    by_hand: Path, cache: Path, tmp_path: Path
) -> None:
    source = DataSpec(source=str(by_hand), validation_fraction=0.25)
    before = prepare(source, cache, silent)
    rows = open_rows(str(tmp_path / "data"), label="label", cache_dir=tmp_path)
    other = PrepareOptions(
        source=str(tmp_path / "data"), label="label", validation_fraction=0.25, order_seed=3, overwrite=True
    )
    prepare_folder(rows, by_hand, other)

    with pytest.raises(DataError, match="was prepared again after it was opened"):
        before.train_images[np.arange(3)]
    after = prepare(source, cache, silent)
    assert after.root != before.root
    labels = np.concatenate([table.column(0).to_numpy() for table in after.train.batches(["label"])])
    assert labels.tolist() == after.train.labels.tolist()


def test_images_of_another_size_are_decoded_for_themselves(
    write_parquet: WriteParquet, cache: Path, random_pixels: RandomPixels
) -> None:
    source = str(write_parquet(random_pixels(20), np.arange(20) % 2))
    whole = prepare(DataSpec(source=source), cache, silent)
    small = prepare(DataSpec(source=source, image_size=(2, 3)), cache, silent)

    assert whole.root == small.root
    assert whole.train_images[np.arange(5)].shape == (5, 3, 4, 6)
    assert small.train_images[np.arange(5)].shape == (5, 3, 2, 3)
    assert whole.train_images[np.arange(5)].shape == (5, 3, 4, 6)


def test_what_was_not_looked_through_before_an_interrupt_is_looked_through_the_next_time(
    digits: PreparedData, cache: Path
) -> None:
    (digits.root / "findings.json").unlink()

    again = prepare(DataSpec(source="sklearn:digits"), cache, silent)

    assert again.summary.quality is not None


def test_a_column_without_images_is_told_with_those_there_are(by_hand: Path, cache: Path) -> None:
    data = prepare(DataSpec(source=str(by_hand), image="imgae", validation_fraction=0.25), cache, silent)

    with pytest.raises(DataError, match=r"data\.image: there is no column 'imgae'; did you mean 'image'\?"):
        data.train_images  # noqa: B018  # opening is what is tested


# --- what can go wrong ----------------------------------------------------------------------------------------------


def damage_manifest(root: Path) -> None:
    (root / MANIFEST).write_text('{"version": 2, "summ')


def remove_labels(root: Path) -> None:
    (root / "train_labels.npy").unlink()


def shorten_labels(root: Path) -> None:
    np.save(root / "validation_labels.npy", np.arange(5))


def age_version(root: Path) -> None:
    (root / MANIFEST).write_text('{"version": 1}')


@pytest.mark.parametrize("damage", [damage_manifest, remove_labels, shorten_labels, age_version])
def test_a_damaged_folder_is_refused_by_workers_and_made_anew_by_prepare(
    digits: PreparedData, cache: Path, said: list[str], damage: Callable[[Path], None]
) -> None:
    damage(digits.root)

    with pytest.raises(DataError, match=r"run (prepare )?again"):
        open_prepared(digits.root)
    again = prepare(DataSpec(source="sklearn:digits"), cache, said.append)

    assert any("preparing it anew" in line for line in said)
    assert len(again.train_images[np.arange(1438)]) == 1438


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not prepared data \(manifest.json is not there\)"):
        open_prepared(tmp_path / "nowhere")


def test_a_source_that_is_not_there_is_told_before_anything_is_read(tmp_path: Path) -> None:
    fault = check_source(DataSpec(source=str(tmp_path / "nowhere.parquet")))

    assert fault is not None
    assert fault.key == "data.source"


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


def test_running_out_of_space_is_told_and_leaves_nothing_that_looks_whole(cache: Path) -> None:
    with files_no_larger_than(50_000), pytest.raises(DataError, match=r"cannot be written|File too large"):
        prepare(DataSpec(source="sklearn:digits"), cache, silent)

    assert [name for name in folders(cache) if (cache / name / MANIFEST).exists()] == []


def test_classes_are_needed_from_the_start(
    write_parquet: WriteParquet, cache: Path, random_pixels: RandomPixels
) -> None:
    path = write_parquet(random_pixels(6), [1] * 6)

    with pytest.raises(DataError, match="one class only"):
        prepare(DataSpec(source=str(path)), cache, silent)
    assert [name for name in folders(cache) if (cache / name / MANIFEST).exists()] == []


def test_every_seed_keeps_joint_shares_where_other_columns_are_stratified_by(
    tmp_path: Path, cache: Path, random_pixels: RandomPixels, png: Callable[[Pixels], bytes]
) -> None:
    """Two classes, three places where photographs were taken, in unequal shares."""
    n = 240
    label, place = np.arange(n) % 2, np.minimum(np.random.default_rng(0).geometric(0.5, n), 3)
    table = pa.table({"image": [png(image) for image in random_pixels(n)], "label": label, "place": place})
    pq.write_table(table, tmp_path / "places.parquet")
    source = DataSpec(source=str(tmp_path / "places.parquet"), stratify=("label", "place"))
    data = prepare(source, cache, silent)
    columns = data.train.batches(["label", "place"])
    joint = np.concatenate([t["label"].to_numpy() * 10 + t["place"].to_numpy() for t in columns])

    for seed in (0, 1, 2):
        drawn = joint[data.train.subset(60, seed)]
        for value in np.unique(joint):
            assert abs(np.count_nonzero(drawn == value) - 60 * np.mean(joint == value)) < 1


def test_pointers_of_versioning_tools_reach_the_summary(
    write_parquet: WriteParquet, cache: Path, random_pixels: RandomPixels
) -> None:
    path = write_parquet(random_pixels(8), [0, 1] * 4)
    size, pointer = path.stat().st_size, "0123456789abcdef0123456789abcdef"
    text = f"outs:\n- md5: {pointer}\n  size: {size}\n  hash: md5\n  path: {path.name}\n"
    (path.parent / f"{path.name}.dvc").write_text(text)

    summary = prepare(DataSpec(source=str(path)), cache, silent).summary

    assert summary.versions["dvc.md5"] == pointer
