"""The console script: `run` is served here, everything else is found through entry points.

The standard library alone, and as little of it as can be: `trainledger run` must cost a job nothing, and
`--help` must answer at once. Other commands live behind the entry point group `trainledger.commands`: an entry
point named like the command is called with the arguments behind the command's name; the one named `commands`
serves all others and is called with the command's name as well. They return an exit code.

Exit codes: what the command gives; 2 for wrong use; 1 with one line on stderr for what failed.
"""

import errno
import gc
import os
import sys
from collections.abc import Callable, Sequence
from typing import TextIO, cast

from trainledger_schemas.errors import TrainledgerError, UsageError

from . import wrapper
from .redaction import hide_values_of
from .spelling import nearest_name

__all__ = ["COMMANDS", "main"]

GROUP = "trainledger.commands"
_FALLBACK = "commands"

# Command -> (what it does, the extra that it needs).
COMMANDS = {
    "run": ("wrap any command: run [--project P --team T --experiment E --name N --group G] -- CMD ...", ""),
    "up": ("agent, worker and local API in one process, on this machine", "embedded"),
    "sync": ("read pending journals once", "agent"),
    "ls": ("list runs", "embedded"),
    "show": ("everything about one run", "embedded"),
    "logs": ("the output of a run; -f follows it", "embedded"),
    "compare": ("runs side by side", "embedded"),
    "sql": ("one SELECT over the views, read-only", "embedded"),
    "cost": ("what was spent, by team, project, run and more; equals the node bills", "embedded"),
    "price": ("set, load and list prices of nodes", "embedded"),
    "reproduce": ("restore the code of a run and repeat it; --plan only shows how", "embedded"),
    "gpus": ("who holds which GPU now, and whether it is used; --by for hours over time", "embedded"),
    "waste": ("how much of the bill was wasted, and why", "embedded"),
    "energy": ("energy of GPUs and CO2e by team, run and more; set and list the factors", "embedded"),
    "doctor": ("check this installation and print the settings in effect", "agent"),
    "agent": ("the node's daemon: journals to spool and Kafka", "agent"),
    "ingest": ("the worker's daemon: Kafka to ClickHouse", "server"),
    "admin": (
        "migrate, topics, rebuild, verify, period, owner, budget, dead, alias, data, gc, import, run",
        "embedded",
    ),
}

Command = Callable[[list[str]], int]

# Imports make objects by the hundred thousand, all of which stay: as often as Python looks for garbage by itself, that
# is a tenth of what a command on a small home costs.
_GARBAGE_OBJECTS = (50_000, 20, 50)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        _print(sys.stderr, _help())
        return 2
    name, rest = arguments[0], arguments[1:]
    if name in ("-h", "--help", "help"):
        _print(sys.stdout, _help())
        return 0
    if name in ("-V", "--version", "version"):
        _print(sys.stdout, f"trainledger {_version()}")
        return 0
    hide_values_of(os.environ, rest)
    try:
        return _dispatch(name, rest)
    except UsageError as error:
        return _fail(str(error), 2)
    except TrainledgerError as error:
        return _fail(str(error), 1)
    except OSError as error:
        # A disk or folder that any command can meet: where the error arose says nothing to a person.
        return _fail(_disk_message(error), 1)
    except KeyboardInterrupt:
        return 130
    finally:
        # Else the interpreter looks at each object once more before it ends: 0.15 s, for memory that goes anyway.
        gc.freeze()


def _dispatch(name: str, rest: list[str]) -> int:
    if name == "run":
        return wrapper.main(rest)
    gc.set_threshold(*_GARBAGE_OBJECTS)
    if name.startswith("-"):
        raise UsageError(f'unknown option {name}; see "trainledger --help"')
    found = _load(name)
    if found is None and name not in COMMANDS:
        meant = nearest_name(name, COMMANDS)
        hint = f'did you mean "trainledger {meant}"?' if meant else 'see "trainledger --help"'
        raise UsageError(f'there is no command "{name}"; {hint}')
    if found is None:
        raise TrainledgerError(_missing_extra(name, "this installation has no such part"))
    command, takes_name = found
    try:
        return int(command([name, *rest] if takes_name else rest) or 0)
    except ModuleNotFoundError as error:  # a command loads its own modules
        raise _not_installed(name, error) from error


def _load(name: str) -> tuple[Command, bool] | None:
    """The function of a command, and whether it wants the command's name; None when nobody serves it."""
    # Not at the top: it takes 50 ms to load, a quarter of what `--help` may take, and `run` never needs it.
    from importlib.metadata import entry_points

    served = {point.name: point for point in entry_points(group=GROUP)}
    takes_name = name not in served
    point = served.get(name) or (served.get(_FALLBACK) if name in COMMANDS else None)
    if point is None:
        return None
    try:
        return cast(Command, point.load()), takes_name
    except ModuleNotFoundError as error:
        raise _not_installed(name, error) from error


def _not_installed(name: str, error: ModuleNotFoundError) -> TrainledgerError:
    missing = error.name or str(error)
    if missing.partition(".")[0] in ("trainledger", "trainledger_ingest", "trainledger_schemas"):
        return TrainledgerError(
            f'the installation is broken: {missing} is missing; install again: pip install "trainledger"'
        )
    return TrainledgerError(_missing_extra(name, f"{missing} is not installed"))


def _missing_extra(name: str, why: str) -> str:
    extra = COMMANDS.get(name, ("", ""))[1] or "embedded"
    return f'"trainledger {name}" cannot start: {why}; mend it with: pip install "trainledger[{extra}]"'


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, (what, _) in COMMANDS.items()]
    head = "usage: trainledger COMMAND [ARGUMENTS]\n\nThe ledger of machine-learning training.\n\ncommands:"
    tail = '\n"trainledger COMMAND --help" tells more. Every command but run has --json.'
    return "\n".join([head, *lines, tail])


def _version() -> str:
    # As in _load: heavy, and needed by nothing else.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("trainledger")
    except PackageNotFoundError:
        return "(not installed)"


_NO_RIGHT = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


def _disk_message(error: OSError) -> str:
    what = error.strerror or str(error) or type(error).__name__
    where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    if error.errno in _NO_RIGHT:
        mend = "let this user use it, or set TRAINLEDGER_HOME and TRAINLEDGER_DIR to folders of its own"
    elif error.errno in _NO_ROOM:
        mend = "free some space on its disk"
    else:
        mend = "`trainledger doctor` checks the folders in use"
    return f"{where}{what}; {mend}"


def _fail(message: str, code: int) -> int:
    # One line, whatever an engine or a library put into its message.
    _print(sys.stderr, "trainledger: " + " ".join(message.split()))
    return code


def _print(stream: TextIO, text: str) -> None:
    try:
        stream.write(text + "\n")
        stream.flush()
    except BrokenPipeError:
        pass  # `| head` has seen enough; the exit code still tells
