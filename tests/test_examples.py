"""The examples run as they stand, and joining one's own loop takes no more lines than promised."""

from __future__ import annotations

import ast
import datetime
import difflib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.backends.local import LocalRunner
from orchestrator.config import load_config
from orchestrator.cost.rates import rate_card
from orchestrator.experiment import Experiment, sweep
from orchestrator.ports import ReviewPage, TrialRunner
from orchestrator.tracking.in_memory import InMemoryTracker
from orchestrator.tracking.journal import Journal
from orchestrator.training.describe import describe_task_data

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
MAX_CHANGED_LINES = 10
NOW = datetime.datetime(2026, 2, 1, tzinfo=datetime.UTC)


def code_lines(path: Path) -> list[str]:
    """Without the module's docstring and blank lines."""
    text = path.read_text(encoding="utf-8")
    docstring = ast.parse(text).body[0]
    return [line for line in text.splitlines()[docstring.end_lineno :] if line.strip()]


def test_joining_ones_own_loop_takes_ten_changed_lines_or_fewer() -> None:
    plain, own = (code_lines(EXAMPLES / name) for name in ("plain_training_loop.py", "own_training_loop.py"))
    changes = difflib.SequenceMatcher(None, plain, own, autojunk=False).get_opcodes()

    changed = sum(max(i2 - i1, j2 - j1) for tag, i1, i2, j1, j2 in changes if tag != "equal")

    assert 0 < changed <= MAX_CHANGED_LINES, "\n".join(difflib.unified_diff(plain, own, lineterm="", n=0))


def test_the_plain_script_runs_by_itself(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "plain_training_loop.py")],
        cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip

    epochs = [line.split() for line in done.stdout.splitlines()]
    assert [int(epoch) for epoch, *_ in epochs] == [0, 1, 2, 3, 4]
    assert float(epochs[-1][3]) > 0.8  # accuracy; chance is 0.1


class Silent:
    def say(self, message: str) -> None:
        """Nobody listens."""

    def progress(self, progress: object) -> None:
        """Nobody watches."""


def test_the_loop_of_ones_own_comes_to_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    spec = load_config(EXAMPLES / "own_training_loop.yaml")
    data = describe_task_data(spec)
    tracker = InMemoryTracker()

    @contextmanager
    def start() -> Iterator[TrialRunner]:
        yield LocalRunner(spec, fingerprint=data.fingerprint, data_root=None)

    with Journal.open(tmp_path / spec.name, now=lambda: NOW) as journal:
        verdict = sweep(
            Experiment(
                spec=spec, data=data, rates=rate_card(spec.pricing, None, None, NOW.date()), journal=journal,
                tracker=tracker,
                console=Silent(), now=NOW.isoformat,
                render=lambda spec, data, evidence, verdict: ReviewPage(description="", figures={}, html=""),
            ),
            start,
        )  # fmt: skip

    assert verdict is not None
    assert verdict.kind in ("PROMOTE", "HOLD", "REJECT")
    assert verdict.n_trials == len(spec.sweep.fractions) * spec.sweep.seeds
    assert [result.error for result in tracker.results.values() if result.status == "failed"] == []
    assert data.n_train == 1437
    largest = [r.training.accuracy for r in tracker.results.values() if r.trial.fraction == 0.5]
    assert min(largest) > 0.8
