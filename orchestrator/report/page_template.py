"""The page's HTML and CSS, as a Jinja2 template. Text and numbers arrive ready from `page`."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{{ verdict.kind }}: {{ spec.name }}</title>
<style>
:root { color-scheme: light dark; --ink: #20242a; --soft: #5b6470; --paper: #ffffff; --panel: #f4f5f7; --line: #d9dce1;
  --promote: #00694d; --hold: #8a5a00; --reject: #a63c00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --soft: #a4acb8; --paper: #15181d; --panel: #1f242b; --line: #343b45;
    --promote: #3fc79b; --hold: #f0b84a; --reject: #ff8f57; }
  figure svg { filter: brightness(1.3); } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1.25rem 3rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { margin: 0; font-size: 2.1rem; line-height: 1.15; letter-spacing: .01em; }
h2 { margin: 2.2rem 0 .6rem; font-size: 1.2rem; border-bottom: 1px solid var(--line); padding-bottom: .25rem; }
p { margin: .5rem 0; }
ul { margin: .4rem 0; padding-left: 1.2rem; }
.odds { font-weight: 650; margin: .15rem 0 .4rem; font-variant-numeric: tabular-nums; }
.verdict ul { margin-top: .1rem; } .supposed { margin-bottom: 0; }
.soft { color: var(--soft); font-size: .9rem; }
.verdict { border-left: .4rem solid var(--accent); background: var(--panel); padding: 1rem 1.2rem;
  border-radius: .3rem; }
.verdict h1 { color: var(--accent); }
.PROMOTE { --accent: var(--promote); } .HOLD { --accent: var(--hold); } .REJECT { --accent: var(--reject); }
.keys { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: .6rem; margin: 1rem 0; }
.key { background: var(--panel); border-radius: .3rem; padding: .55rem .75rem; }
.key b { display: block; font-size: 1.15rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.key span { display: block; color: var(--soft); font-size: .8rem; line-height: 1.35; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .87rem; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--soft); font-weight: 600; }
th, td { padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr.best td { font-weight: 650; }
tr.out td { color: var(--soft); }
tr.kind td, tr.total td { font-weight: 650; }
tr.total td { border-top: 2px solid; }
tr.in td:first-child, tr.out td:first-child { padding-left: 1.6em; }
td.short { white-space: nowrap; }
td.pair small { display: block; color: var(--soft); font-weight: 400; font-size: .92em; }
td.pair:not(:nth-child(2)) { white-space: nowrap; } td.pair:nth-child(2) { min-width: 11rem; }
td.pair:nth-child(2) small { font-weight: 650; color: inherit; }
.status { white-space: nowrap; font-weight: 650; }
.pass { color: var(--promote); } .warn { color: var(--hold); } .fail { color: var(--reject); }
.not_checked { color: var(--soft); }
figure { margin: .6rem 0; color: var(--ink); }
figure > div { overflow-x: auto; } figure svg { display: block; width: 100%; min-width: 36rem; height: auto; }
figcaption { color: var(--soft); font-size: .87rem; }
details { margin: .6rem 0; } summary { cursor: pointer; }
pre { background: var(--panel); padding: .8rem; border-radius: .3rem; overflow-x: auto; font-size: .82rem;
  line-height: 1.4; }
code { font-size: .9em; overflow-wrap: anywhere; }
@page { margin: 1.6cm 1.5cm; }
@media print {
  :root { --ink: #000; --soft: #444; --paper: #fff; --panel: #fff; --line: #bbb;
    --promote: #00694d; --hold: #8a5a00; --reject: #a63c00; }
  figure svg { filter: none; min-width: 0; }
  body { max-width: none; padding: 0; font-size: 10.5pt; } h2 { break-after: avoid; }
  figure, tr, .verdict, .key { break-inside: avoid; } .wide { overflow: visible; }
  table { font-size: 8pt; } th, td { padding-right: .35rem; }
  details.config::details-content { content-visibility: visible; block-size: auto; } pre { white-space: pre-wrap; } }
</style>
</head>
<body>
{% macro td(cell) %}
<td{% if cell | length < 17 %} class="short"{% endif %}>{{ cell }}</td>
{%- endmacro %}
{% macro head(header) %}
<thead><tr>{% for cell in header %}<th scope="col">{{ cell }}</th>{% endfor %}</tr></thead>
{% endmacro %}
{% macro tr(row, class="") %}
<tr{% if class %} class="{{ class }}"{% endif %}>{% for cell in row %}{{ td(cell) }}{% endfor %}</tr>
{% endmacro %}
{% macro pairs(row, class="") %}
<tr{% if class %} class="{{ class }}"{% endif %}>
{%- for value, note in row %}<td class="pair">{{ value }}{% if note %}<small>{{ note }}</small>{% endif %}</td>
{%- endfor %}</tr>
{% endmacro %}
{% macro table(header, rows) %}
<div class="wide"><table>
{{ head(header) }}<tbody>
{% for row in rows %}{{ tr(row) }}{% endfor %}
</tbody></table></div>
{% endmacro %}
{% macro picture(name, caption) %}
{% if name in figures %}
<figure><div role="img" aria-label="{{ figures[name][1] }}">{{ figures[name][0] }}</div>
<figcaption>{{ caption }}</figcaption></figure>
{% endif %}
{% endmacro %}
<header class="verdict {{ verdict.kind }}">
<p class="soft">{{ spec.name }}</p>
<h1>{{ verdict.kind }}</h1>
<p class="odds">probability {{ "%.2f" | format(verdict.probability) }}, {{ "%.2f" | format(verdict.confidence) }} asked
for</p>
<p>{{ verdict.reason }}</p>
{% if verdict.preference %}
<p>{{ verdict.preference }}</p>
{% endif %}
<p><b>Next:</b> {{ next_step }}</p>
{% if measurement %}
<p><b>Measure next:</b> {{ measurement }}</p>
{% endif %}
{% if verdict.assumptions %}
<p class="supposed"><b>Supposed, not measured:</b></p>
<ul>
{% for line in verdict.assumptions %}
<li>{{ line }}</li>
{% endfor %}
</ul>
{% endif %}
</header>
<p class="soft">{{ "Recommended" if verdict.kind == "PROMOTE" else "Best" }} candidate:
{{ verdict.best.candidate }}. Below each number stands its 90% interval,
or what it is measured against.</p>
<div class="keys">
{% for label, value, note in key_figures %}
<div class="key"><span>{{ label }}</span><b>{{ value }}</b><span>{{ note }}</span></div>
{% endfor %}
</div>
{% if verdict.vetoes %}
<h2>Held back by</h2>
<ul>
{% for veto in verdict.vetoes %}
<li><b>{{ veto.name }}</b>: {{ veto.reason }}. Way out: {{ veto.way_out }}</li>
{% endfor %}
</ul>
{% endif %}
{% if outcome %}
<h2>What came of it</h2>
{{ table(outcome_header, outcome_rows) }}
<p class="soft">{{ outcome.candidate }}, finished {{ outcome.finished_at }};
checkpoint <code>{{ outcome.checkpoint_path }}</code></p>
{% endif %}
<h2>Learning curves</h2>
{{ picture("learning_curves", "Each mark is one trial. Dark band: 90% of where the curve lies; "
  "light band: 90% of where a new run falls.") }}
{{ table(("model", "measured", "noise between seeds", "backtest: largest size from the smaller",
  "10% more data than the full run", "training rows over validation rows", "diagnosis"), curve_rows) }}
<h2>Bill of the best candidate</h2>
<div class="wide"><table>
{{ head(bill_header) }}<tbody>
{% for row, style in bill_rows %}{{ tr(row, style) }}{% endfor %}
</tbody></table></div>
<p class="soft">The expected dollars of the lines add up; their 90% intervals do not.</p>
{% for sentence in bill_sentences %}
<p>{{ sentence }}</p>
{% endfor %}
{% for warning in verdict.best.bill.warnings %}
<p class="soft">{{ warning }}</p>
{% endfor %}
{% if purchase_rows %}
<h2>Purchase options</h2>
{{ table(purchase_header, purchase_rows) }}
{% endif %}
{% if sensitivity_rows %}
<h2>What moves the total</h2>
{{ table(sensitivity_header, sensitivity_rows) }}
<p class="soft">One input at a time, the others as expected. 10% either side of a price that is taken as known says
nothing about how wrong it may be.</p>
{% endif %}
<h2>Candidates</h2>
{{ picture("frontier", "Every candidate. On the line: those that none beats in gain and in dollars at once, numbered "
  "as in the table, with the 90% interval of their gain. " + threshold_sentence) }}
<div class="wide"><table>
{{ head(candidate_header) }}<tbody>
{% for row, is_best in candidate_rows %}{{ pairs(row, "best" if is_best else "") }}{% endfor %}
</tbody></table></div>
{% if folded_rows %}
<details><summary>{{ folded_rows | length }} more candidates</summary><div class="wide"><table>
{{ head(candidate_header) }}<tbody>
{% for row in folded_rows %}{{ pairs(row) }}{% endfor %}
</tbody></table></div></details>
{% endif %}
<p class="soft">Medians with 90% intervals; sd: standard deviations between seeds; net value: expected gain less the
threshold times expected dollars. P: probability of at least {{ threshold }}.
Baseline: {{ baseline }} ({{ verdict.baseline_source }}).</p>
{{ picture("candidate_costs", "Dollars of each full run with its 90% interval.") }}
<h2>Checklist</h2>
<div class="wide"><table><tbody>
{% for item in verdict.checklist %}
<tr><td class="status {{ item.status }}">{{ item.status.replace("_", " ") }}</td>
<td>{{ item.name }}</td><td>{{ item.evidence }}</td></tr>
{% endfor %}
</tbody></table></div>
<h2>What would change it</h2>
<ul>
{% for line in changes %}
<li>{{ line }}</li>
{% endfor %}
</ul>
{% if workers_rows %}
<h2>Workers for {{ verdict.best.candidate.model }}</h2>
{{ table(workers_header, workers_rows) }}
<ul>
{% for finding in verdict.scaling.findings %}
<li>{{ finding }}</li>
{% endfor %}
</ul>
{% endif %}
{% if data_path %}
<h2>Is it the data?</h2>
{{ table(data_path.header, data_path.rows) }}
<ul>
{% for line in data_path.lines %}
<li>{{ line }}</li>
{% endfor %}
</ul>
{% endif %}
<h2>Data</h2>
<div class="wide"><table><tbody>
{% for label, value in data_rows %}
<tr><th scope="row">{{ label }}</th><td><code>{{ value }}</code></td></tr>
{% endfor %}
</tbody></table></div>
{% if findings %}
{{ findings }}
{% endif %}
{% if "time_against_workers" in figures %}
<h2>Time</h2>
{{ picture("time_against_workers",
  "Mean over seeds, at the largest size that was measured on the most worker counts.") }}
{% endif %}
<h2>Trials</h2>
<p class="soft">The verdict rests on {{ verdict.n_trials }} trials; {{ verdict.n_excluded }} left out.
The sweep cost {{ sweep_cost }}.</p>
<div class="wide"><table>
{{ head(trial_header) }}<tbody>
{% for row, error in trial_rows %}
{{ tr(row) }}{% if error %}
<tr class="out"><td class="fail">failed</td><td colspan="{{ trial_header | length - 1 }}">{{ error }}</td></tr>
{% endif %}
{% endfor %}
</tbody></table></div>
{% if timeline_lines %}
<h2>Dollars over time</h2>
{{ picture("timeline", "A mark where a trial ended and was paid for; a cross is a failed trial.") }}
<ul>
{% for line in timeline_lines %}
<li>{{ line }}</li>
{% endfor %}
</ul>
{% endif %}
{% if history.sweep_end %}
<h2>Why the sweep ended</h2>
<p><b>{{ history.sweep_end.cause }}</b>: {{ history.sweep_end.reason }}</p>
<p class="soft">{{ history.sweep_end.n_trials }} trials of a grid of {{ history.sweep_end.n_grid }},
{{ end_spent }}.</p>
{% if history.sweep_end.dropped %}
{{ table(("model dropped", "reason"), dropped_rows) }}
{% endif %}
{% endif %}
{% if drill_rows %}
<h2>Drills</h2>
{{ table(("drill", "passed", "evidence", "at"), drill_rows) }}
{% endif %}
{% if log_rows %}
<h2>Decision log</h2>
{{ table(log_header, log_rows) }}
<p class="soft">An answer holds for the verdict with the same inputs and for no other.</p>
{% endif %}
<h2>How to reproduce</h2>
<p>Ask the stored evidence again, ask it with another threshold, or measure it anew:</p>
<pre>{% for line in commands %}{{ line }}
{% endfor %}</pre>
<div class="wide"><table><tbody>
{% for label, value in reproduce_rows %}
<tr><th scope="row">{{ label }}</th><td><code>{{ value }}</code></td></tr>
{% endfor %}
</tbody></table></div>
<details class="config"><summary>Config</summary><pre>{{ config }}</pre></details>
</body>
</html>
"""
