"""How busy a device, or a slice of one, was measured to be within any range of time.

The windows of one device of one boot are disjoint: where two were told that overlap, the later one begins where the
earlier one ends. All devices of an event share its window, so as a rule (no window overlaps another of its boot) they
share the lists of times too, and a node-hour with eight devices holds two lists of times and eight of numbers.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import islice
from operator import attrgetter, le, mul, sub
from typing import NamedTuple

from trainledger_ingest.cost.node_events import DevicePlace, DeviceUse

__all__ = ["UseWindows", "WindowTimes", "find_use_windows"]

# Beyond so many changes of the places told of, joining lists costs more than it saves.
STRETCHES_MAX = 16
# Boot, device, slice of it (empty: the device).
_Place = tuple[str, str, str]


class _Inside(NamedTuple):
    """The windows that meet a range, from `first` on: how much of each, and of all."""

    first: int
    behind: int
    lengths_us: list[int]
    seen_us: int


class WindowTimes:
    """Disjoint windows in order of time. The places of one boot share them, and each is asked about the same range."""

    def __init__(self, starts_us: list[int], ends_us: list[int]) -> None:
        self._starts_us = starts_us
        self._ends_us = ends_us
        self._asked = (0, 0)
        self._found = _Inside(0, 0, [], 0)

    def inside(self, start_us: int, end_us: int) -> _Inside:
        """The windows that meet a range."""
        if (start_us, end_us) != self._asked:
            self._asked, self._found = (start_us, end_us), self._find(start_us, end_us)
        return self._found

    def joined(self, other: "WindowTimes") -> "WindowTimes":
        """These windows and then those."""
        return WindowTimes(self._starts_us + other._starts_us, self._ends_us + other._ends_us)

    def _find(self, start_us: int, end_us: int) -> _Inside:
        first, behind = bisect_right(self._ends_us, start_us), bisect_left(self._starts_us, end_us)
        if first >= behind:
            return _Inside(0, 0, [], 0)
        starts_us, ends_us = self._starts_us[first:behind], self._ends_us[first:behind]
        starts_us[0], ends_us[-1] = max(starts_us[0], start_us), min(ends_us[-1], end_us)
        lengths_us = list(map(sub, ends_us, starts_us))
        return _Inside(first, behind, lengths_us, sum(lengths_us))


class UseWindows(NamedTuple):
    """Windows of one place, and how busy it was in each, in millionths."""

    times: WindowTimes
    busy_ppm: Sequence[int]

    def measured(self, start_us: int, end_us: int) -> tuple[int, int]:
        """Microseconds with a measurement inside a range, and the sum of microseconds x busy millionths."""
        first, behind, lengths_us, seen_us = self.times.inside(start_us, end_us)
        return seen_us, sum(map(mul, lengths_us, self.busy_ppm[first:behind]))

    def joined(self, other: "UseWindows") -> "UseWindows":
        """These windows and then those."""
        return UseWindows(self.times.joined(other.times), [*self.busy_ppm, *other.busy_ppm])


def find_use_windows(events: Iterable[DeviceUse]) -> dict[_Place, UseWindows]:
    """The windows of each place; `events` in any order."""
    by_boot: dict[str, list[DeviceUse]] = {}
    for event in events:
        if event.places:
            by_boot.setdefault(event.boot_id, []).append(event)
    windows: dict[_Place, UseWindows] = {}
    for boot_id, group in by_boot.items():
        group.sort(key=attrgetter("start_us"))
        starts_us, ends_us = [event.start_us for event in group], [event.end_us for event in group]
        is_in_order = all(map(le, ends_us, islice(starts_us, 1, None)))
        stretches = _stretches(group) if is_in_order else None
        if stretches is None:
            _add_one_by_one(windows, boot_id, group)
        else:
            _add_stretches(windows, boot_id, stretches, times=(starts_us, ends_us))
    return windows


class _Stretch(NamedTuple):
    """Windows that name the same places in the same order: a row of busy millionths each."""

    places: Sequence[DevicePlace]
    rows: list[Sequence[int]]


def _stretches(events: Iterable[DeviceUse]) -> list[_Stretch] | None:
    """Windows told of few sets of places; None: they have to be looked at one by one."""
    stretches: list[_Stretch] = []
    last = _Stretch((), [])
    for event in events:
        if event.places != last.places:
            last = _Stretch(event.places, [])
            stretches.append(last)
            if len(stretches) > STRETCHES_MAX or len(set(event.places)) < len(event.places):
                return None
        last.rows.append(event.busy_ppm)
    return stretches


def _add_stretches(
    windows: dict[_Place, UseWindows],
    boot_id: str,
    stretches: Iterable[_Stretch],
    *,
    times: tuple[list[int], list[int]],
) -> None:
    behind = 0
    for places, rows in stretches:
        first, behind = behind, behind + len(rows)
        stretch = WindowTimes(times[0][first:behind], times[1][first:behind])
        for (uuid, part_id), column in zip(places, zip(*rows, strict=True), strict=True):
            place = (boot_id, uuid, part_id)
            found = UseWindows(stretch, column)
            windows[place] = windows[place].joined(found) if place in windows else found


def _add_one_by_one(windows: dict[_Place, UseWindows], boot_id: str, events: Iterable[DeviceUse]) -> None:
    """Some overlap (two agents, a clock that was set), or the places change all the time: rare."""
    rows: dict[_Place, list[tuple[int, int, int]]] = {}
    for event in sorted(events, key=attrgetter("start_us", "end_us", "producer_id", "seq")):
        for (uuid, part_id), busy_ppm in zip(event.places, event.busy_ppm, strict=True):
            known = rows.setdefault((boot_id, uuid, part_id), [])
            start_us = max(event.start_us, known[-1][1]) if known else event.start_us
            if start_us < event.end_us:
                known.append((start_us, event.end_us, busy_ppm))
    for place, found in rows.items():
        starts_us, ends_us, column = map(list, zip(*found, strict=True))
        windows[place] = UseWindows(WindowTimes(starts_us, ends_us), column)
