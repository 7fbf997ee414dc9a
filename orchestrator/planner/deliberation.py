"""Stop, drop a model, or measure what: the adaptive planner on contenders and options, whatever they came from.

stop    the verdict stands, and so does the whole grid's with a chance of at least `SURE`, from drawn completions
        or it is open, and stays open with that chance; or nothing that is left is worth its dollars
drop    a model that is the best in less than `LEAST_CHANCE` of the joint draws
else    the option of the largest  weight(model) * share of its variance removed * variance / dollars
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from orchestrator.intervals import FloatArray, format_usd
from orchestrator.planner.design import Option, joint_shares, refit_shares, worth_of
from orchestrator.planner.outlook import Contender, Finished, Kind, Stake, chances_to_win, finish, judge, net_moments

SURE = 0.92
"""Chance that the whole grid would give the same verdict, from which one ends a sweep. Of five values from 0.8 to 0.92
the only one to keep 95% agreement on the tuning half of `scripts/bench_planner.py`: 96% of 150 cases ended in the
verdict of the grid, on 25% of its dollars in the median, 31% in the mean. On 60 cases of the other half, by which
nothing was chosen, 88% (standard error 4%), on 27% and 31%; four of the seven slips were rejected where the grid
stays open."""
LEAST_CHANCE = 0.01
"""Of being the best model; below it no money is spent on one."""
N_GRIDS = 24
"""Drawn grids; each takes 2 ms a model, and the driver waits for them."""

Rule = Literal["joint", "refit", "both"]
"""How shares are told. Over 75 replayed cases both cost 18% more dollars than joint draws alone, and agreed with
the grid in 88% against 84%: within the error of such a count, and by a rule for stopping that was replaced since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thought:
    """What to do next, and why."""

    option: Option | None = None
    end: Literal["verdict certain", "nothing worth its price"] | None = None
    reason: str
    dropped: tuple[tuple[str, float], ...] = ()
    """Models and their chance to be the best."""


def deliberate(
    contenders: Sequence[Contender],
    options: Sequence[Option],
    stake: Stake,
    *,
    now: Kind,
    threshold: float,
    needed: Sequence[Option] = (),
    fixed: Sequence[str] = (),
    time_shares: Mapping[Option, float] | None = None,
    affordable: Sequence[Option] | None = None,
    rule: Rule = "joint",
    sure: float = SURE,
    n_grids: int = N_GRIDS,
) -> Thought:
    """One step of the plan.

    Args:
        contenders: Models that can be forecast, running trials taken as if they had come out at their median.
        options: Trials left of the grid, of those models.
        stake: Baseline and confidence.
        now: The standing verdict.
        threshold: Gain per dollar asked for, so that net values can be told in dollars; 0 prices nothing.
        needed: Trials without which a promotion is vetoed, the most urgent first.
        fixed: Models that are not dropped.
        time_shares: Share of the variance of the charge that an option removes, where it tells a time.
        affordable: Options that may be chosen; all when None.
        rule: How shares are told.
        sure: As `SURE`.
        n_grids: As `N_GRIDS`.
    """
    won = chances_to_win(contenders)
    dropped = tuple(
        (each.model, chance)
        for each, chance in zip(contenders, won, strict=True)
        if chance < LEAST_CHANCE and each.model not in fixed
    )
    gone = {model for model, _ in dropped}
    alive = [each for each in contenders if each.model not in gone]
    left = [option for option in options if option.trial.model not in gone]
    if not left:
        return Thought(end="verdict certain" if now != "HOLD" else None, reason="nothing is left", dropped=dropped)
    sizes = {each.model: [o.n_samples for o in left if o.trial.model == each.model and not o.is_for_time]
             for each in alive}  # fmt: skip
    finished = finish(alive, sizes, stake, n_grids)
    end = _end(now, finished, bool(needed), sure, left)
    if end is not None:
        return Thought(end=end[0], reason=end[1], dropped=dropped)
    choosable = [option for option in left if affordable is None or option in affordable]
    if not choosable:
        return Thought(reason="nothing that is left is affordable", dropped=dropped)
    weights = {each.model: chance for each, chance in zip(contenders, won, strict=True)}
    shares, removed = _removed(alive, choosable, stake, weights, time_shares or {}, rule, sizes)
    lacking = [option for option in needed if option in choosable]
    if lacking and max(judge(alive, stake).probabilities) >= stake.confidence:
        return Thought(option=lacking[0], reason="a promotion rests on too little without it", dropped=dropped)
    best = int(np.argmax(removed / np.array([max(option.usd, 1e-12) for option in choosable])))
    chosen, share = choosable[best], float(shares[best])
    dear = _too_dear(alive, chosen, share, stake, now, threshold)
    if dear is not None:
        return Thought(end="nothing worth its price", reason=dear, dropped=dropped)
    reason = f"of all that is left it tells most per dollar: {share:.0%} of what is open about {chosen.trial.model}"
    return Thought(option=chosen, reason=reason, dropped=dropped)


