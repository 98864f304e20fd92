"""The same hours under two price books: what would they have cost, and what is the difference?

The hours stay dealt as they are: a price's rate and currency count here, its presence and host share do not. The bill
of an hour is dealt to its lines as the worker deals it, so a book that has the prices of the tables gives the amounts
of `cost`. Old and new columns are each rounded once, and the difference is that of the rounded amounts, so that it
can be checked with pencil and paper. Books of two currencies are compared in one, each hour at the rate of its day.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trainledger_schemas.errors import UsageError
from trainledger_schemas.ids import id_text, random_id

from ..session import Session
from .bill_sql import bill_sql, costs_sql, node_chunks, price_parameters, sections_sql
from .conversion import Conversion, missing_text
from .holder_sums import sums_by_place
from .money import cents, format_minor, minor_digits
from .periods import days_condition, period_condition
from .price_book import read_price_book
from .prices import Price, PriceBook
from .report import GROUPS

__all__ = ["Repricing", "book_of", "make_repricing", "read_repricing"]

SHARES_AN_HOUR = 3600 * 10**12
_SIDES = ("old", "new")


@dataclass(frozen=True, slots=True)
class Repricing:
    """`rows` {by, kind, currency, old, new, difference}; `totals` {currency, old, new, difference}; hours (node-hours)
    that a book has no price for, by side."""

    rows: tuple[dict[str, Any], ...]
    totals: tuple[dict[str, str], ...]
    unpriced_hours: Mapping[str, float]


def book_of(text: str) -> PriceBook:
    """A TOML price book; what stands later in it was set later."""
    entries = read_price_book(text, new_id=lambda: id_text(random_id()))
    return PriceBook(Price.from_fields(fields | {"at_us": place}) for place, fields in enumerate(entries))


def read_repricing(
    session: Session,
    books: tuple[PriceBook, PriceBook],
    *,
    by: str,
    start: str | None,
    end: str | None,
    conversion: Conversion | None = None,
) -> Repricing:
    """Compare two books over the hours of [start, end), by one group of `cost --by`.

    Raises UsageError where the books price the same hours in two currencies, unless a conversion has their rates."""
    if by not in GROUPS or by == "outcome":
        raise UsageError(
            f"cannot compare prices by {by!r}; the groups are {', '.join(set(GROUPS) - {'outcome'})}"
        )
    where, period = period_condition(start, end)
    nodes = session.query(
        f"SELECT DISTINCT node_id FROM {session.views}.node_hour_bills WHERE {where} AND present_s > 0",
        period,
    ).to_pylist()
    sql = _repricing_sql(session.views, by, where, days_condition(start, end))
    rows: list[dict[str, Any]] = []
    for chunk in node_chunks([row["node_id"] for row in nodes], books):
        parameters = period | {"chunk": chunk}
        for side, book in zip(_SIDES, books, strict=True):
            parameters |= price_parameters(book, chunk, f"_{side}")[0]
        rows += session.query(sql, parameters).to_pylist()
    return make_repricing(by, rows, conversion)


def _repricing_sql(views: str, by: str, where: str, days: str) -> str:
    """A row {holder, line_kind, day, money_old, money_new, old, new (10^-9), held}; empty money: no price.

    The bill of each node-hour is made and dealt over its lines, those of a holder are summed, and so are all hours of
    a holder; who it is that pays is asked of that sum.
    """
    names = {
        "kind": "kinds", "run_id": "run_ids", "attempt": "attempts", "owner": "owners", "account": "accounts",
        "share": "held_shares", "cost_old": "costs_old", "cost_new": "costs_new",
    }  # fmt: skip
    sums = f"""SELECT {"node_id" if by == "node" else "''"} AS node, toDate(usage_hour, 'UTC') AS day, kind, run_id,
        if(kind = 'run', toNullable(attempt), NULL) AS attempt_no, owner, account,
        owners_from, money_old, money_new, sum(toInt128(cost_old)) AS old,
        sum(toInt128(cost_new)) AS new, sum(toInt128(share)) AS held
      FROM ({_hours_sql(views, where)})
      ARRAY JOIN {", ".join(f"{column} AS {name}" for name, column in names.items())}
      GROUP BY node, day, kind, run_id, attempt_no, owner, account, owners_from, money_old, money_new"""
    own = {
        "node": "s.node", "day": "toString(s.day)", "run": "toString(s.run_id)", "kind": "s.kind",
        "account": "s.account",
    }  # fmt: skip
    payers = (
        ""
        if by in own
        else f"LEFT ANY JOIN ({_payers_sql(views, by, days)}) AS p ON p.who = {_WHO.format('attempt_no', 'owner')}"
    )
    return f"""SELECT ifNull({own.get(by, "p.payer")}, '') AS holder, s.kind AS line_kind, s.day AS day, money_old,
        money_new, sum(s.old) AS old, sum(s.new) AS new, sum(s.held) AS held
      FROM ({sums}) AS s {payers} GROUP BY holder, line_kind, day, money_old, money_new"""


# A holder under one set of the rules of who pays, as one text.
_WHO = "toJSONString(tuple(kind, run_id, {}, {}, account, owners_from))"


def _hours_sql(views: str, where: str) -> str:
    """Node-hours with their holders, and in 10^-9 what these cost under both books."""
    hours = f"""SELECT *, line_places AS places,
          arrayLast(since -> since <= usage_hour, (SELECT arraySort(groupUniqArray(from_hour)) FROM {views}.owners))
          AS owners_from FROM {views}.node_hour_holders WHERE {where} AND node_id IN {{chunk:Array(String)}}"""
    for side in _SIDES:
        bill = bill_sql("h.presence_us", f"({{nanos_{side}:Array(UInt64)}})[p.place]")
        hours = f"""SELECT h.*, ({{currencies_{side}:Array(String)}})[p.place] AS money_{side},
            {sums_by_place(costs_sql(bill, "h.line_shares"))} AS costs_{side}
          FROM ({hours}) AS h
          ASOF INNER JOIN ({sections_sql(f"_{side}")}) AS p ON p.node = h.node_id AND p.since <= h.usage_hour"""
    return hours


def _payers_sql(views: str, by: str, days: str) -> str:
    """Which group each holder is of."""
    holder = "kind, run_id, attempt, told_owner, account, owners_from"
    return f"""SELECT {_WHO.format("attempt", "told_owner")} AS who, payer FROM (
        SELECT {holder}, any({GROUPS[by]}) AS payer FROM {views}.cost_days
        WHERE {days} AND node_id IN {{chunk:Array(String)}} GROUP BY {holder})"""


def make_repricing(
    by: str, rows: Iterable[Mapping[str, Any]], conversion: Conversion | None = None
) -> Repricing:
    """The comparison of sums {holder, line_kind, day, money_old, money_new, old, new, held}: amounts in 10^-9, money
    and holder empty where there is none, held in millionths of microseconds of a node."""
    kept = list(rows)
    _check_currencies(kept, conversion)
    amounts = [
        {
            "key": (row["holder"], "" if row["holder"] else row["line_kind"]),
            "side": side, "day": row["day"], "held": int(row["held"]),
            "money": row[f"money_{side}"] or None, "total": int(row[side]),
        }
        for row in kept
        for side in _SIDES
    ]  # fmt: skip
    scale = 1
    if conversion is not None:
        converted = conversion.convert(amounts)
        if converted.missing:
            raise UsageError(missing_text(conversion, converted.missing))
        amounts, scale = list(converted.rows), converted.scale
    sums: dict[tuple[str, tuple[str, str]], dict[str, int]] = {}
    unpriced_shares = dict.fromkeys(_SIDES, 0)
    for amount in amounts:
        if amount["money"] is None:
            unpriced_shares[amount["side"]] += amount["held"]
        else:
            both = sums.setdefault((amount["money"], amount["key"]), dict.fromkeys(_SIDES, 0))
            both[amount["side"]] += amount["total"]
    unpriced = {side: shares / SHARES_AN_HOUR for side, shares in unpriced_shares.items()}
    return _rounded(by, sums, unpriced, scale)


def _check_currencies(rows: Iterable[Mapping[str, Any]], conversion: Conversion | None) -> None:
    """Money of two currencies has no difference."""
    for row in rows:
        old, new = row["money_old"], row["money_new"]
        if conversion is None and old and new and old != new:
            raise UsageError(
                f"the books price the same hours in {old} and in {new}: give --currency {old} (or another) to compare "
                "them at the rate of each day, as `trainledger price rate ls` has them"
            )


def _rounded(
    by: str,
    sums: Mapping[tuple[str, tuple[str, str]], Mapping[str, int]],
    unpriced: Mapping[str, float],
    scale: int,
) -> Repricing:
    rows, totals = [], []
    for currency in sorted({money for money, _ in sums}):
        digits = minor_digits(currency)
        keys = sorted((key for money, key in sums if money == currency), key=lambda key: (key[0] == "", key))
        old, new = (
            cents([sums[currency, key][side] for key in keys], digits=digits, scale=scale) for side in _SIDES
        )
        for (holder, kind), before, after in zip(keys, old, new, strict=True):
            amounts = _texts(before, after, digits)
            # By kind, the group itself is the kind.
            named = {by: holder or None} | ({} if by == "kind" else {"kind": kind or None})
            rows.append({**named, "currency": currency, **amounts})
        totals.append({"currency": currency, **_texts(sum(old), sum(new), digits)})
    return Repricing(tuple(rows), tuple(totals), unpriced)


def _texts(before: int, after: int, digits: int) -> dict[str, str]:
    numbers = {"old": before, "new": after, "difference": after - before}
    return {name: format_minor(minor, digits) for name, minor in numbers.items()}
