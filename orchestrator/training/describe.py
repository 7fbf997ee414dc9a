"""What the driver must know of data that the task brings itself: sizes, classes and a fingerprint of the content."""

from __future__ import annotations

import hashlib
import pickle
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from orchestrator.errors import DataError
from orchestrator.results import DataSummary
from orchestrator.spec import ExperimentSpec
from orchestrator.training.task import cached_task


def describe_task_data(spec: ExperimentSpec) -> DataSummary:
    """Read every row of the task's data sets once. Raises DataError: one class only, or no rows; TaskError."""
    _, datasets = cached_task(spec, None)
    n_train, n_validation = _length(datasets.train), _length(datasets.validation)
    if n_train < 1 or n_validation < 1:
        raise DataError(
            f"task {spec.task!r} brings {n_train} training and {n_validation} validation rows; both need some"
        )
    counts: dict[str, int] = {}
    if datasets.train_labels is not None:
        counts = {
            str(label): int(n) for label, n in sorted(Counter(np.asarray(datasets.train_labels).tolist()).items())
        }
        if len(counts) < 2:
            raise DataError(f"task {spec.task!r}: all {n_train} training rows are of one class; nothing can be learned")
    return DataSummary(
        fingerprint=_fingerprint(datasets.train, datasets.validation),
        source=f"task {spec.task}",
        n_rows=n_train + n_validation,
        n_train=n_train,
        n_validation=n_validation,
        class_counts=counts,
    )


def _length(dataset: Dataset[Any]) -> int:
    return len(dataset)  # type: ignore[arg-type]  # map-style data sets have a length


def _fingerprint(*datasets: Dataset[Any]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for dataset in datasets:
        digest.update(f"rows:{_length(dataset)};".encode())
        for row in range(_length(dataset)):
            _feed(digest, dataset[row])
    return digest.hexdigest()


def _feed(digest: hashlib.blake2b, value: Any) -> None:
    """Content only: the ``repr`` of an object may hold its address, which would make every start another data set."""
    if isinstance(value, torch.Tensor):
        # numpy has no bfloat16; its values are exact in float32.
        value = (value.float() if value.dtype == torch.bfloat16 else value).detach().cpu().numpy()
    elif hasattr(value, "__array_interface__"):  # an image of Pillow, for one
        value = np.asarray(value)
    if isinstance(value, np.ndarray | np.generic):
        array = np.ascontiguousarray(value)
        digest.update(f"{array.dtype.str}{array.shape};".encode())
        digest.update(array.tobytes())
    elif isinstance(value, list | tuple):
        for item in value:
            _feed(digest, item)
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            digest.update(f"{key};".encode())
            _feed(digest, value[key])
    elif value is None or isinstance(value, bool | int | float | complex | str | bytes):
        digest.update(f"{type(value).__name__}:{value!r};".encode())
    else:
        digest.update(f"{type(value).__name__};".encode())
        digest.update(_pickled(value))


def _pickled(value: Any) -> bytes:
    try:
        return pickle.dumps(value, protocol=5)
    except Exception as error:  # whatever an object's own pickling raises
        raise DataError(
            f"rows hold a {type(value).__name__}, whose content cannot be fingerprinted ({error}); "
            "return tensors, arrays, numbers or text"
        ) from error
