"""`energy`: kilowatt-hours of GPUs and CO2e, and the factors that they are computed with."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import pyarrow as pa
import typer

from ..cost.node_events import hour_of
from ..cost.prices import whole_hour
from ..reports.energy import ENERGY_GROUPS, EnergyReport, factor_fields, read_energy
from ..reports.times import parse_time
from .cost_options import End, Month, Start, asked_period, hour_text
from .opening import session, utc_now
from .options import Csv, Json, Parquet
from .output import cell_text, check_one_form, print_json, print_rows, print_table, stderr_line, table_rows
from .waste_causes import refuse_ignored

__all__ = ["register"]

_HOURS = ("observed_hours", "unknown_hours")
energy_app = typer.Typer(invoke_without_command=True, no_args_is_help=False)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(energy_app, name="energy", help="Energy of GPUs and CO2e, by run, team, project and more.")


@energy_app.callback()
def energy(
    context: typer.Context,
    by: Annotated[str, typer.Option(help=f"{', '.join(ENERGY_GROUPS)}.")] = "team",
    start: Start = None,
    end: End = None,
    month: Month = None,
    as_json: Json = False,
    as_csv: Csv = False,
    parquet: Parquet = None,
) -> None:
    """Energy of GPUs and CO2e by one group."""
    refuse_ignored(
        context,
        **{"from": start},
        to=end,
        month=month,
        by=by != "team",
        as_json=as_json,
        as_csv=as_csv,
        parquet=parquet,
    )
    if context.invoked_subcommand is not None:
        return
    check_one_form(as_json=as_json, as_csv=as_csv, parquet=parquet)
    first, last = asked_period(start, end, month)
    with session() as opened:
        report = read_energy(opened, by=by, start=hour_text(first), end=hour_text(last))
    if as_json:
        print_json(report.rows)
    elif as_csv or parquet is not None:
        print_rows(_table(by, report), as_csv=as_csv, parquet=parquet)
    elif not report.rows:
        stderr_line("no energy: no agent measured a GPU in this time")
    else:
        _print(by, report)


@energy_app.command("set")
def set_factor(
    node: Annotated[str, typer.Option(help="Node name; * and ? stand for any.")] = "*",
    pue: Annotated[
        str | None, typer.Option(help="Energy of the building for each unit at the machines, from 1.")
    ] = None,
    grid: Annotated[
        str | None, typer.Option("--grid-g-per-kwh", help="Grams of CO2e a kilowatt-hour of the grid there.")
    ] = None,
    year: Annotated[int | None, typer.Option(help="Year that the number of the grid is of.")] = None,
    source: Annotated[str | None, typer.Option(help="Where the numbers are from.")] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Whole UTC hour; default the current one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Set what a kilowatt-hour comes to, from a whole UTC hour on, instead of what the pattern had before."""
    now = utc_now()
    moment = parse_time(start, now=now) if start is not None else None
    from_us = whole_hour(_micros(moment), start or "") if moment else hour_of(_micros(now))
    fields = factor_fields(pattern=node, from_hour_us=from_us, pue=pue, grid=grid, year=year, source=source)
    with session() as opened:
        opened.append_admin("energy_factor_set", fields)
    if as_json:
        print_json([fields])
        return
    parts = [f"PUE {pue}"] if pue else []
    parts += [f"{grid} g CO2e a kWh ({year}, {cell_text(source)})"] if grid else []
    begin = datetime.fromtimestamp(from_us / 1e6, tz=UTC)
    typer.echo(f"{cell_text(node)}: {', '.join(parts)} from {begin:%Y-%m-%d %H:%M} UTC")


@energy_app.command("ls")
def list_factors(as_json: Json = False) -> None:
    """List all factors that were set."""
    with session() as opened:
        table = opened.query(f"SELECT * FROM {opened.views}.energy_factors ORDER BY set_at")
    if as_json:
        print_rows(table, as_json=True)
        return
    columns = ("node", "from (UTC)", "PUE", "g CO2e a kWh", "year", "source", "set by")
    cells = (
        [
            cell_text(row["node"]),
            f"{row['from_hour']:%Y-%m-%d %H:%M}",
            _plain(row["pue"]),
            _plain(row["grid_g_per_kwh"]),
            cell_text(row["year"]),
            cell_text(row["source"]),
            cell_text(row["set_by"]),
        ]
        for row in table_rows(table)
    )
    print_table(columns, cells, right=("PUE", "g CO2e a kWh"))


def _plain(number: Decimal | None) -> str:
    return "-" if number is None else f"{number.normalize():f}"


def _table(by: str, report: EnergyReport) -> pa.Table:
    kinds = {
        name: pa.string()
        if name in (by, "quality")
        else pa.float64()
        if name in _HOURS
        else pa.decimal128(38, 6)
        for name in (by, *report.total)
    }
    return pa.Table.from_pylist([dict(row) for row in report.rows], schema=pa.schema(list(kinds.items())))


def _print(by: str, report: EnergyReport) -> None:
    columns = (
        by,
        "kWh",
        "of runs",
        "divided by estimate",
        "hours not measured",
        "kWh with building",
        "kg CO2e",
        "quality",
    )
    cells = [_cells(cell_text(row[by]) if row[by] is not None else "(no run)", row) for row in report.rows]
    print_table(columns, [*cells, _cells("total", report.total)], right=columns[1:7])
    typer.echo("energy of processors, memory, disks and network is not measured, and not in here")
    for factor in report.factors:
        grid = (
            "not set"
            if factor["grid_g_per_kwh"] is None
            else f"{_plain(factor['grid_g_per_kwh'])} g CO2e a kWh"
        )
        source = f" ({factor['year']}, {factor['source']})" if factor["grid_g_per_kwh"] is not None else ""
        typer.echo(f"factors: PUE {_plain(factor['pue'])}, grid {grid}{source}")
    missing = report.total["kwh_without_factor"]
    if missing:
        typer.echo(
            f"{missing:f} kWh have no CO2e: set PUE and grid with `trainledger energy set --pue X --grid-g-per-kwh Y "
            "--year YEAR --source WHERE`"
        )


def _cells(name: str, row: dict[str, Any]) -> list[str]:
    numbers = ("device_kwh", "run_kwh", "estimated_kwh", "unknown_hours", "building_kwh", "kgco2e")
    return [name, *("unknown" if row[key] is None else f"{row[key]:.3f}" for key in numbers), row["quality"]]


def _micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
