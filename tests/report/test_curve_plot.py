"""A figure that draws from any curve and says in words what it shows; text and page that name every answer."""

from __future__ import annotations

import io
import math
import struct
from dataclasses import dataclass, replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from orchestrator.curves.learning import LearningCurveFit, fit_learning_curve
from orchestrator.curves.questions import CurveAnswers, CurveMetric, ask, bounds_of, turned
from orchestrator.report import figures
from orchestrator.report.curve_plot import curve_figure
from orchestrator.report.curve_text import answer_rows, curve_text, diagnosis_text, html_fragment, html_page
from orchestrator.report.figures import Drawing
from orchestrator.results import Interval

ATTACK = "<script>alert(1)</script>"
SIZES = np.repeat([100.0, 200.0, 400.0, 800.0, 1600.0], 3)
GOALS: dict[CurveMetric, float] = {"accuracy": 0.9, "error_rate": 0.1, "loss": 2.1}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A fitted curve with all that a figure takes."""

    fit: LearningCurveFit
    answers: CurveAnswers
    points: tuple[tuple[float, float], ...]

    def draw(self, name: str = "cnn") -> Drawing:
        return curve_figure(self.fit, self.answers, self.points, name=name)


def sample(metric: CurveMetric = "accuracy", *, target_n: float = 8000, goal: bool = True, sizes=SIZES) -> Sample:
    """An error rate from 35% down, or the same curve as an accuracy, or as a loss above 2."""
    rng = np.random.default_rng(0)
    falling = 0.02 + 0.33 * (sizes / 100) ** -0.6 + 0.005 * rng.standard_normal(len(sizes))
    falling = falling + 2 if metric == "loss" else np.clip(falling, 0, 1)
    fit = fit_learning_curve(sizes, falling, bounds=bounds_of(metric))
    return Sample(
        fit=fit,
        answers=ask(fit, metric, target_n, reach=GOALS[metric] if goal else None),
        points=tuple((float(n), turned(float(value), metric)) for n, value in zip(sizes, falling, strict=True)),
    )


METRICS: tuple[CurveMetric, ...] = ("accuracy", "error_rate", "loss")


@pytest.mark.parametrize("metric", METRICS)
def test_the_figure_is_a_png_and_an_svg_with_the_same_bytes_each_time(metric: CurveMetric) -> None:
    drawing, again = sample(metric).draw(), sample(metric).draw()

    assert drawing == again
    assert drawing.png.startswith(b"\x89PNG")
    assert struct.unpack(">I", drawing.png[16:20])[0] == 1200
    assert drawing.svg.startswith("<svg")
    assert "currentColor" in drawing.svg
    assert figures.INK not in drawing.svg
    pixels = np.asarray(Image.open(io.BytesIO(drawing.png)).convert("L"))
    assert 0.02 < float((pixels < 250).mean()) < 0.7


@pytest.mark.parametrize(
    ("metric", "forecast"), [("accuracy", "at 8,000 a new run"), ("error_rate", "error rate"), ("loss", "loss")]
)
def test_the_alternative_text_says_forecast_and_backtest_in_the_metrics_own_direction(
    metric: CurveMetric, forecast: str
) -> None:
    chosen = sample(metric)
    alt = chosen.draw().alt

    run = chosen.answers.new_run
    shown = f"{run.median:.4g}" if metric == "loss" else f"{100 * run.median:.2f}%"
    assert forecast in alt
    assert shown in alt
    assert "backtest of the largest size" in alt
    assert (run.median > 0.5) == (metric != "error_rate")


def legend_texts(monkeypatch: pytest.MonkeyPatch, chosen: Sample, name: str = "cnn") -> list[str]:
    """What the legend says, as matplotlib has it."""
    seen: list[str] = []
    finish = figures.drawn

    def watch(figure, alt):
        seen.extend(text.get_text() for text in figure.axes[0].get_legend().get_texts())
        return finish(figure, alt)

    monkeypatch.setattr("orchestrator.report.curve_plot.drawn", watch)
    chosen.draw(name)
    return seen


def test_the_legend_names_curve_forecast_goal_both_bands_and_the_backtest(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = legend_texts(monkeypatch, sample())

    assert texts[0] == "cnn"
    assert texts[1].startswith("8,000: ")
    assert texts[2].startswith("goal 90.00%: ")
    assert texts[3:] == ["curve, 90%", "new run, 90%", "backtest, 90%", "measured there"]


def test_without_goal_and_backtest_the_legend_has_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = legend_texts(monkeypatch, sample(goal=False, sizes=SIZES[:9]))

    assert len(texts) == 4
    assert "backtest, 90%" not in texts


@pytest.mark.parametrize("name", ["", "_hidden", "costs $5 or $6", "x" * 300, "curve, 90%", ATTACK])
def test_any_name_draws_a_figure_of_the_same_size(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert len(legend_texts(monkeypatch, sample(), name)) == 7
    assert struct.unpack(">I", sample().draw(name).png[16:20])[0] == 1200


@pytest.mark.parametrize("target_n", [100, 1000, 1600, 1e9])
def test_a_target_within_the_data_or_far_beyond_draws(target_n: float) -> None:
    assert f"{target_n:,.0f}" in sample(target_n=target_n).draw().alt


def test_a_curve_of_two_points_that_are_equal_draws() -> None:
    fit = fit_learning_curve([100, 200], [0.0, 0.0])
    drawing = curve_figure(fit, ask(fit, "accuracy", 400, reach=1.0), [(100, 1.0), (200, 1.0)])

    assert "measured at 100 to 200" in drawing.alt


def test_the_figure_keeps_no_pyplot_state() -> None:
    from matplotlib import pyplot

    sample().draw()

    assert pyplot.get_fignums() == []


# --- text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_the_text_answers_every_question_within_110_columns(metric: CurveMetric) -> None:
    text = curve_text(sample(metric).answers, "cnn")

    for label in ("curve, 90%", "new run, 90%", "extrapolation", "samples for", "+10% data at 1,600",
                  "+10% data at 8,000", "noise floor", "backtest", "diagnosis"):  # fmt: skip
        assert label in text
    assert "5 times the largest measured size" in text
    assert all(len(line) <= 110 and line == line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize(("metric", "sign"), [("accuracy", "+"), ("error_rate", "-"), ("loss", "-")])
def test_a_gain_moves_the_metric_towards_better(metric: CurveMetric, sign: str) -> None:
    rows = dict(answer_rows(sample(metric).answers))

    assert rows["+10% data at 1,600"].startswith(sign)


@pytest.mark.parametrize("name", ["well-behaved", "wrong-way", "non-monotone", "plateau", "too-few-points"])
def test_every_diagnosis_is_told_in_a_sentence_of_its_own(name: str) -> None:
    (line,) = diagnosis_text([name], "error_rate")

    assert line.startswith(f"{name}: ")
    assert len(line) > 60
    assert "{" not in line


def test_a_diagnosis_without_a_sentence_keeps_its_name() -> None:
    assert diagnosis_text(["something-new"], "loss") == ["something-new"]


def test_a_backtest_that_missed_warns() -> None:
    answers = sample().answers
    missed = replace(answers, backtest=(Interval(low=0.5, median=0.6, high=0.7, mean=0.6), 0.9))

    assert "MISSED" in dict(answer_rows(missed))["backtest"]
    assert "held" in dict(answer_rows(answers))["backtest"]


def test_an_extrapolation_beyond_what_was_checked_names_the_size_to_measure() -> None:
    rows = dict(answer_rows(sample(target_n=1_000_000).answers))

    assert rows["extrapolation"] == (
        "625 times the largest measured size, 1,600; beyond 20 times no interval of this tool was checked: "
        "measure 50,000 or more"
    )


def test_a_target_within_the_data_is_no_extrapolation() -> None:
    assert dict(answer_rows(sample(target_n=400).answers))["extrapolation"].startswith("none")


def test_a_goal_beyond_the_limit_is_told_as_more_than_the_limit_and_never_as_a_size() -> None:
    chosen = sample(goal=False, target_n=2000)
    answers = ask(chosen.fit, "accuracy", 2000, reach=1.0)

    said = dict(answer_rows(answers))["samples for 100.00%"]

    assert said.startswith("more than 2,000; P(by 2,000) = ")
    assert said.endswith("no measured size reached it")


def test_a_goal_that_every_size_reached_is_told_as_at_most_the_smallest() -> None:
    chosen = sample(goal=False)
    answers = ask(chosen.fit, "accuracy", 8000, reach=0.1)

    said = dict(answer_rows(answers))["samples for 10.00%"]

    assert said == "at most 100; P(by 8,000) = 100%; measured size 100 reached it"


class _Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


def test_markup_in_a_name_never_becomes_markup_of_the_page() -> None:
    chosen = sample()

    page = html_page(ATTACK, [html_fragment(chosen.answers, chosen.draw(ATTACK), ATTACK)])

    tags = _Tags(page).tags
    assert {"script", "link", "img", "iframe"}.isdisjoint(tags)
    assert {"svg", "table", "h2"} <= set(tags)
    assert math.isclose(tags.count("tr"), len(answer_rows(chosen.answers)))
