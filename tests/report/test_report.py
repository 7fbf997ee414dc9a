"""Figures that draw from any verdict, Markdown whose first line is the verdict, a page that runs nothing."""

from __future__ import annotations

import io
import re
import runpy
import struct
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from orchestrator.data.findings.store import write_findings
from orchestrator.quality.findings import Example, Finding, Findings, Where
from orchestrator.report import figures, wording
from orchestrator.report.markdown import verdict_markdown, verdict_text
from orchestrator.report.page import build_page, review_page
from orchestrator.report.time_plot import time_against_workers
from orchestrator.results import DataPathFinding, DataRead, Frontier, Interval, Veto
from orchestrator.spec import DecisionSpec

samples = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "tracking" / "samples.py")))
ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>"
VETO = Veto(name="extrapolating too far", reason="12 times the largest trial", way_out="add a fraction of 0.1")


class Parsed(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def loss_verdict():
    """The same verdict asked in loss: values fall, gains stay positive when better."""
    verdict = samples.verdict()
    flip = lambda band: replace(  # noqa: E731  one expression, used once below
        band,
        median=tuple(1 - v for v in band.median),
        confidence_low=tuple(1 - v for v in band.confidence_high),
        confidence_high=tuple(1 - v for v in band.confidence_low),
        prediction_low=tuple(1 - v for v in band.prediction_high),
        prediction_high=tuple(1 - v for v in band.prediction_low),
        points=tuple(replace(point, value=1 - point.value) for point in band.points),
        backtest=None,
    )
    return replace(verdict, metric="loss", baseline=0.057, curves=tuple(flip(band) for band in verdict.curves))


@pytest.mark.parametrize("kind", ["PROMOTE", "HOLD", "REJECT"])
def test_the_first_line_is_the_verdict_with_its_probability_and_reason(kind: str) -> None:
    verdict = samples.verdict(kind, probability=0.55)

    first = verdict_markdown(verdict).splitlines()[0]

    assert first.startswith(f"**{kind}, probability 0.55** (0.90 asked for): ")
    assert len(first) > 60
    assert verdict_text(verdict).splitlines()[0] == f"{kind}  probability 0.55 (0.90 asked for)"


def test_markdown_and_text_name_every_candidate_veto_check_and_bill_line() -> None:
    verdict = samples.verdict("HOLD", vetoes=(VETO,))

    for text in (verdict_markdown(verdict), verdict_text(verdict)):
        rows = [line for line in text.splitlines() if re.search(r"\|? *\d \|? *on-demand", line)]
        assert len(rows) == len(verdict.candidates)
        for expected in (
            "12 times the largest trial",
            "add a fraction of 0.1",
            "egress",
            "assumed to lie in the region",
            "backtest held",
        ):
            assert expected in text


def test_a_small_amount_of_money_never_reads_as_zero() -> None:
    text = verdict_text(samples.verdict())

    assert "$0.0000019" in text
    assert "$1.006 per instance hour" in text
    assert not re.search(r"\$0\.00(?!\d)", text)


def test_markdown_takes_markup_literally() -> None:
    verdict = replace(samples.verdict(), reason=f"{ATTACK} | **bold** [link](javascript:x)")

    first = verdict_markdown(verdict).splitlines()[0]

    assert "<" not in first
    assert r"\*\*bold\*\* \[link\](javascript:x)" in first


def test_terminal_text_has_no_trailing_blanks_and_no_escape_codes() -> None:
    text = verdict_text(samples.verdict("HOLD", vetoes=(VETO,)))

    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_a_verdict_without_a_gain_does_not_promise_a_price_for_one() -> None:
    best = replace(
        samples.verdict().best, gain_per_dollar=Interval(low=-3.0, median=-1.0, high=0.5, mean=-1.0), noise_units=None
    )
    verdict = replace(samples.verdict("REJECT", probability=0.02), best=best)

    page = build_page(samples.spec(), samples.data(), samples.results(), verdict)

    assert "no gain, so no price per point" in page
    assert "no threshold above 0 has even odds" in page


@pytest.mark.parametrize("verdict", [samples.verdict(), loss_verdict()], ids=["accuracy", "loss"])
def test_every_figure_is_a_png_and_an_svg_with_the_same_bytes_each_time(verdict) -> None:
    for draw in (
        lambda: figures.learning_curves(verdict),
        lambda: figures.candidate_costs(verdict),
        lambda: time_against_workers(samples.results()),
    ):
        drawing, again = draw(), draw()

        assert drawing == again
        assert drawing.png.startswith(b"\x89PNG")
        assert struct.unpack(">I", drawing.png[16:20])[0] == 1200
        assert drawing.svg.startswith("<svg")
        assert "currentColor" in drawing.svg
        assert figures.INK not in drawing.svg
        assert "<script" not in drawing.svg
        assert drawing.alt


def test_a_figure_is_not_blank() -> None:
    for drawing in (figures.learning_curves(samples.verdict()), figures.candidate_costs(samples.verdict())):
        pixels = np.asarray(Image.open(io.BytesIO(drawing.png)).convert("L"))

        assert 0.02 < float((pixels < 250).mean()) < 0.7


@pytest.mark.parametrize("name", ["m" * 300, "$x_$ " * 9, "_", ATTACK, "\u202emodel"])
def test_figures_draw_whatever_a_model_is_called(name: str) -> None:
    verdict = samples.verdict()
    called = lambda c: replace(c, candidate=replace(c.candidate, model=name, fraction=0.37))  # noqa: E731  used twice
    verdict = replace(
        verdict, best=called(verdict.best), candidates=tuple(map(called, verdict.candidates)),
        curves=(replace(verdict.curves[0], model=name),),
    )  # fmt: skip
    results = [replace(result, trial=replace(result.trial, model=name)) for result in samples.results()]

    for drawing in (figures.learning_curves(verdict), figures.candidate_costs(verdict), time_against_workers(results)):
        assert drawing is not None
        assert "<script" not in drawing.svg


def test_figures_keep_no_pyplot_state() -> None:
    from matplotlib import pyplot

    figures.learning_curves(samples.verdict())

    assert pyplot.get_fignums() == []


def test_the_best_candidate_is_in_the_figure_however_far_down_the_list_it_stands() -> None:
    verdict = samples.verdict()
    others = tuple(
        replace(verdict.candidates[3], candidate=replace(verdict.candidates[3].candidate, workers=w))
        for w in range(3, 33)
    )

    drawing = figures.candidate_costs(replace(verdict, candidates=(*others, verdict.best)))

    assert str(verdict.best.candidate) in drawing.alt


def test_time_bars_compare_workers_at_the_largest_size_they_share() -> None:
    results = (*samples.results(n_fractions=2), samples.result("cnn", 0.5, 1, 0))

    drawing = time_against_workers(results)

    assert drawing is not None
    assert "cnn, 144 samples, 1 worker" in drawing.alt
    assert "cnn, 144 samples, 2 workers" in drawing.alt
    assert time_against_workers([samples.result("cnn", 0.5, 1, 0, error="boom")]) is None


def test_candidates_that_span_orders_of_magnitude_and_outnumber_the_figure_still_draw() -> None:
    verdict = samples.verdict()
    many = tuple(
        replace(
            verdict.best,
            candidate=replace(verdict.best.candidate, workers=2**power),
            cost_usd=Interval(low=0.8 * 3**power, median=3**power, high=1.3 * 3**power, mean=3**power),
        )
        for power in range(20)
    )

    frontier = Frontier(candidates=tuple(each.candidate for each in reversed(many)), knee=None)

    drawing = figures.candidate_costs(replace(verdict, candidates=(verdict.best, *many), frontier=frontier))

    assert drawing.alt.count(", on-demand") == figures.MAX_BARS
    assert "$531,441" in drawing.alt


def test_the_page_shows_verdict_first_then_all_it_rests_on() -> None:
    page = build_page(samples.spec(), samples.data(), samples.results(), samples.verdict("HOLD", vetoes=(VETO,)))

    order = ["HOLD</h1>", "Held back by", "Learning curves</h2>", "Bill of", "Candidates</h2>", "Checklist</h2>",
             "What would change it", "Data</h2>", "Time</h2>", "Trials</h2>", "Dollars over time</h2>",
             "How to reproduce"]  # fmt: skip
    positions = [page.index(part) for part in order]
    assert positions == sorted(positions)
    assert page.count("<svg") == 4
    assert samples.data().fingerprint in page
    assert "What came of it" not in page


def test_with_an_outcome_the_page_sets_the_forecast_beside_it() -> None:
    page = build_page(samples.spec(), samples.data(), samples.results(), samples.verdict(), samples.outcome())

    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))
    assert "What came of it" in text
    assert "95.59% (94.39% to 96.49%) 95.32% held" in text
    assert "missed" in text


