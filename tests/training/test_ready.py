"""Rows read and decoded before the first paid second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from orchestrator.data.prepared import PreparedData, prepare
from orchestrator.errors import DataError
from orchestrator.spec import (
    DataSpec,
    DecisionSpec,
    ExperimentSpec,
    ModelSpec,
    PricingSpec,
    SweepSpec,
    TrainingSpec,
    TrialSpec,
)
from orchestrator.training.ready import make_ready, probe_ingest

MakeSpec = Callable[..., ExperimentSpec]


@pytest.fixture
def make_spec() -> MakeSpec:
    def make(**changes: Any) -> ExperimentSpec:
        values: dict[str, Any] = {
            "name": "ready", "task": "orchestrator.tasks.vision:image_classification",
            "data": DataSpec(source="sklearn:digits"), "models": (ModelSpec(name="linear"),),
            "training": TrainingSpec(epochs=1, global_batch_size=8),
            "sweep": SweepSpec(fractions=(0.1,), probe_s=0.02), "pricing": PricingSpec(usd_per_worker_hour=1.0),
            "decision": DecisionSpec(min_gain_per_dollar=0.1),
        }  # fmt: skip
        return ExperimentSpec(**(values | changes))

    return make


@pytest.fixture
def digits(tmp_path: Path) -> PreparedData:
    return prepare(DataSpec(source="sklearn:digits"), tmp_path / "cache", lambda message: None)


def trial(fraction: float, seed: int) -> TrialSpec:
    return TrialSpec(model="linear", fraction=fraction, workers=1, seed=seed)


def test_the_rows_of_all_trials_are_read_once_and_told(make_spec: MakeSpec, digits: PreparedData) -> None:
    first = make_ready(make_spec(), digits.root, [trial(0.1, 0), trial(0.2, 0), trial(0.1, 0)])
    again = make_ready(make_spec(), digits.root, [trial(0.2, 0)])
    more = make_ready(make_spec(), digits.root, [trial(0.2, 0), trial(0.2, 1)])

    assert first is not None
    assert again is not None
    assert more is not None
    assert (first.n_rows, first.n_train) == (288, 1438)
    assert first.train_bytes_read > 0
    assert first.validation_bytes_read > 0
    assert (again.train_bytes_read, again.validation_bytes_read) == (0, 0)
    assert more.n_rows == 2 * 288  # another seed begins elsewhere


def test_what_trials_read_afterwards_is_in_memory(make_spec: MakeSpec, digits: PreparedData) -> None:
    make_ready(make_spec(), digits.root, [trial(0.3, 1)])

    places = digits.train.subset(431, 1)
    assert digits.train_images.missing_groups(places) == []
    assert digits.validation_images.missing_groups(np.arange(359)) == []


def test_images_that_cannot_be_decoded_are_told_before_any_trial(make_spec: MakeSpec, tmp_path: Path) -> None:
    """Beyond the rows that preparing looks at in passing; here the file is broken afterwards."""
    digits = prepare(DataSpec(source="sklearn:digits"), tmp_path / "other", lambda message: None)
    for part in digits.root.glob("train-*.parquet"):
        table = pq.read_table(part)
        broken = pa.array([b"no image"] * len(table), pa.binary())
        table = table.set_column(table.schema.get_field_index("image"), "image", broken)
        pq.write_table(table, part, row_group_size=digits.train.parts[0].group_rows)

    with pytest.raises(DataError, match="cannot be decoded"):
        make_ready(make_spec(), digits.root, [trial(0.1, 0)])


def test_a_task_with_data_of_its_own_has_nothing_to_make_ready(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import torch\n"
        "from orchestrator.training.task import Datasets, TrainingFunction\n"
        "def make(context):\n"
        "    rows = torch.utils.data.TensorDataset(torch.zeros(4, 1), torch.zeros(4))\n"
        "    return TrainingFunction(train=lambda run: None, datasets=Datasets(train=rows, validation=rows))\n"
    )
    (tmp_path / "own_ready_task.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = make_spec(task="own_ready_task:make", data=DataSpec(source="task"))

    assert make_ready(spec, None, [trial(1.0, 0)]) is None
    assert probe_ingest(spec, None, "linear", 4, torch.device("cpu")) is None


def test_the_probe_measures_the_loader_and_the_step(make_spec: MakeSpec, digits: PreparedData) -> None:
    make_ready(make_spec(), digits.root, [trial(0.5, 0)])

    measured = probe_ingest(make_spec(), digits.root, "linear", 200, torch.device("cpu"))

    assert measured is not None
    assert (measured.batch_size, measured.n_rows) == (8, 1438)
    assert measured.loader.samples_per_s > 0
    assert measured.compute.samples_per_s > 0
    assert measured.bytes_per_sample == pytest.approx(64)  # one byte a pixel, as it is mapped


def test_options_of_the_data_are_those_of_the_trials(make_spec: MakeSpec, digits: PreparedData) -> None:
    spec = make_spec(data=replace(make_spec().data, image="picture"))

    with pytest.raises(DataError, match=r"data\.image: there is no column 'picture'"):
        make_ready(spec, digits.root, [trial(0.1, 0)])
