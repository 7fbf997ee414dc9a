"""The check of DAWNBench's bills, on entries made up for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import check_dawnbench as check
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


def entry(**other: Any) -> dict[str, Any]:
    values = {
        "file": "a.json",
        "hw": "8 * V100 (AWS p3.16xlarge)",
        "cost": "24.48",
        "usd": None,
        "hours": 0.5,
        "epochs": 9,
    }
    return values | other


def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], *entries: dict[str, Any]) -> tuple[int, str]:
    columns = {key: pa.array([e[key] for e in entries], TYPES[key]) for key in TYPES}
    pq.write_table(pa.table(columns), tmp_path / "entries.parquet")
    code = check.main([str(tmp_path / "entries.parquet")])
    return code, capsys.readouterr().out


TYPES = {
    "file": pa.string(), "hw": pa.string(), "cost": pa.string(), "usd": pa.string(), "hours": pa.float64(),
    "epochs": pa.int64(),
}  # fmt: skip


@pytest.mark.parametrize(
    ("hours", "usd_per_hour", "published"), [(0.360461111, 20.6, 7.43), (243.99949777777786, 4.56, 1112.64)]
)
def test_published_bills_of_the_benchmark_are_reproduced_to_the_cent(
    hours: float, usd_per_hour: float, published: float
) -> None:
    # dawn.cs.stanford.edu/benchmark (cheapest ImageNet entry of 2020) and its post on the results of 2018-04-30.
    assert check.bill_usd(hours, usd_per_hour) == pytest.approx(published, abs=0.005)


def test_entries_without_hours_or_price_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(tmp_path, capsys, entry(), entry(cost=None), entry(hours=None), entry(usd="12.24"))

    assert code == 0
    assert "entries: 4, with hours and an hourly price: 2, of these with a stated bill: 1" in said
    assert "exactly): 2 of 2" in said


def test_a_stated_bill_that_is_another_one_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(tmp_path, capsys, entry(usd="12.25"))

    assert code == 1
    assert "exactly): 0 of 1" in said
    assert "no: 12.25" in said


def test_two_swapped_hourly_prices_are_flagged_and_right_ones_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = run(
        tmp_path, capsys,
        entry(), entry(hw="16 p3.16xlarge (AWS)", cost="391.68"), entry(hw="4 machines of my own", cost="1"),
        entry(hw="4 M60 / 488 GB (Amazon EC2 [g3.16xlarge])", cost="7.2", hours=9.0),
        entry(hw="8 K80 / 488 GB (Amazon EC2 [p2.8xlarge])", cost="4.56"),
    )  # fmt: skip

    assert code == 0  # the bills are right for the prices they state
    assert "compared with our table: 4; flagged: 2" in said
    assert "7.2 dollars is what aws/p2.8xlarge costs" in said
    assert "4.56 dollars is what aws/g3.16xlarge costs" in said
    assert said.count("hours equal epochs") == 1


@pytest.mark.parametrize(
    ("hardware", "machine", "machines"),
    [
        ("32 * V100 (4 machines - AWS p3.16xlarge)", ("aws/p3.16xlarge", "V100", 8), 4),
        ("Baidu Cloud Tesla 8*V100-16GB/448 GB/96 CPU", (None, "V100", 8), 1),
        ("Baidu Cloud Tesla V100*1-16GB/56 GB/12 CPU", (None, "V100", 1), 1),
        ("1 K80 / 30 GB / 8 CPU (Google Cloud)", (None, "K80", 1), 1),
        ("128 nodes with Xeon (Amazon EC2 [c5.18xlarge])", ("aws/c5.18xlarge", "", 1), 128),
        ("16 ecs.gn6e-c12g1.24xlarge (AlibabaCloud)", (None, "", 1), 1),
    ],
)
def test_machines_are_read_from_the_words(hardware: str, machine: tuple[str | None, str, int], machines: int) -> None:
    assert check.machine_of(hardware) == machine
    assert check.machines_of(hardware) == machines
