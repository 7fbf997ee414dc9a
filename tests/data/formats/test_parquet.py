"""Parquet: one file or many, their row groups as pieces, and what is refused."""

from __future__ import annotations

import json
import os
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.data.formats import table_rows
from orchestrator.data.rows import RowSource
from orchestrator.errors import DataError

samples = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "samples.py")))
Open = Callable[..., RowSource]
Refusal = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """``write(name, column=values, ...)``: a file under ``data/`` of images and labels, and what is given."""

    def write_file(name: str = "a.parquet", metadata: dict[str, str] | None = None, **columns: Any) -> Path:
        whole = {"image": samples.blobs(), "label": samples.labels()} | columns
        return samples.write_parquet(tmp_path / "data" / name, whole, metadata)

    return write_file


def test_pieces_are_runs_of_row_groups_that_are_read_apart(
    write: Callable[..., Path], opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [bytes([i]) * 50 for i in range(60)]
    path = write(image=images)
    monkeypatch.setattr(table_rows, "PIECE_BYTES", pq.read_metadata(path).row_group(0).total_byte_size + 10)
    rows = opened(path)

    parts = [[row for batch in rows.read(piece) for row in batch["image"].to_pylist()] for piece in rows.pieces]

    assert [piece.position for piece in rows.pieces] == [0, 2, 4]
    assert [piece.n_rows for piece in rows.pieces] == [20, 20, 20]
    assert [row for part in parts for row in part] == images
    assert next(iter(rows.read(rows.pieces[1])))["image"].to_pylist() == images[20:40]


def test_files_are_taken_in_the_order_of_their_content(
    write: Callable[..., Path], opened: Open, tmp_path: Path
) -> None:
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        write(f"{name}.parquet", image=samples.blobs(seed))
    before = opened(tmp_path / "data")
    table, fingerprint = samples.all_rows(before), before.fingerprint
    for old, new in (("a", "z"), ("b", "a"), ("c", "m")):
        (tmp_path / "data" / f"{old}.parquet").rename(tmp_path / "data" / f"{new}.parquet.moved")
    for moved in (tmp_path / "data").iterdir():
        moved.rename(moved.with_suffix(""))

    after = opened(tmp_path / "data")

    assert samples.all_rows(after) == table
    assert after.fingerprint == fingerprint


def test_hugging_faces_structs_become_bytes_and_its_names_are_kept(write: Callable[..., Path], opened: Open) -> None:
    described = {"huggingface": json.dumps({"info": {"features": {"label": {"names": ["cat", "dog", "owl"]}}}})}
    images = [{"bytes": blob, "path": None} for blob in samples.blobs()]

    rows = opened(write(image=images, label=samples.class_ids(), metadata=described))

    assert rows.schema.field("image").type == pa.binary()
    assert samples.all_rows(rows)["image"].to_pylist() == samples.blobs()
    assert rows.class_names("label") == ("cat", "dog", "owl")
    assert rows.class_names("image") is None


def test_class_names_with_commas_between_in_the_metadata(write: Callable[..., Path], opened: Open) -> None:
    rows = opened(write(label=samples.class_ids(), metadata={"classes": "cat, dog,owl", "origin": "a test"}))

    assert rows.class_names("label") == ("cat", "dog", "owl")


def test_large_types_and_categories_are_read_as_plain_ones(write: Callable[..., Path], opened: Open) -> None:
    rows = opened(
        write(
            label=pa.array(samples.labels()).dictionary_encode(),
            image=pa.array(samples.blobs(), pa.large_binary()),
            note=pa.array(["x"] * 60, pa.large_string()),
        )
    )

    assert rows.schema.types == [pa.binary(), pa.string(), pa.string()]
    assert samples.all_rows(rows)["label"].to_pylist() == samples.labels()


def test_raw_tensors_keep_their_shape(tmp_path: Path, opened: Open) -> None:
    metadata = {b"shape": b"1,4,6", b"dtype": b"uint8"}
    schema = pa.schema([pa.field("image", pa.binary(24), metadata=metadata), ("label", pa.string())])
    images = pa.array([image.tobytes() for image in samples.pixels()], pa.binary(24))
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table([images, samples.labels()], schema=schema), path)

    rows = opened(path)

    assert rows.schema.field("image") == schema.field("image")
    assert rows.schema.field("image").metadata == metadata
    assert samples.all_rows(rows)["image"].to_pylist() == images.to_pylist()


def test_a_column_that_is_null_throughout_one_file_takes_the_type_of_the_others(
    write: Callable[..., Path], opened: Open, tmp_path: Path
) -> None:
    write("a.parquet", note=[None] * 60)
    write("b.parquet", note=["x"] * 60)

    table = samples.all_rows(opened(tmp_path / "data"))

    assert table.schema.field("note").type == pa.string()
    assert table["note"].null_count == 60


