"""What a source is taken for, and what is said when it is nothing."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from orchestrator.data.formats import check_rows
from orchestrator.data.rows import RowSource

samples = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "samples.py")))
Open = Callable[..., RowSource]
Refusal = Callable[..., str]


def fault(source: Path | str, **options: Any) -> tuple[str, str]:
    found = check_rows(str(source), **options)
    assert found is not None
    return found.key, found.message


def parquet(path: Path) -> Path:
    return samples.write_parquet(path, {"image": samples.blobs(), "label": samples.labels()})


def test_the_glob_chooses_and_the_default_takes_what_is_there(tmp_path: Path, opened: Open) -> None:
    parquet(tmp_path / "data" / "train.parquet")
    parquet(tmp_path / "data" / "test.parquet")
    (tmp_path / "text").mkdir()
    csv = samples.write_csv(tmp_path / "text" / "a.csv", {"label": samples.labels()})

    assert sum(piece.n_rows for piece in opened(tmp_path / "data").pieces) == 120
    assert sum(piece.n_rows for piece in opened(tmp_path / "data", files="train*").pieces) == 60
    assert opened(csv.parent, files=None).format == opened(csv.parent).format == "CSV"


def test_a_glob_may_go_deeper(tmp_path: Path, opened: Open) -> None:
    parquet(tmp_path / "data" / "2024" / "01" / "a.parquet")
    parquet(tmp_path / "data" / "2025" / "b.parquet")

    assert len(opened(tmp_path / "data", files="**/*.parquet").pieces) == 2
    assert len(opened(tmp_path / "data", files="*/*.parquet").pieces) == 1


def test_files_of_earlier_versions_of_a_delta_table_are_left_out(tmp_path: Path, opened: Open) -> None:
    folder = tmp_path / "table"
    for name in ("old", "new"):
        parquet(folder / f"{name}.parquet")
    log = folder / "_delta_log"
    log.mkdir()
    add = {"size": 1, "modificationTime": 0, "dataChange": True, "partitionValues": {}}
    actions = [
        [
            {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
            {"metaData": {"id": "1", "partitionColumns": [], "format": {"provider": "parquet"}, "configuration": {}}},
            {"add": {"path": "old.parquet", **add}},
        ],
        [{"remove": {"path": "old.parquet", "dataChange": True}}, {"add": {"path": "new.parquet", **add}}],
    ]
    for version, lines in enumerate(actions):
        (log / f"{version:020d}.json").write_text("\n".join(map(json.dumps, lines)))

    rows = opened(folder)

    assert {piece.path for piece in rows.pieces} == {str(folder / "new.parquet")}


def test_a_parquet_file_of_any_name(tmp_path: Path, opened: Open) -> None:
    path = parquet(tmp_path / "a.parquet").rename(tmp_path / "part-00000")

    assert opened(path).format == "Parquet"
    assert pq.read_metadata(path).num_rows == 60


# --- what is refused ------------------------------------------------------------------------------------------------


def test_what_is_not_there_with_what_may_be_meant(tmp_path: Path) -> None:
    path = parquet(tmp_path / "train.parquet")

    key, message = fault(tmp_path / "trian.parquet")

    assert key == "data.source"
    assert message.startswith(
        f"{tmp_path / 'trian.parquet'} is not there; did you mean 'train.parquet'; give Parquet, "
    )
    assert f"for {path} is a file" in fault(path / "x")[1]
    assert f"nor is the folder {tmp_path / 'no'}" in fault(tmp_path / "no" / "x")[1]


def test_a_glob_that_matches_nothing(tmp_path: Path) -> None:
    for name in ("b.parquet", "a.parquet"):
        parquet(tmp_path / name)

    assert fault(tmp_path, files="train-*.parquet") == (
        "data.files", f"'train-*.parquet' matches no file in {tmp_path}, which holds: a.parquet, b.parquet",
    )  # fmt: skip


def test_an_empty_folder(tmp_path: Path) -> None:
    assert fault(tmp_path) == ("data.files", f"'*.parquet' matches no file in {tmp_path}, which holds: nothing")


def test_files_that_lie_deeper(tmp_path: Path) -> None:
    parquet(tmp_path / "data" / "2024" / "a.parquet")

    assert fault(tmp_path / "data")[1].endswith(
        "which holds: 2024; 1 .parquet files lie deeper: give their folder, or data.files '**/*.parquet'"
    )


def test_files_of_several_formats(tmp_path: Path) -> None:
    samples.write_csv(tmp_path / "a.csv", {"label": samples.labels()})
    samples.write_json_lines(tmp_path / "b.jsonl", {"label": samples.labels()})

    assert fault(tmp_path) == (
        "data.files",
        f"{tmp_path} holds files of several formats (csv: 1, jsonl: 1); choose one with data.files or format",
    )
    assert fault(tmp_path, files="*")[0] == "data.files"
    assert check_rows(str(tmp_path), format="csv") is None


def test_a_file_of_no_format(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("a note")

    assert fault(path)[1].startswith(f"{path}: is of no format known here; give Parquet")


def test_a_format_that_is_not_known(tmp_path: Path) -> None:
    assert fault(tmp_path, format="parqet")[1].startswith(
        "there is no format 'parqet'; did you mean 'parquet'? known: parquet, csv"
    )
    path = parquet(tmp_path / "a.parquet")
    assert fault(path, format="images")[1] == f"{path}: is a file, and 'images' is a format of folders; give the folder"


@pytest.mark.parametrize("source", ["task", "hub:cifar10"])
def test_what_is_no_path_at_all(source: str) -> None:
    assert fault(source)[1].startswith(f"cannot prepare {source!r}: it must be Parquet, ")


def test_sets_of_scikit_learn() -> None:
    assert check_rows("sklearn:digits") is None
    assert fault("sklearn:digit")[1] == (
        "there is no 'sklearn:digit' here; did you mean 'digits'? known: sklearn:digits"
    )
