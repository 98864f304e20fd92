"""Runs of this process: the run object, and how runs end.

After `init` has returned nothing here raises into training, starts a thread or installs a signal handler. A
forked child opens a journal of its own at its first log(); `finish` and the end of the interpreter append one
record each that says how this process ended. What a signal handler of the user's throws passes through.
"""

import atexit
import os
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from trainledger_schemas.clock import SystemClock, wall_ns
from trainledger_schemas.ids import id_text, random_id

from .changes import Change
from .claims import (
    claim_of_error,
    exit_claim,
    settings_claim,
    split_settings,
    started_claim,
)
from .declared_data import DeclaredData
from .identity import Membership, name_mark, parent_variable
from .interruption import is_from_handler
from .journal import JournalWriter
from .launch import Launch
from .local_api import ask_run_cost
from .log_call import log_function
from .notices import Notices
from .placement import Placement, choose_folder
from .settings import PARENT, RUN_ID, WRAPPED, Settings, process_environment, set_variables
from .shapes import RowWriter
from .values import settings_of, short_key

if TYPE_CHECKING:
    from decimal import Decimal

    from .launch_record import LaunchRecord
    from .notebook_cells import CellRecorder
    from .runtime_facts import RuntimeFacts

__all__ = ["Run", "current_run", "finish_current", "install_hooks"]

FINISH_POLL_S = 0.05
_STATUSES = ("finished", "failed", "killed")


