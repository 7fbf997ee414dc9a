"""Digests of files: what moves them, what does not, and when a file is read again."""

from __future__ import annotations

import concurrent.futures
import hashlib
import io
import os
import random
import re
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.data.versioning import fingerprint as module
from orchestrator.data.versioning.fingerprint import combine, digest_bytes, digest_files, digest_stream, replace_file
from orchestrator.errors import DataError

LONG_AGO_NS = 10**18
MakeFiles = Callable[[Sequence[bytes]], list[Path]]


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "fingerprints.sqlite"


@pytest.fixture
def make_files(tmp_path: Path) -> MakeFiles:
    """Files of given contents that were last written long ago."""

    def make(contents: Sequence[bytes], folder: str = "data") -> list[Path]:
        paths = [tmp_path / folder / f"{number:04d}" for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
        return paths

    return make


def remembered(memory: Path) -> dict[str, str]:
    with sqlite3.connect(memory) as database:
        rows = database.execute("SELECT path, digest FROM files").fetchall()
    database.close()
    return {Path(os.fsdecode(path)).name: digest for path, digest in rows}


def plant(memory: Path, digest: str) -> None:
    """Put a false digest into the memory: who gets it back has not read the file."""
    with sqlite3.connect(memory) as database:
        database.execute("UPDATE files SET digest = ?", (digest,))
    database.close()


def test_a_digest_is_the_first_half_of_sha_256_of_all_bytes(make_files: MakeFiles, memory: Path) -> None:
    content = random.Random(0).randbytes(3_000_001)  # more than one read, and not a whole number of them

    (file,) = digest_files(make_files([content]), memory)

    expected = hashlib.sha256(content).hexdigest()[:32]
    assert file.digest == expected
    assert digest_bytes(content[:7], content[7:]) == expected
    assert digest_stream(io.BytesIO(content)) == expected
    assert (file.size, file.mtime_ns) == (len(content), LONG_AGO_NS)
    assert file.is_current()


@given(contents=st.lists(st.binary(max_size=9), max_size=6), seed=st.integers(0, 99))
def test_a_fingerprint_depends_on_the_files_contents_and_not_on_their_order(contents: list[bytes], seed: int) -> None:
    digests = [digest_bytes(content) for content in contents]
    shuffled = random.Random(seed).sample(digests, len(digests))

    assert combine(shuffled) == combine(digests)
    assert combine([*digests, digest_bytes(b"one more")]) != combine(digests)
    assert len(combine(digests)) == 16


def test_a_file_that_is_there_twice_counts_twice() -> None:
    once = digest_bytes(b"x")

    assert combine([once]) != combine([once, once])


def test_renaming_files_moves_nothing(make_files: MakeFiles, memory: Path) -> None:
    contents = [bytes([value]) * 100 for value in range(5)]
    first = digest_files(make_files(contents), memory)
    second = digest_files(make_files(contents[::-1], "other"), memory)  # type: ignore[call-arg]  # its optional folder

    assert [file.digest for file in first] == [file.digest for file in second]
    assert combine(file.digest for file in first) == combine(file.digest for file in second)


@pytest.mark.parametrize("position", [0, 1_500_000, 2_999_999])
def test_one_bit_anywhere_changes_the_digest(make_files: MakeFiles, memory: Path, position: int) -> None:
    content = bytearray(3_000_000)
    (before,) = digest_files(make_files([bytes(content)]), memory)
    content[position] ^= 1

    (after,) = digest_files(make_files([bytes(content)]), memory)

    assert after.digest != before.digest


def test_unchanged_files_are_not_read_again(make_files: MakeFiles, memory: Path) -> None:
    paths = make_files([b"a", b"b", b"c"])
    digest_files(paths, memory)
    plant(memory, "f" * 32)

    assert {file.digest for file in digest_files(paths, memory)} == {"f" * 32}


def test_only_a_changed_file_is_read_again(make_files: MakeFiles, memory: Path) -> None:
    paths = make_files([b"a", b"b", b"c"])
    digest_files(paths, memory)
    plant(memory, "f" * 32)
    paths[1].write_bytes(b"new")

    found = {file.path.name: file.digest for file in digest_files(paths, memory)}

    assert found == {"0000": "f" * 32, "0001": digest_bytes(b"new"), "0002": "f" * 32}


def test_other_content_of_the_old_size_and_modification_time_is_noticed(make_files: MakeFiles, memory: Path) -> None:
    """As unpacking an archive with fixed times over an older one leaves behind; the change time gives it away."""
    (path,) = make_files([b"old"])
    digest_files([path], memory)
    time.sleep(0.02)  # a tick of the kernel's clock is up to 10 ms

    make_files([b"new"])

    assert path.stat().st_mtime_ns == LONG_AGO_NS
    assert digest_files([path], memory)[0].digest == digest_bytes(b"new")


def test_a_file_written_just_before_is_not_remembered(tmp_path: Path, memory: Path) -> None:
    """Written again within the clock's tick it would look the same: git's racy entries."""
    path = tmp_path / "fresh"
    path.write_bytes(b"x")

    digest_files([path], memory)

    assert remembered(memory) == {}


def test_a_file_that_is_written_while_it_is_read_is_refused(
    make_files: MakeFiles, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = make_files([bytes(5_000_000)])
    chunks = iter([lambda: path.write_bytes(b"shorter")])

    class Sha:
        def __init__(self) -> None:
            self._state = hashlib.sha256()

        def update(self, chunk: memoryview) -> None:
            next(chunks, lambda: None)()
            self._state.update(chunk)

        def hexdigest(self) -> str:
            return self._state.hexdigest()

    monkeypatch.setattr(module, "hashlib", SimpleNamespace(sha256=Sha))

    with pytest.raises(DataError, match=r"0000: changed while it was read; run again when nothing writes to it"):
        digest_files([path], memory)


def test_what_cannot_be_read_is_named_and_the_others_stay_remembered(make_files: MakeFiles, memory: Path) -> None:
    paths = make_files([bytes([value]) for value in range(200)])
    paths.insert(150, paths[0].parent)

    with pytest.raises(DataError, match=f"{paths[0].parent}: cannot be read: Is a directory; check that it exists"):
        digest_files(paths, memory)

    assert {path.name for path in paths[128:150]} <= set(remembered(memory))  # read before it by the same thread
    with pytest.raises(DataError, match="no-such-file: cannot be read: No such file"):
        digest_files([Path("no-such-file")], memory)


def test_an_interrupt_keeps_what_was_read(make_files: MakeFiles, memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = make_files([bytes([value % 256]) for value in range(3000)])
    monkeypatch.setattr(module, "wait", _interrupted(after=2))

    with pytest.raises(KeyboardInterrupt):
        digest_files(paths, memory)

    n_kept = len(remembered(memory))
    assert 64 <= n_kept < 3000
    monkeypatch.undo()
    assert len(digest_files(paths, memory)) == len(remembered(memory)) == 3000


def _interrupted(after: int) -> Callable[..., object]:
    calls = iter(range(after))

    def wait(*arguments: object, **options: object) -> object:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return concurrent.futures.wait(*arguments, **options)  # type: ignore[arg-type]  # handed on as it came

    return wait


@pytest.mark.parametrize("content", [b"", b'{"an": "old memory"}', b"SQLite format 3\0 and then nothing of the kind"])
def test_a_damaged_memory_is_replaced(make_files: MakeFiles, memory: Path, content: bytes) -> None:
    paths = make_files([b"a", b"b"])
    memory.write_bytes(content)

    found = digest_files(paths, memory)

    assert {file.digest for file in found} == {digest_bytes(b"a"), digest_bytes(b"b")}
    assert len(remembered(memory)) == 2


def test_a_memory_damaged_in_the_middle_is_replaced(make_files: MakeFiles, memory: Path) -> None:
    paths = make_files([bytes([value % 256]) for value in range(2000)])
    digest_files(paths, memory)
    content = bytearray(memory.read_bytes())
    content[4096:-100] = random.Random(1).randbytes(len(content) - 4196)
    memory.write_bytes(content)

    found = digest_files(paths, memory)

    assert sorted(file.digest for file in found) == sorted(digest_bytes(bytes([v % 256])) for v in range(2000))
    assert len(remembered(memory)) == 2000


def test_a_memory_of_another_version_or_another_program_is_replaced(make_files: MakeFiles, memory: Path) -> None:
    for statement in ("PRAGMA user_version = 99", "PRAGMA user_version = 1"):
        with sqlite3.connect(memory) as database:
            database.execute("CREATE TABLE IF NOT EXISTS something (else_ TEXT)")
            database.execute("DROP TABLE IF EXISTS files")
            database.execute(statement)
        database.close()

        digest_files(make_files([b"a"]), memory)

        assert remembered(memory) == {"0000": digest_bytes(b"a")}


def test_several_at_once_share_a_memory(make_files: MakeFiles, memory: Path) -> None:
    paths = make_files([str(value).encode() for value in range(400)])
    parts = [paths[start : start + 250] for start in (0, 50, 100, 150)]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda part: digest_files(part, memory), parts))

    assert [len(files) for files in found] == [250] * 4
    assert remembered(memory) == {path.name: digest_bytes(path.read_bytes()) for path in paths}


def test_a_memory_that_another_process_keeps_locked_is_done_without(
    make_files: MakeFiles, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_files([b"a"])
    said: list[str] = []
    digest_files(paths, memory)
    held = sqlite3.connect(memory, isolation_level=None)
    held.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr("orchestrator.data.versioning.digest_memory.LOCK_TIMEOUT_S", 0.05)

    (file,) = digest_files(paths, memory, said.append)

    held.close()
    assert file.digest == digest_bytes(b"a")
    assert said == [f"{memory}: cannot be locked (database is locked); going on without it"]


def test_a_memory_without_a_folder_is_an_oserror_that_names_it(make_files: MakeFiles, tmp_path: Path) -> None:
    for parent in (tmp_path / "missing", make_files([b"a"])[0]):
        with pytest.raises(FileNotFoundError) as caught:
            digest_files(make_files([b"a"]), parent / "memory")
        assert caught.value.filename == str(parent)


def test_no_space_left_for_the_memory_is_an_oserror(make_files: MakeFiles, memory: Path) -> None:
    """Told by a limit on the size of files, in a process of its own."""
    make_files([str(value).encode() for value in range(3000)])
    code = (
        "import pathlib, sys; from orchestrator.data.versioning.fingerprint import digest_files\n"
        "try: digest_files(sorted(pathlib.Path(sys.argv[1]).iterdir()), pathlib.Path(sys.argv[2]))\n"
        "except OSError as error: print('OSError', error.errno is not None, error.filename)"
    )
    command = [sys.executable, "-c", code, str(memory.parent / "data"), str(memory)]

    said = subprocess.run(
        command, capture_output=True, text=True, check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (32_768, 32_768)),
    )  # fmt: skip

    assert said.stdout.strip() == f"OSError True {memory}"


def test_a_memory_that_cannot_be_written_still_serves_what_it_knows(make_files: MakeFiles, memory: Path) -> None:
    paths = make_files([b"a"])
    digest_files(paths, memory)
    memory.chmod(0o444)
    memory.parent.chmod(0o555)
    try:
        assert digest_files(paths, memory)[0].digest == digest_bytes(b"a")
    finally:
        memory.parent.chmod(0o755)


def test_file_names_need_not_be_text(tmp_path: Path, memory: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.png"))
    path.write_bytes(b"a")
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))

    assert digest_files([path], memory) == digest_files([path], memory)


def test_progress_is_told_in_bytes_and_speed(
    make_files: MakeFiles, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(module, "_TELL_EVERY_S", 0.0)

    digest_files(make_files([bytes(20_000_000)]), memory, said.append)

    assert len(said) == 1
    assert re.fullmatch(r"fingerprint: 0\.0 of 0\.0 GB read, \d\.\d\d GB/s", said[0])


def test_no_thread_stays_behind(make_files: MakeFiles, memory: Path) -> None:
    before = threading.active_count()

    digest_files(make_files([b"a", b"b"]), memory)

    assert threading.active_count() == before


def test_a_replaced_file_is_the_old_or_the_new_one_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")
    replace_file(path, b"new")

    assert path.read_bytes() == b"new"
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "missing" / "file", b"x")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
