"""Where data lies: a path of this machine, or an address that pyarrow's file systems or fsspec open.

    /data/train, file:///data/train                        this machine
    s3:// gs:// hdfs:// viewfs:// abfs:// abfss://         pyarrow.fs
    any other scheme (az:// gcs:// http:// memory:// ...)  fsspec, with the package that it asks for

Every failure becomes a DataError, told by `store_faults`.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import translate
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from orchestrator.data.stores.faults import bounded, explain, reaching, reason_of
from orchestrator.errors import DataError, did_you_mean

# Of S3, per attempt. A request that moves no byte for 20 s is given up.
_CONNECT_S, _REQUEST_S, _ATTEMPTS = 5, 20, 3
_GCS_RETRY_S = 10
_WINDOW_BYTES = 8 << 20

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")  # two letters or more: C:\data is a path
_S3_OPTIONS = ("anonymous", "endpoint_override", "region", "scheme")
_ARROW_SCHEMES = ("abfs", "abfss", "gs", "hdfs", "s3", "s3a", "viewfs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A file or folder that may or may not be there."""

    uri: str
    """As messages show it: as the user wrote it, without options and credentials."""
    file_system: Any
    """A pyarrow.fs.FileSystem; it pickles, so that other processes can read."""
    path: str
    """Of the file system."""

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        return isinstance(self.file_system, pafs.LocalFileSystem)

    @property
    def parent(self) -> Location:
        """The folder it lies in."""
        uri = self.uri.rstrip("/").rpartition("/")[0] or ("/" if self.uri.startswith("/") else ".")
        path = self.path.rstrip("/").rpartition("/")[0] or "/"
        return Location(uri=uri, file_system=self.file_system, path=path)

    def name_of(self, path: str) -> str:
        """A path of the file system as the user would write it."""
        base = self.path.rstrip("/")
        if path.rstrip("/") == base:
            return self.uri
        return f"{self.uri.rstrip('/')}/{path.removeprefix(base).lstrip('/')}"

    def child(self, name: str) -> Location:
        """What lies in it under a name."""
        path = f"{self.path.rstrip('/')}/{name}"
        return Location(uri=self.name_of(path), file_system=self.file_system, path=path)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file as it was when it was listed."""

    name: str
    """As the user would write it."""
    file_system: Any
    path: str
    """Of the file system."""
    size: int
    mtime_ns: int | None
    """None where the store tells no time of change."""
    digest: str = ""
    """Of its content, 32 hex digits; empty until it was read."""

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        return isinstance(self.file_system, pafs.LocalFileSystem)

    def open(self) -> Any:
        """Open for reading anywhere in it: a pyarrow.NativeFile. Raises DataError."""
        with reaching(self.name):
            return self.file_system.open_input_file(self.path)

    def stream(self) -> Any:
        """Open for reading from front to back: a pyarrow.NativeFile. Raises DataError."""
        if self.is_local:
            return self.open()
        # A store is asked once per window, not once per read.
        with reaching(self.name):
            return self.file_system.open_input_stream(self.path, compression=None, buffer_size=_WINDOW_BYTES)

    def is_current(self) -> bool:
        """Whether size and time of change are still those of the listing."""
        if self.is_local:
            stat = os.stat(self.path)
            return (stat.st_size, stat.st_mtime_ns) == (self.size, self.mtime_ns)
        with reaching(self.name):
            info = self.file_system.get_file_info(self.path)
        return (info.size, info.mtime_ns) == (self.size, self.mtime_ns)

    def check_current(self) -> None:
        """Raises DataError: it has changed since it was listed."""
        try:
            is_current = self.is_current()
        except OSError as error:
            raise explain(self.name, error) from error
        if not is_current:
            raise DataError(f"{self.name}: changed while it was read; run again when nothing writes to it")


def resolve(source: str) -> Location:
    """A path or address as a location. Raises DataError: an unknown scheme, or one whose package is not installed."""
    found = _SCHEME.match(source)
    if found is None or found[1].lower() == "file":
        return _local(source)
    scheme = found[1].lower()
    if scheme in _ARROW_SCHEMES:
        # A build of pyarrow may lack a store; fsspec has it then, or says which package to install.
        with suppress(ImportError, pa.ArrowNotImplementedError):
            return _of_arrow(scheme, source)
    return _of_fsspec(scheme, source)


def kind_of(location: Location) -> str | None:
    """``file``, ``folder``, or None when nothing is there. Raises DataError: it cannot be asked."""
    if location.is_local:
        path = Path(location.path)
        with reaching(location.uri):
            return "folder" if path.is_dir() else "file" if path.exists() else None
    info = bounded(location.uri, lambda: location.file_system.get_file_info(location.path))
    return {pafs.FileType.File: "file", pafs.FileType.Directory: "folder"}.get(info.type)


def stored_file(location: Location) -> StoredFile:
    """The file at a location. Raises DataError: there is none, or it cannot be asked."""
    with reaching(location.uri):
        info = location.file_system.get_file_info(location.path)
    if info.type != pafs.FileType.File:
        raise DataError(f"{location.uri}: there is no file of that name; check it")
    return _stored(location, info)


def list_files(location: Location, pattern: str = "*") -> list[StoredFile]:
    """Files of a folder whose path below it matches a glob, by name; hidden ones are left out.

    Args:
        location: The folder.
        pattern: As in `pathlib`: ``*`` stays within a folder, ``**`` does not.
    Raises: DataError: the folder cannot be listed.
    """
    found, _ = list_tree(location, recursive="/" in pattern or "**" in pattern)
    matches = _glob(pattern)
    return [file for file in found if matches(_below(location, file.path))]


def list_tree(location: Location, *, recursive: bool) -> tuple[list[StoredFile], list[str]]:
    """Files of a folder by name, and the paths below it of the folders in it; hidden ones are left out."""
    selector = pafs.FileSelector(location.path, recursive=recursive)
    with reaching(location.uri):
        entries = location.file_system.get_file_info(selector)
    seen = [each for each in entries if not re.search(r"(^|/)\.", _below(location, each.path))]
    files = [_stored(location, each) for each in seen if each.type == pafs.FileType.File]
    folders = [_below(location, each.path) for each in seen if each.type == pafs.FileType.Directory]
    return sorted(files, key=lambda file: file.path), sorted(folders)


def walk(location: Location) -> Iterator[list[StoredFile]]:
    """Files of a folder and of those below it, folder by folder, so that the caller can stop early."""
    waiting = [location]
    while waiting:
        folder = waiting.pop(0)
        files, folders = list_tree(folder, recursive=False)
        yield files
        waiting += map(folder.child, folders)


def path_below(location: Location, file: StoredFile) -> str:
    """A listed file's path from the folder that was listed."""
    return _below(location, file.path)


