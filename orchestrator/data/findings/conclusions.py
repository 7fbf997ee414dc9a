"""From what a pass over the rows kept to findings: counts, a sentence with its numbers, and the worst examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from orchestrator.data.findings.row_access import RowAccess
from orchestrator.data.findings.scan import HashArray, ImageNotes, Place, RowNotes
from orchestrator.data.manifest import TRAIN, VALIDATION, Manifest
from orchestrator.errors import DataError
from orchestrator.quality.duplicates import MIN_IMAGE_SIDE, equal_to, groups_of, in_conflict, near_pairs
from orchestrator.quality.findings import Example, Finding, Findings, Kind, Status, balance_finding, leak_status

IntArray = npt.NDArray[np.int64]

MAX_ALIKE = 0.2
"""Share of images in near-equal pairs above which likeness is the nature of the data: 67% of scikit-learn's digits
scaled up, 3% of CIFAR-10. Only pairs that correlate by `SURE_CORRELATION` are then called copies."""
SURE_CORRELATION = 0.99
"""0.3% of the digits have such a neighbour; so have nearly all copies that were encoded anew or brightened."""
MAX_NEAR_DUPLICATES = 0.01
"""Share of near duplicates that is worth a word: CIFAR-10's training images have about as many."""
COMMON_SIZE = 0.9
"""Share of one size from which the others are odd; below it, sizes simply vary."""

_Pair = tuple[Place, Place | None, str]
"""A row, the row it is a copy of, and what is wrong."""


def conclude(
    manifest: Manifest, rows: RowNotes, images: ImageNotes | None, access: RowAccess, *, n_examples: int
) -> Findings:
    """All findings of one pass."""
    tell = _Teller(access, n_examples)
    found: list[Finding] = [_missing(rows, tell), _constant(rows)]
    if rows.ids is not None:
        found.append(_repeated_ids(rows, tell))
    if manifest.is_classification and rows.labels is not None:
        found.append(_balance(manifest, rows))
    if rows.digests is not None:
        found += _exact(rows, tell)
    if images is not None:
        found += [_undecodable(images, tell), _odd_sizes(images, tell), _blank(images, tell)]
        found += _near(rows, images, tell)
    looked_at = {} if images is None else {split: images.n_wanted(split) for split in (TRAIN, VALIDATION)}
    findings = Findings(
        fingerprint=manifest.summary.fingerprint,
        n_train=rows.sizes[TRAIN],
        n_validation=rows.sizes[VALIDATION],
        n_images_looked_at=looked_at,
        findings=(),
    )
    for finding in found:
        findings = findings.with_finding(finding)
    if manifest.is_classification:
        findings = findings.with_finding(_unknown_noise())
    return findings


def with_speed(findings: Findings, rows_per_s: float) -> Findings:
    """With the measured speed."""
    return replace(findings, rows_per_s=rows_per_s)


def refuse_undecodable(images: ImageNotes, max_share: float, access: RowAccess) -> None:
    """Raises DataError: more images than that cannot be decoded."""
    n_bad = len(images.faults)
    if n_bad <= max_share * images.n_looked_at:
        return
    shown = sorted(images.faults)[:5]
    named = [f"{_where(access, place)}: {images.faults[place]}" for place in shown]
    raise DataError(
        f"{n_bad:,} of {images.n_looked_at:,} images cannot be decoded ({n_bad / images.n_looked_at:.1%}; at most "
        f"{max_share:.1%} is allowed): {'; '.join(named)}{'; ...' if n_bad > len(shown) else ''}. Repair or remove "
        "them at the source, or leave them out with `prepare --drop-undecodable`"
    )


class _Teller:
    """Turns places into examples by reading their rows."""

    def __init__(self, access: RowAccess, n_examples: int) -> None:
        self._access, self._n = access, n_examples

    def __call__(self, pairs: Iterable[_Pair]) -> tuple[Example, ...]:
        """The first few."""
        shown = [pair for pair, _ in zip(pairs, range(self._n), strict=False)]
        wanted: dict[str, set[int]] = {}
        for row, other, _ in shown:
            for split, place in (row,) if other is None else (row, other):
                wanted.setdefault(split, set()).add(place)
        where = {
            (split, place): found
            for split, places in wanted.items()
            for place, found in self._access.where(split, sorted(places)).items()
        }
        return tuple(
            Example(row=where[row], other=None if other is None else where[other], what=what)
            for row, other, what in shown
        )


