"""Writes leaked.parquet: scikit-learn's digits with every sixth one in twice, as when two exports were joined."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from sklearn.datasets import load_digits


def png(pixels):
    data = io.BytesIO()
    Image.fromarray((pixels * 15.9375).astype("uint8")).save(data, format="PNG")
    return data.getvalue()


def main():
    digits = load_digits()
    rows = [*range(len(digits.target)), *range(0, len(digits.target), 6)]
    images = pa.array([png(digits.images[row]) for row in rows])
    pq.write_table(pa.table({"image": images, "label": digits.target[rows]}), "leaked.parquet")


if __name__ == "__main__":
    main()
