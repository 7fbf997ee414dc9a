"""The points of learning curves, from a CSV file or from a stored experiment, with every fault in plain words.

A CSV has a header row with ``n``, one of ``accuracy``, ``error`` (or ``error_rate``) and ``loss``, and, if known,
``seed`` and the ``fingerprint`` of the data, which is one for all rows; other columns are left alone. Row numbers in
messages are the file's lines. Rows of one size and seed saw the same subset and are averaged, as worker counts are in a
sweep.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from orchestrator.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from orchestrator.curves.learning import LearningCurveFit
    from orchestrator.curves.questions import CurveMetric
    from orchestrator.results import TrialResult

COLUMNS: Mapping[str, CurveMetric] = {
    "accuracy": "accuracy",
    "error": "error_rate",
    "error_rate": "error_rate",
    "loss": "loss",
}
FINGERPRINT = "fingerprint"
_EXAMPLE = "a first row such as n,accuracy,seed"
_SIZE_NAMES = frozenset({"samples", "n_samples", "num_samples", "n_train", "train_size", "size", "examples"})
_WAY_OUT = "add points of another size"


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Measured points of one curve."""

    name: str
    metric: CurveMetric
    n: tuple[float, ...]
    value: tuple[float, ...]
    """In the metric's own direction."""
    validation_size: int | None = None

    def fit(self) -> LearningCurveFit:
        """The fitted curve. Raises EvidenceError."""
        from orchestrator.curves.learning import fit_learning_curve
        from orchestrator.curves.questions import bounds_of, turned

        falling = [turned(value, self.metric) for value in self.value]
        size = self.validation_size if self.metric != "loss" else None
        return fit_learning_curve(self.n, falling, bounds=bounds_of(self.metric), validation_size=size)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    number: int
    """Line of the file."""
    n: float
    value: float
    seed: str


def read_csv_points(file: IO[bytes], name: str, metric: CurveMetric | None) -> Points:
    """Points of a CSV file.

    Args:
        file: Opened for bytes.
        name: What to call it in messages.
        metric: Which column to take; None when the file has only one.
    Raises: UsageError: With the file, and the row where there is one.
    """
    table = _table(file.read(), name)
    header, lines = [cell.strip().lower() for cell in table[0][1]], table[1:]
    at = _value_column(header, f"{name}: row {table[0][0]}", metric)
    found = COLUMNS[header[at]]
    _refuse_mixture(name, header, lines)
    at_n, at_seed = header.index("n"), header.index("seed") if "seed" in header else None
    rows = [
        _row(name, number, cells[at_n], cells[at], found, str(number) if at_seed is None else cells[at_seed].strip())
        for number, cells in lines
    ]
    _require_curve(name, found, rows)
    means: dict[tuple[float, str], list[float]] = {}
    for row in rows:
        means.setdefault((row.n, row.seed), []).append(row.value)
    return Points(
        name=Path(name).name,
        metric=found,
        n=tuple(n for n, _ in means),
        value=tuple(sum(values) / len(values) for values in means.values()),
    )


def read_experiment_points(
    experiment: str, runs_dir: str, metric: CurveMetric | None, model: str | None
) -> tuple[dict[str, Points], float]:
    """Points of each model of a stored experiment, and the samples of its full run.

    Points are in the config's metric unless another is asked for. A model without a usable trial has no points.

    Raises: UnknownExperimentError, ConfigError, JournalError, UsageError.
    """
    from orchestrator.cli.compose import read_experiment
    from orchestrator.evidence import usable_results
    from orchestrator.subsets import target_size

    spec, view = read_experiment(experiment, runs_dir)
    asked: CurveMetric = metric or spec.decision.metric
    spec = replace(spec, decision=replace(spec.decision, metric="loss" if asked == "loss" else "accuracy"))
    names = [each.name for each in spec.models]
    if model is not None and model not in names:
        raise UsageError(f"{experiment}: no model {model!r}{did_you_mean(model, names)}; it has {', '.join(names)}")
    own = {name: usable_results(spec, view.data, view.results, name) for name in ([model] if model else names)}
    points = {
        name: _points_of(results, name, asked, view.data.n_validation) for name, results in own.items() if results
    }
    return points, float(target_size(view.data.n_train, spec.full_run.fraction))


def _points_of(results: Sequence[TrialResult], name: str, metric: CurveMetric, n_validation: int) -> Points:
    from orchestrator.evidence import seed_means

    means = seed_means(results, "loss" if metric == "loss" else "accuracy")
    pairs = [(float(n), 1 - value if metric == "error_rate" else value) for n in sorted(means) for value in means[n]]
    return Points(
        name=name,
        metric=metric,
        n=tuple(n for n, _ in pairs),
        value=tuple(value for _, value in pairs),
        validation_size=n_validation,
    )


