"""A forecast in a notebook: the same numbers as the fit, a cell that shows picture and table, errors with positions."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from orchestrator.curves.learning import fit_learning_curve
from orchestrator.errors import EvidenceError, UnderdeterminedFitError, UsageError
from orchestrator.notebook import forecast

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
