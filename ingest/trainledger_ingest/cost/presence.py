"""When a node was there, and when it was watched: intervals from the node events of each boot.

A boot's node events, ordered by the time since boot (which never steps), cover the time between neighbours.
Neighbours at most 90 s apart were watched (`live`); further apart, all the time between is a gap: present,
not observed. A stepped wall clock is seen by comparing both clocks: then the earlier event is extended by the
time that really passed, and nothing is made up between the two wall times. Nothing is counted twice, whatever
the clocks did: where boots overlap on the wall clock, one of them gets the time.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from operator import attrgetter, sub
from typing import NamedTuple

from trainledger_ingest.cost.node_events import Gap, NodePresent

__all__ = [
    "CLOCK_STEP_US",
    "GAP_US_MAX",
    "Interval",
    "LiveInterval",
    "Presence",
    "PresenceMode",
    "PresenceRule",
    "Span",
    "boot_spans",
    "clip",
    "covered_us",
    "find_presence",
    "merge",
    "subtract",
]

GAP_US_MAX = 90_000_000
# Above what NTP slews between two node events (500 ppm of 90 s is 45 ms), far below what a person sets.
CLOCK_STEP_US = 2_000_000
_BOOT_ORDER = attrgetter("boot_us", "wall_us", "producer_id", "seq")


class Interval(NamedTuple):
    """A half-open range of wall time in microseconds."""

    start_us: int
    end_us: int


class LiveInterval(NamedTuple):
    """A range in which the node was watched, under this boot."""

    start_us: int
    end_us: int
    boot_id: str


class Span(NamedTuple):
    """The time from one node event of a boot to the next."""

    start_us: int
    end_us: int
    is_gap: bool


class PresenceMode(StrEnum):
    """From when to when a node is billed."""

    OBSERVED = "observed"  # first to last node event of a boot
    BOOT = "boot"  # boot to last node event
    OWNED = "owned"  # between dates, watched or not


@dataclass(frozen=True, slots=True)
class PresenceRule:
    """The mode, and for `owned` the dates (None: open)."""

    mode: PresenceMode = PresenceMode.OBSERVED
    owned_from_us: int | None = None
    owned_to_us: int | None = None


@dataclass(frozen=True, slots=True)
class Presence:
    """Presence of a node in a window: disjoint, sorted; `live` and `blind` together are `present`."""

    present: tuple[Interval, ...]
    live: tuple[LiveInterval, ...]
    blind: tuple[Interval, ...]


def find_presence(
    events: Iterable[NodePresent],
    gaps: Iterable[Gap],
    *,
    window: Interval,
    rule: PresenceRule,
    until_us: int | None = None,
    reserved_until_us: int | None = None,
) -> Presence:
    """Presence and observation inside `window`.

    `until_us`: up to when an owned node counts as owned already (the time of asking); None: its last event, or
    `reserved_until_us`, the end of the last job that a scheduler's records name.
    """
    boots = _by_boot(events)
    spans = _spans(boots, rule.mode)
    live = _disjoint(
        sorted(
            LiveInterval(max(span.start_us, window.start_us), min(span.end_us, window.end_us), boot_id)
            for span, boot_id in spans
            if not span.is_gap
        )
    )
    blinded = merge(clip([Interval(gap.start_us, gap.end_us) for gap in gaps], window))
    live = [
        LiveInterval(part.start_us, part.end_us, item.boot_id)
        for item in live
        for part in subtract([Interval(item.start_us, item.end_us)], blinded)
    ]
    present = merge(clip([Interval(span.start_us, span.end_us) for span, _ in spans], window))
    if rule.mode is PresenceMode.OWNED:
        last_us = max((event.wall_us for group in boots.values() for event in group), default=window.start_us)
        last_us = max(last_us, reserved_until_us or last_us)
        present = _owned(rule, window, last_us if until_us is None else until_us)
        live = [
            LiveInterval(part.start_us, part.end_us, item.boot_id)
            for item in live
            for part in _intersect(Interval(item.start_us, item.end_us), present)
        ]
    blind = subtract(present, [Interval(item.start_us, item.end_us) for item in live])
    return Presence(tuple(present), tuple(live), tuple(blind))


def boot_spans(events: Sequence[NodePresent], *, mode: PresenceMode = PresenceMode.OBSERVED) -> list[Span]:
    """The spans of one boot's node events, given in order of `boot_us`; in mode `boot` also boot to first."""
    spans: list[Span] = []
    if events and mode is PresenceMode.BOOT:
        spans.append(Span(events[0].wall_us - events[0].boot_us, events[0].wall_us, True))
    for before, after in pairwise(events):
        wall_passed = after.wall_us - before.wall_us
        boot_passed = after.boot_us - before.boot_us
        passed = wall_passed if abs(wall_passed - boot_passed) <= CLOCK_STEP_US else boot_passed
        if passed > 0:
            spans.append(Span(before.wall_us, before.wall_us + passed, passed > GAP_US_MAX))
    return spans


