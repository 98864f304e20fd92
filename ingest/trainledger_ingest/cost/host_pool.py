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
from operator import attrgetter, le
from typing import Self

from trainledger_ingest.cost.claimants import Claimants
from trainledger_ingest.cost.frames import Frame
from trainledger_ingest.cost.money import largest_remainder
from trainledger_ingest.cost.node_events import HOST, AllocationHolder, Holder, Kind, ProcessUsage
from trainledger_ingest.cost.share_sum import LineKey, sort_key
from trainledger_ingest.cost.tally import Tally

__all__ = ["HostPool", "UsageWindows", "trim_windows"]

_IDLE = LineKey(Holder(Kind.IDLE), HOST)
_UNKNOWN = LineKey(Holder(Kind.UNKNOWN), HOST)


@dataclass(slots=True)
class UsageWindows:
    """Usage events of one boot and the part of each window that no earlier one covers: sorted, disjoint."""

    starts_us: list[int]
    ends_us: list[int]
    events: list[ProcessUsage]

    def inside(self, frame: Frame) -> tuple[list[int], list[int], list[ProcessUsage]]:
        """The windows that meet a frame, cut to it: starts, ends, events."""
        first, behind = bisect_right(self.ends_us, frame.start_us), bisect_left(self.starts_us, frame.end_us)
        starts_us, ends_us = self.starts_us[first:behind], self.ends_us[first:behind]
        if starts_us:
            starts_us[0], ends_us[-1] = max(starts_us[0], frame.start_us), min(ends_us[-1], frame.end_us)
        return starts_us, ends_us, self.events[first:behind]


@dataclass(frozen=True, slots=True)
class _Reservations:
    """Reserved parts of the host over one denominator, and what is free of it."""

    parts: dict[LineKey, int]
    denominator: int

    @property
    def free(self) -> int:
        return self.denominator - sum(self.parts.values())


_NO_WINDOWS = UsageWindows([], [], [])


def trim_windows(events: Iterable[ProcessUsage]) -> dict[str, UsageWindows]:
    """Usage windows by boot, sorted, each cut to begin where the one before ends: no time is used twice."""
    by_boot: defaultdict[str, list[ProcessUsage]] = defaultdict(list)
    for event in events:
        by_boot[event.boot_id].append(event)
    return {boot_id: _trimmed(group) for boot_id, group in by_boot.items()}