def test_markup_from_people_and_data_never_becomes_markup_of_the_page() -> None:
    failed = samples.result("cnn", 0.05, 1, 0, error=ATTACK)
    data = replace(samples.data(), source=ATTACK, class_counts={ATTACK: 3})
    spec = replace(samples.spec(), data=replace(samples.spec().data, source=ATTACK), runs_dir=ATTACK)
    verdict = replace(
        samples.verdict(vetoes=(Veto(name=ATTACK, reason=ATTACK, way_out=ATTACK),)),
        reason=ATTACK, next_step=ATTACK, baseline_source=ATTACK, inputs_digest=ATTACK,
        curves=(replace(samples.curve("cnn"), diagnosis=(ATTACK,)),),
    )  # fmt: skip
    outcome = replace(samples.outcome(), checkpoint_path=ATTACK, finished_at=ATTACK)

    parsed = Parsed(build_page(spec, data, [*samples.results(), failed], verdict, outcome))

    assert "script" not in parsed.tags
    assert "img" not in parsed.tags
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]
    assert parsed.text.count(ATTACK) >= 10


def test_the_page_asks_nothing_of_the_network() -> None:
    parsed = Parsed(build_page(samples.spec(), samples.data(), samples.results(), samples.verdict()))

    assert {"link", "script", "iframe", "img"}.isdisjoint(parsed.tags)
    references = [value for name, value in parsed.attributes if name in ("src", "href", "xlink:href") and value]
    assert all(reference.startswith("#") for reference in references)
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'; img-src data:") in parsed.attributes


