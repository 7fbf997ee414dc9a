#!/usr/bin/env python
"""Spoils CIFAR-10 in known ways, prepares it, looks through it, and says how much of the damage was found.

    python scripts/check_quality.py DATA [--rows 5000] [--models linear,cnn] [--epochs 6] [--page PAGE.html]

DATA is a folder with train.parquet (columns id, image, label). Of the first --rows rows of a seeded shuffle, 5% get
another label; 1% are repeated byte for byte; 1.5% are repeated as near copies: encoded anew as JPEG of quality 60,
brightened by a tenth, or cropped by a pixel and scaled back. `prepare` then splits the rows, so that some copies come
to lie on the other side of the split: those are leaks. Labels are judged out of fold by a linear model and by a small
convolutional network of the shape that `tasks.vision` has.

Exit code 1 when a planted exact duplicate or leak is not found.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from orchestrator.data.findings.labels import add_label_noise
from orchestrator.data.findings.look import LookOptions, look_through
from orchestrator.data.findings.store import read_pictures
from orchestrator.data.formats import open_rows
from orchestrator.data.images import ImageReader, decode_rgb
from orchestrator.data.manifest import TRAIN, VALIDATION, Manifest
from orchestrator.data.preparing.preparation import PrepareOptions, prepare_folder
from orchestrator.quality.findings import Findings
from orchestrator.quality.label_noise import (
    confident_joint,
    estimate_noise,
    prune_by_class,
    prune_by_noise_rate,
)
from orchestrator.report.findings import findings_section
from orchestrator.spec import ModelSpec, TrainingSpec
from orchestrator.training.out_of_fold import OutOfFold, out_of_fold_probabilities
from orchestrator.training.task import Datasets, SupervisedTask

N_CLASSES = 10
EXACT_SHARE, NEAR_SHARE = 0.01, 0.015
ALL = 10**9
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Spoiled:
    """A table with a known truth; rows are known by their number in column ``origin``."""

    table: pa.Table
    flipped: BoolArray
    """Whether a row's label is wrong. Shape (n_rows,)."""
    exact: tuple[tuple[int, int], ...]
    """Original and copy."""
    near: dict[str, tuple[tuple[int, int], ...]]
    """Likewise, by what was done to the copy."""


def spoil(table: pa.Table, flip_share: float, rng: np.random.Generator, *, to_next: bool = False) -> Spoiled:
    """Flip labels to any other class, or to the next one; then append copies with the label of their original."""
    n = table.num_rows
    images, labels = table.column("image").to_pylist(), table.column("label").to_numpy().astype(np.int64)
    flipped = np.zeros(n, dtype=bool)
    flipped[rng.choice(n, round(flip_share * n), replace=False)] = True
    step = np.ones(n, dtype=np.int64) if to_next else rng.integers(1, N_CLASSES, n)
    labels = np.where(flipped, (labels + step) % N_CLASSES, labels)
    n_exact, n_near = round(EXACT_SHARE * n), round(NEAR_SHARE * n)
    originals = rng.choice(n, n_exact + n_near, replace=False).tolist()
    copies = [images[i] for i in originals[:n_exact]]
    near: dict[str, list[tuple[int, int]]] = {kind: [] for kind in CHANGES}
    for i, kind in zip(originals[n_exact:], n_near * list(CHANGES), strict=False):
        near[kind].append((i, n + len(copies)))
        copies.append(_jpeg(CHANGES[kind](decode_rgb(images[i])), 60 if kind == "quality 60" else 90))
    labels = np.concatenate([labels, labels[originals]])
    spoiled = pa.table(
        {
            "id": pa.array([f"row-{i}" for i in range(len(labels))]),
            "image": pa.array([*images, *copies], pa.binary()),
            "label": pa.array(labels, pa.int32()),
            "origin": pa.array(np.arange(len(labels))),
        }
    )
    return Spoiled(
        table=spoiled,
        flipped=np.concatenate([flipped, flipped[originals]]),
        exact=tuple((i, n + at) for at, i in enumerate(originals[:n_exact])),
        near={kind: tuple(pairs) for kind, pairs in near.items()},
    )


def _jpeg(pixels: npt.NDArray[np.uint8], quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "jpeg", quality=quality)
    return buffer.getvalue()


def _cropped(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    return np.asarray(Image.fromarray(pixels[1:, 1:]).resize((width, height), Image.Resampling.BILINEAR))


CHANGES: dict[str, Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]] = {
    "quality 60": lambda pixels: pixels,
    "brighter": lambda pixels: np.clip(pixels * 1.1, 0, 255).astype(np.uint8),
    "cropped": _cropped,
}


