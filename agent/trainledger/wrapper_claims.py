"""What the wrapper says of a run, as bodies of claims: plain values in, JSON objects out."""

from collections.abc import Collection, Sequence
from typing import Any

from .child import ExitStatus, NotStartedError
from .provenance.launcher import is_launcher
from .redaction import redact

__all__ = [
    "command_of_ranks",
    "entry_point_of",
    "exit_claim",
    "main_file_of",
    "not_started_claim",
    "python_of",
    "status_of",
]

# How people, shells and schedulers end a command: SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGTERM. Every other signal
# is the command's own failure.
_KILLING = frozenset({1, 2, 3, 9, 15})
# Options of the interpreter that take the next argument.
_PYTHON_VALUE_OPTIONS = frozenset({"-W", "-X", "--check-hash-based-pycs"})


def exit_claim(status: ExitStatus, *, at_us: int, forwarded: Collection[int]) -> dict[str, Any]:
    """The command ended: `forwarded` are the signals that were sent on to it before."""
    return {
        "type": "run_exited",
        "at_us": at_us,
        "role": "wrapper",
        "status": status_of(status, forwarded),
        "cause": "exit_code" if status.signal is None else "signal",
        "exit_code": status.exit_code,
        "signal": status.signal,
        "message": None,
        "cpu_us": status.cpu_us,
    }


def not_started_claim(error: NotStartedError, *, at_us: int) -> dict[str, Any]:
    """The command could not be started."""
    return {
        "type": "run_exited",
        "at_us": at_us,
        "role": "wrapper",
        "status": "failed",
        "cause": "not_started",
        "exit_code": error.exit_code,
        "signal": None,
        "message": redact(str(error)),
        "cpu_us": 0,
    }


def status_of(status: ExitStatus, forwarded: Collection[int]) -> str:
    """finished, failed or killed.

    A program that catches SIGTERM, saves its work and exits with 128 + 15, or with 1, was killed all the same:
    somebody asked it to stop before its end, and it did not end as it does by itself.
    """
    if status.signal is not None:
        return "killed" if status.signal in _KILLING else "failed"
    if status.exit_code and _KILLING.intersection(forwarded):
        return "killed"
    return "failed" if status.exit_code else "finished"


def command_of_ranks(command: Sequence[str]) -> Sequence[str]:
    """What a launcher starts: the part of its command line from the interpreter, or from the script, on."""
    if not is_launcher(command):
        return command
    first = 1 if python_of(command) is None else 2
    for index, word in enumerate(command[first:], first):
        if python_of([word]) is not None:
            return command[index:]
        if word.endswith(".py"):
            # torchrun and the like run the script with their own interpreter, which lies beside them.
            return [_interpreter_beside(command), *command[index:]]
    return command


def python_of(command: Sequence[str]) -> str | None:
    """The command's first word if it is a Python interpreter."""
    name = command[0].rpartition("/")[2]
    return command[0] if name.startswith(("python", "pypy")) else None


def main_file_of(command: Sequence[str]) -> str | None:
    """The script that a Python command line runs; None for modules, `-c`, and commands that are no Python.

    For a script that is started directly (`./train.py`), that script.
    """
    if python_of(command) is None:
        return command[0] if command[0].endswith(".py") else None
    arguments = iter(command[1:])
    for argument in arguments:
        if argument in _PYTHON_VALUE_OPTIONS:
            next(arguments, None)
        elif argument == "-" or argument.startswith(("-c", "-m")):
            return None
        elif not argument.startswith("-"):
            return argument
    return None


def _interpreter_beside(command: Sequence[str]) -> str:
    if python_of(command) is not None:
        return command[0]
    folder = command[0].rpartition("/")[0]
    return f"{folder}/python" if folder else "python"


def entry_point_of(command: Sequence[str]) -> str:
    """How people call what the command runs: the script, `-m module`, or the program."""
    script = main_file_of(command)
    if script is not None:
        return script
    if python_of(command) is not None and "-m" in command[:-1]:
        return f"-m {command[list(command).index('-m') + 1]}"
    return command[0]
