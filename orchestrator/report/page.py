"""One self-contained HTML page of an experiment: verdict first, then what it rests on. No network, no script.

Everything that comes from people or data goes through Jinja2's autoescape; only our own SVG is put in as it is, and a
content security policy forbids scripts and requests should anything slip through.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from orchestrator.data.findings.store import read_findings, read_pictures
from orchestrator.errors import DataError
from orchestrator.intervals import format_usd
from orchestrator.ports import ReviewPage
from orchestrator.report import bill, figures, wording
from orchestrator.report.description import description
from orchestrator.report.findings import findings_section
from orchestrator.report.frontier_plot import frontier_figure, threshold_sentence
from orchestrator.report.history import NO_HISTORY, History
from orchestrator.report.page_template import PAGE
from orchestrator.report.reproduce import of_history
from orchestrator.report.shortlist import cell_header, listed_cells, shortlist
from orchestrator.report.time_plot import time_against_workers
from orchestrator.report.timeline import Timeline, timeline_figure, timeline_of, timeline_sentences
from orchestrator.report.trials import TRIAL_HEADER, trial_row
from orchestrator.results import CurveBand, DataRead, DataSummary, Outcome, TrialResult, Verdict
from orchestrator.spec import ExperimentSpec, Metric, without_secrets

MAX_CLASSES = 20


def review_page(
    spec: ExperimentSpec,
    data: DataSummary,
    results: Sequence[TrialResult],
    verdict: Verdict,
    outcome: Outcome | None = None,
    reads: Sequence[DataRead] = (),
    history: History = NO_HISTORY,
) -> ReviewPage:
    """All that a tracker shows of a verdict: Markdown, figures as PNG, the page."""
    drawings = _drawings(spec, results, verdict, outcome, history)
    return ReviewPage(
        description=description(verdict, outcome, history, figures=tuple(drawings)),
        figures={name: drawing.png for name, drawing in drawings.items()},
        html=_render(spec, data, results, verdict, outcome, drawings, reads, history),
    )


def build_page(
    spec: ExperimentSpec,
    data: DataSummary,
    results: Sequence[TrialResult],
    verdict: Verdict,
    outcome: Outcome | None = None,
    reads: Sequence[DataRead] = (),
    history: History = NO_HISTORY,
) -> str:
    """The HTML page; with an outcome, forecast and result stand side by side."""
    drawings = _drawings(spec, results, verdict, outcome, history)
    return _render(spec, data, results, verdict, outcome, drawings, reads, history)


def _drawings(
    spec: ExperimentSpec,
    results: Sequence[TrialResult],
    verdict: Verdict,
    outcome: Outcome | None,
    history: History,
) -> dict[str, figures.Drawing]:
    """Figures by name, in the order of the page; those without anything to show are left out."""
    timeline = _timeline(spec, results, history)
    drawings = {
        "learning_curves": figures.learning_curves(verdict, outcome),
        "frontier": frontier_figure(verdict),
        "candidate_costs": figures.candidate_costs(verdict),
        "time_against_workers": time_against_workers(results),
        "timeline": None if timeline is None else timeline_figure(timeline),
    }
    return {name: drawing for name, drawing in drawings.items() if drawing is not None}


def _timeline(spec: ExperimentSpec, results: Sequence[TrialResult], history: History) -> Timeline | None:
    return timeline_of(spec, history.attempts or results)


def _render(
    spec: ExperimentSpec,
    data: DataSummary,
    results: Sequence[TrialResult],
    verdict: Verdict,
    outcome: Outcome | None,
    drawings: dict[str, figures.Drawing],
    reads: Sequence[DataRead],
    history: History,
) -> str:
    timeline = _timeline(spec, results, history)
    return _template().render(
        spec=spec,
        verdict=verdict,
        outcome=outcome,
        history=history,
        figures={name: (Markup(drawing.svg), drawing.alt) for name, drawing in drawings.items()},
        curve_rows=[_curve_row(band, verdict.metric) for band in verdict.curves],
        trial_header=TRIAL_HEADER,
        trial_rows=[(trial_row(result), result.error) for result in results],
        timeline_lines=[] if timeline is None else timeline_sentences(timeline),
        sweep_cost=format_usd(verdict.sweep_cost_usd),
        data_rows=_data_rows(data, reads),
        findings=_findings(data),
        config=json.dumps(asdict(replace(spec, alerts=without_secrets(spec.alerts))), indent=2, default=str),
        **_of_verdict(verdict, outcome),
        **_of_candidates(verdict),
        **_of_costs(verdict),
        **of_history(spec, data, verdict, history),
    )


def _of_verdict(verdict: Verdict, outcome: Outcome | None) -> dict[str, object]:
    advice = verdict.next_measurement
    return {
        "key_figures": _key_figures(verdict),
        "next_step": wording.next_step(verdict, outcome),
        "measurement": "" if advice is None else wording.measurement_text(advice),
        "outcome_header": wording.OUTCOME_HEADER,
        "outcome_rows": [] if outcome is None else wording.outcome_rows(outcome, verdict.metric),
        "changes": wording.what_would_change(verdict),
        "workers_header": wording.WORKERS_HEADER,
        "workers_rows": [] if verdict.scaling is None else wording.workers_rows(verdict.scaling),
        "data_path": verdict.data_path,
    }


def _of_candidates(verdict: Verdict) -> dict[str, object]:
    chosen, metric = shortlist(verdict), verdict.metric
    return {
        "candidate_header": cell_header(verdict),
        "candidate_rows": [(listed_cells(each, verdict), each.is_best) for each in chosen.shown],
        "folded_rows": [listed_cells(each, verdict) for each in chosen.folded],
        "threshold": wording.gain_per_dollar(verdict.threshold, metric),
        "threshold_sentence": f"{threshold_sentence(verdict).capitalize()}.",
        "baseline": wording.metric_value(verdict.baseline, metric),
    }


def _of_costs(verdict: Verdict) -> dict[str, object]:
    return {
        "bill_header": bill.BILL_HEADER,
        "bill_rows": bill.bill_rows(verdict.best.bill),
        "bill_sentences": bill.bill_sentences(verdict.best.bill),
        "purchase_header": bill.PURCHASE_HEADER,
        "purchase_rows": bill.purchase_rows(verdict),
        "sensitivity_header": bill.SENSITIVITY_HEADER,
        "sensitivity_rows": bill.sensitivity_rows(verdict.best.bill),
    }


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
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    return environment.from_string(PAGE)


def _shown(value: object) -> object:
    """Text without characters that turn what follows around; our own markup as it is."""
    return value if isinstance(value, Markup) else wording.printable(str(value))
