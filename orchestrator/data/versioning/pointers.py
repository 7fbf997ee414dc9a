"""Pointers that data versioning tools leave beside a data set: what they call the version at hand.

A pointer is recorded as it is found and proves nothing: whether the data still are what it names, the fingerprint says.
Only small files are read, nothing is called over the network, and a damaged pointer is left out with a ``note``.

    dvc.md5, dvc.file, dvc.git_commit            a .dvc file or dvc.lock whose outs hold the source, or lie in it
    lakefs.repository, lakefs.ref, lakefs.commit a lakefs:// address, one of its S3 gateway, or a `lakectl local` folder
    delta.version, delta.timestamp               _delta_log
    iceberg.snapshot_id, .schema_id, .metadata   metadata/*.metadata.json

DVC: dvc.org/doc/user-guide/project-structure (.dvc files, dvc.yaml and dvc.lock). lakeFS: docs.lakefs.io, concepts
(lakefs://<repository>/<ref>/<path>; over S3 the repository is the bucket and the ref begins the path).
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from orchestrator.data.versioning.tables import delta_pointers, iceberg_pointers, live_files

if TYPE_CHECKING:
    import pyarrow.fs as pafs

__all__ = ["live_files", "version_pointers"]

NOTE = "note"
_MAX_POINTER_BYTES = 8 << 20
_MAX_LISTED = 8
_GIT_TIMEOUT_S = 5.0
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LAKEFS_COMMIT = re.compile(r"[0-9a-f]{64}")
_LAKEFS_LOCAL = ".lakefs_ref.yaml"


def version_pointers(
    source: str | Path, filesystem: pafs.FileSystem | None = None, *, environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """What versioning tools say of a source, by the names in the module's header; empty when they say nothing.

    Args:
        source: Path, or an address such as ``s3://bucket/table``.
        filesystem: Where an address leads, to look into its folder; without one only its text is looked at.
        environ: Environment, for the address of a lakeFS server.
    Never raises: what could not be read is told under ``note``.
    """
    text = str(source)
    address = urlsplit(text) if "://" in text else None
    finders: list[Callable[[], dict[str, str]]] = []
    folder: str | None = text
    if address is not None and address.scheme == "file":
        text, address = unquote(address.path), None
        folder = text
    if address is not None:
        finders.append(lambda: _lakefs_address(text, environ))
        folder = f"{address.netloc.rpartition('@')[2]}{address.path}" if filesystem is not None else None
    else:
        own = Path(os.path.realpath(Path(text).parent)) / Path(text).name
        finders += [lambda: _dvc(own), lambda: _lakefs_local(own)]
    if folder is not None:
        finders += [lambda: delta_pointers(folder, filesystem), lambda: iceberg_pointers(folder, filesystem)]
    pointers: dict[str, str] = {}
    notes = []
    for find in finders:
        try:
            found = find()
            notes += [found.pop(NOTE)] if NOTE in found else []
            pointers |= found
        except Exception as error:  # written by other tools: whatever is odd in it must not stop the reading of data
            notes.append(_fault(error))
    return {**pointers, NOTE: f"left out: {'; '.join(notes)}"} if notes else pointers


def _fault(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Out:
    """Something that DVC tracks."""

    path: Path
    digest: str
    file: Path
    """That says so."""


def _dvc(source: Path) -> dict[str, str]:
    """The pointer to the source or to a folder around it, else those to files directly in it."""
    folders, root = _project_of(source)
    outs: list[_Out] = []
    notes: list[str] = []
    for file in (file for folder in folders for file in _files_of(folder)):
        try:
            outs += _outs_of(file)
        except Exception as error:  # one that is damaged must not hide the others
            notes.append(_fault(error))
    note = {NOTE: "; ".join(notes)} if notes else {}
    around = [out for out in outs if source == out.path or out.path in source.parents]
    found = around[:1] or sorted((out for out in outs if out.path.parent == source), key=lambda out: out.path)
    if not found:
        return note
    listed = [out.digest if out in around else f"{out.path.name} {out.digest}" for out in found[:_MAX_LISTED]]
    more = [f"and {len(found) - _MAX_LISTED} more"] if len(found) > _MAX_LISTED else []
    files = dict.fromkeys(os.path.relpath(out.file, root) for out in found[:_MAX_LISTED])
    pointers = {"dvc.md5": ", ".join([*listed, *more]), "dvc.file": ", ".join(files)}
    commit = _git_commit(root)
    return pointers | note if commit is None else {**pointers, "dvc.git_commit": commit, **note}


def _project_of(source: Path) -> tuple[list[Path], Path]:
    """Folders where a pointer may lie, nearest first, and the project's root; without a project only those beside."""
    inside = [source] if source.is_dir() else []
    above = []
    for folder in source.parents:
        above.append(folder)
        if (folder / ".dvc").is_dir() or (folder / ".git").exists():
            return [*inside, *above], folder
    return [*inside, source.parent], source.parent


