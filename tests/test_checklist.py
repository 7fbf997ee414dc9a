"""The checklist reports what was measured and never passes what was not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.checklist import BENCHMARK, DATA_QUALITY, MONITORING, SINGLE_MACHINE, WORTH_IT, checklist
from orchestrator.planner import plan_grid
from orchestrator.quality.findings import Finding, Findings
from orchestrator.results import (
    Approval,
    CheckItem,
    DataPathFinding,
    DataQuality,
    Drill,
    IngestMeasurement,
    Interval,
    Rate,
)
from orchestrator.spec import AlertSpec


def items(
    synthetic: Any, *, probability: float | None = 0.95, keep: Any = lambda trial: True, **other: Any
) -> dict[str, CheckItem]:
    spec = replace(synthetic.spec(sweep=other.pop("sweep", None)), alerts=other.pop("alerts", ()))
    planned = [trial for trial in plan_grid(spec, synthetic.data) if trial.model == "cnn"]
    values: dict[str, Any] = {
        "planned": planned, "n_failed": 0, "probability": probability, "data": synthetic.data,
        "results": synthetic.results(spec, trials=[t for t in planned if keep(t)]),
    }  # fmt: skip
    values |= other
    found = checklist(spec, values.pop("data"), values.pop("results"), **values)
    return {item.name: item for item in found}


HELD = (Interval(low=0.80, median=0.85, high=0.90, mean=0.85), 0.86)
"""A backtest that held."""


def test_a_complete_sweep_passes_what_it_measured_and_nothing_else(synthetic: Any) -> None:
    found = items(synthetic, backtest=HELD)

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
    assert items(synthetic, keep=keep, backtest=HELD)[BENCHMARK].status == status


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
    assert item.evidence.startswith("near duplicates: 421 of 40,000 training images; versioned by fingerprint ffff")
    assert item.evidence.endswith(", dvc.md5 0123abcd")


def test_the_probe_says_what_the_trials_could_not(synthetic: Any) -> None:
    probed = DataPathFinding(
        basis="probe", header=(), rows=(), lines=(), headroom="the loader delivers 10 times what one worker computes",
        idle_share=0.3,
    )  # fmt: skip

    item = items(synthetic, data_path=probed)[SINGLE_MACHINE]

    assert item.status == "pass"  # the trials themselves hardly waited
    assert "by the probe, the loader delivers 10 times what one worker computes" in item.evidence


def looked_through(**statuses: Any) -> DataQuality:
    """What the data's own findings say, by kind; the sentence is theirs, not ours."""
    findings = tuple(
        Finding(
            kind=kind.replace("_", " "),
            status=status,
            count=int(status != "pass"),
            n_looked_at=9,
            sentence=f"{kind} found",
        )
        for kind, status in statuses.items()
    )
    found = Findings(fingerprint="f", n_train=9, n_validation=9, n_images_looked_at={}, findings=findings)
    return DataQuality(status=found.status, evidence=found.evidence)


@pytest.mark.parametrize(
    ("missing", "status"), [("label_noise", "warn"), ("exact_leakage", "warn"), ("near_duplicates", "pass")]
)
def test_data_pass_only_when_every_essential_look_was_taken(synthetic: Any, missing: str, status: str) -> None:
    kinds = {"exact_leakage": "pass", "label_noise": "pass", "near_duplicates": "pass", "class_balance": "pass"}
    quality = looked_through(**(kinds | {missing: "not_checked"}))

    item = items(synthetic, data=replace(synthetic.data, quality=quality))[DATA_QUALITY]

    assert quality.status == "pass"
    assert item.status == status
    assert item.evidence.startswith(
        f"never looked for {missing.replace('_', ' ')}; 3 checks found nothing; versioned by"
    )


