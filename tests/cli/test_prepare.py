"""``prepare`` as a user meets it: answer, refusals, and a process that is killed at any moment."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from orchestrator.cli.prepare import prepare_command
from orchestrator.data.manifest import MANIFEST, read_manifest
from orchestrator.errors import DataError

ROOT = Path(__file__).parents[2]


def write_source(folder: Path, n: int = 600, row_bytes: int = 3000, **columns: Any) -> Path:
    """Two Parquet files of images of noise with a class and a measurement."""
    rng = np.random.default_rng(0)
    side = round((row_bytes / 3) ** 0.5)
    table = pa.table({
        "id": range(n),
        "image": [_png(rng.integers(0, 256, (side, side, 3), np.uint8)) for _ in range(n)],
        "label": rng.choice(["cat", "dog", "owl"], n, p=[0.6, 0.3, 0.1]).tolist(),
        "price": rng.lognormal(size=n),
        **columns,
    })  # fmt: skip
    folder.mkdir()
    pq.write_table(table.slice(0, n // 3), folder / "a.parquet", row_group_size=100)
    pq.write_table(table.slice(n // 3), folder / "b.parquet", row_group_size=100)
    return folder


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def prepare(tmp_path: Path, *words: str) -> Result:
    where = [str(tmp_path / "source"), "-o", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache")]
    return CliRunner().invoke(prepare_command, [*where, *words])


def test_the_answer_is_on_stdout_and_what_happens_on_stderr(tmp_path: Path) -> None:
    write_source(tmp_path / "source")

    result = prepare(tmp_path, "--label", "label")

    assert result.exit_code == 0, result.output
    manifest = read_manifest(tmp_path / "out")
    assert "rows:          600: 480 for training, 120 for validation" in result.stdout
    assert "classes:       3, of " in result.stdout
    assert f"fingerprint:   {manifest.summary.fingerprint}" in result.stdout
    assert "  10%                   48    " in result.stdout
    assert f"next:          python -m orchestrator sweep CONFIG data.source={tmp_path / 'out'}" in result.stdout
    assert "reading labels of 600 rows" in result.stderr
    assert "reading labels" not in result.stdout


def test_json_holds_the_manifest_and_the_subsets(tmp_path: Path) -> None:
    write_source(tmp_path / "source")

    answer = json.loads(prepare(tmp_path, "--label", "label", "--format", "json").stdout)

    manifest = read_manifest(tmp_path / "out")
    assert answer["summary"]["n_train"] == 480
    assert answer["counts_at"]["0.1"] == manifest.counts_at["0.1"]
    assert [each["rows"] for each in answer["subsets"]] == [5, 10, 24, 48, 96, 240, 480]
    assert answer["subsets"][-1]["bytes"] == sum(file.n_bytes for file in manifest.train_files)


def test_options_reach_the_manifest(tmp_path: Path) -> None:
    write_source(tmp_path / "source", site=["north", "south"] * 300)

    words = ["--label", "price", "--stratify", "site", "--stratify", "price", "--bins", "4", "--seed", "7"]
    result = prepare(tmp_path, *words, "--validation-fraction", "0.1", "--min-per-class", "2")

    assert result.exit_code == 0, result.output
    manifest = read_manifest(tmp_path / "out")
    assert not manifest.is_classification
    assert manifest.strata.startswith("classes of site and 4 quantile bins of price, 8 combinations; ")
    assert "at least 2 of each class" in manifest.strata
    assert (manifest.order_seed, manifest.bins, manifest.stratify) == (7, 4, ("site", "price"))
    assert manifest.summary.n_validation == pytest.approx(60, abs=8)
    assert "stratified by: classes of site and 4 quantile bins of price" in result.stdout


def test_rows_without_labels(tmp_path: Path) -> None:
    write_source(tmp_path / "source")

    result = prepare(tmp_path)

    assert result.exit_code == 0, result.output
    assert "stratified by: not at all" in result.stdout
    assert "classes:" not in result.stdout


def test_the_same_again_says_so_and_answers_again(tmp_path: Path) -> None:
    write_source(tmp_path / "source")
    first = prepare(tmp_path, "--label", "label")

    again = prepare(tmp_path, "--label", "label")

    assert again.stdout == first.stdout
    assert "nothing to do" in again.stderr


def test_other_options_are_refused_until_overwrite(tmp_path: Path) -> None:
    write_source(tmp_path / "source")
    prepare(tmp_path, "--label", "label")

    refused = prepare(tmp_path, "--label", "label", "--seed", "1")
    replaced = prepare(tmp_path, "--label", "label", "--seed", "1", "--overwrite")

    assert isinstance(refused.exception, DataError)
    assert "order_seed is 0, asked 1); give another folder, or replace it with --overwrite" in str(refused.exception)
    assert replaced.exit_code == 0
    assert read_manifest(tmp_path / "out").order_seed == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--label", "lable"], "there is no column 'lable'; did you mean 'label'?"),
        (["--label", "label", "--id", "key"], "10 of 600 rows repeat the 'key' of another"),
        (["--label", "label", "--drop-duplicates"], "--drop-duplicates needs --id"),
        (["--label", "half"], "column 'half' is null in 300 of 600 rows (first: row 1 of "),
    ],
)
def test_refusals(tmp_path: Path, words: list[str], message: str) -> None:
    write_source(tmp_path / "source", key=[i % 590 for i in range(600)], half=["a", None] * 300)

    result = prepare(tmp_path, *words)

    assert message in str(result.exception)
    assert result.stdout == ""
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / ".preparing-out").exists()


def test_rows_that_are_left_out_are_told(tmp_path: Path) -> None:
    write_source(tmp_path / "source", key=[i % 590 for i in range(600)], half=["a", "b", None] * 200)

    result = prepare(tmp_path, "--label", "half", "--drop-missing-labels", "--id", "key", "--drop-duplicates")

    assert "left out:      200 rows: label is missing, 3 rows: key is another row's" in result.stdout


@pytest.mark.parametrize(
    "option", [["--validation-fraction", "1"], ["--bins", "1"], ["--seed", "-1"], ["--format", "x"]]
)
def test_values_out_of_range_are_misuse(tmp_path: Path, option: list[str]) -> None:
    write_source(tmp_path / "source")

    assert prepare(tmp_path, *option).exit_code == 2


# --- killed ---------------------------------------------------------------------------------------------------------

# As the command does it, but with so little memory that rows go by way of the disk in many groups.
PROCESS = """
import sys
from pathlib import Path
from orchestrator.data.formats import open_rows
from orchestrator.data.preparing.preparation import PrepareOptions, prepare_folder

