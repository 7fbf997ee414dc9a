"""How a record of the config refuses its values: all faults together, each with its key."""

from __future__ import annotations

import math
import re
from typing import Any

from orchestrator.errors import Fault, SpecValueError

STRICT: dict[str, Any] = {"extra": "forbid", "use_attribute_docstrings": True}
"""What pydantic is told of every record."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LEAST, _MOST = 1e-12, 1e12


class Checks:
    """Collects the faults of one record, then raises them together."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def require(self, ok: bool, key: str, message: str) -> None:
        if not ok:
            self._faults.append(Fault(key, message))

    def positive(self, value: float | None, key: str) -> None:
        self.require(value is None or (math.isfinite(value) and value > 0), key, f"must be above 0, got {value}")
        # What lies beyond is a slip, and its products would leave what arithmetic can hold.
        in_range = value is None or not value > 0 or _LEAST <= value <= _MOST
        self.require(in_range, key, f"must lie between {_LEAST:g} and {_MOST:g}, got {value}")

    def not_negative(self, value: float | None, key: str) -> None:
        ok = value is None or (math.isfinite(value) and value >= 0)
        self.require(ok, key, f"must not be negative, got {value}")
        self.require(value is None or not value > _MOST, key, f"must be at most {_MOST:g}, got {value}")

    def done(self) -> None:
        if self._faults:
            raise SpecValueError(*self._faults)
