"""IDX pairs as MNIST comes: found by their names, plain or gzipped, whole or refused."""

from __future__ import annotations

import gzip
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from orchestrator.data.rows import RowSource

samples = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "samples.py")))
Open = Callable[..., RowSource]
Refusal = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return samples.write_idx(tmp_path / "mnist")


def test_pixels_and_labels_come_out_as_they_went_in(folder: Path, opened: Open) -> None:
    rows = opened(folder)
    table = samples.all_rows(rows)

    assert rows.schema.field("image").metadata == {b"shape": b"1,4,6", b"dtype": b"uint8"}
    assert table["image"].to_pylist() == [image.tobytes() for image in samples.pixels()]
    assert table["label"].to_pylist() == samples.class_ids().tolist()


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
def test_either_file_names_the_pair(folder: Path, opened: Open, name: str) -> None:
    assert opened(folder / name).fingerprint == opened(folder).fingerprint


def test_gzipped_files_hold_the_same_rows(folder: Path, opened: Open) -> None:
    plain = samples.all_rows(opened(folder))
    for path in list(folder.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()

    rows = opened(folder)

    assert len(rows.pieces) == 1
    assert samples.all_rows(rows) == plain


def test_pieces_are_runs_of_rows(folder: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = samples.all_rows(opened(folder))
    monkeypatch.setattr("orchestrator.data.formats.idx.PIECE_BYTES", 24 * 25)

    rows = opened(folder)

    assert [(piece.first_row, piece.n_rows) for piece in rows.pieces] == [(0, 25), (25, 25), (50, 10)]
    assert samples.all_rows(rows) == whole


def test_floating_numbers_are_turned_to_this_machines_byte_order(folder: Path, opened: Open) -> None:
    images = (samples.pixels() / 255).astype(np.float32)
    (folder / "train-images-idx3-ubyte").write_bytes(samples.idx_bytes(images))

    rows = opened(folder)

    assert rows.schema.field("image").metadata[b"dtype"] == b"float32"
    assert samples.all_rows(rows)["image"].to_pylist() == [image.astype("<f4").tobytes() for image in images]


def test_images_alone_are_enough_without_a_label(folder: Path, opened: Open) -> None:
    (folder / "train-labels-idx1-ubyte").unlink()

    assert samples.all_rows(opened(folder, label=None)).schema.names == ["image"]


# --- what is refused ------------------------------------------------------------------------------------------------


def test_two_pairs_are_not_merged(folder: Path, refusal: Refusal, opened: Open) -> None:
    samples.write_idx(folder, "t10k", seed=1)

    message = refusal(folder)

    assert message == (
        f"{folder}: holds 2 pairs of IDX files (t10k-images-idx3-ubyte, train-images-idx3-ubyte), which are not "
        "merged; choose one with data.files, such as 'train-*'"
    )
    assert len(samples.all_rows(opened(folder, files="train-*"))) == 60


def test_labels_that_are_not_there(folder: Path, refusal: Refusal) -> None:
    (folder / "train-labels-idx1-ubyte").unlink()

    assert "no pair of images and labels among train-images-idx3-ubyte" in refusal(folder)


def test_labels_of_another_length(folder: Path, refusal: Refusal) -> None:
    (folder / "train-labels-idx1-ubyte").write_bytes(samples.idx_bytes(samples.class_ids()[:50]))

    assert "has the shape (50,) where 60 labels are needed" in refusal(folder)


def test_a_truncated_file(folder: Path, refusal: Refusal) -> None:
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])

    assert refusal(folder).startswith(
        f"{path}: cannot be read as IDX (holds 1,455 bytes where its header tells of 1,456); it may be truncated"
    )


@pytest.mark.parametrize("n_bytes", [2, 10, 200])
def test_a_truncated_gzipped_file(folder: Path, refusal: Refusal, n_bytes: int) -> None:
    path = folder / "train-images-idx3-ubyte"
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()[:n_bytes]))
    path.unlink()

    assert refusal(folder, format="idx").startswith(f"{packed}: cannot be read as IDX (")


def test_numbers_that_are_neither_bytes_nor_floating(folder: Path, refusal: Refusal) -> None:
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(samples.idx_bytes(samples.pixels().astype(np.int32)))

    assert refusal(folder) == (
        f"{path}: 'image' holds int32 numbers; tensors are uint8, or floating (read as float32): write it as uint8"
    )
