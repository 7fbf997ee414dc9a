"""The order of an epoch as a function: which row stands at a position, without a table of all positions.

A keyed permutation of ``0..n-1``: an unbalanced Feistel network of 6 rounds over ``ceil(log2 n)`` bits (Luby and
Rackoff, SIAM J. Comput. 17, 1988; 4 rounds of a random function are enough against every test that may also ask
backwards), walked until it falls below n (Black and Rogaway, CT-RSA 2002: cycle walking). The round function is the
32-bit finaliser of MurmurHash3 (Appleby, public domain) of half and key. Any position is had at once, so a resumed
epoch goes on where it stopped, and 100 million rows need no array. Few rows are permuted by numpy: that takes less than
a millisecond too, and halves of 1 bit shuffle badly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
_Words = npt.NDArray[np.uint32]

_ROUNDS = 6
_MOST_ROWS = 1 << 32
_TABLE_ROWS = 1 << 16


@dataclass(frozen=True)
class EpochOrder:
    """The permutation of one epoch: (n_rows, seed, epoch) decide, and nothing else. Up to 2**32 rows."""

    n_rows: int
    seed: int
    epoch: int

    def __post_init__(self) -> None:
        if self.n_rows > _MOST_ROWS:
            raise ValueError(f"an epoch has at most {_MOST_ROWS:,} rows, got {self.n_rows:,}")

    def rows(self, start: int, stop: int) -> IntArray:
        """Rows at the positions ``start..stop-1``. Shape (stop - start,)."""
        if self.n_rows <= _TABLE_ROWS:
            return self._table[start:stop]
        found = self._shuffle(np.arange(start, stop, dtype=np.uint32))
        outside = np.flatnonzero(found >= self.n_rows)
        while len(outside):
            walked = self._shuffle(found[outside])
            found[outside] = walked
            outside = outside[walked >= self.n_rows]
        return found.astype(np.int64)

    def _shuffle(self, values: _Words) -> _Words:
        low_bits, high_bits = self._bits
        high, low = values >> np.uint32(low_bits), values & _mask(low_bits)
        for key in self._keys:
            # The halves swap, and with them their widths.
            high, low = low, high ^ (_mix(low + key) & _mask(high_bits))
            low_bits, high_bits = high_bits, low_bits
        high <<= np.uint32(low_bits)
        high |= low
        return high

    @cached_property
    def _table(self) -> IntArray:
        return np.random.default_rng([self.seed, self.epoch]).permutation(self.n_rows)

    @property
    def _bits(self) -> tuple[int, int]:
        bits = max(2, (self.n_rows - 1).bit_length())
        return bits - bits // 2, bits // 2

    @cached_property
    def _keys(self) -> _Words:
        return np.random.SeedSequence([self.seed, self.epoch]).generate_state(_ROUNDS).astype(np.uint32)


def _mask(bits: int) -> np.uint32:
    return np.uint32((1 << bits) - 1)


def _mix(values: _Words) -> _Words:
    """In place; ``values`` is a fresh array."""
    values ^= values >> np.uint32(16)
    values *= np.uint32(0x85EBCA6B)
    values ^= values >> np.uint32(13)
    values *= np.uint32(0xC2B2AE35)
    values ^= values >> np.uint32(16)
    return values
