"""GPUs: who holds which now and how busy it is; over time the hours that were held, used, not used and not measured."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from trainledger_schemas.errors import UsageError

from ..cost.periods import period_condition, period_parts
from ..session import Session
from .times import duration_text

__all__ = ["TIME_GROUPS", "gpu_cells", "gpus_now", "gpus_over_time", "run_labels"]

TIME_GROUPS: Mapping[str, str] = {
    "hour": "usage_hour",
    "day": "toDate(usage_hour, 'UTC')",
    "team": "team",
    "project": "project",
    "node": "node_id",
    "gpu": "device_id",
}
_DAY_GROUPS: Mapping[str, str] = {"day": "day", "team": "team", "project": "project", "node": "node_id"}
# Hours of devices of each line, and of each holder and day: what view gpu_hours sums by hour and device.
_OF_LINES = """SELECT usage_hour, node_id, substring(resource, 8) AS device_id, kind, team, project,
    assumeNotNull(device_hours) AS hours, hours * ifNull(used_hours, 0) / held_hours AS used,
    hours * unused_hours / held_hours AS unused, hours * unknown_hours / held_hours AS unknown
  FROM {views}.cost_lines
  WHERE {where} AND startsWith(resource, 'device:') AND held_hours > 0 AND device_hours IS NOT NULL"""
_OF_DAYS = """SELECT day, node_id, kind, team, project, assumeNotNull(device_hours) AS hours, device_used_hours AS used,
    round(hours - device_used_hours - device_unknown_hours, 9) AS unused, device_unknown_hours AS unknown
  FROM {views}.cost_days WHERE {where} AND device_hours > 0"""
_ID_CHARACTERS = 8
_LOOKBACK = timedelta(days=7)


def gpus_now(session: Session, *, is_all: bool) -> pa.Table:
    """Rows of view `gpus`: of nodes that were heard of in the last 90 seconds, or of all of the last seven days."""
    condition = "1" if is_all else "is_live"
    return session.query(
        f"SELECT * FROM {session.views}.gpus WHERE {condition} ORDER BY node_id, device_id", {}
    )


def gpus_over_time(session: Session, *, by: str, start: str | None, end: str | None) -> pa.Table:
    """Hours of devices of [start, end) (UTC hours as text, None: open) by a group: held by runs and others, of these
    used, not used, not measured; beside them `idle_hours` (nobody held it) and `unseen_hours` (nobody saw who did).

    A number is NULL where nothing of it was measured. Raises UsageError for a group that there is not."""
    if by not in TIME_GROUPS:
        raise UsageError(f"cannot report by {by!r}; the groups are {', '.join(TIME_GROUPS)}")
    parts = list(period_parts(start, end))
    if len(parts) == 1 and parts[0].is_days and by in _DAY_GROUPS:
        where, parameters = parts[0].condition()
        group, source = _DAY_GROUPS[by], _OF_DAYS.format(views=session.views, where=where)
    else:
        where, parameters = period_condition(start, end)
        group, source = TIME_GROUPS[by], _OF_LINES.format(views=session.views, where=where)
    held = "h.kind NOT IN ('idle', 'unknown')"
    return session.query(
        f"SELECT {group} AS {by}, sumIf(h.hours, {held}) AS held_hours, "
        f"sumOrNullIf(h.used, {held} AND h.unknown < h.hours) AS used_hours, "
        f"sumOrNullIf(h.unused, {held} AND h.unknown < h.hours) AS unused_hours, "
        f"sumIf(h.unknown, {held}) AS unknown_hours, sumIf(h.hours, h.kind = 'idle') AS idle_hours, "
        f"sumIf(h.hours, h.kind = 'unknown') AS unseen_hours FROM ({source}) AS h GROUP BY {by} ORDER BY {by}",
        parameters,
    )


def run_labels(session: Session, run_ids: list[str]) -> dict[str, str]:
    """Run id -> how people call it: its name and the beginning of its id, and its team."""
    if not run_ids:
        return {}
    rows = session.query(
        f"SELECT toString(run_id) AS id, name, team FROM {session.views}.runs WHERE run_id IN {{ids:Array(UUID)}}",
        {"ids": run_ids},
    ).to_pylist()
    return {
        row["id"]: " ".join(
            part
            for part in (row["name"], row["id"][:_ID_CHARACTERS], row["team"] and f"({row['team']})")
            if part
        )
        for row in rows
    }


def gpu_cells(row: Mapping[str, Any], labels: Mapping[str, str], *, now: datetime) -> list[str]:
    """A row of view `gpus` as people read it."""
    holders = [labels.get(holder, holder.removeprefix("user:")) for holder in row["holders"]]
    used, total = row["mem_used_bytes"], row["mem_total_bytes"]
    since = row["held_since"]
    return [
        row["node_id"],
        row["device_id"][: _ID_CHARACTERS + 4],
        " ".join(filter(None, (row["model"], row["mig_profile"]))) or "-",
        row["state"],
        ", ".join(holders) or "-",
        "-" if since is None else duration_text(min(now - since, _LOOKBACK).total_seconds()),
        "unknown" if row["util_pct"] is None else f"{row['util_pct']:.0f} %",
        "unknown" if row["idle_s"] is None else duration_text(row["idle_s"]),
        f"{'?' if used is None else f'{used / 2**30:.1f}'}/{'?' if total is None else f'{total / 2**30:.0f}'} GiB",
    ]
