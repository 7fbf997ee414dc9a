"""Every failure of a store says what was found and the way out, and comes in time."""

from __future__ import annotations

import threading

import pyarrow as pa
import pytest

from orchestrator.data.stores.faults import bounded, explain
from orchestrator.errors import DataError


def test_a_store_that_never_answers_is_given_up() -> None:
    with pytest.raises(DataError) as caught:
        bounded("gs://bucket/x", threading.Event().wait, seconds=0.2)

    assert str(caught.value) == (
        "gs://bucket/x: the store did not answer within 0 s; check the address, the network and the credentials of "
        "this machine"
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied"), "may not be read"),
        (OSError("AWS Error ACCESS_DENIED during HeadObject operation"), "may not be read"),
        (FileNotFoundError("x"), "is not there; check the address"),
        (OSError("AWS Error NETWORK_CONNECTION during HeadObject: Could not resolve hostname"), "cannot be reached"),
        (TimeoutError(), "cannot be reached (TimeoutError)"),
        (OSError("Unable to load libjvm: dlopen failed"), "needs Hadoop's client on this machine"),
        (OSError("Status(UNAVAILABLE: Could not create a OAuth2 access token)"), "there are no valid credentials"),
        (pa.ArrowInvalid("odd"), "cannot be read (odd); check the address, and that it may be read"),
    ],
)
def test_every_failure_says_what_was_found(error: Exception, said: str) -> None:
    message = str(explain("s3://bucket/x", error))

    assert message.startswith("s3://bucket/x: ")
    assert said in message
