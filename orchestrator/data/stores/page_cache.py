"""The operating system's page cache: emptied for single files, so that a read can be timed from the disk.

`posix_fadvise` with DONTNEED asks the kernel to forget the clean pages of a file; it need not, and does not where a
process maps them. Read-only maps of this process let go of their pages first (madvise(2), DONTNEED: the next access
reads the file again); those of other processes cannot. Whether the pages went is seen by reads that must not wait for a
disk (RWF_NOWAIT, preadv2(2)); these fail, but start the kernel reading ahead, so that what was looked at has to be
dropped once more. mincore(2) would only look, and tells nothing of files that belong to someone else. No privilege is
needed, and no other file is touched.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import time
from collections.abc import Sequence
from pathlib import Path

_PAGE = 4096
_LOOKED_AT = 16
"""Places per file, evenly spread."""
_SETTLE_S = 0.02
"""For reading ahead to end: two turns of a slow disk."""
_TRIES = 3
"""Pages that wait to be written, or that another processor has just put in place, are passed over at first."""


def forget(paths: Sequence[Path]) -> dict[Path, str]:
    """Drop the pages of these files from memory.

    Returns: The files whose pages are not gone, or of which nobody can tell, each with the reason; empty when all went.
    """
    if not (hasattr(os, "posix_fadvise") and hasattr(os, "RWF_NOWAIT")):
        return dict.fromkeys(paths, "this operating system does not let a program empty the page cache of a file")
    _release_maps(paths)
    stayed = {}
    for path in paths:
        try:
            reason = _forget_and_look(path)
        except OSError as error:
            reason = error.strerror or str(error)
        if reason is not None:
            stayed[path] = reason
    time.sleep(_SETTLE_S)
    for path in paths:
        if path not in stayed:
            _drop(path)
    return stayed


def _release_maps(paths: Sequence[Path]) -> None:
    """Let read-only maps of these files forget the pages they have touched; maps that may hold changes stay."""
    names = {os.fspath(path.resolve()) for path in paths}
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return
    libc = ctypes.CDLL(None)
    for line in lines:
        places, rights, *_, name = line.split(maxsplit=5)
        if name in names and rights.startswith("r--"):
            start, end = (int(place, 16) for place in places.split("-"))
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)


def _forget_and_look(path: Path) -> str | None:
    file = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(file).st_size
        reason = None
        for _ in range(_TRIES):
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            reason = _still_there(file, size)
            if reason is None:
                break
            os.fsync(file)  # pages that wait to be written stay
        return reason
    finally:
        os.close(file)


def _drop(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(file)


def _still_there(file: int, size: int) -> str | None:
    if size == 0:
        return None
    last = (size - 1) // _PAGE
    pages = {last * step // _LOOKED_AT for step in range(_LOOKED_AT + 1)}
    buffer = bytearray(1)
    for page in sorted(pages, reverse=True):  # the kernel reads ahead of a look, never behind it
        try:
            os.preadv(file, [buffer], page * _PAGE, os.RWF_NOWAIT)
        except BlockingIOError:
            continue  # not in memory
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL):
                return "this file system does not tell what of a file lies in memory"
            raise
        return "it stays in memory (a memory file system, or another process maps it)"
    return None


def available_bytes() -> int | None:
    """Memory that the page cache may grow into, as the kernel estimates it; None where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None
