"""TFRecord files of tf.train.Example messages, read without TensorFlow. Plain or gzipped (``.gz``).

    record  length (uint64), masked CRC-32C of the length, data, masked CRC-32C of the data    all little-endian
    masked  ((crc >> 15 | crc << 17) + 0xa282ead8) mod 2**32

Source: tensorflow.org, tutorial "TFRecord and tf.train.Example", "TFRecords format details"; the messages are those of
tensorflow/core/example/{example,feature}.proto, described below for protobuf's own reader. Types come from the first
records of every file: a feature with one value in all of them is a plain column, else a list.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from typing import Any, NamedTuple

import pyarrow as pa

from orchestrator.data.formats.crc32c import crc32c
from orchestrator.data.formats.source_files import with_digests
from orchestrator.data.formats.table_rows import (
    BATCH_BYTES,
    BATCH_ROWS,
    PIECE_BYTES,
    Asked,
    TableRows,
    check_columns,
    numbered,
    one_schema,
    reading,
)
from orchestrator.data.rows import Piece
from orchestrator.data.stores.faults import reason_of
from orchestrator.data.stores.locations import StoredFile, optional_package
from orchestrator.errors import DataError

NAME = "TFRecord"
SUFFIXES = frozenset({".tfrecord", ".tfrecords", ".tfrec"})
_HEADER, _FOOTER = 12, 4
_BUFFER = 4 << 20
_FIRST_RECORDS = 256
_KINDS = {"bytes_list": pa.binary(), "float_list": pa.float32(), "int64_list": pa.int64()}


class Record(NamedTuple):
    """A record and where it begins in its file."""

    offset: int
    data: bytes


class TfRecordRows(TableRows):
    """TFRecord files as a `RowSource`."""

    format = NAME

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """Runs of records; ``position`` is the byte where the first begins. Gzipped files are one piece each.

        Finding them reads the files once; the fingerprint alone does not.
        """
        return numbered([run for file in self.files for run in _runs(file)])

    def batches(self, piece: Piece, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Records of a piece, their checksums compared."""
        file = self._file_of[piece.path]
        known = set(self.schema.names)
        fields = [self.schema.field(name) for name in names]
        columns = _Columns(file, fields)
        records = read_records(file, piece.position)
        for _, record in zip(range(piece.n_rows), records, strict=False):
            features = parse(file, record)
            if not features.keys() <= known:
                raise _unknown_feature(file, record, sorted(features.keys() - known)[0])
            columns.add(record, features)
            if columns.is_full:
                yield columns.batch()
        if columns.n_rows:
            yield columns.batch()


def open_tfrecord(files: Sequence[StoredFile], asked: Asked) -> TfRecordRows:
    """TFRecord files. Raises DataError: damaged, other messages than Examples, or lacking a column asked for."""
    check_packages()
    known = with_digests(files, asked.cache_dir)
    schemas = [(file.name, schema) for file in known if (schema := _first_schema(file, asked)) is not None]
    if not schemas:
        raise DataError(f"{known[0].name}: holds no record; fetch or write it again")
    schema = one_schema(schemas, asked, _joined)
    check_columns(schema, asked, known[0].name)
    return TfRecordRows(known, schema)


def check_packages() -> None:
    """Raises DataError: a package that reading needs is not installed."""
    _example_class()


def looks_like_tfrecord(head: bytes) -> bool:
    """Whether a file may begin so: with a length that has the right checksum."""
    return len(head) >= _HEADER and _masked(head[:8]) == struct.unpack("<I", head[8:12])[0]


def read_records(file: StoredFile, offset: int = 0, *, with_checksums: bool = True) -> Iterator[Record]:
    """Records from a byte on. Raises DataError: damaged, with the byte where the record begins."""
    with io.BufferedReader(_stream(file), _BUFFER) as stream:
        if not is_gzip(file):
            stream.seek(offset)
        while header := stream.read(_HEADER):
            if len(header) < _HEADER:
                raise _damaged(file, offset, "it ends within the length")
            length, checksum = struct.unpack("<QI", header)
            if _masked(header[:8]) != checksum:
                raise _damaged(file, offset, "the checksum of its length is wrong")
            content = stream.read(length + _FOOTER)
            if len(content) < length + _FOOTER:
                raise _damaged(file, offset, f"it ends after {len(content):,} of {length + _FOOTER:,} bytes")
            data = content[:length]
            if with_checksums and _masked(data) != int.from_bytes(content[length:], "little"):
                raise _damaged(file, offset, "the checksum of its data is wrong")
            yield Record(offset, data)
            offset += _HEADER + length + _FOOTER


