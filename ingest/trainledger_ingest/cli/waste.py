"""`waste`: how much of the bill was wasted, and why."""

from decimal import Decimal
from typing import Annotated, Any

import pyarrow as pa
import typer

from ..cost.month import read_closed_month
from ..cost.report import GROUPS
from ..cost.waste import WASTED, WHYS, WasteChoice, WasteReport, read_waste
from .cost_options import End, Month, Start, asked_period, hour_text
from .opening import session
from .options import Csv, Json, Parquet
from .output import cell_text, check_one_form, print_json, print_rows, print_table, stderr_line
from .waste_causes import refuse_ignored
from .waste_causes import register as register_causes

__all__ = ["register"]

_MONEY = ("cost", *WHYS, "wasted")
waste_app = typer.Typer(invoke_without_command=True, no_args_is_help=False)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    register_causes(waste_app)
    app.add_typer(waste_app, name="waste", help="How much of the bill was wasted, and why.")


@waste_app.callback()
def waste(
    context: typer.Context,
    by: Annotated[str, typer.Option(help=f"{', '.join(GROUPS)}.")] = "team",
    team: Annotated[str | None, typer.Option(help="Only what this team pays.")] = None,
    project: Annotated[str | None, typer.Option(help="Only what this project pays.")] = None,
    start: Start = None,
    end: End = None,
    month: Month = None,
    as_json: Json = False,
    as_csv: Csv = False,
    parquet: Parquet = None,
) -> None:
    """How much of the bill was wasted, and why: the rows of `cost`, each split into reasons that sum to it."""
    refuse_ignored(
        context, team=team, project=project, **{"from": start}, to=end, month=month, by=by != "team",
        as_json=as_json, as_csv=as_csv, parquet=parquet,
    )  # fmt: skip
    if context.invoked_subcommand is not None:
        return
    check_one_form(as_json=as_json, as_csv=as_csv, parquet=parquet)
    first, last = asked_period(start, end, month)
    choice = WasteChoice(hour_text(first), hour_text(last), team, project)
    with session() as opened:
        report = read_waste(opened, choice, by=by)
        closed = read_closed_month(opened, f"{first:%Y-%m}") if month is not None else None
    if closed is not None:
        stderr_line(
            f"{closed.period} is closed, and a statement does not say what was used: this is what is known now; "
            f"`trainledger cost --month {closed.period}` has the statement"
        )
    if as_json:
        print_json(report.rows)
    elif as_csv or parquet is not None:
        print_rows(_table(by, report, exact=parquet is not None), as_csv=as_csv, parquet=parquet)
    else:
        _print(by, report, is_all=choice.is_all)


def _table(by: str, report: WasteReport, *, exact: bool) -> pa.Table:
    money = pa.decimal128(38, 9) if exact else pa.string()
    numbers = ("wasted_pct_min", "wasted_pct_max", "unpriced_hours")
    names = (
        by,
        "kind",
        "cost",
        *WHYS,
        "wasted",
        "wasted_pct_min",
        "wasted_pct_max",
        "currency",
        "unpriced_hours",
    )
    kinds = {
        name: money if name in _MONEY else pa.float64() if name in numbers else pa.string() for name in names
    }
    rows = [dict(row) for row in report.rows]
    for row in rows if exact else ():
        for name in _MONEY:
            row[name] = None if row[name] is None else Decimal(row[name])
    return pa.Table.from_pylist(rows, schema=pa.schema(list(kinds.items())))


def _print(by: str, report: WasteReport, *, is_all: bool) -> None:
    if not report.rows:
        stderr_line(
            "no cost: no agent watched a node in this time"
            if is_all
            else "no cost: nothing in this time is of that --team or --project"
        )
        return
    shown = [why for why in WHYS if any(Decimal(row[why] or 0) for row in report.rows)]
    columns = (by, "cost", "wasted", "wasted %", *shown, "currency")
    cells = [
        [
            cell_text(row[by]) if row[by] is not None else f"({row['kind']})",
            row["cost"] or "unpriced",
            _amount(row, "wasted"),
            _share(row),
            *(_amount(row, why) for why in shown),
            row["currency"] or "-",
        ]
        for row in report.rows
    ]
    print_table(columns, cells, right=("cost", "wasted", "wasted %", *shown))
    for total in report.totals:
        bill = f"; bills of the nodes {report.costs.bills.get(total['currency'])} {total['currency']}"
        typer.echo(f"total {total['cost']} {total['currency']}{bill if is_all else ''}")
        typer.echo(_sentence(total))
    if report.costs.unpriced_hours:
        typer.echo(f"unpriced, and in none of this: {report.costs.unpriced_hours:.4f} node-hours")


def _sentence(total: dict[str, Any]) -> str:
    currency = total["currency"]
    if total["wasted"] is None:
        return f"how much of it was wasted is not known: {total['unknown']} {currency} was not measured"
    parts = [f"{why} {total[why]}" for why in WASTED if Decimal(total[why] or 0)]
    text = f"wasted {total['wasted']} {currency} ({_share(total)})" + (
        f": {', '.join(parts)}" if parts else ""
    )
    if Decimal(total["unknown"]):
        text += f"; of {total['unknown']} {currency} it is not known whether it was used"
    return text


def _amount(row: dict[str, Any], name: str) -> str:
    return row[name] or ("-" if row["currency"] is None else "unknown")


def _share(row: dict[str, Any]) -> str:
    low, high = row["wasted_pct_min"], row["wasted_pct_max"]
    if low is None:
        return "-" if row["currency"] is None or row["wasted"] is not None else "unknown"
    return f"{low:.1f} %" if low == high else f"{low:.1f}-{high:.1f} %"
