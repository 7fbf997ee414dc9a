"""The page's section on data quality: what was looked for, what was found, and the worst rows as pictures.

A section stands on its own: it brings its style, takes the page's colours where there are any, and holds its pictures.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import cache

from jinja2 import Environment, StrictUndefined, Template

from orchestrator.quality.findings import Example, Finding, Findings, NoiseSummary, Where
from orchestrator.report.markdown import escape, markdown_table
from orchestrator.report.wording import plain_table

Pictures = Mapping[tuple[str, int], bytes]
"""PNG or JPEG of a row by split and place."""

HEADER = ("looked for", "status", "found", "of", "share", "in words")
_STATUS = {"pass": "pass", "warn": "WARN", "fail": "FAIL", "not_checked": "not checked"}
_UNITS = {"constant columns": "columns", "missing values": "values", "class balance": "classes"}
_NOT_A_SHARE = frozenset({"constant columns", "missing values", "class balance"})
_MOST_IN_TEXT = 3

SECTION = """<section class="findings">
<style>
.findings { --fill: var(--panel, #8881); --edge: var(--line, #8886); --dim: var(--soft, #777); }
.findings table { border-collapse: collapse; width: 100%; font-size: .87rem; font-variant-numeric: tabular-nums; }
.findings th { text-align: left; color: var(--dim); font-weight: 600; }
.findings th, .findings td { padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--edge); vertical-align: top; }
.findings .number { text-align: right; white-space: nowrap; } .findings .name { white-space: nowrap; }
.findings .rows { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .6rem;
  margin: .5rem 0 1rem; }
.findings .rows.pairs { grid-template-columns: repeat(auto-fill, minmax(13.5rem, 1fr)); }
.findings .row { background: var(--fill); border-radius: .3rem; padding: .5rem .6rem; margin: 0; font-size: .78rem;
  line-height: 1.4; overflow-wrap: anywhere; break-inside: avoid; }
.findings .images { display: flex; gap: .4rem; margin-bottom: .35rem; }
.findings img { width: 6rem; height: 6rem; object-fit: contain; image-rendering: pixelated; background: #8883; }
.findings .row b { font-size: .85rem; }
.findings .dim { color: var(--dim); }
.findings h3 { margin: 1.2rem 0 .3rem; font-size: 1rem; break-after: avoid; }
@media print { .findings img { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
</style>
<h2>Data quality</h2>
<p><b class="status {{ findings.status }}">{{ statuses[findings.status] }}</b>{{ headline }}</p>
<div class="wide"><table>
<thead><tr>{% for cell in header %}<th scope="col"{% if loop.index in (3, 4, 5) %} class="number"{% endif %}>
{{- cell }}</th>{% endfor %}</tr></thead>
<tbody>
{% for status, row in rows %}
<tr><td class="name">{{ row[0] }}</td><td class="status {{ status }}">{{ row[1] }}</td>
{% for cell in row[2:5] %}<td class="number">{{ cell }}</td>{% endfor %}<td>{{ row[5] }}</td></tr>
{% endfor %}
</tbody></table></div>
<p class="dim">{{ scope }}</p>
{% for line in noise_lines %}
<p>{{ line }}</p>
{% endfor %}
{% for title, is_pair, examples, n_more in groups %}
<h3>{{ title }}</h3>
<div class="rows{% if is_pair %} pairs{% endif %}">
{% for example in examples %}
<figure class="row">
{% if example.images %}
<div class="images">
{% for source, label in example.images %}<img src="{{ source }}" alt="{{ label }}">{% endfor %}
</div>
{% endif %}
<figcaption>
{% for line in example.bold %}<b>{{ line }}</b><br>{% endfor %}
{% for line in example.lines %}<span class="dim">{{ line }}</span><br>{% endfor %}
</figcaption></figure>
{% endfor %}
</div>
{% if n_more %}
<p class="dim">and {{ n_more }} more</p>
{% endif %}
{% endfor %}
</section>
"""


def findings_section(findings: Findings, pictures: Pictures | None = None) -> str:
    """HTML of the section. Everything from data is escaped; pictures are data URIs.

    Args:
        findings: What was found.
        pictures: Of the examples; those that are not there are told in words alone.
    """
    shown = pictures or {}
    return _template().render(
        findings=findings,
        statuses=_STATUS,
        headline=_headline(findings),
        header=HEADER,
        rows=[(each.status, _row(each)) for each in findings.findings],
        scope=_scope(findings),
        noise_lines=[] if findings.noise is None else _noise_lines(findings.noise),
        groups=[_group(each, shown) for each in _worst_first(findings) if each.examples],
    )


def findings_text(findings: Findings) -> str:
    """The same for a terminal: what was looked for, what was found, and how much was looked at."""
    rows = [(row[0], row[1], row[2], row[5]) for row in map(_row, _worst_first(findings))]
    table = plain_table((HEADER[0], HEADER[1], HEADER[2], HEADER[5]), rows)
    return f"data quality: {_STATUS[findings.status]}{_headline(findings)}\n{table}\n  {_scope(findings)}"


def findings_markdown(findings: Findings) -> str:
    """The same as Markdown, with the first few examples of each kind in words."""
    parts = [
        f"### Data quality: {_STATUS[findings.status]}{escape(_headline(findings))}",
        markdown_table(HEADER, [_row(each) for each in findings.findings]),
        escape(_scope(findings)),
    ]
    if findings.noise is not None:
        parts += [escape(line) for line in _noise_lines(findings.noise)]
    for finding in _worst_first(findings):
        if finding.examples:
            lines = [f"- {escape(_in_words(example))}" for example in finding.examples[:_MOST_IN_TEXT]]
            parts.append("\n".join([f"**{finding.kind}**, the worst:", "", *lines]))
    return "\n\n".join(parts) + "\n"


def _headline(findings: Findings) -> str:
    """What the status comes from."""
    if findings.status == "not_checked":
        return ": nothing could be looked at"
    if findings.is_clean:
        return ": nothing found that gives cause for doubt"
    kinds = [each.kind for each in _worst_first(findings) if each.status in ("fail", "warn")]
    return f": {', '.join(kinds)}"


def _worst_first(findings: Findings) -> list[Finding]:
    order = ("fail", "warn", "pass", "not_checked")
    return sorted(findings.findings, key=lambda each: order.index(each.status))


def _row(finding: Finding) -> tuple[str, ...]:
    said = finding.sentence.removeprefix(f"{finding.kind}: ")
    is_known = finding.status != "not_checked"
    unit = _UNITS.get(finding.kind, "")
    return (
        finding.kind,
        _STATUS[finding.status],
        f"{finding.count:,} {unit if finding.count else ''}".rstrip() if is_known else "",
        f"{finding.n_looked_at:,}" if is_known else "",
        _share(finding) if is_known and finding.kind not in _NOT_A_SHARE else "",
        said,
    )


def _share(finding: Finding) -> str:
    if finding.count == 0:
        return "0%"
    return f"{100 * finding.share:.2g}%" if finding.share < 0.1 else f"{100 * finding.share:.0f}%"


def _scope(findings: Findings) -> str:
    """How many rows were looked at, and how fast."""
    n_rows = findings.n_train + findings.n_validation
    said = f"{findings.n_train:,} training and {findings.n_validation:,} validation rows"
    n_images = sum(findings.n_images_looked_at.values())
    if n_images:
        everything = (
            "all of them" if n_images == n_rows else f"the first {n_images:,} in nested order, a stratified sample"
        )
        said += f"; images of {everything} were decoded"
    if findings.rows_per_s is not None:
        said += f"; {findings.rows_per_s:,.0f} rows a second"
    return f"{said}. Fingerprint {findings.fingerprint}."


def _noise_lines(noise: NoiseSummary) -> list[str]:
    worst = sorted(noise.by_class.items(), key=lambda item: -item[1])[:5]
    lines = [f"Expected share of wrong labels by given class: {', '.join(f'{k} {v:.1%}' for k, v in worst)}."]
    if noise.is_upper_estimate:
        lines.append(
            f"The {noise.model} model is right on {noise.model_accuracy:.0%} of the rows only, and what it cannot "
            "learn reads as noise; judge the labels by a better model to know more."
        )
    lines.append(
        f"The confident joint of this model reads {noise.confident_joint_rate:.1%}; it counts the model's own "
        "confident mistakes as well."
    )
    return lines


def _group(finding: Finding, pictures: Pictures) -> tuple[str, bool, list[dict[str, object]], str]:
    n_more = finding.count - len(finding.examples) if finding.kind not in _NOT_A_SHARE else 0
    title = f"{finding.kind[0].upper()}{finding.kind[1:]}"
    cards = [_card(example, pictures) for example in finding.examples]
    is_pair = any(example.other is not None for example in finding.examples)
    return title, is_pair, cards, f"{n_more:,}" if n_more > 0 else ""


def _card(example: Example, pictures: Pictures) -> dict[str, object]:
    rows = [example.row] if example.other is None else [example.row, example.other]
    images = [
        (_data_uri(pictures[row.split, row.place]), f"row {row.place} of {row.split}, labelled {row.label}")
        for row in rows
        if (row.split, row.place) in pictures
    ]
    # Beside a suggestion, the words would say the same on every card.
    lines = [*([] if example.suggested else [example.what]), *map(_place, rows)]
    return {"images": images, "bold": _label_lines(example), "lines": lines}


def _label_lines(example: Example) -> Sequence[str]:
    label, other = example.row.label, example.other
    if example.suggested is not None:
        odds = "" if example.probability is None else f"{_odds(example.probability)} likely wrong"
        return [line for line in (f"{label} → {example.suggested}?", odds) if line]
    if other is not None and other.label != label:
        return [f"{label} / {other.label}"]
    return [label] if label else []


def _odds(probability: float) -> str:
    return ">99%" if probability > 0.99 else f"{probability:.0%}"


def _place(row: Where) -> str:
    source = "" if row.source_row is None else f" · source {row.source_row:,}"
    return f"{row.split} {row.place:,}{source}"


def _in_words(example: Example) -> str:
    other = "" if example.other is None else f" (as {_place(example.other)})"
    return f"{_place(example.row)}{other}: {', '.join([*_label_lines(example), example.what])}"


def _data_uri(content: bytes) -> str:
    kind = "jpeg" if content.startswith(b"\xff\xd8") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(SECTION)
