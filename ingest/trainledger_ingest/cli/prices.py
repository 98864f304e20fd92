"""`price`: setting, loading, ending and listing the prices of nodes."""

import difflib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from trainledger_schemas.errors import TrainledgerError, UsageError
from trainledger_schemas.ids import id_text, random_id

from ..cost.node_events import hour_of
from ..cost.price_book import read_price_book
from ..cost.price_list import Listed, read_listed, terms_of, terms_text
from ..cost.prices import matches, nano_rate, price_fields, whole_hour
from ..reports.times import parse_time
from ..session import Session
from .opening import session, utc_now
from .options import Json
from .output import cell_text, print_json, print_table, stderr_line

__all__ = [
    "From",
    "app",
    "append_prices",
    "hour_text",
    "micros",
    "money_text",
    "say_set",
    "say_unmatched",
    "start_hour",
]

NODES_NAMED_MAX = 5
# One event of so many prices is some 700 kB: below what a broker takes by default.
PRICES_AN_EVENT = 4000
app = typer.Typer(no_args_is_help=True, help="Prices of nodes.")

From = Annotated[str | None, typer.Option("--from", help="Whole UTC hour; default the current one.")]
Note = Annotated[str | None, typer.Option(help="Why.")]


@app.command("set")
def price_set(
    node: Annotated[str, typer.Option(help="Node name; * and ? stand for any.")],
    usd_per_hour: Annotated[
        str | None, typer.Option(help="Price of the whole node for one hour, in US dollars.")
    ] = None,
    per_hour: Annotated[str | None, typer.Option(help="The same in --currency.")] = None,
    currency: Annotated[str | None, typer.Option(help="Of --per-hour, as EUR.")] = None,
    start: From = None,
    plain: Annotated[
        bool,
        typer.Option(
            "--plain", help="A rate alone: forget presence, host share and weights of the price before."
        ),
    ] = False,
    note: Note = None,
    as_json: Json = False,
) -> None:
    """Set a price from a whole UTC hour on; presence, host share and weights of the pattern's price before stay."""
    rate, money = _rate(usd_per_hour, per_hour, currency)
    from_us = start_hour(start)
    fields = price_fields(
        id_text(random_id()),
        pattern=node,
        nano_per_hour=nano_rate(rate),
        currency=money,
        from_hour_us=from_us,
        extra={"note": note},
    )
    with session() as opened:
        before = _known_prices(opened)
        terms = terms_of(before.book.price_of_pattern(node, from_us)) if before else {}
        if terms:
            _say_terms(node, terms, plain=plain)
        fields |= {} if plain else terms
        opened.append_admin("price_set", fields)
        say_unmatched(opened, [node])
    say_set([fields], as_json=as_json)


@app.command("load")
def price_load(file: Annotated[Path, typer.Argument(help="TOML price book.")], as_json: Json = False) -> None:
    """Set all prices of a TOML price book."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file}: {error}") from error
    prices = read_price_book(text, new_id=lambda: id_text(random_id()))
    for fields in prices:
        fields["source"] = "file"
    with session() as opened:
        append_prices(opened, prices)
        say_unmatched(opened, [str(fields["pattern"]) for fields in prices])
    say_set(prices, as_json=as_json)


@app.command("rm")
def price_rm(
    node: Annotated[str, typer.Option(help="The pattern, as `price ls` has it.")],
    start: From = None,
    note: Note = None,
    as_json: Json = False,
) -> None:
    """End the price of a pattern from a whole UTC hour on; hours from then on are dealt anew, nothing is erased."""
    from_us = start_hour(start)
    with session() as opened:
        known = _known_prices(opened)
        if known is not None and known.book.price_of_pattern(node, from_us) is None:
            raise UsageError(_no_price(known, node, from_us))
        fields = {"price_id": id_text(random_id()), "pattern": node, "from_hour_us": from_us, "note": note}
        opened.append_admin("price_ended", fields)
        later = known.book.next_of_pattern(node, from_us) if known else None
    if as_json:
        print_json([fields])
        return
    typer.echo(f"{cell_text(node)}: no price from {hour_text(from_us)} UTC")
    if later is not None:
        typer.echo(
            f"a price of {cell_text(node)} begins at {hour_text(later.from_hour_us)} UTC and counts from then on; "
            "end that one too if it is not meant"
        )


@app.command("ls")
def price_ls(
    all_prices: Annotated[
        bool, typer.Option("--all", help="Every price and end that was ever set, not those alone.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the prices that count in this hour, and what begins later; those that count now are marked."""
    with session() as opened:
        listed = read_listed(opened)
    hour_us = hour_of(micros(utc_now()))
    counting, standing = listed.book.in_effect(hour_us), listed.book.standing(hour_us)
    hidden = ("id", "set_at_us", "ordinal")
    rows = [
        {name: value for name, value in row.items() if name not in hidden}
        | {"in_effect": row["id"] in counting}
        for row in listed.rows
        if all_prices or row["id"] in standing
    ]
    if as_json:
        print_json(rows)
        return
    print_table(_LISTED, (_cells(row) for row in rows), right=("per hour",))
    if len(rows) < len(listed.rows):
        typer.echo(f"and {len(listed.rows) - len(rows)} that count no more; --all lists them")


