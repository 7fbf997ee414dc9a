"""Answering and promoting: who may start what, on which inputs, and from where the answer may come."""

from __future__ import annotations

import json
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.approval import Answer, answer_template
from orchestrator.cli import scale, waiting
from orchestrator.cli.compose import read_experiment, utc_now
from orchestrator.cli.console import Narrator
from orchestrator.cli.waiting import wait_for_answer
from orchestrator.errors import LockedError
from orchestrator.tracking.journal import Journal
from orchestrator.tracking.mlflow_layout import APPROVAL, APPROVAL_ANSWER, APPROVAL_STATE
from orchestrator.tracking.mlflow_store import connect
from orchestrator.tracking.mlflow_tracker import MlflowTracker
from orchestrator.tracking.review_store import ReviewRun, find_run, open_store

# Raised inside MLflow 3.17 by the SQLAlchemy it brings; our own warnings stay errors.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")


@pytest.fixture(scope="session")
def template_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mlflow") / "template.db"
    connect(f"sqlite:///{path}")
    return path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Full runs that were started; nothing is trained, the last run's outcome is not asked for."""
    runs: list[str] = []

    def run_full(experiment: Any, located: Any, tracker: Any, forecast: Any) -> None:
        approval = experiment.journal.view.approval
        assert approval is not None
        assert approval.decision == "approved"
        runs.append(f"{forecast.candidate.workers} for {approval.by}, {approval.source}, {approval.override}")

    monkeypatch.setattr(scale, "run_full", run_full)
    monkeypatch.setattr(scale, "outcome_text", lambda *_: "done")
    return runs


def uri(work: Any) -> str:
    return f"sqlite:///{work.root}/mlflow.db"


@pytest.fixture
def shown(work: Any, template_database: Path) -> Any:
    """Brings an experiment to the workplace, with the config's own store, and shows its verdict there."""

    def show(run: Path) -> Any:
        work.bring(run)
        shutil.copy(template_database, work.root / "mlflow.db")
        spec, view = read_experiment(str(work.config), "")
        tracker = MlflowTracker(uri(work), journal=view.path)
        tracker.open(spec, view.data, [])
        tracker.verdict_reached(view.verdict, SimpleNamespace(description="", figures={}, html=""))
        assert tracker.close() is None
        return work

    return show


def page(work: Any) -> ReviewRun:
    run = find_run(open_store(uri(work)), "digits")
    assert run is not None
    return run


def write(work: Any, text: str) -> None:
    """What a person does on the run's page."""
    connect(uri(work)).set_tag(page(work).run_id, APPROVAL, text)


def text_for(work: Any, decision: str = "approved", by: str = "Ada", reason: str = "worth it") -> str:
    verdict = Journal.read(work.run).verdict
    assert verdict is not None
    return answer_template(verdict, decision).replace("YOUR NAME", by).replace("REASON", reason)


# --- approve, reject ------------------------------------------------------------------------------------------------


def test_a_verdict_to_hold_is_approved_only_with_a_reason_which_is_recorded(work: Any, evidence: Any) -> None:
    work.bring(evidence.hold)
    refused = work.refused("approve", work.config, "--by", "Ada", exit_code=1)
    assert "the verdict is HOLD, not PROMOTE" in refused
    assert refused.endswith("to start all the same, give --override REASON, which is recorded")

    told = work.ask("approve", work.config, "--by", "Ada", "--override", "the launch is on Friday")

    assert told.exit_code == 0, told.stderr
    approval = Journal.read(work.run).approval
    assert approval is not None
    assert (approval.override, approval.source) == ("the launch is on Friday", "command line")
    assert "override: the launch is on Friday" in work.ask("history", "--runs-dir", work.runs_dir).stdout


def test_a_verdict_to_hold_is_rejected_without_ado(work: Any, evidence: Any) -> None:
    work.bring(evidence.hold)

    assert work.ask("reject", work.config, "--by", "Ada").exit_code == 0

    approval = Journal.read(work.run).approval
    assert approval is not None
    assert (approval.decision, approval.override) == ("rejected", None)


