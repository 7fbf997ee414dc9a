"""What of a hundred candidates is shown first."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.report.markdown import verdict_markdown, verdict_text
from orchestrator.report.shortlist import listed_cells, listed_header, listed_row, net_value, shortlist

many = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("many.py"))))


def test_the_frontier_comes_first_by_rising_cost_then_the_best_of_the_other_models() -> None:
    verdict = many.verdict()

    shown = shortlist(verdict).shown

    numbers = [listed.number for listed in shown]
    assert numbers == [1, 2, 3, 4, 5, None, None]
    costs = [listed.forecast.cost_usd.mean for listed in shown[:5]]
    assert costs == sorted(costs)
    assert {listed.forecast.candidate.model for listed in shown[5:]} == {"linear", "resnet"}
    for listed in shown[5:]:
        own = [c for c in verdict.candidates if c.candidate.model == listed.forecast.candidate.model]
        assert net_value(listed.forecast, verdict) == max(net_value(c, verdict) for c in own)


def test_nothing_is_lost_or_shown_twice() -> None:
    verdict = many.verdict()
    chosen = shortlist(verdict)

    listed = [each.forecast.candidate for each in (*chosen.shown, *chosen.folded)]

    assert len(listed) == len(set(listed)) == len(verdict.candidates)
    assert shortlist(verdict, is_whole=True).folded == ()
    assert len(shortlist(verdict, is_whole=True).shown) == len(verdict.candidates)


@pytest.mark.parametrize(("kind", "name"), [("PROMOTE", "recommended"), ("HOLD", "best"), ("REJECT", "best")])
def test_only_a_promotion_recommends(kind: str, name: str) -> None:
    verdict = many.verdict(kind)

    [marked] = [listed for listed in shortlist(verdict).shown if listed.is_best]

    assert marked.forecast == verdict.best
    assert marked.marks[0] == name


def test_the_knee_is_marked_and_may_be_the_recommended_one() -> None:
    verdict = many.verdict()
    both = replace(verdict, frontier=replace(verdict.frontier, knee=verdict.best.candidate))

    assert [each.forecast.candidate for each in shortlist(verdict).shown if "knee" in each.marks] == [
        verdict.frontier.knee
    ]
    assert [each.marks for each in shortlist(both).shown if "knee" in each.marks] == [("recommended", "knee")]


def test_a_journal_without_a_frontier_shows_the_best_of_each_model() -> None:
    verdict = replace(many.verdict(), frontier=None)

    chosen = shortlist(verdict)

    assert [listed.forecast.candidate.model for listed in chosen.shown] == ["linear", "cnn", "resnet"] or {
        listed.forecast.candidate.model for listed in chosen.shown
    } == {"linear", "cnn", "resnet"}
    assert len(chosen.shown) == 3
    assert "no." not in listed_header(verdict)


def test_a_few_candidates_are_all_shown() -> None:
    assert len(shortlist(many.samples.verdict()).shown) == 4


def test_net_value_without_a_record_is_gain_less_threshold_times_dollars() -> None:
    verdict = many.verdict()
    bare = replace(verdict.best, net_value=None)

    assert net_value(bare, verdict) == pytest.approx(bare.gain.mean - many.THRESHOLD * bare.cost_usd.mean)


def test_rows_have_a_cell_for_each_header() -> None:
    verdict = many.verdict()
    for of in (verdict, replace(verdict, frontier=None)):
        for listed in shortlist(of).shown:
            assert len(listed_row(listed, of)) == len(listed_header(of))
    assert listed_cells(shortlist(verdict).shown[0], verdict)[-1][0] == "no gain"


def test_text_and_markdown_say_how_many_candidates_they_leave_out() -> None:
    verdict = many.verdict()

    assert "and 101 more: --all shows them" in verdict_text(verdict)
    assert "101 more candidates are in the report" in verdict_markdown(verdict)
    assert "more: --all" not in verdict_text(verdict, is_whole=True)
    assert verdict_text(verdict, is_whole=True).count(" spot ") > 30
