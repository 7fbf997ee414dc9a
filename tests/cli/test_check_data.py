"""``check-data``: what is wrong with a config's data, before money is spent."""

from __future__ import annotations

import json
from typing import Any


def test_labels_are_judged_and_the_next_plan_knows(work: Any) -> None:
    work.write({"training.epochs": 3})
    found = work.ask("check-data", work.config, "--rows", "200", "--format", "json")

    kinds = {each["kind"]: each for each in json.loads(found.stdout)["findings"]}
    assert found.exit_code == 0
    assert kinds["label noise"]["n_looked_at"] == 200
    assert kinds["exact leakage"]["count"] == 0
    assert "label noise" in work.ask("check-data", work.config, "--rows", "100").stdout


def test_a_model_that_the_config_does_not_have_is_refused(work: Any) -> None:
    message = work.refused("check-data", work.config, "--model", "resnet", exit_code=2)

    assert message == "--model resnet: the config has no such model; it has: linear"


def test_data_that_the_task_brings_cannot_be_looked_through(work: Any) -> None:
    work.write({"data.source": "task", "task": "examples.own_training_loop:make_task"})

    answer = work.ask("check-data", work.config)

    assert answer.exit_code != 0
    assert "Traceback" not in answer.stderr
