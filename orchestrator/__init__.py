"""Should we scale? Measure small, forecast honestly, price everything, decide with a probability."""

__version__ = "0.1.0"
