"""`cost` and `price`."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer

from trainledger_schemas.errors import TrainledgerError, UsageError
from trainledger_schemas.ids import id_text, random_id

from ..cost.month import read_statement
from ..cost.node_events import hour_of
from ..cost.price_book import read_price_book
from ..cost.prices import Price, PriceBook, matches, nano_rate, price_fields, whole_hour
from ..cost.report import GROUPS, CostReport, read_report
from ..reports.times import parse_time
from ..session import Session
from .cost_months import closed_month, export_focus, print_explanation, say_closed
from .cost_options import (
    By,
    End,
    Explain,
    Focus,
    FocusVersion,
    Month,
    Prices,
    Start,
    asked_period,
    hour_text,
)
from .cost_prices import print_repricing
from .opening import session, utc_now
from .options import Csv, Json, Parquet
from .output import cell_text, check_one_form, print_json, print_rows, print_table, stderr_line, table_rows

__all__ = ["register"]

HOUR = timedelta(hours=1)
NODES_NAMED_MAX = 5
price_app = typer.Typer(no_args_is_help=True, help="Prices of nodes.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("cost", help="Who pays what, to the cent, equal to the bills of the nodes.")(cost)
    app.add_typer(price_app, name="price")


def cost(
    by: By = "team",
    start: Start = None,
    end: End = None,
    month: Month = None,
    explain: Explain = False,
    focus: Focus = None,
    focus_version: FocusVersion = "1.4",
    prices: Prices = None,
    as_json: Json = False,
    as_csv: Csv = False,
    parquet: Parquet = None,
) -> None:
    """Report cost by one group."""
    check_one_form(as_json=as_json, as_csv=as_csv, parquet=parquet)
    if by not in GROUPS:
        raise UsageError(f"cannot report by {by!r}; the groups are {', '.join(GROUPS)}")
    if sum((explain, focus is not None, prices is not None)) > 1:
        raise UsageError("choose one of --explain, --focus and --prices")
    _check_form(
        "--explain" if explain else "--focus" if focus else "--prices" if prices else "",
        {"--json": as_json and focus is not None, "--csv": as_csv, "--parquet": parquet is not None},
    )
    first, last = asked_period(start, end, month)
    hours = (hour_text(first), hour_text(last))
    with session() as opened:
        closed = closed_month(opened, first, is_month=month is not None)
        if explain:
            print_explanation(opened, closed, asked=month, as_json=as_json)
        elif prices is not None:
            print_repricing(opened, prices, by=by, period=hours, as_json=as_json)
        elif focus is not None:
            export_focus(opened, focus, (first, last), closed=closed, version=focus_version)
        else:
            if closed is not None:
                report = read_statement(opened, closed, by=by)
            else:
                report = read_report(opened, by=by, start=hours[0], end=hours[1])
            if as_json:
                print_json(report.rows)
            elif as_csv or parquet is not None:
                print_rows(_report_table(report, exact=parquet is not None), as_csv=as_csv, parquet=parquet)
            else:
                _print_report(report, now=utc_now())
                say_closed(opened, closed, first, is_month=month is not None)


def _check_form(report: str, forms: Mapping[str, bool]) -> None:
    """Refuse a form that a report has not, rather than leave it out."""
    refused = [form for form, is_asked in forms.items() if is_asked]
    if report and refused:
        own = "the file's name says its form" if report == "--focus" else "it is a table, or --json"
        raise UsageError(f"{report} has no {refused[0]}: {own}")


def _report_table(report: CostReport, *, exact: bool) -> pa.Table:
    # Text has the decimals of its currency; a column of numbers needs one scale for all.
    money = pa.decimal128(38, 9) if exact else pa.string()
    kinds = {report.by: pa.string(), "kind": pa.string(), "cost": money, "currency": pa.string()}
    schema = pa.schema([*kinds.items(), ("unpriced_hours", pa.float64())])
    rows = [dict(row) for row in report.rows]
    if exact:
        for row in rows:
            row["cost"] = None if row["cost"] is None else Decimal(row["cost"])
    return pa.Table.from_pylist(rows, schema=schema)


def _print_report(report: CostReport, *, now: datetime) -> None:
    if not report.has_presence:
        stderr_line(
            "no cost: no agent watched a node in this time; start `trainledger up` before training, "
            "or `trainledger agent` on each node"
        )
        return
    cells = [
        {
            report.by: cell_text(row[report.by]) if row[report.by] is not None else f"({row['kind']})",
            "kind": row["kind"] or "several",
            "cost": row["cost"] or "unpriced",
            "currency": row["currency"] or "-",
            "unpriced hours": f"{row['unpriced_hours']:.4f}" if row["unpriced_hours"] else "-",
        }
        for row in report.rows
    ]
    print_table(tuple(cells[0]), (tuple(row.values()) for row in cells), right=("cost", "unpriced hours"))
    for currency, total in report.totals.items():
        bill = report.bills.get(currency)
        typer.echo(f"total {total} {currency}; bills of the nodes {bill} {currency}")
        if bill != total:
            stderr_line(
                "the total is not that of the bills: `trainledger admin rebuild` deals all hours anew"
            )
    if report.newest_hour is not None and now - report.newest_hour < HOUR:
        typer.echo(
            f"the hour open until {report.newest_hour + HOUR:%H:%M} UTC is billed up to {now:%H:%M:%S}; it grows"
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
    from_us = whole_hour(_micros(moment), start or "") if moment else hour_of(_micros(now))
    fields = price_fields(
        id_text(random_id()),
        pattern=node,
        nano_per_hour=nano_rate(usd_per_hour),
        currency="USD",
        from_hour_us=from_us,
        extra={},
    )
    with session() as opened:
        _say_presence(opened, node, from_us)
        opened.append_admin("price_set", fields)
        _say_unmatched(opened, [node])
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
        _say_unmatched(opened, [str(fields["pattern"]) for fields in prices])
    _say_set(prices, as_json=as_json)


@price_app.command("ls")
def price_ls(as_json: Json = False) -> None:
    """List all prices that were set; those that count in this hour are marked."""
    with session() as opened:
        table = opened.query(
            "SELECT toString(price_id) AS id, node, per_hour, currency, from_hour, presence, set_by, set_at "
            f"FROM {opened.views}.prices ORDER BY set_at"
        )
    rows = table_rows(table)
    book = PriceBook(_price_of(row) for row in rows)
    counting = book.in_effect(hour_of(_micros(utc_now())))
    shown = [
        {name: value for name, value in row.items() if name != "id"} | {"in_effect": row["id"] in counting}
        for row in rows
    ]
    if as_json:
        print_json(shown)
        return
    cells = (
        [
            cell_text(row["node"]),
            _money_text(row["per_hour"]),
            row["currency"],
            f"{row['from_hour']:%Y-%m-%d %H:%M}",
            row["presence"] or "observed",
            "now" if row["in_effect"] else "",
            cell_text(row["set_by"]),
            f"{row['set_at']:%Y-%m-%d %H:%M}",
        ]
        for row in shown
    )
    columns = ("node", "per hour", "currency", "from (UTC)", "presence", "counts", "set by", "set at (UTC)")
    print_table(columns, cells, right=("per hour",))


def _price_of(row: dict[str, Any]) -> Price:
    rate, start, at = int(row["per_hour"].scaleb(9)), _micros(row["from_hour"]), _micros(row["set_at"])
    return Price(row["id"], row["node"], rate, row["currency"], start, at)


def _say_unmatched(opened: Session, patterns: list[str]) -> None:
    """A line for each pattern that no node bears so far: it may be mistyped, or meant for nodes to come."""
    if not opened.has_tables_open():
        return  # a price needs Kafka alone, and must not make tables where it is set
    try:
        nodes = opened.query(f"SELECT DISTINCT node_id FROM {opened.views}.node_hour_bills ORDER BY node_id")
    except TrainledgerError:
        return  # where only Kafka is at hand, a price is set without the tables
    seen = nodes["node_id"].to_pylist()
    named = ", ".join(seen[:NODES_NAMED_MAX]) + (" ..." if len(seen) > NODES_NAMED_MAX else "")
    for pattern in patterns:
        if seen and not any(matches(node, pattern) for node in seen):
            stderr_line(f"no node seen so far is called {pattern!r}; seen are {named}")


def _say_presence(opened: Session, pattern: str, from_us: int) -> None:
    """A line if the price that counted for the pattern bills by other presence: this one ends that."""
    if not opened.has_tables_open():
        return
    try:
        rows = opened.query(
            f"SELECT presence FROM {opened.views}.prices WHERE node = {{node:String}} "
            "AND toUnixTimestamp(from_hour) <= {from:Int64} ORDER BY from_hour DESC, set_at DESC LIMIT 1",
            {"node": pattern, "from": from_us // 1_000_000},
        ).to_pylist()
    except TrainledgerError:
        return
    if rows and rows[0]["presence"] not in ("", "observed"):
        stderr_line(
            f"the price of {pattern!r} before has presence {rows[0]['presence']}, which ends where this one begins: "
            "from then on hours count while the node is seen. To keep it, set the new rate by `trainledger price "
            "load` with presence and its dates"
        )


def _say_set(prices: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(prices)
        return
    for fields in prices:
        rate = _money_text(Decimal(fields["nano_per_hour"]).scaleb(-9))
        start = datetime.fromtimestamp(fields["from_hour_us"] / 1e6, tz=UTC)
        typer.echo(
            f"{cell_text(fields['pattern'])}: {rate} {fields['currency']} an hour from {start:%Y-%m-%d %H:%M} UTC"
        )


def _money_text(amount: Decimal) -> str:
    """A rate with all the decimals it has, and two at least."""
    whole, _, decimals = f"{amount:f}".partition(".")
    return f"{whole}.{decimals.rstrip('0'):0<2}"


def _micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
