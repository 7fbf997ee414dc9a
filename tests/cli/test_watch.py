"""Looking on from another terminal: what a growing journal says, and whether its writer ended or died."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click.testing
import pytest

from orchestrator.cli.watch import watch
from orchestrator.cli.watched import Watcher, owner_of
from orchestrator.decision import decide
from orchestrator.errors import UnknownExperimentError, UsageError
from orchestrator.results import SweepEnd, TrialResult
from orchestrator.spec import ExperimentSpec
from orchestrator.tracking.journal import FILE_NAME, OWNER_NAME, Journal

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "evidence" / "cifar10"


class Sweep:
    """A run folder that a sweep of the synthetic task writes."""

    def __init__(self, folder: Path, synthetic: Any) -> None:
        self.folder, self.synthetic = folder, synthetic
        self.spec: ExperimentSpec = synthetic.spec()
        self.results: list[TrialResult] = synthetic.results(self.spec)

    def open(self) -> Journal:
        return Journal.open(self.folder, now=lambda: datetime.now(UTC))

    def begin(self, journal: Journal, n_trials: int = 0) -> None:
        facts = {"spec": self.spec, "data": self.synthetic.data, "versions": {}, "config": None}
        journal.append("experiment", facts)
        for result in self.results[:n_trials]:
            journal.append("trial", result)

    def judge(self, journal: Journal) -> None:
        rates = self.synthetic.rates(self.spec)
        verdict = decide(self.spec, self.synthetic.data, journal.view.results, rates, checkpoint_bytes={})
        journal.append("verdict", verdict)

    def left_by(self, pid: int, host: str | None = None) -> None:
        """The owner's file of a process that did not take it away."""
        since = datetime.now(UTC).isoformat()
        owner = {"pid": pid, "host": host or socket.gethostname(), "since": since}
        (self.folder / OWNER_NAME).write_text(json.dumps(owner))


@pytest.fixture
def sweep(tmp_path: Path, synthetic: Any) -> Sweep:
    return Sweep(tmp_path / "synthetic", synthetic)


@pytest.fixture(scope="session")
def dead_pid() -> int:
    """Of a process that has ended."""
    return int(subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True).stdout)


def seen(*args: str | Path) -> str:
    """Stdout of `watch`, which must succeed; warnings are on stderr."""
    result = click.testing.CliRunner().invoke(watch, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def row(text: str, label: str) -> str:
    """What the table says under a label."""
    return next(line.removeprefix(label).strip() for line in text.splitlines() if line.startswith(label))


def test_one_look_says_where_a_sweep_stands_while_another_process_writes(sweep: Sweep) -> None:
    with sweep.open() as journal:
        sweep.begin(journal, 27)

        text = seen(sweep.folder, "--once")

    assert row(text, "process").startswith(f"process {os.getpid()} on {socket.gethostname()} is at work")
    assert row(text, "trials") == "27 of at most 40"
    assert "left at most" in row(text, "time")
    assert row(text, "verdict").endswith(", so far")
    assert row(text, "sweep") == "going on"


def test_looking_neither_locks_nor_writes(sweep: Sweep) -> None:
    with sweep.open() as journal:
        sweep.begin(journal, 8)
    before = {path.name: path.read_bytes() for path in sweep.folder.iterdir()}

    seen(sweep.folder, "--once")

    assert {path.name: path.read_bytes() for path in sweep.folder.iterdir()} == before


def test_a_pipe_gets_a_line_for_each_trial_until_the_sweep_ends_and_then_the_state(sweep: Sweep) -> None:
    looking = threading.Event()

    def write() -> None:
        with sweep.open() as journal:
            sweep.begin(journal, 24)
            looking.set()
            for result in sweep.results[24:]:
                time.sleep(0.04)
                journal.append("trial", result)
            sweep.judge(journal)

    writer = threading.Thread(target=write)
    writer.start()
    looking.wait(10)
    text = seen(sweep.folder, "--interval-s", "0.1")
    writer.join()

    first = text.splitlines()[0]
    told = [line for line in text.splitlines() if " UTC  cnn" in line or " UTC  linear" in line]
    assert first.startswith("synthetic: trials 2")
    n_before = int(first.split()[2])
    assert [line.split(" UTC  ")[1].split(":")[0] for line in told] == [str(r.trial) for r in sweep.results[n_before:]]
    assert any(line.startswith("trials ") and "so far" in line for line in text.splitlines())
    assert " UTC  verdict " in text
    assert "\ntrials      40 of at most 40\n" in text
    assert row(text, "sweep") == "ended"
    assert "\x1b" not in text


def test_a_killed_sweep_is_told_from_one_that_ended(sweep: Sweep, dead_pid: int) -> None:
    with sweep.open() as journal:
        sweep.begin(journal, 12)
    ended = seen(sweep.folder)
    sweep.left_by(dead_pid)

    killed = seen(sweep.folder)

    assert row(ended, "process") == "no process is at work on it"
    assert f"process {dead_pid} on" in row(killed, "process")
    assert "is gone without having closed the journal" in row(killed, "process")
    assert row(killed, "sweep") == "stopped before its end; the same `sweep` command goes on"


def test_whether_a_process_of_another_machine_lives_is_not_guessed(sweep: Sweep, dead_pid: int) -> None:
    with sweep.open() as journal:
        sweep.begin(journal)
    sweep.left_by(dead_pid, host="elsewhere")

    owner = owner_of(sweep.folder)

    assert owner is not None
    assert owner.state == "on another machine"
    assert "can be told only there" in seen(sweep.folder, "--once")


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"pid": "x", "host": "h", "since": "now"}'])
def test_an_owner_that_cannot_be_read_is_nobody(sweep: Sweep, content: str) -> None:
    with sweep.open() as journal:
        sweep.begin(journal)
    (sweep.folder / OWNER_NAME).write_text(content)

    assert owner_of(sweep.folder) is None


