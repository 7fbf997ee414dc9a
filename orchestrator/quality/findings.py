"""What was found in data: one record per kind, each with how many, of how many, and the worst examples.

A finding is ``pass``, ``warn`` or ``fail``, or ``not_checked`` where nobody looked; data fail when evidence measured on
them would mislead: rows of the training pool among the validation rows beyond the noise of measuring accuracy, or a
class that is absent from one side. Pure: records to plain data and back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from orchestrator.errors import DataError
from orchestrator.results import Interval

Status = Literal["pass", "warn", "fail", "not_checked"]
Kind = Literal[
    "missing values",
    "undecodable images",
    "odd sizes",
    "blank images",
    "constant columns",
    "repeated ids",
    "class balance",
    "exact duplicates",
    "exact leakage",
    "conflicting labels",
    "near duplicates",
    "near leakage",
    "label noise",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
FORMAT_VERSION = 1

MAX_IMBALANCE = 100.0
"""Rows of the largest class for each row of the smallest; the most uneven of the usual long-tailed benchmarks
(Cao et al., NeurIPS 2019) have 100."""
MIN_CLASS_ROWS = 10
"""Validation rows of a class below which its accuracy moves by more than ten points with one row."""
MAX_SURE_NOISE = 0.033
"""Share of wrong labels that is usual: the mean over ten much-used test sets is 3.3% (Northcutt, Athalye and Mueller,
NeurIPS Datasets 2021)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """One row, in the prepared folder and in the source."""

    split: str
    place: int
    source_row: int | None
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row that is worth a look."""

    row: Where
    what: str
    """What is wrong with it, in words."""
    other: Where | None = None
    """The row it is a copy of."""
    suggested: str | None = None
    """The label a model would give it."""
    probability: float | None = None
    """That the given label is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One kind."""

    kind: Kind
    status: Status
    count: int
    """Rows; columns for constant ones, values for missing ones."""
    n_looked_at: int
    sentence: str
    """What was found or looked for, with its numbers."""
    examples: tuple[Example, ...] = ()

    @property
    def share(self) -> float:
        """Of what was looked at, in 0..1."""
        return self.count / self.n_looked_at if self.n_looked_at else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseSummary:
    """Label noise in numbers; the rows themselves are examples of the finding."""

    rate: Interval
    """Of wrong labels, errors between like classes allowed for; the median is that of ``rate_if_alike``."""
    rate_if_alike: Interval
    """If errors fall on all other classes alike."""
    ceiling: Interval
    """Accuracy that no model can be expected to exceed on the validation labels as they are."""
    is_upper_estimate: bool
    """The rates are at most what they say: the model was too weak to tell more."""
    confident_joint_rate: float
    """As confident learning reads it: with a weak model, far above the truth."""
    n_suspects: int
    """Rows more likely wrong than right."""
    model: str
    model_accuracy: float
    n_rows: int
    by_class: Mapping[str, float] = field(default_factory=dict)
    """Expected share of wrong labels among the rows given each class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All that was looked for in one prepared folder."""

    fingerprint: str
    n_train: int
    n_validation: int
    n_images_looked_at: Mapping[str, int]
    """Per split; fewer than its rows where only a stratified prefix was decoded."""
    findings: tuple[Finding, ...]
    rows_per_s: float | None = None
    """Rows looked at for each second of wall time."""
    noise: NoiseSummary | None = None

    def of(self, kind: Kind) -> Finding | None:
        """The finding of a kind, or None when it does not apply to these data."""
        return next((finding for finding in self.findings if finding.kind == kind), None)

    @property
    def is_clean(self) -> bool:
        """Whether nothing that was looked at gives cause for doubt."""
        return self.status == "pass"

    @property
    def status(self) -> Status:
        """The worst of all that was checked."""
        found = {finding.status for finding in self.findings}
        for status in ("fail", "warn", "pass"):
            if status in found:
                return status
        return "not_checked"

    @property
    def evidence(self) -> str:
        """A sentence for the checklist: what is wrong, worst first, then what was found to be right or not checked."""
        parts = [each.sentence for status in ("fail", "warn") for each in self.findings if each.status == status]
        parts += [each.sentence for each in self.findings if each.status == "pass" and each.count]
        passed = [each.kind for each in self.findings if each.status == "pass" and not each.count]
        unchecked = [each.kind for each in self.findings if each.status == "not_checked"]
        if passed:
            parts.append(f"nothing found of: {', '.join(passed)}")
        if unchecked:
            parts.append(f"not checked: {', '.join(unchecked)}")
        return "; ".join(parts)

    def with_finding(self, finding: Finding, noise: NoiseSummary | None = None) -> Findings:
        """With the finding in the place of the one of its kind, in the order of kinds."""
        others = [each for each in self.findings if each.kind != finding.kind]
        ordered = sorted([*others, finding], key=lambda each: KINDS.index(each.kind))
        return replace(self, findings=tuple(ordered), noise=noise or self.noise)


def to_plain(findings: Findings) -> dict[str, Any]:
    """As JSON takes it."""
    return {"version": FORMAT_VERSION, **asdict(findings)}


def from_plain(content: Mapping[str, Any]) -> Findings:
    """The reverse of `to_plain`. Raises DataError: it is something else, or of another version."""
    if content.get("version") != FORMAT_VERSION:
        raise DataError(f"findings have version {content.get('version')}, this is {FORMAT_VERSION}; look again")
    try:
        noise = content["noise"]
        return Findings(
            fingerprint=content["fingerprint"],
            n_train=content["n_train"],
            n_validation=content["n_validation"],
            n_images_looked_at=dict(content["n_images_looked_at"]),
            findings=tuple(_finding(each) for each in content["findings"]),
            rows_per_s=content["rows_per_s"],
            noise=None if noise is None else _noise(noise),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"findings are damaged ({error!r}); look again") from error


def leak_status(n_leaked: int, n_validation: int) -> Status:
    """Leaked rows move the measured accuracy by at most their share; its standard error is at most 0.5 / sqrt(n)."""
    if n_leaked == 0:
        return "pass"
    return "fail" if n_leaked / n_validation > 0.5 / math.sqrt(n_validation) else "warn"


def noise_status(rate: Interval) -> Status:
    """Noise is worth a word when even the low end is above what is usual."""
    return "warn" if rate.low > MAX_SURE_NOISE else "pass"


def balance_finding(train: Mapping[str, int], validation: Mapping[str, int]) -> Finding:
    """Class balance over both splits.

    Args:
        train: Rows per class of the training pool, classes without rows included.
        validation: Likewise of the validation rows.
    """
    absent = sorted({name for counts in (train, validation) for name, n in counts.items() if n == 0})
    present = {name: n for name, n in train.items() if n > 0}
    rare = sorted(name for name, n in validation.items() if 0 < n < MIN_CLASS_ROWS)
    n_rows = sum(train.values()) + sum(validation.values())
    if not present:
        return _balance("fail", len(absent), n_rows, "the training pool has no rows of any class")
    smallest, largest = min(present, key=present.__getitem__), max(present, key=present.__getitem__)
    ratio = present[largest] / present[smallest]
    said = f"{len(present)} classes of {present[smallest]:,}"
    said += f" ({smallest}) to {present[largest]:,} ({largest}) training rows" if ratio > 1 else " training rows each"
    if absent:
        return _balance("fail", len(absent), n_rows, f"no rows of {_listed(absent)} in one of the splits; {said}")
    if ratio > MAX_IMBALANCE:
        said += f", {ratio:.0f} to 1: accuracy says little of the rare ones"
    if rare:
        said += f"; fewer than {MIN_CLASS_ROWS} validation rows of {_listed(rare)}"
    return _balance("warn" if rare or ratio > MAX_IMBALANCE else "pass", len(rare), n_rows, said)


def _balance(status: Status, count: int, n_rows: int, sentence: str) -> Finding:
    return Finding(
        kind="class balance", status=status, count=count, n_looked_at=n_rows, sentence=f"class balance: {sentence}"
    )


def _listed(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _finding(content: Mapping[str, Any]) -> Finding:
    return Finding(**{**content, "examples": tuple(_example(each) for each in content["examples"])})


def _example(content: Mapping[str, Any]) -> Example:
    other = content["other"]
    return Example(**{**content, "row": Where(**content["row"]), "other": None if other is None else Where(**other)})


def _noise(content: Mapping[str, Any]) -> NoiseSummary:
    intervals = {name: Interval(**content[name]) for name in ("rate", "rate_if_alike", "ceiling")}
    return NoiseSummary(**{**content, **intervals})
