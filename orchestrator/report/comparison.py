"""Verdicts side by side: what a change makes of a verdict, and one key or two over several values.

Each row is marked where the last verdict differs from the one before it, so that a reader need not compare numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.intervals import format_usd
from orchestrator.report.bill import KINDS, dollars, expected_and_span
from orchestrator.report.markdown import assumption_lines, bullets, escape, markdown_table
from orchestrator.report.shortlist import listed_header, listed_row, net_value, shortlist
from orchestrator.report.wording import (
    duration,
    gain_number,
    gain_per_dollar,
    gain_value,
    in_time,
    measurement_text,
    plain_table,
    printable,
    usd_per_point,
    with_span,
)
from orchestrator.results import CostKind, Verdict

Named = tuple[str, Verdict]
"""What a verdict is called in the table's header, and the verdict."""
DIFFERS = "*"
Row = tuple[str, ...]


def comparison_rows(verdicts: Sequence[Verdict]) -> list[Row]:
    """Mark, quantity, and its value in every verdict; the mark is set where the last two differ.

    Of a bill's lines only those that differ are told.
    """

    def row(name: str, show: Callable[[Verdict], str]) -> Row:
        values = tuple(show(verdict) for verdict in verdicts)
        return (DIFFERS if len(set(values[-2:])) > 1 else "", name, *values)

    def of_kind(kind: CostKind) -> list[Row]:
        total = row(f"  {kind}", lambda verdict: dollars(verdict.best.bill.totals_usd.get(kind))[0])
        lines = [row(f"    {item}", _expected_of(item)) for item in _items(verdicts, kind)]
        return [total, *(line for line in lines if len(set(line[2:])) > 1)]

    return [
        row("verdict", lambda verdict: verdict.kind),
        row("probability", lambda verdict: f"{verdict.probability:.2f} ({verdict.confidence:.2f} asked for)"),
        row("threshold", lambda verdict: gain_per_dollar(verdict.threshold, verdict.metric)),
        row("held back by", lambda verdict: ", ".join(veto.name for veto in verdict.vetoes) or "nothing"),
        row("candidate", lambda verdict: str(verdict.best.candidate)),
        row("samples", lambda verdict: f"{verdict.best.candidate.n_samples:,}"),
        row("gain (median, 90%)", _gain),
        row("price of the gain", lambda v: usd_per_point(v.best.gain_per_dollar.median, v.metric)),
        row("net value (expected)", lambda verdict: gain_value(net_value(verdict.best, verdict), verdict.metric)),
        row("time (median, 90%)", lambda verdict: with_span(verdict.best.wall_time_s, duration)),
        row("in time", lambda verdict: in_time(verdict.best)),
        row("cost (expected, 90%)", lambda verdict: expected_and_span(verdict.best.cost_usd, format_usd)),
        *(each for kind in KINDS for each in of_kind(kind)),
        row("measure next", lambda v: measurement_text(v.next_measurement) if v.next_measurement else "nothing"),
        row("inputs", lambda verdict: verdict.inputs_digest[:8]),
    ]


def _gain(verdict: Verdict) -> str:
    noise = verdict.best.noise_units
    gain, metric = verdict.best.gain, verdict.metric
    text = f"{gain_value(gain.median, metric)} ({gain_number(gain.low, metric)} to {gain_number(gain.high, metric)})"
    return text if noise is None else f"{text}, {noise:+.1f} sd"


def _items(verdicts: Sequence[Verdict], kind: CostKind) -> list[str]:
    """Every item of the kind that any bill includes, once."""
    included = (line.item for verdict in verdicts for line in verdict.best.bill.lines_of(kind) if line.included)
    return list(dict.fromkeys(included))


def _expected_of(item: str) -> Callable[[Verdict], str]:
    def show(verdict: Verdict) -> str:
        line = next((line for line in verdict.best.bill.lines if line.item == item), None)
        return "none" if line is None else dollars(line.cost_usd if line.included else None)[0]

    return show


def comparison_text(named: Sequence[Named]) -> str:
    """Side by side for a terminal, then the candidates under the last verdict and what it supposes."""
    verdict = named[-1][1]
    table = plain_table(("", "", *(name for name, _ in named)), comparison_rows([v for _, v in named]), indent="")
    header, rows = _candidates(verdict)
    lines = [table, f"{DIFFERS} differs from the column before it", "", f"{named[-1][0]}: candidates"]
    lines += [plain_table(header, rows)]
    lines += [f"  {verdict.preference}"] if verdict.preference else []
    lines += ["", *assumption_lines(verdict)]
    return printable("\n".join(lines).rstrip())


def comparison_markdown(named: Sequence[Named]) -> str:
    """The same as Markdown; what differs is bold."""
    verdict = named[-1][1]
    rows = [
        (name.strip(), *values[:-1], f"**{escape(values[-1])}**" if mark else escape(values[-1]))
        for mark, name, *values in comparison_rows([v for _, v in named])
    ]
    header, candidates = _candidates(verdict)
    parts = [
        markdown_table(("", *(name for name, _ in named)), rows, is_last_ready=True),
        "Bold: differs from the column before it.",
        f"### {escape(named[-1][0])}: candidates\n\n{markdown_table(header, candidates)}",
    ]
    parts += [escape(verdict.preference)] if verdict.preference else []
    parts += [f"### Supposed, not measured\n\n{bullets(verdict.assumptions)}"] if verdict.assumptions else []
    return "\n\n".join(parts)


def _candidates(verdict: Verdict) -> tuple[Row, list[Row]]:
    return listed_header(verdict), [listed_row(listed, verdict) for listed in shortlist(verdict).shown]


def is_same_answer(one: Verdict, other: Verdict) -> bool:
    """Whether two verdicts read the same, though their inputs may be written in another version's form."""
    marked = [name for mark, name, *_ in comparison_rows([one, other]) if mark]
    return one.probability == other.probability and marked in ([], ["inputs"])


def differences(before: Verdict, after: Verdict) -> list[dict[str, str]]:
    """Quantity, from and to of every row that differs, for readers of JSON."""
    rows = comparison_rows([before, after])
    return [{"quantity": name.strip(), "from": old, "to": new} for mark, name, old, new in rows if mark]


def grid_header(keys: Sequence[str]) -> Row:
    """Of `grid_row`."""
    return (*keys, "verdict", "P", "candidate", "gain", "cost", "time", "held back by")


def grid_row(values: Sequence[str], verdict: Verdict) -> Row:
    """The verdict under one combination of values."""
    best = verdict.best
    return (
        *values,
        verdict.kind,
        f"{verdict.probability:.2f}",
        str(best.candidate),
        gain_value(best.gain.mean, verdict.metric),
        format_usd(best.cost_usd.mean),
        duration(best.wall_time_s.median),
        ", ".join(veto.name for veto in verdict.vetoes) or "nothing",
    )
