"""A cost report: who pays what, to the cent, with the node bills that it must equal.

Exact amounts are summed first and rounded once: each currency's total half up, its rows by largest remainder,
so that the printed rows sum to the printed total. Holders without the group (idle time has no team) are rows
with the group null and their kind. What has no price is shown with its hours, never as 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from trainledger_schemas.errors import UsageError

from ..session import Session
from .money import cents, format_minor, minor_digits, rounded_minor

__all__ = ["GROUPS", "CostReport", "read_report"]

GROUPS: Mapping[str, str] = {
    "team": "team",
    "project": "project",
    "experiment": "experiment",
    "run": "toString(run_id)",
    "user": "owner",
    "node": "node_id",
    "kind": "kind",
}
NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class CostReport:
    """`rows` as `cost --json` prints them; `totals` and `bills` by currency, as text; hours without a price."""

    by: str
    rows: tuple[dict[str, Any], ...]
    totals: dict[str, str]
    bills: dict[str, str]
    unpriced_hours: float
    has_presence: bool


def read_report(session: Session, *, by: str, start: str | None, end: str | None) -> CostReport:
    """Sum the lines of [start, end) (UTC hours as text, None: open) by one group."""
    if by not in GROUPS:
        raise UsageError(f"cannot report by {by!r}; the groups are {', '.join(GROUPS)}")
    where, parameters = _period("usage_hour", start, end)
    lines = session.query(
        f"SELECT {GROUPS[by]} AS holder, kind AS line_kind, currency AS money, sum(ifNull(cost, toDecimal128(0, 9))) "
        f"AS total, sumIf(held_hours, cost IS NULL) AS unpriced FROM {session.views}.cost_lines WHERE {where} "
        "GROUP BY holder, line_kind, money",
        parameters,
    ).to_pylist()
    merged = _merge(lines, by)
    bills = session.query(
        f"SELECT currency AS money, sum(bill) AS total FROM {session.views}.node_bills "
        f"WHERE {_period('day', start, end)[0]} AND currency IS NOT NULL GROUP BY money",
        parameters,
    ).to_pylist()
    rows: list[dict[str, Any]] = []
    totals: dict[str, str] = {}
    for currency in sorted({key[2] for key in merged if key[2] is not None}):
        keys = sorted((k for k in merged if k[2] == currency), key=lambda k: (k[0] is None, str(k[0]), k[1]))
        digits = minor_digits(currency)
        amounts = cents([merged[k][0] for k in keys], digits=digits)
        rows += [
            _row(by, k, format_minor(a, digits), merged[k][1]) for k, a in zip(keys, amounts, strict=True)
        ]
        totals[currency] = format_minor(sum(amounts), digits)
    rows += [_row(by, k, None, v[1]) for k, v in sorted(merged.items(), key=str) if k[2] is None]
    return CostReport(
        by=by,
        rows=tuple(rows),
        totals=totals,
        bills={
            b["money"]: format_minor(rounded_minor(_nano(b["total"]), b["money"]), minor_digits(b["money"]))
            for b in bills
        },
        unpriced_hours=sum(v[1] for k, v in merged.items() if k[2] is None),
        has_presence=bool(lines),
    )


def _merge(
    lines: Sequence[Mapping[str, Any]], by: str
) -> dict[tuple[str | None, str, str | None], tuple[int, float]]:
    # Holders of the group keep one row over all kinds; those without it keep a row a kind.
    merged: dict[tuple[str | None, str, str | None], tuple[int, float]] = {}
    for line in lines:
        holder = line["holder"]
        kind = line["line_kind"] if holder is None or by in ("kind", "node", "user") else "run"
        key = (holder, kind, line["money"])
        nano, hours = merged.get(key, (0, 0.0))
        merged[key] = (nano + _nano(line["total"]), hours + float(line["unpriced"]))
    return merged


def _row(
    by: str, key: tuple[str | None, str, str | None], cost: str | None, unpriced: float
) -> dict[str, Any]:
    holder, kind, currency = key
    row: dict[str, Any] = {by: holder, "kind": kind}
    return row | {"cost": cost, "currency": currency, "unpriced_hours": round(unpriced, 6)}


def _nano(amount: Decimal | None) -> int:
    return int((amount or Decimal(0)) * NANO)


def _period(column: str, start: str | None, end: str | None) -> tuple[str, dict[str, object]]:
    conditions, parameters = ["1"], dict[str, object]()
    if start is not None:
        conditions.append(
            f"{column} >= {{start:DateTime}}" if column != "day" else "day >= toDate({start:DateTime})"
        )
        parameters["start"] = start
    if end is not None:
        conditions.append(
            f"{column} < {{end:DateTime}}" if column != "day" else "day < toDate({end:DateTime})"
        )
        parameters["end"] = end
    return " AND ".join(conditions), parameters