def test_a_fault_of_the_data_stays_a_fault_beside_a_gap(synthetic: Any) -> None:
    quality = looked_through(exact_leakage="fail", label_noise="not_checked", class_balance="pass")

    item = items(synthetic, data=replace(synthetic.data, quality=quality))[DATA_QUALITY]

    assert item.status == "fail"
    assert item.evidence.startswith("exact_leakage found; never looked for label noise; 1 check found nothing")


def rate(per_s: float) -> Rate:
    return Rate(repeats=(per_s, per_s, per_s))


def probe(*, compute: float = 1000.0, loader: float = 10_000.0, together: float | None = 950.0, **other: Any) -> Any:
    values: dict[str, Any] = {
        "device": "cpu", "batch_size": 32, "compute": rate(compute), "loader": rate(loader), "n_rows": 1000,
        "end_to_end": None if together is None else rate(together),
    }  # fmt: skip
    return IngestMeasurement(**(values | other))


@pytest.mark.parametrize(
    ("measured", "status", "word"),
    [
        (probe(), "pass", "a step reaches 95% of its own speed"),
        # In turns: 1 / (1/1000 + 1/10000) = 909 a second, of which loading is 9%.
        (probe(together=909.0), "pass", "91%"),
        # In turns with a loader as fast as the step: half of the time is waiting, not more.
        (probe(loader=1000.0, together=500.0), "warn", "the loader explains 50%"),
        (probe(loader=500.0, together=333.0), "fail", "the loader explains 67%"),
        # Read ahead: the loader's rate is all there is.
        (probe(loader=400.0, together=400.0), "fail", "the loader explains 60%"),
        (probe(compute=90_000, loader=2_000_000, together=58_000), "warn", "and the loader is not why"),
        (probe(loader=1100.0, together=990.0), "warn", "the loader could feed 1.1 such workers"),
        (probe(together=None), "not_checked", "were not measured"),
    ],
)
def test_the_probe_tells_how_much_of_a_step_is_training(
    synthetic: Any, measured: IngestMeasurement, status: str, word: str
) -> None:
    item = items(synthetic, keep=lambda trial: trial.workers == 1, probe=measured)[SINGLE_MACHINE]

    assert item.status == status, item.evidence
    assert word in item.evidence


@pytest.mark.parametrize(
    ("accelerator", "status", "word"),
    [
        ({"mixed_precision": rate(1050.0), "memory_share": 0.8}, "pass", "bfloat16 would hardly help"),
        ({"mixed_precision": rate(1900.0), "memory_share": 0.8}, "warn", "the same step at 1.9 times the speed"),
        ({"mixed_precision": rate(1050.0), "memory_share": 0.03}, "warn", "takes 3% of the accelerator's memory"),
        ({}, "pass", "bfloat16 was not measured"),
    ],
)
def test_an_accelerators_precision_and_memory_that_lie_idle_are_a_warning(
    synthetic: Any, accelerator: dict[str, Any], status: str, word: str
) -> None:
    item = items(synthetic, probe=probe(device="cuda:0", **accelerator))[SINGLE_MACHINE]

    assert item.status == status, item.evidence
    assert word in item.evidence


def test_a_processor_is_not_blamed_for_what_only_accelerators_have(synthetic: Any) -> None:
    assert "no accelerator" in items(synthetic, probe=probe())[SINGLE_MACHINE].evidence


def test_what_is_wrong_stands_first(synthetic: Any) -> None:
    item = items(synthetic, probe=probe(device="cuda:0", mixed_precision=rate(1900.0), memory_share=0.8))[
        SINGLE_MACHINE
    ]

    assert item.evidence.startswith("bfloat16 would run")


def test_the_next_worker_count_is_judged_and_not_the_widest(synthetic: Any) -> None:
    sweep = {"workers": (1, 2, 8)}

    item = items(synthetic, sweep=sweep, probe=probe())[SINGLE_MACHINE]

    assert "2 workers reach 9" in item.evidence
    assert "8 workers" not in item.evidence


