"""Time against samples and workers: the public door.

`forecast` and `forecast_size_and_workers` know total run times only (`speedup`); `fit_time_model` works on our own
split times and is what the verdict uses (`time_model`); `diagnose_scaling` says what more workers bring.
"""

from orchestrator.curves.scaling_diagnosis import diagnose_scaling
from orchestrator.curves.speedup import forecast, forecast_size_and_workers
from orchestrator.curves.time_model import TimeMeasurement, TimeModel, TimeSamples, fit_time_model

__all__ = [
    "TimeMeasurement",
    "TimeModel",
    "TimeSamples",
    "diagnose_scaling",
    "fit_time_model",
    "forecast",
    "forecast_size_and_workers",
]
