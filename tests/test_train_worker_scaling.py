"""Training of the forecaster of run times, and its benchmark: what is seen, and what is scored."""

from __future__ import annotations

import bench_worker_scaling as bench
import numpy as np
import pytest
import train_worker_scaling as script

WORKERS = np.array([1.0, 2.0, 4.0, 8.0, 16.0])


def job(family: str, per_doubling: float = 0.0) -> script.Job:
    seconds = 160 / WORKERS * WORKERS**per_doubling
    return script.Job(name=family, source="s", family=family, workers=WORKERS, seconds=seconds,
                      replicate=np.zeros(5))  # fmt: skip


def test_a_target_is_the_log_of_how_much_longer_than_ideal_the_job_took() -> None:
    per_doubling = 0.1
    found = [(row, target) for row, target, _, _ in script.examples_of(job("a", per_doubling))]

    names = next(script.examples_of(job("a")))[3]
    for row, target in found:
        assert target == pytest.approx(per_doubling * row[names.index("ahead")])


def test_only_the_largest_count_asked_from_up_to_half_of_it_weighs_fully() -> None:
    names = next(script.examples_of(job("a")))[3]
    weights = {
        (round(np.exp(row[names.index("log_workers")])), round(np.exp(row[names.index("ahead")]))): weight
        for row, _, weight, _ in script.examples_of(job("a"))
    }

    assert {key for key, weight in weights.items() if weight == 1.0} == {(2, 8), (4, 4), (8, 2)}


def test_made_up_jobs_are_in_no_family_and_never_held_out() -> None:
    table = script.build_table([job("a"), job("b", 0.1)])

    assert set(table.group) == {"", "a", "b"}
    assert set(table.of(["a"]).group) == {"a"}
    assert set(table.of(["a"], without=True).group) == {"", "b"}


def test_a_case_sees_no_more_than_its_share_of_the_workers() -> None:
    (case,) = bench.cases_of([job("a")], 4)

    assert case.workers.max() == 4.0
    assert (case.target_workers, case.took_s) == (16.0, 10.0)
    assert case.is_near_linear


def test_scores_are_those_of_forecasts_worked_out_by_hand() -> None:
    cases = bench.cases_of([job("a"), job("b"), job("c")], 2)
    told = [{"mean": 11.0, "quantiles": {0.05: 5.0, 0.95: 10.0}}, {"mean": 10.0, "quantiles": {0.05: 9.0, 0.95: 18.0}},
            {"mean": 13.0, "quantiles": {0.05: 11.0, 0.95: 22.0}}]  # fmt: skip

    found = bench.score(cases, told)

    assert found["median"] == pytest.approx(0.1)
    assert found["p90"] == pytest.approx(0.26)
    assert found["coverage"] == pytest.approx(2 / 3)
    assert found["hi_lo"] == pytest.approx(2.0)
    assert bench.ideal(cases[0])["mean"] == pytest.approx(10.0)
