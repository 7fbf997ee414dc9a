"""The journal keeps every fact through crashes, torn writes and meddling, and says so when it could not."""

from __future__ import annotations

import errno
import json
import math
import multiprocessing
import os
import runpy
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import JournalError, LockedError, UnknownExperimentError, UsageError
from orchestrator.ports import SmokeReport
from orchestrator.spec import ExperimentSpec
from orchestrator.tracking.chain import scan_lines
from orchestrator.tracking.journal import Journal, run_folder
from orchestrator.tracking.records import FullRunStart, from_plain, to_plain, without_retired_keys
from orchestrator.tracking.seal import SEAL_NAME
from orchestrator.tracking.verify import verify_folder

samples = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "samples.py")))


def now() -> datetime:
    return datetime(2026, 3, 1, 10, tzinfo=UTC)


def filled(folder: Path, n_trials: int = 3) -> Path:
    """A closed journal of an experiment and some trials; the path of its file."""
    with Journal.open(folder, now=now) as journal:
        journal.append("experiment", {"spec": samples.spec(), "data": samples.data(), "config": "configs/vision.yaml"})
        for result in samples.results()[:n_trials]:
            journal.append("trial", result)
    return journal.path


def test_every_kind_of_record_comes_back_equal(tmp_path: Path) -> None:
    smoke = (SmokeReport(model="cnn", n_parameters=10_000, checkpoint_bytes=41_000),)
    start = FullRunStart(candidate=samples.verdict().best.candidate, forecast=samples.verdict().best)
    failed = samples.result("cnn", 0.05, 1, 0, error="boom")
    with Journal.open(tmp_path / "digits", now=now) as journal:
        journal.append(
            "experiment",
            {"spec": samples.spec(), "data": samples.data(), "versions": {"torch": "2.13"}, "config": "a.yaml"},
        )
        journal.append("smoke", smoke)
        journal.append("trial", failed)
        journal.append("verdict", samples.verdict())
        journal.append("approval", samples.approval())
        journal.append("full_run_started", start)
        assert journal.view.is_full_run_open
        journal.append("outcome", samples.outcome())

    view = Journal.read(tmp_path / "digits")

    assert view.spec == samples.spec()
    assert view.data == samples.data()
    assert (view.versions, view.config_path) == ({"torch": "2.13"}, "a.yaml")
    assert view.smoke == smoke
    assert view.results == (failed,)
    assert view.verdict == samples.verdict()
    assert view.approval == samples.approval()
    assert view.full_run_started == start
    assert not view.is_full_run_open
    assert view.outcomes == (samples.outcome(),)
    assert view.warnings == ()


def test_a_loss_that_is_not_a_number_comes_back_as_one_and_the_file_stays_plain_json(tmp_path: Path) -> None:
    result = samples.result("cnn", 0.05, 1, 0)
    with Journal.open(tmp_path, now=now) as journal:
        journal.append("trial", replace(result, training=replace(result.training, loss=math.nan, train_loss=math.inf)))

    training = Journal.read(tmp_path).results[0].training

    assert training is not None
    assert math.isnan(training.loss)
    assert training.train_loss == math.inf
    json.loads(journal.path.read_text(), parse_constant=lambda token: pytest.fail(f"{token} is not JSON"))


def test_a_finished_trial_is_never_replaced_by_a_failed_one_but_a_failed_one_is_made_good(tmp_path: Path) -> None:
    finished, failed = samples.result("cnn", 0.05, 1, 0), samples.result("cnn", 0.05, 1, 0, error="boom")
    other = samples.result("linear", 0.05, 1, 0)
    with Journal.open(tmp_path, now=now) as journal:
        for result in (failed, other, finished, failed):
            journal.append("trial", result)

    assert Journal.read(tmp_path).results == (finished, other)


def test_an_approval_counts_only_for_the_verdict_it_was_given_for(tmp_path: Path) -> None:
    with Journal.open(tmp_path, now=now) as journal:
        journal.append("verdict", samples.verdict())
        journal.append("approval", samples.approval())
        assert journal.view.approval == samples.approval()
        journal.append("verdict", replace(samples.verdict(), inputs_digest="another"))

    assert Journal.read(tmp_path).approval is None


