"""Trials and the full run in this process, one after the other, on one worker: for tests, examples and debugging.

The training code is the one the Ray backends run; a breakpoint in it stops here.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.backends.faults import in_words
from orchestrator.errors import InfeasibleError
from orchestrator.ports import FullRunResult, SmokeReport, TrialSource
from orchestrator.results import Candidate, CandidateForecast, DataRead, IngestMeasurement, TrialResult
from orchestrator.spec import ExperimentSpec, TrialSpec, evidence_scope, trial_key
from orchestrator.training.checkpoints import MemoryCheckpoints, write_checkpoint
from orchestrator.training.loop import default_device, smoke, train
from orchestrator.training.ready import make_ready, probe_ingest
from orchestrator.training.request import TrainRequest, trial_of


class LocalRunner:
    """`ports.TrialRunner` without Ray."""

    def __init__(
        self,
        spec: ExperimentSpec,
        *,
        fingerprint: str,
        data_root: Path | None,
        draining: Callable[[], bool] = lambda: False,
    ) -> None:
        """As `RayTuneRunner`'s. Raises InfeasibleError: more than one worker."""
        if max(spec.sweep.workers) > 1:
            raise InfeasibleError(
                f"sweep.workers is {list(spec.sweep.workers)}; in process there is one worker: set [1]"
            )
        self._spec, self._fingerprint, self._draining = spec, fingerprint, draining
        self._request = TrainRequest(
            spec=spec,
            trial=TrialSpec(model=spec.models[0].name, fraction=1.0, workers=1, seed=0),
            fingerprint=fingerprint,
            data_root=data_root,
        )

    def make_ready(self, trials: Sequence[TrialSpec]) -> DataRead | None:
        """Read and decode the rows of the trials ahead. Raises DataError, TaskError."""
        return make_ready(self._spec, self._request.data_root, trials)

    def probe(self, model: str, n_samples: int) -> IngestMeasurement | None:
        """Measure the data path and the step. Raises what the task raises."""
        return probe_ingest(self._spec, self._request.data_root, model, n_samples, default_device(self._spec))

    def smoke(self) -> list[SmokeReport]:
        """One training step of every model. Raises what the task raises."""
        reports = []
        for model in self._spec.models:
            result = smoke(replace(self._request, trial=replace(self._request.trial, model=model.name)))
            reports.append(
                SmokeReport(
                    model=model.name, n_parameters=result.n_parameters, checkpoint_bytes=result.checkpoint_bytes
                )
            )
        return reports

    def run(self, source: TrialSource, on_result: Callable[[TrialResult], bool]) -> None:
        """Run one trial after the other until the source ends, or a result's handler or the user says stop."""
        while not self._draining() and (trial := source.next(())) is not None:
            if not on_result(self._measure(trial)):
                return

    def _measure(self, trial: TrialSpec) -> TrialResult:
        started_at, begun = datetime.now(UTC), time.perf_counter()
        training, error = None, None
        try:
            training, _ = train(replace(self._request, trial=trial), checkpoints=MemoryCheckpoints())
        except Exception as fault:  # a failed trial is a result; what failed is in its error
            error = in_words(fault, traceback.format_exc())
        return TrialResult(
            key=trial_key(self._spec, self._fingerprint, trial),
            scope=evidence_scope(self._spec, self._fingerprint, trial.model),
            fingerprint=self._fingerprint,
            trial=trial,
            status="failed" if training is None else "finished",
            training=training,
            error=error,
            wall_time_s=time.perf_counter() - begun,
            started_at=started_at.isoformat(timespec="milliseconds"),
        )

    def close(self) -> None:
        """Nothing to give back."""


class LocalFullRunner:
    """`ports.FullRunner` without Ray; it does not resume."""

    def __init__(self, spec: ExperimentSpec, *, fingerprint: str, data_root: Path | None, storage_path: Path) -> None:
        self._spec, self._fingerprint, self._data_root = spec, fingerprint, data_root
        self._storage_path = storage_path

    def make_ready(self, candidate: Candidate) -> DataRead | None:
        """Read and decode the candidate's rows ahead. Raises DataError, TaskError."""
        return make_ready(self._spec, self._data_root, [trial_of(candidate)])

    def run(
        self, candidate: Candidate, forecast: CandidateForecast, on_progress: Callable[[str], None]
    ) -> FullRunResult:
        """Train the candidate here and write its weights. Raises InfeasibleError; what the task raises."""
        if candidate.workers > 1:
            raise InfeasibleError(f"{candidate}: in process there is one worker; choose the candidate with 1 worker")
        request = TrainRequest(
            spec=self._spec,
            trial=trial_of(candidate),
            fingerprint=self._fingerprint,
            data_root=self._data_root,
        )
        begun = time.perf_counter()
        training, state = train(
            request,
            checkpoints=MemoryCheckpoints(),
            on_epoch=lambda point: on_progress(f"full run: epoch {point.epoch + 1}: loss {point.validation_loss:.4f}"),
        )
        self._storage_path.mkdir(parents=True, exist_ok=True)
        path = self._storage_path / "model.pt"
        write_checkpoint(state, path)
        return FullRunResult(training=training, wall_time_s=time.perf_counter() - begun, checkpoint_path=str(path))
