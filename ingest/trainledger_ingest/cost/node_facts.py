"""Rows of `node_events` as the node events that cost is computed from.

A row whose values make no sense (a window that ends before it begins) says nothing about the node: it is left
out and counted, and the time it covered shows as unknown.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .node_events import (
    Allocation,
    AllocationHolder,
    Device,
    Devices,
    Gap,
    Holder,
    Kind,
    NodeEvent,
    NodePresent,
    ProcessUsage,
)

__all__ = ["NodeFacts", "read_node_events"]

_KINDS = {"run": Kind.RUN, "untracked": Kind.UNTRACKED, "system": Kind.SYSTEM}


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """The events of one node; `version` is behind the newest offset, `senseless` counts rows left out."""

    events: tuple[NodeEvent, ...]
    version: int
    senseless: int


def read_node_events(rows: Iterable[Mapping[str, Any]], *, attempts: Mapping[str, int]) -> NodeFacts:
    """Build the events of one node; `attempts` maps a writer's id to its attempt (default 1)."""
    events: list[NodeEvent] = []
    version = senseless = 0
    for row in rows:
        version = max(version, int(row["offset"]) + 1)
        try:
            event = _event(row, json.loads(row["body"]), attempts)
        except (ValueError, KeyError, TypeError):
            senseless += 1
            continue
        if event is not None:
            events.append(event)
    return NodeFacts(tuple(events), version, senseless)


def _event(row: Mapping[str, Any], body: Mapping[str, Any], attempts: Mapping[str, int]) -> NodeEvent | None:
    stamp: dict[str, Any] = {
        "seq": int(row["seq"]),
        "producer_id": str(row["producer_id"]),
        "boot_id": str(row["boot_id"]),
        "wall_us": int(row["at_us"]),
    }
    match row["type"]:
        case "node_present":
            return NodePresent(boot_us=_boot_us(row, body), leaving=bool(body["leaving"]), **stamp)
        case "process_usage":
            usage = tuple((_holder(item, attempts), int(item["cpu_us"])) for item in body["usage"])
            return ProcessUsage(
                start_us=body["start_us"], end_us=body["end_us"], cores=body["cores"], usage=usage, **stamp
            )
        case "allocation":
            return Allocation(holders=tuple(_claim(item, attempts) for item in body["holders"]), **stamp)
        case "devices":
            found = (Device(uuid=item["device_id"], model=item["model"]) for item in body["devices"])
            return Devices(devices=tuple(found), **stamp)
        case "gap" if body["what"] == "node":
            return Gap(start_us=body["start_us"], end_us=body["end_us"], reason=body["reason"], **stamp)
        case _:
            return None


def _holder(item: Mapping[str, Any], attempts: Mapping[str, int]) -> Holder:
    kind = _KINDS[item["kind"]]
    if kind is not Kind.RUN:
        return Holder(kind, owner=item.get("owner") if kind is Kind.UNTRACKED else None)
    attempt = attempts.get(item.get("writer_id") or "", 1)
    return Holder(kind, run_id=item["run_id"], attempt=attempt, owner=item.get("owner"))


def _claim(item: Mapping[str, Any], attempts: Mapping[str, int]) -> AllocationHolder:
    return AllocationHolder(
        resource=item["resource"],
        holder=_holder(item, attempts),
        numerator=int(item["numerator"]),
        denominator=int(item["denominator"]),
        evidence=item["evidence"],
    )


def _boot_us(row: Mapping[str, Any], body: Mapping[str, Any]) -> int:
    # The envelope's clocks are of the append; the event happened a little earlier.
    return int(body["boot_us"]) - (int(body["wall_us"]) - int(row["at_us"]))
