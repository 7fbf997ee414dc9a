"""Writes the journal's records into one MLflow store; every method may be called again and changes nothing then.

All ids are explicit and nothing depends on MLflow's active run. Used from one thread, `mlflow_tracker`'s, which also
catches what is raised here. A child run is created, filled, ended and only then marked complete; one that a crash left
without the mark is thrown away and written again, so that neither runs nor metric rows are doubled.
"""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.approval import answered_text, approval_code, approval_prompt, is_own_text
from orchestrator.errors import TrackingError
from orchestrator.ports import ReviewPage
from orchestrator.results import Approval, DataSummary, Outcome, TrialResult, Verdict
from orchestrator.spec import ExperimentSpec, without_secrets
from orchestrator.tracking import mlflow_layout as layout
from orchestrator.tracking.chain import scan_lines
from orchestrator.tracking.mlflow_store import connect, experiment_id, mask
from orchestrator.tracking.records import to_plain

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

# Limits of one call, from mlflow.utils.validation and mlflow.entities.Dataset in MLflow 3.17.
MAX_METRICS_PER_CALL = 1000
MAX_PARAMS_PER_CALL = 100
MAX_TAG_CHARACTERS = 8000
MAX_DIGEST_CHARACTERS = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class _Child:
    """A run that is already in the store."""

    run_id: str
    record: str
    is_complete: bool
    is_finished: bool


