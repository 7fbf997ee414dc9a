"""The journal's line format and its check: a chain of sealed JSON lines.

A line reads ``{"seq", "at", "kind", "payload", "previous", "sha256"}``. ``sha256`` is taken over the bytes of the line
without its own field, and ``previous`` is the ``sha256`` of the line before (64 zeros for the first). A line that was
altered, dropped or moved therefore breaks the chain where it happened. What a chain alone cannot show is a missing end,
or a chain that was written anew as a whole: for that a `Seal`, the last line's number and digest, is kept elsewhere.
Bytes in, records out; the files are `journal`'s.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

FIRST_PREVIOUS = "0" * 64
_SEAL = re.compile(rb',"sha256":"([0-9a-f]{64})"\}')
_SEAL_TEXT = re.compile(r"([0-9]{12}) ([0-9a-f]{64})")
_SEAL_LENGTH = len(',"sha256":""}') + 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the journal."""

    seq: int
    """From 1, without gaps."""
    at: str
    """UTC, ISO 8601."""
    kind: str
    """What the payload is; a kind that this version does not know is kept and passed over."""
    payload: dict[str, Any]
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """A file's good lines, and what stopped the reading."""

    entries: tuple[Entry, ...]
    n_good_bytes: int
    fault: str | None = None
    is_torn: bool = False
    """The fault is a last line that was not written to its end."""
    tail: bytes = b""
    """All bytes from the fault on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What one line was when it was the last, for keeping where the journal is not."""

    seq: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.seq:012d} {self.sha256}"

    @classmethod
    def parse(cls, text: str) -> Seal | None:
        """The seal that `str` wrote; None for anything else."""
        found = _SEAL_TEXT.fullmatch(text.strip())
        return cls(seq=int(found[1]), sha256=found[2]) if found else None

    def fault(self, entries: Sequence[Entry]) -> str | None:
        """What is wrong with lines that should hold the sealed one; None when they do."""
        if len(entries) < self.seq:
            return f"line {self.seq} was written and is missing; the last intact one is line {len(entries)}"
        if entries[self.seq - 1].sha256 != self.sha256:
            return f"line {self.seq} is not the one that was written: the chain was written anew at or before it"
        return None


def last_seal(entries: Sequence[Entry]) -> Seal | None:
    """The seal of the lines so far; None without any."""
    return Seal(seq=entries[-1].seq, sha256=entries[-1].sha256) if entries else None


def scan_lines(content: bytes) -> Scan:
    """Read lines until the end or the first fault; never raises, whatever the bytes."""
    entries: list[Entry] = []
    position = 0
    while position < len(content):
        newline = content.find(b"\n", position)
        end = len(content) if newline < 0 else newline
        raw = content[position:end]
        entry = _sealed_entry(raw)
        fault = "its digest does not match its bytes" if entry is None else _chain_fault(entry, raw, entries)
        if entry is None or fault is not None:
            is_torn = entry is None and end + 1 >= len(content)
            return Scan(
                entries=tuple(entries), n_good_bytes=position, fault=fault, is_torn=is_torn, tail=content[position:]
            )
        entries.append(entry)
        position = end + 1
    return Scan(entries=tuple(entries), n_good_bytes=min(position, len(content)))


def _sealed_entry(raw: bytes) -> Entry | None:
    """The entry of a line whose own digest holds, else None."""
    seal = _SEAL.fullmatch(raw[-_SEAL_LENGTH:])
    body = raw[:-_SEAL_LENGTH] + b"}"
    if seal is None or hashlib.sha256(body).hexdigest().encode() != seal[1]:
        return None
    try:
        record = json.loads(body)
        entry = Entry(
            seq=record["seq"], at=record["at"], kind=record["kind"], payload=record["payload"], sha256=seal[1].decode()
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return entry if isinstance(entry.payload, dict) and isinstance(entry.kind, str) else None


def _chain_fault(entry: Entry, raw: bytes, before: list[Entry]) -> str | None:
    previous = before[-1].sha256 if before else FIRST_PREVIOUS
    if entry.seq == len(before) + 1 and json.loads(raw).get("previous") == previous:
        return None
    return "it does not follow the line before it, so a line was dropped, added or moved"


def sealed_line(seq: int, at: str, kind: str, payload: Any, previous: str) -> tuple[bytes, str]:
    """The bytes of a line, newline included, and its seal."""
    record = {"seq": seq, "at": at, "kind": kind, "payload": payload, "previous": previous}
    body = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
    seal = hashlib.sha256(body).hexdigest()
    return body[:-1] + f',"sha256":"{seal}"}}\n'.encode(), seal
