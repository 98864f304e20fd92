"""The command of a repetition: the recorded one, with what pointed into the old folder pointing into the new. Pure.

What cannot be done exactly is a note: a program that is not where it was, a working folder outside of the code.
Arguments whose secrets were taken out cannot be guessed: then the command must be given.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainledger_schemas.errors import UsageError
from trainledger_schemas.result_variables import is_launch_variable, is_result_variable

__all__ = ["Command", "build_command"]

_REDACTED = "[redacted"


@dataclass(slots=True)
class Command:
    """What to run, where, and with which variables (None: not set)."""

    argv: list[str]
    cwd: str
    variables: dict[str, str | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def build_command(
    provenance: Mapping[str, Any],
    root: str,
    *,
    given: Sequence[str] = (),
    environ: Mapping[str, str],
    exists: Callable[[str], bool] = os.path.exists,
) -> Command:
    """The command for the code restored in `root`; `given` replaces the recorded one. Raises UsageError."""
    old_root, cwd = provenance.get("code_root"), provenance.get("cwd")
    launcher = list(provenance.get("launcher") or ())
    argv = list(given) or launcher or list(provenance.get("argv") or ())
    if not argv:
        raise UsageError(
            "the command of this run is not known; give it: trainledger reproduce RUN -- CMD ..."
        )
    if any(_REDACTED in argument for argument in argv):
        shown = " ".join(argv)
        raise UsageError(
            f"the command holds a secret that was not recorded ({shown}); give it whole: "
            "trainledger reproduce RUN -- CMD ..."
        )
    if cwd is None or old_root is None:
        command = Command(argv, root, notes=["the working folder is not known; the restored folder is taken"])
    else:
        is_inside = _is_inside(cwd, old_root)
        command = Command(argv, _moved(cwd, old_root, root) if is_inside else cwd)
        if not is_inside:
            command.notes.append(
                f"it runs in {cwd}, outside of the code, as the run did; what it writes lands there"
            )
        command.argv = [_map_argument(a, cwd=cwd, old=old_root, new=root, is_inside=is_inside) for a in argv]
    if not given and not launcher:
        _set_program(command, provenance.get("program"), exists)
    _set_variables(command, dict(provenance.get("variables") or {}), environ)
    return command


def _set_program(command: Command, program: str | None, exists: Callable[[str], bool]) -> None:
    if program is not None and exists(program):
        command.argv[0] = program
    elif program is not None:
        command.notes.append(f"{program} is not here; {command.argv[0]} is taken")


def _set_variables(command: Command, recorded: Mapping[str, str], environ: Mapping[str, str]) -> None:
    for name, value in recorded.items():
        if not is_launch_variable(name):
            command.variables[name] = value
    for name in environ:
        if is_result_variable(name) and name not in recorded:
            command.variables[name] = None
    if "PYTHONHASHSEED" not in recorded:
        command.notes.append(
            "PYTHONHASHSEED was not set: the order of sets of texts differs in every process"
        )


def _map_argument(argument: str, *, cwd: str, old: str, new: str, is_inside: bool) -> str:
    """A path into the old folder, alone or behind `=`, becomes the same path in the new one."""
    name, equals, value = argument.partition("=")
    if argument.startswith("-"):
        return f"{name}={_map_path(value, cwd, old, new, is_inside=is_inside)}" if equals else argument
    return _map_path(argument, cwd, old, new, is_inside=is_inside)


def _map_path(path: str, cwd: str, old: str, new: str, *, is_inside: bool) -> str:
    if not path:
        return path
    if os.path.isabs(path):
        return _moved(path, old, new) if _is_inside(path, old) else path
    # Relative to a working folder that moves along it stays right by itself.
    whole = os.path.normpath(os.path.join(cwd, path))
    if not is_inside and "/" in path and _is_inside(whole, old):
        return _moved(whole, old, new)
    return path


def _is_inside(path: str, folder: str) -> bool:
    path = os.path.normpath(path)
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _moved(path: str, old: str, new: str) -> str:
    return os.path.normpath(os.path.join(new, os.path.relpath(path, old)))
