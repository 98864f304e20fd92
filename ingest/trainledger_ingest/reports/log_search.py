"""Lines of all runs that match, with the lines around them.

The index of the lines (migration 0011) knows which groups of four characters occur where, so a rare word is found
without reading the rest; texts of less than four characters, and searches that ignore case, read every line.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..session import Session
from .log_match import LogPattern

__all__ = ["LogSearch", "search_logs"]


@dataclass(frozen=True, slots=True)
class LogSearch:
    """What to look for and where; `since`: lines written since then. The newest `limit` matches are found, each with
    `context` lines of its stream before and behind it."""

    pattern: LogPattern
    run_id: str | None = None
    project: str | None = None
    since: datetime | None = None
    limit: int = 1000
    context: int = 0


def search_logs(session: Session, search: LogSearch) -> tuple[list[dict[str, Any]], bool]:
    """Rows run_id, name, project, attempt, rank, stream, line_no, at, text, is_match, and whether more lines match.

    The run with the newest match comes first; in a run the lines stand by process, stream and number."""
    found = _matches(session, search)
    more = len(found) > search.limit
    found = found[: search.limit]
    if not found:
        return [], more
    order = {run_id: place for place, run_id in enumerate(dict.fromkeys(row["run_id"] for row in found))}
    rows = found if not search.context else found + _around(session, found, search.context)
    runs = _runs(session, list(order))
    rows.sort(
        key=lambda row: (
            order[row["run_id"]],
            row["attempt"],
            -1 if row["rank"] is None else row["rank"],
            row["writer_id"],
            row["stream"],
            row["line_no"],
        )
    )
    for row in rows:
        row |= {"name": None, "project": None} | runs.get(row["run_id"], {})
    return rows, more


_COLUMNS = (
    "toString(l.run_id) AS run_id, attempt, rank, l.stream AS stream, l.line_no AS line_no, l.at AS at, "
    "l.text AS text, toString(l.writer_id) AS writer_id"
)


def _matches(session: Session, search: LogSearch) -> list[dict[str, Any]]:
    condition, parameters = search.pattern.condition("l.text")
    conditions = [condition]
    if search.run_id is not None:
        conditions.append("l.run_id = {id:UUID}")
        parameters["id"] = search.run_id
    if search.project is not None:
        conditions.append(
            f"l.run_id IN (SELECT run_id FROM {session.views}.runs WHERE project = {{project:String}})"
        )
        parameters["project"] = search.project
    if search.since is not None:
        conditions.append("l.at >= toDateTime64({since:String}, 6, 'UTC')")
        parameters["since"] = search.since.strftime("%Y-%m-%d %H:%M:%S.%f")
    rows: list[dict[str, Any]] = session.query(
        f"SELECT {_COLUMNS}, true AS is_match FROM {session.views}.logs AS l WHERE {' AND '.join(conditions)} "
        f"ORDER BY at DESC, writer_id, stream, line_no DESC LIMIT {search.limit + 1}",
        parameters,
    ).to_pylist()
    return rows


def _around(session: Session, found: list[dict[str, Any]], context: int) -> list[dict[str, Any]]:
    places = {(row["run_id"], row["writer_id"], row["stream"], row["line_no"]) for row in found}
    wanted = {
        (*place[:3], line)
        for place in places
        for line in range(max(1, place[3] - context), place[3] + context + 1)
    } - places
    if not wanted:
        return []
    runs, writers, streams, lines = zip(*sorted(wanted), strict=True)
    rows: list[dict[str, Any]] = session.query(
        f"SELECT {_COLUMNS}, false AS is_match FROM {session.views}.logs AS l "
        "WHERE (l.run_id, l.writer_id, l.stream, l.line_no) IN (SELECT place.1, place.2, place.3, place.4 FROM "
        "(SELECT arrayJoin(arrayZip({runs:Array(UUID)}, {writers:Array(UUID)}, {streams:Array(String)}, "
        "{lines:Array(UInt64)})) AS place))",
        {"runs": list(runs), "writers": list(writers), "streams": list(streams), "lines": list(lines)},
    ).to_pylist()
    return rows


def _runs(session: Session, run_ids: list[str]) -> dict[str, dict[str, Any]]:
    rows = session.query(
        f"SELECT toString(r.run_id) AS id, r.name AS name, r.project AS project FROM {session.views}.runs AS r "
        "WHERE r.run_id IN {ids:Array(UUID)}",
        {"ids": run_ids},
    ).to_pylist()
    return {row.pop("id"): row for row in rows}
