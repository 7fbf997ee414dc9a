"""Findings on the disk: findings.json and pictures of the examples beside the prepared rows.

Neither needs pyarrow: a report is made from them long after the rows have been read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from orchestrator.data.versioning.fingerprint import replace_file
from orchestrator.errors import DataError
from orchestrator.quality.findings import Findings, from_plain, to_plain

FINDINGS = "findings.json"
PICTURES = "findings"

Pictures = Mapping[tuple[str, int], bytes]
"""PNG of a row by split and place."""


def write_findings(folder: Path, findings: Findings, pictures: Pictures | None = None) -> None:
    """Write the pictures, then the findings, which name them by split and place. Raises OSError."""
    if pictures:
        (folder / PICTURES).mkdir(exist_ok=True)
    for (split, place), png in (pictures or {}).items():
        replace_file(_picture(folder, split, place), png)
    content = json.dumps(to_plain(findings), indent=1, ensure_ascii=False, allow_nan=False)
    replace_file(folder / FINDINGS, content.encode())


def read_findings(folder: Path) -> Findings | None:
    """What was found, or None when nobody has looked. Raises DataError: the file is damaged."""
    path = folder / FINDINGS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete it and look again") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: is damaged; delete it and look again")
    try:
        return from_plain(content)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def read_pictures(folder: Path, findings: Findings) -> dict[tuple[str, int], bytes]:
    """Pictures of the examples, as far as they are there."""
    rows = (row for finding in findings.findings for each in finding.examples for row in (each.row, each.other) if row)
    found: dict[tuple[str, int], bytes] = {}
    for row in rows:
        path = _picture(folder, row.split, row.place)
        if path.is_file():
            found[row.split, row.place] = path.read_bytes()
    return found


def _picture(folder: Path, split: str, place: int) -> Path:
    return folder / PICTURES / f"{split}-{place}.png"
