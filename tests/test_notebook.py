"""In a notebook: the numbers of the fit and of the commands, cells that show them, errors that say the way out."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.cli.compose import rates_of, read_experiment
from orchestrator.curves.learning import fit_learning_curve
from orchestrator.errors import (
    ConfigError,
    EvidenceError,
    JournalError,
    UnderdeterminedFitError,
    UnknownExperimentError,
    UsageError,
)
from orchestrator.experiment import decide_on
from orchestrator.notebook import Comparison, Decision, Experiment, Table, forecast
from orchestrator.results import Veto
from orchestrator.spec import ModelSpec
from orchestrator.tracking.journal import Journal

N = [100, 100, 200, 200, 400, 400, 800, 800]
ERROR = [0.40, 0.39, 0.30, 0.29, 0.225, 0.22, 0.17, 0.165]


def test_an_error_rate_is_forecast_as_the_fit_does() -> None:
    found, fit = forecast(N, ERROR, 4000), fit_learning_curve(N, ERROR)

    assert found.interval == fit.interval(4000, kind="confidence")
    assert found.prediction.low <= found.interval.low <= found.interval.high <= found.prediction.high
    assert found.diagnosis == fit.diagnosis
    assert found.backtest == fit.backtest()


def test_an_accuracy_is_the_mirror_image() -> None:
    error, accuracy = forecast(N, ERROR, 4000), forecast(N, accuracy=[1 - e for e in ERROR], target_n=4000)

    assert accuracy.interval.median == pytest.approx(1 - error.interval.median)
    assert accuracy.interval.low == pytest.approx(1 - error.interval.high)


def test_a_loss_needs_no_upper_bound() -> None:
    found = forecast(N, loss=[2 + 5 * e for e in ERROR], target_n=4000, reach=2.5)

    assert 2 < found.interval.median < 2.9
    assert found.answers.reach is not None


def test_numpy_arrays_and_pandas_columns_will_do() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"n": N, "error": ERROR})

    expected = forecast(N, ERROR, 4000).answers

    assert forecast(frame.n, frame.error, 4000).answers == expected
    assert forecast(np.array(N), np.array(ERROR), 4000).answers == expected


def test_a_cell_shows_the_picture_and_the_table() -> None:
    shown = forecast(N, ERROR, 4000, name="<b>mine</b>")._repr_html_()

    assert shown.count("<svg") == 1
    assert shown.count("<table>") == 1
    assert "&lt;b&gt;mine&lt;/b&gt;" in shown
    assert "<b>mine" not in shown
    assert "new run, 90%" in shown


def test_a_plot_is_shown_by_a_cell_and_can_be_saved() -> None:
    drawing = forecast(N, ERROR, 4000).plot()

    assert drawing._repr_svg_() == drawing.svg
    assert drawing.png.startswith(b"\x89PNG")


def test_a_prompt_without_html_shows_the_table_of_the_command_line() -> None:
    assert repr(forecast(N, ERROR, 4000, name="mine")).startswith("mine: error rate at 4,000 samples")


@pytest.mark.parametrize(
    ("values", "found"),
    [({}, "got none"), ({"error": ERROR, "loss": ERROR}, "got error, loss")],
)
def test_exactly_one_metric_is_needed(values: dict[str, list[float]], found: str) -> None:
    with pytest.raises(UsageError, match=f"exactly one of error, accuracy and loss is needed, {found}"):
        forecast(N, target_n=4000, **values)


@pytest.mark.parametrize(
    ("n", "accuracy", "target_n", "message"),
    [
        ([100, 200], [50.0, 60.0], 400, r"accuracy is 50 .*divide by 100 \(position 0\)"),
        ([100, 200], [0.5, math.nan], 400, "accuracy must be finite, got nan at position 1"),
        ([100, 200], [0.5], 400, "n has 2, accuracy has 1"),
        ([100, 200], [0.5, 0.6], 50, "below the smallest measured size 100"),
        ([100, 200], [0.5, 0.6], math.inf, "target_n must be finite"),
    ],
)
def test_bad_input_is_refused_with_what_was_found(
    n: list[float], accuracy: list[float], target_n: float, message: str
) -> None:
    with pytest.raises(EvidenceError, match=message):
        forecast(n, accuracy=accuracy, target_n=target_n)


def test_one_size_and_no_target_are_refused() -> None:
    with pytest.raises(UnderdeterminedFitError, match="at least 2 distinct points"):
        forecast([100, 100], [0.5, 0.4], 400)
    with pytest.raises(UsageError, match="target_n is missing"):
        forecast(N, ERROR)


def test_importing_it_loads_no_framework_and_no_plotting() -> None:
    code = (
        "import sys; from orchestrator.notebook import forecast; "
        "forecast([100, 200, 400], [0.4, 0.3, 0.2], 800); "
        "print(sorted({'ray', 'torch', 'mlflow', 'matplotlib', 'pyarrow', 'pydantic'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[1]

    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)

    assert (found.stdout.strip(), found.stderr) == ("[]", "")


CIFAR10 = Path(__file__).resolve().parents[1] / "examples" / "evidence" / "cifar10"


@pytest.fixture(scope="module")
def cifar10() -> Experiment:
    """A real sweep with its verdict, its approval and its full run."""
    return Experiment.load(CIFAR10)


@pytest.fixture
def started(tmp_path: Path, synthetic: Any) -> Path:
    """The run folder of a sweep that was begun and has measured 4 trials, one of which failed."""
    spec = synthetic.spec()
    results = synthetic.results(spec)[:4]
    results[3] = replace(results[3], status="failed", training=None, error="<b>out of memory</b>")
    return recorded(tmp_path / "runs" / spec.name, spec, synthetic, results)


def recorded(folder: Path, spec: Any, synthetic: Any, results: Any) -> Path:
    with Journal.open(folder, now=lambda: datetime.now(UTC)) as journal:
        journal.append("experiment", {"spec": spec, "data": synthetic.data, "versions": {}, "config": None})
        for result in results:
            journal.append("trial", result)
    return folder


def test_an_experiment_is_found_by_name_by_folder_and_by_config(tmp_path: Path) -> None:
    shutil.copytree(CIFAR10, tmp_path / "cifar10")
    config = Path(__file__).resolve().parents[1] / "configs" / "vision.yaml"
    text = config.read_text().replace("name: digits", "name: cifar10")
    (tmp_path / "own.yaml").write_text(f"{text}\nruns_dir: {tmp_path}\n")

    found = [
        Experiment.load("cifar10", runs_dir=tmp_path),
        Experiment.load(tmp_path / "cifar10"),
        Experiment.load(tmp_path / "own.yaml"),
    ]

    assert {each.path for each in found} == {tmp_path / "cifar10" / "journal.jsonl"}
    assert {each.name for each in found} == {"cifar10"}


def test_what_cannot_be_loaded_is_refused_as_by_the_commands(tmp_path: Path, synthetic: Any) -> None:
    with pytest.raises(UnknownExperimentError, match="no experiment 'nothing'"):
        Experiment.load("nothing", runs_dir=tmp_path)
    with pytest.raises(UsageError, match=r"must start with a letter or digit"):
        Experiment.load("..", runs_dir=tmp_path)
    with Journal.open(tmp_path / "empty", now=lambda: datetime.now(UTC)):
        pass
    with pytest.raises(JournalError, match="holds no experiment yet"):
        Experiment.load(tmp_path / "empty")


def test_its_verdict_is_the_commands_own(cifar10: Experiment) -> None:
    spec, view = read_experiment(str(CIFAR10), "runs", ["decision.confidence=0.8"])
    expected = decide_on(spec, view.data, view, rates_of(spec))

    asked = [
        cifar10.decide("decision.confidence=0.8"),
        cifar10.decide(["decision.confidence=0.8"]),
        cifar10.decide({"decision.confidence": 0.8}),
        cifar10.decide(decision__confidence=0.8),
    ]

    assert [decision.verdict for decision in asked] == [expected] * 4
    assert (asked[0].kind, asked[0].probability) == (expected.kind, expected.probability)
    assert asked[0].best.candidate == expected.best.candidate
    assert cifar10.verdict == view.verdict, "what stands is not what was asked"


def test_lists_texts_and_none_can_be_given_as_values(cifar10: Experiment) -> None:
    verdict = cifar10.decide(full_run__workers=[1], full_run__deadline_h=None, pricing__purchase=["spot"]).verdict

    assert {(each.candidate.workers, each.candidate.purchase) for each in verdict.candidates} == {(1, "spot")}


def test_a_key_or_value_that_cannot_be_is_refused_with_the_way_out(cifar10: Experiment) -> None:
    with pytest.raises(ConfigError, match="min_gain_per_dollar"):
        cifar10.decide(decision__min_gain_per_dolar=1)
    with pytest.raises(UsageError, match=r"decision\.confidence is a ndarray; give a number"):
        cifar10.decide({"decision.confidence": np.array([0.8])})
    with pytest.raises(UsageError, match="what_if needs at least one key"):
        cifar10.what_if()


def test_a_forecast_is_the_verdicts_own_curve(cifar10: Experiment) -> None:
    found, verdict = cifar10.forecast("cnn"), cifar10.decide().verdict
    band = next(each for each in verdict.curves if each.model == "cnn")

    assert found.interval.median == pytest.approx(band.median[-1])
    assert found.interval.low == pytest.approx(band.confidence_low[-1])
    assert found.prediction.high == pytest.approx(band.prediction_high[-1], abs=2e-3)  # drawn, not solved
    assert found.fit.noise_std == pytest.approx(band.noise_std)
    assert found.answers.target_n == band.n_samples[-1] == 45_000
    assert cifar10.forecast("cnn", 20_000).interval.median < found.interval.median
    assert cifar10.forecast("cnn", reach=0.65).answers.reach is not None


def test_several_models_are_not_chosen_from_and_a_wrong_name_is_told(cifar10: Experiment) -> None:
    with pytest.raises(UsageError, match="name one of linear, cnn"):
        cifar10.forecast()
    with pytest.raises(UsageError, match="no model 'resnet' in cifar10; there are: linear, cnn"):
        cifar10.points("resnet")


def test_the_only_model_needs_no_name(tmp_path: Path, synthetic: Any) -> None:
    spec = synthetic.spec(models=(ModelSpec(name="cnn"),))
    folder = recorded(tmp_path / "one", spec, synthetic, synthetic.results(spec))

    assert Experiment.load(folder).forecast().name == "synthetic: cnn"


def test_points_are_rows_that_pandas_takes_as_they_are(cifar10: Experiment) -> None:
    pandas = pytest.importorskip("pandas")
    points = cifar10.points("cnn")

    frame = pandas.DataFrame(points)

    assert len(frame) == len(points) == 20
    assert list(frame.columns) == list(points[0])
    assert set(frame.model) == {"cnn"}
    assert frame.counts.all()
    assert len(cifar10.points()) == len(cifar10.results)


def test_a_failed_trial_is_a_row_that_does_not_count(started: Path) -> None:
    points = Experiment.load(started).points()

    assert [row["counts"] for row in points] == [True, True, True, False]
    assert (points[3]["status"], points[3]["accuracy"], points[3]["error"]) == ("failed", None, "<b>out of memory</b>")


def test_a_trial_of_another_training_does_not_count(tmp_path: Path, synthetic: Any) -> None:
    spec = synthetic.spec()
    other = replace(spec, training=replace(spec.training, epochs=9))
    results = [synthetic.result(each, synthetic.results(spec)[0].trial) for each in (spec, other)]
    folder = recorded(tmp_path / "mixed", spec, synthetic, results)

    assert [row["counts"] for row in Experiment.load(folder).points()] == [True, False]


def test_too_little_evidence_says_what_is_missing(started: Path) -> None:
    experiment = Experiment.load(started)

    with pytest.raises(EvidenceError, match="no model can be forecast yet"):
        experiment.decide()
    with pytest.raises(UnderdeterminedFitError, match="at least 2 distinct points"):
        experiment.forecast("linear")
    assert "none recorded yet" in repr(experiment)


def test_a_refresh_sees_what_was_added(started: Path, synthetic: Any) -> None:
    experiment = Experiment.load(started)
    with Journal.open(started, now=lambda: datetime.now(UTC)) as journal:
        for result in synthetic.results(experiment.spec):
            journal.append("trial", result)

    assert len(experiment.results) == 4
    assert len(experiment.refresh().results) == 40
    assert experiment.decide().verdict.n_trials == 40


def test_a_cell_shows_where_the_experiment_stands(cifar10: Experiment) -> None:
    shown = cifar10._repr_html_()

    assert "40 of at most 40" in shown
    assert "PROMOTE: cnn on all of the data" in shown
    assert "approved by A reviewer" in shown
    assert "40 of at most 40" in repr(cifar10)


def test_a_cell_shows_the_verdict_with_its_numbers_picture_and_candidates(cifar10: Experiment) -> None:
    decision = cifar10.decide()
    shown = decision._repr_html_()

    assert 'class="kind PROMOTE">PROMOTE</span> cifar10' in shown
    assert shown.count("<svg") == 1
    assert shown.count('<tr class="best">') == 1
    assert decision.reason.replace(">=", "&gt;=") in shown
    assert repr(decision).startswith("PROMOTE  probability 0.99")
    assert decision.plot().png.startswith(b"\x89PNG")
    assert cifar10.plot().alt == decision.plot().alt


def test_two_verdicts_stand_side_by_side(cifar10: Experiment) -> None:
    compared = cifar10.what_if(full_run__deadline_h=0.01)

    assert (compared.standing.kind, compared.other.kind) == ("PROMOTE", "REJECT")
    assert compared.changes == ("full_run.deadline_h=0.01",)
    assert "full_run.deadline_h=0.01" in compared._repr_html_()
    assert "as configured" in repr(compared)


EVIL = '<img src=x onerror="alert(1)">'


def test_markup_in_what_people_and_tasks_wrote_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    shutil.copytree(CIFAR10, tmp_path / "cifar10")
    with Journal.open(tmp_path / "cifar10", now=lambda: datetime.now(UTC)) as journal:
        approval, verdict = journal.view.approval, journal.view.verdict
        assert approval is not None
        assert verdict is not None
        journal.append("approval", replace(approval, by=EVIL))
        failed = replace(journal.view.results[0], key="other", status="failed", training=None, error=EVIL)
        journal.append("trial", failed)
    experiment = Experiment.load(tmp_path / "cifar10")
    veto = Veto(name=EVIL, reason=EVIL, way_out=EVIL)
    told = replace(verdict, reason=EVIL, next_step=EVIL, preference=EVIL, vetoes=(veto,))

    cells = [
        experiment._repr_html_(),
        experiment.points()._repr_html_(),
        Decision(verdict=told, name=EVIL)._repr_html_(),
        Comparison(standing=told, other=told, changes=(EVIL,))._repr_html_(),
    ]

    assert [cell.count("<img") for cell in cells] == [0, 0, 0, 0]
    assert all("&lt;img" in cell for cell in cells)


def test_a_long_table_is_cut_in_a_cell_only() -> None:
    table = Table({"seed": seed, "loss": 1 / 3} for seed in range(100))

    assert "and 40 more" in table._repr_html_()
    assert len(repr(table).splitlines()) == 101
    assert (repr(Table()), "no rows" in Table()._repr_html_()) == ("no rows", True)


def test_a_report_is_written_where_it_is_asked_for(cifar10: Experiment, tmp_path: Path) -> None:
    path = cifar10.report(tmp_path / "page.html")

    assert path.read_text().startswith("<!doctype html>")
    with pytest.raises(UsageError, match=r"cannot be written .*name another file"):
        cifar10.report(tmp_path / "no" / "page.html")


def test_reading_an_experiment_loads_no_framework() -> None:
    code = (
        "import sys; from orchestrator.notebook import Experiment; "
        f"e = Experiment.load({str(CIFAR10)!r}); e.points(); e.decide()._repr_html_(); e._repr_html_(); "
        "import json; print(json.dumps(sorted({'ray', 'torch', 'mlflow', 'pyarrow', 'pandas'} & set(sys.modules))))"
    )
    root = Path(__file__).resolve().parents[1]

    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)

    assert (json.loads(found.stdout or "null"), found.stderr) == ([], "")
