"""Which findings are told: each episode once a channel, also across restarts, by what was delivered before.

A finding's key is `SUBJECT since TIME`. It is due on a channel unless that key was delivered there, or, for a state
that lasts (a stalled run, an idle GPU), anything of the subject was delivered after the time: then it has not been
otherwise in between, whatever arrived late. Findings of one subject that come as events (errors of one kind of one
GPU) are told together, and after a message the next ones wait QUIET: a device that fails each second is no flood.
Findings of several subjects with the same `together` (ranks of one run) are one message too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from .alert_channels import Alert

__all__ = ["QUIET", "AlertRule", "Delivered", "Finding", "due_findings", "sql_time"]

QUIET = timedelta(minutes=10)
_SINCE = " since "


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to tell: what of, since when, and the row that it was seen in. `lasts`: a state, not an event.

    `together`: what is told in one message; None: the findings of its subject."""

    subject: str
    since: datetime
    lasts: bool
    facts: Mapping[str, Any] = field(default_factory=dict)
    together: str | None = None

    @property
    def key(self) -> str:
        """The same at each look, in each process."""
        return f"{self.subject}{_SINCE}{self.since.astimezone(UTC).isoformat(timespec='microseconds')}"


class AlertRule(Protocol):
    """Finds what could be told, and words it. Both ask the tables; raise RetryableError when these do not answer."""

    def findings(self, now: datetime) -> list[Finding]:
        """All that is to be told now, told before or not. Called each minute."""

    def alert(self, findings: Sequence[Finding]) -> Alert:
        """One message of findings that are told together, oldest first."""


class Delivered:
    """What was delivered: rows of view alerts (alert, channel, sent_at)."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._keys: set[tuple[str, str]] = set()
        self._newest: dict[tuple[str, str], datetime] = {}
        for row in rows:
            self.note(row["alert"], row["channel"], row["sent_at"])

    def note(self, key: str, channel: str, sent_at: datetime) -> None:
        """One more."""
        self._keys.add((key, channel))
        place = (key.rpartition(_SINCE)[0], channel)
        self._newest[place] = max(sent_at, self._newest.get(place, sent_at))

    def has(self, key: str, channel: str) -> bool:
        """Whether exactly this was delivered."""
        return (key, channel) in self._keys

    def newest(self, subject: str, channel: str) -> datetime | None:
        """When anything of the subject was delivered last."""
        return self._newest.get((subject, channel))


def due_findings(
    findings: Iterable[Finding], delivered: Delivered, *, channel: str, now: datetime
) -> list[list[Finding]]:
    """What is to be told on a channel: a list a message, its findings oldest first."""
    groups: dict[str, list[Finding]] = {}
    for finding in sorted(findings, key=lambda finding: finding.since):
        told_at = delivered.newest(finding.subject, channel)
        if delivered.has(finding.key, channel):
            continue
        if told_at is not None and (told_at >= finding.since if finding.lasts else told_at > now - QUIET):
            continue
        groups.setdefault(finding.together or finding.subject, []).append(finding)
    return list(groups.values())


def sql_time(at: datetime) -> str:
    """A time as a parameter of a query."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"
