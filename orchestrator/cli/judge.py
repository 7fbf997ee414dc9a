"""Ask: ``decide`` and ``what-if``, from stored evidence and without torch or Ray."""

from __future__ import annotations

import sys

import click

from orchestrator.cli.options import (
    as_json,
    exit_code_option,
    experiment_argument,
    format_option,
    mixtures,
    overrides_argument,
    runs_dir_option,
    warn,
)
from orchestrator.errors import UsageError


@click.command("decide")
@experiment_argument
@overrides_argument
@runs_dir_option
@format_option
@exit_code_option
def decide_command(experiment: str, overrides: tuple[str, ...], runs_dir: str, form: str, exit_code: bool) -> None:
    """The verdict from stored evidence, under changed thresholds or prices if you like; nothing is trained."""
    from orchestrator.cli.compose import rates_of, read_experiment
    from orchestrator.cli.measure import exit_code_of
    from orchestrator.experiment import decide_on
    from orchestrator.report.markdown import verdict_markdown, verdict_text

    spec, view = read_experiment(experiment, runs_dir, overrides)
    warn(view.warnings)
    verdict = decide_on(spec, view.data, view, rates_of(spec))
    warn(mixtures(view))
    show = {"table": verdict_text, "md": verdict_markdown, "json": as_json}[form]
    click.echo(show(verdict))
    if overrides and view.verdict is not None:
        click.echo(f"\nstanding verdict: {view.verdict.kind}, P {view.verdict.probability:.3f} (not changed)", err=True)
    if exit_code:
        sys.exit(exit_code_of(verdict, view.approval))


@click.command("what-if")
@experiment_argument
@overrides_argument
@runs_dir_option
@format_option
def what_if(experiment: str, overrides: tuple[str, ...], runs_dir: str, form: str) -> None:
    """The verdict under changed keys beside the one as configured, and the changed bill; nothing is written or trained.

    For example: what-if digits pricing.purchase=spot full_run.deadline_h=2
    """
    from orchestrator.cli.compose import rates_of, read_experiment
    from orchestrator.experiment import decide_on
    from orchestrator.report.markdown import bill_text, comparison_markdown, comparison_text

    if not overrides:
        raise UsageError("what-if needs at least one KEY=VALUE, such as pricing.purchase=spot")
    spec, view = read_experiment(experiment, runs_dir)
    changed, _ = read_experiment(experiment, runs_dir, overrides)
    warn(view.warnings)
    standing = decide_on(spec, view.data, view, rates_of(spec))
    other = decide_on(changed, view.data, view, rates_of(changed))
    warn(mixtures(view))
    if form == "json":
        click.echo(as_json({"as_configured": standing, "what_if": other}))
        return
    compare = comparison_text if form == "table" else comparison_markdown
    click.echo(compare("as configured", standing, "what if", other))
    bill = f"what if: {bill_text(other.best)}"
    click.echo(f"\n{bill}" if form == "table" else f"\n```\n{bill}\n```")