def append_prices(opened: Session, prices: Sequence[dict[str, Any]]) -> None:
    """Set prices together: an event holds many, so that hours are dealt once for all of them."""
    for first in range(0, len(prices), PRICES_AN_EVENT):
        opened.append_admin("prices_set", {"prices": list(prices[first : first + PRICES_AN_EVENT])})


def say_unmatched(opened: Session, patterns: Sequence[str]) -> None:
    """A line for each pattern that no node bears so far: it may be mistyped, or meant for nodes to come."""
    if not opened.has_tables_open():
        return  # a price needs Kafka alone, and must not make tables where it is set
    try:
        nodes = opened.query(f"SELECT DISTINCT node_id FROM {opened.views}.node_hour_bills ORDER BY node_id")
    except TrainledgerError:
        return  # where only Kafka is at hand, a price is set without the tables
    seen = nodes["node_id"].to_pylist()
    named = ", ".join(seen[:NODES_NAMED_MAX]) + (" ..." if len(seen) > NODES_NAMED_MAX else "")
    for pattern in dict.fromkeys(patterns):
        if seen and not any(matches(node, pattern) for node in seen):
            stderr_line(f"no node seen so far is called {pattern!r}; seen are {named}")


def say_set(prices: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """What was set."""
    if as_json:
        print_json(list(prices))
        return
    for fields in prices:
        rate = money_text(Decimal(fields["nano_per_hour"]).scaleb(-9))
        typer.echo(
            f"{cell_text(fields['pattern'])}: {rate} {fields['currency']} an hour "
            f"from {hour_text(fields['from_hour_us'])} UTC"
        )


def start_hour(text: str | None) -> int:
    """The whole hour of `--from` in microseconds, by default the one that is open."""
    now = utc_now()
    return hour_of(micros(now)) if text is None else whole_hour(micros(parse_time(text, now=now)), text)


def money_text(amount: Decimal) -> str:
    """A rate with all the decimals it has, and two at least."""
    whole, _, decimals = f"{amount:f}".partition(".")
    return f"{whole}.{decimals.rstrip('0'):0<2}"


def micros(moment: datetime) -> int:
    """Microseconds since 1970 UTC."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def hour_text(hour_us: int) -> str:
    """The start of an hour, UTC."""
    return f"{datetime.fromtimestamp(hour_us / 1e6, tz=UTC):%Y-%m-%d %H:%M}"


def _rate(usd_per_hour: str | None, per_hour: str | None, currency: str | None) -> tuple[str, str]:
    """The rate as text and its currency, from one of the two forms."""
    if usd_per_hour is not None and per_hour is None and currency is None:
        return usd_per_hour, "USD"
    if usd_per_hour is None and per_hour is not None and currency is not None:
        return per_hour, currency
    raise UsageError("give --usd-per-hour X, or --per-hour X with --currency EUR")


_LISTED = (
    "node",
    "per hour",
    "currency",
    "from (UTC)",
    "presence",
    "host share",
    "weights",
    "source",
    "counts",
    "set by",
    "set at (UTC)",
)


def _cells(row: dict[str, Any]) -> list[str]:
    is_end = row["per_hour"] is None
    presence = row["presence"] or "observed"
    for word, name in (("from", "owned_from"), ("to", "owned_to")):
        if row[name] is not None:
            presence += f" {word} {row[name]:%Y-%m-%d}"
    return [
        cell_text(row["node"]),
        "(ends)" if is_end else money_text(row["per_hour"]),
        row["currency"] or "-",
        f"{row['from_hour']:%Y-%m-%d %H:%M}",
        "-" if is_end else presence,
        "-" if row["host_share"] is None else f"{row['host_share']:g}",
        ", ".join(f"{cell_text(model)} {weight}" for model, weight in sorted(row["weights"].items())) or "-",
        "-" if is_end else row["source"] or "set",
        "now" if row["in_effect"] else "",
        cell_text(row["set_by"]),
        f"{row['set_at']:%Y-%m-%d %H:%M}",
    ]


def _known_prices(opened: Session) -> Listed | None:
    """The price book, None where the tables cannot be asked: a price is set without them too."""
    if not opened.has_tables_open():
        return None
    try:
        return read_listed(opened)
    except TrainledgerError:
        return None


def _say_terms(pattern: str, terms: dict[str, Any], *, plain: bool) -> None:
    told = terms_text(terms)
    if plain:
        stderr_line(f"the price of {pattern!r} before has {told}, which ends where this one begins")
    else:
        stderr_line(f"kept from the price of {pattern!r} before: {told} (--plain sets the rate alone)")


def _no_price(known: Listed, pattern: str, from_us: int) -> str:
    patterns = sorted({row["node"] for row in known.rows})
    near = difflib.get_close_matches(pattern, patterns, 1)
    hint = (
        f"did you mean {near[0]!r}?" if near and near[0] != pattern else "`trainledger price ls` lists them"
    )
    return f"the pattern {pattern!r} has no price at {hour_text(from_us)} UTC; {hint}"
