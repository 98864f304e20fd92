"""Rows of `node_events` as the node events that cost is computed from.

A row whose values make no sense (a window that ends before it begins) says nothing about the node: it is left
out and counted, and the time it covered shows as unknown.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .node_events import (
    Allocation,
    AllocationHolder,
    Device,
    DevicePlace,
    Devices,
    DeviceUse,
    Gap,
    Holder,
    Kind,
    NodeEvent,
    NodePresent,
    ProcessUsage,
    Reservation,
)
from .policy import WHOLE_PPM

__all__ = ["NodeFacts", "WriterPlaces", "read_node_events"]

_KINDS = {
    "run": Kind.RUN,
    "untracked": Kind.UNTRACKED,
    "system": Kind.SYSTEM,
    "unknown": Kind.UNKNOWN,
}


_RESERVATION_FIELDS = (
    "reservation_id", "start_us", "end_us", "is_over", "read_us", "owner", "account", "cpu_milli", "node_cores",
    "device_milli", "node_devices",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """The events of one node; `version` is behind the newest offset, `senseless` counts rows left out."""

    events: tuple[NodeEvent, ...]
    version: int
    senseless: int


@dataclass(frozen=True, slots=True)
class WriterPlaces:
    """Writer id to its attempt (default 1), and to its run where somebody moved it to another than it tells."""

    attempts: Mapping[str, int] = field(default_factory=dict)
    runs: Mapping[str, str] = field(default_factory=dict)


def read_node_events(rows: Iterable[Mapping[str, Any]], *, writers: WriterPlaces) -> NodeFacts:
    """Build the events of one node."""
    events: list[NodeEvent] = []
    version = senseless = 0
    reader = _Reader(writers)
    for row in rows:
        version = max(version, int(row["offset"]) + 1)
        try:
            events += reader.read(row, json.loads(row["body"]))
        except (ValueError, KeyError, TypeError):
            senseless += 1
    return NodeFacts(tuple(events), version, senseless)


class _Reader:
    """Builds events. What hundreds of them tell alike, holders and places, is one object: equal at a glance."""

    def __init__(self, writers: WriterPlaces) -> None:
        self._writers = writers
        self._holders: dict[tuple[Any, ...], Holder] = {}
        self._crews: dict[tuple[Holder, ...], tuple[Holder, ...]] = {}
        self._places: dict[tuple[DevicePlace, ...], tuple[DevicePlace, ...]] = {}
        self._told: Sequence[Mapping[str, Any]] = []
        self._claims: tuple[AllocationHolder, ...] = ()

    def read(self, row: Mapping[str, Any], body: Mapping[str, Any]) -> list[NodeEvent]:
        """The events of one row."""
        stamp: dict[str, Any] = {
            "seq": int(row["seq"]),
            "producer_id": str(row["producer_id"]),
            "boot_id": str(row["boot_id"]),
            "wall_us": int(row["at_us"]),
        }
        match row["type"]:
            case "node_present":
                return [
                    NodePresent(
                        boot_us=_boot_us(row, body),
                        leaving=bool(body["leaving"]),
                        cores=max(0, int(body.get("cores", 0))),
                        **stamp,
                    )
                ]
            case "process_usage":
                return self._usage(body, stamp)
            case "allocation":
                return [Allocation(holders=self._allocation(body["holders"]), **stamp)]
            case "devices":
                # MIG instances are parts of a device: who holds one says which part it is.
                physical = [item for item in body["devices"] if item.get("parent_id") is None]
                found = tuple(Device(uuid=item["device_id"], model=item["model"]) for item in physical)
                return [Devices(devices=found, **stamp)]
            case "gap" if body["what"] == "node":
                return [Gap(start_us=body["start_us"], end_us=body["end_us"], reason=body["reason"], **stamp)]
            case "reservation":
                return [_reservation(body, stamp)]
            case _:
                return []

    def _usage(self, body: Mapping[str, Any], stamp: Mapping[str, Any]) -> list[NodeEvent]:
        """A usage event is two facts: CPU time by holder, and how busy each device was."""
        window = {"start_us": body["start_us"], "end_us": body["end_us"]}
        crew = tuple([self._holder(item) for item in body["usage"]])
        crew = self._crews.setdefault(crew, crew)
        cpu_us = tuple([int(item["cpu_us"]) for item in body["usage"]])
        events: list[NodeEvent] = [
            ProcessUsage(cores=body["cores"], holders=crew, cpu_us=cpu_us, **window, **stamp)
        ]
        length_us = body["end_us"] - body["start_us"]
        devices = [
            item
            for item in body.get("devices", ())
            # Less than half of a window says too little about it.
            if item["busy_us"] is not None and 2 * int(item["observed_us"]) >= length_us
        ]
        if devices:
            places = tuple([DevicePlace(item["device_id"], item["part_id"]) for item in devices])
            busy_ppm = tuple(
                [
                    min(WHOLE_PPM, int(item["busy_us"]) * WHOLE_PPM // int(item["observed_us"]))
                    for item in devices
                ]
            )
            places = self._places.setdefault(places, places)
            # An event is known by producer and number: the second fact of one record needs a name of its own.
            own = {**stamp, "producer_id": f"{stamp['producer_id']}/devices"}
            events.append(DeviceUse(places=places, busy_ppm=busy_ppm, **window, **own))
        return events

    def _allocation(self, told: Sequence[Mapping[str, Any]]) -> tuple[AllocationHolder, ...]:
        """Who holds what. Most allocations are key frames, which repeat the one before."""
        if told != self._told:
            self._claims = tuple([self._claim(item) for item in told])
            self._told = told
        return self._claims

    def _claim(self, item: Mapping[str, Any]) -> AllocationHolder:
        return AllocationHolder(
            resource=item["resource"],
            holder=self._holder(item),
            numerator=int(item["numerator"]),
            denominator=int(item["denominator"]),
            evidence=item["evidence"],
            part_id=item.get("part_id", ""),
            part_numerator=int(item.get("part_numerator", 1)),
            part_denominator=int(item.get("part_denominator", 1)),
        )

    def _holder(self, item: Mapping[str, Any]) -> Holder:
        told = item["kind"], item.get("run_id"), item.get("writer_id"), item.get("owner"), item.get("account")
        found = self._holders.get(told)
        if found is None:
            found = self._holders[told] = _new_holder(item, self._writers)
        return found


def _new_holder(item: Mapping[str, Any], writers: WriterPlaces) -> Holder:
    kind = _KINDS[item["kind"]]
    if kind is not Kind.RUN:
        if kind is not Kind.UNTRACKED:
            return Holder(kind)
        return Holder(kind, owner=item.get("owner"), account=item.get("account"))
    writer = item.get("writer_id") or ""
    run_id, attempt = writers.runs.get(writer, item["run_id"]), writers.attempts.get(writer, 1)
    owner, account = item.get("owner"), item.get("account")
    return Holder(kind, run_id=run_id, attempt=attempt, owner=owner, account=account)


def _reservation(body: Mapping[str, Any], stamp: Mapping[str, Any]) -> Reservation:
    fields = {name: body[name] for name in _RESERVATION_FIELDS}
    return Reservation(**fields, evidence=f"{body['source']} {body['job']}", **stamp)


def _boot_us(row: Mapping[str, Any], body: Mapping[str, Any]) -> int:
    # The envelope's clocks are of the append; the event happened a little earlier.
    return int(body["boot_us"]) - (int(body["wall_us"]) - int(row["at_us"]))
