"""Verdicts side by side, and one key over several values."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from orchestrator.report.comparison import (
    DIFFERS,
    comparison_markdown,
    comparison_rows,
    comparison_text,
    differences,
    grid_header,
    grid_row,
    is_same_answer,
)

many = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("many.py"))))


def of(rows: list[tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {name.strip(): (mark, *values) for mark, name, *values in rows}


def test_rows_are_marked_where_the_last_two_verdicts_differ() -> None:
    first = many.verdict("PROMOTE")
    other = replace(many.verdict("HOLD"), threshold=0.008)

    rows = of(comparison_rows([other, first, other]))

    assert rows["verdict"] == (DIFFERS, "HOLD", "PROMOTE", "HOLD")
    assert rows["threshold"] == (DIFFERS, "0.8 points/$", "0.4 points/$", "0.8 points/$")
    assert rows["candidate"][0] == ""
    assert rows["measure next"][3].startswith("2 more seeds of cnn")
    assert of(comparison_rows([other, first, first]))["verdict"][0] == ""


def test_lines_of_the_bill_appear_only_where_they_differ() -> None:
    left = many.verdict()
    right = replace(left, best=replace(left.best, bill=many.samples.bill(4000.0, 2)))

    assert "compute" not in of(comparison_rows([left, left]))
    assert of(comparison_rows([left, right]))["compute"][0] == DIFFERS


def test_two_verdicts_read_the_same_though_their_inputs_differ() -> None:
    verdict = many.verdict()

    assert is_same_answer(verdict, replace(verdict, inputs_digest="another"))
    assert not is_same_answer(verdict, replace(verdict, kind="HOLD"))
    assert not is_same_answer(verdict, replace(verdict, probability=verdict.probability - 1e-6))


def test_text_and_markdown_show_the_frontier_and_the_suppositions_under_the_change() -> None:
    named = [("standing", many.verdict("HOLD")), ("what if", many.verdict("PROMOTE"))]

    text, markdown = comparison_text(named), comparison_markdown(named)

    assert "what if: candidates" in text
    assert "supposed, not measured\n  2% of the labels" in text
    assert "| verdict | HOLD | **PROMOTE** |" in markdown
    for shown in (text, markdown):
        assert "recommended" in shown
        assert "best of resnet" in shown
        assert "within the noise between seeds" in shown


def test_differences_name_quantity_from_and_to() -> None:
    found = differences(many.verdict("HOLD"), many.verdict("PROMOTE"))

    assert {"quantity": "verdict", "from": "HOLD", "to": "PROMOTE"} in found
    assert {each["quantity"] for each in found} == {"verdict", "measure next"}


def test_a_grid_has_a_cell_for_each_header() -> None:
    assert len(grid_row(("1", "[2]"), many.verdict())) == len(grid_header(("a", "b")))
