"""The protocol between orchestrator and training code: how a task is found, and what is refused on the way."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from orchestrator.errors import TaskError
from orchestrator.spec import (
    DataSpec,
    DecisionSpec,
    EarlyStoppingSpec,
    ExperimentSpec,
    ModelSpec,
    PricingSpec,
    SweepSpec,
    TrainingSpec,
    TrialSpec,
)
from orchestrator.training.checkpoints import MemoryCheckpoints
from orchestrator.training.loop import smoke, train
from orchestrator.training.request import TrainRequest
from orchestrator.training.task import (
    Datasets,
    SupervisedTask,
    TaskContext,
    TrainingFunction,
    accepted_options,
    cached_task,
    load_task,
)

WriteTask = Callable[..., ExperimentSpec]


def spec_of(task: str, **changes: Any) -> ExperimentSpec:
    values: dict[str, Any] = {
        "name": "own",
        "task": task,
        "data": DataSpec(source="task"),
        "models": (ModelSpec(name="m"),),
        "training": TrainingSpec(epochs=2, global_batch_size=8),
        "sweep": SweepSpec(fractions=(0.5,)),
        "pricing": PricingSpec(usd_per_worker_hour=1.0),
        "decision": DecisionSpec(min_gain_per_dollar=0.1),
    }
    return ExperimentSpec(**(values | changes))


@pytest.fixture
def write_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> WriteTask:
    """``write_task(code)``: a spec whose task is ``make_task`` of a user's module with that code."""
    name = f"user_module_{abs(hash(request.node.nodeid)):x}"
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(code: str, function: str = "make_task") -> ExperimentSpec:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(code), encoding="utf-8")
        request.addfinalizer(lambda: sys.modules.pop(name, None))
        return spec_of(f"{name}:{function}")

    return write


def load(spec: ExperimentSpec) -> Any:
    return load_task(TaskContext(spec=spec, data=None))


def ask(spec: ExperimentSpec) -> TrainRequest:
    trial = TrialSpec(model="m", fraction=0.5, workers=1, seed=0)
    return TrainRequest(spec=spec, trial=trial, fingerprint="abc", data_root=None)


FUNCTION = """
    import torch
    from torch.utils.data import TensorDataset
    from orchestrator.training.task import Datasets, TrainingFunction

    rows = TensorDataset(torch.randn(40, 3), torch.arange(40) % 2)

    def train(run):
        for epoch in run.epochs():
            for batch in run.loader(run.subset(rows)):
                pass
            run.report(train_loss=1.0, validation_loss=1.0 / (1 + epoch))

    def make_task(context):
        return TrainingFunction(train=train, datasets=Datasets(train=rows, validation=rows))
"""


def test_a_users_function_is_found_by_module_and_name(write_task: WriteTask) -> None:
    assert isinstance(load(write_task(FUNCTION)), TrainingFunction)


def test_a_module_that_cannot_be_imported_is_told_with_where_it_is_looked_for() -> None:
    with pytest.raises(TaskError, match=r"task 'no_such_module:make': cannot import no_such_module: No module named"):
        load(spec_of("no_such_module:make"))


def test_a_missing_package_of_the_users_module_is_told_by_name(write_task: WriteTask) -> None:
    with pytest.raises(TaskError, match="No module named 'not_installed_anywhere'"):
        load(write_task("import not_installed_anywhere"))


def test_a_misspelt_function_is_told_with_those_there_are(write_task: WriteTask) -> None:
    spec = write_task("def make_task(context): ...\ndef helper(): ...\n_private = print", "make_tsk")

    with pytest.raises(TaskError, match=r"has no function 'make_tsk'; it has: make_task, helper$"):
        load(spec)


def test_something_else_than_a_task_is_refused_by_its_type(write_task: WriteTask) -> None:
    with pytest.raises(TaskError, match="returned NoneType; return a SupervisedTask or a TrainingFunction"):
        load(write_task("def make_task(context): pass"))


def test_a_task_is_built_once_per_process_and_data(write_task: WriteTask) -> None:
    spec = write_task(FUNCTION)

    first, again = cached_task(spec, None), cached_task(spec, None)

    assert again is first


