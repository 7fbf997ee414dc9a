"""Encoded images (JPEG, PNG, whatever Pillow reads) to one array of bytes, with an account of those that do not fit."""

from __future__ import annotations

import io
from collections import Counter

import numpy as np
import numpy.typing as npt
from PIL import Image

from orchestrator.errors import DataError

_SHOWN_ROWS = 5


class ImageDecoder:
    """Decodes batches to RGB of one size, the size of the first image; the rest is counted, and refused at the end."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._row = 0
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._first_row_of_size: dict[tuple[int, int], int] = {}
        self._broken: list[tuple[int, str]] = []
        self._n_broken = 0

    def decode(self, encoded: list[bytes | None]) -> npt.NDArray[np.uint8]:
        """Images of shape (rows, 3, height, width), less those counted as bad; (0, 3, 0, 0) when none is good."""
        decoded = [image for image in map(self._decode_one, encoded) if image is not None]
        if not decoded:
            return np.empty((0, 3, 0, 0), dtype=np.uint8)
        return np.ascontiguousarray(np.stack(decoded).transpose(0, 3, 1, 2))

    def check(self) -> None:
        """Refuse what was counted. Raises DataError: images that cannot be decoded, or of several sizes."""
        if self._n_broken:
            rows = ", ".join(str(row) for row, _ in self._broken) + (", ..." if self._n_broken > _SHOWN_ROWS else "")
            row, reason = self._broken[0]
            raise DataError(
                f"{self._source}: {self._n_broken:,} of {self._row:,} images cannot be decoded (rows {rows}; "
                f"row {row}: {reason}); remove or repair these rows"
            )
        if len(self._sizes) > 1:
            shown = ", ".join(f"{width} x {height}: {n:,}" for (width, height), n in self._sizes.most_common(5))
            common = self._sizes.most_common(1)[0][0]
            odd = min(row for size, row in self._first_row_of_size.items() if size != common)
            raise DataError(
                f"{self._source}: images have {len(self._sizes)} sizes (width x height: rows; {shown}), first odd row "
                f"{odd}; all must have one size, so resize them to {common[0]} x {common[1]}"
            )

    def _decode_one(self, encoded: bytes | None) -> npt.NDArray[np.uint8] | None:
        row, self._row = self._row, self._row + 1
        try:
            image = _decode_rgb(encoded)
        # Pillow's readers raise whatever broken bytes lead them to: OSError, SyntaxError, struct.error, IndexError, ...
        except Exception as error:
            self._n_broken += 1
            if len(self._broken) < _SHOWN_ROWS:
                self._broken.append((row, _in_short(error)))
            return None
        size = (image.shape[1], image.shape[0])
        self._sizes[size] += 1
        self._first_row_of_size.setdefault(size, row)
        return image if size == next(iter(self._sizes)) else None


def _decode_rgb(encoded: bytes | None) -> npt.NDArray[np.uint8]:
    """One image of shape (height, width, 3). Raises whatever is wrong with it."""
    if encoded is None:
        raise ValueError("is null")
    with Image.open(io.BytesIO(encoded)) as image:
        if image.mode.startswith(("I", "F")):
            # Converting would clip every value above 255, and nobody would see it.
            raise ValueError(f"has more than 8 bits per channel (mode {image.mode})")
        if "transparency" in image.info:
            image = image.convert("RGBA")
        return np.asarray(image.convert("RGB"))


def _in_short(error: Exception) -> str:
    text = "is not an image" if type(error).__name__ == "UnidentifiedImageError" else " ".join(str(error).split())
    return (text or type(error).__name__)[:80]
