"""``checklist``: the five questions before scaling, from the journal, or from what is known before any sweep."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.console import Narrator
from orchestrator.cli.options import (
    as_json,
    experiment_argument,
    format_option,
    mixtures,
    overrides_argument,
    runs_dir_option,
    warn,
)

if TYPE_CHECKING:
    from orchestrator.results import CheckItem, DataSummary, Interval
    from orchestrator.spec import ExperimentSpec
    from orchestrator.tracking.journal import JournalView

FAILED_EXIT_CODE = 13
_STATUS = {"pass": "pass", "warn": "WARN", "fail": "FAIL", "not_checked": "not checked"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The items of one model, and what they are about."""

    about: str
    items: tuple[CheckItem, ...]


@click.command("checklist")
@experiment_argument
@overrides_argument
@runs_dir_option
@format_option
@click.option(
    "--exit-code", is_flag=True, help=f"Exit with {FAILED_EXIT_CODE} when an item fails, which also holds `promote`."
)
def checklist_command(experiment: str, overrides: tuple[str, ...], runs_dir: str, form: str, exit_code: bool) -> None:
    """The five questions before scaling: pass, warn or fail, with evidence and the way out; nothing is trained.

    For the candidate the verdict is about, or for every model before there is enough to choose one.
    """
    spec, view, data = _known(experiment, runs_dir, overrides)
    if view is not None:
        warn((*view.warnings, *mixtures(view)))
    checked = judged(spec, view, data)
    show = {"table": checklist_text, "md": checklist_markdown, "json": _as_json}[form]
    click.echo(show(spec.name, checked))
    if exit_code and any(item.status == "fail" for each in checked for item in each.items):
        sys.exit(FAILED_EXIT_CODE)


def _known(
    experiment: str, runs_dir: str, overrides: tuple[str, ...]
) -> tuple[ExperimentSpec, JournalView | None, DataSummary]:
    """The experiment as recorded; a config that was never swept has its data prepared, as `plan` does."""
    from orchestrator.cli.compose import locate_data, read_experiment
    from orchestrator.cli.preflight import preflight
    from orchestrator.config import load_config
    from orchestrator.errors import UnknownExperimentError

    try:
        spec, view = read_experiment(experiment, runs_dir, overrides)
    except UnknownExperimentError:
        path = Path(experiment)
        if path.suffix not in {".yaml", ".yml"}:
            raise
        spec = load_config(path, overrides)
        preflight(spec, experiment)
        return spec, None, locate_data(spec, Narrator().say).summary
    return spec, view, view.data


def judged(spec: ExperimentSpec, view: JournalView | None, data: DataSummary) -> tuple[Checked, ...]:
    """The checklist of the verdict's candidate; of every model while there is no forecast."""
    from orchestrator.cli.compose import rates_of
    from orchestrator.errors import EvidenceError
    from orchestrator.experiment import decide_on

    if view is None:
        return tuple(of_model(spec, None, data, model.name, about=model.name) for model in spec.models)
    try:
        verdict = decide_on(spec, data, view, rates_of(spec))
    except EvidenceError as error:
        warn([f"no verdict yet: {error}"])
        return tuple(of_model(spec, view, data, model.name, about=model.name) for model in spec.models)
    best = verdict.best.candidate
    band = next((curve for curve in verdict.curves if curve.model == best.model), None)
    return (
        of_model(
            spec,
            view,
            data,
            best.model,
            about=str(best),
            probability=verdict.best.probability,
            backtest=None if band is None else band.backtest,
        ),
    )


def of_model(
    spec: ExperimentSpec,
    view: JournalView | None,
    data: DataSummary,
    model: str,
    *,
    about: str,
    probability: float | None = None,
    backtest: tuple[Interval, float] | None = None,
) -> Checked:
    """The checklist of one model, from what was measured so far; nothing before a first sweep."""
    from orchestrator.checklist import checklist
    from orchestrator.evidence import usable_results
    from orchestrator.planner import plan_grid
    from orchestrator.spec import evidence_scope

    planned = [trial for trial in plan_grid(spec, data) if trial.model == model]
    results = () if view is None else view.results
    scope = evidence_scope(spec, data.fingerprint, model)
    probes = [] if view is None else [each for each in view.probes if (each.model, each.scope) == (model, scope)]
    items = checklist(
        spec,
        data,
        usable_results(spec, data, results, model),
        planned=planned,
        n_failed=sum(result.status == "failed" and result.trial in planned for result in results),
        probability=probability,
        probe=probes[-1].measurement if probes else None,
        backtest=backtest,
        drills=() if view is None else view.drills,
        approval=None if view is None else view.approval,
    )
    return Checked(about=about, items=items)


def checklist_text(name: str, checked: Sequence[Checked]) -> str:
    """A block for each item: status and name, evidence below, and the way out of what does not pass."""
    from textwrap import fill

    blocks = []
    for each in checked:
        lines = [f"checklist of {name}: {each.about}"]
        for item in each.items:
            lines += ["", f"  {_STATUS[item.status]:<11}  {item.name}"]
            lines.append(fill(item.evidence, 110, initial_indent=_INDENT, subsequent_indent=_INDENT))
            if way_out := _way_out(item):
                hang = f"{_INDENT}         "
                lines.append(fill(f"way out: {way_out}", 110, initial_indent=_INDENT, subsequent_indent=hang))
        blocks.append("\n".join([*lines, "", f"  {_summary(each.items)}"]))
    return "\n\n".join(blocks)


_INDENT = " " * 15


def checklist_markdown(name: str, checked: Sequence[Checked]) -> str:
    """A table for each candidate."""
    blocks = []
    for each in checked:
        rows = [
            f"| {_STATUS[item.status]} | {item.name} | {_cell(item.evidence)} | {_cell(_way_out(item))} |"
            for item in each.items
        ]
        head = [f"## Checklist of {_cell(name)}: {_cell(each.about)}", ""]
        head += ["| status | item | evidence | way out |", "|---|---|---|---|"]
        blocks.append("\n".join([*head, *rows, "", _summary(each.items)]))
    return "\n\n".join(blocks)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _as_json(name: str, checked: Sequence[Checked]) -> str:
    from orchestrator.tracking.records import to_plain

    of_each = [
        {"about": each.about, "items": [{**to_plain(item), "way_out": _way_out(item) or None} for item in each.items]}
        for each in checked
    ]
    return as_json({"experiment": name, "checklists": of_each})


def _way_out(item: CheckItem) -> str:
    from orchestrator.checklist import WAYS_OUT

    return "" if item.status == "pass" else WAYS_OUT[item.name]


def _summary(items: Sequence[CheckItem]) -> str:
    from orchestrator.checklist import WORTH_IT

    failed = [item.name.split()[0] for item in items if item.status == "fail"]
    if not failed:
        return "nothing fails: the checklist does not hold a promotion"
    if failed == [WORTH_IT.split()[0]]:
        return "C5 fails: the verdict or a person says no"
    return f"{', '.join(failed)} fail{'s' if len(failed) == 1 else ''}: `promote` refuses without --override REASON"
