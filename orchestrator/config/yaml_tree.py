"""YAML text to a plain tree: what is wrong with the text itself, found before anyone asks what it means."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from orchestrator.config.wording import Key, dotted
from orchestrator.errors import ConfigError, Fault, did_you_mean

_MOST_NODES = 100_000  # of a config with its aliases written out; a text far smaller can otherwise fill the memory


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, with the numbers of YAML 1.2.

    In YAML 1.1 ``1e-3`` is text (it wants ``1.0e-3``), ``1:30`` is the number 90, ``010`` is 8, ``2026-01-01`` a date.
    Here the first is a number and the others are text, so that a numeric key refuses them by name.
    """


_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, rx) for tag, rx in resolvers if tag not in {_INT, _FLOAT, "tag:yaml.org,2002:timestamp"}]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_INT, re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"[-+]?(?:(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|\.inf|\.Inf|\.INF)$|\.(?:nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)
_BOOL, _TEXT = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:str"
_KNOWN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq", "merge")}


def read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except IsADirectoryError:
        raise whole_file_error(str(path), f"is a folder; name a file in it: {_configs_in(path)}") from None
    except FileNotFoundError:
        folder = path.parent
        if not folder.is_dir():
            raise whole_file_error(str(path), f"is not there, and neither is the folder {folder}") from None
        near = did_you_mean(path.name, [file.name for file in folder.iterdir()])
        raise whole_file_error(str(path), f"is not there{near or ';'} {folder} holds: {_configs_in(folder)}") from None
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x} at offset {error.start}"
        advice = "save it as UTF-8, or name the config file"
        raise whole_file_error(str(path), f"is not UTF-8 text ({found}); {advice}") from None
    except OSError as error:
        raise whole_file_error(str(path), f"cannot be read: {error.strerror}") from None


def _configs_in(folder: Path) -> str:
    names = sorted(file.name for file in folder.iterdir() if file.suffix in {".yaml", ".yml"})
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") if names else "no .yaml file"


def parse_yaml(text: str, source: str) -> tuple[Any, list[Fault]]:
    """The plain tree, and the faults that leave one. Raises ConfigError: the text is not YAML."""
    loader = _Loader("")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, []
        walk = _NodeWalk()
        walk.visit(node, ())
        if walk.fatal:
            raise ConfigError(source, tuple(walk.faults))
        # Through JSON: keys become text, and what an alias shares becomes separate, as overrides change it in place.
        return json.loads(json.dumps(loader.construct_document(node))), walk.faults
    except yaml.YAMLError as error:
        raise whole_file_error(source, _syntax_message(error)) from None
    except (RecursionError, ValueError) as error:
        raise whole_file_error(source, f"cannot be read as YAML: {error}") from None
    finally:
        loader.dispose()


class _NodeWalk:
    """Finds in YAML nodes what the plain tree no longer shows: repeated keys, foreign tags, aliases that explode."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.fatal = False
        self._sizes: dict[int, int] = {}

    def visit(self, node: yaml.Node, key: Key) -> int:
        """Nodes below this one with aliases written out; a node that holds itself counts as too many."""
        if id(node) in self._sizes:
            return self._sizes[id(node)]
        self._sizes[id(node)] = _MOST_NODES + 1  # until it is known: only a node inside itself sees this
        if node.tag not in _KNOWN_TAGS:
            self._refuse(key, f"has the tag {node.tag!r}, which a config cannot hold; write plain YAML")
        size = 1 + sum(self.visit(child, inner) for inner, child in self._children(node, key))
        if size > _MOST_NODES and key == ():
            self._refuse(key, "its aliases (*name) repeat too much, or hold themselves; write the values out")
        self._sizes[id(node)] = size
        return size

    def _children(self, node: yaml.Node, key: Key) -> Iterator[tuple[Key, yaml.Node]]:
        if isinstance(node, yaml.SequenceNode):
            yield from (((*key, i), child) for i, child in enumerate(node.value))
        elif isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for name, child in node.value:
                if not isinstance(name, yaml.ScalarNode):
                    self._refuse(key, f"line {name.start_mark.line + 1}: a key must be a word, not a list or mapping")
                    continue
                if name.tag == _BOOL:  # `on:` is a key of ours, and a truth value in YAML 1.1
                    name.tag = _TEXT
                line = name.start_mark.line + 1
                if name.value in lines:
                    where = f"line {line}" if lines[name.value] == line else f"lines {lines[name.value]} and {line}"
                    self.faults.append(Fault(dotted((*key, name.value)), f"stands twice, on {where}; keep one"))
                lines[name.value] = line
                yield (*key, name.value), child

    def _refuse(self, key: Key, message: str) -> None:
        self.faults.append(Fault(dotted(key), message))
        self.fatal = True


def _syntax_message(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        context = f" {error.context}" if error.context else ""
        return f"is not YAML: line {mark.line + 1}, column {mark.column + 1}: {error.problem}{context}"
    return "is not YAML: " + " ".join(str(error).split())


def whole_file_error(source: str, message: str) -> ConfigError:
    return ConfigError(source, (Fault("", message),))