def _missing(rows: RowNotes, tell: _Teller) -> Finding:
    n_rows = sum(rows.sizes.values())
    if not rows.missing:
        return _finding("missing values", "pass", 0, n_rows, "no value is missing")
    by_column = ", ".join(f"{name} {n:,} ({n / n_rows:.1%})" for name, n in rows.missing.most_common(5))
    more = f" and {len(rows.missing) - 5} more columns" if len(rows.missing) > 5 else ""
    return _finding(
        "missing values", "warn", sum(rows.missing.values()), n_rows, f"in {by_column}{more}",
        tell((rows.first_missing[name], None, f"{name} is missing") for name, _ in rows.missing.most_common()),
    )  # fmt: skip


def _constant(rows: RowNotes) -> Finding:
    names, n_rows = rows.constant, sum(rows.sizes.values())
    if not names:
        return _finding("constant columns", "pass", 0, n_rows, "every column varies")
    return _finding("constant columns", "warn", len(names), n_rows, f"{', '.join(names)}: one value in all rows")


def _repeated_ids(rows: RowNotes, tell: _Teller) -> Finding:
    assert rows.ids is not None
    first = equal_to(rows.ids)
    again = np.flatnonzero(first != np.arange(len(first)))
    said = f"{len(again):,} of {len(first):,} rows have the {rows.id_column} of an earlier one"
    return _finding(
        "repeated ids", "warn" if len(again) else "pass", len(again), len(first), said,
        tell((rows.place(int(i)), rows.place(int(first[i])), f"same {rows.id_column}") for i in again),
    )  # fmt: skip


def _balance(manifest: Manifest, rows: RowNotes) -> Finding:
    assert rows.labels is not None
    n_train, k = rows.sizes[TRAIN], len(manifest.class_names)

    def counted(labels: HashArray) -> dict[str, int]:
        counts = np.bincount(labels.astype(np.int64), minlength=k).tolist()
        return dict(zip(manifest.class_names, counts, strict=True))

    return balance_finding(counted(rows.labels[:n_train]), counted(rows.labels[n_train:]))


def _exact(rows: RowNotes, tell: _Teller) -> list[Finding]:
    """Duplicates within the training pool, leakage, and labels that contradict each other."""
    assert rows.digests is not None
    n_train, n_validation = rows.sizes[TRAIN], rows.sizes[VALIDATION]
    first = equal_to(rows.digests)
    again = np.flatnonzero(first != np.arange(len(first)))
    in_train, in_validation = again[again < n_train], again[again >= n_train]
    leaks = in_validation[first[in_validation] < n_train]
    what = "same image" if rows.is_images else f"same {', '.join(rows.content)}"
    conflicts = _conflicts(rows, first)
    leak = leak_status(len(leaks), n_validation) if n_validation else "not_checked"
    if not rows.is_images and leak == "fail":
        leak = "warn"  # rows of a few columns may be equal by chance

    def pairs(positions: IntArray, text: str) -> Iterable[_Pair]:
        # Contradicting labels first: they are the worst.
        worst = positions[np.argsort(~conflicts[positions], kind="stable")]
        for i in worst.tolist():
            yield rows.place(i), rows.place(int(first[i])), text

    found = [
        _finding(
            "exact duplicates", "warn" if len(in_train) else "pass", len(in_train), n_train,
            f"{_of(len(in_train), n_train)} training rows repeat an earlier one", tell(pairs(in_train, what)),
        ),
        _finding(
            "exact leakage", leak, len(leaks), n_validation,
            f"{_of(len(leaks), n_validation)} validation rows are in the training pool", tell(pairs(leaks, what)),
        ),
    ]  # fmt: skip
    if rows.labels is not None:
        at = again[conflicts[again] & (rows.labels[again] != rows.labels[first[again]])]
        n = int(conflicts.sum())
        said = f"{_of(n, len(first))} rows have a duplicate with another label"
        said += ": no model can be right on both" if n else ""
        found.append(
            _finding(
                "conflicting labels", "warn" if n else "pass", n, len(first), said,
                tell(pairs(at, f"{what}, another label")),
            )
        )  # fmt: skip
    return found


