"""What a user can get wrong: a message in plain words, an exit code, and nothing started, changed or lost.

`Workplace.refused` (in conftest) holds every case to that; the tests below add what the message must say.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.tracking.journal import Journal

ROOT = Path(__file__).resolve().parents[2]


# --- the config -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["sweep", "plan"])
def test_an_unknown_key_is_met_with_the_one_that_was_meant(work: Any, command: str) -> None:
    work.write({"training.learning_rat": 0.1})

    message = work.config_fault(command=command)

    assert message.startswith("training.learning_rat: unknown key; did you mean 'learning_rate'? training takes: ")


def test_a_wrong_type_is_told_with_what_was_found(work: Any) -> None:
    assert work.config_fault("sweep.seeds=three") == (
        "sweep.seeds: must be a whole number, got 'three' (from the override 'sweep.seeds=three')"
    )


def test_every_fault_of_a_config_is_told_at_once(work: Any) -> None:
    work.write({"sweep.fractions": [0.5, 0.1], "sweep.seeds": "three", "dat": {}, "decision.confidence": 1.5})

    first, *faults = work.refused("sweep", work.config, exit_code=2).splitlines()

    assert first == f"{work.config}: 4 faults"
    told = {line.strip().split(": ")[0] for line in faults}
    assert told == {"sweep.fractions", "sweep.seeds", "dat", "decision.confidence"}


def test_faults_that_only_this_machine_shows_are_told_at_once_too(work: Any) -> None:
    work.write(
        {
            "task": "no_such_package.train:make_task",
            "data.source": str(work.root / "nowhere.parquet"),
            "pricing": {"instance": "gcp/t2d-standard-44", "region": "us-central1"},
            "runs_dir": str(work.config / "runs"),
            "tracking": {"uri": "mlruns"},
            "training.global_batch_size": 4096,
            "sweep.workers": [1, 4096],
        }
    )

    _, *faults = work.refused("sweep", work.config, exit_code=2).splitlines()

    told = {line.strip().split(": ")[0] for line in faults}
    assert told == {"task", "data.source", "pricing", "runs_dir", "tracking.uri", "sweep.workers"}


def test_a_missing_config_is_met_with_those_that_are_there(work: Any) -> None:
    asked = work.root / "confg.yaml"

    message = work.refused("sweep", asked, exit_code=2)

    assert message == f"{asked}: is not there; did you mean 'config.yaml'? {work.root} holds: config.yaml"


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ("[0.2, 0.1, 0.5]", "must rise without repeats, got [0.2, 0.1, 0.5]; write [0.1, 0.2, 0.5]"),
        ("[0.1, 0.1, 0.5]", "must rise without repeats, got [0.1, 0.1, 0.5]; write [0.1, 0.5]"),
        ("[0.1, 0.5, 20]", "must lie in (0, 1], got 20 (0.2 means 20%)"),
        ("[0, 0.5]", "must lie in (0, 1], got 0 (0.2 means 20%)"),
    ],
)
def test_fractions_out_of_order_or_range_are_refused_with_what_to_write(
    work: Any, fractions: str, message: str
) -> None:
    override = f"sweep.fractions={fractions}"

    assert work.config_fault(override) == f"sweep.fractions: {message} (from the override {override!r})"


def test_more_workers_than_cpus_are_refused_before_anything_starts(work: Any) -> None:
    found = len(os.sched_getaffinity(0))

    message = work.config_fault(f"sweep.workers=[1, {found + 64}]", f"training.global_batch_size={found + 64}")

    assert message == (
        f"sweep.workers: asks for {found + 64} workers of 1 CPU each, but the cluster has {found} CPUs; "
        f"ask for at most {found}, or set RAY_ADDRESS to a larger cluster"
    )


def test_a_fraction_smaller_than_a_batch_is_refused_with_the_least_that_will_do(work: Any) -> None:
    work.write({"sweep.fractions": [0.001, 0.1, 0.2]})

    message = work.config_fault()

    # 1,437 digits are left for training, and 0.001 of them is 1.
    assert message == (
        "sweep.fractions: 0.001 is 1 row, fewer than training.global_batch_size (64) and classes (10); "
        "start at 0.0446 or above"
    )
    assert work.ask("plan", work.config, "sweep.fractions=[0.0446, 0.1, 0.2]").exit_code == 0


# --- the task -------------------------------------------------------------------------------------------------------


def test_a_task_whose_module_is_nowhere_is_refused(work: Any) -> None:
    work.write({"task": "no_such_package.train:make_task"})

    assert work.config_fault() == (
        "task: 'no_such_package.train:make_task': there is no module 'no_such_package' in "
        f"{Path.cwd()} or among the installed ones; run from the folder it is in"
    )


def test_a_misspelt_module_of_a_package_is_met_with_the_one_that_was_meant(work: Any) -> None:
    work.write({"task": "orchestrator.tasks.visoin:image_classification"})

    assert work.config_fault() == (
        "task: 'orchestrator.tasks.visoin:image_classification': orchestrator.tasks has no module 'visoin'; "
        "did you mean 'vision'?"
    )


def test_a_misspelt_function_is_met_with_the_one_that_was_meant(work: Any) -> None:
    work.write({"task": "orchestrator.tasks.vision:image_clasification"})

    message = work.config_fault()

    assert "vision.py has no function 'image_clasification'; did you mean 'image_classification'?" in message


@pytest.fixture
def module(work: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a module of the user's; importing it would be seen, because it raises."""
    monkeypatch.syspath_prepend(work.root)

    def write(text: str) -> None:
        (work.root / "my_training.py").write_text(f"{text}\nraise AssertionError('imported')\n")
        work.write({"task": "my_training:make_task"})

    return write


