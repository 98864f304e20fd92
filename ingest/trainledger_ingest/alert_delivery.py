"""Sends alerts and notes each that was taken.

An alert is sent, then the event `alert_sent` is appended; what that event names is never sent again, by whatever
process. A process that dies between both sends once more, with the same id; nothing is ever left out.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from trainledger_schemas.errors import RetryableError

from .alert_channels import Alert, AlertChannel

__all__ = ["AlertDelivery", "Append"]

Append = Callable[[str, Mapping[str, Any]], object]


class AlertDelivery:
    """What one check sends; a channel that fails keeps no other from its turn."""

    def __init__(self, append: Append) -> None:
        self._append = append
        self._sent: list[Alert] = []
        self._failure: RetryableError | None = None

    def send(self, alert: Alert, channel: AlertChannel, *, keys: Iterable[str]) -> bool:
        """Send by one channel and note `keys`, what the alert is about; False when it was not surely taken."""
        try:
            channel.send(alert)
        except RetryableError as error:
            self._failure = self._failure or RetryableError(f"{alert.text}; by {channel.name}: {error}")
            return False
        self._sent.append(alert)
        for key in keys:
            self._append("alert_sent", {"alert": key, "channel": channel.name})
        return True

    def end(self) -> list[Alert]:
        """What was sent; raises the first failure instead, if there was one."""
        if self._failure is not None:
            raise self._failure
        return self._sent
