"""`sql`: any SELECT over the views."""

from typing import Annotated

import typer

from .opening import session
from .options import Csv, Json, Parquet
from .output import print_rows

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sql", help="Run a SELECT over the views (runs, metrics, cost_lines ...), read-only.")(sql)


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT.")],
    as_json: Json = False,
    as_csv: Csv = False,
    parquet: Parquet = None,
) -> None:
    """Run one SELECT over the views."""
    with session() as opened:
        table = opened.user_query(query, is_export=as_csv or parquet is not None)
    print_rows(table, as_json=as_json, as_csv=as_csv, parquet=parquet)
