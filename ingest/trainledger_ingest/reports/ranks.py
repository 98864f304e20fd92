"""Many ranks on one screen: processes that are alike as one row, the rank that is behind the others."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Any

from ..run_moves import decisions_on
from ..session import Session
from .section import Section

__all__ = ["grouped", "moved_facts", "ranks_facts", "ranks_text", "straggler", "summed", "writers_section"]

# More rows than these are put together: by node, and if that is still too much over all nodes.
ROWS_MAX = 16
NODES_NAMED_MAX = 3
# Below it a rank is no straggler: the times of equal ranks differ by that much.
SLOWER_PCT_MIN = 5.0
LAST_SHARE_MIN = 0.5
LATE_PCT_MAX = 100.0
_ALIKE = ("attempt", "state", "exit_code", "signal")


def ranks_text(ranks: Iterable[int | None]) -> str:
    """Ranks as people write them: `0-7, 9`; `-` without any."""
    parts: list[list[int]] = []
    for rank in sorted({rank for rank in ranks if rank is not None}):
        if parts and rank == parts[-1][1] + 1:
            parts[-1][1] = rank
        else:
            parts.append([rank, rank])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts) or "-"


def grouped(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Processes that are shown as one row: each alone, those of a node that are alike, or all that are alike."""
    groups: list[list[Mapping[str, Any]]] = []
    for alike in ((*_ALIKE, "node_id", "writer_id"), (*_ALIKE, "node_id"), _ALIKE):
        by_key: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
        for row in rows:
            by_key.setdefault(tuple(row[name] for name in alike), []).append(row)
        groups = list(by_key.values())
        if len(groups) <= ROWS_MAX:
            break
    return groups


def writers_section(session: Session, run_id: str) -> Section:
    """The processes of a run."""
    rows: list[dict[str, Any]] = session.query(
        "SELECT toString(writer_id) AS writer_id, attempt, rank, node_id, pid, state, exit_code, signal, started_at, "
        f"gap_points FROM {session.views}.run_writers WHERE run_id = {{id:UUID}} ORDER BY attempt, rank, started_at",
        {"id": run_id},
    ).to_pylist()
    groups = grouped(rows)
    if len(groups) == len(rows):
        cells = tuple(_cells([row], str(row["pid"])) for row in rows)
        names = ("attempt", "rank", "node", "pid", "state", "exit", "signal", "started (UTC)", "lost points")
        return Section("processes", names, cells, optional=("rank", "attempt", "pid"))
    names = (
        "attempt",
        "ranks",
        "nodes",
        "count",
        "state",
        "exit",
        "signal",
        "first started (UTC)",
        "lost points",
    )
    return Section("processes", names, tuple(_cells(group, str(len(group))) for group in groups))


def _cells(group: Sequence[Mapping[str, Any]], number: str) -> tuple[str, ...]:
    first = group[0]
    nodes = list(dict.fromkeys(row["node_id"] for row in group))
    started = min((row["started_at"] for row in group if row["started_at"] is not None), default=None)
    return (
        str(first["attempt"]),
        ranks_text(row["rank"] for row in group),
        ", ".join(nodes) if len(nodes) <= NODES_NAMED_MAX else f"{nodes[0]} and {len(nodes) - 1} more",
        number,
        first["state"],
        _text(first["exit_code"]),
        _text(first["signal"]),
        _moment(started),
        str(sum(row["gap_points"] for row in group)),
    )


