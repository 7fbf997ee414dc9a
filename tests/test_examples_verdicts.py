"""Every verdict, veto and override has an example on measured evidence, and each comes out as its file says."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.checklist import WAYS_OUT, WORTH_IT
from orchestrator.tracking.journal import Journal

ROOT = Path(__file__).parents[1]
VERDICTS = ROOT / "examples" / "verdicts"
MAX_EVIDENCE_BYTES = 300_000


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"examples_verdicts_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


show = load(VERDICTS / "show.py")
CASES = show.load_cases()
OVERRIDES = [case for case in CASES.values() if case.then]


def names_of_vetoes(package: Path) -> set[str]:
    """As the source gives them: constants, names of constants, and one for each item of the checklist."""
    found: set[str] = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Veto":
                (name,) = (keyword.value for keyword in node.keywords if keyword.arg == "name")
                found |= names_in(name, path, package)
    return found


def names_in(name: ast.expr, path: Path, package: Path) -> set[str]:
    if isinstance(name, ast.Constant):
        return {str(name.value)}
    if isinstance(name, ast.Name):
        dotted = ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
        return {str(getattr(importlib.import_module(dotted), name.id))}
    if isinstance(name, ast.JoinedStr) and ast.unparse(name) == "f'checklist: {item.name}'":
        return {f"checklist: {item}" for item in WAYS_OUT if item != WORTH_IT}
    raise AssertionError(f"{path}, line {name.lineno}: a veto named {ast.unparse(name)}; teach this test to read it")


@pytest.mark.parametrize("name", CASES)
def test_a_case_comes_out_as_its_file_says(name: str) -> None:
    case = CASES[name]

    assert show.verdict_of(case) == (case.kind, case.vetoes)


def test_every_veto_that_the_source_gives_has_an_example() -> None:
    shown = {veto for case in CASES.values() for veto in case.vetoes}

    missing = names_of_vetoes(ROOT / "orchestrator") - shown

    assert not missing, f"no case under examples/verdicts/cases expects: {', '.join(sorted(missing))}"


def test_the_reader_of_names_knows_constants_names_and_the_checklist(tmp_path: Path) -> None:
    found = names_of_vetoes(ROOT / "orchestrator")

    assert {"over budget", "ingest-bound", "checklist: C2 data clean and versioned"} <= found
    (tmp_path / "own.py").write_text("Veto(name=f'{x} is wrong', reason='', way_out='')", encoding="utf-8")
    with pytest.raises(AssertionError, match="teach this test to read it"):
        names_of_vetoes(tmp_path)


def test_every_verdict_and_every_way_to_a_rejection_has_an_example() -> None:
    rejected = [case.vetoes for case in CASES.values() if case.kind == "REJECT"]

    assert {case.kind for case in CASES.values()} == {"PROMOTE", "HOLD", "REJECT"}
    assert frozenset() in rejected
    assert {"over budget", "past deadline"} <= frozenset().union(*rejected)


def test_a_case_asks_a_question_and_rests_on_evidence_that_is_there() -> None:
    for case in CASES.values():
        assert case.question.endswith(("?", ".")), case.name
        assert (case.folder / "journal.jsonl").is_file(), case.name
        assert (case.folder / "config.yaml").is_file(), case.name


@pytest.mark.parametrize("folder", sorted((VERDICTS / "evidence").iterdir()), ids=lambda folder: folder.name)
def test_evidence_is_whole_small_used_and_of_no_machine_in_particular(folder: Path) -> None:
    text = (folder / "journal.jsonl").read_text(encoding="utf-8")

    assert Journal.verify(folder) == len(text.splitlines())
    assert len(text) < MAX_EVIDENCE_BYTES
    assert folder.name in {case.evidence for case in CASES.values()}
    assert re.findall(r"(?:^|[^\w.$:/-])/\w+/\w", text) == []  # no absolute path, whatever its root is called


def test_the_table_of_the_readme_is_what_the_tool_decides_today() -> None:
    assert (VERDICTS / "README.md").read_text(encoding="utf-8") == show.readme(), (
        "examples/verdicts/README.md is stale: python examples/verdicts/show.py --table > examples/verdicts/README.md"
    )


def test_a_case_is_shown_with_its_question_its_command_and_the_verdict() -> None:
    text = show.shown(CASES["reject_by_deadline"])

    assert text.startswith(f"# {CASES['reject_by_deadline'].question}\n$ python -m orchestrator decide examples/")
    assert "REJECT" in text
    assert "past deadline: the full run may take" in text


# --- overriding -----------------------------------------------------------------------------------------------------


def promote(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a copy, as a user's own process would."""
    (case,) = OVERRIDES
    if not (folder / "runs").exists():
        shutil.copytree(case.folder, folder / "runs" / case.evidence)
    # Single-machine Ray asks for no token, so that nothing is written to the home folder.
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", "promote", case.evidence, *arguments],
        cwd=folder, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_held_verdict_is_not_promoted_without_a_reason(tmp_path: Path) -> None:
    done = promote(tmp_path, "-y")

    assert done.returncode != 0
    assert "the verdict is HOLD, not PROMOTE" in done.stderr
    assert "--override REASON" in done.stderr
    assert Journal.read(tmp_path / "runs" / OVERRIDES[0].evidence).outcomes == ()


@pytest.mark.slow
def test_a_held_verdict_is_promoted_over_a_reason_that_is_recorded(tmp_path: Path) -> None:
    (case,) = OVERRIDES

    done = promote(tmp_path, *case.then[1:])

    assert done.returncode == 0, done.stderr
    view = Journal.read(tmp_path / "runs" / case.evidence)
    (outcome,) = view.outcomes
    assert outcome.training.n_train == view.data.n_train
    assert view.approval is not None
    reason = case.then[case.then.index("--override") + 1]
    assert reason in (view.approval.override, view.approval.reason)
    assert view.approval.by == "lead"
