"""Reading and answering a run's page in MLflow without loading MLflow, which takes seconds.

A server is spoken to over MLflow's REST API, an SQLite file is read as the database it is; any other store goes through
MLflow's own client, and so does writing into an SQLite file. Credentials are those that MLflow takes: in the address,
``MLFLOW_TRACKING_TOKEN``, or ``MLFLOW_TRACKING_USERNAME`` with ``MLFLOW_TRACKING_PASSWORD``. They are never shown, and
never follow a redirect to another host.

REST: https://mlflow.org/docs/latest/api_reference/rest-api.html; artifacts come by the address that MLflow's own UI
takes them from, because only the server knows where they lie.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import sqlite3
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from orchestrator.errors import TrackingError, did_you_mean
from orchestrator.tracking.chain import Seal, scan_lines
from orchestrator.tracking.mlflow_layout import EXPERIMENT, JOURNAL, KIND, all_seals, seals_of
from orchestrator.tracking.mlflow_store import absolute, connect, mask

TIMEOUT_S = 10.0
_SQLITE = "sqlite:///"
_MAX_RUNS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewRun:
    """The parent run of an experiment: the page that people look at."""

    experiment_id: str
    run_id: str
    tags: Mapping[str, str]

    @property
    def path(self) -> str:
        """Of its page, below the address of the MLflow UI."""
        return f"#/experiments/{self.experiment_id}/runs/{self.run_id}"


class ReviewStore(Protocol):
    """What is needed of a store; every method raises TrackingError when the store cannot be used."""

    uri: str

    def experiments(self) -> Sequence[ReviewRun]:
        """Parent runs of all experiments that this tool made there, oldest first."""

    def set_tags(self, run: ReviewRun, tags: Mapping[str, str]) -> None: ...

    def artifact(self, run: ReviewRun, name: str) -> bytes:
        """The content of one of the run's files."""


def open_store(uri: str) -> ReviewStore:
    """Access to the store at a tracking URI; nothing is connected yet."""
    if uri.startswith(("http://", "https://")):
        return RestStore(uri)
    return SqliteStore(uri) if uri.startswith(_SQLITE) else ClientStore(uri)


def find_run(store: ReviewStore, name: str) -> ReviewRun | None:
    """The run of the experiment of that name; the oldest, as the mirror takes it. Raises TrackingError."""
    return next((run for run in store.experiments() if run.tags.get(EXPERIMENT) == name), None)


def fetch_journal(uri: str, name: str) -> tuple[bytes, ReviewRun]:
    """An experiment's journal as it was last uploaded; its chain and the seals of the run are checked.

    Raises: TrackingError: The store cannot be used, knows no such experiment, or holds a journal that was altered.
    """
    store = open_store(uri)
    runs = store.experiments()
    run = next((run for run in runs if run.tags.get(EXPERIMENT) == name), None)
    if run is None:
        names = sorted({run.tags[EXPERIMENT] for run in runs if EXPERIMENT in run.tags})
        hint = did_you_mean(name, names) or f"; there are: {', '.join(names[:10]) or 'none'}"
        raise TrackingError(f"MLflow ({mask(uri)}) holds no experiment {name!r}{hint}")
    content = store.artifact(run, JOURNAL)
    scan = scan_lines(content)
    if scan.fault is not None:
        raise TrackingError(
            f"the journal of {name} in MLflow ({mask(uri)}) is damaged at line {len(scan.entries) + 1}: {scan.fault}; "
            "run a command on the experiment where its run folder lies, which uploads it again"
        )
    own = seals_of(run.tags, scan.entries)
    if not own and all_seals(run.tags):
        raise TrackingError(
            f"the journal of {name} in MLflow ({mask(uri)}) is not the one that was sealed: no seal there is of its "
            "first line"
        )
    for seal in own:
        fault = seal.fault(scan.entries)
        if fault is not None:
            raise TrackingError(
                f"the journal of {name} in MLflow ({mask(uri)}) is not the one that was sealed: {fault}"
            )
    return content, run