def test_missing_labels_stay_missing(write: Callable[..., Path], opened: Open) -> None:
    rows = opened(write(label=[None, *samples.labels()[1:]]))

    assert rows.columns(["label"])["label"].null_count == 1


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99], ids=["empty", "half", "without its footer"])
def test_a_truncated_file_is_named(write: Callable[..., Path], refusal: Refusal, tmp_path: Path, share: float) -> None:
    write("good.parquet")
    path = write("bad.parquet")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    message = refusal(tmp_path / "data")

    assert message.startswith(f"{path}: cannot be read as Parquet (")
    assert message.endswith("it may be truncated or of another format: fetch or write it again")


def test_damage_inside_a_column_is_named(write: Callable[..., Path], refusal: Refusal) -> None:
    path = write()
    start = pq.read_metadata(path).row_group(3).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 64] = b"\xff" * 64
    path.write_bytes(bytes(content))

    assert refusal(path).startswith(f"{path}: cannot be read as Parquet (")


def test_a_file_of_another_format_is_named(tmp_path: Path, refusal: Refusal) -> None:
    path = tmp_path / "train.parquet"
    path.write_text("image,label\nx,1\n" * 10)

    assert refusal(path).startswith(f"{path}: cannot be read as Parquet (")


def test_types_that_differ_between_files(write: Callable[..., Path], refusal: Refusal, tmp_path: Path) -> None:
    write("a.parquet", price=[1.5] * 60)
    write("b.parquet", price=["1.5"] * 60)

    message = refusal(tmp_path / "data")

    assert "column 'price' is " in message
    assert {"double", "string"} <= set(message.replace(";", " ").split())
    assert f"{tmp_path / 'data' / 'a.parquet'}" in message
    assert f"{tmp_path / 'data' / 'b.parquet'}" in message
    assert message.endswith("it must have one type in all files")


def test_a_label_type_that_differs_between_files(write: Callable[..., Path], refusal: Refusal, tmp_path: Path) -> None:
    write("a.parquet", label=samples.class_ids())
    write("b.parquet")

    assert refusal(tmp_path / "data").startswith("data.label: column 'label' is ")


def test_columns_that_differ_between_files(write: Callable[..., Path], refusal: Refusal, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write("a.parquet", note=["x"] * 60)
    write("b.parquet")

    assert refusal(folder) == (
        f"column 'note' is in {folder / 'a.parquet'} but not in {folder / 'b.parquet'} (which has: image, label); all "
        "files must have the same columns: choose them with data.files, or write them again"
    )


def test_class_names_that_differ_between_files(write: Callable[..., Path], refusal: Refusal, tmp_path: Path) -> None:
    write("a.parquet", label=samples.class_ids(), metadata={"classes": "cat,dog,owl"})
    write("b.parquet", label=samples.class_ids(), metadata={"classes": "dog,cat,owl"})

    message = refusal(tmp_path / "data")

    assert message.startswith("data.label: class names of column 'label' are ")
    assert message.endswith("a number must stand for one class in all files")


def test_an_image_column_that_is_not_there(write: Callable[..., Path], refusal: Refusal) -> None:
    path = write()

    assert refusal(path, image="imgae") == (
        f"{path}: data.image: there is no column 'imgae'; did you mean 'image'? of bytes: image; columns: image, label"
    )


def test_an_image_column_without_bytes(write: Callable[..., Path], refusal: Refusal) -> None:
    path = write(n=range(60))

    assert refusal(path, image="n") == (
        f"{path}: data.image: column 'n' is int64, not encoded images; of bytes: image; columns: image, label, n"
    )


def test_rows_need_not_be_images(tmp_path: Path, opened: Open, refusal: Refusal) -> None:
    path = samples.write_parquet(tmp_path / "a.parquet", {"n": range(60), "label": samples.labels()})

    assert opened(path).schema.names == ["n", "label"]
    assert "data.image: there is no column 'photo'; of bytes: none" in refusal(path, image="photo")


def test_images_that_are_names_of_files(write: Callable[..., Path], refusal: Refusal) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    path = write(image=pa.array([{"bytes": None, "path": "photos/1.jpg"}] * 60, kind))

    assert refusal(path).startswith(
        f"{path}: column 'image' holds names of image files ('photos/1.jpg') in place of their bytes; "
    )


def test_a_column_that_is_there_twice(tmp_path: Path, refusal: Refusal) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["label", "label"]), path)

    assert "'label' is there more than once" in refusal(path)


def test_a_file_that_changes_while_it_is_read(write: Callable[..., Path], opened: Open) -> None:
    path = write()
    rows = opened(path)
    os.utime(path, (0, 0))

    for read in (lambda: rows.columns(["label"]), lambda: list(rows.read(rows.pieces[0]))):
        with pytest.raises(DataError, match="changed while it was read; run again when nothing writes to it"):
            read()


def test_a_file_that_vanishes_while_it_is_read(write: Callable[..., Path], opened: Open) -> None:
    path = write()
    rows = opened(path)
    path.unlink()

    with pytest.raises(DataError, match="is not there"):
        list(rows.read(rows.pieces[0]))
