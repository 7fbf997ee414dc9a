"""The MLflow mirror: what a reviewer finds in the store, and that no trouble of the store reaches the sweep."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.approval import parse_answer
from orchestrator.ports import ReviewPage
from orchestrator.results import Approval
from orchestrator.tracking import mlflow_layout as layout
from orchestrator.tracking import mlflow_mirror
from orchestrator.tracking.mlflow_store import absolute, check_store, connect, mask
from orchestrator.tracking.mlflow_tracker import MlflowTracker

# Raised inside MLflow 3.17 by the SQLAlchemy it brings; our own warnings stay errors.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")

samples = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "samples.py")))
PAGE = ReviewPage(
    description="**PROMOTE** 94%", figures={"learning_curve": b"\x89PNG"}, html="<!doctype html><p>page</p>"
)


@pytest.fixture(scope="module")
def template_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mlflow") / "template.db"
    connect(f"sqlite:///{path}")
    return path


@pytest.fixture
def uri(template_database: Path, tmp_path: Path) -> str:
    shutil.copy(template_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def runs(uri: str, kind: str) -> list:
    client = connect(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(experiments, f"tags.`orchestrator.kind` = '{kind}'")


def parent(uri: str):
    (run,) = runs(uri, "experiment")
    return run


def history(uri: str, key: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in connect(uri).get_metric_history(parent(uri).info.run_id, key)]


def swept(uri: str, results, **changes: object) -> MlflowTracker:
    """A tracker that was opened and told the results one by one; not closed."""
    tracker = MlflowTracker(uri)
    tracker.open(samples.spec(**changes), samples.data(), [])
    for result in results:
        tracker.trial_finished(result)
    return tracker


def test_a_trial_run_carries_params_metrics_epochs_data_and_parent(uri: str) -> None:
    result = samples.result("cnn", 0.1, 2, 0)

    assert swept(uri, [result]).close() is None

    (run,) = runs(uri, "trial")
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "cnn 0.1 x 2 workers seed 0"
    assert run.info.end_time - run.info.start_time == int(result.wall_time_s * 1000)
    assert run.data.tags["mlflow.parentRunId"] == parent(uri).info.run_id
    assert run.data.params["model.width"] == "16"
    assert run.data.params["training.early_stopping.patience"] == "4"
    assert run.data.params["n_train"] == "144"
    assert run.data.metrics["accuracy"] == result.training.accuracy
    assert run.data.metrics["cost_usd"] == result.cost_usd
    assert run.data.metrics["time/gradient_sync_s"] == result.training.time.gradient_sync_s
    epochs = connect(uri).get_metric_history(run.info.run_id, "epoch/validation_accuracy")
    assert [metric.step for metric in epochs] == [144, 288, 432]
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.digest == samples.data().fingerprint[:36]


def test_a_failed_trial_is_shown_as_failed_with_its_error(uri: str) -> None:
    assert swept(uri, [samples.result("cnn", 0.1, 1, 0, error="loss is nan" + "!" * 9000)]).close() is None

    (run,) = runs(uri, "trial")
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith("loss is nan!!!")
    assert "accuracy" not in run.data.metrics


def test_the_parent_shows_the_learning_curve_with_samples_as_steps(uri: str) -> None:
    results = samples.results()

    assert swept(uri, results).close() is None

    expected = [
        (mean.n_samples, mean.value)
        for mean in layout.curve_means(samples.spec(), samples.data(), results)
        if (mean.model, mean.metric) == ("cnn", "accuracy")
    ]
    assert [n for n, _ in expected] == [72, 144, 287, 503, 718]
    assert history(uri, "curve/cnn/accuracy") == expected


def test_resuming_after_each_trial_neither_doubles_nor_loses_a_run_or_a_row(uri: str) -> None:
    results = samples.results(n_fractions=2)
    for n_known in range(0, len(results), 3):
        tracker = MlflowTracker(uri)
        tracker.open(samples.spec(), samples.data(), results[:n_known])
        assert tracker.close() is None

    tracker = MlflowTracker(uri)
    tracker.open(samples.spec(), samples.data(), results)
    tracker.verdict_reached(samples.verdict(), PAGE)
    tracker.verdict_reached(samples.verdict(), PAGE)
    assert tracker.close() is None

    trials = runs(uri, "trial")
    assert sorted(run.data.tags[layout.TRIAL_KEY] for run in trials) == sorted(result.key for result in results)
    assert len(history(uri, "curve/linear/loss")) == 2
    assert len(history(uri, "forecast/cost_usd")) == 1
    assert len(parent(uri).inputs.dataset_inputs) == 1
    for run in trials:
        assert len(connect(uri).get_metric_history(run.info.run_id, "epoch/train_loss")) == 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the death is the test's own
def test_a_child_run_cut_off_by_a_crash_is_written_again_whole(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    results = samples.results(n_fractions=1)[:3]
    set_tags = mlflow_mirror.MlflowMirror._set_tags

    def die_before_the_mark(self, run_id: str, tags) -> None:
        if layout.COMPLETE in tags and len(self._trials) == 1:
            raise SystemExit  # ends the thread as a kill would: after the metrics, before the mark
        set_tags(self, run_id, tags)

    with monkeypatch.context() as patch:
        patch.setattr(mlflow_mirror.MlflowMirror, "_set_tags", die_before_the_mark)
        assert "2 of 4 updates" in (swept(uri, results).close() or "")

    tracker = MlflowTracker(uri)
    tracker.open(samples.spec(), samples.data(), results)
    assert tracker.close() is None

    kept = runs(uri, "trial")
    assert sorted(run.data.tags[layout.TRIAL_KEY] for run in kept) == sorted(result.key for result in results)
    assert all(run.data.tags[layout.COMPLETE] == "1" for run in kept)
    assert all(len(connect(uri).get_metric_history(run.info.run_id, "epoch/train_loss")) == 3 for run in kept)


def test_the_verdict_is_on_the_parent_as_tags_description_figures_and_page(uri: str, tmp_path: Path) -> None:
    tracker = swept(uri, samples.results(n_fractions=1))
    tracker.verdict_reached(samples.verdict(), PAGE)
    assert tracker.close() is None

    run = parent(uri)
    assert run.info.status == "FINISHED"
    tags = run.data.tags
    assert (tags["verdict"], tags["probability"], tags["approval.state"]) == ("PROMOTE", "0.940", "pending")
    assert tags["approval"] == "pending: approved ab12cd34 by YOUR NAME: REASON"
    assert tags["mlflow.note.content"] == PAGE.description
    assert tags[layout.FINGERPRINT] == samples.data().fingerprint
    artifacts = tmp_path / "mlartifacts" / run.info.run_id / "artifacts"
    assert (artifacts / "report.html").read_text() == PAGE.html
    assert (artifacts / "figures" / "learning_curve.png").read_bytes() == b"\x89PNG"
    assert json.loads((artifacts / "config.json").read_text())["name"] == "digits-cnn"
    assert tracker.review_path == f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"


def told(uri: str, *records: object) -> dict[str, str]:
    """The parent's tags after verdicts and answers were mirrored in this order, each by a tracker of its own."""
    for record in records:
        tracker = swept(uri, [])
        if isinstance(record, Approval):
            tracker.approval_given(record)
        else:
            tracker.verdict_reached(record, PAGE)
        assert tracker.close() is None
    return dict(parent(uri).data.tags)


