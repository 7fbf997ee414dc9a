"""Small Parquet files of real encoded images, with a known truth."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

Pixels = npt.NDArray[np.uint8]
WriteParquet = Callable[..., Path]


def _png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def png() -> Callable[[Pixels], bytes]:
    """Pixels of shape (height, width) or (height, width, channels) as PNG, which loses nothing."""
    return _png


@pytest.fixture
def random_pixels() -> Callable[..., Pixels]:
    """``random_pixels(n)``: n different images, the same each time. Shape (n, height, width, 3)."""

    def make(n: int, height: int = 4, width: int = 6, seed: int = 0) -> Pixels:
        return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)

    return make


@pytest.fixture
def write_parquet(tmp_path: Path) -> WriteParquet:
    """``write_parquet(images, labels, name=...)``: one file under ``data/``; images are encoded bytes or pixels."""

    def write(
        images: Sequence[bytes | dict[str, Any] | None] | Pixels,
        labels: Sequence[Any] | pa.Array,
        name: str = "train.parquet",
        metadata: dict[str, str] | None = None,
    ) -> Path:
        encoded = [_png(image) for image in images] if isinstance(images, np.ndarray) else images
        table = pa.table({"id": pa.array(range(len(encoded))), "image": encoded, "label": labels})
        path = tmp_path / "data" / name
        path.parent.mkdir(exist_ok=True)
        pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=7)
        return path

    return write


@pytest.fixture
def said() -> list[str]:
    """What was told."""
    return []
