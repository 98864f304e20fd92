"""`cost`."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import typer

from trainledger_schemas.errors import UsageError

from ..cost.conversion import Exchange, missing_text
from ..cost.currency_rates import Rate
from ..cost.money import currency_code
from ..cost.month import ClosedMonth, read_statement
from ..cost.report import GROUPS, CostReport, read_report
from ..session import Session
from .cost_currency import asked_exchange, conversion_of
from .cost_months import FocusChoice, closed_month, export_focus, print_explanation, say_closed
from .cost_options import (
    By,
    Currency,
    End,
    Explain,
    Focus,
    FocusVersion,
    Month,
    Prices,
    Reconcile,
    Start,
    asked_period,
    hour_text,
    whole_hours,
)
from .cost_prices import print_repricing
from .cost_reconcile import print_reconciliation
from .opening import session, utc_now
from .options import Csv, Json, Parquet
from .output import cell_text, check_one_form, print_json, print_rows, print_table, stderr_line

__all__ = ["register"]

HOUR = timedelta(hours=1)
RATES_NAMED_MAX = 3


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("cost", help="Who pays what, to the cent, equal to the bills of the nodes.")(cost)


def cost(
    by: By = None,
    start: Start = None,
    end: End = None,
    month: Month = None,
    explain: Explain = False,
    focus: Focus = None,
    focus_version: FocusVersion = "1.4",
    prices: Prices = None,
    reconcile: Reconcile = None,
    currency: Currency = None,
    as_json: Json = False,
    as_csv: Csv = False,
    parquet: Parquet = None,
) -> None:
    """Report cost by one group."""
    check_one_form(as_json=as_json, as_csv=as_csv, parquet=parquet)
    if by is not None and by not in GROUPS:
        raise UsageError(f"cannot report by {by!r}; the groups are {', '.join(GROUPS)}")
    if sum((explain, focus is not None, prices is not None, reconcile is not None)) > 1:
        raise UsageError("choose one of --explain, --focus, --prices and --reconcile")
    _check_alone(reconcile, by, currency=currency, explain=explain)
    _check_form(
        "--explain" if explain else "--focus" if focus else "--prices" if prices else "",
        {"--json": as_json and focus is not None, "--csv": as_csv, "--parquet": parquet is not None},
        has_group=by is not None and prices is None,
    )
    by = by or "team"
    first, last = whole_hours(*asked_period(start, end, month))
    hours = (hour_text(first), hour_text(last))
    with session() as opened:
        closed = closed_month(opened, first, is_month=month is not None)
        if explain:
            print_explanation(opened, closed, asked=month, as_json=as_json)
        elif prices is not None:
            rates = asked_exchange(opened, currency)
            print_repricing(opened, prices, by=by, period=hours, exchange=rates, as_json=as_json)
        elif reconcile is not None:
            forms = (as_json, as_csv, parquet)
            print_reconciliation(
                opened, reconcile, (first, last), closed=closed, currency=currency or "USD", forms=forms
            )
        elif focus is not None:
            choice = FocusChoice(focus, focus_version, closed, asked_exchange(opened, currency))
            export_focus(opened, choice, (first, last))
        else:
            report = _read(opened, closed, by, hours, asked_exchange(opened, currency))
            _print_forms(report, as_json=as_json, as_csv=as_csv, parquet=parquet)
            if not (as_json or as_csv or parquet is not None):
                say_closed(opened, closed, first, is_month=month is not None)


def _read(
    opened: Session,
    closed: ClosedMonth | None,
    by: str,
    hours: tuple[str | None, str | None],
    exchange: Exchange | None,
) -> CostReport:
    conversion = conversion_of(exchange, closed)
    if closed is not None:
        report = read_statement(opened, closed, by=by, conversion=conversion)
    else:
        report = read_report(opened, by=by, start=hours[0], end=hours[1], conversion=conversion)
    if conversion is not None and report.converted is not None and report.converted.missing:
        stderr_line(f"kept in their own currency: {missing_text(conversion, report.converted.missing)}")
    return report


def _print_forms(report: CostReport, *, as_json: bool, as_csv: bool, parquet: Path | None) -> None:
    if as_json:
        print_json(report.rows)
    elif as_csv or parquet is not None:
        print_rows(_report_table(report, exact=parquet is not None), as_csv=as_csv, parquet=parquet)
    else:
        _print_report(report, now=utc_now())


def _check_alone(invoice: str | None, by: str | None, *, currency: str | None, explain: bool) -> None:
    """Refuse what would do nothing beside an invoice or an explanation, and what is no currency."""
    if currency is not None:
        currency_code(currency)
    if explain and currency is not None:
        raise UsageError("--explain has no --currency: differences stand in the currency they were booked in")
    if invoice is not None and by is not None:
        raise UsageError("--reconcile has no --by: it is by node, as the invoice is")


def _check_form(report: str, forms: Mapping[str, bool], *, has_group: bool) -> None:
    """Refuse a form or a group that a report has not, rather than leave it out."""
    refused = [form for form, is_asked in forms.items() if is_asked]
    if report and refused:
        own = "the file's name says its form" if report == "--focus" else "it is a table, or --json"
        raise UsageError(f"{report} has no {refused[0]}: {own}")
    if report and has_group:
        own = "it has every holder" if report == "--focus" else "it is by cause and team"
        raise UsageError(f"{report} has no --by: {own}")


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
    if report.converted is not None:
        _say_rates(report.converted.used)
    if report.newest_hour is not None and now - report.newest_hour < HOUR:
        typer.echo(
            f"the hour open until {report.newest_hour + HOUR:%H:%M} UTC is billed up to each node's last event; "
            "it grows"
        )
    if report.unpriced_hours:
        typer.echo(
            f"unpriced: {report.unpriced_hours:.4f} node-hours; set a price with "
            "`trainledger price set --node PATTERN --usd-per-hour X`"
        )


def _say_rates(used: Sequence[Rate]) -> None:
    """By which rates amounts were brought to one currency: by hand, or an old one, is then seen."""
    if not used:
        return
    named = ", ".join(rate.text() for rate in used[:RATES_NAMED_MAX])
    more = f" and {len(used) - RATES_NAMED_MAX} more" if len(used) > RATES_NAMED_MAX else ""
    typer.echo(f"each hour at the rate of its day: {named}{more}")
