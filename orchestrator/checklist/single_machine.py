"""C1: is one machine used before more are paid for?

From the probe of one worker, with e, c and l the samples per second of loader and step together, of the step alone and
of the loader alone:

    utilisation = e / c                              share of the step's own speed that training with data reaches
    data wait   = min(1 - e / c, e / l)              what of the rest the loader explains, in turns or read ahead

and from trials: the data wait of one worker, and the parallel efficiency of the next worker count,

    efficiency = t_1 / (w * t_w)                     seconds of steady time per sample on one and on w workers
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from orchestrator.checklist.names import SINGLE_MACHINE
from orchestrator.results import CheckItem, DataPathFinding, IngestMeasurement, TrialResult

Status = Literal["pass", "warn", "fail", "not_checked"]

MAX_DATA_WAIT_SHARE = 0.1
"""A loader that keeps the worker waiting a tenth of the time is worth mending before more workers are paid for."""
FAILING_DATA_WAIT_SHARE = 0.5
"""Beyond it a mended loader more than doubles the speed of the one machine, which a second machine cannot."""
MIN_UTILISATION = 0.8
"""A tenth may be waited for, and the parts of a probe, measured one after the other, differ by about another tenth on a
machine that is shared (medians of the shipped probes: 0.65 to 1.07)."""
MIN_LOADER_HEADROOM = 1.25
"""A loader this close to the step is the next limit: a full run's machine may well compute a quarter faster."""
MAX_UNUSED_PRECISION_GAIN = 1.2
"""bfloat16 asks for a run that shows the accuracy to be the same; a fifth more speed is worth that run."""
MIN_MEMORY_SHARE = 0.5
"""Below it a step of twice the rows fits into the accelerator's memory."""
MIN_EFFICIENCY = 0.5
"""Below it each dollar for the added workers buys less than half of what the first worker's bought."""


_ORDER: tuple[Status, ...] = ("fail", "warn", "pass", "not_checked")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    status: Status
    text: str


def single_machine(
    results: Sequence[TrialResult], probe: IngestMeasurement | None, data_path: DataPathFinding | None
) -> CheckItem:
    """The item: the worst of what was measured, each with its number."""
    single = [r for r in results if r.training is not None and r.trial.workers == 1]
    if not single and probe is None:
        return CheckItem(name=SINGLE_MACHINE, status="not_checked", evidence="no trial on one worker has finished")
    parts = [_waiting(single)] if single else []
    efficiency = _efficiency(results)
    if probe is not None:
        parts += [_utilisation(probe), _headroom(probe), *_accelerator(probe)]
    parts.append(efficiency or _Part(status="not_checked", text="no larger worker count was measured at the same size"))
    if probe is None:
        is_probed = data_path is not None and data_path.basis == "probe"
        unmeasured = "device utilisation and mixed precision were not checked"
        text = f"by the probe, {data_path.headroom}" if data_path is not None and is_probed else unmeasured
        parts.append(_Part(status="not_checked", text=text))
    is_looked_at = (probe is not None and probe.end_to_end is not None) or efficiency is not None
    # What is wrong stands first.
    evidence = "; ".join(part.text for part in sorted(parts, key=lambda part: _ORDER.index(part.status)))
    return CheckItem(name=SINGLE_MACHINE, status=_worst(parts) if is_looked_at else "not_checked", evidence=evidence)


def _worst(parts: Sequence[_Part]) -> Status:
    return min((part.status for part in parts), key=_ORDER.index)


def _waiting(single: Sequence[TrialResult]) -> _Part:
    """Data wait of one worker, at the largest size it was measured with."""
    largest = max(r.trial.fraction for r in single)
    shares = []
    for result in single:
        if result.training is not None and result.trial.fraction == largest:
            time = result.training.time
            steady_s = time.compute_s + time.data_wait_s + time.gradient_sync_s
            shares.append(time.data_wait_s / steady_s if steady_s > 0 else 0.0)
    share = float(np.mean(shares))
    return _Part(status=_of_wait(share), text=f"one worker waits for data {share:.1%} of its steady time")


def _of_wait(share: float) -> Status:
    if share > FAILING_DATA_WAIT_SHARE:
        return "fail"
    return "pass" if share < MAX_DATA_WAIT_SHARE else "warn"


