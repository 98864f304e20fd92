"""`sql`: any SELECT over the views."""

from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer

from ..public_views import answer_about_views
from .opening import session
from .options import Csv, Json, Parquet
from .output import check_one_form, print_rows, print_table, table_rows

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "sql",
        help="Run a SELECT over the views, read-only; SHOW TABLES lists them, DESCRIBE runs shows columns.",
    )(sql)


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT, SHOW TABLES, or DESCRIBE with a view.")],
    as_json: Json = False,
    as_csv: Csv = False,
    parquet: Parquet = None,
) -> None:
    """Run one SELECT over the views; SHOW TABLES lists them, DESCRIBE runs the columns of one."""
    check_one_form(as_json=as_json, as_csv=as_csv, parquet=parquet)
    about = answer_about_views(query)
    if about is not None:
        _print_about(about, as_json=as_json, as_csv=as_csv, parquet=parquet)
        return
    with session() as opened:
        table = opened.user_query(query, is_export=as_csv or parquet is not None)
    print_rows(table, as_json=as_json, as_csv=as_csv, parquet=parquet)


def _print_about(table: pa.Table, *, as_json: bool, as_csv: bool, parquet: Path | None) -> None:
    if as_json or as_csv or parquet is not None:
        print_rows(table, as_json=as_json, as_csv=as_csv, parquet=parquet)
    else:
        # Whole comments: the cells of a result are cut.
        print_table(table.column_names, ([str(value) for value in row.values()] for row in table_rows(table)))
