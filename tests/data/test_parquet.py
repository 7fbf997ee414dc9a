"""Images in Parquet: what is read, and how what cannot be trained on is refused."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from orchestrator.data.parquet import ParquetImages
from orchestrator.data.prepared import PreparedData, prepare
from orchestrator.errors import DataError
from orchestrator.spec import DataSpec

Pixels = npt.NDArray[np.uint8]
WriteParquet = Callable[..., Path]
RandomPixels = Callable[..., Pixels]
Encode = Callable[[Pixels], bytes]


def read(path: Path, **options: Any) -> PreparedData:
    cache = path.parent.parent / "cache"
    return prepare(
        DataSpec(**({"source": str(path), "validation_fraction": 0.5} | options)), cache, lambda message: None
    )


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(path, **options)
    assert caught.value.exit_code == 1
    message = str(caught.value)
    assert "\n" not in message
    return message


def encoded(pixels: Pixels, mode: str, kind: str = "png") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "wrap", [lambda image: image, lambda image: {"bytes": image, "path": "x.png"}], ids=["bytes", "struct"]
)
def test_images_come_out_as_they_went_in(
    write_parquet: WriteParquet, wrap: Any, random_pixels: RandomPixels, png: Encode
) -> None:
    pixels = random_pixels(20)
    path = write_parquet([wrap(png(image)) for image in pixels], [0, 1] * 10)

    prepared = read(path)

    assert prepared.inputs.shape == (20, 3, 4, 6)
    assert (prepared.inputs == pixels.transpose(0, 3, 1, 2)).all()
    assert prepared.input_scale == 255


def test_grey_and_transparent_images_become_rgb(write_parquet: WriteParquet, random_pixels: RandomPixels) -> None:
    pixels = random_pixels(4)
    path = write_parquet([encoded(pixels[i], mode) for i, mode in enumerate(["L", "RGBA", "RGB", "CMYK"][:3])] + [
        encoded(pixels[3], "CMYK", "jpeg")], [0, 1, 0, 1])  # fmt: skip

    prepared = read(path)

    assert (prepared.inputs[0, 0] == prepared.inputs[0, 2]).all()
    assert (prepared.inputs[1:3] == pixels[1:3].transpose(0, 3, 1, 2)).all()


@pytest.mark.parametrize(
    ("labels", "names", "ids"),
    [
        ([10, -1, 2, 10, -1, 2], ("-1", "2", "10"), [2, 0, 1, 2, 0, 1]),
        (["dog", "cat", "dog", "cat", "cat", "dog"], ("cat", "dog"), [1, 0, 1, 0, 0, 1]),
        ([True, False, True, False, True, False], ("false", "true"), [1, 0, 1, 0, 1, 0]),
        (pa.array(["b", "a"] * 3).dictionary_encode(), ("a", "b"), [1, 0] * 3),
        (pa.array([1, 3] * 3, pa.uint8()), ("1", "3"), [0, 1] * 3),
        (pa.array(["b", "a"] * 3, pa.large_string()), ("a", "b"), [1, 0] * 3),
    ],
    ids=["whole numbers", "text", "booleans", "categories", "small numbers", "large text"],
)
def test_labels_become_class_ids_and_keep_their_names(
    write_parquet: WriteParquet,
    labels: Sequence[Any],
    names: tuple[str, ...],
    ids: list[int],
    random_pixels: RandomPixels,
) -> None:
    prepared = read(write_parquet(random_pixels(6), labels))

    assert prepared.class_names == names
    assert prepared.labels.tolist() == ids


def test_class_names_that_hugging_face_wrote_are_kept(write_parquet: WriteParquet, random_pixels: RandomPixels) -> None:
    metadata = {"huggingface": json.dumps({"info": {"features": {"label": {"names": ["cat", "dog", "owl"]}}}})}

    prepared = read(write_parquet(random_pixels(6), [2, 0] * 3, metadata=metadata))

    assert prepared.class_names == ("cat", "owl")


def test_a_folder_is_read_as_one_set_and_the_glob_chooses(
    write_parquet: WriteParquet, tmp_path: Path, random_pixels: RandomPixels
) -> None:
    for part in range(3):
        write_parquet(random_pixels(6, seed=part), [0, 1] * 3, f"train-{part}.parquet")
    write_parquet(random_pixels(6, seed=9), [0, 1] * 3, "test.parquet")

    prepared = read(tmp_path / "data", files="train*.parquet")

    assert prepared.summary.n_rows == 18
    every = np.concatenate([random_pixels(6, seed=part) for part in range(3)]).transpose(0, 3, 1, 2)
    assert sorted(image.tobytes() for image in prepared.inputs) == sorted(image.tobytes() for image in every)


def test_rows_and_labels_stay_together_whatever_order_files_are_taken_in(
    write_parquet: WriteParquet, tmp_path: Path, random_pixels: RandomPixels
) -> None:
    for part in range(4):
        pixels = random_pixels(12, seed=part)
        pixels[:, 0, 0, 0] = labels = np.arange(12) % 3
        write_parquet(pixels, labels.tolist(), f"{part}.parquet")

    prepared = read(tmp_path / "data")

    assert (prepared.inputs[:, 0, 0, 0] == prepared.labels).all()


# --- what is refused ------------------------------------------------------------------------------------------------


def test_a_label_column_that_is_not_there(write_parquet: WriteParquet, random_pixels: RandomPixels) -> None:
    path = write_parquet(random_pixels(4), [0, 1] * 2)

    assert refusal(path, label="lable") == (
        f"{path}: data.label: there is no column 'lable'; did you mean 'label'? columns: id, image, label"
    )


def test_an_image_column_that_is_not_there(write_parquet: WriteParquet, random_pixels: RandomPixels) -> None:
    path = write_parquet(random_pixels(4), [0, 1] * 2)

    assert refusal(path, image="pixels") == (
        f"{path}: data.image: there is no column 'pixels'; of bytes: image; columns: id, image, label"
    )


def test_an_image_column_without_bytes(write_parquet: WriteParquet, random_pixels: RandomPixels) -> None:
    path = write_parquet(random_pixels(4), [0, 1] * 2)

    assert refusal(path, image="id") == (
        f"{path}: data.image: column 'id' is int64, not encoded images; of bytes: image; columns: id, image, label"
    )


def test_null_labels_are_counted_and_the_first_is_placed(
    write_parquet: WriteParquet, random_pixels: RandomPixels
) -> None:
    path = write_parquet(random_pixels(6), [0, 1, None, 1, None, 0])

    assert "column 'label' is null in 2 of 6 rows (first: row 2 of train.parquet); fill them in" in refusal(path)


def test_one_class_only(write_parquet: WriteParquet, random_pixels: RandomPixels) -> None:
    path = write_parquet(random_pixels(4), ["cat"] * 4)

    assert refusal(path).endswith(
        "data.label 'label' holds one class only ('cat' in all 4 rows); a classifier needs at least two"
    )


def test_a_class_with_one_row_is_named(write_parquet: WriteParquet, random_pixels: RandomPixels) -> None:
    assert "class 'owl' has only 1 row" in refusal(write_parquet(random_pixels(5), ["cat", "owl", "cat", "dog", "dog"]))


def test_no_rows_at_all(write_parquet: WriteParquet) -> None:
    path = write_parquet(pa.array([], pa.binary()), pa.array([], pa.int64()))

    assert refusal(path) == f"{path}: there are no rows; give files with at least two classes"


def test_labels_that_are_measurements(write_parquet: WriteParquet, random_pixels: RandomPixels) -> None:
    path = write_parquet(random_pixels(4), [0.5, 1.0, 0.5, 1.0])

    assert refusal(path).endswith("column 'label' is double; classes must be whole numbers or text")


def test_a_label_type_that_changes_between_files(
    write_parquet: WriteParquet, tmp_path: Path, random_pixels: RandomPixels
) -> None:
    write_parquet(random_pixels(4), [0, 1] * 2, "a.parquet")
    write_parquet(random_pixels(4), ["0", "1"] * 2, "b.parquet")

    message = refusal(tmp_path / "data")

    assert "data.label: column 'label' is " in message
    assert "a.parquet" in message
    assert "b.parquet" in message
    assert message.endswith("it must have one type in all files")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99], ids=["empty", "half", "without its footer"])
def test_a_truncated_file_is_named(
    write_parquet: WriteParquet, tmp_path: Path, share: float, random_pixels: RandomPixels
) -> None:
    write_parquet(random_pixels(4), [0, 1] * 2, "good.parquet")
    path = write_parquet(random_pixels(40), [0, 1] * 20, "bad.parquet")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    message = refusal(tmp_path / "data")

    assert message.startswith(f"{path}: cannot be read as Parquet (")
    assert message.endswith("it may be truncated or of another format: fetch or write it again")


def test_damage_inside_the_image_column_is_named(write_parquet: WriteParquet, random_pixels: RandomPixels) -> None:
    path = write_parquet(random_pixels(40), [0, 1] * 20)
    group = pq.read_metadata(path).row_group(3).column(1)
    content = bytearray(path.read_bytes())
    start = group.data_page_offset
    content[start : start + 64] = b"\xff" * 64
    path.write_bytes(bytes(content))

    assert refusal(path).startswith(f"{path}: cannot be read as Parquet (")


def test_a_file_of_another_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data" / "train.csv"
    path.parent.mkdir()
    path.write_text("image,label\nx,1\n" * 10)

    assert refusal(path).startswith(f"{path}: cannot be read as Parquet (")


def test_images_that_cannot_be_decoded_are_counted_and_placed(
    write_parquet: WriteParquet, random_pixels: RandomPixels, png: Encode
) -> None:
    good = png(random_pixels(1)[0])
    images = [good, b"not an image", good, good[: len(good) // 2], None, b"", good, good]

    message = refusal(write_parquet(images, [0, 1] * 4))

    assert "4 of 8 images cannot be decoded (rows 1, 3, 4, 5; row 1: is not an image)" in message
    assert message.endswith("remove or repair these rows")


def test_images_of_more_than_8_bits_are_refused_rather_than_clipped(write_parquet: WriteParquet) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 6), 40_000, dtype=np.uint16)).save(buffer, "png")

    assert "has more than 8 bits per channel" in refusal(write_parquet([buffer.getvalue()] * 4, [0, 1] * 2))


def test_images_of_several_sizes_are_told_with_counts(
    write_parquet: WriteParquet, random_pixels: RandomPixels, png: Encode
) -> None:
    images = [png(image) for image in [*random_pixels(5), *random_pixels(3, height=8, width=9)]]

    message = refusal(write_parquet(images, [0, 1] * 4))

    assert "images have 2 sizes (width x height: rows; 6 x 4: 5, 9 x 8: 3), first odd row 5" in message
    assert message.endswith("resize them to 6 x 4")


def test_a_file_that_changes_while_it_is_read_is_refused(
    write_parquet: WriteParquet, tmp_path: Path, random_pixels: RandomPixels
) -> None:
    path = write_parquet(random_pixels(8), [0, 1] * 4)
    (tmp_path / "cache").mkdir()
    source = ParquetImages([path], label="label", image="image", cache_dir=tmp_path / "cache")
    os.utime(path, (0, 0))

    with pytest.raises(DataError, match="changed while it was read; run again when nothing writes to it"):
        list(source.batches())
