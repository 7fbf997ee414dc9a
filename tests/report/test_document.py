"""The report as Markdown and as records, and the page's sections of how a verdict came about."""

from __future__ import annotations

import json
import re
import runpy
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.report.document import SCHEMA_VERSION, report_markdown, report_record
from orchestrator.report.history import NO_HISTORY, LogLine
from orchestrator.report.page import build_page
from orchestrator.report.reproduce import commands
from orchestrator.results import DroppedModel, MeasurementAdvice, SweepEnd
from orchestrator.tracking.records import to_plain

many = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("many.py"))))
ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>\u202e"


def everything(history=None):
    return (
        many.samples.spec(),
        many.samples.data(),
        many.trials(),
        many.verdict("HOLD"),
        None,
        history or many.history(),
    )


class Parsed(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(history) -> str:
    spec, data, results, verdict, outcome, _ = everything()
    return build_page(spec, data, results, verdict, outcome, history=history)


def test_the_page_tells_how_the_verdict_came_about() -> None:
    page = page_of(many.history())

    order = ["Measure next:", "Supposed, not measured", "Learning curves</h2>", "Bill of the best", "Candidates</h2>",
             "101 more candidates", "Checklist</h2>", "Trials</h2>", "Dollars over time</h2>",
             "Why the sweep ended</h2>",
             "Drills</h2>", "Decision log</h2>", "How to reproduce</h2>"]  # fmt: skip
    positions = [page.index(part) for part in order]
    assert positions == sorted(positions)
    for expected in ("settles the verdict with probability 0.62", "verdict certain", "chance to win below 1%",
                     "worth it (override: the launch is on Friday)", "MLflow tag", "9c9c9c9c", "torch 2.13.0",
                     "python -m orchestrator sweep configs/digits.yaml", "$0.030 of it on 1 failed trial"):  # fmt: skip
        assert expected in page
    assert page.count("<svg") == 5


def test_a_journal_that_tells_nothing_of_it_leaves_the_sections_out() -> None:
    page = page_of(NO_HISTORY)

    for absent in ("Why the sweep ended", "Drills", "Decision log", "sha256 ", "versions"):
        assert absent not in page
    assert "python -m orchestrator sweep CONFIG.yaml" in page


def test_markup_and_direction_marks_of_people_stay_text() -> None:
    told = many.history()
    history = replace(
        told, config_path=ATTACK, versions={ATTACK: ATTACK}, journal_digest=ATTACK,
        log=(LogLine(at=ATTACK, what=ATTACK, by=ATTACK, reason=ATTACK, override=ATTACK, source=ATTACK),),
        drills=(replace(told.drills[0], evidence=ATTACK, at=ATTACK),),
        sweep_end=SweepEnd(cause="verdict certain", reason=ATTACK, n_trials=1, n_grid=2, spent_usd=0.1,
                           dropped=(DroppedModel(model=ATTACK, reason=ATTACK),)),
    )  # fmt: skip
    advice = MeasurementAdvice(description=ATTACK, trials=(), cost_usd=None)
    spec, data, results, verdict, _, _ = everything()
    verdict = replace(verdict, preference=ATTACK, assumptions=(ATTACK,), next_measurement=advice)

    page = build_page(spec, data, results, verdict, history=history)

    parsed = Parsed(page)
    assert {"script", "img"}.isdisjoint(parsed.tags)
    assert not [name for name in parsed.attributes if name.startswith("on")]
    assert parsed.text.count("<script>alert(1)</script>") >= 10
    assert "\u202e" not in page
    text = report_markdown(spec, data, results, verdict, None, replace(history, config_path=f"a\n{ATTACK}"))
    # An indented line is code, which every renderer shows as it is.
    assert not [line for line in text.splitlines() if "<" in line and not line.startswith("    ")]


def test_markdown_holds_every_candidate_trial_and_decision() -> None:
    text = report_markdown(*everything())

    assert text.startswith("# digits-cnn\n")
    assert len(re.findall(r"^\| +\d* +\| (?:linear|cnn|resnet) \|", text, re.MULTILINE)) == 108
    for expected in ("### Trials", "out of memory", "### Dollars over time", "### Why the sweep ended",
                     "### Decision log", "### How to reproduce", "    python -m orchestrator decide"):  # fmt: skip
        assert expected in text


def test_records_have_a_stable_schema_and_are_plain_json() -> None:
    spec, data, results, verdict, _, history = everything()

    record = json.loads(json.dumps(to_plain(report_record(spec, data, results, verdict, (), history))))

    assert record["schema_version"] == SCHEMA_VERSION == 1
    assert list(record) == [
        "schema_version", "experiment", "verdict", "checklist", "evidence", "spending", "sweep_end", "drills",
        "decision_log", "outcomes", "reproduce",
    ]  # fmt: skip
    assert record["verdict"]["frontier"]["knee"]["model"] == "cnn"
    assert record["evidence"]["n_failed"] == 1
    assert record["spending"]["steps"][-1]["total_usd"] == pytest.approx(2.36)
    assert record["sweep_end"]["dropped"][0]["model"] == "linear"
    assert record["reproduce"]["journal_sha256"] == "9c" * 32
    assert to_plain(report_record(spec, data, (), verdict))["spending"] is None


def test_commands_are_quoted_for_a_shell() -> None:
    spec = replace(many.samples.spec(), runs_dir="my runs; rm -rf x")
    lines = commands(spec, many.verdict(), replace(NO_HISTORY, config_path="a b.yaml"))

    assert lines[0] == "python -m orchestrator decide digits-cnn --runs-dir 'my runs; rm -rf x'"
    assert lines[-1] == "python -m orchestrator sweep 'a b.yaml'"
