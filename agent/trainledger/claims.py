"""Bodies of the claims of the SDK: what a process says of its run, field for field as the Avro schemas have it.

Each fits in one record of a journal, whatever it is made of: texts, lists and tracebacks are cut, and settings
are split over several claims.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from trainledger_schemas.clock import wall_ns
from trainledger_schemas.ids import id_text

from .identity import Membership
from .journal import json_bytes
from .launch import Launch
from .process_facts import cpu_us, read_process_facts
from .redaction import redact, redact_argv
from .settings import Settings, process_arguments
from .values import settings_of

__all__ = [
    "claim_of_error",
    "exit_claim",
    "run_identity",
    "settings_claim",
    "split_settings",
    "started_claim",
    "traceback_text",
]

TRACEBACK_LINES_MAX = 20
# In a journal's record at most twice that: it must fit in what is kept free for it on a full disk.
TRACEBACK_BYTES_MAX = 7000
# Searched for secrets before the last lines are taken: a secret must not be cut in two.
_TRACEBACK_SEARCHED_MAX = 200_000
_SETTINGS_BYTES_MAX = 150_000
_ARGUMENTS_MAX = 1000
_ARGUMENT_CHARACTERS_MAX = 4000
_ARGUMENTS_CHARACTERS_MAX = 10_000
_TAGS_MAX = 100
_NAME_CHARACTERS_MAX = 500


def started_claim(
    identity: Mapping[str, Any], membership: Membership, launch: Launch, config: Mapping[Any, Any]
) -> dict[str, Any]:
    """`identity` holds project, experiment, team, name, group and tags; of `config` the first part is in it."""
    settings = split_settings(settings_of(config))
    facts = read_process_facts()
    parent = membership.parent_journal
    return {
        "type": "run_started",
        "at_us": wall_ns() // 1000,
        "parent_writer": id_text(parent) if parent != bytes(16) else None,
        "role": "sdk",
        "joined": membership.joined,
        **identity,
        "parent_run": id_text(membership.parent_run) if membership.parent_run else None,
        "user": facts.user,
        "uid": facts.uid,
        "host": facts.host,
        "pid": facts.pid,
        "start_ticks": facts.start_ticks,
        "pid_namespace": facts.pid_namespace,
        "rank": launch.rank,
        "local_rank": launch.local_rank,
        "world_size": launch.world_size,
        "launcher": launch.launcher,
        "restart_hint": launch.restart_hint,
        "node_rank": launch.node_rank,
        "scope": launch.scope,
        "launch_id": launch.launch_id,
        "join": launch.joins() if membership.joined == "environment" else None,
        "scheduler_restart": launch.scheduler_restart,
        "ordinal": launch.ordinal,
        "argv": list(_first(redact_argv(process_arguments()))),
        "config": settings[0] if settings else [],
    }


def exit_claim(
    status: str, cause: str, *, message: str | None = None, code: int | None = None, signal: int | None = None
) -> dict[str, Any]:
    """How this process, or its part in the run, ended."""
    return {
        "type": "run_exited",
        "at_us": wall_ns() // 1000,
        "role": "sdk",
        "status": status,
        "cause": cause,
        "exit_code": code,
        "signal": signal,
        "message": message,
        "cpu_us": cpu_us(),
    }


def settings_claim(kind: str, changes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`params_changed` or `summary_set`."""
    return {"type": kind, "at_us": wall_ns() // 1000, "changes": list(changes)}


def split_settings(settings: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Settings in parts that fit in one claim each."""
    parts: list[list[dict[str, Any]]] = []
    room = 0
    for entry in settings:
        size = len(json_bytes(entry)) + 2
        if size > room:
            parts.append([])
            room = _SETTINGS_BYTES_MAX
        parts[-1].append(entry)
        room -= size
    return parts


def traceback_text(kind: type[BaseException], error: BaseException, trace: Any) -> str:
    """The last lines of a traceback, redacted; the exception itself is the last."""
    try:
        # Not at the top: it takes 5 ms to load, for a run that fails.
        import traceback

        text = "".join(traceback.format_exception(kind, error, trace))
    except Exception:  # an exception whose own text raises, or no file can be opened any more
        text = kind.__name__
    lines = redact(text[-_TRACEBACK_SEARCHED_MAX:]).splitlines()[-TRACEBACK_LINES_MAX:]
    # Every character that JSON would write as six: at most two bytes a byte are left.
    plain = "\n".join("".join(c if c.isprintable() else " " for c in line) for line in lines)
    return plain.encode()[-TRACEBACK_BYTES_MAX:].decode("utf-8", "ignore")


def claim_of_error(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> dict[str, Any]:
    """How a process ends that an exception leaves."""
    if issubclass(kind, KeyboardInterrupt):
        return exit_claim("killed", "exception", message="KeyboardInterrupt", signal=2)
    if isinstance(error, SystemExit):
        if error.code in (None, 0):
            return exit_claim("finished", "finish", code=0)
        code = error.code if isinstance(error.code, int) else 1
        return exit_claim("failed", "exception", message=traceback_text(kind, error, None), code=code)
    return exit_claim("failed", "exception", message=traceback_text(kind, error, trace))


def _first(argv: Iterable[str]) -> Iterable[str]:
    room = _ARGUMENTS_CHARACTERS_MAX
    for argument in list(argv)[:_ARGUMENTS_MAX]:
        yield argument[: min(room, _ARGUMENT_CHARACTERS_MAX)]
        room -= len(argument)
        if room <= 0:
            return


def run_identity(settings: Settings, told: Mapping[str, Any], tags: Any = None) -> dict[str, Any]:
    """Project, experiment, team, name, group and tags: what was `told`, else what the environment says."""
    return {
        "project": _text(told.get("project")) or _text(settings.project) or _cut(_default_project()),
        "experiment": _text(told.get("experiment")) or _text(settings.experiment),
        "team": _text(told.get("team")) or _text(settings.team),
        "name": _text(told.get("name")) or _text(settings.name),
        "group": _text(told.get("group")) or _text(settings.group),
        "tags": _tags(tags) or _tags(settings.tags),
    }


def _tags(tags: Any) -> list[str]:
    if tags is None:
        return []
    if isinstance(tags, str):
        return [_cut(tags)]
    if isinstance(tags, Mapping):
        return [_cut(f"{key}={value}") for key, value in tags.items()][:_TAGS_MAX]
    return [_cut(str(tag)) for tag in tags][:_TAGS_MAX]


def _text(value: Any) -> str | None:
    return None if value is None else _cut(str(value))


def _cut(text: str) -> str:
    # Searched for secrets first: one that is cut in two is not known.
    return redact(text[:_ARGUMENTS_CHARACTERS_MAX])[:_NAME_CHARACTERS_MAX]


def _default_project() -> str:
    """The name of the repository around the working folder, else of the folder."""
    try:
        here = Path.cwd()
    except OSError:
        return "unknown"
    for folder in (here, *here.parents):
        if os.path.exists(folder / ".git"):
            return folder.name or "unknown"
    return here.name or "unknown"
