"""``fit``: answers for a file of points and for a stored experiment, and a plain message for everything else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from orchestrator.cli.main import cli
from orchestrator.curves.learning import fit_learning_curve

ROOT = Path(__file__).resolve().parents[2]
CIFAR = ROOT / "examples" / "evidence" / "cifar10"
GOOD = "n,accuracy,seed\n" + "".join(
    f"{n},{1 - 0.02 - 0.33 * (n / 100) ** -0.6 + 0.003 * (-1) ** seed:.5f},{seed}\n"
    for n in (100, 200, 400, 800, 1600)
    for seed in (0, 1)
)


def write(work: Any, text: str | bytes, name: str = "points.csv") -> Path:
    path: Path = work.root / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def curves_of(stdout: str) -> dict[str, Any]:
    """Answers by curve name."""
    return {curve["name"]: curve["answers"] for curve in json.loads(stdout)["curves"]}


# --- a file of points -------------------------------------------------------------------------------------------------


def test_a_file_is_answered_with_every_line_a_lead_asks_for(work: Any) -> None:
    answer = work.ask("fit", write(work, GOOD), "--target-n", "8000", "--reach", "0.95")

    assert answer.exit_code == 0, answer.stderr
    assert answer.stdout.startswith(
        "points.csv: accuracy at 8,000 samples, from 10 points of 5 sizes from 100 to 1,600"
    )
    for label in ("curve, 90%", "new run, 90%", "extrapolation", "5 times the largest", "samples for 95.00%",
                  "+10% data at 1,600", "+10% data at 8,000", "noise floor", "held", "well-behaved: "):  # fmt: skip
        assert label in answer.stdout
    assert answer.stderr == ""


def test_json_holds_the_numbers_of_the_fit(work: Any) -> None:
    path = write(work, GOOD)

    answers = curves_of(work.ask("fit", path, "--target-n", "8000", "--json").stdout)["points.csv"]

    n, accuracy = np.loadtxt(path, delimiter=",", skiprows=1, usecols=(0, 1), unpack=True)
    expected = fit_learning_curve(n, 1 - accuracy).interval(8000, kind="confidence")
    assert answers["curve"]["median"] == pytest.approx(1 - expected.median)
    assert answers["curve"]["low"] == pytest.approx(1 - expected.high)
    assert (answers["metric"], answers["extrapolation_factor"], answers["reach"]) == ("accuracy", 5.0, None)


def test_points_may_come_from_the_standard_input() -> None:
    found = CliRunner().invoke(cli, ["fit", "-", "--target-n", "8000"], input=GOOD)

    assert found.exit_code == 0
    assert found.stdout.startswith("standard input: accuracy at 8,000 samples")


@pytest.mark.parametrize(
    ("column", "turn"),
    [("error", lambda a: 1 - a), ("error_rate", lambda a: 1 - a), ("Loss", lambda a: 3 - a), ("accuracy", lambda a: a)],
)
def test_each_metric_is_known_by_its_column(work: Any, column: str, turn: Any) -> None:
    rows = [line.split(",") for line in GOOD.splitlines()[1:]]
    text = f"n,{column}\n" + "".join(f"{n},{turn(float(value)):.5f}\n" for n, value, _ in rows)

    answers = curves_of(work.ask("fit", write(work, text), "--target-n", "8000", "--json").stdout)["points.csv"]

    assert answers["metric"] == {"error": "error_rate"}.get(column, column.lower())
    assert answers["gain_at_largest"]["median"] > 0


def test_semicolons_a_byte_order_mark_blank_lines_and_other_columns_do_no_harm(work: Any) -> None:
    lines = [f"{line.replace(',', ';')};0.1" for line in GOOD.splitlines()]
    lines[0] = "N; Accuracy;seed;learning_rate"
    text = "\ufeff\r\n" + "\r\n\r\n".join(lines) + "\r\n\r\n"
    asked = ("--target-n", "8000", "--json")

    odd, plain = work.ask("fit", write(work, text, "odd.csv"), *asked), work.ask("fit", write(work, GOOD), *asked)

    assert curves_of(odd.stdout)["odd.csv"] == curves_of(plain.stdout)["points.csv"]


def test_rows_of_one_size_and_seed_are_one_point(work: Any) -> None:
    header, *rows = GOOD.splitlines()
    twice = "\n".join([header, *rows, *rows])

    answers = curves_of(work.ask("fit", write(work, twice), "--target-n", "8000", "--json").stdout)["points.csv"]

    assert answers["n_points"] == len(rows)


def test_metric_chooses_among_the_columns(work: Any) -> None:
    text = "n,accuracy,loss\n100,0.5,2.0\n200,0.6,1.5\n400,0.7,1.2\n"
    path = write(work, text)

    assert "name one with --metric" in work.refused("fit", path, "--target-n", "800", exit_code=2)
    assert work.ask("fit", path, "--target-n", "800", "--metric", "loss").stdout.startswith("points.csv: loss at 800")


# --- what is wrong with a file ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; it needs a first row such as n,accuracy,seed"),
        ("n,loss\n", "has a header and no row"),
        ("n,accuracy\n100,0.5\n200,nan\n", "row 3: accuracy is nan; leave out the training that gave no number"),
        ("n,accuracy\n100,0.5\n\n200,\n", "row 4: accuracy is missing; leave the row out or mend it"),
        ("n,accuracy\n100,0.5\n200,good\n", "row 3: accuracy 'good' is not a number"),
        ("n,loss\n100,inf\n200,1\n", "row 2: loss is inf"),
        ("n,loss\n100,2\n200,-1\n", "row 3: loss is -1 and must be at least 0"),
        ("n,loss\n0,2\n200,1\n", "row 2: n is 0 and must be a number of samples, 1 or more"),
        ("n,loss\nnan,2\n200,1\n", "row 2: n is nan"),
        ("n,accuracy\n100,50\n200,60\n", "row 2: accuracy is 50 and must lie in 0 to 1; it looks like percent: "),
        ("n,accuracy\n100,0.5\n", "has one point, row 2; a curve needs 2 sizes and should have 4"),
        ("n,error\n100,0.5\n100,0.4\n", "all 2 points, rows 2 to 3, are of one size, 100; a curve needs 2 sizes"),
        ("n,acuracy\n100,0.5\n", "row 1: none of the columns n, acuracy is one of accuracy, error, error_rate, loss; "
         "did you mean 'accuracy'?"),
        ("n,val_acc\n100,0.5\n", "rename 'val_acc' to accuracy"),
        ("samples,accuracy\n100,0.5\n", "row 1: no column 'n' with the training samples; the columns are samples, "
         "accuracy; rename 'samples' to n"),
        ("\n100,0.5\n200,0.6\n", "row 2: no column 'n' with the training samples; the columns are 100, 0.5; it needs "),
        ("n,loss\n100,2\n200,1,0\n", "row 3: 3 cells where the header has 2: 200,1,0"),
        ("n,error,error_rate\n100,0.5,0.5\n", "more than one column to fit: error, error_rate; keep one of them"),
        (b"\x89PNG\xff\x00", "is not text in UTF-8; export it as CSV"),
        ("n,accuracy\n100,0.7\n200,0.6\n400,0.5\n800,0.4\n", "accuracy gets worse with more data, from 70.00% at "
         "100 to 40.00% at 800 samples, beyond its noise; if the column holds error rates, name it error"),
    ],
)  # fmt: skip
def test_a_fault_is_told_in_one_message_with_file_and_row(work: Any, text: str | bytes, message: str) -> None:
    path = write(work, text)

    said = work.refused("fit", path, "--target-n", "1000000", exit_code=2)

    assert said.startswith(f"{path}: ")
    assert message in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--target-n is missing"),
        (["--target-n", "50"], "--target-n 50 lies below the data, whose smallest size is 100; ask for 100 or more"),
        (["--target-n", "nan"], "--target-n: must be a finite number, got nan"),
        (["--target-n", "inf"], "--target-n: must be a finite number, got inf"),
        (
            ["--target-n", "8000", "--reach", "95"],
            "--reach: accuracy is 95 and must lie in 0 to 1; it looks like percent",
        ),
        (["--target-n", "8000", "--metric", "loss"], "no column for --metric loss; it has accuracy"),
        (["--target-n", "8000", "--model", "cnn"], "--model belongs to an EXPERIMENT"),
        (["--target-n", "8000", "--out", "curve.pdf"], "name a file .png, .svg, .html, or a folder"),
    ],
)
def test_a_question_that_has_no_answer_is_refused(work: Any, options: list[str], message: str) -> None:
    assert message in work.refused("fit", write(work, GOOD), *options, exit_code=2)


def test_a_file_that_is_not_there_is_met_with_the_one_that_is(work: Any) -> None:
    write(work, GOOD)

    said = work.refused("fit", work.root / "point.csv", "--target-n", "8000", exit_code=2)

    assert said.endswith("cannot be read (No such file or directory); did you mean 'points.csv'?")


def test_a_folder_that_cannot_be_made_is_told(work: Any) -> None:
    path = write(work, GOOD)

    answer = work.ask("fit", path, "--target-n", "8000", "--out", path / "pictures")

    assert answer.exit_code == 2
    assert "cannot be written" in answer.stderr


# --- what is written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "start"), [("c.png", b"\x89PNG"), ("c.SVG", b"<svg"), ("c.html", b"<!doctype html>")])
def test_a_file_gets_the_form_of_its_name(work: Any, name: str, start: bytes) -> None:
    out = work.root / "new" / name

    answer = work.ask("fit", write(work, GOOD), "--target-n", "8000", "--json", "--out", out)

    assert out.read_bytes().startswith(start)
    assert answer.stderr == f"wrote {out}\n"
    assert curves_of(answer.stdout)


def test_a_folder_gets_both_forms_of_every_curve_and_one_page(work: Any) -> None:
    out = work.root / "pictures"

    answer = work.ask("fit", CIFAR, "--out", out)

    assert answer.exit_code == 0, answer.stderr
    pictures = {f"learning_curve_{model}.{form}" for model in ("linear", "cnn") for form in ("png", "svg")}
    assert {path.name for path in out.iterdir()} == pictures | {"learning_curve.html"}
    assert (out / "learning_curve.html").read_text().count("<svg") == 2


# --- a stored experiment ----------------------------------------------------------------------------------------------


def test_an_experiment_is_forecast_at_its_full_run_for_every_model(work: Any) -> None:
    answers = curves_of(work.ask("fit", CIFAR, "--json").stdout)

    assert list(answers) == ["linear", "cnn"]
    assert {each["target_n"] for each in answers.values()} == {45_000}
    assert {each["n_points"] for each in answers.values()} == {15}
    curve = answers["cnn"]["curve"]
    assert curve["low"] < 0.7278 < curve["high"]  # what its full run came to


def test_a_model_a_metric_a_target_and_a_goal_can_be_chosen(work: Any) -> None:
    asked = ("--model", "cnn", "--target-n", "20000", "--json")
    accuracy = curves_of(work.ask("fit", CIFAR, *asked, "--reach", "0.6").stdout)
    error = curves_of(work.ask("fit", CIFAR, *asked, "--metric", "error_rate").stdout)
    loss = curves_of(work.ask("fit", CIFAR, *asked, "--metric", "loss").stdout)

    assert list(accuracy) == list(error) == list(loss) == ["cnn"]
    assert accuracy["cnn"]["reach"]["measured_n"] == 9000
    assert error["cnn"]["curve"]["median"] == pytest.approx(1 - accuracy["cnn"]["curve"]["median"])
    assert loss["cnn"]["metric"] == "loss"


def test_a_run_folder_a_name_and_a_config_lead_to_the_same_experiment(work: Any, evidence: Any) -> None:
    work.bring(evidence.promote)

    answers = [
        work.ask("fit", *words, "--json").stdout
        for words in ((work.run,), ("digits", "--runs-dir", work.runs_dir), (work.config,))
    ]

    assert [curves_of(answer) for answer in answers] == [curves_of(answers[0])] * 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((CIFAR, "--model", "cn"), "no model 'cn'; did you mean 'cnn'?; it has linear, cnn"),
        ((CIFAR, "--out", "curve.png"), "one picture holds one curve, and there are linear, cnn; add --model"),
        ((CIFAR, "--target-n", "10"), "linear: --target-n 10 lies below the data, whose smallest size is 450"),
        (("nowhere",), "no experiment 'nowhere'"),
    ],
)
def test_an_experiment_that_cannot_be_answered_is_refused(work: Any, words: tuple[Any, ...], message: str) -> None:
    assert message in work.refused("fit", *words, exit_code=2)


@pytest.mark.parametrize("words", [[str(CIFAR)], ["POINTS", "--target-n", "8000", "--reach", "0.9"]])
def test_it_imports_no_framework_and_no_plotting(work: Any, words: list[str]) -> None:
    words = [str(write(work, GOOD)) if word == "POINTS" else word for word in words]
    code = (
        "import sys; from orchestrator.cli.main import cli; cli(sys.argv[1:], standalone_mode=False); "
        "print(sorted({'ray', 'torch', 'mlflow', 'matplotlib', 'pandas'} & set(sys.modules)), file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    found = subprocess.run(
        [sys.executable, "-c", code, "fit", *words], env=environment, capture_output=True, text=True, check=False
    )

    assert found.stderr.strip() == "[]"
