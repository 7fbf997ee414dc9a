"""Waiting for a person: the journal and the tag ``approval`` in MLflow are looked at until one of them has an answer.

Nothing is held meanwhile: the journal's lock is taken only to write an answer down, so that `approve` works in another
terminal, and Ctrl-C at any moment loses nothing. MLflow may be away for as long as it likes.

What counts. An answer on the command line counts always. A text in the tag counts once, and never lifts an earlier
rejection: an approval counts while the verdict has no answer, a rejection whenever it is not the one read last. So
neither an old text that nobody took out nor one that was written before somebody rejected starts anything.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.approval import Answer, NotUnderstood, answer_template, parse_answer
from orchestrator.errors import LockedError, TrackingError

if TYPE_CHECKING:
    from orchestrator.cli.console import Narrator
    from orchestrator.results import Approval
    from orchestrator.spec import ExperimentSpec
    from orchestrator.tracking.journal import JournalView
    from orchestrator.tracking.review_store import ReviewRun, ReviewStore

POLL_S = 3.0
"""A person who set the tag sees the run start before they wonder; one small query each time."""
REJECTED_EXIT_CODE, WAITING_EXIT_CODE = 11, 12


@dataclass
class _Page:
    """The run's page in MLflow, as seen by one who waits."""

    spec: ExperimentSpec
    narrator: Narrator
    store: ReviewStore | None
    is_away: bool = False
    told: str = ""
    """The last `approval.answer` that was written, so that it is written once."""
    announced_for: str = ""
    refreshed_for: str = ""
    run: ReviewRun | None = field(default=None)

    def look(self) -> ReviewRun | None:
        """The run with its tags as they are now; None while the store is away, which is said once, or has no run."""
        from orchestrator.tracking.review_store import find_run

        if self.store is None:
            return None
        try:
            self.run = find_run(self.store, self.spec.name)
        except TrackingError as error:
            if not self.is_away:
                self.narrator.say(f"{error}; going on without it until it is back")
            self.is_away = True
            return None
        if self.is_away:
            self.narrator.say("MLflow is back")
            self.is_away = False
        return self.run

    def tell(self, run: ReviewRun, message: str) -> None:
        """What became of the tag's text, for the one who wrote it: on the page, and once here."""
        from orchestrator.tracking.mlflow_layout import APPROVAL_ANSWER

        if message == self.told:
            return
        self.told = message
        self.narrator.say(f"the tag approval in MLflow: {message}")
        if self.store is not None and run.tags.get(APPROVAL_ANSWER) != message:
            try:
                self.store.set_tags(run, {APPROVAL_ANSWER: message})
            except TrackingError as error:
                self.narrator.say(f"{error}; it could not be told there")


