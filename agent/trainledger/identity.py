"""Which run a process writes for: a new one, the one of its parent or wrapper, or the one it was told.

`init` exports TRAINLEDGER_RUN_ID with TRAINLEDGER_PARENT = pid:journal:mark, so that what it spawns joins; it
never joins an id that its own process exported. The mark stands for name and group: a child that asks for
others starts a run of its own, with `parent_run`.

`resume`: a run id writes for that run; "auto" goes on with the run of the same job (the run it was told, else
what the scheduler or launcher keeps over a restart: see launch), and starts a new one where there is none;
"must" is the same, and an error where there is none.
"""

import os
import zlib
from typing import NamedTuple

from trainledger_schemas.ids import IdSource, id_bytes

from .launch import Launch, run_id_of
from .settings import Settings

__all__ = ["Membership", "check_resume", "choose_run", "is_told", "name_mark", "parent_of", "parent_variable"]

RESUME_WORDS = ("auto", "must")


class Membership(NamedTuple):
    """The run to write for, why, and whose child this process is."""

    run_id: bytes
    joined: str
    parent_journal: bytes = bytes(16)
    parent_run: bytes | None = None


def choose_run(
    settings: Settings,
    launch: Launch,
    *,
    ids: IdSource,
    resume: str | None,
    mark: str | None,
    may_join_wrapper: bool,
) -> Membership:
    """Decide; `mark` is None unless a name or group was asked for. Raises ValueError for a `resume` without a run."""
    wanted = check_resume(resume)
    pid, journal, parent_mark = _parent(settings.parent)
    told = None if pid == os.getpid() else _told_run(settings.run_id)
    if wanted is not None and wanted != told:
        return Membership(wanted, "resume", parent_run=told)
    if told is not None:
        if settings.wrapped:
            if may_join_wrapper:
                return Membership(told, "wrapper", journal)
            if launch.key is not None:
                return Membership(run_id_of(launch.key), "environment", parent_run=told)
            return Membership(ids(), "new", parent_run=told)
        if pid is None:
            return Membership(told, "environment")
        if resume is None and mark is not None and mark != parent_mark:
            return Membership(ids(), "new", parent_run=told)
        return Membership(told, "parent", journal)
    if resume is not None and launch.resume_key is not None:
        return Membership(run_id_of(f"resume {launch.resume_key}|{mark or ''}"), "resume")
    if resume == "must":
        raise ValueError(
            "resume='must', but nothing says which run: give its id (resume=run.id), or set TRAINLEDGER_RUN_ID"
        )
    if launch.key is not None:
        return Membership(run_id_of(launch.key), "environment")
    return Membership(ids(), "new")


def is_told(settings: Settings) -> bool:
    """Whether somebody else than this process itself has told it a run."""
    return settings.run_id is not None and _parent(settings.parent)[0] != os.getpid()


def check_resume(resume: str | None) -> bytes | None:
    """The run id in `resume`, if it is one. Raises ValueError or TypeError for what it cannot be."""
    if resume is None or resume in RESUME_WORDS:
        return None
    if not isinstance(resume, str):
        raise TypeError(f"resume is a {type(resume).__name__}; give 'auto', 'must' or a run id")
    try:
        return id_bytes(resume)
    except ValueError:
        raise ValueError(
            f"resume {resume[:80]!r} is neither 'auto' nor 'must' nor a run id; `trainledger ls` shows the ids"
        ) from None


def name_mark(name: str | None, group: str | None) -> str:
    """What stands for a run's name and group in TRAINLEDGER_PARENT."""
    return f"{zlib.crc32(f'{name}|{group}'.encode('utf-8', 'replace')):08x}"


def parent_variable(journal_text: str, mark: str) -> str:
    """The value of TRAINLEDGER_PARENT for what this process starts."""
    return f"{os.getpid()}:{journal_text}:{mark}"


def parent_of(settings: Settings) -> tuple[int, bytes] | None:
    """The process that told this one its run, and its journal."""
    pid, journal, _ = _parent(settings.parent)
    return None if pid is None else (pid, journal)


def _told_run(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        return id_bytes(text)
    except ValueError:
        return run_id_of(f"told {text}")


def _parent(text: str | None) -> tuple[int | None, bytes, str | None]:
    parts = (text or "").split(":")
    try:
        return int(parts[0]), id_bytes(parts[1]), parts[2] if len(parts) > 2 else None
    except (ValueError, IndexError):
        return None, bytes(16), None  # set by hand, or by somebody else's program
