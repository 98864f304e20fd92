"""`admin period`: closing months."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

import typer

from ..cost.money import minor_text, nano_of
from ..cost.month import read_bookings
from ..cost.statements import list_periods
from .opening import session
from .options import Json
from .output import cell_text, print_json, print_table

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Close months: what was billed then stands for ever.")


@app.command("close")
def close(
    month: Annotated[str, typer.Argument(metavar="MONTH", help="As in 2026-10; it must be over.")],
    accept_unpriced: Annotated[
        bool, typer.Option("--accept-unpriced", help="Close hours without a price as unpriced.")
    ] = False,
    accept_silent: Annotated[
        bool,
        typer.Option(
            "--accept-silent", help="Close although nothing is known of nodes since the month's end."
        ),
    ] = False,
    note: Annotated[str | None, typer.Option(help="Why.")] = None,
    as_json: Json = False,
) -> None:
    """Write the statement of a month; what is learned later becomes a difference booked in the open month."""
    with session() as opened:
        request = {"accepts_unpriced": accept_unpriced, "accepts_silent": accept_silent, "note": note}
        closed = opened.close_period({"period": month, **request})
        booked = read_bookings(opened).get(closed["period"], {}) if closed["adjustments"] else {}
    if as_json:
        print_json([closed])
        return
    totals = _amounts((item["currency"], Decimal(item["amount"])) for item in closed["totals"])
    typer.echo(f"{closed['period']} is closed: {totals}, {closed['lines']} lines, digest {closed['digest']}")
    if closed["adjustments"]:
        adjusted = _booked({item["currency"]: Decimal(item["amount"]) for item in closed["adjusted"]}, booked)
        typer.echo(f"it books {closed['adjustments']} differences of earlier months: {adjusted}")
    if closed["unpriced_hours"]:
        typer.echo(f"unpriced: {closed['unpriced_hours']:.4f} node-hours")


@app.command("ls")
def list_closed(as_json: Json = False) -> None:
    """List the closed months; exit status 1 if the rows of one are not those that were closed."""
    with session() as opened:
        rows = list_periods(opened.query, opened.views)
        posted = read_bookings(opened) if any(row["adjusted"] for row in rows) else {}
    if as_json:
        print_json(rows)
    elif rows:
        columns = (
            "month",
            "total",
            "books of earlier months",
            "unpriced hours",
            "closed (UTC)",
            "by",
            "intact",
            "digest",
        )
        print_table(columns, (_cells(row, posted.get(row["period"], {})) for row in rows))
    else:
        typer.echo("no month is closed; close one with `trainledger admin period close MONTH`")
    if not all(row["is_intact"] for row in rows):
        raise typer.Exit(1)


def _cells(row: Mapping[str, Any], posted: Mapping[str, str]) -> list[str]:
    return [
        row["period"],
        _amounts(row["totals"].items()),
        _booked(row["adjusted"], posted),
        f"{row['unpriced_hours']:.4f}" if row["unpriced_hours"] else "-",
        f"{row['closed_at']:%Y-%m-%d %H:%M}",
        cell_text(row["closed_by"]),
        "yes" if row["is_intact"] else "NO",
        row["digest"][:12],
    ]


def _amounts(amounts: Any) -> str:
    """Amounts by currency as a person reads them, each rounded once."""
    texts = [f"{minor_text(nano_of(amount), currency)} {currency}" for currency, amount in sorted(amounts)]
    return ", ".join(texts) or "-"


def _booked(exact: Mapping[str, Decimal], posted: Mapping[str, str]) -> str:
    """Differences as they are posted, which is not each sum rounded; exact ones where nothing else is known yet."""
    texts = [
        f"{posted.get(currency) or minor_text(nano_of(amount), currency)} {currency}"
        for currency, amount in sorted(exact.items())
    ]
    return ", ".join(texts) or "-"
