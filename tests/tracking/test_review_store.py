"""A run's page in MLflow is read and answered without loading MLflow, and no secret goes astray."""

from __future__ import annotations

import base64
import json
import os
import runpy
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.errors import TrackingError
from orchestrator.ports import ReviewPage
from orchestrator.tracking import mlflow_layout as layout
from orchestrator.tracking.chain import scan_lines
from orchestrator.tracking.journal import Journal
from orchestrator.tracking.mlflow_tracker import MlflowTracker
from orchestrator.tracking.review_store import RestStore, fetch_journal, find_run, open_store, seals_in

# Raised inside MLflow 3.17 by the SQLAlchemy it brings; our own warnings stay errors.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")
samples = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "samples.py")))
PAGE = ReviewPage(description="**PROMOTE**", figures={}, html="<!doctype html>")


def now() -> datetime:
    return datetime(2026, 3, 1, 10, tzinfo=UTC)


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a journal whose verdict was mirrored into the store beside it."""
    root = tmp_path_factory.mktemp("store")
    with Journal.open(root / "run", now=now) as journal:
        journal.append("experiment", {"spec": samples.spec(), "data": samples.data()})
        journal.append("verdict", samples.verdict())
        tracker = MlflowTracker(f"sqlite:///{root}/mlflow.db", journal=journal.path)
        tracker.open(samples.spec(), samples.data(), [])
        tracker.verdict_reached(samples.verdict(), PAGE)
        assert tracker.close() is None
    return root


@pytest.fixture
def place(mirrored: Path, tmp_path: Path) -> Path:
    """A copy of it, which lies elsewhere than it was written."""
    return shutil.copytree(mirrored, tmp_path / "copy")


def uri(place: Path) -> str:
    return f"sqlite:///{place}/mlflow.db"


def test_the_journal_comes_out_of_the_store_as_it_went_in(place: Path) -> None:
    content, run = fetch_journal(uri(place), "digits-cnn")

    assert content == (place / "run" / "journal.jsonl").read_bytes()
    assert run.tags["verdict"] == "PROMOTE"
    assert run.path == f"#/experiments/{run.experiment_id}/runs/{run.run_id}"
    assert Journal.parse(Path("elsewhere"), content).verdict == samples.verdict()


def test_the_store_keeps_the_seal_of_the_last_line(place: Path) -> None:
    entries = scan_lines((place / "run" / "journal.jsonl").read_bytes()).entries

    seals = seals_in(uri(place), "digits-cnn")

    assert [(key, seal.seq, seal.sha256) for key, seal in seals.items()] == [
        (entries[0].sha256[:8], 2, entries[1].sha256)
    ]


def test_a_journal_altered_in_the_store_is_not_believed(place: Path) -> None:
    (artifact,) = (place / "mlartifacts").rglob("journal.jsonl")
    artifact.write_bytes(artifact.read_bytes().replace(b"PROMOTE", b"REJECT!"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", _only_below(place))
        with pytest.raises(TrackingError, match="damaged at line 2"):
            fetch_journal(uri(place), "digits-cnn")


def _only_below(place: Path):
    """As on another machine, where the artifacts are not where they were written."""
    read = Path.read_bytes

    def read_bytes(self: Path) -> bytes:
        if place not in self.parents:
            raise FileNotFoundError(str(self))
        return read(self)

    return read_bytes


def test_an_older_journal_put_in_place_of_the_sealed_one_is_not_believed(place: Path) -> None:
    first = (place / "run" / "journal.jsonl").read_bytes().splitlines(keepends=True)[0]
    (artifact,) = (place / "mlartifacts").rglob("journal.jsonl")
    artifact.write_bytes(first)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", _only_below(place))
        with pytest.raises(TrackingError, match=r"not the one that was sealed: line 2 was written and is missing"):
            fetch_journal(uri(place), "digits-cnn")


def test_the_mirror_replaces_nothing_when_a_sealed_line_is_gone(place: Path) -> None:
    path = place / "run" / "journal.jsonl"
    forged = path.read_bytes().splitlines(keepends=True)[0]
    path.write_bytes(forged)
    tracker = MlflowTracker(uri(place), journal=path)
    tracker.open(samples.spec(), samples.data(), [])
    tracker.verdict_reached(samples.verdict(), PAGE)

    assert "does not hold what was sealed here before" in (tracker.close() or "")
    run = find_run(open_store(uri(place)), "digits-cnn")
    assert run is not None
    assert "line 2 was written and is missing" in run.tags[layout.JOURNAL_FINDING]
    assert next(iter(seals_in(uri(place), "digits-cnn").values())).seq == 2


def test_an_unknown_name_is_answered_with_the_close_one_and_a_missing_file_is_not_made(
    place: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrackingError, match="holds no experiment 'digits-cmn'; did you mean 'digits-cnn'"):
        fetch_journal(uri(place), "digits-cmn")
    with pytest.raises(TrackingError, match="cannot be read"):
        fetch_journal(f"sqlite:///{tmp_path}/none.db", "digits-cnn")
    assert not (tmp_path / "none.db").exists()


def test_reading_from_a_database_file_loads_no_mlflow(place: Path) -> None:
    program = (
        "import sys; from orchestrator.tracking.review_store import fetch_journal;"
        f"fetch_journal({uri(place)!r}, 'digits-cnn'); print([m for m in ('mlflow', 'sqlalchemy') if m in sys.modules])"
    )

    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)

    assert done.stdout.strip() == "[]"


def test_a_tag_is_written_through_mlflows_own_client(place: Path) -> None:
    store = open_store(uri(place))
    run = find_run(store, "digits-cnn")
    assert run is not None

    store.set_tags(run, {layout.APPROVAL_ANSWER: "not understood"})

    again = find_run(store, "digits-cnn")
    assert again is not None
    assert again.tags[layout.APPROVAL_ANSWER] == "not understood"


# --- over HTTP ------------------------------------------------------------------------------------------------------


class _Server(BaseHTTPRequestHandler):
    """Answers as MLflow's REST API does; class attributes are set anew for each server."""

    seen: list[tuple[str, str | None]]
    redirect_to: str | None
    status: int
    is_mlflow: bool

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization")))
        if self.redirect_to is not None:
            self.send_response(302)
            self.send_header("Location", self.redirect_to + self.path)
            self.end_headers()
            return
        run = {
            "info": {"run_id": "r1", "experiment_id": "7"},
            "data": {"tags": [{"key": "orchestrator.experiment", "value": "digits"}]},
        }
        body = {"experiments": [{"experiment_id": "7"}]} if "experiments" in self.path else {"runs": [run]}
        self.send_response(self.status)
        self.end_headers()
        if not self.is_mlflow:
            self.wfile.write(b"<html>welcome</html>")
            return
        self.wfile.write(json.dumps(body if self.status == 200 else {"message": "no such thing"}).encode())

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def serve() -> Iterator:
    servers = []

    def start(**changes: object) -> tuple[str, list[tuple[str, str | None]]]:
        facts = {"seen": [], "redirect_to": None, "status": 200, "is_mlflow": True} | changes
        handler = type("Handler", (_Server,), facts)
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"127.0.0.1:{server.server_port}", handler.seen

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_runs_are_found_over_http(serve) -> None:
    address, seen = serve()

    run = find_run(RestStore(f"http://{address}/"), "digits")

    assert run is not None
    assert (run.run_id, run.experiment_id) == ("r1", "7")
    assert [path for path, _ in seen] == ["/api/2.0/mlflow/experiments/search", "/api/2.0/mlflow/runs/search"]