def test_an_unknown_kind_is_kept_and_passed_over(tmp_path: Path) -> None:
    filled(tmp_path)
    with Journal.open(tmp_path, now=now) as journal:
        journal.append("from_the_future", {"a": 1})

    assert len(Journal.read(tmp_path).results) == 3
    assert Journal.verify(tmp_path) == 5


@pytest.mark.parametrize("n_lost", [2, 40, 700])
def test_a_torn_last_line_is_set_aside_and_everything_before_it_kept(tmp_path: Path, n_lost: int) -> None:
    path = filled(tmp_path, n_trials=2)
    sealed = (tmp_path / SEAL_NAME).read_bytes()
    with Journal.open(tmp_path, now=now) as journal:
        journal.append("trial", samples.results()[2])
    whole = path.read_bytes()
    path.write_bytes(whole[:-n_lost])
    (tmp_path / SEAL_NAME).write_bytes(sealed)  # as a crash in the middle of the line leaves it

    assert "line 4 is incomplete" in Journal.read(tmp_path).warnings[0]
    with Journal.open(tmp_path, now=now) as journal:
        assert "journal.damaged-4" in journal.view.warnings[0]
        assert len(journal.view.results) == 2
        journal.append("trial", samples.results()[2])

    assert Journal.verify(tmp_path) == 4
    assert len(Journal.read(tmp_path).results) == 3
    assert whole.endswith((tmp_path / "journal.damaged-4").read_bytes() + whole[-n_lost:])


def test_a_last_line_that_lacks_only_its_newline_is_whole(tmp_path: Path) -> None:
    path = filled(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])

    with Journal.open(tmp_path, now=now) as journal:
        assert journal.view.warnings == ()
        journal.append("trial", samples.results()[3])

    assert Journal.verify(tmp_path) == 5


@pytest.mark.parametrize(
    ("meddle", "cause"),
    [
        pytest.param(lambda lines: [lines[0], lines[1].replace(b"0.05", b"0.06"), *lines[2:]], "digest", id="altered"),
        pytest.param(lambda lines: [lines[0], *lines[2:]], "dropped, added or moved", id="dropped"),
        pytest.param(lambda lines: [lines[0], lines[2], lines[1], lines[3]], "dropped, added or moved", id="moved"),
    ],
)
def test_damage_before_the_last_line_names_the_line_and_the_way_out(tmp_path: Path, meddle, cause: str) -> None:
    path = filled(tmp_path)
    path.write_bytes(b"".join(meddle(path.read_bytes().splitlines(keepends=True))))

    with pytest.raises(JournalError, match=rf"line 2 is damaged: .*{cause}.*head -n 1"):
        Journal.verify(tmp_path)
    with pytest.raises(JournalError, match="line 2 is damaged"):
        Journal.open(tmp_path, now=now)
    view = Journal.read(tmp_path)
    assert view.spec == samples.spec()
    assert "line 2 is damaged" in view.warnings[0]


def test_a_dropped_line_is_not_taken_for_a_torn_one_when_it_shows_only_at_the_end(tmp_path: Path) -> None:
    path = filled(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[3]]))

    with pytest.raises(JournalError, match="line 3 is damaged"):
        Journal.open(tmp_path, now=now)


@pytest.mark.parametrize("n_lines", [0, 1, 3])
def test_a_journal_that_lost_its_end_is_neither_verified_nor_written_to(tmp_path: Path, n_lines: int) -> None:
    path = filled(tmp_path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:n_lines]))
    left = path.read_bytes()

    with pytest.raises(
        JournalError, match=rf"line 4 was written and is missing; the last intact one is line {n_lines}"
    ):
        Journal.verify(tmp_path)
    with pytest.raises(JournalError, match=r"line 4 was written and is missing.*rm .*journal\.seal"):
        Journal.open(tmp_path, now=now)
    assert path.read_bytes() == left

    (tmp_path / SEAL_NAME).unlink()
    with Journal.open(tmp_path, now=now) as journal:
        journal.append("trial", samples.results()[3])
    assert Journal.verify(tmp_path) == n_lines + 1


