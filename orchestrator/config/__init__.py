"""YAML and overrides to an `ExperimentSpec`: strict, and every fault at once.

Reading goes text -> plain tree (`yaml_tree`) -> overrides -> pydantic over the records of `spec`, with messages in a
reader's words (`wording`). pydantic does not look at a record's own rules while one of its fields has the wrong type;
so faults are collected in rounds, each place that was reported being replaced by a neutral value before the next look.
"""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.config.wording import (
    Key,
    adapter,
    dotted,
    is_at_or_below,
    kind_of,
    missing_message,
    place_of,
    required_keys,
    show,
    unknown_key,
    wrong_message,
)
from orchestrator.config.yaml_tree import parse_yaml, read_text, whole_file_error
from orchestrator.errors import ConfigError, Fault, SpecValueError
from orchestrator.spec import ExperimentSpec

if typing.TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["config_schema", "load_config", "override_spec"]

# Values that satisfy every rule, whatever stands beside them; they take the place of what was already reported.
_NEUTRAL: dict[str, Any] = {
    "name": "neutral",
    "task": "neutral:neutral",
    "data": {"source": "neutral"},
    "data.source": "neutral",
    "models": [{"name": "neutral"}],
    "sweep": {"fractions": [1e-9]},
    "sweep.fractions": [1e-9],
    "sweep.seeds": 10**9,
    "decision": {"min_gain_per_dollar": 0.0, "metric": "loss"},
    "decision.min_gain_per_dollar": 0.0,
    "decision.metric": "loss",
    "pricing": {"usd_per_worker_hour": 1.0},
    "training": {"global_batch_size": 10**9},
    "training.global_batch_size": 10**9,
}
_MOST_ROUNDS = 10  # each round settles at least one level of the records, of which there are four


def load_config(path: Path, overrides: Sequence[str] = ()) -> ExperimentSpec:
    """Read a config.

    Args:
        path: A YAML file.
        overrides: ``a.b=value`` each, the value as YAML; list entries by index, ``models.0.width=8``. Later ones win.
    Raises: ConfigError: All faults of file and overrides together.
    """
    source = str(path)
    tree, faults = parse_yaml(read_text(path), source)
    if not isinstance(tree, dict):
        found = "is empty" if tree is None else f"holds {kind_of(tree)}"
        needed = ", ".join(required_keys(ExperimentSpec))
        raise whole_file_error(source, f"{found}; it must be a mapping with the keys {needed}")
    return _build(tree, overrides, source, faults)


def override_spec(spec: ExperimentSpec, overrides: Sequence[str], *, source: str) -> ExperimentSpec:
    """The same config with overrides as in `load_config`. Raises ConfigError, which names ``source``."""
    tree = dataclasses.asdict(spec)
    tree["models"] = [{"name": model["name"], **model["options"]} for model in tree["models"]]
    return _build(json.loads(json.dumps(tree)), overrides, source, [])


def config_schema() -> dict[str, Any]:
    """JSON Schema of the YAML file, each key with its description."""
    schema = adapter().json_schema()
    # In the file a model's options stand beside its name.
    model = schema["$defs"]["ModelSpec"]
    options = model["properties"].pop("options")
    model["additionalProperties"] = options["additionalProperties"]
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def _build(tree: dict[str, Any], overrides: Sequence[str], source: str, faults: list[Fault]) -> ExperimentSpec:
    origin: dict[str, str] = {}
    for override in overrides:
        key, fault = _apply_override(tree, override)
        if fault is None:
            origin[key] = override
        else:
            faults.append(fault)
    pricing = tree.get("pricing")
    if isinstance(pricing, dict) and isinstance(pricing.get("purchase"), str):
        pricing["purchase"] = [pricing["purchase"]]  # one option is as good as a list of one
    found, spec = _faults_and_spec(tree)
    faults += [_with_origin(fault, origin) for fault in found]
    if faults or spec is None:
        raise ConfigError(source, tuple(faults))
    return spec


def _with_origin(fault: Fault, origin: Mapping[str, str]) -> Fault:
    for key, override in origin.items():
        if is_at_or_below(fault.key, key):
            if is_at_or_below(key, "alerts"):  # a webhook's address may be a password
                override = f"{key}=..."
            return Fault(fault.key, f"{fault.message} (from the override {override!r})")
    return fault


