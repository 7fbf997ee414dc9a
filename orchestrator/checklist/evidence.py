"""C2 to C5: data, benchmark, drills and worth, each as one item."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from orchestrator.checklist.names import BENCHMARK, DATA_QUALITY, MONITORING, WORTH_IT
from orchestrator.intervals import format_probability
from orchestrator.results import Approval, CheckItem, DataSummary, Drill, Interval, TrialResult
from orchestrator.spec import ExperimentSpec, Metric, TrialSpec

# Three sizes determine the three parameters of the curve, two seeds the noise around it.
MIN_FRACTIONS = 3
MIN_SEEDS = 2
ESSENTIAL = ("exact leakage", "label noise", "undecodable images")
"""Looks at the data without which it is not known to be clean: leakage flatters every trial, wrong labels cap every
model, and a training stops at a broken image. Nobody can look for near duplicates in tiny images, so that is no gap."""
_FOUND_NONE, _UNCHECKED = "nothing found of: ", "not checked: "
"""How the sentence of `quality.findings` lists them."""


def data_quality(data: DataSummary) -> CheckItem:
    """What was found, shortened to what is wrong and what nobody looked at; passed only when all essentials were."""
    unchecked = "labels, duplicates and leakage were not checked"
    if not data.fingerprint:
        return CheckItem(name=DATA_QUALITY, status="fail", evidence=f"the data has no fingerprint; {unchecked}")
    versions = "".join(f", {name} {value}" for name, value in data.versions.items() if name != "note")
    versioned = f"versioned by fingerprint {data.fingerprint[:16]}{versions}"
    if data.quality is None:
        return CheckItem(name=DATA_QUALITY, status="not_checked", evidence=f"{versioned}; {unchecked}")
    said, missing = _shortened(data.quality.evidence)
    gaps = [kind for kind in missing if kind in ESSENTIAL]
    status = "warn" if gaps and data.quality.status == "pass" else data.quality.status
    # What stands first is what a lead must read: faults, then gaps, then what is in order.
    return CheckItem(name=DATA_QUALITY, status=status, evidence="; ".join([*said, versioned]))


def _shortened(evidence: str) -> tuple[list[str], list[str]]:
    """The parts of the sentence with lists of what is in order counted, and the kinds that nobody looked at."""
    faults, clean, gaps, missing = [], [], [], []
    for part in evidence.split("; "):
        if part.startswith(_FOUND_NONE):
            count = len(part.removeprefix(_FOUND_NONE).split(", "))
            clean.append(f"{count} {'check' if count == 1 else 'checks'} found nothing")
        elif part.startswith(_UNCHECKED):
            missing = part.removeprefix(_UNCHECKED).split(", ")
            gaps.append(f"never looked for {', '.join(missing)}")
        else:
            faults.append(part)
    return [*faults, *gaps, *clean], missing


def benchmark(
    spec: ExperimentSpec,
    results: Sequence[TrialResult],
    planned: Sequence[TrialSpec],
    n_failed: int,
    backtest: tuple[Interval, float] | None,
) -> CheckItem:
    """Fractions measured with enough seeds, what of the plan is missing, and whether the forecast stood its test."""
    seeds: defaultdict[float, set[int]] = defaultdict(set)
    for result in results:
        seeds[result.trial.fraction].add(result.trial.seed)
    is_adaptive = spec.sweep.strategy == "adaptive"
    missing = len(set(planned) - {result.trial for result in results})
    repeated = sum(len(found) >= MIN_SEEDS for found in seeds.values())
    evidence = f"{_sizes(len(seeds), repeated, is_adaptive=is_adaptive)}; {len(results)} trials finished, "
    if is_adaptive:
        evidence += f"chosen from a grid of {len(planned)}, {n_failed} failed"
    else:
        evidence += f"{missing} of {len(planned)} planned are missing, {n_failed} failed"
    held, tested = _backtest(backtest, spec.decision.metric)
    evidence = f"{evidence}; {tested}"
    # An adaptive sweep repeats where that tells most, and one repeated size is enough for the noise around the curve.
    enough = len(seeds) >= MIN_FRACTIONS and repeated > 0 if is_adaptive else repeated >= MIN_FRACTIONS
    if not enough or held is False:
        return CheckItem(name=BENCHMARK, status="fail", evidence=evidence)
    is_whole = held and not n_failed and (is_adaptive or not missing)
    return CheckItem(name=BENCHMARK, status="pass" if is_whole else "warn", evidence=evidence)


def _sizes(fractions: int, repeated: int, *, is_adaptive: bool) -> str:
    if is_adaptive:
        return f"{fractions} fractions (needs {MIN_FRACTIONS}), {repeated} with at least {MIN_SEEDS} seeds (needs 1)"
    return f"{repeated} fractions with at least {MIN_SEEDS} seeds (needs {MIN_FRACTIONS})"


def _backtest(backtest: tuple[Interval, float] | None, metric: Metric) -> tuple[bool | None, str]:
    """Whether what was measured at the largest size lies where the smaller ones said; None when that was not tested."""
    if backtest is None:
        return None, "no backtest: too few sizes to forecast the largest from the others"
    expected, measured = backtest
    low, high, width = (
        (f"{expected.low:.1%}", f"{expected.high:.1%}", f"{100 * (expected.high - expected.low):.1f} points")
        if metric == "accuracy"
        else (f"{expected.low:.4g}", f"{expected.high:.4g}", f"{expected.high - expected.low:.3g}")
    )
    shown = f"{measured:.1%}" if metric == "accuracy" else f"{measured:.4g}"
    held = expected.low <= measured <= expected.high
    verdict = "held" if held else "MISSED"
    return held, (
        f"backtest {verdict}: the smaller sizes foretold {low} to {high} ({width} wide) for the largest, {shown} came"
    )


_DRILLS = ("alert", "restart", "restore")


def monitoring(spec: ExperimentSpec, drills: Sequence[Drill]) -> CheckItem:
    """The rehearsals: all passed, some missing, or one failed."""
    # A test of channels that are gone says nothing of today's.
    known = {drill.name: drill for drill in drills if drill.name != "alert" or spec.alerts}
    missing = [name for name in _DRILLS if name not in known]
    told = [
        f"{name} {'passed' if known[name].passed else 'FAILED'} on {known[name].at[:10]}: {known[name].evidence}"
        for name in sorted(known, key=lambda name: known[name].passed)
    ]
    if "alert" in missing and not spec.alerts:
        told.append("no alert channel is set up")
    told += [f"{name} was never rehearsed" for name in missing if name != "alert" or spec.alerts]
    evidence = "; ".join(told)
    if any(not drill.passed for drill in known.values()):
        return CheckItem(name=MONITORING, status="fail", evidence=evidence)
    if not known:
        return CheckItem(name=MONITORING, status="not_checked", evidence=evidence)
    return CheckItem(name=MONITORING, status="warn" if missing else "pass", evidence=evidence)


def worth_it(probability: float | None, confidence: float, approval: Approval | None) -> CheckItem:
    """The verdict's odds and the person's answer; a rejection counts whatever the odds are."""
    if probability is None:
        return CheckItem(name=WORTH_IT, status="not_checked", evidence="no model can be forecast yet")
    odds = format_probability(probability, confidence)
    evidence = f"P(gain per dollar reaches the threshold) = {odds}; {confidence:g} is asked for"
    if approval is not None:
        evidence += f"; {_answer(approval)}"
    if approval is not None and approval.decision == "rejected":
        return CheckItem(name=WORTH_IT, status="fail", evidence=evidence)
    if probability >= confidence:
        return CheckItem(name=WORTH_IT, status="pass", evidence=evidence)
    # The margin absorbs binary rounding: 1 - 0.9 is a little less than 0.1.
    return CheckItem(
        name=WORTH_IT, status="fail" if probability <= 1 - confidence + 1e-12 else "warn", evidence=evidence
    )


def _answer(approval: Approval) -> str:
    answer = f"{approval.decision} by {approval.by}"
    if approval.override is not None:
        return f"{answer} over the verdict: {approval.override}"
    return f"{answer}: {approval.reason}" if approval.reason else answer
