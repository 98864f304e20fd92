"""`doctor`: also where only the agent is installed, which has none of the packages that other commands print with."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import typer

from trainledger_schemas.clock import SystemClock
from trainledger_schemas.errors import SettingsError

from ..installation import Check, check_installation, ingest_settings
from ..node_side import node_side
from .call_settings import environment, read_settings
from .options import Json

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor", help="Show effective settings and check that each part works.")(doctor)


def doctor(as_json: Json = False) -> None:
    """Check the installation and show the settings in effect; exit status 1 if a part does not work."""
    settings, environ = read_settings(), environment()
    node = node_side(environ)
    checks = check_installation(settings, node, clock=SystemClock())
    try:
        shown = node.settings() + ingest_settings(settings, environ)
    except SettingsError as error:
        shown = ingest_settings(settings, environ)
        checks.append(Check("settings", "broken", str(error), "correct the variable"))
    print_json, print_table = _printers()
    if as_json:
        print_json(
            [check.as_row() | {"value": None, "unit": None, "source": None} for check in checks]
            + [
                {"part": row.name, "state": "setting", "detail": "", "mend": ""}
                | {"value": row.value, "unit": row.unit, "source": row.source}
                for row in shown
            ]
        )
    else:
        print_table(("part", "state", "detail"), ((c.part, c.state, _finding(c)) for c in checks))
        rows = ((row.name, row.value, row.unit, row.source) for row in shown)
        print_table(("setting", "value", "unit", "from"), rows, title="settings in effect")
    if any(check.state == "broken" for check in checks):
        raise typer.Exit(1)


def _finding(check: Check) -> str:
    return check.detail + (f"; to mend it: {check.mend}" if check.mend else "")


def _printers() -> tuple[Callable[..., None], Callable[..., None]]:
    """Print rows as JSON, and as a table."""
    try:
        from .output import print_json, print_table
    except ModuleNotFoundError:
        return _plain_json, _plain_table
    return print_json, print_table


def _plain_json(rows: Iterable[Mapping[str, Any]]) -> None:
    sys.stdout.write(json.dumps(list(rows), ensure_ascii=False) + "\n")


def _plain_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> None:
    lines = [list(columns), *map(list, rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    if title:
        sys.stdout.write(f"\n{title}\n")
    for line in lines:
        sys.stdout.write(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        )
