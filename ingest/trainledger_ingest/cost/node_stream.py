"""The events of one node that one hour depends on, and the hours that an event can change.

`cut_stream` says which events decide an hour: those inside it, the neighbours of its edges, and the facts
still in force at its start. Dealing the cut stream gives the same node-hour as dealing the whole history; a
supplier that selects by SQL must select at least these. `hours_touched` is the other direction: which hours
to deal again when events arrive, however late and in whatever order.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from operator import attrgetter
from typing import Any

from trainledger_ingest.cost.node_events import (
    HOUR_US,
    Allocation,
    Devices,
    DeviceUse,
    Gap,
    NodeEvent,
    NodePresent,
    ProcessUsage,
    Reservation,
    hour_of,
)
from trainledger_ingest.cost.policy import CostPolicy
from trainledger_ingest.cost.presence import CLOCK_STEP_US, Interval, PresenceMode
from trainledger_ingest.cost.reservations import current_reservations
from trainledger_schemas.errors import InvariantError

__all__ = [
    "HOURS_TOUCHED_MAX",
    "IN_ORDER",
    "NodeStream",
    "Told",
    "by_type",
    "cut_stream",
    "hours_touched",
    "normalise",
]

_IDENTITY = attrgetter("producer_id", "seq")
IN_ORDER = attrgetter("wall_us", "producer_id", "seq")
_BOOT_ORDER = attrgetter("boot_us", "wall_us", "producer_id", "seq")
_WINDOWS = (Gap, ProcessUsage, DeviceUse)
_FEW = (NodePresent, Allocation, Devices, Reservation)
# Ten years. More from one batch is a clock gone wild, and dealing it would never end.
HOURS_TOUCHED_MAX = 87_660


Told = Mapping[type, list[Any]]


@dataclass(frozen=True, slots=True)
class NodeStream:
    """One node's events for one hour, in any order, with duplicates or not.

    `carry`: events outside the hour that still count in it (see `cut_stream`); kept apart only so that a
    caller can hold them between hours. `until_us`: for nodes billed by ownership, up to when (the time of
    asking) an hour that has not ended counts; None means up to the last event.
    """

    node_id: str
    events: tuple[NodeEvent, ...]
    carry: tuple[NodeEvent, ...] = ()
    until_us: int | None = None


def normalise(events: Iterable[NodeEvent]) -> list[NodeEvent]:
    """Each event once, ordered by wall time, then producer and number."""
    given = list(events)
    if len(set(map(_IDENTITY, given))) == len(given):  # as a rule; the other way takes twice as long
        return sorted(given, key=IN_ORDER)
    unique: dict[tuple[str, int], NodeEvent] = {}
    for event in given:
        unique.setdefault((event.producer_id, event.seq), event)
    return sorted(unique.values(), key=IN_ORDER)


def by_type(events: Iterable[NodeEvent], *, ordered: Iterable[type]) -> Told:
    """Events of each type, an empty list where there are none; those of the types `ordered` once each and in order.

    Windows, of which there are many, are put in order by those who deal them, and say no more by coming twice."""
    found: defaultdict[type, list[Any]] = defaultdict(list)
    for event in events:
        found[type(event)].append(event)
    for kind in ordered:
        found[kind] = normalise(found[kind])
    return found


def cut_stream(node_id: str, events: Iterable[NodeEvent], hour_us: int, *, policy: CostPolicy) -> NodeStream:
    """The part of a node's history that decides one hour."""
    told = by_type(events, ordered=_FEW)
    hour = Interval(hour_us, hour_us + HOUR_US)
    kept: list[NodeEvent] = list(_deciding_presence(told[NodePresent], hour, policy))
    for kind in _WINDOWS:
        kept += [item for item in told[kind] if item.start_us < hour.end_us and item.end_us > hour.start_us]
    age_us = policy.allocation_age_us_max
    kept += [item for item in told[Allocation] if hour.start_us - age_us < item.wall_us < hour.end_us]
    kept += _deciding_reservations(told[Reservation], hour, policy)
    # Lists of devices are few (at start and on change) and the first of a boot counts backwards: keep all.
    kept += told[Devices]
    inside = tuple([item for item in kept if hour.start_us <= item.wall_us < hour.end_us])
    carry = tuple([item for item in kept if not hour.start_us <= item.wall_us < hour.end_us])
    return NodeStream(node_id, inside, carry)


