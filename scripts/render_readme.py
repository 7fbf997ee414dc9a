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
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner

from orchestrator.cli.main import cli
from orchestrator.config.rates import rates_of
from orchestrator.experiment import decide_on
from orchestrator.intervals import format_usd
from orchestrator.report.figures import learning_curves
from orchestrator.report.markdown import verdict_text
from orchestrator.report.wording import OUTCOME_HEADER, duration, outcome_rows
from orchestrator.tracking.journal import Journal, JournalView

ROOT = Path(__file__).resolve().parent.parent
EVIDENCE = ROOT / "examples" / "evidence" / "cifar10"
PICTURE = EVIDENCE / "learning_curves.png"
BENCHMARK = ROOT / "examples" / "evidence" / "learning_curves" / "benchmark.json"
SCALING_BENCHMARK = ROOT / "examples" / "evidence" / "worker_scaling" / "benchmark.json"
SPOT_BENCHMARK = ROOT / "examples" / "evidence" / "spot" / "benchmark.json"
DECISIONS_BENCHMARK = ROOT / "examples" / "evidence" / "decisions" / "benchmark.json"
PLANNER_BENCHMARK = ROOT / "examples" / "evidence" / "planner" / "benchmark.json"
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
    """The verdict on the stored evidence as it is told today, at the prices of the day it was given."""
    given = next(entry for entry in reversed(view.entries) if entry.kind == "verdict")
    rates = rates_of(view.spec, datetime.fromisoformat(given.at).date())
    shown = verdict_text(decide_on(view.spec, view.data, view, rates))
    return text_block(f"$ python -m orchestrator decide examples/evidence/cifar10\n{shown}")


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


SCALING_COMPARED = {
    "ours, cross-validated": "this tool",
    "ideal scaling": "ideal scaling",
    "gustafson": "Gustafson's law",
    "amdahl": "Amdahl's law",
    "ernest": "Ernest (Venkataraman et al. 2016)",
}


def scaling_block(record: dict[str, Any]) -> str:
    """How well run times on more workers are forecast, in short."""
    protocols = [record["protocols"][name] for name in ("quarter", "half")]
    quarter, half = ({each["name"]: each for each in protocol["forecasters"]} for protocol in protocols)
    rows = [("forecaster", "seen to a quarter", "90% interval", "seen to half", "90% interval")]
    rows.append(("---", "---:", "---:", "---:", "---:"))
    for name, shown in SCALING_COMPARED.items():
        cells = [cell for scores in (quarter[name], half[name]) for cell in _scaling_cells(scores)]
        rows.append((shown, *cells))
    counts = " and ".join(str(protocol["n_jobs"]) for protocol in protocols)
    lead = (
        "How long does a job take on all its workers, seen on up to a quarter or half of them? Relative error, median "
        f"and 90% quantile over {counts} measured jobs (MLPerf Training results, LLM Foundry, Gavel, Sia, C3O and DOS "
        "runtime data), held out by family of jobs:\n\n"
    )
    return lead + "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _scaling_cells(scores: dict[str, Any]) -> tuple[str, str]:
    held = scores["coverage"]
    width = "none" if held is None else f"holds {held:.0%}, factor {scores['hi_lo']:.1f}"
    return f"{scores['median']:.3f} / {scores['p90']:.3f}", width


SPOT_COMPARED = {
    "ours, other datasets' statistics": "this tool",
    "Poisson, past's rates": "Poisson model with the past's rates",
    "no preemption": "no preemption",
}


def spot_block(record: dict[str, Any]) -> str:
    """How well bill and wall time on spot are forecast, in short."""
    groups = record["groups"].items()
    rows = [("forecaster", *(f"{name}: {what}" for name, _ in groups for what in ("bill", "wall time")))]
    rows.append(("---", *("---:",) * (len(rows[0]) - 1)))
    for name, shown in SPOT_COMPARED.items():
        cells = [
            f"{scores['median_traces'][i]:.3f} / {scores['p90_traces'][i]:.3f}"
            for _, group in groups
            for scores in (group["forecasters"][name],)
            for i in (0, 1)
        ]
        rows.append((shown, *cells))
    traces = " and ".join(str(len(group["forecasters"][next(iter(SPOT_COMPARED))]["by_trace"])) for _, group in groups)
    lead = (
        "What does a job of 8 to 72 hours on spot come to, having seen the first half of a real trace of availability "
        f"and run on the second? Relative error, median and 90% quantile over {traces} traces "
        f"(skypilot-org/spot-traces); {len(record['collapsed'])} more, on which most such jobs never end, are not "
        "scored:\n\n"
    )
    return lead + "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


DECISIONS_COMPARED = {
    "ours, a HOLD goes by its mean net value": "this tool; a HOLD goes by its expected net value",
    "ours, a HOLD is not run": "this tool; only a PROMOTE is run",
    "last two points, extrapolated": "last two points extrapolated, against the threshold",
    "power law, point estimate": "point estimate of a power law, against the threshold",
    "always": "always run",
    "never": "never run",
}


def decisions_block(record: dict[str, Any]) -> str:
    """What decisions cost on replayed curves, in short."""
    groups = record["groups"]
    header = ("policy", *(f"{name}: {what}" for name in groups for what in ("regret", "wrong runs", "missed")))
    rows = [header, ("---", *("---:",) * (len(header) - 1))]
    for name, shown in DECISIONS_COMPARED.items():
        found = [group["policies"][name] for group in groups.values()]
        cells = [
            cell
            for policy in found
            for cell in (f"{policy['regret_of_oracle']:.0%}", f"{policy['wrong']:.0%}", f"{policy['missed']:.0%}")
        ]
        rows.append((shown, *cells))
    counts = ", ".join(f"{group['cases']} of {name}" for name, group in groups.items())
    lead = (
        f"Should the full run have been started? Measured learning curves cut at a half, a quarter or an eighth "
        f"({counts}), a value for each point, and full runs of $1 to $10,000 at the shipped prices. Regret is what is "
        "given away of all that whoever knows the outcome would earn; wrong runs did not pay, missed ones would have:"
        "\n\n"
    )
    return lead + "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def planner_block(record: dict[str, Any]) -> str:
    """What an adaptive sweep saves on replayed curves, in short."""
    rows = [("sweep", "same verdict as the grid", "dollars, median", "dollars, mean"), ("---", "---:", "---:", "---:")]
    rows += [
        (each["name"], f"{each['agreement']:.0%}", f"{each['median_share']:.0%}", f"{each['mean_share']:.0%}")
        for each in record["strategies"]
    ]
    kinds = ", ".join(f"{n} {kind}" for kind, n in record["mixture"].items())
    lead = f"What is left out without changing the verdict? Replayed sweeps of two models at five sizes ({kinds}):\n\n"
    return lead + "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def rendered(readme: str, view: JournalView) -> str:
    """The README with every generated block made anew."""
    blocks: dict[str, Callable[[], str]] = {
        "picture": lambda: picture_block(view),
        "verdict": lambda: verdict_block(view),
        "what if": what_if_block,
        "outcome": lambda: outcome_block(view),
        "learning curve benchmark": lambda: benchmark_block(read_json(BENCHMARK)),
        "worker scaling benchmark": lambda: scaling_block(read_json(SCALING_BENCHMARK)),
        "spot benchmark": lambda: spot_block(read_json(SPOT_BENCHMARK)),
        "decisions benchmark": lambda: decisions_block(read_json(DECISIONS_BENCHMARK)),
        "planner benchmark": lambda: planner_block(read_json(PLANNER_BENCHMARK)),
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
