"""The MLflow store itself: is it usable, where its artifacts lie, and a client that keeps quiet.

`check_store` looks at a tracking URI without importing MLflow, so that a config is refused in milliseconds.
Everything else imports MLflow inside, because that takes seconds and belongs to the tracker's own thread.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import Fault

if TYPE_CHECKING:
    from mlflow import MlflowClient

_KEY = "tracking.uri"
_SQLITE = "sqlite:///"
# First 16 bytes of every SQLite 3 database: https://www.sqlite.org/fileformat.html, section 1.3.
_SQLITE_MAGIC = b"SQLite format 3\x00"
_DATABASES = ("postgresql", "mysql", "mssql")
# MLflow's own defaults retry a dead server for minutes on each call; the journal holds everything, so give up early.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}


def check_store(uri: str) -> Fault | None:
    """What stands against writing to this tracking URI, or None; opens no connection and imports no MLflow."""
    if uri.startswith(_SQLITE):
        return _check_sqlite(Path(uri.removeprefix(_SQLITE)))
    if re.match(r"https?://[^/]+", uri) or re.match(rf"({'|'.join(_DATABASES)})(\+\w+)?://", uri):
        return None
    if uri.startswith("file:") or "://" not in uri:
        folder = uri.removeprefix("file://").removeprefix("file:").rstrip("/") or "."
        return Fault(
            _KEY,
            f"{uri!r} is a plain folder, which MLflow 3 no longer writes to; use a database file in it, "
            f"sqlite:///{folder}/mlflow.db, or the http address of a server",
        )
    scheme = uri.split("://", 1)[0]
    return Fault(_KEY, f"scheme {scheme!r} is not known; use sqlite:///file.db, http(s)://host or a SQL database URI")


def _check_sqlite(path: Path) -> Fault | None:
    if path.is_dir():
        return Fault(_KEY, f"{path} is a folder; name a database file in it, e.g. sqlite:///{path / 'mlflow.db'}")
    folder = path.parent
    if not folder.is_dir():
        return Fault(_KEY, f"folder {folder} does not exist; make it (mkdir -p {folder}) or name another file")
    try:
        head = path.read_bytes()[:16] if path.stat().st_size < 16 else _head(path)
    except FileNotFoundError:
        return (
            None if os.access(folder, os.W_OK) else Fault(_KEY, f"folder {folder} is not writable; name another file")
        )
    except OSError as error:
        return Fault(_KEY, f"{path} cannot be read: {error.strerror}; name another file")
    if head and head != _SQLITE_MAGIC:
        return Fault(
            _KEY, f"{path} is not an SQLite database (it begins with {head!r}); name another file or move it away"
        )
    if not os.access(path, os.W_OK) or not os.access(folder, os.W_OK):
        return Fault(_KEY, f"{path} is not writable, or its folder is not; name another file")
    return None


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def absolute(uri: str) -> str:
    """The URI with a relative SQLite path made absolute, so that a later change of folder does not move the store."""
    if not uri.startswith(_SQLITE):
        return uri
    return _SQLITE + str(Path(uri.removeprefix(_SQLITE)).absolute())


def artifact_location(uri: str) -> str | None:
    """Where a new experiment's artifacts go: beside an SQLite file; None leaves it to the server."""
    if not uri.startswith(_SQLITE):
        return None
    return (Path(uri.removeprefix(_SQLITE)).absolute().parent / "mlartifacts").as_uri()


def mask(text: str) -> str:
    """The text with passwords in URLs hidden."""
    return re.sub(r"(\w+://)[^/@\s]+@", r"\1***@", text)


def connect(uri: str) -> MlflowClient:
    """A client of the store, made ready by this very call when it is new; nothing is printed.

    Only the driver calls this: processes that race to create one SQLite store destroy it.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def experiment_id(client: MlflowClient, name: str, uri: str) -> str:
    """The MLflow experiment of that name, made when missing."""
    found = client.get_experiment_by_name(name)
    if found is None:
        return str(client.create_experiment(name, artifact_location=artifact_location(uri)))
    if found.lifecycle_stage != "active":
        raise RuntimeError(
            f"experiment {name!r} is in MLflow's trash; restore it with "
            f"`mlflow experiments restore -x {found.experiment_id}`, or set tracking.experiment to another name"
        )
    return str(found.experiment_id)
