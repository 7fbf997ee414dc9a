"""What goes wrong with a file system, as a DataError: what was found, the way out; and within a time.

First contact with a store ends within `CONTACT_S`, whatever the store's own patience: Google's client alone tries for
15 minutes.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pyarrow as pa

from orchestrator.errors import DataError

CONTACT_S = 40.0
"""First contact with a store: a lookup of its region and one question, each of `_ATTEMPTS` attempts."""
_REASON_LENGTH = 160
_DENIED = re.compile(r"ACCESS_DENIED|HTTP status 40[13]|Forbidden|AccessDenied|[Pp]ermission denied|PERMISSION_DENIED")
_UNREACHED = re.compile(
    r"NETWORK_CONNECTION|UNAVAILABLE|[Rr]esolve host|[Tt]imed? ?out|[Cc]onnect|Name or service|unreachable"
)
_CREDENTIALS = re.compile(r"[Cc]redential|OAuth|access token|AuthenticationException|InvalidAccessKeyId|SignatureDoes")
_Answer = TypeVar("_Answer")


def bounded(name: str, call: Callable[[], _Answer], seconds: float = CONTACT_S) -> _Answer:
    """The answer of a store that may never come. Raises DataError: it did not come in time, or was a failure."""
    outcome: list[tuple[_Answer | None, Exception | None]] = []

    def ask() -> None:
        try:
            outcome.append((call(), None))
        except Exception as error:  # the thread's edge: told below
            outcome.append((None, error))

    # A daemon, since nothing can stop a client library that keeps trying.
    thread = threading.Thread(target=ask, daemon=True, name="store contact")
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise DataError(
            f"{name}: the store did not answer within {seconds:.0f} s; check the address, the network and the "
            "credentials of this machine"
        )
    answer, error = outcome[0]
    if error is not None:
        raise error if isinstance(error, DataError) else explain(name, error) from error
    return answer  # type: ignore[return-value]  # None only beside an error, or when that is the answer


@contextmanager
def reaching(name: str) -> Iterator[None]:
    """Tells what keeps a path from being read."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise explain(name, error) from error


def explain(name: str, error: Exception) -> DataError:
    """A failure of a file system in words: what was found, the way out."""
    text = reason_of(error)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return DataError(f"{name}: is not there; check the address")
    if isinstance(error, PermissionError) or _DENIED.search(text):
        who = "this user" if "://" not in name else "the credentials of this machine"
        return DataError(f"{name}: may not be read ({text}); give {who} the right to list and to read it")
    if re.search(r"libjvm|libhdfs|CLASSPATH", text):
        return DataError(
            f"{name}: needs Hadoop's client on this machine ({text}); set JAVA_HOME, HADOOP_HOME and CLASSPATH, or "
            "copy the data to another store"
        )
    if _CREDENTIALS.search(text):
        return DataError(f"{name}: there are no valid credentials for this store ({text}); set them up and run again")
    if isinstance(error, TimeoutError | ConnectionError) or _UNREACHED.search(text):
        return DataError(f"{name}: the store cannot be reached ({text}); check the address and the network")
    return DataError(f"{name}: cannot be read ({text}); check the address, and that it may be read")


def reason_of(error: BaseException) -> str:
    """An exception in one short line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _REASON_LENGTH else text[: _REASON_LENGTH - 3] + "..."
