"""The command line: one group, its commands from one module per part of the journey, errors as one message."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from orchestrator import __version__
from orchestrator.cli.bench_io import bench_io_command
from orchestrator.cli.check_data import check_data_command
from orchestrator.cli.checklist import checklist_command
from orchestrator.cli.drill import alert_group, drill_command
from orchestrator.cli.fit import fit_command
from orchestrator.cli.graph import graph
from orchestrator.cli.judge import decide_command, what_if
from orchestrator.cli.ledger import history, status
from orchestrator.cli.measure import config_group, plan, sweep
from orchestrator.cli.prepare import prepare_command
from orchestrator.cli.report import report, ui
from orchestrator.cli.scale import approve, promote, reject
from orchestrator.cli.watch import watch
from orchestrator.errors import OrchestratorError

_EPILOG = """\b
Examples:
  python -m orchestrator prepare photos/ --label label -o data/photos
  python -m orchestrator sweep configs/vision.yaml
  python -m orchestrator decide digits decision.min_gain_per_dollar=50
  python -m orchestrator what-if digits pricing.purchase=spot
  python -m orchestrator fit points.csv --target-n 1000000
  python -m orchestrator report digits
"""


class _Group(click.Group):
    """Lists commands in the order of the journey, and prints our errors without a traceback."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except OrchestratorError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo(
                "interrupted; the journal has what was measured, and the same command goes on from there", err=True
            )
            sys.exit(130)


@click.group(cls=_Group, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="orchestrator")
def cli() -> None:
    """Should we scale? Measure small, forecast honestly, price everything, decide with a probability.

    EXPERIMENT is the name of an experiment, its run folder, or its config file. OVERRIDES change single keys of the
    config, as in training.epochs=10. Exit codes: 0 fine, 1 error, 2 usage or config, 130 interrupted.
    """


for command in (
    prepare_command, check_data_command, bench_io_command, plan, sweep, decide_command, what_if, fit_command, report,
    ui, graph, status, checklist_command, watch, approve, reject, promote, drill_command, alert_group, history,
    config_group,
):  # fmt: skip
    cli.add_command(command)


def main() -> None:
    """Entry point of ``orchestrator`` and ``python -m orchestrator``."""
    # An installed script does not have the current folder on its path, where `task` finds the user's own module.
    if not sys.flags.safe_path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    cli(prog_name="python -m orchestrator" if sys.argv[0].endswith("__main__.py") else "orchestrator")
