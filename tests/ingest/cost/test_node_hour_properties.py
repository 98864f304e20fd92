"""Whatever happened to a node, its lines sum to its presence, and equal those of an independent slow oracle."""

import random

from hypothesis import given
from hypothesis import strategies as st

from support.cost_events import HOUR, histories
from support.proving import cases
from support.slow_cost import slow_node_hour
from trainledger_ingest.cost.node_events import HOUR_US, NodeEvent
from trainledger_ingest.cost.node_hour import SHARES_PER_US, NodeHour, deal_node_hour
from trainledger_ingest.cost.node_stream import NodeStream, cut_stream, hours_touched
from trainledger_ingest.cost.policy import CostPolicy
from trainledger_ingest.cost.presence import PresenceMode, PresenceRule

POLICIES = (
    CostPolicy(),
    CostPolicy(presence=PresenceRule(PresenceMode.BOOT), host_share_ppm=0),
    CostPolicy(
        presence=PresenceRule(PresenceMode.OWNED, HOUR - 5, HOUR + HOUR_US // 2 + 1), host_share_ppm=333_333
    ),
    CostPolicy(presence=PresenceRule(PresenceMode.OWNED, HOUR - 3 * HOUR_US), device_weights=(("m", 7),)),
)
policies = st.sampled_from(POLICIES)
hours = st.sampled_from((HOUR - HOUR_US, HOUR, HOUR + HOUR_US))
slow = cases(120)


def deal(events: list[NodeEvent], policy: CostPolicy, hour_us: int = HOUR) -> NodeHour:
    return deal_node_hour(NodeStream("n", tuple(events)), hour_us, policy)


@slow
@given(histories(), policies, hours)
def test_the_lines_equal_those_of_the_slow_oracle_share_by_share(
    events: list[NodeEvent], policy: CostPolicy, hour_us: int
) -> None:
    dealt, expected = deal(events, policy, hour_us), slow_node_hour(events, hour_us, policy)
    assert (dealt.presence_us, dealt.observed_us) == (expected.presence_us, expected.observed_us)
    shares = {
        (line.resource, str(line.kind), line.run_id, line.attempt, line.owner, line.account): line.held_share
        for line in dealt.lines
    }
    assert {key: share for key, share in shares.items() if share} == {
        key: share for key, share in expected.shares.items() if share
    }
    used = {
        (line.resource, str(line.kind), line.run_id, line.attempt, line.owner, line.account): (
            line.used_share,
            line.unseen_share,
        )
        for line in dealt.lines
    }
    assert used == {key: (expected.used[key], expected.unseen[key]) for key in used}


@slow
@given(histories(), policies, hours)
def test_the_lines_sum_to_presence_and_use_stays_within_what_is_held(
    events: list[NodeEvent], policy: CostPolicy, hour_us: int
) -> None:
    dealt = deal(events, policy, hour_us)
    assert sum(line.held_share for line in dealt.lines) == dealt.presence_us * SHARES_PER_US
    assert all(line.used_share is None or 0 <= line.used_share <= line.held_share for line in dealt.lines)
    assert len({(line[:5], line.account) for line in dealt.lines}) == len(dealt.lines)


@slow
@given(histories(), policies, st.randoms(use_true_random=False))
def test_order_and_repetition_of_events_change_nothing(
    events: list[NodeEvent], policy: CostPolicy, shuffle: random.Random
) -> None:
    again = [*events, *shuffle.sample(events, len(events) // 2)]
    shuffle.shuffle(again)
    assert deal(again, policy) == deal(events, policy)


@slow
@given(histories(), policies, hours)
def test_the_cut_stream_decides_the_hour_as_the_whole_history_does(
    events: list[NodeEvent], policy: CostPolicy, hour_us: int
) -> None:
    stream = cut_stream("n", events, hour_us, policy=policy)
    assert deal_node_hour(stream, hour_us, policy) == deal(events, policy, hour_us)


@slow
@given(histories(), policies, st.randoms(use_true_random=False))
def test_every_hour_that_late_events_change_is_among_the_hours_touched(
    events: list[NodeEvent], policy: CostPolicy, choose: random.Random
) -> None:
    late = choose.sample(events, choose.randint(1, min(4, len(events))))
    known = [event for event in events if event not in late]
    touched = hours_touched(late, known=known, policy=policy)
    for number in range(-4, 6):
        hour_us = HOUR + number * HOUR_US
        before, after = deal(known, policy, hour_us), deal(events, policy, hour_us)
        assert before == after or hour_us in touched
