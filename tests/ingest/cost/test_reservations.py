"""What a scheduler's records say ranks below what was seen, and takes only what nobody was seen to hold."""

import random
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.cost_events import HOUR, Script, at, claim, histories, run, seen_on
from trainledger_ingest.cost.node_events import (
    HOUR_US,
    Device,
    Holder,
    Kind,
    NodeEvent,
    NodePresent,
    Reservation,
)
from trainledger_ingest.cost.node_hour import SHARES_PER_US, NodeHour, deal_node_hour
from trainledger_ingest.cost.node_stream import NodeStream, cut_stream, hours_touched
from trainledger_ingest.cost.policy import CostPolicy
from trainledger_ingest.cost.presence import PresenceMode, PresenceRule

POLICIES = (
    CostPolicy(),
    CostPolicy(presence=PresenceRule(PresenceMode.OWNED, HOUR - 3 * HOUR_US)),
)
ANN, EVA = run("a"), Holder(Kind.RUN, "e", 1, "eva")
BOB = Holder(Kind.UNTRACKED, owner="bob")
GPUS = tuple(Device(f"g{n}") for n in range(4))


def job(start_s: float, end_s: float, *, owner: str | None = "ann", **other: Any) -> Reservation:
    """A job from second to second of HOUR, on a node of 4 cores."""
    fields: dict[str, Any] = {
        "seq": 1000, "boot_id": "", "producer_id": "import", "reservation_id": "r1", "is_over": True, "read_us": 0,
        "account": "account:ml", "evidence": "sacct 7", "cpu_milli": 0, "node_cores": 4,
    }  # fmt: skip
    times = {"start_us": at(start_s), "end_us": at(end_s), "wall_us": at(end_s)}
    return Reservation(owner=owner, **(fields | times | other))


def deal(events: list[NodeEvent], policy: CostPolicy = POLICIES[0], hour_us: int = HOUR) -> NodeHour:
    return deal_node_hour(NodeStream("n", tuple(events)), hour_us, policy)


def parts(hour: NodeHour) -> dict[tuple[str, str | None, str | None], Fraction]:
    """Parts of the presence by kind, owner and account."""
    found: dict[tuple[str, str | None, str | None], Fraction] = {}
    for line in hour.lines:
        key = (str(line.kind), line.owner, line.account)
        share = Fraction(line.held_share, hour.presence_us * SHARES_PER_US)
        found[key] = found.get(key, Fraction(0)) + share
    return {key: part.limit_denominator(10_000) for key, part in found.items() if part}


def test_cpu_time_of_a_jobs_owner_is_part_of_what_the_job_had() -> None:
    events = Script().alive(0, 3600).windows(0, 3600, (ANN, 1), (EVA, 1)).events
    found = parts(deal([*events, job(0, 3600, cpu_milli=3000)]))
    assert found == {
        ("run", "ann", "account:ml"): Fraction(1, 4),
        ("run", "eva", None): Fraction(1, 4),
        # The job had three cores; one was used by its owner, and one of the others is eva's.
        ("untracked", "ann", "account:ml"): Fraction(1, 2),
    }


def test_a_live_claim_of_the_owner_counts_as_part_of_the_job() -> None:
    held = Script().alive(0, 3600).windows(0, 3600, (ANN, 0.5)).key_frames(0, 3600, claim("host", ANN, 2, 4))
    found = parts(deal([*held.events, job(0, 3600, cpu_milli=2000)]))
    assert found == {("run", "ann", "account:ml"): Fraction(1, 2), ("idle", None, None): Fraction(1, 2)}


def test_time_without_an_agent_is_the_jobs_and_only_the_rest_is_unknown() -> None:
    events = Script().alive(0, 600).alive(3000, 3600).windows(0, 600).windows(3000, 3600).events
    hour = deal([*events, job(600, 3000, cpu_milli=1000)])
    assert parts(hour) == {
        ("untracked", "ann", "account:ml"): Fraction(1, 6),
        ("unknown", None, None): Fraction(1, 2),
        ("idle", None, None): Fraction(1, 3),
    }
    (line,) = (line for line in hour.lines if line.kind is Kind.UNTRACKED)
    assert (line.evidence, line.used_share) == ("sacct 7", None)


