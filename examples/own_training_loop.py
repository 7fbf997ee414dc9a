"""The loop of `plain_training_loop.py`, joined to orchestrator: `sweep examples/own_training_loop.yaml` runs it."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

from orchestrator.training.task import Datasets, TrainingFunction


def load_data():
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).flatten(1) / 16
    labels = torch.tensor(digits.target)
    return TensorDataset(images[360:], labels[360:]), TensorDataset(images[:360], labels[:360])


@torch.no_grad()
def evaluate(model, dataset):
    images, labels = dataset.tensors
    outputs = model(images)
    loss = nn.functional.cross_entropy(outputs, labels).item()
    return loss, (outputs.argmax(1) == labels).float().mean().item()


def train(run):
    train_set, validation_set = load_data()
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model = run.prepare(model, optimizer)
    loader = run.loader(run.subset(train_set))
    for _ in run.epochs():
        total = 0.0
        for images, labels in loader:
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        validation_loss, accuracy = evaluate(model, validation_set)
        run.report(train_loss=total / len(loader), validation_loss=validation_loss, validation_accuracy=accuracy)


def make_task(context):
    data, held_out = load_data()
    return TrainingFunction(train=train, datasets=Datasets(train=data, validation=held_out, train_labels=data[:][1]))
