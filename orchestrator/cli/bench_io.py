"""``bench-io``: what a disk or an object store gives, and for how many samples a second that is enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.options import as_json, format_option

if TYPE_CHECKING:
    from orchestrator.data.stores.bench_io import IoMeasurement, IoReport

_HEADER = ("operation", "threads", "cache", "MB/s", "per second", "median", "95% below")
_MANY = 1000
_WORTH_IT = 2.0
# Fewer files, or a smaller factor, are not worth a conversion: a thousand files are read in seconds either way.


@click.command("bench-io")
@click.argument("uri")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="Time for all of it.")
@click.option(
    "--max-gb", type=click.FloatRange(min=0.001), default=2.0, show_default=True, help="Most to read, and to write."
)
@click.option(
    "--threads", type=click.IntRange(1, 256), default=8, show_default=True, help="Readers at once, beside one alone."
)
@click.option("--write", is_flag=True, help="Also write test files there, and delete them again.")
@format_option
def bench_io_command(uri: str, seconds: float, max_gb: float, threads: int, write: bool, form: str) -> None:
    """Measure a folder or file, local or s3://, gs://, hdfs://, abfs://: MB/s, blocks, small files, metadata.

    Reads only, unless --write is given. On local disks, reads from the disk (cold) and from memory (cached) are told
    apart.
    """
    from orchestrator.data.stores.bench_io import bench_io
    from orchestrator.data.stores.locations import kind_of, near, resolve
    from orchestrator.errors import DataError

    location = resolve(uri)
    if kind_of(location) is None:
        raise DataError(f"{location.uri}: is not there{near(location)}; check the address, or create the folder first")
    report = bench_io(
        location.file_system, location.path, location=location.uri, seconds=seconds, max_bytes=int(max_gb * 1e9),
        threads=threads, write=write,
    )  # fmt: skip
    if form == "json":
        click.echo(as_json(_plain(report)))
        return
    click.echo("\n".join([_title(report), "", _table(report, form), "", *_said(report)]))


def _plain(report: IoReport) -> dict[str, object]:
    """The record with what follows from it."""
    from dataclasses import asdict

    derived = {"samples_per_s": report.samples_per_s, "packed_samples_per_s": report.packed_samples_per_s}
    measurements = [
        {**asdict(each), "mb_per_s": each.mb_per_s, "operations_per_s": each.operations_per_s}
        for each in report.measurements
    ]
    return {**asdict(report), **derived, "measurements": measurements, "meaning": _meaning(report)}


def _title(report: IoReport) -> str:
    from orchestrator.report.wording import bytes_size

    if report.n_files == 0:
        return f"{report.location} ({report.file_system}): no files; measured with files of its own"
    least = "" if report.is_complete else "at least "
    files = "1 file" if report.n_files == 1 else f"{report.n_files:,} files"
    return f"{report.location} ({report.file_system}): {least}{files}, {bytes_size(report.n_bytes)}"


def _table(report: IoReport, form: str) -> str:
    from orchestrator.report.wording import plain_table

    rows = [_row(each) for each in report.measurements]
    if form == "table":
        return plain_table(_HEADER, rows)
    lines = ["| " + " | ".join(cells) + " |" for cells in (_HEADER, ["---"] * len(_HEADER), *rows)]
    return "\n".join(lines)


def _row(each: IoMeasurement) -> tuple[str, ...]:
    from orchestrator.intervals import format_quantity

    return (
        each.operation,
        str(each.threads),
        each.cache,
        "-" if each.mb_per_s is None else format_quantity(each.mb_per_s),
        format_quantity(each.operations_per_s),
        "-" if each.latency_median_s is None else _latency(each.latency_median_s),
        "-" if each.latency_p95_s is None else _latency(each.latency_p95_s),
    )


def _latency(seconds: float) -> str:
    for factor, unit in ((1e6, "us"), (1e3, "ms")):
        if seconds * factor < 1000:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def _said(report: IoReport) -> list[str]:
    return [*(f"not measured: {reason}" for reason in report.missing), *_meaning(report)]


def _meaning(report: IoReport) -> list[str]:
    """What the figures are enough for, and whether packing the files would help."""
    from orchestrator.data.stores.bench_io import SEQUENTIAL, SMALL
    from orchestrator.ingest import rate_text
    from orchestrator.report.wording import bytes_size

    rate, size = report.samples_per_s, bytes_size(round(report.bytes_per_sample))
    used = report.best(SEQUENTIAL if report.is_packed else SMALL)
    if rate is None or used is None:
        return ["too little was measured to say how many samples a second that feeds"]
    mean = (
        f"rows of {size}"
        if report.sample_name == "row"
        else f"{report.sample_name}s of the mean file size here ({size})"
    )
    threads = "1 thread" if used.threads == 1 else f"{used.threads} threads"
    lines = [f"enough for about {rate_text(rate)} {mean} a second on {threads}, before decoding"]
    if not report.is_packed and report.n_files >= _MANY:
        lines += _packing(report, rate, size)
    return lines


def _packing(report: IoReport, rate: float, size: str) -> list[str]:
    from orchestrator.ingest import rate_text

    least = "" if report.is_complete else "at least "
    facts = f"{least}{rate_text(report.n_files)} files of {size}: {rate_text(rate)} files/s"
    packed = report.packed_samples_per_s
    if packed is None:
        return [f"{facts}; what packed Parquet would give was not measured here: add --write"]
    if packed < _WORTH_IT * rate:
        return []
    return [f"{facts}; packed Parquet reads {rate_text(packed / rate)} times faster; run `prepare`"]
