"""Failures of a worker: the published anchor, and the owner's own figure."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.cost.failures import ASSUMED_FACTOR, LLAMA3_MTBF_WORKER_H, worker_failures

HOURS_OF_THE_RUN = 16_384 * 54 * 24


def test_the_anchor_is_about_fifty_thousand_hours() -> None:
    assert pytest.approx(50_700, rel=0.001) == LLAMA3_MTBF_WORKER_H


def test_an_unknown_rate_is_the_anchor_widely_spread_and_said_to_be_assumed() -> None:
    failing = worker_failures(None)

    assert failing.assumed
    assert "assumed" in failing.source
    uptime = failing.mean_uptime_s
    assert uptime.high / uptime.median == pytest.approx(ASSUMED_FACTOR)
    assert uptime.median / uptime.low == pytest.approx(ASSUMED_FACTOR)


def test_the_assumed_rate_has_the_mean_that_was_counted() -> None:
    uptime = worker_failures(None).mean_uptime_s
    log_sd = math.log(uptime.high / uptime.median) / 1.6449
    drawn_s = uptime.median * np.exp(log_sd * np.random.default_rng(0).standard_normal(400_000))

    assert np.mean(HOURS_OF_THE_RUN * 3600 / drawn_s) == pytest.approx(419, rel=0.02)


def test_a_stated_rate_is_taken_as_it_stands_and_replacements_are_there_at_once() -> None:
    failing = worker_failures(1000.0)

    assert not failing.assumed
    assert failing.mean_uptime_s.low == failing.mean_uptime_s.high == 3.6e6
    assert failing.mean_downtime_s.high == 0