def write_in_the_ui(uri: str, text: str) -> None:
    connect(uri).set_tag(parent(uri).info.run_id, "approval", text)


def test_a_text_written_in_the_ui_outlives_the_same_verdict_and_is_no_answer_to_another(uri: str) -> None:
    text = "approved ab12cd34 by Ada: worth it"
    told(uri, samples.verdict())
    write_in_the_ui(uri, text)

    assert told(uri, samples.verdict())["approval"] == text

    tags = told(uri, replace(samples.verdict(), inputs_digest="99887766aabbccdd"))
    assert tags["approval"] == "pending: approved 99887766 by YOUR NAME: REASON"
    assert tags["approval.state"] == "pending"
    assert tags["approval.answer"] == (
        "'approved ab12cd34 by Ada: worth it' was of an earlier verdict and was not taken up; the code now is 99887766"
    )


def test_a_recorded_answer_is_shown_beside_what_its_writer_wrote_and_goes_with_its_verdict(uri: str) -> None:
    told(uri, samples.verdict())
    write_in_the_ui(uri, "APPROVED ab12cd34 by ada: worth it")

    tags = told(uri, replace(samples.approval(), source="MLflow tag"))
    assert tags["approval"] == "APPROVED ab12cd34 by ada: worth it"
    assert (tags["approval.state"], tags["approval.by"], tags["approval.source"]) == ("approved", "ada", "MLflow tag")
    assert tags["approval.answer"] == "recorded: approved ab12cd34 by ada"

    later = told(uri, replace(samples.verdict("HOLD"), inputs_digest="99887766aabbccdd"))
    assert {key for key in later if key.startswith("approval")} == {"approval", "approval.state"}
    assert later["approval.state"] == "not needed"
    assert later["approval"].startswith("not needed: the verdict is HOLD; to start all the same: approved 99887766 by ")