def _faults_and_spec(tree: dict[str, Any]) -> tuple[list[Fault], ExperimentSpec | None]:
    """All faults of the tree, round by round, and the spec: of the tree itself only when there was no fault."""
    from pydantic import ValidationError

    faults: list[Fault] = []
    repaired: set[Key] = set()
    for _ in range(_MOST_ROUNDS):
        found = list(_not_finite(tree, ()))
        if not found:
            try:
                return faults, adapter().validate_json(json.dumps(_with_options(tree)), strict=True)
            except ValidationError as error:
                found = [fault for detail in error.errors() for fault in _faults_of(detail)]
        keys: list[Key] = []
        for key, message in found:
            # A union reports once per member; and what a neutral value leads to is nobody's fault.
            if not any(is_at_or_below(dotted(key), fault.key) for fault in faults):
                faults.append(Fault(dotted(key), message))
            keys.append(key)
        # From the back, so that list indices of this round stay true.
        for key in sorted(set(keys), key=lambda key: [(isinstance(part, str), part) for part in key], reverse=True):
            _repair(tree, key if key not in repaired else key[:-1])
            repaired.add(key)
    return faults, None


def _faults_of(detail: ErrorDetails) -> Iterator[tuple[Key, str]]:
    """Place and message of one pydantic error."""
    loc: Key = detail["loc"]
    if len(loc) > 3 and loc[0] == "models" and loc[2] == "options":
        loc = (*loc[:2], *loc[3:])
    error = detail.get("ctx", {}).get("error")
    if detail["type"] == "unexpected_keyword_argument":
        fault = unknown_key(loc)
        yield loc, fault.message if fault else detail["msg"]
    elif isinstance(error, SpecValueError):
        yield from (((*loc, *fault.key.split(".")), fault.message) for fault in error.faults)
    else:
        key, hint = place_of(loc)
        is_missing = detail["type"] == "missing"
        # A webhook's address may be a password.
        value = "***" if key[:1] == ("alerts",) and "on" not in key else detail["input"]
        yield key, missing_message(key, hint) if is_missing else wrong_message(hint, value)


def _repair(tree: dict[str, Any], key: Key) -> None:
    """Put a neutral value at the key, or remove it where it has a default."""
    if not key:
        tree.clear()
        tree.update({name: _NEUTRAL[name] for name in required_keys(ExperimentSpec)})
        return
    place: Any = tree
    for part in key[:-1]:
        place = place.get(part) if isinstance(place, dict) else place[int(part)]
        if not isinstance(place, dict | list):
            return
    last = key[-1]
    if key[0] == "models" and (len(key) == 2 or key[2:] == ("name",)):
        place[last] = f"neutral-{key[1]}" if key[2:] else {"name": f"neutral-{key[1]}"}
    elif dotted(key) in _NEUTRAL:
        place[last] = json.loads(json.dumps(_NEUTRAL[dotted(key)]))
    elif isinstance(place, list):
        place.pop(int(last))
        if not place:
            _repair(tree, key[:-1])
    else:
        place.pop(last, None)


def _not_finite(value: Any, key: Key) -> Iterator[tuple[Key, str]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield key, f"must be a finite number, got {value}"
    elif isinstance(value, dict | list):
        for part, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _not_finite(child, (*key, part))


def _with_options(tree: dict[str, Any]) -> dict[str, Any]:
    """``{name: cnn, width: 16}`` as the record has it: ``{name: cnn, options: {width: 16}}``."""
    models = tree.get("models")
    if not isinstance(models, list):
        return tree
    return {**tree, "models": [_model_with_options(model) if isinstance(model, dict) else model for model in models]}


def _model_with_options(model: dict[str, Any]) -> dict[str, Any]:
    named = {"name": model["name"]} if "name" in model else {}
    return {**named, "options": {key: value for key, value in model.items() if key != "name"}}


def _apply_override(tree: dict[str, Any], override: str) -> tuple[str, Fault | None]:
    """Set one ``a.b=value`` in the tree; the dotted key, and what was wrong with it."""
    name, equals, text = override.partition("=")
    name = name.strip()
    if not equals or not name:
        return override, Fault(override, "must read key=value, e.g. sweep.seeds=5")
    try:
        value, faults = parse_yaml(text, name)
    except ConfigError as error:
        return name, Fault(name, f"the value {text!r} {error.faults[0].message}; put it in quotes")
    if faults:
        return name, Fault(name, faults[0].message)
    key: Key = tuple(int(part) if part.isdecimal() else part for part in name.split("."))
    return name, unknown_key(key) or _set(tree, key, value)


def _set(tree: dict[str, Any], key: Key, value: Any) -> Fault | None:
    place: Any = tree
    for depth, part in enumerate(key):
        above = dotted(key[:depth])
        if isinstance(place, list):
            if not isinstance(part, int) or part >= len(place):
                have = f"0 to {len(place) - 1}" if place else "none"
                return Fault(dotted(key), f"there is no {above}.{part}; {above} is a list with the entries {have}")
        elif not isinstance(place, dict):
            return Fault(dotted(key), f"cannot be set, because {above} is {show(place)}; set {above} as a whole")
        if depth == len(key) - 1:
            place[part] = value
        else:
            if isinstance(place, dict) and place.get(str(part)) is None:
                place[part] = {}  # a section that the file leaves out or leaves empty
            place = place[part]
    return None
