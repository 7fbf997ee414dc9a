"""Derive orchestrator/curves/learned.json again, from measured learning curves.

    python scripts/train_learning_curves.py DATA          writes the file
    python scripts/train_learning_curves.py DATA --check  fails when the file is not what comes out

DATA is a folder with lcdb11.parquet: LCDB 1.1 (Yan, Mohr and Viering, NeurIPS 2025, CC BY 4.0), columns curve_id,
dataset, n, value (error rate, mean of 25 splits) and stderr. Each curve is cut where a user would stand, at shares of
its data, thinned to a few sizes, as measured and with the scatter of single seeds; what is forecast is the curve's own
mean at its largest size, and at earlier ones. Beside them stand curves drawn from the families, up to 1e9 samples,
so that the networks have seen what no table of LCDB is large enough for.

One thread and fixed seeds: the same versions give the same file to the last digit. Takes about 3 minutes on one core.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import quantile_training
from quantile_training import SEED, Settings, Table, derived, run, text_of

from orchestrator.curves.families import FAMILIES
from orchestrator.curves.features import describe
from orchestrator.curves.learned import START, design, unit_of
from orchestrator.curves.measured import FoldedSizes, fold
from orchestrator.curves.quantile_net import QuantileNet

TARGET = Path(__file__).parents[1] / "orchestrator" / "curves" / "learned.json"
SETTINGS = Settings(hidden=(64, 32), epochs=25, batch_size=512, weight_decay=0.02, dropout=0.05, n_folds=5)
N_TWINS = 5

SHARES = (0.05, 0.1, 0.25, 0.5)
LADDER = (0.01, 0.02, 0.05, 0.1, 0.2)
N_SPLITS = 25
"""LCDB's values are means of so many splits; the deviation of one is the standard error times its root."""
SYNTHETIC_SHARE = 0.15
FLAT_SHARE = 0.03
LOG_DRIFT = (float(np.log(0.03)), 1.0)
"""Mean and deviation of the log of how much a made-up curve wanders from its formula: 3% of its value per factor e of
n. A curve that follows a formula to the end is not met outside of books."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One measured curve, sizes rising."""

    name: str
    dataset: str
    learner: str
    n: np.ndarray
    value: np.ndarray
    seed_std: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """What a user has measured, and what came out."""

    dataset: str
    measured: FoldedSizes
    target_n: float
    target: float
    weight: float


def load_curves(folder: Path) -> list[Curve]:
    """Curves of lcdb11.parquet with 6 sizes or more."""
    table = pq.read_table(folder / "lcdb11.parquet", columns=["curve_id", "dataset", "model", "n", "value", "stderr"])
    column = {name: np.asarray(table[name].to_pylist()) for name in ("curve_id", "dataset", "model")}
    number = {name: table[name].to_numpy().astype(np.float64) for name in ("n", "value", "stderr")}
    order = np.lexsort((number["n"], column["curve_id"]))
    names, starts = np.unique(column["curve_id"][order], return_index=True)
    curves = []
    for name, rows in zip(names, np.split(order, starts[1:]), strict=True):
        if len(rows) >= 6:
            std = np.nan_to_num(number["stderr"][rows]) * np.sqrt(N_SPLITS)
            curve = Curve(name=str(name), dataset=str(column["dataset"][rows[0]]), n=number["n"][rows],
                          value=number["value"][rows], seed_std=std, learner=str(column["model"][rows[0]]))  # fmt: skip
            curves.append(curve)
    return curves


def families_of(curves: Sequence[Curve]) -> dict[str, str]:
    """Data set to the family it is held out with: OpenML has the same data under several ids and names.

    One family are names alike up to the first mark or digit (``segment``, ``OVA_Breast`` and ``OVA_Colon``), and data
    sets on which `N_TWINS` learners have bit-identical curves.
    """
    names = sorted({curve.dataset for curve in curves})
    family = {name: re.split(r"[^a-z]", name.partition(":")[2].lower() or name.lower())[0] or name for name in names}
    shared: dict[tuple[str, str], int] = {}
    seen: dict[tuple[str, bytes], str] = {}
    for curve in curves:
        twin = seen.setdefault((curve.learner, curve.value.tobytes()), curve.dataset)
        if family[twin] != family[curve.dataset]:
            shared[twin, curve.dataset] = shared.get((twin, curve.dataset), 0) + 1
    for (one, other), count in shared.items():
        if count >= N_TWINS:
            kept, gone = family[one], family[other]
            family = {name: kept if each == gone else each for name, each in family.items()}
    return family


