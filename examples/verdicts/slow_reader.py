"""A task whose rows take two milliseconds each to read: a training that waits for its data, whatever it runs on."""

import time

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import Dataset

from orchestrator.spec import ModelSpec
from orchestrator.training.task import Datasets, SupervisedTask, TaskContext

READ_S = 0.002
N_VALIDATION = 120


class SlowRows(Dataset[tuple[torch.Tensor, int]]):
    """Digits behind a reader of 500 rows a second."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = torch.tensor(images, dtype=torch.float32).flatten(1) / 16, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        time.sleep(READ_S)
        return self.images[row], int(self.labels[row])


class SlowDigits(SupervisedTask):
    def datasets(self) -> Datasets:
        digits = load_digits()
        images, labels = digits.images, digits.target
        return Datasets(
            train=SlowRows(images[N_VALIDATION:], labels[N_VALIDATION:]),
            validation=SlowRows(images[:N_VALIDATION], labels[:N_VALIDATION]),
            train_labels=labels[N_VALIDATION:],
        )

    def build_model(self, model: ModelSpec) -> nn.Module:
        return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def make_task(context: TaskContext) -> SupervisedTask:
    return SlowDigits()
