"""The same hours under two price books: what would they have cost, and what is the difference?

The hours stay dealt as they are: a price's rate and currency count here, its presence and host share do not. A bill
of an hour is dealt to its holders by largest remainder over their shares; old and new columns are each rounded once,
and the difference is that of the rounded amounts, so that it can be checked with pencil and paper.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from trainledger_schemas.errors import UsageError
from trainledger_schemas.ids import id_text, random_id

from ..session import Session
from .money import cents, format_minor, largest_remainder, minor_digits
from .price_book import read_price_book
from .prices import Price, PriceBook
from .report import GROUPS, period_condition

__all__ = ["Repricing", "book_of", "compare_books", "read_repricing"]

# Shares are numbers from 0 to 1 of the view; as whole weights they keep all their digits.
WEIGHT = 10**15
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
    session: Session, books: tuple[PriceBook, PriceBook], *, by: str, start: str | None, end: str | None
) -> Repricing:
    """Compare two books over the hours of [start, end), by one group of `cost --by`."""
    if by not in GROUPS or by == "outcome":
        raise UsageError(
            f"cannot compare prices by {by!r}; the groups are {', '.join(set(GROUPS) - {'outcome'})}"
        )
    where, parameters = period_condition(start, end)
    lines = session.query(
        f"SELECT node_id, usage_hour, {GROUPS[by]} AS holder, kind AS line_kind, sum(share) AS part "
        f"FROM {session.views}.cost_lines WHERE {where} GROUP BY node_id, usage_hour, holder, line_kind",
        parameters,
    ).to_pylist()
    hours = session.query(
        f"SELECT node_id, usage_hour, present_s FROM {session.views}.node_hour_bills WHERE {where} AND present_s > 0",
        parameters,
    ).to_pylist()
    return compare_books(by, hours, lines, books)


def compare_books(
    by: str,
    hours: Iterable[Mapping[str, Any]],
    lines: Iterable[Mapping[str, Any]],
    books: tuple[PriceBook, PriceBook],
) -> Repricing:
    """The comparison of node-hours {node_id, usage_hour, present_s} and holders {..., holder, line_kind, part}."""
    parts: dict[tuple[str, datetime], list[tuple[tuple[str, str], int]]] = {}
    for line in lines:
        key = (line["holder"] or "", line["line_kind"] if line["holder"] is None else "")
        place = (line["node_id"], line["usage_hour"])
        parts.setdefault(place, []).append((key, round(line["part"] * WEIGHT)))
    sums: dict[tuple[str, tuple[str, str]], dict[str, int]] = {}
    unpriced = dict.fromkeys(_SIDES, 0.0)
    for hour in hours:
        place = (hour["node_id"], hour["usage_hour"])
        holders = sorted(parts.get(place, ()))
        presence_us = round(hour["present_s"] * 1e6)
        for side, book in zip(_SIDES, books, strict=True):
            price = book.price_for(place[0], int(place[1].timestamp()) * 1_000_000)
            if price is None:
                unpriced[side] += hour["present_s"] / 3600
                continue
            keys, weights = [key for key, _ in holders], [weight for _, weight in holders]
            for key, nano in zip(
                keys, largest_remainder(price.bill_nano(presence_us), weights, keys), strict=True
            ):
                amounts = sums.setdefault((price.currency, key), dict.fromkeys(_SIDES, 0))
                amounts[side] += nano
    return _rounded(by, sums, unpriced)


def _rounded(
    by: str, sums: Mapping[tuple[str, tuple[str, str]], Mapping[str, int]], unpriced: Mapping[str, float]
) -> Repricing:
    rows, totals = [], []
    for currency in sorted({money for money, _ in sums}):
        digits = minor_digits(currency)
        keys = sorted((key for money, key in sums if money == currency), key=lambda key: (key[0] == "", key))
        old, new = (cents([sums[currency, key][side] for key in keys], digits=digits) for side in _SIDES)
        for (holder, kind), before, after in zip(keys, old, new, strict=True):
            amounts = _texts(before, after, digits)
            rows.append({by: holder or None, "kind": kind or None, "currency": currency, **amounts})
        totals.append({"currency": currency, **_texts(sum(old), sum(new), digits)})
    return Repricing(tuple(rows), tuple(totals), unpriced)


def _texts(before: int, after: int, digits: int) -> dict[str, str]:
    numbers = {"old": before, "new": after, "difference": after - before}
    return {name: format_minor(minor, digits) for name, minor in numbers.items()}
