"""`prepare`, the whole: what lies in the folder, and what is left of it when something goes wrong."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
import shutil
import threading
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from orchestrator.data.manifest import MANIFEST, TRAIN, VALIDATION, Manifest, read_manifest
from orchestrator.data.preparing import remote_target, work_folder
from orchestrator.data.preparing.preparation import PrepareOptions, default_memory_bytes, prepare_folder, request_of
from orchestrator.data.rows import SOURCE_ROW
from orchestrator.data.stores.locations import Location
from orchestrator.errors import DataError
from orchestrator.subsets import subset_size

Labelled = Callable[..., Any]


def options(**changes: Any) -> PrepareOptions:
    return PrepareOptions(**({"source": "memory", "label": "label"} | changes))


def rows_of(folder: Path, split: str) -> pa.Table:
    return pa.concat_tables(pq.read_table(folder / file.name) for file in read_manifest(folder).files(split))


def content_of(folder: Path) -> dict[str, bytes]:
    """Every byte, less the time at which the manifest was written."""
    found = {file.name: file.read_bytes() for file in folder.iterdir()}
    manifest = json.loads(found[MANIFEST])
    manifest.pop("made_at")
    return found | {MANIFEST: json.dumps(manifest).encode()}


def whole(table: pa.Table) -> dict[str, Any]:
    return table.to_pydict()


# --- what comes out -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_bytes", [None, 20_000], ids=["in memory", "by way of the disk"])
def test_every_row_is_there_once_as_it_was_and_traced_back(
    tmp_path: Path, labelled: Labelled, memory_bytes: int | None
) -> None:
    rows = labelled(600)

    prepare_folder(rows, tmp_path / "out", options(memory_bytes=memory_bytes))

    found = pa.concat_tables([rows_of(tmp_path / "out", TRAIN), rows_of(tmp_path / "out", VALIDATION)])
    numbers = found.column(SOURCE_ROW).to_pylist()
    assert sorted(numbers) == list(range(600))
    assert whole(found.drop_columns([SOURCE_ROW])) == whole(pa.concat_tables(rows.tables).take(pa.array(numbers)))
    assert not work_folder.work_folder_of(tmp_path / "out").exists()


def test_the_bytes_are_the_same_by_memory_and_by_disk_and_each_time(tmp_path: Path, labelled: Labelled) -> None:
    rows = labelled(2000, row_bytes=20_000)
    for name, memory_bytes in (("one", None), ("two", 8_000_000), ("three", 2_000_000), ("four", None)):
        prepare_folder(rows, tmp_path / name, options(memory_bytes=memory_bytes))

    one, *others = (content_of(tmp_path / name) for name in ("one", "two", "three", "four"))

    assert all(other == one for other in others)


def test_files_hold_the_places_in_order_and_labels_stand_beside_them(tmp_path: Path, labelled: Labelled) -> None:
    manifest = prepare_folder(labelled(600), tmp_path / "out", options())

    for split, n in ((TRAIN, manifest.summary.n_train), (VALIDATION, manifest.summary.n_validation)):
        ids = np.load(tmp_path / "out" / f"{split}_labels.npy")
        assert ids.dtype == np.uint8
        assert len(ids) == n == sum(file.n_rows for file in manifest.files(split))
        named = [manifest.class_names[i] for i in ids]
        assert named == rows_of(tmp_path / "out", split).column("label").to_pylist()


def test_counts_of_each_fraction_are_those_of_the_prefix_and_within_a_row_of_the_share(
    tmp_path: Path, labelled: Labelled
) -> None:
    manifest = prepare_folder(labelled(3000), tmp_path / "out", options())
    labels = rows_of(tmp_path / "out", TRAIN).column("label").to_pylist()

    assert list(manifest.counts_at) == ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1"]
    for fraction, counts in manifest.counts_at.items():
        m = subset_size(len(labels), float(fraction))
        assert counts == {name: labels[:m].count(name) for name in ("cat", "dog", "owl")}
        assert all(abs(n - m * labels.count(name) / len(labels)) < 1 for name, n in counts.items())


def test_the_manifest_says_what_was_made_from_what_and_how(tmp_path: Path, labelled: Labelled) -> None:
    rows = labelled(600)

    manifest = prepare_folder(rows, tmp_path / "out", options(validation_fraction=0.25, order_seed=3))

    assert manifest == read_manifest(tmp_path / "out")
    assert manifest.summary.n_validation == 150
    assert manifest.summary.class_counts == manifest.counts_at["1"]
    assert manifest.summary.bytes_on_disk == sum(f.stat().st_size for f in (tmp_path / "out").glob("*.parquet"))
    assert (manifest.order_seed, manifest.validation_fraction, manifest.source_format) == (3, 0.25, "memory")
    assert dict(manifest.columns) == {
        "id": "int64", "image": "binary", "note": "string", "label": "string", "source_row": "int64"
    }  # fmt: skip
    assert manifest.strata == "classes of label"


def test_the_fingerprint_is_of_the_rows_that_were_written_and_of_their_order(
    tmp_path: Path, labelled: Labelled
) -> None:
    rows = labelled(600)
    usual = prepare_folder(rows, tmp_path / "usual", options())
    again = prepare_folder(rows, tmp_path / "again", options(validation_fraction=0.3))
    seeds = [prepare_folder(rows, tmp_path / f"seed-{s}", options(order_seed=s)).summary.fingerprint for s in (1, 2)]

    assert usual.summary.fingerprint == again.summary.fingerprint == rows.fingerprint
    assert len({rows.fingerprint, *seeds}) == 3


def test_a_target_inside_the_source_is_refused(tmp_path: Path, labelled: Labelled) -> None:
    (tmp_path / "photos").mkdir()
    inside = options(source=str(tmp_path / "photos"))

    with pytest.raises(DataError, match=r"lies in the source, .* give a target outside"):
        prepare_folder(labelled(60), tmp_path / "photos" / "prepared", inside)
    assert list((tmp_path / "photos").iterdir()) == []


def test_rows_without_labels_are_ordered_uniformly(tmp_path: Path, labelled: Labelled) -> None:
    manifest = prepare_folder(labelled(600), tmp_path / "out", options(label=None))

    assert not manifest.is_classification
    assert manifest.label == ""
    assert manifest.strata == "not at all"
    assert manifest.summary.class_counts == {}
    assert (np.load(tmp_path / "out" / "train_labels.npy") == 0).all()


def test_other_columns_of_every_type_come_through(tmp_path: Path, labelled: Labelled) -> None:
    rows = labelled(
        60,
        tensor=pa.array([bytes([i]) * 16 for i in range(60)], pa.binary(16)),
        kind=pa.array(["a", "b"] * 30).dictionary_encode(),
        boxes=[[{"x": i}] * (i % 3) for i in range(60)],
    )

    prepare_folder(rows, tmp_path / "out", options(memory_bytes=3000))

    found = rows_of(tmp_path / "out", TRAIN)
    assert found.schema.field("tensor").type == pa.binary(16)
    assert found.schema.field("kind").type == pa.string()
    expected = pa.concat_tables(rows.tables).take(found.column(SOURCE_ROW))
    assert whole(found.drop_columns([SOURCE_ROW])) == whole(expected)


def test_blobs_are_not_compressed(tmp_path: Path, labelled: Labelled) -> None:
    prepare_folder(labelled(600), tmp_path / "out", options())

    group = pq.read_metadata(tmp_path / "out" / "train-00000.parquet").row_group(0)
    kinds = {group.column(i).path_in_schema: group.column(i).compression for i in range(group.num_columns)}
    assert kinds == {"id": "ZSTD", "image": "UNCOMPRESSED", "note": "ZSTD", "label": "ZSTD", "source_row": "ZSTD"}


def test_progress_rises_to_the_end_of_both_phases(tmp_path: Path, labelled: Labelled) -> None:
    told: list[tuple[str, int, int]] = []

    prepare_folder(labelled(600), tmp_path / "out", options(memory_bytes=20_000), progress=lambda *t: told.append(t))

    for phase in ("reading", "writing"):
        done = [n for name, n, total in told if name == phase and total == 600]
        assert done == sorted(done)
        assert done[-1] == 600


# --- rows that are left out, or refused -----------------------------------------------------------------------------


def refusal(rows: Any, folder: Path, **changes: Any) -> str:
    """The message of a refusal, which leaves nothing behind but the empty lock."""
    before = {path for path in folder.rglob("*") if path.suffix != ".lock"}
    with pytest.raises(DataError) as caught:
        prepare_folder(rows, folder / "out", options(**changes))
    assert {path for path in folder.rglob("*") if path.suffix != ".lock"} == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_labels_are_refused_or_left_out_and_counted(tmp_path: Path, labelled: Labelled) -> None:
    label = ["cat", "dog", None] * 20
    rows = labelled(60, label=label)

    message = refusal(rows, tmp_path)
    manifest = prepare_folder(rows, tmp_path / "out", options(drop_missing_labels=True))

    assert "column 'label' is null in 20 of 60 rows (first: row 2 of part-0)" in message
    assert manifest.left_out == {"label is missing": 20}
    assert manifest.summary.n_rows == 40
    numbers = [
        n for split in (TRAIN, VALIDATION) for n in rows_of(tmp_path / "out", split).column(SOURCE_ROW).to_pylist()
    ]
    assert sorted(numbers) == [i for i in range(60) if label[i] is not None]


def test_repeated_ids_are_refused_or_the_first_of_each_is_kept(tmp_path: Path, labelled: Labelled) -> None:
    rows = labelled(60, key=[i % 50 for i in range(60)])

    message = refusal(rows, tmp_path, id_column="key")
    manifest = prepare_folder(rows, tmp_path / "out", options(id_column="key", drop_duplicates=True))

    assert message.startswith("memory: 10 of 60 rows repeat the 'key' of another (0 in rows 0 and 50, ")
    assert manifest.left_out == {"key is another row's": 10}
    assert manifest.summary.n_rows == 50


def test_a_repeat_of_a_row_without_a_label_is_counted_once(tmp_path: Path, labelled: Labelled) -> None:
    rows = labelled(60, key=[i % 50 for i in range(60)], label=["cat", "dog"] * 29 + [None, "cat"])

    manifest = prepare_folder(
        rows, tmp_path / "out", options(id_column="key", drop_duplicates=True, drop_missing_labels=True)
    )

    assert manifest.left_out == {"label is missing": 1, "key is another row's": 9}
    assert manifest.summary.n_rows == 50


def test_an_empty_class_is_no_stratum_and_is_told(tmp_path: Path, labelled: Labelled) -> None:
    rows = dataclasses.replace(labelled(60, label=[0, 2] * 30), names=("cat", "dog", "owl"))

    manifest = prepare_folder(rows, tmp_path / "out", options())

    assert manifest.class_names == ("cat", "owl")
    assert manifest.strata == "classes of label; declared in label but without rows: dog"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"label": "lable"},
            "memory: data.label: there is no column 'lable'; did you mean 'label'? columns: id, image",
        ),
        ({"stratify": ("site",)}, "memory: data.stratify: there is no column 'site'; columns: id, image, note, label"),
        ({"id_column": "key"}, "memory: data.id: there is no column 'key'; columns:"),
    ],
)
def test_columns_that_are_not_there(tmp_path: Path, labelled: Labelled, changes: Any, message: str) -> None:
    assert message in refusal(labelled(60), tmp_path, **changes)


def test_no_rows_at_all(tmp_path: Path, labelled: Labelled) -> None:
    rows = labelled(60)
    empty = type(rows)(tuple(table.slice(0, 0) for table in rows.tables))

    assert refusal(empty, tmp_path) == "memory: there are no rows; give files with at least two classes"


@pytest.mark.parametrize("memory_bytes", [None, 10_000], ids=["in memory", "by way of the disk"])
def test_a_source_that_shrinks_while_it_is_read_is_refused(
    tmp_path: Path, labelled: Labelled, memory_bytes: int | None
) -> None:
    rows = labelled(60)

    class Shrinking(type(rows)):  # type: ignore[misc]  # a class that is known at run time only
        def read(self, piece: Any) -> Iterator[pa.RecordBatch]:
            yield self.tables[piece.position].slice(1).to_batches()[0]

    with pytest.raises(DataError, match="it changed while it was read; run again when nothing writes to it"):
        prepare_folder(Shrinking(rows.tables), tmp_path / "out", options(memory_bytes=memory_bytes))
    assert not (tmp_path / "out").exists()


def test_a_target_that_holds_the_source_is_refused(tmp_path: Path, labelled: Labelled) -> None:
    rows = labelled(60)

    class Inside(type(rows)):  # type: ignore[misc]  # a class that is known at run time only
        @property
        def pieces(self) -> Any:
            return tuple(dataclasses.replace(each, path=str(tmp_path / "out" / "x")) for each in super().pieces)

    with pytest.raises(DataError, match="the source lies in it"):
        prepare_folder(Inside(rows.tables), tmp_path / "out", options(overwrite=True))


# --- a target that is there already ---------------------------------------------------------------------------------


def test_the_same_again_is_nothing_to_do(tmp_path: Path, labelled: Labelled) -> None:
    rows, said = labelled(60), list[str]()
    first = prepare_folder(rows, tmp_path / "out", options())
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}

    again = prepare_folder(rows, tmp_path / "out", options(memory_bytes=10**9, overwrite=True), say=said.append)

    assert again == first
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()} == before
    assert "nothing to do" in said[-1]


def test_other_content_is_refused_with_what_differs_and_replaced_when_asked(tmp_path: Path, labelled: Labelled) -> None:
    first = prepare_folder(labelled(60), tmp_path / "out", options())
    before = content_of(tmp_path / "out")

    with pytest.raises(DataError) as caught:
        prepare_folder(labelled(70), tmp_path / "out", options(validation_fraction=0.3))
    assert f"fingerprint is '{first.summary.fingerprint}', asked '" in str(caught.value)
    assert "validation_fraction is 0.2, asked 0.3); give another folder, or replace it with --overwrite" in str(
        caught.value
    )
    assert content_of(tmp_path / "out") == before

    second = prepare_folder(labelled(70), tmp_path / "out", options(validation_fraction=0.3, overwrite=True))
    assert read_manifest(tmp_path / "out") == second
    assert second.summary.n_rows == 70
    assert sorted(path.name for path in tmp_path.iterdir()) == [".preparing-out.lock", "out"]


def test_replacing_fails_without_touching_what_is_there(tmp_path: Path, labelled: Labelled) -> None:
    prepare_folder(labelled(60), tmp_path / "out", options())
    before = content_of(tmp_path / "out")

    with pytest.raises(DataError):
        prepare_folder(labelled(60, label=["cat"] * 60), tmp_path / "out", options(overwrite=True))

    assert content_of(tmp_path / "out") == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path, labelled: Labelled, overwrite: bool) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")

    assert "is there and is not prepared data" in refusal(labelled(60), tmp_path, overwrite=overwrite)


def test_an_empty_folder_is_filled(tmp_path: Path, labelled: Labelled) -> None:
    (tmp_path / "out").mkdir()

    prepare_folder(labelled(60), tmp_path / "out", options())

    assert (tmp_path / "out" / MANIFEST).exists()


def test_a_damaged_folder_is_refused_and_replaced_when_asked(tmp_path: Path, labelled: Labelled) -> None:
    prepare_folder(labelled(60), tmp_path / "out", options())
    (tmp_path / "out" / "train-00000.parquet").unlink()

    with pytest.raises(DataError, match=r"train-00000.parquet missing"):
        prepare_folder(labelled(60), tmp_path / "out", options())
    prepare_folder(labelled(60), tmp_path / "out", options(overwrite=True))

    assert len(rows_of(tmp_path / "out", TRAIN)) == 48


def test_folders_are_exchanged_without_the_system_call_too(
    tmp_path: Path, labelled: Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_folder, "_exchange", lambda one, other: False)
    prepare_folder(labelled(60), tmp_path / "out", options())

    prepare_folder(labelled(70), tmp_path / "out", options(overwrite=True))

    assert read_manifest(tmp_path / "out").summary.n_rows == 70
    assert sorted(path.name for path in tmp_path.iterdir()) == [".preparing-out.lock", "out"]


def test_a_second_process_waits_and_finds_the_work_done(tmp_path: Path, labelled: Labelled) -> None:
    rows, said = labelled(60), list[str]()
    prepare_folder(rows, tmp_path / "out", options())
    with (tmp_path / ".preparing-out.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        timer = threading.Timer(0.2, fcntl.flock, (held, fcntl.LOCK_UN))
        timer.start()

        prepare_folder(rows, tmp_path / "out", options(), say=said.append)
        timer.join()

    assert said[0] == f"another process prepares {tmp_path / 'out'}; waiting until it is done"
    assert "nothing to do" in said[1]


# --- stopped half-way -----------------------------------------------------------------------------------------------


class Stopped(Exception):
    """Where a process ends in a test."""


def stop_at(phase: str, n_rows: int) -> Callable[..., None]:
    def progress(name: str, done: int, total: int) -> None:
        if name == phase and done >= n_rows:
            raise Stopped

    return progress


@pytest.mark.parametrize(
    "stop", [("reading", 1), ("reading", 1000), ("reading", 2000), ("writing", 1), ("writing", 2000)]
)
@pytest.mark.parametrize("memory_bytes", [None, 1_000_000], ids=["in memory", "by way of the disk"])
def test_what_was_stopped_leaves_no_target_and_goes_on_to_the_same_bytes(
    tmp_path: Path, labelled: Labelled, stop: tuple[str, int], memory_bytes: int | None
) -> None:
    rows, said = labelled(2000, row_bytes=1000), list[str]()
    prepare_folder(rows, tmp_path / "undisturbed", options())

    with pytest.raises(Stopped):
        prepare_folder(rows, tmp_path / "out", options(memory_bytes=memory_bytes), progress=stop_at(*stop))
    assert not (tmp_path / "out").exists()

    prepare_folder(rows, tmp_path / "out", options(memory_bytes=memory_bytes), say=said.append)
    assert any(message.startswith("going on with what an earlier run left") for message in said)
    assert content_of(tmp_path / "out") == content_of(tmp_path / "undisturbed")


def test_spilled_groups_are_not_read_again_even_when_less_memory_is_free_by_chance(
    tmp_path: Path, labelled: Labelled
) -> None:
    rows = labelled(2000, row_bytes=1000)
    read: list[int] = []

    class Counting(type(rows)):  # type: ignore[misc]  # a class that is known at run time only
        def read(self, piece: Any) -> Iterator[pa.RecordBatch]:
            read.append(piece.position)
            yield from super().read(piece)

    with pytest.raises(Stopped):
        prepare_folder(rows, tmp_path / "out", options(memory_bytes=500_000), progress=stop_at("reading", 1200))
    prepare_folder(Counting(rows.tables), tmp_path / "out", options(memory_bytes=None))

    # Piece 0 once more for its head, which sizes the row groups; pieces 0 and 1 were spilled before.
    assert read == [0, 2]


def test_less_memory_than_before_spills_anew_in_smaller_parts(tmp_path: Path, labelled: Labelled) -> None:
    rows = labelled(2000, row_bytes=1000)
    prepare_folder(rows, tmp_path / "undisturbed", options())
    with pytest.raises(Stopped):
        prepare_folder(rows, tmp_path / "out", options(memory_bytes=500_000), progress=stop_at("reading", 1200))

    prepare_folder(rows, tmp_path / "out", options(memory_bytes=100_000))

    assert content_of(tmp_path / "out") == content_of(tmp_path / "undisturbed")


def test_work_on_other_content_is_not_gone_on_with(tmp_path: Path, labelled: Labelled) -> None:
    said: list[str] = []
    with pytest.raises(Stopped):
        prepare_folder(labelled(600), tmp_path / "out", options(memory_bytes=20_000), progress=stop_at("reading", 600))

    prepare_folder(labelled(600, seed=1), tmp_path / "out", options(), say=said.append)

    assert any("with other content or options; starting afresh" in message for message in said)
    assert len(rows_of(tmp_path / "out", TRAIN)) == 480


# --- no space, no store ---------------------------------------------------------------------------------------------


def test_too_little_space_is_told_before_anything_is_written(
    tmp_path: Path, labelled: Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10**5, 10**5))

    message = refusal(labelled(600, row_bytes=1000), tmp_path)

    assert message.startswith(f"{tmp_path}: about 0.7 MB are needed there and 0.1 MB are free; free some, or give")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_fills_up_is_told_and_the_same_command_goes_on(
    tmp_path: Path, labelled: Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = labelled(600)
    prepare_folder(rows, tmp_path / "undisturbed", options())
    work = work_folder.work_folder_of(tmp_path / "out")
    with pytest.raises(Stopped):
        prepare_folder(rows, tmp_path / "out", options(memory_bytes=20_000), progress=stop_at("reading", 600))
    (work / "train-00000.part").symlink_to("/dev/full")
    monkeypatch.setattr(work_folder, "_remove_unknown", lambda folder: None)

    with pytest.raises(DataError) as caught:
        prepare_folder(rows, tmp_path / "out", options(memory_bytes=20_000))
    assert f"{tmp_path / 'out'}: no space is left there (" in str(caught.value)
    assert f"what was made so far is kept in {work}: the same command goes on from there" in str(caught.value)
    assert not (tmp_path / "out").exists()

    (work / "train-00000.part").unlink()
    prepare_folder(rows, tmp_path / "out", options(memory_bytes=20_000))
    assert content_of(tmp_path / "out") == content_of(tmp_path / "undisturbed")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that refuses everyone, root too")
def test_a_folder_that_may_not_be_written(labelled: Labelled) -> None:
    with pytest.raises(DataError, match=r"/proc.*cannot be written"):
        prepare_folder(labelled(60), Path("/proc/prepared/out"), options())


def test_a_parent_that_is_a_file(tmp_path: Path, labelled: Labelled) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DataError, match=os.strerror(errno.EEXIST)):
        prepare_folder(labelled(60), tmp_path / "file" / "out", options())


def test_memory_is_taken_from_what_is_free() -> None:
    assert 0 < default_memory_bytes() <= 4 * 10**9


# --- a target in a store --------------------------------------------------------------------------------------------


def store_in(folder: Path) -> Location:
    """A store whose files lie in a folder."""
    store = pafs.SubTreeFileSystem(str(folder), pafs.LocalFileSystem())
    return Location(uri="s3://bucket/x", file_system=store, path="bucket/x")


def test_a_folder_is_uploaded_with_its_manifest_last(tmp_path: Path, labelled: Labelled) -> None:
    manifest: Manifest = prepare_folder(labelled(60), tmp_path / "out", options())
    told: list[tuple[str, int, int]] = []

    remote_target.upload(tmp_path / "out", store_in(tmp_path), lambda *t: told.append(t))

    assert content_of(tmp_path / "bucket" / "x") == content_of(tmp_path / "out")
    assert read_manifest(tmp_path / "bucket" / "x") == manifest
    assert told[-1][1] == told[-1][2]
    assert (
        remote_target.done_before(store_in(tmp_path), request_of(labelled(60), options()), overwrite=False) == manifest
    )


def test_an_upload_goes_on_and_takes_away_what_is_of_other_content(tmp_path: Path, labelled: Labelled) -> None:
    for n in (60, 70):
        prepare_folder(labelled(n), tmp_path / str(n), options())
    target = store_in(tmp_path)
    remote_target.upload(tmp_path / "60", target, lambda *t: None)
    (tmp_path / "bucket" / "x" / "train-00001.parquet").write_bytes(b"of a larger set")

    with pytest.raises(DataError, match=r"holds other prepared data .* replace it with --overwrite"):
        remote_target.done_before(target, request_of(labelled(70), options()), overwrite=False)
    remote_target.upload(tmp_path / "70", target, lambda *t: None)
    kept = (tmp_path / "bucket" / "x" / "train-00000.parquet").stat().st_mtime_ns
    remote_target.upload(tmp_path / "70", target, lambda *t: None)

    assert content_of(tmp_path / "bucket" / "x") == content_of(tmp_path / "70")
    assert (tmp_path / "bucket" / "x" / "train-00000.parquet").stat().st_mtime_ns == kept


def test_a_store_is_prepared_for_here_and_the_copy_is_forgotten(tmp_path: Path, labelled: Labelled) -> None:
    pytest.importorskip("fsspec")
    uri, said = f"memory://{tmp_path.name}/x", list[str]()

    first = prepare_folder(labelled(60), uri, options(scratch=tmp_path / "scratch"))
    again = prepare_folder(labelled(60), uri, options(scratch=tmp_path / "scratch"), say=said.append)
    with pytest.raises(DataError, match="holds other prepared data"):
        prepare_folder(labelled(70), uri, options(scratch=tmp_path / "scratch"))
    other = prepare_folder(labelled(70), uri, options(scratch=tmp_path / "scratch", overwrite=True))

    assert first == again
    assert "nothing to do" in said[-1]
    assert other.summary.n_rows == 70
    assert not [path for path in (tmp_path / "scratch").iterdir() if path.suffix != ".lock"]


def test_an_address_that_cannot_be_written(tmp_path: Path, labelled: Labelled) -> None:
    with pytest.raises(DataError, match="nothing here opens nowhere://"):
        prepare_folder(labelled(60), "nowhere://bucket/x", options(scratch=tmp_path))
