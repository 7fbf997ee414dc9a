"""NPZ archives: which arrays are meant, their shapes, and what is refused."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from orchestrator.data.rows import RowSource

samples = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "samples.py")))
Open = Callable[..., RowSource]
Refusal = Callable[..., str]


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """``save(name=array, ...)``: an archive."""

    def write(name: str = "a.npz", *, compressed: bool = False, **arrays: Any) -> Path:
        path = tmp_path / name
        (np.savez_compressed if compressed else np.savez)(path, **arrays)
        return path

    return write


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("names", [("x", "y"), ("images", "labels"), ("image", "label")])
def test_arrays_in_common_use_are_found(
    save: Callable[..., Path], opened: Open, names: tuple[str, str], compressed: bool
) -> None:
    arrays = dict(zip(names, (samples.pixels(), samples.class_ids()), strict=True))

    rows = opened(save(compressed=compressed, **arrays))
    table = samples.all_rows(rows)

    assert rows.schema.field("image").metadata == {b"shape": b"1,4,6", b"dtype": b"uint8"}
    assert table["image"].to_pylist() == [image.tobytes() for image in samples.pixels()]
    assert table["label"].to_pylist() == samples.class_ids().tolist()


def test_arrays_are_taken_by_the_names_asked_for(save: Callable[..., Path], opened: Open) -> None:
    rows = opened(
        save(x_train=samples.pixels(), y_train=samples.class_ids(), x_test=samples.pixels()[:9]),
        image="x_train",
        label="y_train",
    )

    assert rows.schema.names == ["x_train", "y_train"]


@pytest.mark.parametrize(
    ("shape", "stored"),
    [((60, 3, 4, 6), "3,4,6"), ((60, 4, 6, 3), "3,4,6"), ((60, 4, 6), "1,4,6"), ((60, 24), "24")],
    ids=["channels first", "channels last", "grey", "flat"],
)
def test_channels_come_first(save: Callable[..., Path], opened: Open, shape: tuple[int, ...], stored: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    first = images.transpose(0, 3, 1, 2) if shape[-1] == 3 else images

    rows = opened(save(x=images, y=samples.class_ids()))

    assert rows.schema.field("image").metadata[b"shape"].decode() == stored
    assert samples.all_rows(rows)["image"].to_pylist() == [np.ascontiguousarray(image).tobytes() for image in first]


def test_doubles_are_read_as_floats_and_other_arrays_are_kept(save: Callable[..., Path], opened: Open) -> None:
    x = np.random.default_rng(0).normal(size=(60, 5))
    weights = np.linspace(0, 1, 60)

    rows = opened(save(x=x, y=np.array(samples.labels()), weight=weights))
    table = samples.all_rows(rows)

    assert rows.schema.field("image").metadata == {b"shape": b"5", b"dtype": b"float32"}
    assert table["image"].to_pylist() == [row.tobytes() for row in x.astype(np.float32)]
    assert table["weight"].to_pylist() == weights.tolist()
    assert table["label"].to_pylist() == samples.labels()
    assert rows.schema.field("label").type == pa.string()


def test_an_array_of_names_names_the_classes(save: Callable[..., Path], opened: Open) -> None:
    rows = opened(save(x=samples.pixels(), y=samples.class_ids(), class_names=np.array(samples.CLASSES)))

    assert rows.class_names("label") == samples.CLASSES
    assert rows.schema.names == ["image", "label"]


# --- what is refused ------------------------------------------------------------------------------------------------


def test_splits_are_not_merged(save: Callable[..., Path], refusal: Refusal) -> None:
    x, y = samples.pixels(), samples.class_ids()
    path = save(x_train=x, y_train=y, x_test=x[:10], y_test=y[:10])

    assert refusal(path) == (
        f"{path}: holds splits (x_train, y_train, x_test, y_test), which are not merged; name the arrays of one, such "
        "as data.image: x_train"
    )


def test_pickled_objects_are_not_read(save: Callable[..., Path], refusal: Refusal) -> None:
    path = save(x=samples.pixels(), y=np.array([{"class": "cat"}] * 60))

    assert "array 'y' holds pickled Python objects, which are not read since they can run code" in refusal(path)


def test_lengths_that_differ(save: Callable[..., Path], refusal: Refusal) -> None:
    path = save(x=samples.pixels(), y=samples.class_ids()[:50])

    assert refusal(path) == (f"{path}: 'y' has the shape (50,) but 'x' (60, 4, 6); they must have as many rows")


def test_columns_stored_one_after_the_other(save: Callable[..., Path], refusal: Refusal) -> None:
    path = save(x=np.asfortranarray(samples.pixels()), y=samples.class_ids())

    assert refusal(path).endswith("array 'x' is stored column by column; save it again with np.ascontiguousarray")


def test_an_array_that_is_not_there(save: Callable[..., Path], refusal: Refusal) -> None:
    path = save(x=samples.pixels(), y=samples.class_ids())

    assert refusal(path, label="class") == (f"{path}: data.label: there is no column 'class'; columns: image, y")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_truncated_archive(save: Callable[..., Path], refusal: Refusal, share: float) -> None:
    path = save(x=samples.pixels(), y=samples.class_ids())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    assert refusal(path).startswith(f"{path}: cannot be read as NPZ (")


def test_damage_inside_an_array_is_seen_by_its_checksum(save: Callable[..., Path], refusal: Refusal) -> None:
    path = save(x=samples.pixels(), y=samples.class_ids())
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(bytes(content))

    assert "Bad CRC-32" in refusal(path)


def test_types_that_differ_between_files(save: Callable[..., Path], refusal: Refusal, tmp_path: Path) -> None:
    save("a.npz", x=samples.pixels(), y=samples.class_ids())
    save("b.npz", x=samples.pixels(), y=np.array(samples.labels()))

    assert refusal(tmp_path).startswith("data.label: column 'label' is ")
