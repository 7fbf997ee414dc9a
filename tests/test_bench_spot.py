"""The benchmark of spot: replays and scores worked out by hand, and statistics that come back from made-up markets."""

from __future__ import annotations

import json
import math
from pathlib import Path

import bench_spot as bench
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

PLAN = bench.Plan(work_s=100.0, interval_s=40.0, checkpoint_s=10.0, restart_s=5.0)


def runs(*lengths: float, starts_up: bool = True) -> bench.Runs:
    return bench.Runs(is_up=(np.arange(len(lengths)) % 2 == 0) == starts_up, length_s=np.array(lengths))


def trace(dataset: str, seed: int, *, mean_up: float = 20.0, mean_down: float = 10.0, n: int = 400) -> bench.Trace:
    """Geometric up- and down-times, in ticks of 6 min."""
    rng = np.random.default_rng(seed)
    lengths = np.stack([rng.geometric(1 / mean_up, n), rng.geometric(1 / mean_down, n)], axis=1).ravel()
    counts = np.repeat(np.tile([1, 0], n), lengths)
    return bench.Trace(kind="availability", nodes=1, dataset=dataset, zone=f"z{seed}", gap_s=360.0, counts=counts)


def test_a_job_that_is_not_interrupted_is_billed_for_its_work_and_three_checkpoints() -> None:
    assert bench.replay(runs(130.0), PLAN) == (130.0, 130.0)
    assert bench.replay(runs(129.0), PLAN) is None


def test_a_job_loses_what_it_did_since_the_last_checkpoint_and_restarts() -> None:
    # 70 s: one segment saved, 20 s lost; 30 s down; then 5 s to restart, 60 s left and two checkpoints.
    assert bench.replay(runs(70.0, 30.0, 85.0), PLAN) == (155.0, 185.0)
    # An up-time too short for anything is billed all the same; a job submitted while down waits.
    assert bench.replay(runs(7.0, 70.0, 30.0, 3.0, 30.0, 85.0, starts_up=False), PLAN) == (158.0, 225.0)


def test_runs_of_ticks_are_found_and_their_means_leave_the_last_run_open() -> None:
    found = bench.runs_of(np.array([1, 1, 0, 1, 1, 1, 0, 0, 1, 0, 1, 1], dtype=bool), 10.0)

    assert found.length_s.tolist() == [20, 10, 30, 20, 10, 10, 20]
    assert found.mean_s(True) == pytest.approx(80 / 3)
    assert found.mean_s(False) == pytest.approx(40 / 3)
    assert runs(5.0, 5.0, 5.0).mean_s(True) is None


def test_statistics_of_steady_markets_have_their_means_and_no_drift() -> None:
    found = bench.derive([trace(f"d{seed}", seed) for seed in range(6)])

    assert found.mean_uptime_h == pytest.approx(2.0, rel=0.1)
    assert found.mean_downtime_h == pytest.approx(1.0, rel=0.1)
    assert found.uptime_drift < 0.2
    assert found.downtime_drift < 0.2
    assert found.uptime_error < 0.2
    assert found.downtime_shape == pytest.approx(1.0, abs=0.2)  # a geometric time is close to exponential


def test_drift_between_halves_is_recovered_and_the_last_hours_count_more_for_it() -> None:
    def drifting(seed: int) -> bench.Trace:
        before, after = (trace("d", seed + k, mean_up=m, n=150) for k, m in ((0, 20.0), (50, 20.0 * math.e)))
        middle = min(len(before.counts), len(after.counts))
        return bench.Trace(kind="availability", nodes=1, dataset=f"d{seed}", zone="z", gap_s=360.0,
                           counts=np.concatenate([before.counts[:middle], after.counts[:middle]]))  # fmt: skip

    found = bench.derive([drifting(seed) for seed in range(6)])

    assert found.uptime_drift == pytest.approx(1.0, abs=0.2)
    assert found.half_life_h < 150


def test_a_start_that_cannot_finish_ends_the_starts_and_too_few_drop_the_job() -> None:
    short = trace("d", 1, n=60)

    kept = bench.replays(short, bench.Plan(work_s=4 * 3600.0, interval_s=900.0))
    dropped = bench.replays(short, bench.Plan(work_s=400 * 3600.0, interval_s=900.0))

    assert kept is not None
    assert len(kept.wall_s) > 100
    assert (kept.wall_s >= kept.billed_s).all()
    assert dropped is None


def test_scores_are_those_of_forecasts_worked_out_by_hand() -> None:
    one, two = trace("a", 1), trace("b", 2)
    came = {"billed_s": np.array([90.0, 110.0]), "wall_s": np.array([100.0, 300.0])}
    cases = [bench.Case(trace=t, plan=PLAN, **came) for t in (one, one, two)]
    draws = np.stack([np.linspace(100, 120, 101), np.linspace(50, 250, 101)], axis=1)
    told = [bench.Forecast(billed_s=b, wall_s=w, draws=draws) for b, w in ((110, 200), (130, 300), (100, 400))]

    found = bench.score(cases, told)

    assert found["median_traces"] == pytest.approx([0.1, 0.625])
    assert found["median_jobs"] == pytest.approx([0.1, 0.5])
    assert found["coverage"] == pytest.approx([0.5, 0.5])
    assert found["hi_lo"] == pytest.approx([119 / 101, 240 / 60])


def test_on_markets_without_drift_the_bill_is_forecast_within_a_few_percent_and_all_figures_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    for seed in range(4):
        made = bench.runs_of(trace("d", seed).is_up, 1.0)
        begin = np.r_[0, made.length_s.cumsum()[:-1]]
        rows += [{"kind": "availability", "nodes": 1, "dataset": f"d{seed}", "zone_gpu": "z", "gap_seconds": 360,
                  "run_index": i, "start_tick": int(b), "length_ticks": int(n), "available": int(u)}
                 for i, (u, n, b) in enumerate(zip(made.is_up, made.length_s, begin, strict=True))]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "traces.parquet")
    monkeypatch.setattr(bench, "N_STARTS", 20)
    monkeypatch.setattr(bench, "HALF_LIVES_H", (12.0, 150.0))
    monkeypatch.setattr(bench, "PRIOR_COUNTS", (2.0,))
    monkeypatch.setattr("sys.argv", ["bench_spot.py", str(tmp_path), "--json"])

    bench.main()

    found = json.loads(capsys.readouterr().out)
    scores = found["groups"]["one instance's availability"]["forecasters"]
    assert scores[bench.OURS]["median_traces"][0] < 0.03
    assert scores["Poisson, true rates (oracle)"]["median_traces"][0] < 0.03
    assert scores["no preemption"]["ours_minus_it"][1][0] < 0
    assert found["checks"]["expected time against simulation"] < 0.0015
    assert found["checks"]["Young's interval over the best"] < 0.028
    bench._print(found)
    assert "ours minus it" in capsys.readouterr().out
