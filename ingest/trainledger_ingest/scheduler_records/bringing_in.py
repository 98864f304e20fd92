"""Bringing jobs of a scheduler in: which are news, and what must be known of the nodes.

A second reading of the same records brings in nothing: what the tables have of a job and node is compared first.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from .reservation import JobRecord, NodeSize, reservation_rows

__all__ = ["BroughtIn", "bring_in"]

ROWS_A_CALL = 500
_NAMES_A_QUERY = 2_000
# Who read it, and when, is no news.
_COMPARED = (
    "node", "source", "cluster", "job", "owner", "account", "start_us", "end_us", "is_over", "state", "restarts",
    "partition", "qos", "cpu_milli", "device_milli", "memory_bytes", "node_cores", "node_devices",
)  # fmt: skip

Query = Callable[[str, Mapping[str, object] | None], pa.Table]
Append = Callable[..., None]
"""Takes a type of event and the fields of any number of events."""


@dataclass(slots=True)
class BroughtIn:
    """Counts of pairs of a job and a node; `unwatched`: nodes on which no agent ever ran; `unsized`: of these the ones
    whose cores nobody told, so that a share of them cannot be known."""

    jobs: int = 0
    new: int = 0
    changed: int = 0
    known: int = 0
    nodes: set[str] = field(default_factory=set)
    unwatched: set[str] = field(default_factory=set)
    unsized: set[str] = field(default_factory=set)


def bring_in(
    jobs: Sequence[JobRecord],
    *,
    query: Query,
    views: str,
    append: Append,
    sizes: Mapping[str, NodeSize],
) -> BroughtIn:
    """Append what is new of the jobs. `sizes`: of nodes by the scheduler's names, as it counts cores and devices."""
    there = {node for job in jobs for node in job.nodes}
    watched = _watched(query, views)
    names = _names(there, watched)
    here = {names[node]: sizes.get(node, NodeSize(None, None)) for node in there}
    rows = reservation_rows(jobs, names=names, sizes=here)
    known = _known(query, views, [row["reservation_id"] for row in rows])
    done = BroughtIn(jobs=len(jobs), nodes=set(here))
    done.unwatched = set(here) - set(watched)
    done.unsized = {node for node in done.unwatched if here[node].cores is None}
    fresh: list[dict[str, Any]] = []
    for row in rows:
        before = known.get(row["reservation_id"])
        if before is not None and not _is_news(row, before):
            done.known += 1
            continue
        done.new += before is None
        done.changed += before is not None
        fresh.append(row)
    for first in range(0, len(fresh), ROWS_A_CALL):
        append("reservation", *fresh[first : first + ROWS_A_CALL])
    return done


def _is_news(row: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    if before["is_over"] and not row["is_over"]:
        return False
    if not row["is_over"] and row["end_us"] < before["end_us"]:
        return False
    return any(row[name] != before[name] for name in _COMPARED)


def _watched(query: Query, views: str) -> dict[str, str]:
    """Host names by node."""
    rows = query(f"SELECT node_id, host FROM {views}.watched_nodes", None).to_pylist()
    return {row["node_id"]: row["host"] for row in rows}


def _names(there: Iterable[str], watched: Mapping[str, str]) -> dict[str, str]:
    """The name of each node here: the same, else the only one whose name or host begins with it and a dot."""
    short: dict[str, set[str]] = {}
    for node, host in watched.items():
        for name in (node, host):
            short.setdefault(name.partition(".")[0].lower(), set()).add(node)
    found = {}
    for name in there:
        matches = short.get(name.partition(".")[0].lower(), set())
        is_sole = name not in watched and len(matches) == 1
        found[name] = next(iter(matches)) if is_sole else name
    return found


def _known(query: Query, views: str, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for first in range(0, len(names), _NAMES_A_QUERY):
        rows = query(
            f"""SELECT reservation_id, node_id AS node, source, cluster, job, owner, account,
              toUnixTimestamp64Micro(start_at) AS start_us, toUnixTimestamp64Micro(end_at) AS end_us, is_over, state,
              restarts, partition, qos, cpu_milli, device_milli, memory_bytes, node_cores, node_devices
            FROM {views}.reservations WHERE reservation_id IN {{names:Array(String)}}""",
            {"names": list(names[first : first + _NAMES_A_QUERY])},
        ).to_pylist()
        found |= {row["reservation_id"]: row for row in rows}
    return found
