"""What one learning curve says, in plain words: lines for the terminal, a table for a page or a notebook.

Each diagnosis is told as what it means for the decision, because its name alone tells a reader little.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from orchestrator.curves.questions import CurveAnswers, CurveMetric, SizeToReach
from orchestrator.decision import MAX_EXTRAPOLATION
from orchestrator.report import wording
from orchestrator.report.markdown import WIDTH
from orchestrator.results import Interval

if TYPE_CHECKING:
    from orchestrator.report.figures import Drawing

METRIC_NAMES: dict[CurveMetric, str] = {"accuracy": "accuracy", "error_rate": "error rate", "loss": "loss"}

_MEANING = {
    "well-behaved": "no fault in the shape of the curve; its interval, backtest and extrapolation say how far to "
    "rely on it",
    "wrong-way": "{metric} gets worse with more data, beyond the spread between seeds; mend the training or the data "
    "before spending on more of either",
    "non-monotone": "{metric} falls back between two sizes, beyond the spread between seeds; look at the points, and "
    "add seeds or sizes there before deciding",
    "flat": "no gain from the smallest to the largest size was measured; whatever is forecast beyond rests on what "
    "other curves did: train to a size that learns before deciding",
    "plateau": "doubling the data gains, as often as not, no more than one seed's luck; more data alone is hardly "
    "worth paying for",
    "cliff-risk": "the interval at twice the data reaches a late drop of over 5 points in error; some "
    "measured curves like it dropped so; one more size would tell most",
    "too-few-points": "fewer than 4 sizes; the interval rests mostly on what other curves looked like; measure another "
    "size before deciding",
    "no-replicates": "one run of each size; the noise between seeds is guessed from the scatter; repeat the largest "
    "size with 2 more seeds",
}

_LEAST_WEIGHT = 0.05

_STYLE = (
    "<style>.curve-forecast{max-width:50rem;font:14px/1.45 system-ui,sans-serif}"
    ".curve-forecast table{border-collapse:collapse;margin:0 0 .5rem}"
    ".curve-forecast th,.curve-forecast td{text-align:left;vertical-align:top;padding:.2rem 1rem .2rem 0;"
    "border-bottom:1px solid #8884;font-weight:400;background:none}"
    ".curve-forecast th{white-space:nowrap;opacity:.7}"
    ".curve-forecast h2{font-size:1.1rem;margin:.4rem 0}"
    ".curve-forecast svg{display:block;width:100%;height:auto}</style>"
)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>:root{{color-scheme:light dark}}body{{margin:1.5rem}}</style>
</head>
<body>
{body}
</body>
</html>
"""


def value_text(metric: CurveMetric) -> Callable[[float], str]:
    """How a value of the metric is written: rates as percent."""
    return lambda value: wording.metric_value(value, "loss" if metric == "loss" else "accuracy")


def gain_text(gain: Interval, metric: CurveMetric) -> str:
    """By how much a gain moves the metric, with its interval: up for an accuracy, down for an error rate or a loss."""
    if metric == "accuracy":
        median, low, high = (f"{100 * value:+.2f}" for value in (gain.median, gain.low, gain.high))
    elif metric == "error_rate":
        median, low, high = (f"{-100 * value:+.2f}" for value in (gain.median, gain.high, gain.low))
    else:
        median, low, high = (f"{-value:+.3g}" for value in (gain.median, gain.high, gain.low))
    return f"{median} {'in loss' if metric == 'loss' else 'points'} (90%: {low} to {high})"


def size_text(n: float) -> str:
    """A number of samples."""
    return f"{n:,.0f}"


def diagnosis_text(diagnosis: Sequence[str], metric: CurveMetric) -> list[str]:
    """One line for each finding: its name, and what it means for the decision."""
    return [
        f"{name}: {_MEANING[name].format(metric=METRIC_NAMES[metric])}" if name in _MEANING else name
        for name in diagnosis
    ]


def answer_rows(answers: CurveAnswers) -> list[tuple[str, str]]:
    """What was asked and what came of it, most wanted first."""
    metric, target = answers.metric, size_text(answers.target_n)
    text = value_text(metric)
    noise = text_of_noise(answers.noise_std, metric)
    rows = [
        ("curve, 90%", wording.with_span(answers.curve, text)),
        ("new run, 90%", wording.with_span(answers.new_run, text)),
        ("extrapolation", extrapolation_text(answers)),
    ]
    if answers.reach is not None:
        rows.append((f"samples for {text(answers.reach.value)}", reach_text(answers.reach)))
    rows += [
        (f"+10% data at {size_text(answers.largest_n)}", gain_text(answers.gain_at_largest, metric)),
        (f"+10% data at {target}", gain_text(answers.gain_at_target, metric)),
        ("noise floor", f"{noise}: standard deviation of one run at {size_text(answers.largest_n)}"),
        ("backtest", backtest_text(answers)),
        ("formula", families_text(answers)),
    ]
    findings = diagnosis_text(answers.diagnosis, metric)
    return rows + [("diagnosis" if position == 0 else "", line) for position, line in enumerate(findings)]


