"""``check-data``: duplicates, leakage, broken rows and wrong labels, found before money is spent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.console import Narrator
from orchestrator.cli.options import as_json, config_argument, format_option, overrides_argument

if TYPE_CHECKING:
    from orchestrator.data.prepared import PreparedData
    from orchestrator.quality.findings import Findings
    from orchestrator.spec import ExperimentSpec

_EPILOG = """\b
Examples:
  python -m orchestrator check-data configs/cifar10.yaml --rows 20000
  python -m orchestrator check-data configs/cifar10.yaml --model cnn --max-seconds 900
"""


@click.command("check-data", epilog=_EPILOG)
@config_argument
@overrides_argument
@click.option(
    "--rows",
    type=click.IntRange(min=20),
    default=10_000,
    show_default=True,
    help="Training rows whose labels are judged.",
)
@click.option("--model", help="Which of the config's models judges them; the first, simplest one when left out.")
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=1),
    default=300.0,
    show_default=True,
    help="For training the judges: no fold is begun that would end later.",
)
@format_option
def check_data_command(
    config: str, overrides: tuple[str, ...], rows: int, model: str | None, max_seconds: float, form: str
) -> None:
    """Look through a config's data: duplicates, leakage, broken rows, wrong labels.

    Labels are judged by models that are trained on the other folds (confident learning). What is found goes into the
    prepared folder, and from there into the checklist and the report of the next verdict.
    """
    from orchestrator.cli.compose import locate_data
    from orchestrator.cli.preflight import preflight
    from orchestrator.config import load_config
    from orchestrator.data.prepared import open_prepared
    from orchestrator.errors import UsageError
    from orchestrator.report.findings import findings_markdown, findings_text

    narrator = Narrator()
    spec = load_config(Path(config), overrides)
    preflight(spec, config)
    names = [each.name for each in spec.models]
    if model is not None and model not in names:
        raise UsageError(f"--model {model}: the config has no such model; it has: {', '.join(names)}")
    located = locate_data(spec, narrator.say)
    if located.root is None:
        raise UsageError(f"{config}: the task brings its own data, which only prepared data can be looked through")
    data = open_prepared(located.root, image=spec.data.image, image_size=spec.data.image_size)
    findings = _judge_labels(spec, data, model or names[0], rows, max_seconds, narrator)
    if form == "json":
        click.echo(as_json(findings))
    else:
        click.echo(findings_markdown(findings) if form == "md" else findings_text(findings))


def _judge_labels(
    spec: ExperimentSpec, data: PreparedData, model: str, n_rows: int, max_seconds: float, narrator: Narrator
) -> Findings:
    from orchestrator.data.findings.labels import add_label_noise
    from orchestrator.data.findings.look import LookOptions, look_through
    from orchestrator.data.findings.store import read_findings
    from orchestrator.errors import UsageError
    from orchestrator.training.loop import default_device
    from orchestrator.training.out_of_fold import out_of_fold_probabilities
    from orchestrator.training.task import SupervisedTask, cached_task

    folder = data.rows_at
    if folder is None:
        raise UsageError(f"{spec.data.source}: only folders of this machine are looked through; copy it here first")
    image = data.image if data.image in data.manifest.columns else None
    options = LookOptions(image=image, max_undecodable=1.0)
    findings = read_findings(folder) or look_through(folder, data.manifest, options, say=narrator.say)
    task, datasets = cached_task(spec, data.root)
    if not isinstance(task, SupervisedTask) or not data.manifest.is_classification:
        narrator.say("label noise: not judged, it needs classes and a SupervisedTask, whose models we can train")
        return findings
    narrator.say(f"training {model} on the other folds of {min(n_rows, len(data.train)):,} rows")
    found = out_of_fold_probabilities(
        task,
        datasets,
        spec.model(model),
        spec.training,
        n_rows=min(n_rows, len(data.train)),
        fingerprint=data.summary.fingerprint,
        max_wall_time_s=max_seconds,
        device=default_device(spec),
        n_threads=spec.resources.cpus_per_worker,
    )
    narrator.say(
        f"{found.n_folds_done} of {found.n_folds} folds in {found.wall_time_s:.0f} s: {len(found.labels):,} labels "
        f"judged, accuracy {found.accuracy:.1%}"
    )
    return add_label_noise(
        folder,
        data.manifest,
        findings,
        model=model,
        places=found.places,
        labels=found.labels,
        probabilities=found.probabilities,
        reader=None if image is None else data.image_reader,
    )