def seals_in(uri: str, name: str) -> Mapping[str, Seal]:
    """Every seal that a store keeps of an experiment's journals, by the journal's first line. Raises TrackingError."""
    run = find_run(open_store(uri), name)
    return {} if run is None else all_seals(run.tags)


class RestStore:
    """A tracking server, over HTTP."""

    def __init__(self, uri: str) -> None:
        try:
            parts = urllib.parse.urlsplit(uri)
        except ValueError as error:
            raise TrackingError(f"{mask(uri)} is no address: {error}") from error
        host = parts.netloc.rpartition("@")[2]
        self.uri = urllib.parse.urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        self._authorization = _authorization(parts)

    def experiments(self) -> Sequence[ReviewRun]:
        ids = [each["experiment_id"] for each in self._pages("experiments", {"max_results": 1000})]
        wanted = {"filter": f"tags.`{KIND}` = 'experiment'", "max_results": _MAX_RUNS}
        order = {"order_by": ["attributes.start_time ASC"]}
        found = self._pages("runs", {"experiment_ids": ids, **wanted, **order}) if ids else []
        return [_run_of(each) for each in found]

    def set_tags(self, run: ReviewRun, tags: Mapping[str, str]) -> None:
        pairs = [{"key": key, "value": value} for key, value in tags.items()]
        self._post("runs/log-batch", {"run_id": run.run_id, "tags": pairs})

    def artifact(self, run: ReviewRun, name: str) -> bytes:
        query = urllib.parse.urlencode({"path": name, "run_uuid": run.run_id})
        return self._ask(f"{self.uri}/get-artifact?{query}", None)

    def _pages(self, kind: str, asked: Mapping[str, object]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        token = ""
        while True:
            page = self._post(f"{kind}/search", {**asked, **({"page_token": token} if token else {})})
            found += page.get(kind, [])
            token = page.get("next_page_token", "")
            if not token:
                return found

    def _post(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        answer = self._ask(f"{self.uri}/api/2.0/mlflow/{path}", json.dumps(body).encode())
        try:
            content = json.loads(answer)
        except ValueError as error:
            raise TrackingError(
                f"{mask(self.uri)} does not answer like an MLflow server; is the address right?"
            ) from error
        return content if isinstance(content, dict) else {}

    def _ask(self, address: str, body: bytes | None) -> bytes:
        request = urllib.request.Request(address, data=body)
        if body is not None:
            request.add_header("Content-Type", "application/json")
        if self._authorization:
            # Unredirected: the secret is for this host and no other.
            request.add_unredirected_header("Authorization", self._authorization)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=_tls(address)) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            with error:  # it holds the connection
                raise TrackingError(f"MLflow ({mask(self.uri)}) answered {error.code}: {_refusal(error)}") from error
        except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: an address that is none
            reason = getattr(error, "reason", None) or error
            raise TrackingError(f"MLflow ({mask(self.uri)}) cannot be reached: {reason}") from error


def _refusal(error: urllib.error.HTTPError) -> str:
    if error.code in (401, 403):
        return (
            "not allowed; set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, "
            "and check that the server allows this host name"
        )
    with contextlib.suppress(ValueError, OSError, AttributeError):  # a proxy's page has no message of MLflow's
        return str(json.loads(error.read()).get("message", error.reason))[:200]
    return str(error.reason)


def _authorization(parts: urllib.parse.SplitResult) -> str | None:
    """The header's value; the address wins over the environment, a password over a token, as in MLflow."""
    user, password = parts.username, parts.password
    if user is None and os.environ.get("MLFLOW_TRACKING_USERNAME"):
        user, password = os.environ["MLFLOW_TRACKING_USERNAME"], os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    elif user is not None:
        user, password = urllib.parse.unquote(user), urllib.parse.unquote(password or "")
    if user is not None:
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return f"Bearer {token}" if token else None


def _tls(address: str) -> ssl.SSLContext | None:
    if not address.startswith("https://"):
        return None
    context = ssl.create_default_context(cafile=os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"))
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _run_of(answer: Mapping[str, Any]) -> ReviewRun:
    tags = {tag["key"]: tag.get("value", "") for tag in answer.get("data", {}).get("tags", [])}
    info = answer["info"]
    return ReviewRun(experiment_id=str(info["experiment_id"]), run_id=info["run_id"], tags=tags)


class SqliteStore:
    """A database file; read without MLflow's client, which checks and upgrades the schema first and takes seconds."""

    def __init__(self, uri: str) -> None:
        self.uri = absolute(uri)
        self._path = Path(self.uri.removeprefix(_SQLITE))
        self._writer = ClientStore(self.uri)

    def experiments(self) -> Sequence[ReviewRun]:
        with self._reading() as database:
            rows = database.execute(
                "SELECT r.experiment_id, r.run_uuid FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid "
                "WHERE t.key = ? AND t.value = 'experiment' AND r.lifecycle_stage = 'active' "
                "ORDER BY r.start_time, r.run_uuid",
                (KIND,),
            ).fetchall()
            return [
                ReviewRun(
                    experiment_id=str(experiment),
                    run_id=run,
                    tags=dict(database.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (run,)).fetchall()),
                )
                for experiment, run in rows
            ]

    def set_tags(self, run: ReviewRun, tags: Mapping[str, str]) -> None:
        self._writer.set_tags(run, tags)

    def artifact(self, run: ReviewRun, name: str) -> bytes:
        with self._reading() as database:
            found = database.execute("SELECT artifact_uri FROM runs WHERE run_uuid = ?", (run.run_id,)).fetchone()
        stated = urllib.parse.urlsplit(str(found[0]) if found else "")
        if stated.scheme == "mlflow-artifacts":
            raise TrackingError(
                f"MLflow ({self.uri}): files of the run {run.run_id} are with the server that wrote this database; "
                "give its http address instead"
            )
        if stated.scheme not in ("", "file"):
            return self._writer.artifact(run, name)
        # Second, beside the file, where `artifact_location` puts them: the store may have been copied here as a whole.
        beside = self._path.parent / "mlartifacts" / run.run_id / "artifacts"
        for folder in (Path(urllib.parse.unquote(stated.path)), beside):
            with contextlib.suppress(OSError):
                return (folder / name).read_bytes()
        raise TrackingError(
            f"MLflow ({self.uri}): the run {run.run_id} has no file {name}, neither in {stated.path} nor in {beside}; "
            "run a command on the experiment where its run folder lies, which uploads it"
        )

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            database = sqlite3.connect(
                f"file:{urllib.parse.quote(str(self._path))}?mode=ro", uri=True, timeout=TIMEOUT_S
            )
            with contextlib.closing(database):
                yield database
        except sqlite3.Error as error:
            raise TrackingError(f"MLflow ({self.uri}) cannot be read: {error}") from error


class ClientStore:
    """Any store that MLflow's own client knows."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def experiments(self) -> Sequence[ReviewRun]:
        with self._client() as client:
            ids = [each.experiment_id for each in client.search_experiments()]
            query = f"tags.`{KIND}` = 'experiment'"
            found = client.search_runs(ids, query, order_by=["attributes.start_time ASC"], max_results=_MAX_RUNS)
            return [
                ReviewRun(experiment_id=run.info.experiment_id, run_id=run.info.run_id, tags=dict(run.data.tags))
                for run in found
            ]

    def set_tags(self, run: ReviewRun, tags: Mapping[str, str]) -> None:
        with self._client() as client:
            for key, value in tags.items():
                client.set_tag(run.run_id, key, value)

    def artifact(self, run: ReviewRun, name: str) -> bytes:
        import tempfile

        with self._client() as client, tempfile.TemporaryDirectory() as folder:
            return Path(client.download_artifacts(run.run_id, name, folder)).read_bytes()

    @contextlib.contextmanager
    def _client(self) -> Iterator[Any]:
        try:
            yield connect(self.uri)
        except Exception as error:  # MLflow's, SQLAlchemy's, boto's and drivers' errors share no base but this
            lines = mask(str(error)).strip().splitlines() or [""]
            raise TrackingError(f"MLflow ({mask(self.uri)}) cannot be used: {lines[0][:200]}") from error
