"""One month for finance: the statement of a closed month, what moved since, and why.

A closed month is reported from its statement, whatever is known by now: the same rows for ever. The differences are
told beside it: each was or will be booked in a later month.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from trainledger_schemas.errors import UsageError

from ..session import Session
from .money import format_minor, minor_digits, minor_text, nano_of
from .posting import posted_differences
from .report import GROUPS, CostReport, make_report

__all__ = ["ClosedMonth", "Explanation", "booked_in", "explain_month", "read_closed_month", "read_statement"]

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


def read_statement(session: Session, month: ClosedMonth, *, by: str) -> CostReport:
    """The report of a closed month, from its statement alone."""
    if by not in GROUPS:
        raise UsageError(f"cannot report by {by!r}; the groups are {', '.join(GROUPS)}")
    if by == "outcome":
        raise UsageError(
            f"{month.period} is closed, and a statement does not say what came of the runs: "
            "give --from and --to for what is known now"
        )
    of_month = {"p": month.period}
    lines = session.query(
        f"SELECT {GROUPS[by]} AS holder, kind AS line_kind, currency AS money, sum(ifNull(cost, toDecimal128(0, 9))) "
        f"AS total, sumIf(held_hours, cost IS NULL) AS unpriced FROM {session.views}.statement_lines "
        "WHERE period = {p:String} GROUP BY holder, line_kind, money",
        of_month,
    ).to_pylist()
    bills = session.query(
        f"SELECT currency AS money, sum(bill) AS total FROM {session.views}.statement_bills "
        "WHERE period = {p:String} AND currency IS NOT NULL GROUP BY money ORDER BY money",
        of_month,
    ).to_pylist()
    return make_report(by, lines, bills)


def explain_month(session: Session, month: ClosedMonth) -> Explanation:
    """Why the newest bill of a closed month is not its statement: to the cent, the largest difference first."""
    rows = session.query(
        "SELECT cause, event_ref, booked_by, booked_at, booked_in, team, uniqExact(usage_hour, node_id) AS hours, "
        f"sum(delta) AS total, currency FROM {session.views}.cost_adjustments WHERE period = {{p:String}} "
        "GROUP BY cause, event_ref, booked_by, booked_at, booked_in, team, currency",
        {"p": month.period},
    ).to_pylist()
    stated = {
        row["money"]: nano_of(row["total"])
        for row in session.query(
            f"SELECT assumeNotNull(currency) AS money, sum(cost) AS total FROM {session.views}.statement_lines "
            "WHERE period = {p:String} AND cost IS NOT NULL GROUP BY money",
            {"p": month.period},
        ).to_pylist()
    }
    return make_explanation(stated, rows)


def make_explanation(stated_nano: Mapping[str, int], rows: Iterable[Mapping[str, Any]]) -> Explanation:
    """The explanation of statement totals (10^-9 by currency) and differences {..., total: Decimal, currency}."""
    kept = [row for row in rows if row["total"]]
    shown: list[dict[str, Any]] = []
    sums: list[dict[str, str]] = []
    for currency in sorted({*stated_nano, *(row["currency"] for row in kept)}):
        digits, before = minor_digits(currency), stated_nano.get(currency, 0)
        here = sorted(
            (row for row in kept if row["currency"] == currency),
            key=lambda row: (-abs(row["total"]), row["cause"], row["event_ref"], row["team"] or ""),
        )
        deltas = [nano_of(row["total"]) for row in here]
        posted = posted_differences(before, deltas, digits=digits)
        for row, minor in zip(here, posted, strict=True):
            shown.append(
                {name: row.get(name) for name in EXPLAIN_COLUMNS} | {"delta": format_minor(minor, digits)}
            )
        sums.append(
            {
                "currency": currency,
                "statement": minor_text(before, currency),
                "differences": format_minor(sum(posted), digits),
                "newest": minor_text(before + sum(deltas), currency),
            }
        )
    return Explanation(tuple(shown), tuple(sums))


def booked_in(session: Session, period: str) -> dict[str, str]:
    """The differences of earlier months that a month books, by currency, to the minor unit."""
    rows = session.query(
        f"SELECT currency, sum(delta) AS total FROM {session.views}.cost_adjustments WHERE booked_in = {{p:String}} "
        "GROUP BY currency HAVING total != 0 ORDER BY currency",
        {"p": period},
    ).to_pylist()
    return {row["currency"]: minor_text(nano_of(row["total"]), row["currency"]) for row in rows}
