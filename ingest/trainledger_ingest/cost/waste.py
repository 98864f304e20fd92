"""How much of the bill was wasted, and why: each row of a cost report split into reasons that sum to it.

A unit of money has one reason. What nobody held is `idle`; what the system took is `system`; what nobody saw is
`unknown`. What a run held is `failed`, `killed` or `crashed` by how it ended, and `retried` where another attempt
followed; of all else the measured use decides: `used`, `unused` (held, and measured as not used) or `unknown`.

Rows are those of `cost` with the same group, to the cent; their reasons are rounded by largest remainder to sum to it.
What was not measured is never counted as unused, nor as used: the share that was wasted then lies between two numbers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trainledger_schemas.errors import UsageError

from ..session import Session
from .money import format_minor, largest_remainder, minor_digits, nano_of, round_half_up
from .periods import PeriodPart, period_parts
from .report import GROUPS, CostReport, group_of, lines_view, make_report, read_bills

__all__ = ["WASTED", "WHYS", "WasteChoice", "WasteReport", "make_waste", "read_waste"]

WHYS = ("used", "unused", "failed", "killed", "crashed", "retried", "idle", "system", "unknown")
WASTED = ("unused", "failed", "killed", "crashed", "retried", "idle")
_SHARES = ("wasted", "wasted_pct_min", "wasted_pct_max")
_PERCENT_DIGITS = 2


@dataclass(frozen=True, slots=True)
class WasteReport:
    """`rows`: group, kind, cost, a column a reason, wasted, wasted_pct_min and _max, currency, unpriced_hours.

    `totals`: the same columns, a row a currency. `costs`: the cost report that has the same rows."""

    costs: CostReport
    rows: tuple[dict[str, Any], ...]
    totals: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class WasteChoice:
    """Which part of the bill: UTC hours as text (None: open), one team, one project (None: all)."""

    start: str | None = None
    end: str | None = None
    team: str | None = None
    project: str | None = None

    @property
    def is_all(self) -> bool:
        """Whether no holder is left out, so that rows must sum to the bills of the nodes."""
        return self.team is None and self.project is None


def read_waste(session: Session, choice: WasteChoice, *, by: str) -> WasteReport:
    """Split the bill of a period by one group."""
    if by not in GROUPS:
        raise UsageError(f"cannot report by {by!r}; the groups are {', '.join(GROUPS)}")
    lines = [
        row
        for part in period_parts(choice.start, choice.end)
        for row in _read_part(session, choice, part, by)
    ]
    bills = read_bills(session, choice.start, choice.end) if choice.is_all else []
    return make_waste(by, lines, bills)


def _read_part(session: Session, choice: WasteChoice, part: PeriodPart, by: str) -> list[dict[str, Any]]:
    where, parameters = part.condition()
    for name, wanted in (("team", choice.team), ("project", choice.project)):
        if wanted is not None:
            where += f" AND {name} = {{{name}:String}}"
            parameters[name] = wanted
    group = group_of(by, is_of_days=part.is_days)
    parts = "cost_waste_days" if part.is_days else "cost_waste"
    whole = f"{session.views}.cost_days" if part.is_days else lines_view(session, by)
    is_empty = "empty_lines > 0" if part.is_days else "held_hours = 0"
    lines: list[dict[str, Any]] = session.query(
        f"SELECT {group} AS holder, kind AS line_kind, why, currency AS money, "
        "sum(ifNull(cost, toDecimal128(0, 9))) AS total, sumIf(held_hours, cost IS NULL) AS unpriced "
        f"FROM {session.views}.{parts} WHERE {where} GROUP BY holder, line_kind, why, money",
        parameters,
    ).to_pylist()
    # A line without a share has no part that a reason could be told of; its row is one of 0.00 all the same.
    lines += session.query(
        f"SELECT {group} AS holder, kind AS line_kind, if(kind IN ('idle', 'system', 'unknown'), kind, 'used') "
        "AS why, currency AS money, toDecimal128(0, 9) AS total, 0. AS unpriced "
        f"FROM {whole} WHERE {where} AND {is_empty} GROUP BY holder, line_kind, why, money",
        parameters,
    ).to_pylist()
    return lines


def make_waste(
    by: str, lines: Iterable[Mapping[str, Any]], bills: Iterable[Mapping[str, Any]]
) -> WasteReport:
    """The report of sums {holder, line_kind, why, money, total, unpriced}; see `make_report`."""
    lines = list(lines)
    costs = make_report(by, lines, bills)
    nano: dict[tuple[str | None, str, str], dict[str, int]] = {}
    for line in lines:
        if line["money"] is not None:
            kind = line["line_kind"] if line["holder"] is None else ""
            parts = nano.setdefault((line["holder"], kind, line["money"]), {})
            parts[line["why"]] = parts.get(line["why"], 0) + nano_of(line["total"])
    rows, sums = [], dict[str, tuple[dict[str, int], dict[str, int]]]()
    for row in costs.rows:
        head = {by: row[by], "kind": row["kind"], "cost": row["cost"]}
        tail = {"currency": row["currency"], "unpriced_hours": row["unpriced_hours"]}
        if row["currency"] is None:
            rows.append(head | dict.fromkeys((*WHYS, *_SHARES)) | tail)
            continue
        exact = nano[row[by], row["kind"] if row[by] is None else "", row["currency"]]
        minor = _minor_parts(row["cost"], exact)
        rows.append(head | _columns(exact, minor, row["currency"]) | tail)
        for total, part in zip(sums.setdefault(row["currency"], ({}, {})), (exact, minor), strict=True):
            for why, amount in part.items():
                total[why] = total.get(why, 0) + amount
    totals = [
        {"cost": costs.totals[currency], **_columns(exact, minor, currency), "currency": currency}
        for currency, (exact, minor) in sorted(sums.items())
    ]
    return WasteReport(costs, tuple(rows), tuple(totals))


def _minor_parts(cost: str, exact: Mapping[str, int]) -> dict[str, int]:
    """The reasons of a row of `cost` (as it is shown), in minor units that sum to it."""
    whys = [why for why in WHYS if exact.get(why)]
    if not whys:
        return dict.fromkeys(exact, 0)
    shown = largest_remainder(int(cost.replace(".", "")), [exact[why] for why in whys], range(len(whys)))
    return dict.fromkeys(exact, 0) | dict(zip(whys, shown, strict=True))


def _columns(exact: Mapping[str, int], minor: Mapping[str, int], currency: str) -> dict[str, Any]:
    """A column a reason, and what they come to. `exact`: reasons that there are, 10^-9; `minor`: as they are shown."""
    digits = minor_digits(currency)
    is_blind = "unknown" in exact and not {"used", "unused"} & exact.keys()
    found: dict[str, Any] = {why: format_minor(minor.get(why, 0), digits) for why in WHYS}
    if is_blind:
        found |= {"used": None, "unused": None}
    wasted, cost = sum(exact.get(why, 0) for why in WASTED), sum(exact.values())
    known = cost - exact.get("unknown", 0)
    if known <= 0:
        nothing = None if is_blind or cost else format_minor(0, digits)
        return found | dict.fromkeys(_SHARES) | {"wasted": nothing}
    shown = sum(minor.get(why, 0) for why in WASTED)
    return found | {
        "wasted": format_minor(shown, digits),
        "wasted_pct_min": _percent(wasted, cost),
        "wasted_pct_max": _percent(wasted + exact.get("unknown", 0), cost),
    }


def _percent(part: int, whole: int) -> float:
    scale: int = 10**_PERCENT_DIGITS
    return round_half_up(100 * scale * part, whole) / scale
