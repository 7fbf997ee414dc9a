"""Images as one array per split, decoded when asked for."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.data import decoded as decoded_module
from orchestrator.data.decoded import DecodedImages, image_shape
from orchestrator.data.images import ImageReader
from orchestrator.data.manifest import PartFile
from orchestrator.data.rows import SOURCE_ROW
from orchestrator.data.splits import Split
from orchestrator.errors import DataError

Pixels = npt.NDArray[np.uint8]
N_ROWS, GROUP = 50, 8
MakeSplit = Callable[..., Split]


@pytest.fixture
def pixels(random_pixels: Callable[..., Pixels]) -> Pixels:
    """Shape (50, 4, 6, 3)."""
    return random_pixels(N_ROWS)


@pytest.fixture
def make_split(tmp_path: Path) -> MakeSplit:
    """A split of two files, 30 and the other rows, in row groups of 8; source rows are 100 more than places."""

    def make(column: Any) -> Split:
        table = pa.table({"image": column, SOURCE_ROW: np.arange(len(column)) + 100})
        parts = []
        for start, stop in ((0, 30), (30, len(column))):
            name = f"train-{start}.parquet"
            pq.write_table(table.slice(start, stop - start), tmp_path / name, row_group_size=GROUP, compression="none")
            n_bytes = (tmp_path / name).stat().st_size
            parts.append(PartFile(name=name, n_rows=stop - start, n_bytes=n_bytes, group_rows=GROUP))
        labels = (np.arange(len(column)) % 5).astype(np.uint8)
        return Split(
            name="train", parts=tuple(parts), labels=labels, open_part=lambda name: (tmp_path / name).open("rb")
        )

    return make


@pytest.fixture
def split(make_split: MakeSplit, pixels: Pixels, png: Callable[[Pixels], bytes]) -> Split:
    return make_split([png(image) for image in pixels])


def images_of(split: Split, cache: Path, image_size: tuple[int, int] | None = None) -> DecodedImages:
    reader = ImageReader.of(split.schema, "image", image_size)
    return DecodedImages(split, reader, image_shape(split, reader, cache), cache)


def test_images_come_out_as_they_went_in_whatever_order_they_are_asked_for(
    split: Split, pixels: Pixels, tmp_path: Path
) -> None:
    places = np.array([49, 0, 31, 29, 30, 7, 8, 0])

    found = images_of(split, tmp_path / "cache")[places]

    assert (found == pixels[places].transpose(0, 3, 1, 2)).all()


def test_only_row_groups_that_are_asked_for_are_read(split: Split, tmp_path: Path) -> None:
    images = images_of(split, tmp_path / "cache")
    images.ensure(np.array([3, 33]))

    assert images.missing_groups(np.arange(N_ROWS)) == [1, 2, 3, 5, 6]
    assert images.ensure(np.array([0, 1, 2, 32])) == 0


def test_the_bytes_of_a_prefix_are_a_prefix_of_the_bytes(split: Split, tmp_path: Path) -> None:
    """Footers aside, half of the row groups of the first file take about half of its bytes."""
    footers = split.counter.n_bytes if split.row_groups else 0
    images = images_of(split, tmp_path / "cache")
    head = images.ensure(np.arange(2 * GROUP))
    rest = images.ensure(np.arange(N_ROWS))

    assert 0 < head < 0.6 * rest
    assert head + rest < split.n_bytes + 20 * footers + (1 << 16) * 8


def test_another_process_finds_what_was_decoded(split: Split, pixels: Pixels, tmp_path: Path) -> None:
    images_of(split, tmp_path / "cache").ensure(np.arange(N_ROWS), threads=3)
    before = split.counter.n_bytes

    again = images_of(split, tmp_path / "cache")

    assert (again[np.arange(N_ROWS)] == pixels.transpose(0, 3, 1, 2)).all()
    assert again.missing_groups(np.arange(N_ROWS)) == []
    assert split.counter.n_bytes == before


def test_threads_that_ask_at_once_all_get_the_images(split: Split, pixels: Pixels, tmp_path: Path) -> None:
    images, found = images_of(split, tmp_path / "cache"), []
    ask = threading.Barrier(6)

    def read() -> None:
        ask.wait()
        found.append(images[np.arange(N_ROWS)])

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 6
    assert all((each == pixels.transpose(0, 3, 1, 2)).all() for each in found)


def test_raw_tensors_are_taken_as_they_are(make_split: MakeSplit, tmp_path: Path) -> None:
    truth = np.random.default_rng(0).normal(size=(N_ROWS, 2, 3, 4)).astype(np.float32)
    column = pa.array([row.tobytes() for row in truth], pa.binary(2 * 3 * 4 * 4))
    split = make_split(column)
    field = pa.field("image", column.type, metadata={b"shape": b"2,3,4", b"dtype": b"float32"})
    reader = ImageReader.of(pa.schema([field]), "image", None)
    images = DecodedImages(split, reader, image_shape(split, reader, tmp_path / "cache"), tmp_path / "cache")

    assert (images[np.array([40, 2])] == truth[[40, 2]]).all()
    assert (images.image.shape, images.image.scale) == ((2, 3, 4), 1.0)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({b"shape": b"1,2,2"}, "describe 4 bytes of uint8, and a row has 5"),
        ({b"shape": b"5,1"}, "write shape as channels,height,width"),
        ({b"shape": b"1,5,x"}, "do not describe a tensor"),
        ({b"shape": b"1,1,5", b"dtype": b"foo"}, "do not describe a tensor"),
    ],
    ids=str,
)
def test_metadata_that_do_not_fit_the_bytes_are_refused(metadata: dict[bytes, bytes], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ImageReader.of(pa.schema([pa.field("image", pa.binary(5), metadata=metadata)]), "image", None)


def test_mean_and_std_are_those_of_the_head_of_the_order(
    split: Split, pixels: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded_module, "STATISTICS_ROWS", 20)
    mean, std = images_of(split, tmp_path / "cache").statistics

    assert mean == pytest.approx(pixels[:20].mean(axis=(0, 1, 2)) / 255, rel=1e-12)
    assert std == pytest.approx(pixels[:20].std(axis=(0, 1, 2)) / 255, rel=1e-12)


def test_a_channel_that_never_changes_has_std_1(
    make_split: MakeSplit, pixels: Pixels, png: Callable[[Pixels], bytes], tmp_path: Path
) -> None:
    pixels[..., 2] = 51
    mean, std = images_of(make_split([png(image) for image in pixels]), tmp_path / "cache").statistics

    assert std[2] == 1.0
    assert mean[2] == pytest.approx(0.2, rel=1e-12)


def test_all_images_that_cannot_be_decoded_are_counted_with_their_source_rows(
    make_split: MakeSplit, pixels: Pixels, png: Callable[[Pixels], bytes], tmp_path: Path
) -> None:
    encoded: list[bytes | None] = [png(image) for image in pixels]
    encoded[12], encoded[41] = b"no image", None
    images = images_of(make_split(encoded), tmp_path / "cache")

    message = r"2 of 50 images cannot be decoded \(rows 112, 141 of the source; row 112: is not an image\)"
    with pytest.raises(DataError, match=message):
        images.ensure(np.arange(N_ROWS))
    # What is good is kept, and what is bad is told again.
    assert images.missing_groups(np.arange(N_ROWS)) == [1, 5]
    with pytest.raises(DataError, match="cannot be decoded"):
        images[np.array([12])]


def test_images_of_several_sizes_are_refused_or_scaled(
    make_split: MakeSplit, pixels: Pixels, png: Callable[[Pixels], bytes], tmp_path: Path
) -> None:
    split = make_split([png(pixels[i, :3] if i == 9 else pixels[i]) for i in range(N_ROWS)])

    message = r"2 sizes \(width x height: rows; 6 x 4: 49, 6 x 3: 1\), first odd row 109 .*data\.image_size=\[4,6\]"
    with pytest.raises(DataError, match=message):
        images_of(split, tmp_path / "cache").ensure(np.arange(N_ROWS))

    scaled = images_of(split, tmp_path / "scaled", image_size=(2, 5))
    assert scaled[np.arange(N_ROWS)].shape == (N_ROWS, 3, 2, 5)


def test_a_disk_that_fills_up_is_told_and_what_was_written_is_not_marked(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = images_of(split, tmp_path / "cache")

    def full(*_arguments: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(DataError, match="decoded images cannot be written"):
        images.ensure(np.arange(N_ROWS))
    assert len(images.missing_groups(np.arange(N_ROWS))) == 7


def test_a_disk_that_is_too_small_is_told_before_anything_is_decoded(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = images_of(split, tmp_path / "cache")
    status = os.statvfs(tmp_path)
    tiny = os.statvfs_result((*status[:4], 0, *status[5:]))
    monkeypatch.setattr(os, "statvfs", lambda path: tiny)

    with pytest.raises(DataError, match=r"decoded images need 0\.0 GB and 0\.0 GB are free; free some space"):
        images.ensure(np.arange(N_ROWS))


def test_a_truncated_file_is_named(split: Split, tmp_path: Path) -> None:
    images = images_of(split, tmp_path / "cache")
    path = tmp_path / split.parts[1].name
    path.write_bytes(path.read_bytes()[:200])

    with pytest.raises(DataError, match=r"train-30\.parquet: prepared data cannot be read"):
        images.ensure(np.arange(N_ROWS))
