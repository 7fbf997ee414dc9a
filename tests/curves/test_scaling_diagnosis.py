"""What more workers bring: the planted knee is found, named and said, in plain data."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from orchestrator.curves.scaling_diagnosis import ScalingDiagnosis, diagnose_scaling
from orchestrator.curves.time_model import TimeMeasurement, fit_time_model
from orchestrator.errors import EvidenceError

BATCH, EPOCHS, N = 64, 5, 6400
COMPUTE, SYNC = 2e-3, 5e-3
"""Planted: seconds per sample, and per step."""


def run(workers: int, *, source_s: float = 0.0) -> TimeMeasurement:
    """``source_s``: seconds per sample of a source that all workers share."""
    own = COMPUTE * N * EPOCHS / workers
    return TimeMeasurement(
        n_samples=N,
        samples_seen=N * EPOCHS,
        epochs=EPOCHS,
        workers=workers,
        steps=N // BATCH * EPOCHS,
        startup_s=0.5,
        compute_s=own,
        data_wait_s=max(source_s * N * EPOCHS - own, 0.0),
        gradient_sync_s=SYNC * (N // BATCH) * EPOCHS if workers > 1 and not source_s else 0.0,
        validation_s=0.0,
        checkpoint_s=0.0,
    )


def diagnose(
    measured: tuple[int, ...], candidates: tuple[int, ...], *, source_s: float = 0.0, demand: float = 0.5
) -> ScalingDiagnosis:
    return diagnose_scaling(
        fit_time_model([run(w, source_s=source_s) for w in measured]),
        n_samples=N, epochs=EPOCHS, global_batch_size=BATCH, candidates=candidates, min_marginal_efficiency=demand,
    )  # fmt: skip


def test_speedup_and_efficiency_are_those_planted_within_2_percent() -> None:
    found = diagnose((1, 2, 4, 8), (8, 2, 1, 4, 4))

    assert [each.workers for each in found.candidates] == [1, 2, 4, 8]
    for each in found.candidates:
        w = each.workers
        planted = 0.5 + 64 / w + (2.5 if w > 1 else 0.0)
        assert each.median_total_s == pytest.approx(planted, rel=0.02)
        assert each.speedup == pytest.approx(64.5 / planted, rel=0.02)
        assert each.parallel_efficiency == pytest.approx(64.5 / planted / w, rel=0.02)
        assert each.measured


def test_what_checkpoints_and_validation_take_of_the_whole_is_told() -> None:
    runs = [replace(run(w), validation_s=6.4 / w, checkpoint_s=1.6) for w in (1, 2)]

    one, two = diagnose_scaling(
        fit_time_model(runs), n_samples=N, epochs=EPOCHS, global_batch_size=BATCH, candidates=(1, 2)
    ).candidates

    assert one.validation_share == pytest.approx(6.4 / (64.5 + 8.0), rel=0.02)
    assert one.checkpoint_share == pytest.approx(1.6 / (64.5 + 8.0), rel=0.02)
    assert two.checkpoint_share == pytest.approx(1.6 / (32 + 2.5 + 0.5 + 3.2 + 1.6), rel=0.02)


def test_where_sync_takes_over_is_named_and_the_largest_useful_count_is_the_time_models() -> None:
    found = diagnose((1, 2, 4, 8, 16, 32, 64), (1, 2, 4, 8, 16, 32, 64))

    # 64 s to share against 2.5 s of sync and 0.5 s of start-up: 32 workers take 5 s, 16 take 7, 64 take 4.
    assert [each.bottleneck for each in found.candidates] == ["compute"] * 5 + ["gradient sync"] * 2
    assert found.largest_useful_workers == 16
    assert "16 workers at most: the step to 32 brings +40% speed for 100% more workers" in found.findings[0]
    assert any(said.startswith("on 32 to 64 workers gradient sync leads") for said in found.findings)


def test_an_ingest_plateau_is_said_and_what_was_not_measured_too() -> None:
    found = diagnose((1, 2, 4, 8), (1, 2, 4, 8, 16), source_s=1.2e-3)

    assert found.largest_useful_workers == 2
    assert found.candidates[-1].bottleneck == "data wait"
    assert found.candidates[-1].bottleneck_share == pytest.approx(1 - 2e-3 / 16 / 1.2e-3, abs=0.02)
    assert not found.candidates[-1].measured
    assert any("on 4 to 16 workers data wait leads" in said for said in found.findings)
    assert not any("take longer" in said for said in found.findings)
    assert any(said.startswith("16 not measured: extrapolated from 1, 2, 4, 8") for said in found.findings)


def test_a_step_that_slows_the_run_down_is_said() -> None:
    model = fit_time_model([run(1), run(2), run(8), _slowed(run(16))])

    found = diagnose_scaling(
        model, n_samples=N, epochs=EPOCHS, global_batch_size=BATCH, candidates=(1, 2, 8, 16), min_marginal_efficiency=0
    )

    assert found.largest_useful_workers == 8
    assert "the fastest run is on 8 workers; on 16 it would take longer" in found.findings


def test_where_every_step_pays_it_is_said() -> None:
    found = diagnose((1, 2, 4), (1, 2, 4))

    assert found.findings[0].startswith("every step up to 4 workers pays: speedup 3.3")


def test_from_one_worker_alone_it_is_said_that_sync_is_not_known() -> None:
    assert any(said.startswith("gradient sync was never measured") for said in diagnose((1,), (1, 2, 4)).findings)
    assert not any("never measured" in said for said in diagnose((1,), (1,)).findings + diagnose((1, 2), (4,)).findings)


def test_the_record_is_plain_data() -> None:
    record = asdict(diagnose((1, 2), (1, 2, 4)))

    assert json.loads(json.dumps(record))["candidates"][2]["workers"] == 4
    for each in record["candidates"]:
        assert {type(value) for value in each.values()} <= {int, float, str, bool}


@pytest.mark.parametrize("candidates", [(), (0, 1)])
def test_no_candidate_or_one_below_1_is_refused(candidates: tuple[int, ...]) -> None:
    with pytest.raises(EvidenceError):
        diagnose((1, 2), candidates)


def _slowed(measured: TimeMeasurement) -> TimeMeasurement:
    return replace(measured, gradient_sync_s=30.0)
