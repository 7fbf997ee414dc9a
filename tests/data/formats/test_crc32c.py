"""CRC-32C as RFC 3720 has it."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.data.formats.crc32c import crc32c, crc32c_numpy


@pytest.mark.parametrize(
    ("content", "crc"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_published_values_are_met(content: bytes, crc: int) -> None:
    """RFC 3720, appendix B.4; 123456789 is the check value of the catalogue of CRCs."""
    assert crc32c_numpy(content) == crc
    assert crc32c()(content) == crc


@pytest.mark.parametrize("n", [64, 65, 66, 67, 68, 511, 512, 513, 1024, 70_000, 200_001])
def test_long_contents_are_the_same_byte_by_byte(n: int) -> None:
    content = np.random.default_rng(n).bytes(n)
    state = 0xFFFFFFFF
    for byte in content:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)

    assert crc32c_numpy(content) == state ^ 0xFFFFFFFF
