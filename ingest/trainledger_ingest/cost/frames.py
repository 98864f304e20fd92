"""Cutting a node-hour where its facts change: who holds what, which devices there are, watched or not.

A frame is a range of wall time in which the allocation, the devices and the reservations are constant.
Key frames that repeat
an allocation make no cut. An allocation is in force for its own boot only, until the next one, and at most
`allocation_age_us_max`: one that was not repeated for longer proves nothing any more.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from trainledger_ingest.cost.node_events import Allocation, AllocationHolder, Device, Devices, Reservation
from trainledger_ingest.cost.presence import Interval, LiveInterval, Presence

__all__ = ["Frame", "cut_frames"]


@dataclass(frozen=True, slots=True)
class Frame:
    """A range with constant facts. `boot_id` None: not watched; `holders` None: nobody said who holds.

    `reserved`: the jobs that a scheduler's records name, in order of their ids."""

    start_us: int
    end_us: int
    boot_id: str | None
    devices: tuple[Device, ...]
    holders: tuple[AllocationHolder, ...] | None
    reserved: tuple[Reservation, ...] = ()

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
    frames: list[Frame] = []
    for item in presence.live:
        for part in _split(item, [*claims.cuts(item.boot_id), *inventory.cuts(), *edges]):
            current = claims.at(item.boot_id, part.start_us)
            _append(
                frames,
                Frame(
                    part.start_us,
                    part.end_us,
                    item.boot_id,
                    inventory.at(part.start_us, item.boot_id),
                    None if current is None else current.holders,
                    _in_force(reservations, part.start_us),
                ),
            )
    for blind in presence.blind:
        for part in _split(blind, [*inventory.cuts(), *edges]):
            at_us = part.start_us
            jobs = _in_force(reservations, at_us)
            _append(frames, Frame(at_us, part.end_us, None, inventory.at(at_us, None), None, jobs))
    return sorted(frames, key=lambda frame: frame.start_us)


def _append(frames: list[Frame], frame: Frame) -> None:
    """Add a frame, or widen the last one when nothing changed."""
    if frames:
        last = frames[-1]
        if last.end_us == frame.start_us and replace(last, end_us=frame.end_us) == replace(
            frame, start_us=last.start_us
        ):
            frames[-1] = replace(last, end_us=frame.end_us)
            return
    frames.append(frame)


def _in_force(reservations: Sequence[Reservation], at_us: int) -> tuple[Reservation, ...]:
    return tuple(item for item in reservations if item.start_us <= at_us < item.end_us)


def _split(item: Interval | LiveInterval, cuts: Sequence[int]) -> list[Interval]:
    start_us, end_us = item[0], item[1]
    edges = [start_us, *sorted({cut for cut in cuts if start_us < cut < end_us}), end_us]
    return [Interval(a, b) for a, b in pairwise(edges)]


class _Timeline:
    """Allocations by boot, found by time."""

    def __init__(self, allocations: Sequence[Allocation], *, age_us_max: int) -> None:
        self._age_us_max = age_us_max
        self._by_boot: dict[str, list[Allocation]] = {}
        for allocation in allocations:
            self._by_boot.setdefault(allocation.boot_id, []).append(allocation)
        self._starts = {boot: [item.wall_us for item in items] for boot, items in self._by_boot.items()}

    def cuts(self, boot_id: str) -> list[int]:
        starts = self._starts.get(boot_id, [])
        return [*starts, *(start + self._age_us_max for start in starts)]

    def at(self, boot_id: str, wall_us: int) -> Allocation | None:
        index = bisect_right(self._starts.get(boot_id, []), wall_us) - 1
        if index < 0:
            return None
        found = self._by_boot[boot_id][index]
        return found if wall_us < found.wall_us + self._age_us_max else None


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
