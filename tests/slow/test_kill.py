"""A sweep that is killed or interrupted, and the same command again: no trial twice, none lost, no process left."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrator.planner import plan_grid
from orchestrator.spec import trial_key
from orchestrator.tracking.mlflow_store import connect

# MLflow 3.17 warns of the SQLAlchemy that it brings.
pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.filterwarnings("default")]

N_TRIALS = 18
ENDS_WITHIN_S = 90.0
"""How long Ray's processes may take to end after their driver. 2.4 s is usual after kill -9, over 15 s was seen once;
a rank whose peer has gone may wait for the collective's 60 s."""

CONFIG = """
name: small
task: orchestrator.tasks.vision:image_classification
data: {source: "sklearn:digits"}
models:
  - {name: linear}
  - {name: cnn, width: 4}
training: {epochs: 30, global_batch_size: 32}
sweep: {fractions: [0.1, 0.2, 0.4], workers: [1, 2], seeds: 2}
resources: {max_concurrent_trials: 2}
pricing: {usd_per_worker_hour: 0.05}
full_run: {workers: [1, 2], smaller_targets: 0}
decision: {min_gain_per_dollar: 0.5}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "small.yaml").write_text(CONFIG, encoding="utf-8")
    return "small.yaml"


def check_that_nothing_is_lost_or_doubled(shell: Any) -> None:
    """In the journal and in MLflow."""
    view = shell.journal
    planned = {trial_key(view.spec, view.data.fingerprint, trial) for trial in plan_grid(view.spec, view.data)}
    trials = [entry.payload for entry in view.entries if entry.kind == "trial"]
    assert len(planned) == N_TRIALS
    assert Counter(trial["key"] for trial in trials) == Counter(planned)
    assert {trial["status"] for trial in trials} == {"finished"}
    assert view.warnings == ()

    client = connect(f"sqlite:///{shell.folder}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, "tags.`orchestrator.kind` = 'trial'")
    assert Counter(run.data.tags["orchestrator.trial_key"] for run in runs) == Counter(planned)
    assert {(run.info.status, run.data.tags.get("orchestrator.complete")) for run in runs} == {("FINISHED", "1")}
    (parent,) = client.search_runs(experiments, "tags.`orchestrator.kind` = 'experiment'")
    assert parent.data.tags["verdict"] == view.verdict.kind
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {parent.info.run_id}


def test_a_driver_killed_in_the_middle_loses_nothing_and_doubles_nothing(
    shell: Any, config: str, wait_until: Any
) -> None:
    driver = shell.start("sweep", config)
    wait_until(lambda: shell.n_trials() >= 3)
    assert {"raylet", "gcs_server"} <= {Path(command.split()[0]).name for command in shell.survivors().values()}

    os.kill(driver.pid, signal.SIGKILL)

    assert driver.wait() == -signal.SIGKILL
    kept = {entry.payload["key"] for entry in shell.journal.entries if entry.kind == "trial"}
    assert 3 <= len(kept) < N_TRIALS
    wait_until(lambda: not shell.survivors(), ENDS_WITHIN_S, shell.survivors)

    assert shell.run("sweep", config) == 0, shell.err
    assert f"{N_TRIALS} trials planned, {len(kept)} already in the journal" in shell.err
    check_that_nothing_is_lost_or_doubled(shell)
    wait_until(lambda: not shell.survivors(), ENDS_WITHIN_S, shell.survivors)


def test_ctrl_c_lets_running_trials_end_and_the_same_command_does_the_rest(
    shell: Any, config: str, wait_until: Any
) -> None:
    driver = shell.start("sweep", config)
    wait_until(lambda: shell.n_trials() >= 3)
    n_before = shell.n_trials()

    os.killpg(driver.pid, signal.SIGINT)  # a terminal sends it to the whole group, Ray's processes included

    assert driver.wait(timeout=60) == 130, shell.err
    n_kept = shell.n_trials()
    assert n_before < n_kept < N_TRIALS
    assert {entry.payload["status"] for entry in shell.journal.entries if entry.kind == "trial"} == {"finished"}
    assert "stopping: running trials end, no new one starts; Ctrl-C again stops at once" in shell.err
    assert f"stopped: {n_kept} of {N_TRIALS} trials are in the journal; the same command goes on" in shell.err
    assert "Traceback" not in shell.err
    wait_until(lambda: not shell.survivors(), ENDS_WITHIN_S, shell.survivors)

    assert shell.run("sweep", config) == 0, shell.err
    check_that_nothing_is_lost_or_doubled(shell)
    wait_until(lambda: not shell.survivors(), ENDS_WITHIN_S, shell.survivors)


def test_a_second_ctrl_c_stops_at_once_and_keeps_the_journal(shell: Any, config: str, wait_until: Any) -> None:
    driver = shell.start("sweep", config)
    wait_until(lambda: shell.n_trials() >= 3)

    os.killpg(driver.pid, signal.SIGINT)
    time.sleep(0.05)
    os.killpg(driver.pid, signal.SIGINT)

    assert driver.wait(timeout=60) == 130, shell.err
    assert "Traceback" not in shell.err
    wait_until(lambda: not shell.survivors(), ENDS_WITHIN_S, shell.survivors)

    assert shell.run("sweep", config) == 0, shell.err
    check_that_nothing_is_lost_or_doubled(shell)
