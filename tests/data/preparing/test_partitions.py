"""Pass two: rows to their places by way of memory or disk, in pieces of bounded size."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.data.preparing import row_pool
from orchestrator.data.preparing.partitions import (
    FromRuns,
    SpillGroup,
    WriteFile,
    group_pieces,
    output_schema,
    parquet_options,
    plan_files,
    read_rows,
)
from orchestrator.data.preparing.row_pool import RowPool, row_size
from orchestrator.data.rows import SOURCE_ROW, Piece
from orchestrator.errors import DataError


@pytest.mark.parametrize("row_bytes", [10, 400, 30_000, 65_536, 5e6, 3e9])
@pytest.mark.parametrize("n_train", [1, 1000, 1_000_003])
@pytest.mark.parametrize("slice_bytes", [1e6, 3e7, 1e9])
def test_slices_and_files_cover_every_place_once(row_bytes: float, n_train: int, slice_bytes: float) -> None:
    geometry = plan_files(n_train, 7, row_bytes, slice_bytes)
    covered = [bounds for file in geometry.files for bounds in geometry.slices(file)]

    assert [start for start, _ in covered] == geometry.slice_starts().tolist()
    assert covered[0][0] == 0
    assert all(one[1] == other[0] for one, other in itertools.pairwise(covered))
    assert covered[-1][1] == n_train + 7
    assert {file.name.split("-")[0] for file in geometry.files if file.start < n_train} == {"train"}
    assert {file.name.split("-")[0] for file in geometry.files if file.start >= n_train} == {"validation"}
    assert geometry.rows_per_slice % geometry.rows_per_group == 0


def test_row_groups_hold_4_mb_between_64_and_8192_rows() -> None:
    assert plan_files(10**7, 1, 20_000, 1e9).rows_per_group == 200
    assert plan_files(10**7, 1, 1e6, 1e9).rows_per_group == 64
    assert plan_files(10**7, 1, 10, 1e9).rows_per_group == 8192


def test_row_groups_of_a_small_set_are_half_a_percent_of_it() -> None:
    assert plan_files(100_000, 1, 100, 1e9).rows_per_group == 500
    assert plan_files(1000, 1, 100, 1e9).rows_per_group == 64


def test_slices_fit_their_memory_unless_a_row_group_does_not() -> None:
    geometry = plan_files(100_000, 1000, 30_000, 20e6)

    assert geometry.rows_per_slice * 30_000 <= 20e6
    assert plan_files(100_000, 1000, 30_000, 1).rows_per_slice == geometry.rows_per_group


def test_files_and_row_groups_do_not_depend_on_the_memory() -> None:
    small, large = (plan_files(100_000, 1000, 30_000, slice_bytes) for slice_bytes in (5e6, 1e9))

    assert small.files == large.files
    assert small.rows_per_group == large.rows_per_group
    assert small.rows_per_slice < large.rows_per_slice


def test_very_large_sets_get_larger_files_rather_than_more_than_a_few_thousand() -> None:
    assert len(plan_files(10**8, 10**6, 30_000, 1e9).files) < 5000


EVERY_TYPE = pa.table({
    "small": pa.array(range(100), pa.int8()),
    "text": [None if i % 5 == 0 else "x" * i for i in range(100)],
    "wide": [bytes([i]) * (6000 + i) if i % 9 else None for i in range(100)],
    "fixed": pa.array([bytes([i]) * 5000 for i in range(100)], pa.binary(5000)),
    "struct": [{"bytes": bytes([i]) * 5000, "path": f"{i}.png"} if i % 4 else None for i in range(100)],
    "list": [list(range(i % 6)) for i in range(100)],
    "flag": [i % 2 == 0 for i in range(100)],
    "empty": pa.nulls(100),
})  # fmt: skip


@pytest.mark.parametrize("chunk", [100, 30, 1])
def test_rows_are_taken_in_any_order_whatever_their_type(chunk: int) -> None:
    rows = np.random.default_rng(0).permutation(100)[:64]

    taken = RowPool(EVERY_TYPE.to_batches(max_chunksize=chunk), EVERY_TYPE.schema).take(rows)

    assert pa.Table.from_batches([taken]).equals(EVERY_TYPE.take(pa.array(rows)).combine_chunks())


def test_a_slice_of_a_larger_array_gives_its_own_rows() -> None:
    batches = EVERY_TYPE.slice(40, 20).to_batches(max_chunksize=7)

    taken = RowPool(batches, EVERY_TYPE.schema).take(np.array([0, 19, 7]))

    assert taken.column("small").to_pylist() == [40, 59, 47]
    assert taken.column("struct").to_pylist() == EVERY_TYPE.column("struct").take(pa.array([40, 59, 47])).to_pylist()


def test_text_too_long_for_one_column_of_32_bit_offsets_is_taken_from_its_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(row_pool, "MAX_COLUMN_BYTES", 100)

    taken = RowPool(EVERY_TYPE.to_batches(max_chunksize=30), EVERY_TYPE.schema).take(np.array([99, 1, 50]))

    assert taken.column("text").to_pylist() == ["x" * 99, "x", None]


def test_the_size_of_a_row_tells_what_is_there_twice_and_what_will_not_be_compressed() -> None:
    table = pa.table({"number": pa.array([1, 2], pa.int64()), "small": [b"x" * 100] * 2, "wide": [b"x" * 9000] * 2})

    size = row_size(table.to_batches(max_chunksize=1))

    assert size.n_bytes == pytest.approx(8 + 100 + 9000 + 8, abs=30)
    assert size.peak == pytest.approx(size.n_bytes + 108, abs=30)
    assert size.blobs == pytest.approx(9100, abs=30)


def test_blobs_are_stored_as_they_are_and_the_rest_is_compressed(tmp_path: Path) -> None:
    schema = output_schema(EVERY_TYPE.drop_columns(["empty"]).schema)

    options = parquet_options(schema)

    compressed = {"small", "text", "struct.path", "list.list.element", "flag", SOURCE_ROW}
    assert options["compression"] == dict.fromkeys(compressed, "zstd")
    assert set(options["use_dictionary"]) == compressed - {SOURCE_ROW}
    assert set(options["write_statistics"]) == compressed


def test_dictionaries_are_decoded_and_metadata_of_tensors_kept() -> None:
    tensor = pa.field("x", pa.binary(4), metadata={b"shape": b"1,2,2", b"dtype": b"uint8"})
    schema = pa.schema(
        [tensor, pa.field("c", pa.dictionary(pa.int8(), pa.string())), pa.field(SOURCE_ROW, pa.int32())],
        metadata={b"pandas": b"{}", b"classes": b"a,b"},
    )

    found = output_schema(schema)

    assert found.names == ["x", "c", SOURCE_ROW]
    assert found.field("x").metadata == tensor.metadata
    assert found.field("c").type == pa.string()
    assert found.field(SOURCE_ROW).type == pa.int64()
    assert found.metadata == {b"classes": b"a,b"}


def test_pieces_are_grouped_up_to_a_number_of_rows() -> None:
    pieces = [Piece(path="a", first_row=0, n_rows=n, position=i) for i, n in enumerate([3, 3, 3, 20, 1, 1])]

    groups = group_pieces(pieces, 7)

    assert [[piece.position for piece in group.pieces] for group in groups] == [[0, 1], [2], [3], [4, 5]]
    assert [group.number for group in groups] == [0, 1, 2, 3]


def spill(rows: Any, folder: Path, places: np.ndarray[Any, Any], buffer_bytes: float) -> tuple[SpillGroup, Any, Any]:
    geometry = plan_files(len(places) - 50, 50, 40_000, 1e6)
    np.save(folder / "places.npy", places)
    task = SpillGroup(
        rows=rows,
        schema=output_schema(rows.schema),
        geometry=geometry,
        places_file=folder / "places.npy",
        folder=folder,
        buffer_bytes=buffer_bytes,
    )
    return task, geometry, group_pieces(rows.pieces, 250)


@pytest.mark.parametrize("buffer_bytes", [1, 30_000, 1e9], ids=["each batch", "some batches", "all"])
def test_spilled_rows_come_back_sorted_by_place(
    tmp_path: Path, labelled: Callable[..., Any], buffer_bytes: float
) -> None:
    rows = labelled(600)
    places = np.random.default_rng(3).permutation(600).astype(np.int32)
    task, geometry, groups = spill(rows, tmp_path, places, buffer_bytes)
    runs = tuple(run for group in groups for run in pickle.loads(pickle.dumps(task))(group))

    back = FromRuns(folder=tmp_path, runs=runs, places_file=task.places_file, geometry=geometry, schema=task.schema)
    found = pa.Table.from_batches([batch for file in geometry.files for batch in back(file.start, file.stop, 64)])

    expected = np.argsort(places)
    assert found.column(SOURCE_ROW).to_pylist() == expected.tolist()
    whole = pa.concat_tables(rows.tables).take(pa.array(expected))
    assert found.drop_columns([SOURCE_ROW]).to_pydict() == whole.to_pydict()


def test_a_group_that_was_spilled_is_not_read_again(tmp_path: Path, labelled: Callable[..., Any]) -> None:
    rows = labelled(600)
    task, _, groups = spill(rows, tmp_path, np.arange(600), 1e9)
    first = task(groups[0])
    written = (tmp_path / first[0].name).stat().st_mtime_ns

    assert task(groups[0]) == first
    assert (tmp_path / first[0].name).stat().st_mtime_ns == written


def test_a_group_without_its_record_is_made_anew(tmp_path: Path, labelled: Callable[..., Any]) -> None:
    rows = labelled(600)
    task, _, groups = spill(rows, tmp_path, np.arange(600), 1e9)
    first = task(groups[0])
    (tmp_path / "group-00000.json").unlink()
    (tmp_path / first[0].name).write_bytes(b"half a run")
    (tmp_path / "group-00000-007.arrow").write_bytes(b"of a larger buffer")

    assert task(groups[0]) == first
    assert (tmp_path / first[0].name).stat().st_size > 1000
    assert not (tmp_path / "group-00000-007.arrow").exists()


def test_spilled_rows_that_are_gone_are_noticed(tmp_path: Path, labelled: Callable[..., Any]) -> None:
    task, geometry, groups = spill(labelled(600), tmp_path, np.arange(600), 1e9)
    runs = task(groups[0])

    back = FromRuns(folder=tmp_path, runs=runs, places_file=task.places_file, geometry=geometry, schema=task.schema)

    with pytest.raises(DataError, match=r"spilled rows are missing; delete .* and run again"):
        list(back(0, 550, 64))


def test_rows_without_a_place_are_left_out(labelled: Callable[..., Any]) -> None:
    rows = labelled(600)
    places = np.full(600, -1)
    places[[5, 10, 599]] = [2, 0, 1]

    found = list(read_rows(rows, rows.pieces, places, output_schema(rows.schema)))

    assert [row for batch, _ in found for row in batch.column(SOURCE_ROW).to_pylist()] == [5, 10, 599]
    assert [place for _, found_places in found for place in found_places.tolist()] == [2, 0, 1]


@pytest.mark.parametrize("n_rows", [199, 201], ids=["fewer", "more"])
def test_a_piece_of_other_length_than_before_is_refused(labelled: Callable[..., Any], n_rows: int) -> None:
    rows = labelled(600)
    piece = Piece(path="memory/part-0", first_row=0, n_rows=n_rows, position=0)

    with pytest.raises(DataError, match=r"memory/part-0: holds other rows than .* it changed while it was read"):
        list(read_rows(rows, [piece], np.arange(600), output_schema(rows.schema)))


def test_a_file_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    schema = output_schema(EVERY_TYPE.select(["small"]).schema)
    file = plan_files(100, 1, 1e5, 1e9).files[0]
    (tmp_path / file.name).write_bytes(b"whole")

    part = WriteFile(folder=tmp_path, schema=schema, rows_per_group=64, sorted_rows=lambda *_: iter(()))(file)

    assert part.n_bytes == 5
    assert part.n_rows == file.stop


def test_row_groups_of_a_written_file_have_the_planned_rows(tmp_path: Path, labelled: Callable[..., Any]) -> None:
    rows = labelled(600)
    task, geometry, groups = spill(rows, tmp_path, np.arange(600), 1e9)
    back = FromRuns(
        folder=tmp_path,
        runs=tuple(run for group in groups for run in task(group)),
        places_file=task.places_file,
        geometry=geometry,
        schema=task.schema,
    )

    WriteFile(folder=tmp_path, schema=task.schema, rows_per_group=geometry.rows_per_group, sorted_rows=back)(
        geometry.files[0]
    )

    found = pq.read_metadata(tmp_path / "train-00000.parquet")
    assert [found.row_group(i).num_rows for i in range(found.num_row_groups)] == [64] * 8 + [38]
