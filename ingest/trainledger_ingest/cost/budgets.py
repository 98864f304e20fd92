"""Budgets: what a team, project or experiment may cost in a month, how far it is, and where it will end.

    burn rate   money of the last seven days of the month so far (fewer at its beginning), an hour
    forecast    spent + burn rate x hours left of the month

Amounts are exact; the rate and the forecast are rounded to 10^-9. A budget counts from its first month until another
one of the same scope, name and currency takes its place; only money in its own currency counts towards it. Hours
without a price are in none of it, and told beside it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from trainledger_schemas.errors import UsageError

__all__ = [
    "SCOPES",
    "Budget",
    "BudgetState",
    "budget_nano",
    "current_budgets",
    "judge_budget",
    "later_budgets",
    "read_budget_states",
    "read_budgets",
]

SCOPES = ("team", "project", "experiment")
AMOUNT_MAX = Decimal(10**12)
BURN_WINDOW = timedelta(days=7)
_HOUR = timedelta(hours=1)
_EXACT = Context(prec=60)
_NANO = Decimal("1E-9")

Query = Callable[[str, Mapping[str, object] | None], pa.Table]


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit of a month. `is_hard`: more must not be spent; it is told and can be asked for, nothing is stopped."""

    scope: str
    name: str
    a_month: Decimal
    currency: str
    is_hard: bool
    from_month: str


@dataclass(frozen=True, slots=True)
class BudgetState:
    """Where a budget stands in a month. `burn_per_day` and `forecast` None before anything was measured.

    `unpriced_hours`: hours of nodes that its holder held and that have no price; `elsewhere`: what its holder spent in
    other currencies, of which no budget of the holder counts, by currency."""

    budget: Budget
    month: str
    spent: Decimal
    burn_per_day: Decimal | None
    forecast: Decimal | None
    unpriced_hours: float = 0.0
    elsewhere: tuple[tuple[str, Decimal], ...] = ()

    @property
    def is_used_up(self) -> bool:
        """Whether nothing is left of it; of a budget of 0 nothing ever is."""
        return self.spent >= self.budget.a_month

    @property
    def share(self) -> Decimal:
        """Spent part of the budget, 1 is all of it; a budget of 0 is used up by anything."""
        if not self.budget.a_month:
            return Decimal(1 if self.spent > 0 else 0)
        return _EXACT.divide(self.spent, self.budget.a_month)

    def as_row(self) -> dict[str, Any]:
        """For JSON and files."""
        budget = self.budget
        return {
            "scope": budget.scope,
            "name": budget.name,
            "month": self.month,
            "budget": budget.a_month,
            "currency": budget.currency,
            "hard": budget.is_hard,
            "spent": self.spent,
            "share": float(round(self.share, 6)),
            "burn_per_day": self.burn_per_day,
            "forecast": self.forecast,
            "state": self.state,
            "unpriced_hours": self.unpriced_hours,
        }

    @property
    def state(self) -> str:
        """over, will be over (by the forecast), or within."""
        if self.spent > self.budget.a_month:
            return "over"
        return (
            "will be over" if self.forecast is not None and self.forecast > self.budget.a_month else "within"
        )


def current_budgets(rows: Iterable[Mapping[str, Any]], month: str) -> list[Budget]:
    """The budgets that count in a month; `rows` of view budgets in the order in which they were set."""
    found: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for row in rows:
        key = (row["scope"], row["name"], row["currency"])
        if row["from_month"] <= month and (key not in found or row["from_month"] >= found[key]["from_month"]):
            found[key] = row
    return [_budget(row) for _, row in sorted(found.items()) if row["a_month"] is not None]


def later_budgets(rows: Iterable[Mapping[str, Any]], month: str) -> list[Budget]:
    """The budgets that begin after a month, by scope, name, currency and first month; `rows` as current_budgets has."""
    found = {
        (row["scope"], row["name"], row["currency"], row["from_month"]): row
        for row in rows
        if row["from_month"] > month
    }
    return [_budget(row) for _, row in sorted(found.items()) if row["a_month"] is not None]


def _budget(row: Mapping[str, Any]) -> Budget:
    return Budget(
        row["scope"], row["name"], row["a_month"], row["currency"], bool(row["hard"]), row["from_month"]
    )