def test_an_override_that_was_recorded_lets_the_full_run_start(work: Any, evidence: Any, started: list[str]) -> None:
    work.bring(evidence.hold)
    work.write({"decision.min_gain_per_dollar": Journal.read(work.run).spec.decision.min_gain_per_dollar})
    work.ask("approve", work.config, "--by", "Ada", "--override", "the launch is on Friday")

    found = work.ask("promote", work.config)

    assert found.exit_code == 0, found.stderr
    assert started == ["1 for Ada, command line, the launch is on Friday"]


# --- inputs that changed --------------------------------------------------------------------------------------------


def test_a_changed_config_is_named_and_needs_a_new_verdict(measured: Any) -> None:
    measured.answer("approved")
    measured.write({"decision.min_gain_per_dollar": 0.25})

    message = measured.refused("promote", measured.config, exit_code=1)

    assert "the inputs changed since the verdict, so an approval of it does not hold" in message
    assert "config: decision.min_gain_per_dollar was 0.0, is 0.25" in message
    assert "`sweep` again for a new verdict" in message


def test_a_changed_price_is_named(measured: Any) -> None:
    measured.answer("approved")
    measured.write({"pricing.usd_per_worker_hour": 2.0})

    assert "config: pricing.usd_per_worker_hour was 1.0, is 2.0" in measured.refused(
        "promote", measured.config, exit_code=1
    )


def test_a_name_a_store_and_another_folder_change_no_inputs(measured: Any, started: list[str]) -> None:
    measured.answer("approved")
    measured.write(
        {"tracking": {"uri": f"sqlite:///{measured.root}/other.db"}, "resources": {"max_concurrent_trials": 1}}
    )

    found = measured.ask("promote", measured.config)

    assert found.exit_code == 0, found.stderr
    assert started == ["1 for Ada, command line, None"]


def test_trials_measured_after_the_verdict_are_named(measured: Any) -> None:
    measured.answer("approved")
    result = Journal.read(measured.run).results[0]
    with Journal.open(measured.run, now=utc_now) as journal:
        journal.append("trial", replace(result, cost_usd=result.cost_usd * 2))

    assert "evidence: 1 trial was measured since" in measured.refused("promote", measured.config, exit_code=1)


def test_after_a_full_run_the_next_needs_a_verdict_of_its_own(work: Any, evidence: Any) -> None:
    work.bring(evidence.outcome)

    message = work.refused("promote", work.config, "-y", exit_code=1)

    assert "evidence: a full run ended since" in message
    assert "each full run needs a verdict and an approval of its own" in message


def test_a_full_run_that_crashed_goes_on_with_its_own_approval_though_prices_changed(
    measured: Any, started: list[str]
) -> None:
    measured.answer("approved")
    verdict = Journal.read(measured.run).verdict
    assert verdict is not None
    with Journal.open(measured.run, now=utc_now) as journal:
        journal.append("full_run_started", {"candidate": verdict.best.candidate, "forecast": verdict.best})
    measured.write({"pricing.usd_per_worker_hour": 2.0})

    found = measured.ask("promote", measured.config)

    assert found.exit_code == 0, found.stderr
    assert "going on with the full run that was started and has not ended" in found.stderr
    assert started == ["1 for Ada, command line, None"]


# --- the tag in MLflow ----------------------------------------------------------------------------------------------


def test_an_approval_written_in_mlflow_is_recorded_and_starts_the_full_run(
    shown: Any, evidence: Any, started: list[str]
) -> None:
    work = shown(evidence.promote)
    write(work, text_for(work))

    found = work.ask("promote", work.config)

    assert found.exit_code == 0, found.stderr
    assert started == ["1 for Ada, MLflow tag, None"]
    approval = Journal.read(work.run).approval
    assert approval is not None
    assert (approval.source, approval.by, approval.reason) == ("MLflow tag", "Ada", "worth it")
    assert page(work).tags[APPROVAL_STATE] == "approved"


