"""`cost --reconcile INVOICE`: the bills of nodes against what was really charged."""

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import typer

from trainledger_schemas.errors import UsageError

from ..cost.month import ClosedMonth, read_bookings
from ..cost.reconcile import COLUMNS, Reconciliation, adjustments, read_invoice, reconcile_period
from ..session import Session
from .cost_options import hour_text
from .output import cell_text, print_json, print_rows, print_table, stderr_line

__all__ = ["print_reconciliation"]

_MONEY = ("bill", "invoice", "difference")


def print_reconciliation(
    opened: Session,
    invoice: str,
    period: tuple[datetime | None, datetime | None],
    *,
    closed: ClosedMonth | None,
    currency: str,
    forms: tuple[bool, bool, Path | None],
) -> None:
    """Bill, invoice and difference by node; `forms`: --json, --csv, --parquet."""
    first, behind = period
    if first is None or behind is None:
        raise UsageError("--reconcile is for a period: give --month, or --from and --to")
    found = reconcile_period(
        opened,
        read_invoice(invoice, currency=currency),
        start=hour_text(first),
        end=hour_text(behind),
        closed=closed,
    )
    as_json, as_csv, parquet = forms
    if as_json:
        print_json(found.rows)
    elif as_csv or parquet is not None:
        print_rows(_table(found, exact=parquet is not None), as_csv=as_csv, parquet=parquet)
    else:
        _print(found)
    _say_booked(opened, first, behind)


def _say_booked(opened: Session, first: datetime, behind: datetime) -> None:
    """A line for what months of the period booked of others: a FOCUS file has it, the bills of the nodes have not."""
    last = behind - timedelta(seconds=1)
    for month, sums in sorted(read_bookings(opened).items()):
        if f"{first:%Y-%m}" <= month <= f"{last:%Y-%m}":
            amounts = ", ".join(f"{amount} {currency}" for currency, amount in sums.items())
            stderr_line(
                f"not in these bills: differences of closed months booked in {month}, {amounts}; "
                f"`trainledger cost --month {month} --focus FILE` has them as corrections"
            )


def _table(found: Reconciliation, *, exact: bool) -> pa.Table:
    arrays = []
    for name in COLUMNS:
        values = [row[name] for row in found.rows]
        is_number = exact and name in _MONEY
        arrays.append(
            pa.array([Decimal(value) for value in values], pa.decimal128(38, 9))
            if is_number
            else pa.array(values, pa.string())
        )
    return pa.table(arrays, names=list(COLUMNS))


def _print(found: Reconciliation) -> None:
    cells = (
        [
            cell_text(row["node"]) if row["node"] is not None else "(all nodes)",
            *(row[name] for name in ("status", *_MONEY, "currency")),
        ]
        for row in found.rows
    )
    print_table(COLUMNS, cells, right=_MONEY)
    for total in found.totals:
        typer.echo(
            f"bills of the nodes {total['bill']} {total['currency']}, invoice {total['invoice']}: "
            f"difference {total['difference']} {total['currency']}"
        )
    if adjustments(found.rows):
        typer.echo(
            "the difference is in no line of any team: book it apart, or set the prices that were charged"
        )
    if found.unpriced_hours:
        typer.echo(f"without a price, and in no bill: {found.unpriced_hours:.4f} node-hours")
