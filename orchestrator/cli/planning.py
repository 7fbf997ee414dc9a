"""The text of ``plan``: what a sweep would do, cost and leave on the disk, judged only by what was measured before."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.candidates import MIN_SIZES
from orchestrator.checklist import WORTH_IT
from orchestrator.cli.checklist import of_model
from orchestrator.cost.full_run import hourly_usd
from orchestrator.cost.rates import RateCard
from orchestrator.errors import EvidenceError, UnknownExperimentError
from orchestrator.experiment import decide_on
from orchestrator.intervals import format_usd
from orchestrator.planner import estimate_sweep, plan_grid, remaining, starting_design
from orchestrator.report.markdown import bill_text
from orchestrator.report.wording import duration
from orchestrator.results import CheckItem, DataSummary, TrialResult, Verdict
from orchestrator.spec import ExperimentSpec, TrialSpec, trial_key
from orchestrator.tracking.journal import Journal, JournalView, run_folder
from orchestrator.tracking.records import to_plain


def describe_plan(spec: ExperimentSpec, data: DataSummary, rates: RateCard, form: str) -> str:
    """The plan as a table, as Markdown, or as JSON; with the full run's bill once there is evidence to make it from."""
    view = _known(spec)
    results = view.results if view else ()
    checkpoint_bytes = {report.model: report.checkpoint_bytes for report in view.smoke} if view else {}
    trials = plan_grid(spec, data)
    done = {result.key for result in results if result.status == "finished"}
    left = remaining(trials, done, lambda trial: trial_key(spec, data.fingerprint, trial))
    estimate = estimate_sweep(left, results, data)
    disk_gb = _peak_disk_bytes(spec, data, checkpoint_bytes) / 1e9
    at_most = "at most " if spec.sweep.strategy == "adaptive" else ""
    unknown = "unknown until a trial of each model has run"
    facts = {
        "experiment": spec.name,
        "data": f"{data.n_train:,} training + {data.n_validation:,} validation rows, {data.fingerprint[:12]}",
        "trials": f"{len(trials)} planned, {len(trials) - len(left)} measured, {at_most}{len(left)} to run",
        "first verdict": _first_verdict(_until_first_verdict(spec, data, left), results, data),
        "sweep dollars left": format_usd(estimate.cost_usd) if estimate.cost_usd is not None else unknown,
        "sweep hours left": f"{estimate.hours:.2f}, one trial at a time" if estimate.hours is not None else unknown,
        "peak disk": _storage_text(disk_gb, rates, has_checkpoints=bool(checkpoint_bytes)),
        "price": "; ".join(
            f"{q.label} {format_usd(q.usd_per_instance_hour)} per hour ({q.cited})" for q in rates.quotes.values()
        ),
        "full run, per hour": ", ".join(
            f"{workers} {'worker' if workers == 1 else 'workers'} {quote.purchase.replace('_', '-')} "
            f"{format_usd(hourly_usd(workers, quote))}"
            for quote in rates.quotes.values()
            for workers in spec.full_run.workers
        ),
        "cap": format_usd(spec.budget.max_cost_usd) if spec.budget.max_cost_usd else "none (budget.max_cost_usd)",
    }
    verdict, why_not = _verdict_so_far(spec, data, view, rates)
    forecast = None if verdict is None else verdict.best
    checks = [item for model in spec.models for item in _measured_so_far(spec, data, view, verdict, model.name)]
    if form == "json":
        lists = {"trials": to_plain(list(trials)), "checklist": to_plain(list(checks))}
        return json.dumps({"facts": facts, **lists, "full_run": to_plain(forecast)}, indent=2)
    grid = Counter((trial.model, trial.fraction, trial.workers) for trial in trials)
    rows = [f"{model:<12} {fraction:<9.4g} {workers:<8} {n}" for (model, fraction, workers), n in grid.items()]
    lines = [f"{key + ':':<20} {value}" for key, value in facts.items()]
    lines += ["", f"{'model':<12} {'fraction':<9} {'workers':<8} seeds", *rows, "", "checklist"]
    lines += [f"  {item.status:<12} {item.name}: {item.evidence}" for item in checks]
    lines += ["", bill_text(forecast) if forecast else f"bill of the full run: {why_not}"]
    text = "\n".join(lines)
    return f"```\n{text}\n```" if form == "md" else text


def _measured_so_far(
    spec: ExperimentSpec, data: DataSummary, view: JournalView | None, verdict: Verdict | None, model: str
) -> list[CheckItem]:
    """The checklist of one model without the item that needs a verdict."""
    bands = () if verdict is None else verdict.curves
    backtest = next((band.backtest for band in bands if band.model == model), None)
    items = of_model(spec, view, data, model, about=model, backtest=backtest).items
    return [replace(item, name=f"{model}: {item.name}") for item in items if item.name != WORTH_IT]


def _until_first_verdict(spec: ExperimentSpec, data: DataSummary, left: Sequence[TrialSpec]) -> list[TrialSpec]:
    """Trials without which no verdict can be given: what an adaptive sweep starts with, or the grid's first sizes."""
    if spec.sweep.strategy == "adaptive":
        return [trial for trial in starting_design(spec, data) if trial in left]
    plan = plan_grid(spec, data)
    sizes = sorted({trial.fraction for trial in plan})[:MIN_SIZES]
    return [trial for trial in left if trial.fraction <= sizes[-1]]


def _first_verdict(first: Sequence[TrialSpec], results: Sequence[TrialResult], data: DataSummary) -> str:
    if not first:
        return "its trials have run"
    estimate = estimate_sweep(first, results, data)
    after = f"after {len(first)} trials"
    if estimate.hours is None or estimate.cost_usd is None:
        return f"{after}; how long they take is unknown until one of each model has run"
    return f"{after}, about {duration(3600 * estimate.hours)} one at a time, {format_usd(estimate.cost_usd)}"


def _known(spec: ExperimentSpec) -> JournalView | None:
    """What an earlier sweep of that name left behind; None for a new one."""
    try:
        return Journal.read(run_folder(Path(spec.runs_dir), spec.name))
    except UnknownExperimentError:
        return None


def _verdict_so_far(
    spec: ExperimentSpec, data: DataSummary, view: JournalView | None, rates: RateCard
) -> tuple[Verdict | None, str]:
    """The verdict on what is measured, or why there is none yet."""
    if view is None:
        return None, "unknown until the sweep has measured how long training takes"
    try:
        return decide_on(spec, data, view, rates), ""
    except EvidenceError as error:
        return None, f"unknown: {error}"


def _storage_text(disk_gb: float, rates: RateCard, *, has_checkpoints: bool) -> str:
    without = "" if has_checkpoints else " without checkpoints, whose size the smoke test measures"
    if rates.storage is None:
        return f"{disk_gb:,.3g} GB{without}; no price per month (pricing.storage.usd_per_gb_month)"
    monthly = format_usd(disk_gb * rates.storage.usd)
    return f"{disk_gb:,.3g} GB{without}; {monthly} per month in object storage ({rates.storage.cited})"


def _peak_disk_bytes(spec: ExperimentSpec, data: DataSummary, checkpoint_bytes: Mapping[str, int]) -> int:
    """Prepared data, and one checkpoint more than is kept, because the new one is written before the old one goes."""
    return data.bytes_on_disk + (spec.full_run.checkpoint.keep + 1) * max(checkpoint_bytes.values(), default=0)
