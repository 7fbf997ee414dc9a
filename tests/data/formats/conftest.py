"""What the tests of the formats share; the rows themselves are in samples.py."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.data.formats import open_rows
from orchestrator.data.rows import RowSource
from orchestrator.errors import DataError


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    path = tmp_path / "cache"
    path.mkdir()
    return path


@pytest.fixture
def opened(cache: Path) -> Callable[..., RowSource]:
    """`open_rows` with the label column ``label`` unless another is named."""

    def open_source(source: Path | str, **options: Any) -> RowSource:
        return open_rows(str(source), **{"label": "label", "cache_dir": cache, **options})

    return open_source


@pytest.fixture
def refusal(opened: Callable[..., RowSource]) -> Callable[..., str]:
    """What is said when a source is opened and read to its end, without its line breaks, of which there are none."""

    def to_its_end(source: Path | str, **options: Any) -> None:
        rows = opened(source, **options)
        for piece in rows.pieces:
            deque(rows.read(piece), maxlen=0)

    def read(source: Path | str, **options: Any) -> str:
        with pytest.raises(DataError) as caught:
            to_its_end(source, **options)
        message = str(caught.value)
        assert "\n" not in message
        return message

    return read
