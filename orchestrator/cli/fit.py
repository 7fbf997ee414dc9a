"""``fit``: the learning curve of points in a CSV file, or of a stored experiment, and what it says of more data."""

from __future__ import annotations

import math
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from orchestrator.cli.curve_points import Points, read_csv_points, read_experiment_points
from orchestrator.cli.options import as_json, runs_dir_option
from orchestrator.errors import EvidenceError, UsageError

if TYPE_CHECKING:
    from orchestrator.curves.learning import LearningCurveFit
    from orchestrator.curves.questions import CurveAnswers, CurveMetric
    from orchestrator.report.figures import Drawing

_FORMS = (".png", ".svg", ".html")
_CSV_SUFFIXES = frozenset({".csv", ".tsv", ".txt"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answered:
    """One curve with its answers."""

    points: Points
    fit: LearningCurveFit
    answers: CurveAnswers


@click.command("fit")
@click.argument("source", metavar="POINTS.CSV|EXPERIMENT")
@click.option("--target-n", type=float, help="Samples of the forecast. [default: an EXPERIMENT's full run]")
@click.option(
    "--metric", type=click.Choice(["accuracy", "error_rate", "loss"]), help="What to fit, where there is a choice."
)
@click.option("--reach", type=float, help="Also ask how many samples reach this value of the metric.")
@click.option("--model", help="Of an EXPERIMENT, only this model.")
@click.option("--out", type=click.Path(), help="Write the figure: a folder, or a file .png, .svg or .html.")
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
@runs_dir_option
def fit_command(
    source: str,
    target_n: float | None,
    metric: CurveMetric | None,
    reach: float | None,
    model: str | None,
    out: str | None,
    is_json: bool,
    runs_dir: str,
) -> None:
    """Fit learning curves: forecast, gain of more data, samples to a goal; nothing is trained.

    POINTS.CSV has a header with n (training samples), one of accuracy, error and loss, and, if known, seed; - reads it
    from the standard input. Given an EXPERIMENT instead, its measured curves are fitted.
    """
    for label, number in (("--target-n", target_n), ("--reach", reach)):
        if number is not None and not math.isfinite(number):
            raise UsageError(f"{label}: must be a finite number, got {number}")
    _require_form(out)
    if _is_csv(source):
        answered = [_of_csv(source, target_n, metric, reach, model)]
    else:
        answered = _of_experiment(source, runs_dir, target_n, metric, reach, model)
    _require_one_picture(out, answered)
    _show(source, answered, is_json)
    if out is not None:
        _write(Path(out), source, answered)


def _is_csv(source: str) -> bool:
    """Any file but a config, and any name that ends like a file of points, there or not."""
    suffix = Path(source).suffix.lower()
    return source == "-" or suffix in _CSV_SUFFIXES or (suffix not in {".yaml", ".yml"} and Path(source).is_file())


def _of_csv(
    source: str, target_n: float | None, metric: CurveMetric | None, reach: float | None, model: str | None
) -> _Answered:
    """The curve of a file. Whatever is wrong with it is the asker's to mend: UsageError."""
    name = "standard input" if source == "-" else source
    if target_n is None:
        raise UsageError(
            "--target-n is missing: say at how many training samples to forecast, as in --target-n 1000000"
        )
    if model is not None:
        raise UsageError("--model belongs to an EXPERIMENT; a CSV file holds one curve")
    with _opened(source) as file:
        points = read_csv_points(file, name, metric)
    try:
        answered = _answer(points, name, target_n, reach)
    except EvidenceError as error:
        raise UsageError(f"{name}: {error}") from error
    if "wrong-way" in answered.answers.diagnosis:
        raise UsageError(f"{name}: {_wrong_way(points)}")
    return answered


def _of_experiment(
    source: str,
    runs_dir: str,
    target_n: float | None,
    metric: CurveMetric | None,
    reach: float | None,
    model: str | None,
) -> list[_Answered]:
    """The curves of an experiment; a model that has none is said on stderr, and is a fault when no other has one."""
    found, full_run = read_experiment_points(source, runs_dir, metric, model)
    answered, left_out = [], []
    for name, points in found.items():
        try:
            answered.append(_answer(points, name, full_run if target_n is None else target_n, reach))
        except EvidenceError as error:
            left_out.append(f"{name}: {error}")
    if not answered:
        reasons = "; ".join(left_out) or "no finished trial can be used; run the sweep on"
        raise EvidenceError(f"{source}: {reasons}")
    for line in left_out:
        click.echo(f"warning: left out: {line}", err=True)
    return answered


def _answer(points: Points, name: str, target_n: float, reach: float | None) -> _Answered:
    """Raises UsageError for a question, EvidenceError for points that allow no answer."""
    from orchestrator.curves.questions import ask, fault_of_value

    smallest = min(points.n)
    if target_n < smallest:
        raise UsageError(
            f"{name}: --target-n {target_n:,g} lies below the data, whose smallest size is {smallest:,g}; "
            f"ask for {smallest:,g} or more"
        )
    fault = None if reach is None else fault_of_value(reach, points.metric)
    if fault is not None:
        raise UsageError(f"--reach: {fault}")
    fit = points.fit()
    return _Answered(points=points, fit=fit, answers=ask(fit, points.metric, target_n, reach=reach))


def _wrong_way(points: Points) -> str:
    """What a metric that gets worse with more data looks like, and what is usually behind it."""
    from orchestrator.report.curve_text import size_text, value_text

    text = value_text(points.metric)
    ends = [min(points.n), max(points.n)]
    first, last = (
        text(sum(v for n, v in zip(points.n, points.value, strict=True) if n == end) / points.n.count(end))
        for end in ends
    )
    swapped = {
        "accuracy": "if the column holds error rates, name it error",
        "error_rate": "if the column holds accuracies, name it accuracy",
        "loss": "if the column holds accuracies, name it accuracy",
    }[points.metric]
    return (
        f"{points.metric} gets worse with more data, from {first} at {size_text(ends[0])} to {last} at "
        f"{size_text(ends[1])} samples, beyond its noise; {swapped}, else mend the training before forecasting it"
    )


def _opened(source: str) -> AbstractContextManager[IO[bytes]]:
    if source == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return open(source, "rb")
    except OSError as error:
        raise UsageError(f"{source}: cannot be read ({error.strerror}){_beside(Path(source))}") from error


def _beside(path: Path) -> str:
    """A file of nearly that name in the same folder."""
    from orchestrator.errors import did_you_mean

    folder = path.parent
    return did_you_mean(path.name, [each.name for each in folder.iterdir()]) if folder.is_dir() else ""


def _show(source: str, answered: list[_Answered], is_json: bool) -> None:
    from orchestrator.report.curve_text import curve_text

    if is_json:
        click.echo(as_json({"source": source, "curves": [_plain(each) for each in answered]}))
        return
    click.echo("\n\n".join(curve_text(each.answers, each.points.name) for each in answered))


def _plain(answered: _Answered) -> dict[str, object]:
    return {"name": answered.points.name, "answers": answered.answers}


def _require_form(out: str | None) -> None:
    """Refuse a form that cannot be written before anything is computed."""
    suffix = "" if out is None else Path(out).suffix.lower()
    if suffix and suffix not in _FORMS and not Path(out or "").is_dir():
        raise UsageError(f"--out {out}: {suffix} cannot be written; name a file {', '.join(_FORMS)}, or a folder")


def _require_one_picture(out: str | None, answered: list[_Answered]) -> None:
    """A picture file holds one curve; a page or a folder holds all."""
    if out is not None and Path(out).suffix.lower() in {".png", ".svg"} and len(answered) > 1:
        models = ", ".join(each.points.name for each in answered)
        raise UsageError(
            f"--out {out}: one picture holds one curve, and there are {models}; add --model, or name a folder"
        )


def _write(out: Path, source: str, answered: list[_Answered]) -> None:
    """Figures to a file or a folder; where they went is said on stderr."""
    from orchestrator.report.curve_plot import curve_figure
    from orchestrator.report.curve_text import html_fragment, html_page

    drawings = [
        curve_figure(
            each.fit, each.answers, list(zip(each.points.n, each.points.value, strict=True)), name=each.points.name
        )
        for each in answered
    ]
    fragments = [
        html_fragment(each.answers, drawing, each.points.name) for each, drawing in zip(answered, drawings, strict=True)
    ]
    page = html_page(f"Learning curves: {source}", fragments).encode()
    for path, content in _files(out, answered, drawings, page).items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            raise UsageError(f"{path}: cannot be written ({error.strerror}); name another with --out") from error
        click.echo(f"wrote {path}", err=True)


def _files(out: Path, answered: list[_Answered], drawings: list[Drawing], page: bytes) -> dict[Path, bytes]:
    """What goes where: one file, or in a folder both forms of every figure and one page."""
    suffix = out.suffix.lower()
    if suffix not in _FORMS or out.is_dir():
        names = [""] if len(answered) == 1 else [f"_{each.points.name}" for each in answered]
        files = {out / "learning_curve.html": page}
        for name, drawing in zip(names, drawings, strict=True):
            files[out / f"learning_curve{name}.png"] = drawing.png
            files[out / f"learning_curve{name}.svg"] = drawing.svg.encode()
        return files
    if suffix == ".html":
        return {out: page}
    return {out: drawings[0].png if suffix == ".png" else drawings[0].svg.encode()}
