"""What commands that only read may not import: torch and Ray take seconds, and a reader has not asked for them."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.decision import decide
from orchestrator.tracking.journal import Journal

ROOT = Path(__file__).resolve().parent.parent


def imported_by(*words: str) -> set[str]:
    """Every module that ``python -m orchestrator WORDS`` imports, which must succeed."""
    command = [sys.executable, "-X", "importtime", "-m", "orchestrator", *words]
    environment = {**os.environ, "MPLBACKEND": "agg"}
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    lines = [line for line in found.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.fixture(scope="module")
def run_folder(synthetic: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep with its verdict."""
    spec = synthetic.spec()
    results = synthetic.results(spec)
    folder: Path = tmp_path_factory.mktemp("runs") / spec.name
    with Journal.open(folder, now=lambda: datetime.now(UTC)) as journal:
        journal.append("experiment", {"spec": spec, "data": synthetic.data, "versions": {}, "config": None})
        for result in results:
            journal.append("trial", result)
        verdict = decide(spec, synthetic.data, results, synthetic.rates(spec), checkpoint_bytes={})
        journal.append("verdict", verdict)
    return folder


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["sweep", "--help"], ["promote", "--help"]])
def test_help_imports_the_command_line_and_nothing_that_is_slow(words: list[str]) -> None:
    heavy = {
        "ray",
        "torch",
        "mlflow",
        "numpy",
        "scipy",
        "pyarrow",
        "pandas",
        "pydantic",
        "matplotlib",
        "yaml",
        "jinja2",
    }

    assert imported_by(*words) & heavy == set()


@pytest.mark.parametrize("words", [["decide"], ["status"], ["report", "-o", os.devnull]])
def test_reading_evidence_imports_neither_torch_nor_ray(run_folder: Path, words: list[str]) -> None:
    command, *options = words

    imported = imported_by(command, str(run_folder), *options)

    assert imported & {"ray", "torch", "mlflow", "sklearn", "pyarrow"} == set()


def test_history_and_the_schema_import_neither_torch_nor_ray(run_folder: Path) -> None:
    for words in (["history", "--runs-dir", str(run_folder.parent)], ["config", "schema"]):
        assert imported_by(*words) & {"ray", "torch", "mlflow"} == set()
