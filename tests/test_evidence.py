"""Trials of other data: counted, named, and never fitted together with those of the data at hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.decision import decide
from orchestrator.errors import EvidenceError
from orchestrator.evidence import mixture, other_data, require_own_evidence
from orchestrator.results import TrialResult, Verdict

OLD = "0ld0ld0ld0ld0ld0"


def of_old_data(synthetic: Any, spec: Any) -> list[TrialResult]:
    """Trials of data that was easier by far."""
    old = synthetic.but(
        data=replace(synthetic.data, fingerprint=OLD), error_rates={"linear": lambda n: 0.001, "cnn": lambda n: 0.001}
    )
    return list(old.results(spec))


def verdict(synthetic: Any, spec: Any, results: list[TrialResult]) -> Verdict:
    return decide(spec, synthetic.data, results, synthetic.rates(spec), checkpoint_bytes={}, n_draws=500)


def test_one_data_set_is_no_mixture(synthetic: Any) -> None:
    results = synthetic.results(synthetic.spec())

    assert other_data(synthetic.data, results) == {}
    assert mixture(synthetic.data, results) is None
    require_own_evidence(synthetic.data, results)
    require_own_evidence(synthetic.data, [])
    assert "left out" not in verdict(synthetic, synthetic.spec(), results).reason


def test_trials_of_other_data_move_nothing_but_are_named_in_the_verdict(synthetic: Any) -> None:
    spec = synthetic.spec(decision={"baseline": 0.5})
    own, old = synthetic.results(spec), of_old_data(synthetic, spec)

    alone, beside = verdict(synthetic, spec, own), verdict(synthetic, spec, [*old, *own])

    assert beside.curves == alone.curves
    assert (beside.n_trials, beside.n_excluded) == (alone.n_trials, len(old))
    assert beside.reason.endswith(f"; trials left out: {len(old)} of data {OLD}, for this is data {'f' * 64}")


@pytest.mark.parametrize("n_own", [0, 1])
def test_without_enough_trials_of_its_own_the_data_is_refused_with_both_digests(synthetic: Any, n_own: int) -> None:
    spec = synthetic.spec()
    own, old = synthetic.results(spec)[:n_own], of_old_data(synthetic, spec)

    with pytest.raises(EvidenceError) as caught:
        verdict(synthetic, spec, [*old, *own])

    counted = "1 finished trial" if n_own else "0 finished trials"
    assert str(caught.value).startswith(
        f"the journal holds {len(old)} finished trials of data {OLD}, and {counted} of the data at hand, {'f' * 64}: "
        "they are never fitted together; measure this data under another experiment name"
    )


def test_failed_trials_of_other_data_are_no_evidence_to_be_mixed(synthetic: Any) -> None:
    spec = synthetic.spec()
    failed = [replace(each, status="failed", training=None) for each in of_old_data(synthetic, spec)]

    assert mixture(synthetic.data, failed) is None
    require_own_evidence(synthetic.data, failed)


def test_data_without_any_trial_in_a_journal_of_other_data_is_refused_before_it_is_measured(synthetic: Any) -> None:
    spec = synthetic.spec()
    own, old = synthetic.results(spec), of_old_data(synthetic, spec)

    with pytest.raises(EvidenceError, match=f"of data {OLD}, and 0 finished trials of the data at hand, {'f' * 64}"):
        require_own_evidence(synthetic.data, old)
    require_own_evidence(synthetic.data, [*old, own[0]])