def test_an_answer_on_the_command_line_takes_the_prompts_place_and_no_one_elses(uri: str) -> None:
    tags = told(uri, samples.verdict("HOLD"), replace(samples.approval(), override="a launch"))

    assert tags["approval"] == "answered: approved ab12cd34 by ada (command line): worth it"
    assert tags["approval.override"] == "a launch"
    assert parse_answer(tags["approval"], samples.verdict("HOLD")) is None

    again = told(uri, samples.approval("rejected"), samples.verdict("HOLD"))
    assert (again["approval.state"], "approval.override" in again) == ("rejected", False)


def test_a_description_beyond_mlflows_limit_is_cut_at_a_line_and_kept_whole_beside(uri: str, tmp_path: Path) -> None:
    long = replace(PAGE, description="\n".join(f"line {n}" for n in range(2000)))
    tracker = swept(uri, [])
    tracker.verdict_reached(samples.verdict(), long)
    assert tracker.close() is None

    run = parent(uri)
    shown = run.data.tags["mlflow.note.content"]
    assert len(shown) <= 8000
    assert shown.endswith("(cut here; the whole text is the artifact verdict.md)")
    assert (tmp_path / "mlartifacts" / run.info.run_id / "artifacts" / "verdict.md").read_text() == long.description


def test_changed_training_settings_get_a_curve_of_their_own(uri: str) -> None:
    assert swept(uri, samples.results(n_fractions=1)).close() is None
    changed = samples.spec(training=replace(samples.spec().training, learning_rate=0.1))
    results = [samples.result("cnn", 0.05, 1, seed, of=changed) for seed in range(3)]

    tracker = MlflowTracker(uri)
    tracker.open(changed, samples.data(), results)
    assert tracker.close() is None

    assert len(history(uri, "curve/cnn/accuracy")) == 1
    assert len(history(uri, f"curve/cnn {results[0].scope[:6]}/accuracy")) == 1


def test_a_sweep_that_stopped_early_leaves_the_parent_killed_and_going_on_ends_it_well(uri: str) -> None:
    assert swept(uri, samples.results(n_fractions=1)[:2]).close() is None
    assert parent(uri).info.status == "KILLED"

    tracker = swept(uri, samples.results(n_fractions=1))
    tracker.verdict_reached(samples.verdict(), PAGE)
    assert tracker.close() is None

    assert parent(uri).info.status == "FINISHED"


def test_the_full_run_is_a_child_with_its_forecast_beside_its_outcome(uri: str, tmp_path: Path) -> None:
    tracker = swept(uri, [])
    tracker.full_run_finished(samples.outcome())
    assert tracker.close() is None

    (run,) = runs(uri, "full_run")
    assert run.data.tags["forecast.wall_time_hit"] == "false"
    assert run.data.params["workers"] == "1"
    assert run.data.metrics["accuracy"] == samples.outcome().training.accuracy
    path = tmp_path / "mlartifacts" / run.info.run_id / "artifacts" / "forecast_against_outcome.json"
    table = json.loads(path.read_text())
    assert table["columns"] == [
        "quantity", "forecast_low", "forecast_median", "forecast_high", "measured", "interval_held",
    ]  # fmt: skip
    assert table["data"][0][0] == "accuracy"
    assert parent(uri).data.tags["full_run"] == run.info.run_id


