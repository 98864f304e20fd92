"""The command line of `trainledger run`: options, then the command as it is.

Options become settings of the same names in the environment, for the wrapper and for what it starts alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from trainledger_schemas.errors import UsageError

from .settings import PREFIX
from .spelling import nearest_name

__all__ = ["USAGE", "RunOptions", "parse_run_options"]

USAGE = """\
usage: trainledger run [--project P] [--team T] [--experiment E] [--name N] [--group G] [--tags A,B]
                       -- CMD [ARGUMENTS]

Run any command as a run of the ledger: its output is kept, its exit code is passed on (127: not found,
126: not executable, 128 + n: ended by signal n), signals are passed to it.
"""

_NAMES = ("project", "team", "experiment", "name", "group", "tags")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What was asked: the command, and the settings it is to run with. No command: show the help."""

    command: tuple[str, ...]
    settings: dict[str, str] = field(default_factory=dict)


def parse_run_options(arguments: Sequence[str]) -> RunOptions:
    """Read the arguments behind `run`; raises UsageError. The command begins behind `--` or at the first word."""
    settings: dict[str, str] = {}
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "--":
        option, equals, value = rest.pop(0).partition("=")
        if option in ("-h", "--help"):
            return RunOptions(())
        if option.removeprefix("--") not in _NAMES:
            meant = nearest_name(option, [f"--{name}" for name in _NAMES])
            hint = f"did you mean {meant}?" if meant else 'see "trainledger run --help"'
            raise UsageError(f"unknown option {option}; {hint}; the command's own options go behind --")
        if not equals:
            if not rest or rest[0] == "--":
                raise UsageError(f"{option} needs a value: {option} VALUE")
            value = rest.pop(0)
        settings[PREFIX + option.removeprefix("--").upper()] = value
    command = rest[1:] if rest[:1] == ["--"] else rest
    if not command or not command[0]:
        raise UsageError("there is no command to run; use: trainledger run -- CMD ARGUMENTS")
    return RunOptions(tuple(command), settings)