def _conflicts(rows: RowNotes, first: IntArray) -> npt.NDArray[np.bool_]:
    return np.zeros(len(first), dtype=bool) if rows.labels is None else in_conflict(first, rows.labels)


def _undecodable(images: ImageNotes, tell: _Teller) -> Finding:
    n, n_bad = images.n_looked_at, len(images.faults)
    said = f"{_of(n_bad, n)} images cannot be decoded" if n_bad else f"all {n:,} images can be decoded"
    examples = tell((place, None, fault) for place, fault in sorted(images.faults.items()))
    # A training refuses them, so this is more than a warning.
    return _finding("undecodable images", "fail" if n_bad else "pass", n_bad, n, said, examples)


def _odd_sizes(images: ImageNotes, tell: _Teller) -> Finding:
    sizes = images.sizes[: images.n_looked_at]
    whole = np.flatnonzero(sizes[:, 0] > 0)
    kinds, which, counts = np.unique(sizes[whole], axis=0, return_inverse=True, return_counts=True)
    if len(whole) == 0:
        return _finding("odd sizes", "not_checked", 0, images.n_looked_at, "no image could be decoded")
    common = int(counts.argmax())
    said = f"{kinds[common][0]} x {kinds[common][1]} pixels"
    if len(kinds) == 1:
        return _finding("odd sizes", "pass", 0, len(whole), f"all images have {said}")
    if counts[common] < COMMON_SIZE * len(whole):
        spread = f"{len(kinds):,} sizes, the sides {sizes[whole].min()} to {sizes[whole].max()} pixels"
        return _finding("odd sizes", "pass", 0, len(whole), f"sizes vary ({spread}); data.image_size scales them")
    odd = whole[which.ravel() != common]
    return _finding(
        "odd sizes", "warn", len(odd), len(whole), f"{_of(len(odd), len(whole))} images are not {said} as the others",
        tell((images.place(int(i)), None, f"{sizes[i][0]} x {sizes[i][1]} pixels") for i in odd),
    )  # fmt: skip


def _blank(images: ImageNotes, tell: _Teller) -> Finding:
    n = int(np.count_nonzero(images.sizes[: images.n_looked_at, 0]))
    if n == 0:
        return _finding("blank images", "not_checked", 0, 0, "no image could be decoded")
    blank = np.flatnonzero(images.is_blank[: images.n_looked_at])
    said = f"{_of(len(blank), n)} images are of one colour"
    examples = tell((images.place(int(i)), None, "one colour") for i in blank)
    return _finding("blank images", "warn" if len(blank) else "pass", len(blank), n, said, examples)


