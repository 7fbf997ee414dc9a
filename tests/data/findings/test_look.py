"""Damage that is planted in a prepared folder is found, counted and traced back to the source."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from PIL import Image

from orchestrator.data.findings import look as module
from orchestrator.data.findings.labels import add_label_noise
from orchestrator.data.findings.look import LookOptions, look_through
from orchestrator.data.findings.row_access import RowAccess, class_ids
from orchestrator.data.findings.row_digests import digest_column, digest_rows
from orchestrator.data.findings.store import FINDINGS, read_findings, read_pictures, write_findings
from orchestrator.data.images import ImageReader
from orchestrator.data.manifest import TRAIN, VALIDATION, Manifest
from orchestrator.data.preparing.preparation import PrepareOptions, prepare_folder
from orchestrator.errors import DataError
from orchestrator.quality.findings import Example, Findings

Pixels = npt.NDArray[np.uint8]
Prepare = Callable[..., tuple[Path, Manifest]]
ALL = LookOptions(n_examples=10**6, n_threads=2)


def photographs(n: int, side: int = 24, seed: int = 0) -> list[Pixels]:
    """Random images of low frequencies, as photographs have them, each of another composition."""
    rng = np.random.default_rng(seed)
    waves = np.cos(np.pi * np.outer(np.arange(8), np.arange(side) + 0.5) / side)
    weights = rng.standard_normal((n, 3, 8, 8)) / (1 + np.add.outer(np.arange(8), np.arange(8)))
    images = waves.T @ weights @ waves
    low, high = (edge(images, axis=(1, 2, 3), keepdims=True) for edge in (np.min, np.max))
    return list((30 + 180 * (images - low) / (high - low)).astype(np.uint8).transpose(0, 2, 3, 1))


def encoded(pixels: Pixels, kind: str = "png", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def prepare(tmp_path: Path, memory_rows: Any) -> Prepare:
    """``prepare(columns, **options)``: a prepared folder of these columns, in the order in which they come."""

    def make(columns: dict[str, Any], schema: pa.Schema | None = None, **options: Any) -> tuple[Path, Manifest]:
        folder = tmp_path / "prepared"
        shutil.rmtree(folder, ignore_errors=True)
        options = {"source": "memory", "label": "label", "validation_fraction": 0.25} | options
        table = pa.table(columns, schema=schema)
        return folder, prepare_folder(memory_rows((table,)), folder, PrepareOptions(**options))

    return make


def labelled(images: list[bytes | None], n_classes: int = 2, **more: Any) -> dict[str, Any]:
    n = len(images)
    return {"id": [f"r{i}" for i in range(n)], "image": pa.array(images, pa.binary()),
            "label": [f"class {i % n_classes}" for i in range(n)], **more}  # fmt: skip


def source_rows(examples: tuple[Example, ...]) -> list[int | None]:
    return [example.row.source_row for example in examples]


def sides(folder: Path, manifest: Manifest) -> dict[int, str]:
    """The split that each row of the source lies in."""
    access = RowAccess(folder, manifest)
    return {
        row.source_row: split
        for split, n in ((TRAIN, manifest.summary.n_train), (VALIDATION, manifest.summary.n_validation))
        for row in access.where(split, range(n)).values()
        if row.source_row is not None
    }


def of(findings: Findings, kind: Any) -> Any:
    found = findings.of(kind)
    assert found is not None
    return found


def test_clean_images_are_clean(prepare: Prepare, said: list[str]) -> None:
    images: list[bytes | None] = [encoded(image) for image in photographs(160)]
    folder, manifest = prepare(labelled(images))

    findings = look_through(folder, manifest, say=said.append)

    assert [each.kind for each in findings.findings if each.status not in ("pass", "not_checked")] == []
    assert [each.kind for each in findings.findings if each.status == "not_checked"] == ["label noise"]
    assert findings.is_clean
    assert findings.n_images_looked_at == {TRAIN: 120, VALIDATION: 40}
    assert findings.rows_per_s is not None
    assert "rows/s" in said[-1]


def test_every_planted_copy_is_found_on_the_side_it_lies_on(prepare: Prepare) -> None:
    originals = photographs(120)
    copies = {i: 120 + at for at, i in enumerate(range(0, 80, 2))}
    near = {i: 160 + at for at, i in enumerate(range(1, 80, 2))}
    images: list[bytes | None] = [encoded(image) for image in originals]
    images += [images[i] for i in copies]
    images += [encoded(originals[i], "jpeg", quality=70) for i in near]
    folder, manifest = prepare(labelled(images))
    side = sides(folder, manifest)

    findings = look_through(folder, manifest, ALL)

    def named(*kinds: str) -> set[frozenset[int | None]]:
        return {
            frozenset({each.row.source_row, each.other.source_row if each.other else None})
            for finding in findings.findings
            if finding.kind in kinds
            for each in finding.examples
        }

    def planted(pairs: dict[int, int], where: set[str]) -> set[frozenset[int]]:
        return {frozenset(pair) for pair in pairs.items() if {side[row] for row in pair} == where}

    across = {TRAIN, VALIDATION}
    assert named("exact duplicates") == planted(copies, {TRAIN})
    assert named("exact leakage") == planted(copies, across)
    assert named("near duplicates") == planted(near, {TRAIN})
    assert named("near leakage") == planted(near, across)
    assert len(planted(copies, across)) >= 5
    assert of(findings, "exact leakage").status == "fail"
    assert of(findings, "near leakage").status == "warn"
    assert findings.status == "fail"


def test_duplicates_with_other_labels_come_first(prepare: Prepare) -> None:
    images: list[bytes | None] = [encoded(image) for image in photographs(60)]
    columns = labelled([*images, *images[:12]])
    columns["label"][61] = "class 0"  # row 1, a copy of which is row 61, is of class 1
    folder, manifest = prepare(columns, validation_fraction=0.02)

    findings = look_through(folder, manifest, ALL)

    conflicts = of(findings, "conflicting labels")
    assert conflicts.count == 2
    assert conflicts.status == "warn"
    (example,) = conflicts.examples
    assert {example.row.source_row, example.other.source_row} == {1, 61}
    assert {example.row.label, example.other.label} == {"class 0", "class 1"}
    every = [*of(findings, "exact duplicates").examples, *of(findings, "exact leakage").examples]
    first = next(iter(of(findings, "exact duplicates").examples or of(findings, "exact leakage").examples))
    assert len(every) == 12
    assert {first.row.source_row, first.other.source_row} == {1, 61}


def test_broken_images_are_listed_with_their_source_rows_and_reasons(prepare: Prepare) -> None:
    images: list[bytes | None] = [encoded(image, "jpeg") for image in photographs(100)]
    images[7], images[40] = images[7][:-60], b"no image"  # type: ignore[index]  # bytes
    folder, manifest = prepare(labelled(images))

    findings = look_through(folder, manifest, LookOptions(max_undecodable=0.02))

    broken = of(findings, "undecodable images")
    assert broken.count == 2
    assert set(source_rows(broken.examples)) == {7, 40}
    assert {each.what for each in broken.examples} >= {"is not an image"}
    assert any("truncated" in each.what for each in broken.examples)


def test_too_many_broken_images_are_refused_with_rows_reasons_and_a_way_out(prepare: Prepare) -> None:
    images: list[bytes | None] = [encoded(image) for image in photographs(100)]
    images[7], images[40] = b"no image", None
    folder, manifest = prepare(labelled(images))

    with pytest.raises(DataError) as refused:
        look_through(folder, manifest)

    assert "2 of 100 images cannot be decoded (2.0%; at most 1.0% is allowed)" in str(refused.value)
    assert "source row 7: is not an image" in str(refused.value)
    assert "source row 40: is null" in str(refused.value)
    assert "prepare --drop-undecodable" in str(refused.value)
    assert not (folder / FINDINGS).exists()


def test_odd_sizes_blank_images_missing_values_and_constant_columns_are_named(prepare: Prepare) -> None:
    pixels = photographs(80)
    pixels[3] = photographs(1, side=30, seed=9)[0]
    pixels[5] = np.full((24, 24, 3), 90, dtype=np.uint8)
    height: list[float | None] = [float(i) for i in range(80)]
    height[11], height[12] = None, float("nan")
    columns = labelled([encoded(image) for image in pixels], height=height, camera=["A"] * 80, note=[None] * 80)
    columns["note"] = pa.array(columns["note"], pa.string())
    folder, manifest = prepare(columns)

    findings = look_through(folder, manifest)

    assert source_rows(of(findings, "odd sizes").examples) == [3]
    assert "30 x 30" in of(findings, "odd sizes").examples[0].what
    assert source_rows(of(findings, "blank images").examples) == [5]
    missing = of(findings, "missing values")
    assert missing.count == 82
    assert "height 2 (2.5%)" in missing.sentence
    assert {each.row.source_row for each in missing.examples} & {11, 12}
    assert of(findings, "constant columns").sentence == "constant columns: camera, note: one value in all rows"


def test_images_of_many_sizes_are_no_fault(prepare: Prepare) -> None:
    images: list[bytes | None] = [encoded(photographs(1, side=20 + i % 7, seed=i)[0]) for i in range(60)]
    folder, manifest = prepare(labelled(images))

    odd = of(look_through(folder, manifest), "odd sizes")

    assert (odd.status, odd.count) == ("pass", 0)
    assert "7 sizes" in odd.sentence


def test_an_id_that_comes_twice_is_found(prepare: Prepare) -> None:
    columns = labelled([encoded(image) for image in photographs(60)])
    columns["id"][20] = columns["id"][9]
    folder, manifest = prepare(columns)

    repeated = of(look_through(folder, manifest), "repeated ids")

    assert (repeated.count, repeated.status) == (1, "warn")
    assert {repeated.examples[0].row.source_row, repeated.examples[0].other.source_row} == {9, 20}


def test_above_the_limit_a_stratified_front_of_both_splits_is_decoded_and_said_so(prepare: Prepare) -> None:
    images: list[bytes | None] = [encoded(image) for image in photographs(200)]
    folder, manifest = prepare(labelled([*images, *images[:20]]))

    findings = look_through(folder, manifest, LookOptions(max_images=88, n_examples=100))

    assert findings.n_images_looked_at == {TRAIN: 66, VALIDATION: 22}
    assert "of the first 88 rows in nested order" in of(findings, "near duplicates").sentence
    # Digests are taken of all rows.
    assert of(findings, "exact duplicates").count + of(findings, "exact leakage").count >= 19


def test_small_images_are_too_coarse_to_tell_copies_by(prepare: Prepare) -> None:
    images: list[bytes | None] = [encoded(image) for image in photographs(40, side=8)]
    folder, manifest = prepare(labelled(images))

    near = of(look_through(folder, manifest), "near duplicates")

    assert near.status == "not_checked"
    assert "too coarse" in near.sentence


def test_images_that_all_look_alike_are_no_copies_one_by_one_but_worth_a_warning(prepare: Prepare) -> None:
    rng = np.random.default_rng(0)
    one = photographs(1)[0].astype(int)
    alike = [np.clip(one + rng.integers(-9, 10, one.shape), 0, 255).astype(np.uint8) for _ in range(300)]
    folder, manifest = prepare(labelled([encoded(image) for image in alike]))

    near = of(look_through(folder, manifest), "near duplicates")

    assert (near.status, near.examples) == ("warn", ())
    assert "copies cannot be told" in near.sentence


def test_where_many_images_resemble_another_only_sure_copies_are_named(prepare: Prepare) -> None:
    rng = np.random.default_rng(0)
    pixels = photographs(60)
    # The block of the thumbnails averages noise out; a wide pattern lowers the correlation and leaves the hash.
    alike = [np.clip(image + 14.0 * np.kron(rng.standard_normal((12, 12)), np.ones((2, 2)))[..., None], 0, 255)
             for image in pixels[:20]]  # fmt: skip
    copies = [np.clip(image * 1.05, 0, 255) for image in pixels[20:30]]
    every = [*pixels, *alike, *copies]
    folder, manifest = prepare(labelled([encoded(image.astype(np.uint8)) for image in every]), validation_fraction=0.03)

    near = of(look_through(folder, manifest, ALL), "near duplicates")

    assert "judged strictly" in near.sentence
    pairs = {frozenset({each.row.source_row, each.other.source_row}) for each in near.examples}
    assert pairs <= {frozenset({20 + i, 80 + i}) for i in range(10)}
    assert len(pairs) >= 8


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_raw_tensors_are_looked_at_like_encoded_images(prepare: Prepare, dtype: str) -> None:
    pixels = photographs(60)
    pixels[50] = np.clip(pixels[10].astype(float) * 1.1, 0, 255).astype(np.uint8)
    scale = 255.0 if dtype == "float32" else 1.0
    raw = [(image.transpose(2, 0, 1) / scale).astype(dtype).tobytes() for image in pixels]
    kind = pa.binary(len(raw[0]))
    metadata = {b"shape": b"3,24,24", b"dtype": dtype.encode()}
    schema = pa.schema([pa.field("pixels", kind, metadata=metadata), pa.field("label", pa.string())])
    folder, manifest = prepare({"pixels": pa.array(raw, kind), "label": ["a", "b"] * 30}, schema=schema)

    findings = look_through(folder, manifest, ALL)

    assert "24 x 24" in of(findings, "odd sizes").sentence
    pairs = [each for kind in ("near duplicates", "near leakage") for each in of(findings, kind).examples]
    assert [{each.row.source_row, each.other.source_row} for each in pairs] in ([{10, 50}], [])
    assert len(pairs) == 1 or {sides(folder, manifest)[row] for row in (10, 50)} == {VALIDATION}
    pictures = read_pictures(folder, findings)
    assert all(png.startswith(b"\x89PNG") for png in pictures.values())


def test_rows_without_images_are_compared_by_all_columns_but_names_and_label(prepare: Prepare) -> None:
    rng = np.random.default_rng(0)
    size, colour = rng.random(200), rng.choice(["red", "green"], 200)
    size[150], colour[150] = size[30], colour[30]
    folder, manifest = prepare(
        {"path": [f"{i}.txt" for i in range(200)], "size": size, "colour": colour, "label": ["x", "y"] * 100}
    )

    findings = look_through(folder, manifest, ALL)

    pairs = [each for kind in ("exact duplicates", "exact leakage") for each in of(findings, kind).examples]
    in_validation = {sides(folder, manifest)[row] for row in (30, 150)} == {VALIDATION}
    assert [{each.row.source_row, each.other.source_row} for each in pairs] == ([] if in_validation else [{30, 150}])
    assert findings.of("near duplicates") is None
    assert findings.n_images_looked_at == {}
    # Few columns may be equal by chance: that does not hold a promotion.
    assert of(findings, "exact leakage").status in ("pass", "warn")


def test_a_measurement_as_target_has_no_balance_and_its_conflicts_are_values(prepare: Prepare) -> None:
    rng = np.random.default_rng(0)
    size, price = rng.random(100), rng.random(100) * 100
    size[70] = size[3]
    folder, manifest = prepare({"size": size, "label": price})

    findings = look_through(folder, manifest, ALL)

    assert findings.of("class balance") is None
    assert findings.of("label noise") is None
    assert of(findings, "conflicting labels").count == 2


def test_rows_without_labels_have_no_conflicts(prepare: Prepare) -> None:
    images: list[bytes | None] = [encoded(image) for image in photographs(40)]
    folder, manifest = prepare({"image": pa.array(images, pa.binary())}, label=None)

    findings = look_through(folder, manifest)

    assert findings.of("conflicting labels") is None
    assert of(findings, "exact duplicates").count == 0


def test_findings_and_pictures_lie_in_the_folder_and_are_read_back(prepare: Prepare) -> None:
    images: list[bytes | None] = [encoded(image) for image in photographs(60)]
    folder, manifest = prepare(labelled([*images, *images[:6]]))
    findings = look_through(folder, manifest)

    assert read_findings(folder) == findings
    shown = read_pictures(folder, findings)
    rows = [row for each in of(findings, "exact duplicates").examples for row in (each.row, each.other)]
    assert {(row.split, row.place) for row in rows} <= set(shown)
    row = rows[0]
    assert np.array_equal(
        np.asarray(Image.open(io.BytesIO(shown[row.split, row.place]))),
        np.asarray(Image.open(io.BytesIO(images[row.source_row % 60 if row.source_row >= 60 else row.source_row]))),
    )


def test_a_folder_nobody_looked_through_has_no_findings(tmp_path: Path) -> None:
    assert read_findings(tmp_path) is None


@pytest.mark.parametrize("content", ["{", "[]", '{"version": 7}', '{"version": 1}'])
def test_damaged_findings_are_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / FINDINGS).write_text(content)

    with pytest.raises(DataError, match=FINDINGS):
        read_findings(tmp_path)


def test_a_file_that_cannot_be_read_is_named(prepare: Prepare) -> None:
    folder, manifest = prepare(labelled([encoded(image) for image in photographs(40)]))
    path = folder / manifest.train_files[0].name
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(DataError, match=path.name):
        look_through(folder, manifest)


def test_progress_is_told(prepare: Prepare, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TELL_EVERY_S", 0.0)
    folder, manifest = prepare(labelled([encoded(image) for image in photographs(40)]))

    look_through(folder, manifest, say=said.append)

    assert any("of 30 rows of train" in line for line in said)


def test_threads_change_nothing(prepare: Prepare) -> None:
    images: list[bytes | None] = [encoded(image) for image in photographs(90)]
    folder, manifest = prepare(labelled([*images, *images[:9]]))

    one, many = (look_through(folder, manifest, LookOptions(n_threads=n)) for n in (1, 5))

    assert one.findings == many.findings


def test_label_noise_names_the_flipped_rows_first(prepare: Prepare) -> None:
    images: list[bytes | None] = [encoded(image) for image in photographs(400)]
    columns = labelled(images)
    flipped = set(range(0, 400, 20))
    for row in flipped:
        columns["label"][row] = f"class {1 - row % 2}"
    folder, manifest = prepare(columns)
    findings = look_through(folder, manifest)
    labels = class_ids(folder, TRAIN).astype(np.int64)
    where = RowAccess(folder, manifest).where(TRAIN, range(len(labels)))
    true = np.array([(where[i].source_row or 0) % 2 for i in range(len(labels))])
    rng = np.random.default_rng(0)
    sure = 0.8 + 0.19 * rng.random(len(labels))
    probabilities = np.where(true[:, None] == np.arange(2), sure[:, None], 1 - sure[:, None])
    reader = ImageReader(column="image", raw=None)

    updated = add_label_noise(
        folder, manifest, findings, model="cnn", places=np.arange(len(labels)), labels=labels,
        probabilities=probabilities, reader=reader, n_examples=5,
    )  # fmt: skip

    noise = updated.noise
    assert noise is not None
    assert noise.rate.low <= np.mean(labels != true) <= noise.rate.high
    assert noise.ceiling.median == pytest.approx(1 - noise.rate.median)
    suspects = of(updated, "label noise").examples
    assert len(suspects) == 5
    assert set(source_rows(suspects)) <= flipped
    assert all(each.suggested != each.row.label for each in suspects)
    assert read_findings(folder) == updated
    assert (TRAIN, suspects[0].row.place) in read_pictures(folder, updated)


def test_pictures_that_cannot_be_made_are_left_out(prepare: Prepare) -> None:
    images: list[bytes | None] = [encoded(image) for image in photographs(20)]
    images[4] = b"broken"
    folder, manifest = prepare(labelled(images))

    findings = look_through(folder, manifest, LookOptions(max_undecodable=0.1))

    assert of(findings, "undecodable images").count == 1
    assert read_pictures(folder, findings) == {}


def test_writing_findings_leaves_no_half_file(prepare: Prepare) -> None:
    folder, manifest = prepare(labelled([encoded(image) for image in photographs(20)]))
    findings = look_through(folder, manifest)

    write_findings(folder, findings)

    assert json.loads((folder / FINDINGS).read_text())["fingerprint"] == manifest.summary.fingerprint
    assert not [path for path in folder.iterdir() if path.name.startswith(".findings")]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2, 1, None], pa.int16()),
        ([1.5, float("nan"), 1.5, None], pa.float32()),
        (["a", "b", "a", None], pa.string()),
        (["a", "", "a", None], pa.large_string()),
        ([b"a", b"b", b"a", None], pa.binary()),
        ([b"aa", b"bb", b"aa", None], pa.binary(2)),
        ([True, False, True, None], pa.bool_()),
        ([1, 2, 1, None], pa.timestamp("us")),
        ([1, 2, 1, None], pa.date32()),
        ([[1, 2], [1], [1, 2], None], pa.list_(pa.int64())),
        (["a", "b", "a", None], pa.dictionary(pa.int8(), pa.string())),
    ],
    ids=str,
)
def test_equal_values_and_no_others_have_equal_digests(values: list[Any], kind: pa.DataType) -> None:
    column = pa.chunked_array([pa.array(values, kind)])

    digests = digest_column(column)

    assert digests[0] == digests[2]
    assert len(set(digests.tolist())) == 3
    # Chunks and slices do not matter.
    again = digest_column(pa.chunked_array([pa.array(values, kind).slice(2), pa.array(values, kind).slice(0, 2)]))
    assert again.tolist() == [digests[2], digests[3], digests[0], digests[1]]


def test_digests_of_rows_tell_columns_apart_and_not_their_order() -> None:
    table = pa.table({"a": [1, 2], "b": [2, 1]})

    digests = digest_rows(table, ["a", "b"])

    assert digests[0] != digests[1]
    assert digests.tolist() == digest_rows(table.select(["b", "a"]), ["b", "a"]).tolist()
    assert digest_rows(table.slice(0, 0), ["a"]).shape == (0,)


def test_minus_zero_is_zero() -> None:
    digests = digest_column(pa.chunked_array([pa.array([0.0, -0.0])]))

    assert digests[0] == digests[1]
