"""How far the shares of classes in a subset are from their shares of all rows.

In a subset of m rows a class of share ``p = n_c / n`` has the share ``x_c(m) / m``; the deviation is their difference
in percentage points, and their ratio. Without a floor under rare classes the difference is below one row, ``100 / m``
points. Pure: counts in, a record out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestrator.subsets.class_column import IntArray
from orchestrator.subsets.nested import class_rows_at, subset_size


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SubsetShares:
    """Classes of the subset of one fraction."""

    fraction: float
    rows: IntArray
    """Rows of each class in the subset. Shape (n_classes,)."""
    share: npt.NDArray[np.float64]
    """Of the subset's rows. Shape (n_classes,)."""
    share_of_all: npt.NDArray[np.float64]
    """Of all rows. Shape (n_classes,)."""

    @property
    def points(self) -> npt.NDArray[np.float64]:
        """Share in the subset less share of all, in percentage points. Shape (n_classes,)."""
        return 100 * (self.share - self.share_of_all)

    @property
    def ratio(self) -> npt.NDArray[np.float64]:
        """Share in the subset over share of all; 0 for a class that is absent. Shape (n_classes,)."""
        return self.share / self.share_of_all


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShareReport:
    """Classes of several nested subsets, and the largest deviations among them."""

    min_per_class: int
    class_names: tuple[str, ...]
    subsets: tuple[SubsetShares, ...]
    """By fraction, as asked."""
    largest_points: float
    """The largest deviation of any class and fraction in percentage points, without its sign."""
    largest_ratio: float
    """The largest share in a subset over share of all rows, of any class and fraction."""
    n_absent: int
    """Classes without a row in the smallest subset."""
    sentence: str
    """All this in words."""


def share_report(
    class_counts: npt.ArrayLike,
    fractions: Sequence[float],
    *,
    fingerprint: str,
    seed: int,
    min_per_class: int = 0,
    class_names: Sequence[str] | None = None,
) -> ShareReport:
    """Tell what each fraction holds of each class, and how far that bends the shares.

    Args:
        class_counts: Rows of each class, in rising order of label, each at least 1. Shape (n_classes,).
        fractions: Shares of all rows, in (0, 1]; at least one.
        fingerprint: As for `orchestrator.subsets.nested_order`.
        seed: Likewise.
        min_per_class: Likewise.
        class_names: Names of the classes; their numbers when None.
    """
    counts = np.asarray(class_counts, dtype=np.int64)
    names = tuple(str(i) for i in range(len(counts))) if class_names is None else tuple(class_names)
    sizes = [subset_size(int(counts.sum()), fraction) for fraction in fractions]
    held = class_rows_at(counts, sizes, fingerprint=fingerprint, seed=seed, min_per_class=min_per_class)
    of_all = counts / counts.sum()
    subsets = tuple(
        SubsetShares(fraction=fraction, rows=rows, share=rows / size, share_of_all=of_all)
        for fraction, rows, size in zip(fractions, held, sizes, strict=True)
    )
    furthest = max(subsets, key=lambda subset: float(np.abs(subset.points).max()))
    raised = max(subsets, key=lambda subset: float(subset.ratio.max()))
    n_absent = int(np.count_nonzero(held[int(np.argmin(sizes))] == 0))
    return ShareReport(
        min_per_class=min_per_class,
        class_names=names,
        subsets=subsets,
        largest_points=float(np.abs(furthest.points).max()),
        largest_ratio=float(raised.ratio.max()),
        n_absent=n_absent,
        sentence=_sentence(min_per_class, names, furthest, raised, n_absent),
    )


def _sentence(
    min_per_class: int, names: Sequence[str], furthest: SubsetShares, raised: SubsetShares, n_absent: int
) -> str:
    policy = f"at least {min_per_class} of each class" if min_per_class else "proportional to the row"
    by_points, by_ratio = int(np.argmax(np.abs(furthest.points))), int(np.argmax(raised.ratio))
    absent = ""
    if n_absent:
        absent = f"; {n_absent:,} of {len(names):,} classes have no row in the smallest subset"
    return (
        f"Subsets are {policy}: shares move by at most {np.abs(furthest.points).max():.2g} points "
        f"({names[by_points]!r} at {furthest.fraction:.4g}: {furthest.share[by_points]:.2%} of the rows against "
        f"{furthest.share_of_all[by_points]:.2%} of all) and at most {raised.ratio.max():.3g}-fold "
        f"({names[by_ratio]!r} at {raised.fraction:.4g}){absent}."
    )
