"""CSV and JSON lines: types are inferred once and then hold, blocks are bounded, rows that break are named."""

from __future__ import annotations

import gzip
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from orchestrator.data.formats import text
from orchestrator.data.rows import RowSource

samples = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "samples.py")))
Open = Callable[..., RowSource]
Refusal = Callable[..., str]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> int:
    """Blocks of 200 bytes, so that small files have many."""
    monkeypatch.setattr(text, "BLOCK_BYTES", 200)
    return 200


def columns(**changes: Any) -> dict[str, Any]:
    return {"n": list(range(60)), "x": [i / 4 for i in range(60)], "label": samples.labels()} | changes


@pytest.fixture(params=["csv", "jsonl"])
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Path]:
    """``write(name, n=..., x=..., label=...)``: a file of sixty rows in either format."""

    def write_file(name: str = "a", **changes: Any) -> Path:
        write = samples.write_csv if request.param == "csv" else samples.write_json_lines
        path: Path = write(tmp_path / f"{name}.{request.param}", columns(**changes))
        return path

    return write_file


@pytest.mark.usefixtures("small_blocks")
def test_values_come_out_as_they_went_in_block_by_block(write: Callable[..., Path], opened: Open) -> None:
    rows = opened(write())

    batches = list(rows.read(rows.pieces[0]))

    assert rows.schema.types == [pa.int64(), pa.float64(), pa.string()]
    assert len(batches) > 3
    assert samples.all_rows(rows).to_pydict() == columns()
    assert rows.columns(["label"])["label"].to_pylist() == samples.labels()


@pytest.mark.usefixtures("small_blocks")
def test_a_last_line_without_its_end_and_line_ends_of_windows(write: Callable[..., Path], opened: Open) -> None:
    path = write()
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n").rstrip())

    assert samples.all_rows(opened(path)).to_pydict() == columns()


@pytest.mark.usefixtures("small_blocks")
def test_blank_lines_are_no_rows(tmp_path: Path, opened: Open) -> None:
    path = samples.write_json_lines(tmp_path / "a.jsonl", columns())
    path.write_text(path.read_text().replace("\n", "\n\n \n"))

    assert samples.all_rows(opened(path)).to_pydict() == columns()


def test_compressed_files_are_read_as_they_are(write: Callable[..., Path], opened: Open) -> None:
    path = write()
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))

    assert samples.all_rows(opened(packed)).to_pydict() == columns()


def test_whole_numbers_in_one_file_and_decimals_in_another_are_decimals(
    write: Callable[..., Path], opened: Open, tmp_path: Path
) -> None:
    suffix = write("a", x=list(range(60))).suffix
    write("b")

    rows = opened(tmp_path, files=f"*{suffix}")

    assert rows.schema.field("x").type == pa.float64()
    assert len(samples.all_rows(rows)) == 120


def test_an_empty_label_is_a_missing_one(write: Callable[..., Path], opened: Open) -> None:
    rows = opened(write(label=["", *samples.labels()[1:]]))

    assert rows.columns(["label"])["label"].to_pylist()[:2] == [None, "dog"]


def test_quoted_values_may_hold_commas_and_line_breaks(tmp_path: Path, opened: Open) -> None:
    notes = [f'line {i},\n"next"' for i in range(60)]
    path = samples.write_csv(tmp_path / "a.csv", columns(note=notes))

    assert samples.all_rows(opened(path)).to_pydict() == columns(note=notes)


@pytest.mark.parametrize(("delimiter", "name"), [(";", "a.csv"), ("\t", "a.tsv"), ("|", "a.csv")])
def test_the_delimiter_is_seen_from_the_header(tmp_path: Path, opened: Open, delimiter: str, name: str) -> None:
    path = tmp_path / name
    path.write_text(f"n{delimiter}label\n" + "".join(f"{i}{delimiter}cat\n" for i in range(5)))

    assert samples.all_rows(opened(path)).to_pydict() == {"n": list(range(5)), "label": ["cat"] * 5}


