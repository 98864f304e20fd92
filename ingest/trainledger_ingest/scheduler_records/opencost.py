"""OpenCost's allocations (`GET /allocation`, one entry a container) as jobs, an hour each.

Its amounts are what a container had of cores and GPUs; its money is left aside: our bill is the node's price. Numbers
are read as decimal text, never as floats. An entry is cut at whole UTC hours, and each hour of a container is known by
name and hour: so windows of any length may be read again and again, and overlap, without being counted twice; the last
reading counts. Longer windows blur short containers: ask for steps of an hour.

What OpenCost does not know is not known here either: a MIG instance counts as no GPU, each time-sliced replica as one.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any
from urllib.parse import urlencode, urlsplit

from trainledger_schemas.errors import UsageError

from .reservation import JobRecord

__all__ = ["OpenCostJobs", "allocation_url", "parse_opencost"]

HOUR_US = 3_600_000_000
_EXACT = Context(prec=60)
_MILLI_MAX = Decimal(10**9)
# As the agent has it (node/kubernetes/pod_reservations.py).
_OF_THE_CLUSTER = ("kube-", "openshift-")


@dataclass(slots=True)
class OpenCostJobs:
    """Containers by hour, and how many entries were left out, by why."""

    jobs: list[JobRecord] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def allocation_url(base: str, *, start: datetime, end: datetime) -> str:
    """Where to ask for [start, end) in steps of an hour; a URL that has a window already is left as it is."""
    parts = urlsplit(base)
    if "window=" in parts.query:
        return base
    path = parts.path.rstrip("/") or ""
    path = path if path.endswith("/allocation") else f"{path}/allocation"
    form = "%Y-%m-%dT%H:%M:%SZ"
    window = f"{start.astimezone(UTC):{form}},{end.astimezone(UTC):{form}}"
    more = urlencode({"window": window, "step": "1h", "includeIdle": "false"}, safe=":,")
    query = f"{parts.query}&{more}" if parts.query else more
    return parts._replace(path=path, query=query, fragment="").geturl()


def parse_opencost(text: str) -> OpenCostJobs:
    """The containers of an answer of OpenCost; raises UsageError for anything that is none."""
    try:
        answer = json.loads(text, parse_float=Decimal, parse_constant=_refuse)
        if int(answer.get("code", 200)) != 200:
            raise UsageError(f"OpenCost answered {answer['code']}: {str(answer.get('message'))[:200]}")
        steps = answer["data"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(
            'this is no answer of OpenCost\'s /allocation: {"code": 200, "data": [...]}'
        ) from None
    found = OpenCostJobs()
    for number, step in enumerate(steps or ()):
        if step is not None and not isinstance(step, dict):
            raise UsageError(f"step {number} of OpenCost's data is no object of allocations by name")
        for name, entry in (step or {}).items():
            try:
                _take(found, name, entry)
            except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError):
                raise UsageError(f"the allocation {name[:100]!r} is not of a known form") from None
    return found


def _take(found: OpenCostJobs, name: str, entry: Mapping[str, Any]) -> None:
    if name.startswith("__"):
        found.left_out[f"{name.strip('_')} time"] += 1
        return
    place = entry["properties"]
    if not place.get("node") or not place.get("namespace") or not place.get("pod"):
        raise UsageError(
            f"the allocation {name[:100]!r} names no node, namespace and pod: ask without `aggregate`"
        )
    start_us, end_us = _micros(entry["start"]), _micros(entry["end"])
    if _is_of_the_cluster(str(place["namespace"])) and not Decimal(entry.get("gpuHours") or 0):
        found.left_out["pods of the cluster (kube-..., openshift-...), which are `system`"] += 1
        return
    if end_us <= start_us:
        found.left_out["entries of no length"] += 1
        return
    hours = Decimal(end_us - start_us) / Decimal(HOUR_US)
    cpu, gpu = (_milli(entry.get(key) or 0, hours) for key in ("cpuCoreHours", "gpuHours"))
    window_end_us = _micros(entry["window"]["end"])
    pod = f"{place['namespace']}/{place['pod']}"
    container = place.get("container") or ""
    for hour_us, first_us, last_us in _hours(start_us, end_us):
        found.jobs.append(
            JobRecord(
                source="opencost",
                cluster=place.get("cluster") or "",
                key=f"{pod}/{container} {hour_us // 1_000_000}",
                job=pod,
                nodes=(str(place["node"]),),
                start_us=first_us,
                end_us=last_us,
                # A container that reaches the end of its window may go on in the hour that is not over.
                is_over=last_us == hour_us + HOUR_US or last_us < window_end_us,
                state="allocated",
                account=f"namespace:{place['namespace']}",
                cpu_milli=cpu,
                device_milli=gpu,
            )
        )


def _is_of_the_cluster(namespace: str) -> bool:
    """Whether pods there are the cluster's own: what they use is the system's, as an agent on the node says it too."""
    return namespace.startswith(_OF_THE_CLUSTER)


def _hours(start_us: int, end_us: int) -> Iterator[tuple[int, int, int]]:
    for hour_us in range(start_us - start_us % HOUR_US, end_us, HOUR_US):
        yield hour_us, max(hour_us, start_us), min(hour_us + HOUR_US, end_us)


def _milli(amount: Any, hours: Decimal) -> int:
    number = _EXACT.divide(Decimal(amount) * 1000, hours)
    if not number.is_finite() or not 0 <= number <= _MILLI_MAX:
        raise ValueError(amount)
    return int(number.to_integral_value(ROUND_HALF_UP))


def _micros(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    whole = int(moment.replace(microsecond=0).timestamp())
    return whole * 1_000_000 + moment.microsecond


def _refuse(text: str) -> Any:
    raise ValueError(text)
