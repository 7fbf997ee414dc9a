"""CRC-32C (Castagnoli), as in RFC 3720, appendix B.4: by google-crc32c where installed, else by numpy.

The CRC is linear over XOR, so that a block's is the XOR of one table entry per byte, which numpy looks up all at once.
Measured: google-crc32c 3 to 17 GB/s for 900 bytes to 64 kB, numpy here 0.07 to 0.28 GB/s.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

_POLYNOMIAL = 0x82F63B78  # reversed
_BLOCK = 512  # tables of 512 kB, which a processor's cache holds
_SHORT = 64
_CHUNK = 1 << 16
_ROWS = np.arange(0, _BLOCK * 256, 256, dtype=np.int64)


@cache
def crc32c() -> Callable[[bytes], int]:
    """The fastest way there is here."""
    try:
        value: Callable[[bytes], int] = importlib.import_module("google_crc32c").value
    except ImportError:
        return crc32c_numpy
    return value


def crc32c_numpy(content: bytes) -> int:
    """The CRC of some bytes."""
    if len(content) <= _SHORT:
        table, state = _byte_table(), 0xFFFFFFFF
        for byte in content:
            state = table[(state ^ byte) & 0xFF] ^ (state >> 8)
        return state ^ 0xFFFFFFFF
    # A CRC that starts from 0 does not see zeros in front, and one that starts from ones is that of a message whose
    # first four bytes are inverted.
    padded = np.zeros(-(-len(content) // _BLOCK) * _BLOCK, np.uint8)
    padded[-len(content) :] = np.frombuffer(content, np.uint8)
    padded[-len(content) : 4 - len(content)] ^= 0xFF
    tables, head = _block_tables()
    state = 0
    for start in range(0, len(padded), _CHUNK):
        blocks = padded[start : start + _CHUNK].reshape(-1, _BLOCK)
        alone = np.bitwise_xor.reduce(tables.take(blocks + _ROWS, mode="clip"), axis=1)
        for block in alone.tolist():
            # The state so far acts as if it were XORed into the first four bytes of a block.
            carried = head[0][state & 0xFF] ^ head[1][state >> 8 & 0xFF]
            state = block ^ carried ^ head[2][state >> 16 & 0xFF] ^ head[3][state >> 24]
    return state ^ 0xFFFFFFFF


@cache
def _byte_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (_POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return table


@cache
def _block_tables() -> tuple[npt.NDArray[np.uint32], list[list[int]]]:
    """What each value of each byte of a block adds, shape (_BLOCK * 256,); those of the first four bytes as lists."""
    step = np.array(_byte_table(), np.uint32)
    tables = np.empty((_BLOCK, 256), np.uint32)
    tables[-1] = step
    for i in range(_BLOCK - 2, -1, -1):
        tables[i] = step[tables[i + 1] & 0xFF] ^ (tables[i + 1] >> np.uint32(8))
    return tables.ravel(), tables[:4].tolist()
