"""An experiment in a notebook, read from its journal: points, forecast, verdict under other keys, pictures, report."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.curves.learning import fit_learning_curve
from orchestrator.curves.questions import ask, bounds_of, turned
from orchestrator.errors import EvidenceError, UsageError
from orchestrator.evidence import seed_means, usable_results
from orchestrator.experiment import decide_on
from orchestrator.notebook.curve import CurveForecast
from orchestrator.notebook.shown import Comparison, Decision, Table, experiment_html, experiment_text, facts
from orchestrator.progress import sweep_progress
from orchestrator.results import Approval, DataSummary, Outcome, TrialResult, Verdict
from orchestrator.spec import ExperimentSpec
from orchestrator.subsets import subset_size
from orchestrator.tracking.journal import FILE_NAME, Journal, JournalView, run_folder

if TYPE_CHECKING:
    from orchestrator.report.figures import Drawing

Overrides = str | Iterable[str] | Mapping[str, object]
"""``"a.b=value"``, several of them, or ``{"a.b": value}``."""


class Experiment:
    """What was asked and measured under one name; `refresh` reads what has been added since."""

    def __init__(self, view: JournalView) -> None:
        self._view = view
        self._decided: dict[tuple[str, ...], Verdict] = {}

    @classmethod
    def load(cls, experiment: str | os.PathLike[str], *, runs_dir: str | os.PathLike[str] = "runs") -> Experiment:
        """Read an experiment.

        Args:
            experiment: Its name, its run folder, or its config file.
            runs_dir: Folder of the journals, for a name.
        Raises:
            UnknownExperimentError: There is no such experiment.
            ConfigError: A config file that cannot be read.
            JournalError: Its journal cannot be read, or holds no experiment yet.
        """
        path = Path(experiment)
        if path.suffix in {".yaml", ".yml"}:
            from orchestrator.config import load_config

            spec = load_config(path)
            folder = run_folder(spec.runs_dir, spec.name)
        elif len(path.parts) > 1 or os.path.exists(path / FILE_NAME):
            folder = path
        else:
            folder = run_folder(Path(runs_dir), str(experiment))
        found = cls(Journal.read(folder))
        _ = found.spec, found.data  # a journal without them is refused here and not in some later cell
        return found

    def refresh(self) -> Experiment:
        """Read the journal anew; the experiment itself, for a cell that shows it."""
        self._view, self._decided = Journal.read(self.path.parent), {}
        return self

    @property
    def path(self) -> Path:
        """The journal."""
        return self._view.path

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def spec(self) -> ExperimentSpec:
        """The config of the latest start."""
        return self._view.spec

    @property
    def data(self) -> DataSummary:
        """The data set as prepared."""
        return self._view.data

    @property
    def results(self) -> tuple[TrialResult, ...]:
        """Every trial, the latest of each key."""
        return self._view.results

    @property
    def verdict(self) -> Verdict | None:
        """The verdict that stands in the journal; `decide` works one out."""
        return self._view.verdict

    @property
    def approval(self) -> Approval | None:
        """The answer to exactly that verdict."""
        return self._view.approval

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """Full runs that ended, oldest first."""
        return self._view.outcomes

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the journal; what lies before a damage is read all the same."""
        return self._view.warnings

    def points(self, model: str | None = None) -> Table:
        """A row for each trial, of one model or of all; ``pandas.DataFrame(points)`` takes them as they are.

        ``counts`` says whether the trial is one the verdict rests on: finished, and of this data and training.
        """
        names = self._models(model)
        counting = {result.key for name in names for result in usable_results(self.spec, self.data, self.results, name)}
        known = {each.name for each in self.spec.models}
        return Table(
            _point(result, counts=result.key in counting)
            for result in self.results
            if result.trial.model in names or (model is None and result.trial.model not in known)
        )

    def forecast(
        self, model: str | None = None, target_n: float | None = None, *, reach: float | None = None
    ) -> CurveForecast:
        """The learning curve of a model, fitted as the verdict fits it.

        Args:
            model: One of the config's; its only one when it has one.
            target_n: Samples of the forecast; those of the full run unless given.
            reach: A value of the metric to find the sample size for, up to ``target_n``.
        Raises:
            UsageError: No such model, or several to choose from.
            EvidenceError: Nothing of it was measured, or a target below the data.
            UnderdeterminedFitError: Fewer than 2 distinct sizes.
        """
        name, metric = self._one_model(model), self.spec.decision.metric
        own = usable_results(self.spec, self.data, self.results, name)
        if not own:
            raise EvidenceError(f"no trial of {name} counts yet: none has finished on this data; sweep first")
        points = tuple((float(n), value) for n, values in seed_means(own, metric).items() for value in values)
        fit = fit_learning_curve(
            [n for n, _ in points],
            [turned(value, metric) for _, value in points],
            bounds=bounds_of(metric),
            validation_size=self.data.n_validation if metric == "accuracy" else None,
        )
        target = subset_size(self.data.n_train, self.spec.full_run.fraction) if target_n is None else target_n
        return CurveForecast(
            fit=fit, answers=ask(fit, metric, float(target), reach=reach), points=points, name=f"{self.name}: {name}"
        )

    def decide(self, overrides: Overrides = (), **keys: object) -> Decision:
        """The verdict on what is stored, under changed keys if you like; nothing is trained or written.

        Args:
            overrides: ``"decision.confidence=0.8"``, several of them, or ``{"decision.confidence": 0.8}``.
            **keys: The same with ``__`` for the dot: ``decision__confidence=0.8``.
        Raises:
            ConfigError: A key or value that cannot be.
            PriceError: A price file that cannot be read.
            EvidenceError: Too few trials finished.
        """
        return Decision(verdict=self._decide(_override_list(overrides, keys)), name=self.name, outcome=self._outcome)

    def what_if(self, overrides: Overrides = (), **keys: object) -> Comparison:
        """The verdict under changed keys beside the one as configured. Arguments and errors as `decide`."""
        changes = _override_list(overrides, keys)
        if not changes:
            raise UsageError("what_if needs at least one key, such as pricing__purchase='spot'")
        return Comparison(standing=self._decide(()), other=self._decide(changes), changes=changes)

    def plot(self) -> Drawing:
        """Learning curves with both bands, the target, and the full run when there was one."""
        return self.decide().plot()

    def report(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the report, one self-contained HTML page; where it lies.

        Args:
            path: The file; ``report.html`` of the run folder unless given.
        Raises: UsageError: It cannot be written. As `decide`.
        """
        from orchestrator.report.page import build_page

        to = self.path.parent / "report.html" if path is None else Path(path)
        page = build_page(
            self.spec, self.data, self.results, self._decide(()), outcome=self._outcome, reads=self._view.data_reads
        )
        try:
            to.write_text(page, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{to}: cannot be written ({error.strerror}); name another file") from error
        return to

    def __repr__(self) -> str:
        """What a prompt without HTML shows: where it stands."""
        return experiment_text(self._facts())

    def _repr_html_(self) -> str:
        """What a Jupyter cell shows: where it stands."""
        return experiment_html(self._facts())

    def _facts(self) -> dict[str, str]:
        progress = sweep_progress(self.spec, self.data, self._view, verdict=self.verdict)
        return facts(self.name, str(self.path), progress, self.approval, self.outcomes, self.warnings)

    @property
    def _outcome(self) -> Outcome | None:
        return self.outcomes[-1] if self.outcomes else None

    def _decide(self, changes: tuple[str, ...]) -> Verdict:
        """Kept until `refresh`: a cell that is shown twice need not wait twice."""
        if changes not in self._decided:
            from orchestrator.config import override_spec
            from orchestrator.config.rates import rates_of

            spec = override_spec(self.spec, changes, source=self.name)
            spec = replace(spec, runs_dir=str(self.path.parent.parent))
            rates = rates_of(spec, datetime.now(UTC).date())
            self._decided[changes] = decide_on(spec, self.data, self._view, rates)
        return self._decided[changes]

    def _models(self, model: str | None) -> tuple[str, ...]:
        names = tuple(each.name for each in self.spec.models)
        if model is not None and model not in names:
            raise UsageError(f"no model {model!r} in {self.name}; there are: {', '.join(names)}")
        return names if model is None else (model,)

    def _one_model(self, model: str | None) -> str:
        names = self._models(model)
        if len(names) != 1:
            raise UsageError(f"{self.name} has several models; name one of {', '.join(names)}")
        return names[0]


def _override_list(overrides: Overrides, keys: Mapping[str, object]) -> tuple[str, ...]:
    """``a.b=value`` each, values as YAML, of which JSON is a part."""
    if isinstance(overrides, str):
        listed = [overrides]
    elif isinstance(overrides, Mapping):
        listed = [f"{key}={_yaml(key, value)}" for key, value in overrides.items()]
    else:
        listed = [str(each) for each in overrides]
    return (*listed, *(f"{(dotted := key.replace('__', '.'))}={_yaml(dotted, value)}" for key, value in keys.items()))


def _yaml(key: str, value: object) -> str:
    try:
        return json.dumps(value)
    except TypeError as error:
        raise UsageError(
            f"{key} is a {type(value).__name__}; give a number, a text, a list, True, False or None"
        ) from error


def _point(result: TrialResult, *, counts: bool) -> dict[str, object]:
    trial, training = result.trial, result.training
    return {
        "model": trial.model,
        "fraction": trial.fraction,
        "n_train": None if training is None else training.n_train,
        "workers": trial.workers,
        "seed": trial.seed,
        "status": result.status,
        "accuracy": None if training is None else training.accuracy,
        "train_accuracy": None if training is None else training.train_accuracy,
        "loss": None if training is None else training.loss,
        "wall_time_s": result.wall_time_s,
        "cost_usd": result.cost_usd,
        "counts": counts,
        "error": result.error,
    }
