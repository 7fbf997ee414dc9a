"""Training of the forecaster of run times, and its benchmark: what is seen, and what is scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import bench_worker_scaling as bench
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import train_worker_scaling as script

WORKERS = np.array([1.0, 2.0, 4.0, 8.0, 16.0])


def job(family: str, per_doubling: float = 0.0) -> script.Job:
    seconds = 160 / WORKERS * WORKERS**per_doubling
    return script.Job(name=family, source="s", family=family, workers=WORKERS, seconds=seconds,
                      replicate=np.zeros(5))  # fmt: skip


def test_a_target_is_the_log_of_how_much_longer_than_ideal_the_job_took() -> None:
    per_doubling = 0.1
    found = [(row, target) for row, target, *_ in script.examples_of(job("a", per_doubling))]

    names = next(script.examples_of(job("a")))[-1]
    for row, target in found:
        assert target == pytest.approx(per_doubling * row[names.index("ahead")])


def cuts(of: script.Job) -> dict[tuple[int, int], tuple[float, bool]]:
    """Weight of each example and whether it tells the spread, by (largest count seen, count asked)."""
    found = {}
    for row, _, weight, tells, names in script.examples_of(of):
        seen, ahead = (np.exp(row[names.index(name)]) for name in ("log_workers", "ahead"))
        found[round(seen), round(seen * ahead)] = (weight, tells)
    return found


def test_only_the_largest_count_asked_from_up_to_half_of_it_weighs_fully() -> None:
    assert {key for key, (weight, _) in cuts(job("a")).items() if weight == 1.0} == {(2, 16), (4, 16), (8, 16)}


def test_the_most_seen_within_a_half_or_a_quarter_and_what_is_asked_from_far_tell_the_spread() -> None:
    uneven = replace(job("a"), workers=np.array([1.0, 2.0, 3.0, 4.0, 16.0]))

    assert {key for key, (_, tells) in cuts(uneven).items() if tells} == {(2, 16), (4, 16)}


def test_made_up_jobs_are_in_no_family_and_never_held_out() -> None:
    table = script.build_table([job("a"), job("b", 0.1)])

    assert set(table.group) == {"", "a", "b"}
    assert set(table.of(["a"]).group) == {"a"}
    assert set(table.of(["a"], without=True).group) == {"", "b"}


def test_balanced_families_keep_the_weight_of_all_and_of_made_up_jobs() -> None:
    table = script.build_table([job("a"), job("a"), job("a"), job("b", 0.1)])

    even = table.balanced(1.0)

    family = {name: even.weight[even.group == name].sum() for name in ("a", "b", "")}
    assert family["a"] == pytest.approx(family["b"])
    assert even.weight.sum() == pytest.approx(table.weight.sum())
    assert family[""] == pytest.approx(table.weight[table.group == ""].sum())
    assert table.balanced(0.0).weight == pytest.approx(table.weight)


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


def test_a_job_that_looked_linear_may_turn_out_not_to_be() -> None:
    bent = replace(job("a"), seconds=np.array([160.0, 80.0, 40.0, 30.0, 30.0]))

    (case,) = bench.cases_of([bent], 4)

    assert case.looks_linear
    assert not case.is_near_linear


def write_sizes(folder: Path) -> None:
    size, workers = (g.ravel() for g in np.meshgrid([50, 80, 100], [2, 4, 6, 12]))
    columns = {"job": ["a"] * 12, "context": ["m"] * 12, "size": size, "instance_count": workers,
               "gross_runtime": 5 + 3 * size / workers + size / 10}  # fmt: skip
    pq.write_table(pa.table(columns), folder / "size_and_workers.parquet")


def test_sizes_and_workers_are_asked_beyond_what_is_seen_and_ernest_fits_its_own_formula(tmp_path: Path) -> None:
    write_sizes(tmp_path)

    (case,) = bench.sized_cases_of(tmp_path)

    assert case.size is not None
    assert (case.size.max(), case.workers.max(), case.target_workers) == (0.8, 6.0, 12.0)
    assert case.took_s == pytest.approx(5 + 3 * 100 / 12 + 10)
    assert bench.ernest(case, with_size=True)["mean"] == pytest.approx(case.took_s, rel=1e-6)
    assert not case.looks_linear
