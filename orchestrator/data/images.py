"""A column of images to one array of numbers, with an account of those that do not fit.

A column holds encoded images (JPEG, PNG, whatever Pillow reads), or raw tensors of one shape as fixed-size bytes with
``shape``, ``dtype`` and, where it is not the type's largest value, ``scale`` in the field's metadata.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image, ImageOps

from orchestrator.data.rows import RowSource
from orchestrator.errors import DataError, did_you_mean

_SHOWN_ROWS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageShape:
    """What every image of a data set is."""

    shape: tuple[int, ...]
    """Channels, height, width."""
    dtype: str
    scale: float
    """The largest value; dividing by it gives 0..1. 1 for floating point."""

    @property
    def n_bytes(self) -> int:
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


class BadImages:
    """Images that cannot be trained on: those that cannot be decoded, and those of another size."""

    def __init__(self, column: str) -> None:
        self._column = column
        self._broken: list[tuple[int, str]] = []
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._odd_rows: list[int] = []
        self.n_seen = self.n_broken = 0

    def __bool__(self) -> bool:
        return bool(self.n_broken or self._odd_rows)

    def saw(self, row: int, size: tuple[int, int], expected: tuple[int, int]) -> None:
        """One image of ``(height, width)``."""
        self.n_seen += 1
        self._sizes[size] += 1
        if size != expected:
            self._odd_rows.append(row)

    def saw_broken(self, row: int, error: Exception) -> None:
        """One image that could not be decoded."""
        self.n_seen += 1
        self.n_broken += 1
        if len(self._broken) < _SHOWN_ROWS:
            self._broken.append((row, _in_short(error)))

    def add(self, other: BadImages) -> None:
        """Take over another account."""
        self.n_seen += other.n_seen
        self.n_broken += other.n_broken
        self._broken = sorted(self._broken + other._broken)[:_SHOWN_ROWS]
        self._sizes += other._sizes
        self._odd_rows += other._odd_rows

    def check(self, expected: tuple[int, ...]) -> None:
        """Refuse what was counted. Raises DataError: images that cannot be decoded, or of several sizes."""
        if self.n_broken:
            rows = ", ".join(str(row) for row, _ in self._broken) + (", ..." if self.n_broken > _SHOWN_ROWS else "")
            row, reason = self._broken[0]
            raise DataError(
                f"column {self._column!r}: {self.n_broken:,} of {self.n_seen:,} images cannot be decoded (rows {rows} "
                f"of the source; row {row}: {reason}); repair or remove these rows, or leave them out with "
                "`prepare --drop-undecodable`"
            )
        self.check_sizes(expected)

    def check_sizes(self, expected: tuple[int, ...]) -> None:
        """Refuse images of several sizes. Raises DataError."""
        if self._odd_rows:
            shown = ", ".join(f"{width} x {height}: {n:,}" for (height, width), n in self._sizes.most_common(5))
            raise DataError(
                f"column {self._column!r}: images have {len(self._sizes)} sizes (width x height: rows; {shown}), first "
                f"odd row {min(self._odd_rows)} of the source; all must have one size: set data.image_size="
                f"[{expected[-2]},{expected[-1]}] to scale them, or resize them yourself"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReader:
    """How the images of one column become arrays."""

    column: str
    raw: ImageShape | None
    """The shape of raw tensors; None for encoded images."""
    image_size: tuple[int, int] | None = None
    """Height and width that encoded images are scaled to, the longer side cropped."""

    @classmethod
    def of(cls, schema: pa.Schema, column: str, image_size: tuple[int, int] | None) -> ImageReader:
        """The reader of a column. Raises DataError: there is no such column, or it holds no images."""
        holding = [field.name for field in schema if _holds_bytes(field.type)]
        if column not in schema.names:
            near = did_you_mean(column, holding or schema.names)
            raise DataError(
                f"data.image: there is no column {column!r}{near or ';'} columns of bytes: "
                f"{', '.join(holding) or 'none'}; columns: {', '.join(schema.names)}"
            )
        field = schema.field(column)
        if column not in holding:
            raise DataError(
                f"data.image: column {column!r} is {field.type}, not images; columns of bytes: "
                f"{', '.join(holding) or 'none'}"
            )
        raw = _raw_shape(field)
        if raw is not None and image_size not in (None, raw.shape[-2:]):
            raise DataError(
                f"data.image_size: column {column!r} holds raw tensors of {raw.shape}, which are not scaled; leave "
                "image_size out"
            )
        return cls(column=column, raw=raw, image_size=image_size)

    def shape_of(self, images: pa.ChunkedArray) -> ImageShape:
        """What the images are, off the first one that can be decoded. Raises DataError: none can."""
        if self.raw is not None:
            return self.raw
        bad = BadImages(self.column)
        for row, encoded in enumerate(images):
            try:
                height, width, channels = self._decode_one(encoded.as_py()).shape
            except Exception as error:  # whatever broken bytes lead Pillow's readers to
                bad.saw_broken(row, error)
                continue
            return ImageShape(shape=(channels, height, width), dtype="uint8", scale=255.0)
        bad.check(())
        raise DataError(f"column {self.column!r}: there are no images")

    def decode(
        self, images: pa.ChunkedArray, source_rows: Sequence[int], expected: ImageShape
    ) -> tuple[npt.NDArray[np.generic], BadImages]:
        """Images of shape (rows, channels, height, width), zero where bad, and the account of the bad ones."""
        bad = BadImages(self.column)
        if self.raw is not None:
            return _raw_array(images, self.raw), bad
        found = np.zeros((len(images), *expected.shape), np.uint8)
        for i, encoded in enumerate(images):
            try:
                pixels = self._decode_one(encoded.as_py())
            # Pillow's readers raise whatever broken bytes lead them to: OSError, SyntaxError, struct.error, IndexError.
            except Exception as error:
                bad.saw_broken(int(source_rows[i]), error)
                continue
            bad.saw(int(source_rows[i]), pixels.shape[:2], (expected.shape[1], expected.shape[2]))
            if pixels.shape[:2] == expected.shape[1:]:
                found[i] = pixels.transpose(2, 0, 1)
        return found, bad

    def _decode_one(self, encoded: bytes | None) -> npt.NDArray[np.uint8]:
        return decode_rgb(encoded, self.image_size)


def undecodable_rows(rows: RowSource, column: str) -> npt.NDArray[np.bool_]:
    """Which rows of a source hold an image that cannot be decoded; every image is tried. Shape (n_rows,).

    Raises: DataError: there is no such column, or it holds no images.
    """
    reader = ImageReader.of(rows.schema, column, None)
    broken = np.zeros(sum(piece.n_rows for piece in rows.pieces), dtype=bool)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for piece in rows.pieces:
            row = piece.first_row
            for batch in rows.read(piece):
                images = batch.column(batch.schema.get_field_index(column))
                if reader.raw is not None:
                    broken[row : row + len(images)] = images.is_null().to_numpy(zero_copy_only=False)
                else:
                    broken[row : row + len(images)] = list(pool.map(_is_broken, images.to_pylist()))
                row += len(images)
    return broken


def _is_broken(encoded: bytes | None) -> bool:
    try:
        decode_rgb(encoded)
    except Exception:  # whatever broken bytes lead Pillow's readers to
        return True
    return False


def decode_rgb(encoded: bytes | None, image_size: tuple[int, int] | None = None) -> npt.NDArray[np.uint8]:
    """One image of shape (height, width, 3). Raises whatever is wrong with it."""
    if encoded is None:
        raise ValueError("is null")
    with Image.open(io.BytesIO(encoded)) as image:
        if image.mode.startswith(("I", "F")):
            # Converting would clip every value above 255, and nobody would see it.
            raise ValueError(f"has more than 8 bits per channel (mode {image.mode})")
        if image_size is not None:
            # JPEG decodes to a half, a quarter or an eighth at a fraction of the time.
            image.draft("RGB", (2 * image_size[1], 2 * image_size[0]))
        if "transparency" in image.info:
            image = image.convert("RGBA")
        image = image.convert("RGB")
        if image_size is not None and image.size != image_size[::-1]:
            image = ImageOps.fit(image, image_size[::-1], Image.Resampling.BILINEAR)
        return np.asarray(image)


def _raw_shape(field: pa.Field) -> ImageShape | None:
    metadata = field.metadata or {}
    if not pa.types.is_fixed_size_binary(field.type) or b"shape" not in metadata:
        return None
    told = {name.decode(): value.decode() for name, value in metadata.items()}
    try:
        shape = tuple(int(side) for side in told["shape"].split(","))
        dtype = np.dtype(told.get("dtype", "uint8"))
        scale = float(told.get("scale", np.iinfo(dtype).max if dtype.kind in "iu" else 1.0))
    except (TypeError, ValueError) as error:
        raise DataError(f"column {field.name!r}: its metadata {told} do not describe a tensor ({error})") from error
    found = ImageShape(shape=shape, dtype=dtype.name, scale=scale)
    if len(shape) != 3 or found.n_bytes != field.type.byte_width:
        raise DataError(
            f"column {field.name!r}: metadata {told} describe {found.n_bytes} bytes of {dtype.name}, and a row has "
            f"{field.type.byte_width}; write shape as channels,height,width of what is stored"
        )
    return found


def _raw_array(images: pa.ChunkedArray, raw: ImageShape) -> npt.NDArray[np.generic]:
    """Fixed-size bytes as an array, without a Python object per row. Raises DataError: a null."""
    if images.null_count:
        raise DataError(
            f"{images.null_count:,} images are null; remove these rows, or leave them out with "
            "`prepare --drop-undecodable`"
        )
    column = images.combine_chunks() if isinstance(images, pa.ChunkedArray) else images
    if isinstance(column, pa.ChunkedArray):  # an empty one has no chunk to combine
        return np.empty((0, *raw.shape), raw.dtype)
    flat = np.frombuffer(column.buffers()[1], raw.dtype)
    start = column.offset * int(np.prod(raw.shape))
    return flat[start : start + len(column) * int(np.prod(raw.shape))].reshape(len(column), *raw.shape)


def _holds_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _in_short(error: Exception) -> str:
    text = "is not an image" if type(error).__name__ == "UnidentifiedImageError" else " ".join(str(error).split())
    return (text or type(error).__name__)[:80]