def test_gpus_of_a_job_are_those_that_nobody_was_seen_on() -> None:
    # Bob sits on g0 and ann on g1; her job had three of the four.
    script = Script().alive(0, 3600).windows(0, 3600).devices(0, *GPUS)
    script.key_frames(0, 3600, seen_on("device:g0", BOB), seen_on("device:g1", ANN))
    hour = deal([*script.events, job(0, 3600, device_milli=3000)], CostPolicy(host_share_ppm=0))
    assert parts(hour) == {
        ("untracked", "bob", None): Fraction(1, 4),
        ("run", "ann", "account:ml"): Fraction(1, 4),
        ("untracked", "ann", "account:ml"): Fraction(1, 2),
    }


def test_jobs_beyond_what_is_free_are_scaled_down_together() -> None:
    script = Script().alive(0, 3600).windows(0, 3600, (BOB, 1))
    two = job(0, 3600, owner="eva", reservation_id="r2", seq=1001, cpu_milli=2000, account=None)
    found = parts(deal([*script.events, job(0, 3600, cpu_milli=4000), two]))
    assert found == {
        ("untracked", "bob", None): Fraction(1, 4),
        ("untracked", "ann", "account:ml"): Fraction(1, 2),
        ("untracked", "eva", None): Fraction(1, 4),
    }


def test_an_owned_node_without_an_agent_is_there_until_its_last_job_ends() -> None:
    owned = CostPolicy(presence=PresenceRule(PresenceMode.OWNED, HOUR))
    one = job(0, 1800, cpu_milli=4000, device_milli=1000, node_devices=2)
    hour = deal([one, replace(one, reservation_id="r2", seq=1001, owner="eva", start_us=at(2700), end_us=at(3600), wall_us=at(3600))], owned)  # fmt: skip
    assert (hour.presence_us, hour.observed_us) == (HOUR_US, 0)
    # 10 % for the host, 45 % for each of two nameless GPUs, of which each job had one.
    whole = Fraction(1, 10) + Fraction(45, 100)
    assert parts(hour) == {
        ("untracked", "ann", "account:ml"): whole / 2,
        ("untracked", "eva", "account:ml"): whole / 4,
        ("unknown", None, None): 1 - whole * Fraction(3, 4),
    }
    assert {line.resource for line in hour.lines} == {"host", "device:gpu-0", "device:gpu-1"}


def test_a_node_without_agent_or_owner_has_no_hours() -> None:
    assert deal([job(0, 3600, cpu_milli=4000)]).presence_us == 0


@pytest.mark.parametrize(
    ("first", "second", "end_s"),
    [
        ({"is_over": False, "end_us": at(900)}, {"is_over": True, "end_us": at(600)}, 600),
        ({"is_over": False, "end_us": at(900)}, {"is_over": False, "end_us": at(600), "read_us": 9}, 900),
        ({"end_us": at(900), "read_us": 1}, {"end_us": at(600), "read_us": 2}, 600),
    ],
    ids=["an end beats going on", "a longer time beats a later reading", "the later reading of two ends"],
)
def test_of_two_words_on_a_job_one_counts_in_any_order(
    first: dict[str, Any], second: dict[str, Any], end_s: int
) -> None:
    script = Script().alive(0, 3600).windows(0, 3600)
    words = [
        job(0, 3600, cpu_milli=4000, seq=seq, **fields | {"wall_us": fields["end_us"]})
        for seq, fields in ((1000, first), (1001, second))
    ]
    for order in (words, words[::-1]):
        found = parts(deal([*script.events, *order]))
        assert found["untracked", "ann", "account:ml"] == Fraction(end_s, 3600)


def test_a_shorter_word_deals_the_hours_of_the_longer_one_again() -> None:
    longer = job(0, 9000, cpu_milli=1000, is_over=False)
    shorter = job(0, 1800, cpu_milli=1000, seq=1001)
    events = Script().alive(-3600, 14_400).events
    touched = hours_touched([shorter], known=[*events, longer], policy=POLICIES[0])
    assert touched == {HOUR, HOUR + HOUR_US, HOUR + 2 * HOUR_US}


