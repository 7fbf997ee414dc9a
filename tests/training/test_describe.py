"""Data that a task brings itself: sizes, classes, and a fingerprint that sees every value of every row."""

from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from orchestrator.errors import DataError
from orchestrator.results import DataSummary
from orchestrator.spec import (
    DataSpec,
    DecisionSpec,
    ExperimentSpec,
    ModelSpec,
    PricingSpec,
    SweepSpec,
)
from orchestrator.training.describe import describe_task_data
from orchestrator.training.task import Datasets, TrainingFunction

_numbers = itertools.count()


@pytest.fixture
def describe(monkeypatch: pytest.MonkeyPatch) -> Callable[..., DataSummary]:
    """``describe(datasets)``: the summary of a task that brings these; a task of its own each time."""

    def run(datasets: Datasets) -> DataSummary:
        name = f"task_that_brings_data_{next(_numbers)}"
        module = types.ModuleType(name)
        task = TrainingFunction(train=lambda run: None, datasets=datasets)
        monkeypatch.setattr(module, "make_task", lambda context: task, raising=False)
        monkeypatch.setitem(sys.modules, name, module)
        return describe_task_data(
            ExperimentSpec(
                name="own", task=f"{name}:make_task", data=DataSpec(source="task"), models=(ModelSpec(name="m"),),
                sweep=SweepSpec(fractions=(0.5,)), pricing=PricingSpec(usd_per_worker_hour=1.0),
                decision=DecisionSpec(min_gain_per_dollar=0.1),
            )
        )  # fmt: skip

    return run


class Rows(Dataset[Any]):
    """A data set over a list of whatever rows."""

    def __init__(self, *rows: Any) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> Any:
        return self._rows[row]


def points(n: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))


def clouds(inputs: torch.Tensor, labels: Any = (0, 1, 1, 0, 1, 1)) -> Datasets:
    classes = torch.tensor(labels)
    return Datasets(
        train=TensorDataset(inputs, classes), validation=TensorDataset(points(4, seed=1), torch.tensor([0, 1, 0, 1])),
        train_labels=classes.numpy(),
    )  # fmt: skip


def test_sizes_and_classes_are_counted(describe: Callable[..., DataSummary]) -> None:
    summary = describe(clouds(points()))

    assert (summary.n_rows, summary.n_train, summary.n_validation) == (10, 6, 4)
    assert summary.class_counts == {"0": 2, "1": 4}
    assert summary.source.startswith("task task_that_brings_data_")


def test_the_same_rows_have_the_same_fingerprint(describe: Callable[..., DataSummary]) -> None:
    assert describe(clouds(points())).fingerprint == describe(clouds(points().clone())).fingerprint


def test_any_change_of_the_rows_changes_the_fingerprint(describe: Callable[..., DataSummary]) -> None:
    inputs = points()
    one_value, swapped = inputs.clone(), inputs.flip(0)
    one_value[5, 2] += 1e-6
    variants = [
        clouds(inputs),
        clouds(one_value),
        clouds(swapped),
        clouds(inputs.double()),
        clouds(inputs.reshape(6, 3, 1)),
        clouds(inputs, (0, 1, 1, 0, 1, 0)),
        clouds(inputs[:5], (0, 1, 1, 0, 1)),
    ]

    fingerprints = [describe(variant).fingerprint for variant in variants]

    assert len(set(fingerprints)) == len(variants)


def test_a_row_that_moves_from_training_to_validation_changes_the_fingerprint(
    describe: Callable[..., DataSummary],
) -> None:
    rows = [(float(i), i % 2) for i in range(6)]

    first = describe(Datasets(train=Rows(*rows[:4]), validation=Rows(*rows[4:])))
    second = describe(Datasets(train=Rows(*rows[:3]), validation=Rows(*rows[3:])))

    assert first.fingerprint != second.fingerprint


def test_rows_may_be_dictionaries_texts_and_arrays(describe: Callable[..., DataSummary]) -> None:
    def tokens(text: str) -> Datasets:
        row = {"text": text, "tokens": np.arange(3), "weights": [0.5, torch.tensor(1.0)], "label": None}
        return Datasets(train=Rows(row, row), validation=Rows(row))

    summary = describe(tokens("good"))

    assert summary.class_counts == {}  # no labels were given
    assert summary.fingerprint == describe(tokens("good")).fingerprint
    assert summary.fingerprint != describe(tokens("bad")).fingerprint


class Molecule:
    """An object of the user's, printed with its address."""

    def __init__(self, atoms: str) -> None:
        self.atoms = atoms


@pytest.mark.parametrize(
    "make",
    [
        lambda shade: Image.new("L", (4, 4), shade),
        lambda shade: Molecule(f"C{shade}"),
        lambda shade: torch.full((2,), shade, dtype=torch.bfloat16),
    ],
    ids=["Pillow image", "object", "bfloat16"],
)
def test_objects_count_by_content_and_not_by_address(
    describe: Callable[..., DataSummary], make: Callable[[int], Any]
) -> None:
    def rows(shade: int) -> Datasets:
        return Datasets(train=Rows(make(1), make(shade)), validation=Rows(make(3)))

    assert describe(rows(2)).fingerprint == describe(rows(2)).fingerprint
    assert describe(rows(2)).fingerprint != describe(rows(4)).fingerprint


def test_what_cannot_be_fingerprinted_is_refused(describe: Callable[..., DataSummary]) -> None:
    with pytest.raises(DataError, match="rows hold a function, whose content cannot be fingerprinted"):
        describe(Datasets(train=Rows(lambda: 1, 2), validation=Rows(3)))


def test_one_class_only_is_refused(describe: Callable[..., DataSummary]) -> None:
    with pytest.raises(DataError, match="all 6 training rows are of one class; nothing can be learned"):
        describe(clouds(points(), (1, 1, 1, 1, 1, 1)))


def test_no_rows_are_refused_with_what_was_found(describe: Callable[..., DataSummary]) -> None:
    with pytest.raises(DataError, match="brings 2 training and 0 validation rows; both need some"):
        describe(Datasets(train=Rows(1, 2), validation=Rows()))
