"""The same 60 rows in every format: images that nobody decodes, or pixels, of three classes."""

from __future__ import annotations

import csv
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.data.formats.crc32c import crc32c_numpy
from orchestrator.data.rows import RowSource

N_ROWS = 60
CLASSES = ("cat", "dog", "owl")


def all_rows(rows: RowSource) -> pa.Table:
    """Every row, piece by piece."""
    return pa.Table.from_batches([batch for piece in rows.pieces for batch in rows.read(piece)], rows.schema)


def blobs(seed: int = 0) -> list[bytes]:
    """Contents of 60 image files: nobody decodes them here."""
    rng = np.random.default_rng(seed)
    return [b"\xff\xd8" + rng.bytes(20 + i) for i in range(N_ROWS)]


def pixels(seed: int = 0) -> npt.NDArray[np.uint8]:
    """60 grey images of 4 x 6 pixels."""
    return np.random.default_rng(seed).integers(0, 256, (N_ROWS, 4, 6), dtype=np.uint8)


def class_ids() -> npt.NDArray[np.uint8]:
    return (np.arange(N_ROWS) % 3).astype(np.uint8)


def labels() -> list[str]:
    return [CLASSES[i] for i in class_ids()]


def write_parquet(path: Path, columns: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> Path:
    """Row groups of ten rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)).replace_schema_metadata(metadata), path, row_group_size=10)
    return path


def write_image_folder(root: Path, contents: Sequence[bytes], of: Sequence[str]) -> Path:
    for i, (content, label) in enumerate(zip(contents, of, strict=True)):
        folder = root / label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i:03d}.jpg").write_bytes(content)
    return root


def write_csv(path: Path, columns: Mapping[str, Sequence[Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def write_json_lines(path: Path, columns: Mapping[str, Sequence[Any]]) -> Path:
    rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def idx_bytes(array: npt.NDArray[Any]) -> bytes:
    """An array as an IDX file."""
    kind = {"u1": 0x08, "i4": 0x0C, "f4": 0x0D}[array.dtype.str[1:]]
    header = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_idx(folder: Path, name: str = "train", seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}-images-idx3-ubyte").write_bytes(idx_bytes(pixels(seed)))
    (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx_bytes(class_ids()))
    return folder


def example(features: Mapping[str, Any]) -> bytes:
    """A tf.train.Example of bytes, whole numbers, floats, or lists of them, in protobuf's wire format."""
    entries = b"".join(
        _field(1, _field(1, name.encode()) + _field(2, _feature(value))) for name, value in features.items()
    )
    return _field(1, entries)


def record(data: bytes) -> bytes:
    """A record of a TFRecord file."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", _masked(length)) + data + struct.pack("<I", _masked(data))


def write_tfrecord(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_bytes(b"".join(record(example(row)) for row in rows))
    return path


def write_huggingface(folder: Path, files: int = 2) -> Path:
    """As save_to_disk writes it: images in structs, record batches of seven rows."""
    folder.mkdir(parents=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    described = {"info": {"features": {"label": {"names": list(CLASSES), "_type": "ClassLabel"}}}}
    schema = pa.schema([("image", kind), ("label", pa.int64())], {"huggingface": json.dumps(described)})
    names = [f"data-{i:05d}-of-{files:05d}.arrow" for i in range(files)]
    for i, name in enumerate(names):
        images = [{"bytes": blob, "path": None} for blob in blobs()[i::files]]
        table = pa.table([pa.array(images, kind), class_ids()[i::files].astype(np.int64)], schema=schema)
        with pa.ipc.new_stream(str(folder / name), schema) as writer:
            writer.write_table(table, max_chunksize=7)
    (folder / "dataset_info.json").write_text(json.dumps({"features": {}}))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    return folder


def _feature(value: Any) -> bytes:
    values = value if isinstance(value, list) else [value]
    if not values:
        return b""
    if all(isinstance(each, bytes) for each in values):
        return _field(1, b"".join(_field(1, each) for each in values))
    if all(isinstance(each, float) for each in values):
        return _field(2, _field(1, struct.pack(f"<{len(values)}f", *values)))
    return _field(3, _field(1, b"".join(_varint(each) for each in values)))


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _masked(content: bytes) -> int:
    crc = crc32c_numpy(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
