"""What a reader of a bill sees: rows that add up, what is left out, options and verdicts side by side."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.intervals import certain
from orchestrator.report.bill import (
    bill_rows,
    bill_sentences,
    purchase_rows,
    sensitivity_rows,
)
from orchestrator.report.markdown import verdict_markdown, verdict_text
from orchestrator.report.page import build_page
from orchestrator.results import (
    Bill,
    BillLine,
    Candidate,
    CandidateForecast,
    CheckpointAdvice,
    CostKind,
    Interval,
    Sensitivity,
    Verdict,
)
from orchestrator.spec import Purchase

samples = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "tracking" / "samples.py")))


def dollars(mean: float) -> Interval:
    return Interval(low=0.8 * mean, median=mean, high=1.3 * mean, mean=mean)


def line(kind: CostKind, item: str, usd: float | None, unit: str = "instance-hour") -> BillLine:
    return BillLine(
        item=item, quantity=certain(4.0), unit=unit, unit_price_usd=None if usd is None else usd / 4,
        cost_usd=None if usd is None else dollars(usd), source="" if usd is None else "a list, 2026-01-21",
        included=usd is not None, note=f"note of {item}", kind=kind,
    )  # fmt: skip


def bill(scale: float = 1.0, **other: object) -> Bill:
    values: dict[str, object] = {
        "lines": (
            line("infrastructure", "training", 10 * scale),
            line("infrastructure", "egress", None, "GB"),
            line("people", "engineer time", None, "h"),
            line("risk", "re-work after failure", 0.00002 * scale),
        ),
        "totals_usd": {"infrastructure": dollars(10 * scale), "risk": dollars(0.00002 * scale)},
        "total_usd": dollars(10.00002 * scale),
        "assumed": True,
        "training_s": dollars(3000.0),
        "billed_s": dollars(4000.0),
        "waiting_s": dollars(600.0),
        "peak_storage_gb": 12.5,
        "storage_usd_per_month": 0.25,
        "expected_interruptions": 0.031,
        "checkpoint": CheckpointAdvice(
            interval_s=600, checkpoint_s=6, best_interval_s=1800, break_even_interval_s=7200, time_share=0.01
        ),
        "sensitivities": (
            Sensitivity(
                name="training time", low=2400, high=3900, unit="s", total_at_low_usd=8, total_at_high_usd=13,
                is_uncertain=True,
            ),
            Sensitivity(
                name="price of an instance-hour", low=0.9, high=1.1, unit="$ per instance-hour", total_at_low_usd=9,
                total_at_high_usd=11, is_uncertain=False,
            ),
        ),
    }  # fmt: skip
    return Bill(**(values | other))  # type: ignore[arg-type]  # one dict for all fields


def bought(purchase: Purchase, scale: float, in_time: float | None) -> CandidateForecast:
    known = samples.verdict().best
    candidate = Candidate(model="cnn", fraction=1.0, n_samples=1438, workers=1, purchase=purchase)
    return replace(
        known, candidate=candidate, bill=bill(scale), cost_usd=dollars(10.00002 * scale), deadline_probability=in_time
    )


def two_options() -> Verdict:
    on_demand, spot = bought("on_demand", 1.0, 0.999), bought("spot", 0.4, 0.62)
    return replace(samples.verdict(), best=on_demand, candidates=(on_demand, spot))


def test_lines_stand_under_the_total_of_their_kind_and_what_is_left_out_has_no_amount() -> None:
    rows = [(cells[0], cells[3], style) for cells, style in bill_rows(bill())]

    assert rows == [
        ("infrastructure", "$10.00", "kind"),
        ("training", "$10.00", "in"),
        ("egress", "not included", "out"),
        ("people", "not included", "kind"),
        ("engineer time", "not included", "out"),
        ("risk", "$0.000020", "kind"),
        ("re-work after failure", "$0.000020", "in"),
        ("total", "$10.00", "total"),
    ]


def test_a_bill_of_an_older_journal_has_its_lines_and_its_total() -> None:
    old = Bill(lines=(line("infrastructure", "training", 10.0),), total_usd=dollars(10.0), assumed=True)

    assert [cells[0] for cells, _ in bill_rows(old)] == ["training", "total"]
    assert bill_sentences(old) == ["price sources: [1] a list, 2026-01-21"]
    assert sensitivity_rows(old) == []


def test_sentences_say_seconds_storage_and_checkpoints() -> None:
    seconds, storage, checkpoints, sources = bill_sentences(bill())

    assert seconds == (
        "50.0 min of training in 66.7 min billed (75%), and 10.0 min of waiting for machines; "
        "0.031 interruptions expected"
    )
    assert storage == "storage: 12.5 GB at the peak, then $0.25 per month while it is kept"
    assert sources == "price sources: [1] a list, 2026-01-21"
    assert checkpoints == (
        "checkpoints: one after every 10.0 min of work, 1% of the training time in the trials; the expected time "
        "is shortest with one every 30.0 min; spot is expected to cost more than on-demand beyond one every 2.00 h"
    )


def test_checkpoints_that_take_no_time_may_be_written_at_will() -> None:
    free = CheckpointAdvice(interval_s=600, checkpoint_s=0, best_interval_s=0, time_share=0.0)

    never, always = (
        CheckpointAdvice(interval_s=600, checkpoint_s=6, best_interval_s=60, break_even_interval_s=at)
        for at in (0.0, float("inf"))
    )
    assert bill_sentences(bill(checkpoint=never))[2].endswith("cost more than on-demand at every interval")
    assert bill_sentences(bill(checkpoint=always))[2].endswith("than on-demand at any interval up to the whole run")
    assert "as often as one likes" in bill_sentences(bill(checkpoint=free))[2]


def test_sensitivities_tell_an_interval_from_ten_percent_either_side() -> None:
    first, second = sensitivity_rows(bill())

    assert first == ("training time (90% interval)", "40.0 min", "65.0 min", "$8.00", "$13.00", "$5.00")
    assert second[0] == "price of an instance-hour (10% either side)"
    assert second[1:3] == ("$0.9 per instance-hour", "$1.1 per instance-hour")


def test_purchase_options_stand_side_by_side_with_the_odds_of_the_deadline() -> None:
    on_demand, spot = purchase_rows(two_options())

    assert (on_demand[0], on_demand[3], on_demand[6]) == ("on-demand", ">99%", "$10.00")
    assert (spot[0], spot[3], spot[4], spot[6]) == ("spot", "62%", "0%", "$4.00")
    assert spot[-1].startswith("$4.00 ($3.20 to ")


def test_large_quantities_have_separators_and_absurd_amounts_stay_short() -> None:
    huge = replace(line("infrastructure", "training", 10.0), quantity=certain(15_432_099.0))
    cells = bill_rows(bill(lines=(huge,), total_usd=dollars(1e30)))

    assert cells[1][0][1] == "15,432,099 instance-hour"
    assert cells[-1][0][3] == "$1.0e+30"


def test_one_purchase_option_needs_no_table() -> None:
    assert purchase_rows(samples.verdict()) == []


@pytest.mark.parametrize("show", [verdict_text, verdict_markdown])
def test_every_verdict_shows_the_whole_bill(show) -> None:
    text = show(two_options())

    for expected in (
        "$10.00", "re-work after failure", "note of egress", "50.0 min of training", "12.5 GB at the peak",
        "one every 30.0 min", "training time (90% interval)", "62%",
    ):  # fmt: skip
        assert expected in text


def test_the_page_shows_the_whole_bill() -> None:
    page = build_page(samples.spec(), samples.data(), samples.results(), two_options())

    for expected in ("Purchase options", "What moves the total", "note of egress", "12.5 GB at the peak", "62%"):
        assert expected in page