def _trimmed(events: list[ProcessUsage]) -> UsageWindows:
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
        """Deal one watched frame."""
        reserved = _reservations(frame.holders or ())
        for item in frame.holders or ():
            if item.resource == HOST and item.is_claim:
                self._tally.note(LineKey(item.holder, HOST), item.evidence)
        for key, part in reserved.parts.items():
            self._tally.held.add(key, host_ppm * frame.duration_us * part, reserved.denominator)
        windows = self._windows.get(frame.boot_id or "", _NO_WINDOWS)
        starts_us, ends_us, events = windows.inside(frame)
        unwatched_us = frame.duration_us - (sum(ends_us) - sum(starts_us))
        if unwatched_us:
            self._deal_unwatched(unwatched_us, host_ppm, reserved)
        whole: list[ProcessUsage] = []
        for start_us, end_us, event in zip(starts_us, ends_us, events, strict=True):
            if reserved.parts:
                self._deal_beside(event, end_us - start_us, host_ppm=host_ppm, reserved=reserved)
            elif start_us == event.start_us and end_us == event.end_us:
                whole.append(event)
            else:
                self._deal_part(event, end_us - start_us, host_ppm)
        self._deal_whole(whole, host_ppm)

    def _deal_unwatched(self, duration_us: int, host_ppm: int, reserved: _Reservations) -> None:
        for key, part in reserved.parts.items():
            self._tally.unseen.add(key, host_ppm * duration_us * part, reserved.denominator)
        if reserved.free:
            self._tally.held.add(_UNKNOWN, host_ppm * duration_us * reserved.free, reserved.denominator)
            self._tally.note(_UNKNOWN, "no usage window")

    def _deal_whole(self, events: Iterable[ProcessUsage], host_ppm: int) -> None:
        """Windows without reservations, not cut: their length cancels out. As a rule; one dict update a holder."""
        used_by_cores: dict[int, dict[Holder, int]] = {}
        idle_by_cores: dict[int, int] = {}
        for event in events:
            cores, usage = event.cores, event.usage
            capacity_us = cores * (event.end_us - event.start_us)
            used_us = sum([cpu_us for _, cpu_us in usage])
            if used_us > capacity_us:
                usage, used_us = _scaled(usage, capacity_us), capacity_us
            sums = used_by_cores.get(cores)
            if sums is None:
                sums = used_by_cores[cores] = defaultdict(int)
            for holder, cpu_us in usage:
                sums[holder] += cpu_us
            idle_by_cores[cores] = idle_by_cores.get(cores, 0) + capacity_us - used_us
        for cores, sums in used_by_cores.items():
            self._add_used(sums, host_ppm, cores)
            if idle_by_cores[cores]:
                self._tally.held.add(_IDLE, host_ppm * idle_by_cores[cores], cores)

    def _deal_part(self, event: ProcessUsage, duration_us: int, host_ppm: int) -> None:
        """A part of a window without reservations: a frame ends within it."""
        capacity_us = event.cores * (event.end_us - event.start_us)
        usage, used_us = event.usage, sum(cpu_us for _, cpu_us in event.usage)
        if used_us > capacity_us:
            usage, used_us = _scaled(usage, capacity_us), capacity_us
        sums: dict[Holder, int] = defaultdict(int)
        for holder, cpu_us in usage:
            sums[holder] += cpu_us
        self._add_used(sums, host_ppm * duration_us, capacity_us)
        if used_us < capacity_us:
            self._tally.held.add(_IDLE, host_ppm * duration_us * (capacity_us - used_us), capacity_us)

    def _add_used(self, sums: dict[Holder, int], factor: int, denominator: int) -> None:
        for holder, cpu_us in sums.items():
            key = LineKey(holder, HOST)
            self._tally.held.add(key, factor * cpu_us, denominator)
            self._tally.note(key, "cpu time")

    def _deal_beside(
        self, event: ProcessUsage, duration_us: int, *, host_ppm: int, reserved: _Reservations
    ) -> None:
        """A window beside reservations: their own CPU time is paid for, others share what is free."""
        capacity_us = event.cores * (event.end_us - event.start_us)
        factor, denominator = host_ppm * duration_us, reserved.denominator * capacity_us
        owners = Claimants((key.holder, key) for key in reserved.parts)
        inside: dict[LineKey, int] = {}
        outside: list[tuple[Holder, int]] = []
        for holder, cpu_us in event.usage:
            key = owners.find(holder)
            if key is None:
                outside.append((holder, cpu_us))
            else:
                inside[key] = inside.get(key, 0) + cpu_us
        for key, part in reserved.parts.items():
            unused = max(0, part * capacity_us - inside.get(key, 0) * reserved.denominator)
            self._tally.unused.add(key, factor * unused, denominator)
        free_us = capacity_us * reserved.free // reserved.denominator
        usage: Sequence[tuple[Holder, int]] = outside
        used_us = sum(cpu_us for _, cpu_us in outside)
        if used_us > free_us:
            usage, used_us = _scaled(outside, free_us), free_us
        for holder, cpu_us in usage:
            key = LineKey(holder, HOST)
            self._tally.held.add(key, factor * cpu_us * reserved.denominator, denominator)
            self._tally.note(key, "cpu time")
        idle = reserved.free * capacity_us - used_us * reserved.denominator
        if idle:
            self._tally.held.add(_IDLE, factor * idle, denominator)


def _reservations(holders: Sequence[AllocationHolder]) -> _Reservations:
    claims = [item for item in holders if item.resource == HOST and item.is_claim]
    if not claims:
        return _Reservations({}, 1)
    denominator = math.lcm(*(item.denominator for item in claims))
    parts: dict[LineKey, int] = {}
    for item in claims:
        key = LineKey(item.holder, HOST)
        parts[key] = parts.get(key, 0) + item.numerator * (denominator // item.denominator)
    return _Reservations(parts, max(denominator, sum(parts.values())))


def _scaled(usage: Sequence[tuple[Holder, int]], capacity_us: int) -> tuple[tuple[Holder, int], ...]:
    sums: dict[Holder, int] = {}
    for holder, cpu_us in usage:
        sums[holder] = sums.get(holder, 0) + cpu_us
    holders = list(sums)
    keys = [sort_key(LineKey(holder, HOST)) for holder in holders]
    return tuple(zip(holders, largest_remainder(capacity_us, [sums[h] for h in holders], keys), strict=True))