def _near(rows: RowNotes, images: ImageNotes, tell: _Teller) -> list[Finding]:
    """Near duplicates within the training pool and across the splits, exact ones left out."""
    n, n_train, n_validation = images.n_looked_at, images.n_wanted(TRAIN), images.n_wanted(VALIDATION)
    sides = images.sizes[:n][images.sizes[:n, 0] > 0]
    if len(sides) == 0:
        return _near_unknown(n_train, n_validation, "no image could be decoded")
    if np.median(sides.min(axis=1)) < MIN_IMAGE_SIDE:
        why = f"images of fewer than {MIN_IMAGE_SIDE} pixels a side are too coarse to tell copies by"
        return _near_unknown(n_train, n_validation, why)
    chosen = np.flatnonzero(images.is_usable[:n] & _is_first(rows, images))
    pairs = near_pairs(images.hashes, images.thumbs, chosen)
    if not pairs.is_complete:
        why = (
            "images resemble each other so much that copies cannot be told; where they are frames of videos or changed "
            "copies of fewer images, keep those of one origin on one side of the split"
        )
        return _near_unknown(n_train, n_validation, why, "warn")
    alike = len(np.union1d(pairs.first, pairs.second)) / max(n, 1)
    sure = pairs.correlation >= (SURE_CORRELATION if alike > MAX_ALIKE else 0.0)
    first, second, correlation = pairs.first[sure], pairs.second[sure], pairs.correlation[sure]
    differs = np.zeros(len(first), dtype=bool)
    if rows.labels is not None:
        left, right = (np.where(at < n_train, at, at - n_train + rows.sizes[TRAIN]) for at in (first, second))
        differs = rows.labels[left] != rows.labels[right]

    def shown(at: IntArray) -> Iterable[_Pair]:
        # Contradicting labels first, then the closest.
        order = np.lexsort((-correlation[at], ~differs[at]))
        for i in at[order].tolist():
            label = ", another label" if differs[i] else ""
            # The later row is the copy; across the splits that is the validation row.
            yield images.place(int(second[i])), images.place(int(first[i])), f"{correlation[i]:.1%} alike{label}"

    within = np.flatnonzero(second < n_train)
    across = np.flatnonzero((first < n_train) & (second >= n_train))
    group = groups_of(first[within], second[within], n_train)
    n_copies = int((group != np.arange(n_train)).sum())
    n_leaks = len(np.unique(second[across]))
    prefix = "" if n == sum(rows.sizes.values()) else f" (of the first {n:,} rows in nested order)"
    if alike > MAX_ALIKE:
        prefix += f" (judged strictly: {alike:.0%} of the images resemble another)"
    n_differ = int(differs[within].sum())
    many: Status = "warn" if n_copies > MAX_NEAR_DUPLICATES * n_train else "pass"
    leak: Status = "warn" if n_validation and leak_status(n_leaks, n_validation) == "fail" else "pass"
    return [
        _finding(
            "near duplicates", many, n_copies, n_train,
            f"{_of(n_copies, n_train)} training images are nearly equal to another{prefix}; {n_differ:,} pairs have "
            "different labels", tell(shown(within)),
        ),
        _finding(
            "near leakage", leak, n_leaks, n_validation,
            f"{_of(n_leaks, n_validation)} validation images are nearly equal to one of the training pool{prefix}",
            tell(shown(across)),
        ),
    ]  # fmt: skip


def _is_first(rows: RowNotes, images: ImageNotes) -> npt.NDArray[np.bool_]:
    """Images that are the first of their digest among those looked at. Shape (n_looked_at,)."""
    assert rows.digests is not None
    n_train, n_validation = images.n_wanted(TRAIN), images.n_wanted(VALIDATION)
    start = rows.sizes[TRAIN]
    digests = np.concatenate([rows.digests[:n_train], rows.digests[start : start + n_validation]])
    return np.asarray(equal_to(digests) == np.arange(len(digests)))


def _near_unknown(n_train: int, n_validation: int, why: str, status: Status = "not_checked") -> list[Finding]:
    return [
        _finding("near duplicates", status, 0, n_train, why),
        _finding("near leakage", status, 0, n_validation, why),
    ]


def _unknown_noise() -> Finding:
    return _finding("label noise", "not_checked", 0, 0, "no model has been trained to tell")


def _finding(
    kind: Kind, status: Status, count: int, n_looked_at: int, said: str, examples: Sequence[Example] = ()
) -> Finding:
    return Finding(
        kind=kind, status=status, count=count, n_looked_at=n_looked_at, sentence=f"{kind}: {said}",
        examples=tuple(examples),
    )  # fmt: skip


def _of(count: int, n: int) -> str:
    """``12 (0.12%) of 10,000``."""
    share = f" ({count / n:.2%})" if count and n else ""
    return f"{count:,}{share} of {n:,}" if count else f"none of {n:,}"


def _where(access: RowAccess, place: Place) -> str:
    row = access.where(place[0], [place[1]])[place[1]]
    return f"source row {row.source_row}" if row.source_row is not None else f"{row.split} row {row.place}"