@pytest.mark.parametrize("text", ["approved 00000000 by Ada: worth it", "approved", "yes", "approved CODE by Ada: ok"])
def test_a_text_that_is_no_answer_to_this_verdict_starts_nothing_and_is_told_back(
    shown: Any, evidence: Any, started: list[str], text: str
) -> None:
    work = shown(evidence.promote)
    write(work, text)

    found = work.ask("promote", work.config)

    assert found.exit_code == 1
    assert "not understood: " in found.stderr
    assert page(work).tags[APPROVAL_ANSWER].startswith("not understood: ")
    assert page(work).tags[APPROVAL] == text
    assert Journal.read(work.run).approval is None
    assert started == []


def test_a_rejection_written_in_mlflow_stops_what_the_command_line_approved(
    shown: Any, evidence: Any, started: list[str]
) -> None:
    work = shown(evidence.promote)
    work.answer("approved")
    write(work, text_for(work, "rejected", "Bo", "the labels are dirty"))

    found = work.ask("promote", work.config)

    assert found.exit_code == 1
    assert "Bo rejected this verdict: the labels are dirty" in found.stderr
    assert started == []
    work.answer("approved")
    assert work.ask("promote", work.config).exit_code == 0
    assert started == ["1 for Ada, command line, None"], "the same text is not read twice"


def test_an_old_approval_in_the_tag_does_not_lift_a_rejection(shown: Any, evidence: Any, started: list[str]) -> None:
    work = shown(evidence.promote)
    write(work, text_for(work))
    work.answer("rejected", "on second thought")

    found = work.ask("promote", work.config)

    assert found.exit_code == 1
    assert "rejected this verdict" in found.stderr
    assert page(work).tags[APPROVAL_ANSWER].startswith("not taken up: Ada rejected this verdict")
    assert started == []


# --- waiting --------------------------------------------------------------------------------------------------------


def later(act: Any, *args: Any) -> threading.Thread:
    thread = threading.Thread(target=lambda: (time.sleep(0.5), act(*args)))
    thread.start()
    return thread


def test_waiting_ends_when_somebody_approves_in_mlflow(
    shown: Any, evidence: Any, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "POLL_S", 0.1)
    work = shown(evidence.promote)
    thread = later(write, work, text_for(work))

    found = work.ask("promote", work.config, "--wait", "--timeout-s", "120")
    thread.join()

    assert found.exit_code == 0, found.stderr
    assert "waiting for an answer to: PROMOTE" in found.stderr
    assert f"set the tag approval of http://127.0.0.1:5000/{page(work).path}" in found.stderr
    verdict = Journal.read(work.run).verdict
    assert verdict is not None
    assert f"to:  {answer_template(verdict)}" in found.stderr
    assert started == ["1 for Ada, MLflow tag, None"]


def test_waiting_ends_when_somebody_answers_in_another_terminal_though_mlflow_is_away(
    work: Any, evidence: Any, started: list[str]
) -> None:
    work.bring(evidence.promote)
    work.write({"tracking": {"uri": "http://127.0.0.1:9"}})
    thread = later(work.answer, "rejected", "too dear")

    found = work.ask("promote", work.config, "--wait")
    thread.join()

    assert found.exit_code == 11
    assert found.stderr.count("cannot be reached") == 1
    assert "rejected by Ada (command line): too dear; nothing was started" in found.stderr
    assert started == []


def test_waiting_has_an_end_when_asked(shown: Any, evidence: Any) -> None:
    work = shown(evidence.promote)

    found = work.ask("promote", work.config, "--wait", "--timeout-s", "0")

    assert found.exit_code == 12
    assert "nobody answered within 0 s" in found.stderr
    assert Journal.read(work.run).approval is None


