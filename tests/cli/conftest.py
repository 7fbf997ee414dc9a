"""A folder to work in, the real command line in this process, and evidence measured once per session."""

from __future__ import annotations

import copy
import io
import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import click.testing
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from orchestrator.cli.compose import rates_of, utc_now, versions
from orchestrator.cli.main import cli
from orchestrator.config import load_config
from orchestrator.data.prepared import PreparedData, prepare
from orchestrator.experiment import Experiment, promote, sweep
from orchestrator.ports import ReviewPage
from orchestrator.results import Approval, Verdict
from orchestrator.spec import ExperimentSpec
from orchestrator.tracking.in_memory import InMemoryTracker
from orchestrator.tracking.journal import LOCK_NAME, OWNER_NAME, Journal, run_folder

# One model and one worker; against a model of accuracy 0.5 in production the full run pays beyond doubt.
CONFIG: dict[str, Any] = {
    "name": "digits",
    "task": "orchestrator.tasks.vision:image_classification",
    "data": {"source": "sklearn:digits"},
    "models": [{"name": "linear"}],
    "training": {"epochs": 8, "global_batch_size": 64, "learning_rate": 0.01},
    "sweep": {"fractions": [0.05, 0.1, 0.2, 0.35, 0.5], "workers": [1], "seeds": 3},
    "pricing": {"usd_per_worker_hour": 1.0},
    "full_run": {"workers": [1], "smaller_targets": 0},
    "decision": {"min_gain_per_dollar": 0.0, "baseline": 0.5},
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command came back with."""

    exit_code: int
    stdout: str
    stderr: str


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """A folder with a config whose run folder and tracking store lie in it too."""

    N_TRIALS: ClassVar[int] = 15
    """Of the config's sweep."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def runs_dir(self) -> Path:
        return self.root / "runs"

    @property
    def run(self) -> Path:
        """The run folder of the config's experiment."""
        return self.runs_dir / CONFIG["name"]

    def write(self, changes: Mapping[str, Any] | None = None) -> None:
        """The config anew, with values replaced at dotted keys."""
        tree = copy.deepcopy(CONFIG)
        tree["runs_dir"] = str(self.runs_dir)
        tree["tracking"] = {"uri": f"sqlite:///{self.root}/mlflow.db"}
        for key, value in (changes or {}).items():
            *above, last = key.split(".")
            place = tree
            for part in above:
                place = place.setdefault(part, {})
            place[last] = value
        self.config.write_text(yaml.safe_dump(tree))

    def ask(self, *args: str | Path) -> Answer:
        """Run a command in this process; what it raises beyond its exit code is raised here."""
        result = click.testing.CliRunner().invoke(cli, [str(arg) for arg in args], prog_name="orchestrator")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Answer(exit_code=result.exit_code, stdout=result.stdout, stderr=result.stderr)

    def refused(self, *args: str | Path, exit_code: int) -> str:
        """The message of a command that must be refused: in plain words, with nothing started and nothing changed."""
        before = self._files()
        answer = self.ask(*args)
        assert answer.exit_code == exit_code, answer.stderr
        assert answer.stdout == ""
        assert "Traceback" not in answer.stderr
        assert "starting Ray" not in answer.stderr
        assert self._files() == before, "a refused command leaves every file as it was, and no new one"
        assert answer.stderr.count("error: ") == 1
        return answer.stderr[answer.stderr.index("error: ") + len("error: ") :].rstrip("\n")

    def config_fault(self, *overrides: str, command: str = "sweep") -> str:
        """Of a config that must be refused for one reason: its line, ``key: message``."""
        first, *lines = self.refused(command, self.config, *overrides, exit_code=2).splitlines()
        assert first == f"{self.config}: 1 fault"
        assert len(lines) == 1, lines
        return lines[0].strip()

    def bring(self, run: Path) -> Workplace:
        """Copy a run folder to where the config's experiment is looked for."""
        shutil.copytree(run, self.run, dirs_exist_ok=True)
        return self

    def answer(self, decision: Literal["approved", "rejected"], reason: str = "") -> None:
        """Write Ada's answer to the standing verdict down, without MLflow."""
        with Journal.open(self.run, now=utc_now) as journal:
            verdict = journal.view.verdict
            assert verdict is not None
            approval = Approval(
                decision=decision, by="Ada", reason=reason, inputs_digest=verdict.inputs_digest, at=_now()
            )
            journal.append("approval", approval)

    def images(self, name: str = "data/train.parquet", labels: Sequence[Any] = tuple(range(4)) * 100) -> Path:
        """A Parquet file of small PNG images with these labels; the config's data from now on."""
        pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 8, 8, 3), dtype=np.uint8)
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"image": [_png(image) for image in pixels], "label": list(labels)}), path)
        self.write({"data.source": str(path)})
        return path

    def _files(self) -> dict[str, bytes]:
        """Every file but the lock's and prepared data, which is a cache and no evidence."""
        none = {".data", LOCK_NAME, OWNER_NAME}
        files = (path for path in self.root.rglob("*") if path.is_file() and none.isdisjoint(path.parts))
        return {str(path.relative_to(self.root)): path.read_bytes() for path in files}


