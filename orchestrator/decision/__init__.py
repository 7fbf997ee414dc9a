"""PROMOTE, HOLD or REJECT: one candidate, the probability that it pays, and the reason in a sentence.

`verdict` tells the rule; `choice` which candidate, `frontier` what a dollar buys, `vetoes` what holds a promotion back.
"""

from orchestrator.decision.choice import NO_DIAGNOSES, Choice, choose, expected_net_value, preference_sentence, weigh
from orchestrator.decision.frontier import expected_gain, frontier_of
from orchestrator.decision.inputs import NO_PROBES, inputs_digest
from orchestrator.decision.verdict import decide, judge
from orchestrator.decision.vetoes import (
    MAX_EXTRAPOLATION,
    MIN_NOISE_UNITS,
    checklist_vetoes,
    evidence_vetoes,
    limit_vetoes,
    supposed_vetoes,
)

__all__ = [
    "MAX_EXTRAPOLATION", "MIN_NOISE_UNITS", "NO_DIAGNOSES", "NO_PROBES", "Choice", "checklist_vetoes", "choose",
    "decide", "evidence_vetoes", "expected_gain", "expected_net_value", "frontier_of", "inputs_digest", "judge",
    "limit_vetoes", "preference_sentence", "supposed_vetoes", "weigh",
]  # fmt: skip
