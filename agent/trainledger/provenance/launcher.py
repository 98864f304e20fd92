"""The command that started a whole launch: what `torchrun`, `mpirun` or `srun` was called with.

Each rank shows its own command line only; to repeat the run, the outermost launcher above it is what must run. It is
looked for among the parents of the training process, up to the leader of its session. An ordinary Python program
that starts a training (a notebook server, a test, a scheduler of jobs) is no launcher.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from ..redaction import redact_argv

__all__ = ["find_launcher", "is_launcher"]

_PROGRAMS = frozenset(
    "torchrun accelerate deepspeed mpirun mpiexec mpiexec.hydra orterun srun horovodrun ray composer".split()
)
_MODULES = frozenset(
    "torch.distributed.run torch.distributed.launch accelerate.commands.launch deepspeed.launcher.runner".split()
)
PARENTS_MAX = 50


def find_launcher(pid: int, *, proc: Path = Path("/proc")) -> list[str]:
    """The outermost launcher's command line, secrets removed; empty when there is none or it cannot be seen."""
    found: list[str] = []
    try:
        leader = os.getsid(pid)
        for _ in range(PARENTS_MAX):
            stat = (proc / str(pid) / "stat").read_bytes()
            parent = int(stat[stat.rindex(b")") + 2 :].split()[1])
            if pid in (leader, 0) or parent <= 1:
                break
            pid = parent
            command = [
                os.fsdecode(part) for part in (proc / str(pid) / "cmdline").read_bytes().split(b"\0")[:-1]
            ]
            if is_launcher(command):
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
