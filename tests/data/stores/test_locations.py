"""Paths and addresses: what is listed, what is remembered of it, and what is said when a store does not answer."""

from __future__ import annotations

import os
import pickle
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from orchestrator.data.formats import check_rows, open_rows
from orchestrator.data.formats.source_files import with_digests
from orchestrator.data.stores import locations
from orchestrator.data.stores.locations import (
    kind_of,
    list_files,
    list_tree,
    path_below,
    resolve,
    stored_file,
)
from orchestrator.errors import DataError


@pytest.fixture
def store() -> Iterator[str]:
    """An address in fsspec's memory, empty."""
    root = f"/test-{time.monotonic_ns()}"
    yield f"memory:/{root}"
    file_system = fsspec.filesystem("memory")
    if file_system.exists(root):
        file_system.rm(root, recursive=True)


def write(uri: str, content: bytes) -> None:
    with fsspec.open(uri, "wb") as file:
        file.write(content)


def test_a_local_folder_is_listed_by_name_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "c.csv", ".hidden.txt", "deeper/d.txt", "deeper/still/e.txt", ".git/f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(name)
    folder = resolve(str(tmp_path))

    def found(pattern: str) -> list[str]:
        return [path_below(folder, file) for file in list_files(folder, pattern)]

    assert found("*.txt") == ["a.txt", "b.txt"]
    assert found("**/*.txt") == ["a.txt", "b.txt", "deeper/d.txt", "deeper/still/e.txt"]
    assert found("*/*.txt") == ["deeper/d.txt"]
    assert found("deeper/**") == ["deeper/d.txt", "deeper/still/e.txt"]
    assert list_tree(folder, recursive=True)[1] == ["deeper", "deeper/still"]
    file = list_files(folder, "a.*")[0]
    assert (file.name, file.size) == (str(tmp_path / "a.txt"), 5)
    assert file.mtime_ns == (tmp_path / "a.txt").stat().st_mtime_ns


def test_paths_are_shown_as_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/a.txt").write_text("x")

    assert list_files(resolve("data"))[0].name == "data/a.txt"
    assert resolve(f"file://{tmp_path}/data").path == str(tmp_path / "data")
    assert resolve("data/a.txt").parent.uri == "data"
    assert kind_of(resolve("data")) == "folder"
    assert kind_of(resolve("data/a.txt")) == "file"
    assert kind_of(resolve("data/b.txt")) is None


def test_a_store_is_listed_and_read_like_a_folder(store: str) -> None:
    write(f"{store}/a.txt", b"one")
    write(f"{store}/deeper/b.txt", b"three")
    folder = resolve(store)

    files = list_files(folder, "**/*.txt")

    assert kind_of(folder) == "folder"
    assert kind_of(folder.child("a.txt")) == "file"
    assert kind_of(folder.child("c.txt")) is None
    assert [file.name for file in files] == [f"{store}/a.txt", f"{store}/deeper/b.txt"]
    assert [file.open().read() for file in files] == [b"one", b"three"]
    assert [file.stream().read() for file in files] == [b"one", b"three"]
    assert not folder.is_local


def test_the_same_content_has_the_same_fingerprint_wherever_it_lies(store: str, tmp_path: Path) -> None:
    table = pa.table({"image": [b"x", b"y", b"z"], "label": ["cat", "dog", "cat"]})
    path = tmp_path / "data" / "a.parquet"
    path.parent.mkdir()
    pq.write_table(table, path)
    write(f"{store}/a.parquet", path.read_bytes())
    for i, label in enumerate(["cat", "dog", "cat"]):
        (tmp_path / "images" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / label / f"{i}.jpg").write_bytes(b"%d" % i)
        write(f"{store}/images/{label}/{i}.jpg", b"%d" % i)

    for local, remote in ((path, f"{store}/a.parquet"), (tmp_path / "images", f"{store}/images")):
        here = open_rows(str(local), label="label", cache_dir=tmp_path)
        there = open_rows(remote, label="label", cache_dir=tmp_path)
        assert there.fingerprint == here.fingerprint
        assert list(there.read(there.pieces[0])) == list(here.read(here.pieces[0]))


