"""The MLflow tracker: hands each record to one background thread, which alone talks to the store.

A store that is slow, down or locked costs the sweep nothing: its faults are kept, tried again, and told in one line by
`close`. What could not be written is not lost either, because the journal holds it and the next `open` reconciles.
MLflow itself is imported in that thread.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.ports import ReviewPage
from orchestrator.results import Approval, DataSummary, Outcome, TrialResult, Verdict
from orchestrator.spec import ExperimentSpec
from orchestrator.tracking.mlflow_mirror import MlflowMirror
from orchestrator.tracking.mlflow_store import absolute, check_store, mask

__all__ = ["MlflowTracker", "check_store"]

MAX_FAILURES_RUNNING = 2
RETRY_AFTER_S = 10.0
_MAX_FAULT_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class _Update:
    """One thing to be written; the store is usable only after the ``opening`` one."""

    write: Callable[[MlflowMirror], None]
    is_opening: bool = False


class MlflowTracker:
    """Implements `ports.Tracker` on an MLflow store. No method but `close` waits for the store."""

    def __init__(self, uri: str, *, journal: Path | None = None, close_timeout_s: float = 60.0) -> None:
        """Make a tracker; nothing is connected before `open`.

        Args:
            uri: Tracking URI.
            journal: File of which the store keeps a copy and a seal with each verdict, answer and outcome.
            close_timeout_s: Longest that `close` waits for what is still to be written.
        """
        self._uri = absolute(uri)
        self._close_timeout_s = close_timeout_s
        self._queue: queue.Queue[_Update | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._mirror = MlflowMirror(self._uri, journal)
        self._is_open = False
        self._n_asked = 0
        self._n_written = 0
        self._fault = ""

    @property
    def review_path(self) -> str | None:
        """Path of the parent run's page below the MLflow UI's address; None until the store has been reached."""
        mirror = self._mirror
        return f"#/experiments/{mirror.experiment_id}/runs/{mirror.parent_id}" if mirror.parent_id else None

    def open(self, spec: ExperimentSpec, data: DataSummary, results: Sequence[TrialResult]) -> None:
        self._ask(_Update(lambda mirror: mirror.open(spec, data), is_opening=True))
        for result in results:
            self.trial_finished(result)

    def trial_finished(self, result: TrialResult) -> None:
        self._ask(_Update(lambda mirror: mirror.trial(result)))

    def verdict_reached(self, verdict: Verdict, page: ReviewPage) -> None:
        self._ask(_Update(lambda mirror: mirror.verdict(verdict, page)))

    def approval_given(self, approval: Approval) -> None:
        self._ask(_Update(lambda mirror: mirror.approval(approval)))

    def full_run_finished(self, outcome: Outcome) -> None:
        self._ask(_Update(lambda mirror: mirror.full_run(outcome)))

    def register_model(self, name: str, model: object, input_example: object, requirements: Sequence[str]) -> None:
        """Register the latest full run's model; call after `full_run_finished`. Arguments as `MlflowMirror`'s."""
        self._ask(_Update(lambda mirror: mirror.register_model(name, model, input_example, requirements)))

    def settle(self, timeout_s: float = 10.0) -> None:
        """Wait until the store has what was asked so far, at most ``timeout_s``, and not for a store at fault."""
        deadline = time.monotonic() + timeout_s
        while self._n_written < self._n_asked and not self._fault and time.monotonic() < deadline:
            time.sleep(0.05)

    def close(self) -> str | None:
        """Write what is waiting, for `close_timeout_s` at most; one line about what was not written, or None."""
        if self._thread is None:
            return None
        self._queue.put(None)
        self._thread.join(self._close_timeout_s)
        self._thread = None
        n_missing = self._n_asked - self._n_written
        if n_missing == 0:
            return None
        cause = self._fault or f"no answer within {self._close_timeout_s:g} s"
        return (
            f"MLflow ({mask(self._uri)}): {n_missing} of {self._n_asked} updates could not be written: {cause}. "
            "Nothing is lost: the journal holds them, and running the same command again writes them"
        )

    def _ask(self, update: _Update) -> None:
        self._n_asked += 1
        self._queue.put(update)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="mlflow-mirror", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        waiting: list[_Update] = []
        failed_at = -RETRY_AFTER_S
        while True:
            update = self._queue.get()
            if update is not None:
                waiting.append(update)
                if time.monotonic() - failed_at < RETRY_AFTER_S:
                    continue
            waiting = self._drain(waiting)
            if waiting:
                failed_at = time.monotonic()
            if update is None:
                if self._is_open:
                    self._write(_Update(lambda mirror: mirror.leave()), counts=False)
                return

    def _drain(self, waiting: Sequence[_Update]) -> list[_Update]:
        """Write in order; what is left. Two failures running mean that the store is away, one that an update is bad."""
        left: list[_Update] = []
        n_running = 0
        for position, update in enumerate(waiting):
            if n_running == MAX_FAILURES_RUNNING or not (self._is_open or update.is_opening):
                return left + list(waiting[position:])
            if self._write(update):
                self._is_open, n_running = True, 0
            else:
                left.append(update)
                n_running += 1
        return left

    def _write(self, update: _Update, *, counts: bool = True) -> bool:
        try:
            update.write(self._mirror)
        except Exception as error:  # the thread's edge: whatever MLflow raises is kept, told at close, never thrown
            lines = mask(str(error)).strip().splitlines() or [""]
            self._fault = f"{type(error).__name__}: {lines[0][:_MAX_FAULT_CHARACTERS]}"
            return False
        self._n_written += counts
        return True