def _end(
    now: Kind, finished: Finished, lacks: bool, sure: float, left: Sequence[Option]
) -> tuple[Literal["verdict certain", "nothing worth its price"], str] | None:
    chance = finished.chance_to_stand(now)
    if chance < sure or (now == "PROMOTE" and lacks):
        return None
    rest = f"{len(left)} trials that are left" if len(left) > 1 else "the one trial that is left"
    price = format_usd(sum(option.usd for option in left))
    if now == "HOLD":
        return "nothing worth its price", (
            f"{rest} would cost about {price}, and the chance that they settle the verdict is {1 - chance:.0%}"
        )
    return "verdict certain", (
        f"{now} stands: {rest} would cost about {price} and change it with a probability of {1 - chance:.0%}"
    )


def _removed(
    alive: Sequence[Contender],
    choosable: Sequence[Option],
    stake: Stake,
    weights: Mapping[str, float],
    time_shares: Mapping[Option, float],
    rule: Rule,
    sizes: Mapping[str, Sequence[float]],
) -> tuple[FloatArray, FloatArray]:
    """Share of its model's variance, and weighted variance, that each option removes."""
    shares, removed = np.zeros(len(choosable)), np.zeros(len(choosable))
    for contender in alive:
        own = [i for i, option in enumerate(choosable) if option.trial.model == contender.model]
        if not own:
            continue
        distinct = sorted({choosable[i].n_samples for i in own})
        curve_shares = dict(zip(distinct, _curve_shares(contender, distinct, stake, sizes, rule), strict=True))
        _, std = net_moments(contender, stake)
        charge_var = float(contender.charges.var())
        curve_var = max(std**2 - charge_var, 0.0)
        for i in own:
            option = choosable[i]
            by_curve = 0.0 if option.is_for_time else curve_shares[option.n_samples] * curve_var
            gone = by_curve + time_shares.get(option, 0.0) * charge_var
            shares[i] = gone / std**2 if std > 0 else 0.0
            removed[i] = gone * weights[contender.model]
    return shares, removed


def _curve_shares(
    contender: Contender, distinct: Sequence[float], stake: Stake, sizes: Mapping[str, Sequence[float]], rule: Rule
) -> FloatArray:
    top = max([*sizes[contender.model], float(contender.n.max())])
    joint = joint_shares(contender, distinct, None if stake.baseline is not None else top)
    if rule == "joint":
        return joint
    refit = refit_shares(contender, distinct)
    return refit if rule == "refit" else (joint + refit) / 2


def _too_dear(
    alive: Sequence[Contender], chosen: Option, share: float, stake: Stake, now: Kind, threshold: float
) -> str | None:
    """Why even the best option is not worth its dollars: more than a full run, and than what it would tell.

    Less than a full run is not held against it: that a run should *not* be made is worth knowing too, and the net
    value that a verdict takes home does not tell a rejected run from an open one.
    """
    contender = next(each for each in alive if each.model == chosen.trial.model)
    if threshold <= 0 or chosen.usd < contender.charge.mean / threshold:
        return None
    mean, std = net_moments(contender, stake)
    worth = worth_of(mean, std, share, stake.confidence, is_promoted=now == "PROMOTE") / threshold
    if worth >= chosen.usd:
        return None
    return (
        f"the most telling trial that is left, {chosen.trial}, costs about {format_usd(chosen.usd)}, more than a full "
        f"run of {format_usd(contender.charge.mean / threshold)}, and what it would tell is worth {format_usd(worth)}"
    )
