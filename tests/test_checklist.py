"""The checklist reports what was measured and never passes what was not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.checklist import BENCHMARK, DATA_QUALITY, MONITORING, SINGLE_MACHINE, WORTH_IT, checklist
from orchestrator.planner import plan_grid
from orchestrator.results import CheckItem, DataPathFinding, DataQuality


def items(
    synthetic: Any, *, probability: float = 0.95, keep: Any = lambda trial: True, **other: Any
) -> dict[str, CheckItem]:
    spec = synthetic.spec()
    planned = [trial for trial in plan_grid(spec, synthetic.data) if trial.model == "cnn"]
    values: dict[str, Any] = {
        "planned": planned, "n_failed": 0, "probability": probability, "data": synthetic.data,
        "results": synthetic.results(spec, trials=[t for t in planned if keep(t)]),
    }  # fmt: skip
    values |= other
    found = checklist(spec, values.pop("data"), values.pop("results"), **values)
    return {item.name: item for item in found}


def test_a_complete_sweep_passes_what_it_measured_and_nothing_else(synthetic: Any) -> None:
    found = items(synthetic)

    assert {name: item.status for name, item in found.items()} == {
        SINGLE_MACHINE: "pass", DATA_QUALITY: "not_checked", BENCHMARK: "pass", MONITORING: "not_checked",
        WORTH_IT: "pass",
    }  # fmt: skip
    assert "were not checked" in found[SINGLE_MACHINE].evidence


def test_single_machine_evidence_states_the_measured_shares(synthetic: Any) -> None:
    evidence = items(synthetic)[SINGLE_MACHINE].evidence

    assert "waits for data 1.0% of its steady time" in evidence  # 1e-5 of 1.01e-3 s per sample
    assert "2 workers reach 9" in evidence  # sync of 1 ms per step of 32 samples: about 94%


def test_one_worker_alone_leaves_the_single_machine_unchecked(synthetic: Any) -> None:
    assert items(synthetic, keep=lambda trial: trial.workers == 1)[SINGLE_MACHINE].status == "not_checked"


def test_a_worker_that_waits_for_data_is_a_warning(synthetic: Any) -> None:
    slow_loader = synthetic.but(seconds_per_sample=2e-5)

    assert items(slow_loader)[SINGLE_MACHINE].status == "warn"


@pytest.mark.parametrize(
    ("keep", "status"),
    [
        (lambda t: t.fraction < 0.2, "fail"),
        (lambda t: t.seed == 0, "fail"),
        (lambda t: t.fraction < 0.35, "warn"),
        (lambda t: True, "pass"),
    ],
)
def test_the_benchmark_needs_three_fractions_with_two_seeds_and_warns_of_gaps(
    synthetic: Any, keep: Any, status: str
) -> None:
    assert items(synthetic, keep=keep)[BENCHMARK].status == status


def test_missing_and_failed_trials_are_counted(synthetic: Any) -> None:
    evidence = items(synthetic, keep=lambda t: t.fraction < 0.35, n_failed=2)[BENCHMARK].evidence

    assert "12 trials finished, 8 of 20 planned are missing, 2 failed" in evidence


def test_nothing_finished_fails_the_benchmark_and_checks_no_machine(synthetic: Any) -> None:
    found = items(synthetic, results=[])

    assert (found[BENCHMARK].status, found[SINGLE_MACHINE].status) == ("fail", "not_checked")


def test_data_without_fingerprint_fails(synthetic: Any) -> None:
    assert items(synthetic, data=replace(synthetic.data, fingerprint=""))[DATA_QUALITY].status == "fail"


@pytest.mark.parametrize(("probability", "status"), [(0.9, "pass"), (0.5, "warn"), (0.1, "fail")])
def test_worth_follows_the_probability(synthetic: Any, probability: float, status: str) -> None:
    assert items(synthetic, probability=probability)[WORTH_IT].status == status


@pytest.mark.parametrize("status", ["pass", "warn", "fail"])
def test_data_that_were_looked_through_have_the_status_of_what_was_found(synthetic: Any, status: Any) -> None:
    quality = DataQuality(status=status, evidence="near duplicates: 421 of 40,000 training images")
    data = replace(synthetic.data, quality=quality, versions={"dvc.md5": "0123abcd", "note": "no git work tree"})

    item = items(synthetic, data=data)[DATA_QUALITY]

    assert item.status == status
    assert item.evidence.endswith("dvc.md5 0123abcd; near duplicates: 421 of 40,000 training images")


def test_the_probe_says_what_the_trials_could_not(synthetic: Any) -> None:
    probed = DataPathFinding(
        basis="probe", header=(), rows=(), lines=(), headroom="the loader delivers 10 times what one worker computes",
        idle_share=0.3,
    )  # fmt: skip

    item = items(synthetic, data_path=probed)[SINGLE_MACHINE]

    assert item.status == "pass"  # the trials themselves hardly waited
    assert "by the probe, the loader delivers 10 times what one worker computes" in item.evidence
