"""A second Ctrl-C stops a sweep wherever it falls."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from orchestrator.cli.measure import _drain_on_interrupt


class _Narrator:
    def say(self, line: str) -> None:
        """To nobody."""

    def progress(self, progress: object) -> None:
        """Nobody watches."""


class _InterruptedInItsDestructor:
    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):  # the handler runs between two of these
            pass


def test_an_interrupt_that_falls_into_a_destructor_is_not_lost_and_prints_nothing(capfd: Any) -> None:
    narrator: Any = _Narrator()

    def sweep() -> None:
        with _drain_on_interrupt(narrator) as drain:
            drain.ask()
            _InterruptedInItsDestructor()
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        sweep()

    assert capfd.readouterr().err == ""
