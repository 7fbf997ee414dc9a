"""Time against samples and workers: the public door.

`forecast` and `forecast_size_and_workers` know total run times only (`speedup`); `fit_time_model` works on our own
split times and is what the verdict uses (`time_model`).
"""

from orchestrator.curves.speedup import forecast, forecast_size_and_workers
from orchestrator.curves.time_model import Bottleneck, TimeMeasurement, TimeModel, TimeSamples, fit_time_model

__all__ = [
    "Bottleneck",
    "TimeMeasurement",
    "TimeModel",
    "TimeSamples",
    "fit_time_model",
    "forecast",
    "forecast_size_and_workers",
]
