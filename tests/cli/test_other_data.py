"""A journal of one data set, asked about another: both are named, and nothing is mixed or dropped unsaid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.cli.compose import utc_now, versions
from orchestrator.tracking.journal import Journal

OTHER = "0ther0ther0ther0"


@pytest.fixture
def changed(work: Any, evidence: Any) -> Any:
    """An experiment whose data was changed after its sweep, as its journal has it."""
    place = work.bring(evidence.promote)
    with Journal.open(place.run, now=utc_now) as journal:
        view = journal.view
        facts = {"spec": view.spec, "versions": versions(), "config": str(place.config)}
        journal.append("experiment", {**facts, "data": replace(view.data, fingerprint=OTHER)})
    return place


@pytest.fixture
def mixed(work: Any, evidence: Any) -> Any:
    """An experiment that also holds a trial of other data."""
    place = work.bring(evidence.promote)
    with Journal.open(place.run, now=utc_now) as journal:
        old = replace(journal.view.results[0], key="another", scope="another", fingerprint=OTHER)
        journal.append("trial", old)
    return place


@pytest.mark.parametrize("command", [("decide",), ("what-if", "budget.max_cost_usd=3"), ("report",)])
def test_a_question_about_data_without_trials_is_refused_with_both_digests(
    changed: Any, command: tuple[str, ...]
) -> None:
    first, *rest = command
    old = Journal.read(changed.run).results[0].fingerprint

    message = changed.refused(first, changed.run, *rest, exit_code=1)

    n = changed.N_TRIALS
    assert message.startswith(f"the journal holds {n} finished trials of data {old}, and 0 finished trials of the data")
    assert f"at hand, {OTHER}: they are never fitted together" in message
    assert "under another experiment name" in message
    assert "put the old data back" in message


@pytest.mark.parametrize("command", [("decide",), ("what-if", "budget.max_cost_usd=3"), ("report",)])
def test_trials_of_other_data_are_left_out_with_a_warning(mixed: Any, command: tuple[str, ...]) -> None:
    first, *rest = command

    answer = mixed.ask(first, mixed.run, *rest)

    assert answer.exit_code == 0
    assert (
        f"warning: the journal holds 1 finished trial of data {OTHER}, and 15 finished trials of the" in answer.stderr
    )


def test_the_verdict_itself_says_what_was_left_out(mixed: Any) -> None:
    own = Journal.read(mixed.run).data.fingerprint

    shown = " ".join(mixed.ask("decide", mixed.run).stdout.split())
    assert f"trials left out: 1 of data {OTHER}, for this is data {own}" in shown
    assert f"1 finished trial of data {OTHER}" in mixed.ask("status", mixed.run).stdout


def test_points_of_two_fingerprints_are_not_fitted_together(work: Any) -> None:
    path = work.root / "points.csv"
    rows = [f"{n},{0.9 - 5 / n},{'aa' if n < 400 else 'bb'}" for n in (100, 200, 400, 800)]
    path.write_text("\n".join(["n,accuracy,fingerprint", *rows]))

    assert work.refused("fit", path, "--target-n", "1600", exit_code=2) == (
        f"{path}: points of 2 data fingerprints, which are never fitted together: aa (2 rows, first 2), "
        "bb (2 rows, first 4); keep the rows of one of them"
    )
    path.write_text(path.read_text().replace("bb", "aa"))
    assert work.ask("fit", path, "--target-n", "1600").exit_code == 0
