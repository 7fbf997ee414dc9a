"""``bench-io``: a table, what it means in a sentence, and plain errors."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click.testing
import pytest

from orchestrator.cli.bench_io import bench_io_command
from orchestrator.errors import DataError

QUICK = ("--seconds", "0.3", "--threads", "2", "--max-gb", "0.05")


@dataclass(frozen=True)
class Answer:
    exit_code: int
    stdout: str
    error: BaseException | None


def ask(*args: str | Path, options: Sequence[str] = QUICK) -> Answer:
    result = click.testing.CliRunner().invoke(bench_io_command, [*map(str, args), *options])
    return Answer(result.exit_code, result.output, result.exception)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for i in range(1200):
        (folder / f"{i}.png").write_bytes(b"\x89" * 11_000)
    return folder


def test_the_table_ends_with_how_many_samples_a_second_that_feeds(images: Path) -> None:
    answer = ask(images)

    assert answer.exit_code == 0, answer.error
    assert f"{images} (local): 1,200 files, 13.2 MB" in answer.stdout
    assert "open and read a file" in answer.stdout
    assert "images of the mean file size here (11 kB) a second on" in answer.stdout
    assert "1.2k files of 11 kB: " in answer.stdout
    assert "add --write" in answer.stdout  # no large file here tells what packing would give


def test_many_small_files_beside_a_large_one_are_told_to_be_packed(images: Path) -> None:
    large = images / "large.bin"
    large.write_bytes(os.urandom(32 << 20))

    text = ask(images).stdout
    large.unlink()

    # Reading on is more than twice as fast as opening 11 kB files wherever this was tried; where not, nothing is said.
    assert "times faster; run `prepare`" in text or "1.2k files" not in text


def test_markdown_has_one_row_per_measurement(images: Path) -> None:
    lines = [line for line in ask(images, "--format", "md").stdout.splitlines() if line.startswith("|")]
    count = len(json.loads(ask(images, "--format", "json").stdout)["measurements"])

    assert len(lines) == 2 + count
    assert len({line.count("|") for line in lines}) == 1


def test_json_holds_rates_and_meaning_and_no_zero_for_what_is_missing(images: Path) -> None:
    plain = json.loads(ask(images, "--format", "json").stdout)

    assert plain["sample_name"] == "image"
    assert plain["samples_per_s"] > 0
    assert plain["packed_samples_per_s"] is None
    assert plain["meaning"][0].startswith("enough for about ")
    assert all(row["operations_per_s"] > 0 and row["mb_per_s"] != 0 for row in plain["measurements"])


def test_a_single_large_file_is_said_in_files_or_rows(tmp_path: Path) -> None:
    (tmp_path / "one.bin").write_bytes(os.urandom(24 << 20))

    text = ask(tmp_path).stdout

    assert "1 file, 25.2 MB" in text
    assert "files of the mean file size here (25.2 MB) a second" in text
    assert "not measured: open and read a file" in text


def test_an_empty_folder_can_be_measured_with_files_of_its_own(tmp_path: Path) -> None:
    answer = ask(tmp_path, "--write")

    assert answer.exit_code == 0, answer.error
    assert "no files; measured with files of its own" in answer.stdout
    assert "sequential write" in answer.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_is_not_there_names_a_near_one(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()

    error = ask(tmp_path / "image").error

    assert isinstance(error, DataError)
    assert "is not there; did you mean 'images'; check the address" in str(error)


def test_an_unknown_scheme_is_refused() -> None:
    assert isinstance(ask("nowhere://bucket/images").error, DataError)


@pytest.mark.parametrize("option", [("--seconds", "0"), ("--threads", "0"), ("--max-gb", "0"), ("--format", "xml")])
def test_bounds_out_of_range_are_refused(tmp_path: Path, option: tuple[str, str]) -> None:
    assert ask(tmp_path, options=option).exit_code == 2
