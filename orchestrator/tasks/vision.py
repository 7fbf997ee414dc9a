"""Image classification on prepared images: a linear model and a small convolutional network.

Inputs are uint8 images (n, channels, height, width), standardised per channel with the training pool's statistics.
Normalisation layers are group norms (Wu & He 2018): they do not depend on the batch, so that the number of workers the
global batch is shared over changes time and not accuracy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from orchestrator.data.prepared import PreparedData
from orchestrator.errors import TaskError
from orchestrator.spec import ModelSpec
from orchestrator.training.task import Datasets, SupervisedTask, TaskContext, accepted_options


class _Images(Dataset[tuple[Tensor, Tensor]]):
    """Rows of the prepared images; a batch is one gather from the memory map."""

    def __init__(self, data: PreparedData, rows: np.ndarray) -> None:
        self._data, self._rows = data, rows
        shape = (1, -1, 1, 1)
        self._mean = torch.tensor(data.mean, dtype=torch.float32).reshape(shape)
        self._std = torch.tensor(data.std, dtype=torch.float32).reshape(shape)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, positions: list[int]) -> tuple[Tensor, Tensor]:
        rows = self._rows[positions]
        images = torch.from_numpy(self._data.inputs[rows]).float().div_(self._data.input_scale)
        images = images.sub_(self._mean).div_(self._std)
        return images, torch.from_numpy(self._data.labels[rows]).long()

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        images, labels = self.__getitems__([position])
        return images[0], labels[0]


def _already_a_batch(batch: Any) -> Any:
    return batch


class ImageClassification(SupervisedTask):
    """Models by name: ``linear``; ``cnn`` (options ``width``, ``depth``)."""

    def __init__(self, data: PreparedData) -> None:
        self._data = data

    def datasets(self) -> Datasets:
        data = self._data
        return Datasets(
            train=_Images(data, data.train_rows),
            validation=_Images(data, data.validation_rows),
            train_labels=np.asarray(data.labels[data.train_rows]),
            collate=_already_a_batch,
        )

    def build_model(self, model: ModelSpec) -> nn.Module:
        builders: dict[str, tuple[Callable[..., nn.Module], tuple[str, ...]]] = {
            "linear": (self._linear, ()),
            "cnn": (self._cnn, ("width", "depth")),
        }
        if model.name not in builders:
            raise TaskError(f"models: image_classification has no {model.name!r}; it has: {', '.join(builders)}")
        build, options = builders[model.name]
        return build(**accepted_options(model, options))

    def _linear(self) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(self._data.inputs.shape[1:])), self._n_classes))

    def _cnn(self, width: int = 16, depth: int | None = None) -> nn.Module:
        """Blocks of convolution, 2x2 pooling, group norm and ReLU; channels double from block to block.

        ``depth`` is the number of blocks; by default as many, up to 3, as leave a feature map of at least 2 x 2.
        """
        channels, height, side = self._data.inputs.shape[1:]
        blocks = max(1, min(3, int(np.log2(min(height, side))) - 1)) if depth is None else depth
        if not (_is_whole(width) and width >= 4 and width % 4 == 0):
            raise TaskError(f"models: cnn width must be a multiple of 4, got {width!r}")
        if not (_is_whole(blocks) and blocks >= 1):
            raise TaskError(f"models: cnn depth must be a whole number of at least 1, got {blocks!r}")
        if min(height, side) >> blocks < 1:
            raise TaskError(f"models: cnn depth {blocks} halves {height} x {side} images to nothing; lower depth")
        layers: list[nn.Module] = []
        for block in range(blocks):
            out = width << block
            # Pooling first leaves a quarter of the values to normalise.
            layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.MaxPool2d(2)]
            layers += [nn.GroupNorm(4, out), nn.ReLU(inplace=True)]
            channels = out
        features = channels * (height >> blocks) * (side >> blocks)
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, self._n_classes))

    @property
    def _n_classes(self) -> int:
        return len(self._data.class_names)


def _is_whole(value: object) -> bool:
    """Options come from YAML with whatever type they have there; True is an int in Python only."""
    return isinstance(value, int) and not isinstance(value, bool)


def image_classification(context: TaskContext) -> ImageClassification:
    """The task factory that configs name."""
    if context.data is None:
        raise TaskError("image_classification needs images: set data.source to a Parquet folder or sklearn:digits")
    return ImageClassification(context.data)
