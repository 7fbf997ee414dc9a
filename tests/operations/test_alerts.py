"""Messages reach a real server, failures are answers, and no secret of an address is ever said."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from orchestrator.errors import SpecValueError
from orchestrator.operations.alerts import Webhooks, post
from orchestrator.spec import AlertSpec, shown_url, without_secrets


def send(url: str, **options: Any) -> tuple[Any, list[float]]:
    """One message, and the pauses that were made."""
    paused: list[float] = []
    return post(AlertSpec(url=url), b'{"text": "hello"}', pause=paused.append, **options), paused


def test_a_channel_that_answers_has_the_message_once(hook: Any) -> None:
    found, paused = send(hook.url)

    assert (found.answered, found.detail, found.tries, paused) == (True, "answered 200", 1, [])
    assert hook.posted == [{"text": "hello"}]


def test_a_server_that_stumbles_is_asked_again_after_growing_pauses(hook: Any) -> None:
    hook.statuses = [500, 503, 200]

    found, paused = send(hook.url)

    assert (found.answered, found.tries, paused) == (True, 3, [1.0, 2.0])


def test_a_server_that_keeps_failing_is_given_up_after_three_tries(hook: Any) -> None:
    hook.statuses = [500]

    found, _ = send(hook.url)

    assert (found.answered, found.detail, found.tries) == (False, "answered 500", 3)


@pytest.mark.parametrize(("status", "tries"), [(400, 1), (404, 1), (410, 1), (408, 3), (429, 3)])
def test_an_answer_that_blames_the_request_is_not_asked_for_again_unless_it_asks_for_patience(
    hook: Any, status: int, tries: int
) -> None:
    hook.statuses = [status]

    assert send(hook.url)[0].tries == tries


def test_a_redirect_is_not_followed_because_it_would_arrive_without_its_body(hook: Any) -> None:
    hook.statuses = [302]

    found, _ = send(hook.url)

    assert not found.answered
    assert found.detail == "answered 302, a redirect; give the address it leads to"
    assert hook.methods == ["POST"]


def test_a_server_that_hangs_costs_its_timeout_and_no_more(hook: Any) -> None:
    hook.hang_s = 1.0
    begun = time.monotonic()

    found, _ = send(hook.url, timeout_s=0.1, tries=2)

    assert (found.answered, found.detail, found.tries) == (False, "no answer within 0.1 s", 2)
    assert time.monotonic() - begun < 1.0  # twice 0.1 s, and room for a busy machine


def test_a_port_where_nobody_listens_is_told_as_such() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    found, _ = send(f"http://127.0.0.1:{port}/SECRET")

    assert (found.answered, found.tries) == (False, 3)
    assert found.detail == "cannot be reached: Connection refused"
    assert "SECRET" not in str(found)


def test_a_server_that_speaks_no_http_is_a_failure_like_any_other() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        server.listen()

        def answer() -> None:
            connection, _ = server.accept()
            connection.recv(4096)
            connection.sendall(b"\x1b[31mSSH-2.0 SECRET\r\n")
            connection.close()

        import threading

        thread = threading.Thread(target=answer)
        thread.start()
        found, _ = send(f"http://127.0.0.1:{port}/", tries=1)
        thread.join()

    assert not found.answered
    assert "SECRET" not in str(found)


def test_an_address_in_the_environment_is_read_when_the_message_is_sent(
    hook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_HOOK", raising=False)

    missing, _ = send("$MY_HOOK")
    monkeypatch.setenv("MY_HOOK", hook.url)
    found, _ = send("$MY_HOOK")

    assert not missing.answered
    assert missing.detail == "the environment variable MY_HOOK holds no http(s) address; set it"
    assert found.answered
    assert found.channel == "$MY_HOOK"


def test_only_channels_that_want_an_event_hear_of_it_with_its_facts_and_in_order(hook: Any) -> None:
    hooks = Webhooks("digits", [AlertSpec(url=hook.url, on=("verdict", "cap"))])

    hooks.notify("failure", "a trial failed")
    hooks.notify("verdict", "PROMOTE: it pays", {"probability": 0.97})
    hooks.notify("cap", "spent $5")

    assert hooks.close() is None
    assert hook.posted == [
        {"probability": 0.97, "experiment": "digits", "event": "verdict", "text": "PROMOTE: it pays"},
        {"experiment": "digits", "event": "cap", "text": "spent $5"},
    ]


def test_facts_never_stand_in_for_what_a_message_says_of_itself(hook: Any) -> None:
    hooks = Webhooks("digits", [AlertSpec(url=hook.url)])

    hooks.notify("cap", "spent $5", {"event": "verdict", "experiment": "other"})
    hooks.close()

    assert (hook.posted[0]["event"], hook.posted[0]["experiment"]) == ("cap", "digits")


def test_a_hanging_channel_delays_neither_the_sweep_nor_its_end_beyond_what_is_granted(hook: Any) -> None:
    hook.hang_s = 3.0
    hooks = Webhooks("digits", [AlertSpec(url=hook.url)], timeout_s=2.0)
    begun = time.monotonic()

    hooks.notify("verdict", "PROMOTE")
    told_s = time.monotonic() - begun
    fault = hooks.close(timeout_s=0.1)

    assert told_s < 0.5
    assert time.monotonic() - begun < 1.5
    assert fault == "alerts that did not arrive: 1 still on their way after 0.1 s"


def test_what_did_not_arrive_is_told_at_the_end_in_one_line_without_the_secret(hook: Any) -> None:
    hook.statuses = [404]
    hooks = Webhooks("digits", [AlertSpec(url=hook.url)], backoff_s=0.0)

    hooks.notify("verdict", "PROMOTE")
    hooks.notify("cap", "spent $5")
    fault = hooks.close()

    assert fault is not None
    assert fault.startswith("alerts that did not arrive: http://127.0.0.1:")
    assert "answered 404" in fault
    assert fault.endswith("and 1 more")
    assert "SECRET" not in fault


def test_a_test_message_goes_to_every_channel_whatever_it_wants(hook: Any) -> None:
    (found,) = Webhooks("digits", [AlertSpec(url=hook.url, on=("cap",))]).test()

    assert found.answered
    assert hook.posted[0]["event"] == "test"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example/T0/SECRET?key=SECRET", "https://hooks.example/***"),
        ("http://127.0.0.1:8000/SECRET", "http://127.0.0.1:8000/***"),
        ("http://[::1]:8000/SECRET", "http://[::1]:8000/***"),
        ("$HOOK", "$HOOK"),
        ("https://user:SECRET@host/", "***"),
    ],
)
def test_an_address_is_shown_by_scheme_and_host(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@pytest.mark.parametrize("url", ["https://hooks.example/SECRET", "http://[::1]:80/SECRET", "$HOOK"])
def test_a_config_without_secrets_is_a_config(url: str) -> None:
    (masked,) = without_secrets([AlertSpec(url=url)])

    assert "SECRET" not in masked.url
    assert "SECRET" not in repr(AlertSpec(url=url))
    assert without_secrets([masked]) == (masked,)


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("", "is empty"),
        ("ftp://host/SECRET", "http:// or https://, got ftp:"),
        ("file:///SECRET", "http:// or https://, got file:"),
        ("https:///SECRET", "whole http(s) address"),
        ("https://host/a SECRET", "without blanks"),
        ("https://host:SECRET/", "whole http(s) address"),
        ("https://user:SECRET@host/", "holds a user name"),
        ("https://host/\nSECRET", "without blanks"),
        ("$MY-SECRET", "must be $NAME"),
    ],
)
def test_an_address_that_cannot_be_posted_to_is_refused_without_being_said(url: str, word: str) -> None:
    with pytest.raises(SpecValueError, match=r"^url: ") as refused:
        AlertSpec(url=url)

    assert word in str(refused.value)
    assert "SECRET" not in str(refused.value)
