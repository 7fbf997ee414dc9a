"""What MLflow shows: the verdict in one minute, never longer than a tag, never cut inside a table."""

from __future__ import annotations

import re
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.approval import approval_instructions
from orchestrator.report.description import MAX_CHARACTERS, description
from orchestrator.report.history import NO_HISTORY
from orchestrator.results import CheckItem, Veto

many = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("many.py"))))
ATTACK = "<script>alert(1)</script> [x](javascript:alert(2)) ![y](javascript:alert(3)) | a\nb `c` <img src=x onerror=d>"


def tables(text: str) -> list[list[str]]:
    """Runs of lines that are rows of a table."""
    blocks, block = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            block.append(line)
        elif block:
            blocks.append(block)
            block = []
    return blocks


def cells(line: str) -> int:
    return len(re.split(r"(?<!\\)\|", line)) - 2


def long_verdict(size: int, letters: str):
    """Every text of people as long as this."""
    text = letters * (size // len(letters))
    veto = Veto(name=f"veto {text}", reason=text, way_out=text)
    item = CheckItem(name="an item", status="warn", evidence=text)
    return replace(
        many.verdict("HOLD"), reason=text, preference=text, next_step=text, baseline_source=text, vetoes=(veto,) * 3,
        checklist=(item,) * 8, assumptions=(text,) * 4,
    )  # fmt: skip


def test_the_first_lines_are_verdict_preference_and_what_to_do() -> None:
    text = description(many.verdict("HOLD"), None, many.history(), figures=("frontier",))

    first, _, second, _, third, *_ = text.splitlines()
    assert first.startswith("**HOLD, probability 0.80** (0.90 asked for): ")
    assert second.startswith("resnet on all of the data gains 0.3 points more")
    assert third.startswith("Next: ")
    for expected in ("best of resnet", "knee", "settles the verdict with probability 0.62", "2,874 rows exist",
                     "verdict certain: P = 0.97", "chance to win below 1%", "`figures/frontier.png`"):  # fmt: skip
        assert expected in text
    assert len(text) < 4000


@pytest.mark.parametrize("letters", ["x| ", "&&&", "``` ", "\u4e16\u754c "])
@pytest.mark.parametrize("size", [10, 500, 5000, 100_000])
def test_it_never_outgrows_a_tag_and_never_ends_inside_a_table(size: int, letters: str) -> None:
    text = description(long_verdict(size, letters), None, many.history(), figures=("frontier", "timeline"))

    assert len(text) <= MAX_CHARACTERS
    for table in tables(text):
        assert len({cells(line) for line in table}) == 1
        assert len(table) >= 3
    assert "report.html" in text.splitlines()[-1] or "report.html" in text.splitlines()[-3]


def test_how_to_answer_is_never_left_out_and_stands_before_the_candidates() -> None:
    verdict = many.verdict("HOLD")

    for text in (description(verdict), description(verdict, limit=10)):
        assert approval_instructions(verdict) in text
    assert description(verdict).index("### How to answer") < description(verdict).index("### Candidates")


def test_what_is_left_out_is_the_least_important_and_is_named() -> None:
    whole = description(many.verdict("HOLD"), None, many.history())
    short = description(many.verdict("HOLD"), None, many.history(), limit=len(whole) - 200)

    assert "### Why the sweep ended" in whole
    assert "### Why the sweep ended" not in short
    assert "not here but in the report: why the sweep ended" in short
    assert "### Candidates" in short
    assert "For want of room" not in whole


def test_at_most_eight_candidates_are_told_and_the_marked_ones_are_among_them() -> None:
    verdict = many.verdict()
    wide = replace(verdict.frontier, candidates=tuple(c.candidate for c in verdict.candidates))

    text = description(replace(verdict, frontier=wide))

    [table] = [table for table in tables(text) if "candidate" in table[0]]
    assert len(table) == 2 + 8
    assert any("recommended" in row for row in table)
    assert any("knee" in row for row in table)
    assert "100 more candidates are in the report" in text


def test_texts_of_people_stay_texts() -> None:
    veto = Veto(name=ATTACK, reason=ATTACK, way_out=ATTACK)
    verdict = replace(
        many.verdict("HOLD"), reason=ATTACK, preference=ATTACK, next_step=ATTACK, assumptions=(ATTACK,),
        baseline_source=ATTACK, vetoes=(veto,), inputs_digest=ATTACK,
        checklist=(CheckItem(name=ATTACK, status="fail", evidence=ATTACK),),
    )  # fmt: skip

    text = description(verdict, None, many.history())

    assert "<" not in text
    assert not re.search(r"(?<!\\)\](?=\()", text)
    assert {cells(row) for table in tables(text) for row in table if "script" in row} == {3}


def test_an_old_verdict_without_the_newer_fields_is_told_too() -> None:
    text = description(many.samples.verdict(), many.samples.outcome(), NO_HISTORY)

    assert "### What came of it" in text
    assert "Supposed" not in text
    assert "### Why" not in text
