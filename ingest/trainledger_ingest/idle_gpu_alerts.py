"""Alerts of GPUs that cost and are not used: held by somebody, or free on a node that has a price.

Idle is a stretch of at least MINUTES up to the newest measurement in which no minute's mean use reached BUSY_PCT and
nine minutes of ten were measured: what was not measured is unknown, never idle. Fewer than BLIP_MINUTES used minutes in
an hour do not end an episode. A day is looked back: what is idle for longer is told daily.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from .alert_channels import Alert
from .alert_rules import Finding
from .cost.budgets import Query

__all__ = ["Idle", "IdleGpus", "idle_alert", "idle_findings", "idle_since"]

BUSY_PCT = 5
BLIP_MINUTES = 5
MEASURED_SHARE = 0.9
# A node whose newest measurement is older says nothing of now.
FRESH = timedelta(minutes=5)
LOOK_BACK = timedelta(hours=24)
_MINUTE = timedelta(minutes=1)
# Of MIG instances the use is told as that of their multiprocessors.
_USE = "name IN ('gpu_util_pct', 'sm_active_pct')"
_QUIET = f"""
SELECT device_id FROM {{views}}.hardware_minutes WHERE {_USE} AND minute >= toDateTime({{{{since:String}}}}, 'UTC')
GROUP BY device_id HAVING max(mean) < {BUSY_PCT}
"""
_MINUTES = f"""
SELECT node_id, device_id, groupArray(toUnixTimestamp(minute)) AS minutes_s, groupArray(busy) AS busy FROM (
  SELECT node_id, device_id, minute, max(mean) >= {BUSY_PCT} AS busy FROM {{views}}.hardware_minutes
  WHERE {_USE} AND minute >= toDateTime({{{{since:String}}}}, 'UTC') AND device_id IN {{{{devices:Array(String)}}}}
  GROUP BY node_id, device_id, minute ORDER BY minute
) GROUP BY node_id, device_id
"""
_GPUS = """
SELECT node_id, device_id, model, holders, run_ids, state FROM {views}.gpus WHERE device_id IN {{devices:Array(String)}}
"""
_RATES = """
SELECT node_id, substring(resource, 8) AS device_id, toFloat64(sum(cost)) / sum(device_hours) AS per_hour,
  any(currency) AS in_currency
FROM {views}.cost_lines
WHERE usage_hour >= toDateTime({{since:String}}, 'UTC') AND resource IN {{resources:Array(String)}} AND cost IS NOT NULL
GROUP BY node_id, device_id HAVING sum(device_hours) > 0 AND uniqExact(currency) = 1
"""


@dataclass(frozen=True, slots=True)
class Idle:
    """`episode`: since when it was used for no more than blips; `since`: its last used minute; `end`: as measured."""

    episode: datetime
    since: datetime
    end: datetime


class IdleGpus:
    """An alert rule; `minutes`: least minutes without use."""

    def __init__(self, query: Query, views: str, *, minutes: int) -> None:
        self._query = query
        self._views = views
        self._minutes = minutes

    def findings(self, now: datetime) -> list[Finding]:
        """A finding a device that is idle now, and held or priced."""
        quiet = self._rows(_QUIET, since=_second(now - self._minutes * _MINUTE))
        devices = sorted({row["device_id"] for row in quiet})
        if not devices:
            return []
        minutes = self._rows(_MINUTES, since=_second(now - LOOK_BACK), devices=devices)
        idle = idle_since(minutes, minutes_least=self._minutes, now=now)
        if not idle:
            return []
        devices = sorted({device for _, device in idle})
        resources = [f"device:{device}" for device in devices]
        return idle_findings(
            idle,
            self._rows(_GPUS, devices=devices),
            self._rows(_RATES, since=_second(now - LOOK_BACK), resources=resources),
        )

    def alert(self, findings: Sequence[Finding]) -> Alert:
        """Of one device."""
        return idle_alert(findings[-1])

    def _rows(self, sql: str, **parameters: object) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._query(sql.format(views=self._views), parameters).to_pylist()
        return rows


def idle_since(
    rows: Iterable[Mapping[str, Any]], *, minutes_least: int, now: datetime
) -> dict[tuple[str, str], Idle]:
    """Of each (node, device) that is idle now: since when.

    `rows`: node_id, device_id and the starts of its measured minutes in order of time, seconds since 1970, and
    whether it was busy in each."""
    found = {}
    for row in rows:
        times = [datetime.fromtimestamp(at_s, UTC) for at_s in row["minutes_s"]]
        minutes = list(zip(times, row["busy"], strict=True))
        end = minutes[-1][0] + _MINUTE
        busy = [at for at, is_busy in minutes if is_busy]
        since = busy[-1] + _MINUTE if busy else minutes[0][0]
        idle = [at for at, _ in minutes if at >= since]
        if end < now - FRESH or end - since < minutes_least * _MINUTE:
            continue
        recent = [at for at in idle if at >= end - minutes_least * _MINUTE]
        if len(recent) >= MEASURED_SHARE * minutes_least:
            found[row["node_id"], row["device_id"]] = Idle(_episode(busy, minutes[0][0]), since, end)
    return found


def idle_findings(
    idle: Mapping[tuple[str, str], Idle],
    gpus: Iterable[Mapping[str, Any]],
    rates: Iterable[Mapping[str, Any]],
) -> list[Finding]:
    """Those that somebody holds or that are free and cost; rows of view gpus, and money an hour of each device."""
    known = {(row["node_id"], row["device_id"]): row for row in rates}
    found = []
    for row in gpus:
        place = (row["node_id"], row["device_id"])
        rate = known.get(place)
        if place not in idle or not (row["holders"] or (row["state"] == "free" and rate is not None)):
            continue
        stretch = idle[place]
        hours = (stretch.end - stretch.since).total_seconds() / 3600
        facts = {
            "rule": "idle GPU",
            "node_id": row["node_id"],
            "device_id": row["device_id"],
            "model": row["model"],
            "holders": list(row["holders"]),
            "run_ids": [str(run_id) for run_id in row["run_ids"]],
            "idle_since": stretch.since.isoformat(),
            "idle_minutes": round(hours * 60),
            "cost": None if rate is None else round(rate["per_hour"] * hours, 2),
            "currency": None if rate is None else rate["in_currency"],
        }
        subject = f"idle {row['node_id']} {row['device_id']}"
        found.append(Finding(subject, stretch.episode, lasts=True, facts=facts))
    return found


def idle_alert(finding: Finding) -> Alert:
    """Which device, who holds it, for how long, and what that cost."""
    facts = finding.facts
    who = f"held by {', '.join(facts['holders'])}" if facts["holders"] else "free"
    cost = "" if facts["cost"] is None else f", about {facts['cost']:.2f} {facts['currency']} so far"
    text = (
        f"{facts['model'] or 'device'} {facts['device_id']} of node {facts['node_id']}, {who}, is not used for "
        f"{facts['idle_minutes']} min{cost}"
    )
    return Alert(finding.key, text, facts)


def _episode(busy: Sequence[datetime], first: datetime) -> datetime:
    for place in range(len(busy) - 1, BLIP_MINUTES - 2, -1):
        if busy[place] - busy[place - BLIP_MINUTES + 1] < timedelta(hours=1):
            return busy[place] + _MINUTE
    return first


def _second(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
