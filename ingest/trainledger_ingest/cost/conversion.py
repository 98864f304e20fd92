"""Amounts of a report in one currency: each hour's at the rate of its UTC day, exactly, and rounded by nobody here.

A report asks the tables for sums by day. Those are brought to whole numbers of one common part of the currency (10^-9 /
`scale`), which is chosen so that every rate that is needed is a whole number too: also where a rate is divided by.

An amount for whose day there is no rate stays what it is, in its own currency, and is named. A closed month is
converted by the rates that were set before it was closed: what is set later moves nothing of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from math import lcm
from typing import Any

from ..session import Session
from .currency_rates import Rate, RateBook
from .money import currency_code, nano_of, whole_nano

__all__ = ["Conversion", "Converted", "Exchange", "missing_text", "read_exchange", "read_rates"]

DAYS_NAMED_MAX = 3


@dataclass(frozen=True, slots=True)
class Converted:
    """`rows` with `money` and `total` (an integer of 10^-9 / `scale` of it) as they are reported; the rates that were
    used; and what has none: the days by currency."""

    rows: tuple[dict[str, Any], ...]
    scale: int
    used: tuple[Rate, ...]
    missing: Mapping[str, tuple[date, ...]]


@dataclass(frozen=True, slots=True)
class Conversion:
    """To `target`, by the rates of a book; `closed`: the month by whose closing the rates had been set."""

    target: str
    book: RateBook
    closed: str | None = None

    def rate(self, currency: str, day: date) -> Rate | None:
        """The rate for amounts of another currency on a day."""
        return self.book.at(currency, self.target, day)

    def factor(self, currency: str, day: date) -> Fraction | None:
        """What an amount of a day is multiplied by, None where there is no rate."""
        if currency == self.target:
            return Fraction(1)
        rate = self.rate(currency, day)
        return rate.factor(currency) if rate else None

    def convert(self, rows: Iterable[Mapping[str, Any]]) -> Converted:
        """Sums {..., money, total, day} as whole numbers of the target; rows without money stay.

        `total`: an amount of the tables, or an integer of 10^-9."""
        kept = list(rows)
        days = {(row["money"], row["day"]) for row in kept if row["money"] is not None}
        factors = {key: self.factor(*key) for key in sorted(days)}
        scale = lcm(1, *(factor.denominator for factor in factors.values() if factor is not None))
        used = {rate for key, factor in factors.items() if factor and (rate := self.rate(*key))}
        missing: dict[str, tuple[date, ...]] = {}
        for (currency, day), factor in factors.items():
            if factor is None:
                missing[currency] = (*missing.get(currency, ()), day)
        return Converted(
            tuple(self._row(row, factors.get((row["money"], row["day"])), scale) for row in kept),
            scale,
            tuple(sorted(used, key=lambda rate: (rate.currency, rate.quoted_in, rate.from_day))),
            missing,
        )

    def _row(self, row: Mapping[str, Any], factor: Fraction | None, scale: int) -> dict[str, Any]:
        if row["money"] is None:
            return dict(row)
        money, factor = (row["money"], Fraction(1)) if factor is None else (self.target, factor)
        return dict(row) | {"money": money, "total": whole_nano(row["total"]) * int(factor * scale)}


@dataclass(frozen=True, slots=True)
class Exchange:
    """All rates with their place in the log, and the places at which months were closed."""

    target: str
    rates: tuple[tuple[int, Rate], ...]
    closings: Mapping[str, int]

    def now(self) -> Conversion:
        """By all that is known now."""
        return Conversion(self.target, RateBook(rate for _, rate in self.rates))

    def as_closed(self, period: str) -> Conversion:
        """By the rates that had been set when the month was closed."""
        closing = self.closings[period]
        return Conversion(
            self.target, RateBook(rate for place, rate in self.rates if place < closing), period
        )


def missing_text(conversion: Conversion, missing: Mapping[str, Iterable[date]]) -> str:
    """Which rates there are not, and how to mend it."""
    parts = []
    for currency, found in sorted(missing.items()):
        days = sorted(found)
        named = ", ".join(map(str, days[:DAYS_NAMED_MAX]))
        more = f" and {len(days) - DAYS_NAMED_MAX} days more" if len(days) > DAYS_NAMED_MAX else ""
        parts.append(f"no rate between {currency} and {conversion.target} for {named}{more}")
    first, day = min((currency, min(days)) for currency, days in missing.items())
    mend = f"set one with `trainledger price rate set {first} {conversion.target} RATE --from {day}`"
    if conversion.closed is not None:
        mend = (
            f"{conversion.closed} is closed, and by the rates of then; leave --currency out, or give --from and --to "
            "for what is known now"
        )
    return f"{'; '.join(parts)}: {mend}"


def read_rates(session: Session) -> list[tuple[Rate, dict[str, Any]]]:
    """All rates in the order in which they were set, each with its row of view `currency_rates`."""
    rows = session.query(f"SELECT * FROM {session.views}.currency_rates ORDER BY ordinal").to_pylist()
    return [(_rate(row), row) for row in rows]


def read_exchange(session: Session, target: str) -> Exchange:
    """All that is needed to bring amounts to a currency, for open and for closed months."""
    currency_code(target)
    closings = session.query(f"SELECT period, ordinal FROM {session.views}.cost_periods").to_pylist()
    return Exchange(
        target,
        tuple((row["ordinal"], rate) for rate, row in read_rates(session)),
        {row["period"]: row["ordinal"] for row in closings},
    )


def _rate(row: Mapping[str, Any]) -> Rate:
    nano = None if row["rate"] is None else nano_of(row["rate"])
    return Rate(row["currency"], row["quoted_in"], nano, row["from_day"])
