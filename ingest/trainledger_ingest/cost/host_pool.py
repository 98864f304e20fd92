"""The host's part of a node-hour: reservations, then measured CPU time, then idle; unwatched is unknown.

Within a frame the host pool is `host_share_ppm` shares a microsecond. A reservation (cores of all cores)
holds its part whether it is used or not; reservations of more than the host are scaled down together. In the
rest, a holder pays CPU time / (cores x window) of each usage window and what is left is idle. CPU time beyond
the capacity left is scaled down by largest remainder to whole microseconds. Time without a usage window is
unknown; the reserved part stays with whoever reserved it.
"""

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter, gt, le, sub
from typing import Self, TypeVar

from trainledger_ingest.cost.claimants import Claimants
from trainledger_ingest.cost.frames import Frame, append_frame
from trainledger_ingest.cost.money import largest_remainder
from trainledger_ingest.cost.node_events import HOST, AllocationHolder, Holder, Kind, ProcessUsage
from trainledger_ingest.cost.share_sum import LineKey, sort_key
from trainledger_ingest.cost.tally import Tally

__all__ = ["HostPool", "UsageWindows", "join_for_host", "trim_windows"]

_IDLE = LineKey(Holder(Kind.IDLE), HOST)
_UNKNOWN = LineKey(Holder(Kind.UNKNOWN), HOST)


def join_for_host(frames: Iterable[Frame]) -> list[Frame]:
    """Frames with claims of the host alone; where only devices changed hands, neighbours are one.

    The host's part grows with time whatever is on the devices, and few frames cut few usage windows."""
    joined: list[Frame] = []
    for frame in frames:
        held = frame.facts.holders or ()
        claims = tuple([item for item in held if item.resource == HOST and item.is_claim])
        append_frame(joined, frame._replace(facts=frame.facts._replace(holders=claims)))
    return joined


@dataclass(slots=True)
class UsageWindows:
    """Usage events of one boot and the part of each window that no earlier one covers: sorted, disjoint."""

    starts_us: list[int]
    ends_us: list[int]
    events: list[ProcessUsage]

    def inside(self, frame: Frame) -> list[tuple[ProcessUsage, int]]:
        """The events whose windows meet a frame, and how long they do."""
        first, behind = bisect_right(self.ends_us, frame.start_us), bisect_left(self.starts_us, frame.end_us)
        starts_us, ends_us = self.starts_us[first:behind], self.ends_us[first:behind]
        if starts_us:
            starts_us[0], ends_us[-1] = max(starts_us[0], frame.start_us), min(ends_us[-1], frame.end_us)
        return list(zip(self.events[first:behind], map(sub, ends_us, starts_us), strict=True))