folder = Path(sys.argv[1])
rows = open_rows(str(folder / "source"), label="label", cache_dir=folder / "cache")
options = PrepareOptions(source="here", label="label", memory_bytes=int(sys.argv[2]))
print("begins", flush=True)
prepare_folder(rows, folder / "out", options)
print("done", flush=True)
"""


def start(folder: Path, memory_bytes: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS, str(folder), str(memory_bytes)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    return process


def content_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != MANIFEST}


def test_a_process_killed_at_any_moment_is_gone_on_with_to_the_same_bytes(tmp_path: Path) -> None:
    """Moments are spread by a seed over the time that a whole run takes, several kills a folder."""
    rng = np.random.default_rng(0)
    write_source(tmp_path / "source", n=2000, row_bytes=10_000)
    (tmp_path / "cache").mkdir()
    memory_bytes = 1_500_000
    began = time.monotonic()
    with start(tmp_path, memory_bytes) as whole:
        assert whole.communicate()[0] == "done\n"
    took_s = time.monotonic() - began
    expected = content_of(tmp_path / "out")
    summary = read_manifest(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "undisturbed")

    n_killed = 0
    while n_killed < 5:
        with start(tmp_path, memory_bytes) as process:
            time.sleep(float(rng.uniform(0, 0.5 * took_s)))
            process.send_signal(signal.SIGKILL)
            was_killed = process.wait() == -signal.SIGKILL
        if (tmp_path / "out").exists():
            assert content_of(tmp_path / "out") == expected
            shutil.rmtree(tmp_path / "out")
        n_killed += was_killed
    with start(tmp_path, memory_bytes) as last:
        assert last.communicate()[0] == "done\n"

    assert content_of(tmp_path / "out") == expected
    assert read_manifest(tmp_path / "out").counts_at == summary.counts_at
    assert not (tmp_path / ".preparing-out").exists()


def break_images(tmp_path: Path, n_broken: int) -> None:
    path = tmp_path / "source" / "a.parquet"
    table = pq.read_table(path)
    images = table["image"].to_pylist()
    images[:n_broken] = [b"no image"] * n_broken
    pq.write_table(table.set_column(table.schema.get_field_index("image"), "image", [images]), path)


def test_images_that_cannot_be_decoded_are_refused_told_or_left_out(tmp_path: Path) -> None:
    write_source(tmp_path / "source")
    break_images(tmp_path, 5)

    told = prepare(tmp_path, "--label", "label")
    refused = prepare(tmp_path, "--label", "label", "--max-undecodable", "0.005", "--overwrite", "--seed", "1")
    left_out = prepare(tmp_path, "--label", "label", "--drop-undecodable", "--overwrite")
    too_many = prepare(tmp_path, "--label", "label", "--drop-undecodable", "--max-undecodable", "0.005", "--overwrite")

    assert "undecodable images  FAIL         5" in " ".join(told.stdout.split("\n"))
    assert "5 of 600 images cannot be decoded (0.8%; at most 0.5% is allowed)" in str(refused.exception)
    assert "left out:      5 rows: image cannot be decoded" in left_out.stdout
    assert read_manifest(tmp_path / "out").summary.n_rows == 595
    assert "5 of 600 images cannot be decoded" in str(too_many.exception)


def test_the_first_row_of_an_id_stays_though_an_earlier_one_has_no_label(tmp_path: Path) -> None:
    write_source(tmp_path / "source", key=[0, 0, *range(2, 600)], half=[None, *["a", "b"] * 299, "a"])

    result = prepare(tmp_path, "--label", "half", "--drop-missing-labels", "--id", "key", "--drop-duplicates")

    assert "left out:      1 rows: label is missing" in result.stdout
    assert "another row's" not in result.stdout
