"""When a run was at its best, and which of its models was written then. By the goals of `define_metric` alone: without
a goal nobody has said what is better, and nothing is called best."""

from datetime import datetime
from typing import Any

from ..session import Session
from .section import Section, shortened

__all__ = ["best_moments", "models_section"]

MODELS_SHOWN_MAX = 50
GOALS_SHOWN_MAX = 4


def best_moments(session: Session, run_id: str) -> dict[str, datetime]:
    """By metric with a goal: when its best value was logged first."""
    rows = session.query(
        f"SELECT p.key AS key, min(p.at) AS at FROM {session.views}.metrics AS p WHERE p.run_id = {{id:UUID}} "
        "AND (p.key, p.step) IN (SELECT key, assumeNotNull(best_step) "
        f"FROM {session.views}.metric_summary WHERE run_id = {{id:UUID}} AND best_step IS NOT NULL) GROUP BY key",
        {"id": run_id},
    ).to_pylist()
    return {row["key"]: row["at"] for row in rows}


def models_section(session: Session, run_id: str) -> Section:
    """The models that a run wrote, each with its metrics as they stood then, the best of them marked."""
    nothing = Section("models", ("model",), ())
    goals = {
        row["key"]: row["goal"]
        for row in session.query(
            f"SELECT key, goal FROM {session.views}.metric_summary WHERE run_id = {{id:UUID}} AND goal IS NOT NULL "
            f"ORDER BY key LIMIT {GOALS_SHOWN_MAX}",
            {"id": run_id},
        ).to_pylist()
    }
    if not goals:
        return nothing
    rows = session.query(
        "SELECT m.name AS name, m.version AS version, m.digest AS digest, m.at AS at, m.key AS key, "
        "if(v.at > toDateTime64(0, 6, 'UTC'), v.value, NULL) AS value, v.step AS step "
        "FROM (SELECT name, version, digest, at, arrayJoin({keys:Array(String)}) AS key "
        f"FROM {session.views}.run_io WHERE run_id = {{id:UUID}} AND direction = 'out' AND kind = 'model') AS m "
        f"ASOF LEFT JOIN (SELECT key, at, value, step FROM {session.views}.metrics WHERE run_id = {{id:UUID}} "
        "AND key IN {keys:Array(String)}) AS v ON v.key = m.key AND v.at <= m.at ORDER BY at, name, key "
        f"LIMIT {MODELS_SHOWN_MAX * len(goals)}",
        {"id": run_id, "keys": list(goals)},
    ).to_pylist()
    if not rows:
        return nothing
    best = {key: _best([row for row in rows if row["key"] == key], goal) for key, goal in goals.items()}
    cells: dict[tuple[Any, ...], list[str]] = {}
    for row in rows:
        model = (row["at"], row["name"], row["version"], row["digest"])
        version = f":{row['version']}" if row["version"] else ""
        digest = (row["digest"] or "-").removeprefix("sha256:")[:12]
        line = cells.setdefault(model, [f"{row['name']}{version}", digest])
        is_best = row["value"] is not None and row["value"] == best[row["key"]]
        line.append(
            "-"
            if row["value"] is None
            else f"{row['value']:.6g} at {row['step']}{' (best)' if is_best else ''}"
        )
    names = ("model", "digest", *(f"{shortened(key)} then" for key in goals))
    return Section("models", names, tuple(map(tuple, cells.values())))


def _best(rows: list[dict[str, Any]], goal: str) -> float | None:
    # NaN is no number to be best with.
    known = [row["value"] for row in rows if row["value"] is not None and row["value"] == row["value"]]
    return (max(known) if goal == "max" else min(known)) if known else None
