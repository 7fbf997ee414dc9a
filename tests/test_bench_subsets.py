"""The benchmark of subsets: its judge sees what is wrong, and a small run prints every line."""

from __future__ import annotations

import bench_subsets as bench
import numpy as np
import pytest

LABELS = bench.make_labels(20_000, 10, "even")


def test_the_judge_sees_subsets_that_are_uneven_of_a_wrong_size_or_not_nested() -> None:
    rows = np.argsort(LABELS, kind="stable")
    deviation, size_off, is_nested = bench.judge(LABELS, [rows[-200:], rows[:2000], rows[:9_999]])

    # The second, a tenth of the rows, has about all 2,000 rows of the first class, where 200 would be even.
    assert deviation == pytest.approx(1800, rel=0.1)
    assert size_off == 1
    assert not is_nested


@pytest.mark.parametrize("name", ["ours-numpy", "packed-sort", "pandas", "scikit-learn"])
def test_every_method_makes_nested_subsets_that_are_even_to_the_row(name: str) -> None:
    pytest.importorskip(bench.METHODS[name][0])
    found = bench.METHODS[name][1](LABELS)
    assert isinstance(found, list)

    deviation, size_off, is_nested = bench.judge(LABELS, found)

    assert deviation < 2
    assert size_off <= 10
    assert is_nested


def test_levels_are_judged_as_the_subsets_they_stand_for() -> None:
    levels = np.array([0, 3, 1, 2, 0], dtype=np.uint8)

    assert [rows.tolist() for rows in bench.from_levels(levels)] == [[0, 4], [0, 2, 4], [0, 2, 3, 4]]


def test_a_small_run_prints_a_line_for_each_method_and_the_limit(capsys: pytest.CaptureFixture[str]) -> None:
    bench.main(["--rows", "20000", "--classes", "10", "--repeats", "1", "--only", "ours-numpy"])

    shown = capsys.readouterr().out
    assert "20,000 rows, 10 classes, even shares" in shown
    assert "ours-numpy" in shown
    assert "limit: reading labels" in shown


def test_a_method_whose_library_is_missing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench.METHODS, "imaginary", ("no_such_library", bench.ours_in_numpy))

    assert bench.in_own_process("imaginary", bench.argparse.Namespace()) == "no_such_library is not installed"
