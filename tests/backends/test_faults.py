"""A fault in one line: what was raised, and the place in the user's own file."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
import torch
from torch import nn

from orchestrator.backends.faults import in_words, is_of_a_collective
from orchestrator.errors import TaskError


def test_an_error_inside_an_installed_package_is_placed_where_the_users_code_called_it() -> None:
    try:
        nn.Linear(3, 2)(torch.zeros(1, 5))
    except RuntimeError as error:
        told = in_words(error, traceback.format_exc())

    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    line = next(number for number, text in enumerate(lines, start=1) if "nn.Linear(3, 2)(" in text)
    assert told.startswith("RuntimeError: mat1 and mat2 shapes cannot be multiplied")
    assert told.endswith(f"(test_faults.py:{line})")


def test_a_message_of_many_lines_is_told_by_its_first() -> None:
    assert in_words(ValueError("CUDA out of memory\nsee the docs\nat length"), "") == "ValueError: CUDA out of memory"
    assert in_words(KeyboardInterrupt(), "") == "KeyboardInterrupt"


def test_our_own_errors_speak_for_themselves() -> None:
    assert in_words(TaskError("training diverged; lower the rate"), 'File "/a/loop.py", line 3') == (
        "training diverged; lower the rate"
    )


def test_only_foreign_frames_are_better_than_none() -> None:
    trace = 'File "/env/lib/python3.11/site-packages/torch/nn.py", line 7, in forward'

    assert in_words(ValueError("bad"), trace) == "ValueError: bad (nn.py:7)"


@pytest.mark.parametrize(
    ("message", "is_one"),
    [
        ("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [192.0.2.2]:4711", True),
        ("NCCL communicator was aborted on rank 1", True),
        ("the labels are all wrong", False),
    ],
)
def test_a_peers_disappearance_is_told_from_a_fault_of_ones_own(message: str, is_one: bool) -> None:
    assert is_of_a_collective(RuntimeError(message)) == is_one
