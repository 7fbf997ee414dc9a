"""One self-contained HTML page of an experiment: verdict first, then what it rests on. No network, no script.

Everything that comes from people or data goes through Jinja2's autoescape; only our own SVG is put in as it is, and a
content security policy forbids scripts and requests should anything slip through.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from orchestrator.data.findings.store import read_findings, read_pictures
from orchestrator.errors import DataError
from orchestrator.intervals import format_usd
from orchestrator.ports import ReviewPage
from orchestrator.report import bill, figures, wording
from orchestrator.report.findings import findings_section
from orchestrator.report.markdown import verdict_markdown
from orchestrator.report.page_template import PAGE
from orchestrator.results import CurveBand, DataRead, DataSummary, Outcome, TrialResult, Verdict
from orchestrator.spec import ExperimentSpec, Metric

TRIAL_HEADER = ("model", "data", "samples", "workers", "seed", "accuracy", "train accuracy", "loss", "time", "cost")
MAX_CLASSES = 20


def review_page(
    spec: ExperimentSpec,
    data: DataSummary,
    results: Sequence[TrialResult],
    verdict: Verdict,
    outcome: Outcome | None = None,
    reads: Sequence[DataRead] = (),
) -> ReviewPage:
    """All that a tracker shows of a verdict: Markdown, figures as PNG, the page."""
    drawings = _drawings(results, verdict, outcome)
    return ReviewPage(
        description=verdict_markdown(verdict, outcome),
        figures={name: drawing.png for name, drawing in drawings.items()},
        html=_render(spec, data, results, verdict, outcome, drawings, reads),
    )


def build_page(
    spec: ExperimentSpec,
    data: DataSummary,
    results: Sequence[TrialResult],
    verdict: Verdict,
    outcome: Outcome | None = None,
    reads: Sequence[DataRead] = (),
) -> str:
    """The HTML page; with an outcome, forecast and result stand side by side."""
    return _render(spec, data, results, verdict, outcome, _drawings(results, verdict, outcome), reads)


def _drawings(results: Sequence[TrialResult], verdict: Verdict, outcome: Outcome | None) -> dict[str, figures.Drawing]:
    """Figures by name, in the order of the page."""
    drawings = {
        "learning_curves": figures.learning_curves(verdict, outcome),
        "candidate_costs": figures.candidate_costs(verdict),
    }
    times = figures.time_against_workers(results)
    return drawings if times is None else drawings | {"time_against_workers": times}


def _render(
    spec: ExperimentSpec,
    data: DataSummary,
    results: Sequence[TrialResult],
    verdict: Verdict,
    outcome: Outcome | None,
    drawings: dict[str, figures.Drawing],
    reads: Sequence[DataRead],
) -> str:
    metric = verdict.metric
    return _template().render(
        spec=spec,
        verdict=verdict,
        outcome=outcome,
        key_figures=_key_figures(verdict),
        outcome_header=wording.OUTCOME_HEADER,
        outcome_rows=[] if outcome is None else wording.outcome_rows(outcome, metric),
        figures={name: (Markup(drawing.svg), drawing.alt) for name, drawing in drawings.items()},
        candidate_header=wording.candidate_header(verdict),
        candidate_rows=[
            (wording.candidate_row(each, metric), each.candidate == verdict.best.candidate)
            for each in verdict.candidates
        ],
        threshold=wording.gain_per_dollar(verdict.threshold, metric),
        baseline=wording.metric_value(verdict.baseline, metric),
        next_step=wording.next_step(verdict, outcome),
        bill_header=bill.BILL_HEADER,
        bill_rows=bill.bill_rows(verdict.best.bill),
        bill_sentences=bill.bill_sentences(verdict.best.bill),
        purchase_header=bill.PURCHASE_HEADER,
        purchase_rows=bill.purchase_rows(verdict),
        workers_header=wording.WORKERS_HEADER,
        workers_rows=[] if verdict.scaling is None else wording.workers_rows(verdict.scaling),
        data_path=verdict.data_path,
        sensitivity_header=bill.SENSITIVITY_HEADER,
        sensitivity_rows=bill.sensitivity_rows(verdict.best.bill),
        changes=wording.what_would_change(verdict),
        curve_rows=[_curve_row(band, metric) for band in verdict.curves],
        trial_header=TRIAL_HEADER,
        trial_rows=[(_trial_row(result), result.error) for result in results],
        sweep_cost=format_usd(verdict.sweep_cost_usd),
        data_rows=_data_rows(data, reads),
        findings=_findings(data),
        config=json.dumps(asdict(spec), indent=2, default=str),
    )


def _key_figures(verdict: Verdict) -> list[tuple[str, str, str]]:
    """Label, value and its interval for the numbers a reader looks for first."""
    best, metric = verdict.best, verdict.metric
    return [
        ("probability", f"{verdict.probability:.2f}", f"{verdict.confidence:.2f} asked for"),
        (
            metric,
            wording.metric_value(best.metric.median, metric),
            wording.span(best.metric, lambda value: wording.metric_value(value, metric)),
        ),
        (
            "gain",
            wording.gain_value(best.gain.median, metric),
            "" if best.noise_units is None else f"{best.noise_units:+.1f} seed standard deviations",
        ),
        ("cost", format_usd(best.cost_usd.median), wording.span(best.cost_usd, format_usd)),
        ("time", wording.duration(best.wall_time_s.median), wording.span(best.wall_time_s, wording.duration)),
        (
            "gain per dollar",
            wording.gain_per_dollar(best.gain_per_dollar.median, metric),
            wording.usd_per_point(best.gain_per_dollar.median, metric),
        ),
    ]


def _curve_row(band: CurveBand, metric: Metric) -> tuple[str, ...]:
    """Model, sizes and points, seed noise, backtest, gain of more data, overfitting, diagnosis."""
    noise = f"{100 * band.noise_std:.2f} points" if metric == "accuracy" else f"{band.noise_std:.3g}"
    backtest = "too few sizes"
    if band.backtest is not None:
        interval, measured = band.backtest
        held = "held" if interval.low <= measured <= interval.high else "missed"
        forecast = wording.with_span(interval, lambda value: wording.metric_value(value, metric))
        backtest = f"{forecast}; measured {wording.metric_value(measured, metric)}: {held}"
    sizes = len({point.n_samples for point in band.points})
    basis = f"{sizes} sizes, {len(band.points)} points"
    more = band.gain_of_more_data
    gain = "" if more is None else wording.with_span(more, lambda value: wording.gain_value(value, metric))
    return (band.model, basis, noise, backtest, gain, _overfit_text(band, metric), "; ".join(band.diagnosis))


def _overfit_text(band: CurveBand, metric: Metric) -> str:
    """The gap between training and validation rows, from the smallest size to the largest."""
    if not band.overfit_gap:
        return "not measured"
    (small, first), (large, last) = band.overfit_gap[0], band.overfit_gap[-1]
    first_text, last_text = (wording.gain_value(gap, metric) for gap in (first, last))
    return f"{first_text} at {small:,}" if small == large else f"{first_text} at {small:,}, {last_text} at {large:,}"


def _trial_row(result: TrialResult) -> tuple[str, ...]:
    trial, training = result.trial, result.training
    measured = ("", "", "", "")
    if training is not None:
        measured = (
            f"{training.n_train:,}",
            wording.metric_value(training.accuracy, "accuracy"),
            wording.metric_value(training.train_accuracy, "accuracy"),
            wording.metric_value(training.loss, "loss"),
        )
    return (
        trial.model,
        f"{trial.fraction:.4g}",
        measured[0],
        str(trial.workers),
        str(trial.seed),
        *measured[1:],
        wording.duration(result.wall_time_s),
        format_usd(result.cost_usd),
    )


def _findings(data: DataSummary) -> Markup | None:
    """What was found when somebody looked through the data, while the prepared folder is there to show it."""
    folder = Path(data.prepared_at)
    try:
        found = read_findings(folder) if data.prepared_at else None
    except DataError:
        return None  # the checklist has the sentence that was read when the sweep began
    return None if found is None else Markup(findings_section(found, read_pictures(folder, found)))


def _data_rows(data: DataSummary, reads: Sequence[DataRead]) -> list[tuple[str, str]]:
    rows = [
        ("source", data.source),
        ("fingerprint", data.fingerprint),
        ("rows", f"{data.n_rows:,}: training pool {data.n_train:,}, validation {data.n_validation:,}"),
    ]
    rows += [(f"version: {name}", value) for name, value in data.versions.items()]
    if data.bytes_on_disk:
        rows.append(("on disk", wording.bytes_size(data.bytes_on_disk)))
    of_all = f" of {wording.bytes_size(data.train_bytes)}" if data.train_bytes else ""
    for read in reads:
        size = wording.bytes_size(read.train_bytes_read)
        rows.append(("read ahead", f"{read.n_rows:,} of {read.n_train:,} training rows, {size}{of_all}"))
    if data.class_counts:
        shown = [f"{name}: {count:,}" for name, count in Counter(data.class_counts).most_common(MAX_CLASSES)]
        more = len(data.class_counts) - len(shown)
        rows.append((f"{len(data.class_counts)} classes", ", ".join(shown) + (f" and {more} more" if more else "")))
    return rows


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(PAGE)
