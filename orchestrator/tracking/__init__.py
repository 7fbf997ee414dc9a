"""The evidence: `journal` is the truth, `mlflow_tracker` its mirror, `in_memory` the mirror for tests.

Nothing is imported here, so that reading a journal costs neither MLflow's seconds nor torch's.
"""
