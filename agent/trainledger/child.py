"""Start a command as a shell would, and learn how it ended.

Exit codes follow the shell: 127 when there is no such command, 126 when it cannot be executed, 128 + n when
signal n ended it. A script without an interpreter line is given to /bin/sh, as `execvp` does.
"""

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainledger_schemas.errors import TrainledgerError

from .signals import SignalGate

__all__ = ["Child", "ExitStatus", "NotStartedError", "Streams", "start_child"]

_NOT_FOUND = 127
_NOT_EXECUTABLE = 126


class NotStartedError(TrainledgerError):
    """The command could not be started; `exit_code` is what a shell would give."""

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Streams:
    """What the command gets as 1 and 2 (None: ours), and the terminal it is to have, if any."""

    stdout_fd: int | None = None
    stderr_fd: int | None = None
    terminal: str | None = None


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How the command ended: an exit code, or a signal; with the CPU time of it and its ended children."""

    exit_code: int | None
    signal: int | None
    cpu_us: int

    @property
    def shell_code(self) -> int:
        """The exit code that a shell shows."""
        return 128 + (self.signal or 0) if self.exit_code is None else self.exit_code


class Child:
    """A running command."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> ExitStatus | None:
        """How it ended, or None while it lives; a stopped child (Ctrl-Z) lives. Do not call it again after."""
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        cpu_us = round((usage.ru_utime + usage.ru_stime) * 1e6)
        if os.WIFSIGNALED(status):
            return ExitStatus(None, os.WTERMSIG(status), cpu_us)
        return ExitStatus(os.WEXITSTATUS(status), None, cpu_us)

    def has_stopped(self) -> bool:
        """Whether it was stopped (Ctrl-Z in its terminal) since this was last asked."""
        found = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG)
        return found is not None and found.si_code == os.CLD_STOPPED


def start_child(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    streams: Streams,
    shares_group: bool,
    gate: SignalGate,
) -> Child:
    """Start the command in a process group of its own (in ours with `shares_group`).

    Raises NotStartedError. With a terminal it leads a session whose terminal that is.
    """
    try:
        return _spawn(command, environment, streams=streams, shares_group=shares_group, gate=gate)
    except OSError as error:
        path = shutil.which(command[0], path=environment.get("PATH", os.defpath))
        if error.errno == errno.ENOEXEC and path is not None:
            shell = ["/bin/sh", path, *command[1:]]
            return _spawn(shell, environment, streams=streams, shares_group=shares_group, gate=gate)
        raise _explain(command[0], path, error) from error


def _spawn(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    streams: Streams,
    shares_group: bool,
    gate: SignalGate,
) -> Child:
    actions: list[tuple[int, int, str, int, int] | tuple[int, int, int]] = []
    if streams.terminal is not None:
        # The first terminal that the leader of a session opens becomes its controlling terminal.
        actions.append((os.POSIX_SPAWN_OPEN, 0, streams.terminal, os.O_RDWR, 0))
        actions += [(os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, 0, 2)]
    for fd, target in ((streams.stdout_fd, 1), (streams.stderr_fd, 2)):
        if fd is not None:
            actions.append((os.POSIX_SPAWN_DUP2, fd, target))
    own_group = {} if shares_group else {"setpgroup": 0}
    pid = os.posix_spawnp(
        command[0],
        list(command),
        dict(environment),
        file_actions=actions,
        setsigmask=gate.child_mask,
        setsigdef=gate.child_defaults,
        **({"setsid": True} if streams.terminal is not None else own_group),
    )
    return Child(pid)


def _explain(name: str, path: str | None, error: OSError) -> NotStartedError:
    is_missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
    if is_missing and path is None and not (os.sep in name and Path(name).exists()):
        text = f"{name}: command not found; give the path of a program or the name of one in PATH"
        return NotStartedError(text, exit_code=_NOT_FOUND)
    if is_missing:
        text = f"{path or name}: its interpreter was not found; look at its first line"
    else:
        text = f"{path or name} cannot be executed: {error.strerror}"
    return NotStartedError(text, exit_code=_NOT_EXECUTABLE)