def parse(file: StoredFile, record: Record) -> dict[str, Any]:
    """Features of a record by name. Raises DataError: it holds another message."""
    try:
        return dict(_example_class().FromString(record.data).features.feature)
    except Exception as error:  # protobuf's DecodeError, whose module is known at run time only
        raise _damaged(file, record.offset, f"it holds no tf.train.Example: {reason_of(error)}") from error


def is_gzip(file: StoredFile) -> bool:
    """By its name."""
    return file.path.lower().endswith(".gz")


class _Columns:
    """Values of rows that wait to become a batch."""

    def __init__(self, file: StoredFile, fields: Sequence[pa.Field]) -> None:
        self._file, self._fields = file, fields
        self._clear()

    @property
    def is_full(self) -> bool:
        return self.n_rows >= BATCH_ROWS or self._n_bytes >= BATCH_BYTES

    def add(self, record: Record, features: dict[str, Any]) -> None:
        for field, column in zip(self._fields, self._values, strict=True):
            feature = features.get(field.name)
            column.append(None if feature is None else self._value(record, field, feature))
        self.n_rows += 1
        self._n_bytes += len(record.data)

    def batch(self) -> pa.RecordBatch:
        arrays = [self._array(field, values) for field, values in zip(self._fields, self._values, strict=True)]
        self._clear()
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(self._fields))

    def _clear(self) -> None:
        self.n_rows = self._n_bytes = 0
        self._values: list[list[Any]] = [[] for _ in self._fields]

    def _value(self, record: Record, field: pa.Field, feature: Any) -> Any:
        kind = feature.WhichOneof("kind")
        if kind is None:
            return None
        is_list = pa.types.is_list(field.type)
        inner = field.type.value_type if is_list else field.type
        if _KINDS[kind] != (pa.binary() if pa.types.is_string(inner) else inner):
            raise DataError(
                f"{self._file.name}: feature {field.name!r} is {inner} in the first records but {_KINDS[kind]} in the "
                f"record at byte {record.offset:,}; it must have one type in all records"
            )
        values = getattr(feature, kind).value
        if is_list:
            return list(values)
        if len(values) > 1:
            raise DataError(
                f"{self._file.name}: feature {field.name!r} has one value in the first {_FIRST_RECORDS} records but "
                f"{len(values)} in the record at byte {record.offset:,}; put a record with several first"
            )
        return values[0] if values else None

    def _array(self, field: pa.Field, values: list[Any]) -> pa.Array:
        if not (pa.types.is_string(field.type) or _holds_text(field.type)):
            return pa.array(values, field.type)
        as_bytes = pa.list_(pa.binary()) if pa.types.is_list(field.type) else pa.binary()
        try:
            return pa.array(values, as_bytes).cast(field.type)
        except pa.ArrowInvalid as error:
            raise DataError(
                f"{self._file.name}: feature {field.name!r} is text in the first records but other bytes further down "
                f"({reason_of(error)}); it must be one of the two in all records"
            ) from error


def _first_schema(file: StoredFile, asked: Asked) -> pa.Schema | None:
    """Names and types of the features of the first records; None for a file without any."""
    found: dict[str, tuple[pa.DataType, bool]] = {}
    with reading(file, NAME):
        for _, record in zip(range(_FIRST_RECORDS), read_records(file), strict=False):
            for name, feature in parse(file, record).items():
                kind = feature.WhichOneof("kind")
                if kind is None:
                    continue
                values = getattr(feature, kind).value
                is_text = kind == "bytes_list" and name != asked.image and all(map(_is_text, values))
                inner, is_list = pa.string() if is_text else _KINDS[kind], len(values) > 1
                known, was_list = found.get(name, (inner, False))
                joined = known if known == inner else _joined(known, inner)
                if joined is None:
                    raise DataError(
                        f"{file.name}: feature {name!r} is {known} in the first records but {inner} in the record at "
                        f"byte {record.offset:,}; it must have one type in all records"
                    )
                found[name] = (joined, was_list or is_list)
        file.check_current()
    if not found:
        return None
    return pa.schema([(name, pa.list_(kind) if is_list else kind) for name, (kind, is_list) in sorted(found.items())])


