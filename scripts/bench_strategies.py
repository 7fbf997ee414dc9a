#!/usr/bin/env python
"""An adaptive sweep beside the whole grid, for real: dollars, verdict, time to it.

    python scripts/bench_strategies.py configs/vision.yaml [KEY=VALUE ...] [--repeats 2]

For each repeat and each strategy in turn the whole command runs in a process and a run folder of its own. Dollars are
what the sweep's trials came to at the config's prices. The time to a verdict is read off the journal: the evidence so
far is judged again after every trial, and the first verdict is the first that can be given, the settled one the first
after which the kind does not change any more.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from orchestrator.cli.compose import rates_of
from orchestrator.config import load_config
from orchestrator.decision import decide
from orchestrator.errors import EvidenceError
from orchestrator.experiment import launch_interval
from orchestrator.intervals import format_usd
from orchestrator.results import TrialResult
from orchestrator.tracking.journal import Journal, JournalView

STRATEGIES = ("grid", "adaptive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """One sweep, as its journal tells it."""

    kind: str
    probability: float
    target: str
    n_trials: int
    usd: float
    wall_time_s: float
    """Of the whole command."""
    first_s: float
    """From the launch of the first trial to the first verdict that could be given."""
    settled_s: float
    settled_usd: float
    end: str


def swept(config: str, overrides: Sequence[str], strategy: str, folder: Path) -> Swept:
    """Run the command in an empty folder and read its journal."""
    keys = [*overrides, f"sweep.strategy={strategy}", f"runs_dir={folder / 'runs'}"]
    keys.append(f"tracking.uri=sqlite:///{folder / 'mlflow.db'}")
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "orchestrator", "sweep", config, *keys], check=True, capture_output=True, cwd=Path.cwd()
    )
    wall_time_s = time.perf_counter() - begun
    view = Journal.read(next((folder / "runs").glob("*/journal.jsonl")).parent)
    assert view.verdict is not None
    assert view.sweep_end is not None
    kinds = verdicts_so_far(view)
    first = kinds[0]
    last_other = max((n for n, (_, kind, _) in enumerate(kinds) if kind != view.verdict.kind), default=-1)
    settled = kinds[min(last_other + 1, len(kinds) - 1)]
    return Swept(
        kind=view.verdict.kind, probability=view.verdict.probability, target=str(view.verdict.best.candidate),
        n_trials=len(view.results), usd=view.trials_usd, wall_time_s=wall_time_s, first_s=first[0],
        settled_s=settled[0], settled_usd=settled[2], end=view.sweep_end.cause,
    )  # fmt: skip


def verdicts_so_far(view: JournalView) -> list[tuple[float, str, float]]:
    """Seconds since the first launch, kind and dollars spent, after every trial from which a verdict can be given."""
    entries = [entry for entry in view.entries if entry.kind in ("launch", "trial")]
    begun = datetime.fromisoformat(entries[0].at)
    by_key = {result.key: result for result in view.results}
    sizes = {report.model: report.checkpoint_bytes for report in view.smoke}
    rates, launch = rates_of(view.spec), launch_interval(view)
    results: list[TrialResult] = []
    told = []
    for entry in (entry for entry in entries if entry.kind == "trial"):
        results.append(by_key[entry.payload["key"]])
        try:
            verdict = decide(
                view.spec, view.data, results, rates, checkpoint_bytes=sizes, full_run_startup_s=launch,
                probes={probe.model: probe.measurement for probe in view.probes},
            )  # fmt: skip
        except EvidenceError:
            continue
        seconds = (datetime.fromisoformat(entry.at) - begun).total_seconds()
        told.append((seconds, verdict.kind, sum(result.cost_usd for result in results)))
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    load_config(Path(options.config), options.overrides)  # its faults are told before anything runs
    rows: dict[str, list[Swept]] = {strategy: [] for strategy in STRATEGIES}
    for _ in range(options.repeats):
        for strategy in STRATEGIES:
            with tempfile.TemporaryDirectory() as name:
                row = swept(options.config, options.overrides, strategy, Path(name))
            rows[strategy].append(row)
            print(
                f"{strategy:<9} {row.n_trials:3} trials {format_usd(row.usd):>9} {row.wall_time_s:6.0f} s  "
                f"first verdict {row.first_s:5.1f} s, settled {row.settled_s:5.1f} s at {format_usd(row.settled_usd)}  "
                f"{row.kind} {row.probability:.2f}: {row.target} ({row.end})",
                flush=True,
            )
    dollars, seconds = (
        statistics.median(
            getattr(a, name) / getattr(g, name) for a, g in zip(rows["adaptive"], rows["grid"], strict=True)
        )
        for name in ("usd", "wall_time_s")
    )
    same = sum(a.kind == g.kind for a, g in zip(rows["adaptive"], rows["grid"], strict=True))
    print(
        f"\nadaptive over grid, median of {options.repeats}: dollars {dollars:.2f}, wall time {seconds:.2f}; "
        f"the same kind of verdict in {same} of {options.repeats}"
    )


if __name__ == "__main__":
    main()