def hours_touched(
    events: Iterable[NodeEvent], *, known: Iterable[NodeEvent] = (), policy: CostPolicy
) -> frozenset[int]:
    """The starts of the hours whose node-hour may change when `events` arrive after `known`.

    `known` needs the node's neighbouring node events and lists of devices; without them hours between an
    earlier event and a new one are missed. The open hour is among them. Hours of an owned node that pass
    without any event are the caller's to add, as are those before its first event when it has no first date.
    Raises InvariantError beyond HOURS_TOUCHED_MAX hours.
    """
    given = list(events)
    new, told = by_type(given, ordered=_FEW), by_type([*given, *known], ordered=_FEW)
    ranges = _presence_ranges(told[NodePresent], set(map(_IDENTITY, new[NodePresent])), policy)
    bounds = _bounds(told, policy)
    if bounds is not None:
        for event in new[Reservation]:
            ranges += _reserved_ranges(event, told, policy)
        if new[Devices] and not _are_repeats(new[Devices], told[Devices]):
            # A list of devices counts until the next, and the first of a boot from the boot's start; lists that differ
            # are rare, so all hours around are dealt again rather than told apart. Between boots there are none.
            is_owned = policy.presence.mode is PresenceMode.OWNED
            ranges += [bounds] if is_owned else _boot_bounds(told[NodePresent], policy)
        counting = [(item.start_us, item.end_us) for kind in _WINDOWS for item in new[kind]]
        age_us = policy.allocation_age_us_max
        counting += [(item.wall_us, item.wall_us + age_us) for item in new[Allocation]]
        ranges += [
            Interval(max(start_us, bounds.start_us), min(end_us, bounds.end_us))
            for start_us, end_us in counting
        ]
    hours: set[int] = set()
    for start_us, end_us in ranges:
        if end_us < start_us:
            continue
        if (end_us - start_us) // HOUR_US > HOURS_TOUCHED_MAX:
            raise InvariantError(
                f"events reach from {start_us} to {end_us} us, more than {HOURS_TOUCHED_MAX} hours; "
                "a clock of the node is wrong: correct the events' times with an admin event"
            )
        hours.update(range(hour_of(start_us), max(end_us, start_us + 1), HOUR_US))
    return frozenset(hours)


def _are_repeats(new: Sequence[Devices], told: Sequence[Devices]) -> bool:
    """Whether new lists say no more than was known: all are one list, and each boot had it already.

    As when an agent starts again: its list alone does not change the hours of the whole boot."""
    identities = set(map(_IDENTITY, new))
    known_boots = {item.boot_id for item in told if _IDENTITY(item) not in identities}
    has_one = all(item.devices == told[0].devices for item in told)
    return has_one and all(item.boot_id in known_boots for item in new)


def _reserved_ranges(event: Reservation, told: Told, policy: CostPolicy) -> list[Interval]:
    """The time of a job, by all that was said of it; of an owned node also the time since it was last heard of."""
    ranges = [
        Interval(item.start_us, item.end_us)
        for item in told[Reservation]
        if item.reservation_id == event.reservation_id
    ]
    if policy.presence.mode is PresenceMode.OWNED:
        others = [
            other.wall_us
            for other in (*told[NodePresent], *told[Reservation])
            if other.wall_us < event.end_us and other is not event
        ]
        begun_us = policy.presence.owned_from_us
        heard_us = max(others, default=event.start_us if begun_us is None else begun_us)
        ranges.append(Interval(min(heard_us, event.end_us), event.end_us))
    return ranges


def _boots(present: Iterable[NodePresent]) -> list[list[NodePresent]]:
    boots: dict[str, list[NodePresent]] = {}
    for event in present:
        boots.setdefault(event.boot_id, []).append(event)
    for group in boots.values():
        group.sort(key=_BOOT_ORDER)
    return list(boots.values())


def _deciding_presence(
    present: Sequence[NodePresent], hour: Interval, policy: CostPolicy
) -> Iterable[NodePresent]:
    """Node events whose span to a neighbour meets the hour, and the node's last one."""
    kept: list[NodePresent] = []
    for group in _boots(present):
        if any(_is_stepped(before, after) for before, after in pairwise(group)):
            # Neighbours of a stepped clock may lie anywhere on the wall clock: what is left out would join
            # events that are no neighbours. Steps are rare, so such a boot is kept whole.
            kept += group
            continue
        for before, after in pairwise(group):
            if before.wall_us < hour.end_us and after.wall_us > hour.start_us:
                kept += [before, after]
        if _begin(group[0], policy) < hour.end_us and group[0].wall_us > hour.start_us:
            kept.append(group[0])
        kept += [item for item in group if hour.start_us <= item.wall_us < hour.end_us]
    # How many cores it had is known from the nearest ones, of whatever boot.
    kept += [event for event in present if event.wall_us <= hour.start_us][-1:]
    kept += [event for event in present if event.wall_us >= hour.end_us][:1]
    if policy.presence.mode is PresenceMode.OWNED:
        kept += present[-1:]
    return {id(event): event for event in kept}.values()


