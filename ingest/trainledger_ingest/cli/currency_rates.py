"""`price rate`: setting, loading, ending and listing exchange rates."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from trainledger_schemas.errors import UsageError

from ..cost.conversion import read_rates
from ..cost.currency_rates import RateBook, rate_fields, read_rate_file
from ..reports.times import parse_time
from ..session import Session
from .opening import session, utc_now
from .options import Json
from .output import cell_text, print_json, print_table

__all__ = ["app"]

# One event of so many rates is some 400 kB: below what a broker takes by default.
RATES_AN_EVENT = 4000
SHOWN_MAX = 20
app = typer.Typer(no_args_is_help=True, help="Exchange rates, by which `cost --currency` reports.")

Currency = Annotated[str, typer.Argument(metavar="CURRENCY", help="ISO 4217, as EUR.")]
QuotedIn = Annotated[str, typer.Argument(metavar="QUOTED_IN", help="The other currency, as USD.")]
From = Annotated[str | None, typer.Option("--from", help="UTC day from which it counts; default today.")]
Note = Annotated[str | None, typer.Option(help="Why.")]


@app.command("set")
def rate_set(
    currency: Currency,
    quoted_in: QuotedIn,
    rate: Annotated[str, typer.Argument(metavar="RATE", help="Of QUOTED_IN for one CURRENCY.")],
    start: From = None,
    source: Annotated[str | None, typer.Option(help="Where the rate is from.")] = None,
    note: Note = None,
    as_json: Json = False,
) -> None:
    """Set what one CURRENCY is worth, from a UTC day on; the other way round counts as well."""
    fields = rate_fields(
        currency, quoted_in, rate, from_day=_day(start), extra={"note": note, "source": source}
    )
    _append([fields])
    _say([fields], as_json=as_json)


@app.command("load")
def rate_load(
    file: Annotated[
        Path, typer.Argument(help="CSV: day, currency, quoted_in, rate; if wanted source and note.")
    ],
    as_json: Json = False,
) -> None:
    """Set all rates of a CSV file."""
    rates = read_rate_file(file)
    _append(rates)
    _say(rates, as_json=as_json)


@app.command("rm")
def rate_rm(
    currency: Currency,
    quoted_in: QuotedIn,
    start: From = None,
    note: Note = None,
    as_json: Json = False,
) -> None:
    """From a UTC day on the two currencies have no rate, until one that begins later; nothing is erased."""
    day = _day(start)
    fields = rate_fields(currency, quoted_in, None, from_day=day, extra={"note": note})
    with session() as opened:
        if opened.has_tables_open() and _book(opened).at(currency, quoted_in, day) is None:
            raise UsageError(
                f"{currency} and {quoted_in} have no rate on {day}; `trainledger price rate ls` lists what there is"
            )
        opened.append_admin("currency_rates_set", {"rates": [fields]})
    _say([fields], as_json=as_json)


@app.command("ls")
def rate_ls(
    all_rates: Annotated[
        bool,
        typer.Option("--all", help="Every rate that was ever set, not those alone that count from today on."),
    ] = False,
    as_json: Json = False,
) -> None:
    """List the rates that count today or on days to come."""
    with session() as opened:
        listed = read_rates(opened)
    book, today = RateBook(rate for rate, _ in listed), utc_now().date()
    rows = [
        {name: value for name, value in row.items() if name != "ordinal"}
        | {"in_effect": book.at(rate.currency, rate.quoted_in, today) is rate}
        for rate, row in listed
        if all_rates or book.is_standing(rate, today)
    ]
    if as_json:
        print_json(rows)
        return
    columns = ("currency", "rate", "quoted in", "from (UTC)", "counts", "source", "set by", "set at (UTC)")
    print_table(columns, (_cells(row) for row in rows), right=("rate",))
    if len(rows) < len(listed):
        typer.echo(f"and {len(listed) - len(rows)} earlier ones; --all lists them")


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["currency"],
        "(ends)" if row["rate"] is None else _rate_text(row["rate"]),
        row["quoted_in"],
        f"{row['from_day']}",
        "now" if row["in_effect"] else "",
        cell_text(row["source"]),
        cell_text(row["set_by"]),
        f"{row['set_at']:%Y-%m-%d %H:%M}",
    ]


def _append(rates: Sequence[dict[str, Any]]) -> None:
    with session() as opened:
        for first in range(0, len(rates), RATES_AN_EVENT):
            opened.append_admin("currency_rates_set", {"rates": list(rates[first : first + RATES_AN_EVENT])})


def _book(opened: Session) -> RateBook:
    return RateBook(rate for rate, _ in read_rates(opened))


def _say(rates: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(list(rates))
        return
    for fields in rates[:SHOWN_MAX]:
        day = datetime.fromtimestamp(fields["from_day_us"] / 1e6, tz=UTC).date()
        pair = f"{fields['currency']} and {fields['quoted_in']}: no rate"
        if fields["nano_rate"] is not None:
            rate = _rate_text(Decimal(fields["nano_rate"]).scaleb(-9))
            pair = f"1 {fields['currency']} = {rate} {fields['quoted_in']}"
        typer.echo(f"{pair} from {day} on (UTC)")
    if len(rates) > SHOWN_MAX:
        typer.echo(f"and {len(rates) - SHOWN_MAX} more")


def _rate_text(rate: Decimal) -> str:
    return f"{rate.normalize():f}"


def _day(text: str | None) -> date:
    """The UTC day of `--from`, by default today."""
    now = utc_now()
    moment = now if text is None else parse_time(text, now=now)
    if text is not None and "-" in text and moment.time() != datetime.min.time():
        raise UsageError(f"a rate counts from the beginning of a UTC day; {text!r} is none")
    return moment.date()
