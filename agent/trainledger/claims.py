"""Bodies of the claims of the SDK: what a process says of its run, field for field as the Avro schemas have it."""

import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainledger_schemas.clock import wall_ns
from trainledger_schemas.ids import id_text

from .identity import Membership
from .launch import Launch
from .process_facts import cpu_us, read_process_facts
from .redaction import redact, redact_argv
from .settings import Settings
from .values import settings_of

__all__ = ["exit_claim", "run_identity", "settings_claim", "started_claim", "traceback_text"]

TRACEBACK_LINES_MAX = 20
TRACEBACK_CHARACTERS_MAX = 8000


def started_claim(
    identity: Mapping[str, Any], membership: Membership, launch: Launch, config: Mapping[Any, Any]
) -> dict[str, Any]:
    """`identity` holds project, experiment, team, name, group and tags."""
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
        "argv": redact_argv([str(argument) for argument in getattr(sys, "orig_argv", sys.argv)])[:1000],
        "config": settings_of(config),
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


def traceback_text(kind: type[BaseException], error: BaseException, trace: Any) -> str:
    """The last lines of a traceback, redacted; the exception itself is the last."""
    try:
        lines = "".join(traceback.format_exception(kind, error, trace)).splitlines()
    except Exception:  # an exception whose own text raises
        lines = [kind.__name__]
    return redact("\n".join(lines[-TRACEBACK_LINES_MAX:]))[-TRACEBACK_CHARACTERS_MAX:]


def run_identity(settings: Settings, told: Mapping[str, Any], tags: Any = None) -> dict[str, Any]:
    """Project, experiment, team, name, group and tags: what was `told`, else what the environment says."""
    return {
        "project": _text(told.get("project")) or settings.project or _default_project(),
        "experiment": _text(told.get("experiment")) or settings.experiment,
        "team": _text(told.get("team")) or settings.team,
        "name": _text(told.get("name")) or settings.name,
        "group": _text(told.get("group")),
        "tags": _tags(tags) or list(settings.tags),
    }


def _tags(tags: Any) -> list[str]:
    if tags is None:
        return []
    if isinstance(tags, str):
        return [tags]
    if isinstance(tags, Mapping):
        return [f"{key}={value}" for key, value in tags.items()]
    return [str(tag) for tag in tags]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _default_project() -> str:
    """The name of the repository around the working folder, else of the folder."""
    try:
        here = Path.cwd()
    except OSError:
        return "unknown"
    for folder in (here, *here.parents):
        if (folder / ".git").exists():
            return folder.name or "unknown"
    return here.name or "unknown"