def text_of_noise(noise_std: float, metric: CurveMetric) -> str:
    """A standard deviation, in points or in units of loss."""
    return f"{noise_std:.3g} in loss" if metric == "loss" else f"{100 * noise_std:.2f} points"


def extrapolation_text(answers: CurveAnswers) -> str:
    """How far beyond the data the target lies, and whether that far was ever checked."""
    factor, largest = answers.extrapolation_factor, size_text(answers.largest_n)
    if factor <= 1:
        return f"none: {size_text(answers.target_n)} lies within the measured sizes"
    text = f"{factor:.3g} times the largest measured size, {largest}"
    if answers.metric == "loss":
        text += "; intervals of losses were tuned, not checked, on language and translation curves"
    if factor <= MAX_EXTRAPOLATION:
        return text
    return (
        f"{text}; beyond {MAX_EXTRAPOLATION:g} times no interval of this tool was checked: "
        f"measure {size_text(answers.target_n / MAX_EXTRAPOLATION)} or more"
    )


def reach_text(reach: SizeToReach) -> str:
    """The size that reaches a value, the odds of it, and whether it was measured already."""
    odds = f"P(by {size_text(reach.max_n)}) = {wording.percent(reach.probability)}"
    measured = "no measured size" if reach.measured_n is None else f"measured size {size_text(reach.measured_n)}"
    return f"{size_span(reach)}; {odds}; {measured} reached it"


def size_span(reach: SizeToReach) -> str:
    """The size that reaches a value with its interval, never beyond the size that was asked about."""
    low, median, high = (_size_or_more(n, reach) for n in (reach.low_n, reach.median_n, reach.high_n))
    return median if low == high else f"{median} (90%: {low} to {high})"


def _size_or_more(n: float | None, reach: SizeToReach) -> str:
    if n is None:
        return f"more than {size_text(reach.max_n)}"
    return f"at most {size_text(n)}" if n <= reach.smallest_n else size_text(n)


def backtest_text(answers: CurveAnswers) -> str:
    """The forecast of the largest size from the smaller ones, beside what was measured."""
    if answers.backtest is None:
        return "needs at least 4 sizes"
    text = value_text(answers.metric)
    interval, measured = answers.backtest
    held = "held" if answers.is_backtest_held else "MISSED: do not rely on the interval above"
    return (
        f"{size_text(answers.largest_n)} from the smaller sizes: {wording.with_span(interval, text)}; "
        f"measured {text(measured)}: {held}"
    )


def families_text(answers: CurveAnswers) -> str:
    """Which formulas the measured sizes fit, as shares of the evidence; those below 5% are not named."""
    named = [f"{name} {wording.percent(weight)}" for name, weight in answers.families if weight >= _LEAST_WEIGHT]
    return f"fits {', '.join(named)} (by BIC)"


def headline(answers: CurveAnswers, name: str) -> str:
    """Whose curve it is and what it rests on."""
    sizes = f"{answers.n_sizes} sizes from {size_text(answers.smallest_n)} to {size_text(answers.largest_n)} samples"
    subject = f"{name}: " if name else ""
    asked = f"{METRIC_NAMES[answers.metric]} at {size_text(answers.target_n)} samples"
    return f"{subject}{asked}, from {answers.n_points} points of {sizes}"


def curve_text(answers: CurveAnswers, name: str = "") -> str:
    """The answers for a terminal or a pipe."""
    rows = answer_rows(answers)
    width = max(len(label) for label, _ in rows)
    hang = " " * (width + 4)
    lines = [
        textwrap.fill(f"  {label:<{width}}  {text}", WIDTH, subsequent_indent=hang, break_long_words=False)
        for label, text in rows
    ]
    return "\n".join([headline(answers, name), *lines])


def html_fragment(answers: CurveAnswers, drawing: Drawing, name: str = "") -> str:
    """Heading, figure and table, to stand in a notebook's cell or in a page. Names are escaped; the SVG is our own."""
    rows = "".join(
        f'<tr><th scope="row">{html.escape(label)}</th><td>{html.escape(text)}</td></tr>'
        for label, text in answer_rows(answers)
    )
    return (
        f'{_STYLE}<div class="curve-forecast"><h2>{html.escape(headline(answers, name))}</h2>'
        f'<div role="img" aria-label="{html.escape(drawing.alt)}">{drawing.svg}</div><table>{rows}</table></div>'
    )


def html_page(title: str, fragments: Sequence[str]) -> str:
    """One self-contained page."""
    return _PAGE.format(title=html.escape(title), body="\n".join(fragments))