@pytest.mark.parametrize(
    ("variables", "login", "expected"),
    [
        ({}, "", None),
        ({"MLFLOW_TRACKING_TOKEN": "t0ken"}, "", "Bearer t0ken"),
        ({"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "s:e"}, "", "ada:s:e"),
        ({"MLFLOW_TRACKING_TOKEN": "t0ken"}, "bo:p%40ss@", "bo:p@ss"),
    ],
)
def test_credentials_are_those_that_mlflow_takes(
    serve, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], login: str, expected: str | None
) -> None:
    for name in ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    address, seen = serve()

    find_run(RestStore(f"http://{login}{address}"), "digits")

    if expected is not None and not expected.startswith("Bearer"):
        expected = "Basic " + base64.b64encode(expected.encode()).decode()
    assert {authorization for _, authorization in seen} == {expected}


def test_a_secret_does_not_follow_a_redirect(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    elsewhere, seen_elsewhere = serve()
    address, seen = serve(redirect_to=f"http://{elsewhere}")

    RestStore(f"http://{address}").artifact(SimpleNamespace(run_id="r1"), "journal.jsonl")

    assert seen[0][1] == "Bearer t0ken"
    assert seen_elsewhere == [("/get-artifact?path=journal.jsonl&run_uuid=r1", None)]


@pytest.mark.parametrize(("status", "told"), [(401, "MLFLOW_TRACKING_TOKEN"), (404, "no such thing")])
def test_a_refusal_is_told_without_the_secret(serve, status: int, told: str) -> None:
    address, _ = serve(status=status)

    with pytest.raises(TrackingError, match=told) as caught:
        RestStore(f"http://ada:secret@{address}").experiments()

    assert "secret" not in str(caught.value)


def test_a_server_that_is_down_and_a_page_that_is_no_mlflow_are_told_apart(serve) -> None:
    with pytest.raises(TrackingError, match="cannot be reached"):
        RestStore("http://127.0.0.1:9").experiments()
    with pytest.raises(TrackingError, match="is no address"):
        RestStore("http://[bad").experiments()
    address, _ = serve(is_mlflow=False)
    with pytest.raises(TrackingError, match="does not answer like an MLflow server"):
        RestStore(f"http://{address}").experiments()