def examples_of(curve: Curve, rng: np.random.Generator) -> list[Example]:
    """Every cut of one curve: at its whole, and at two earlier sizes that are taken for the whole."""
    out: list[Example] = []
    earlier = [i for i in range(5, len(curve.n) - 4) if curve.n[i] >= 8 * curve.n[0]]
    ends = [len(curve.n) - 1, *(rng.choice(earlier, min(2, len(earlier)), replace=False) if earlier else [])]
    for end in ends:
        is_whole = end == len(curve.n) - 1
        free = np.exp(rng.uniform(np.log(0.03), np.log(0.9), 3 if is_whole else 2))
        cuts = [(share, True) for share in (SHARES if is_whole else ())] + [(share, False) for share in free]
        for share, is_standard in cuts:
            seen = _thinned(curve.n[: end + 1], share, rng, is_standard=is_standard)
            if len(seen) >= 2:
                out += _as_measured_and_scattered(curve, seen, end, 1.0 if is_whole else 0.4, rng)
        seen = _ladder(curve.n[: end + 1])
        if len(seen) >= 3:
            out += _as_measured_and_scattered(curve, seen, end, 1.5 if is_whole else 0.6, rng)
    return out


def _thinned(n: np.ndarray, share: float, rng: np.random.Generator, *, is_standard: bool) -> list[int]:
    below = np.flatnonzero(n <= share * n[-1] * (1 + 1e-9))
    if len(below) == 0:
        return []
    ratio = 1.4 if is_standard else rng.choice([1.4, 1.4, 1.4, 1.9, 2.5])
    kept = [int(below[-1])]
    for i in below[::-1][1:]:
        if n[kept[-1]] / n[i] >= ratio * 0.999:
            kept.append(int(i))
    kept = kept[::-1]
    if not is_standard and len(kept) > 2 and rng.random() < 0.35:
        kept = kept[-rng.integers(2, len(kept) + 1) :]
    return kept


def _ladder(n: np.ndarray) -> list[int]:
    found: list[int] = []
    for share in LADDER:
        nearest = int(np.argmin(np.abs(np.log(n / (share * n[-1])))))
        if abs(np.log(n[nearest] / (share * n[-1]))) <= np.log(1.12) and nearest not in found:
            found.append(nearest)
    return found


def _as_measured_and_scattered(
    curve: Curve, seen: Sequence[int], end: int, weight: float, rng: np.random.Generator
) -> list[Example]:
    index = np.asarray(seen)
    out = []
    for n_seeds, share in ((0, 1.0), (int(rng.choice([1, 2, 3, 3, 3])), 0.6)):
        n = np.repeat(curve.n[index], max(n_seeds, 1))
        value = np.repeat(curve.value[index], max(n_seeds, 1))
        if n_seeds:
            value = np.clip(value + rng.normal(size=len(n)) * np.repeat(curve.seed_std[index], n_seeds), 0, 1)
        out.append(
            Example(dataset=curve.dataset, measured=fold(n, value), target_n=float(curve.n[end]),
                    target=float(curve.value[end]), weight=weight * share)
        )  # fmt: skip
    return out


def flat(count: int, rng: np.random.Generator) -> list[Example]:
    """Models that learn nothing at any size: the error of guessing among 2 to 100 classes, give or take the rows."""
    out = []
    for _ in range(count):
        n_classes = int(np.exp(rng.uniform(np.log(2), np.log(101))))
        rate, sizes, n_seeds = 1 - 1 / n_classes, int(rng.integers(2, 8)), int(rng.choice([1, 3, 3]))
        std = float(np.sqrt(rate * (1 - rate) / np.exp(rng.uniform(np.log(200), np.log(20_000)))))
        ratio, ahead = float(rng.uniform(1.4, 3.0)), float(np.exp(rng.uniform(np.log(1.1), np.log(50.0))))
        n = np.exp(rng.uniform(np.log(100.0), np.log(1e7))) * ratio ** np.arange(sizes)
        seen = np.clip(rate + std * rng.normal(size=sizes * n_seeds), 0, 1)
        out.append(Example(dataset="", measured=fold(np.repeat(n, n_seeds), seen), target_n=float(ahead * n[-1]),
                           target=rate, weight=0.6))  # fmt: skip
    return out