def judge_budget(
    budget: Budget,
    hours: Iterable[tuple[datetime, Decimal]],
    *,
    first: datetime,
    behind: datetime,
    now: datetime,
    unpriced_hours: float = 0.0,
) -> BudgetState:
    """The state of a budget in the month [first, behind) at `now`, from what each hour cost it."""
    month = f"{first:%Y-%m}"
    costs = list(hours)
    spent = sum((cost for _, cost in costs), Decimal(0))
    upto = min(now, behind)
    since = max(first, upto - BURN_WINDOW)
    passed_s, left_s = _seconds(upto - since), _seconds(behind - upto)
    if passed_s <= 0:
        return BudgetState(budget, month, spent, None, None, unpriced_hours)
    # An hour that began before the window counts whole: what began in it is what is known of its end.
    burnt = sum((cost for hour, cost in costs if hour + _HOUR > since), Decimal(0))
    rate = _EXACT.divide(burnt, Decimal(passed_s))
    per_day = _EXACT.multiply(rate, Decimal(86_400)).quantize(_NANO, ROUND_HALF_UP, _EXACT)
    more = _EXACT.multiply(rate, Decimal(left_s)).quantize(_NANO, ROUND_HALF_UP, _EXACT)
    return BudgetState(budget, month, spent, per_day, spent + more, unpriced_hours)


def budget_nano(text: str) -> int:
    """An amount a month as decimal text in 10^-9 units; raises UsageError for anything but 0 to AMOUNT_MAX."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise UsageError(f"{text!r} is not an amount; give a number such as 25000") from None
    if not amount.is_finite() or not 0 <= amount <= AMOUNT_MAX or amount != round(amount, 9):
        raise UsageError(f"budget {text} is not between 0 and {AMOUNT_MAX} with at most 9 decimals")
    return int(amount.scaleb(9))


def read_budgets(query: Query, views: str) -> list[dict[str, Any]]:
    """All budgets in the order in which they were set."""
    rows: list[dict[str, Any]] = query(
        f"SELECT scope, name, a_month, currency, hard, from_month FROM {views}.budgets ORDER BY set_at, event_ref",
        None,
    ).to_pylist()
    return rows


def read_budget_states(
    query: Query, views: str, *, first: datetime, behind: datetime, now: datetime
) -> list[BudgetState]:
    """The states of all budgets of a month, by scope and name."""
    rows = read_budgets(query, views)
    states = []
    for scope in SCOPES:
        budgets = [budget for budget in current_budgets(rows, f"{first:%Y-%m}") if budget.scope == scope]
        if not budgets:
            continue
        hours: dict[tuple[str, str], list[tuple[datetime, Decimal]]] = {}
        unpriced: dict[str, float] = {}
        for row in query(
            f"""SELECT {scope} AS holder, currency AS money, usage_hour AS hour, sum(cost) AS total,
              sumIf(held_hours, cost IS NULL) AS unpriced
            FROM {views}.cost_lines
            WHERE usage_hour >= toDateTime({{start:String}}, 'UTC') AND usage_hour < toDateTime({{end:String}}, 'UTC')
              AND {scope} IS NOT NULL
            GROUP BY holder, money, hour""",
            {"start": f"{first:%Y-%m-%d %H:%M:%S}", "end": f"{behind:%Y-%m-%d %H:%M:%S}"},
        ).to_pylist():
            unpriced[row["holder"]] = unpriced.get(row["holder"], 0.0) + row["unpriced"]
            if row["total"] is not None:
                hours.setdefault((row["holder"], row["money"]), []).append((row["hour"], row["total"]))
        limited = {(budget.name, budget.currency) for budget in budgets}
        for budget in budgets:
            state = judge_budget(
                budget,
                hours.get((budget.name, budget.currency), ()),
                first=first,
                behind=behind,
                now=now,
                unpriced_hours=unpriced.get(budget.name, 0.0),
            )
            states.append(replace(state, elsewhere=_elsewhere(hours, budget.name, limited)))
    return states


def _elsewhere(
    hours: Mapping[tuple[str, str], Iterable[tuple[datetime, Decimal]]],
    name: str,
    limited: Collection[tuple[str, str]],
) -> tuple[tuple[str, Decimal], ...]:
    """What a holder spent in each currency that none of its budgets is in."""
    sums = {
        currency: sum((cost for _, cost in costs), Decimal(0))
        for (holder, currency), costs in sorted(hours.items())
        if holder == name and (holder, currency) not in limited
    }
    return tuple((currency, total) for currency, total in sums.items() if total)


def _seconds(span: timedelta) -> int:
    return span // timedelta(seconds=1)