def test_a_last_line_that_was_sealed_and_cut_is_left_as_it_is(tmp_path: Path) -> None:
    path = filled(tmp_path)
    path.write_bytes(path.read_bytes()[:-40])

    with pytest.raises(JournalError, match="line 4 was written and is missing"):
        Journal.open(tmp_path, now=now)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["journal.jsonl", "journal.lock", "journal.seal"]


def test_a_seal_that_fell_behind_in_a_crash_hurts_nothing(tmp_path: Path) -> None:
    filled(tmp_path, n_trials=1)
    behind = (tmp_path / SEAL_NAME).read_bytes()
    with Journal.open(tmp_path, now=now) as journal:
        journal.append("trial", samples.results()[1])
    (tmp_path / SEAL_NAME).write_bytes(behind)

    assert verify_folder(tmp_path, None).findings == ()
    with Journal.open(tmp_path, now=now) as journal:
        journal.append("trial", samples.results()[2])
    assert Journal.verify(tmp_path) == 4
    assert (tmp_path / SEAL_NAME).read_text().startswith("000000000004 ")


def test_a_second_writer_is_told_who_owns_the_folder_and_since_when(tmp_path: Path) -> None:
    with Journal.open(tmp_path, now=now), pytest.raises(LockedError, match=rf"process {os.getpid()} .* for 5 min"):
        Journal.open(tmp_path, now=lambda: now() + timedelta(minutes=5))
    with Journal.open(tmp_path, now=now):
        pass


def test_a_clock_that_went_backwards_neither_hurts_the_lock_nor_the_order(tmp_path: Path) -> None:
    filled(tmp_path, n_trials=1)
    with Journal.open(tmp_path, now=lambda: now() - timedelta(days=400)) as journal:
        journal.append("trial", samples.results()[1])
        with pytest.raises(LockedError, match="for 0 s"):
            Journal.open(tmp_path, now=lambda: now() - timedelta(days=800))

    assert [entry.seq for entry in Journal.read(tmp_path).entries] == [1, 2, 3]


def _append_until_killed(folder: Path) -> None:
    with Journal.open(folder, now=now) as journal:
        for seed in range(100_000):
            journal.append("approval", replace(samples.approval(), reason=f"{seed} " * 400))


def test_a_writer_killed_in_the_middle_loses_nothing_that_was_appended_and_leaves_no_lock(tmp_path: Path) -> None:
    for _ in range(3):
        writer = multiprocessing.get_context("fork").Process(target=_append_until_killed, args=(tmp_path,))
        writer.start()
        while not (tmp_path / "journal.jsonl").exists() or not Journal.read(tmp_path).entries:
            pass
        seen = len(Journal.read(tmp_path).entries)
        writer.kill()
        writer.join()
        with Journal.open(tmp_path, now=now) as journal:
            assert len(journal.view.entries) >= seen
    Journal.verify(tmp_path)


def test_a_full_disk_is_said_with_the_path_and_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.open(tmp_path, now=now)
    journal.append("trial", samples.results()[0])
    write = os.write

    def write_some_then_fail(descriptor: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, bytes(data)[: len(data) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_some_then_fail)
        with pytest.raises(JournalError, match=r"journal\.jsonl: No space left on device; free space"):
            journal.append("trial", samples.results()[1])
    journal.append("trial", samples.results()[2])
    journal.close()

    assert Journal.verify(tmp_path) == 2
    assert Journal.read(tmp_path).results == (samples.results()[0], samples.results()[2])


def test_a_folder_that_cannot_be_made_is_refused_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")

    with pytest.raises(JournalError, match=r"cannot use .*runs/digits: .*runs_dir"):
        Journal.open(tmp_path / "runs" / "digits", now=now)


def test_an_unknown_experiment_is_answered_with_the_close_name(tmp_path: Path) -> None:
    filled(tmp_path / "digits-cnn")

    with pytest.raises(UnknownExperimentError, match="did you mean digits-cnn"):
        Journal.read(tmp_path / "digits-cmn")
    with pytest.raises(UnknownExperimentError, match="there are: digits-cnn"):
        Journal.read(tmp_path / "zzz")
    with pytest.raises(UnknownExperimentError, match="nothing was swept there yet"):
        Journal.read(tmp_path / "nowhere" / "zzz")


@pytest.mark.parametrize("name", ["..", "../x", "a/b", "", ".hidden", "/etc", "a\0b", "x" * 101])
def test_a_name_cannot_leave_the_runs_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="experiment name"):
        run_folder(tmp_path, name)


