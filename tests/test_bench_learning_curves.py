"""The benchmark of learning-curve forecasts: its figures on tasks small enough to work out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bench_learning_curves as bench
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parent.parent


def curve(sizes: list[float], *, seeds: int = 1, source: str = "lcdb11") -> Any:
    n = np.repeat(np.array(sizes), seeds)
    value = np.round(n**-0.5, 6) + np.tile(np.arange(seeds), len(sizes)) * 1e-3
    return bench.Curve(source=source, name="c", dataset="d", family="d", is_error=True, n=n, value=value)


def task(dataset: str, last: float, target: float, share: float = 0.5) -> Any:
    return bench.Task(
        group="lcdb11",
        curve=f"{dataset} {last} {target}",
        dataset=dataset,
        family=dataset,
        share=share,
        is_error=True,
        n=np.array([10.0, 20.0]),
        value=np.array([0.5, last]),
        target_n=40.0,
        target=target,
    )


def answers(rows: list[list[float]]) -> Any:
    """From rows of mean, low, median, high."""
    told = np.array(rows)
    return bench.Answers(mean=told[:, 0], quantiles=told[:, 1:], failed=np.zeros(len(told), dtype=bool))


def test_sizes_are_thinned_from_the_largest_down_to_a_ratio_of_1_4() -> None:
    sizes = np.array([10.0, 12.0, 14.0, 19.0, 20.0, 27.0, 28.0, 40.0])

    assert bench.thinned(sizes) == [10.0, 14.0, 20.0, 28.0, 40.0]


def test_a_task_shows_three_seeds_of_each_size_within_the_share_and_asks_for_the_mean_of_all() -> None:
    whole = curve([1.0, 2.0, 4.0, 8.0, 16.0, 32.0], seeds=5, source="other")

    tasks = bench.tasks_of(whole)

    assert [each.share for each in tasks] == [0.25, 0.5]  # 5 and 10% leave fewer than 4 sizes
    assert tasks[0].n.tolist() == [1, 1, 1, 2, 2, 2, 4, 4, 4, 8, 8, 8]
    assert tasks[0].target == pytest.approx(32**-0.5 + 2e-3, abs=1e-6)
    assert tasks[0].last == pytest.approx(8**-0.5 + 1e-3, abs=1e-6)


def test_a_ladder_shows_the_nearest_sizes_and_skips_shares_that_none_is_near() -> None:
    sizes = np.array([10.0, 21.0, 50.0, 70.0, 109.0, 180.0, 1000.0])

    assert bench.ladder(sizes) == [10.0, 21.0, 50.0, 109.0, 180.0]
    assert bench.ladder(np.array([10.0, 24.0, 50.0, 70.0, 109.0, 180.0, 1000.0])) == [10.0, 50.0, 109.0, 180.0]


def test_a_curve_of_five_sizes_is_not_asked_about() -> None:
    assert bench.tasks_of(curve([1.0, 2.0, 4.0, 8.0, 16.0])) == []


def test_error_coverage_width_and_pinball_are_those_worked_out_by_hand() -> None:
    tasks = [task("a", 0.40, 0.30), task("b", 0.40, 0.20, share=0.25)]
    told = answers([[0.35, 0.25, 0.31, 0.45], [0.30, 0.21, 0.24, 0.31]])

    found = bench.score(tasks, told)

    assert found["mae_pp"] == pytest.approx((1 + 4) / 2)  # of the medians
    assert found["coverage"] == 0.5
    assert found["coverage_at"] == {"25%": 0.0, "50%": 1.0}
    assert found["width_pp"] == pytest.approx((20 + 10) / 2)
    first = 0.05 * 5 + 0.5 * 1 + 0.05 * 15
    second = 0.95 * 1 + 0.5 * 4 + 0.05 * 11
    assert found["pinball_pp"] == pytest.approx((first + second) / 3 / 2)


def test_without_quantiles_the_mean_is_scored_and_nothing_is_said_of_intervals() -> None:
    found = bench.score([task("a", 0.4, 0.3), task("b", 0.4, 0.2)], answers([[0.35, *[np.nan] * 3]] * 2))

    assert found["mae_pp"] == pytest.approx((5 + 15) / 2)
    assert found["coverage"] is None
    assert found["pinball_pp"] is None
    assert found["coverage_at"] == {"50%": None}


def test_regret_is_the_net_gain_given_away() -> None:
    gain = np.array([0.0, 1.0, 2.0, 3.0, 6.0])  # the median is 2: worth it are 3 and 6, net 1 and 4

    assert bench.regret(gain, gain, 0.5) == 0
    assert bench.regret(gain, np.zeros(5), 0.5) == 1
    assert bench.regret(gain, np.array([0.0, 0.0, 0.0, 9.0, 0.0]), 0.5) == pytest.approx(1 - 1 / 5)
    assert bench.regret(gain, np.array([0.0, 9.0, 0.0, 0.0, 9.0]), 0.5) == pytest.approx(1 - (4 - 1) / 5)
    assert bench.regret(np.zeros(3), np.ones(3), 0.5) is None


def test_decisions_are_made_on_the_mean_and_not_on_the_median() -> None:
    tasks = [task("a", 0.4, 0.4), task("b", 0.4, 0.3), task("c", 0.4, 0.1)]
    told = answers([[0.4, 0.4, 0.4, 0.4], [0.4, 0.4, 0.4, 0.4], [0.1, 0.05, 0.4, 0.4]])

    assert bench.score(tasks, told)["regret_at"]["50%"] == pytest.approx(0)


@pytest.mark.parametrize("within", [0.0, 1.0])
def test_clustered_standard_error_agrees_with_resampling_of_the_clusters(within: float) -> None:
    rng = np.random.default_rng(1)
    cluster = np.repeat(np.arange(60), rng.integers(1, 20, 60))
    x = rng.normal(size=60)[cluster] + within * rng.normal(size=len(cluster))
    total, count = np.bincount(cluster, x), np.bincount(cluster)
    drawn = rng.integers(0, 60, (20_000, 60))

    resampled = float((total[drawn].sum(1) / count[drawn].sum(1)).std())

    # The ratio of sums is linearised by the one and resampled by the other: 5% at 60 clusters.
    assert bench.clustered_se(x, cluster.astype(str)) == pytest.approx(resampled, rel=0.05)


def test_a_cluster_of_one_row_each_gives_the_usual_standard_error() -> None:
    x = np.random.default_rng(0).normal(size=50)

    assert bench.clustered_se(x, np.arange(50).astype(str)) == pytest.approx(x.std(ddof=1) / np.sqrt(50))
    assert bench.clustered_se(x, np.full(50, "one")) is None


def test_differences_pair_the_same_tasks() -> None:
    tasks = [task("a", 0.4, 0.3), task("b", 0.4, 0.3), task("c", 0.4, 0.3)]
    ours = answers([[0.30, 0.2, 0.30, 0.4], [0.31, 0.2, 0.31, 0.4], [0.33, 0.2, 0.33, 0.4]])
    other = answers([[0.31, *[np.nan] * 3], [0.33, *[np.nan] * 3], [0.36, *[np.nan] * 3]])

    found = bench.paired(tasks, ours, other)

    assert found["error"]["mean_pp"] == pytest.approx(-2)
    assert found["error"]["se_pp"] == pytest.approx(1 / np.sqrt(3))
    assert found["error"]["ratio"] == pytest.approx(-2 * np.sqrt(3))
    assert found["pinball"] is None


def test_the_last_value_and_the_families_forecast_a_power_law_as_they_should() -> None:
    n = np.geomspace(10, 320, 6)
    shown = bench.Task(group="lcdb11", curve="c", dataset="d", family="d", share=0.5, is_error=True, n=n,
                       value=0.1 + 0.8 / n, target_n=640.0, target=0.1 + 0.8 / 640)  # fmt: skip

    told = {name: forecast(shown) for name, forecast in bench.forecasters([], []).items() if name != bench.OURS}

    assert told["last value"][0] == shown.value[-1]
    for name in ("power law with floor", "families, averaged by fit"):
        assert told[name][0] == pytest.approx(shown.target, abs=1e-3)  # the exponent's grid


def test_a_limit_keeps_the_same_curves_and_a_peer_that_fails_is_counted(tmp_path: Path) -> None:
    names = [f"lcdb11/{i}" for i in range(9) for _ in range(6)]
    rows = {"source": ["lcdb11"] * 54, "curve_id": names, "dataset": names, "metric": ["error_rate"] * 54,
            "n": [2**j for _ in range(9) for j in range(6)], "seed": [-1] * 54,
            "value": [0.5 / 2**j for _ in range(9) for j in range(6)],
            "model": ["tree"] * 54, "stderr": [0.01] * 54}  # fmt: skip
    pq.write_table(pa.table(rows), tmp_path / "lcdb11.parquet")
    peer = tmp_path / "peer.py"
    peer.write_text("def broken(n, value, target_n, bounds):\n    raise ValueError\n", encoding="utf-8")

    few = bench.load_curves(tmp_path, limit=4)
    broken = bench.forecasters([], [f"{peer}:broken"])["broken"]

    assert [each.name for each in few] == [each.name for each in bench.load_curves(tmp_path, limit=4)]
    assert len({each.name for each in few}) == 4
    assert np.isnan(broken(bench.tasks_of(few[0])[0])[0])


def test_kept_networks_of_other_data_or_code_are_not_used(tmp_path: Path) -> None:
    kept = tmp_path / "networks"
    bench.write_folds(kept, [(["a"], None)], b"1" * 32)

    assert bench.read_folds(kept, b"1" * 32) == [(["a"], None)]
    assert bench.read_folds(kept, b"2" * 32) == []
    kept.write_bytes(b"something else")
    with pytest.raises(SystemExit, match="name another file"):
        bench.read_folds(kept, b"1" * 32)


def test_the_stored_benchmark_prints_as_a_table_of_120_columns_and_names_no_path() -> None:
    path = ROOT / "examples" / "evidence" / "learning_curves" / "benchmark.json"
    record = json.loads(path.read_text(encoding="utf-8"))

    shown = f"{bench.table(record)}\n{bench.difference_table(record)}"

    assert max(len(line) for line in shown.splitlines()) <= 120
    assert '"/' not in path.read_text(encoding="utf-8")
    assert not [each["name"] for each in record["forecasters"] if "/" in each["name"] or ":" in each["name"]]