def near(location: Location) -> str:
    """What may have been meant by something that is not there, to go on a sentence with; or nothing."""
    if not location.is_local:
        return ""
    path = missing = Path(location.path)
    while not missing.parent.exists():
        missing = missing.parent
    if missing != path:
        return f", nor is the folder {missing}"
    if not path.parent.is_dir():
        return f", for {path.parent} is a file"
    try:
        return did_you_mean(path.name, [child.name for child in path.parent.iterdir()]).rstrip("?")
    except OSError:
        return ""


def optional_package(name: str, what: str, extra: str) -> Any:
    """An installed module. Raises DataError: it is not, with the extra that brings it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DataError(
            f"{what} needs {name.partition('.')[0]}, which is not installed: pip install 'orchestrator[{extra}]'"
        ) from error


def _local(source: str) -> Location:
    plain = source[7:] if source.lower().startswith("file://") else source
    path = Path(plain).expanduser()
    return Location(uri=str(path), file_system=pafs.LocalFileSystem(), path=str(path.absolute()))


def _of_arrow(scheme: str, source: str) -> Location:
    shown = _shown(source)
    try:
        if scheme in ("s3", "s3a"):
            file_system, path = _s3(source)
        elif scheme == "gs":
            file_system, path = pafs.FileSystem.from_uri(_with_option(source, f"retry_limit_seconds={_GCS_RETRY_S}"))
        else:
            file_system, path = bounded(shown, lambda: pafs.FileSystem.from_uri(source))
    except (pa.ArrowNotImplementedError, DataError, ImportError):
        raise  # the first and the last send `resolve` to fsspec; the other has been explained
    except (OSError, ValueError, pa.ArrowException) as error:
        raise explain(shown, error) from error
    return Location(uri=shown, file_system=file_system, path=path.rstrip("/"))


def _s3(source: str) -> tuple[Any, str]:
    """S3 with bounds on time, which addresses alone cannot set."""
    parts = urlsplit(source)
    options = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    for key in options:
        if key not in _S3_OPTIONS:
            near_by = did_you_mean(key, _S3_OPTIONS) or ";"
            raise DataError(f"{_shown(source)}: unknown option {key!r}{near_by} known: {', '.join(_S3_OPTIONS)}")
    bucket = parts.netloc.rpartition("@")[2]
    region = options.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    endpoint = options.get("endpoint_override") or os.environ.get("AWS_ENDPOINT_URL")
    if region is None and endpoint is None:
        region = bounded(_shown(source), lambda: pafs.resolve_s3_region(bucket))
    file_system = pafs.S3FileSystem(
        access_key=parts.username,
        secret_key=parts.password,
        anonymous=options.get("anonymous", "").lower() in ("1", "true", "yes"),
        region=region,
        scheme=options.get("scheme"),
        endpoint_override=options.get("endpoint_override"),
        connect_timeout=_CONNECT_S,
        request_timeout=_REQUEST_S,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
    )
    return file_system, bucket + parts.path


def _of_fsspec(scheme: str, source: str) -> Location:
    fsspec = optional_package("fsspec", f"{scheme}://", "fsspec")
    shown = _shown(source)
    try:
        file_system, path = fsspec.core.url_to_fs(source)
    except ImportError as error:
        raise DataError(
            f"{shown}: {scheme}:// needs a package that is not installed ({reason_of(error)}); install it with pip"
        ) from error
    except ValueError as error:
        known = sorted({*_ARROW_SCHEMES, "file", *fsspec.available_protocols()})
        raise DataError(
            f"{shown}: nothing here opens {scheme}://{did_you_mean(scheme, known).rstrip('?')}; known are paths, "
            "s3://, gs://, hdfs://, abfs:// and what fsspec opens"
        ) from error
    except Exception as error:  # whatever the package behind the scheme raises
        raise explain(shown, error) from error
    return Location(uri=shown, file_system=pafs.PyFileSystem(pafs.FSSpecHandler(file_system)), path=path)


def _with_option(source: str, option: str) -> str:
    key = option.partition("=")[0]
    return source if f"{key}=" in source else f"{source}{'&' if '?' in source else '?'}{option}"


def _shown(source: str) -> str:
    """An address without keys in it."""
    parts = urlsplit(source)
    host = parts.netloc
    # abfs://container@account: what stands before the @ is no secret there.
    if "@" in host and (parts.password is not None or parts.scheme not in ("abfs", "abfss")):
        host = host.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def _stored(location: Location, info: Any) -> StoredFile:
    return StoredFile(
        name=location.name_of(info.path),
        file_system=location.file_system,
        path=info.path,
        size=info.size,
        mtime_ns=info.mtime_ns,
    )


def _below(location: Location, path: str) -> str:
    return path.removeprefix(location.path.rstrip("/")).lstrip("/")


@cache
def _glob(pattern: str) -> Callable[[str], bool]:
    """Whether a relative path matches; ``**`` stands for any number of folders."""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    regular = [None if part == "**" else re.compile(translate(part)) for part in parts]
    if regular and regular[-1] is None:
        regular.append(re.compile(".*"))

    def matches(names: list[str], at: int) -> bool:
        if at == len(regular):
            return not names
        here = regular[at]
        if here is None:
            return any(matches(names[skip:], at + 1) for skip in range(len(names) + 1))
        return bool(names) and here.match(names[0]) is not None and matches(names[1:], at + 1)

    return lambda path: matches(path.split("/"), 0)
