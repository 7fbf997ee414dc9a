"""Images of a batch as small grey squares, with their sizes and the faults of those that cannot be decoded.

JPEG is decoded at the nearest eighth above the square, so that a photograph of 12 megapixels costs little more than its
entropy coding; the whole file is read all the same, and a truncated one is found.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from orchestrator.data.images import ImageReader
from orchestrator.quality.duplicates import HASH_SIDE

# Threads take this many at a time; a 32 x 32 JPEG takes 0.1 ms.
_AT_ONCE = 64
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as Pillow's mode L
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF", b"II*\x00", b"MM\x00*")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Thumbnails:
    """A batch of images."""

    grey: npt.NDArray[np.uint8]
    """Zero where an image could not be decoded. Shape (n, HASH_SIDE, HASH_SIDE)."""
    sizes: npt.NDArray[np.int32]
    """Width and height in pixels; 0 where it could not be decoded. Shape (n, 2)."""
    faults: dict[int, str]
    """What is wrong, by position in the batch."""


def find_image_column(schema: pa.Schema, first_rows: pa.Table) -> str | None:
    """The one column that holds images: raw tensors by their metadata, encoded ones by their first bytes."""
    found = [field.name for field in schema if _holds_images(field, first_rows)]
    if "image" in found:
        return "image"
    return found[0] if len(found) == 1 else None


def look_at(column: pa.ChunkedArray, reader: ImageReader, pool: Executor) -> Thumbnails:
    """Small grey versions of all images of a column."""
    if reader.raw is not None:
        # By itself the reader's array has shape (n, channels, height, width).
        pixels, _ = reader.decode(column, [], reader.raw)
        return _of_arrays(pixels, reader.raw.scale)
    slices = [column.slice(start, _AT_ONCE).to_pylist() for start in range(0, len(column), _AT_ONCE)]
    parts = list(pool.map(_look_at_some, slices))
    if not parts:
        return _look_at_some([])
    faults = {i * _AT_ONCE + at: fault for i, part in enumerate(parts) for at, fault in part.faults.items()}
    return Thumbnails(
        grey=np.concatenate([part.grey for part in parts]),
        sizes=np.concatenate([part.sizes for part in parts]),
        faults=faults,
    )


def _look_at_some(encoded: Sequence[bytes | None]) -> Thumbnails:
    grey = np.zeros((len(encoded), HASH_SIDE, HASH_SIDE), dtype=np.uint8)
    sizes = np.zeros((len(encoded), 2), dtype=np.int32)
    faults: dict[int, str] = {}
    for i, content in enumerate(encoded):
        try:
            grey[i], sizes[i] = _look_at_one(content)
        # Pillow's readers raise whatever broken bytes lead them to: OSError, SyntaxError, struct.error, IndexError.
        except Exception as error:
            name = type(error).__name__
            text = "is not an image" if name == "UnidentifiedImageError" else " ".join(str(error).split())
            faults[i] = (text or name)[:80]
    return Thumbnails(grey=grey, sizes=sizes, faults=faults)


def _look_at_one(content: bytes | None) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
    if content is None:
        raise ValueError("is null")
    with Image.open(io.BytesIO(content)) as image:
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"has more than 8 bits per channel (mode {image.mode})")
        size = image.size
        image.draft("L", (2 * HASH_SIDE, 2 * HASH_SIDE))
        if "transparency" in image.info:
            image = image.convert("RGBA")
        return _small(image.convert("L")), size


def _small(grey: Image.Image) -> npt.NDArray[np.uint8]:
    if grey.size == (HASH_SIDE, HASH_SIDE):
        return np.asarray(grey)
    return np.asarray(grey.resize((HASH_SIDE, HASH_SIDE), Image.Resampling.BOX))


def _of_arrays(pixels: npt.NDArray[np.generic], scale: float) -> Thumbnails:
    n, channels, height, width = pixels.shape
    values = pixels.astype(np.float32) * (255.0 / scale)
    grey = np.einsum("nchw,c->nhw", values, _LUMA) if channels == 3 else values.mean(axis=1)
    flat = np.clip(grey.round(), 0, 255).astype(np.uint8)
    small = np.stack([_small(Image.fromarray(image)) for image in flat]) if n else flat.reshape(0, HASH_SIDE, HASH_SIDE)
    return Thumbnails(grey=small, sizes=np.tile(np.array([width, height], dtype=np.int32), (n, 1)), faults={})


def _holds_images(field: pa.Field, first_rows: pa.Table) -> bool:
    if pa.types.is_fixed_size_binary(field.type):
        return b"shape" in (field.metadata or {})
    if not (pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)):
        return False
    values = [value for value in first_rows.column(field.name).to_pylist() if value]
    return any(value.startswith(_MAGIC) for value in values)