class Run(DeclaredData):
    """One run as this process sees it. Made by `init`.

    `log(data, step=None)`: record a dict of values. The point is safe from the death of the process when the
    call returns. Never raises.

    data: numbers of any kind (bool, int, float, numpy and torch scalars, arrays of one element) become doubles;
    an int beyond their range an infinity; NaN and infinities stay. Text, bytes, lists and tuples become text
    points. Nested dicts join their keys with /. None, whole arrays and anything else is skipped, counted, and
    named once on stderr. Keys that are no text become text; keys over 1,024 bytes are cut, with a hash. An empty
    dict records nothing. The module `values` has the whole table.

    step: a whole number of 64 bits, in any order, repeated or not; a float is cut to its whole part, what is no
    number counts as 0, and both are told once. Without a step, calls without one are counted from 0. Further
    arguments are told once and left out.

    `config` and `summary` are mappings whose changes are recorded; `run.config.lr = 3` is `run.config["lr"] = 3`.
    """

    def __init__(
        self,
        identity: dict[str, Any],
        membership: Membership,
        launch: Launch,
        *,
        settings: Settings,
        place: Placement,
        config: Mapping[Any, Any],
    ) -> None:
        self.id = id_text(membership.run_id)
        self.url: str | None = None
        self.project: str = identity["project"]
        self.name: str | None = identity["name"]
        self._identity = identity
        self._membership = membership
        self._launch = launch
        self._place = place
        self._settings = settings
        self._notices = Notices()
        self._journal: JournalWriter | None = None
        self._opening = threading.RLock()
        self._ended = False
        self._mark = name_mark(None, None)
        # By log() or by a passed run, not by init: it gives way to a run that is passed.
        self._is_joined = False
        self._launch_record: LaunchRecord | None = None
        self._held = []
        self._cells: CellRecorder | None = None
        self._runtime: RuntimeFacts | None = None
        self._restore: dict[str, str | None] = {}
        self._rows = RowWriter(self._open_journal, self._notices)
        self.config: Change = Change(lambda changes: self._record("params_changed", changes), config)
        self.summary: Change = Change(lambda changes: self._record("summary_set", changes), {})
        self.log: Callable[..., None] = log_function(self._rows, self._notices)

    def define_metric(self, key: str, goal: str | None = None, **unknown: Any) -> None:
        """Say how a metric is to be read: goal `min` or `max` decides what `best` means."""
        self._notices.unknown_arguments("define_metric", unknown, ("key", "goal"))
        if goal not in (None, "min", "max"):
            self._notices.once("goal", "goal is neither 'min' nor 'max'; the metric has no goal")
            goal = None
        self._claim(
            {"type": "metric_defined", "at_us": wall_ns() // 1000, "key": short_key(str(key)), "goal": goal}
        )

    def cost(self) -> "Decimal | None":
        """What this run has cost so far, all ranks and attempts, in its currency, or None. Takes at most 200 ms.

        None while it is unknown: in about the first 30 s of a run (a node says what it did every 30 s, and is billed
        by that), without `trainledger up` on this machine, or while any hour of it has no price (`trainledger price
        ls`) or another currency. So a sweep that stops itself asks `if (cost := run.cost()) is not None and cost > 20`.
        """
        return ask_run_cost(self._settings.home / "api.sock", self.id)

    def finish(self, status: str | None = None, **unknown: Any) -> None:
        """End the run in this process. `status`: finished (default), failed or killed. Returns at once.

        A second call does nothing; log() after it records nothing, and says so once.
        """
        self._notices.unknown_arguments("finish", unknown, ("status",))
        if status is not None and status not in _STATUSES:
            self._notices.once("status", f"status is not one of {', '.join(_STATUSES)}; taken as failed")
            status = "failed"
        self._end(exit_claim(status or "finished", "finish"))

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or error is None:
            self.finish()
        else:
            self._end(claim_of_error(kind, error, trace))

    def _open_journal(self) -> JournalWriter | None:
        if self._journal is not None:
            return self._journal
        if self._ended:
            self._notices.once("ended", "log() after finish(): nothing is recorded")
            return None
        with self._opening:
            failed: dict[Path, str] = {}
            while self._journal is None and self._place.folder is not None:
                try:
                    self._take_journal(self._create_journal())
                except Exception as error:  # disk, budget, limits: never trouble of the training
                    if is_from_handler(error):
                        raise
                    failed[self._place.folder] = str(error)
                    self._place = choose_folder(self._settings, failed)
                    for reason in self._place.reasons:
                        self._notices.once(reason, reason)
        return self._journal

    def _create_journal(self) -> JournalWriter:
        return JournalWriter.create(
            self._place,
            run_id=self._membership.run_id,
            parent_journal=self._membership.parent_journal,
            settings=self._settings,
            ids=random_id,
            clock=SystemClock(),
        )

    def _take_journal(self, journal: JournalWriter) -> None:
        if self._journal is not None:
            journal.remove()  # a signal handler that logged in between has made one
            return
        journal.on_trouble = self._tell_of_drops
        claim = started_claim(self._identity, self._membership, self._launch, self.config)
        try:
            is_written = journal.append_claim(claim)
        except ValueError:  # thousands of strange characters in each of its texts
            is_written = journal.append_claim(claim | {"argv": [], "tags": [], "config": []})
        if not is_written:
            journal.remove()
            raise OSError("there is no room for the first record")
        for part in split_settings(settings_of(self.config))[1:]:
            journal.append_claim(settings_claim("params_changed", part))
        self._journal = journal
        self._see_runtime("init")

    def _see_runtime(self, stage: str) -> None:
        """Record what only this process can know; of a worker of a process that has the run, nothing."""
        if self._membership.joined == "parent" or not self._settings.capture:
            return
        try:
            # Not at the top: a worker and a training without a capture need not load it.
            from .runtime_facts import RuntimeFacts

            if self._runtime is None:
                self._runtime = RuntimeFacts(self.config)
            self._claim(self._runtime.claim(stage))
        except Exception as error:  # whatever state the libraries of a training are in
            if is_from_handler(error):
                raise
            self._notices.count("descriptions of random generators")

    def _tell_of_drops(self, reason: str) -> None:
        self._notices.once(
            "drops", f"points are dropped and counted until there is room (tried each second): {reason}"
        )

    def _record(self, kind: str, changes: list[dict[str, Any]]) -> None:
        for part in split_settings(changes):
            self._claim(settings_claim(kind, part))

    def _claim(self, claim: dict[str, Any]) -> None:
        journal = self._open_journal()
        if journal is None:
            return
        try:
            is_written = journal.append_claim(claim)
        except (ValueError, TypeError) as error:
            if is_from_handler(error):
                raise
            is_written = False
        if not is_written:
            self._notices.count(f"records of type {claim['type']}")

    def _end(self, claim: dict[str, Any]) -> None:
        if self._ended:
            return
        if self._cells is not None:
            self._cells.stop()
        journal = self._journal  # a handler or a thread may end the run at the same time
        if journal is not None:
            self._see_runtime("finish")
            self._claim(claim)
            journal.close()
            self._journal = None
            self._wait_for_agent(journal)
        self._ended = True
        if self._launch_record is not None and claim["status"] == "finished":
            self._launch_record.end()
        # After the journal is closed: shapes that a thread defines now must not reach it under old numbers.
        self._rows.forget()
        self._restore_environment()
        if journal is not None and journal.dropped_rows:
            points, rows = journal.dropped_points, journal.dropped_rows
            self._notices.say(f"{points} values in {rows} rows were dropped for want of room")
        self._notices.sum_up()
        if self in _current:
            _current.remove(self)

    def _wait_for_agent(self, journal: JournalWriter) -> None:
        if not self._settings.finish_wait_s:
            return
        # Not at the top: only who waits needs it.
        from .unread_journals import is_unread

        clock = SystemClock()
        end_ns = clock.monotonic_ns() + int(self._settings.finish_wait_s * 1e9)
        while clock.monotonic_ns() < end_ns and (
            self._is_storing() or is_unread(journal.folder, journal.journal_id)
        ):
            clock.sleep(FINISH_POLL_S)

    def _variables(self) -> dict[str, str | None]:
        """What a process of this one needs to join: as a child of this one's journal, if there is one."""
        journal = self._membership.parent_journal if self._journal is None else self._journal.journal_id
        return {RUN_ID: self.id, PARENT: parent_variable(id_text(journal), self._mark), WRAPPED: None}

    def _export(self, exported: Mapping[str, str | None]) -> None:
        environ = process_environment()
        self._restore = {name: environ.get(name) for name in exported}
        set_variables(exported)

    def _restore_environment(self) -> None:
        restore, self._restore = self._restore, {}
        set_variables(restore)

    def _after_fork(self) -> None:
        journal, self._journal = self._journal, None
        self._opening = threading.RLock()
        self._rows.forget()
        # The variables name the parent, which is what this process and its children join.
        self._restore = {}
        if journal is not None:
            journal.forget_inherited()
            self._launch_record = None
            # The child writes as a child of the parent's process, from its own first call on.
            self._membership = Membership(self._membership.run_id, "parent", journal.journal_id)


def current_run() -> Run | None:
    """The run that `init` made last, unless it has ended."""
    return _current[-1] if _current else None


def finish_current(status: str | None = None, **unknown: Any) -> None:
    """`finish` of the current run; without one, nothing."""
    if _current:
        _current[-1].finish(status, **unknown)


_current: list[Run] = []
_hooks: list[bool] = []


def install_hooks() -> None:
    if _hooks:
        return
    _hooks.append(True)
    atexit.register(_at_exit)
    os.register_at_fork(after_in_child=_after_fork_in_child)
    previous = sys.excepthook

    def on_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        try:
            for run in list(_current):
                run._end(claim_of_error(kind, error, trace))
        finally:
            previous(kind, error, trace)

    sys.excepthook = on_exception


def _at_exit() -> None:
    for run in list(_current):
        run._end(exit_claim("finished", "exit", message="exit status not visible"))


def _after_fork_in_child() -> None:
    for run in _current:
        run._after_fork()
