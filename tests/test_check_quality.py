"""The check of data quality, on images made up for it."""

from __future__ import annotations

import io
from pathlib import Path

import check_quality as check
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image


def write_images(folder: Path, n: int) -> None:
    rng = np.random.default_rng(0)
    images = []
    for _ in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((32, 32), Image.Resampling.BICUBIC).save(buffer, "jpeg", quality=95)
        images.append(buffer.getvalue())
    labels = pa.array(np.arange(n) % 10, pa.int32())
    pq.write_table(pa.table({"image": images, "label": labels}), folder / "train.parquet")


def test_every_planted_exact_copy_is_found_and_labels_are_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path, 300)
    page = tmp_path / "page.html"

    code = check.main([str(tmp_path), "--rows", "300", "--models", "linear", "--epochs", "1", "--page", str(page)])

    said = capsys.readouterr().out
    assert code == 0
    assert "linear: 246 rows, 5 of 5 folds" in said
    assert "first k, k as planted" in said
    assert "<h2>Data quality</h2>" in page.read_text()


def test_spoiling_flips_and_copies_as_many_rows_as_it_says() -> None:
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(buffer, "png")
    table = pa.table({"image": [buffer.getvalue()] * 400, "label": pa.array([3] * 400, pa.int32())})

    spoiled = check.spoil(table, 0.05, rng)

    labels = spoiled.table.column("label").to_numpy()
    assert spoiled.table.num_rows == 400 + 4 + 6
    assert (labels[:400] != 3).sum() == 20
    assert ((labels != 3) == spoiled.flipped).all()
    assert [len(pairs) for pairs in spoiled.near.values()] == [2, 2, 2]
    assert all(labels[original] == labels[copy] for original, copy in spoiled.exact)


def test_average_precision_is_one_for_a_perfect_order_and_the_share_by_chance() -> None:
    wrong = np.array([True, False, True, False])

    assert check.average_precision(np.array([4.0, 1.0, 3.0, 2.0]), wrong) == 1.0
    assert check.average_precision(np.array([1.0, 4.0, 2.0, 3.0]), wrong) == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert np.isnan(check.average_precision(np.ones(2), np.zeros(2, dtype=bool)))
