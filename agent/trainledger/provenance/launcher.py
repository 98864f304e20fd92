"""The command that started a whole launch: what `torchrun`, `mpirun` or `srun` was called with.

Each rank shows its own command line only; to repeat the run, the outermost launcher above it is what must run. It is
looked for among the parents of the training process, up to the leader of its session. An ordinary Python program
that starts a training (a notebook server, a test, a scheduler of jobs) is no launcher, unless the training is one of
its processes in the sense of multiprocessing: what such a process shows of itself cannot be started by hand.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from ..redaction import redact_argv

__all__ = ["find_launcher", "is_launcher"]

_PROGRAMS = frozenset(
    "torchrun accelerate accelerate-launch deepspeed ds mpirun mpiexec mpiexec.hydra orterun srun horovodrun ray "
    "composer".split()
)
_MODULES = frozenset(
    "torch.distributed.run torch.distributed.launch accelerate.commands.launch accelerate.commands.accelerate_cli "
    "deepspeed.launcher.runner deepspeed.launcher.launch".split()
)
PARENTS_MAX = 50


def find_launcher(pid: int, *, proc: Path = Path("/proc")) -> list[str]:
    """The outermost launcher's command line, secrets removed; empty when there is none or it cannot be seen."""
    found: list[str] = []
    try:
        leader, command = os.getsid(pid), _command_line(proc, pid)
        for _ in range(PARENTS_MAX):
            stat = (proc / str(pid) / "stat").read_bytes()
            parent = int(stat[stat.rindex(b")") + 2 :].split()[1])
            # In a container the launcher is often process 1.
            if pid == leader or parent <= 0:
                break
            below, command, pid = command, _command_line(proc, parent), parent
            # A forked process shows its parent's line.
            is_part = below == command or (_is_multiprocessing(below) and not _is_multiprocessing(command))
            if is_launcher(command) or (is_part and _is_python(command)):
                found = command
    except (OSError, ValueError, IndexError):
        pass  # a parent that is gone or another user's ends the walk; what was found below it stands
    return redact_argv(found)


def is_launcher(command: Sequence[str]) -> bool:
    """Whether a command line is that of a known launcher, itself or run by Python."""
    words = [word.rpartition("/")[2] for word in command[:8]]
    if not words or "trainledger" in words[:3]:
        return False
    if words[0] in _PROGRAMS or (words[0].startswith("python") and len(words) > 1 and words[1] in _PROGRAMS):
        return True
    return any(
        first == "-m" and second in _MODULES for first, second in zip(command, command[1:], strict=False)
    )


def _command_line(proc: Path, pid: int) -> list[str]:
    return [os.fsdecode(part) for part in (proc / str(pid) / "cmdline").read_bytes().split(b"\0")[:-1]]


def _is_python(command: Sequence[str]) -> bool:
    return bool(command) and command[0].rpartition("/")[2].startswith(("python", "pypy"))


def _is_multiprocessing(command: Sequence[str]) -> bool:
    """Whether this is the command line of a process that multiprocessing spawned, or of its fork server."""
    if "--multiprocessing-fork" in command:
        return True
    return len(command) > 2 and any("from multiprocessing." in word for word in command[1:6])
