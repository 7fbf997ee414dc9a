"""Whatever is done to a journal behind the program's back is found, and nothing that is in order is."""

from __future__ import annotations

import json
import os
import random
import runpy
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import LockedError, TrackingError
from orchestrator.tracking.chain import FIRST_PREVIOUS, Seal, last_seal, scan_lines, sealed_line
from orchestrator.tracking.decisions import decisions
from orchestrator.tracking.journal import OWNER_NAME, Journal
from orchestrator.tracking.seal import SEAL_NAME
from orchestrator.tracking.verify import verify_folder

samples = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "samples.py")))


def now() -> datetime:
    return datetime(2026, 3, 1, 10, tzinfo=UTC)


def decided(folder: Path) -> Path:
    """The journal of an experiment from its first trial to its outcome; 9 lines."""
    hold = replace(samples.verdict("HOLD", probability=0.55), inputs_digest="0" * 16)
    with Journal.open(folder, now=now) as journal:
        journal.append("experiment", {"spec": samples.spec(), "data": samples.data()})
        for result in samples.results()[:3]:
            journal.append("trial", result)
        journal.append("verdict", hold)
        journal.append("verdict", samples.verdict())
        journal.append("approval", samples.approval())
        best = samples.verdict().best
        journal.append("full_run_started", {"candidate": best.candidate, "forecast": best})
        journal.append("outcome", samples.outcome())
    return journal.path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A journal's bytes and its seal's."""
    folder = tmp_path_factory.mktemp("whole")
    return decided(folder).read_bytes(), (folder / SEAL_NAME).read_bytes()


def findings(folder: Path, content: bytes, seal: bytes) -> tuple[str, ...]:
    (folder / "journal.jsonl").write_bytes(content)
    (folder / SEAL_NAME).write_bytes(seal)
    return verify_folder(folder, None).findings


def altered(lines: list[bytes], rng: random.Random) -> list[bytes]:
    """One byte of one line, its newline left alone, replaced by another."""
    at = rng.randrange(len(lines))
    place = rng.randrange(len(lines[at]) - 1)
    other = rng.choice([c for c in range(32, 127) if c != lines[at][place]])
    return [*lines[:at], lines[at][:place] + bytes([other]) + lines[at][place + 1 :], *lines[at + 1 :]]


def dropped(lines: list[bytes], rng: random.Random) -> list[bytes]:
    first = rng.randrange(len(lines))
    return lines[:first] + lines[rng.randint(first + 1, len(lines)) :]


def reordered(lines: list[bytes], rng: random.Random) -> list[bytes]:
    first, second = sorted(rng.sample(range(len(lines)), 2))
    return [*lines[:first], lines[second], *lines[first + 1 : second], lines[first], *lines[second + 1 :]]


def doubled(lines: list[bytes], rng: random.Random) -> list[bytes]:
    at = rng.randrange(len(lines))
    return [*lines[:at], lines[at], *lines[at:]]


def truncated(lines: list[bytes], rng: random.Random) -> list[bytes]:
    """Cut anywhere; a last newline alone is not missed, because the line before it is whole."""
    content = b"".join(lines)
    return [content[: rng.randrange(len(content) - 1)]]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), meddle=st.sampled_from([altered, dropped, reordered, doubled, truncated]))
def test_any_line_altered_dropped_moved_doubled_or_cut_off_is_found(
    tmp_path: Path, whole: tuple[bytes, bytes], seed: int, meddle
) -> None:
    content, seal = whole
    changed = b"".join(meddle(content.splitlines(keepends=True), random.Random(seed)))

    assert findings(tmp_path, changed, seal)
    assert findings(tmp_path, content, seal) == ()


def test_a_torn_line_passes_for_a_crash_only_where_the_seal_had_come_so_far(
    tmp_path: Path, whole: tuple[bytes, bytes]
) -> None:
    content, _ = whole
    entries = scan_lines(content).entries
    torn = content[:-40]

    crash, cut = (f"{last_seal(entries[:n])}\n".encode() for n in (8, 7))

    assert findings(tmp_path, torn, crash) == ()
    assert "line 9 is damaged" in findings(tmp_path, torn, cut)[0]


def test_a_journal_that_is_gone_is_missed_by_its_seal(tmp_path: Path) -> None:
    decided(tmp_path).unlink()

    assert verify_folder(tmp_path, None).findings == (
        "line 9 was written and is missing; the last intact one is line 0, by journal.seal",
    )


def rewritten(content: bytes, old: bytes, new: bytes) -> bytes:
    """The whole chain written anew over changed payloads, as one who knows the format would."""
    lines, previous = [], FIRST_PREVIOUS
    for entry in scan_lines(content).entries:
        payload = json.loads(json.dumps(entry.payload).encode().replace(old, new))
        line, previous = sealed_line(entry.seq, entry.at, entry.kind, payload, previous)
        lines.append(line)
    return b"".join(lines)


def test_a_chain_written_anew_with_its_seal_is_found_by_the_seal_in_mlflow(
    tmp_path: Path, whole: tuple[bytes, bytes]
) -> None:
    content, _ = whole
    entries = scan_lines(content).entries
    kept = {entries[0].sha256[:8]: last_seal(entries)}
    forged = rewritten(content, b'"ada"', b'"eve"')
    forged_seal = f"{last_seal(scan_lines(forged).entries)}\n".encode()
    (tmp_path / "journal.jsonl").write_bytes(forged)
    (tmp_path / SEAL_NAME).write_bytes(forged_seal)

    assert verify_folder(tmp_path, None).findings == ()
    (found,) = verify_folder(tmp_path, kept).findings
    assert (
        found == "line 9 is not the one that was written: the chain was written anew at or before it, by MLflow's seal"
    )

    from_the_start = rewritten(content, b'"digits-cnn"', b'"digits-mlp"')
    (tmp_path / "journal.jsonl").write_bytes(from_the_start)
    (tmp_path / SEAL_NAME).unlink()
    (found,) = verify_folder(tmp_path, kept).findings
    assert "a seal of another journal of this name (of 9 lines), and none of this one" in found


def test_it_says_what_was_compared_and_what_could_not_be(tmp_path: Path) -> None:
    decided(tmp_path)
    entries = Journal.read(tmp_path).entries
    earlier = {entries[0].sha256[:8]: Seal(seq=7, sha256=entries[6].sha256)}

    with_all = verify_folder(tmp_path, earlier)
    away = verify_folder(tmp_path, TrackingError("MLflow cannot be reached"))

    assert with_all.compared == ("chain of 9 lines", "journal.seal (line 9)", "MLflow's seal (line 7)")
    assert (with_all.not_compared, with_all.findings) == ((), ())
    assert away.not_compared == ("not compared with MLflow: MLflow cannot be reached",)
    assert away.findings == ()


def test_a_writer_killed_in_a_line_leaves_no_finding_and_a_stale_owner_keeps_nobody_out(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import os, runpy, sys
        from datetime import UTC, datetime
        from pathlib import Path
        from orchestrator.tracking.journal import Journal
        samples = runpy.run_path({str(Path(__file__).parent / "samples.py")!r})
        journal = Journal.open(Path({str(tmp_path)!r}), now=lambda: datetime(2026, 3, 1, 10, tzinfo=UTC))
        journal.append("experiment", {{"spec": samples["spec"](), "data": samples["data"]()}})
        write = os.write
        def half(descriptor, data):
            write(descriptor, bytes(data)[:500])
            print("now", flush=True)
            sys.stdin.read()
        os.write = half
        journal.append("verdict", samples["verdict"]())
    """)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    writer = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"now\n"
        with pytest.raises(LockedError, match=rf"in use by process {writer.pid}"):
            Journal.open(tmp_path, now=now)
        writer.send_signal(signal.SIGKILL)

    assert (tmp_path / OWNER_NAME).exists()
    torn = verify_folder(tmp_path, None)
    assert torn.findings == ()
    assert "line 2 was cut off while it was written" in torn.not_compared[0]
    with Journal.open(tmp_path, now=now) as journal:
        journal.append("verdict", samples.verdict())
    assert not (tmp_path / OWNER_NAME).exists()
    assert verify_folder(tmp_path, None).compared == ("chain of 2 lines", "journal.seal (line 2)")


