"""Cutting a node-hour where its facts change: who holds what, which devices there are, watched or not.

A frame is a range of wall time in which the allocation, the devices and the reservations are constant.
Key frames that repeat
an allocation make no cut. An allocation is in force for its own boot only, until the next one, and at most
`allocation_age_us_max`: one that was not repeated for longer proves nothing any more.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise, zip_longest
from operator import attrgetter
from typing import NamedTuple

from trainledger_ingest.cost.node_events import Allocation, AllocationHolder, Device, Devices, Reservation
from trainledger_ingest.cost.presence import Interval, LiveInterval, Presence

__all__ = ["Facts", "Frame", "append_frame", "cut_frames"]


class Facts(NamedTuple):
    """What holds throughout a frame. `boot_id` None: not watched; `holders` None: nobody said who holds.

    `reserved`: the jobs that a scheduler's records name, in order of their ids."""

    boot_id: str | None
    devices: tuple[Device, ...]
    holders: tuple[AllocationHolder, ...] | None
    reserved: tuple[Reservation, ...] = ()


class Frame(NamedTuple):
    """A range with constant facts."""

    start_us: int
    end_us: int
    facts: Facts

    @property
    def duration_us(self) -> int:
        """Its length."""
        return self.end_us - self.start_us


def cut_frames(
    presence: Presence,
    allocations: Sequence[Allocation],
    *,
    devices: Sequence[Devices],
    allocation_age_us_max: int,
    reservations: Sequence[Reservation] = (),
) -> list[Frame]:
    """The frames of a presence, sorted by time. `allocations` and `devices` are sorted by time.

    `reservations`: of each job what counts, see `current_reservations`."""
    claims = _Timeline(allocations, age_us_max=allocation_age_us_max)
    inventory = _Inventory(devices)
    edges = [edge for item in reservations for edge in (item.start_us, item.end_us)]
    edges += inventory.cuts()
    frames: list[Frame] = []
    for item in presence.live:
        boot_id = item.boot_id
        for start_us, end_us in _split(item, [*claims.cuts(boot_id), *edges]):
            held = claims.at(boot_id, start_us)
            jobs = _in_force(reservations, start_us)
            facts = Facts(boot_id, inventory.at(start_us, boot_id), held, jobs)
            append_frame(frames, Frame(start_us, end_us, facts))
    for blind in presence.blind:
        for start_us, end_us in _split(blind, edges):
            jobs = _in_force(reservations, start_us)
            append_frame(
                frames, Frame(start_us, end_us, Facts(None, inventory.at(start_us, None), None, jobs))
            )
    return sorted(frames, key=attrgetter("start_us"))


def append_frame(frames: list[Frame], frame: Frame) -> None:
    """Add a frame, or widen the last one when nothing changed."""
    if frames and frames[-1].end_us == frame.start_us and frames[-1].facts == frame.facts:
        frame = Frame(frames.pop().start_us, frame.end_us, frame.facts)
    frames.append(frame)


def _in_force(reservations: Sequence[Reservation], at_us: int) -> tuple[Reservation, ...]:
    return tuple([item for item in reservations if item.start_us <= at_us < item.end_us])


def _split(item: Interval | LiveInterval, cuts: Sequence[int]) -> Iterable[tuple[int, int]]:
    start_us, end_us = item[0], item[1]
    return pairwise([start_us, *sorted({cut for cut in cuts if start_us < cut < end_us}), end_us])


class _Timeline:
    """Who holds what by boot, found by time; key frames that repeat it are left out."""

    def __init__(self, allocations: Sequence[Allocation], *, age_us_max: int) -> None:
        by_boot: dict[str, list[Allocation]] = {}
        for allocation in allocations:
            by_boot.setdefault(allocation.boot_id, []).append(allocation)
        self._starts: dict[str, list[int]] = {}
        self._holders: dict[str, list[tuple[AllocationHolder, ...] | None]] = {}
        for boot_id, told in by_boot.items():
            starts: list[int] = []
            holders: list[tuple[AllocationHolder, ...] | None] = []
            self._starts[boot_id], self._holders[boot_id] = starts, holders
            for item, behind in zip_longest(told, told[1:]):
                if not holders or holders[-1] != item.holders:
                    starts.append(item.wall_us)
                    holders.append(item.holders)
                if behind is None or behind.wall_us > item.wall_us + age_us_max:
                    starts.append(item.wall_us + age_us_max)
                    holders.append(None)

    def cuts(self, boot_id: str) -> list[int]:
        return self._starts.get(boot_id, [])

    def at(self, boot_id: str, wall_us: int) -> tuple[AllocationHolder, ...] | None:
        index = bisect_right(self.cuts(boot_id), wall_us) - 1
        return self._holders[boot_id][index] if index >= 0 else None


class _Inventory:
    """Lists of devices, found by time and boot; the first list of a boot counts from the boot's start."""

    def __init__(self, lists: Sequence[Devices]) -> None:
        self._lists = lists
        self._starts = [item.wall_us for item in lists]
        self._by_boot: dict[str, list[Devices]] = {}
        for item in lists:
            self._by_boot.setdefault(item.boot_id, []).append(item)

    def cuts(self) -> list[int]:
        return self._starts

    def at(self, wall_us: int, boot_id: str | None) -> tuple[Device, ...]:
        """The devices at a time; without a boot (not watched) the last list known then, else the next."""
        lists = self._lists if boot_id is None else self._by_boot.get(boot_id, [])
        if not lists:
            return ()
        index = bisect_right([item.wall_us for item in lists], wall_us) - 1
        return lists[max(index, 0)].devices
