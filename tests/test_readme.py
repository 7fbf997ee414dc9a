"""The README says what the programs say: help texts, numbers, links and commands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_generated_blocks_are_what_the_programs_print_now() -> None:
    check = [sys.executable, "scripts/render_readme.py", "--check"]

    found = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)

    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", README))))
def test_every_relative_link_leads_somewhere(target: str) -> None:
    assert (ROOT / target).exists()


def commands() -> list[str]:
    """Every command line of this tool in the README's shell blocks."""
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("python -m orchestrator")]


@pytest.mark.parametrize("line", commands())
def test_every_command_line_is_accepted_by_the_parser(line: str) -> None:
    from orchestrator.cli.main import cli

    words = shlex.split(line)[3:]

    command = cli.commands[words[0]]

    command.make_context(words[0], words[1:])  # raises UsageError for an unknown option or a missing argument


def test_the_first_shell_block_is_the_two_commands_and_both_scripts_run() -> None:
    first = re.search(r"```bash\n(.*?)```", README, re.DOTALL)
    assert first is not None
    names = [line.split()[0] for line in first[1].splitlines()]

    assert names == ["scripts/quickstart", "scripts/test"]
    for name in [*names, "scripts/check", ".ci/run"]:
        assert (ROOT / name).stat().st_mode & 0o111, f"{name} is not executable"
        subprocess.run(["bash", "-n", str(ROOT / name)], check=True)


@pytest.mark.parametrize("arguments", [["decision.min_gain_per_dollar=5"], []])
def test_the_stored_experiment_answers_without_training(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "orchestrator", "decide", "examples/evidence/cifar10", *arguments]

    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert found.returncode == 0, found.stderr
    assert re.match(r"(PROMOTE|HOLD|REJECT)  probability", found.stdout)
