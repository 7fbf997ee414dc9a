"""`prepare` over a cluster: the same bytes as in one process, and a folder that nodes do not share is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.backends.cluster import RayCluster
from orchestrator.backends.ray_prepare import RaySpread
from orchestrator.data.manifest import MANIFEST
from orchestrator.data.preparing.preparation import PrepareOptions, prepare_folder
from orchestrator.data.rows import Piece
from orchestrator.errors import DataError


def make_rows(path: Path, broken_piece: int = -1) -> Any:
    """A source of one Parquet file, a piece per row group; a class of this function travels to Ray by value."""

    @dataclass(frozen=True)
    class FileRows:
        path: str
        broken_piece: int
        format: str = "Parquet"
        fingerprint: str = "0123456789abcdef"
        bytes_on_disk: int = 0
        pieces: tuple[Piece, ...] = field(default=())

        @property
        def schema(self) -> pa.Schema:
            return pq.read_schema(self.path)

        def columns(self, names: Sequence[str]) -> pa.Table:
            return pq.read_table(self.path, columns=list(names))

        def read(self, piece: Piece) -> Iterator[pa.RecordBatch]:
            if piece.position == self.broken_piece:
                raise DataError(f"{piece.path}: row group {piece.position} is damaged")
            with pq.ParquetFile(self.path) as file:
                yield from file.read_row_group(piece.position).to_batches(max_chunksize=40)

        def class_names(self, label: str) -> None:
            return None

    n = 1000
    rng = np.random.default_rng(0)
    labels = rng.choice(["a", "b", "c"], n, p=[0.7, 0.2, 0.1])
    table = pa.table({"image": [rng.bytes(int(rng.integers(2000, 9000))) for _ in range(n)], "label": labels.tolist()})
    pq.write_table(table, path, row_group_size=100)
    pieces = tuple(Piece(path=str(path), first_row=100 * i, n_rows=100, position=i) for i in range(n // 100))
    return FileRows(str(path), broken_piece, pieces=pieces)


def content_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != MANIFEST}


OPTIONS = PrepareOptions(source="here", label="label", memory_bytes=2_000_000)


@pytest.mark.ray
def test_a_cluster_writes_the_same_bytes_as_one_process(tmp_path: Path, cluster: RayCluster) -> None:
    rows = make_rows(tmp_path / "source.parquet")
    told: list[tuple[str, int, int]] = []

    alone = prepare_folder(rows, tmp_path / "alone", OPTIONS)
    spread = prepare_folder(
        rows, tmp_path / "spread", OPTIONS, spread=RaySpread.of_cluster(), progress=lambda *t: told.append(t)
    )

    assert content_of(tmp_path / "spread") == content_of(tmp_path / "alone")
    assert (spread.summary, spread.train_files, spread.counts_at) == (alone.summary, alone.train_files, alone.counts_at)
    assert told[-1] == ("writing", 1000, 1000)


@pytest.mark.ray
def test_an_error_of_a_worker_is_told_as_it_is(tmp_path: Path, cluster: RayCluster) -> None:
    rows = make_rows(tmp_path / "source.parquet", broken_piece=7)

    with pytest.raises(DataError, match=r"source.parquet: row group 7 is damaged$"):
        prepare_folder(rows, tmp_path / "out", OPTIONS, spread=RaySpread.of_cluster())

    assert not (tmp_path / "out").exists()


@pytest.mark.ray
def test_a_folder_that_a_node_does_not_see_is_refused(
    tmp_path: Path, cluster: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe is removed before a node can look: to the node this is a folder of another machine."""
    write = Path.write_text
    monkeypatch.setattr(Path, "write_text", lambda path, text: (write(path, text), path.unlink()))

    with pytest.raises(DataError, match=r"is not seen by 1 of 1 nodes of the cluster \(.*share, or leave --ray out"):
        RaySpread(2).check(tmp_path)
