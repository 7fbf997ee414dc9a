"""Where an experiment stands, told off a real journal."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.report.stages import mermaid, stages
from orchestrator.results import Approval
from orchestrator.tracking.journal import Journal

EVIDENCE = Path(__file__).parents[2] / "examples" / "evidence" / "cifar10"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EVIDENCE, tmp_path / "cifar10"))


def states(view: Any, **options: Any) -> dict[str, str]:
    return {stage.name: stage.state for stage in stages(view.spec, view.data, view, **options)}


def answered(folder: Path, decision: Any) -> Any:
    verdict = Journal.read(folder).verdict
    assert verdict is not None
    now = datetime(2026, 11, 24, tzinfo=UTC)
    with Journal.open(folder, now=lambda: now) as journal:
        journal.append(
            "approval",
            Approval(decision=decision, by="Ada", reason="", inputs_digest=verdict.inputs_digest, at=now.isoformat()),
        )
    return Journal.read(folder)


def test_before_anything_was_recorded_the_first_stage_comes_next(folder: Path) -> None:
    found = stages(Journal.read(folder).spec, None, None)

    assert [stage.state for stage in found] == ["next"] + ["waiting"] * 6


def test_a_journal_shows_what_is_done_and_what_a_rejection_makes_needless(folder: Path) -> None:
    before = states(Journal.read(folder))
    after = states(answered(folder, "rejected"))

    assert [before[name] for name in ("prepare", "smoke and probe", "sweep", "verdict")] == ["done"] * 4
    assert (after["review"], after["full run"]) == ("done", "done" if before["full run"] == "done" else "not needed")


def test_a_full_run_that_was_begun_is_running_and_nothing_else_is_next(folder: Path) -> None:
    found = states(answered(folder, "approved"), is_full_run_open=True)

    assert found["full run"] == "running"
    assert "next" not in found.values()


def test_the_flowchart_has_every_stage_once_and_in_order(folder: Path) -> None:
    found = stages(Journal.read(folder).spec, None, None)

    lines = mermaid(found).splitlines()

    assert [f'    s{n}["{stage.name}<br/>{stage.state}"]' for n, stage in enumerate(found)] == lines[2:-2]
    assert lines[-2].split(" --> ") == ["    s0", *(f"s{n}" for n in range(1, len(found)))]
