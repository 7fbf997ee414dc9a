"""A data path of known rates is diagnosed as what it is, priced, and vetoed only beyond the noise."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from orchestrator.cost.lines import UnitPrice
from orchestrator.ingest import (
    INGEST_HEADER,
    Hosts,
    IngestDiagnosis,
    IngestMeasurement,
    IngestPrices,
    Rate,
    diagnose,
    diagnose_trials,
    headroom_text,
    ingest_lines,
    ingest_rows,
    ingest_veto,
    rate_text,
)
from orchestrator.results import TimeSplit, TrainingResult, TrialResult
from orchestrator.spec import TrialSpec
from orchestrator.tracking.records import from_plain, to_plain

BYTES = 100_000.0
N_ROWS = 1_000_000
FITS = 1e12  # bytes of page cache that hold all rows
PRICES = IngestPrices(
    worker=UnitPrice(usd=2.0, unit="worker-hour", cited="a price list, 2026-01-21"),
    core=UnitPrice(usd=0.0425, unit="core-hour", cited="aws/c5.xlarge, 0.17 for 4, 2025-06-03"),
)


def rate(per_s: float, *, spread: float = 0.01, cpu_s: float | None = None) -> Rate:
    """Five repeats around ``per_s``, the standard deviation of whose logarithm is ``spread``."""
    z = np.array([-1.2649, -0.6325, 0.0, 0.6325, 1.2649])
    return Rate(repeats=tuple(per_s * np.exp(spread * z)), cpu_s_per_sample=cpu_s)


def measurement(*, compute: Rate | float = 5400, loader: Rate | float = 50_000, **other: Any) -> IngestMeasurement:
    """One worker whose loader keeps up, unless told otherwise; decoding keeps one core busy."""
    step = compute if isinstance(compute, Rate) else rate(compute)
    reads = loader if isinstance(loader, Rate) else rate(loader, cpu_s=1 / loader)
    given: dict[str, Any] = {
        "device": "cuda:0", "batch_size": 256, "compute": step, "loader": reads,
        "end_to_end": rate(min(step.samples_per_s, reads.samples_per_s)), "n_rows": N_ROWS, "bytes_per_sample": BYTES,
    }  # fmt: skip
    return IngestMeasurement(**(given | other))


def diagnosis(measured: IngestMeasurement, *, workers: tuple[int, ...] = (1, 2, 4, 8), **other: Any) -> IngestDiagnosis:
    given: dict[str, Any] = {
        "n_samples": N_ROWS, "epochs": 10, "hosts": Hosts(cache_bytes_per_host=FITS), "prices": PRICES, "unit": "img",
    }  # fmt: skip
    return diagnose(measured, workers=workers, **(given | other))


def achieved(found: IngestDiagnosis) -> list[float]:
    return [each.achieved.median for each in found.projections]


# --- which limit ------------------------------------------------------------------------------------------------------


def test_a_loader_that_keeps_up_leaves_compute_the_limit_and_every_worker_useful() -> None:
    found = diagnosis(measurement())

    assert found.limit == "compute"
    assert [each.ingest_bound for each in found.projections] == [False] * 4
    assert achieved(found) == pytest.approx([5400, 10_800, 21_600, 43_200], rel=0.02)
    assert all(ingest_veto(found, workers) is None for workers in (1, 2, 4, 8))


def test_a_slow_loader_is_named_with_its_rates_and_vetoes_added_workers() -> None:
    found = diagnosis(measurement(loader=3100))

    assert found.limit == "loader"
    assert found.projections[0].sentence.startswith("loader 3.1k img/s < compute 5.4k on 1 worker: more workers")
    veto = ingest_veto(found, 8)
    assert veto is not None
    assert veto.name == "ingest-bound"
    assert "CPU pool" in veto.way_out
    assert found.projections[3].idle_share.median == pytest.approx(1 - 3100 / 5400, abs=0.02)


def test_one_worker_is_never_vetoed_for_workers_it_does_not_add() -> None:
    assert ingest_veto(diagnosis(measurement(loader=3100)), 1) is None


def test_a_store_shared_by_all_workers_stops_the_gain_where_it_is_exhausted() -> None:
    store = measurement(storage=rate(12_000), cold=rate(12_000), storage_readers=8)

    found = diagnosis(store, hosts=Hosts(cache_bytes_per_host=0.0))

    assert achieved(found) == pytest.approx([5400, 10_800, 12_000, 12_000], rel=0.03)
    assert [each.limit for each in found.projections] == ["compute", "compute", "storage", "storage"]
    veto = ingest_veto(found, 8)
    assert veto is not None
    assert "storage 12k img/s < compute 43.2k on 8 workers: more workers will not help" in veto.reason
    assert "scale to 2 workers" in veto.way_out
    assert ingest_veto(found, 2) is None


def test_disks_of_each_host_are_not_shared() -> None:
    local = Hosts(cache_bytes_per_host=0.0, has_own_store=True)

    found = diagnosis(measurement(storage=rate(12_000), cold=rate(12_000)), hosts=local)

    assert not any(each.ingest_bound for each in found.projections)


def test_the_cores_of_a_host_are_shared_by_the_loaders_of_its_workers() -> None:
    eight_on_a_host = Hosts(workers_per_host=8, cores_per_host=16, cache_bytes_per_host=FITS)
    heavy = measurement(loader=rate(6000, cpu_s=4 / 6000))

    found = diagnosis(heavy, hosts=eight_on_a_host)

    # Four cores for 6,000 a second: 16 cores decode 24,000.
    assert [each.limit for each in found.projections] == ["compute", "compute", "compute", "host cores"]
    assert found.projections[-1].achieved.median == pytest.approx(24_000, rel=0.02)
    assert ingest_veto(found, 8) is not None


def test_on_a_processor_the_loader_takes_cores_from_the_training_itself() -> None:
    both = measurement(compute=rate(1000, cpu_s=1 / 1000), loader=1000, device="cpu", end_to_end=rate(500))

    found = diagnosis(both, workers=(2,), hosts=Hosts(workers_per_host=2, cores_per_host=2, cache_bytes_per_host=FITS))

    assert found.projections[-1].achieved.median == pytest.approx(1000, rel=0.05)


# --- page cache over the epochs ---------------------------------------------------------------------------------------


def test_data_that_fits_into_memory_reads_the_store_in_the_first_epoch_only() -> None:
    slow_store = measurement(storage=rate(540), cold=rate(540))

    epochs = {n: diagnosis(slow_store, workers=(1,), epochs=n).projections[0].achieved.median for n in (1, 10)}

    assert epochs[1] == pytest.approx(540, rel=0.02)
    assert epochs[10] == pytest.approx(10 / (1 / 540 + 9 / 5400), rel=0.02)


def test_memory_for_half_the_rows_halves_the_reads_of_later_epochs() -> None:
    slow_store = measurement(storage=rate(540), cold=rate(540))
    half = Hosts(cache_bytes_per_host=BYTES * N_ROWS / 2)

    found = diagnosis(slow_store, workers=(1,), epochs=10, hosts=half)

    per_sample = (1 / 540 + 9 * 0.5 / 540) / 10  # the store gives twice as many samples when half come from memory
    assert found.projections[0].achieved.median == pytest.approx(1 / per_sample, rel=0.03)


def test_a_new_host_has_to_read_what_another_has_already_read() -> None:
    slow_store = measurement(storage=rate(2700), cold=rate(2700))

    alone, two = (diagnosis(slow_store, workers=(2,), epochs=4, hosts=Hosts(
        workers_per_host=per_host, cache_bytes_per_host=FITS)).at(2) for per_host in (2, 1))  # fmt: skip

    assert alone is not None
    assert two is not None
    # From the store come 1, 1/2, 1/4 and 1/8 of the rows, against 1 and then none; no epoch is faster than the steps.
    assert alone.achieved.median == pytest.approx(4 / (1 / 2700 + 3 / 10_800), rel=0.02)
    assert two.achieved.median == pytest.approx(4 / (1 / 2700 + 0.5 / 2700 + 2 / 10_800), rel=0.02)


def test_memory_that_is_not_known_counts_as_none_and_is_said() -> None:
    found = diagnosis(measurement(storage=rate(540), cold=rate(540)), hosts=Hosts())

    assert found.limit == "storage"
    assert any("every epoch counts as read from the store" in note for note in found.notes)


# --- overlap ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [0.0, 0.5, 1.0])
def test_what_one_worker_achieves_is_what_was_measured_end_to_end(overlap: float) -> None:
    seconds = max(1 / 5400, 1 / 9000) + (1 - overlap) * min(1 / 5400, 1 / 9000)

    found = diagnosis(measurement(loader=9000, end_to_end=rate(1 / seconds)), workers=(1,), epochs=1000)

    assert found.overlap == pytest.approx(overlap, abs=0.1)
    assert found.projections[0].achieved.median == pytest.approx(1 / seconds, rel=0.03)
    assert not found.projections[0].ingest_bound  # reading in turns costs time, and more workers still help


def test_loading_that_slows_the_step_beyond_turns_is_believed() -> None:
    found = diagnosis(measurement(loader=5400, end_to_end=rate(2000)), workers=(1,))

    assert found.projections[0].achieved.median == pytest.approx(2000, rel=0.05)


def test_a_part_that_seems_slower_than_the_whole_is_as_fast_as_the_whole() -> None:
    busy_meanwhile = measurement(loader=3100, end_to_end=rate(5400))

    found = diagnosis(busy_meanwhile)

    assert found.projections[0].achieved.median == pytest.approx(5400, rel=0.03)
    assert ingest_veto(found, 8) is None


# --- noise ------------------------------------------------------------------------------------------------------------


def test_rates_that_scatter_more_than_they_differ_are_no_veto() -> None:
    firm, vague = (
        diagnosis(measurement(loader=rate(4500, spread=spread), end_to_end=rate(4000)), workers=(4,))
        for spread in (0.01, 0.5)
    )

    assert ingest_veto(firm, 4) is not None
    assert ingest_veto(vague, 4) is None
    assert 0.5 < (vague.projections[-1].probability or 0.0) < 0.9


def test_waiting_less_than_a_tenth_is_no_veto_however_sure() -> None:
    found = diagnosis(measurement(loader=5100, end_to_end=rate(5100, spread=0.001)), workers=(8,))

    assert not found.projections[-1].ingest_bound


def test_a_loader_as_fast_as_the_step_is_rarely_called_slower() -> None:
    """Under repeats drawn anew, equal rates and a confidence of 0.9 give a false veto in at most 1 of 10 probes."""
    rng = np.random.default_rng(0)
    vetoes = 0
    for seed in range(200):
        noisy = {
            name: Rate(repeats=tuple(5400 * np.exp(0.1 * rng.standard_normal(5))), cpu_s_per_sample=cpu)
            for name, cpu in (("compute", None), ("loader", 1 / 5400))
        }
        found = diagnosis(measurement(**noisy, end_to_end=rate(4000)), workers=(4,), rng_seed=seed, n_draws=500)
        vetoes += ingest_veto(found, 4) is not None

    assert vetoes <= 20


def test_the_same_probe_and_seed_give_the_same_diagnosis() -> None:
    assert diagnosis(measurement(loader=3100)) == diagnosis(measurement(loader=3100))


@pytest.mark.parametrize("repeats", [(1.0, 2.0), (1.0, 2.0, 0.0), (1.0, 2.0, float("nan"))])
def test_a_rate_without_spread_or_sense_is_refused(repeats: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"repeats|above 0"):
        Rate(repeats=repeats)


# --- dollars ----------------------------------------------------------------------------------------------------------


def test_a_cpu_pool_is_priced_against_idle_workers() -> None:
    found = diagnosis(measurement(loader=500), workers=(8,)).projections[-1]

    pool = next(advice for advice in found.advice if "CPU pool" in advice.text)
    cores = 8 * (5400 - 500) / 500
    assert pool.usd_per_hour == pytest.approx(cores * 0.0425, rel=0.05)
    assert pool.idle_usd_per_hour == pytest.approx(8 * 2.0 * (1 - 500 / 5400), rel=0.02)
    assert pool.pays is True
    assert "2025-06-03" in pool.text
    assert "2026-01-21" in pool.text


def test_a_pool_that_costs_more_than_waiting_is_not_recommended() -> None:
    dear = IngestPrices(worker=PRICES.worker, core=UnitPrice(usd=10.0, unit="core-hour", cited="config"))

    found = diagnosis(measurement(loader=500), workers=(8,), prices=dear).projections[-1]

    pool = next(advice for advice in found.advice if "CPU pool" in advice.text)
    assert pool.pays is False
    assert "waiting is cheaper" in pool.text


def test_without_prices_there_is_advice_without_dollars() -> None:
    found = diagnosis(measurement(loader=500), workers=(8,), prices=IngestPrices()).projections[-1]

    assert found.idle_usd_per_hour is None
    assert "$" not in " ".join(advice.text for advice in found.advice)


def test_decoding_once_costs_the_cores_of_one_pass() -> None:
    once = next(
        advice for advice in diagnosis(measurement(loader=500)).projections[-1].advice if "decode once" in advice.text
    )

    assert once.usd_once == pytest.approx(N_ROWS / 500 / 3600 * 0.0425)


def test_a_loader_that_waits_is_told_to_read_ahead_and_not_to_buy_cores() -> None:
    sleepy = measurement(loader=rate(500, cpu_s=0.01 / 500))

    texts = [advice.text for advice in diagnosis(sleepy).projections[-1].advice]

    assert len(texts) == 1
    assert "0.01 of a core busy" in texts[0]


def test_a_loader_that_gets_half_a_core_as_the_step_does_is_not_taken_to_wait() -> None:
    shared = measurement(loader=rate(500, cpu_s=0.4 / 500), compute=rate(5400, cpu_s=0.5 / 5400))

    assert any("CPU pool" in advice.text for advice in diagnosis(shared).projections[-1].advice)


def test_cores_that_hosts_already_have_come_before_bought_ones() -> None:
    roomy = Hosts(workers_per_host=1, cores_per_host=16, cache_bytes_per_host=FITS)

    first = diagnosis(measurement(loader=500), hosts=roomy).projections[-1].advice[0]

    assert first.usd_per_hour == 0
    assert re.search("1(19|20) cores to spare", first.text)  # 8 of 128 decode


def test_scattered_cold_reads_are_told_to_be_packed() -> None:
    scattered = measurement(cold=rate(200), storage=rate(20_000))

    found = diagnosis(scattered, hosts=Hosts(cache_bytes_per_host=0.0)).projections[0]

    assert found.limit == "storage"
    assert "pack the rows with `prepare`" in found.advice[0].text


# --- text and storage -------------------------------------------------------------------------------------------------


def test_a_diagnosis_survives_the_journal() -> None:
    measured = measurement(loader=3100, storage=rate(9000), cold=rate(2000), not_measured=("a: b",))
    found = diagnosis(measured)

    for record in (measured, found):
        assert from_plain(type(record), json.loads(json.dumps(to_plain(record)))) == record


def test_lines_and_rows_say_the_limit_the_way_out_and_what_is_missing() -> None:
    found = diagnosis(measurement(loader=3100, not_measured=("cold reads: the data lies in memory",)))

    text = "\n".join(ingest_lines(found))
    rows = ingest_rows(found)

    assert "limit: loader" in text
    assert "way out: decode on a CPU pool" in text
    assert "note: cold reads: the data lies in memory" in text
    assert "no storage limit is known" in text
    assert [row[0] for row in rows] == ["1", "2", "4", "8"]
    assert {len(row) for row in rows} == {len(INGEST_HEADER)}


def test_the_checklist_hears_of_headroom_and_of_what_a_processor_cannot_show() -> None:
    text = headroom_text(diagnosis(measurement(device="cpu", loader=10_800, end_to_end=rate(3600))))

    assert "the loader delivers 2 times what one worker computes" in text
    assert "storage was not measured" in text
    assert "on a CPU, where mixed precision" in text


def test_mixed_precision_is_told_where_it_was_measured() -> None:
    text = headroom_text(diagnosis(measurement(mixed_precision=rate(9720), memory_share=0.4)))

    assert "autocast runs the same step at 1.8 times the speed" in text
    assert "40% of the accelerator's memory" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.034, "0.034"), (3.1, "3.1"), (85.2, "85.2"), (850, "850"), (999.7, "1k"), (3100, "3.1k"), (12_400, "12.4k"),
     (123_456, "123k"), (999_600, "1M"), (1.24e6, "1.2M"), (2e13, "20000G")],
)  # fmt: skip
def test_rates_are_short(value: float, text: str) -> None:
    assert rate_text(value) == text


# --- from trials alone ------------------------------------------------------------------------------------------------


def trial(
    *, wait_s: float, workers: int = 1, seed: int = 0, fraction: float = 0.5, compute_s: float = 10.0
) -> TrialResult:
    n_train = 1000
    training = TrainingResult(
        accuracy=0.9, loss=0.1, train_accuracy=0.9, train_loss=0.1, n_train=n_train, n_validation=100, epochs_run=10,
        samples_seen=10 * n_train, wall_time_s=compute_s + wait_s, epochs=(), device="cpu", checkpoint_bytes=1,
        time=TimeSplit(compute_s=compute_s * (1 + 0.01 * seed), data_wait_s=wait_s),
    )  # fmt: skip
    asked = TrialSpec(model="cnn", fraction=fraction, workers=workers, seed=seed)
    return TrialResult(
        key=f"{asked}", scope="s", fingerprint="f", trial=asked, status="finished", training=training,
        wall_time_s=20.0, started_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip


def of_trials(*trials: TrialResult, reads_ahead: bool = False, workers: tuple[int, ...] = (8,)) -> IngestDiagnosis:
    found = diagnose_trials(trials, workers=workers, prices=PRICES, reads_ahead=reads_ahead)
    assert found is not None
    return found


def test_trials_that_hardly_wait_veto_nothing() -> None:
    found = of_trials(*(trial(wait_s=0.1, seed=seed) for seed in range(3)))

    assert ingest_veto(found, 8) is None
    assert found.projections[0].idle_share.median == pytest.approx(0.01, abs=0.002)


def test_trials_that_mostly_wait_veto_more_workers_and_ask_for_the_probe() -> None:
    found = of_trials(*(trial(wait_s=30.0, seed=seed) for seed in range(3)))

    veto = ingest_veto(found, 8)
    assert veto is not None
    assert "75%" in veto.reason
    assert "run the probe" in veto.way_out
    assert found.at(8) is not None
    assert not found.at(8).is_measured  # type: ignore[union-attr]  # asserted above


def test_reading_in_turns_is_not_bound_before_reading_takes_longer_than_training() -> None:
    waiting = [trial(wait_s=5.0, seed=seed) for seed in range(3)]

    assert ingest_veto(of_trials(*waiting), 8) is None
    assert ingest_veto(of_trials(*waiting, reads_ahead=True), 8) is not None


def test_waiting_that_grows_with_the_workers_is_seen_at_the_count_that_was_measured() -> None:
    alone = [trial(wait_s=0.1, seed=seed) for seed in range(3)]
    four = [trial(wait_s=30.0, seed=seed, workers=4) for seed in range(3)]

    found = of_trials(*alone, *four, workers=(2, 8))

    assert [each.ingest_bound for each in found.projections] == [False, False, True, True]
    assert "scale to 2 workers" in ingest_veto(found, 8).way_out  # type: ignore[union-attr]  # bound


def test_one_trial_has_no_spread_and_vetoes_nothing() -> None:
    found = of_trials(trial(wait_s=30.0))

    assert ingest_veto(found, 8) is None
    assert any("no spread" in note for note in found.notes)


def test_small_trials_do_not_speak_where_larger_ones_do() -> None:
    small = [trial(wait_s=30.0, seed=seed, fraction=0.1) for seed in range(3)]
    large = [trial(wait_s=0.1, seed=seed) for seed in range(3)]

    assert ingest_veto(of_trials(*small, *large), 8) is None


def test_no_finished_trial_is_no_diagnosis() -> None:
    assert diagnose_trials([], workers=(8,), reads_ahead=False) is None


def test_trials_render_without_what_they_do_not_know() -> None:
    found = of_trials(*(trial(wait_s=30.0, seed=seed) for seed in range(3)), reads_ahead=True)

    assert "not known" in {cell for row in ingest_rows(found) for cell in row}
    assert "from the trials' own times" in ingest_lines(found)[0]
    assert "no probe was run" in headroom_text(found)