def test_a_module_without_functions_and_one_that_is_no_python_are_refused_unimported(work: Any, module: Any) -> None:
    path = work.root / "my_training.py"

    module("def build(context): ...\nclass Model:\n    def make_task(self): ...")
    assert work.config_fault() == (
        f"task: 'my_training:make_task': {path} has no function 'make_task'; it has: Model, build"
    )

    module("def make_task(context:\n    pass")
    assert f"{path}, line 1: " in work.config_fault()


@pytest.mark.parametrize(
    "text",
    [
        "def make_task(context): ...",
        "try:\n    from elsewhere import make_task\nexcept ImportError:\n    make_task = None",
        "if True:\n    def make_task(context): ...",
        "from elsewhere import *",
        "def __getattr__(name): ...",
        "globals()['make_task'] = print",
    ],
)
def test_a_module_that_may_have_the_function_is_left_to_the_import(work: Any, module: Any, text: str) -> None:
    module(text)

    assert work.ask("plan", work.config).exit_code == 0


# --- the data -------------------------------------------------------------------------------------------------------


def test_a_missing_data_file_is_met_with_one_like_it(work: Any) -> None:
    path = work.images()

    message = work.config_fault(f"data.source={path.parent}/trian.parquet")

    assert message.startswith(f"data.source: {path.parent}/trian.parquet is not there; did you mean 'train.parquet'")


def test_a_missing_data_folder_and_an_empty_one_are_told_apart(work: Any) -> None:
    (work.root / "empty").mkdir()

    assert "nowhere is not there" in work.config_fault(f"data.source={work.root}/nowhere")
    assert work.config_fault(f"data.source={work.root}/empty").startswith("data.files: '*.parquet' matches no file in ")


@pytest.mark.parametrize(("key", "prefix"), [("data.source", ""), ("tracking.uri", "sqlite:///")])
def test_a_path_that_the_system_will_not_look_at_is_refused(work: Any, key: str, prefix: str) -> None:
    """A name that is too long stands for a folder that may not be entered, because root may enter every folder."""
    path = work.root / ("x" * 300)

    work.write({key: f"{prefix}{path}"})

    assert (
        work.config_fault() == f"{key}: {path} cannot be looked at: File name too long; allow it, or name another place"
    )


