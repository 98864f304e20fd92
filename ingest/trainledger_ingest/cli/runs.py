"""`ls` and `show`."""

from typing import Annotated, Any

import typer

from ..reports.description import describe_run
from ..reports.listing import RunChoice, list_runs, ls_cells, parse_since
from ..reports.metric_results import group_rows, group_section
from ..reports.near_names import unknown_name
from ..reports.section import shortened_parts
from ..reports.time_left import about_text
from ..run_lookup import find_run
from ..session import Session
from .opening import session, utc_now
from .options import Csv, Json, Parquet
from .output import cell_text, check_one_form, print_json, print_rows, print_table, stderr_line, table_rows

__all__ = ["register"]

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Id, the unique beginning of one, or name.")]

_LS_COLUMNS = ("run", "name", "project", "experiment", "team", "state", "started", "duration", "cost")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("ls", help="List runs.")(ls)
    app.command("show", help="Show one run: state, parameters, results, usage, cost.")(show)


def ls(
    project: Annotated[str | None, typer.Option(help="Only this project.")] = None,
    team: Annotated[str | None, typer.Option(help="Only this team.")] = None,
    state: Annotated[str | None, typer.Option(help="Only this state.")] = None,
    group: Annotated[str | None, typer.Option(help="Only this group, as of a sweep.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only with this tag.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Started since: 2026-11-01, 2026-11-01T10:00 or 7d.")
    ] = None,
    sort: Annotated[
        str,
        typer.Option(
            help="Column of view runs, metric:KEY (the best first) or param:KEY; -column for descending."
        ),
    ] = "-started_at",
    columns: Annotated[
        str | None, typer.Option(help="Columns, as in name,state,param:lr,metric:eval/acc.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most this many.")] = 1000,
    as_json: Json = False,
    as_csv: Csv = False,
    parquet: Parquet = None,
) -> None:
    """List runs, newest first."""
    check_one_form(as_json=as_json, as_csv=as_csv, parquet=parquet)
    wanted = () if columns is None else tuple(name.strip() for name in columns.split(","))
    since_at = parse_since(since, now=utc_now())
    choice = RunChoice(project, team, state, since_at, sort, limit, group=group, tag=tag, columns=wanted)
    with session() as opened:
        table, more = list_runs(opened, choice)
        asked = {"project": project, "team": team, "group": group} if not table.num_rows else {}
        hints = [unknown_name(opened, what, name) for what, name in asked.items() if name is not None]
    if more:
        first = "run" if limit == 1 else f"{limit} runs"
        stderr_line(f"only the first {first}; --limit shows more")
    if as_json or as_csv or parquet is not None:
        print_rows(table, as_json=as_json, as_csv=as_csv, parquet=parquet)
    elif not table.num_rows:
        stderr_line(
            next((hint for hint in hints if hint), "no run is like that; `trainledger ls` alone lists all")
            if any((project, team, state, since, group, tag))
            else "no runs; `trainledger run -- CMD` or `import trainledger` in a script records one"
        )
    elif wanted:
        print_rows(table)
    else:
        _print_list(table_rows(table), sort.removeprefix("-"))


def _print_list(listed: list[dict[str, Any]], sort: str) -> None:
    columns, cells = list(_LS_COLUMNS), [ls_cells(row) for row in listed]
    if any(row["eta_s"] is not None for row in listed):
        place = columns.index("duration") + 1
        columns.insert(place, "left")
        for row, cell in zip(listed, cells, strict=True):
            cell.insert(place, "-" if row["eta_s"] is None else f"~{about_text(row['eta_s'])}")
    if ":" in sort:
        columns.append(sort.partition(":")[2])
        for row, cell in zip(listed, cells, strict=True):
            cell.append(cell_text(row[sort]))
    print_table(
        columns,
        cells,
        right=("duration", "left", "cost"),
        optional=("experiment", "team", "project", "cost"),
    )


def show(
    run: RunArgument,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="G",
            help="All metrics of this group alone, eval of eval/acc; --json: rows of metric_summary.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show one run, or all metrics of one group."""
    with session() as opened:
        run_id = find_run(opened, run, say=stderr_line)
        if group is not None:
            _show_group(opened, run_id, group, as_json=as_json)
            return
        picture = describe_run(opened, run_id)
    if as_json:
        print_json([picture.row])
        return
    print_table(("", picture.title), picture.facts)
    for section in picture.sections:
        print_table(section.columns, section.rows, title=section.title, optional=section.optional)


def _show_group(opened: Session, run_id: str, group: str, *, as_json: bool) -> None:
    if as_json:
        print_json(group_rows(opened, run_id, group))
        return
    section = shortened_parts(group_section(opened, run_id, group))
    print_table(section.columns, section.rows, title=section.title, optional=section.optional)
