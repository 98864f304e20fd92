"""Which hours an event can change, and which events decide an hour."""

from dataclasses import replace

import pytest

from support.cost_events import HOUR, Script, at, claim, run
from trainledger_ingest.cost.node_events import HOUR_US, Device, NodeEvent, NodePresent, hour_of
from trainledger_ingest.cost.node_stream import HOURS_TOUCHED_MAX, cut_stream, hours_touched
from trainledger_ingest.cost.policy import CostPolicy
from trainledger_ingest.cost.presence import PresenceMode, PresenceRule
from trainledger_schemas.errors import InvariantError

POLICY = CostPolicy()


def touched(new: list[NodeEvent], known: list[NodeEvent], policy: CostPolicy = POLICY) -> list[int]:
    """Hours counted from HOUR."""
    return sorted((hour - HOUR) // HOUR_US for hour in hours_touched(new, known=known, policy=policy))


def test_a_node_event_touches_the_open_hour_and_all_hours_since_the_one_before() -> None:
    events = Script().present(100, 130, 4 * 3600 + 10).events
    assert touched(events[1:2], events[:1]) == [0]
    assert touched(events[2:], events[:2]) == [0, 1, 2, 3, 4]
    assert touched(events[1:2], [events[0], events[2]]) == [0, 1, 2, 3, 4]


def test_a_late_event_between_two_over_a_stepped_clock_touches_what_they_covered_together() -> None:
    # The clock was set back by 600 s: the first and the last alone reach 200 s into the next hour, and with the middle not.
    first, middle, last = (
        NodePresent(seq=number, wall_us=at(wall_s), boot_id="b", producer_id="p", boot_us=boot_s * 1_000_000)
        for number, (wall_s, boot_s) in enumerate([(0, 1), (1300, 1901), (3200, 3801)])
    )
    assert touched([last], [first]) == [0, 1]
    assert touched([middle], [first, last]) == [0, 1]
    # Those that were there come again with it, as when they share an hour.
    assert touched([middle, last], [first, last]) == [0, 1]
    assert touched([first, middle, last], [first, middle, last]) == [0, 1]


def test_the_first_event_of_a_boot_touches_what_the_second_had_from_boot_on_by_another_clock() -> None:
    # The clock was set forward by 5000 s between them: alone, the second reaches back to another boot than with the first.
    policy = CostPolicy(presence=PresenceRule(PresenceMode.BOOT))
    first, second = (
        NodePresent(seq=number, wall_us=at(wall_s), boot_id="b", producer_id="p", boot_us=boot_s * 1_000_000)
        for number, (wall_s, boot_s) in enumerate([(7300, 3700), (12_330, 3730)])
    )
    assert touched([second], [], policy) == [2, 3]
    assert touched([first], [second], policy) == [1, 2, 3]
    set_back = replace(second, wall_us=at(2330))
    assert touched([set_back], [], policy) == [-1, 0]
    assert touched([first], [set_back], policy) == [-1, 0, 1, 2]
    assert touched([first, set_back], [set_back], policy) == [-1, 0, 1, 2]


def test_a_window_over_the_edge_touches_both_hours() -> None:
    script = Script().alive(3500, 3700).usage(3595, 3605)
    assert touched(script.events[-1:], script.events[:-1]) == [0, 1]


def test_an_allocation_touches_the_hours_in_which_it_can_be_in_force() -> None:
    script = Script().alive(0, 7200).allocation(3300, claim("host", run("a")))
    assert touched(script.events[-1:], script.events[:-1]) == [0, 1]


def test_events_outside_all_presence_touch_nothing_far_away() -> None:
    script = Script().alive(0, 60).gap(-(10**9), 10**9)
    assert touched(script.events[-1:], script.events[:-1]) == [0]


def test_a_late_list_of_devices_touches_every_hour_of_the_boot() -> None:
    script = Script().alive(0, 7300).devices(3700, Device("g0"))
    assert touched(script.events[-1:], script.events[:-1]) == [0, 1, 2]


def test_a_list_of_devices_that_was_known_touches_nothing_and_another_one_the_boot() -> None:
    script = Script().alive(0, 7300).devices(10, Device("g0")).devices(3700, Device("g0"))
    same, other = script.events[-1], Script().devices(3700, Device("g1")).events[0]
    assert touched([same], script.events[:-1]) == []
    assert touched([replace(other, seq=1000)], script.events) == [0, 1, 2]
    # The first of a boot counts from its start, and what replaced it goes on to count.
    assert touched([same], script.events[:-2]) == [0, 1, 2]
    assert touched([replace(same, boot_id="b2")], script.events[:-1]) == [0, 1, 2]
    assert touched(script.events[:1], [*script.events[1:], replace(other, seq=1000)]) == [0]


def test_presence_from_boot_touches_the_hours_since_boot() -> None:
    events = Script().present(7300, boot_wall_s=100).events
    assert touched(events, [], CostPolicy(presence=PresenceRule(PresenceMode.BOOT))) == [0, 1, 2]
    assert touched(events, []) == [2]


def test_a_clock_gone_wild_is_refused_rather_than_dealt_for_ever() -> None:
    far_s = (HOURS_TOUCHED_MAX + 2) * 3600
    with pytest.raises(InvariantError, match="a clock of the node is wrong"):
        touched(list(Script().present(0, far_s).events), [])


def test_a_day_of_history_is_cut_to_the_hour_and_its_edges() -> None:
    script = Script().alive(-40_000, 40_000).windows(-40_000, 40_000)
    stream = cut_stream("n", script.events, HOUR, policy=POLICY)
    kept = [*stream.carry, *stream.events]
    assert len(kept) < 122 + 362
    assert {hour_of(event.wall_us) for event in stream.events} == {HOUR}
    present = [event.wall_us for event in kept if isinstance(event, NodePresent)]
    assert (min(present), max(present)) == (at(-10), at(3620))
