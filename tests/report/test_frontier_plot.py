"""The frontier as a picture."""

from __future__ import annotations

import io
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from orchestrator.report.frontier_plot import frontier_figure

many = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("many.py"))))


def test_the_picture_says_in_words_what_it_shows() -> None:
    alt = frontier_figure(many.verdict()).alt

    assert "1. linear on 50% of the data, 1 worker, spot: -2.93 points for $0.23" in alt
    assert "knee: cnn on 50% of the data, 1 worker, spot" in alt
    assert "recommended: cnn on 2x of today's data, 1 worker, spot" in alt
    assert "a run pays above the dashed line, 0.4 points/$" in alt


def test_without_a_frontier_there_is_no_picture() -> None:
    assert frontier_figure(replace(many.verdict(), frontier=None)) is None
    assert frontier_figure(many.samples.verdict()) is None


@pytest.mark.parametrize("threshold", [0.0, 0.004, 1e9])
def test_any_threshold_draws_and_a_line_that_is_not_in_the_picture_is_told(threshold: float) -> None:
    drawing = frontier_figure(replace(many.verdict(), threshold=threshold))

    pixels = np.asarray(Image.open(io.BytesIO(drawing.png)).convert("L"))
    assert 0.02 < float((pixels < 250).mean()) < 0.5
    assert ("steeper than the picture" in drawing.alt) == (threshold == 1e9)


def test_one_candidate_and_free_candidates_draw() -> None:
    verdict = many.verdict()
    only = replace(
        verdict, candidates=(verdict.best,),
        frontier=replace(verdict.frontier, candidates=(verdict.best.candidate,), knee=None),
    )  # fmt: skip
    free = replace(verdict.best, cost_usd=many.Interval(low=0.0, median=0.0, high=0.0, mean=0.0))

    assert "no knee" in frontier_figure(only).alt
    assert frontier_figure(replace(only, candidates=(free,), best=free)).svg.startswith("<svg")


def test_a_hostile_name_of_a_model_is_a_label_and_nothing_else() -> None:
    verdict = many.verdict()
    name = "_$x$<script>alert(1)</script>--><b>"
    renamed = tuple(
        replace(c, candidate=replace(c.candidate, model=name)) if c.candidate.model == "resnet" else c
        for c in verdict.candidates
    )

    drawing = frontier_figure(replace(verdict, candidates=renamed, curves=()))

    assert "<script" not in drawing.svg
    assert "<b>" not in drawing.svg
