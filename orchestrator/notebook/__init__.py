"""For a notebook: an experiment as it was measured, or a learning curve from numbers of one's own.

    from orchestrator.notebook import Experiment, forecast

    digits = Experiment.load("digits")
    digits.decide("decision.min_gain_per_dollar=50")
    forecast(n, accuracy=accuracy, target_n=10_000)

A cell shows each as a picture and tables. Nothing is imported that a notebook does not have to wait for: no Ray, torch
or MLflow, and matplotlib with the first picture. Nothing is written but a report that is asked for.
"""

from orchestrator.notebook.curve import CurveForecast, forecast
from orchestrator.notebook.experiment import Experiment
from orchestrator.notebook.shown import Comparison, Decision, Table

__all__ = ["Comparison", "CurveForecast", "Decision", "Experiment", "Table", "forecast"]
