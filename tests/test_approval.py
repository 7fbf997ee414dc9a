"""A text in MLflow's tag answers the verdict that its writer saw, or nothing at all."""

from __future__ import annotations

import random
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.approval import (
    Answer,
    NotUnderstood,
    answer_template,
    answered_text,
    approval_instructions,
    approval_prompt,
    is_own_text,
    parse_answer,
)

samples = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "tracking" / "samples.py")))
PROMOTE = samples.verdict()  # its inputs' digest is ab12cd34ef56ab78
HOLD = samples.verdict("HOLD", probability=0.55)


@pytest.mark.parametrize(
    "text",
    [
        "approved ab12cd34 by Ada Lovelace: worth it",
        "  APPROVED   AB12CD34\tby  Ada   Lovelace :  worth it  ",
        "Approve `ab12cd34` by Ada Lovelace: worth it",
        "approved: ab12cd34, by Ada Lovelace: worth it",
        "approved ab12cd34ef56 by Ada Lovelace:\nworth it",
        "approved ab12cd34 BY Ada Lovelace override: worth it",
    ],
)
def test_an_approval_is_understood_whatever_its_case_and_spaces(text: str) -> None:
    assert parse_answer(text, PROMOTE) == Answer(decision="approved", by="Ada Lovelace", reason="worth it")


def test_a_rejection_names_the_same_code_and_needs_no_override() -> None:
    expected = Answer(decision="rejected", by="Bo", reason="dirty: labels")

    assert parse_answer("rejected ab12cd34 by Bo: dirty: labels", PROMOTE) == expected
    assert parse_answer("reject ab12cd34 by Bo: dirty: labels", HOLD) == expected


def test_a_verdict_to_hold_is_approved_only_with_the_word_override() -> None:
    refused = parse_answer("approved ab12cd34 by Ada: the launch is on Friday", HOLD)
    taken = parse_answer("approved ab12cd34 by Ada override: the launch is on Friday", HOLD)

    assert isinstance(refused, NotUnderstood)
    assert "needs the word override" in refused.why
    assert taken == Answer(
        decision="approved", by="Ada", reason="the launch is on Friday", override="the launch is on Friday"
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "approved 99999999 by Ada: worth it",
            "this code is of an earlier verdict, or mistyped; the one now is ab12cd34",
        ),
        ("approved ab12cd by Ada: worth it", "the one now is ab12cd34"),
        ("approved ab12cd34ef56ab78ff by Ada: worth it", "the one now is ab12cd34"),
        ("approved by Ada: worth it", "the code of the verdict is missing"),
        ("approved", "the code of the verdict is missing"),
        ("approved ab12cd34", "your name is missing"),
        ("approved ab12cd34 by : worth it", "your name is missing"),
        ("approved ab12cd34 by override: worth it", "your name is missing"),
        ("approved ab12cd34 by YOUR NAME: worth it", "your name is missing"),
        ("approved ab12cd34 Ada: worth it", "your name is missing"),
        (f"approved ab12cd34 by {'A' * 101}: worth it", "your name is missing"),
        ("approved ab12cd34 by Ada", "the reason is missing"),
        ("approved ab12cd34 by Ada:", "the reason is missing"),
        ("approved ab12cd34 by Ada: REASON", "the reason is missing"),
        ("ok", "begins with the word approved or rejected"),
        ("not approved ab12cd34 by Ada: no", "begins with the word approved or rejected"),
        ("approvedab12cd34 by Ada: x", "begins with the word approved or rejected"),
        ("unapproved ab12cd34 by Ada: x", "begins with the word approved or rejected"),
    ],
)
def test_anything_else_is_told_back_with_what_to_write(text: str, why: str) -> None:
    found = parse_answer(text, PROMOTE)

    assert isinstance(found, NotUnderstood)
    assert why in found.why
    assert "ab12cd34 by YOUR NAME: REASON" in found.why


@pytest.mark.parametrize("verdict", [PROMOTE, HOLD, samples.verdict("REJECT", probability=0.05)])
def test_what_we_write_into_the_tag_is_never_an_answer(verdict) -> None:
    ours = ["", "  ", approval_prompt(verdict), answered_text(samples.approval()), "pending", "not needed"]

    assert [parse_answer(text, verdict) for text in ours] == [None] * len(ours)
    assert all(is_own_text(text) for text in ours)


@pytest.mark.parametrize("verdict", [PROMOTE, HOLD])
def test_the_text_to_paste_is_an_answer_once_name_and_reason_are_filled_in(verdict) -> None:
    filled = answer_template(verdict).replace("YOUR NAME", "Ada").replace("REASON", "worth it")

    assert isinstance(parse_answer(answer_template(verdict), verdict), NotUnderstood)
    found = parse_answer(filled, verdict)
    assert isinstance(found, Answer)
    assert (found.override is None) == (verdict.kind == "PROMOTE")


def test_the_instructions_show_the_texts_for_this_verdict() -> None:
    assert "```\napproved ab12cd34 by YOUR NAME: REASON\n```" in approval_instructions(PROMOTE)
    assert "`rejected ab12cd34 by YOUR NAME: REASON`" in approval_instructions(PROMOTE)
    assert "```\napproved ab12cd34 by YOUR NAME override: REASON\n```" in approval_instructions(HOLD)
    assert "The verdict is HOLD" in approval_instructions(HOLD)


def test_characters_that_do_not_print_do_not_get_into_name_or_reason() -> None:
    found = parse_answer("approved ab12cd34 by A\x1b[31mda\u202e: wor\u200bth\x07 it", PROMOTE)

    assert found == Answer(decision="approved", by="A[31mda", reason="worth it")


@given(text=st.text(max_size=80))
def test_no_text_whatever_answers_a_verdict_whose_code_it_does_not_hold(text: str) -> None:
    found = parse_answer(f"approved {text}", replace(PROMOTE, inputs_digest="0123456789abcdef"))

    assert isinstance(found, NotUnderstood) or "01234567" in text


def test_a_good_answer_with_one_character_of_its_code_changed_answers_nothing() -> None:
    rng = random.Random(0)
    for _ in range(200):
        code = list("ab12cd34")
        place = rng.randrange(8)
        code[place] = rng.choice([c for c in "0123456789abcdef" if c != code[place]])
        assert isinstance(parse_answer(f"approved {''.join(code)} by Ada: worth it", PROMOTE), NotUnderstood)
