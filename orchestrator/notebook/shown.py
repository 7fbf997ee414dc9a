"""What a notebook's cell shows of an experiment: text for a prompt, HTML where there is some. All text is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from orchestrator.intervals import format_probability, format_usd
from orchestrator.ports import SweepProgress
from orchestrator.report import wording
from orchestrator.results import Approval, CandidateForecast, Outcome, Verdict

if TYPE_CHECKING:
    from jinja2 import Template

    from orchestrator.report.figures import Drawing

MAX_ROWS = 60
"""Of a table in a cell; all of them are in the list."""


class Table(list[dict[str, object]]):
    """Rows as mappings, one and the same keys in each."""

    def __repr__(self) -> str:
        """Aligned columns."""
        if not self:
            return "no rows"
        return wording.plain_table(list(self[0]), [[_cell(value) for value in row.values()] for row in self], indent="")

    def _repr_html_(self) -> str:
        """What a Jupyter cell shows."""
        shown = [[_cell(value) for value in row.values()] for row in self[:MAX_ROWS]]
        return _html("table", header=list(self[0]) if self else [], rows=shown, n_more=max(len(self) - MAX_ROWS, 0))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Decision:
    """A verdict that was worked out for a cell; `verdict` is the whole record."""

    verdict: Verdict
    name: str
    outcome: Outcome | None = None

    @property
    def kind(self) -> str:
        """``PROMOTE``, ``HOLD`` or ``REJECT``."""
        return self.verdict.kind

    @property
    def probability(self) -> float:
        """P(gain per dollar >= threshold) of the best candidate."""
        return self.verdict.probability

    @property
    def reason(self) -> str:
        """One sentence."""
        return self.verdict.reason

    @property
    def best(self) -> CandidateForecast:
        """The candidate the verdict is about."""
        return self.verdict.best

    def plot(self) -> Drawing:
        """Learning curves with both bands and the target."""
        from orchestrator.report.figures import learning_curves

        return learning_curves(self.verdict, self.outcome)

    def __repr__(self) -> str:
        """The text that ``decide`` prints."""
        from orchestrator.report.markdown import verdict_text

        return verdict_text(self.verdict)

    def _repr_html_(self) -> str:
        """What a Jupyter cell shows: verdict, numbers, candidates, curves; bill and checklist to unfold."""
        from markupsafe import Markup

        from orchestrator.report import bill
        from orchestrator.report.shortlist import listed_header, listed_row, shortlist

        verdict, drawing = self.verdict, self.plot()
        return _html(
            "decision",
            name=self.name,
            verdict=verdict,
            keys=_key_figures(verdict),
            next_step=wording.next_step(verdict, self.outcome),
            header=listed_header(verdict),
            rows=[
                (listed_row(each, verdict), each.forecast.candidate == verdict.best.candidate)
                for each in shortlist(verdict).shown
            ],
            threshold=wording.gain_per_dollar(verdict.threshold, verdict.metric),
            svg=Markup(drawing.svg),  # drawn by us; names in it were escaped by matplotlib
            alt=drawing.alt,
            bill_header=bill.BILL_HEADER,
            bill_rows=[cells for cells, _ in bill.bill_rows(verdict.best.bill)],
            bill_sentences=bill.bill_sentences(verdict.best.bill),
            changes=wording.what_would_change(verdict),
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Comparison:
    """The verdict as configured beside the one under changed keys."""

    standing: Verdict
    other: Verdict
    changes: tuple[str, ...]
    """``a.b=value`` each."""

    def __repr__(self) -> str:
        """The table that ``what-if`` prints."""
        from orchestrator.report.comparison import comparison_text

        return comparison_text([("as configured", self.standing), (", ".join(self.changes), self.other)])

    def _repr_html_(self) -> str:
        """What a Jupyter cell shows."""
        from orchestrator.report.comparison import comparison_rows

        rows = comparison_rows([self.standing, self.other])
        return _html("table", header=["", "", "as configured", ", ".join(self.changes)], rows=rows, n_more=0)


def facts(
    name: str,
    path: str,
    progress: SweepProgress,
    approval: Approval | None,
    outcomes: Sequence[Outcome],
    warnings: Sequence[str],
) -> dict[str, str]:
    """Where an experiment stands, by label."""
    failed = f", {progress.n_failed} failed" if progress.n_failed else ""
    cap = "" if progress.cap_usd is None else f" of {format_usd(progress.cap_usd)}"
    verdict = progress.verdict
    return {
        "experiment": name,
        "journal": path,
        "trials": f"{progress.n_done} of at most {progress.n_most}{failed}",
        "spent": f"{format_usd(progress.spent_usd)}{cap}",
        "verdict": "none recorded yet" if verdict is None else f"{verdict.kind}: {verdict.reason}",
        "approval": "none" if approval is None else f"{approval.decision} by {approval.by}",
        "full runs": _full_runs(outcomes),
        **({"warnings": "; ".join(warnings)} if warnings else {}),
    }


def _full_runs(outcomes: Sequence[Outcome]) -> str:
    if not outcomes:
        return "none"
    last = f"{outcomes[-1].candidate} ended {outcomes[-1].finished_at}"
    return last if len(outcomes) == 1 else f"{len(outcomes)}, the last of {last}"


def experiment_text(known: Mapping[str, str]) -> str:
    """Two aligned columns."""
    width = max(map(len, known))
    return "\n".join(f"{label:<{width}}  {text}" for label, text in known.items())


def experiment_html(known: Mapping[str, str]) -> str:
    """The same as a table."""
    return _html("facts", rows=list(known.items()))


def _key_figures(verdict: Verdict) -> list[tuple[str, str, str]]:
    """Label, value, and its interval or what it is measured against."""
    best, metric = verdict.best, verdict.metric

    def value(number: float) -> str:
        return wording.metric_value(number, metric)

    likely = wording.percent(best.metric.level)
    return [
        (
            "probability",
            format_probability(verdict.probability, verdict.confidence),
            f"{verdict.confidence:.2f} asked for",
        ),
        (metric, value(best.metric.median), f"{likely}: {wording.span(best.metric, value)}"),
        (
            "gain",
            wording.gain_value(best.gain.median, metric),
            f"{likely}: {wording.span(best.gain, lambda gain: wording.gain_value(gain, metric))}",
        ),
        ("cost", format_usd(best.cost_usd.median), f"{likely}: {wording.span(best.cost_usd, format_usd)}"),
        (
            "time",
            wording.duration(best.wall_time_s.median),
            f"{likely}: {wording.span(best.wall_time_s, wording.duration)}",
        ),
    ]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _html(kind: str, **values: Any) -> str:
    return _template().render(kind=kind, **values)


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_CELL)


# Ink and paper are the notebook's own, light or dark: only what must stand out has a colour, on a ground of its own.
_CELL = """<style>
.orchestrator-cell{max-width:60rem;font:14px/1.45 system-ui,sans-serif}
.orchestrator-cell h2{font-size:1.1rem;margin:.2rem 0 .4rem}
.orchestrator-cell p{margin:.3rem 0}
.orchestrator-cell .kind{color:#fff;border-radius:.25rem;padding:.1rem .55rem;margin-right:.4rem}
.orchestrator-cell .PROMOTE{background:#00694d}.orchestrator-cell .HOLD{background:#8a5a00}
.orchestrator-cell .REJECT{background:#a63c00}
.orchestrator-cell .keys{display:flex;flex-wrap:wrap;gap:.5rem 1.4rem;margin:.7rem 0}
.orchestrator-cell .keys b{display:block;font-size:1.1rem;font-variant-numeric:tabular-nums}
.orchestrator-cell .soft{opacity:.75;font-size:.85rem}
.orchestrator-cell .wide{overflow-x:auto}
.orchestrator-cell table{border-collapse:collapse;margin:.3rem 0;font-size:.85rem;font-variant-numeric:tabular-nums}
.orchestrator-cell th,.orchestrator-cell td{text-align:left;vertical-align:top;padding:.2rem 1rem .2rem 0;
border-bottom:1px solid #8884;background:none}
.orchestrator-cell th{font-weight:600;opacity:.75;white-space:nowrap}
.orchestrator-cell td.short{white-space:nowrap}
.orchestrator-cell tr.best td{font-weight:650}
.orchestrator-cell svg{display:block;width:100%;height:auto}
.orchestrator-cell summary{cursor:pointer}
</style>
{% macro td(cell) %}
<td{% if cell | length < 17 %} class="short"{% endif %}>{{ cell }}</td>
{%- endmacro %}
{% macro table(header, rows) %}
<div class="wide"><table>
{% if header %}
<thead><tr>{% for cell in header %}<th scope="col">{{ cell }}</th>{% endfor %}</tr></thead>
{% endif %}
<tbody>
{% for row in rows %}
<tr>{% for cell in row %}{{ td(cell) }}{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endmacro %}
<div class="orchestrator-cell">
{% if kind == "table" %}
{{ table(header, rows) }}
{% if not rows %}<p class="soft">no rows</p>{% endif %}
{% if n_more %}<p class="soft">and {{ n_more }} more</p>{% endif %}
{% elif kind == "facts" %}
<table>
{% for label, text in rows %}
<tr><th scope="row">{{ label }}</th><td>{{ text }}</td></tr>
{% endfor %}
</table>
{% else %}
<h2><span class="kind {{ verdict.kind }}">{{ verdict.kind }}</span> {{ name }}</h2>
<p>{{ verdict.reason }}</p>
<p><b>Next:</b> {{ next_step }}</p>
{% if verdict.preference %}<p>{{ verdict.preference }}</p>{% endif %}
<div class="keys">
{% for label, value, note in keys %}
<div><span class="soft">{{ label }}</span><b>{{ value }}</b><span class="soft">{{ note }}</span></div>
{% endfor %}
</div>
{% for veto in verdict.vetoes %}
<p><b>Held back by {{ veto.name }}:</b> {{ veto.reason }}. Way out: {{ veto.way_out }}</p>
{% endfor %}
<div role="img" aria-label="{{ alt }}">{{ svg }}</div>
<div class="wide"><table>
<thead><tr>{% for cell in header %}<th scope="col">{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row, is_best in rows %}
<tr{% if is_best %} class="best"{% endif %}>{% for cell in row %}{{ td(cell) }}{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
<p class="soft">P: the chance of at least {{ threshold }}. Intervals hold 90%.</p>
<details><summary>Bill of {{ verdict.best.candidate }}</summary>{{ table(bill_header, bill_rows) }}
{% for line in bill_sentences %}<p class="soft">{{ line }}</p>{% endfor %}</details>
<details><summary>Checklist</summary><table>
{% for item in verdict.checklist %}
<tr><th scope="row">{{ item.status.replace("_", " ") }}</th><td>{{ item.name }}: {{ item.evidence }}</td></tr>
{% endfor %}
</table></details>
<details><summary>What would change it</summary>
<ul>{% for line in changes %}<li>{{ line }}</li>{% endfor %}</ul></details>
{% endif %}
</div>
"""