def synthetic(count: int, rng: np.random.Generator) -> list[Example]:
    """Curves that wander round the families, at any scale of n."""
    out = []
    while len(out) < count:
        family = FAMILIES[rng.integers(1, len(FAMILIES))]
        cell = family.cells[rng.integers(len(family.cells))][None, :]
        sizes = int(rng.integers(3, 10))
        x = np.geomspace(float(np.exp(rng.uniform(np.log(0.004), np.log(0.3)))), 1.0, sizes)
        ahead = float(np.exp(rng.uniform(np.log(1.1), np.log(50.0))))
        phi = family.shape(np.append(x, ahead), cell)[0]
        low, high = np.sort(rng.uniform(0.0, 0.95, 2)) * rng.choice([1.0, 0.3])
        value = low + (high - low) * (phi - phi[-1]) / (phi[0] - phi[-1] + 1e-12)
        tau = float(np.exp(rng.normal(*LOG_DRIFT)))
        steps = tau * np.sqrt(np.diff(np.log(np.append(x, ahead)))) * rng.normal(size=sizes)
        value = np.clip(value * np.exp(np.append(0.0, np.cumsum(steps))), 0, 1)
        n_seeds = int(rng.choice([1, 3, 3]))
        std = float(np.exp(rng.uniform(np.log(0.0001), np.log(0.02))))
        last_n = float(np.exp(rng.uniform(np.log(100.0), np.log(1e9))))
        seen = np.clip(np.repeat(value[:-1], n_seeds) + std * rng.normal(size=sizes * n_seeds), 0, 1)
        measured = fold(np.repeat(x * last_n, n_seeds), seen)
        out.append(Example(dataset="", measured=measured, target_n=ahead * last_n, target=float(value[-1]), weight=0.6))
    return out


def tabulate(examples: Sequence[Example]) -> Table:
    """Describe every example."""
    rows, target, weight = [], [], []
    inputs: tuple[str, ...] = ()
    for example in examples:
        last = float(example.measured.mean[-1])
        unit = unit_of(last)
        description = describe(example.measured, np.array([example.target_n]))
        inputs, row = design(description, unit)
        rows.append(row[0])
        target.append((example.target - last - float(description[START][0])) / unit)
        weight.append(example.weight * unit)
    datasets = np.array([example.dataset for example in examples])
    return Table(np.array(rows), np.array(target), np.array(weight), datasets, inputs)


def build_table(folder: Path) -> Table:
    """All examples, measured and made up; of the measured ones ``dataset`` is the family of data sets."""
    rng = np.random.default_rng(SEED)
    curves = load_curves(folder)
    family = families_of(curves)
    held_out_together = [replace(curve, dataset=family[curve.dataset]) for curve in curves]
    measured = [example for curve in held_out_together for example in examples_of(curve, rng)]
    made_up = synthetic(int(SYNTHETIC_SHARE * len(measured)), rng) + flat(int(FLAT_SHARE * len(measured)), rng)
    return tabulate([*measured, *made_up])


def cross_validated(table: Table) -> list[tuple[list[str], QuantileNet]]:
    """For each fold its families of data sets, and networks that saw neither them nor a twin; spread by the others."""
    return quantile_training.cross_validated(table, SETTINGS)


def derive(folder: Path) -> str:
    """The text of ``learned.json``."""
    table, curves = build_table(folder), load_curves(folder)
    about = {
        "version": 1,
        "what": "quantiles of an error rate at a target size; read by orchestrator/curves/learned.py",
        "derived_by": "scripts/train_learning_curves.py",
        "data": f"LCDB 1.1 (Yan, Mohr and Viering, NeurIPS 2025, CC BY 4.0): {len(curves)} curves of "
        f"{len({curve.dataset for curve in curves})} data sets, {len(table.target)} examples with those made up from "
        "the families",
    }
    return text_of(about, derived(table, SETTINGS))


if __name__ == "__main__":
    sys.exit(run(__doc__, "lcdb11.parquet", TARGET, derive))