def test_a_record_of_another_version_is_named_by_line_and_kind(tmp_path: Path) -> None:
    with Journal.open(tmp_path, now=now) as journal:
        journal.append("trial", {"key": "only a key"})

    with pytest.raises(JournalError, match=r"line 1: the trial record does not fit this version"):
        _ = Journal.read(tmp_path).results


def test_prices_recorded_under_retired_keys_are_read_under_todays() -> None:
    plain = to_plain(samples.spec())
    for key in ("spot", "storage", "people", "transfer"):
        plain["pricing"].pop(key)
    retired = {"spot_mean_uptime_h": 3.0, "checkpoint_storage_usd_per_gb_month": 0.05, "checkpoint_months": 2.0}

    read = from_plain(ExperimentSpec, without_retired_keys({**plain, "pricing": plain["pricing"] | retired}))
    unstated = {"spot_mean_uptime_h": None, "checkpoint_storage_usd_per_gb_month": 0.023, "checkpoint_months": 1.0}
    default = from_plain(ExperimentSpec, without_retired_keys({**plain, "pricing": plain["pricing"] | unstated}))

    assert (read.pricing.spot.mean_uptime_h, read.pricing.storage.usd_per_gb_month) == (3.0, 0.05)
    assert read.pricing.storage.months == 2.0
    assert default == samples.spec()


def test_a_journal_without_an_experiment_says_to_sweep_first(tmp_path: Path) -> None:
    Journal.open(tmp_path, now=now).close()

    with pytest.raises(JournalError, match="run `sweep` on its config first"):
        _ = Journal.read(tmp_path).spec


def test_something_that_is_no_record_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with Journal.open(tmp_path, now=now) as journal, pytest.raises(TypeError, match="has no place in the journal"):
        journal.append("trial", {"a": object()})

    assert journal.path.read_bytes() == b""


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return filled(tmp_path_factory.mktemp("journal")).read_bytes()


@settings(max_examples=300, deadline=None)
@given(position=st.floats(0, 1), junk=st.binary(max_size=20), n_removed=st.integers(0, 30))
def test_no_bytes_whatever_make_the_reader_raise_or_take_up_an_altered_line(
    content: bytes, position: float, junk: bytes, n_removed: int
) -> None:
    cut = int(position * len(content))

    scan = scan_lines(content[:cut] + junk + content[cut + n_removed :])

    intact = scan_lines(content).entries
    assert scan.entries == intact[: len(scan.entries)]


def test_records_survive_the_way_to_plain_data_and_back() -> None:
    assert from_plain(type(samples.verdict()), to_plain(samples.verdict())) == samples.verdict()
    assert from_plain(type(samples.spec()), to_plain(samples.spec())) == samples.spec()


def test_reading_a_journal_loads_none_of_the_heavy_packages(tmp_path: Path) -> None:
    filled(tmp_path)
    program = (
        "import sys; from pathlib import Path; from orchestrator.tracking.journal import Journal;"
        f"view = Journal.read(Path({str(tmp_path)!r})); view.spec, view.results;"
        "print([m for m in "
        "('torch', 'ray', 'mlflow', 'pandas', 'matplotlib', 'numpy', 'filelock') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
