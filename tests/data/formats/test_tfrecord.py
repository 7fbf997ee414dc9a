"""TFRecord files without TensorFlow: types of features, checksums, and damage told by its byte."""

from __future__ import annotations

import gzip
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from orchestrator.data.rows import RowSource

samples = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "samples.py")))
Open = Callable[..., RowSource]
Refusal = Callable[..., str]


def rows_of(**changes: Any) -> list[dict[str, Any]]:
    """Sixty rows; a change gives the value of a feature for a row number."""
    rows = [
        {"image": blob, "label": label.encode(), "n": i - 30, "x": i / 4}
        for i, (blob, label) in enumerate(zip(samples.blobs(), samples.labels(), strict=True))
    ]
    return [row | {name: value(i) for name, value in changes.items()} for i, row in enumerate(rows)]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """``write(name=..., feature=lambda row: value)``."""

    def write_file(name: str = "a.tfrecord", **changes: Any) -> Path:
        path: Path = samples.write_tfrecord(tmp_path / name, rows_of(**changes))
        return path

    return write_file


def offset_of(row: int) -> int:
    return sum(len(samples.record(samples.example(each))) for each in rows_of()[:row])


def test_bytes_text_whole_numbers_and_floats(write: Callable[..., Path], opened: Open) -> None:
    rows = opened(write())
    table = samples.all_rows(rows)

    assert dict(zip(rows.schema.names, rows.schema.types, strict=True)) == {
        "image": pa.binary(), "label": pa.string(), "n": pa.int64(), "x": pa.float32(),
    }  # fmt: skip
    assert table["image"].to_pylist() == samples.blobs()
    assert table["label"].to_pylist() == samples.labels()
    assert table["n"].to_pylist() == list(range(-30, 30))
    assert table["x"].to_pylist() == [i / 4 for i in range(60)]


def test_several_values_are_lists(write: Callable[..., Path], opened: Open) -> None:
    rows = opened(write(box=lambda i: [0.5] * (i % 3), words=lambda i: [b"a"] * (1 + i % 2)))

    assert rows.schema.field("box").type == pa.list_(pa.float32())
    assert rows.schema.field("words").type == pa.list_(pa.string())
    table = samples.all_rows(rows)
    assert [len(box or []) for box in table["box"].to_pylist()] == [i % 3 for i in range(60)]
    assert table["words"].to_pylist()[:2] == [["a"], ["a", "a"]]


def test_a_feature_that_some_records_lack_is_null_there(tmp_path: Path, opened: Open) -> None:
    rows = rows_of()
    del rows[7]["n"]

    table = samples.all_rows(opened(samples.write_tfrecord(tmp_path / "a.tfrecord", rows)))

    assert table["n"].null_count == 1
    assert table["n"][7].as_py() is None


def test_images_are_bytes_even_where_they_could_be_text(write: Callable[..., Path], opened: Open) -> None:
    path = write(image=lambda i: b"plain")

    assert opened(path).schema.field("image").type == pa.binary()
    assert opened(path, image=None).schema.field("image").type == pa.string()


def test_gzipped_files_and_numbered_shards(write: Callable[..., Path], opened: Open, tmp_path: Path) -> None:
    plain = write()
    folder = tmp_path / "shards"
    folder.mkdir()
    (folder / "train.tfrecord-00000-of-00001.gz").write_bytes(gzip.compress(plain.read_bytes()))

    assert samples.all_rows(opened(folder)) == samples.all_rows(opened(plain))


def test_pieces_are_runs_of_records_found_by_their_byte(
    write: Callable[..., Path], opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write()
    whole = samples.all_rows(opened(path))
    monkeypatch.setattr("orchestrator.data.formats.tfrecord.PIECE_BYTES", 2000)

    rows = opened(path)

    assert len(rows.pieces) > 3
    assert all(piece.position == offset_of(piece.first_row) for piece in rows.pieces)
    assert samples.all_rows(rows) == whole


def test_a_file_without_a_telling_name_is_known_by_its_first_bytes(write: Callable[..., Path], opened: Open) -> None:
    assert opened(write("data.bin")).format == "TFRecord"


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cut", "what"), [(5, "it ends within the length"), (20, "it ends after 8 of ")], ids=["length", "data"]
)
def test_a_truncated_record(write: Callable[..., Path], refusal: Refusal, cut: int, what: str) -> None:
    path = write()
    path.write_bytes(path.read_bytes()[: offset_of(40) + cut])

    message = refusal(path)

    assert message.startswith(f"{path}: the record at byte {offset_of(40):,} is damaged: {what}")
    assert message.endswith("fetch or write the file again")


@pytest.mark.parametrize(
    ("at", "what"), [(0, "the checksum of its length is wrong"), (30, "the checksum of its data is wrong")]
)
def test_a_flipped_bit(write: Callable[..., Path], refusal: Refusal, at: int, what: str) -> None:
    path = write()
    content = bytearray(path.read_bytes())
    content[offset_of(40) + at] ^= 1
    path.write_bytes(bytes(content))

    assert refusal(path).startswith(f"{path}: the record at byte {offset_of(40):,} is damaged: {what}")


def test_records_of_another_message(tmp_path: Path, refusal: Refusal) -> None:
    path = tmp_path / "a.tfrecord"
    path.write_bytes(samples.record(b"\xff\xff not an example"))

    assert f"{path}: the record at byte 0 is damaged: it holds no tf.train.Example" in refusal(path)


def test_an_empty_file(tmp_path: Path, refusal: Refusal) -> None:
    path = tmp_path / "a.tfrecord"
    path.touch()

    assert refusal(path) == f"{path}: holds no record; fetch or write it again"


def test_a_type_that_changes_within_the_first_records(write: Callable[..., Path], refusal: Refusal) -> None:
    path = write(n=lambda i: b"many" if i == 40 else 7)

    assert refusal(path).startswith(
        f"{path}: feature 'n' is int64 in the first records but string in the record at byte "
    )


def test_a_type_that_changes_later(
    write: Callable[..., Path], refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.data.formats.tfrecord._FIRST_RECORDS", 10)
    path = write(n=lambda i: b"many" if i == 40 else i - 30)

    assert refusal(path) == (
        f"{path}: feature 'n' is int64 in the first records but binary in the record at byte {offset_of(40):,}; it "
        "must have one type in all records"
    )


def test_several_values_that_come_late(
    write: Callable[..., Path], refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.data.formats.tfrecord._FIRST_RECORDS", 10)

    assert "has one value in the first 10 records but 2 in the record at byte" in refusal(
        write(x=lambda i: [1.0, 2.0] if i == 40 else 1.0)
    )


def test_a_feature_that_comes_late(
    write: Callable[..., Path], refusal: Refusal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.data.formats.tfrecord._FIRST_RECORDS", 10)
    rows = rows_of()
    rows[40]["late"] = 1

    message = refusal(samples.write_tfrecord(tmp_path / "a.tfrecord", rows))

    assert f"the record at byte {offset_of(40):,} has a feature 'late' that the first 10 lack" in message


def test_features_that_differ_between_files(write: Callable[..., Path], refusal: Refusal, tmp_path: Path) -> None:
    write("a.tfrecord")
    write("b.tfrecord", n=lambda i: 0.5)

    message = refusal(tmp_path)

    assert message.startswith("column 'n' is ")
    assert {"int64", "float"} <= set(message.replace(";", " ").split())
