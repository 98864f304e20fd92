"""One month for finance: the statement of a closed month, what moved since, and why.

A closed month is reported from its statement, whatever is known by now: the same rows for ever. The differences are
told beside it: each was or will be booked in a later month.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from trainledger_schemas.errors import UsageError

from ..session import Session
from .conversion import Conversion
from .money import format_minor, minor_digits, minor_text, nano_of
from .posting import posted_bookings
from .report import GROUPS, CostReport, converted_report, sums_sql

__all__ = [
    "ClosedMonth",
    "Explanation",
    "explain_month",
    "hours_without_price",
    "make_explanation",
    "read_bookings",
    "read_closed_month",
    "read_statement",
]

EXPLAIN_COLUMNS = (
    "cause",
    "event_ref",
    "booked_by",
    "booked_at",
    "booked_in",
    "team",
    "hours",
    "delta",
    "currency",
)


@dataclass(frozen=True, slots=True)
class ClosedMonth:
    """When, by whom and how a month was closed."""

    period: str
    statement_id: str
    closed_at: datetime
    closed_by: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """`rows`: a cause, event and team each, largest first; `sums` by currency: statement, differences, newest bill."""

    rows: tuple[dict[str, Any], ...]
    sums: tuple[dict[str, str], ...]


def read_closed_month(session: Session, period: str) -> ClosedMonth | None:
    """The closing of a month, None while it is open. Raises UsageError where its rows are gone."""
    rows = session.query(
        "SELECT toString(statement_id) AS id, closed_at, closed_by, lines FROM "
        f"{session.views}.cost_periods WHERE period = {{p:String}}",
        {"p": period},
    ).to_pylist()
    if not rows:
        return None
    (row,) = rows
    found = session.query(
        f"SELECT count() AS n FROM {session.views}.statement_lines WHERE period = {{p:String}}", {"p": period}
    ).to_pylist()[0]["n"]
    if found != row["lines"]:
        raise UsageError(
            f"the statement of {period} has {found} of {row['lines']} lines: put the tables back from a backup that "
            "has it; `trainledger admin period ls` shows what is intact"
        )
    return ClosedMonth(period, row["id"], row["closed_at"], row["closed_by"])


def read_statement(
    session: Session, month: ClosedMonth, *, by: str, conversion: Conversion | None = None
) -> CostReport:
    """The report of a closed month, from its statement alone."""
    if by not in GROUPS:
        raise UsageError(f"cannot report by {by!r}; the groups are {', '.join(GROUPS)}")
    if by == "outcome":
        raise UsageError(
            f"{month.period} is closed, and a statement does not say what came of the runs: "
            "give --from and --to for what is known now"
        )
    of_month, by_day = {"p": month.period}, conversion is not None
    lines = session.query(
        sums_sql(by, f"{session.views}.statement_lines WHERE period = {{p:String}}", by_day=by_day), of_month
    ).to_pylist()
    columns = ", toDate(usage_hour, 'UTC') AS day" if by_day else ""
    bills = session.query(
        f"SELECT currency AS money, sum(bill) AS total{columns} FROM {session.views}.statement_bills "
        "WHERE period = {p:String} AND currency IS NOT NULL "
        f"GROUP BY money{', day' if by_day else ''} ORDER BY money",
        of_month,
    ).to_pylist()
    return converted_report(by, lines, bills, conversion)


def explain_month(session: Session, month: ClosedMonth) -> Explanation:
    """Why the newest bill of a closed month is not its statement: to the cent, the largest difference first."""
    rows = session.query(
        "SELECT cause, event_ref, booked_by, booked_at, booked_in, team, uniqExact(usage_hour, node_id) AS hours, "
        f"sum(delta) AS total, currency FROM {session.views}.cost_adjustments WHERE period = {{p:String}} "
        "GROUP BY cause, event_ref, booked_by, booked_at, booked_in, team, currency",
        {"p": month.period},
    ).to_pylist()
    closings = _closings(session)
    return make_explanation(closings[month.period], rows, order=tuple(closings))


def make_explanation(
    stated_nano: Mapping[str, int], rows: Iterable[Mapping[str, Any]], *, order: Sequence[str]
) -> Explanation:
    """The explanation of statement totals (10^-9 by currency) and differences {..., total: Decimal, currency}.

    `order`: the closed months as they were closed; rows that are booked in none of them are not booked yet."""
    kept = [row for row in rows if row["total"]]
    shown: list[tuple[Any, ...]] = []
    sums: list[dict[str, str]] = []
    for currency in sorted({*stated_nano, *(row["currency"] for row in kept)}):
        digits, before = minor_digits(currency), stated_nano.get(currency, 0)
        here = sorted((row for row in kept if row["currency"] == currency), key=_row_order)
        bookings = _by_booking(here, order)
        nano = [[nano_of(row["total"]) for row in booking] for booking in bookings]
        posted = posted_bookings(before, nano, digits=digits)
        for booking, minors in zip(bookings, posted, strict=True):
            for row, minor in zip(booking, minors, strict=True):
                text = {name: row.get(name) for name in EXPLAIN_COLUMNS} | {
                    "delta": format_minor(minor, digits)
                }
                shown.append((currency, _row_order(row), text))
        sums.append(
            {
                "currency": currency,
                "statement": minor_text(before, currency),
                "differences": format_minor(sum(map(sum, posted)), digits),
                "newest": minor_text(before + sum(map(sum, nano)), currency),
            }
        )
    return Explanation(tuple(item[2] for item in sorted(shown, key=lambda item: item[:2])), tuple(sums))


def hours_without_price(session: Session, period: str) -> float:
    """Node-hours of a month that have no price by what is known now: they are in no newest bill."""
    found = session.query(
        f"SELECT sum(present_s) / 3600 AS hours FROM {session.views}.node_hour_bills "
        "WHERE bill IS NULL AND formatDateTime(usage_hour, '%Y-%m', 'UTC') = {p:String}",
        {"p": period},
    ).to_pylist()
    return float(found[0]["hours"] or 0)


def read_bookings(session: Session) -> dict[str, dict[str, str]]:
    """The differences of earlier months that each month books, as they are posted: by month and currency.

    The sum of what `explain_month` shows of them, to the minor unit."""
    rows = session.query(
        f"SELECT period, booked_in, currency, sum(delta) AS total FROM {session.views}.cost_adjustments "
        "GROUP BY period, booked_in, currency HAVING total != 0"
    ).to_pylist()
    closings = _closings(session)
    found: dict[str, dict[str, int]] = {}
    for period, currency in {(row["period"], row["currency"]) for row in rows}:
        here = [row for row in rows if row["period"] == period and row["currency"] == currency]
        bookings = _by_booking(here, tuple(closings))
        nano = [[nano_of(row["total"]) for row in booking] for booking in bookings]
        posted = posted_bookings(closings[period].get(currency, 0), nano, digits=minor_digits(currency))
        for booking, minors in zip(bookings, posted, strict=True):
            months = found.setdefault(booking[0]["booked_in"], {})
            months[currency] = months.get(currency, 0) + sum(minors)
    return {
        month: {
            currency: format_minor(minor, minor_digits(currency)) for currency, minor in sorted(sums.items())
        }
        for month, sums in found.items()
    }


def _closings(session: Session) -> dict[str, dict[str, int]]:
    """The totals (10^-9 by currency) of each statement, in the order in which the months were closed."""
    rows = session.query(
        f"SELECT period, totals FROM {session.views}.cost_periods ORDER BY closed_at, period"
    ).to_pylist()
    return {
        row["period"]: {currency: nano_of(total) for currency, total in dict(row["totals"]).items()}
        for row in rows
    }


def _by_booking(rows: Sequence[Mapping[str, Any]], order: Sequence[str]) -> list[list[Mapping[str, Any]]]:
    """Rows that were booked together, in the order of booking; what is not booked yet comes last."""
    found: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        place = order.index(row["booked_in"]) if row["booked_in"] in order else len(order)
        found.setdefault(place, []).append(row)
    return [found[place] for place in sorted(found)]


def _row_order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Largest first, and the same order whatever else there is."""
    return (
        -abs(row["total"]), row["cause"], row["event_ref"], row["team"] or "", row["booked_in"],
        row["booked_by"], str(row["booked_at"]),
    )  # fmt: skip
