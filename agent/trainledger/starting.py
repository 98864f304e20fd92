"""How runs of this process begin: `init`, the first `log()` of a worker, a run that was passed by another process."""

import sys
from collections.abc import Mapping
from typing import Any

from trainledger_schemas.ids import random_id

from .active_run import Run, _current, finish_current, install_hooks
from .capture import Program, start_capture
from .claims import run_identity
from .identity import choose_run, is_told, name_mark
from .init_arguments import INIT_ARGUMENTS, check_arguments
from .launch_place import find_launch, is_first_on_node
from .notices import Notices
from .parent_run import export_later_run
from .placement import Placement, choose_folder
from .redaction import hide_values_of, redact_argv
from .settings import Settings, process_arguments, process_environment

__all__ = ["add_passed_run", "has_begun", "init", "start_run"]


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
    """Start, or join, a run. Everything is optional.

    project (default: name of the repository or folder), experiment, team, name, group: text. config: a dict, nested
    or not. tags: text, list of texts, or dict. mode: "on", or "disabled": records nothing. resume: a run id writes
    for that run; "auto" goes on with the run of the same job after a restart; "must" is an error without one.
    Raises TypeError or ValueError for wrong arguments; an unknown keyword is one warning with the nearest name.
    """
    told: dict[str, Any] = {
        "project": project,
        "experiment": experiment,
        "team": team,
        "name": name,
        "group": group,
    }
    parameters = check_arguments(names=told, config=config, tags=tags, resume=resume, mode=mode)
    notices = Notices()
    notices.unknown_arguments("init", unknown, INIT_ARGUMENTS)
    if _current:
        if _current[-1]._journal is not None:
            notices.say("init was called again: the run before it is finished")
        finish_current()
    export_later_run(Settings.from_env(process_environment()))
    told = told | {"tags": tags}
    return start_run(told, config=parameters, resume=resume, mode=mode, notices=notices)


def start_run(
    told: Mapping[str, Any],
    *,
    config: Mapping[Any, Any],
    notices: Notices,
    resume: str | None = None,
    mode: str | None = None,
    from_log: bool = False,
) -> Run:
    """What `init` does with checked arguments. `from_log`: no process, no line for what is joined."""
    hide_values_of(process_environment(), process_arguments())
    settings = Settings.from_env(process_environment())
    for warning in settings.warnings:
        notices.once(warning, warning)
    disabled = (mode or settings.mode) == "disabled"
    name, group = told.get("name"), told.get("group")
    mark = name_mark(name, group) if name is not None or group is not None else None
    may_join = not _state["joined_wrapper"]
    place = Placement() if disabled else choose_folder(settings)
    is_known = is_told(settings) and (may_join or not settings.wrapped)
    launch, record = find_launch(place, number=_state["launches"], is_told=resume is not None or is_known)
    membership = choose_run(
        settings, launch, ids=random_id, resume=resume, mark=mark, may_join_wrapper=may_join
    )
    identity = run_identity(settings, told, told.get("tags"))
    run = Run(identity, membership, launch, settings=settings, place=place, config=config)
    run._mark, run._is_joined, run._launch_record = mark or run._mark, from_log, record
    _state["joined_wrapper"] |= membership.joined == "wrapper"
    install_hooks()
    # Before its journal is open: a thread that forks from here on must find it.
    _current.append(run)
    _state["launches"] += 1
    if not disabled:
        _begin(run, notices, from_log=from_log)
    return run


def add_passed_run(run: Run, exported: Mapping[str, str | None] | None) -> None:
    """Take up a run that another process has passed; with `exported` it is the current run, else one beside it."""
    install_hooks()
    if exported is None:
        _current.insert(0, run)
        return
    _current.append(run)
    _state["launches"] += 1
    run._export(exported)


def has_begun() -> bool:
    """Whether this process has, or had, a run."""
    return bool(_state["launches"])


_state = {"joined_wrapper": 0, "launches": 0}


def _begin(run: Run, notices: Notices, *, from_log: bool) -> None:
    for reason in run._place.reasons:
        run._notices.once(reason, reason)
    journal = run._open_journal()
    if journal is None:
        notices.say(f"run {run.id}: nothing is recorded, no folder can be written")
        return
    reader = run._place.reader or "no agent reads it yet; `trainledger up` or any command will"
    # Of a launch rank 0 speaks for all.
    is_spoken_for = bool(run._launch.rank) and run._membership.joined != "new"
    if not is_spoken_for and (not from_log or run._membership.joined != "parent"):
        notices.say(f"run {run.id} in {journal.folder}; {reader}")
    if run._launch.is_weak and not is_spoken_for and run._membership.joined == "environment":
        notices.say(
            "the ranks of this launch share nothing that no other launch has: set TRAINLEDGER_RUN_ID, or torchrun's "
            "--rdzv-id, to a value of its own for each launch"
        )
    run._export(run._variables())
    notebook = None
    is_session = "IPython" in sys.modules and not from_log and run._membership.joined != "parent"
    if is_session and run._settings.capture and is_first_on_node(run._launch):
        # Not at the top: only a notebook needs it.
        from .notebook_cells import find_notebook, record_cells

        run._cells = record_cells(run._claim, run._notices)
        notebook = find_notebook(process_environment())
    is_first = run._membership.joined in ("new", "resume", "environment") and is_first_on_node(run._launch)
    if run._settings.capture and is_first and not from_log:
        start_capture(
            run._membership.run_id,
            journal.journal_id,
            journal.folder.parent,
            append_by_write=run._place.append_by_write,
            program=Program(
                redact_argv(process_arguments()),
                notebook or getattr(sys.modules.get("__main__"), "__file__", None),
            ),
        )