def summed(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of view run_usage, each with its `ranks` as text; of very many ranks one row an attempt.

    Of these, times and energy are sums, and unknown where one is; memory is that of the rank with the most.
    """
    if len(rows) <= ROWS_MAX:
        return [{**row, "ranks": ranks_text([row["rank"]])} for row in rows]
    attempts: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        attempts.setdefault(row["attempt"], []).append(row)
    return [_sum(group) for group in attempts.values()]


def _sum(group: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {"ranks": ranks_text(row["rank"] for row in group)}
    for name in group[0]:
        values = [row[name] for row in group]
        if name in ("attempt", "rank"):
            found[name] = values[0]
        elif name == "gpu_quality":
            found[name] = ", ".join(sorted({str(value) for value in values}))
        elif None in values:
            found[name] = None
        else:
            found[name] = max(values) if name.endswith("peak_bytes") else sum(values)
    return found


def ranks_facts(session: Session, row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is to be said of a run of several ranks: who is behind, and what differs between nodes."""
    if row["ranks"] < 2:
        return []
    parameters = {"id": row["run_id"], "attempt": row["attempts"]}
    facts = []
    steps = session.query(
        f"SELECT * FROM {session.views}.rank_steps WHERE run_id = {{id:UUID}} AND attempt = {{attempt:UInt16}} "
        "ORDER BY ranks DESC, steps DESC, key, slower_pct DESC LIMIT 1000",
        parameters,
    ).to_pylist()
    behind = straggler([step for step in steps if step["key"] == steps[0]["key"]])
    if behind:
        facts.append(("slowest rank", behind))
    differences = session.query(
        f"SELECT arrayJoin(reasons) AS reason FROM {session.views}.provenance WHERE run_id = {{id:UUID}} "
        f"AND attempt = {{attempt:UInt16}} AND match(reason, '^node .* (ran other code|has other packages)') "
        f"ORDER BY reason LIMIT {NODES_NAMED_MAX}",
        parameters,
    )["reason"].to_pylist()
    facts += [("nodes differ", difference) for difference in differences]
    return facts


def moved_facts(session: Session, run_id: str) -> list[tuple[str, str]]:
    """Which of its processes somebody counted to this run, or took from it."""
    facts = []
    for row in decisions_on(session, run_id):
        if row["undone_at"] is None:
            came = row["to_run_id"] == run_id
            other = row["from_run_id" if came else "to_run_id"]
            many = len(row["writer_ids"])
            what = f"{many} {'process' if many == 1 else 'processes'}" if many else "all processes"
            how = f"{what} of run {other}" if came else f"{what} to run {other}"
            facts.append(
                (
                    "moved here" if came else "moved away",
                    f"{how}, by {row['set_by']} ({row['change_id'][:8]})",
                )
            )
    return facts


def straggler(steps: Sequence[Mapping[str, Any]]) -> str | None:
    """Of rows of view rank_steps of one metric: the rank that is behind, in words."""
    if not steps:
        return None
    slowest = max(steps, key=lambda step: step["slower_pct"] or 0.0)
    if (slowest["slower_pct"] or 0.0) >= SLOWER_PCT_MIN:
        return (
            f"rank {slowest['rank']} is {slowest['slower_pct']:.0f} % slower than the median "
            f"({slowest['step_s']:.3g} s a step, {_evidence(slowest)})"
        )
    last = max(steps, key=lambda step: step["last_share"] or 0.0)
    mates = [
        step["late_s"] or 0.0 for step in steps if step["node_id"] == last["node_id"] and step is not last
    ]
    # Against the ranks of its own node, whose clock is the same; a whole step late is no rank that others wait for.
    late_s = (last["late_s"] or 0.0) - (median(mates) if mates else 0.0)
    late_pct = 100 * late_s / last["step_s"] if last["step_s"] else 0.0
    if (last["last_share"] or 0.0) < LAST_SHARE_MIN or not SLOWER_PCT_MIN <= late_pct < LATE_PCT_MAX:
        return None
    return (
        f"rank {last['rank']} is the last in {100 * last['last_share']:.0f} % of the steps, {late_s:.3g} s behind "
        f"{'the others of its node' if mates else 'the first, if clocks agree'} ({late_pct:.0f} % of a step, "
        f"{_evidence(last)})"
    )


def _evidence(step: Mapping[str, Any]) -> str:
    return f"node {step['node_id']}, {step['ranks']} ranks, by {step['key']}"


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def _moment(value: datetime | None) -> str:
    return "-" if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
