"""Image classification: which models there are, what they refuse, and that they learn."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from orchestrator.data.prepared import PreparedData, prepare
from orchestrator.errors import TaskError
from orchestrator.results import TrainingResult
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
from orchestrator.tasks.vision import ImageClassification, image_classification
from orchestrator.training.checkpoints import MemoryCheckpoints
from orchestrator.training.loop import train
from orchestrator.training.request import TrainRequest
from orchestrator.training.task import TaskContext


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepare(DataSpec(source="sklearn:digits"), tmp_path_factory.mktemp("prepared"), lambda message: None)


@pytest.fixture(scope="module")
def task(digits: PreparedData) -> ImageClassification:
    return ImageClassification(digits)


def model(name: str, **options: Any) -> ModelSpec:
    return ModelSpec(name=name, options=options)


def n_parameters(network: nn.Module) -> int:
    return sum(weights.numel() for weights in network.parameters())


def outcome(digits: PreparedData, chosen: ModelSpec, *, fraction: float, epochs: int, seed: int = 0) -> TrainingResult:
    spec = ExperimentSpec(
        name="vision", task="orchestrator.tasks.vision:image_classification", data=DataSpec(source="sklearn:digits"),
        models=(chosen,), training=TrainingSpec(epochs=epochs, global_batch_size=32),
        sweep=SweepSpec(fractions=(fraction,)), pricing=PricingSpec(usd_per_worker_hour=1.0),
        decision=DecisionSpec(min_gain_per_dollar=0.1),
    )  # fmt: skip
    request = TrainRequest(
        spec=spec, trial=TrialSpec(model=chosen.name, fraction=fraction, workers=1, seed=seed),
        fingerprint=digits.summary.fingerprint, data_root=digits.root,
    )  # fmt: skip
    return train(request, checkpoints=MemoryCheckpoints())[0]


def test_models_are_built_by_name_for_the_images_at_hand(task: ImageClassification) -> None:
    images = torch.zeros(2, 1, 8, 8)

    linear, cnn = task.build_model(model("linear")), task.build_model(model("cnn", width=8))

    assert linear(images).shape == cnn(images).shape == (2, 10)
    assert n_parameters(linear) == 64 * 10 + 10
    # 8 x 8 leaves two blocks: convolutions without bias, group norms, and 16 channels of 2 x 2 into 10 classes.
    assert n_parameters(cnn) == (9 * 8 + 2 * 8) + (9 * 8 * 16 + 2 * 16) + (16 * 4 * 10 + 10)


def test_width_and_depth_change_the_network(task: ImageClassification) -> None:
    def channels(**options: Any) -> list[int]:
        layers = task.build_model(model("cnn", **options)).modules()
        return [layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d)]

    assert channels() == [16, 32]
    assert channels(width=4) == [4, 8]
    assert channels(depth=1) == [16]
    assert channels(depth=3) == [16, 32, 64]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (model("resnet"), "models: image_classification has no 'resnet'; it has: linear, cnn"),
        (model("linear", width=8), "models: linear does not take width; its options are: none"),
        (model("cnn", widht=8), "models: cnn does not take widht; its options are: depth, width"),
        (model("cnn", width=6), "models: cnn width must be a multiple of 4, got 6"),
        (model("cnn", width=0), "models: cnn width must be a multiple of 4, got 0"),
        (model("cnn", width="wide"), "models: cnn width must be a multiple of 4, got 'wide'"),
        (model("cnn", width=True), "models: cnn width must be a multiple of 4, got True"),
        (model("cnn", depth=4), "models: cnn depth 4 halves 8 x 8 images to nothing; lower depth"),
        (model("cnn", depth=0), "models: cnn depth must be a whole number of at least 1, got 0"),
        (model("cnn", depth=-1), "models: cnn depth must be a whole number of at least 1, got -1"),
        (model("cnn", depth=1.5), "models: cnn depth must be a whole number of at least 1, got 1.5"),
    ],
)
def test_what_cannot_be_built_is_refused_with_what_can(
    task: ImageClassification, chosen: ModelSpec, message: str
) -> None:
    with pytest.raises(TaskError) as refused:
        task.build_model(chosen)

    assert str(refused.value) == message


def test_without_images_the_task_says_where_they_come_from() -> None:
    context = TaskContext(spec=None, data=None)  # type: ignore[arg-type]  # the spec is not looked at

    with pytest.raises(TaskError, match=r"set data\.source to a Parquet folder or sklearn:digits"):
        image_classification(context)


def test_an_output_does_not_depend_on_the_rest_of_the_batch(task: ImageClassification) -> None:
    torch.manual_seed(0)
    network = task.build_model(model("cnn")).train()
    images, _ = task.datasets().train.__getitems__(list(range(16)))
    order = torch.randperm(16)

    together = network(images)

    # Sums in another order at most.
    torch.testing.assert_close(network(images[order]), together[order], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(network(images[3:4]), together[3:4], rtol=1e-5, atol=1e-5)


def test_images_travel_as_bytes_and_the_model_standardises_them(
    task: ImageClassification, digits: PreparedData
) -> None:
    train_set = task.datasets().train
    images, labels = train_set.__getitems__(list(range(len(train_set))))
    first_layer = next(task.build_model(model("linear")).children())
    standardised = first_layer(images)

    assert (images.dtype, images.shape) == (torch.uint8, (digits.summary.n_train, 1, 8, 8))
    assert float(standardised.mean()) == pytest.approx(0, abs=1e-4)
    assert float(standardised.std(correction=0)) == pytest.approx(1, abs=1e-4)
    assert labels.tolist() == digits.train.labels.tolist()
    one, label = train_set[5]
    torch.testing.assert_close(one, images[5])
    assert label == labels[5]


def test_constants_of_the_standardisation_are_no_weights(task: ImageClassification) -> None:
    """Nothing for DDP to send around, and nothing that a checkpoint must hold."""
    network = task.build_model(model("linear"))

    assert [name for name, _ in network.named_buffers()] == []
    assert sum(weights.numel() for weights in network.state_dict().values()) == 64 * 10 + 10


def test_training_and_validation_rows_are_all_rows_once(task: ImageClassification, digits: PreparedData) -> None:
    datasets = task.datasets()
    source_rows = [
        row
        for split in (digits.train, digits.validation)
        for table in split.batches(["source_row"])
        for row in table.column(0).to_pylist()
    ]

    assert sorted(source_rows) == list(range(digits.summary.n_rows))
    assert len(datasets.train) + len(datasets.validation) == digits.summary.n_rows
    assert datasets.train_labels is not None
    assert len(datasets.train_labels) == len(datasets.train)


def test_a_data_set_travels_to_another_process_as_the_name_of_its_folder(task: ImageClassification) -> None:
    datasets = task.datasets()
    packed = pickle.dumps(datasets.train)

    assert len(packed) < 1000
    again = pickle.loads(packed)
    assert (again[7][0] == datasets.train[7][0]).all()


def test_the_same_seed_gives_the_same_result_and_another_seed_another(digits: PreparedData) -> None:
    first, again, other = (
        outcome(digits, model("cnn", width=4), fraction=0.2, epochs=2, seed=seed) for seed in (0, 0, 1)
    )

    assert (again.loss, again.accuracy, again.train_loss) == (first.loss, first.accuracy, first.train_loss)
    assert other.loss != first.loss


@pytest.mark.parametrize("chosen", [model("linear"), model("cnn", width=8)], ids=["linear", "cnn"])
def test_all_data_teach_nine_digits_in_ten(digits: PreparedData, chosen: ModelSpec) -> None:
    result = outcome(digits, chosen, fraction=1.0, epochs=10)

    assert result.accuracy is not None
    assert result.accuracy > 0.9  # chance is 0.1
    assert [point.epoch for point in result.epochs] == list(range(10))
    assert result.n_train == digits.summary.n_train


def test_a_prepared_folder_that_is_gone_is_told(digits: PreparedData, tmp_path: Path) -> None:
    from dataclasses import replace

    moved = replace(digits, root=tmp_path / "gone")

    with pytest.raises(Exception, match="is not prepared data"):
        outcome(moved, model("linear"), fraction=0.1, epochs=1)


def test_measurements_are_no_classes(digits: PreparedData) -> None:
    from dataclasses import replace

    bins = replace(digits, manifest=replace(digits.manifest, is_classification=False, strata="10 bins of label"))

    with pytest.raises(TaskError, match=r"needs classes, and data\.label 'label' holds none \(10 bins of label\)"):
        image_classification(TaskContext(spec=None, data=bins))
