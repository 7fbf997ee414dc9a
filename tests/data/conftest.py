"""Small Parquet files of real encoded images, with a known truth."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from orchestrator.data.rows import Piece

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


@dataclass(frozen=True)
class MemoryRows:
    """A `RowSource` of tables in memory, one piece each."""

    tables: tuple[pa.Table, ...]
    names: tuple[str, ...] | None = None
    format: str = "memory"

    @property
    def schema(self) -> pa.Schema:
        return self.tables[0].schema

    @property
    def pieces(self) -> tuple[Piece, ...]:
        starts = np.cumsum([0, *map(len, self.tables)]).tolist()
        return tuple(
            Piece(path=f"memory/part-{i}", first_row=starts[i], n_rows=len(table), position=i)
            for i, table in enumerate(self.tables)
        )

    @property
    def fingerprint(self) -> str:
        state = hashlib.sha256(str(self.schema).encode())
        for table in self.tables:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            state.update(sink.getvalue())
        return state.hexdigest()[:16]

    @property
    def bytes_on_disk(self) -> int:
        return sum(table.nbytes for table in self.tables)

    def columns(self, names: Sequence[str]) -> pa.Table:
        return pa.concat_tables(self.tables).select(list(names))

    def read(self, piece: Piece) -> Iterator[pa.RecordBatch]:
        yield from self.tables[piece.position].to_batches(max_chunksize=50)

    def class_names(self, label: str) -> tuple[str, ...] | None:
        return self.names


@pytest.fixture
def memory_rows() -> type[MemoryRows]:
    """``memory_rows((table, ...), names)``: a source of tables in memory."""
    return MemoryRows


@pytest.fixture
def labelled() -> Callable[..., MemoryRows]:
    """``labelled(n)``: rows of random bytes and text with a label of three uneven classes, in three pieces."""

    def make(n: int = 600, row_bytes: int = 200, seed: int = 0, **columns: Any) -> MemoryRows:
        rng = np.random.default_rng(seed)
        label = rng.choice(["cat", "dog", "owl"], n, p=[0.6, 0.3, 0.1])
        values: dict[str, Any] = {
            "id": pa.array(range(n)),
            "image": pa.array([rng.bytes(int(rng.integers(row_bytes // 2, row_bytes * 2))) for _ in range(n)]),
            "note": pa.array([None if i % 7 == 0 else f"row {i}" for i in range(n)]),
            "label": pa.array(label.tolist()),
        }
        table = pa.table(values | columns)
        cuts = [0, n // 3, n // 2, n]
        return MemoryRows(tuple(table.slice(a, b - a) for a, b in itertools.pairwise(cuts)))

    return make