def test_a_backtest_that_missed_fails_and_one_that_could_not_be_made_warns(synthetic: Any) -> None:
    missed = items(synthetic, backtest=(HELD[0], 0.95))[BENCHMARK]
    untested = items(synthetic)[BENCHMARK]

    assert (missed.status, untested.status) == ("fail", "warn")
    assert "backtest MISSED: the smaller sizes foretold 80.0% to 90.0% (10.0 points wide)" in missed.evidence
    assert "no backtest" in untested.evidence


def test_an_adaptive_sweep_need_not_run_the_whole_grid(synthetic: Any) -> None:
    def part(trial: Any) -> bool:
        return trial.workers == 1 and (trial.seed == 0 or trial.fraction == 0.5)

    grid = items(synthetic, keep=part, backtest=HELD)[BENCHMARK]
    adaptive = items(synthetic, keep=part, backtest=HELD, sweep={"strategy": "adaptive"})[BENCHMARK]

    assert (grid.status, adaptive.status) == ("fail", "pass")
    assert "7 trials finished, chosen from a grid of 20, 0 failed" in adaptive.evidence


@pytest.mark.parametrize("keep", [lambda t: t.fraction < 0.2, lambda t: t.seed == 0], ids=["two fractions", "one seed"])
def test_an_adaptive_sweep_still_needs_three_sizes_and_a_repeat(synthetic: Any, keep: Any) -> None:
    assert items(synthetic, keep=keep, backtest=HELD, sweep={"strategy": "adaptive"})[BENCHMARK].status == "fail"


def drill(name: Any, passed: bool = True) -> Drill:
    return Drill(name=name, passed=passed, evidence="as rehearsed", at="2026-11-24T00:00:00+00:00")


ALL = (drill("alert"), drill("restart"), drill("restore"))


@pytest.mark.parametrize(
    ("drills", "status", "start"),
    [
        ((), "not_checked", "no alert channel is set up; restart was never rehearsed"),
        (ALL, "pass", "alert passed on 2026-11-24: as rehearsed"),
        (ALL[1:], "warn", "restart passed"),
        ((*ALL[:2], drill("restore", passed=False)), "fail", "restore FAILED on 2026-11-24"),
        ((drill("restart", passed=False),), "fail", "restart FAILED"),
    ],
)
def test_monitoring_is_what_the_drills_showed(synthetic: Any, drills: Any, status: str, start: str) -> None:
    alerts = (AlertSpec(url="https://hooks.example/SECRET"),) if drills else ()

    item = items(synthetic, drills=drills, alerts=alerts)[MONITORING]

    assert item.status == status
    assert item.evidence.startswith(start)


def test_an_alert_that_was_answered_counts_no_more_once_its_channel_is_gone(synthetic: Any) -> None:
    item = items(synthetic, drills=ALL)[MONITORING]

    assert item.status == "warn"
    assert "no alert channel is set up" in item.evidence


def test_a_channel_that_was_never_tried_is_told_apart_from_none(synthetic: Any) -> None:
    alerts = (AlertSpec(url="https://hooks.example/SECRET"),)

    evidence = items(synthetic, drills=ALL[1:], alerts=alerts)[MONITORING].evidence

    assert evidence.endswith("alert was never rehearsed")
    assert "SECRET" not in evidence


@pytest.mark.parametrize(
    ("decision", "probability", "status"),
    [("approved", 0.95, "pass"), ("approved", 0.5, "warn"), ("rejected", 0.95, "fail")],
)
def test_a_persons_answer_is_told_and_a_rejection_decides(
    synthetic: Any, decision: Any, probability: float, status: str
) -> None:
    answer = Approval(decision=decision, by="Ada", reason="why not", inputs_digest="d", at="2026-11-24T00:00:00")

    item = items(synthetic, probability=probability, approval=answer)[WORTH_IT]

    assert item.status == status
    assert item.evidence.endswith(f"{decision} by Ada: why not")


def test_before_a_forecast_nobody_says_what_it_is_worth(synthetic: Any) -> None:
    assert items(synthetic, probability=None)[WORTH_IT].status == "not_checked"