def test_the_decision_log_tells_who_decided_what_on_which_inputs_in_the_journals_order(tmp_path: Path) -> None:
    decided(tmp_path)

    log = decisions(Journal.read(tmp_path))

    assert [(each.line, each.event, each.by, each.inputs_digest[:8]) for each in log] == [
        (5, "verdict HOLD", "", "00000000"),
        (6, "verdict PROMOTE", "", "ab12cd34"),
        (7, "approved", "ada", "ab12cd34"),
        (8, "full run started", "", "ab12cd34"),
        (9, "outcome", "", "ab12cd34"),
    ]
    assert [each.probability for each in log] == [0.55, 0.94, None, None, None]
    assert "(the forecast held), $" in log[-1].detail


def test_a_clock_that_goes_backwards_changes_neither_the_log_nor_the_check(tmp_path: Path) -> None:
    days = iter(range(100, 0, -1))
    with Journal.open(
        tmp_path, now=lambda: datetime(2026, 1, 1, tzinfo=UTC).replace(month=1 + next(days) % 12)
    ) as journal:
        journal.append("experiment", {"spec": samples.spec(), "data": samples.data()})
        journal.append("verdict", samples.verdict())
        journal.append("approval", samples.approval())
        journal.append("approval", replace(samples.approval("rejected"), at="1999-01-01T00:00:00+00:00"))

    view = Journal.read(tmp_path)

    assert sorted(entry.at for entry in view.entries) != [entry.at for entry in view.entries]
    assert view.approval is not None
    assert view.approval.decision == "rejected", "the last line counts, whatever its time says"
    assert [each.event for each in decisions(view)] == ["verdict PROMOTE", "approved", "rejected"]
    assert verify_folder(tmp_path, None).findings == ()
