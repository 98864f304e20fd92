"""Alerts when a budget's share is crossed, fired once each and channel.

When several shares are crossed at once only the highest is sent, and the lower ones are not sent after it. How often
an alert is sent: see `alert_delivery`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from trainledger_schemas.clock import Clock

from .alert_channels import Alert, AlertChannel
from .alert_delivery import AlertDelivery, Append
from .cost.budgets import BudgetState, Query, read_budget_states
from .cost.money import exact_text, minor_text, nano_of

__all__ = ["SHARES", "BudgetAlerts"]

SHARES = (50, 80, 100)


class BudgetAlerts:
    """Looks at all budgets of the month and sends what is due."""

    def __init__(
        self,
        query: Query,
        views: str,
        *,
        append: Append,
        channels: Sequence[AlertChannel],
        clock: Clock,
    ) -> None:
        self._query = query
        self._views = views
        self._append = append
        self._channels = channels
        self._clock = clock

    def check(self) -> list[Alert]:
        """Send what is due now and return it; raises RetryableError after all channels were tried."""
        now = datetime.fromtimestamp(self._clock.wall_ns() / 1e9, UTC)
        first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        behind = (first + timedelta(days=32)).replace(day=1)
        states = read_budget_states(self._query, self._views, first=first, behind=behind, now=now)
        rows = (
            self._query(f"SELECT alert, channel FROM {self._views}.alerts", None).to_pylist()
            if states
            else []
        )
        sent = {(row["alert"], row["channel"]) for row in rows}
        delivery = AlertDelivery(self._append)
        for state in states:
            crossed = [share for share in SHARES if state.share * 100 >= share]
            for channel in self._channels:
                told = [share for share in SHARES if (_key(state, share), channel.name) in sent]
                if not crossed or max(told, default=0) >= crossed[-1]:
                    continue
                alert = _alert(state, crossed[-1])
                delivery.send(alert, channel, keys=(alert.key,))
        return delivery.end()


def _key(state: BudgetState, share: int) -> str:
    budget = state.budget
    return (
        f"budget {budget.scope} {budget.name} {budget.currency} {state.month} {share}% of {budget.a_month:f}"
    )


def _alert(state: BudgetState, share: int) -> Alert:
    budget = state.budget
    spent = minor_text(nano_of(state.spent), budget.currency)
    limit = exact_text(nano_of(budget.a_month), budget.currency)
    kind = "hard budget" if budget.is_hard else "budget"
    text = (
        f"{budget.scope} {budget.name} has used {share} % of its {kind} of {state.month}: {spent} of {limit}"
    )
    if state.forecast is not None:
        text += f" {budget.currency}, forecast {minor_text(nano_of(state.forecast), budget.currency)}"
    facts = {
        name: str(value) if isinstance(value, Decimal) else value for name, value in state.as_row().items()
    }
    return Alert(_key(state, share), text, facts | {"crossed_percent": share})