def _files_of(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(
            folder / entry.name
            for entry in entries
            if (entry.name.endswith(".dvc") or entry.name == "dvc.lock") and entry.is_file()
        )


def _outs_of(file: Path) -> Iterator[_Out]:
    content = _yaml(file)
    if file.name != "dvc.lock":
        yield from _outs_in(content, file.parent / str(content.get("wdir", ".")), file)
        return
    wdirs = _working_folders(file.with_name("dvc.yaml"))
    for name, stage in (content.get("stages") or {}).items():
        yield from _outs_in(stage, file.parent / wdirs.get(name.partition("@")[0], "."), file)


def _outs_in(content: Mapping[str, Any], base: Path, file: Path) -> Iterator[_Out]:
    for out in content.get("outs") or ():
        # MD5 of DVC's own cache; imports from stores that know no MD5 have what these call a version.
        digest = out.get("md5") or out.get("etag") or out.get("checksum")
        if digest and "://" not in str(out["path"]):
            yield _Out(path=Path(os.path.normpath(base / str(out["path"]))), digest=str(digest), file=file)


def _working_folders(file: Path) -> dict[str, str]:
    """Where the paths of a stage in dvc.lock start, which only dvc.yaml says; stages of a template share one."""
    if not file.is_file():
        return {}
    stages = _yaml(file).get("stages") or {}
    found = {name: stage.get("wdir") or (stage.get("do") or {}).get("wdir") for name, stage in stages.items()}
    return {name: str(wdir) for name, wdir in found.items() if wdir}


def _git_commit(root: Path) -> str | None:
    """What HEAD is, read from its files, or asked of git where these are of another form."""
    work_tree = next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), None)
    if work_tree is None:
        return None
    with suppress(OSError, ValueError):
        commit = _head(work_tree / ".git")
        if commit is not None:
            return commit
    with suppress(OSError, subprocess.SubprocessError):
        asked = ["git", "-C", str(work_tree), "rev-parse", "--verify", "HEAD"]
        said = subprocess.run(asked, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=True).stdout.strip()
        return said if _COMMIT.fullmatch(said) else None
    return None


def _head(git: Path) -> str | None:
    """gitrepository-layout(5): HEAD, loose refs, packed-refs, and the files that a linked work tree has instead."""
    if git.is_file():
        git = git.parent / _text(git).removeprefix("gitdir:").strip()
    common = git / _text(git / "commondir").strip() if (git / "commondir").exists() else git
    head = _text(git / "HEAD").strip()
    if not head.startswith("ref:"):
        return head if _COMMIT.fullmatch(head) else None
    ref = head.removeprefix("ref:").strip()
    if ".." in ref.split("/"):
        return None
    for folder in (git, common):
        if (folder / ref).is_file():
            commit = _text(folder / ref).strip()
            return commit if _COMMIT.fullmatch(commit) else None
    lines = _text(common / "packed-refs").splitlines()
    return next((line.split()[0] for line in lines if line.endswith(f" {ref}")), None)


def _lakefs_address(address: str, environ: Mapping[str, str]) -> dict[str, str]:
    parts = urlsplit(address)
    is_gateway = parts.scheme in {"s3", "s3a"} and _is_lakefs(parts.query, environ)
    if parts.scheme != "lakefs" and not is_gateway:
        return {}
    ref = parts.path.lstrip("/").partition("/")[0]
    if not parts.hostname or not ref:
        raise ValueError(f"{parts.scheme}://{parts.hostname or ''}{parts.path} names no repository and ref")
    return _lakefs(parts.hostname, unquote(ref))


def _is_lakefs(query: str, environ: Mapping[str, str]) -> bool:
    """Whether S3 requests go to a lakeFS server: by its name, or because `lakectl` is set up for the same host."""
    stated = parse_qs(query).get("endpoint_override", [])
    endpoint = (stated or [environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or ""])[0]
    host = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}").hostname or ""
    server = urlsplit(environ.get("LAKECTL_SERVER_ENDPOINT_URL", "")).hostname
    return bool(host) and ("lakefs" in host or host == server)


def _lakefs_local(source: Path) -> dict[str, str]:
    """`lakectl local clone` leaves the address and the commit in the folder it fills."""
    for folder in (source, *source.parents):
        if (folder / _LAKEFS_LOCAL).is_file():
            said = _yaml(folder / _LAKEFS_LOCAL)
            pointers, commit = _lakefs_address(str(said["src"]), {}), str(said.get("at_head", ""))
            return {**pointers, "lakefs.commit": commit} if _LAKEFS_COMMIT.fullmatch(commit) else pointers
    return {}


def _lakefs(repository: str, ref: str) -> dict[str, str]:
    """A ref is a branch, a tag or a commit; only of 64 hexadecimal digits it is known without asking."""
    pointers = {"lakefs.repository": repository, "lakefs.ref": ref}
    return {**pointers, "lakefs.commit": ref} if _LAKEFS_COMMIT.fullmatch(ref) else pointers


def _yaml(file: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.load(_text(file), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: is not YAML") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: holds no pointer")
    return content


def _text(file: Path) -> str:
    if file.stat().st_size > _MAX_POINTER_BYTES:
        raise ValueError(f"{file}: too large to be a pointer")
    return file.read_text(encoding="utf-8")