@pytest.fixture
def work(tmp_path: Path) -> Workplace:
    """An empty folder with the config."""
    place = Workplace(root=tmp_path)
    place.write()
    return place


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Run folders, measured with the real training code; a test works on a copy."""

    promote: Path
    """Its verdict is PROMOTE, and nobody answered it."""
    hold: Path
    """The same trials under a threshold at which the odds are even."""
    outcome: Path
    """Approved, and its full run has ended."""


def _now() -> str:
    return utc_now().isoformat(timespec="seconds")


class _Quiet:
    def say(self, message: str) -> None:
        """Nobody listens."""

    def progress(self, progress: object) -> None:
        """Nobody watches."""


def _experiment(spec: ExperimentSpec, data: PreparedData, journal: Journal) -> Experiment:
    return Experiment(
        spec=spec,
        data=data.summary,
        rates=rates_of(spec),
        journal=journal,
        tracker=InMemoryTracker(),
        console=_Quiet(),
        render=lambda *_: ReviewPage(description="", figures={}, html=""),
        now=_now,
    )


def _measure(place: Workplace, data_cache: Path) -> Verdict:
    """What `sweep` does, on this process instead of Ray."""
    from orchestrator.backends.local import LocalRunner

    spec = load_config(place.config)
    data = prepare(spec.data, data_cache, _Quiet().say)
    with Journal.open(run_folder(spec.runs_dir, spec.name), now=utc_now) as journal:
        facts = {"spec": spec, "data": data.summary, "versions": versions(), "config": str(place.config)}
        journal.append("experiment", facts)
        runner = LocalRunner(spec, fingerprint=data.summary.fingerprint, data_root=data.root)
        verdict = sweep(_experiment(spec, data, journal), lambda: nullcontext(runner))
    assert verdict is not None
    return verdict


def _promote(place: Workplace, data_cache: Path) -> None:
    from orchestrator.backends.local import LocalFullRunner

    spec = load_config(place.config)
    data = prepare(spec.data, data_cache, _Quiet().say)
    place.answer("approved")
    with Journal.open(place.run, now=utc_now) as journal:
        verdict = journal.view.verdict
        assert verdict is not None
        runner = LocalFullRunner(
            spec, fingerprint=data.summary.fingerprint, data_root=data.root, storage_path=place.root / "full_run"
        )
        promote(_experiment(spec, data, journal), runner, verdict.best)


@pytest.fixture(scope="session")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    root = tmp_path_factory.mktemp("evidence")
    places = {name: Workplace(root=root / name) for name in ("promote", "hold", "outcome")}
    first = places["promote"]
    first.root.mkdir()
    first.write()
    verdict = _measure(first, root / "data")
    for name in ("hold", "outcome"):
        shutil.copytree(first.root, places[name].root)
        places[name].write()
    places["hold"].write({"decision.min_gain_per_dollar": verdict.best.gain_per_dollar.median})
    _measure(places["hold"], root / "data")
    _promote(places["outcome"], root / "data")
    return Evidence(**{name: place.run for name, place in places.items()})


@pytest.fixture
def measured(work: Workplace, evidence: Evidence) -> Workplace:
    """The config with a finished sweep whose verdict is PROMOTE."""
    return work.bring(evidence.promote)


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()
