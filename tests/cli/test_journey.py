"""The commands that read, ask and answer, on evidence that is there."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from orchestrator.spec import ExperimentSpec
from orchestrator.tracking.journal import Journal

SPOT_PRICES = (
    "pricing.usd_per_worker_hour=null", "pricing.instance=gcp/t2d-standard-4", "pricing.region=us-central1",
)  # fmt: skip


def ask(work: Any, *args: str | Path) -> str:
    """The standard output of a command that must succeed on the experiment."""
    command, *rest = args
    found = work.ask(command, "digits", *rest, "--runs-dir", work.runs_dir)
    assert found.exit_code == 0, found.stderr
    return str(found.stdout)


def journal_bytes(work: Any) -> bytes:
    return bytes((work.run / "journal.jsonl").read_bytes())


# --- plan -----------------------------------------------------------------------------------------------------------


def test_a_plan_lists_the_trials_and_trains_nothing(work: Any) -> None:
    found = work.ask("plan", work.config)

    assert found.exit_code == 0
    assert re.search(r"^trials: +15 planned, 0 measured, 15 to run$", found.stdout, re.MULTILINE)
    assert re.search(r"^linear +0\.05 +1 +3$", found.stdout, re.MULTILINE)
    assert "bill of the full run: unknown until the sweep has measured how long training takes" in found.stdout
    assert not work.run.exists()
    assert not (work.root / "mlflow.db").exists()


def test_before_any_trial_a_plan_knows_no_dollars_and_invents_none(work: Any) -> None:
    facts = json.loads(work.ask("plan", work.config, "--format", "json").stdout)["facts"]

    assert facts["sweep dollars left"] == facts["sweep hours left"] == "unknown until a trial of each model has run"


def test_a_dry_run_says_what_plan_says(work: Any) -> None:
    assert work.ask("sweep", work.config, "--dry-run").stdout == work.ask("plan", work.config).stdout


def test_a_plan_prices_what_is_left_by_what_was_measured(measured: Any) -> None:
    found = json.loads(measured.ask("plan", measured.config, "sweep.seeds=4", "--format", "json").stdout)

    assert found["facts"]["trials"] == "20 planned, 15 measured, 5 to run"
    assert found["facts"]["sweep dollars left"].startswith("$")
    assert len(found["trials"]) == 20
    assert found["full_run"]["bill"]["lines"]
    assert {item["name"].split(":")[0] for item in found["checklist"]} == {"linear"}


def test_a_plan_shows_the_bill_of_the_full_run_once_it_can_be_made(work: Any, measured: Any) -> None:
    text = measured.ask("plan", measured.config).stdout

    assert re.search(r"^bill of (linear|cnn) on all of the data", text, re.MULTILINE)
    assert re.search(r"^full run, per hour: +1 worker on-demand \$", text, re.MULTILINE)
    assert "left out: " in text


def test_the_schema_names_every_section_and_accepts_the_config(work: Any) -> None:
    schema = json.loads(work.ask("config", "schema").stdout)

    assert set(schema["properties"]) == {field.name for field in dataclasses.fields(ExperimentSpec)}
    jsonschema.validate(yaml.safe_load(work.config.read_text()), schema)


# --- status, decide -------------------------------------------------------------------------------------------------


def test_status_tells_where_the_experiment_stands(measured: Any) -> None:
    answers = json.loads(ask(measured, "status", "--format", "json"))

    assert answers["trials"] == "15 of 15 finished, 0 failed"
    assert answers["verdict"].startswith("PROMOTE: ")
    assert (answers["approval"], answers["full run"], answers["warnings"]) == ("none", "none", "none")
    assert [line.split("  ")[0] for line in ask(measured, "status").splitlines()] == list(answers)


def test_an_experiment_is_found_by_name_by_folder_and_by_config(measured: Any) -> None:
    by_name = ask(measured, "decide")

    assert measured.ask("decide", measured.run).stdout == by_name
    assert measured.ask("decide", measured.config).stdout == by_name


def test_a_decision_comes_as_text_as_json_and_as_markdown(measured: Any) -> None:
    verdict = json.loads(ask(measured, "decide", "--format", "json"))

    assert verdict["kind"] == "PROMOTE"
    assert 0 <= verdict["probability"] <= 1
    assert verdict["n_trials"] == measured.N_TRIALS
    assert ask(measured, "decide").startswith("PROMOTE  probability ")
    assert ask(measured, "decide", "--format", "md").startswith("**PROMOTE, probability ")


def test_what_if_changes_the_answer_and_not_the_evidence(measured: Any) -> None:
    before = journal_bytes(measured)

    found = measured.ask("decide", measured.run, "decision.min_gain_per_dollar=1e9")

    assert found.stdout.startswith("REJECT  probability 0.00")
    assert "standing verdict: PROMOTE" in found.stderr
    assert journal_bytes(measured) == before


def test_what_if_puts_the_changed_bill_beside_the_one_as_configured(measured: Any) -> None:
    before = journal_bytes(measured)
    spot = ("pricing.purchase=spot", "pricing.spot.mean_uptime_h=2", "full_run.deadline_h=1")

    text = ask(measured, "what-if", *SPOT_PRICES, *spot)
    found = json.loads(ask(measured, "what-if", *SPOT_PRICES, *spot, "--format", "json"))

    assert re.search(r"^ +standing, as configured +what if$", text, re.MULTILINE)
    assert re.search(r"^\* +in time +no deadline +\S+%$", text, re.MULTILINE)
    assert re.search(r"^\* +re-work after preemption +none +\$", text, re.MULTILINE)
    assert "what if: bill of " in text
    assert "left out: " in text
    assert found["what_if"]["best"]["candidate"]["purchase"] == "spot"
    assert found["as_configured"]["best"]["candidate"]["purchase"] == "on_demand"
    assert journal_bytes(measured) == before


def test_what_if_asks_for_a_change(measured: Any) -> None:
    assert "needs at least one KEY=VALUE" in measured.refused(
        "what-if", "digits", "--runs-dir", measured.runs_dir, exit_code=2
    )


def test_the_same_question_has_the_same_answer(measured: Any) -> None:
    standing = Journal.read(measured.run).verdict
    assert standing is not None

    again = json.loads(ask(measured, "decide", "--format", "json"))

    assert again["inputs_digest"] == standing.inputs_digest
    assert again["probability"] == standing.probability


@pytest.mark.parametrize(
    ("kind", "answer", "overrides", "exit_code"),
    [
        ("promote", None, [], 12),
        ("promote", "approved", [], 0),
        ("promote", "rejected", [], 11),
        ("hold", None, [], 10),
        ("promote", None, ["decision.min_gain_per_dollar=1e9"], 11),
        # An approval is of one verdict: under another threshold it is not given.
        ("promote", "approved", ["decision.min_gain_per_dollar=0.001"], 12),
    ],
)
def test_the_exit_code_tells_the_verdict_when_asked(
    work: Any, evidence: Any, kind: str, answer: str | None, overrides: list[str], exit_code: int
) -> None:
    work.bring(getattr(evidence, kind))
    if answer:
        work.answer(answer)

    assert work.ask("decide", work.run, *overrides, "--exit-code").exit_code == exit_code
    assert work.ask("decide", work.run, *overrides).exit_code == 0


# --- report, history, approve ---------------------------------------------------------------------------------------


def loaded_from_elsewhere(page: str) -> list[str]:
    """What a browser would fetch to show the page; links that a reader may follow are not."""
    without_links = re.sub(r"<a\s[^>]*>", "", page)
    found = re.findall(r"(?:src|srcset|href|data|poster|action)\s*=\s*[\"']([^\"'#][^\"']*)", without_links)
    found += re.findall(r"url\(\s*[\"']?([^\"')#][^\"')]*)|@import\s+([^;]+)", page)
    return [each for each in map("".join, found) if not each.startswith("data:")]


def test_a_report_is_one_page_that_fetches_nothing(measured: Any) -> None:
    path = Path(ask(measured, "report").strip())

    page = path.read_text(encoding="utf-8")

    assert path == measured.run / "report.html"
    assert "<h1>PROMOTE</h1>" in page
    assert "<svg" in page
    assert "<script" not in page
    assert loaded_from_elsewhere(page) == []


def test_a_report_goes_where_it_is_asked_to_and_follows_overrides(measured: Any) -> None:
    path = measured.root / "what-if.html"

    told = ask(measured, "report", "decision.min_gain_per_dollar=1e9", "-o", path)

    assert told.strip() == str(path)
    assert "<h1>REJECT</h1>" in path.read_text(encoding="utf-8")
    assert not (measured.run / "report.html").exists()


def test_history_without_a_full_run_says_so(measured: Any) -> None:
    assert measured.ask("history", "--runs-dir", measured.runs_dir).stdout.endswith(
        f"\nno full run has ended yet in {measured.runs_dir}\n"
    )
    found = json.loads(measured.ask("history", "--runs-dir", measured.runs_dir, "--format", "json").stdout)
    assert (found["outcomes"], [each["event"] for each in found["decisions"]]) == ([], ["verdict PROMOTE"])


def test_history_puts_every_outcome_beside_its_forecast(work: Any, evidence: Any) -> None:
    work.bring(evidence.outcome)

    text = work.ask("history", "--runs-dir", work.runs_dir).stdout
    [entry] = json.loads(work.ask("history", "--runs-dir", work.runs_dir, "--format", "json").stdout)["outcomes"]

    assert "digits: linear on all of the data, 1 worker, on-demand" in text
    assert len(re.findall(r"(held|missed)$", text, re.MULTILINE)) == 3
    hits = [entry["outcome"][f"{name}_hit"] for name in ("metric", "wall_time", "cost")]
    shares = re.findall(r"^(?:metric|time|dollars): (\d) of 1 in the 90% interval", text, re.MULTILINE)
    assert [share == "1" for share in shares] == hits
    assert json.loads(ask(work, "status", "--format", "json"))["full run"] == "1 finished"


def test_a_report_after_the_full_run_shows_what_came_of_it(work: Any, evidence: Any) -> None:
    work.bring(evidence.outcome)

    page = Path(ask(work, "report").strip()).read_text(encoding="utf-8")

    assert "What came of it" in page


# Raised inside MLflow 3.17 by the SQLAlchemy it brings; our own warnings stay errors.
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")
def test_an_answer_goes_to_the_run_folder_that_was_named_wherever_it_was_swept(measured: Any) -> None:
    """The evidence was measured elsewhere and copied here; its journal still names the other folder."""
    swept_in = Journal.read(measured.run).spec.runs_dir
    before = {path: path.stat().st_mtime_ns for path in Path(swept_in).rglob("*")}

    told = ask(measured, "approve", "--by", "Ada", "--reason", "worth it")

    assert told == "approved: PROMOTE of linear on all of the data, 1 worker, on-demand\n"
    approval = Journal.read(measured.run).approval
    assert approval is not None
    assert (approval.decision, approval.by, approval.reason) == ("approved", "Ada", "worth it")
    assert json.loads(ask(measured, "status", "--format", "json"))["approval"] == "approved by Ada"
    assert {path: path.stat().st_mtime_ns for path in Path(swept_in).rglob("*")} == before


def test_progress_goes_to_standard_error_and_results_to_standard_output(work: Any) -> None:
    found = work.ask("plan", work.config)

    assert "prepared 1,797 rows" in found.stderr
    assert found.stdout.startswith("experiment:")
    assert os.linesep + "[" not in found.stdout


# --- more ways to ask and to show -----------------------------------------------------------------------------------


def test_what_if_answers_over_several_values_of_a_key_in_one_table(measured: Any) -> None:
    before = journal_bytes(measured)
    vary = ("--vary", "decision.min_gain_per_dollar=0,1e9", "--vary", "full_run.workers=[1],[1, 2]")

    header, *rows = ask(measured, "what-if", *vary).splitlines()
    found = json.loads(ask(measured, "what-if", *vary, "--format", "json"))

    assert header.split()[:3] == ["decision.min_gain_per_dollar", "full_run.workers", "verdict"]
    assert [re.split(r"  +", row)[:3] for row in rows] == [
        ["0", "[1]", "PROMOTE"], ["0", "[1, 2]", "PROMOTE"], ["1e9", "[1]", "REJECT"], ["1e9", "[1, 2]", "REJECT"],
    ]  # fmt: skip
    assert [each["kind"] for each in found["verdicts"]] == ["PROMOTE", "PROMOTE", "REJECT", "REJECT"]
    assert found["verdicts"][1]["values"] == {"decision.min_gain_per_dollar": "0", "full_run.workers": "[1, 2]"}
    assert journal_bytes(measured) == before


def test_what_if_refuses_values_that_are_none_or_too_many(measured: Any) -> None:
    def refused(*args: str) -> str:
        return str(measured.refused("what-if", "digits", *args, "--runs-dir", measured.runs_dir, exit_code=2))

    many = ",".join(str(number) for number in range(101))
    assert "is not KEY=V1,V2" in refused("--vary", "decision.confidence")
    assert "is not KEY=V1,V2" in refused("--vary", "decision.confidence=0.8,,0.9")
    assert "asks for 101 verdicts; at most 100" in refused("--vary", f"decision.min_gain_per_dollar={many}")
    assert "decision.confidance" in refused("--vary", "decision.confidance=0.8,0.9")


def test_what_if_tells_programs_what_differs(measured: Any) -> None:
    found = json.loads(ask(measured, "what-if", "decision.min_gain_per_dollar=1e9", "--format", "json"))

    assert found["overrides"] == ["decision.min_gain_per_dollar=1e9"]
    assert {"quantity": "verdict", "from": "PROMOTE", "to": "REJECT"} in found["differences"]
    assert found["standing"]["kind"] == "PROMOTE"


def test_a_report_comes_as_markdown_and_as_records(measured: Any) -> None:
    text = ask(measured, "report", "--format", "md")
    path = measured.root / "report.json"
    told = ask(measured, "report", "--format", "json", "-o", path)
    record = json.loads(path.read_text(encoding="utf-8"))

    assert text.startswith("# digits\n")
    assert "### Decision log" in text
    assert told.strip() == str(path)
    assert record["verdict"]["kind"] == "PROMOTE"
    assert len(record["evidence"]["trials"]) == measured.N_TRIALS
    assert record["decision_log"][0]["what"].startswith("PROMOTE, probability ")
    assert record["reproduce"]["journal_lines"] == len(journal_bytes(measured).splitlines())
    assert not (measured.run / "report.html").exists()


def test_the_log_of_decisions_holds_answers_and_full_runs(work: Any, evidence: Any) -> None:
    work.bring(evidence.outcome)

    log = json.loads(ask(work, "report", "--format", "json"))["decision_log"]

    assert [line["what"].split(",")[0].split(":")[0] for line in log] == [
        "PROMOTE", "approved", "full run started", "full run ended",
    ]  # fmt: skip


def test_decide_shows_all_candidates_when_asked(measured: Any) -> None:
    workers = f"full_run.workers={list(range(1, 12))}"

    def rows(*options: str) -> int:
        return len(
            re.findall(r"^ +\d* *linear .* on-demand ", ask(measured, "decide", workers, *options), re.MULTILINE)
        )

    assert rows("--all") == 11
    assert 1 <= rows() < 11
