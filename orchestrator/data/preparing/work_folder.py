"""The folder that `prepare` writes in: locked, resumed when it was left behind, and put into place whole.

    <parent>/.preparing-<name>/     request.json  plan.json  places.npy  spill/  train-*.parquet ...
    <parent>/<name>/                the same less plan, places and spill, plus manifest.json; renamed as the last act

Every file in it is written under another name, synced and renamed, so whatever stands there under its own name is whole
and is not made again.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from filelock import FileLock, Timeout

from orchestrator import __version__
from orchestrator.data.manifest import FORMAT_VERSION, MANIFEST, Manifest, read_manifest
from orchestrator.data.versioning.fingerprint import replace_file
from orchestrator.errors import DataError

Say = Callable[[str], None]

REQUEST = "request.json"
"""What a folder was made from and how; a later `prepare` compares itself with it."""
PLAN = "plan.json"
PLACES = "places.npy"
SPILL = "spill"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
_MADE_OF = {"format": FORMAT_VERSION, "tool": __version__, "pyarrow": pa.__version__}
"""Work of another version is not gone on with: its bytes might differ."""


def work_folder_of(target: Path) -> Path:
    """Where the parts of a target are made."""
    return target.with_name(f".preparing-{target.name}")


@contextmanager
def locked(target: Path, say: Say) -> Iterator[None]:
    """One process at a time; a second one waits and then finds the work done."""
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target.with_name(f".preparing-{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"another process prepares {target}; waiting until it is done")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def telling_of_disk_errors(target: Path) -> Iterator[None]:
    """Sources report their own faults as DataError; what is left of OSError comes from writing."""
    try:
        yield
    except OSError as error:
        work = work_folder_of(target)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"{target}: no space is left there{_free(target)}; free some{_goes_on(work)}") from error
        reason = error.strerror or str(error)
        raise DataError(
            f"{error.filename or target}: prepared data cannot be written ({reason}); allow writing there or give "
            f"another folder{_goes_on(work)}"
        ) from error


def done_before(target: Path, request: Mapping[str, Any], *, overwrite: bool) -> Manifest | None:
    """What a target holds when it is just what is asked for, or None when it is to be made.

    Raises: DataError: it holds something else, which may not be overwritten.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    if not (target / MANIFEST).is_file():
        raise DataError(f"{target}: is there and is not prepared data; give another folder, or remove it yourself")
    try:
        manifest = read_manifest(target)
    except DataError as error:
        if overwrite:
            return None
        raise DataError(f"{error}; replace it with --overwrite, or give another folder") from error
    files = manifest.train_files + manifest.validation_files
    missing = [file.name for file in files if not (target / file.name).is_file()]
    return same_or_refused(str(target), manifest, _read_json(target / REQUEST), request, missing, overwrite=overwrite)


def same_or_refused(
    target: str,
    manifest: Manifest,
    found: Mapping[str, Any],
    request: Mapping[str, Any],
    missing: Sequence[str],
    *,
    overwrite: bool,
) -> Manifest | None:
    """The manifest when what was found is what is asked for, else None. Raises DataError: it may not be overwritten."""
    differing = differences(found.get("request", {}), request)
    if not differing and not missing:
        return manifest
    if overwrite:
        return None
    how = "; ".join(differing) or f"{', '.join(missing[:3])} missing"
    raise DataError(f"{target}: holds other prepared data ({how}); give another folder, or replace it with --overwrite")


def differences(found: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """``validation_fraction is 0.2, asked 0.3`` for each entry that differs."""
    return [f"{key} is {found.get(key)!r}, asked {asked[key]!r}" for key in asked if found.get(key) != asked[key]]


def open_work(target: Path, request: Mapping[str, Any], say: Say) -> Path:
    """The folder to work in: what an earlier process left of the same request, or an empty one."""
    work = work_folder_of(target)
    for stale in target.parent.glob(f".replaced-{target.name}-*"):
        shutil.rmtree(stale, ignore_errors=True)
    asked = {"request": dict(request), "made_of": _MADE_OF}
    if work.exists():
        if _read_json(work / REQUEST) == asked:
            say(f"going on with what an earlier run left in {work}")
            _remove_unknown(work)
            return work
        say(f"{work} is left of an earlier run with other content or options; starting afresh")
        shutil.rmtree(work)
    work.mkdir()
    replace_file(work / REQUEST, json.dumps(asked, indent=1).encode())
    return work


def finish(work: Path, target: Path) -> None:
    """Put a whole folder, its manifest included, into the target's place; what stood there is removed afterwards."""
    sync_folder(work)
    replaced = target.with_name(f".replaced-{target.name}-{uuid.uuid4().hex[:8]}")
    if not target.exists() or not any(target.iterdir()):
        work.rename(target)
    elif _exchange(work, target):
        work.rename(replaced)
    else:
        # Without the system call there is no name for a moment; a run that is killed in it is gone on with.
        target.rename(replaced)
        work.rename(target)
    sync_folder(target.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def remove_work(target: Path) -> None:
    """Forget what is left of work on a target that is done."""
    shutil.rmtree(work_folder_of(target), ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_plan(work: Path) -> dict[str, Any]:
    """How the memory was divided by the run that began the work; empty when none did."""
    return _read_json(work / PLAN)


def write_plan(work: Path, plan: Mapping[str, Any]) -> None:
    """Remember how the memory is divided."""
    replace_file(work / PLAN, json.dumps(dict(plan)).encode())


def _remove_unknown(work: Path) -> None:
    known = {REQUEST, PLAN, PLACES, SPILL}
    for child in work.iterdir():
        if child.name not in known and child.suffix != ".parquet":
            shutil.rmtree(child) if child.is_dir() else child.unlink()


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step where the system can."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    paths = os.fsencode(one), os.fsencode(other)
    return rename is not None and rename(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _free(target: Path) -> str:
    folder = target.parent
    return f" ({shutil.disk_usage(folder).free / 1e9:.2f} GB free)" if folder.exists() else ""


def _goes_on(work: Path) -> str:
    if not work.exists():
        return ""
    return f"; what was made so far is kept in {work}: the same command goes on from there, removing it gives it up"
