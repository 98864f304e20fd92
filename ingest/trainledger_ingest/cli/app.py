"""The command line of the analysis side. `trainledger.cli` hands over every command but `run` and `agent`.

Exit status: 0 done, 1 failed with one line on stderr (what, where, how to mend), 2 wrong use.
"""

import os
import re
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.util import find_spec

import typer
from typer.exceptions import Abort, Exit, TyperException

from trainledger_schemas.errors import TrainledgerError, UsageError
from trainledger_schemas.structured_log import quiet_libraries

__all__ = ["COMMAND_MODULES", "load_tables", "main", "make_app"]

# Command -> the module of this package that has it. The others are not imported: together they take half a second.
COMMAND_MODULES = {
    "ls": "runs",
    "show": "runs",
    "logs": "logs",
    "compare": "compare",
    "sql": "queries",
    "reproduce": "reproduce",
    "cost": "costs",
    "price": "price",
    "waste": "waste",
    "gpus": "gpus",
    "energy": "energy",
    "up": "daemons",
    "sync": "daemons",
    "ingest": "daemons",
    "doctor": "doctor",
    "admin": "admin",
}


def make_app(command: str | None = None) -> typer.Typer:
    """The program with one command; with all of them where there is no such command."""
    app = typer.Typer(
        name="trainledger",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="The ledger of machine-learning training.",
        # One command alone would become the program itself, without its name.
        callback=_no_options,
    )
    known = COMMAND_MODULES.get(command or "")
    for module in [known] if known else dict.fromkeys(COMMAND_MODULES.values()):
        import_module(f"{__package__}.{module}").register(app)
    return app


def _no_options() -> None:
    """The program has none of its own."""


def load_tables() -> Callable[[list[str]], int]:
    """What `sync` calls where tables can be filled here; raises ModuleNotFoundError without the engine."""
    if find_spec("chdb") is None:
        raise ModuleNotFoundError("No module named 'chdb'", name="chdb")
    return main


def main(argv: list[str]) -> int:
    """Run one command (its name first) and return the exit status.

    Our own errors go on to `trainledger.cli`, which turns every error into one line and a status."""
    quiet_libraries()
    sys.meta_path.insert(0, _WithoutPandas())
    try:
        result = make_app(argv[0] if argv else None)(
            args=_plain_arguments(argv), prog_name="trainledger", standalone_mode=False
        )
    except Exit as end:
        return end.exit_code
    except Abort:
        return 130
    except TyperException as error:
        if not error.format_message():
            # A group without a command: its help has been printed.
            return error.exit_code
        kind = UsageError if error.exit_code == 2 else TrainledgerError
        raise kind(error.format_message()) from error
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return result if isinstance(result, int) else 0


class _WithoutPandas(MetaPathFinder):
    """Where pandas is installed, pyarrow imports it to convert a plain list: half a second that no command needs."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is not needed by this command", name=fullname)


# No option has a blank in its name: this is SQL that begins with a comment.
_SQL_COMMENT = re.compile(r"--[^=]*\s")


def _plain_arguments(argv: list[str]) -> list[str]:
    """The arguments, SQL that begins with a comment so that it is not taken for an option."""
    if argv[:1] != ["sql"]:
        return argv
    return [f" {word}" if _SQL_COMMENT.match(word) else word for word in argv]