def _joined(known: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Bytes hold text, and a list holds one value."""
    inner = {kind.value_type if pa.types.is_list(kind) else kind for kind in (known, other)}
    is_list = pa.types.is_list(known) or pa.types.is_list(other)
    if len(inner) > 1 and inner != {pa.string(), pa.binary()}:
        return None
    kind = pa.binary() if len(inner) > 1 else inner.pop()
    return pa.list_(kind) if is_list else kind


def _is_text(value: bytes) -> bool:
    try:
        return value.decode().isprintable()
    except UnicodeDecodeError:
        return False


def _holds_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) and pa.types.is_string(kind.value_type))


def _runs(file: StoredFile) -> list[tuple[str, int, int]]:
    """Path, rows and first byte of runs of records of about `PIECE_BYTES`."""
    runs: list[tuple[str, int, int]] = []
    with reading(file, NAME):
        for record in read_records(file, with_checksums=False):
            if not runs or (not is_gzip(file) and record.offset - runs[-1][2] >= PIECE_BYTES):
                runs.append((file.name, 0, record.offset))
            runs[-1] = (file.name, runs[-1][1] + 1, runs[-1][2])
        file.check_current()
    return runs


def _stream(file: StoredFile) -> Any:
    return pa.CompressedInputStream(file.stream(), "gzip") if is_gzip(file) else file.open()


def _masked(content: bytes) -> int:
    crc = crc32c()(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _damaged(file: StoredFile, offset: int, what: str) -> DataError:
    return DataError(f"{file.name}: the record at byte {offset:,} is damaged: {what}; fetch or write the file again")


def _unknown_feature(file: StoredFile, record: Record, name: str) -> DataError:
    return DataError(
        f"{file.name}: the record at byte {record.offset:,} has a feature {name!r} that the first {_FIRST_RECORDS} "
        "lack; put such a record first"
    )


@cache
def _example_class() -> Any:
    """The class of tf.train.Example. Raises DataError: protobuf is not installed."""
    descriptors = optional_package("google.protobuf.descriptor_pb2", NAME, "tfrecord")
    pools = optional_package("google.protobuf.descriptor_pool", NAME, "tfrecord")
    factory = optional_package("google.protobuf.message_factory", NAME, "tfrecord")
    kinds = descriptors.FieldDescriptorProto
    package = "orchestrator.example"
    file = descriptors.FileDescriptorProto(name="orchestrator/example.proto", package=package, syntax="proto3")

    def add(message: Any, name: str, number: int, kind: int, of: str = "", *, repeated: bool = False) -> Any:
        label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
        type_name = f".{package}.{of}" if of else None
        return message.field.add(name=name, number=number, type=kind, label=label, type_name=type_name)

    lists = (("BytesList", kinds.TYPE_BYTES), ("FloatList", kinds.TYPE_FLOAT), ("Int64List", kinds.TYPE_INT64))
    for name, kind in lists:
        add(file.message_type.add(name=name), "value", 1, kind, repeated=True)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, of) in enumerate(zip(_KINDS, (each[0] for each in lists), strict=True), start=1):
        add(feature, name, number, kinds.TYPE_MESSAGE, of).oneof_index = 0
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    add(entry, "key", 1, kinds.TYPE_STRING)
    add(entry, "value", 2, kinds.TYPE_MESSAGE, "Feature")
    add(features, "feature", 1, kinds.TYPE_MESSAGE, "Features.FeatureEntry", repeated=True)
    add(file.message_type.add(name="Example"), "features", 1, kinds.TYPE_MESSAGE, "Features")
    pool = pools.DescriptorPool()
    pool.Add(file)
    return factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.Example"))
