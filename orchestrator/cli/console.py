"""What the user is told while something runs: plain lines on stderr, dimmed clock on a terminal."""

from __future__ import annotations

import os
import sys
import time

import click

from orchestrator.ports import SweepProgress


class Narrator:
    """`ports.Console` on stderr; results go to stdout and are not its business."""

    def __init__(self) -> None:
        self._started_at = time.monotonic()
        self._is_plain = not sys.stderr.isatty() or bool(os.environ.get("NO_COLOR") or os.environ.get("CI"))

    def say(self, message: str) -> None:
        clock = f"[{time.monotonic() - self._started_at:6.1f} s]"
        click.echo(f"{clock if self._is_plain else click.style(clock, dim=True)} {message}", err=True)

    def progress(self, progress: SweepProgress) -> None:
        """Nothing yet."""

    def warn(self, message: str) -> None:
        label = "warning:" if self._is_plain else click.style("warning:", fg="yellow")
        click.echo(f"{label} {message}", err=True)
