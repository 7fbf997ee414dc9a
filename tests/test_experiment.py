"""The whole story on real training, in process: what is measured, kept, decided, approved and scaled, and when.

Nothing is faked: the journal is on disk, trials really train (a linear model on the digits, a fraction of a second
each), and the tracker is the one that ships for use without MLflow.
"""

from __future__ import annotations

import datetime
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from orchestrator.backends.local import LocalFullRunner, LocalRunner
from orchestrator.cost.rates import rate_card
from orchestrator.data.prepared import PreparedData, prepare
from orchestrator.errors import BudgetError, EvidenceError, NotApprovedError
from orchestrator.experiment import (
    REFERENCE_LAUNCHES_S,
    Experiment,
    approve,
    check_budget,
    judge,
    launch_interval,
    promote,
    sweep,
)
from orchestrator.experiment.measuring import Course
from orchestrator.planner import plan_grid
from orchestrator.ports import ReviewPage, TrialRunner, TrialSource
from orchestrator.results import Approval, DataRead, IngestMeasurement, Outcome, Rate, TrialLaunch, TrialResult, Verdict
from orchestrator.spec import (
    BudgetSpec,
    DataSpec,
    DecisionSpec,
    ExperimentSpec,
    FullRunSpec,
    ModelSpec,
    PricingSpec,
    ResourceSpec,
    SweepSpec,
    TrainingSpec,
    TrialSpec,
    trial_key,
)
from orchestrator.tracking.in_memory import InMemoryTracker
from orchestrator.tracking.journal import Journal, run_folder

