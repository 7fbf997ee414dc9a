"""Ask: ``decide`` and ``what-if``, from stored evidence and without torch or Ray."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from orchestrator.cli.options import (
    as_json,
    exit_code_option,
    experiment_argument,
    format_option,
    mixtures,
    overrides_argument,
    runs_dir_option,
    tracking_uri_option,
    warn,
)
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.results import Verdict

MAX_GRID = 100
"""Verdicts of one ``--vary``; each takes a tenth of a second or more."""


@click.command("decide")
@experiment_argument
@overrides_argument
@runs_dir_option
@tracking_uri_option
@format_option
@click.option("--all", "is_whole", is_flag=True, help="All candidates, not only the frontier and the best per model.")
@exit_code_option
def decide_command(
    experiment: str,
    overrides: tuple[str, ...],
    runs_dir: str,
    tracking_uri: str | None,
    form: str,
    is_whole: bool,
    exit_code: bool,
) -> None:
    """The verdict from stored evidence, under changed thresholds or prices if you like; nothing is trained."""
    from orchestrator.cli.compose import rates_of, read_experiment
    from orchestrator.cli.measure import exit_code_of
    from orchestrator.experiment import decide_on
    from orchestrator.report.markdown import verdict_markdown, verdict_text

    spec, view = read_experiment(experiment, runs_dir, overrides, tracking_uri=tracking_uri)
    warn(view.warnings)
    verdict = decide_on(spec, view.data, view, rates_of(spec))
    warn(mixtures(view))
    if form == "json":
        click.echo(as_json(verdict))
    else:
        show = verdict_text if form == "table" else verdict_markdown
        click.echo(show(verdict, is_whole=is_whole))
    if overrides and view.verdict is not None:
        click.echo(f"\nstanding verdict: {view.verdict.kind}, P {view.verdict.probability:.3f} (not changed)", err=True)
    if exit_code:
        sys.exit(exit_code_of(verdict, view.approval))


@click.command("what-if")
@experiment_argument
@overrides_argument
@runs_dir_option
@tracking_uri_option
@click.option(
    "--vary",
    "varied",
    multiple=True,
    metavar="KEY=V1,V2...",
    help="One key over several values: a table of verdicts. Given twice, every combination.",
)
@format_option
def what_if(
    experiment: str,
    overrides: tuple[str, ...],
    runs_dir: str,
    tracking_uri: str | None,
    varied: tuple[str, ...],
    form: str,
) -> None:
    """The verdict under changed keys beside the standing one and the one as configured; nothing is written or trained.

    \b
    For example:
      what-if digits pricing.purchase=spot full_run.deadline_h=2
      what-if digits full_run.fraction=2 data.label_noise=0.05
      what-if digits --vary decision.min_gain_per_dollar=0.5,1,2
    """
    if not overrides and not varied:
        raise UsageError("what-if needs at least one KEY=VALUE, such as pricing.purchase=spot, or --vary KEY=V1,V2")
    if varied:
        grid = [_values_of(text) for text in varied]
        _show_grid(_Question(experiment, runs_dir, tracking_uri), overrides, grid, form)
        return
    from orchestrator.report.comparison import comparison_markdown, comparison_text, differences
    from orchestrator.report.markdown import bill_text

    ask = _Question(experiment, runs_dir, tracking_uri)
    view, configured, changed = ask.view, ask.verdict(), ask.verdict(overrides)
    warn(view.warnings)
    warn(mixtures(view))
    named = [*_standing_and_configured(view.verdict, configured), ("what if", changed)]
    if form == "json":
        records = {"overrides": list(overrides), "differences": differences(configured, changed)}
        click.echo(as_json(records | {"standing": view.verdict, "as_configured": configured, "what_if": changed}))
        return
    click.echo((comparison_text if form == "table" else comparison_markdown)(named))
    bill = f"what if: {bill_text(changed.best)}"
    click.echo(f"\n{bill}" if form == "table" else f"\n```\n{bill}\n```")


class _Question:
    """Evidence that is read once, wherever it lies, and asked as often as wanted."""

    def __init__(self, experiment: str, runs_dir: str, tracking_uri: str | None) -> None:
        from orchestrator.cli.compose import read_experiment

        self._experiment = experiment
        self._spec, self.view = read_experiment(experiment, runs_dir, tracking_uri=tracking_uri)

    def verdict(self, overrides: Sequence[str] = ()) -> Verdict:
        """The verdict under changed keys. Raises ConfigError, PriceError, EvidenceError."""
        from orchestrator.cli.compose import rates_of
        from orchestrator.config import override_spec
        from orchestrator.experiment import decide_on

        spec = override_spec(self._spec, overrides, source=self._experiment)
        return decide_on(spec, self.view.data, self.view, rates_of(spec))


def _standing_and_configured(standing: Verdict | None, configured: Verdict) -> list[tuple[str, Verdict]]:
    """One column where the standing verdict is what the evidence still leads to, else one for each."""
    from orchestrator.report.comparison import is_same_answer

    if standing is None:
        return [("as configured", configured)]
    if is_same_answer(standing, configured):
        return [("standing, as configured", configured)]
    return [("standing", standing), ("as configured", configured)]


def _show_grid(
    ask: _Question,
    overrides: tuple[str, ...],
    varied: Sequence[tuple[str, Sequence[str]]],
    form: str,
) -> None:
    """A row for every combination of the varied keys' values."""
    from orchestrator.report.comparison import grid_header, grid_row
    from orchestrator.report.markdown import markdown_table
    from orchestrator.report.wording import plain_table, printable

    keys = [key for key, _ in varied]
    combinations = list(itertools.product(*(values for _, values in varied)))
    if len(combinations) > MAX_GRID:
        raise UsageError(f"--vary asks for {len(combinations)} verdicts; at most {MAX_GRID} are made at once")
    found = []
    for values in combinations:
        changes = [f"{key}={value}" for key, value in zip(keys, values, strict=True)]
        found.append((values, ask.verdict((*overrides, *changes))))
    warn((*ask.view.warnings, *mixtures(ask.view)))
    if form == "json":
        click.echo(as_json({"overrides": list(overrides), "verdicts": [_grid_record(keys, *each) for each in found]}))
        return
    header, rows = grid_header(keys), [grid_row(values, verdict) for values, verdict in found]
    click.echo(printable(plain_table(header, rows, indent="")) if form == "table" else markdown_table(header, rows))


def _grid_record(keys: Sequence[str], values: Sequence[str], verdict: Verdict) -> Mapping[str, object]:
    """The verdict without its list of candidates, which would be most of a hundred times itself."""
    return {
        "values": dict(zip(keys, values, strict=True)),
        "kind": verdict.kind,
        "probability": verdict.probability,
        "reason": verdict.reason,
        "best": verdict.best,
        "vetoes": verdict.vetoes,
        "inputs_digest": verdict.inputs_digest,
    }


def _values_of(text: str) -> tuple[str, list[str]]:
    """Key and values of ``KEY=V1,V2``; a comma within brackets, braces or quotes belongs to its value."""
    key, equals, rest = text.partition("=")
    values, depth, quote = [""], 0, ""
    for character in rest:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        depth += (character in "[{") - (character in "]}") if not quote else 0
        if character == "," and depth == 0 and not quote:
            values.append("")
        else:
            values[-1] += character
    if not equals or not key.strip() or any(not value.strip() for value in values):
        raise UsageError(f"--vary {text!r} is not KEY=V1,V2, as in decision.min_gain_per_dollar=0.5,1,2")
    return key.strip(), [value.strip() for value in values]
