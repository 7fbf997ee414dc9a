"""Dollars over time: what was spent by when, whatever the clock did."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.report.timeline import timeline_figure, timeline_of, timeline_sentences

many = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("many.py"))))
SPEC = many.samples.spec()
CAPPED = replace(
    SPEC, sweep=replace(SPEC.sweep, max_cost_usd=3.0), budget=replace(SPEC.budget, max_cost_usd=100.0)
)  # fmt: skip


def test_dollars_add_up_in_the_journals_order_with_failed_trials_among_them() -> None:
    trials = many.trials()

    timeline = timeline_of(CAPPED, trials)

    assert timeline is not None
    assert timeline.total_usd == pytest.approx(sum(trial.cost_usd for trial in trials))
    assert [step.total_usd for step in timeline.steps] == sorted(step.total_usd for step in timeline.steps)
    assert (timeline.n_failed, timeline.failed_usd) == (1, pytest.approx(0.03))
    assert (timeline.cap_usd, timeline.cap_key) == (3.0, "sweep.max_cost_usd")
    assert timeline_sentences(timeline)[0] == "$2.36 spent on 40 trials, 79% of sweep.max_cost_usd = $3.00"
    assert timeline_sentences(timeline)[1] == "$0.030 of it on 1 failed trial"


def test_a_pause_of_a_week_is_cut_out_and_told() -> None:
    timeline = timeline_of(SPEC, many.trials(pause_s=7 * 86400.0))

    assert timeline is not None
    assert not timeline.is_clock_backwards
    assert timeline.steps[-1].at == pytest.approx(40 * 20.2, abs=2.0)
    assert [idle for _, idle in timeline.pauses] == [pytest.approx(7 * 86400.0)]
    assert timeline_sentences(timeline)[-1] == "1 pause without a running trial (7.0 d) left out"
    assert "pause" not in " ".join(timeline_sentences(timeline_of(SPEC, many.trials())))


def test_trials_side_by_side_are_no_backward_clock() -> None:
    long, short = many.trials()[:2]
    beside = (replace(short, started_at=long.started_at, wall_time_s=5.0), replace(long, wall_time_s=20.0))

    timeline = timeline_of(SPEC, beside)

    assert not timeline.is_clock_backwards
    assert [step.at for step in timeline.steps] == [5.0, 20.0]


def test_a_clock_that_went_backwards_leaves_the_journals_order_and_is_told() -> None:
    trials = list(many.trials())
    trials[20] = replace(trials[20], started_at="2026-03-01T09:00:00")

    timeline = timeline_of(SPEC, trials)

    assert timeline.is_clock_backwards
    assert [step.at for step in timeline.steps] == list(range(1, 41))
    assert "the clock went backwards" in timeline_sentences(timeline)[-1]
    assert "the clock went backwards" in timeline_figure(timeline).alt


def test_no_trial_has_no_timeline_and_free_trials_have_one() -> None:
    free = [replace(trial, cost_usd=0.0) for trial in many.trials()]

    assert timeline_of(SPEC, ()) is None
    assert timeline_figure(timeline_of(SPEC, free)).svg.startswith("<svg")


@pytest.mark.parametrize("cap", [None, 2.5, 1000.0])
def test_the_picture_draws_with_a_cap_near_far_or_none(cap: float | None) -> None:
    spec = replace(SPEC, sweep=replace(SPEC.sweep, max_cost_usd=cap))

    drawing = timeline_figure(timeline_of(spec, many.trials(pause_s=3600.0)))

    assert drawing == timeline_figure(timeline_of(spec, many.trials(pause_s=3600.0)))
    assert ("max_cost_usd" in drawing.alt) == (cap is not None)
