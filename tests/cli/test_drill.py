"""``drill`` and ``alert test``: what is rehearsed really happens, and what fails is told and recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.cli.rehearse import compare
from orchestrator.config import load_config
from orchestrator.data.prepared import prepare
from orchestrator.results import EpochPoint, TrainingResult
from orchestrator.spec import ExperimentSpec, TrialSpec
from orchestrator.tracking.journal import Journal
from orchestrator.training.checkpoints import read_checkpoint, write_checkpoint
from orchestrator.training.evaluate import Restored, evaluate_checkpoint
from orchestrator.training.loop import train
from orchestrator.training.request import TrainRequest


@pytest.fixture
def hook() -> Iterator[Any]:
    """A server that takes messages and answers with ``status``."""
    made = SimpleNamespace(status=200, posted=[], url="")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(made.status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}/SECRET"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def test_alert_test_tells_which_channel_answered_and_records_nothing(work: Any, hook: Any) -> None:
    work.write({"alerts": [{"url": hook.url}]})

    answer = work.ask("alert", "test", work.config)

    assert answer.exit_code == 0
    assert answer.stdout.startswith("answered  http://127.0.0.1:")
    assert [message["event"] for message in hook.posted] == ["test"]
    assert not work.run.exists()


def test_alert_test_fails_when_a_channel_does_not_answer_and_keeps_its_secret(work: Any, hook: Any) -> None:
    hook.status = 404
    work.write({"alerts": [{"url": hook.url}]})

    answer = work.ask("alert", "test", work.config)

    assert answer.exit_code == 1
    assert "FAILED" in answer.stdout
    assert "answered 404" in answer.stdout
    assert "SECRET" not in answer.stdout + answer.stderr


def test_without_a_channel_alert_test_says_how_to_set_one_up(work: Any) -> None:
    assert "alerts: [{url: https://" in work.refused("alert", "test", work.config, exit_code=2)


def test_an_address_that_cannot_be_posted_to_is_refused_by_its_key_and_not_repeated(work: Any) -> None:
    work.write({"alerts": [{"url": "ftp://host/SECRET", "on": ["verdikt"]}]})

    told = work.refused("alert", "test", work.config, exit_code=2)

    assert "alerts.0.url: must begin with http:// or https://" in told
    assert "alerts.0.on.0: must be 'verdict', 'cap', 'failure' or 'promotion', got 'verdikt'" in told
    assert "did you mean 'verdict'?" in told
    assert "SECRET" not in told


@pytest.mark.parametrize(("status", "passed", "exit_code"), [(200, True, 0), (404, False, 1)])
def test_the_alert_drill_is_recorded_as_it_went(
    work: Any, evidence: Any, hook: Any, status: int, passed: bool, exit_code: int
) -> None:
    work.bring(evidence.promote)
    hook.status = status
    work.write({"alerts": [{"url": hook.url}]})

    answer = work.ask("drill", work.config, "--only", "alert", "--format", "json")

    assert answer.exit_code == exit_code
    (drill,) = Journal.read(work.run).drills
    assert (drill.name, drill.passed) == ("alert", passed)
    assert json.loads(answer.stdout)["drills"][0]["evidence"] == drill.evidence
    assert "SECRET" not in drill.evidence
    assert Journal.verify(work.run) > 0


def test_the_alert_drill_without_a_channel_records_nothing(work: Any, evidence: Any) -> None:
    work.bring(evidence.promote)

    answer = work.ask("drill", work.config, "--only", "alert")

    assert (answer.exit_code, answer.stdout) == (0, "nothing was rehearsed\n")
    assert "no channel is set up" in answer.stderr
    assert Journal.read(work.run).drills == ()


def test_a_drill_waits_for_nobody_who_writes_to_the_run_folder(work: Any, evidence: Any) -> None:
    from orchestrator.cli.compose import utc_now

    work.bring(evidence.promote)

    with Journal.open(work.run, now=utc_now):
        answer = work.ask("drill", work.config, "--only", "alert")

    assert answer.exit_code == 1
    assert "is in use by process" in answer.stderr


@pytest.fixture
def trained(work: Any, tmp_path: Path) -> tuple[TrainRequest, TrainingResult, Path]:
    """A small training on the digits with its weights in a file."""
    spec: ExperimentSpec = load_config(work.config)
    data = prepare(spec.data, tmp_path / "data", lambda message: None)
    request = TrainRequest(
        spec=spec,
        trial=TrialSpec(model="linear", fraction=0.2, workers=1, seed=0),
        fingerprint=data.summary.fingerprint,
        data_root=data.root,
    )
    result, state = train(request, checkpoints=_Kept(tmp_path / "state.pt"))
    weights = tmp_path / "model.pt"
    write_checkpoint(state, weights)
    return request, result, weights


class _Kept:
    """Writes each state to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def save(self, state: dict[str, Any], point: EpochPoint) -> int:
        return write_checkpoint(state, self._path)

    def load(self) -> dict[str, Any] | None:
        return None


