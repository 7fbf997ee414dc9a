"""What a dollar buys: the candidates that none beats in expected gain and expected cost at once, and their knee.

Expected gain counts a run that interruptions do not let end as no gain. Keeping what there is costs nothing and gains
nothing, so it beats every candidate of no expected gain; only where none has any are they told all the same.

With cost and gain as shares of the dearest candidate's on the frontier, the knee is the candidate farthest above the
chord from keeping what there is, (0, 0), to the dearest, (1, 1):

    knee = argmax (y - x),      x = cost / cost_dearest,  y = gain / gain_dearest

(Kneedle: Satopaa, Albrecht, Irwin and Raghavan 2011), in dollars as they are. It asks nothing of the threshold: where a
dollar stops being worth it is the verdict's net value. A knee is told only where a dollar up to it buys at least
`LEAST_BEND` times what a dollar beyond it buys, ``y / x >= LEAST_BEND (1 - y) / (1 - x)``, for any concave curve has a
farthest point, and few have a bend.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.results import Candidate, CandidateForecast, Frontier

LEAST_BEND = 2.0
"""What "much less" means: half."""


def frontier_of(forecasts: Sequence[CandidateForecast]) -> Frontier:
    """The frontier and its knee, in the order of rising expected cost.

    Args:
        forecasts: All candidates, in the config's order, which settles exact ties.
    """
    worth = [each for each in forecasts if expected_gain(each) > 0]
    kept: list[CandidateForecast] = []
    for each in sorted(worth or forecasts, key=lambda f: (f.cost_usd.mean, -expected_gain(f))):
        if not kept or expected_gain(each) > expected_gain(kept[-1]):
            kept.append(each)
    return Frontier(candidates=tuple(each.candidate for each in kept), knee=_knee(kept) if worth else None)


def expected_gain(forecast: CandidateForecast) -> float:
    """Mean gain over the draws, none where the run is given up; metric and interruptions are drawn independently."""
    return forecast.gain.mean * (1 - forecast.bill.given_up_share)


def _knee(frontier: Sequence[CandidateForecast]) -> Candidate | None:
    """Of candidates that gain something, by rising cost."""
    x = [f.cost_usd.mean / frontier[-1].cost_usd.mean for f in frontier]
    y = [expected_gain(f) / expected_gain(frontier[-1]) for f in frontier]
    place = max(range(len(frontier)), key=lambda i: y[i] - x[i])
    has_bend = y[place] * (1 - x[place]) >= LEAST_BEND * (1 - y[place]) * x[place]
    return frontier[place].candidate if has_bend and y[place] > x[place] else None
