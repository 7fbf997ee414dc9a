"""Messages to webhooks: a JSON body by POST, tried a few times, never in the way of what it tells about.

    {"experiment": "digits", "event": "verdict", "text": "PROMOTE: ...", ...facts}

A channel has answered when its status is 2xx. Redirects are not followed: a POST that is sent on arrives as a GET
without its body, and looks like success. Addresses are shown by scheme and host alone, for the rest may be a password.
"""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import Queue
from typing import Any

from orchestrator.spec import AlertEvent, AlertSpec, shown_url
from orchestrator.spec.alerts import is_webhook

TIMEOUT_S = 5.0
"""Of each step of a request; chat services answer within one second."""
TRIES = 3
BACKOFF_S = 1.0
"""Before the second try; doubled before each further one."""
_RETRIED = frozenset({408, 425, 429})
"""Of the answers that blame the request, those that ask for patience; the others stay what they are."""
_AGENT = "orchestrator-alerts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What came of one message to one channel."""

    channel: str
    """Scheme and host."""
    answered: bool
    detail: str
    """What was answered, or what went wrong the last time."""
    tries: int
    seconds: float

    def __str__(self) -> str:
        tries = "1 try" if self.tries == 1 else f"{self.tries} tries"
        return f"{self.channel}: {self.detail} ({tries}, {self.seconds:.1f} s)"


class Webhooks:
    """`ports.Notifier` on webhooks: messages leave in order, on a thread of their own."""

    def __init__(
        self,
        experiment: str,
        channels: Sequence[AlertSpec],
        *,
        timeout_s: float = TIMEOUT_S,
        backoff_s: float = BACKOFF_S,
    ) -> None:
        self._experiment, self._channels = experiment, tuple(channels)
        self._timeout_s, self._backoff_s = timeout_s, backoff_s
        self._waiting: Queue[tuple[tuple[AlertSpec, ...], bytes] | None] = Queue()
        self._lost: list[Delivery] = []
        self._n_told = self._n_done = 0
        # A daemon: a channel that never ends its answer must not keep the process alive.
        self._thread = threading.Thread(target=self._work, name="alerts", daemon=True)

    def notify(self, event: AlertEvent, text: str, facts: Mapping[str, object] | None = None) -> None:
        """Tell every channel that wants this event; returns at once and never raises for a channel's sake."""
        wanted = tuple(channel for channel in self._channels if event in channel.on)
        if not wanted:
            return
        self._waiting.put((wanted, self._body(event, text, facts or {})))
        self._n_told += 1
        if not self._thread.is_alive():
            self._thread.start()

    def test(self) -> tuple[Delivery, ...]:
        """Send a test message to every channel, whatever it wants, and wait for what they answer."""
        text = f"test alert of experiment {self._experiment}: this channel works"
        return self._send(self._channels, self._body("test", text, {}))

    def close(self, timeout_s: float = 30.0) -> str | None:
        """Wait for what is on its way; one line about what could not be told, or None."""
        if not self._n_told:
            return None
        self._waiting.put(None)
        self._thread.join(timeout_s)
        lost, left = list(self._lost), self._n_told - self._n_done
        said = [str(lost[0]) + (f" and {len(lost) - 1} more" if len(lost) > 1 else "")] if lost else []
        said += [f"{left} still on their way after {timeout_s:g} s"] if left else []
        return f"alerts that did not arrive: {'; '.join(said)}" if said else None

    def _work(self) -> None:
        while (message := self._waiting.get()) is not None:
            self._lost += [delivery for delivery in self._send(*message) if not delivery.answered]
            self._n_done += 1

    def _body(self, event: str, text: str, facts: Mapping[str, object]) -> bytes:
        body = {**facts, "experiment": self._experiment, "event": event, "text": text}
        return json.dumps(body, default=str).encode()

    def _send(self, channels: Sequence[AlertSpec], body: bytes) -> tuple[Delivery, ...]:
        return tuple(post(each, body, timeout_s=self._timeout_s, backoff_s=self._backoff_s) for each in channels)


def post(
    channel: AlertSpec,
    body: bytes,
    *,
    timeout_s: float = TIMEOUT_S,
    tries: int = TRIES,
    backoff_s: float = BACKOFF_S,
    pause: Callable[[float], None] = time.sleep,
) -> Delivery:
    """One message to one channel; a failure is an answer like any other, never an exception."""
    begun = time.perf_counter()
    url = _address(channel)
    detail, tried = "", 0
    answered, is_final = False, False
    if url is None:
        detail, is_final = f"the environment variable {channel.variable} holds no http(s) address; set it", True
    while url is not None and tried < tries and not (answered or is_final):
        if tried:
            pause(backoff_s * 2 ** (tried - 1))
        tried += 1
        answered, is_final, detail = _try(url, body, timeout_s)
    shown = shown_url(channel.url)
    return Delivery(channel=shown, answered=answered, detail=detail, tries=tried, seconds=time.perf_counter() - begun)


def _address(channel: AlertSpec) -> str | None:
    if channel.variable is None:
        return channel.url
    found = os.environ.get(channel.variable, "").strip()
    return found if is_webhook(found) else None


def _try(url: str, body: bytes, timeout_s: float) -> tuple[bool, bool, str]:
    """Whether the channel answered, whether asking again is useless, and what happened; no word of the address."""
    request = urllib.request.Request(
        url, data=body, method="POST", headers={"Content-Type": "application/json", "User-Agent": _AGENT}
    )
    try:
        with _opener().open(request, timeout=timeout_s) as response:
            return True, True, f"answered {response.status}"
    except urllib.error.HTTPError as error:
        error.close()
        if 300 <= error.code < 400:
            return False, True, f"answered {error.code}, a redirect; give the address it leads to"
        return False, 400 <= error.code < 500 and error.code not in _RETRIED, f"answered {error.code}"
    except TimeoutError:
        return False, False, f"no answer within {timeout_s:g} s"
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            return False, False, f"no connection within {timeout_s:g} s"
        return False, False, _in_words(error.reason)
    except (OSError, http.client.HTTPException) as error:
        return False, False, _in_words(error)
    except ValueError as error:  # an address that only the client finds fault with, such as an empty part of the host
        return False, True, f"cannot be used: {type(error).__name__}"


def _in_words(reason: object) -> str:
    """A system's error by its text; anything else by its kind, because its text may quote the address."""
    if isinstance(reason, OSError) and reason.strerror:
        return f"cannot be reached: {reason.strerror}"
    return f"cannot be reached: {type(reason).__name__}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow none: urllib raises the redirect as an error then."""


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_NoRedirect)