def test_options_are_handed_over_and_unknown_ones_refused() -> None:
    model = ModelSpec(name="cnn", options={"width": 8, "bias": False})

    assert accepted_options(model, ("width", "bias", "depth")) == {"width": 8, "bias": False}
    with pytest.raises(TaskError, match="models: cnn does not take bias, width; its options are: depth"):
        accepted_options(model, ("depth",))
    with pytest.raises(TaskError, match="its options are: none"):
        accepted_options(model, ())


class Clouds(SupervisedTask):
    """Two clouds of points; everything but data and model as it comes."""

    def datasets(self) -> Datasets:
        labels = torch.arange(64) % 2
        rows = TensorDataset(
            torch.randn(64, 3, generator=torch.Generator().manual_seed(0)) + 3 * labels[:, None], labels
        )
        return Datasets(train=rows, validation=rows, train_labels=labels.numpy())

    def build_model(self, model: ModelSpec) -> nn.Module:
        return nn.Linear(3, 2)


def test_a_supervised_task_counts_hits_and_means_losses() -> None:
    outputs, targets = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]]), torch.tensor([0, 1, 1])

    assert int(Clouds().correct(outputs, targets)) == 2
    expected = nn.functional.cross_entropy(outputs, targets)
    torch.testing.assert_close(Clouds().loss(outputs, targets), expected)


def test_the_rate_rises_and_falls_over_exactly_the_steps_there_are() -> None:
    training, model = TrainingSpec(learning_rate=0.1, weight_decay=0.01), nn.Linear(3, 2)
    optimizer, schedule = Clouds().optimizer(model, training, total_steps=40)
    assert schedule is not None
    rates = []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()

    assert max(rates) == pytest.approx(0.1, rel=0.01)
    assert rates[0] < 0.01
    assert rates[-1] < 0.01
    assert optimizer.param_groups[0]["weight_decay"] == 0.01


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_a_training_of_a_few_steps_has_a_schedule_too(steps: int) -> None:
    optimizer, schedule = Clouds().optimizer(nn.Linear(3, 2), TrainingSpec(), total_steps=steps)
    assert schedule is not None

    for _ in range(steps):
        optimizer.step()
        schedule.step()

    assert optimizer.param_groups[0]["lr"] > 0


def test_early_stopping_takes_a_constant_rate() -> None:
    stopping = TrainingSpec(early_stopping=EarlyStoppingSpec(patience=2), learning_rate=0.1)
    optimizer, schedule = Clouds().optimizer(nn.Linear(3, 2), stopping, total_steps=40)

    assert schedule is None
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_a_training_function_trains_and_its_last_report_is_the_result(write_task: WriteTask) -> None:
    result, state = train(ask(write_task(FUNCTION)), checkpoints=MemoryCheckpoints())

    assert (result.loss, result.accuracy, result.epochs_run) == (0.5, None, 2)
    assert (result.n_train, result.samples_seen) == (20, 40)
    assert state == {}  # the loop never showed its model


def test_the_smoke_test_trains_one_batch_of_a_users_function(write_task: WriteTask) -> None:
    found = smoke(ask(write_task(FUNCTION)))

    assert found.n_parameters == 0
    assert found.checkpoint_bytes > 0


def test_labels_of_another_length_than_the_data_are_refused(write_task: WriteTask) -> None:
    spec = write_task(FUNCTION.replace("validation=rows)", "validation=rows, train_labels=rows.tensors[1][:30])"))

    with pytest.raises(TaskError, match=r"subset: 40 rows but 30 labels in Datasets.train_labels; they must be equal"):
        train(ask(spec), checkpoints=MemoryCheckpoints())


def test_what_the_users_code_raises_passes_through(write_task: WriteTask) -> None:
    spec = write_task(
        FUNCTION.replace("for epoch in run.epochs():", "raise KeyError('pixels')\n        for epoch in []:")
    )

    with pytest.raises(KeyError, match="pixels"):
        train(ask(spec), checkpoints=MemoryCheckpoints())