def merge(intervals: Iterable[Interval]) -> list[Interval]:
    """The union, disjoint and sorted; empty intervals vanish."""
    merged: list[Interval] = []
    for start_us, end_us in sorted(interval for interval in intervals if interval.end_us > interval.start_us):
        if merged and start_us <= merged[-1].end_us:
            if end_us > merged[-1].end_us:
                merged[-1] = Interval(merged[-1].start_us, end_us)
        else:
            merged.append(Interval(start_us, end_us))
    return merged


def clip(intervals: Iterable[Interval], window: Interval) -> list[Interval]:
    """What lies inside the window."""
    return [part for interval in intervals for part in _intersect(interval, [window])]


def subtract(intervals: Sequence[Interval], holes: Sequence[Interval]) -> list[Interval]:
    """`intervals` without `holes`; both disjoint and sorted."""
    rest: list[Interval] = []
    for start_us, end_us in intervals:
        cursor_us = start_us
        for hole in holes:
            if hole.end_us <= cursor_us:
                continue
            if hole.start_us >= end_us:
                break
            if hole.start_us > cursor_us:
                rest.append(Interval(cursor_us, hole.start_us))
            cursor_us = hole.end_us
        if cursor_us < end_us:
            rest.append(Interval(cursor_us, end_us))
    return rest


def covered_us(intervals: Iterable[Interval | LiveInterval]) -> int:
    """The length of disjoint intervals."""
    return sum(interval[1] - interval[0] for interval in intervals)


def _by_boot(events: Iterable[NodePresent]) -> dict[str, list[NodePresent]]:
    boots: dict[str, list[NodePresent]] = {}
    for event in events:
        boots.setdefault(event.boot_id, []).append(event)
    for group in boots.values():
        group.sort(key=_BOOT_ORDER)
    return boots


def _spans(boots: Mapping[str, Sequence[NodePresent]], mode: PresenceMode) -> list[tuple[Span, str]]:
    """The spans of all boots, few where that changes nothing."""
    if len(boots) == 1 and mode is not PresenceMode.BOOT:
        ((boot_id, events),) = boots.items()
        if _is_steady(events):
            return [(Span(events[0].wall_us, events[-1].wall_us, False), boot_id)]
    by_boot = {boot_id: boot_spans(group, mode=mode) for boot_id, group in boots.items()}
    if _are_apart(by_boot.values()):
        # Else it counts which boot's span began first; apart, a span is as good as its pieces, and there are few.
        by_boot = {boot_id: _joined(spans) for boot_id, spans in by_boot.items()}
    return [(span, boot_id) for boot_id, found in by_boot.items() for span in found]


def _is_steady(events: Sequence[NodePresent]) -> bool:
    """Whether a boot was watched from its first event to its last, by a clock that ran forward: as a rule."""
    walls_us, boots_us = [event.wall_us for event in events], [event.boot_us for event in events]
    passed_us: list[int] = list(map(sub, walls_us[1:], walls_us))
    stepped_us: list[int] = list(map(sub, passed_us, map(sub, boots_us[1:], boots_us)))
    if not passed_us:
        return False
    is_even = max(map(abs, stepped_us)) <= CLOCK_STEP_US
    return is_even and min(passed_us) >= 0 and max(passed_us) <= GAP_US_MAX


def _are_apart(boots: Iterable[Sequence[Span]]) -> bool:
    """Whether no boot covers time between the first and the last moment of another."""
    extents = sorted(
        (min(span.start_us for span in spans), max(span.end_us for span in spans)) for spans in boots if spans
    )
    return all(before[1] <= after[0] for before, after in pairwise(extents))


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Spans that follow each other without a break, made one."""
    joined: list[Span] = []
    for span in spans:
        if joined and joined[-1].end_us == span.start_us and joined[-1].is_gap == span.is_gap:
            joined[-1] = Span(joined[-1].start_us, span.end_us, span.is_gap)
        else:
            joined.append(span)
    return joined


def _disjoint(intervals: Sequence[LiveInterval]) -> list[LiveInterval]:
    """Sorted intervals without overlap: the earlier one keeps the time; neighbours of one boot are joined."""
    result: list[LiveInterval] = []
    for start_us, end_us, boot_id in intervals:
        if result:
            start_us = max(start_us, result[-1].end_us)
        if end_us <= start_us:
            continue
        if result and result[-1].boot_id == boot_id and result[-1].end_us == start_us:
            result[-1] = LiveInterval(result[-1].start_us, end_us, boot_id)
        else:
            result.append(LiveInterval(start_us, end_us, boot_id))
    return result


def _intersect(interval: Interval, others: Sequence[Interval]) -> list[Interval]:
    parts = (
        Interval(max(interval.start_us, other.start_us), min(interval.end_us, other.end_us))
        for other in others
    )
    return [part for part in parts if part.end_us > part.start_us]


def _owned(rule: PresenceRule, window: Interval, until_us: int) -> list[Interval]:
    start_us = window.start_us if rule.owned_from_us is None else rule.owned_from_us
    end_us = until_us if rule.owned_to_us is None else min(rule.owned_to_us, until_us)
    return clip([Interval(start_us, end_us)], window)
