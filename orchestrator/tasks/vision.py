"""Image classification on prepared images: a linear model and a small convolutional network.

Inputs are images as they are stored (n, channels, height, width), uint8 as a rule. The model's first layer standardises
them per channel: a batch travels to the device as bytes, and a trained model takes plain images.
Normalisation layers are group norms (Wu & He 2018): they do not depend on the batch, so that the number of workers the
global batch is shared over changes time and not accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from orchestrator.data.decoded import STATISTICS_ROWS, DecodedImages
from orchestrator.data.manifest import TRAIN, VALIDATION
from orchestrator.data.prepared import PreparedData
from orchestrator.errors import TaskError
from orchestrator.spec import ModelSpec
from orchestrator.training.task import Datasets, SupervisedTask, TaskContext, accepted_options


class _Images(Dataset[tuple[Tensor, Tensor]]):
    """Images of one split by place; a batch is one gather from the memory map."""

    def __init__(self, data: PreparedData, split: str) -> None:
        self._data, self._split = data, split

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def _images(self) -> DecodedImages:
        return self._data.train_images if self._split == TRAIN else self._data.validation_images

    @property
    def _labels(self) -> np.ndarray:
        return self._data.train.labels if self._split == TRAIN else self._data.validation.labels

    def __getitems__(self, places: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
        rows = np.asarray(places)
        return torch.from_numpy(self._images[rows]), torch.from_numpy(self._labels[rows].astype(np.int64))

    @property
    def files(self) -> tuple[Path, ...]:
        """What batches are read from."""
        return (self._images.content,)

    @property
    def files_beside(self) -> tuple[Path, ...]:
        """Files on the same disk that nobody maps: the prepared rows, unless they lie elsewhere."""
        folder = self._data.rows_at
        if folder is None or folder.stat().st_dev != self._images.content.stat().st_dev:
            return ()
        return tuple(folder / part.name for part in self._data.manifest.files(self._split))

    def make_ready(self, places: np.ndarray, threads: int) -> int:
        """Decode these images, and those the standardisation is measured on; bytes asked of the storage."""
        head = np.arange(min(STATISTICS_ROWS, len(self)))
        return self._images.ensure(np.union1d(head, places), threads=threads)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        images, labels = self.__getitems__([place])
        return images[0], labels[0]


class _Standardise(nn.Module):
    """``(x / scale - mean) / std`` per channel. Constants, not buffers: DDP would send buffers around at every step."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], scale: float) -> None:
        super().__init__()
        shape = (1, -1, 1, 1)
        self._factor = 1 / (scale * torch.tensor(std, dtype=torch.float32).reshape(shape))
        self._shift = torch.tensor(mean, dtype=torch.float32).reshape(shape) / torch.tensor(std).reshape(shape)

    def forward(self, images: Tensor) -> Tensor:
        factor, shift = self._factor.to(images.device), self._shift.to(images.device)
        return images.float().mul_(factor).sub_(shift)


def _already_a_batch(batch: Any) -> Any:
    return batch


class ImageClassification(SupervisedTask):
    """Models by name: ``linear``; ``cnn`` (options ``width``, ``depth``)."""

    def __init__(self, data: PreparedData) -> None:
        self._data = data

    def datasets(self) -> Datasets:
        data = self._data
        return Datasets(
            train=_Images(data, TRAIN),
            validation=_Images(data, VALIDATION),
            train_labels=data.train.labels,
            collate=_already_a_batch,
            subset=data.train.subset,
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
        features = int(np.prod(self._data.image_shape.shape))
        return nn.Sequential(self._standardise(), nn.Flatten(), nn.Linear(features, self._n_classes))

    def _cnn(self, width: int = 16, depth: int | None = None) -> nn.Module:
        """Blocks of convolution, 2x2 pooling, group norm and ReLU; channels double from block to block.

        ``depth`` is the number of blocks; by default as many, up to 3, as leave a feature map of at least 2 x 2.
        """
        channels, height, side = self._data.image_shape.shape
        blocks = max(1, min(3, int(np.log2(min(height, side))) - 1)) if depth is None else depth
        if not (_is_whole(width) and width >= 4 and width % 4 == 0):
            raise TaskError(f"models: cnn width must be a multiple of 4, got {width!r}")
        if not (_is_whole(blocks) and blocks >= 1):
            raise TaskError(f"models: cnn depth must be a whole number of at least 1, got {blocks!r}")
        if min(height, side) >> blocks < 1:
            raise TaskError(f"models: cnn depth {blocks} halves {height} x {side} images to nothing; lower depth")
        layers: list[nn.Module] = [self._standardise()]
        for block in range(blocks):
            out = width << block
            # Pooling first leaves a quarter of the values to normalise.
            layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.MaxPool2d(2)]
            layers += [nn.GroupNorm(4, out), nn.ReLU(inplace=True)]
            channels = out
        features = channels * (height >> blocks) * (side >> blocks)
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, self._n_classes))

    def _standardise(self) -> nn.Module:
        mean, std = self._data.train_images.statistics
        return _Standardise(mean, std, self._data.image_shape.scale)

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
    manifest = context.data.manifest
    if not manifest.is_classification:
        raise TaskError(
            f"image_classification needs classes, and data.label {manifest.label!r} holds none ({manifest.strata}); "
            "name a column of whole numbers or text, or bring a task of your own for measurements"
        )
    return ImageClassification(context.data)
