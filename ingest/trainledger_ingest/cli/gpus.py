"""`gpus`: who holds which GPU now and whether it is used, and the hours of GPUs over time."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from trainledger_schemas.errors import UsageError

from ..reports.gpus import TIME_GROUPS, gpu_cells, gpus_now, gpus_over_time, run_labels
from .cost_options import End, Month, Start, asked_period, hour_text
from .opening import session, utc_now
from .options import Csv, Json, Parquet
from .output import cell_text, check_one_form, print_rows, print_table, stderr_line, table_rows

__all__ = ["register"]

_NOW = ("node", "gpu", "model", "state", "held by", "for", "use 10 min", "idle for", "memory")
_HOURS = ("held_hours", "used_hours", "unused_hours", "unknown_hours", "idle_hours", "unseen_hours")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("gpus", help="Who holds which GPU now, and whether it is used; --by for hours over time.")(
        gpus
    )


def gpus(
    by: Annotated[
        str | None, typer.Option(help=f"Hours of GPUs over time, by {', '.join(TIME_GROUPS)}.")
    ] = None,
    is_all: Annotated[
        bool, typer.Option("--all", help="Also GPUs of nodes that are silent, of the last seven days.")
    ] = False,
    start: Start = None,
    end: End = None,
    month: Month = None,
    as_json: Json = False,
    as_csv: Csv = False,
    parquet: Parquet = None,
) -> None:
    """GPUs now, or their hours over time."""
    check_one_form(as_json=as_json, as_csv=as_csv, parquet=parquet)
    if by is None and (start, end, month) != (None, None, None):
        raise UsageError("a period is for hours over time: give --by too, as in --by day")
    first, last = asked_period(start, end, month)
    with session() as opened:
        if by is None:
            table = gpus_now(opened, is_all=is_all)
        else:
            table = gpus_over_time(opened, by=by, start=hour_text(first), end=hour_text(last))
        is_table = not (as_json or as_csv or parquet is not None)
        runs = (
            [str(run) for row in table_rows(table) for run in row["run_ids"]]
            if by is None and is_table
            else []
        )
        labels = run_labels(opened, runs)
    if not is_table:
        print_rows(table, as_json=as_json, as_csv=as_csv, parquet=parquet)
    elif not table.num_rows:
        stderr_line(
            "no GPU: no agent saw one"
            + (
                " in this time"
                if by
                else " on a node that is alive; --all shows those of the last seven days"
            )
        )
    elif by is None:
        _print_now(table_rows(table), labels)
    else:
        _print_hours(table_rows(table), by)


def _print_now(rows: list[dict[str, Any]], labels: Mapping[str, str]) -> None:
    print_table(
        _NOW,
        (gpu_cells(row, labels, now=utc_now()) for row in rows),
        right=("for", "use 10 min", "idle for", "memory"),
        optional=("model", "memory"),
    )


def _print_hours(rows: list[dict[str, Any]], by: str) -> None:
    cells = (
        [cell_text(row[by]), *("unknown" if row[name] is None else f"{row[name]:.2f}" for name in _HOURS)]
        for row in rows
    )
    columns = (by, "held", "used", "not used", "not measured", "nobody's", "not seen")
    print_table(columns, cells, right=columns[1:], title="hours of GPUs")