def _deciding_reservations(
    jobs: Sequence[Reservation], hour: Interval, policy: CostPolicy
) -> list[Reservation]:
    """All that was said of the jobs that meet the hour, and of the last job of an owned node: it is there till then."""
    wanted = {
        item.reservation_id for item in jobs if item.start_us < hour.end_us and item.end_us > hour.start_us
    }
    if policy.presence.mode is PresenceMode.OWNED:
        counting = sorted(current_reservations(jobs), key=lambda item: item.end_us)
        wanted |= {item.reservation_id for item in counting[-1:]}
    return [item for item in jobs if item.reservation_id in wanted]


def _presence_ranges(
    present: Sequence[NodePresent], new: set[tuple[str, int]], policy: CostPolicy
) -> list[Interval]:
    """The time between each new node event and its neighbours."""
    ranges: list[Interval] = []
    chains = _boots(present)
    for group in chains:
        ranges += _covered_before(group, new)
    is_owned = policy.presence.mode is PresenceMode.OWNED
    if is_owned:
        chains.append(list(present))
    for group in chains:
        # An owned node begins once, with the last chain, however often it boots.
        if not is_owned or group is chains[-1]:
            ranges += [Interval(_begin(event, policy), event.wall_us) for event in _begun_with(group, new)]
        for index, event in enumerate(group):
            if _IDENTITY(event) not in new:
                continue
            ranges.append(Interval(event.wall_us, event.wall_us + 1))
            for other in group[max(0, index - 1) : index + 2]:
                ranges.append(Interval(min(event.wall_us, other.wall_us), max(event.wall_us, other.wall_us)))
                if _is_stepped(event, other):
                    ranges.append(_stretch(event, other))
    return ranges


def _begun_with(group: Sequence[NodePresent], new: set[tuple[str, int]]) -> list[NodePresent]:
    """The events that are the first, or can have been until new ones came before them."""
    news = list(takewhile(lambda event: _IDENTITY(event) in new, group))
    return [*news, *group[len(news) : len(news) + 1]] if news else []


def _covered_before(group: Sequence[NodePresent], new: set[tuple[str, int]]) -> list[Interval]:
    """What two events of a boot can have covered over a stepped clock until new ones came between them.

    Of new events some may have been there before (they came again, or share an hour with late ones), so any two count
    with only new ones between them: from each to where the time since boot of the last such event leads."""
    ranges: list[Interval] = []
    stretch: list[NodePresent] = []
    for event in [*group, None]:
        if event is not None:
            stretch.append(event)
        if event is None or _IDENTITY(event) not in new:
            offsets_us = [item.wall_us - item.boot_us for item in stretch]
            if len(stretch) > 2 and max(offsets_us) - min(offsets_us) > CLOCK_STEP_US:
                last_us = stretch[-1].boot_us
                ranges += [
                    Interval(item.wall_us, item.wall_us + last_us - item.boot_us) for item in stretch[:-1]
                ]
            stretch = stretch[-1:]
    return ranges


def _stretch(one: NodePresent, other: NodePresent) -> Interval:
    """The time that really passed between two events of a boot, from the earlier one on."""
    earlier = min(one, other, key=lambda item: item.boot_us)
    return Interval(earlier.wall_us, earlier.wall_us + abs(one.boot_us - other.boot_us))


def _is_stepped(one: NodePresent, other: NodePresent) -> bool:
    """Whether the wall clock was set between two node events of one boot."""
    stepped_us = abs((one.wall_us - other.wall_us) - (one.boot_us - other.boot_us))
    return one.boot_id == other.boot_id and stepped_us > CLOCK_STEP_US


def _begin(event: NodePresent, policy: CostPolicy) -> int:
    """From when on a node is billed once this, its first event, is known."""
    if policy.presence.mode is PresenceMode.BOOT:
        return event.wall_us - event.boot_us
    if policy.presence.mode is PresenceMode.OWNED and policy.presence.owned_from_us is not None:
        return min(event.wall_us, policy.presence.owned_from_us)
    return event.wall_us


def _bounds(told: Told, policy: CostPolicy) -> Interval | None:
    """From where to where the node can have been present at all."""
    walls_us = [event.wall_us for events in told.values() for event in events]
    if policy.presence.mode is PresenceMode.OWNED and walls_us:
        begun_us = policy.presence.owned_from_us
        first_us = min(walls_us)
        return Interval(first_us if begun_us is None else min(begun_us, first_us), max(walls_us))
    boots = _boot_bounds(told[NodePresent], policy)
    if not boots:
        return None
    return Interval(min(item.start_us for item in boots), max(item.end_us for item in boots))


def _boot_bounds(present: Sequence[NodePresent], policy: CostPolicy) -> list[Interval]:
    """From where to where the node can have been present in each of its boots."""
    found = []
    for group in _boots(present):
        ends = [event.wall_us for event in group]
        ends += [
            before.wall_us + after.boot_us - before.boot_us
            for before, after in pairwise(group)
            if _is_stepped(before, after)
        ]
        found.append(Interval(min(_begin(event, policy) for event in group), max(ends)))
    return found
