"""The story of an experiment, told in `story`; start reading there."""

from orchestrator.experiment.accounting import REFERENCE_LAUNCHES_S, check_budget, launch_interval
from orchestrator.experiment.judging import decide_on
from orchestrator.experiment.measuring import format_data_read
from orchestrator.experiment.parts import Experiment, Render, StartRunner
from orchestrator.experiment.story import approve, judge, promote, sweep

__all__ = [
    "REFERENCE_LAUNCHES_S", "Experiment", "Render", "StartRunner", "approve", "check_budget", "decide_on",
    "format_data_read", "judge", "launch_interval", "promote", "sweep",
]  # fmt: skip
