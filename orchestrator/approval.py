"""A person's answer to a verdict, given as the text of the tag ``approval`` on the run's page in MLflow.

    approved 3f2a9c1d by Ada Lovelace: worth the nine dollars
    rejected 3f2a9c1d by Ada Lovelace: the labels are not clean yet
    approved 3f2a9c1d by Ada Lovelace override: a HOLD, but the launch is on Friday

The code is the beginning of the verdict's ``inputs_digest``, so that a text can only ever answer the verdict that its
writer saw. Whatever does not read like this is no answer, and is told so; nothing is guessed. Pure: text and verdict
in, record out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from orchestrator.results import Approval, Verdict

CODE_LENGTH = 8
"""Hexadecimal digits of the inputs' digest; 1 in 4e9 that two verdicts of an experiment share them."""
_NAME_PLACEHOLDER, _REASON_PLACEHOLDER = "YOUR NAME", "REASON"
# What we write into the tag begins with one of these, and no answer does.
_OWN_WORDS = ("pending", "not needed", "answered")
_ANSWER = re.compile(r"(approve|approved|reject|rejected)\b(.*)", re.IGNORECASE | re.ASCII)
_CODE = re.compile(r"[0-9a-f]{6,64}", re.IGNORECASE | re.ASCII)
_BY = re.compile(r"by\b(.*)", re.IGNORECASE | re.ASCII)
_OVERRIDE = re.compile(r"(.*?)[\s,;]*\boverride", re.IGNORECASE | re.ASCII)
MAX_NAME_CHARACTERS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a person answered to the verdict at hand."""

    decision: Literal["approved", "rejected"]
    by: str
    reason: str
    override: str | None = None
    """The reason again, where the verdict is not PROMOTE and is approved all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotUnderstood:
    """A text that is no answer to the verdict at hand."""

    why: str
    """What is wrong with it and what to write instead, for the one who wrote it."""


def approval_code(inputs_digest: str) -> str:
    """What a person copies to say which verdict is meant."""
    return inputs_digest[:CODE_LENGTH]


def answer_template(verdict: Verdict, decision: Literal["approved", "rejected"] = "approved") -> str:
    """The text to set the tag to, with the verdict's own code and placeholders for name and reason."""
    override = " override" if decision == "approved" and verdict.kind != "PROMOTE" else ""
    return f"{decision} {approval_code(verdict.inputs_digest)} by {_NAME_PLACEHOLDER}{override}: {_REASON_PLACEHOLDER}"


def approval_prompt(verdict: Verdict) -> str:
    """What we write into the tag while nobody has answered."""
    template = answer_template(verdict)
    if verdict.kind == "PROMOTE":
        return f"pending: {template}"
    return f"not needed: the verdict is {verdict.kind}; to start all the same: {template}"


def answered_text(approval: Approval) -> str:
    """What we write into the tag, in place of the prompt, when the answer was given elsewhere."""
    code = approval_code(approval.inputs_digest)
    return f"answered: {approval.decision} {code} by {approval.by} ({approval.source}): {approval.reason}"


def is_own_text(text: str) -> bool:
    """Whether we wrote it, or nobody: then it is no answer."""
    flat = _flat(text).casefold()
    return not flat or flat.startswith(_OWN_WORDS)


def approval_instructions(verdict: Verdict) -> str:
    """Markdown for the run's description: how to answer this very verdict without a command line."""
    rejected = f"To reject it: `{answer_template(verdict, 'rejected')}`."
    if verdict.kind == "PROMOTE":
        first = "To approve, set the tag `approval` of this run to the line below, with your name and your reason."
    else:
        first = (
            f"The verdict is {verdict.kind}, so nothing waits for an approval. To start the full run all the same, set "
            "the tag `approval` of this run to the line below, with your name and your reason, which are recorded."
        )
    return (
        f"{first}\n\n```\n{answer_template(verdict)}\n```\n\n{rejected} "
        f"The code `{approval_code(verdict.inputs_digest)}` binds the answer to this verdict; "
        "what became of it is told in the tags `approval.state` and `approval.answer`."
    )


def parse_answer(text: str, verdict: Verdict) -> Answer | NotUnderstood | None:
    """What the tag says of the verdict; None while it holds nothing but our own prompt.

    Case and spaces do not matter, nor quotes around the code. Characters that do not print are dropped from name and
    reason, so that neither can steer a terminal.
    """
    if is_own_text(text):
        return None
    flat = _flat(text)
    answer = _ANSWER.match(flat)
    if answer is None:
        return _not_understood("an answer begins with the word approved or rejected", verdict)
    decision: Literal["approved", "rejected"] = "approved" if answer[1].casefold().startswith("a") else "rejected"
    code, _, rest = answer[2].strip(" :,").partition(" ")
    fault = _code_fault(code.strip("`'\"<>,;:"), verdict)
    return _not_understood(fault, verdict, decision) if fault else _of_person(rest, decision, verdict)


def _code_fault(code: str, verdict: Verdict) -> str | None:
    now = approval_code(verdict.inputs_digest)
    if not _CODE.fullmatch(code):
        return f"the code of the verdict is missing after the first word; it is {now}"
    if len(code) < CODE_LENGTH or not verdict.inputs_digest.casefold().startswith(code.casefold()):
        return f"this code is of an earlier verdict, or mistyped; the one now is {now}"
    return None


def _of_person(rest: str, decision: Literal["approved", "rejected"], verdict: Verdict) -> Answer | NotUnderstood:
    by = _BY.match(rest.strip())
    name, colon, reason = (by[1] if by else "").partition(":")
    name, reason = name.strip(" ,;"), reason.strip()
    override = _OVERRIDE.fullmatch(name)
    if override is not None:
        name = override[1].strip(" ,;")
    if not name or name.casefold() in {_NAME_PLACEHOLDER.casefold(), "name"} or len(name) > MAX_NAME_CHARACTERS:
        return _not_understood("your name is missing after the word by", verdict, decision)
    if not colon or not reason or reason.casefold() == _REASON_PLACEHOLDER.casefold():
        return _not_understood("the reason is missing after a colon", verdict, decision)
    is_overriding = decision == "approved" and verdict.kind != "PROMOTE"
    if is_overriding and override is None:
        fault = f"the verdict is {verdict.kind}, not PROMOTE, so an approval needs the word override before the colon"
        return _not_understood(fault, verdict, decision)
    return Answer(decision=decision, by=name, reason=reason, override=reason if is_overriding else None)


def _not_understood(
    fault: str, verdict: Verdict, decision: Literal["approved", "rejected"] = "approved"
) -> NotUnderstood:
    return NotUnderstood(why=f"not understood: {fault}. Write: {answer_template(verdict, decision)}")


def _flat(text: str) -> str:
    """On one line, single spaces, without characters that do not print."""
    return " ".join("".join(c for c in " ".join(text.split()) if c.isprintable()).split())
