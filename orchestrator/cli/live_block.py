"""A few lines that stay below everything else on a terminal, whoever writes there.

Between two drawings the cursor stands at the block's first line, which is blank: a line that another process writes
falls there, above the block, and the next drawing, at most `REFRESH_S` later, clears what is below the cursor and draws
anew. So a foreign line costs nothing, a narrower window leaves no debris, and a killed process leaves the cursor
visible. Python's own streams are guarded as long as the block stands, so that what they write never mixes with it.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.text import Text

REFRESH_S = 1.0
"""Between two drawings: a clock that moves, and at 1 ms each nothing that a trial would notice."""
_CLEAR_BELOW = "\r\x1b[J"

View = Callable[[int, bool], "Sequence[Text]"]
"""Lines for a width in columns; the flag says that only ASCII can be shown."""


class LiveBlock:
    """The block of one terminal. Safe from any thread, and from a signal handler."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console

        self._stream = stream
        self._console = Console(file=stream, force_terminal=True, legacy_windows=False, highlight=False)
        self._view: View | None = None
        self._drawn = ""
        self._is_line_open = False
        """What was written last did not end its line, as a question does: nothing may be drawn before it has."""
        self._turn = threading.RLock()
        self._closed = threading.Event()
        self._guards: list[_GuardedStream] = []

    def show(self, view: View) -> None:
        """Put the block there, or renew what it shows; after `close` nothing happens."""
        with self._turn:
            if self._closed.is_set():
                return
            is_first, self._view = self._view is None, view
            if is_first:
                self._guard_streams()
                atexit.register(self.close)
                threading.Thread(target=self._keep_fresh, name="live block", daemon=True).start()
            self._draw()

    def write(self, text: str, to: TextIO | None = None) -> None:
        """Write above the block, which moves down."""
        with self._turn:
            stream = to or self._stream
            if not text or self._view is None or self._closed.is_set():
                stream.write(text)
                return
            if not self._is_line_open:
                self._stream.write(_CLEAR_BELOW)
                self._stream.flush()
            stream.write(text)
            self._is_line_open = not text.endswith("\n")
            stream.flush()
            if not self._is_line_open:
                self._stream.write(self._drawn)
                self._stream.flush()

    def close(self) -> None:
        """Take the block away and give the streams back; safe to call twice."""
        with self._turn:
            if self._closed.is_set():
                return
            self._closed.set()
            for guard in self._guards:
                guard.give_back()
            if self._view is not None:
                atexit.unregister(self.close)
                if not self._is_line_open:
                    _quietly(self._stream, _CLEAR_BELOW)

    def _draw(self) -> None:
        if self._is_line_open or self._view is None:
            return
        size, ascii_only = self._console.size, self._console.options.ascii_only
        # The last column stays free, because some terminals wrap as soon as it is filled; a line for the prompt too.
        lines = list(self._view(max(size.width - 1, 1), ascii_only))[: max(size.height - 2, 0)]
        with self._console.capture() as captured:
            for line in lines:
                self._console.print(line, no_wrap=True, overflow="ignore", crop=False, end="")
                self._console.print("\n", end="")
        text = captured.get().removesuffix("\n")
        up = f"\x1b[{len(lines)}A" if lines else ""
        self._drawn = f"{_CLEAR_BELOW}\n{text}{up}\r" if lines else ""
        self._stream.write(self._drawn)
        self._stream.flush()

    def _keep_fresh(self) -> None:
        while not self._closed.wait(REFRESH_S):
            with self._turn:
                if self._closed.is_set():
                    return
                try:
                    self._draw()
                except (OSError, ValueError):  # the terminal is gone: whoever writes next will hear of it
                    return

    def _guard_streams(self) -> None:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is not None and stream.isatty():
                self._guards.append(_GuardedStream(self, name, stream))


class _GuardedStream:
    """Stands in for ``sys.stdout`` or ``sys.stderr`` and passes on everything, text by way of the block."""

    def __init__(self, block: LiveBlock, name: str, stream: TextIO) -> None:
        self._block, self._name, self._stream = block, name, stream
        self._pid = os.getpid()
        setattr(sys, name, self)

    def write(self, text: str) -> int:
        if os.getpid() != self._pid:  # a forked child has our lock, perhaps taken, and nobody to release it
            return self._stream.write(text)
        self._block.write(text, self._stream)
        return len(text)

    def writelines(self, lines: Sequence[str]) -> None:
        self.write("".join(lines))

    def give_back(self) -> None:
        """Put the stream back, unless somebody else stands there by now."""
        if getattr(sys, self._name) is self:
            setattr(sys, self._name, self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _quietly(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):  # closed, or the terminal is gone: there is nothing left to tidy
        return
