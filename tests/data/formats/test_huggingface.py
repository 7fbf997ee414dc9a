"""Folders that save_to_disk writes."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.data.formats import check_rows
from orchestrator.data.rows import RowSource

samples = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "samples.py")))
Open = Callable[..., RowSource]
Refusal = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return samples.write_huggingface(tmp_path / "set")


def test_images_labels_and_class_names(folder: Path, opened: Open) -> None:
    rows = opened(folder)
    table = samples.all_rows(rows)

    assert rows.class_names("label") == samples.CLASSES
    assert sorted(table["image"].to_pylist()) == sorted(samples.blobs())
    pairs = set(zip(table["image"].to_pylist(), table["label"].to_pylist(), strict=True))
    assert pairs == set(zip(samples.blobs(), samples.class_ids().tolist(), strict=True))


def test_pieces_are_runs_of_record_batches(folder: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = samples.all_rows(opened(folder))
    monkeypatch.setattr("orchestrator.data.formats.table_rows.PIECE_BYTES", 700)

    rows = opened(folder)

    assert len(rows.pieces) > 3
    assert {piece.position for piece in rows.pieces} > {0}
    assert samples.all_rows(rows) == whole


# --- what is refused ------------------------------------------------------------------------------------------------


def test_several_splits_are_named(tmp_path: Path, refusal: Refusal) -> None:
    root = tmp_path / "sets"
    for split in ("train", "test"):
        samples.write_huggingface(root / split)
    (root / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))

    message = f"{root}: holds splits (train, test), which are not merged; give one of them, such as {root / 'train'}"

    assert refusal(root) == message
    fault = check_rows(str(root))
    assert fault is not None
    assert fault.message == message


def test_a_file_that_is_named_but_not_there(folder: Path, refusal: Refusal) -> None:
    (folder / "data-00001-of-00002.arrow").unlink()

    assert refusal(folder) == (
        f"{folder}: data-00001-of-00002.arrow is not there, though state.json names it; fetch or write the data "
        "set again"
    )


def test_a_file_that_is_not_named_is_left_alone(folder: Path, opened: Open) -> None:
    (folder / "cache-123.arrow").write_bytes(b"x")

    assert len(samples.all_rows(opened(folder))) == 60


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
def test_a_truncated_file(folder: Path, refusal: Refusal, share: float) -> None:
    path = folder / "data-00000-of-00002.arrow"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    message = refusal(folder)

    assert message.startswith(f"{path}: cannot be read as ")
    assert message.endswith("it may be truncated or of another format: fetch or write it again")


def test_a_selection_of_rows_that_is_kept_apart(folder: Path, refusal: Refusal) -> None:
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(state | {"_indices_data_files": [{"filename": "indices.arrow"}]}))

    assert refusal(folder).endswith("write it again after flatten_indices()")


def test_a_damaged_state(folder: Path, refusal: Refusal) -> None:
    (folder / "state.json").write_text("{")

    assert refusal(folder).startswith(f"{folder / 'state.json'}: is no JSON (")
