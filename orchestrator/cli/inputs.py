"""Whether a verdict still rests on what is there now, and what changed where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from orchestrator.errors import NotApprovedError

if TYPE_CHECKING:
    from orchestrator.results import Verdict
    from orchestrator.spec import ExperimentSpec
    from orchestrator.tracking.journal import JournalView

# `decision.inputs_digest` leaves these out: names, folders, and files whose content counts instead.
_WITHOUT_WEIGHT = (
    "name", "tracking.", "runs_dir", "resources.", "decision.approval", "pricing.catalogue", "pricing.spot.history",
    "data.source", "alerts",
)  # fmt: skip
_MOST_NAMED = 5
_NOUNS = {
    "trial": ("trial was measured", "trials were measured"),
    "ingest": ("data path was probed", "data paths were probed"),
    "smoke": ("smoke stage ran", "smoke stages ran"),
    "drill": ("drill ran", "drills ran"),
}


def require_same_inputs(spec: ExperimentSpec, view: JournalView, verdict: Verdict) -> None:
    """Raises NotApprovedError: config, evidence or prices are not those the verdict rests on, or lead elsewhere now."""
    from orchestrator.cli.compose import rates_of
    from orchestrator.experiment import decide_on

    now = decide_on(spec, view.data, view, rates_of(spec))
    if now.inputs_digest == verdict.inputs_digest:
        return
    changes = [*_config_changes(spec, view), *_new_evidence(view)]
    changes = changes or _price_changes(verdict, now) or _version_changes(view)
    listed = "".join(f"\n  {change}" for change in changes) or (
        "\n  what a verdict does not list: a price file, the history of a spot market, or this program itself"
    )
    is_rerun = any(entry.kind == "outcome" for entry in view.entries)
    again = " (it measures nothing anew, and takes the full run that ended into account)" if is_rerun else ""
    raise NotApprovedError(
        f"the inputs changed since the verdict, so an approval of it does not hold: inputs {verdict.inputs_digest[:8]} "
        f"then, {now.inputs_digest[:8]} now, which lead to {now.kind}, probability {now.probability:.2f}{listed}\n"
        f"  `sweep` again for a new verdict{again}, then approve that; or put back what changed"
    )


def require_same_training(spec: ExperimentSpec, view: JournalView) -> None:
    """Raises NotApprovedError: a full run that was begun would go on with another task, data, model or training."""
    changes = [each for each in _config_changes(spec, view) if each.startswith(_OF_TRAINING)]
    if changes:
        listed = "".join(f"\n  {change}" for change in changes)
        raise NotApprovedError(
            f"the full run that was begun is of another training, so it cannot go on:{listed}\n"
            "  put back what changed, or `sweep` again for a new verdict and approve that"
        )


_OF_TRAINING = tuple(f"config: {key}" for key in ("task ", "data.", "models", "training."))


def _config_changes(spec: ExperimentSpec, view: JournalView) -> list[str]:
    then = view.spec_of_verdict
    if then is None:
        return []
    before, after = _flat(asdict(then)), _flat(asdict(spec))
    changed = [
        f"config: {key} was {before.get(key)!r}, is {after.get(key)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not key.startswith(_WITHOUT_WEIGHT)
    ]
    return _first(changed)


def _new_evidence(view: JournalView) -> list[str]:
    changes = []
    n_outcomes = view.since_verdict("outcome")
    if n_outcomes:
        last = view.outcomes[-1]
        changes.append(
            f"evidence: a full run ended since ({last.finished_at}, {last.candidate}); its dollars and its launch time "
            "count in the next verdict, so each full run needs a verdict and an approval of its own"
        )
    for kind, (one, more) in _NOUNS.items():
        n = view.since_verdict(kind)
        if n:
            changes.append(f"evidence: {n} {one if n == 1 else more} since")
    return changes


def _price_changes(then: Verdict, now: Verdict) -> list[str]:
    """Of the standing candidate's bill, whichever candidate is best now."""
    same = next((each for each in now.candidates if each.candidate == then.best.candidate), None)
    if same is None:
        return []
    before = {line.item: line for line in then.best.bill.lines}
    after = {line.item: line for line in same.bill.lines}
    changed = [
        f"prices: {item} was {_price(line.unit_price_usd)} per {line.unit} ({line.source}), "
        f"is {_price(after[item].unit_price_usd)} ({after[item].source})"
        for item, line in before.items()
        if item in after and after[item].unit_price_usd != line.unit_price_usd
    ]
    return _first(changed)


def _version_changes(view: JournalView) -> list[str]:
    from orchestrator.cli.compose import versions

    now = versions()
    return [
        f"versions: {name} was {then}, is {now[name]}"
        for name, then in view.versions.items()
        if name in now and now[name] != then
    ]


def _price(usd: float | None) -> str:
    from orchestrator.intervals import format_usd

    return "not priced" if usd is None else format_usd(usd)


def _first(changes: list[str]) -> list[str]:
    rest = len(changes) - _MOST_NAMED
    return changes[:_MOST_NAMED] + ([f"and {rest} more"] if rest > 0 else [])


def _flat(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
