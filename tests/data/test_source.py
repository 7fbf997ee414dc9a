"""Which source a config names, and what is told when there is none."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from orchestrator.data.source import check_source
from orchestrator.errors import Fault
from orchestrator.spec import DataSpec


def fault(source: str | Path, files: str = "*.parquet") -> Fault:
    found = check_source(DataSpec(source=str(source), files=files))
    assert found is not None
    return found


def test_digits_a_file_and_a_folder_with_files_are_sources(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").touch()

    for source in ("sklearn:digits", tmp_path, tmp_path / "a.parquet"):
        assert check_source(DataSpec(source=str(source))) is None


def test_a_missing_file_is_met_with_one_like_it(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").touch()

    found = fault(tmp_path / "trian.parquet")

    assert found.key == "data.source"
    assert found.message.startswith(
        f"{tmp_path}/trian.parquet is not there; did you mean 'train.parquet'; give a Parquet"
    )


def test_of_a_missing_folder_the_part_that_is_missing_is_named(tmp_path: Path) -> None:
    assert f"is not there, nor is the folder {tmp_path}/a;" in fault(tmp_path / "a" / "b" / "c.parquet").message


def test_a_folder_without_matching_files_shows_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "train.csv").touch()

    found = fault(tmp_path, "train*.parquet")

    assert found.key == "data.files"
    assert found.message == f"'train*.parquet' matches no file in {tmp_path}, which holds: train.csv"


@pytest.mark.parametrize("source", ["s3://bucket/data", "hf:cifar10", "task"])
def test_an_unknown_scheme_is_met_with_the_known_ones(source: str) -> None:
    assert fault(source).message == (
        f"cannot prepare {source!r}: it must be a Parquet file, a folder of Parquet files, or sklearn:digits"
    )


def test_another_set_of_scikit_learn_is_refused_with_the_list() -> None:
    assert fault("sklearn:digit").message == (
        "there is no 'sklearn:digit' here; did you mean 'digits'?; known: sklearn:digits"
    )


def test_a_missing_scikit_learn_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    assert fault("sklearn:digits").message == (
        "sklearn:digits needs scikit-learn, which is not installed: pip install scikit-learn"
    )
