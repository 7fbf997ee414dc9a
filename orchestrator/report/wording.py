"""Numbers as a reader wants them: accuracies as percent, gains in points, times in the unit that fits, plain tables.

One place, so that the terminal, MLflow and the page never show the same quantity in two ways.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from orchestrator.intervals import format_quantity, format_usd
from orchestrator.results import CandidateForecast, Interval, MeasurementAdvice, Outcome, ScalingDiagnosis, Verdict
from orchestrator.spec import Metric

NOT_KNOWN = "not known"


def percent(share: float) -> str:
    """A probability or share; only certainty reads as 0% or 100%."""
    if 0 < share < 0.01:
        return "<1%"
    return ">99%" if 0.99 < share < 1 else f"{100 * share:.0f}%"


def metric_value(value: float | None, metric: Metric) -> str:
    """Accuracy as percent with one decimal more than the last point, loss with four digits."""
    if value is None or not math.isfinite(value):
        return NOT_KNOWN
    return f"{100 * value:.2f}%" if metric == "accuracy" else f"{value:.4g}"


def gain_value(gain: float, metric: Metric) -> str:
    """A gain with its sign: percentage points of accuracy, or how far the loss falls."""
    return f"{100 * gain:+.2f} points" if metric == "accuracy" else f"{-gain:+.3g} in loss"


def gain_number(gain: float, metric: Metric) -> str:
    """A gain whose unit stands elsewhere, with the sign of `gain_value`."""
    return f"{100 * gain:+.2f}" if metric == "accuracy" else f"{-gain:+.3g}"


def gain_per_dollar(value: float, metric: Metric) -> str:
    """Points of accuracy, or units of loss, that a dollar buys."""
    return f"{format_quantity(100 * value)} points/$" if metric == "accuracy" else f"{format_quantity(value)} loss/$"


def usd_per_point(value: float, metric: Metric) -> str:
    """Dollars for one percentage point of accuracy, or for 0.01 of loss; a gain that is not there has no price."""
    unit = "point" if metric == "accuracy" else "0.01 of loss"
    return f"{format_usd(0.01 / value)} per {unit}" if value > 0 else f"no gain, so no price per {unit}"


def duration(seconds: float) -> str:
    """Seconds in the unit that fits."""
    if not math.isfinite(seconds):
        return NOT_KNOWN
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (2 * 86400, "h", 3600)):
        if seconds < limit:
            return f"{_three_digits(seconds / size)} {unit}"
    days = seconds / 86400
    return f"{days:,.1f} d" if days < 1e6 else f"{days / 365.25:.1e} years"


def _three_digits(value: float) -> str:
    if value < 0.1:
        return f"{value:.2g}"
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def bytes_size(n_bytes: int) -> str:
    """Bytes in decimal units, as disks and clouds bill them."""
    size = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def span(interval: Interval, text: Callable[[float], str]) -> str:
    """``low to high``."""
    return f"{text(interval.low)} to {text(interval.high)}"


def with_span(interval: Interval, text: Callable[[float], str]) -> str:
    """``median (low to high)``; a quantity without spread is one number."""
    if interval.low == interval.high:
        return text(interval.median)
    return f"{text(interval.median)} ({span(interval, text)})"


def in_time(forecast: CandidateForecast) -> str:
    """P(time <= deadline); draws do not make it certain."""
    share = forecast.deadline_probability
    return "no deadline" if share is None else percent(min(max(share, 1e-9), 1 - 1e-9))


def unit_price(amount: float) -> str:
    """A price list's figure with every digit that matters; cents are too coarse for what is multiplied."""
    return f"${amount:,.6g}"


OUTCOME_HEADER = ("quantity", "forecast (90%)", "measured", "interval")


def outcome_rows(outcome: Outcome, metric: Metric) -> list[tuple[str, ...]]:
    """Forecast beside result."""
    forecast = outcome.forecast
    measured = outcome.training.accuracy if metric == "accuracy" else outcome.training.loss

    def held(hit: bool) -> str:
        return "held" if hit else "missed"

    return [
        (
            metric,
            with_span(forecast.metric, lambda value: metric_value(value, metric)),
            metric_value(measured, metric),
            held(outcome.metric_hit),
        ),
        ("time", with_span(forecast.wall_time_s, duration), duration(outcome.wall_time_s), held(outcome.wall_time_hit)),
        ("cost", with_span(forecast.cost_usd, format_usd), format_usd(outcome.cost_usd), held(outcome.cost_hit)),
    ]


def next_step(verdict: Verdict, outcome: Outcome | None) -> str:
    """What to do now; a candidate that was promoted already is not asked to be approved again."""
    if outcome is None or outcome.candidate != verdict.best.candidate:
        return verdict.next_step
    return f"nothing: the full run of {outcome.candidate} ended on {outcome.finished_at[:10]}, and its model is kept"


def measurement_text(advice: MeasurementAdvice) -> str:
    """What to measure, for how much, and what one may hope of it."""
    price = "price not known yet" if advice.cost_usd is None else f"about {format_usd(advice.cost_usd)}"
    chance = advice.chance_to_settle
    hope = "" if chance is None else f", settles the verdict with probability {chance:.2f}"
    return f"{advice.description} ({price}{hope})"


def what_would_change(verdict: Verdict) -> list[str]:
    """Thresholds at which the best candidate's probability turns, off its own interval, and the vetoes' ways out."""
    best, metric = verdict.best.gain_per_dollar, verdict.metric
    now = f"it is {verdict.threshold:.4g} now ({gain_per_dollar(verdict.threshold, metric)})"
    if best.median > 0:
        lines = [f"at a threshold of {format_quantity(best.median)} per dollar the odds would be even; {now}"]
    else:
        lines = [f"no threshold above 0 has even odds, because no gain is the likelier outcome; {now}"]
    if verdict.kind != "PROMOTE" and best.low > 0:
        lines.append(
            f"below {format_quantity(best.low)} per dollar its probability is at least {percent((1 + best.level) / 2)}"
        )
    if verdict.kind != "REJECT" and best.high > 0:
        lines.append(
            f"above {format_quantity(best.high)} per dollar its probability is at most {percent((1 - best.level) / 2)}"
        )
    if verdict.next_measurement is not None:
        lines.append(f"one more measurement: {measurement_text(verdict.next_measurement)}")
    lines += [f"{veto.name}: {veto.way_out}" for veto in verdict.vetoes]
    return lines


def printable(text: str) -> str:
    """Text without control and direction characters, which could repaint a terminal or reverse what is read."""
    return "".join(character for character in text if character.isprintable() or character == "\n")


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, indent: str = "  ") -> str:
    """Columns padded to their widest cell, two spaces apart; no trailing blanks."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join((indent + line).rstrip() for line in lines)


WORKERS_HEADER = (
    "workers", "time", "speedup", "efficiency", "largest part of the steady time", "validation", "checkpoints", "basis",
)  # fmt: skip


def workers_rows(scaling: ScalingDiagnosis) -> list[tuple[str, ...]]:
    """What each worker count comes to."""
    return [
        (
            str(each.workers),
            duration(each.median_total_s),
            f"{each.speedup:.2f}x",
            f"{100 * each.parallel_efficiency:.0f}%",
            f"{each.bottleneck}, {percent(each.bottleneck_share)}",
            f"{100 * each.validation_share:.2g}%",
            f"{100 * each.checkpoint_share:.2g}%",
            "measured" if each.measured else "extrapolated",
        )
        for each in scaling.candidates
    ]
