"""Every format keeps the same promises: all rows once, in an order of content, in small batches, in any process."""

from __future__ import annotations

import os
import pickle
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from orchestrator.data.formats import check_rows, open_rows
from orchestrator.data.formats.table_rows import BATCH_BYTES, BATCH_ROWS, in_bounds
from orchestrator.data.rows import RowSource
from orchestrator.errors import DataError

samples = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "samples.py")))
Open = Callable[..., RowSource]
Write = Callable[[Path], Path]


def _parquet(path: Path) -> Path:
    return samples.write_parquet(path / "a.parquet", {"image": samples.blobs(), "label": samples.labels()}).parent


def _images(path: Path) -> Path:
    return samples.write_image_folder(path, samples.blobs(), samples.labels())


def _csv(path: Path) -> Path:
    path.mkdir()
    return samples.write_csv(path / "a.csv", {"n": range(60), "label": samples.labels()}).parent


def _json_lines(path: Path) -> Path:
    path.mkdir()
    return samples.write_json_lines(path / "a.jsonl", {"n": range(60), "label": samples.labels()}).parent


def _npz(path: Path) -> Path:
    path.mkdir()
    np.savez(path / "a.npz", image=samples.pixels(), label=samples.class_ids())
    return path


def _tfrecord(path: Path) -> Path:
    path.mkdir()
    rows = [
        {"image": blob, "label": label.encode()} for blob, label in zip(samples.blobs(), samples.labels(), strict=True)
    ]
    return samples.write_tfrecord(path / "a.tfrecord", rows).parent


FORMATS: dict[str, Write] = {
    "Parquet": _parquet,
    "image folder": _images,
    "CSV": _csv,
    "JSON lines": _json_lines,
    "IDX": samples.write_idx,
    "NPZ": _npz,
    "TFRecord": _tfrecord,
    "Hugging Face data set": samples.write_huggingface,
}


@pytest.fixture(params=FORMATS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """Name of a format, and a folder of it."""
    return request.param, FORMATS[request.param](tmp_path / "data")


def test_a_folder_is_recognised_and_every_row_comes_once(source: tuple[str, Path], opened: Open) -> None:
    name, path = source

    rows = opened(path)
    table = samples.all_rows(rows)

    assert rows.format == name
    assert check_rows(str(path)) is None
    assert len(table) == 60
    assert len(set(map(str, table.to_pylist()))) == 60
    assert table.schema == rows.schema
    names = [samples.CLASSES[i] if isinstance(i, int) else i for i in table["label"].to_pylist()]
    assert sorted(names) == sorted(samples.labels())


def test_pieces_follow_one_another_without_gaps(source: tuple[str, Path], opened: Open) -> None:
    pieces = opened(source[1]).pieces

    assert [piece.first_row for piece in pieces] == np.cumsum([0, *(piece.n_rows for piece in pieces)])[:-1].tolist()
    assert all(Path(piece.path).exists() for piece in pieces)


def test_columns_alone_are_those_of_the_whole_rows(source: tuple[str, Path], opened: Open) -> None:
    rows = opened(source[1])
    table = samples.all_rows(rows)

    for names in (["label"], list(reversed(rows.schema.names))):
        assert rows.columns(names).combine_chunks() == table.select(names).combine_chunks()
    with pytest.raises(DataError, match=r"there is no column 'lable'; did you mean 'label'\?"):
        rows.columns(["lable"])


def test_another_process_reads_the_same_rows(source: tuple[str, Path], opened: Open) -> None:
    rows = opened(source[1])

    other = pickle.loads(pickle.dumps(rows))

    assert other.pieces == rows.pieces
    assert other.fingerprint == rows.fingerprint
    assert samples.all_rows(other) == samples.all_rows(rows)


def test_renaming_the_folder_moves_nothing(source: tuple[str, Path], opened: Open) -> None:
    path = source[1]
    before = opened(path)
    table, fingerprint = samples.all_rows(before), before.fingerprint
    moved = path.rename(path.with_name("elsewhere"))

    after = opened(moved)

    assert after.fingerprint == fingerprint
    assert samples.all_rows(after) == table
    assert len(fingerprint) == 16


def test_a_file_that_changes_after_it_was_opened_is_refused(source: tuple[str, Path], opened: Open) -> None:
    rows = opened(source[1])
    for path in source[1].rglob("*"):
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1000))

    with pytest.raises(DataError, match="changed while it was read; run again when nothing writes to it"):
        samples.all_rows(rows)


def test_a_label_that_is_not_there_is_told_with_what_may_be_meant(source: tuple[str, Path], opened: Open) -> None:
    with pytest.raises(DataError, match=r"data\.label: there is no column 'lable'; did you mean 'label'\? columns: "):
        opened(source[1], label="lable")


def test_rows_without_a_label_are_read_too(source: tuple[str, Path], opened: Open) -> None:
    assert len(samples.all_rows(opened(source[1], label=None))) == 60


def test_batches_are_bounded_in_rows_and_bytes() -> None:
    narrow = pa.record_batch({"n": np.arange(3000)})
    wide = pa.record_batch({"blob": [bytes(1 << 20)] * 40})

    assert [len(part) for part in in_bounds(narrow)] == [BATCH_ROWS, BATCH_ROWS, 3000 - 2 * BATCH_ROWS]
    assert all(part.nbytes <= BATCH_BYTES for part in in_bounds(wide))
    assert sum(map(len, in_bounds(wide))) == 40


def test_scikit_learns_digits_are_tensors_with_their_scale(cache: Path) -> None:
    rows = open_rows("sklearn:digits", label="label", cache_dir=cache)
    again = open_rows("sklearn:digits", label="label", cache_dir=cache)

    table = samples.all_rows(rows)
    metadata: dict[bytes, Any] = rows.schema.field("image").metadata

    assert again.fingerprint == rows.fingerprint
    assert table.schema == rows.schema
    assert len(table) == rows.pieces[0].n_rows == 1797
    assert metadata == {b"shape": b"1,8,8", b"dtype": b"uint8", b"scale": b"16"}
    assert max(map(max, table["image"].to_pylist())) == 16
    assert rows.class_names("label") == tuple("0123456789")
    assert table["label"].to_pylist()[:10] == list(range(10))