class _Journal:
    """The journal of a run folder, read again only when its file has changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: tuple[tuple[int, int], JournalView] | None = None

    def view(self) -> JournalView:
        from orchestrator.tracking.journal import FILE_NAME, Journal

        try:
            stat = (self._folder / FILE_NAME).stat()
        except OSError:
            return Journal.read(self._folder)  # which says what is wrong, and the way out
        mark = (stat.st_mtime_ns, stat.st_size)
        if self._known is None or self._known[0] != mark:
            self._known = (mark, Journal.read(self._folder))
        return self._known[1]


def answer_in_mlflow(spec: ExperimentSpec, view: JournalView, narrator: Narrator) -> Answer | None:
    """What somebody answered to the standing verdict in MLflow and is not in the journal yet; one look."""
    return _new_answer(_page(spec, narrator), view)


def wait_for_answer(
    spec: ExperimentSpec,
    folder: Path,
    narrator: Narrator,
    *,
    record: Callable[[Answer], None],
    show: Callable[[], None] = lambda: None,
    timeout_s: float | None = None,
    poll_s: float = POLL_S,
) -> Approval:
    """Wait until somebody answers the standing verdict; the answer is in the journal when this returns.

    Args:
        folder: The run folder, whose journal must hold a verdict.
        record: Writes an answer from MLflow into the journal; may raise LockedError, then it is tried again.
        show: Brings MLflow up to date with the journal; called once when the page shows another verdict.
        timeout_s: Longest wait; None waits for as long as it takes.

    Raises: SystemExit: nobody answered in time, with exit code 12.
    """
    page, journal, began = _page(spec, narrator), _Journal(folder), time.monotonic()
    while True:
        view = journal.view()
        if view.approval is not None and (answer := view.approval).decision == "rejected":
            return answer
        found = _new_answer(page, view)
        if found is not None and _recorded(record, found, narrator):
            continue
        if view.approval is not None and found is None:
            return view.approval
        _refresh(page, view, show)
        _announce(page, view)
        if timeout_s is not None and time.monotonic() - began >= timeout_s:
            narrator.say(f"nobody answered within {timeout_s:g} s; the verdict stands, `promote {spec.name}` goes on")
            sys.exit(WAITING_EXIT_CODE)
        time.sleep(poll_s)


def _page(spec: ExperimentSpec, narrator: Narrator) -> _Page:
    from orchestrator.tracking.mlflow_store import check_store
    from orchestrator.tracking.review_store import open_store

    is_usable = check_store(spec.tracking.uri) is None
    return _Page(spec=spec, narrator=narrator, store=open_store(spec.tracking.uri) if is_usable else None)


def _new_answer(page: _Page, view: JournalView) -> Answer | None:
    verdict, run = view.verdict, page.look()
    if verdict is None or run is None:
        return None
    found = parse_answer(run.tags.get("approval", ""), verdict)
    if isinstance(found, NotUnderstood):
        page.tell(run, found.why)
        return None
    if found is None or _was_read(found, view):
        return None
    if found.decision == "approved" and view.approval is not None:
        if view.approval.decision == "rejected":
            page.tell(run, f"not taken up: {view.approval.by} rejected this verdict; only `approve` can lift that")
        return None
    return found


def _was_read(found: Answer, view: JournalView) -> bool:
    read = [answer for answer in view.answers if answer.source == "MLflow tag"]
    return bool(read) and (read[-1].decision, read[-1].by, read[-1].reason) == (found.decision, found.by, found.reason)


def _recorded(record: Callable[[Answer], None], found: Answer, narrator: Narrator) -> bool:
    narrator.say(f"{found.decision} in MLflow by {found.by}: {found.reason}")
    try:
        record(found)
    except LockedError as error:
        narrator.say(f"{error}; trying again")
        return False
    return True


def _refresh(page: _Page, view: JournalView, show: Callable[[], None]) -> None:
    """Show the standing verdict where the page has another, once for each verdict."""
    from orchestrator.tracking.mlflow_layout import INPUTS

    digest = "" if view.verdict is None else view.verdict.inputs_digest
    if page.store is None or page.is_away or page.refreshed_for == digest:
        return
    if page.run is not None and page.run.tags.get(INPUTS) == digest:
        return
    page.refreshed_for = digest
    try:
        show()
    except LockedError as error:
        page.narrator.say(f"MLflow shows another verdict, and cannot be brought up to date: {error}")
        return
    page.look()


def _announce(page: _Page, view: JournalView) -> None:
    """Once for each verdict, and once its page is known: what is waited for, where, and the text to paste."""
    if view.verdict is None:
        return
    shown = view.verdict.inputs_digest + (page.run.run_id if page.run is not None else "")
    if page.announced_for == shown:
        return
    page.announced_for = shown
    say, name, verdict = page.narrator.say, page.spec.name, view.verdict
    say(f"waiting for an answer to: {verdict.kind}, {verdict.reason}")
    if page.run is not None:
        say(f"  in MLflow: set the tag approval of {page_address(page.spec, page.run)}")
        say(f"    to:  {answer_template(verdict)}")
        say(f"    or:  {answer_template(verdict, 'rejected')}")
    override = "" if verdict.kind == "PROMOTE" else " --override REASON"
    say(f"  or in another terminal: orchestrator approve {name} --runs-dir {page.spec.runs_dir}{override}")
    say("  Ctrl-C stops the waiting and changes nothing")


def page_address(spec: ExperimentSpec, run: ReviewRun) -> str:
    """Where the run's page is: on the server, or on the one that `ui` starts."""
    from orchestrator.tracking.mlflow_store import mask

    uri = spec.tracking.uri
    if uri.startswith(("http://", "https://")):
        return f"{mask(uri).rstrip('/')}/{run.path}"
    return f"http://127.0.0.1:5000/{run.path} (`orchestrator ui {spec.name}` serves it)"