# Raised inside MLflow and torch.export while they trace and store the model.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_the_full_runs_model_is_registered_once_without_pickle_and_loads_back(uri: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval()
    example = torch.zeros(2, 1, 8, 8).numpy()
    tracker = swept(uri, [])
    tracker.full_run_finished(samples.outcome())
    for _ in range(2):
        tracker.register_model("digits-cnn", model, example, ["torch"])
    assert tracker.close() is None

    client = connect(uri)
    (version,) = client.search_model_versions("name = 'digits-cnn'")
    assert version.run_id == runs(uri, "full_run")[0].info.run_id
    assert parent(uri).data.tags["registered_model"] == "digits-cnn version 1"
    (stored,) = tmp_path.glob("mlartifacts/models/*/artifacts/data/*")
    assert stored.suffix == ".pt2"
    batch = torch.rand(5, 1, 8, 8)
    assert torch.allclose(torch.export.load(stored).module()(batch), model(batch))


def test_a_server_that_is_down_stops_nothing_and_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    tracker = MlflowTracker(f"http://ada:secret@127.0.0.1:{port}", close_timeout_s=20)
    tracker.open(samples.spec(), samples.data(), samples.results())
    tracker.verdict_reached(samples.verdict(), PAGE)
    assert time.monotonic() - began < 1

    line = tracker.close()

    assert line is not None
    assert "42 of 42 updates could not be written" in line
    assert "Nothing is lost" in line
    assert "secret" not in line
    assert "\n" not in line


def test_a_server_that_never_answers_holds_close_up_no_longer_than_asked() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        tracker = MlflowTracker(f"http://127.0.0.1:{silent.getsockname()[1]}", close_timeout_s=1.5)
        tracker.open(samples.spec(), samples.data(), [])
        began = time.monotonic()

        line = tracker.close()

        assert time.monotonic() - began < 3
        assert line is not None
        assert "no answer within 1.5 s" in line


def test_a_database_locked_for_a_while_loses_no_trial(uri: str) -> None:
    results = samples.results(n_fractions=1)
    tracker = swept(uri, results[:1])
    while not tracker.review_path:
        time.sleep(0.05)
    with sqlite3.connect(uri.removeprefix("sqlite:///"), timeout=10) as other:
        other.execute("BEGIN EXCLUSIVE")
        for result in results[1:]:
            tracker.trial_finished(result)
        time.sleep(1.0)
        other.rollback()

    assert tracker.close() is None
    assert len(runs(uri, "trial")) == len(results)


def test_an_experiment_in_the_trash_is_named_with_the_way_out(uri: str) -> None:
    assert swept(uri, []).close() is None
    connect(uri).delete_experiment(parent(uri).info.experiment_id)

    assert "mlflow experiments restore" in (swept(uri, []).close() or "")