@pytest.mark.parametrize("damage", ["truncated", "empty", "of another format"])
def test_damaged_parquet_is_named_with_the_way_out(work: Any, damage: str) -> None:
    path = work.images()
    whole = path.read_bytes()
    path.write_bytes(
        {"truncated": whole[: len(whole) // 2], "empty": b"", "of another format": b"id,label\n1,2\n"}[damage]
    )

    message = work.refused("sweep", work.config, exit_code=1)

    assert re.fullmatch(
        re.escape(str(path)) + r": cannot be read as Parquet \(.+\); "
        "it may be truncated or of another format: fetch or write it again",
        message,
    )


def test_a_label_column_that_is_not_there_is_met_with_those_that_are(work: Any) -> None:
    path = work.images()
    work.write({"data": {"source": str(path), "label": "labels"}})

    message = work.refused("sweep", work.config, exit_code=1)

    assert message == (f"{path}: data.label: there is no column 'labels'; did you mean 'label'? columns: image, label")


def test_one_class_only_is_refused(work: Any) -> None:
    path = work.images(labels=["cat"] * 20)

    message = work.refused("sweep", work.config, exit_code=1)

    assert message == (
        f"{path}: data.label 'label' holds one class only ('cat' in all 20 rows); a classifier needs at least two"
    )


def test_images_that_cannot_be_decoded_are_counted_and_named_before_anything_starts(work: Any) -> None:
    import pyarrow.parquet as pq

    path = work.images()
    table = pq.read_table(path)
    encoded = table["image"].to_pylist()
    encoded[3], encoded[7] = b"not an image", encoded[7][:40]
    pq.write_table(table.set_column(0, "image", [encoded]), path)

    first = work.refused("sweep", work.config, exit_code=1)
    again = work.refused("sweep", work.config, exit_code=1)

    assert first == again
    assert first.startswith("2 of 400 images cannot be decoded (0.5%; at most 0.0% is allowed): ")
    assert "source row 3: is not an image" in first
    assert "source row 7: " in first
    assert first.endswith("leave them out with `prepare --drop-undecodable`")


def test_a_refused_data_set_leaves_no_prepared_folder_behind(work: Any) -> None:
    work.images(labels=["cat"] * 20)

    work.refused("sweep", work.config, exit_code=1)

    assert [path.name for path in (work.runs_dir / ".data").iterdir() if path.is_dir()] == []


# --- folders, stores, prices ----------------------------------------------------------------------------------------


def test_a_run_folder_below_a_file_is_refused(work: Any) -> None:
    assert work.config_fault(f"runs_dir={work.config}/runs") == (
        f"runs_dir: {work.config}/runs/digits cannot be a folder, because {work.config} is a file; "
        "set runs_dir to a folder"
    )


def test_a_file_where_the_run_folder_would_be_is_refused(work: Any) -> None:
    work.runs_dir.mkdir()
    work.run.write_text("mine")

    assert work.config_fault().startswith(f"runs_dir: {work.run} cannot be a folder, because {work.run} is a file")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that refuses everyone")
def test_a_run_folder_where_nobody_can_write_is_refused_even_to_root(work: Any) -> None:
    message = work.config_fault("runs_dir=/proc/runs")

    assert message.startswith("runs_dir: /proc/runs/digits cannot be used: nothing can be written in /proc (")
    assert message.endswith("set runs_dir to a folder you can write to")


def test_a_tracking_file_that_is_no_database_is_refused_and_kept(work: Any) -> None:
    (work.root / "mlflow.db").write_bytes(b"these are my notes, not a database")

    assert work.config_fault() == (
        f"tracking.uri: {work.root}/mlflow.db is not an SQLite database (it begins with b'these are my not'); "
        "name another file or move it away"
    )


@pytest.mark.parametrize("scheme", ["", "file:", "file://"])
def test_a_plain_folder_as_tracking_store_is_refused_with_the_database_to_use(work: Any, scheme: str) -> None:
    uri = f"{scheme}{work.root}/mlruns"
    work.write({"tracking.uri": uri})

    assert work.config_fault() == (
        f"tracking.uri: {uri!r} is a plain folder, which MLflow 3 no longer writes to; use a database file in it, "
        f"sqlite:///{work.root}/mlruns/mlflow.db, or the http address of a server"
    )


def test_a_tracking_database_in_a_missing_folder_is_refused(work: Any) -> None:
    message = work.config_fault(f"tracking.uri=sqlite:///{work.root}/no/mlflow.db")

    assert message.startswith(f"tracking.uri: folder {work.root}/no does not exist; make it (mkdir -p ")


def test_an_unknown_instance_is_met_with_one_like_it(work: Any) -> None:
    work.write({"pricing": {"instance": "gcp/t2d-standrd-4", "region": "us-central1"}})

    message = work.config_fault()

    assert re.match(r"pricing: gcp/t2d-standrd-4 is not in .+; did you mean gcp/t2d-standard-4 or ", message)
    assert message.endswith("Or give pricing.usd_per_worker_hour")


def test_a_region_without_a_price_is_met_with_those_that_have_one(work: Any) -> None:
    work.write({"pricing": {"instance": "gcp/t2d-standard-4", "region": "us-west9"}})

    message = work.config_fault()

    assert re.match(r"pricing: gcp/t2d-standard-4 has no price in us-west9 in .+; it has us-central1; ", message)


def test_a_purchase_option_the_table_has_no_price_for_is_met_with_those_it_has(work: Any) -> None:
    work.write({"pricing": {"instance": "gcp/t2d-standard-4", "region": "us-central1", "purchase": "reserved"}})

    message = work.config_fault()

    assert message.startswith("pricing: gcp/t2d-standard-4 in us-central1 has no reserved price in ")
    assert "set pricing.purchase to ['on_demand', 'spot']" in message


@pytest.mark.parametrize(
    ("pricing", "message"),
    [
        ({"spot": {"mean_uptime_h": -1}}, "pricing.spot.mean_uptime_h: must be above 0, got -1.0"),
        ({"storage": {"months": -2}}, "pricing.storage.months: must not be negative, got -2.0"),
        (
            {"people": {"engineer_h": 3}},
            "pricing.people.engineer_usd_per_h: is missing; engineer_h cannot be priced without it",
        ),
        (
            {"transfer": {"route": "by_post"}},
            "pricing.transfer.route: must be 'same_zone', 'cross_zone', 'inter_region', 'cross_cloud' or "
            "'internet_egress', got 'by_post'",
        ),
        (
            {"catalogue_date": "2026-01-01"},
            "pricing.catalogue_date: has no meaning without pricing.catalogue; leave it out",
        ),
        (
            {"catalogue": "vms.csv", "catalogue_date": "January"},
            "pricing.catalogue_date: must read YYYY-MM-DD, got 'January'",
        ),
        (
            {"spot": {"uptime_h": 1}},
            "pricing.spot.uptime_h: unknown key; did you mean 'mean_uptime_h'? "
            "pricing.spot takes: mean_uptime_h, mean_downtime_h, history",
        ),
    ],
)
def test_every_wrong_price_is_met_with_its_key(work: Any, pricing: dict[str, Any], message: str) -> None:
    work.write({"pricing": {"instance": "gcp/t2d-standard-4", "region": "us-central1"} | pricing})

    assert work.config_fault() == message


def test_a_catalogue_that_cannot_be_read_is_named(work: Any) -> None:
    asked = {"instance": "aws/g5.xlarge", "region": "us-east-1", "catalogue": "no-such.csv"}
    work.write({"pricing": asked})

    assert work.config_fault() == (
        "pricing: pricing.catalogue no-such.csv cannot be read (No such file or directory); name a CSV file of prices"
    )


# --- evidence, answers, locks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [["decide"], ["report"], ["status"], ["approve"], ["reject"], ["promote", "-y"], ["ui"]]
)
def test_an_unknown_experiment_is_met_with_the_one_that_was_meant(measured: Any, command: list[str]) -> None:
    message = measured.refused(*command, "digit", "--runs-dir", measured.runs_dir, exit_code=2)

    assert message == (
        f"no experiment 'digit' in {measured.runs_dir}; did you mean digits? (runs folder: {measured.runs_dir})"
    )


def test_where_nothing_was_swept_and_where_no_folder_is_there_is_no_experiment(work: Any) -> None:
    for runs_dir in (work.runs_dir, work.config):
        message = work.refused("status", "digits", "--runs-dir", runs_dir, exit_code=2)
        assert message.startswith(f"no experiment 'digits' in {runs_dir}; nothing was swept there yet")
    assert work.refused("decide", work.config, exit_code=2).startswith(f"no experiment 'digits' in {work.runs_dir}")


def test_a_run_folder_that_is_not_there_is_met_with_its_neighbour(measured: Any) -> None:
    message = measured.refused("status", measured.runs_dir / "digts", exit_code=2)

    assert message.startswith(f"no experiment 'digts' in {measured.runs_dir}; did you mean digits?")


def test_a_name_that_no_experiment_can_have_is_refused(work: Any) -> None:
    message = work.refused("status", "my digits", "--runs-dir", work.runs_dir, exit_code=2)

    assert message.startswith("experiment name 'my digits' must start with a letter or digit and hold only those")


def keep_kinds(work: Any, *kinds: str) -> None:
    """Leave only these kinds of record in the journal, as if the sweep had been stopped."""
    entries = Journal.read(work.run).entries
    for name in ("journal.jsonl", "journal.seal"):
        (work.run / name).unlink()
    with Journal.open(work.run, now=lambda: datetime.now(UTC)) as journal:
        for entry in entries:
            if entry.kind in kinds:
                journal.append(entry.kind, entry.payload)


def test_before_any_trial_there_is_nothing_to_decide_on(measured: Any) -> None:
    keep_kinds(measured, "experiment")

    for command in ("decide", "report"):
        message = measured.refused(command, "digits", "--runs-dir", measured.runs_dir, exit_code=1)
        assert "run `sweep` with this config first" in message


@pytest.mark.parametrize("command", [["approve"], ["reject"], ["promote", "-y"]])
def test_without_a_verdict_there_is_nothing_to_answer_or_promote(measured: Any, command: list[str]) -> None:
    keep_kinds(measured, "experiment", "smoke", "trial")

    message = measured.refused(*command, "digits", "--runs-dir", measured.runs_dir, exit_code=1)

    assert message == "experiment digits has no verdict yet; run `sweep` to its end first"


def test_a_verdict_to_hold_is_promoted_only_with_a_reason(work: Any, evidence: Any) -> None:
    work.bring(evidence.hold)

    message = work.refused("promote", "digits", "--runs-dir", work.runs_dir, "-y", exit_code=1)

    assert message.startswith("the verdict is HOLD, not PROMOTE: ")
    assert message.endswith("to start all the same, give --override REASON, which is recorded")


def test_a_verdict_that_a_person_rejected_is_not_promoted(measured: Any) -> None:
    measured.answer("rejected", "the labels changed")

    message = measured.refused("promote", "digits", "--runs-dir", measured.runs_dir, "-y", exit_code=1)

    assert message == "Ada rejected this verdict: the labels changed; `approve` it first, or sweep again"


def test_without_a_terminal_nobody_is_asked_and_nothing_is_promoted(measured: Any) -> None:
    message = measured.refused("promote", "digits", "--runs-dir", measured.runs_dir, exit_code=1)

    assert message == "nobody approved this verdict and there is no terminal to ask on; `approve` it, or give -y"


def test_a_worker_count_that_was_not_forecast_is_refused(measured: Any) -> None:
    message = measured.refused("promote", "digits", "--runs-dir", measured.runs_dir, "--workers", "7", exit_code=2)

    assert message == "--workers 7 was not forecast; full_run.workers has [1]"


def test_a_misspelt_override_of_a_decision_is_refused(measured: Any) -> None:
    message = measured.refused(
        "decide", "digits", "decision.min_gain_per_dolar=5", "--runs-dir", measured.runs_dir, exit_code=2
    )

    assert message.startswith("digits: 1 fault\n  decision.min_gain_per_dolar: unknown key; ")
    assert "did you mean 'min_gain_per_dollar'?" in message


def test_a_decision_under_a_price_that_is_not_known_is_refused(measured: Any) -> None:
    overrides = ["pricing.usd_per_worker_hour=null", "pricing.instance=gcp/t2d-standrd-4", "pricing.region=us-central1"]

    message = measured.refused("decide", "digits", *overrides, "--runs-dir", measured.runs_dir, exit_code=2)

    assert message.startswith("gcp/t2d-standrd-4 is not in ")


def test_a_report_that_cannot_be_written_is_told(measured: Any) -> None:
    path = measured.root / "no" / "report.html"

    message = measured.refused("report", "digits", "-o", path, "--runs-dir", measured.runs_dir, exit_code=2)

    assert message == f"{path}: cannot be written (No such file or directory); name another file with -o"


@pytest.mark.parametrize(
    "overrides",
    [["sweep.seeds=0"], ["sweep.workers=[1, 4096]", "training.global_batch_size=4096"], ["data.source=gone.parquet"]],
)
def test_what_was_measured_survives_a_refused_config(measured: Any, overrides: list[str]) -> None:
    measured.refused("sweep", measured.config, *overrides, exit_code=2)  # compares every byte before and after

    assert len(Journal.read(measured.run).results) == measured.N_TRIALS


def test_a_second_sweep_on_a_run_folder_is_refused_with_the_first_ones_name(measured: Any) -> None:
    an_hour_ago = datetime.now(UTC) - timedelta(hours=3)

    with Journal.open(measured.run, now=lambda: an_hour_ago):
        message = measured.refused("sweep", measured.config, exit_code=1)

    assert re.fullmatch(
        re.escape(f"{measured.run} is in use by process {os.getpid()} on ") + r"\S+ for 3\.0 h; "
        "wait for it, stop it, or give the experiment another name",
        message,
    )


def test_a_journal_damaged_in_the_middle_is_refused_and_left_alone(measured: Any) -> None:
    path = measured.run / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"seed":1', b'"seed":7', 1))

    message = measured.refused("sweep", measured.config, exit_code=1)

    assert re.match(re.escape(str(path)) + r": line \d+ is damaged: .+; the \d+ lines before it are intact", message)


# --- what only running shows ----------------------------------------------------------------------------------------


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("models", "message"),
    [
        ("[{name: cnnn}]", "models: image_classification has no 'cnnn'; it has: linear, cnn"),
        ("[{name: cnn, wdith: 8}]", "models: cnn does not take wdith; its options are: depth, width"),
    ],
)
def test_a_model_the_task_does_not_know_is_refused_by_the_smoke_test(measured: Any, models: str, message: str) -> None:
    before = (measured.run / "journal.jsonl").read_bytes()
    command = [sys.executable, "-m", "orchestrator", "sweep", str(measured.config), f"models={models}"]

    found = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )

    assert found.returncode == 1
    assert found.stdout == ""
    assert found.stderr.splitlines()[-1] == f"error: {message}"
    assert "Traceback" not in found.stderr
    view = Journal.read(measured.run)
    assert (measured.run / "journal.jsonl").read_bytes().startswith(before)
    assert len(view.results) == measured.N_TRIALS
    assert view.smoke == Journal.read(measured.run).smoke
