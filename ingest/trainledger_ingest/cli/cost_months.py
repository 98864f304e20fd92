"""`cost --month`: the statement of a closed month, and why the newest bill differs from it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import typer

from trainledger_schemas.errors import UsageError

from ..cost.conversion import Exchange
from ..cost.focus_billing import billing_of
from ..cost.focus_export import write_focus
from ..cost.month import (
    ClosedMonth,
    Explanation,
    explain_month,
    hours_without_price,
    read_bookings,
    read_closed_month,
)
from ..session import Session
from .output import cell_text, print_json, print_table, stderr_line

__all__ = ["FocusChoice", "closed_month", "export_focus", "print_explanation", "say_closed"]


def closed_month(opened: Session, first: datetime | None, *, is_month: bool) -> ClosedMonth | None:
    """The closing of the month that was asked for, if one was asked for and it is closed."""
    return read_closed_month(opened, f"{first:%Y-%m}") if is_month and first is not None else None


def print_explanation(
    opened: Session, month: ClosedMonth | None, *, asked: str | None, as_json: bool
) -> None:
    """Why the newest bill of a month is not its statement."""
    if asked is None:
        raise UsageError("--explain is for a month: give --month too, as in --month 2026-10")
    if month is None:
        raise UsageError(
            f"{asked} is open: its numbers move as events come in; "
            f"close it with `trainledger admin period close {asked}`"
        )
    explanation = explain_month(opened, month)
    if as_json:
        print_json(explanation.rows)
        return
    typer.echo(f"{month.period} was closed on {month.closed_at:%Y-%m-%d %H:%M} UTC by {month.closed_by}")
    _print_rows(explanation)
    for sums in explanation.sums:
        typer.echo(
            f"statement {sums['statement']} {sums['currency']}, differences {sums['differences']}, "
            f"newest bill {sums['newest']} {sums['currency']}"
        )


@dataclass(frozen=True, slots=True)
class FocusChoice:
    """Which file: where, of which version, of a closed month or not, and the rates if it is to be in one currency."""

    path: Path
    version: str
    closed: ClosedMonth | None
    exchange: Exchange | None


def export_focus(
    opened: Session, choice: FocusChoice, period: tuple[datetime | None, datetime | None]
) -> None:
    """Write a FOCUS file and say what is in it."""
    first, behind = period
    if first is None or behind is None:
        raise UsageError("--focus is for a period: give --month, or --from and --to")
    billing = billing_of(choice.exchange, None if choice.closed is None else choice.closed.period)
    done = write_focus(
        opened, choice.path, (first, behind), version=choice.version,
        statement=None if choice.closed is None else choice.closed.statement_id, billing=billing,
    )  # fmt: skip
    sums = ", ".join(f"{amount:f} {currency}" for currency, amount in sorted(done.sums.items())) or "nothing"
    stderr_line(f"{done.rows} rows (FOCUS {choice.version}) written to {choice.path}: {sums}")
    if choice.closed is None:
        _say_not_the_statement(opened, first, behind)
    if done.unpriced_hours:
        stderr_line(f"left out: {done.unpriced_hours:.4f} node-hours without a price")


def _say_not_the_statement(opened: Session, first: datetime, behind: datetime) -> None:
    """A line if hours of closed months are in a file that is no statement of one."""
    periods = opened.query(
        f"SELECT period FROM {opened.views}.cost_periods WHERE period BETWEEN {{first:String}} AND {{last:String}} "
        "ORDER BY period",
        {"first": f"{first:%Y-%m}", "last": f"{behind - timedelta(seconds=1):%Y-%m}"},
    )["period"].to_pylist()
    if periods:
        stderr_line(
            f"{', '.join(periods)} {'is' if len(periods) == 1 else 'are'} closed, and this is what is known now, not "
            f"the statement; `trainledger cost --month {periods[0]} --focus FILE` writes that"
        )


def say_closed(opened: Session, month: ClosedMonth | None, first: datetime | None, *, is_month: bool) -> None:
    """What a person must know beside the numbers of a month."""
    if not is_month or first is None:
        return
    if month is not None:
        typer.echo(f"as it was closed on {month.closed_at:%Y-%m-%d %H:%M} UTC by {month.closed_by}")
        for sums in explain_month(opened, month).sums:
            if sums["statement"] != sums["newest"]:
                typer.echo(
                    f"learned since: {sums['differences']} {sums['currency']}, so the newest bill is {sums['newest']}; "
                    f"`trainledger cost --month {month.period} --explain` says why"
                )
        if hours := hours_without_price(opened, month.period):
            typer.echo(f"without a price now, and not in the newest bill: {hours:.4f} node-hours")
    for currency, amount in read_bookings(opened).get(f"{first:%Y-%m}", {}).items():
        typer.echo(f"beside it, differences of closed months booked in {first:%Y-%m}: {amount} {currency}")


def _print_rows(explanation: Explanation) -> None:
    if not explanation.rows:
        typer.echo("nothing was learned since")
        return
    columns = (
        "difference",
        "currency",
        "cause",
        "event",
        "by",
        "at (UTC)",
        "booked in",
        "team",
        "node-hours",
    )
    rows = (
        [
            row["delta"],
            row["currency"],
            row["cause"],
            row["event_ref"],
            cell_text(row["booked_by"]),
            f"{row['booked_at']:%Y-%m-%d %H:%M}",
            row["booked_in"],
            cell_text(row["team"]),
            str(row["hours"]),
        ]
        for row in explanation.rows
    )
    print_table(columns, rows, right=("difference", "node-hours"))