class MlflowMirror:
    """One experiment in one store. `open` first; then any order."""

    def __init__(self, uri: str, journal: Path | None = None) -> None:
        """Args: uri: Tracking URI. journal: File to keep a copy and a seal of; None keeps neither."""
        self._uri, self._journal = uri, journal
        self._client: MlflowClient
        self._spec: ExperimentSpec
        self._data: DataSummary
        self.experiment_id = ""
        self.parent_id = ""
        self._results: dict[str, TrialResult] = {}
        self._trials: dict[str, _Child] = {}
        self._full_runs: dict[str, _Child] = {}
        self._curve: dict[tuple[str, int], float] = {}
        self._curve_scopes: dict[str, str] = {}
        self._is_measuring = False

    def open(self, spec: ExperimentSpec, data: DataSummary) -> None:
        """Connect, find or make the parent run, and learn what it already holds."""
        self._client = connect(self._uri)
        self._spec, self._data = spec, data
        self.experiment_id = experiment_id(self._client, spec.mlflow_experiment, self._uri)
        parent = self._find_parent() or self._create_parent()
        self.parent_id = parent.info.run_id
        self._curve_scopes = {
            key.removeprefix("orchestrator.curve."): scope
            for key, scope in parent.data.tags.items()
            if key.startswith("orchestrator.curve.")
        }
        for key in (key for key in parent.data.metrics if key.startswith("curve/")):
            for metric in self._client.get_metric_history(self.parent_id, key):
                self._curve[key, metric.step] = metric.value
        self._trials, self._full_runs = self._children()
        self._tag_data(parent)
        shown = replace(spec, alerts=without_secrets(spec.alerts))
        self._log_text({"config.json": json.dumps(to_plain(shown), indent=2)})
        self._client.log_inputs(self.parent_id, [self._dataset(data.fingerprint)])

    def trial(self, result: TrialResult) -> None:
        """One child run for the trial, and the learning curve as far as it is known."""
        known = self._trials.get(result.key)
        if known is not None and known.is_complete and known.is_finished and result.status == "failed":
            return
        self._results[result.key] = result
        is_finished = result.status == "finished"
        if known is None or not known.is_complete:
            self._mark_measuring()
        self._trials[result.key] = self._write_child(
            known,
            name=str(result.trial),
            tags=layout.trial_tags(self._spec, result) | layout.data_tags(self._data, result.fingerprint),
            fingerprint=result.fingerprint,
            params=layout.trial_params(self._spec, self._data.fingerprint, result),
            points=layout.trial_metrics(result),
            span_ms=(layout.start_ms(result.started_at), layout.end_ms(result)),
            is_finished=is_finished,
        )
        if is_finished:
            self._log_curve(only_complete=True)

    def verdict(self, verdict: Verdict, page: ReviewPage) -> None:
        """Tags, description, figures, page and forecast on the parent; an answer to this very verdict is kept."""
        self._log_curve(only_complete=False)
        self._log_metrics(
            self.parent_id,
            [
                layout.MetricPoint(key, value, verdict.n_trials, self._latest_ms())
                for key, value in layout.verdict_metrics(verdict).items()
            ],
        )
        standing = self._client.get_run(self.parent_id).data.tags
        tags = layout.verdict_tags(verdict) | {layout.DESCRIPTION: _cut(page.description)}
        tags |= self._approval_tags(verdict, standing)
        self._log_files(self.parent_id, {f"figures/{name}.png": image for name, image in page.figures.items()})
        self._log_text({"report.html": page.html, "verdict.md": page.description})
        self._set_tags(self.parent_id, tags)
        self._client.set_terminated(self.parent_id, "FINISHED")
        self._is_measuring = False
        self._keep_journal()

    def _approval_tags(self, verdict: Verdict, standing: Mapping[str, str]) -> dict[str, str]:
        """The prompt of a new verdict; what people wrote to this very verdict is left alone."""
        text = standing.get(layout.APPROVAL, "")
        is_new = standing.get(layout.INPUTS) != verdict.inputs_digest
        if not is_new and (layout.APPROVAL_STATE in standing or not is_own_text(text)):
            return {}
        for stale in (tag for tag in standing if tag.startswith(f"{layout.APPROVAL}.")):
            self._client.delete_tag(self.parent_id, stale)
        tags = {
            layout.APPROVAL: approval_prompt(verdict),
            layout.APPROVAL_STATE: "pending" if verdict.kind == "PROMOTE" else "not needed",
        }
        if not is_own_text(text) and standing.get(layout.APPROVAL_STATE) not in ("approved", "rejected"):
            told = f"{text[: layout.MAX_ERROR_CHARACTERS]!r} was of an earlier verdict and was not taken up"
            tags[layout.APPROVAL_ANSWER] = f"{told}; the code now is {approval_code(verdict.inputs_digest)}"
        return tags

    def approval(self, approval: Approval) -> None:
        """What the journal says of the answer; a text that a person wrote is never replaced."""
        standing = self._client.get_run(self.parent_id).data.tags
        tags = layout.approval_tags(approval)
        if is_own_text(standing.get(layout.APPROVAL, "")):
            tags[layout.APPROVAL] = answered_text(approval)[:MAX_TAG_CHARACTERS]
        if "approval.override" in standing and approval.override is None:
            self._client.delete_tag(self.parent_id, "approval.override")
        self._set_tags(self.parent_id, tags)
        self._keep_journal()

    def full_run(self, outcome: Outcome) -> None:
        """One child run for the full run, with forecast against result as a table."""
        record = layout.record_digest(outcome)
        candidate, metric = outcome.candidate, self._spec.decision.metric
        ended_ms = layout.start_ms(outcome.finished_at)
        hits = {"metric_hit": outcome.metric_hit, "wall_time_hit": outcome.wall_time_hit, "cost_hit": outcome.cost_hit}
        child = self._write_child(
            self._full_runs.get(record),
            name="full-run",
            tags={
                layout.KIND: "full_run",
                layout.EXPERIMENT: self._spec.name,
                layout.RECORD: record,
                "checkpoint_path": outcome.checkpoint_path,
            }
            | {f"forecast.{name}": str(hit).lower() for name, hit in hits.items()}
            | layout.data_tags(self._data, self._data.fingerprint),
            fingerprint=self._data.fingerprint,
            params={key: str(value) for key, value in to_plain(candidate).items()},
            points=layout.outcome_metrics(outcome),
            span_ms=(ended_ms - int(outcome.wall_time_s * 1000), ended_ms),
            is_finished=True,
            table=layout.outcome_table(outcome, metric),
        )
        self._full_runs[record] = child
        self._set_tags(self.parent_id, {"full_run": child.run_id})
        self._keep_journal()

    def register_model(self, name: str, model: object, input_example: object, requirements: Sequence[str]) -> None:
        """Store the latest full run's model as an exported graph (no pickle) and register it as ``name``.

        Args:
            name: Of the registered model.
            model: A ``torch.nn.Module`` in evaluation mode.
            input_example: A batch of at least two rows, numpy or torch; the graph is traced with it.
            requirements: Pip requirements of the model; stated, because guessing them takes minutes and the network.
        """
        from mlflow.entities import LoggedModelOutput

        run_id = list(self._full_runs.values())[-1].run_id
        if "registered_model" in self._client.get_run(run_id).data.tags:
            return
        logged = self._client.create_logged_model(self.experiment_id, name="model", source_run_id=run_id)
        self._save_model(logged, run_id, model, input_example, requirements)
        self._client.finalize_logged_model(logged.model_id, "READY")
        self._client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        if not self._client.search_registered_models(f"name = '{name}'"):
            self._client.create_registered_model(name)
        with _as_default_store(self._uri):
            version = self._client.create_model_version(
                name, source=f"models:/{logged.model_id}", run_id=run_id, model_id=logged.model_id
            )
        for target in (run_id, self.parent_id):
            self._set_tags(target, {"registered_model": f"{name} version {version.version}"})

    def leave(self) -> None:
        """End the parent run of a sweep that stopped before a verdict; `trial` opens it again."""
        if self._is_measuring:
            self._client.set_terminated(self.parent_id, "KILLED")
            self._is_measuring = False

    def _keep_journal(self) -> None:
        """A copy of the journal and its seal; one that lacks a line sealed before replaces nothing and is told."""
        if self._journal is None:
            return
        content = self._journal.read_bytes()
        content = content[: content.rfind(b"\n") + 1]  # a line may be in the writing
        scan = scan_lines(content)
        faults = [scan.fault or ""] if scan.fault else []
        standing = self._client.get_run(self.parent_id).data.tags
        faults += [fault for seal in layout.seals_of(standing, scan.entries) if (fault := seal.fault(scan.entries))]
        if faults:
            self._set_tags(self.parent_id, {layout.JOURNAL_FINDING: "; ".join(faults)})
            raise TrackingError(f"the journal does not hold what was sealed here before: {'; '.join(faults)}")
        self._log_files(self.parent_id, {layout.JOURNAL: content})
        self._set_tags(self.parent_id, layout.seal_tags(scan.entries))
        if layout.JOURNAL_FINDING in standing:
            self._client.delete_tag(self.parent_id, layout.JOURNAL_FINDING)

    def _tag_data(self, parent: Run) -> None:
        """The data at hand; pointers of other data that the run was tagged with before are taken away."""
        data = self._data
        tags = {layout.FINGERPRINT: data.fingerprint} | layout.data_tags(data, data.fingerprint)
        for key in parent.data.tags:
            if key.startswith(layout.DATA_VERSION) and key not in tags:
                self._client.delete_tag(self.parent_id, key)
        self._set_tags(self.parent_id, tags)

    def _find_parent(self) -> Run | None:
        found = self._client.search_runs(
            [self.experiment_id],
            f"tags.`{layout.KIND}` = 'experiment' and tags.`{layout.EXPERIMENT}` = '{self._spec.name}'",
            order_by=["attributes.start_time ASC"],
            max_results=1,
        )
        return found[0] if found else None

    def _create_parent(self) -> Run:
        tags = {layout.KIND: "experiment", layout.EXPERIMENT: self._spec.name, "task": self._spec.task}
        return self._client.create_run(self.experiment_id, tags=tags, run_name=self._spec.name)

    def _children(self) -> tuple[dict[str, _Child], dict[str, _Child]]:
        trials: dict[str, _Child] = {}
        full_runs: dict[str, _Child] = {}
        token = None
        while True:
            page = self._client.search_runs(
                [self.experiment_id], f"tags.`{layout.PARENT}` = '{self.parent_id}'", max_results=500, page_token=token
            )
            for run in page:
                tags = run.data.tags
                child = _Child(
                    run_id=run.info.run_id,
                    record=tags.get(layout.RECORD, ""),
                    is_complete=tags.get(layout.COMPLETE) == "1",
                    is_finished=run.info.status == "FINISHED",
                )
                if layout.TRIAL_KEY in tags:
                    trials[tags[layout.TRIAL_KEY]] = child
                elif tags.get(layout.KIND) == "full_run":
                    full_runs[child.record] = child
            token = page.token
            if not token:
                return trials, full_runs

    def _write_child(
        self,
        known: _Child | None,
        *,
        name: str,
        tags: Mapping[str, str],
        fingerprint: str,
        params: Mapping[str, str],
        points: Sequence[layout.MetricPoint],
        span_ms: tuple[int, int],
        is_finished: bool,
        table: dict[str, list[object]] | None = None,
    ) -> _Child:
        if known is not None and known.is_complete and known.record == tags[layout.RECORD]:
            return known
        if known is not None:
            self._client.delete_run(known.run_id)
        run = self._client.create_run(
            self.experiment_id, start_time=span_ms[0], tags={**tags, layout.PARENT: self.parent_id}, run_name=name
        )
        run_id = run.info.run_id
        self._log_params(run_id, params)
        self._log_metrics(run_id, points)
        self._client.log_inputs(run_id, [self._dataset(fingerprint)])
        if table is not None:
            self._log_table(run_id, "forecast_against_outcome.json", table)
        self._client.set_terminated(run_id, "FINISHED" if is_finished else "FAILED", end_time=span_ms[1])
        self._set_tags(run_id, {layout.COMPLETE: "1"})
        return _Child(run_id=run_id, record=tags[layout.RECORD], is_complete=True, is_finished=is_finished)

    def _mark_measuring(self) -> None:
        if not self._is_measuring:
            self._client.update_run(self.parent_id, status="RUNNING")
            self._is_measuring = True

    def _log_curve(self, *, only_complete: bool) -> None:
        """Log the sizes that are new or whose mean has changed."""
        points = []
        for mean in layout.curve_means(self._spec, self._data, list(self._results.values())):
            key = self._curve_key(mean)
            if (only_complete and not mean.is_complete) or self._curve.get((key, mean.n_samples)) == mean.value:
                continue
            self._curve[key, mean.n_samples] = mean.value
            points.append(layout.MetricPoint(key, mean.value, mean.n_samples, self._latest_ms()))
        self._log_metrics(self.parent_id, points)

    def _curve_key(self, mean: layout.CurveMean) -> str:
        """A metric name of its own for each scope, so that points of other data or settings never share a line."""
        if mean.model not in self._curve_scopes:
            self._set_tags(self.parent_id, {f"orchestrator.curve.{mean.model}": mean.scope})
            self._curve_scopes[mean.model] = mean.scope
        is_first = self._curve_scopes[mean.model] == mean.scope
        return f"curve/{mean.model}/{mean.metric}" if is_first else f"curve/{mean.model} {mean.scope[:6]}/{mean.metric}"

    def _latest_ms(self) -> int:
        return max((layout.end_ms(result) for result in self._results.values()), default=0)

    def _dataset(self, fingerprint: str) -> DatasetInput:
        """The data of a run, by the fingerprint of its full content; of other data than that at hand no more is known.

        MLflow's own digest of a dataset covers its first rows only.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        data = self._data
        profile = {"rows": data.n_rows, "training pool": data.n_train, "validation": data.n_validation} | data.versions
        dataset = Dataset(
            name=Path(data.source.partition("?")[0]).name or data.source,
            digest=fingerprint[:MAX_DIGEST_CHARACTERS],
            source_type=data.source.partition("://")[0] if "://" in data.source else "local",
            source=json.dumps({"uri": mask(data.source)}),
            profile=json.dumps(profile) if fingerprint == data.fingerprint else None,
        )
        return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])

    def _log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        items = [Param(key, value) for key, value in params.items()]
        for start in range(0, len(items), MAX_PARAMS_PER_CALL):
            self._client.log_batch(run_id, params=items[start : start + MAX_PARAMS_PER_CALL])

    def _log_metrics(self, run_id: str, points: Sequence[layout.MetricPoint]) -> None:
        from mlflow.entities import Metric

        items = [Metric(point.key, point.value, point.time_ms, point.step) for point in points]
        for start in range(0, len(items), MAX_METRICS_PER_CALL):
            self._client.log_batch(run_id, metrics=items[start : start + MAX_METRICS_PER_CALL])

    def _set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def _log_text(self, texts: Mapping[str, str]) -> None:
        self._log_files(self.parent_id, {name: text.encode() for name, text in texts.items()})

    def _log_table(self, run_id: str, name: str, columns: Mapping[str, Sequence[object]]) -> None:
        """As MLflow's ``log_table`` writes it and its UI shows it, without pandas and without appending."""
        table = {"columns": list(columns), "data": [list(row) for row in zip(*columns.values(), strict=True)]}
        self._log_files(run_id, {name: json.dumps(to_plain(table)).encode()})
        self._set_tags(run_id, {"mlflow.loggedArtifacts": json.dumps([{"path": name, "type": "table"}])})

    def _log_files(self, run_id: str, files: Mapping[str, bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self._client.log_artifacts(run_id, folder)

    def _save_model(
        self, logged: Any, run_id: str, model: object, input_example: object, requirements: Sequence[str]
    ) -> None:
        import mlflow.pytorch
        from mlflow.models import Model

        # The batch dimension of the one-row example is fixed on export; said at every registration, it helps nobody.
        logging.getLogger("torch._export").setLevel(logging.ERROR)
        identity = Model(
            artifact_path=logged.artifact_location, model_uuid=logged.model_id, run_id=run_id, model_id=logged.model_id
        )
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "model"))
            mlflow.pytorch.save_model(
                model,
                path,
                mlflow_model=identity,
                input_example=input_example,
                pip_requirements=list(requirements),
                serialization_format="pt2",
            )
            self._client.log_model_artifacts(logged.model_id, path)


@contextlib.contextmanager
def _as_default_store(uri: str) -> Iterator[None]:
    """MLflow's SQL registry looks models up in the process-wide default store, whatever client asks."""
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


def _cut(description: str) -> str:
    """The description at a line's end within MLflow's limit; the whole text is an artifact."""
    if len(description) <= MAX_TAG_CHARACTERS:
        return description
    note = "\n\n(cut here; the whole text is the artifact verdict.md)"
    head = description[: MAX_TAG_CHARACTERS - len(note)]
    return head[: head.rfind("\n")] + note
