"""The edge: which errors become a message, which keep their traceback, and the exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from orchestrator.cli.main import _Group, cli
from orchestrator.errors import (
    BudgetError,
    DataError,
    InfeasibleError,
    JournalError,
    LockedError,
    NotApprovedError,
    OrchestratorError,
    PriceError,
    TaskError,
    TrackingError,
)

ROOT = Path(__file__).resolve().parents[2]


def result_of(error: BaseException) -> Result:
    """What the group makes of a command that raises."""
    group = _Group()

    @group.command()
    def fail() -> None:
        raise error

    return CliRunner().invoke(group, ["fail"])


@pytest.mark.parametrize(
    ("kind", "exit_code"),
    [
        (InfeasibleError, 2),
        (PriceError, 2),
        (DataError, 1),
        (JournalError, 1),
        (LockedError, 1),
        (NotApprovedError, 1),
        (BudgetError, 1),
        (TaskError, 1),
        (TrackingError, 1),
    ],
)
def test_our_own_errors_are_a_message_and_an_exit_code(kind: type[OrchestratorError], exit_code: int) -> None:
    result = result_of(kind("asked, found, way out"))

    assert (result.exit_code, result.stdout, result.stderr) == (exit_code, "", "error: asked, found, way out\n")


def test_a_fault_of_the_programs_own_keeps_its_traceback() -> None:
    result = result_of(ZeroDivisionError("a bug"))

    assert isinstance(result.exception, ZeroDivisionError)
    assert result.stderr == ""


def test_an_interrupt_says_that_nothing_is_lost() -> None:
    result = result_of(KeyboardInterrupt())

    assert result.exit_code == 130
    assert "the same command goes on from there" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["swep", "config.yaml"], "No such command 'swep'"),
        (["sweep"], "Missing argument 'CONFIG'"),
        (["sweep", "config.yaml", "--nothing"], "No such option"),
        (["status", "digits", "--format", "yaml"], "'yaml' is not one of 'table', 'json', 'md'"),
        (["promote", "digits", "--workers", "0"], "0 is not in the range x>=1"),
    ],
)
def test_misuse_of_the_command_line_exits_with_2(words: list[str], message: str) -> None:
    result = CliRunner().invoke(cli, words)

    assert result.exit_code == 2
    assert message in result.stderr


def test_the_installed_script_finds_the_users_module_in_the_current_folder(work: Any) -> None:
    """As ``python -m orchestrator`` does; a script in a ``bin`` folder has that folder on its path instead."""
    script = work.root / "bin" / "orchestrator"
    script.parent.mkdir()
    script.write_text("from orchestrator.cli.main import main\nmain()\n")
    (work.root / "my_training.py").write_text("def make_task(context): ...\n")
    work.write({"task": "my_training:make_task"})

    found = subprocess.run(
        [sys.executable, str(script), "plan", str(work.config)],
        cwd=work.root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert found.returncode == 0, found.stderr


def test_commands_are_listed_in_the_order_of_the_journey() -> None:
    names = list(click.Group.list_commands(cli, click.Context(cli)))

    assert sorted(names) == sorted(cli.list_commands(click.Context(cli)))
    assert cli.list_commands(click.Context(cli))[:5] == ["prepare", "check-data", "bench-io", "plan", "sweep"]
