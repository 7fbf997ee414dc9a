#!/usr/bin/env python
"""Fill the generated blocks and the picture of README.md, or say that they are stale.

    python scripts/render_readme.py [--check]

Numbers and the picture come from the stored evidence of one real experiment, examples/evidence/cifar10: its journal, as
sweep and promotion wrote it, with the paths of the machine it ran on shortened; how well curves are forecast from what
bench_learning_curves.py measured, examples/evidence/learning_curves. Help texts come from the commands. Exit code 1
with --check when a block is not what it would be now.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner

from orchestrator.cli.main import cli
from orchestrator.intervals import format_usd
from orchestrator.report.figures import learning_curves
from orchestrator.report.markdown import verdict_text
from orchestrator.report.wording import OUTCOME_HEADER, duration, outcome_rows
from orchestrator.tracking.journal import Journal, JournalView

ROOT = Path(__file__).resolve().parent.parent
EVIDENCE = ROOT / "examples" / "evidence" / "cifar10"
PICTURE = EVIDENCE / "learning_curves.png"
BENCHMARK = ROOT / "examples" / "evidence" / "learning_curves" / "benchmark.json"
COMPARED = {
    "ours, cross-validated by data set": "this tool",
    "bma": "Bayesian model average of nine families (after Domhan et al. 2015)",
    "median_of_six": "median of six fits",
    "power law with floor": "power law with floor",
    "last value": "last value",
}
"""Forecasters of the stored benchmark that the README shows, and what it calls them."""
BLOCK = re.compile(r"(<!-- generated: (?P<name>[\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def text_block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```\n"


def help_of(*path: str) -> str:
    """The help text of a command, as a user sees it at 80 columns."""
    result = CliRunner().invoke(cli, [*path, "--help"], prog_name="python -m orchestrator", terminal_width=80)
    if result.exit_code:
        raise click.ClickException(result.output)
    return text_block(f"$ python -m orchestrator {' '.join((*path, '--help'))}\n{result.output}")


def verdict_block(view: JournalView) -> str:
    if view.verdict is None:
        raise SystemExit(f"{EVIDENCE}: the journal holds no verdict")
    shown = verdict_text(view.verdict)
    return text_block(f"$ python -m orchestrator sweep configs/cifar10.yaml\n{shown}")


def what_if_block() -> str:
    """The first lines of a what-if on the stored evidence: the table that puts two bills side by side."""
    asked = ("pricing.purchase=spot", "pricing.spot.mean_uptime_h=3", "full_run.deadline_h=1")
    result = CliRunner().invoke(cli, ["what-if", str(EVIDENCE), *asked])
    if result.exit_code:
        raise click.ClickException(result.output)
    return text_block(result.stdout.split("\n\n", 1)[0])


def outcome_block(view: JournalView) -> str:
    """Forecast beside outcome, in words of one run."""
    outcome = view.outcomes[-1]
    metric = view.spec.decision.metric
    rows = [f"| {' | '.join(row)} |" for row in (OUTCOME_HEADER, ("---",) * 4, *outcome_rows(outcome, metric))]
    trials = [result for result in view.results if result.training is not None]
    largest = max(result.training.n_train for result in trials if result.training)
    spent = format_usd(sum(result.cost_usd for result in trials))
    lead = (
        f"{len(trials)} trials on up to {largest:,} of {view.data.n_train:,} training rows cost {spent}. "
        f"The full run, {outcome.candidate}, then took {duration(outcome.wall_time_s)}:\n\n"
    )
    return lead + "\n".join(rows) + "\n"


def picture_block(view: JournalView) -> str:
    if view.verdict is None:
        raise SystemExit(f"{EVIDENCE}: the journal holds no verdict")
    alt = learning_curves(view.verdict, view.outcomes[-1]).alt
    return f"![{alt}]({PICTURE.relative_to(ROOT).as_posix()})\n"


def benchmark_block(record: dict[str, Any]) -> str:
    """How well learning curves are forecast, beside other forecasters: a short form of the stored benchmark."""
    header = ("forecaster", "error", "3 seeds", "ladder", "coverage", "width", "pinball", "regret")
    found = {each["name"]: each["scores"] for each in record["forecasters"]}
    rows = [header, ("---", *("---:",) * (len(header) - 1))]
    rows += [(shown, *_benchmark_row(found[name])) for name, shown in COMPARED.items()]
    measured, asked = record["sources"]["lcdb11"], record["groups"]["lcdb11"]
    lead = (
        "Seen up to 5, 10, 25 or 50% of its data, what error rate does a learning curve reach at all of it? Measured "
        f"on LCDB 1.1 (Yan, Mohr and Viering, NeurIPS 2025, CC BY 4.0; {measured['curves']:,} curves, "
        f"{measured['datasets']} data sets) by {asked['tasks']:,} forecasts of the {asked['curves']:,} curves, "
        f"{asked['datasets']} data sets, that are long enough, cross-validated by data set ({asked['families']} "
        "families of data sets, for some come under several names):\n\n"
    )
    return lead + "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _benchmark_row(scores: dict[str, Any]) -> tuple[str, ...]:
    means = scores["lcdb11"]
    return (
        *(f"{scores[group]['mae_pp']:.2f}" for group in ("lcdb11", "lcdb11_3seed", "lcdb11 ladder")),
        "none" if means["coverage"] is None else f"{means['coverage']:.1%}",
        "none" if means["width_pp"] is None else f"{means['width_pp']:.1f}",
        "none" if means["pinball_pp"] is None else f"{means['pinball_pp']:.3f}",
        f"{means['regret_at']['50%']:.0%}",
    )


def rendered(readme: str, view: JournalView) -> str:
    """The README with every generated block made anew."""
    blocks: dict[str, Callable[[], str]] = {
        "picture": lambda: picture_block(view),
        "verdict": lambda: verdict_block(view),
        "what if": what_if_block,
        "outcome": lambda: outcome_block(view),
        "learning curve benchmark": lambda: benchmark_block(json.loads(BENCHMARK.read_text(encoding="utf-8"))),
        "help": help_of,
    }

    def fill(match: re.Match[str]) -> str:
        name = match["name"]
        body = blocks[name]() if name in blocks else help_of(*name.removeprefix("help ").split())
        return f"{match[1]}{body}{match[3]}"

    return BLOCK.sub(fill, readme)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when something is stale")
    check = parser.parse_args().check
    path = ROOT / "README.md"
    view = Journal.read(EVIDENCE)
    now, then = rendered(path.read_text(encoding="utf-8"), view), path.read_text(encoding="utf-8")
    if check:
        if now != then:
            sys.exit("README.md is stale: run scripts/render_readme.py")
        return
    path.write_text(now, encoding="utf-8")
    if view.verdict is not None:
        PICTURE.write_bytes(learning_curves(view.verdict, view.outcomes[-1]).png)


if __name__ == "__main__":
    main()