def test_digests_of_a_store_are_remembered_until_the_file_changes(tmp_path: Path) -> None:
    class Counting(fsspec.get_filesystem_class("file")):  # type: ignore[misc]  # fsspec has no types
        protocol = "counting"
        n_reads = 0

        def _open(self, path: str, *args: object, **options: object) -> object:
            Counting.n_reads += 1
            return super()._open(path, *args, **options)

    path = tmp_path / "a.bin"
    path.write_bytes(b"content")
    os.utime(path, (0, 10**9))
    file_system = pafs.PyFileSystem(pafs.FSSpecHandler(Counting()))
    location = locations.Location(uri="counting://a", file_system=file_system, path=str(path))

    first = with_digests([stored_file(location)], tmp_path)
    again = with_digests([stored_file(location)], tmp_path)
    n_reads = Counting.n_reads
    path.write_bytes(b"CONTENT")
    os.utime(path, (0, 10**9 + 5))
    changed = with_digests([stored_file(location)], tmp_path)

    assert n_reads == 1
    assert again == first
    assert changed[0].digest != first[0].digest
    (tmp_path / "remote_fingerprints.json").write_text("[damaged")
    assert with_digests([stored_file(location)], tmp_path) == changed


def test_a_file_that_changes_in_its_store_is_refused(store: str) -> None:
    write(f"{store}/a.txt", b"one")
    file = stored_file(resolve(f"{store}/a.txt"))
    file.check_current()
    write(f"{store}/a.txt", b"three")

    with pytest.raises(DataError, match="changed while it was read; run again when nothing writes to it"):
        file.check_current()


def test_locations_and_files_go_to_other_processes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    file = stored_file(resolve(str(tmp_path / "a.txt")))
    remote = resolve("s3://key:secret@bucket/path?region=eu-west-1&endpoint_override=localhost:1")

    assert pickle.loads(pickle.dumps(file)) == file
    assert pickle.loads(pickle.dumps(remote)) == remote


def test_options_of_an_address_are_taken_and_keys_are_not_shown() -> None:
    location = resolve("s3://key:secret@bucket/a/b.parquet?region=eu-west-1&scheme=http&endpoint_override=localhost:1")

    assert location.uri == "s3://bucket/a/b.parquet"
    assert location.path == "bucket/a/b.parquet"
    assert location.file_system.region == "eu-west-1"
    assert resolve("abfs://container@account.dfs.core.windows.net/x").uri == (
        "abfs://container@account.dfs.core.windows.net/x"
    )


# --- what is refused ------------------------------------------------------------------------------------------------


def test_an_option_that_is_not_known() -> None:
    fault = check_rows("s3://bucket/x?regoin=eu-west-1")

    assert fault is not None
    assert fault.message.startswith("s3://bucket/x: unknown option 'regoin'; did you mean 'region'? known: ")


def test_a_scheme_that_nothing_opens() -> None:
    fault = check_rows("qq3://bucket/x")

    assert fault is not None
    assert fault.message.startswith("qq3://bucket/x: nothing here opens qq3://")


def test_a_store_that_cannot_be_reached_is_told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    started = time.monotonic()

    fault = check_rows(f"s3://key:secret@bucket/x?scheme=http&endpoint_override=127.0.0.1:{port}")

    assert fault is not None
    assert fault.key == "data.source"
    assert fault.message.startswith("s3://bucket/x: the store cannot be reached (")
    assert fault.message.endswith("check the address and the network")
    assert "secret" not in fault.message
    assert time.monotonic() - started < 20


def test_a_package_that_is_not_installed() -> None:
    with pytest.raises(DataError, match=r"TFRecord needs nosuch, which is not installed: pip install 'orchestrator\["):
        locations.optional_package("nosuch.module", "TFRecord", "tfrecord")