def test_a_text_column_called_image_is_no_fault_of_a_table(write: Callable[..., Path], opened: Open) -> None:
    rows = opened(write(image=["1.jpg"] * 60))

    assert rows.schema.field("image").type == pa.string()


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_blocks")
def test_a_type_that_changes_half_way_is_told_with_its_row(tmp_path: Path, refusal: Refusal) -> None:
    path = samples.write_csv(tmp_path / "a.csv", columns(n=[*range(44), "many", *range(15)]))

    assert refusal(path) == (
        f"{path}: column 'n' begins as int64, but row 45 holds 'many'; it must have one type in all rows: repair them, "
        "or give Parquet, which declares types"
    )


@pytest.mark.usefixtures("small_blocks")
def test_a_label_type_that_changes_half_way_is_told_when_labels_are_read(tmp_path: Path, opened: Open) -> None:
    path = samples.write_csv(tmp_path / "a.csv", columns(label=[*range(59), "cat"]))

    with pytest.raises(Exception, match="column 'label' begins as int64, but row 60 holds 'cat'"):
        opened(path).columns(["label"])


@pytest.mark.usefixtures("small_blocks")
def test_a_json_type_that_changes_half_way_is_told_with_its_row(tmp_path: Path, refusal: Refusal) -> None:
    path = samples.write_json_lines(tmp_path / "a.jsonl", columns(n=[*range(44), "many", *range(15)]))

    message = refusal(path)

    assert message.startswith(f"{path}: a value changes its type in row 45 (")
    assert message.endswith("it must have one type in all rows: repair them, or give Parquet, which declares types")


@pytest.mark.usefixtures("small_blocks")
def test_a_json_field_that_comes_late(tmp_path: Path, refusal: Refusal) -> None:
    path = samples.write_json_lines(tmp_path / "a.jsonl", columns())
    path.write_text(path.read_text() + json.dumps({"n": 1, "x": 1.0, "label": "cat", "late": 1}) + "\n")

    message = refusal(path)

    assert message.startswith(f"{path}: row 6")
    assert "has a field that the first" in message


def test_types_that_differ_between_files(write: Callable[..., Path], refusal: Refusal, tmp_path: Path) -> None:
    suffix = write("a").suffix
    write("b", n=["many"] * 60)

    message = refusal(tmp_path, files=f"*{suffix}")

    assert message.startswith("column 'n' is ")
    assert "a" + suffix in message
    assert "b" + suffix in message


def test_a_row_with_too_few_values(tmp_path: Path, refusal: Refusal) -> None:
    path = samples.write_csv(tmp_path / "a.csv", columns())
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:31], "1,2", *lines[31:]]))

    assert refusal(path).startswith(f"{path}: row 31 cannot be read as CSV (")


def test_a_line_that_is_no_json(tmp_path: Path, refusal: Refusal) -> None:
    path = samples.write_json_lines(tmp_path / "a.jsonl", columns())
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:30], "{broken", *lines[30:]]))

    message = refusal(path)

    assert message.startswith(f"{path}: row 3")
    assert "cannot be read as JSON" in message


def test_one_json_list_is_told_apart_from_lines(tmp_path: Path, refusal: Refusal) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"label": "cat"}]))

    assert refusal(path).startswith(f"{path}: is one JSON list; write one object per line (JSON lines)")


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_an_empty_file(tmp_path: Path, refusal: Refusal, name: str) -> None:
    path = tmp_path / name
    path.touch()

    assert refusal(path).startswith(f"{path}: ")
    assert "mpty" in refusal(path)


def test_a_truncated_compressed_file(tmp_path: Path, refusal: Refusal) -> None:
    path = tmp_path / "a.csv.gz"
    whole = gzip.compress(samples.write_csv(tmp_path / "a.csv", columns()).read_bytes())
    path.write_bytes(whole[: len(whole) // 2])

    assert refusal(path).startswith(f"{path}: ")


def test_a_header_without_a_name(tmp_path: Path, refusal: Refusal) -> None:
    path = tmp_path / "a.csv"
    path.write_text(",label\n1,cat\n")

    assert refusal(path) == f"{path}: column 1 of the header has no name; name it, or drop it"
