"""The host's part of a node-hour: reservations, then measured CPU time, then idle; unwatched is unknown.

Within a frame the host pool is `host_share_ppm` shares a microsecond. A reservation (cores of all cores)
holds its part whether it is used or not; reservations of more than the host are scaled down together. In the
rest, a holder pays CPU time / (cores x window) of each usage window and what is left is idle. CPU time beyond
the capacity left is scaled down by largest remainder to whole microseconds. Time without a usage window is
unknown; the reserved part stays with whoever reserved it.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from trainledger_ingest.cost.frames import Frame
from trainledger_ingest.cost.money import largest_remainder
from trainledger_ingest.cost.node_events import HOST, AllocationHolder, Holder, Kind, ProcessUsage
from trainledger_ingest.cost.share_sum import LineKey, sort_key
from trainledger_ingest.cost.tally import Tally

__all__ = ["HostPool", "UsageWindow", "trim_windows"]

_IDLE = LineKey(Holder(Kind.IDLE), HOST)
_UNKNOWN = LineKey(Holder(Kind.UNKNOWN), HOST)


@dataclass(frozen=True, slots=True)
class UsageWindow:
    """A usage event and the part of its window that no earlier one covers."""

    start_us: int
    end_us: int
    event: ProcessUsage


@dataclass(frozen=True, slots=True)
class _Reservations:
    """Reserved parts of the host over one denominator, and what is free of it."""

    parts: dict[LineKey, int]
    denominator: int

    @property
    def free(self) -> int:
        return self.denominator - sum(self.parts.values())


def trim_windows(events: Sequence[ProcessUsage]) -> dict[str, list[UsageWindow]]:
    """Usage windows by boot, sorted, each cut to begin where the one before ends: no time is used twice."""
    by_boot: dict[str, list[UsageWindow]] = {}
    for event in sorted(events, key=lambda item: (item.start_us, item.end_us, item.producer_id, item.seq)):
        windows = by_boot.setdefault(event.boot_id, [])
        start_us = max(event.start_us, windows[-1].end_us) if windows else event.start_us
        if start_us < event.end_us:
            windows.append(UsageWindow(start_us, event.end_us, event))
    return by_boot


class HostPool:
    """Deals the host part of frames into a tally."""

    def __init__(self, windows: dict[str, list[UsageWindow]], tally: Tally) -> None:
        self._windows = windows
        self._ends = {boot: [window.end_us for window in items] for boot, items in windows.items()}
        self._tally = tally

    def deal(self, frame: Frame, host_ppm: int) -> None:
        """Deal one watched frame."""
        reserved = _reservations(frame.holders or ())
        for item in frame.holders or ():
            if item.resource == HOST and item.is_claim:
                self._tally.note(LineKey(item.holder, HOST), item.evidence)
        for key, part in reserved.parts.items():
            self._tally.held.add(key, host_ppm * frame.duration_us * part, reserved.denominator)
        cursor_us = frame.start_us
        boot = frame.boot_id or ""
        windows = self._windows.get(boot, [])
        for window in windows[bisect_right(self._ends.get(boot, []), frame.start_us) :]:
            if window.start_us >= frame.end_us:
                break
            start_us, end_us = max(window.start_us, frame.start_us), min(window.end_us, frame.end_us)
            self._deal_unwatched(start_us - cursor_us, host_ppm, reserved)
            if reserved.parts:
                self._deal_beside(window.event, end_us - start_us, host_ppm=host_ppm, reserved=reserved)
            else:
                self._deal_window(window.event, end_us - start_us, host_ppm)
            cursor_us = end_us
        self._deal_unwatched(frame.end_us - cursor_us, host_ppm, reserved)

    def _deal_unwatched(self, duration_us: int, host_ppm: int, reserved: _Reservations) -> None:
        if duration_us <= 0:
            return
        for key, part in reserved.parts.items():
            self._tally.unseen.add(key, host_ppm * duration_us * part, reserved.denominator)
        if reserved.free:
            self._tally.held.add(_UNKNOWN, host_ppm * duration_us * reserved.free, reserved.denominator)
            self._tally.note(_UNKNOWN, "no usage window")

    def _deal_window(self, event: ProcessUsage, duration_us: int, host_ppm: int) -> None:
        """A window without reservations: the common case, one dict update a holder."""
        length_us = event.end_us - event.start_us
        capacity_us = event.cores * length_us
        if duration_us == length_us:  # the window's length cancels out, and denominators stay few
            factor, denominator = host_ppm, event.cores
        else:
            factor, denominator = host_ppm * duration_us, capacity_us
        usage = event.usage
        used_us = sum(cpu_us for _, cpu_us in usage)
        if used_us > capacity_us:
            usage, used_us = _scaled(usage, capacity_us), capacity_us
        terms = self._tally.host_terms(denominator)
        for holder, cpu_us in usage:
            terms[holder] = terms.get(holder, 0) + factor * cpu_us
        if used_us < capacity_us:
            self._tally.held.add(_IDLE, factor * (capacity_us - used_us), denominator)

    def _deal_beside(
        self, event: ProcessUsage, duration_us: int, *, host_ppm: int, reserved: _Reservations
    ) -> None:
        """A window beside reservations: their own CPU time is paid for, others share what is free."""
        capacity_us = event.cores * (event.end_us - event.start_us)
        factor, denominator = host_ppm * duration_us, reserved.denominator * capacity_us
        owners = {claimant(key.holder): key for key in reserved.parts}
        inside: dict[LineKey, int] = {}
        outside: list[tuple[Holder, int]] = []
        for holder, cpu_us in event.usage:
            key = owners.get(claimant(holder))
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


def claimant(holder: Holder) -> tuple[Kind, str | None]:
    """Who claims: a run whatever its attempt or owner, else the owner's processes of that kind."""
    return (holder.kind, holder.run_id if holder.kind is Kind.RUN else holder.owner)


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
