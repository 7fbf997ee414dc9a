"""Look on from another terminal: ``watch`` follows what a sweep or a full run writes, and says how it ended."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

import click

from orchestrator.cli.console import is_rich, printable
from orchestrator.cli.options import as_json, experiment_argument, format_option, runs_dir_option
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.cli.live_block import LiveBlock
    from orchestrator.cli.sweep_text import News
    from orchestrator.cli.watched import Watched


@click.command()
@experiment_argument
@runs_dir_option
@click.option(
    "--interval-s",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    help="Seconds between two looks at the journal.",
)
@click.option("--once", is_flag=True, help="Print the state and end.")
@format_option
def watch(experiment: str, runs_dir: str, interval_s: float, once: bool, form: str) -> None:
    """Follow a sweep or a full run from another terminal until it ends; Ctrl-C stops looking, not the sweep.

    Nothing is written or locked. In a pipe: a line for each trial, and for what changes.
    """
    from orchestrator.cli.compose import read_experiment
    from orchestrator.cli.watched import Watcher

    if form != "table" and not once:
        raise UsageError(f"--format {form} is one state and not a stream; add --once")
    watcher = Watcher(read_experiment(experiment, runs_dir)[1].path.parent)
    if once:
        watcher.look()
        seen = watcher.look()  # twice: a line that was just being written is whole now, or it is torn
    else:
        try:
            seen = _follow(watcher.look, interval_s)
        except KeyboardInterrupt:
            return
    click.echo(_rendered(seen, form))


def _follow(look: Callable[[], Watched], interval_s: float) -> Watched:
    """Show every change until nobody is at work; the last state."""
    with _Screen() as screen:
        while True:
            seen = look()
            screen.show(seen)
            if not seen.is_at_work:
                return seen
            time.sleep(interval_s)


class _Screen:
    """Stdout as a terminal with the live block, or as plain lines."""

    def __init__(self) -> None:
        self._block: LiveBlock | None = None
        self._is_rich = is_rich(sys.stdout)
        self._n_told: int | None = None
        self._news: News | None = None
        self._warned: set[str] = set()

    def show(self, seen: Watched) -> None:
        """What is new as lines, then where it stands."""
        from orchestrator.cli.live_block import LiveBlock
        from orchestrator.cli.sweep_text import News, plain_line
        from orchestrator.cli.watched_text import news_lines, view_of

        for warning in seen.warnings:
            if warning not in self._warned:
                click.echo(f"warning: {printable(warning)}", err=True)
                self._warned.add(warning)
        for line in news_lines(seen, since=self._n_told):
            click.echo(printable(line))
        self._news = self._news or News()
        if self._news.worth_saying(seen.progress) and self._n_told is not None and not self._is_rich:
            click.echo(printable(plain_line(seen.progress)))
        self._n_told = len(seen.view.entries)
        if self._is_rich and seen.is_at_work:
            self._block = self._block or LiveBlock(sys.stdout)
            self._block.show(view_of(seen))

    def __enter__(self) -> _Screen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._block is not None:
            self._block.close()


def _rendered(seen: Watched, form: str) -> str:
    from orchestrator.cli.compose import answer_of
    from orchestrator.cli.watched_text import facts, rows

    if form == "json":
        return as_json(facts(seen))
    text = printable(answer_of(rows(seen)))
    return f"```\n{text}\n```" if form == "md" else text
