"""The section on data quality: every number is there, pictures travel with it, and nothing from data runs."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from orchestrator.quality.findings import Example, Finding, Findings, NoiseSummary, Where
from orchestrator.report.findings import findings_markdown, findings_section
from orchestrator.results import Interval

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'> | **bold** [link](javascript:x)"


class Parsed(HTMLParser):
    """Tags, attributes and text of a section."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def picture(kind: str = "png") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 60, dtype=np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def where(place: int, split: str = "train", label: str = "cat") -> Where:
    return Where(split=split, place=place, source_row=1000 + place, label=label)


def some_findings(label: str = "cat", what: str = "same image", **changes: object) -> Findings:
    rate = Interval(low=0.04, median=0.051, high=0.06, mean=0.051)
    noise = NoiseSummary(
        rate=rate, rate_if_alike=rate, ceiling=Interval(low=0.93, median=0.949, high=0.96, mean=0.949),
        is_upper_estimate=False,
        confident_joint_rate=0.45, n_suspects=3, model="cnn", model_accuracy=0.62, n_rows=800, by_class={label: 0.08},
    )  # fmt: skip
    leak = Example(row=where(3, "validation", label), other=where(5, label="dog"), what=what)
    suspect = Example(row=where(9, label=label), what=what, suggested="dog", probability=0.997)
    return replace(
        Findings(
            fingerprint="0123456789abcdef", n_train=800, n_validation=200,
            n_images_looked_at={"train": 800, "validation": 200}, rows_per_s=5123.4, noise=noise,
            findings=(
                Finding(kind="missing values", status="pass", count=0, n_looked_at=1000,
                        sentence="missing values: none"),
                Finding(kind="exact leakage", status="fail", count=14, n_looked_at=200,
                        sentence=f"exact leakage: 14 of 200 {what}", examples=(leak,)),
                Finding(kind="near duplicates", status="not_checked", count=0, n_looked_at=800,
                        sentence="near duplicates: too coarse"),
                Finding(kind="label noise", status="warn", count=3, n_looked_at=800,
                        sentence="label noise: 5.1% of the labels are wrong", examples=(suspect,)),
            ),
        ),
        **changes,
    )  # fmt: skip


PICTURES = {("validation", 3): picture(), ("train", 5): picture("jpeg"), ("train", 9): picture()}


def test_every_kind_is_a_row_with_status_count_and_share() -> None:
    html = findings_section(some_findings(), PICTURES)
    text = re.sub(r"\s+", " ", Parsed(html).text)

    assert re.search(r"exact leakage ?FAIL ?14 ?200 ?7% ?14 of 200 same image", text)
    assert re.search(r"near duplicates ?not checked ?too coarse", text)
    assert "FAIL: exact leakage, label noise" in text
    assert "5,123 rows a second" in text
    assert "Fingerprint 0123456789abcdef" in text
    assert "and 13 more" in text


def test_worst_rows_show_pictures_labels_suggestion_probability_and_source() -> None:
    html = findings_section(some_findings(), PICTURES)
    text = re.sub(r"\s+", " ", Parsed(html).text)

    assert "cat → dog?" in text
    assert ">99% likely wrong" in text
    assert "train 9 · source 1,009" in text
    assert "cat / dog" in text
    assert html.index("Exact leakage</h3>") < html.index("Label noise</h3>")


def test_pictures_are_data_uris_of_their_own_type_and_nothing_else_is_fetched() -> None:
    parsed = Parsed(findings_section(some_findings(), PICTURES))

    sources = [value or "" for name, value in parsed.attributes if name == "src"]
    assert [source.partition(";")[0] for source in sources] == ["data:image/png", "data:image/jpeg", "data:image/png"]
    assert all(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).size == (8, 8) for source in sources)
    assert {"link", "script", "iframe"}.isdisjoint(parsed.tags)
    assert not [value for name, value in parsed.attributes if name == "href"]


def test_without_pictures_the_rows_are_told_in_words() -> None:
    parsed = Parsed(findings_section(some_findings()))

    assert "img" not in parsed.tags
    assert "validation 3 · source 1,003" in parsed.text


def test_markup_in_labels_and_sentences_never_becomes_markup() -> None:
    parsed = Parsed(findings_section(some_findings(label=ATTACK, what=ATTACK), PICTURES))

    assert "script" not in parsed.tags
    assert len([tag for tag in parsed.tags if tag == "img"]) == len(PICTURES)
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]
    assert parsed.text.count("<script>alert(1)</script>") >= 4


def test_markdown_takes_markup_literally_and_keeps_its_tables_whole() -> None:
    text = findings_markdown(some_findings(label=ATTACK, what=ATTACK))

    assert "<script>" not in text
    assert r"\*\*bold\*\* \[link\](javascript:x)" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {7}


def test_markdown_begins_with_the_status_and_names_examples() -> None:
    text = findings_markdown(some_findings())

    assert text.splitlines()[0] == "### Data quality: FAIL: exact leakage, label noise"
    assert "- validation 3 · source 1,003 (as train 5 · source 1,005): cat / dog, same image" in text
    assert "5.1% of the labels are wrong" in text


@pytest.mark.parametrize(
    ("status", "said"), [("pass", "nothing found that gives cause"), ("not_checked", "nothing could be looked at")]
)
def test_clean_and_unchecked_data_say_so(status, said: str) -> None:
    only = Finding(kind="odd sizes", status=status, count=0, n_looked_at=10, sentence="odd sizes: none")

    assert said in findings_section(some_findings(findings=(only,), noise=None))


def test_a_weak_model_is_named_as_the_reason_for_an_upper_estimate() -> None:
    found = some_findings()
    assert found.noise is not None

    html = findings_section(replace(found, noise=replace(found.noise, is_upper_estimate=True, model_accuracy=0.36)))

    assert "right on 36% of the rows only" in html


def test_a_prefix_is_said_to_be_one() -> None:
    html = findings_section(some_findings(n_images_looked_at={"train": 80, "validation": 20}))

    assert "the first 100 in nested order, a stratified sample" in html
