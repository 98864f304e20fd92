"""The metrics of a run as people read them: course, last, least, greatest and best of each key.

Keys are joined with "/"; what stands before one is the metric's group: `eval` of `eval/acc`, or `eval/top5` of
`eval/top5/acc`. Of many metrics `show` has the first METRICS_SHOWN_MAX and names their groups; each can be asked for.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from trainledger_schemas.errors import NotFoundError

from ..curves import CURVE_BUCKETS, sparkline
from ..session import Session
from .best_results import best_moments
from .section import Section, shortened
from .times import duration_text

__all__ = ["METRICS_SHOWN_MAX", "group_rows", "group_section", "results_section"]

METRICS_SHOWN_MAX = 60
GROUP_METRICS_MAX = 10_000
GROUPS_NAMED_MAX = 6
_NAMES = ("metric", "course", "last", "step", "min", "max", "best", "points")
_OF_GROUP = "(key = {group:String} OR startsWith(key, {prefix:String}))"


def results_section(session: Session, run: Mapping[str, Any], group: str | None = None) -> Section:
    """Of a run (run_id, started_at and ranks of view runs) all metrics of a group, else as many as can be read.

    Those with a goal come first, if there are too many: somebody said that they matter.
    """
    limit = METRICS_SHOWN_MAX if group is None else GROUP_METRICS_MAX
    asked = _asked(run["run_id"], group)
    rows = _rows(
        session,
        "SELECT key, points, last, last_step, min, max, best, best_step, goal, count() OVER () AS keys "
        f"FROM {session.views}.metric_summary WHERE run_id = {{id:UUID}} AND {_where(group)} "
        f"ORDER BY best IS NULL, key LIMIT {limit}",
        asked,
    )
    if group is not None and not rows:
        raise _unknown(session, run["run_id"], group)
    rows.sort(key=lambda row: str(row["key"]))
    curves = _curves(session, asked, where=_where(group), limit=limit)
    has_best = any(row["best"] is not None for row in rows)
    moments = best_moments(session, run["run_id"]) if has_best else {}
    cells = tuple(
        (
            shortened(row["key"]),
            curves.get(row["key"], ""),
            _number(row["last"]),
            str(row["last_step"]),
            _number(row["min"]),
            _number(row["max"]),
            "-" if row["best"] is None else _best(row, run["started_at"], moments.get(row["key"])),
            str(row["points"]),
        )
        for row in rows
    )
    notes = [f"last, min, max and best over all {run['ranks']} ranks"] if run["ranks"] > 1 else []
    if rows and rows[0]["keys"] > len(rows):
        notes.append(f"{len(rows)} of {rows[0]['keys']} metrics")
        groups = _groups_text(session, run["run_id"]) if group is None else ""
        notes += [f"`show RUN --group G` has all of {groups}"] if groups else []
        notes.append("view metric_summary has all")
    title = "results" if group is None else f"results of {group}"
    return Section(
        f"{title} ({'; '.join(notes)})" if notes else title, _NAMES, cells, optional=("points", "min", "max")
    )


def group_section(session: Session, run_id: str, group: str) -> Section:
    """All metrics of a group of a run that exists. Raises NotFoundError for a group that it has not."""
    columns = "toString(r.run_id) AS run_id, started_at, ranks"
    sql = f"SELECT {columns} FROM {session.views}.runs AS r WHERE r.run_id = {{id:UUID}}"
    return results_section(session, _rows(session, sql, {"id": run_id})[0], group)


def group_rows(session: Session, run_id: str, group: str) -> list[dict[str, Any]]:
    """The rows of view metric_summary of a group. Raises NotFoundError for a group that the run has not."""
    rows = _rows(
        session,
        f"SELECT * FROM {session.views}.metric_summary WHERE run_id = {{id:UUID}} AND {_where(group)} "
        f"ORDER BY key LIMIT {GROUP_METRICS_MAX}",
        _asked(run_id, group),
    )
    if not rows:
        raise _unknown(session, run_id, group)
    return rows


def _groups_text(session: Session, run_id: str) -> str:
    """The groups of the first level with their number of metrics, the largest first: `train (300), eval (12)`.

    Empty where no key has a "/".
    """
    ranked = _rows(
        session,
        "SELECT splitByChar('/', key)[1] AS name, count() AS metrics, count() OVER () AS names "
        f"FROM {session.views}.metric_summary WHERE run_id = {{id:UUID}} AND position(key, '/') > 0 "
        f"GROUP BY name ORDER BY metrics DESC, name LIMIT {GROUPS_NAMED_MAX}",
        {"id": run_id},
    )
    named = ", ".join(f"{shortened(row['name'])} ({row['metrics']})" for row in ranked)
    more = ranked[0]["names"] - len(ranked) if ranked else 0
    return named + (f" and {more} more" if more > 0 else "")


def _unknown(session: Session, run_id: str, group: str) -> NotFoundError:
    known = _groups_text(session, run_id)
    hint = f"its groups: {known}" if known else "no key of it has a /"
    return NotFoundError(f"the run has no metric {group} or {group}/...; {hint}")


def _where(group: str | None) -> str:
    return "true" if group is None else _OF_GROUP


def _asked(run_id: str, group: str | None) -> dict[str, str]:
    return (
        {"id": run_id} if group is None else {"id": run_id, "group": group, "prefix": f"{group.rstrip('/')}/"}
    )


def _best(row: Mapping[str, Any], started_at: datetime | None, at: datetime | None) -> str:
    after = ""
    if started_at is not None and at is not None and at >= started_at:
        after = f", after {duration_text((at - started_at).total_seconds())}"
    return f"{_number(row['best'])} at {row['best_step']}{after} ({row['goal']})"


def _curves(session: Session, asked: Mapping[str, str], *, where: str, limit: int) -> dict[str, str]:
    # For a repeated step the point of the highest attempt, then the latest, as in every curve.
    rows = _rows(
        session,
        f"SELECT key, toInt32(least((step - low) * {CURVE_BUCKETS} / (high - low + 1), {CURVE_BUCKETS - 1})) "
        f"AS bucket, "
        f"avgIf(value, isFinite(value)) AS mean FROM (SELECT key, step, argMax(value, tuple(attempt, at)) AS value "
        f"FROM {session.views}.metrics WHERE run_id = {{id:UUID}} AND {where} GROUP BY key, step) AS p "
        f"INNER JOIN (SELECT key, first_step AS low, last_step AS high FROM {session.views}.metric_summary "
        f"WHERE run_id = {{id:UUID}} AND {where} ORDER BY best IS NULL, key LIMIT {limit}) AS s USING (key) "
        "GROUP BY key, bucket",
        asked,
    )
    buckets: dict[str, list[float | None]] = {}
    for row in rows:
        values = buckets.setdefault(row["key"], [None] * CURVE_BUCKETS)
        values[max(0, min(row["bucket"], CURVE_BUCKETS - 1))] = row["mean"]
    return {key: sparkline([v for v in values if v is not None]) for key, values in buckets.items()}


def _rows(session: Session, sql: str, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = session.query(sql, dict(parameters)).to_pylist()
    return rows


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
