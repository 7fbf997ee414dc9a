"""The command line as a user runs it: a process of its own in an empty folder, all that it starts in sight."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator.tracking.journal import FILE_NAME, Journal, JournalView

ROOT = Path(__file__).parents[2]
EXPERIMENT = "small"


@dataclass
class Shell:
    """Runs ``python -m orchestrator`` in ``folder``."""

    folder: Path
    ray_folder: str
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    """In the environment of every process that a command starts, and of their children."""

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """In a process group of its own, as a shell starts it; output goes to ``out.txt`` and ``err.txt``."""
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "RAY_AUTH_MODE": "disabled",
            "RAY_TMPDIR": self.ray_folder,
            "ORCHESTRATOR_TEST_MARK": self.mark,
        }
        with (self.folder / "out.txt").open("wb") as out, (self.folder / "err.txt").open("wb") as err:
            return subprocess.Popen(
                [sys.executable, "-m", "orchestrator", *arguments],
                cwd=self.folder, env=environment, stdout=out, stderr=err, start_new_session=True,
            )  # fmt: skip

    def run(self, *arguments: str) -> int:
        """To its end; the exit code."""
        return self.start(*arguments).wait(timeout=300)

    @property
    def out(self) -> str:
        return (self.folder / "out.txt").read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        return (self.folder / "err.txt").read_text(encoding="utf-8")

    @property
    def journal(self) -> JournalView:
        return Journal.read(self.folder / "runs" / EXPERIMENT)

    def n_trials(self) -> int:
        """Trials in the journal so far."""
        if not (self.folder / "runs" / EXPERIMENT / FILE_NAME).exists():
            return 0
        return sum(entry.kind == "trial" for entry in self.journal.entries)

    def survivors(self) -> dict[int, str]:
        """Process id to command of what the commands have started and what still lives."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if self.mark.encode() in (process / "environ").read_bytes():
                    found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
        return found


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    # Directly under /tmp: the path of a Unix socket may have 107 bytes, and pytest's own folders are too deep.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as ray_folder:
        shell = Shell(tmp_path, ray_folder)
        yield shell
        for pid in shell.survivors():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., None]:
    """``wait_until(look)``: returns once ``look()`` is true; fails the test after ``timeout_s``."""

    def wait(look: Callable[[], Any], timeout_s: float = 90.0, tell: Callable[[], Any] = str) -> None:
        deadline = time.monotonic() + timeout_s
        while not look():
            assert time.monotonic() < deadline, f"waited in vain {tell()}"
            time.sleep(0.1)

    return wait
