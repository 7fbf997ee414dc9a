"""From one command to a registered model: sweep, verdict, full run on Ray Train, outcome, registry."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.approval import answer_template
from orchestrator.data.prepared import open_prepared
from orchestrator.tasks.vision import ImageClassification
from orchestrator.tracking.mlflow_store import connect
from orchestrator.tracking.review_store import find_run, open_store

# Ray and MLflow warn of their own deprecations.
pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.filterwarnings("default")]

CONFIG = """
name: small
task: orchestrator.tasks.vision:image_classification
data: {source: "sklearn:digits"}
models:
  - {name: linear}
training: {epochs: 15, global_batch_size: 32}
sweep: {fractions: [0.05, 0.1, 0.2, 0.35, 0.5], workers: [1, 2], seeds: 3}
resources: {max_concurrent_trials: 2}
pricing: {usd_per_worker_hour: 0.05}
full_run: {workers: [1, 2], smaller_targets: 0}
decision: {min_gain_per_dollar: 0, confidence: 0.51, approval: auto}
"""


def test_a_sweep_that_promotes_ends_in_an_outcome_and_a_model_that_predicts(shell: Any, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(CONFIG, encoding="utf-8")

    assert shell.run("sweep", "small.yaml", "--exit-code") == 0, shell.out + shell.err

    view = shell.journal
    kinds = [entry.kind for entry in view.entries]
    assert kinds[-4:] == ["verdict", "approval", "full_run_started", "outcome"]
    assert view.entries[-3].payload["by"] == "decision.approval: auto"
    assert view.entries[-3].payload["source"] == "config"
    (outcome,) = view.outcomes
    assert outcome.training.n_train == view.data.n_train
    assert outcome.metric_hit == (
        outcome.forecast.metric.low <= outcome.training.accuracy <= outcome.forecast.metric.high
    )
    assert "full run of linear on all of the data" in shell.out
    assert "model registered in MLflow as small" in shell.err
    assert shell.survivors() == {}

    predict = registered_model(f"sqlite:///{shell.folder}/mlflow.db", outcome.training.accuracy)
    (root,) = (path.parent for path in (shell.folder / "runs" / ".data").glob("*/manifest.json"))
    data = ImageClassification(open_prepared(root)).datasets().validation
    images, labels = data.__getitems__(list(range(len(data))))
    answers = predict(images.numpy())
    assert float((answers.argmax(1) == labels.numpy()).mean()) == outcome.training.accuracy
    np.testing.assert_allclose(predict(images[:1].numpy()), answers[:1], rtol=1e-4, atol=1e-4)

    assert shell.run("sweep", "small.yaml") == 0, shell.err
    again = shell.journal
    assert len(again.outcomes) == 1
    assert [entry.kind for entry in again.entries].count("full_run_started") == 1


def test_a_tag_set_in_mlflow_starts_the_full_run_that_waits_for_it(shell: Any, tmp_path: Path, wait_until: Any) -> None:
    (tmp_path / "small.yaml").write_text(CONFIG.replace("approval: auto", "approval: review"), encoding="utf-8")
    uri = f"sqlite:///{shell.folder}/mlflow.db"
    assert shell.run("sweep", "small.yaml") == 0, shell.out + shell.err
    verdict = shell.journal.verdict
    assert verdict is not None

    driver = shell.start("promote", "small", "--wait", "--timeout-s", "200")
    wait_until(lambda: "set the tag approval of" in shell.err, tell=lambda: shell.err)
    text = answer_template(verdict).replace("YOUR NAME", "Ada Lovelace").replace("REASON", "worth it")
    run = find_run(open_store(uri), "small")
    assert run is not None
    connect(uri).set_tag(run.run_id, "approval", text)

    assert driver.wait(timeout=280) == 0, shell.err
    view = shell.journal
    assert [entry.kind for entry in view.entries][-4:] == ["verdict", "approval", "full_run_started", "outcome"]
    assert view.approval is not None
    assert (view.approval.by, view.approval.source) == ("Ada Lovelace", "MLflow tag")
    assert "full run of linear on all of the data" in shell.out
    assert shell.run("history", "--verify") == 0, shell.out
    assert f"MLflow's seal (line {len(view.entries)})" in shell.out
    assert shell.run("promote", "small", "-y") == 1
    assert "each full run needs a verdict and an approval of its own" in shell.err


def registered_model(uri: str, accuracy: float) -> Any:
    """The registry's only version as a function from images to outputs; its run shows the accuracy."""
    import mlflow

    client = connect(uri)
    (version,) = client.search_model_versions("name = 'small'")
    run = client.get_run(version.run_id)
    assert run.data.tags["orchestrator.kind"] == "full_run"
    assert run.data.metrics["accuracy"] == accuracy
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return mlflow.pyfunc.load_model(f"models:/small/{version.version}").predict
    finally:
        mlflow.set_tracking_uri(before)