def _utilisation(probe: IngestMeasurement) -> _Part:
    if probe.end_to_end is None:
        return _Part(status="not_checked", text="loader and step together were not measured")
    together, alone = probe.end_to_end.samples_per_s, probe.compute.samples_per_s
    reached = together / alone
    wait = max(min(1 - reached, together / probe.loader.samples_per_s), 0.0)
    text = f"with data a step reaches {reached:.0%} of its own speed ({_rate(together)} of {_rate(alone)} samples/s)"
    if reached >= 1:
        text = f"with data a step is as fast as alone ({_rate(alone)} samples/s)"
    if reached >= MIN_UTILISATION:
        return _Part(status=_of_wait(wait), text=text)
    why = f"the loader explains {wait:.0%}" if wait >= MAX_DATA_WAIT_SHARE else "and the loader is not why: it is fast"
    status = _of_wait(wait)
    return _Part(status="warn" if status == "pass" else status, text=f"{text}, {why}")


def _headroom(probe: IngestMeasurement) -> _Part:
    times = probe.loader.samples_per_s / probe.compute.samples_per_s
    text = f"the loader could feed {_times(times)} such workers"
    if times < 1:
        text = f"the loader delivers {times:.0%} of what one worker could train"
    return _Part(status="pass" if times >= MIN_LOADER_HEADROOM else "warn", text=text)


def _accelerator(probe: IngestMeasurement) -> list[_Part]:
    """Mixed precision and batch headroom, which only an accelerator has."""
    if probe.device.startswith("cpu"):
        return [_Part(status="not_checked", text="no accelerator, so no mixed precision or batch memory to use")]
    return [_precision(probe), _memory(probe)]


def _precision(probe: IngestMeasurement) -> _Part:
    if probe.mixed_precision is None:
        return _Part(status="not_checked", text="bfloat16 was not measured")
    gain = probe.mixed_precision.samples_per_s / probe.compute.samples_per_s
    if gain >= MAX_UNUSED_PRECISION_GAIN:
        return _Part(status="warn", text=f"bfloat16 would run the same step at {gain:.2g} times the speed")
    return _Part(status="pass", text=f"bfloat16 would hardly help ({gain:.2g} times the speed)")


def _memory(probe: IngestMeasurement) -> _Part:
    if probe.memory_share is None:
        return _Part(status="not_checked", text="the memory of a step was not measured")
    text = f"a step of {probe.batch_size} rows takes {probe.memory_share:.0%} of the accelerator's memory"
    if probe.memory_share < MIN_MEMORY_SHARE:
        return _Part(status="warn", text=f"{text}: a batch of twice the size fits")
    return _Part(status="pass", text=text)


def _efficiency(results: Sequence[TrialResult]) -> _Part | None:
    """Of the next worker count beside one worker at the same size and seed, at the largest such size."""
    seconds: defaultdict[tuple[float, int], dict[int, float]] = defaultdict(dict)
    for result in results:
        training = result.training
        if training is not None and training.samples_seen > 0:
            time = training.time
            steady_s = time.compute_s + time.data_wait_s + time.gradient_sync_s
            seconds[result.trial.fraction, result.trial.seed][result.trial.workers] = steady_s / training.samples_seen
    pairs = [
        (fraction, workers, by_workers[1] / (workers * per_sample_s))
        for (fraction, _), by_workers in seconds.items()
        for workers, per_sample_s in by_workers.items()
        if workers > 1 and 1 in by_workers and per_sample_s > 0
    ]
    if not pairs:
        return None
    following = min(workers for _, workers, _ in pairs)
    largest = max(fraction for fraction, workers, _ in pairs if workers == following)
    value = float(np.mean([v for fraction, workers, v in pairs if (fraction, workers) == (largest, following)]))
    if value >= MIN_EFFICIENCY:
        return _Part(status="pass", text=f"{following} workers reach {value:.0%} parallel efficiency")
    return _Part(
        status="warn",
        text=f"{following} workers reach only {value:.0%} parallel efficiency, so that they cost more than they hasten",
    )


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"


def _rate(per_s: float) -> str:
    """Three digits: ``850``, ``2,190``, ``14,700``."""
    return f"{float(f'{per_s:.3g}'):,.10g}"
