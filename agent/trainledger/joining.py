"""Runs in worker processes: `trainledger.log()` without `init`, and a `run` that is passed to another process.

A process whose environment names a run (a child by spawn, a worker of joblib, of an executor, a command under the
wrapper) joins it at its first `trainledger.log()`, by the same rules as `init` has: the same membership, one journal,
`ended` when it ends. It starts no process and says nothing of a run that its parent has told already. A process that
never logs makes no journal; one that has had a run, and ended it, joins nothing by itself.

`run` itself can be passed (an argument of a task, a field of an object): what arrives writes for the same run, also
where the environment knows none; in the process it came from, and in its forks, it is the run itself.

Workers that are used again (joblib keeps its own for five minutes, an executor as long as it lives) and those of a
fork server have the environment of their birth. When the run that it names has ended in their parent, and the parent
is at another, `trainledger.log()` goes on in that one, said once, and `init` joins that one; when the parent has none,
they stay in the old one. A process that outlives the run it was started for, while its parent begins another, should
say which it means: pass `run`.
"""

import copyreg
import os
import threading
from collections.abc import Mapping
from typing import Any

from trainledger_schemas.ids import id_bytes

from .active_run import Run, _current, finish_current
from .identity import Membership, is_told
from .interruption import is_from_handler
from .launch import Launch
from .notices import Notices
from .parent_run import ParentRun, export_later_run, open_parent_run
from .placement import Placement, choose_folder
from .redaction import hide_values_of
from .settings import RUN_ID, Settings, process_environment
from .starting import add_passed_run, has_begun, start_run

__all__ = ["log_current"]

_DEPTH_MAX = 8

_notices = Notices()
_lock = threading.RLock()
_joining: list[bool] = []
_tried: list[bool] = []
# The parent's run that this process joined, if it has to be watched; at most one.
_watched: list[ParentRun] = []


def log_current(data: Any = None, step: int | None = None, *more: Any, **unknown: Any) -> None:
    """`log` of the current run, or of the run that the environment names; without one, a warning."""
    if _current:
        if _watched:
            _follow()
        if more or unknown:
            _current[-1].log(data, step, *more, **unknown)
        else:
            _current[-1].log(data, step)
        return
    _join()
    if _current:
        _current[-1].log(data, step, *more, **unknown)
    else:
        _notices.once("log", "log() without a run: call trainledger.init() first; nothing is recorded")


def _join() -> None:
    """Join the run that the environment names, once; never raises into training."""
    if _tried or has_begun() or RUN_ID not in process_environment():
        return
    with _lock:
        # Not again by a thread that waited, nor by a signal handler in the middle.
        if _current or has_begun() or _joining:
            return
        _joining.append(True)
        try:
            settings = Settings.from_env(process_environment())
            if is_told(settings):
                export_later_run(settings)
                _watch()
                start_run({}, config={}, notices=_notices, from_log=True)
        except Exception as error:  # whatever the environment holds: the training goes on
            if is_from_handler(error):
                raise
            _notices.once("join", f"the run cannot be joined ({type(error).__name__}: {error})")
        finally:
            _joining.clear()
            _tried.append(True)


def _watch() -> None:
    """Watch the run of the parent that the environment names, if there is one."""
    while _watched:
        _watched.pop().close()
    parent = open_parent_run(Settings.from_env(process_environment()))
    if parent is not None:
        _watched.append(parent)


def _follow() -> None:
    """Go on in the run that the parent is at, if that of this process has ended there."""
    try:
        later = _watched[0].later_run() if _current[-1]._is_joined else None
        if later is None:
            return
        with _lock:
            if not _watched or _watched[0].later_run() != later:
                return  # another thread has done it
            finish_current()
            _watched[0].export(later)
            _watch()
            start_run({}, config={}, notices=_notices, from_log=True)
            text = f"the run of this worker has ended in its parent: log() goes on in its run {later.run_id}"
            _notices.once("follow", text)
    except Exception as error:  # a folder that is gone, or no more files: the run stays as it is
        if is_from_handler(error):
            raise


def _after_fork() -> None:
    global _lock
    while _watched:
        _watched.pop().close()
    _lock = threading.RLock()
    _joining.clear()
    _tried.clear()


def _reduce(run: Run) -> tuple[Any, ...]:
    """What another process needs to write for the same run; its parameters as far as they are plain values."""
    told = {
        "identity": run._identity,
        "launch": tuple(run._launch),
        "variables": run._variables(),
        "mark": run._mark,
        "parent": run._membership.parent_journal if run._journal is None else run._journal.journal_id,
        "is_recorded": run._place.folder is not None,
        "is_ended": run._ended,
        "config": _plain(dict(run.config), _DEPTH_MAX),
    }
    return take_up, (run.id, told)


def take_up(run_id: str, told: Mapping[str, Any]) -> Run:
    """The run of this id in this process: the one it has, or a new one that writes as a child of who passed it.

    It becomes the current run unless this process has one that `init` made.
    """
    for run in _current:
        if run.id == run_id and not told["is_ended"]:
            return run
    hide_values_of(process_environment())
    settings = Settings.from_env(process_environment())
    is_recorded = told["is_recorded"] and settings.mode != "disabled"
    run = Run(
        told["identity"],
        Membership(id_bytes(run_id), "parent", told["parent"]),
        Launch(*told["launch"]),
        settings=settings,
        place=choose_folder(settings) if is_recorded else Placement(),
        config=told["config"],
    )
    run._mark, run._ended, run._is_joined = told["mark"], told["is_ended"], True
    for reason in run._place.reasons:
        run._notices.once(reason, reason)
    if run._ended:
        return run
    if _current and not _current[-1]._is_joined:
        add_passed_run(run, None)
        return run
    finish_current()
    add_passed_run(run, told["variables"])
    _watch()
    return run


def _plain(value: Any, depth: int) -> Any:
    """`value` as far as any process can read it; what is not plain becomes its text."""
    if depth and isinstance(value, dict):
        return {str(key): _plain(inner, depth - 1) for key, inner in value.items()}
    if depth and isinstance(value, list | tuple):
        return [_plain(inner, depth - 1) for inner in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    try:
        return repr(value)[:1000]
    except Exception as error:  # an object of the user's
        if is_from_handler(error):
            raise
        return f"<{type(value).__name__}>"


copyreg.pickle(Run, _reduce)
os.register_at_fork(after_in_child=_after_fork)
