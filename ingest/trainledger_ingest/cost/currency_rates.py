"""Exchange rates: what one unit of a currency is worth in another, from a UTC day on. Pure.

A rate is a fact about two currencies, whichever way round it was said: where 1 EUR is 1.25 USD, 1 USD is 1/1.25 EUR, as
an exact fraction. It counts for every hour of its day and of the days behind it, until another of the same two begins;
of those that begin on one day the one set last counts. An end leaves the two without a rate from its day on.

Nothing is guessed: no rate is made of two others by way of a third currency, none counts before its day, and none is
ever taken to be 1.

A file of rates is CSV with the columns `day`, `currency`, `quoted_in`, `rate` and, if wanted, `source` and `note`:

    day,currency,quoted_in,rate,source
    2026-11-02,EUR,USD,1.0834,ECB
"""

import csv
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Any

from trainledger_schemas.errors import UsageError

from ..reports.times import within_years
from .csv_rows import refuse_cells_beyond
from .money import currency_code, nano_to_text

__all__ = ["Rate", "RateBook", "day_us", "rate_fields", "read_rate_file"]

NANO = 10**9
RATE_MAX = Decimal(10**9)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEEDED = ("day", "currency", "quoted_in", "rate")
_COLUMNS = (*_NEEDED, "source", "note")


@dataclass(frozen=True, slots=True)
class Rate:
    """One `currency` is `nano_rate` x 10^-9 of `quoted_in` from `from_day` on; None: the two have no rate."""

    currency: str
    quoted_in: str
    nano_rate: int | None
    from_day: date

    def factor(self, currency: str) -> Fraction | None:
        """What an amount of `currency`, one of the two, is multiplied by to be one of the other."""
        if self.nano_rate is None:
            return None
        factor = Fraction(self.nano_rate, NANO)
        return factor if currency == self.currency else 1 / factor

    def text(self) -> str:
        """As a person reads it."""
        number = nano_to_text(self.nano_rate or 0).rstrip("0").rstrip(".")
        return f"1 {self.currency} = {number} {self.quoted_in} from {self.from_day}"


class RateBook:
    """All rates that were ever set, in the order in which that was said."""

    def __init__(self, rates: Iterable[Rate]) -> None:
        by_pair: dict[frozenset[str], dict[date, Rate]] = {}
        for rate in rates:
            by_pair.setdefault(_pair(rate), {})[rate.from_day] = rate
        self._days = {pair: sorted(by_day) for pair, by_day in by_pair.items()}
        self._by_pair = by_pair

    def at(self, currency: str, other: str, day: date) -> Rate | None:
        """The rate of two currencies that counts on a day, None where there is none."""
        pair = frozenset((currency, other))
        days = self._days.get(pair, [])
        place = bisect_right(days, day)
        rate = self._by_pair[pair][days[place - 1]] if place else None
        return rate if rate is not None and rate.nano_rate is not None else None

    def is_standing(self, rate: Rate, today: date) -> bool:
        """Whether a rate of the book counts today or on a day to come."""
        pair = _pair(rate)
        if self._by_pair[pair][rate.from_day] is not rate:
            return False
        return rate.from_day > today or self.at(rate.currency, rate.quoted_in, today) is rate


def rate_fields(
    currency: str, quoted_in: str, rate: str | None, *, from_day: date, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """One rate of a `currency_rates_set` event; `rate` as decimal text, None for an end; `extra`: note, source.

    Raises UsageError for what makes no sense."""
    if currency_code(currency) == currency_code(quoted_in):
        raise UsageError(f"a rate is between two currencies; {currency} is one")
    return {
        "currency": currency,
        "quoted_in": quoted_in,
        "nano_rate": None if rate is None else _nano_rate(rate),
        "from_day_us": day_us(from_day),
        "note": extra.get("note"),
        "source": extra.get("source"),
    }


def day_us(day: date) -> int:
    """The start of a UTC day, microseconds since 1970."""
    moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)


def read_rate_file(path: Path) -> list[dict[str, Any]]:
    """The rates of a CSV file, as `rate_fields` gives them. Raises UsageError that names file, line and column."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            _check_header(path, rows.fieldnames or ())
            found = [_file_row(f"{path}, line {rows.line_num}", row) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    if not found:
        raise UsageError(f"{path} has a header and no row")
    return found


def _check_header(path: Path, names: Iterable[str]) -> None:
    given = list(names)
    missing = [name for name in _NEEDED if name not in given]
    unknown = [name for name in given if name not in _COLUMNS]
    if missing or unknown:
        raise UsageError(
            f"{path}: the columns are {', '.join(_NEEDED)} and, if wanted, source and note; "
            + (f"missing: {', '.join(missing)}" if missing else f"unknown: {', '.join(map(repr, unknown))}")
        )


def _file_row(where: str, row: Mapping[str, str | None]) -> dict[str, Any]:
    refuse_cells_beyond(where, row)
    cells = {name: (row.get(name) or "").strip() for name in _COLUMNS}
    try:
        day = date.fromisoformat(cells["day"])
    except ValueError:
        raise UsageError(f"{where}: day {cells['day']!r} is not a day such as 2026-11-02") from None
    extra = {"note": cells["note"] or None, "source": cells["source"] or "file"}
    try:
        within_years(datetime(day.year, day.month, day.day, tzinfo=UTC), cells["day"])
        return rate_fields(cells["currency"], cells["quoted_in"], cells["rate"], from_day=day, extra=extra)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _nano_rate(text: str) -> int:
    try:
        rate = Decimal(text)
    except InvalidOperation:
        raise UsageError(f"{text!r} is not a rate; give a number such as 1.0834") from None
    if not rate.is_finite() or not 0 < rate <= RATE_MAX or rate != round(rate, 9):
        raise UsageError(
            f"rate {text} is not above 0 and up to {RATE_MAX} with at most 9 decimals; a rate that needs more "
            "decimals is said the other way round, as 1 EUR = 18141.5 IDR"
        )
    return int(rate * NANO)


def _pair(rate: Rate) -> frozenset[str]:
    return frozenset((rate.currency, rate.quoted_in))
