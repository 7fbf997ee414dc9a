#!/usr/bin/env python
"""Trains on labels spoilt on purpose and asks where the accuracy lies between the two ends of `curves.label_noise`.

    python scripts/check_label_noise.py [--seeds 6] [--epochs 20]

A share of the training labels of scikit-learn's digits moves to another of the ten classes, all alike; validation
labels stay right. For each model, size and share the script prints the error that came out beside what a learner that
averages wrong labels out would have (the error of the right labels at the effective rows) and one that learns them by
heart, and how far from the first to the second it lies: 0 and 1 are the ends, and `candidates` draws between them. Each
training is told twice: with the weights of its last epoch, and with those of the epoch of lowest validation loss, as
`training.early_stopping` keeps them. Models are of the shapes of `tasks.vision`, trained as configs/vision.yaml does.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from orchestrator.curves.label_noise import effective_share, memorised_error

FloatArray = npt.NDArray[np.float64]
Errors = dict[tuple[str, int, float], list[float]]
"""By model, rows and share of wrong labels; a value for each seed."""

SIZES = (60, 120, 240, 480, 960, 1437)
SHARES = (0.1, 0.2, 0.4)
N_CLASSES = 10
BATCH = 64
LEARNING_RATE = 0.003
"""As in configs/vision.yaml."""


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, N_CLASSES))


def cnn(width: int = 16) -> nn.Module:
    """Two convolutions, each halving the image."""
    first = (nn.Conv2d(1, width, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.GroupNorm(4, width), nn.ReLU())
    second = (nn.Conv2d(width, 2 * width, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.GroupNorm(4, 2 * width))
    return nn.Sequential(*first, *second, nn.ReLU(), nn.Flatten(), nn.Linear(8 * width, N_CLASSES))


MODELS: dict[str, Callable[[], nn.Module]] = {"linear": linear, "cnn": cnn}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One model at one size and share of wrong labels; errors are means over seeds."""

    model: str
    n: int
    share: float
    error: float
    std_error: float
    averaged: float
    by_heart: float

    @property
    def place(self) -> float:
        """0 where wrong labels were averaged out, 1 where they were learned by heart."""
        return (self.error - self.averaged) / (self.by_heart - self.averaged)

    @property
    def is_inside(self) -> bool:
        """Whether it lies between the ends, by two standard errors."""
        return self.averaged - 2 * self.std_error <= self.error <= self.by_heart + 2 * self.std_error


def flipped(labels: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Exactly that share of labels moved to one of the other classes, all alike."""
    wrong = rng.permutation(len(labels))[: round(share * len(labels))]
    moved = labels.numpy().copy()
    moved[wrong] = (moved[wrong] + rng.integers(1, N_CLASSES, len(wrong))) % N_CLASSES
    return torch.from_numpy(moved)


def train(model: nn.Module, rows: tuple[Tensor, Tensor], epochs: int, seed: int) -> Iterator[nn.Module]:
    """Adam with shuffled batches; the model after each epoch."""
    x, y = rows
    order = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    for _ in range(epochs):
        for batch in torch.randperm(len(x), generator=order).split(BATCH):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()  # type: ignore[no-untyped-call] # torch
            optimiser.step()
        yield model


def errors_of(build: Callable[[], nn.Module], rows: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor],
              epochs: int, seed: int) -> tuple[float, float]:  # fmt: skip
    """Validation error of the last epoch, and of the epoch of lowest validation loss."""
    torch.manual_seed(seed)
    x, y = held_out
    told: list[tuple[float, float]] = []
    for model in train(build(), rows, epochs, seed):
        with torch.no_grad():
            scores = model(x)
        loss = float(nn.functional.cross_entropy(scores, y))
        told.append((loss, float((scores.argmax(1) != y).double().mean())))
    return told[-1][1], min(told)[1]


def measure(seeds: int, epochs: int) -> dict[str, Errors]:
    """Errors by which epoch's weights were kept."""
    digits = load_digits()
    x = torch.from_numpy((digits.images / 8 - 1).astype(np.float32))[:, None]
    y = torch.from_numpy(digits.target.astype(np.int64))
    errors: dict[str, Errors] = {"last epoch": defaultdict(list), "lowest validation loss": defaultdict(list)}
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(x))
        pool, held_out = order[: max(SIZES)], order[max(SIZES) :]
        for n in SIZES:
            for share in (0.0, *SHARES):
                labels = flipped(y[pool[:n]], share, np.random.default_rng([seed, n]))
                for name, build in MODELS.items():
                    found = errors_of(build, (x[pool[:n]], labels), (x[held_out], y[held_out]), epochs, seed)
                    for kept, error in zip(errors, found, strict=True):
                        errors[kept][name, n, share].append(error)
    return errors


def compare(errors: Errors) -> list[Found]:
    """What came out beside both ends, where the effective rows lie within the sizes measured with right labels."""
    found = []
    for name in MODELS:
        right = np.array([np.mean(errors[name, n, 0.0]) for n in SIZES])
        for share in SHARES:
            effective = effective_share(share, N_CLASSES)
            for place, n in enumerate(SIZES):
                if n * effective < SIZES[0]:
                    continue
                averaged = np.exp(np.interp(np.log(n * effective), np.log(SIZES), np.log(right)))
                values = errors[name, n, share]
                std_error = float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
                by_heart = float(memorised_error(right[place : place + 1], share, N_CLASSES)[0])
                found.append(Found(model=name, n=n, share=share, error=float(np.mean(values)), std_error=std_error,
                                   averaged=float(averaged), by_heart=by_heart))  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=20)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for kept, errors in measure(asked.seeds, asked.epochs).items():
        found = compare(errors)
        print(f"weights of the {kept}")
        print("  model   rows  wrong labels   error found        averaged  by heart  place")
        for each in found:
            print(
                f"  {each.model:6} {each.n:5} {each.share:13.0%}  {each.error:6.1%} +- {each.std_error:4.1%}  "
                f"{each.averaged:14.1%}  {each.by_heart:8.1%}  {each.place:5.2f}"
            )
        for name in MODELS:
            own = [each for each in found if each.model == name]
            inside = sum(each.is_inside for each in own)
            print(f"  {name}: median place {np.median([e.place for e in own]):.2f}; {inside} of {len(own)} between")


if __name__ == "__main__":
    main()
