"""Equal rows by digest, and near-equal images by perceptual hash.

Two images are near duplicates when their perceptual hashes differ in at most `MAX_DISTANCE` of 64 bits and their
16 x 16 thumbnails correlate by at least `MIN_CORRELATION`. The hash finds candidates without comparing all pairs; the
thumbnails tell a copy from an image that is only composed alike.

Both limits were chosen on CIFAR-10, whose 32 x 32 images resemble one another as few do (60,000 images; 3,000 of them
re-encoded as JPEG of quality 30 to 90, brightened or darkened by a tenth, or cropped by a pixel and scaled back):

    distance at most             6      8     10     12         alone, pairs: 861 1,855 5,492 24,459
    re-encoded, brightened    .998  .999  1.000  1.000         share found
    cropped by a pixel         .59   .82    .94    .99

At distance 12 nine in ten pairs are strangers. At 10 with a correlation of 0.9, 0.91 of the crops and all others are
found in about 1,260 pairs; of pairs looked at by eye, nearly all up to distance 8 and about two in three at distance 10
showed one photograph, the rest the same kind of object in the same pose.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.fft import dct
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

IntArray = npt.NDArray[np.int64]
HashArray = npt.NDArray[np.uint64]
ByteImages = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]

HASH_SIDE = 32
"""Side of the grey image that a perceptual hash is taken of, in pixels."""
THUMBNAIL_SIDE = 16
"""Side of the thumbnails that candidates are compared by."""
MAX_DISTANCE = 10
MIN_CORRELATION = 0.9
MIN_CONTRAST = 2.0
"""Standard deviation of a thumbnail, of 255, below which an image is blank: its hash would be noise."""
MIN_IMAGE_SIDE = 16
"""Images with fewer pixels a side are too coarse to tell copies by: of scikit-learn's 8 x 8 digits, 67% would be taken
for copies of another."""

_CANDIDATES_AT_ONCE = 1 << 20
_INDEX_BITS = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NearPairs:
    """Pairs of near duplicates, each once, ``first < second``."""

    first: IntArray
    second: IntArray
    correlation: npt.NDArray[np.float32]
    """Of the two thumbnails."""
    is_complete: bool
    """False: there were so many that the search was given up; images of this kind resemble each other too much."""


def equal_to(digests: HashArray) -> IntArray:
    """For each row, the first row with the same digest (itself where there is none before). Shape (n,).

    A 64-bit digest takes two different rows for equal with probability n**2 / 2**65: 3e-8 at a million rows, 3e-4 at
    100 million.
    """
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    return np.asarray(first[inverse], dtype=np.int64)


def in_conflict(group: IntArray, labels: npt.NDArray[np.generic]) -> BoolArray:
    """Rows whose group holds another label too.

    Args:
        group: Any id per row; rows of one id are the same thing, as from `equal_to`. Shape (n,).
        labels: Shape (n,).
    Returns: Shape (n,).
    """
    order = np.lexsort((labels, group))
    same_group = group[order][1:] == group[order][:-1]
    differs = np.zeros(len(group), dtype=bool)
    differs[order[1:]] = same_group & (labels[order][1:] != labels[order][:-1])
    return np.asarray(np.isin(group, group[differs]), dtype=bool)


def perceptual_hash(grey: ByteImages) -> HashArray:
    """64 bits that survive re-encoding, scaling and changes of brightness.

    The 8 x 8 lowest frequencies of the cosine transform, each against their median without the mean's (Zauner,
    "Implementation and benchmarking of perceptual image hash functions", 2010, section 3.2).

    Args:
        grey: Shape (n, HASH_SIDE, HASH_SIDE).
    Returns: Shape (n,).
    """
    transform = dct(np.eye(HASH_SIDE), axis=0, norm="ortho")[:8].astype(np.float32)
    low = (transform @ grey.astype(np.float32) @ transform.T).reshape(len(grey), 64)
    bits = low > np.median(low[:, 1:], axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


def thumbnails(grey: ByteImages) -> ByteImages:
    """Mean over blocks of pixels. Shape (n, side * side) with side THUMBNAIL_SIDE."""
    block = HASH_SIDE // THUMBNAIL_SIDE
    blocks = grey.reshape(len(grey), THUMBNAIL_SIDE, block, THUMBNAIL_SIDE, block)
    return np.asarray(blocks.mean(axis=(2, 4), dtype=np.float32).round().reshape(len(grey), -1), dtype=np.uint8)


def is_blank(thumbs: ByteImages) -> BoolArray:
    """Images of one colour. Shape (n,)."""
    return np.asarray(thumbs.std(axis=1, dtype=np.float32) < MIN_CONTRAST, dtype=bool)


def correlation(left: ByteImages, right: ByteImages) -> npt.NDArray[np.float32]:
    """Pearson's, of thumbnails pair by pair: blind to brightness and contrast. Shapes (n, pixels) to (n,)."""
    a, b = (t.astype(np.float32) - t.mean(axis=1, keepdims=True, dtype=np.float32) for t in (left, right))
    norm = np.sqrt(np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", b, b))
    return np.asarray(np.einsum("ij,ij->i", a, b) / np.maximum(norm, 1e-6), dtype=np.float32)


def near_pairs(
    hashes: HashArray,
    thumbs: ByteImages,
    rows: IntArray,
    *,
    max_distance: int = MAX_DISTANCE,
    min_correlation: float = MIN_CORRELATION,
    max_pairs_per_row: float = 20.0,
) -> NearPairs:
    """Near duplicates among some images, which should be neither blank nor equal by digest.

    Args:
        hashes: Of `perceptual_hash`. Shape (n,).
        thumbs: Of `thumbnails`; may be mapped from disk, and is read for candidates alone. Shape (n, pixels).
        rows: The images to compare, rising. Shape (m,).
        max_distance: Bits of 64.
        min_correlation: Of the thumbnails, in (0, 1].
        max_pairs_per_row: The search gives up at that many pairs for each row; 50 times as many candidates likewise.
    Returns: Pairs of rows.
    """
    limit = max_pairs_per_row * len(rows) + 1000
    kept: list[tuple[IntArray, IntArray, npt.NDArray[np.float32]]] = []
    n_candidates = n_kept = 0
    for left, right in candidate_pairs(hashes[rows], max_distance):
        first, second = rows[left], rows[right]
        alike = correlation(thumbs[first], thumbs[second])
        good = alike >= min_correlation
        kept.append((first[good], second[good], alike[good]))
        n_candidates += len(first)
        n_kept += int(good.sum())
        if n_kept > limit or n_candidates > 50 * limit:
            break
    is_complete = n_kept <= limit and n_candidates <= 50 * limit
    if not kept:
        return NearPairs(first=_none(), second=_none(), correlation=np.empty(0, np.float32), is_complete=True)
    firsts, seconds, alikes = (np.concatenate(column) for column in zip(*kept, strict=True))
    order = np.lexsort((seconds, firsts))
    return NearPairs(first=firsts[order], second=seconds[order], correlation=alikes[order], is_complete=is_complete)


def candidate_pairs(hashes: HashArray, max_distance: int) -> Iterator[tuple[IntArray, IntArray]]:
    """All pairs within a Hamming distance, each once, in batches.

    The bits are cut into ``max_distance + k`` blocks. Hashes within the distance agree on at least k blocks, so they
    meet under one of the keys made of k blocks (Manku, Jain and Das Sarma, WWW 2007, section 3). ``k`` is chosen by
    what sorting and comparing will cost; few rows get one key without bits, which compares all pairs.

    Args:
        hashes: Shape (n,), n below 2**32.
        max_distance: In 0..63.
    """
    if len(hashes) < 2:
        return
    n_chosen = _blocks_in_key(len(hashes), max_distance)
    blocks = _blocks(max_distance + n_chosen)
    for chosen in itertools.combinations(blocks, n_chosen):
        order, keys = _sorted_by_key(hashes, chosen)
        passed_over = [block.mask for block in blocks if chosen and block < chosen[-1] and block not in chosen]
        for left, right in _meeting_pairs(hashes, order, keys, max_distance):
            # Pairs that agree on a block passed over have met before, under a key with it.
            differs = hashes[left] ^ hashes[right]
            new = np.all([differs & mask != 0 for mask in passed_over], axis=0) if passed_over else np.s_[:]
            yield left[new], right[new]


def groups_of(first: IntArray, second: IntArray, n: int) -> IntArray:
    """Connected groups of pairs: for each row, the lowest row of its group (itself when alone). Shape (n,)."""
    links = coo_array((np.ones(len(first), dtype=np.int8), (first, second)), shape=(n, n))
    _, component = connected_components(links, directed=False)
    _, lowest = np.unique(component, return_index=True)
    return np.asarray(lowest[component], dtype=np.int64)


def _none() -> IntArray:
    return np.empty(0, dtype=np.int64)


def _blocks_in_key(n: int, max_distance: int) -> int:
    """The number of blocks whose keys promise the least work on hashes with even bits."""

    def work(k: int) -> float:
        m = max_distance + k
        meeting = n * n / 2 / 2 ** (64 * k / m)
        # A sort costs about 4 comparisons' time per row: 100 ns against 25 ns, measured at a million rows.
        return math.comb(m, k) * (4 * n + meeting)

    return min(range(min(6, 65 - max_distance)), key=work) if max_distance else 1


class _Block(NamedTuple):
    """A run of bits."""

    low: int
    width: int

    @property
    def mask(self) -> np.uint64:
        return np.uint64(((1 << self.width) - 1) << self.low)


def _blocks(n_blocks: int) -> list[_Block]:
    """Blocks that share the 64 bits as evenly as can be."""
    edges = [round(64 * i / n_blocks) for i in range(n_blocks + 1)]
    return [_Block(low, high - low) for low, high in itertools.pairwise(edges)]


def _sorted_by_key(hashes: HashArray, chosen: Sequence[_Block]) -> tuple[IntArray, HashArray]:
    """Rows by rising key, and the keys in that order; of a key of more than 32 bits, the last 32."""
    key = np.zeros(len(hashes), dtype=np.uint64)
    for block in chosen:
        key = (key << np.uint64(block.width)) | (hashes & block.mask) >> np.uint64(block.low)
    # Key and row in one number: sorting numbers is several times faster than sorting an index by them.
    packed = key << np.uint64(_INDEX_BITS) | np.arange(len(hashes), dtype=np.uint64)
    packed.sort()
    return (packed & np.uint64((1 << _INDEX_BITS) - 1)).astype(np.int64), packed >> np.uint64(_INDEX_BITS)


def _meeting_pairs(
    hashes: HashArray, order: IntArray, keys: HashArray, max_distance: int
) -> Iterator[tuple[IntArray, IntArray]]:
    """Pairs of one key within the distance: every row against the next one, then the next but one, ..."""
    sorted_hashes = hashes[order]
    active = np.arange(len(order))
    step = 0
    while len(active):
        step += 1
        active = active[active + step < len(order)]
        active = active[keys[active] == keys[active + step]]
        for start in range(0, len(active), _CANDIDATES_AT_ONCE):
            at = active[start : start + _CANDIDATES_AT_ONCE]
            near = at[np.bitwise_count(sorted_hashes[at] ^ sorted_hashes[at + step]) <= max_distance]
            if len(near):
                left, right = order[near], order[near + step]
                yield np.minimum(left, right), np.maximum(left, right)
