"""The command of a repetition: the recorded one, with what pointed into the old folder pointing into the new. Pure.

Where the command of one rank alone is known, the launcher that its variables speak of is put before it. What cannot be
done exactly is a note: a program that is not where it was, a working folder outside of the code. Arguments whose
secrets were taken out cannot be guessed: then the command must be given.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainledger_schemas.errors import UsageError
from trainledger_schemas.result_variables import is_launch_variable, is_result_variable

from .launch_shape import (
    DEFAULT_PORT,
    LaunchShape,
    NodePlace,
    command_on_node,
    forward_variables,
    with_ranks,
)
from .start_ranks import starting_command

__all__ = ["Command", "Launching", "build_command", "search_restored"]

# As Python calls it.
STDIN = "<stdin>"
# What lies in the folder of a virtual environment, and of one of conda.
ENVIRONMENT_MARKS = ("pyvenv.cfg", "conda-meta")
_REDACTED = "[redacted"
_SRUN_OPTIONS = (
    ("SLURM_NTASKS_PER_NODE", "--ntasks-per-node"),
    ("SLURM_CPUS_PER_TASK", "--cpus-per-task"),
    ("SLURM_GPUS_PER_NODE", "--gpus-per-node"),
    ("SLURM_GPUS_PER_TASK", "--gpus-per-task"),
)


@dataclass(frozen=True, slots=True)
class Launching:
    """How the run was launched, and how its repetition is to be: with another number of ranks, on one of many nodes."""

    shape: LaunchShape
    ranks: int | None = None
    node: NodePlace | None = None

    @property
    def has_other_ranks(self) -> bool:
        """Whether the repetition is asked to have another number of ranks than the run had."""
        return self.ranks is not None and self.ranks != self.shape.ranks


_ALONE = Launching(LaunchShape("single", ranks=1, nodes=1, per_node=1, is_one_a_node=False))


@dataclass(slots=True)
class Command:
    """What to run, where, and with which variables (None: not set). `is_given`: another one than was recorded."""

    argv: list[str]
    cwd: str
    variables: dict[str, str | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    is_given: bool = False


def build_command(
    provenance: Mapping[str, Any],
    root: str,
    *,
    launching: Launching = _ALONE,
    given: Sequence[str] = (),
    environ: Mapping[str, str],
    exists: Callable[[str], bool] = os.path.exists,
) -> Command:
    """The command for the code restored in `root`; `given` replaces the recorded one. Raises UsageError.

    For modules from outside of the code: `search_restored`."""
    recorded = list(provenance.get("launcher") or provenance.get("argv") or ())
    argv = list(given) or recorded
    _check_whole(argv)
    if not given and provenance.get("entry_point") == STDIN:
        raise UsageError(
            "the program of this run came from standard input, which is not recorded; give a command that has it: "
            "trainledger reproduce RUN -- python FILE ..."
        )
    old_root, cwd = provenance.get("code_root"), provenance.get("cwd")
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
    command.is_given = bool(given) and not _is_same(given, recorded)
    if not given and not provenance.get("launcher"):
        _set_program(command, provenance.get("program"), (old_root, root), exists)
    recorded_variables = dict(provenance.get("variables") or {})
    if old_root is not None:
        recorded_variables = {n: _moved_list(v, old_root, root) for n, v in recorded_variables.items()}
    _set_variables(command, recorded_variables, environ)
    _launch(command, launching, provenance, is_given=bool(given))
    return command


def search_restored(command: Command, places: Mapping[str, str]) -> None:
    """Let modules be found where they are restored; `places`: old folder to new.

    A folder that was not in PYTHONPATH (the program, or a .pth file, named it) comes behind those that were."""
    path = [entry for entry in (command.variables.get("PYTHONPATH") or "").split(os.pathsep) if entry]
    moved = [places.get(os.path.normpath(entry), entry) for entry in path]
    moved += [new for new in places.values() if new not in moved]
    if places:
        command.variables["PYTHONPATH"] = os.pathsep.join(moved)


def _check_whole(argv: Sequence[str]) -> None:
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


def _is_same(given: Sequence[str], recorded: Sequence[str]) -> bool:
    """Whether a command that was given is the recorded one, secrets aside."""
    return len(given) == len(recorded) and all(
        one == other or _REDACTED in other for one, other in zip(given, recorded, strict=True)
    )


def _launch(command: Command, launching: Launching, provenance: Mapping[str, Any], *, is_given: bool) -> None:
    """Put the launcher before a rank's command, and change its numbers to what is asked for."""
    shape, node = launching.shape, launching.node
    if not shape.is_known and not is_given:
        command.argv = _with_launcher(command, launching, provenance)
    elif launching.has_other_ranks and launching.ranks is not None:
        command.argv = with_ranks(command.argv, launching.ranks)
    elif node is not None and node.nodes > 1:
        command.argv = command_on_node(command.argv, node, per_node=shape.per_node)
    if launching.has_other_ranks:
        command.notes.append(f"{launching.ranks} ranks instead of {shape.ranks}: results may differ by that")
    elif shape.nodes > 1 and not shape.is_one_a_node:
        command.notes.append(
            f"all {shape.nodes} nodes must see the new folder: give one of a shared disk with --into"
        )
        set_here = [name for name, value in command.variables.items() if value is not None]
        command.argv = forward_variables(command.argv, ["TRAINLEDGER_RUN_ID", *set_here])


def _with_launcher(command: Command, launching: Launching, provenance: Mapping[str, Any]) -> list[str]:
    shape, node = launching.shape, launching.node
    ranks, nodes = launching.ranks or shape.ranks, 1 if launching.has_other_ranks else shape.nodes
    variables: Mapping[str, str] = provenance.get("variables") or {}
    command.notes.append(
        f"only the command of one rank is recorded; {shape.kind} is rebuilt from what its variables say"
    )
    if shape.kind == "mpirun":
        return ["mpirun", "-n", str(ranks), *command.argv]
    if shape.kind == "srun":
        asked = [f"{option}={variables[name]}" for name, option in _SRUN_OPTIONS if name in variables]
        return ["srun", f"--ntasks={ranks}", f"--nodes={nodes}", *asked, *command.argv]
    if node is None and nodes > 1:
        return command.argv
    here = NodePlace(0, 1, "127.0.0.1", DEFAULT_PORT) if node is None else node
    count = ranks // here.nodes
    place = (here.node_rank * count, count, ranks, here.address, here.port)
    return starting_command(place, command.argv)


def _set_program(
    command: Command, program: str | None, code: tuple[str | None, str], exists: Callable[[str], bool]
) -> None:
    """`code`: the old folder of the code and the new one. A program of the code (`./train.sh`) is that of the new: the
    old one may have changed since, or be gone. The interpreter of an environment that lies in the folder is no code."""
    old, new = code
    if program is not None and old is not None and _is_inside(program, old):
        prefix = os.path.dirname(os.path.dirname(program))
        if not any(exists(os.path.join(prefix, mark)) for mark in ENVIRONMENT_MARKS):
            command.argv[0] = _moved(program, old, new)
            return
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


def _moved_list(value: str, old: str, new: str) -> str:
    """Folders with colons between them, as of PYTHONPATH: those of the code are those of the new one."""
    parts = value.split(os.pathsep)
    return os.pathsep.join(
        _moved(part, old, new) if os.path.isabs(part) and _is_inside(part, old) else part for part in parts
    )


def _is_inside(path: str, folder: str) -> bool:
    path = os.path.normpath(path)
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _moved(path: str, old: str, new: str) -> str:
    return os.path.normpath(os.path.join(new, os.path.relpath(path, old)))
