"""The stages of an experiment, from its source to the ledger: what each takes, gives, and whether it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.intervals import format_probability, format_usd
from orchestrator.ports import Evidence
from orchestrator.results import DataSummary
from orchestrator.spec import ExperimentSpec

State = Literal["done", "running", "next", "waiting", "not needed"]
STAGE_HEADER = ("stage", "state", "takes", "gives")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of the way."""

    name: str
    state: State
    takes: str
    gives: str


def stages(
    spec: ExperimentSpec, data: DataSummary | None, evidence: Evidence | None, *, is_full_run_open: bool = False
) -> tuple[Stage, ...]:
    """The way of an experiment, in order; exactly one stage is ``next`` or ``running``, unless all are done.

    Args:
        spec: The config.
        data: As recorded; None before anything was.
        evidence: The journal; None before there is one.
        is_full_run_open: Whether a full run was begun that has not ended.
    """
    made = [
        _prepare(spec, data),
        _check(spec, evidence),
        _sweep(spec, evidence),
        _verdict(spec, evidence),
        _review(spec, evidence),
        _full_run(evidence, is_full_run_open),
        _ledger(evidence),
    ]
    return tuple(_one_is_next(made))


def _one_is_next(made: Sequence[Stage]) -> list[Stage]:
    """The first that is neither done nor unneeded comes next; what follows waits for it."""
    found, is_open = [], False
    for stage in made:
        state = stage.state
        if state in ("next", "waiting"):
            state = "waiting" if is_open else "next"
        is_open = is_open or state in ("next", "running")
        found.append(Stage(name=stage.name, state=state, takes=stage.takes, gives=stage.gives))
    return found


def _prepare(spec: ExperimentSpec, data: DataSummary | None) -> Stage:
    gives = "rows in nested stratified order, fingerprint"
    if data is not None:
        gives = f"{data.n_train:,} training and {data.n_validation:,} validation rows, {data.fingerprint[:12]}"
    return Stage(name="prepare", state="waiting" if data is None else "done", takes=spec.data.source, gives=gives)


def _check(spec: ExperimentSpec, evidence: Evidence | None) -> Stage:
    models = ", ".join(model.name for model in spec.models)
    is_done = evidence is not None and bool(evidence.smoke)
    probed = evidence is not None and bool(evidence.probes)
    gives = "one batch through each" + (", data path measured" if probed else "")
    return Stage(name="smoke and probe", state="done" if is_done else "waiting", takes=models, gives=gives)


def _sweep(spec: ExperimentSpec, evidence: Evidence | None) -> Stage:
    takes = f"{len(spec.sweep.fractions)} fractions, workers {list(spec.sweep.workers)}, {spec.sweep.strategy}"
    if evidence is None or not evidence.results:
        return Stage(name="sweep", state="waiting", takes=takes, gives="trials in the journal")
    finished = sum(result.status == "finished" for result in evidence.results)
    end = evidence.sweep_end
    is_done = evidence.verdict is not None and (end is None or end.cause != "stopped by the user")
    ended = f"; ended: {end.cause}" if end is not None else ""
    gives = f"{finished} finished trials for {format_usd(evidence.trials_usd)}{ended}"
    return Stage(name="sweep", state="done" if is_done else "waiting", takes=takes, gives=gives)


def _verdict(spec: ExperimentSpec, evidence: Evidence | None) -> Stage:
    takes = f"threshold {spec.decision.min_gain_per_dollar:g} per dollar, confidence {spec.decision.confidence:g}"
    verdict = None if evidence is None else evidence.verdict
    if verdict is None:
        return Stage(name="verdict", state="waiting", takes=takes, gives="PROMOTE, HOLD or REJECT")
    odds = format_probability(verdict.probability, verdict.confidence)
    return Stage(name="verdict", state="done", takes=takes, gives=f"{verdict.kind}, probability {odds}")


def _review(spec: ExperimentSpec, evidence: Evidence | None) -> Stage:
    takes = "the page in MLflow, the report" if spec.decision.approval == "review" else "approval: auto"
    verdict = None if evidence is None else evidence.verdict
    approval = None if evidence is None else evidence.approval
    if approval is not None:
        over = f" over the verdict: {approval.override}" if approval.override else ""
        gives = f"{approval.decision} by {approval.by}{over}"
        return Stage(name="review", state="done", takes=takes, gives=gives)
    is_open = verdict is None or verdict.kind == "PROMOTE"
    return Stage(name="review", state="waiting" if is_open else "not needed", takes=takes, gives="an answer")


def _full_run(evidence: Evidence | None, is_open: bool) -> Stage:
    verdict = None if evidence is None else evidence.verdict
    takes = "the recommended candidate" if verdict is None else str(verdict.best.candidate)
    if is_open:
        return Stage(name="full run", state="running", takes=takes, gives="a checkpoint, a registered model")
    if evidence is not None and evidence.outcomes:
        outcome = evidence.outcomes[-1]
        gives = f"{format_usd(outcome.cost_usd)} in {outcome.wall_time_s:,.0f} s, model kept"
        return Stage(name="full run", state="done", takes=str(outcome.candidate), gives=gives)
    approval = None if evidence is None else evidence.approval
    rejected = approval is not None and approval.decision == "rejected"
    held = verdict is not None and verdict.kind != "PROMOTE" and approval is None
    state: State = "not needed" if rejected or held else "waiting"
    return Stage(name="full run", state=state, takes=takes, gives="a checkpoint, a registered model")


def _ledger(evidence: Evidence | None) -> Stage:
    n = 0 if evidence is None else len(evidence.outcomes)
    gives = f"{n} forecasts beside their outcomes" if n != 1 else "1 forecast beside its outcome"
    full_run = _full_run(evidence, False)
    state: State = "done" if n else "not needed" if full_run.state == "not needed" else "waiting"
    return Stage(name="ledger", state=state, takes="outcome against forecast", gives=gives)


def mermaid(found: Sequence[Stage]) -> str:
    """The stages as a Mermaid flowchart in a fenced block, which GitHub and most wikis draw."""
    lines = [f'    s{n}["{stage.name}<br/>{stage.state}"]' for n, stage in enumerate(found)]
    arrows = " --> ".join(f"s{n}" for n in range(len(found)))
    return "\n".join(["```mermaid", "flowchart LR", *lines, f"    {arrows}", "```"])
