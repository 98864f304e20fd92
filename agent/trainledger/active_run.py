"""Runs of this process: `init`, the run object, and how runs end.

After `init` has returned nothing here raises into training, starts a thread or installs a signal handler. A
forked child opens a journal of its own at its first log(); `finish` and the end of the interpreter append one
record each that says how this process ended.
"""

import atexit
import itertools
import os
import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from trainledger_schemas.clock import SystemClock, wall_ns
from trainledger_schemas.ids import id_text, random_id

from .capture import start_capture
from .changes import Change
from .claims import exit_claim, run_identity, settings_claim, started_claim, traceback_text
from .identity import Membership, choose_run, name_mark, parent_variable
from .journal import JournalWriter
from .launch import Launch, detect_launch
from .local_api import ask_run_cost
from .notices import Notices
from .placement import Placement, choose_folder
from .redaction import redact_argv
from .settings import PARENT, RUN_ID, WRAPPED, Settings, process_environment
from .shapes import RowWriter
from .spelling import nearest_name
from .values import short_key

__all__ = ["Run", "current_run", "finish_current", "init", "log_current"]

FINISH_POLL_S = 0.05
_STATUSES = ("finished", "failed", "killed")


class Run:
    """One run as this process sees it. Made by `init`.

    `log(data, step=None)`: record a dict of numbers (nested dicts join with /; text becomes text points; see
    `values`). Without a step calls are counted. Steps may come in any order. The point is safe from the death of
    the process when the call returns. Never raises.
    """

    def __init__(
        self, identity: dict[str, Any], membership: Membership, launch: Launch, place: Placement
    ) -> None:
        self.id = id_text(membership.run_id)
        self.url: str | None = None
        self.project: str = identity["project"]
        self.name: str | None = identity["name"]
        self._identity = identity
        self._membership = membership
        self._launch = launch
        self._place = place
        self._settings = Settings.from_env(process_environment())
        self._notices = Notices()
        self._journal: JournalWriter | None = None
        self._ended = False
        self._restore: dict[str, str | None] = {}
        self._rows = RowWriter(self._open_journal, self._notices)
        self.config: Change = Change(self._record_config, {})
        self.summary: Change = Change(lambda changes: self._claim(settings_claim("summary_set", changes)), {})
        self.log: Callable[..., None] = _log_function(self._rows)

    def define_metric(self, key: str, goal: str | None = None) -> None:
        """Say how a metric is to be read: goal `min` or `max` decides what `best` means."""
        if goal not in (None, "min", "max"):
            self._notices.once(
                f"goal {goal}", f"goal {goal!r} is neither 'min' nor 'max'; the metric has no goal"
            )
            goal = None
        self._claim(
            {"type": "metric_defined", "at_us": wall_ns() // 1000, "key": short_key(str(key)), "goal": goal}
        )

    def cost(self) -> str | None:
        """What this run has cost so far, as decimal text in its currency; None if unknown. At most 200 ms."""
        return ask_run_cost(self._settings.home / "api.sock", self.id)

    def finish(self, status: str | None = None) -> None:
        """End the run in this process. `status`: finished (default), failed or killed. Returns at once."""
        if status is not None and status not in _STATUSES:
            self._notices.once(
                "status", f"status {status!r} is not one of {', '.join(_STATUSES)}; taken as failed"
            )
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
            self._end(_claim_of_error(kind, error, trace))

    def _open_journal(self) -> JournalWriter | None:
        if self._journal is None and not self._ended and self._place.folder is not None:
            try:
                self._journal = JournalWriter.create(
                    self._place,
                    run_id=self._membership.run_id,
                    parent_journal=self._membership.parent_journal,
                    settings=self._settings,
                    ids=random_id,
                    clock=SystemClock(),
                )
            except (OSError, ValueError) as error:
                self._notices.once(
                    "journal", f"nothing is recorded: {self._place.folder} cannot be written: {error}"
                )
                self._place = Placement(None, (), False, None)
                return None
            self._journal.append_claim(
                started_claim(self._identity, self._membership, self._launch, dict(self.config))
            )
        return self._journal

    def _record_config(self, changes: list[dict[str, Any]]) -> None:
        self._claim(settings_claim("params_changed", changes))

    def _claim(self, claim: dict[str, Any]) -> None:
        journal = self._open_journal()
        if journal is not None:
            try:
                journal.append_claim(claim)
            except (ValueError, TypeError) as error:
                self._notices.once("claim", f"{claim['type']} could not be recorded: {error}")

    def _end(self, claim: dict[str, Any]) -> None:
        if self._ended:
            return
        if self._journal is not None:
            self._claim(claim)
            self._rows.forget()
            folder = self._journal.folder
            self._journal.close()
            self._journal = None
            self._wait_for_agent(folder)
        self._ended = True
        self._restore_environment()
        self._notices.sum_up()
        _leave(self)

    def _wait_for_agent(self, folder: Any) -> None:
        clock = SystemClock()
        end_ns = clock.monotonic_ns() + int(self._settings.finish_wait_s * 1e9)
        while clock.monotonic_ns() < end_ns and any(folder.glob("*.tlj")):
            clock.sleep(FINISH_POLL_S)

    def _export(self, mark: str) -> None:
        environ = process_environment()
        journal = self._journal
        exported = {RUN_ID: self.id, WRAPPED: ""}
        if journal is not None:
            exported[PARENT] = parent_variable(id_text(journal.journal_id), mark)
        for name, value in exported.items():
            self._restore[name] = environ.get(name)
            if value:
                environ[name] = value
            else:
                environ.pop(name, None)

    def _restore_environment(self) -> None:
        environ = process_environment()
        for name, value in self._restore.items():
            if value is None:
                environ.pop(name, None)
            else:
                environ[name] = value
        self._restore = {}

    def _after_fork(self) -> None:
        journal = self._journal
        self._rows.forget()
        self._journal = None
        if journal is not None:
            journal.forget_inherited()
            # The child writes as a child of the parent's process, from its own first call on.
            self._membership = Membership(self._membership.run_id, "parent", journal.journal_id)


def init(
    project: str | None = None,
    *,
    experiment: str | None = None,
    team: str | None = None,
    name: str | None = None,
    config: Mapping[Any, Any] | None = None,
    tags: Any = None,
    group: str | None = None,
    resume: str | None = None,
    mode: str | None = None,
    **unknown: Any,
) -> Run:
    """Start, or join, a run. Everything is optional; see README for what each means.

    Raises TypeError or ValueError for wrong arguments; an unknown keyword is one warning with the nearest name.
    """
    settings = Settings.from_env(process_environment())
    notices = Notices()
    for warning in settings.warnings:
        notices.once(warning, warning)
    _warn_unknown(unknown, notices)
    _check_arguments(config, mode)
    if _current:
        notices.say("init was called again: the run before it is finished")
        finish_current()
    disabled = (mode or settings.mode) == "disabled"
    launch = detect_launch(process_environment())
    mark = name_mark(name, group) if name is not None or group is not None else None
    membership = choose_run(
        settings,
        launch,
        ids=random_id,
        resume=resume,
        mark=mark,
        may_join_wrapper=not _state["joined_wrapper"],
    )
    _state["joined_wrapper"] = _state["joined_wrapper"] or membership.joined == "wrapper"
    told = {"project": project, "experiment": experiment, "team": team, "name": name, "group": group}
    identity = run_identity(settings, told, tags)
    place = Placement(None, (), False, None) if disabled else choose_folder(settings)
    run = Run(identity, membership, launch, place)
    run.config = Change(run._record_config, dict(config or {}))
    _current.append(run)
    _install_hooks()
    if not disabled:
        _begin(run, place, mark or name_mark(None, None), notices, capture=settings.capture)
    return run


def current_run() -> Run | None:
    """The run that `init` made last, unless it has ended."""
    return _current[-1] if _current else None


def log_current(data: Mapping[Any, Any], step: int | None = None) -> None:
    """`log` of the current run; without one, a warning."""
    if _current:
        _current[-1].log(data, step)
    else:
        _notices.once("log", "log() without a run: call trainledger.init() first; nothing is recorded")


def finish_current(status: str | None = None) -> None:
    """`finish` of the current run; without one, nothing."""
    if _current:
        _current[-1].finish(status)


_current: list[Run] = []
_notices = Notices()
_state = {"hooks": False, "joined_wrapper": False}


def _log_function(rows: RowWriter) -> Callable[..., None]:
    by_length, slow = rows.by_length, rows.slow
    next_step = itertools.count().__next__

    def log(data: Mapping[Any, Any], step: int | None = None) -> None:
        """Record one call; see Run."""
        if step is None:
            step = next_step()
        try:
            row = by_length[len(data)]
        except (KeyError, TypeError):
            row = slow
        row(data, step)

    return log


def _begin(run: Run, place: Placement, mark: str, notices: Notices, *, capture: bool) -> None:
    journal = run._open_journal()
    for reason in place.reasons:
        notices.once(reason, reason)
    if journal is None:
        notices.say(f"run {run.id}: nothing is recorded, no folder can be written")
        return
    reader = place.reader or "no agent reads it yet; `trainledger up` or any command will"
    notices.say(f"run {run.id} in {journal.folder}; {reader}")
    run._export(mark)
    if capture and run._membership.joined in ("new", "resume", "environment") and not run._launch.local_rank:
        main_file = getattr(sys.modules.get("__main__"), "__file__", None)
        argv = redact_argv([str(argument) for argument in getattr(sys, "orig_argv", sys.argv)])
        start_capture(
            run._membership.run_id,
            journal.journal_id,
            journal.folder.parent,
            append_by_write=place.append_by_write,
            argv=argv,
            main_file=main_file,
        )


def _leave(run: Run) -> None:
    if run in _current:
        _current.remove(run)


def _install_hooks() -> None:
    if _state["hooks"]:
        return
    _state["hooks"] = True
    atexit.register(_at_exit)
    os.register_at_fork(after_in_child=_after_fork_in_child)
    previous = sys.excepthook

    def on_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        for run in list(_current):
            if run._journal is not None:
                run._end(_claim_of_error(kind, error, trace))
        previous(kind, error, trace)

    sys.excepthook = on_exception


def _at_exit() -> None:
    for run in list(_current):
        run._end(exit_claim("finished", "exit", message="exit status not visible"))


def _after_fork_in_child() -> None:
    for run in _current:
        run._after_fork()


def _claim_of_error(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> dict[str, Any]:
    if issubclass(kind, KeyboardInterrupt):
        return exit_claim("killed", "exception", message="KeyboardInterrupt", signal=2)
    if isinstance(error, SystemExit):
        if error.code in (None, 0):
            return exit_claim("finished", "finish", code=0)
        code = error.code if isinstance(error.code, int) else 1
        return exit_claim("failed", "exception", message=f"SystemExit: {error.code}", code=code)
    return exit_claim("failed", "exception", message=traceback_text(kind, error, trace))


def _check_arguments(config: Any, mode: str | None) -> None:
    if config is not None and not isinstance(config, Mapping):
        raise TypeError(f"config is a {type(config).__name__}; give a dict of parameters")
    if mode not in (None, "on", "disabled"):
        raise ValueError(f"mode {mode!r} is neither 'on' nor 'disabled'")


def _warn_unknown(unknown: Mapping[str, Any], notices: Notices) -> None:
    known = ("project", "experiment", "team", "name", "config", "tags", "group", "resume", "mode")
    for keyword in unknown:
        nearest = nearest_name(keyword, known)
        notices.say(
            f"init() has no argument {keyword!r}" + (f"; did you mean {nearest!r}?" if nearest else "")
        )
