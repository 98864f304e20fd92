"""`cost` and `price`."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer

from trainledger_schemas.errors import UsageError
from trainledger_schemas.ids import id_text, random_id

from ..cost.node_events import hour_of
from ..cost.price_book import read_price_book
from ..cost.prices import nano_rate, price_fields, whole_hour
from ..cost.report import CostReport, read_report
from ..reports.times import parse_month, parse_time
from .opening import session, utc_now
from .options import Csv, Json, Parquet
from .output import print_json, print_rows, print_table, stderr_line, table_rows

__all__ = ["register"]

price_app = typer.Typer(no_args_is_help=True, help="Prices of nodes.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("cost", help="Who pays what, to the cent, equal to the bills of the nodes.")(cost)
    app.add_typer(price_app, name="price")


def cost(
    by: Annotated[str, typer.Option(help="team, project, experiment, run, user, node or kind.")] = "team",
    start: Annotated[
        str | None, typer.Option("--from", help="First hour: 2026-11-01, or an age such as 7d.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="End, not included.")] = None,
    month: Annotated[str | None, typer.Option(help="One month, as in 2026-11.")] = None,
    as_json: Json = False,
    as_csv: Csv = False,
    parquet: Parquet = None,
) -> None:
    """Report cost by one group."""
    first, last = _period(start, end, month)
    with session() as opened:
        report = read_report(opened, by=by, start=_hour_text(first), end=_hour_text(last))
    if as_json:
        print_json(report.rows)
        return
    if as_csv or parquet is not None:
        print_rows(pa.Table.from_pylist(list(report.rows)), as_csv=as_csv, parquet=parquet)
        return
    _print_report(report)


def _print_report(report: CostReport) -> None:
    if not report.has_presence:
        stderr_line(
            "no cost: no agent watched a node in this time; start `trainledger up` before training, "
            "or `trainledger agent` on each node"
        )
        return
    cells = (
        [
            row[report.by] or f"({row['kind']})",
            row["kind"],
            row["cost"] or "unpriced",
            row["currency"] or "-",
            f"{row['unpriced_hours']:.4f}" if row["unpriced_hours"] else "-",
        ]
        for row in report.rows
    )
    print_table(
        (report.by, "kind", "cost", "currency", "unpriced hours"), cells, right=("cost", "unpriced hours")
    )
    for currency, total in report.totals.items():
        typer.echo(
            f"total {total} {currency}; bills of the nodes {report.bills.get(currency, '0')} {currency}"
        )
    if report.unpriced_hours:
        typer.echo(
            f"unpriced: {report.unpriced_hours:.4f} node-hours; set a price with "
            "`trainledger price set --node PATTERN --usd-per-hour X`"
        )


@price_app.command("set")
def price_set(
    node: Annotated[str, typer.Option(help="Node name; * and ? stand for any.")],
    usd_per_hour: Annotated[str, typer.Option(help="Price of the whole node for one hour.")],
    start: Annotated[
        str | None, typer.Option("--from", help="Whole UTC hour; default the current one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Set a price from a whole UTC hour on."""
    now = utc_now()
    moment = parse_time(start, now=now) if start is not None else None
    now_us = int(now.timestamp() * 1_000_000)
    from_us = whole_hour(int(moment.timestamp()) * 1_000_000, start or "") if moment else hour_of(now_us)
    fields = price_fields(
        id_text(random_id()),
        pattern=node,
        nano_per_hour=nano_rate(usd_per_hour),
        currency="USD",
        from_hour_us=from_us,
        extra={},
    )
    with session() as opened:
        opened.append_admin("price_set", fields)
    _say_set([fields], as_json=as_json)


@price_app.command("load")
def price_load(file: Annotated[Path, typer.Argument(help="TOML price book.")], as_json: Json = False) -> None:
    """Set all prices of a TOML price book."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file}: {error}") from error
    prices = read_price_book(text, new_id=lambda: id_text(random_id()))
    with session() as opened:
        for fields in prices:
            opened.append_admin("price_set", fields)
    _say_set(prices, as_json=as_json)


@price_app.command("ls")
def price_ls(as_json: Json = False) -> None:
    """List all prices that were set."""
    with session() as opened:
        table = opened.query(
            f"SELECT node, per_hour, currency, from_hour, set_by, set_at FROM {opened.views}.prices ORDER BY set_at"
        )
    if as_json:
        print_rows(table, as_json=True)
        return
    rows = (
        [
            str(row["node"]),
            f"{row['per_hour']:f}",
            row["currency"],
            f"{row['from_hour']:%Y-%m-%d %H:%M} UTC",
            row["set_by"],
            f"{row['set_at']:%Y-%m-%d %H:%M}",
        ]
        for row in table_rows(table)
    )
    print_table(("node", "per hour", "currency", "from", "set by", "set at"), rows)


def _say_set(prices: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(prices)
        return
    for fields in prices:
        typer.echo(f"{fields['pattern']}: {fields['nano_per_hour'] / 1e9:g} {fields['currency']} an hour")


def _period(start: str | None, end: str | None, month: str | None) -> tuple[datetime | None, datetime | None]:
    if month is not None:
        if start is not None or end is not None:
            raise UsageError("--month stands alone: leave out --from and --to")
        return parse_month(month)
    now = utc_now()
    first = parse_time(start, now=now) if start is not None else None
    last = parse_time(end, now=now) if end is not None else None
    return first, last


def _hour_text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%d %H:00:00")