class _Reservations:
    """Reserved parts of the host over one denominator, what is free of it, and whose CPU time is within them."""

    def __init__(self, claims: Iterable[AllocationHolder]) -> None:
        denominator = math.lcm(*(item.denominator for item in claims))
        self.parts: dict[LineKey, int] = {}
        for item in claims:
            key = LineKey(item.holder, HOST)
            part = item.numerator * (denominator // item.denominator)
            self.parts[key] = self.parts.get(key, 0) + part
        reserved = sum(self.parts.values())
        self.denominator = max(denominator, reserved)
        self.free = self.denominator - reserved
        self._claimants = Claimants((key.holder, key) for key in self.parts)

    def find(self, holder: Holder) -> LineKey | None:
        """What a holder's CPU time is within; None when it reserved nothing."""
        return self._claimants.find(holder)


_Item = TypeVar("_Item")
_NO_WINDOWS = UsageWindows([], [], [])


def trim_windows(events: Iterable[ProcessUsage]) -> dict[str, UsageWindows]:
    """Usage windows by boot, sorted, each cut to begin where the one before ends: no time is used twice."""
    by_boot: defaultdict[str, list[ProcessUsage]] = defaultdict(list)
    for event in events:
        by_boot[event.boot_id].append(event)
    return {boot_id: _trimmed(group) for boot_id, group in by_boot.items()}


def _trimmed(events: list[ProcessUsage]) -> UsageWindows:
    events.sort(key=attrgetter("start_us"))
    starts_us, ends_us = [event.start_us for event in events], [event.end_us for event in events]
    if all(map(le, ends_us, islice(starts_us, 1, None))):  # as an agent makes them
        return UsageWindows(starts_us, ends_us, events)
    windows = UsageWindows([], [], [])
    for event in sorted(events, key=attrgetter("start_us", "end_us", "producer_id", "seq")):
        start_us = max(event.start_us, windows.ends_us[-1]) if windows.ends_us else event.start_us
        if start_us < event.end_us:
            windows.starts_us.append(start_us)
            windows.ends_us.append(event.end_us)
            windows.events.append(event)
    return windows


class HostPool:
    """Deals the host part of frames into a tally."""

    def __init__(self, windows: dict[str, UsageWindows], tally: Tally) -> None:
        self._windows = windows
        self._tally = tally

    def into(self, tally: Tally) -> Self:
        """The same pool, which deals into another tally."""
        other = copy(self)
        other._tally = tally
        return other

    def deal(self, frame: Frame, host_ppm: int) -> None:
        """Deal one frame; of its holders, claims of the host count (`join_for_host`)."""
        boot_id, _, claims, _ = frame.facts
        if boot_id is None:
            self._tally.held.add(_UNKNOWN, host_ppm * frame.duration_us, 1)
            self._tally.note(_UNKNOWN, "gap")
            return
        reserved = _Reservations(claims or ())
        for item in claims or ():
            self._tally.note(LineKey(item.holder, HOST), item.evidence)
        for key, part in reserved.parts.items():
            self._tally.held.add(key, host_ppm * frame.duration_us * part, reserved.denominator)
        windows = self._windows.get(boot_id, _NO_WINDOWS)
        inside = windows.inside(frame)
        unwatched_us = frame.duration_us - sum([length_us for _, length_us in inside])
        if unwatched_us:
            self._deal_unwatched(unwatched_us, host_ppm, reserved)
        crews: defaultdict[tuple[int, int], list[ProcessUsage]] = defaultdict(list)
        for event, length_us in inside:
            whole_us = event.end_us - event.start_us
            if length_us == whole_us:
                # By the identity of the holders: equal ones that are not one object are only summed apart.
                crews[event.cores, id(event.holders)].append(event)
            else:
                self._deal_crew([event], reserved, rate=(host_ppm * length_us, event.cores * whole_us))
        for (cores, _), events in crews.items():
            # Of whole windows the length cancels out; hundreds of lengths would make huge denominators.
            self._deal_crew(events, reserved, rate=(host_ppm, cores))

    def _deal_unwatched(self, duration_us: int, host_ppm: int, reserved: _Reservations) -> None:
        for key, part in reserved.parts.items():
            self._tally.unseen.add(key, host_ppm * duration_us * part, reserved.denominator)
        if reserved.free:
            self._tally.held.add(_UNKNOWN, host_ppm * duration_us * reserved.free, reserved.denominator)
            self._tally.note(_UNKNOWN, "no usage window")

    def _deal_crew(
        self, events: Sequence[ProcessUsage], reserved: _Reservations, *, rate: tuple[int, int]
    ) -> None:
        """Windows that name the same holders, summed in columns. What is not reserved goes to those who used it.

        `rate`: what a microsecond of CPU time is in shares, as numerator and denominator."""
        factor, denominator = rate
        holders, rows = events[0].holders, [event.cpu_us for event in events]
        rooms_us = capacities_us = [event.cores * (event.end_us - event.start_us) for event in events]
        if reserved.parts:
            owners = [reserved.find(holder) for holder in holders]
            self._deal_reserved(
                zip(owners, zip(*rows, strict=True), strict=True), capacities_us, reserved, rate=rate
            )
            others = [place for place, owner in enumerate(owners) if owner is None]
            holders, rows = _only(holders, others), [_only(row, others) for row in rows]
            rooms_us = [capacity_us * reserved.free // reserved.denominator for capacity_us in capacities_us]
        used_us = list(map(sum, rows))
        if any(map(gt, used_us, rooms_us)):
            rows = [_scaled(holders, row, room_us) for row, room_us in zip(rows, rooms_us, strict=True)]
            used_us = list(map(min, used_us, rooms_us))
        for holder, column in zip(holders, zip(*rows, strict=True), strict=True):
            key = LineKey(holder, HOST)
            self._tally.held.add(key, factor * sum(column), denominator)
            self._tally.note(key, "cpu time")
        idle = reserved.free * sum(capacities_us) - reserved.denominator * sum(used_us)
        if idle:
            self._tally.held.add(_IDLE, factor * idle, reserved.denominator * denominator)

    def _deal_reserved(
        self,
        used: Iterable[tuple[LineKey | None, tuple[int, ...]]],
        capacities_us: Sequence[int],
        reserved: _Reservations,
        *,
        rate: tuple[int, int],
    ) -> None:
        """What reservations did not use of their own, window by window."""
        columns: defaultdict[LineKey | None, list[tuple[int, ...]]] = defaultdict(list)
        for owner, column in used:
            columns[owner].append(column)
        nothing = [0] * len(capacities_us)
        for key, part in reserved.parts.items():
            inside_us = map(sum, zip(nothing, *columns[key], strict=True))
            unused = sum(
                [
                    max(0, part * capacity_us - cpu_us * reserved.denominator)
                    for capacity_us, cpu_us in zip(capacities_us, inside_us, strict=True)
                ]
            )
            self._tally.unused.add(key, rate[0] * unused, reserved.denominator * rate[1])


def _only(row: tuple[_Item, ...], places: Iterable[int]) -> tuple[_Item, ...]:
    return tuple([row[place] for place in places])


def _scaled(holders: Sequence[Holder], row: tuple[int, ...], room_us: int) -> tuple[int, ...]:
    """The CPU times, scaled down to whole microseconds where they are more than there is room for.

    All of one holder counts together, so that the rounding is by holder."""
    if sum(row) <= room_us:
        return row
    sums: dict[Holder, int] = {}
    for holder, cpu_us in zip(holders, row, strict=True):
        sums[holder] = sums.get(holder, 0) + cpu_us
    keys = [sort_key(LineKey(holder, HOST)) for holder in sums]
    scaled = dict(zip(sums, largest_remainder(room_us, list(sums.values()), keys), strict=True))
    return tuple([scaled.pop(holder, 0) for holder in holders])