def test_mlflow_says_nothing_on_the_terminal_and_leaves_nothing_in_the_folder(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import runpy
        from types import SimpleNamespace
        from orchestrator.ports import ReviewPage
        from orchestrator.tracking.mlflow_tracker import MlflowTracker
        samples = SimpleNamespace(**runpy.run_path({str(Path(__file__).parent / "samples.py")!r}))
        tracker = MlflowTracker("sqlite:///mlflow.db")
        tracker.open(samples.spec(), samples.data(), samples.results(1))
        tracker.verdict_reached(samples.verdict(), ReviewPage(description="x", figures={{}}, html="y"))
        tracker.full_run_finished(samples.outcome())
        assert tracker.close() is None
    """)
    package = str(Path(__file__).parents[2])

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": package}, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert (done.stdout, done.stderr) == ("", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlartifacts", "mlflow.db"]


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:5000", "https://mlflow.example.org/x", "postgresql://u@h/db", "mysql+pymysql://u@h/db"]
)
def test_servers_and_databases_are_let_through_unopened(uri: str) -> None:
    assert check_store(uri) is None


def test_a_database_that_is_new_empty_or_real_is_let_through(tmp_path: Path, template_database: Path) -> None:
    (tmp_path / "empty.db").touch()

    for path in (tmp_path / "new.db", tmp_path / "empty.db", template_database):
        assert check_store(f"sqlite:///{path}") is None


def test_what_cannot_hold_a_store_is_refused_with_found_and_way_out(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("these are my notes, and no database")
    (tmp_path / "short.db").write_text("hi")
    cases = {
        f"sqlite:///{tmp_path}/notes.db": "is not an SQLite database (it begins with b'these are my not')",
        f"sqlite:///{tmp_path}/short.db": "is not an SQLite database",
        f"sqlite:///{tmp_path}": "is a folder; name a database file",
        f"sqlite:///{tmp_path}/none/mlflow.db": "does not exist; make it (mkdir -p",
        "./mlruns": "use a database file in it, sqlite:///./mlruns/mlflow.db",
        "file:///data/mlruns": "sqlite:////data/mlruns/mlflow.db",
        "ftp://host/x": "scheme 'ftp' is not known",
    }
    for uri, message in cases.items():
        fault = check_store(uri)
        assert fault is not None
        assert fault.key == "tracking.uri"
        assert message in fault.message


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unwritable to root")
def test_an_unwritable_folder_or_file_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    fault = check_store(f"sqlite:///{tmp_path}/mlflow.db")

    tmp_path.chmod(0o700)
    assert fault is not None
    assert "not writable" in fault.message


def test_passwords_are_masked_and_relative_stores_pinned() -> None:
    assert mask("no route to https://ada:pw@host/x") == "no route to https://***@host/x"
    assert absolute("sqlite:///mlflow.db") == f"sqlite:///{Path.cwd()}/mlflow.db"
    assert absolute("http://host") == "http://host"


def test_every_run_carries_the_fingerprint_and_what_versioning_tools_call_the_data(uri: str) -> None:
    """As the digest of its dataset, which MLflow's own reads the first rows for, and as tags to compare runs by."""
    data = replace(
        samples.data(), source="s3://key:secret@bucket/digits?region=eu", versions={"dvc.md5": "22a1", "odd key!": "1"}
    )
    tracker = MlflowTracker(uri)
    tracker.open(samples.spec(), data, [samples.result("cnn", 0.1, 1, 0)])
    tracker.full_run_finished(samples.outcome())
    assert tracker.close() is None

    for run in (parent(uri), *runs(uri, "trial"), *runs(uri, "full_run")):
        (shown,) = run.inputs.dataset_inputs
        assert shown.dataset.name == "digits"
        assert shown.dataset.digest == data.fingerprint[:36]
        assert shown.dataset.source_type == "s3"
        assert "secret" not in shown.dataset.source
        assert run.data.tags["data.fingerprint"] == data.fingerprint
        assert run.data.tags["data.version.dvc.md5"] == "22a1"
        assert run.data.tags["data.version.odd key_"] == "1"


def test_a_trial_of_other_data_keeps_its_own_fingerprint_and_gets_no_pointer(uri: str) -> None:
    old = replace(samples.result("cnn", 0.1, 1, 0), fingerprint="0ld", key="another")
    data = replace(samples.data(), versions={"dvc.md5": "22a1"})
    tracker = MlflowTracker(uri)
    tracker.open(samples.spec(), data, [old])
    assert tracker.close() is None

    (run,) = runs(uri, "trial")
    assert run.inputs.dataset_inputs[0].dataset.digest == "0ld"
    assert run.data.tags["data.fingerprint"] == "0ld"
    assert not [key for key in run.data.tags if key.startswith("data.version.")]


def test_pointers_of_data_that_was_changed_do_not_stay_on_the_experiment(uri: str) -> None:
    for data in (
        replace(samples.data(), versions={"dvc.md5": "22a1"}),
        replace(samples.data(), fingerprint="new", versions={"delta.version": "3"}),
    ):
        tracker = MlflowTracker(uri)
        tracker.open(samples.spec(), data, [])
        assert tracker.close() is None

    tags = parent(uri).data.tags
    assert {key: tags[key] for key in tags if key.startswith("data.")} == {
        "data.fingerprint": "new", "data.version.delta.version": "3",
    }  # fmt: skip
    assert {shown.dataset.digest for shown in parent(uri).inputs.dataset_inputs} == {
        samples.data().fingerprint[:36],
        "new",
    }
