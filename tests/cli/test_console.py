"""The live block on a terminal that is emulated here, and the plain lines everywhere else."""

from __future__ import annotations

import io
import os
import re
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.cli.console import Narrator, is_rich, printable
from orchestrator.cli.live_block import LiveBlock
from orchestrator.cli.sweep_text import News, block_lines, plain_line
from orchestrator.decision import decide
from orchestrator.ports import SweepProgress
from orchestrator.progress import sweep_progress
from orchestrator.results import Veto

_SEQUENCE = re.compile(r"\x1b\[[\d;]*m|\x1b\[(\d*)([A-Za-z])")


class Terminal(io.StringIO):
    """As much of a terminal as the block uses: carriage return, line feed, clear below, up; colours are dropped."""

    def __init__(self, columns: int = 100) -> None:
        super().__init__()
        self.columns = columns
        self.rows: list[str] = [""]
        self.row = self.column = 0

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute in StringIO's stub
        return "utf-8"

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):  # as every text stream does; click asks by trying
            raise TypeError("text, please")
        position = 0
        while position < len(text):
            sequence = _SEQUENCE.match(text, position)
            if sequence is not None:
                self._control(sequence)
                position = sequence.end()
            else:
                self._put(text[position])
                position += 1
        return len(text)

    @property
    def screen(self) -> list[str]:
        """What is seen, without trailing blanks."""
        lines = [line.rstrip() for line in self.rows]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def _control(self, sequence: re.Match[str]) -> None:
        if sequence[2] == "A":
            self.row = max(self.row - int(sequence[1] or 1), 0)
        elif sequence[2] == "J":
            self.rows[self.row] = self.rows[self.row][: self.column]
            del self.rows[self.row + 1 :]
        else:
            assert sequence[2] is None, f"unknown to the emulator: {sequence[0]!r}"

    def _put(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self.row, self.column = self.row + 1, 0
            if self.row == len(self.rows):
                self.rows.append("")
        else:
            assert character.isprintable(), repr(character)
            assert self.column < self.columns, f"wraps: {self.rows[self.row]}"
            line = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = line[: self.column] + character + line[self.column + 1 :]
            self.column += 1


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """One that may be drawn on; a test sits down at it by `seated`."""
    found = Terminal()
    for name in ("NO_COLOR", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(found.columns))
    monkeypatch.setenv("LINES", "30")
    return found


@contextmanager
def seated(at: Terminal) -> Iterator[None]:
    """Stdout and stderr are the terminal; in the test itself, because pytest puts its own there before each."""
    with redirect_stdout(at), redirect_stderr(at):  # type: ignore[type-var]  # StringIO is a TextIO in all that counts
        yield


@pytest.fixture(scope="module")
def progress(synthetic: Any) -> SweepProgress:
    """Two thirds through, with a verdict so far and two trials running."""
    spec = synthetic.spec()
    results = synthetic.results(spec)
    verdict = decide(spec, synthetic.data, results, synthetic.rates(spec), checkpoint_bytes={})
    view: Any = _Records(tuple(results[:27]))
    running = tuple(each.trial for each in results[27:29])
    return replace(sweep_progress(spec, synthetic.data, view, running=running, verdict=verdict), cap_usd=2.0)


class _Records:
    def __init__(self, results: Any) -> None:
        self.results, self.outcomes = results, ()
        self.trials_usd = sum(each.cost_usd for each in results)


def labels(terminal: Terminal) -> list[str]:
    """First words of the screen's lines."""
    return [line.split()[0] if line else "" for line in terminal.screen]


BLOCK = ["", "trials", "running", "spent", "time", "so", "forecast"]


def test_messages_scroll_above_the_block_which_stays_at_the_bottom(terminal: Terminal, progress: SweepProgress) -> None:
    with seated(terminal), Narrator() as narrator:
        narrator.say("before")
        narrator.progress(progress)
        narrator.say("one")
        narrator.progress(replace(progress, n_done=30))
        narrator.warn("two")

        assert [line.split("] ")[-1] for line in terminal.screen[:3]] == ["before", "one", "warning: two"]
        assert labels(terminal)[3:] == BLOCK
        assert "30 of at most 40" in terminal.screen[4]

    with seated(terminal):
        narrator.say("after")
    assert [line.split("] ")[-1] for line in terminal.screen] == ["before", "one", "warning: two", "after"]


def test_the_block_tells_trials_dollars_time_verdict_and_forecast(terminal: Terminal, progress: SweepProgress) -> None:
    with seated(terminal), Narrator() as narrator:
        narrator.progress(progress)
        text = "\n".join(terminal.screen)

    assert progress.verdict is not None
    assert "27 of at most 40" in text
    assert "of $2.00" in text
    assert str(progress.running[0]) in text
    assert "left at most" in text
    assert f"{progress.verdict.kind}, P {progress.verdict.probability:.2f}" in text
    assert "accuracy 9" in text
    assert "%, 90% " in text


def test_a_line_from_another_process_is_kept_whole_and_the_block_drawn_anew(
    terminal: Terminal, progress: SweepProgress
) -> None:
    with seated(terminal), Narrator() as narrator:
        narrator.progress(progress)
        terminal.write("(raylet) a line that no guard saw\n")
        narrator.progress(progress)

        assert terminal.screen[0] == "(raylet) a line that no guard saw"
        assert labels(terminal)[1:] == BLOCK


def test_what_python_prints_lands_above_and_the_streams_are_given_back(
    terminal: Terminal, progress: SweepProgress
) -> None:
    with seated(terminal), Narrator() as narrator:
        narrator.progress(progress)
        sys.stdout.write("a result ")
        sys.stdout.write("in two writes\n")
        sys.stderr.writelines(["a warn", "ing\n"])

        assert terminal.screen[:2] == ["a result in two writes", "a warning"]
        assert labels(terminal)[2:] == BLOCK
        assert sys.stdout.isatty()

        narrator.close()
        assert sys.stdout is terminal
        assert sys.stderr is terminal


def test_an_open_question_is_not_drawn_over(terminal: Terminal, progress: SweepProgress) -> None:
    with seated(terminal), Narrator() as narrator:
        narrator.progress(progress)
        sys.stderr.write("Start it? [y/N]: ")
        narrator.progress(progress)
        assert terminal.screen == ["Start it? [y/N]:"]

        terminal.write("y\n")  # the terminal's own echo
        sys.stderr.write("started\n")
        assert terminal.screen[:2] == ["Start it? [y/N]: y", "started"]
        assert labels(terminal)[2:] == BLOCK


def _lines(progress: SweepProgress, width: int, *, ascii_only: bool = False) -> Any:
    return block_lines(progress, elapsed_s=61.0, since_s=0.0, width=width, ascii_only=ascii_only)


def test_an_error_takes_the_block_away(terminal: Terminal, progress: SweepProgress) -> None:
    def interrupted() -> None:
        with Narrator() as narrator:
            narrator.progress(progress)
            raise KeyboardInterrupt

    with seated(terminal):
        with pytest.raises(KeyboardInterrupt):
            interrupted()

        assert terminal.screen == []
        assert sys.stderr is terminal


def test_a_closed_block_stays_away_and_a_narrator_can_be_closed_twice(
    terminal: Terminal, progress: SweepProgress
) -> None:
    block = LiveBlock(terminal)
    block.close()
    block.show(lambda width, _: _lines(progress, width))
    with seated(terminal):
        narrator = Narrator()
        narrator.progress(progress)
        narrator.close()
        narrator.close()

    assert terminal.screen == []


def test_lines_from_many_threads_stay_whole(terminal: Terminal, progress: SweepProgress) -> None:
    with seated(terminal), Narrator() as narrator:
        narrator.progress(progress)
        threads = [
            threading.Thread(target=lambda name=name: [narrator.say(f"{name} {n}") for n in range(50)])
            for name in ("a", "b", "c")
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            narrator.progress(progress)
        for thread in threads:
            thread.join()

    told = sorted(line.split("] ")[1] for line in terminal.screen)
    assert told == sorted(f"{name} {n}" for name in ("a", "b", "c") for n in range(50))


@pytest.mark.parametrize("width", [20, 60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal_whatever_the_names(progress: SweepProgress, width: int) -> None:
    verdict = progress.verdict
    assert verdict is not None
    long = replace(verdict.best.candidate, model="a-model-with-a-very-long-name-" * 5)
    told = replace(progress, verdict=replace(verdict, best=replace(verdict.best, candidate=long)))

    lines = _lines(told, width)

    assert len(lines) == len(BLOCK) - 1
    assert all(line.cell_len <= width for line in lines)
    assert lines[4].plain.endswith("…")


def test_without_unicode_every_character_is_ascii(progress: SweepProgress) -> None:
    lines = _lines(replace(progress, n_failed=3), 60, ascii_only=True)

    assert all(line.plain.isascii() for line in lines)
    assert "#" in lines[0].plain


def test_the_time_left_goes_on_counting_between_two_trials(progress: SweepProgress) -> None:
    told = replace(progress, left_s=100.0)

    text = [block_lines(told, elapsed_s=0, since_s=s, width=99, ascii_only=False)[3].plain for s in (0, 40, 400)]

    assert ["100 s left" in text[0], "60.0 s left" in text[1], "seconds left" in text[2]] == [True, True, True]


def test_a_sweep_without_verdict_cap_or_estimate_says_so(progress: SweepProgress) -> None:
    told = replace(progress, verdict=None, cap_usd=None, left_s=None, running=())

    text = "\n".join(line.plain for line in _lines(told, 100))

    assert "none yet" in text
    assert "no cap" in text
    assert "time left not known" in text


def test_a_pipe_gets_plain_lines_and_only_when_something_changed(
    capsys: pytest.CaptureFixture[str], progress: SweepProgress
) -> None:
    narrator = Narrator()
    for n_done in range(41):
        narrator.progress(
            replace(progress, n_done=n_done, running=(), verdict=progress.verdict if n_done > 22 else None)
        )

    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert said.out == ""
    assert "\x1b" not in said.err
    assert [re.search(r"trials (\d+)", line)[1] for line in lines] == [  # type: ignore[index]  # each line has one
        "4", "8", "12", "16", "20", "23", "24", "28", "32", "36", "40",
    ]  # fmt: skip
    assert "no forecast yet" in lines[0]
    assert "so far PROMOTE, P " in lines[5]


def test_another_verdict_is_news_and_the_same_state_is_none(progress: SweepProgress) -> None:
    news, verdict = News(), progress.verdict
    assert verdict is not None

    assert news.worth_saying(progress)
    assert not news.worth_saying(progress)
    assert news.worth_saying(replace(progress, verdict=replace(verdict, kind="HOLD")))
    assert news.worth_saying(progress)


def test_a_sweep_that_has_not_begun_is_no_news(progress: SweepProgress) -> None:
    assert not News().worth_saying(replace(progress, n_done=0, verdict=None))


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("CI", "true"), ("TERM", "dumb")])
def test_a_terminal_that_asks_for_plain_lines_gets_them(
    terminal: Terminal, progress: SweepProgress, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    terminal.columns = 400  # plain lines may wrap
    assert not is_rich(terminal)
    with seated(terminal):
        Narrator().progress(progress)
    assert "trials 27 of at most 40" in terminal.screen[0]


def test_control_characters_in_a_message_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    Narrator().say("failed: \x1b[2J\x07gone\nsecond line")

    assert "failed: �[2J�gone\nsecond line" in capsys.readouterr().err
    assert printable("plain\ttext") == "plain\ttext"


def test_a_name_with_markup_is_shown_as_it_is(progress: SweepProgress) -> None:
    trial = replace(progress.running[0], model="[red]cnn[/red]")

    assert "[red]cnn[/red]" in _lines(replace(progress, running=(trial,)), 100)[1].plain


def test_telling_where_the_sweep_stands_costs_under_5_ms(terminal: Terminal, progress: SweepProgress) -> None:
    spent_s = []
    with Narrator() as narrator:
        for n_done in range(40):
            started = time.process_time()
            narrator.progress(replace(progress, n_done=n_done))
            spent_s.append(time.process_time() - started)

    # The emulator's share is in it; what is measured is the median, because the first call loads the library.
    assert statistics.median(spent_s) < 0.005


def test_a_veto_is_named_because_the_probability_alone_would_puzzle(progress: SweepProgress) -> None:
    assert progress.verdict is not None
    veto = Veto(name="over budget", reason="it may cost $9", way_out="raise the cap")
    held = replace(progress, verdict=replace(progress.verdict, kind="HOLD", vetoes=(veto,)))

    odds = f"P {progress.verdict.probability:.2f}"
    assert f"HOLD, {odds} (0.90 asked for), held back by over budget: cnn" in plain_line(held)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # the case that is tested
def test_a_forked_child_writes_without_waiting_for_a_lock_that_nobody_releases(
    terminal: Terminal, progress: SweepProgress
) -> None:
    with seated(terminal), Narrator() as narrator:
        narrator.progress(progress)
        with narrator._block._turn:  # type: ignore[union-attr]  # there is a block after `progress`
            pid = os.fork()
            if pid == 0:
                write_in_time(lambda: sys.stderr.write("x"))
        _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0


def write_in_time(write: Any) -> None:
    """In a child: another thread, which does not own the lock, writes within 5 s; exit code 1 when it hangs."""
    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(5)
    os._exit(int(thread.is_alive()))


def test_the_plain_line_needs_no_second_look(progress: SweepProgress) -> None:
    line = plain_line(progress)

    assert line.startswith("trials 27 of at most 40; $")
    assert "\n" not in line
