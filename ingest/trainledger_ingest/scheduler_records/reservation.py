"""Jobs as a scheduler recorded them, and the events that are made of them: one a job and node.

Amounts of a job on several nodes are dealt equally over them: accounting records have only their sum. Thousandths
that are left over go to the first nodes, so the sum stays exact.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["JobRecord", "NodeSize", "reservation_rows"]


class NodeSize(NamedTuple):
    """How many cores and devices a node has; None where nobody said."""

    cores: int | None
    devices: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One job, or one try of it. Times are microseconds since 1970 UTC; amounts are of all its nodes together.

    `key` names it among all jobs of its source: the same key later replaces it."""

    source: str
    cluster: str
    key: str
    job: str
    nodes: tuple[str, ...]
    start_us: int
    end_us: int
    is_over: bool
    state: str
    owner: str | None = None
    account: str | None = None
    restarts: int = 0
    partition: str | None = None
    qos: str | None = None
    cpu_milli: int = 0
    device_milli: int = 0
    memory_bytes: int | None = None


def reservation_rows(
    jobs: Iterable[JobRecord], *, names: Mapping[str, str], sizes: Mapping[str, NodeSize]
) -> list[dict[str, Any]]:
    """Fields of `reservation` events, the word that counts for each job and node alone.

    `names`: a node's name here by its name there; `sizes`: by its name here."""
    rows: dict[str, dict[str, Any]] = {}
    for job in jobs:
        for place, there in enumerate(job.nodes):
            row = _row(job, place, names.get(there, there), sizes)
            known = rows.get(row["reservation_id"])
            if known is None or _rank(row) >= _rank(known):
                rows[row["reservation_id"]] = row
    return list(rows.values())


def _rank(row: Mapping[str, Any]) -> tuple[bool, int]:
    return (row["is_over"], row["end_us"])


def _row(job: JobRecord, place: int, node: str, sizes: Mapping[str, NodeSize]) -> dict[str, Any]:
    size = sizes.get(node, NodeSize(None, None))
    count = len(job.nodes)
    return {
        "node": node,
        "reservation_id": f"{job.source} {job.cluster} {job.key} {node}",
        "source": job.source,
        "cluster": job.cluster,
        "job": job.job,
        "owner": job.owner,
        "account": job.account,
        "start_us": job.start_us,
        "end_us": job.end_us,
        "is_over": job.is_over,
        "state": job.state,
        "restarts": job.restarts,
        "partition": job.partition,
        "qos": job.qos,
        "cpu_milli": _part(job.cpu_milli, place, count),
        "device_milli": _part(job.device_milli, place, count),
        "memory_bytes": None if job.memory_bytes is None else _part(job.memory_bytes, place, count),
        "node_cores": size.cores,
        "node_devices": size.devices,
    }


def _part(amount: int, place: int, count: int) -> int:
    return amount // count + (place < amount % count)