def _table(content: bytes, name: str) -> list[tuple[int, list[str]]]:
    """Line number and cells of every line that is not blank, the header first."""
    import pyarrow as pa
    from pyarrow import csv

    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: is not text in UTF-8; export it as CSV") from error
    body = text.lstrip("\r\n")
    if not body.strip():
        raise UsageError(f"{name}: is empty; it needs {_EXAMPLE} and one row for each training")
    blank = text[: len(text) - len(body)].count("\n")
    first_line = body.splitlines()[0]
    ragged: list[csv.InvalidRow] = []

    def refuse(row: csv.InvalidRow) -> str:
        ragged.append(row)
        return "skip"

    # Left to the reader, blank lines vanish and row numbers are no longer the file's.
    parse = csv.ParseOptions(
        delimiter=max(",;\t", key=first_line.count), ignore_empty_lines=False, invalid_row_handler=refuse
    )
    read = csv.ReadOptions(autogenerate_column_names=True, use_threads=False)
    try:
        table = csv.read_csv(pa.py_buffer(body.encode()), read, parse, csv.ConvertOptions(strings_can_be_null=False))
    except pa.ArrowInvalid as error:
        raise UsageError(f"{name}: cannot be read as CSV: {error}") from error
    if ragged:
        row = ragged[0]
        counts = f"{row.actual_columns} cells where the header has {row.expected_columns}"
        raise UsageError(f"{name}: row {blank + row.number}: {counts}: {row.text}")
    columns = [["" if cell is None else str(cell) for cell in column.to_pylist()] for column in table.columns]
    lines = [(number, list(cells)) for number, cells in enumerate(zip(*columns, strict=True), start=blank + 1)]
    return [(number, cells) for number, cells in lines if any(cell.strip() for cell in cells)]


def _value_column(header: Sequence[str], where: str, metric: CurveMetric | None) -> int:
    """Position of the column to take. Raises UsageError for an unknown, missing or ambiguous one."""
    shown = ", ".join(cell or "(no name)" for cell in header)
    if "n" not in header:
        size = next((cell for cell in header if cell in _SIZE_NAMES), None)
        way_out = f"rename {size!r} to n" if size else f"it needs {_EXAMPLE}"
        raise UsageError(f"{where}: no column 'n' with the training samples; the columns are {shown}; {way_out}")
    values = [cell for cell in header if cell in COLUMNS]
    wanted = [cell for cell in values if metric is None or COLUMNS[cell] == metric]
    if len(wanted) == 1:
        return header.index(wanted[0])
    if len(wanted) > 1:
        way_out = "name one with --metric" if len({COLUMNS[cell] for cell in wanted}) > 1 else "keep one of them"
        raise UsageError(f"{where}: more than one column to fit: {', '.join(wanted)}; {way_out}")
    if metric is not None and values:
        raise UsageError(
            f"{where}: no column for --metric {metric}; it has {', '.join(values)}: leave --metric out, or name "
            f"{' or '.join(dict.fromkeys(COLUMNS[cell] for cell in values))}"
        )
    meant = next((hint for cell in header if (hint := _meant(cell))), "")
    raise UsageError(f"{where}: none of the columns {shown} is one of {', '.join(COLUMNS)}{meant}")


def _meant(cell: str) -> str:
    """The column that was likely meant: one of nearly that name, or what an ``acc`` or a ``val_loss`` is about."""
    about = next((column for column in COLUMNS if column[:3] in cell), None)
    return did_you_mean(cell, COLUMNS) or (f"; rename {cell!r} to {about}" if about else "")


def _refuse_mixture(name: str, header: Sequence[str], lines: Sequence[tuple[int, list[str]]]) -> None:
    """A curve through points of two data sets is a curve of neither. Raises UsageError."""
    if FINGERPRINT not in header:
        return
    at = header.index(FINGERPRINT)
    rows: dict[str, list[int]] = {}
    for number, cells in lines:
        rows.setdefault(cells[at].strip(), []).append(number)
    if len(rows) > 1:
        listed = ", ".join(
            f"{digest or 'none stated'} ({len(own)} rows, first {own[0]})" for digest, own in rows.items()
        )
        raise UsageError(
            f"{name}: points of {len(rows)} data fingerprints, which are never fitted together: {listed}; "
            "keep the rows of one of them"
        )


def _row(name: str, number: int, n: str, value: str, metric: CurveMetric, seed: str) -> _Row:
    """One line as numbers. Raises UsageError naming the row."""
    from orchestrator.curves.questions import fault_of_value

    size, measured = _number(name, number, "n", n), _number(name, number, metric, value)
    if not (math.isfinite(size) and size >= 1):
        hint = "; if it is a fraction of the data, multiply it by the number of rows" if 0 < size < 1 else ""
        raise UsageError(f"{name}: row {number}: n is {n.strip()} and must be a number of samples, 1 or more{hint}")
    fault = fault_of_value(measured, metric)
    if fault is not None:
        raise UsageError(f"{name}: row {number}: {fault}")
    return _Row(number=number, n=size, value=measured, seed=seed)


def _number(name: str, number: int, column: str, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        found = f"{cell.strip()!r} is not a number" if cell.strip() else "is missing"
        raise UsageError(f"{name}: row {number}: {column} {found}; leave the row out or mend it") from None


def _require_curve(name: str, metric: CurveMetric, rows: Sequence[_Row]) -> None:
    """Two sizes at least, and a metric that does not get worse between the first and the last.

    Whether a worse value is beyond the noise is the fit's own diagnosis; here only what no curve can be is refused.
    """
    if not rows:
        raise UsageError(f"{name}: has a header and no row; it needs one row for each training")
    sizes = {row.n for row in rows}
    if len(rows) == 1:
        raise UsageError(
            f"{name}: has one point, row {rows[0].number}; a curve needs 2 sizes and should have 4: {_WAY_OUT}"
        )
    if len(sizes) == 1:
        raise UsageError(
            f"{name}: all {len(rows)} points, rows {rows[0].number} to {rows[-1].number}, are of one size, "
            f"{rows[0].n:,g}; a curve needs 2 sizes and should have 4: {_WAY_OUT}"
        )
