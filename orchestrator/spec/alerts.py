"""Who is told what while nobody watches: webhooks with the events they want.

A webhook's address is often a password in itself, so it is shown only as `shown_url` has it, and may be written as
``$NAME``, which is read from the environment when a message is sent: then neither config nor journal holds it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, get_args
from urllib.parse import urlsplit

from orchestrator.spec.checks import STRICT, Checks

AlertEvent = Literal["verdict", "cap", "failure", "promotion"]
"""A verdict was reached; a dollar cap was reached; a trial or full run failed; a full run began or ended."""
ALERT_EVENTS: tuple[AlertEvent, ...] = get_args(AlertEvent)
_VARIABLE = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertSpec:
    """One channel and what it is told."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    url: str = field(repr=False)
    """A webhook (http or https) that takes JSON by POST, or ``$NAME`` for the environment variable that holds it."""
    on: tuple[AlertEvent, ...] = ALERT_EVENTS
    """Events it is told; all of them when left out."""

    def __post_init__(self) -> None:
        checks = Checks()
        checks.require(bool(_VARIABLE.fullmatch(self.url)) or is_webhook(self.url), "url", _refusal(self.url))
        checks.require(len(self.on) > 0, "on", f"is empty; list some of: {', '.join(ALERT_EVENTS)}, or leave it out")
        checks.require(len(set(self.on)) == len(self.on), "on", f"holds repeats: {', '.join(self.on)}")
        checks.done()

    @property
    def variable(self) -> str | None:
        """Name of the environment variable that holds the address; None where the config does."""
        return self.url[1:] if self.url.startswith("$") else None


def is_webhook(url: str) -> bool:
    """Whether it is an http or https address with a host, and nothing a client would choke on."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # a port that is no number, or half an IPv6 address
        return False
    plain = url.isascii() and url.isprintable() and " " not in url
    return plain and parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc


def shown_url(url: str) -> str:
    """Scheme and host, for messages: path, query and user may be secrets. A variable's name is none."""
    if url.startswith("$"):
        return url
    if not is_webhook(url):
        return "***"
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}/***"


def is_masked(url: str) -> bool:
    """Whether it is what `shown_url` made of an address."""
    return url.endswith("***")


def without_secrets(alerts: Iterable[AlertSpec]) -> tuple[AlertSpec, ...]:
    """The same channels with their addresses as they may be shown, for copies of the config that others see."""
    return tuple(replace(alert, url=shown_url(alert.url)) for alert in alerts)


def _refusal(url: str) -> str:
    scheme, colon, _ = url.partition(":")
    if not url.strip():
        return "is empty; give an http(s) address, or $NAME for one in the environment"
    if url.startswith("$"):
        return "must be $NAME with letters, digits and '_', the environment variable that holds the address"
    if colon and scheme.isalpha() and scheme not in {"http", "https"}:
        return f"must begin with http:// or https://, got {scheme}:"
    if "@" in url:
        return "holds a user name, which is not sent; give the address alone"
    return "must be a whole http(s) address without blanks, such as https://hooks.example/..., or $NAME"
