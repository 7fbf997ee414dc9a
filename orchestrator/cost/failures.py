"""Crashes of a job that are nobody's preemption: how often, from a published figure or the owner's own.

A synchronous job stops when any of its workers does, so a job of ``w`` workers fails ``w`` times as often as one:
expected failures = hours * w / MTBF. The anchor is Llama 3's pre-training: 419 unexpected interruptions in 54 days on
16,384 GPUs (Grattafiori et al. 2024, "The Llama 3 Herd of Models", section 3.3.4), 50,700 GPU-hours each.
"""

from __future__ import annotations

import math

from scipy.special import ndtri

from orchestrator.cost.spot import SpotMarket
from orchestrator.intervals import certain, lognormal

LLAMA3_MTBF_WORKER_H = 16_384 * 54 * 24 / 419
ASSUMED_FACTOR = 5.0
"""How far another cluster may lie from the anchor, either way, at 90%: an assumption, for it is the only cluster of its
kind whose count is published; failure rates of 20 to 1,000 a year were seen from one large system to another
(Schroeder and Gibson 2006, "A large-scale study of failures in high-performance computing systems")."""
_SECONDS_PER_HOUR = 3600.0


def worker_failures(mtbf_worker_h: float | None) -> SpotMarket:
    """How long one worker lasts, in the form of machines that are taken away; a replacement is there at once.

    Args:
        mtbf_worker_h: Mean hours between failures of one worker, above 0; None takes the anchor, widely spread.
    """
    at_once = certain(0.0)
    if mtbf_worker_h is not None:
        uptime = certain(mtbf_worker_h * _SECONDS_PER_HOUR)
        return SpotMarket(mean_uptime_s=uptime, mean_downtime_s=at_once, assumed=False, source="config")
    # The rate, not its inverse, is to have the anchor's mean: of a log-normal rate that is median * exp(sd**2 / 2).
    log_sd = math.log(ASSUMED_FACTOR) / float(ndtri(0.95))
    median_s = LLAMA3_MTBF_WORKER_H * math.exp(log_sd**2 / 2) * _SECONDS_PER_HOUR
    uptime = lognormal(median_s, log_sd)
    source = (
        f"assumed: one failure in {LLAMA3_MTBF_WORKER_H:,.0f} h of a worker on average, as in Llama 3's training "
        f"(419 in 54 days on 16,384 GPUs), and up to {ASSUMED_FACTOR:g} times fewer or more than the median"
    )
    return SpotMarket(mean_uptime_s=uptime, mean_downtime_s=at_once, assumed=True, source=source)
