"""What can be seen to fail before anything is started: every fault at once, without importing any of the user's code.

Whether ``task`` names a module with that function is read off the module's file. What only running shows (a model's
name and options) is the smoke test's.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import pkgutil
import symtable
import tempfile
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import ConfigError, Fault, PriceError, did_you_mean

if TYPE_CHECKING:
    from orchestrator.results import DataSummary
    from orchestrator.spec import ExperimentSpec


def preflight(spec: ExperimentSpec, source: str) -> None:
    """Refuse what would fail once trials run. Raises ConfigError.

    Worker counts and the task's module are checked against this machine; a cluster behind ``RAY_ADDRESS`` has its own,
    and is asked once it is reached.

    Args:
        spec: The config.
        source: Its file, for the message.
    """
    from orchestrator.backends.cluster import is_remote, local_capacity
    from orchestrator.data.prepared import check_source
    from orchestrator.planner import infeasible_workers
    from orchestrator.tracking.journal import run_folder
    from orchestrator.tracking.mlflow_store import check_store

    found = [
        None if is_remote() else check_task(spec.task),
        None if spec.data.source == "task" else _told("data.source", lambda: check_source(spec.data)),
        _check_prices(spec),
        _check_folder(run_folder(spec.runs_dir, spec.name)),
        _told("tracking.uri", lambda: check_store(spec.tracking.uri)),
    ]
    faults = [fault for fault in found if fault is not None]
    if not is_remote():
        faults += infeasible_workers(spec, local_capacity())
    if faults:
        raise ConfigError(source, tuple(faults))


def require_rows(spec: ExperimentSpec, source: str, data: DataSummary) -> None:
    """Refuse fractions too small to train on, once the number of rows is known. Raises ConfigError."""
    from orchestrator.planner import subset_faults

    faults = subset_faults(spec, data)
    if faults:
        raise ConfigError(source, faults)


def _told(key: str, check: Callable[[], Fault | None]) -> Fault | None:
    """The check's own fault, or what the system has against looking at the path at all."""
    try:
        return check()
    except OSError as error:
        return Fault(key, f"{error.filename} cannot be looked at: {error.strerror}; allow it, or name another place")


def _check_prices(spec: ExperimentSpec) -> Fault | None:
    from orchestrator.cli.compose import rates_of

    try:
        rates_of(spec)
    except PriceError as error:
        return Fault("pricing", str(error))
    return None


def _check_folder(run: Path) -> Fault | None:
    """Whether the run's folder is there or can be made, by writing: permission bits do not bind root."""
    existing = next(path for path in (run, *run.absolute().parents) if os.path.exists(path))
    if not existing.is_dir():
        return Fault("runs_dir", f"{run} cannot be a folder, because {existing} is a file; set runs_dir to a folder")
    try:
        with tempfile.TemporaryDirectory(prefix=".orchestrator-", dir=existing):
            return None
    except OSError as error:
        reason = f"nothing can be written in {existing} ({error.strerror})"
        return Fault("runs_dir", f"{run} cannot be used: {reason}; set runs_dir to a folder you can write to")


def check_task(task: str) -> Fault | None:
    """What is wrong with ``module:function`` as far as its file shows, or None."""
    module_name, _, function = task.partition(":")
    module = _find_module(module_name)
    problem = _missing_function(module, function) if isinstance(module, ModuleSpec) else module
    return Fault("task", f"{task!r}: {problem}") if problem else None


def _find_module(name: str) -> ModuleSpec | str:
    """Where a module is, or why there is none; neither it nor the packages above it are imported."""
    head, *rest = name.split(".")
    try:
        found = importlib.util.find_spec(head)
    except ValueError:  # an empty name, or a module that was not loaded from anywhere
        found = None
    if found is None:
        return f"there is no module {head!r} in {Path.cwd()} or among the installed ones; run from the folder it is in"
    reached = head
    for part in rest:
        folders = list(found.submodule_search_locations or ())
        # By its own name alone: a namespace package below another asks for the upper one in sys.modules.
        below = PathFinder.find_spec(part, folders)
        if below is None:
            names = sorted(module.name for module in pkgutil.iter_modules(folders))
            listed = f"; it has: {', '.join(names[:10])}" if names else ""
            return f"{reached} has no module {part!r}{did_you_mean(part, names) or listed}"
        found, reached = below, f"{reached}.{part}"
    return found


def _missing_function(module: ModuleSpec, function: str) -> str:
    """Why the module's text cannot bring the function; empty when it does, or when only importing would tell."""
    if not isinstance(module.loader, SourceFileLoader):
        return ""
    try:
        text = module.loader.get_source(module.name) or ""
        tree = ast.parse(text, str(module.origin))
        symbols = symtable.symtable(text, str(module.origin), "exec").get_symbols()
    except SyntaxError as error:
        return f"{module.origin}, line {error.lineno}: {error.msg}; mend it"
    except (ImportError, ValueError) as error:
        return f"{module.origin} cannot be read as Python: {error}"
    bound = {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}
    if function in bound or any(map(_makes_names, ast.walk(tree))):
        return ""
    made_here = sorted(s.get_name() for s in symbols if s.is_namespace() and not s.get_name().startswith("_"))
    near = did_you_mean(function, made_here) or f"; it has: {', '.join(made_here) or 'none'}"
    return f"{module.origin} has no function {function!r}{near}"


def _makes_names(node: ast.AST) -> bool:
    """Whether the module gets names by this that its text does not show."""
    match node:
        case ast.ImportFrom(names=[ast.alias(name="*")]):
            return True
        case ast.FunctionDef(name="__getattr__") | ast.Global() | ast.Name(id="globals"):
            return True
    return False
