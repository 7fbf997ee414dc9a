"""What the records of `spec` say of themselves: which keys there are, which types, and how to tell a reader."""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from orchestrator.errors import Fault, did_you_mean
from orchestrator.spec import ExperimentSpec, ModelSpec, Scalar

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Key = tuple[str | int, ...]


@cache
def adapter() -> TypeAdapter[ExperimentSpec]:
    """pydantic's validator of the records; the import waits until a config is read."""
    from pydantic import TypeAdapter

    return TypeAdapter(ExperimentSpec)


@cache
def _hints(record: type) -> dict[str, Any]:
    hints = get_type_hints(record)
    return {field.name: hints[field.name] for field in dataclasses.fields(record)}


def _members(hint: Any) -> tuple[Any, ...]:
    """Of a union its members, else the hint alone."""
    return get_args(hint) if get_origin(hint) in {Union, types.UnionType} else (hint,)


def _record(hint: Any) -> type | None:
    """The record a type allows, if any."""
    return next(
        (member for member in _members(hint) if isinstance(member, type) and dataclasses.is_dataclass(member)), None
    )


def _choices(hint: Any) -> list[Any]:
    return [choice for member in _members(hint) if get_origin(member) is Literal for choice in get_args(member)]


def _child(hint: Any, part: str | int) -> Any:
    """The type below ``part``, or None where there is none."""
    for member in _members(hint):
        if member is ModelSpec:
            return str if part == "name" else Scalar
        if dataclasses.is_dataclass(member) and isinstance(member, type) and part in _hints(member):
            return _hints(member)[str(part)]
        if get_origin(member) is tuple and isinstance(part, int):
            return get_args(member)[0]
    return None


def place_of(loc: Key) -> tuple[Key, Any]:
    """The key and type that a pydantic location stands for; what follows (the tag of a union's member) is dropped."""
    hint: Any = ExperimentSpec
    for depth, part in enumerate(loc):
        child = _child(hint, part)
        if child is None:
            return loc[:depth], hint
        hint = child
    return loc, hint


def required_keys(record: type) -> list[str]:
    """Fields without a default."""
    missing = dataclasses.MISSING
    return [f.name for f in dataclasses.fields(record) if f.default is missing and f.default_factory is missing]


@cache
def _all_keys() -> tuple[str, ...]:
    """Every dotted key of a config, sections included."""

    def below(record: type, prefix: str) -> Iterator[str]:
        for name, hint in _hints(record).items():
            yield prefix + name
            for member in _members(hint):
                if isinstance(member, type) and dataclasses.is_dataclass(member):
                    yield from below(member, f"{prefix}{name}.")

    return tuple(below(ExperimentSpec, ""))


_WORDS: dict[Any, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def type_in_words(hint: Any) -> str:
    """A type in the reader's words."""
    if hint == Scalar:
        return "a single value (number, text, true or false)"
    words: list[str] = []
    for member in _members(hint):
        if get_origin(member) is Literal:
            words += [repr(choice) for choice in get_args(member)]
        elif get_origin(member) is tuple:
            words.append(f"a list, each entry {type_in_words(get_args(member)[0])}")
        elif member is ModelSpec:
            words.append("a mapping such as {name: linear}")
        elif isinstance(member, type) and dataclasses.is_dataclass(member):
            words.append(f"a mapping with the keys {', '.join(_hints(member))}")
        elif member is not type(None):
            words.append(_WORDS[member])
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def missing_message(key: Key, hint: Any) -> str:
    """What a required key must hold, with the sentence its record has for it."""
    schema = adapter().json_schema()
    holder = _record(place_of(key[:-1])[1])
    section = schema if holder in {None, ExperimentSpec} else schema["$defs"][holder.__name__]
    described = section["properties"].get(str(key[-1]), {}).get("description", "").replace("``", "").rstrip(".")
    return f"is missing; it must be {type_in_words(hint)}" + (f": {described}" if described else "")


def wrong_message(hint: Any, value: Any) -> str:
    """What a value of the wrong type should have been."""
    if value is None:
        advice = "; fill it in or leave the key out" if _record(hint) else ""
        return f"is empty; it must be {type_in_words(hint)}{advice}"
    advice = ""
    if str in _members(hint) and isinstance(value, bool | int | float):
        advice = "; put it in quotes"
    elif isinstance(value, str):
        advice = did_you_mean(value, [choice for choice in _choices(hint) if isinstance(choice, str)])
    return f"must be {type_in_words(hint)}, got {show(value)}{advice}"


def unknown_key(key: Key) -> Fault | None:
    """What is wrong with a dotted key by itself, whatever the file holds."""
    hint: Any = ExperimentSpec
    for depth, part in enumerate(key):
        child = _child(hint, part)
        if child is None:
            return Fault(dotted(key), _unknown_message(hint, key, depth))
        hint = child
    return None


def _unknown_message(hint: Any, key: Key, depth: int) -> str:
    above, part = dotted(key[:depth]), str(key[depth])
    record = _record(hint)
    if record is None:
        is_list = any(get_origin(member) is tuple for member in _members(hint))
        return f"{above} is a list; name an entry by its index: {above}.0" if is_list else f"{above} holds no keys"
    elsewhere = [path for path in _all_keys() if path.rpartition(".")[2] == part]
    near = f"; did you mean {' or '.join(elsewhere)}?" if elsewhere else did_you_mean(part, _hints(record))
    return f"unknown key{near or ';'} {above or 'a config'} takes: {', '.join(_hints(record))}"


def show(value: Any) -> str:
    """A value as the YAML has it, cut to what fits a line."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def kind_of(value: Any) -> str:
    return "a list" if isinstance(value, list) else f"only the value {show(value)}"


def dotted(key: Key) -> str:
    return ".".join(map(str, key))


def is_at_or_below(key: str, ancestor: str) -> bool:
    return key == ancestor or key.startswith(f"{ancestor}.")
