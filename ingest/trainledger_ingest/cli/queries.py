"""`sql`: any SELECT over the views."""

from pathlib import Path
from typing import Annotated

import typer

from .opening import session
from .output import print_rows

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sql", help="Run a SELECT over the views (runs, metrics, cost_lines ...), read-only.")(sql)


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array of objects.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
    parquet: Annotated[Path | None, typer.Option("--parquet", help="Write to this file.")] = None,
) -> None:
    """Run one SELECT over the views."""
    with session() as opened:
        table = opened.user_query(query)
    print_rows(table, as_json=as_json, as_csv=as_csv, parquet=parquet)