NOW = datetime.datetime(2026, 2, 1, tzinfo=datetime.UTC)
SPEC = ExperimentSpec(
    name="digits",
    task="orchestrator.tasks.vision:image_classification",
    data=DataSpec(source="sklearn:digits"),
    models=(ModelSpec(name="linear"),),
    training=TrainingSpec(epochs=2, global_batch_size=32),
    sweep=SweepSpec(fractions=(0.05, 0.1, 0.2, 0.4), workers=(1,), seeds=2),
    pricing=PricingSpec(usd_per_worker_hour=3600.0),  # a dollar a second, so that caps are easy to reach
    full_run=FullRunSpec(workers=(1,), smaller_targets=0),
    decision=DecisionSpec(min_gain_per_dollar=0.0),
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepare(SPEC.data, tmp_path_factory.mktemp("prepared"), lambda message: None)


class Said(list[str]):
    """`ports.Console` that remembers."""

    def say(self, message: str) -> None:
        self.append(message)

    def progress(self, progress: object) -> None:
        """Nobody watches."""


@dataclass
class Lab:
    """A run folder, and everything an experiment needs to act in it."""

    runs_dir: Path
    digits: PreparedData
    said: Said = field(default_factory=Said)
    ran: list[TrialSpec] = field(default_factory=list)
    """Trials that were really trained, over all commands."""
    tracker: InMemoryTracker = field(default_factory=InMemoryTracker)
    probed: list[str] = field(default_factory=list)
    """Models whose data path was measured, over all commands; only where `measured` is set."""
    measured: IngestMeasurement | None = None
    read: DataRead | None = None
    wall_time_of: Callable[[TrialSpec], float] | None = None
    """Stands in for the clock, where a test is about seconds and dollars."""

    @contextmanager
    def open(self, spec: ExperimentSpec, draining: Callable[[], bool] = lambda: False) -> Iterator[Experiment]:
        """As a command opens it; the lock is let go with the block."""
        with Journal.open(run_folder(self.runs_dir, spec.name), now=lambda: NOW) as journal:
            yield Experiment(
                spec=spec, data=self.digits.summary, rates=rate_card(spec.pricing, None, None, NOW.date()),
                journal=journal, tracker=self.tracker, console=self.said, render=plain_page, now=NOW.isoformat,
                draining=draining,
            )  # fmt: skip

    def sweep(self, spec: ExperimentSpec = SPEC, draining: Callable[[], bool] = lambda: False) -> Verdict | None:
        with self.open(spec, draining) as experiment:
            return sweep(experiment, self.runner(spec, draining))

    def runner(
        self, spec: ExperimentSpec, draining: Callable[[], bool]
    ) -> Callable[[], AbstractContextManager[TrialRunner]]:
        @contextmanager
        def start() -> Iterator[TrialRunner]:
            root = None if spec.data.source == "task" else self.digits.root
            fingerprint = self.digits.summary.fingerprint
            runner = LocalRunner(spec, fingerprint=fingerprint, data_root=root, draining=draining)
            yield Counting(runner, self.ran, self.probed, self.measured, self.read, self.wall_time_of)

        return start

    def full_runner(self, spec: ExperimentSpec) -> LocalFullRunner:
        return LocalFullRunner(
            spec, fingerprint=self.digits.summary.fingerprint, data_root=self.digits.root,
            storage_path=self.runs_dir / "full_run",
        )  # fmt: skip

    def promote(self, spec: ExperimentSpec = SPEC) -> Outcome:
        with self.open(spec) as experiment:
            verdict = experiment.journal.view.verdict
            assert verdict is not None
            return promote(experiment, self.full_runner(spec), verdict.best)

    def answer(self, decision: Any, spec: ExperimentSpec = SPEC) -> None:
        with self.open(spec) as experiment:
            verdict = experiment.journal.view.verdict
            assert verdict is not None
            approve(
                experiment,
                Approval(
                    decision=decision, by="Ada", reason="because", inputs_digest=verdict.inputs_digest,
                    at=NOW.isoformat(),
                ),
            )  # fmt: skip

    @property
    def kinds(self) -> list[str]:
        """Kinds of the journal's records, in order."""
        return [entry.kind for entry in self.view.entries]

    @property
    def view(self) -> Any:
        return Journal.read(run_folder(self.runs_dir, SPEC.name))


@dataclass
class Counting:
    """A runner that notes which trials it was given and ended."""

    runner: LocalRunner
    ran: list[TrialSpec]
    probed: list[str]
    measured: IngestMeasurement | None
    read: DataRead | None
    wall_time_of: Callable[[TrialSpec], float] | None

    def make_ready(self, trials: Sequence[TrialSpec]) -> DataRead | None:
        return self.read

    def probe(self, model: str, n_samples: int) -> IngestMeasurement | None:
        self.probed.append(model)
        return self.measured

    def smoke(self) -> Sequence[Any]:
        return self.runner.smoke()

    def run(self, source: TrialSource, on_result: Callable[[TrialResult], bool]) -> None:
        def note(result: TrialResult) -> bool:
            self.ran.append(result.trial)
            timed = self.wall_time_of
            return on_result(result if timed is None else replace(result, wall_time_s=timed(result.trial)))

        self.runner.run(source, note)

    def close(self) -> None:
        self.runner.close()


def plain_page(spec: ExperimentSpec, data: Any, evidence: Any, verdict: Verdict) -> ReviewPage:
    return ReviewPage(description=verdict.reason, figures={}, html="")


@pytest.fixture(scope="module")
def swept(digits: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of a finished sweep of `SPEC`; tests work on copies."""
    lab = Lab(tmp_path_factory.mktemp("swept"), digits)
    lab.sweep()
    return lab.runs_dir


@pytest.fixture
def lab(digits: PreparedData, tmp_path: Path) -> Lab:
    """With an empty run folder."""
    return Lab(tmp_path / "empty", digits)


@pytest.fixture
def done(digits: PreparedData, swept: Path, tmp_path: Path) -> Lab:
    """With the sweep of `SPEC` already in the journal."""
    return Lab(Path(shutil.copytree(swept, tmp_path / "runs")), digits)


def with_sweep(**changes: Any) -> ExperimentSpec:
    return replace(SPEC, sweep=replace(SPEC.sweep, **changes))


def test_a_sweep_measures_the_plan_writes_it_down_and_ends_in_a_verdict(lab: Lab) -> None:
    plan = plan_grid(SPEC, lab.digits.summary)

    verdict = lab.sweep()

    assert verdict is not None
    assert lab.ran == list(plan)
    assert lab.kinds == ["smoke"] + ["launch", "trial"] * len(plan) + ["sweep_end", "verdict"]
    assert lab.view.sweep_end.cause == "plan done"
    assert lab.view.cut_off == ()
    assert lab.view.verdict == verdict
    assert set(lab.tracker.results) == {result.key for result in lab.view.results}
    assert lab.tracker.verdicts == [verdict]
    assert (verdict.n_trials, verdict.n_excluded) == (len(plan), 0)
    # A dollar a second for one worker.
    assert verdict.sweep_cost_usd == pytest.approx(sum(result.wall_time_s for result in lab.view.results))
    assert any(line.startswith("so far, up to 0.2 of the data: ") for line in lab.said)


def test_running_again_runs_nothing_and_gives_the_same_verdict_once(done: Lab) -> None:
    before = done.kinds

    verdict = done.sweep()

    assert done.ran == []
    assert verdict == done.view.verdict
    assert done.kinds == before
    assert "8 trials planned, 8 already in the journal, 0 to run" in done.said


@pytest.mark.parametrize(
    ("spec", "missing"),
    [
        (with_sweep(fractions=(0.05, 0.1, 0.2, 0.4, 0.8)), [(0.8, 0), (0.8, 1)]),
        (with_sweep(seeds=3), [(0.05, 2), (0.1, 2), (0.2, 2), (0.4, 2)]),
        (with_sweep(fractions=(0.1, 0.2, 0.4)), []),
    ],
    ids=["a fraction more", "a seed more", "a fraction less"],
)
def test_a_changed_plan_runs_only_what_is_missing(
    done: Lab, spec: ExperimentSpec, missing: list[tuple[float, int]]
) -> None:
    done.sweep(spec)

    assert [(trial.fraction, trial.seed) for trial in done.ran] == missing


def test_another_training_setting_is_another_question_and_is_measured_anew(done: Lab) -> None:
    spec = replace(SPEC, training=replace(SPEC.training, epochs=1))

    verdict = done.sweep(spec)

    assert verdict is not None
    assert len(done.ran) == 8
    assert (verdict.n_trials, verdict.n_excluded) == (8, 8)


def test_draining_keeps_what_was_measured_and_the_next_sweep_does_the_rest(lab: Lab) -> None:
    stopped = lab.sweep(draining=lambda: len(lab.ran) >= 3)

    assert stopped is None
    assert lab.kinds == ["smoke"] + ["launch", "trial"] * 3 + ["sweep_end"]
    assert lab.view.sweep_end.cause == "stopped by the user"
    assert lab.said[-1] == "stopped: 3 of 8 trials are in the journal; the same command goes on from there"

    verdict = lab.sweep()

    assert verdict is not None
    assert lab.ran == list(plan_grid(SPEC, lab.digits.summary))


def test_no_trial_starts_that_may_cost_more_than_the_cap_leaves_and_what_there_is_is_judged(done: Lab) -> None:
    spent = done.view.trials_usd
    longer = with_sweep(fractions=(0.05, 0.1, 0.2, 0.4, 0.6, 0.8), max_cost_usd=spent + 1e-6)

    verdict = done.sweep(longer)

    assert verdict is not None
    assert done.ran == []
    assert done.view.sweep_end.cause == "cap reached"
    assert any("no further trial starts: sweep.max_cost_usd of" in line and "may cost" in line for line in done.said)


def test_a_sweep_goes_as_far_as_its_cap_allows_and_never_passes_it(lab: Lab) -> None:
    lab.wall_time_of = lambda trial: 10 * trial.fraction  # and so many dollars
    longer = with_sweep(fractions=(0.05, 0.1, 0.2, 0.4, 0.6, 0.8), max_cost_usd=40.0)

    lab.sweep(longer)

    assert [trial.fraction for trial in lab.ran] == [f for f in (0.05, 0.1, 0.2, 0.4, 0.6) for _ in range(2)]
    assert lab.view.trials_usd == pytest.approx(27.0)  # 8 more might have been 24
    assert lab.view.sweep_end.cause == "cap reached"


def test_a_launch_that_a_crash_cut_off_counts_with_what_was_reserved_for_it(done: Lab) -> None:
    spent = done.view.trials_usd
    trial = TrialSpec(model="linear", fraction=0.6, workers=1, seed=0)
    longer = with_sweep(fractions=(0.05, 0.1, 0.2, 0.4, 0.6), max_cost_usd=spent + 1000)
    with done.open(longer) as experiment:
        key = trial_key(longer, done.digits.summary.fingerprint, trial)
        experiment.journal.append("launch", TrialLaunch(key=key, trial=trial, reserved_usd=1000.0))

    done.sweep(longer)

    assert [launch.reserved_usd for launch in done.view.cut_off] == [1000.0]
    assert "1 trial was cut off by a crash; caps count what was reserved for them, $1,000" in done.said
    assert done.ran == []
    assert done.view.sweep_end.cause == "cap reached"


def test_an_adaptive_sweep_ends_once_the_verdict_is_certain_and_goes_no_further_when_asked_again(lab: Lab) -> None:
    hopeless = replace(
        with_sweep(strategy="adaptive", fractions=(0.05, 0.1, 0.2, 0.4, 0.6), seeds=3),
        decision=DecisionSpec(min_gain_per_dollar=1e6),
    )

    verdict = lab.sweep(hopeless)

    assert verdict is not None
    assert (verdict.kind, lab.view.sweep_end.cause) == ("REJECT", "verdict certain")
    n_ran = len(lab.ran)
    assert len(set(lab.ran)) == n_ran < len(plan_grid(hopeless, lab.digits.summary)) == 15
    assert (lab.view.sweep_end.n_trials, lab.view.sweep_end.n_grid) == (n_ran, 15)

    assert lab.sweep(hopeless) == verdict
    assert len(lab.ran) == n_ran


def test_an_adaptive_sweep_keeps_its_cap(lab: Lab) -> None:
    lab.wall_time_of = lambda trial: 10 * trial.fraction  # and so many dollars
    spec = with_sweep(strategy="adaptive", fractions=(0.05, 0.1, 0.2, 0.4, 0.6), seeds=3, max_cost_usd=10.5)

    lab.sweep(replace(spec, decision=DecisionSpec(min_gain_per_dollar=0.001)))

    assert 5.0 <= lab.view.trials_usd <= 10.5  # 5 for what every forecast needs
    assert max(trial.fraction for trial in lab.ran) == 0.2  # 0.4 may cost 12


def test_launches_that_were_called_back_cost_nothing(done: Lab) -> None:
    longer = with_sweep(fractions=(0.05, 0.1, 0.2, 0.4, 0.6))
    with done.open(longer, draining=lambda: True) as experiment:
        course = Course(experiment)
        trial = course.next(())
        end = course.end()
        assert end.withdrawn == (trial_key(longer, done.digits.summary.fingerprint, trial),)
        experiment.journal.append("sweep_end", end)

    assert done.view.cut_off == ()


def test_a_trial_that_nobody_can_price_runs_alone(lab: Lab) -> None:
    capped = with_sweep(max_cost_usd=100.0)
    with lab.open(capped) as experiment:
        course = Course(experiment)
        first = course.next(())

        assert first is not None
        assert course.next((first,)) is None
        assert course.n_left > 0


def test_trials_of_another_training_neither_count_as_run_nor_tell_what_one_costs(done: Lab) -> None:
    spec = replace(with_sweep(strategy="adaptive"), training=replace(SPEC.training, epochs=1))

    verdict = done.sweep(spec)

    assert verdict is not None
    assert 5 <= len(done.ran) <= 8
    assert verdict.n_excluded == 8


def test_a_full_run_that_was_begun_and_has_not_ended_counts_against_the_budget(done: Lab) -> None:
    done.answer("approved")
    best = done.view.verdict.best
    tight = replace(SPEC, budget=BudgetSpec(max_cost_usd=done.view.trials_usd + 1.5 * best.bill.capped_usd.high))
    other = replace(best, candidate=replace(best.candidate, fraction=0.5, n_samples=719))
    with done.open(tight) as experiment:
        check_budget(experiment, best)
        experiment.journal.append("full_run_started", {"candidate": best.candidate, "forecast": best})

        check_budget(experiment, best)  # it goes on where it was
        with pytest.raises(BudgetError, match="raise the cap"):
            check_budget(experiment, other)


def test_every_attempt_at_a_trial_counts_against_the_cap(done: Lab) -> None:
    (first, *_) = done.view.results
    spent = done.view.trials_usd
    with done.open(SPEC) as experiment:
        failed = replace(first, status="failed", training=None, error="lost", cost_usd=100.0)
        experiment.journal.append("trial", failed)

    assert done.view.trials_usd == pytest.approx(spent + 100)
    assert done.view.results[0] == first


def test_the_budget_over_everything_stops_the_sweep_too(done: Lab) -> None:
    spent = sum(result.cost_usd for result in done.view.results)
    longer = replace(with_sweep(seeds=3), budget=BudgetSpec(max_cost_usd=spent / 2))

    verdict = done.sweep(longer)

    assert done.ran == []
    assert verdict is not None
    assert verdict.kind == "REJECT"  # nothing is left for a full run


def test_too_few_sizes_are_no_verdict_but_stay_in_the_journal(lab: Lab) -> None:
    with pytest.raises(EvidenceError, match="2 of at least 3 distinct sizes"):
        lab.sweep(with_sweep(fractions=(0.1, 0.2)))

    assert lab.kinds == ["smoke"] + ["launch", "trial"] * 4 + ["sweep_end"]


def test_a_failed_trial_is_recorded_and_run_again_next_time(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent / "backends"), *sys.path])
    lab.runs_dir.mkdir()
    options = {"folder": str(lab.runs_dir), "fault": "raise", "seed": 1}
    bad = ModelSpec(name="bad", options=options)
    broken = replace(SPEC, task="faulty_task:make_task", data=DataSpec(source="task"), models=(bad,))

    first = lab.sweep(broken)

    assert first is not None
    assert [result.status for result in lab.view.results].count("failed") == 4
    assert first.n_trials == 4
    lab.ran.clear()

    again = lab.sweep(broken)

    assert again is not None
    assert [trial.seed for trial in lab.ran] == [1, 1, 1, 1]
    assert len(lab.view.results) == 8


def test_no_full_run_starts_before_somebody_approved_it(done: Lab) -> None:
    with pytest.raises(NotApprovedError, match="experiment digits awaits approval; approve it first"):
        done.promote()

    assert "full_run_started" not in done.kinds


def test_no_full_run_starts_without_a_verdict(lab: Lab, done: Lab) -> None:
    verdict = done.view.verdict

    with lab.open(SPEC) as experiment, pytest.raises(NotApprovedError, match="has no verdict"):
        promote(experiment, lab.full_runner(SPEC), verdict.best)


def test_no_full_run_starts_after_a_rejection_even_if_it_was_approved_before(done: Lab) -> None:
    done.answer("approved")
    done.answer("rejected")

    with pytest.raises(NotApprovedError, match="is rejected"):
        done.promote()

    assert "full_run_started" not in done.kinds


def test_an_approval_does_not_outlive_the_evidence_it_was_given_on(done: Lab) -> None:
    done.answer("approved")
    more = with_sweep(seeds=3)
    done.sweep(more)

    with pytest.raises(NotApprovedError, match="awaits approval"):
        done.promote(more)

    assert "full_run_started" not in done.kinds


def test_an_approval_survives_what_the_verdict_does_not_rest_on(done: Lab) -> None:
    done.answer("approved")
    automatic = replace(SPEC, decision=replace(SPEC.decision, approval="auto"))
    done.sweep(automatic)

    done.promote(automatic)

    assert done.kinds[-1] == "outcome"


def test_a_full_run_that_does_not_fit_the_budget_is_refused_before_it_starts(done: Lab) -> None:
    best = done.view.verdict.best
    spent = sum(result.cost_usd for result in done.view.results)
    tight = replace(SPEC, budget=BudgetSpec(max_cost_usd=spent + best.cost_usd.high / 2))
    done.sweep(tight)
    done.answer("approved", tight)

    with pytest.raises(BudgetError, match=r"budget.max_cost_usd is .* raise the cap, or choose a cheaper candidate"):
        done.promote(tight)

    assert "full_run_started" not in done.kinds


def test_a_cap_counts_what_an_earlier_full_run_was_billed(done: Lab) -> None:
    done.answer("approved")
    done.promote()
    (outcome,) = done.view.outcomes
    done.sweep()
    swept = sum(result.cost_usd for result in done.view.results)
    room = done.view.verdict.best.bill.capped_usd.high + outcome.invoiced_usd / 2
    tight = replace(SPEC, budget=BudgetSpec(max_cost_usd=swept + room))
    done.sweep(tight)
    done.answer("approved", tight)

    with pytest.raises(BudgetError, match="raise the cap"):
        done.promote(tight)


def test_an_approved_full_run_is_put_beside_its_forecast(done: Lab) -> None:
    done.answer("approved")

    outcome = done.promote()

    assert done.kinds[-3:] == ["approval", "full_run_started", "outcome"]
    assert done.view.outcomes == (outcome,)
    assert done.tracker.outcomes == [outcome]
    assert outcome.candidate.n_samples == outcome.training.n_train == done.digits.summary.n_train
    forecast = outcome.forecast
    assert outcome.metric_hit == (forecast.metric.low <= outcome.training.accuracy <= forecast.metric.high)
    assert outcome.wall_time_hit == (forecast.wall_time_s.low <= outcome.wall_time_s <= forecast.wall_time_s.high)
    assert outcome.cost_hit == (forecast.cost_usd.low <= outcome.cost_usd <= forecast.cost_usd.high)
    # A dollar a second and a checkpoint of some kilobytes.
    assert outcome.cost_usd == pytest.approx(outcome.wall_time_s, rel=0.01)
    assert Path(outcome.checkpoint_path).exists()
    assert any(line.startswith("full run: epoch 2") for line in done.said)


def test_after_a_full_run_the_forecast_learns_how_long_launching_took(done: Lab) -> None:
    before = done.view.verdict
    done.answer("approved")
    done.promote()

    with done.open(SPEC) as experiment:
        after = judge(experiment)

    assert after.inputs_digest != before.inputs_digest
    # In process nothing is launched; the reference is of Ray Train, which takes ten seconds.
    assert after.best.wall_time_s.median < before.best.wall_time_s.median - 5


@dataclass
class Launches:
    """`ports.Evidence` as far as launching is concerned."""

    outcomes: tuple[Outcome, ...] = ()


@pytest.fixture(scope="module")
def launched(digits: PreparedData, swept: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """``launched([10.1, 9.8])``: evidence of full runs whose launching took so many seconds."""
    lab = Lab(Path(shutil.copytree(swept, tmp_path_factory.mktemp("launched") / "runs")), digits)
    lab.answer("approved")
    outcome = lab.promote()
    trained_s = outcome.training.time.total_s
    return lambda seconds: Launches(tuple(replace(outcome, wall_time_s=trained_s + s) for s in seconds))


def test_before_any_full_run_launching_is_forecast_from_the_reference() -> None:
    logs = np.log(REFERENCE_LAUNCHES_S)
    spread = logs.std(ddof=1) * np.sqrt(1 + 1 / len(logs))

    interval = launch_interval(Launches())

    low, high = np.exp(stats.t.interval(0.9, len(logs) - 1, loc=logs.mean(), scale=spread))
    assert (interval.low, interval.high) == (pytest.approx(low), pytest.approx(high))
    assert interval.level == 0.9


def test_one_launch_of_ones_own_sets_the_middle_and_the_reference_the_spread(launched: Any) -> None:
    reference = launch_interval(Launches())

    interval = launch_interval(launched([60.0]))

    assert interval.median == pytest.approx(60.0)
    assert interval.high / interval.low > reference.high / reference.low  # one value says less about the middle


def test_the_launch_interval_holds_nine_in_ten_of_further_launches(launched: Any) -> None:
    rng, n_hits, n = np.random.default_rng(0), 0, 600
    for _ in range(n):
        *past, coming = np.exp(rng.normal(np.log(20.0), 0.2, size=6))
        interval = launch_interval(launched(past))
        n_hits += interval.low <= coming <= interval.high

    assert n_hits / n == pytest.approx(0.9, abs=0.037)  # three standard errors of 600 draws


# --- the data path ----------------------------------------------------------------------------------------------------


def as_measured() -> IngestMeasurement:
    fast, slow = Rate(repeats=(9e5, 1e6, 1.1e6)), Rate(repeats=(900.0, 1000.0, 1100.0))
    return IngestMeasurement(device="cpu", batch_size=32, compute=slow, loader=fast, end_to_end=slow, n_rows=1438)


def test_what_was_read_ahead_and_probed_is_told_and_kept(lab: Lab) -> None:
    lab.measured = as_measured()
    lab.read = DataRead(n_rows=575, n_train=1438, train_bytes_read=40_000, validation_bytes_read=9_000, wall_time_s=0.1)

    lab.sweep()

    assert lab.kinds[:3] == ["data_read", "smoke", "ingest"]
    assert lab.view.data_reads == (lab.read,)
    assert [probe.measurement for probe in lab.view.probes] == [lab.measured]
    assert any("575 of 1,438 training rows are needed" in line for line in lab.said)
    assert any("the loader gives 1M samples/s, a worker computes 1k" in line for line in lab.said)
    assert lab.view.verdict.data_path.basis == "probe"


@pytest.mark.parametrize(
    ("change", "is_anew"),
    [
        ({}, False),
        ({"resources": ResourceSpec(loader_workers=2)}, True),
        ({"training": TrainingSpec(epochs=2, global_batch_size=16)}, True),
        ({"data": replace(SPEC.data, image_size=(8, 8))}, True),
    ],
    ids=["the same", "loader processes", "batch size", "image size"],
)
def test_a_probe_holds_for_the_data_the_model_and_the_loader_it_measured(
    lab: Lab, change: dict[str, Any], is_anew: bool
) -> None:
    lab.measured = as_measured()
    spec = with_sweep(fractions=(0.05, 0.1), seeds=1)
    with pytest.raises(EvidenceError):
        lab.sweep(spec)
    lab.probed.clear()
    with suppress(EvidenceError):
        lab.sweep(replace(spec, **change, sweep=replace(spec.sweep, fractions=(0.05, 0.1, 0.2))))

    assert lab.probed == (["linear"] if is_anew else [])


def test_a_probe_that_is_not_wanted_is_not_made(lab: Lab) -> None:
    lab.measured = as_measured()
    lab.sweep(with_sweep(probe_s=0.0))

    assert lab.probed == []