def test_an_answer_waits_for_whoever_holds_the_run_folder(shown: Any, evidence: Any) -> None:
    work = shown(evidence.promote)
    write(work, text_for(work))
    spec, _ = read_experiment(str(work.config), "")
    tries: list[Answer] = []

    def record(answer: Answer) -> None:
        tries.append(answer)
        if len(tries) == 1:
            raise LockedError("in use by process 1")
        work.answer("approved")

    approval = wait_for_answer(spec, work.run, Narrator(), record=record, timeout_s=60, poll_s=0.01)

    assert approval.decision == "approved"
    assert len(tries) == 2


def test_a_page_that_shows_another_verdict_is_brought_up_to_date_once(shown: Any, evidence: Any) -> None:
    work = shown(evidence.promote)
    connect(uri(work)).set_tag(page(work).run_id, "orchestrator.inputs_digest", "another")
    spec, _ = read_experiment(str(work.config), "")
    shows: list[int] = []

    with pytest.raises(SystemExit):
        wait_for_answer(
            spec, work.run, Narrator(), record=lambda _: None, show=lambda: shows.append(1), timeout_s=0.3, poll_s=0.05
        )

    assert shows == [1]


@pytest.mark.parametrize("option", [["-y"], ["--override", "because"]])
def test_an_answer_and_waiting_for_one_exclude_each_other(measured: Any, option: list[str]) -> None:
    assert "--wait waits for somebody's answer" in measured.refused(
        "promote", measured.config, "--wait", *option, exit_code=2
    )


# --- from another machine -------------------------------------------------------------------------------------------


def test_status_and_history_are_read_from_mlflow_alone(shown: Any, evidence: Any) -> None:
    work = shown(evidence.promote)
    there = work.ask("status", "digits", "--runs-dir", work.runs_dir, "--format", "json")
    shutil.rmtree(work.run)

    found = work.ask("status", "digits", "--tracking-uri", uri(work), "--format", "json")
    log = work.ask("history", "digits", "--tracking-uri", uri(work), "--format", "json")

    assert found.exit_code == 0, found.stderr
    here = json.loads(found.stdout)
    assert here.pop("journal") == f"a copy in MLflow, {uri(work)}"
    assert here == {key: value for key, value in json.loads(there.stdout).items() if key != "journal"}
    assert [each["event"] for each in json.loads(log.stdout)["decisions"]] == ["verdict PROMOTE"]
    assert not work.run.exists()


def test_a_store_that_cannot_be_one_is_refused(work: Any) -> None:
    message = work.refused("status", "digits", "--tracking-uri", "mlruns", exit_code=2)

    assert "is a plain folder" in message


# --- verify ---------------------------------------------------------------------------------------------------------


def test_history_verifies_every_journal_against_itself_and_mlflow(shown: Any, evidence: Any) -> None:
    work = shown(evidence.promote)
    shutil.copytree(work.run, work.runs_dir / "other")

    found = work.ask("history", "--verify", "--runs-dir", work.runs_dir, "--tracking-uri", uri(work))
    lines = len(Journal.read(work.run).entries)
    assert found.exit_code == 2, "one store, but which experiment?"
    found = work.ask("history", "digits", "--verify", "--runs-dir", work.runs_dir, "--tracking-uri", uri(work))

    assert found.exit_code == 0, found.stdout
    assert found.stdout == (
        "digits: nothing was altered\n"
        f"  agrees: chain of {lines} lines, journal.seal (line {lines}), MLflow's seal (line {lines})\n"
    )

    path = work.runs_dir / "other" / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b"PROMOTE", b"REJECT!", 1))
    store = ("--runs-dir", work.runs_dir, "--tracking-uri", uri(work))
    assert work.ask("history", "digits", "--verify", *store).exit_code == 0
    both = work.ask("history", "--verify", "--runs-dir", work.runs_dir)
    assert both.exit_code == 1
    assert "other: FOUND; line " in both.stdout


def test_a_journal_that_is_gone_is_found(measured: Any) -> None:
    (measured.run / "journal.jsonl").unlink()

    found = measured.ask("history", "--verify", "--runs-dir", measured.runs_dir, "--format", "json")

    assert found.exit_code == 1
    assert "was written and is missing" in json.loads(found.stdout)["digits"]["findings"][0]
