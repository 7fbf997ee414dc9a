"""Arguments and options that several commands share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from orchestrator.tracking.journal import JournalView

config_argument = click.argument("config", type=click.Path())
experiment_argument = click.argument("experiment")
overrides_argument = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
runs_dir_option = click.option(
    "--runs-dir", default="runs", show_default=True, help="Folder of the journals, for an EXPERIMENT given by name."
)
tracking_uri_option = click.option(
    "--tracking-uri",
    metavar="URI",
    help="Read the journal that this MLflow store keeps of EXPERIMENT, given by name, instead of a run folder.",
)
format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "md"]),
    default="table",
    show_default=True,
    help="Output form.",
)
exit_code_option = click.option(
    "--exit-code",
    is_flag=True,
    help="Also tell the verdict by exit code: 10 hold, 11 reject, 12 awaits approval, 20 a cap was reached.",
)


def as_json(value: object) -> str:
    """Records as indented JSON."""
    from orchestrator.tracking.records import to_plain

    return json.dumps(to_plain(value), indent=2)


def together(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several decorators as one, outermost first."""

    def decorate(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def warn(warnings: Iterable[str]) -> None:
    """A line each on stderr."""
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


def mixtures(view: JournalView) -> tuple[str, ...]:
    """Trials that do not count because they are of other data, when there are some."""
    from orchestrator.evidence import mixture

    mixed = mixture(view.data, view.results)
    return () if mixed is None else (mixed,)
