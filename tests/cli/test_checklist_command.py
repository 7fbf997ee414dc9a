"""``checklist``: before any sweep, after one, and with an item that fails."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.cli.compose import utc_now
from orchestrator.results import Drill
from orchestrator.tracking.journal import Journal


def items(answer: Any) -> dict[str, dict[str, Any]]:
    """Code of the item to item, of the only candidate."""
    (found,) = json.loads(answer.stdout)["checklists"]
    return {item["name"].split()[0]: item for item in found["items"]}


def drilled(work: Any, *, passed: bool = True, names: tuple[Any, ...] = ("alert", "restart", "restore")) -> None:
    with Journal.open(work.run, now=utc_now) as journal:
        for name in names:
            journal.append("drill", Drill(name=name, passed=passed, evidence="as rehearsed", at="2026-11-24T00:00:00"))


def test_before_any_sweep_nothing_is_passed_that_nobody_measured(work: Any) -> None:
    answer = work.ask("checklist", work.config, "--format", "json", "--exit-code")

    found = items(answer)
    assert {code: item["status"] for code, item in found.items()} == {
        "C1": "not_checked", "C2": "warn", "C3": "fail", "C4": "not_checked", "C5": "not_checked",
    }  # fmt: skip
    assert answer.exit_code == 13
    assert not work.run.exists()


def test_after_a_sweep_the_items_are_of_the_candidate_with_evidence_and_ways_out(work: Any, evidence: Any) -> None:
    work.bring(evidence.promote)

    answer = work.ask("checklist", "digits", "--runs-dir", work.runs_dir, "--format", "json", "--exit-code")

    found = items(answer)
    assert answer.exit_code == 0
    assert found["C3"]["status"] == "pass"
    assert "backtest held: the smaller sizes foretold" in found["C3"]["evidence"]
    assert "with data a step" in found["C1"]["evidence"]  # the probe was found in the journal
    assert found["C5"]["status"] == "pass"
    assert {item["way_out"] is None for item in found.values() if item["status"] == "pass"} == {True}
    assert {item["way_out"] is None for item in found.values() if item["status"] != "pass"} == {False}


@pytest.mark.parametrize(
    ("form", "head"), [("table", "checklist of digits: linear on"), ("md", "## Checklist of digits: linear on")]
)
def test_text_and_markdown_name_the_candidate_and_all_five(work: Any, evidence: Any, form: str, head: str) -> None:
    work.bring(evidence.promote)

    answer = work.ask("checklist", work.config, "--format", form)

    assert answer.stdout.startswith(head)
    assert [f"C{n} " in answer.stdout for n in range(1, 6)] == [True] * 5
    assert "nothing fails" in answer.stdout


def test_drills_in_the_journal_count_and_a_failed_one_holds_the_promotion(work: Any, evidence: Any) -> None:
    work.bring(evidence.promote)

    work.write({"alerts": [{"url": "$HOOK"}]})
    drilled(work)
    passed = work.ask("checklist", work.config, "--format", "json", "--exit-code")
    drilled(work, passed=False, names=("restart",))
    failed = work.ask("checklist", work.config, "--exit-code")

    assert (items(passed)["C4"]["status"], passed.exit_code) == ("pass", 0)
    assert failed.exit_code == 13
    assert "C4 fails: `promote` refuses without --override REASON" in failed.stdout


def test_the_answer_of_a_person_is_part_of_what_it_is_worth(work: Any, evidence: Any) -> None:
    work.bring(evidence.promote)

    work.answer("approved", "worth a cent")
    approved = work.ask("checklist", work.config, "--format", "json")
    work.answer("rejected", "not this week")
    rejected = work.ask("checklist", work.config, "--format", "json")

    assert items(approved)["C5"]["evidence"].endswith("approved by Ada: worth a cent")
    assert items(rejected)["C5"]["status"] == "fail"


def test_overrides_are_asked_about_and_not_recorded(work: Any, evidence: Any) -> None:
    work.bring(evidence.promote)

    answer = work.ask("checklist", work.config, "decision.min_gain_per_dollar=1e9", "--format", "json")

    assert items(answer)["C5"]["status"] == "fail"
    assert items(work.ask("checklist", work.config, "--format", "json"))["C5"]["status"] == "pass"


def test_an_unknown_experiment_is_said_to_be_unknown(work: Any) -> None:
    assert work.refused("checklist", "nobody", "--runs-dir", work.runs_dir, exit_code=2).startswith(
        "no experiment 'nobody' in "
    )