def test_a_last_line_that_is_being_written_is_no_fault_and_one_that_stays_torn_is(sweep: Sweep) -> None:
    with sweep.open() as journal:
        sweep.begin(journal, 2)
    path = sweep.folder / FILE_NAME
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    watcher = Watcher(sweep.folder)

    torn = watcher.look()
    path.write_bytes(whole)
    complete, still = watcher.look(), watcher.look()
    path.write_bytes(whole[:-40])
    watcher.look()

    assert (torn.warnings, torn.progress.n_done) == ((), 1)
    assert (complete.warnings, complete.progress.n_done, still.warnings) == ((), 2, ())
    assert ["is incomplete" in warning for warning in watcher.look().warnings] == [True]


def test_a_verdict_of_its_own_is_worked_out_again_only_after_a_while(sweep: Sweep) -> None:
    with sweep.open() as journal:
        sweep.begin(journal, 27)
        watcher = Watcher(sweep.folder)
        first = watcher.look()
        for result in sweep.results[27:]:
            journal.append("trial", result)
        soon = watcher.look()

        assert soon.progress.n_done == 40
        assert soon.progress.verdict is not None
        assert soon.progress.verdict is first.progress.verdict

    ended = watcher.look()  # nobody else will work it out
    assert ended.progress.verdict is not None
    assert ended.progress.verdict.n_trials == 40
    assert not ended.is_recorded


def test_the_journals_own_verdict_is_shown_as_soon_as_it_is_there(sweep: Sweep) -> None:
    with sweep.open() as journal:
        sweep.begin(journal, 27)
        watcher = Watcher(sweep.folder)
        watcher.look()
        sweep.judge(journal)

        judged = watcher.look()

        assert judged.is_recorded
        assert judged.progress.verdict == journal.view.verdict
        assert judged.progress.left_s == 0.0


def test_a_sweep_that_ended_early_says_why_until_it_goes_on(sweep: Sweep) -> None:
    end = SweepEnd(cause="verdict certain", reason="P has been above 0.9 since", n_trials=12, n_grid=40, spent_usd=0.1)
    with sweep.open() as journal:
        sweep.begin(journal, 12)
        journal.append("sweep_end", end)
        ended = seen(sweep.folder, "--once")
        journal.append("trial", sweep.results[12])
        going_on = seen(sweep.folder, "--once")

    assert row(ended, "sweep") == "ended, verdict certain: P has been above 0.9 since"
    assert row(ended, "time") == "no trial left to run"
    assert row(going_on, "sweep") == "going on"


def test_two_sizes_make_no_forecast_and_no_fuss(sweep: Sweep) -> None:
    with sweep.open() as journal:
        sweep.begin(journal, 10)

    text = seen(sweep.folder, "--once")

    assert (row(text, "verdict"), row(text, "warnings")) == ("none yet", "none")


def test_approval_and_full_run_are_told(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "cifar10")
    ended = seen(tmp_path / "cifar10", "--once")
    with Journal.open(tmp_path / "cifar10", now=lambda: datetime.now(UTC)) as journal:
        started = journal.view.full_run_started
        assert started is not None
        journal.append("full_run_started", started)
        running = seen(tmp_path / "cifar10", "--once")
    stopped = seen(tmp_path / "cifar10", "--once")

    assert row(ended, "approval") == "approved by A reviewer"
    assert row(ended, "full run").startswith("ended 2026-11-23")
    assert row(running, "full run").startswith("started: cnn on all of the data, 2 workers")
    assert row(stopped, "full run").endswith("not finished, `promote` again goes on with it")


def test_the_state_as_json_holds_the_records(sweep: Sweep) -> None:
    with sweep.open() as journal:
        sweep.begin(journal, 27)
        said = json.loads(seen(sweep.folder, "--once", "--format", "json"))

    assert said["process"]["pid"] == os.getpid()
    assert (said["progress"]["n_done"], said["progress"]["n_most"]) == (27, 40)
    assert said["progress"]["verdict"]["kind"] in {"PROMOTE", "HOLD", "REJECT"}
    assert said["verdict_is_recorded"] is False
    assert said["sweep_end"] is None


def test_a_stream_of_states_as_json_is_refused_with_the_way_out(sweep: Sweep) -> None:
    with pytest.raises(UsageError, match="add --once"):
        seen(sweep.folder, "--format", "json")


def test_an_unknown_experiment_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownExperimentError, match="no experiment 'nothing'"):
        seen("nothing", "--runs-dir", tmp_path)


def test_reading_for_it_imports_neither_torch_nor_ray(sweep: Sweep) -> None:
    with sweep.open() as journal:
        sweep.begin(journal, 27)
    heavy = {"ray", "torch", "mlflow", "sklearn", "matplotlib", "rich"}
    code = (
        "import sys; from orchestrator.cli.watch import watch; "
        f"watch([{str(sweep.folder)!r}, '--once'], standalone_mode=False); "
        f"print(sorted({heavy} & set(sys.modules)))"
    )

    assert _run([sys.executable, "-c", code]).splitlines()[-1] == "[]"


def _run(command: Sequence[str]) -> str:
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
