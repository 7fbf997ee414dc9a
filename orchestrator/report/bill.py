"""The bill for readers: a table whose expected dollars add up, and the sentences that belong to it.

The terminal, MLflow, the page and `comparison` take the same rows from here. The column that adds up is the
expectation; the 90% intervals beside it do not add, and say so by standing in a column of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from orchestrator.intervals import format_quantity, format_usd
from orchestrator.report.wording import NOT_KNOWN, duration, in_time, percent, span, unit_price, with_span
from orchestrator.results import Bill, BillLine, CandidateForecast, CostKind, Interval, Sensitivity, Verdict

BILL_HEADER = ("item", "quantity", "unit price", "expected", "90%", "note, and number of the price source")
KINDS: tuple[CostKind, ...] = ("infrastructure", "people", "risk")
MAX_SENSITIVITIES = 5

Row = tuple[str, ...]


def bill_rows(bill: Bill) -> list[tuple[Row, str]]:
    """Cells and style of each row: ``kind`` and ``total`` for sums, ``in``, and ``out`` for what is left out."""
    rows: list[tuple[Row, str]] = []
    numbers = {source: number for number, source in enumerate(price_sources(bill), 1)}
    for kind in KINDS:
        lines = bill.lines_of(kind)
        if not lines:
            continue
        total = bill.totals_usd.get(kind)
        if bill.totals_usd:
            rows.append(((kind, "", "", *dollars(total), "" if total else "nothing of it has a price"), "kind"))
        rows += [(_line_row(line, numbers), "in") for line in lines if line.included]
        rows += [(_line_row(line, numbers), "out") for line in lines if not line.included]
    rows.append((("total", "", "", *dollars(bill.total_usd), "of what is included"), "total"))
    return rows


def dollars(amount: Interval | None) -> tuple[str, str]:
    """Expectation and interval; a sum without spread has no interval to show."""
    if amount is None:
        return "not included", ""
    return format_usd(amount.mean), "" if amount.low == amount.high else span(amount, format_usd)


def price_sources(bill: Bill) -> list[str]:
    """Where the prices come from, each once, in the order of the bill; a line's note gives its number."""
    return list(dict.fromkeys(line.source for line in bill.lines if line.included and line.source))


def _line_row(line: BillLine, numbers: Mapping[str, int]) -> Row:
    quantity = NOT_KNOWN if line.quantity is None else f"{format_quantity(line.quantity.mean)} {line.unit}"
    price = NOT_KNOWN if line.unit_price_usd is None else f"{unit_price(line.unit_price_usd)} per {line.unit}"
    mark = f"[{numbers[line.source]}]" if line.source in numbers else ""
    note = " ".join(part for part in (line.note, mark) if part)
    return (line.item, quantity, price, *dollars(line.cost_usd if line.included else None), note)


def bill_sentences(bill: Bill) -> list[str]:
    """Seconds, storage, checkpoints, sources: what the table cannot say."""
    sources = "; ".join(f"[{number}] {source}" for number, source in enumerate(price_sources(bill), 1))
    said = [_seconds(bill), _storage(bill), _checkpoints(bill), f"price sources: {sources}" if sources else ""]
    return [sentence for sentence in said if sentence]


def _seconds(bill: Bill) -> str:
    if bill.training_s is None or bill.billed_s is None or bill.billed_s.mean == 0:
        return ""
    share = percent(bill.training_s.mean / bill.billed_s.mean)
    billed = f"{duration(bill.training_s.mean)} of training in {duration(bill.billed_s.mean)} billed ({share})"
    if bill.waiting_s is not None and bill.waiting_s.mean > 0:
        billed += f", and {duration(bill.waiting_s.mean)} of waiting for machines"
    if bill.expected_interruptions is None:
        return billed
    return f"{billed}; {format_quantity(bill.expected_interruptions)} interruptions expected"


def _storage(bill: Bill) -> str:
    if bill.peak_storage_gb is None:
        return ""
    peak = f"storage: {format_quantity(bill.peak_storage_gb)} GB at the peak"
    monthly = bill.storage_usd_per_month
    return peak if monthly is None else f"{peak}, then {format_usd(monthly)} per month while it is kept"


def _checkpoints(bill: Bill) -> str:
    advice = bill.checkpoint
    if advice is None:
        return ""
    parts = [
        f"checkpoints: one after every {duration(advice.interval_s)} of work, "
        f"{100 * advice.time_share:.2g}% of the training time in the trials"
    ]
    if advice.best_interval_s is not None:
        parts.append(
            "as often as one likes, for writing them takes no time"
            if advice.best_interval_s == 0
            else f"the expected time is shortest with one every {duration(advice.best_interval_s)}"
        )
    break_even = advice.break_even_interval_s
    if break_even is not None:
        parts.append(
            "spot is expected to cost more than on-demand at every interval"
            if break_even == 0
            else "spot is expected to cost less than on-demand at any interval up to the whole run"
            if math.isinf(break_even)
            else f"spot is expected to cost more than on-demand beyond one every {duration(break_even)}"
        )
    return "; ".join(parts)


SENSITIVITY_HEADER = ("input", "from", "to", "total from", "total to", "swing")


def sensitivity_rows(bill: Bill) -> list[Row]:
    """The inputs that move the total most."""
    return [_sensitivity_row(each) for each in bill.sensitivities[:MAX_SENSITIVITIES]]


def _sensitivity_row(each: Sensitivity) -> Row:
    def value(amount: float) -> str:
        return duration(amount) if each.unit == "s" else f"${format_quantity(amount)}{each.unit.removeprefix('$')}"

    basis = "90% interval" if each.is_uncertain else "10% either side"
    return (
        f"{each.name} ({basis})",
        value(each.low),
        value(each.high),
        format_usd(each.total_at_low_usd),
        format_usd(each.total_at_high_usd),
        format_usd(each.swing_usd),
    )


PURCHASE_HEADER = (
    "purchase", "per instance-hour", "time (median, 90%)", "in time", "given up", "interruptions", *KINDS,
    "total (expected, 90%)",
)  # fmt: skip


def purchase_rows(verdict: Verdict) -> list[Row]:
    """The best candidate under each purchase option, side by side; empty where there is only one."""
    best = verdict.best.candidate
    same = [
        each
        for each in verdict.candidates
        if (each.candidate.model, each.candidate.fraction, each.candidate.workers)
        == (best.model, best.fraction, best.workers)
    ]
    return [_purchase_row(each) for each in same] if len(same) > 1 else []


def _purchase_row(forecast: CandidateForecast) -> Row:
    bill = forecast.bill
    hourly = next((line.unit_price_usd for line in bill.lines if line.item == "training"), None)
    return (
        forecast.candidate.purchase.replace("_", "-"),
        NOT_KNOWN if hourly is None else unit_price(hourly),
        with_span(forecast.wall_time_s, duration),
        in_time(forecast),
        percent(bill.given_up_share),
        NOT_KNOWN if bill.expected_interruptions is None else format_quantity(bill.expected_interruptions),
        *(dollars(bill.totals_usd.get(kind))[0] for kind in KINDS),
        expected_and_span(forecast.cost_usd, format_usd),
    )


def expected_and_span(interval: Interval, text: Callable[[float], str]) -> str:
    """``mean (low to high)``."""
    return f"{text(interval.mean)} ({span(interval, text)})"
