"""``prepare``: a source of rows becomes a folder of Parquet in nested stratified order."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.console import Narrator
from orchestrator.cli.options import as_json, format_option

if TYPE_CHECKING:
    from orchestrator.data.manifest import Manifest
    from orchestrator.data.preparing.preparation import PrepareOptions, Spread
    from orchestrator.quality.findings import Findings

_SAY_EVERY_S = 5.0
_EPILOG = """\b
Examples:
  prepare photos/ --label label -o data/photos                    a folder of images for each class
  prepare 'parts/' --files 'train-*.parquet' --label class -o data/x
  prepare s3://bucket/rows.csv --label price --bins 20 -o data/prices
"""


@click.command("prepare", epilog=_EPILOG)
@click.argument("source", metavar="SRC")
@click.option("-o", "--output", required=True, help="Folder to make, or an address such as s3://bucket/folder.")
@click.option("--label", help="Column of classes, or of a measurement; rows have no labels when it is left out.")
@click.option("--image", default="image", show_default=True, help="Column of encoded images.")
@click.option("--files", default=None, help="Which files of a folder, as a glob.")
@click.option("--input-format", default=None, help="Format of SRC, where names and first bytes do not tell it.")
@click.option(
    "--validation-fraction",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="Share of rows held out, stratified.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the order; not of the split."
)
@click.option("--stratify", multiple=True, help="Column whose shares every subset keeps; several keep joint shares.")
@click.option("--bins", type=click.IntRange(2, 1000), default=10, show_default=True, help="Of a measurement.")
@click.option(
    "--min-per-class", type=click.IntRange(min=0), default=0, help="Rows of each class in even the smallest subset."
)
@click.option("--id", "id_column", help="Column that no two rows may share.")
@click.option("--drop-duplicates", is_flag=True, help="Keep the first row of each --id rather than refuse.")
@click.option("--drop-missing-labels", is_flag=True, help="Leave rows without a label out rather than refuse.")
@click.option("--drop-undecodable", is_flag=True, help="Leave images that cannot be decoded out rather than refuse.")
@click.option(
    "--max-undecodable",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.01,
    show_default=True,
    help="Share of images that may be broken: left out, or told of.",
)
@click.option("--no-findings", is_flag=True, help="Do not look for duplicates, leakage and broken rows afterwards.")
@click.option(
    "--memory-gb",
    type=click.FloatRange(min=0.05),
    help="For rows, of each process; a quarter of what is free, and at most 4, when left out.",
)
@click.option("--overwrite", is_flag=True, help="Replace other prepared data in the folder.")
@click.option(
    "--ray", "on_ray", is_flag=True, help="Spread the work over the Ray cluster (RAY_ADDRESS, or this machine)."
)
@click.option(
    "--cache-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/.data"),
    show_default=True,
    help="Where digests of files are remembered.",
)
@format_option
def prepare_command(
    source: str,
    output: str,
    label: str | None,
    image: str,
    files: str | None,
    input_format: str | None,
    validation_fraction: float,
    seed: int,
    stratify: tuple[str, ...],
    bins: int,
    min_per_class: int,
    id_column: str | None,
    drop_duplicates: bool,
    drop_missing_labels: bool,
    drop_undecodable: bool,
    max_undecodable: float,
    no_findings: bool,
    memory_gb: float | None,
    overwrite: bool,
    on_ray: bool,
    cache_dir: Path,
    form: str,
) -> None:
    """Make Parquet in nested stratified order from SRC: any fraction is then a short sequential read.

    SRC is an image folder, Parquet (a file or a folder), CSV, JSON lines, IDX, NPZ, TFRecord or a Hugging Face data
    set, local or by s3:// gs:// hdfs:// abfs://. The folder appears whole or not at all; stopped, the same command
    goes on.
    """
    from orchestrator.data.preparing.preparation import PrepareOptions
    from orchestrator.errors import UsageError

    if drop_duplicates and id_column is None:
        raise UsageError("--drop-duplicates needs --id, the column that no two rows may share")
    options = PrepareOptions(
        source=source,
        label=label,
        validation_fraction=validation_fraction,
        order_seed=seed,
        stratify=stratify,
        bins=bins,
        min_per_class=min_per_class,
        id_column=id_column,
        drop_duplicates=drop_duplicates,
        drop_missing_labels=drop_missing_labels,
        drop_undecodable=image if drop_undecodable else None,
        max_undecodable=max_undecodable,
        memory_bytes=None if memory_gb is None else int(memory_gb * 1e9),
        overwrite=overwrite,
    )
    reading = {"image": image, "files": files, "format": input_format}
    manifest = _prepare(options, output, reading, cache_dir, on_ray=on_ray)
    findings = None if no_findings else _look_through(output, manifest, image, max_undecodable)
    click.echo(_answer(manifest, findings, output, form))


def _look_through(output: str, manifest: Manifest, image: str, max_undecodable: float) -> Findings | None:
    """What is wrong with the rows; None where they went to a store, which is not read back."""
    from orchestrator.data.findings.look import LookOptions, look_through
    from orchestrator.data.findings.store import read_findings

    narrator, folder = Narrator(), Path(output.removeprefix("file://")).expanduser()
    if not folder.is_dir():
        narrator.say("findings: only folders of this machine are looked through; prepare there, then upload")
        return None
    column = image if image in manifest.columns else None
    return read_findings(folder) or look_through(
        folder, manifest, LookOptions(image=column, max_undecodable=max_undecodable), say=narrator.say
    )


def _prepare(
    options: PrepareOptions, output: str, reading: dict[str, str | None], cache_dir: Path, *, on_ray: bool
) -> Manifest:
    from orchestrator.data.formats import DEFAULT_FILES, open_rows
    from orchestrator.data.preparing.preparation import prepare_folder
    from orchestrator.errors import DataError

    narrator = Narrator()
    narrator.say(f"reading {options.source}")
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        reading = reading | {"files": reading["files"] or DEFAULT_FILES}
        rows = open_rows(options.source, label=options.label, cache_dir=cache_dir, **reading)
    except OSError as error:
        raise DataError(f"{cache_dir}: cannot be written ({error.strerror}); give another --cache-dir") from error
    n_rows = sum(piece.n_rows for piece in rows.pieces)
    narrator.say(f"{rows.format}: {n_rows:,} rows, fingerprint {rows.fingerprint}")
    with _spread(on_ray) as spread, _Progress(narrator) as progress:
        try:
            return prepare_folder(rows, output, options, say=progress.say, progress=progress.advance, spread=spread)
        except KeyboardInterrupt:
            progress.say("interrupted; what was made so far is kept, and the same command goes on from there")
            sys.exit(130)


@contextmanager
def _spread(on_ray: bool) -> Iterator[Spread]:
    from orchestrator.data.preparing.preparation import LOCAL

    if not on_ray:
        yield LOCAL
        return
    from orchestrator.backends.cluster import RayCluster
    from orchestrator.backends.ray_prepare import RaySpread

    cluster = RayCluster.connect()
    try:
        yield RaySpread.of_cluster()
    finally:
        cluster.close()


class _Progress:
    """A bar on a terminal, a line every few seconds elsewhere."""

    def __init__(self, narrator: Narrator) -> None:
        self._narrator = narrator
        self._has_bar = sys.stderr.isatty() and not (os.environ.get("NO_COLOR") or os.environ.get("CI"))
        self._phase = ""
        self._said_at = time.monotonic()
        self._done = 0
        self._bar: Any = None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._close()

    def say(self, message: str) -> None:
        """A line, below a bar that has to end for it."""
        self._close()
        self._narrator.say(message)

    def advance(self, phase: str, done: int, total: int) -> None:
        """Rows, or bytes of an upload, that are done."""
        if self._has_bar:
            self._advance_bar(phase, done, total)
        elif time.monotonic() - self._said_at > _SAY_EVERY_S:
            self._narrator.say(f"{phase} {done:,} of {total:,} {_unit(phase)} ({done / max(1, total):.0%})")
            self._said_at = time.monotonic()

    def _advance_bar(self, phase: str, done: int, total: int) -> None:
        if phase != self._phase or self._bar is None:
            self._close()
            self._phase, self._done = phase, 0
            self._bar = click.progressbar(
                length=total, label=phase, file=sys.stderr, update_min_steps=max(1, total // 200)
            )
            self._bar.__enter__()
        self._bar.update(done - self._done)
        self._done = done

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None


def _unit(phase: str) -> str:
    return "bytes" if phase == "uploading" else "rows"


def _answer(manifest: Manifest, findings: Findings | None, output: str, form: str) -> str:
    if form == "json":
        from dataclasses import asdict

        found = None if findings is None else asdict(findings)
        content = {"folder": output, **asdict(manifest), "subsets": _subsets(manifest), "findings": found}
        return as_json({**content, "next": _next(output)})
    from orchestrator.report.findings import findings_text
    from orchestrator.report.wording import bytes_size, plain_table

    rows = [(f"{each['fraction']:.0%}", f"{each['rows']:,}", bytes_size(each["bytes"])) for each in _subsets(manifest)]
    header = ("of the training pool", "rows", "read")
    facts = "\n".join(f"{name + ':':<14} {fact}" for name, fact in _facts(manifest, output).items())
    looked = "" if findings is None else f"{findings_text(findings)}\n\n"
    text = f"{facts}\n\n{plain_table(header, rows)}\n\n{looked}next:          {_next(output)}"
    return f"```\n{text}\n```" if form == "md" else text


def _facts(manifest: Manifest, output: str) -> dict[str, str]:
    from orchestrator.report.wording import bytes_size

    summary = manifest.summary
    n_files = len(manifest.train_files) + len(manifest.validation_files)
    facts = {
        "folder": output,
        "rows": f"{summary.n_rows:,}: {summary.n_train:,} for training, {summary.n_validation:,} for validation",
        "classes": _classes(manifest),
        "stratified by": manifest.strata,
        "files": f"{n_files:,}, {bytes_size(summary.bytes_on_disk)}, from {manifest.source_format}",
        "fingerprint": summary.fingerprint,
        "left out": ", ".join(f"{n:,} rows: {reason}" for reason, n in manifest.left_out.items()),
        "versions": ", ".join(f"{name} {value}" for name, value in manifest.versions.items()),
    }
    return {name: fact for name, fact in facts.items() if fact}


def _classes(manifest: Manifest) -> str:
    if not manifest.is_classification:
        return ""
    counts = manifest.summary.class_counts
    if len(set(counts.values())) == 1:
        return f"{len(counts):,} of {next(iter(counts.values())):,} training rows each"
    least, most = (min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__))
    return f"{len(counts):,}, of {counts[least]:,} ({least}) to {counts[most]:,} ({most}) training rows"


def _subsets(manifest: Manifest) -> list[dict[str, Any]]:
    """Rows and bytes of some fractions; the bytes of a part of a file by its share of the file's rows."""
    from orchestrator.data.preparing.layout import COUNTED_FRACTIONS
    from orchestrator.subsets import subset_size

    found = []
    for fraction in COUNTED_FRACTIONS:
        n_rows = left = subset_size(manifest.summary.n_train, fraction)
        n_bytes = 0.0
        for file in manifest.train_files:
            taken = min(left, file.n_rows)
            n_bytes += file.n_bytes * taken / max(1, file.n_rows)
            left -= taken
        found.append({"fraction": fraction, "rows": n_rows, "bytes": int(n_bytes)})
    return found


def _next(output: str) -> str:
    return f"python -m orchestrator sweep CONFIG {shlex.quote(f'data.source={output}')}"
