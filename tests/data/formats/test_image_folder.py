"""Image folders: classes are folders, the order is that of the content, and other layouts are told apart."""

from __future__ import annotations

import os
import runpy
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.data.formats import table_rows
from orchestrator.data.rows import RowSource
from orchestrator.errors import DataError

samples = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "samples.py")))
Open = Callable[..., RowSource]
Refusal = Callable[..., str]
_NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return samples.write_image_folder(tmp_path / "pets", samples.blobs(), samples.labels())


def pairs(rows: RowSource) -> list[tuple[bytes, str]]:
    table = samples.all_rows(rows)
    return list(zip(table["image"].to_pylist(), table["label"].to_pylist(), strict=True))


def test_bytes_class_and_path_of_every_image(folder: Path, opened: Open) -> None:
    table = samples.all_rows(opened(folder))

    assert table.schema.names == ["image", "label", "path"]
    assert sorted(table["image"].to_pylist()) == sorted(samples.blobs())
    for row in table.to_pylist():
        assert (folder / row["path"]).read_bytes() == row["image"]
        assert row["path"].startswith(row["label"] + "/")


def test_renaming_images_moves_nothing(folder: Path, opened: Open) -> None:
    before = opened(folder)
    expected, fingerprint = pairs(before), before.fingerprint
    for i, path in enumerate(sorted(folder.rglob("*.jpg"), reverse=True)):
        path.rename(path.with_name(f"other-{i}.jpeg"))

    after = opened(folder)

    assert pairs(after) == expected
    assert after.fingerprint == fingerprint


def test_renaming_a_class_is_another_content(folder: Path, opened: Open) -> None:
    before = opened(folder).fingerprint
    (folder / "cat").rename(folder / "lion")

    assert opened(folder).fingerprint != before


def test_one_image_in_two_classes_and_twice_in_one(tmp_path: Path, opened: Open) -> None:
    blob = samples.blobs()[0]
    first = samples.write_image_folder(tmp_path / "a", [blob] * 4, ["dog", "cat", "dog", "cat"])
    second = samples.write_image_folder(tmp_path / "b", [blob] * 4, ["cat", "cat", "dog", "dog"])

    assert pairs(opened(first)) == pairs(opened(second)) == [(blob, "cat"), (blob, "cat"), (blob, "dog"), (blob, "dog")]
    assert opened(first).fingerprint == opened(second).fingerprint


def test_pieces_are_runs_of_images(folder: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = samples.all_rows(opened(folder))
    monkeypatch.setattr("orchestrator.data.formats.image_folder.PIECE_BYTES", 500)

    rows = opened(folder)

    assert len(rows.pieces) > 5
    assert samples.all_rows(rows) == whole
    assert table_rows.PIECE_BYTES > 500


def test_images_in_folders_below_a_class_belong_to_it(folder: Path, opened: Open) -> None:
    (folder / "cat" / "black").mkdir()
    (folder / "cat" / "black" / "1.PNG").write_bytes(b"another")

    assert (b"another", "cat") in pairs(opened(folder))


def test_other_files_and_hidden_ones_are_no_images(folder: Path, opened: Open) -> None:
    (folder / "README.md").write_text("about pets")
    (folder / "cat" / ".DS_Store").write_bytes(b"x")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "1.jpg").write_bytes(b"x")

    assert len(pairs(opened(folder))) == 60


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("splits", [("train", "val", "test"), ("train",), ("Training", "Validation")])
def test_splits_are_not_merged(tmp_path: Path, refusal: Refusal, splits: tuple[str, ...]) -> None:
    for split in splits:
        samples.write_image_folder(tmp_path / "pets" / split, samples.blobs()[:6], samples.labels()[:6])

    assert refusal(tmp_path / "pets") == (
        f"{tmp_path / 'pets'}: holds splits ({', '.join(sorted(splits))}), which are not merged; give one of them, "
        f"such as {tmp_path / 'pets' / splits[0]}"
    )


def test_a_class_may_be_called_train(tmp_path: Path, opened: Open) -> None:
    folder = samples.write_image_folder(tmp_path / "vehicles", samples.blobs()[:4], ["train", "bus"] * 2)

    assert {label for _, label in pairs(opened(folder))} == {"train", "bus"}


def test_a_class_without_images(folder: Path, refusal: Refusal) -> None:
    (folder / "fox").mkdir()

    assert refusal(folder) == f"{folder}: no image in class folder 'fox'; fill it, or remove it"


def test_images_outside_the_classes(folder: Path, refusal: Refusal) -> None:
    (folder / "stray.jpg").write_bytes(b"x")

    assert refusal(folder) == (f"{folder}: 1 image lies outside the class folders (stray.jpg); move into one, or away")


def test_images_without_classes(tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "1.jpg").write_bytes(b"x")

    assert "holds no folders with images; an image folder has one folder per class" in refusal(tmp_path / "pets")


def test_an_image_that_changes_while_it_is_read(folder: Path, opened: Open) -> None:
    rows = opened(folder)
    path = folder / "dog" / "001.jpg"
    os.utime(path, (0, 0))

    with pytest.raises(DataError, match=r"001\.jpg: changed while it was read"):
        samples.all_rows(rows)


def test_an_image_that_vanishes_while_it_is_read(folder: Path, opened: Open) -> None:
    rows = opened(folder)
    (folder / "dog" / "001.jpg").unlink()

    with pytest.raises(DataError, match=r"001\.jpg: is not there"):
        samples.all_rows(rows)


def test_a_folder_that_may_not_be_read(opened: Open) -> None:
    with tempfile.TemporaryDirectory() as root:  # pytest's own folders let nobody else in
        folder = samples.write_image_folder(Path(root) / "pets", samples.blobs(), samples.labels())
        Path(root).chmod(0o755)
        (folder / "dog").chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(_NOBODY)  # the superuser may read everything
        try:
            with pytest.raises(DataError) as caught:
                opened(folder, format="images")
        finally:
            os.seteuid(user)
            (folder / "dog").chmod(0o755)

    assert f"{folder}: may not be read (" in str(caught.value)
    assert str(caught.value).endswith("give this user the right to list and to read it")
