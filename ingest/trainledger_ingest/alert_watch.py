"""Looks each minute at everything that may be told, in a thread of its own.

One look that fails keeps no other from its turn. How often an alert is sent: see `alert_delivery`.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from trainledger_schemas.clock import Clock
from trainledger_schemas.errors import TrainledgerError
from trainledger_schemas.structured_log import say

from .alert_channels import Alert, AlertChannel
from .alert_delivery import AlertDelivery, Append
from .alert_rules import AlertRule, Delivered, due_findings, sql_time
from .budget_alerts import BudgetAlerts
from .cost.budgets import Query
from .hardware_alerts import HardwareErrors
from .idle_gpu_alerts import IdleGpus
from .settings import IngestSettings
from .stall_alerts import StalledRuns

__all__ = ["AlertWatch", "RuleAlerts", "alert_watch"]

INTERVAL_S = 60.0
# How soon a process looks whose turn it has become.
OFF_DUTY_S = 5.0
# Longer than any rule looks back.
DELIVERED_WITHIN = timedelta(days=8)


class RuleAlerts:
    """Sends what one rule finds, once each and channel."""

    def __init__(
        self,
        rule: AlertRule,
        query: Query,
        views: str,
        *,
        append: Append,
        channels: Sequence[AlertChannel],
        clock: Clock,
    ) -> None:
        self._rule = rule
        self._query = query
        self._views = views
        self._append = append
        self._channels = channels
        self._clock = clock

    def check(self) -> list[Alert]:
        """Send what is due now and return it; raises RetryableError after all channels were tried."""
        now = datetime.fromtimestamp(self._clock.wall_ns() / 1e9, UTC)
        findings = self._rule.findings(now)
        if not findings:
            return []
        delivered = Delivered(
            self._query(
                f"SELECT alert, channel, sent_at FROM {self._views}.alerts "
                "WHERE sent_at >= toDateTime64({since:String}, 6, 'UTC')",
                {"since": sql_time(now - DELIVERED_WITHIN)},
            ).to_pylist()
        )
        delivery = AlertDelivery(self._append)
        for channel in self._channels:
            for group in due_findings(findings, delivered, channel=channel.name, now=now):
                keys = [finding.key for finding in group]
                if not delivery.send(self._rule.alert(group), channel, keys=keys):
                    break
        return delivery.end()


class AlertWatch:
    """`checks`: each sends what is due and raises TrainledgerError when it could not."""

    def __init__(self, checks: Sequence[Callable[[], object]], *, interval_s: float = INTERVAL_S) -> None:
        self._checks = checks
        self._interval_s = interval_s

    @contextmanager
    def watching(self, *, is_on_duty: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Check each INTERVAL_S, so that a slow server holds up nothing, until the end.

        `is_on_duty`: whether it is this process's turn; of several workers one is. What cannot be delivered is said
        in the log and tried again."""
        if not self._checks:
            yield
            return
        stop = threading.Event()
        thread = threading.Thread(target=self._watch, args=(stop, is_on_duty), name="alerts", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _watch(self, stop: threading.Event, is_on_duty: Callable[[], bool]) -> None:
        while not stop.is_set():
            has_looked = False
            for check in self._checks:
                try:
                    if is_on_duty() and not stop.is_set():
                        has_looked = True
                        check()
                except TrainledgerError as error:
                    say(logging.WARNING, f"an alert waits: {error}", daemon="alerts")
                except Exception as error:
                    # The edge of a thread that nobody else would start again: say it, and look again.
                    say(logging.ERROR, f"a look for alerts failed: {error!r}", daemon="alerts", error=error)
            stop.wait(self._interval_s if has_looked else min(OFF_DUTY_S, self._interval_s))


def alert_watch(
    query: Query,
    views: str,
    *,
    append: Append,
    channels: Sequence[AlertChannel],
    clock: Clock,
    settings: IngestSettings,
) -> AlertWatch:
    """All that is told where channels are set; nothing is looked at without one."""
    if not channels:
        return AlertWatch([])
    budgets = BudgetAlerts(query, views, append=append, channels=channels, clock=clock)
    rules: list[AlertRule] = [HardwareErrors(query, views)]
    if settings.alert_stall_minutes:
        rules.append(StalledRuns(query, views, minutes=settings.alert_stall_minutes))
    if settings.alert_idle_gpu_minutes:
        rules.append(IdleGpus(query, views, minutes=settings.alert_idle_gpu_minutes))
    return AlertWatch(
        [
            budgets.check,
            *(
                RuleAlerts(rule, query, views, append=append, channels=channels, clock=clock).check
                for rule in rules
            ),
        ]
    )
