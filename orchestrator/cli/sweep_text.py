"""Where a sweep stands, in words: the lines of the live block, and the one line that a pipe is given now and then."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from orchestrator.intervals import format_probability, format_usd
from orchestrator.ports import SweepProgress
from orchestrator.report.wording import duration, gain_value, metric_value, percent, span
from orchestrator.results import TrialResult, Verdict

if TYPE_CHECKING:
    from rich.text import Text

_LABEL_WIDTH = 10
_BAR_WIDTH = 40
_KIND_STYLES = {"PROMOTE": "bold green", "HOLD": "bold yellow", "REJECT": "bold red"}


def trials_text(progress: SweepProgress) -> str:
    """How many of the grid are done."""
    failed = f", {progress.n_failed} failed" if progress.n_failed else ""
    return f"{progress.n_done} of at most {progress.n_most}{failed}"


def spent_text(progress: SweepProgress) -> str:
    """Dollars, of the cap where there is one."""
    if progress.cap_usd is None:
        return f"{format_usd(progress.spent_usd)}, no cap"
    share = percent(progress.spent_usd / progress.cap_usd)
    return f"{format_usd(progress.spent_usd)} of {format_usd(progress.cap_usd)} ({share})"


def left_text(progress: SweepProgress, since_s: float = 0.0) -> str:
    """What is left, so many seconds after it was estimated."""
    if progress.left_s is None:
        return "time left not known before every model has run"
    if progress.left_s == 0:
        return "no trial left to run"
    left_s = progress.left_s - since_s
    return f"about {duration(left_s)} left at most" if left_s >= 1 else "seconds left at most"


def verdict_headline(verdict: Verdict) -> str:
    """Kind, probability, what holds it back, and what it is about."""
    probability = format_probability(verdict.probability, verdict.confidence)
    held_back = f", held back by {', '.join(veto.name for veto in verdict.vetoes)}" if verdict.vetoes else ""
    return f"{verdict.kind}, P {probability} ({verdict.confidence:.2f} asked for){held_back}: {verdict.best.candidate}"


def forecast_text(verdict: Verdict) -> str:
    """The best candidate's metric with its 90% interval, gain and dollars."""
    best, metric = verdict.best, verdict.metric
    value = metric_value(best.metric.median, metric)
    likely = span(best.metric, lambda number: metric_value(number, metric))
    gain = gain_value(best.gain.median, metric)
    return f"{metric} {value}, {percent(best.metric.level)} {likely}; {gain}; {format_usd(best.cost_usd.median)}"


def trial_text(result: TrialResult) -> str:
    """A trial that has ended."""
    if result.training is None:
        return f"{result.trial}: FAILED, {result.error}"
    accuracy = "" if result.training.accuracy is None else f"accuracy {result.training.accuracy:.4f}, "
    return f"{result.trial}: {accuracy}loss {result.training.loss:.4f}, {result.wall_time_s:.1f} s"


def plain_line(progress: SweepProgress) -> str:
    """Everything in one line."""
    facts = f"trials {trials_text(progress)}; {spent_text(progress)}; {left_text(progress)}"
    if progress.verdict is None:
        return f"{facts}; no forecast yet"
    return f"{facts}; so far {verdict_headline(progress.verdict)}, {forecast_text(progress.verdict)}"


class News:
    """Which states of a sweep are worth a line of their own: not every trial, which has its line anyway."""

    def __init__(self) -> None:
        self._told: tuple[object, ...] | None = None

    def worth_saying(self, progress: SweepProgress) -> bool:
        """True when another tenth of the trials has ended, or the verdict or its candidate is another."""
        ended, verdict = progress.n_done + progress.n_failed, progress.verdict
        concluded = None if verdict is None else (verdict.kind, verdict.best.candidate)
        now = (10 * ended // max(progress.n_most, 1), concluded)
        told, self._told = self._told, now
        return now != told and (told is not None or ended > 0)


def block_lines(
    progress: SweepProgress,
    *,
    elapsed_s: float | None,
    since_s: float,
    width: int,
    ascii_only: bool,
    is_final: bool = False,
    more: Mapping[str, str] = MappingProxyType({}),
) -> list[Text]:
    """The live block, each line cut to ``width``.

    Args:
        progress: The state as last told.
        elapsed_s: Since the sweep's command began; None where it is not known.
        since_s: Since ``progress`` was told; the time left is that much shorter.
        width: Columns, at least 1.
        ascii_only: The terminal's encoding has no other characters.
        is_final: The verdict is about all evidence, and recorded.
        more: Lines by their label, below the others.
    """
    lines = [_trials_line(progress, width, ascii_only)]
    if progress.running:
        lines.append(labelled("running", ", ".join(map(str, progress.running))))
    lines.append(labelled("spent", spent_text(progress)))
    so_far = "" if elapsed_s is None else f"{duration(elapsed_s)} so far, "
    lines.append(labelled("time", f"{so_far}{left_text(progress, since_s)}"))
    if progress.verdict is None:
        lines.append(labelled("verdict", "none yet: a model is forecast from three sizes on"))
    else:
        verdict = labelled("verdict" if is_final else "so far", verdict_headline(progress.verdict))
        verdict.stylize(_KIND_STYLES[progress.verdict.kind], _LABEL_WIDTH, _LABEL_WIDTH + len(progress.verdict.kind))
        lines += [verdict, labelled("forecast", forecast_text(progress.verdict))]
    lines += [labelled(label, text) for label, text in more.items()]
    for line in lines:
        line.truncate(width, overflow="crop" if ascii_only else "ellipsis")
    return lines


def labelled(label: str, text: str) -> Text:
    """A line of the block under its label."""
    from rich.text import Text

    return Text.assemble((f"{label:<{_LABEL_WIDTH}}", "dim"), text)


def _trials_line(progress: SweepProgress, width: int, ascii_only: bool) -> Text:
    """A bar as wide as there is room for, then the count."""
    count = trials_text(progress)
    room = min(width - _LABEL_WIDTH - len(count) - 2, _BAR_WIDTH)
    line = labelled("trials", "")
    if room >= 5 and progress.n_most > 0:
        done = min(round(room * progress.n_done / progress.n_most), room)
        failed = min(round(room * progress.n_failed / progress.n_most), room - done)
        mark, rest = ("#", "-") if ascii_only else ("━", "─")
        line.append(mark * done, "green").append(mark * failed, "red").append(rest * (room - done - failed), "dim")
        line.append("  ")
    return line.append(count)
