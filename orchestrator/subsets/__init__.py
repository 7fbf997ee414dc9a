"""Nested stratified subsets: strata, one order of which every fraction is a prefix, and how exact its shares are.

nested.py    the order, its prefixes and levels, the split      strata.py   columns to the strata that are kept
shares.py    how far a subset's shares stray                    sequence.py, rows.py, class_column.py, kernels.py   how
"""

from __future__ import annotations

from orchestrator.subsets.nested import (
    IntArray,
    class_rows_at,
    membership_levels,
    nested_order,
    seed_offset,
    seed_places,
    split_validation,
    subset_size,
    target_size,
    uniform_order,
)

__all__ = [
    "IntArray",
    "class_rows_at",
    "membership_levels",
    "nested_order",
    "seed_offset",
    "seed_places",
    "split_validation",
    "subset_size",
    "target_size",
    "uniform_order",
]
