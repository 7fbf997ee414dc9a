"""What the user is told while something runs, on stderr: messages, and on a terminal a live block below them.

Plain lines under ``CI``, ``NO_COLOR`` or ``TERM=dumb``, and wherever stderr is not a terminal.
"""

from __future__ import annotations

import os
import re
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

import click

from orchestrator.ports import SweepProgress

if TYPE_CHECKING:
    from orchestrator.cli.live_block import LiveBlock
    from orchestrator.cli.sweep_text import News

# A message may quote a user's error or a name; what would move the cursor or change colours is shown as a mark.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def is_rich(stream: TextIO) -> bool:
    """Whether a stream is a terminal that may be drawn on."""
    if os.environ.get("NO_COLOR") or os.environ.get("CI") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


def printable(text: str) -> str:
    """The text without control characters but line ends and tabs."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


class Narrator:
    """`ports.Console` on stderr; results go to stdout and are not its business.

    Close it, or use it in a ``with``, before results are printed; it can be spoken through afterwards, without a block.
    """

    def __init__(self) -> None:
        self._started_at = time.monotonic()
        self._is_plain = not is_rich(sys.stderr)
        self._block: LiveBlock | None = None
        self._news: News | None = None

    def say(self, message: str) -> None:
        clock = f"[{self._elapsed_s():6.1f} s]"
        click.echo(f"{clock if self._is_plain else click.style(clock, dim=True)} {printable(message)}", err=True)

    def warn(self, message: str) -> None:
        label = "warning:" if self._is_plain else click.style("warning:", fg="yellow")
        click.echo(f"{label} {printable(message)}", err=True)

    def progress(self, progress: SweepProgress) -> None:
        """Show where the sweep stands: in the block on a terminal, else a line when something worth a line changed."""
        from orchestrator.cli.live_block import LiveBlock
        from orchestrator.cli.sweep_text import News, block_lines, plain_line

        if self._is_plain:
            self._news = self._news or News()
            if self._news.worth_saying(progress):
                self.say(plain_line(progress))
            return
        told_at = time.monotonic()
        self._block = self._block or LiveBlock(sys.stderr)
        self._block.show(
            lambda width, ascii_only: block_lines(
                progress,
                elapsed_s=self._elapsed_s(),
                since_s=time.monotonic() - told_at,
                width=width,
                ascii_only=ascii_only,
            )
        )

    def close(self) -> None:
        """Take the block away; safe to call twice, and with no block there."""
        if self._block is not None:
            self._block.close()
            self._block = None

    def __enter__(self) -> Narrator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started_at
