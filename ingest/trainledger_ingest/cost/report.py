"""A cost report: who pays what, to the cent, with the node bills that it must equal.

Exact amounts are summed first and rounded once: each currency's total half up, its rows by largest remainder,
so that the printed rows sum to the printed total. One row a group and currency; the hours of a group that have
no price stand beside its money, never as 0. Holders without the group (idle time has no team) are rows with
the group null, one a kind. Currencies are never added up, unless a conversion brings them to one. Whole days are read
from `cost_days`, where the lines are summed before it is asked who pays.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from trainledger_schemas.errors import UsageError

from ..session import Session
from .conversion import Conversion, Converted
from .money import cents, format_minor, minor_digits, minor_text, whole_nano
from .periods import period_condition, period_parts

__all__ = [
    "GROUPS",
    "CostReport",
    "converted_report",
    "group_of",
    "lines_view",
    "make_report",
    "read_bills",
    "read_report",
    "sums_sql",
]

GROUPS: Mapping[str, str] = {
    "team": "team",
    "project": "project",
    "experiment": "experiment",
    "run": "toString(run_id)",
    "user": "owner",
    "account": "account",
    "node": "node_id",
    "kind": "kind",
    "day": "toString(toDate(usage_hour, 'UTC'))",
    "outcome": "outcome",
}
# What has the group, where it is not view cost_lines.
_SOURCES = {"outcome": "cost_outcomes"}
# Behind the columns of a query: each day has a rate of its own.
_DAY = ", toDate(usage_hour, 'UTC') AS day"
# The group, and the kind where there is none.
_Key = tuple[str | None, str]


@dataclass(frozen=True, slots=True)
class CostReport:
    """`rows` as `cost --json` prints them; `totals` and `bills` by currency, as text; hours without a price.

    `has_presence`: whether any node was there at all; `newest_hour`: the last hour that has a bill, UTC; `converted`:
    by which rates amounts were brought to one currency, if they were, and what had none."""

    by: str
    rows: tuple[dict[str, Any], ...]
    totals: dict[str, str]
    bills: dict[str, str]
    unpriced_hours: float
    has_presence: bool
    newest_hour: datetime | None = None
    converted: Converted | None = None


@dataclass(slots=True)
class _Group:
    """What one row is made of: kinds of its lines, money (10^-9 / scale) by currency, node-hours without a price."""

    kinds: set[str] = field(default_factory=set)
    nano: dict[str, int] = field(default_factory=dict)
    unpriced_hours: float = 0.0


def read_report(
    session: Session, *, by: str, start: str | None, end: str | None, conversion: Conversion | None = None
) -> CostReport:
    """Sum the lines of [start, end) (UTC hours as text, None: open) by one group."""
    if by not in GROUPS:
        raise UsageError(f"cannot report by {by!r}; the groups are {', '.join(GROUPS)}")
    by_day = conversion is not None
    lines: list[dict[str, Any]] = []
    for part in period_parts(start, end):
        where, parameters = part.condition()
        view = f"{session.views}.cost_days" if part.is_days else lines_view(session, by)
        sql = sums_sql(by, f"{view} WHERE {where}", by_day=by_day, is_of_days=part.is_days)
        lines += session.query(sql, parameters).to_pylist()
    bills = _bills(session, start, end, by_day=by_day)
    newest = max((row["newest"] for row in bills), default=None)
    priced = [row for row in bills if row["money"] is not None]
    return replace(converted_report(by, lines, priced, conversion), newest_hour=newest)


def sums_sql(by: str, source: str, *, by_day: bool, is_of_days: bool = False) -> str:
    """The sums of lines that `make_report` takes, of a view and a condition; or of each day apart.

    `is_of_days`: a row of the view is of a day."""
    day = "" if not by_day else ", day" if is_of_days else _DAY
    return (
        f"SELECT {group_of(by, is_of_days=is_of_days)} AS holder, kind AS line_kind, currency AS money, "
        f"sum(ifNull(cost, toDecimal128(0, 9))) AS total, sumIf(held_hours, cost IS NULL) AS unpriced{day} "
        f"FROM {source} GROUP BY holder, line_kind, money{', day' if by_day else ''}"
    )


def converted_report(
    by: str,
    lines: Sequence[Mapping[str, Any]],
    bills: Sequence[Mapping[str, Any]],
    conversion: Conversion | None,
) -> CostReport:
    """The report of sums, which are by day where they are brought to one currency."""
    if conversion is None:
        return make_report(by, lines, bills)
    both = conversion.convert([*lines, *bills])
    report = make_report(by, both.rows[: len(lines)], _added_up(both.rows[len(lines) :]), scale=both.scale)
    return replace(report, converted=both)


def _added_up(bills: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    sums: dict[str, int] = {}
    for bill in bills:
        sums[bill["money"]] = sums.get(bill["money"], 0) + bill["total"]
    return [{"money": money, "total": total} for money, total in sorted(sums.items())]


def group_of(by: str, *, is_of_days: bool) -> str:
    """A group, in the lines or in a view of days."""
    return "toString(day)" if is_of_days and by == "day" else GROUPS[by]


def lines_view(session: Session, by: str) -> str:
    """The view that has the lines with this group."""
    return f"{session.views}.{_SOURCES.get(by, 'cost_lines')}"


def read_bills(session: Session, start: str | None, end: str | None) -> list[dict[str, Any]]:
    """The bills of all nodes in [start, end): {money, total, newest}, a row a currency."""
    return [row for row in _bills(session, start, end) if row["money"] is not None]


def _bills(
    session: Session, start: str | None, end: str | None, *, by_day: bool = False
) -> list[dict[str, Any]]:
    where, parameters = period_condition(start, end)
    rows: list[dict[str, Any]] = session.query(
        f"SELECT currency AS money, sum(bill) AS total, max(usage_hour) AS newest{_DAY if by_day else ''} "
        f"FROM {session.views}.node_hour_bills WHERE {where} GROUP BY money{', day' if by_day else ''} ORDER BY money",
        parameters,
    ).to_pylist()
    return rows


def make_report(
    by: str, lines: Iterable[Mapping[str, Any]], bills: Iterable[Mapping[str, Any]], *, scale: int = 1
) -> CostReport:
    """The report of sums of lines {holder, line_kind, money, total, unpriced} and of bills {money, total}.

    `money` is the currency, None without a price; `total` Decimal, or an integer of 10^-9 / `scale`; `unpriced`
    node-hours."""
    groups = _collect(lines)
    keys = sorted(groups, key=lambda key: (key[0] is None, key[0] or "", key[1]))
    amounts: dict[tuple[_Key, str], str] = {}
    totals: dict[str, str] = {}
    for currency in sorted({money for group in groups.values() for money in group.nano}):
        holders = [key for key in keys if currency in groups[key].nano]
        digits = minor_digits(currency)
        minor = cents([groups[key].nano[currency] for key in holders], digits=digits, scale=scale)
        for key, amount in zip(holders, minor, strict=True):
            amounts[key, currency] = format_minor(amount, digits)
        totals[currency] = format_minor(sum(minor), digits)
    rows = [
        row
        for key in keys
        for row in _rows(by, key[0], groups[key], {c: amounts[key, c] for c in sorted(groups[key].nano)})
    ]
    return CostReport(
        by=by,
        rows=tuple(rows),
        totals=totals,
        bills={bill["money"]: minor_text(whole_nano(bill["total"]), bill["money"], scale) for bill in bills},
        unpriced_hours=sum(group.unpriced_hours for group in groups.values()),
        has_presence=bool(groups),
    )


def _collect(lines: Iterable[Mapping[str, Any]]) -> dict[_Key, _Group]:
    groups: dict[_Key, _Group] = {}
    for line in lines:
        holder, kind, currency = line["holder"], line["line_kind"], line["money"]
        group = groups.setdefault((holder, kind if holder is None else ""), _Group())
        group.kinds.add(kind)
        group.unpriced_hours += float(line["unpriced"])
        if currency is not None:
            group.nano[currency] = group.nano.get(currency, 0) + whole_nano(line["total"])
    return groups


def _rows(by: str, holder: str | None, group: _Group, amounts: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    # A group with several currencies has a row each; its hours without a price stand in the first of them.
    unpriced = round(group.unpriced_hours, 6)
    shown: Iterable[tuple[str | None, str | None]] = amounts.items() or [(None, None)]
    for currency, cost in shown:
        row: dict[str, Any] = {by: holder, "kind": next(iter(group.kinds)) if len(group.kinds) == 1 else None}
        yield row | {"cost": cost, "currency": currency, "unpriced_hours": unpriced}
        unpriced = 0.0