class Folder:
    """A prepared folder, with the row of the spoiled table at each place."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest
        self.origins = {
            split: np.concatenate(
                [pq.read_table(path / f.name, columns=["origin"])["origin"].to_numpy() for f in manifest.files(split)]
            )
            for split in (TRAIN, VALIDATION)
        }
        self.split_of = {int(row): split for split, rows in self.origins.items() for row in rows}

    def images(self) -> npt.NDArray[np.uint8]:
        """Of the training pool. Shape (n_train, 3, height, width)."""
        encoded = [
            image
            for file in self.manifest.train_files
            for image in pq.read_table(self.path / file.name, columns=["image"])["image"].to_pylist()
        ]
        return np.stack([decode_rgb(image).transpose(2, 0, 1) for image in encoded])

    def pairs_of(self, findings: Findings, *kinds: str) -> set[frozenset[int]]:
        """Pairs of rows that some kinds of findings name."""
        return {
            frozenset(int(self.origins[row.split][row.place]) for row in (example.row, example.other) if row)
            for finding in findings.findings
            if finding.kind in kinds
            for example in finding.examples
        }


class Images(Dataset[tuple[Tensor, Tensor]]):
    """Images and labels in memory, standardised a batch at a time."""

    def __init__(self, pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> None:
        self.pixels, self.labels = torch.from_numpy(pixels), torch.from_numpy(labels)
        sample = self.pixels[:2000].float()
        self.mean = sample.mean((0, 2, 3)).reshape(1, -1, 1, 1)
        self.std = sample.std((0, 2, 3)).reshape(1, -1, 1, 1)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, places: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        return (self.pixels[places].float() - self.mean) / self.std, self.labels[places]


class TwoModels(SupervisedTask):
    """A linear model and a small convolutional network."""

    def __init__(self, pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> None:
        self._images, self._labels, self._shape = Images(pixels, labels), labels, pixels.shape[1:]

    def datasets(self) -> Datasets:
        return Datasets(
            train=self._images, validation=self._images, train_labels=self._labels, collate=lambda batch: batch,
            subset=lambda n_rows, seed: np.arange(n_rows),
        )  # fmt: skip

    def build_model(self, model: ModelSpec) -> nn.Module:
        channels, height, width = self._shape
        if model.name == "linear":
            return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, N_CLASSES))
        layers: list[nn.Module] = []
        for out in (16, 32, 64):
            layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.GroupNorm(4, out)]
            layers.append(nn.ReLU(inplace=True))
            channels = out
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * (height // 8) * (width // 8), N_CLASSES))


def report_copies(folder: Folder, findings: Findings, spoiled: Spoiled) -> bool:
    """Recall of planted copies by kind; whether every exact one was found."""
    found = folder.pairs_of(findings, "exact duplicates", "exact leakage")
    near = folder.pairs_of(findings, "near duplicates", "near leakage")
    groups = _groups(near)
    print(f"{'planted':24} {'in train':>14} {'leaked':>14}     found / planted")
    whole = True
    for name, pairs, hit in [
        ("exact copies", spoiled.exact, lambda pair: frozenset(pair) in found),
        *((f"near: {kind}", pairs, lambda pair: groups.get(pair[0], -1) == groups.get(pair[1], -2))
          for kind, pairs in spoiled.near.items()),
    ]:  # fmt: skip
        by_place: dict[str, list[bool]] = {"in train": [], "leaked": []}
        for pair in pairs:
            sides = {folder.split_of[row] for row in pair}
            if sides != {VALIDATION}:
                by_place["in train" if sides == {TRAIN} else "leaked"].append(hit(pair))
        print(f"{name:24} " + " ".join(f"{f'{sum(hits)} / {len(hits)}':>14}" for hits in by_place.values()))
        if name == "exact copies":
            whole = all(all(hits) for hits in by_place.values())
    planted = {frozenset(pair) for pairs in spoiled.near.values() for pair in pairs}
    print(f"near pairs named: {len(near):,}, of these planted {len(near & planted):,}; the rest are CIFAR-10's own\n")
    return whole


def _groups(pairs: set[frozenset[int]]) -> dict[int, int]:
    """A group for each row of the pairs: copies of copies count as found."""
    group: dict[int, int] = {}

    def root(row: int) -> int:
        while group.setdefault(row, row) != row:
            row = group[row]
        return row

    for left, right in map(sorted, pairs):
        group[root(right)] = root(left)
    return {row: root(row) for row in group}


def report_labels(found: OutOfFold, wrong: BoolArray, seconds: float) -> None:
    """Precision and recall of flipped labels, and the estimated rate."""
    estimate = estimate_noise(found.probabilities, found.labels)
    joint = confident_joint(found.probabilities, found.labels)
    arguments = (found.probabilities, found.labels, joint.joint)
    by_class, by_rate = prune_by_class(*arguments), prune_by_noise_rate(*arguments)
    own = found.probabilities[np.arange(len(wrong)), found.labels]
    order = np.argsort(-estimate.wrong_probability, kind="stable")
    print(
        f"{found.model}: {len(wrong):,} rows, {found.n_folds_done} of {found.n_folds} folds, out-of-fold accuracy "
        f"{found.accuracy:.3f}, {seconds:.0f} CPU s"
    )
    rate = estimate.rate_if_alike
    print(
        f"  labels wrong: {wrong.mean():.2%} planted; estimated {rate.median:.2%} (90%: {rate.low:.2%} to "
        f"{rate.high:.2%}{'; an upper estimate, the model is too weak' if estimate.is_upper_estimate else ''}), at "
        f"most {estimate.rate.high:.2%} by the surest rows; confident joint {joint.noise_rate:.2%}"
    )
    print(
        f"  average precision: {average_precision(estimate.wrong_probability, wrong):.3f} by probability of being "
        f"wrong, {average_precision(-own, wrong):.3f} by self-confidence, {wrong.mean():.3f} by chance"
    )
    for name, chosen in [
        ("more likely wrong than not", estimate.wrong_probability > 0.5),
        ("first k, k as estimated", _first(order, round(rate.median * len(wrong)))),
        ("first k, k as planted", _first(order, int(wrong.sum()))),
        ("confident learning, by class", by_class),
        ("confident learning, by noise rate", by_rate),
        ("confident learning, both", by_class & by_rate),
    ]:
        hits, n = int((chosen & wrong).sum()), int(chosen.sum())
        print(
            f"  {name:34} {n:6,} rows  precision {hits / max(n, 1):.3f}  recall {hits / max(int(wrong.sum()), 1):.3f}"
        )
    print()


def average_precision(score: FloatArray, wrong: BoolArray) -> float:
    """Mean precision at the rank of each wrong row; NaN when there is none."""
    hits = wrong[np.argsort(-score, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean()) if hits.any() else float("nan")


def _first(order: npt.NDArray[np.int64], k: int) -> BoolArray:
    chosen = np.zeros(len(order), dtype=bool)
    chosen[order[:k]] = True
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--flip", type=float, default=0.05, help="share of labels that are flipped")
    parser.add_argument("--to-next", action="store_true", help="flip to the next class rather than to any")
    parser.add_argument("--models", default="linear,cnn")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", type=Path, help="write the report's section, with the last model's label noise")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rng = np.random.default_rng(asked.seed)
    table = pq.read_table(asked.data / "train.parquet", columns=["image", "label"])
    spoiled = spoil(table.take(rng.permutation(table.num_rows)[: asked.rows]), asked.flip, rng, to_next=asked.to_next)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source"
        source.mkdir()
        pq.write_table(spoiled.table, source / "rows.parquet")
        rows = open_rows(str(source), label="label", cache_dir=Path(scratch))
        manifest = prepare_folder(rows, Path(scratch) / "prepared", PrepareOptions(source="spoiled", label="label"))
        folder = Folder(Path(scratch) / "prepared", manifest)
        began = time.process_time()
        findings = look_through(folder.path, manifest, LookOptions(n_examples=ALL), say=print)
        spent_s = time.process_time() - began
        print(f"{spoiled.table.num_rows / spent_s:,.0f} rows per CPU second, pictures of all findings included\n")
        whole = report_copies(folder, findings, spoiled)
        labels = np.load(folder.path / "train_labels.npy").astype(np.int64)
        task = TwoModels(folder.images(), labels)
        for name in asked.models.split(","):
            began = time.process_time()
            rate = 0.001 if name == "linear" else 0.003
            training = TrainingSpec(epochs=asked.epochs, global_batch_size=64, learning_rate=rate)
            found = out_of_fold_probabilities(
                task, task.datasets(), ModelSpec(name=name), training, n_rows=len(labels), seed=asked.seed
            )
            report_labels(found, spoiled.flipped[folder.origins[TRAIN][found.places]], time.process_time() - began)
        if asked.page:
            findings = look_through(folder.path, manifest)
            schema = pq.read_schema(folder.path / manifest.train_files[0].name)
            findings = add_label_noise(
                folder.path, manifest, findings, model=found.model, places=found.places, labels=found.labels,
                probabilities=found.probabilities, reader=ImageReader.of(schema, "image", None),
            )  # fmt: skip
            asked.page.write_text(findings_section(findings, read_pictures(folder.path, findings)), encoding="utf-8")
    if not whole:
        print("a planted exact copy was not found", file=sys.stderr)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