@st.composite
def jobs(draw: st.DrawFn) -> list[NodeEvent]:
    """Jobs around HOUR, some said twice."""
    found: list[NodeEvent] = []
    for number in range(draw(st.integers(1, 6))):
        start_s = draw(st.integers(-7200, 7200))
        end_s = start_s + draw(st.sampled_from((0, 1, 600, 3600, 9000)))
        found.append(
            job(
                start_s,
                end_s,
                owner=draw(st.sampled_from(("ann", "bob", None))),
                account=draw(st.sampled_from((None, "account:ml", "namespace:web"))),
                reservation_id=f"r{draw(st.integers(0, 3))}",
                seq=1000 + number,
                is_over=draw(st.booleans()),
                read_us=draw(st.integers(0, 2)),
                cpu_milli=draw(st.sampled_from((0, 333, 1000, 9000))),
                node_cores=draw(st.sampled_from((None, 3, 64))),
                device_milli=draw(st.sampled_from((0, 125, 1000, 7000))),
                node_devices=draw(st.sampled_from((None, 2))),
            )
        )
    return found


slow = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
hours = st.sampled_from((HOUR - HOUR_US, HOUR, HOUR + HOUR_US))


@slow
@given(histories(), jobs(), st.sampled_from(POLICIES), hours)
def test_jobs_take_only_what_was_idle_or_unknown_and_sums_stay(
    events: list[NodeEvent], told: list[NodeEvent], policy: CostPolicy, hour_us: int
) -> None:
    with_jobs, before = deal([*events, *told], policy, hour_us), deal(events, policy, hour_us)
    # NodeHour itself refuses lines that do not sum to the presence.
    assert all(line.used_share is None or 0 <= line.used_share <= line.held_share for line in with_jobs.lines)
    if with_jobs.presence_us != before.presence_us:  # an owned node that its jobs make longer there
        assert policy.presence.mode is PresenceMode.OWNED
        return
    held = [_held(hour) for hour in (before, with_jobs)]
    for who, share in held[0].items():
        if who[0] in ("run", "system"):
            assert abs(held[1].get(who, 0) - share) <= 64, who
        elif who[0] == "untracked":
            assert held[1].get(who, 0) >= share - 64, who
        else:
            assert held[1].get(who, 0) <= share + 64, who


def _held(hour: NodeHour) -> dict[tuple[str, str | None, str | None, str], int]:
    """Shares whatever the account; rounding moves a share or two of a line."""
    found: dict[tuple[str, str | None, str | None, str], int] = {}
    for line in hour.lines:
        key = (str(line.kind), line.run_id, line.owner, line.resource)
        found[key] = found.get(key, 0) + line.held_share
    return found


@slow
@given(histories(), jobs(), st.sampled_from(POLICIES), hours, st.randoms(use_true_random=False))
def test_order_repetition_and_cutting_change_nothing(
    events: list[NodeEvent], told: list[NodeEvent], policy: CostPolicy, hour_us: int, shuffle: random.Random
) -> None:
    events = [
        replace(event, cores=event.seq % 3) if isinstance(event, NodePresent) else event for event in events
    ]
    everything = [*events, *told]
    again = [*everything, *shuffle.sample(everything, len(everything) // 2)]
    shuffle.shuffle(again)
    dealt = deal(everything, policy, hour_us)
    assert deal(again, policy, hour_us) == dealt
    assert deal_node_hour(cut_stream("n", again, hour_us, policy=policy), hour_us, policy) == dealt


@slow
@given(histories(), jobs(), st.sampled_from(POLICIES), hours)
def test_hours_that_jobs_change_are_among_the_touched(
    events: list[NodeEvent], told: list[NodeEvent], policy: CostPolicy, hour_us: int
) -> None:
    before, after = deal(events, policy, hour_us), deal([*events, *told], policy, hour_us)
    if before != after:
        assert hour_us in hours_touched(told, known=events, policy=policy)


def test_devices_that_a_later_job_tells_divide_no_earlier_hour() -> None:
    policy = CostPolicy(presence=PresenceRule(PresenceMode.OWNED, HOUR))
    first = job(0, 3600, device_milli=1000, node_devices=2)
    later = job(7200, 10800, reservation_id="r2", seq=1001, device_milli=1000, node_devices=8)
    assert deal([first, later], policy).lines == deal([first], policy).lines