def test_weights_that_are_loaded_again_have_the_metrics_that_were_reported(trained: Any) -> None:
    request, reported, weights = trained

    restored = evaluate_checkpoint(request, weights, weights.with_name("state.pt"))

    assert restored.accuracy == reported.accuracy
    assert restored.loss == pytest.approx(reported.loss, rel=1e-6)
    assert restored.n_rows == reported.n_validation
    assert compare(restored, reported, pids=())[0]


def test_weights_that_are_not_the_last_ones_are_found_out(trained: Any) -> None:
    request, reported, weights = trained
    state = read_checkpoint(weights)
    write_checkpoint({name: value * 1.01 for name, value in state.items()}, weights)

    passed, told = compare(evaluate_checkpoint(request, weights, weights.with_name("state.pt")), reported, pids=())

    assert not passed
    assert "reported" in told


def test_a_checkpoint_in_the_process_that_trained_it_proves_nothing(trained: Any) -> None:
    request, reported, weights = trained
    restored = evaluate_checkpoint(request, weights, weights.with_name("state.pt"))

    assert not compare(restored, reported, pids=(restored.pid,))[0]


def restored_with(*, loss: float | None, accuracy: float | None) -> Restored:
    return Restored(pid=1, loss=loss, accuracy=accuracy, n_rows=100)


@pytest.mark.parametrize(
    ("loss", "accuracy", "passed"),
    [(0.5, 0.90, True), (0.50004, 0.91, True), (0.5, 0.92, False), (0.501, 0.90, False), (None, None, True)],
)
def test_one_row_and_a_ten_thousandth_of_the_loss_may_differ(
    trained: Any, loss: float | None, accuracy: float | None, passed: bool
) -> None:
    reported = replace(trained[1], loss=0.5, accuracy=0.9)

    found, told = compare(restored_with(loss=loss, accuracy=accuracy), reported, pids=())

    assert found is passed
    assert ("no metric was compared" in told) is (loss is None)


OWN_LOOP = """
import torch
from torch.utils.data import TensorDataset
from orchestrator.training.task import Datasets, TrainingFunction

def make_task(context):
    rows = TensorDataset(torch.randn(40, 4), torch.arange(40) % 2)
    labels = rows.tensors[1].numpy()
    return TrainingFunction(train=fit, datasets=Datasets(train=rows, validation=rows, train_labels=labels))

def fit(run):
    model = torch.nn.Linear(run.options["inputs"], 2)
    run.prepare(model, torch.optim.SGD(model.parameters()))
    for _ in run.epochs():
        run.report(validation_loss=1.0, train_loss=1.0)
"""


def test_a_training_function_loads_its_own_checkpoint_and_one_that_does_not_fit_is_refused(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_loop.py").write_text(OWN_LOOP, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    work.write({"task": "own_loop:make_task", "data.source": "task", "models": [{"name": "linear", "inputs": 4}]})
    request = TrainRequest(
        spec=load_config(work.config),
        trial=TrialSpec(model="linear", fraction=1.0, workers=1, seed=0),
        fingerprint="f",
        data_root=None,
    )
    reported, _ = train(request, checkpoints=_Kept(tmp_path / "state.pt"))

    restored = evaluate_checkpoint(request, tmp_path / "model.pt", tmp_path / "state.pt")

    assert compare(restored, reported, pids=())[0]
    wider = replace(request.spec.models[0], options={"inputs": 5})
    other = replace(request, spec=replace(request.spec, models=(wider,)))
    with pytest.raises(RuntimeError, match="size mismatch"):
        evaluate_checkpoint(other, tmp_path / "model.pt", tmp_path / "state.pt")


@pytest.mark.slow
def test_a_worker_is_really_killed_another_goes_on_and_the_checkpoint_is_the_model(work: Any, hook: Any) -> None:
    work.write({"alerts": [{"url": hook.url}]})
    # A process of its own: the tests' shared cluster may be up in this one. Without the mode Ray writes a token into
    # the home folder.
    own = {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | own
    command = [sys.executable, "-m", "orchestrator", "drill", str(work.config), "--format", "json"]

    answer = subprocess.run(
        command, cwd=work.root, env=environment, capture_output=True, text=True, timeout=400, check=False
    )

    assert answer.returncode == 0, answer.stdout + answer.stderr
    drills = {drill.name: drill for drill in Journal.read(work.run).drills}
    assert {name: drill.passed for name, drill in drills.items()} == {"alert": True, "restart": True, "restore": True}
    assert "worker killed (SIGKILL) after the checkpoint of epoch" in drills["restart"].evidence
    assert "s lost" in drills["restart"].evidence
    assert "in a fresh process on 359 validation rows: accuracy" in drills["restore"].evidence
    assert sorted(path.name for path in work.run.iterdir()) == ["journal.jsonl", "journal.lock", "journal.seal"]
    assert [item["evidence"] for item in json.loads(answer.stdout)["drills"]] == [
        drills[name].evidence for name in ("alert", "restart", "restore")
    ]