def test_the_review_page_carries_description_figures_and_html_for_a_task_without_accuracy_too() -> None:
    spec = samples.spec(decision=DecisionSpec(min_gain_per_dollar=0.002, metric="loss"))
    results = [replace(r, training=replace(r.training, accuracy=None, train_accuracy=None)) for r in samples.results()]

    page = review_page(spec, samples.data(), results, loss_verdict())

    assert set(page.figures) == {"learning_curves", "candidate_costs", "time_against_workers", "timeline"}
    assert page.description.startswith("**PROMOTE")
    assert "not known" in page.html


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0042, "0.0042 s"), (4.9, "4.90 s"), (119, "119 s"), (150, "2.50 min"), (7200, "2.00 h"), (864_000, "10.0 d")],
)
def test_times_are_told_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text


def test_shares_read_as_certain_only_when_they_are() -> None:
    assert [wording.percent(p) for p in (0.0, 0.002, 0.5, 0.996, 1.0)] == ["0%", "<1%", "50%", ">99%", "100%"]


def test_the_page_shows_whether_it_is_the_data() -> None:
    found = DataPathFinding(
        basis="probe", header=("workers", "limit"), rows=(("1", "compute"), ("2", "loader")),
        lines=(f"data path of {ATTACK}",), headroom="", idle_share=0.1,
    )  # fmt: skip
    verdict = replace(samples.verdict(), data_path=found)

    page = Parsed(build_page(samples.spec(), samples.data(), [], verdict))

    assert "Is it the data?" in page.text
    assert f"data path of {ATTACK}" in page.text
    assert "script" not in page.tags
    assert "Is it the data?" in verdict_markdown(verdict)
    assert "is it the data?" in verdict_text(verdict)


def test_the_page_shows_what_was_found_in_the_data_with_pictures(tmp_path: Path) -> None:
    row = Where(split="train", place=3, source_row=17, label=ATTACK)
    finding = Finding(
        kind="exact duplicates", status="warn", count=1, n_looked_at=9, sentence="exact duplicates: 1 of 9 rows",
        examples=(Example(row=row, what="as another row"),),
    )  # fmt: skip
    findings = Findings(fingerprint="f", n_train=9, n_validation=1, n_images_looked_at={}, findings=(finding,))
    write_findings(tmp_path, findings, {("train", 3): b"\x89PNG picture"})
    data = replace(samples.data(), prepared_at=str(tmp_path))

    page = Parsed(build_page(samples.spec(), data, [], samples.verdict()))

    assert "exact duplicates" in page.text
    assert any(value and value.startswith("data:image/png;base64,") for name, value in page.attributes if name == "src")
    assert "script" not in page.tags


def test_a_prepared_folder_that_is_gone_leaves_the_rest_of_the_page(tmp_path: Path) -> None:
    data = replace(samples.data(), prepared_at=str(tmp_path / "gone"))

    assert "Data quality" not in build_page(samples.spec(), data, [], samples.verdict())


def test_the_page_tells_how_much_of_the_data_was_read() -> None:
    read = DataRead(n_rows=9_000, n_train=45_000, train_bytes_read=8_400_000, validation_bytes_read=1, wall_time_s=2.0)
    data = replace(samples.data(), train_bytes=42_100_000)

    page = Parsed(build_page(samples.spec(), data, [], samples.verdict(), reads=[read]))

    assert "9,000 of 45,000 training rows, 8.4 MB of 42.1 MB" in page.text
