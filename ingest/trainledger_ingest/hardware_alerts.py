"""Alerts of errors of GPUs: each row of view hardware_errors once, with the runs that were on the device.

Looks back LOOK_BACK, so that what a node could send only days later is told, and no history when alerts are first set.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from .alert_channels import Alert
from .alert_rules import Finding, sql_time
from .cost.budgets import Query

__all__ = ["HardwareErrors", "hardware_alert", "hardware_findings"]

LOOK_BACK = timedelta(days=7)
RUNS_SHOWN = 4
_WORDS = {
    "ecc_uncorrected": "uncorrectable memory error",
    "row_remap_pending": "memory row to be replaced at the next reset",
    "row_remap_failed": "memory row that could not be replaced",
    "lost": "GPU lost",
}
_ERRORS = """
SELECT at, node_id, device_id, model, error, code, errors, part_ids FROM {views}.hardware_errors
WHERE at >= toDateTime64({{since:String}}, 6, 'UTC')
"""
# What nothing ended was there: the node, which told of the error, would have said that it was gone. An error is learned
# of up to half a minute after the run may have died of it.
_RUNS = """
SELECT run_id FROM {views}.run_writers
WHERE node_id = {{node:String}} AND hasAny(device_ids, {{devices:Array(String)}})
  AND started_at <= toDateTime64({{last:String}}, 6, 'UTC') AND (state IN ('running', 'lost')
    OR last_seen_at >= toDateTime64({{first:String}}, 6, 'UTC') - INTERVAL 60 SECOND)
GROUP BY run_id ORDER BY run_id
"""


class HardwareErrors:
    """An alert rule."""

    def __init__(self, query: Query, views: str) -> None:
        self._query = query
        self._views = views

    def findings(self, now: datetime) -> list[Finding]:
        """A finding a row."""
        table = self._query(_ERRORS.format(views=self._views), {"since": sql_time(now - LOOK_BACK)})
        return hardware_findings(table.to_pylist())

    def alert(self, findings: Sequence[Finding]) -> Alert:
        """Of one device and kind of error."""
        facts = findings[-1].facts
        rows = self._query(
            _RUNS.format(views=self._views),
            {
                "node": facts["node_id"],
                "devices": [facts["device_id"], *facts["part_ids"]],
                "first": sql_time(findings[0].since),
                "last": sql_time(findings[-1].since),
            },
        ).to_pylist()
        return hardware_alert(findings, [str(row["run_id"]) for row in rows])


def hardware_findings(rows: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """Rows of view hardware_errors; those of one device, kind and code are one subject."""
    return [
        Finding(
            f"hardware {row['node_id']} {row['device_id']} {_short(row)}", row["at"], lasts=False, facts=row
        )
        for row in rows
    ]


def hardware_alert(findings: Sequence[Finding], run_ids: Sequence[str]) -> Alert:
    """What went wrong, where, when, how often, and on whom."""
    newest = findings[-1]
    row = newest.facts
    errors = sum(int(finding.facts["errors"]) for finding in findings)
    what = f"Xid {row['code']}" if row["error"] == "xid" else _WORDS.get(row["error"], row["error"])
    times = f", {errors} times" if errors > 1 else ""
    runs = ", ".join(run_ids[:RUNS_SHOWN]) + (" and more" if len(run_ids) > RUNS_SHOWN else "")
    text = (
        f"{what}{times} on node {row['node_id']}, {row['model'] or 'device'} {row['device_id']}, at "
        f"{newest.since:%Y-%m-%d %H:%M:%S} UTC; {f'runs on it: {runs}' if runs else 'no run is known on it'}"
    )
    facts = {
        "rule": "hardware error",
        "node_id": row["node_id"],
        "device_id": row["device_id"],
        "model": row["model"],
        "error": row["error"],
        "code": row["code"],
        "errors": errors,
        "at": newest.since.isoformat(),
        "run_ids": list(run_ids),
    }
    return Alert(newest.key, text, facts)


def _short(row: Mapping[str, Any]) -> str:
    return str(row["error"]) if row["code"] is None else f"{row['error']} {row['code']}"
