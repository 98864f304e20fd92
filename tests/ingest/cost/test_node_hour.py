"""A node-hour goes to those who held it; what nobody watched is unknown, and never idle."""

from collections import Counter
from dataclasses import replace

import pytest

from support.cost_events import HOUR, MINUTE_US, SECOND_US, Script, at, claim, run, seen_on
from trainledger_ingest.cost.frames import cut_frames
from trainledger_ingest.cost.host_pool import join_for_host
from trainledger_ingest.cost.node_events import (
    HOUR_US,
    Allocation,
    AllocationHolder,
    Device,
    Devices,
    Holder,
    Kind,
    NodePresent,
)
from trainledger_ingest.cost.node_hour import SHARES_PER_US, Line, NodeHour, deal_node_hour
from trainledger_ingest.cost.node_stream import NodeStream
from trainledger_ingest.cost.policy import CostPolicy
from trainledger_ingest.cost.presence import Interval, PresenceMode, PresenceRule, find_presence
from trainledger_schemas.errors import InvariantError

A, B, C = run("a"), run("b"), run("c")
BOB = Holder(Kind.UNTRACKED, owner="bob")
ANN_OUTSIDE = Holder(Kind.UNTRACKED, owner="ann")


def deal(script: Script, policy: CostPolicy | None = None, hour_us: int = HOUR) -> NodeHour:
    return deal_node_hour(NodeStream("node-1", tuple(script.events)), hour_us, policy or CostPolicy())


def seconds(dealt: NodeHour, resource: str | None = None) -> dict[str, float]:
    """Node-seconds by run id, or by kind where there is no run."""
    sums: Counter[str] = Counter()
    for line in dealt.lines:
        if resource is None or line.resource == resource:
            sums[line.run_id or str(line.kind)] += line.held_share
    return {name: share / SHARES_PER_US / SECOND_US for name, share in sums.items()}


def test_cpu_time_pays_its_part_of_the_cores_and_the_rest_is_idle() -> None:
    system = Holder(Kind.SYSTEM)
    script = Script().alive(0, 600).windows(0, 600, (A, 2), (BOB, 1), (system, 0.5))
    dealt = deal(script)
    assert dealt.presence_us == dealt.observed_us == 10 * MINUTE_US
    assert seconds(dealt) == {"a": 300, "untracked": 150, "system": 75, "idle": 75}
    assert [line.owner for line in dealt.lines if line.kind is Kind.UNTRACKED] == ["bob"]


def test_cpu_time_beyond_the_cores_is_scaled_down_to_the_node() -> None:
    assert seconds(deal(Script().alive(0, 60).windows(0, 60, (A, 6), (B, 2)))) == {"a": 45, "b": 15}


def test_time_without_a_usage_window_is_unknown_although_the_node_was_there() -> None:
    dealt = deal(Script().alive(0, 120).windows(0, 60, (A, 4)))
    assert seconds(dealt) == {"a": 60, "unknown": 60}
    assert [line.evidence for line in dealt.lines if line.kind is Kind.UNKNOWN] == ["no usage window"]


def test_ninety_seconds_between_node_events_are_watched_and_more_is_all_unknown() -> None:
    whole = deal(Script().present(0, 90).windows(0, 90))
    assert (whole.observed_us, seconds(whole)) == (90 * SECOND_US, {"idle": 90})
    holed = deal(Script().present(0, 90.000001).windows(0, 90))
    assert (holed.presence_us, holed.observed_us) == (90_000_001, 0)
    assert {line.kind for line in holed.lines} == {Kind.UNKNOWN}
    assert [line.evidence for line in holed.lines] == ["gap"]


def test_a_crashed_agent_that_comes_back_in_the_same_boot_leaves_unknown_time() -> None:
    script = Script().alive(0, 600).windows(0, 600, (A, 4)).alive(1800, 2400).windows(1800, 2400, (A, 4))
    assert seconds(deal(script)) == {"a": 1200, "unknown": 1200}


def test_a_node_that_never_comes_back_is_billed_to_its_last_event_only() -> None:
    dealt = deal(Script().alive(0, 600).windows(0, 900, (A, 4)))
    assert (dealt.presence_us, seconds(dealt)) == (600 * SECOND_US, {"a": 600})


def test_time_between_two_boots_is_not_presence() -> None:
    script = Script("boot-1").alive(0, 60).windows(0, 60)
    second = Script("boot-2").alive(100, 160).windows(100, 160)
    script.events += [replace(event, producer_id="second") for event in second.events]
    assert deal(script).presence_us == 120 * SECOND_US


def test_a_clock_set_forward_makes_no_presence() -> None:
    script = Script().present(0, 30, boot_wall_s=-100).present(2000, 2030, boot_wall_s=1840).windows(0, 2100)
    # 30 s watched, 30 s from the boot clock, 30 s watched after the clock was set.
    assert deal(script).presence_us == 90 * SECOND_US


def test_a_clock_set_back_counts_no_time_twice() -> None:
    script = Script().present(600, 660, boot_wall_s=0).present(630, 690, boot_wall_s=-60).windows(600, 700)
    assert deal(script).presence_us == 90 * SECOND_US


def test_a_reported_gap_is_unknown_and_nobody_pays_for_it() -> None:
    assert seconds(deal(Script().alive(0, 120).windows(0, 120, (A, 4)).gap(30, 60))) == {
        "a": 90,
        "unknown": 30,
    }


def test_presence_and_windows_are_cut_at_the_hour_on_both_sides() -> None:
    script = Script().alive(-600, 4200).windows(-605, 4205, (A, 1))
    assert seconds(deal(script)) == {"a": 900, "idle": 2700}
    assert seconds(deal(script, hour_us=HOUR - HOUR_US)) == {"a": 150, "idle": 450}
    assert seconds(deal(script, hour_us=HOUR + HOUR_US)) == {"a": 150, "idle": 450}


def test_presence_from_boot_bills_the_time_before_the_agent_as_unknown() -> None:
    script = Script().present(600, 660, boot_wall_s=300).windows(600, 660, (A, 4))
    policy = CostPolicy(presence=PresenceRule(PresenceMode.BOOT))
    assert seconds(deal(script)) == {"a": 60}
    assert seconds(deal(script, policy)) == {"unknown": 300, "a": 60}


def test_an_owned_node_is_billed_between_its_dates_up_to_now() -> None:
    script = Script().alive(600, 660).windows(600, 660, (A, 4))
    policy = CostPolicy(presence=PresenceRule(PresenceMode.OWNED, at(300), None))
    assert seconds(deal(script, policy)) == {"unknown": 300, "a": 60}
    stream = NodeStream("node-1", tuple(script.events), until_us=at(1000))
    assert seconds(deal_node_hour(stream, HOUR, policy)) == {"unknown": 640, "a": 60}
    empty = NodeStream("node-1", (), until_us=at(9000))
    assert seconds(deal_node_hour(empty, HOUR, policy)) == {"unknown": 3300}


def test_a_reservation_pays_for_its_cores_whether_used_or_not() -> None:
    script = Script().alive(0, 100).allocation(0, claim("host", A, 2, 4)).windows(0, 100, (A, 0.5), (B, 1))
    dealt = deal(script)
    assert seconds(dealt) == {"a": 50, "b": 25, "idle": 25}
    used = {line.run_id: line.used_share for line in dealt.lines if line.run_id}
    assert used == {"a": 12.5 * 1e12, "b": 25 * 1e12}


def test_unreserved_runs_share_what_reservations_left() -> None:
    script = (
        Script().alive(0, 100).allocation(0, claim("host", A, 3, 4)).windows(0, 100, (A, 4), (B, 2), (C, 2))
    )
    assert seconds(deal(script)) == {"a": 75, "b": 12.5, "c": 12.5}


def test_reservations_hold_without_usage_windows_and_the_rest_is_unknown() -> None:
    dealt = deal(Script().alive(0, 100).allocation(0, claim("host", A, 1, 4)))
    assert seconds(dealt) == {"a": 25, "unknown": 75}
    assert [line.used_share for line in dealt.lines] == [None, None]


def gpu_node(*holders: AllocationHolder, gpus: int = 1) -> Script:
    script = Script().alive(0, 100).devices(0, *(Device(f"g{number}") for number in range(gpus)))
    return script.allocation(0, *holders).windows(0, 100)


def test_a_gpu_node_is_nine_tenths_devices_and_a_cpu_node_all_host() -> None:
    dealt = deal(gpu_node())
    assert seconds(dealt, "host") == {"idle": 10}
    assert seconds(dealt, "device:g0") == {"idle": 90}
    assert seconds(deal(gpu_node(), CostPolicy(host_share_ppm=250_000)), "host") == {"idle": 25}
    plain = Script().alive(0, 100).windows(0, 100)
    assert seconds(deal(plain, CostPolicy(host_share_ppm=250_000))) == {"idle": 100}


def test_runs_present_on_a_device_share_equally_however_many_processes_they_have() -> None:
    holders = [seen_on("device:g0", holder) for holder in (A, A, A, B, BOB, Holder(Kind.SYSTEM))]
    assert seconds(deal(gpu_node(*holders)), "device:g0") == {"a": 30, "b": 30, "untracked": 30}


def test_two_attempts_of_a_run_are_one_run_on_a_device() -> None:
    holders = [seen_on("device:g0", holder) for holder in (A, run("a", 2), B)]
    dealt = deal(gpu_node(*holders))
    assert seconds(dealt, "device:g0") == {"a": 45, "b": 45}
    shares = {line.attempt: line.held_share for line in dealt.lines if line.run_id == "a"}
    assert shares == {1: 22.5 * 1e12, 2: 22.5 * 1e12}


def test_a_claim_beats_presence_and_the_intruder_pays_nothing_but_is_named() -> None:
    dealt = deal(gpu_node(claim("device:g0", A), seen_on("device:g0", A), seen_on("device:g0", B)))
    assert seconds(dealt, "device:g0") == {"a": 90, "b": 0}
    assert [(line.held_share, line.evidence) for line in dealt.lines if line.run_id == "b"] == [
        (0, "intruder")
    ]


def test_what_claims_leave_of_a_device_is_idle_even_with_others_on_it() -> None:
    dealt = deal(gpu_node(claim("device:g0", A, 4, 8), claim("device:g0", B, 1, 8), seen_on("device:g0", C)))
    assert seconds(dealt, "device:g0") == {"a": 45, "b": 11.25, "c": 0, "idle": 33.75}


def test_a_run_whose_ranks_all_claim_the_device_weighs_no_more_than_another() -> None:
    dealt = deal(gpu_node(claim("device:g0", A), claim("device:g0", A), claim("device:g0", B)))
    assert seconds(dealt, "device:g0") == {"a": 45, "b": 45}


def test_presence_on_an_unclaimed_slice_pays_that_slice_beside_a_claimed_one() -> None:
    def slice_of(name: str, size: int, *, by: AllocationHolder) -> AllocationHolder:
        return replace(by, part_id=name, part_numerator=size, part_denominator=8)

    dealt = deal(
        gpu_node(
            slice_of("mig-1", 4, by=claim("device:g0", A)),
            slice_of("mig-2", 2, by=seen_on("device:g0", B)),
            slice_of("mig-2", 2, by=seen_on("device:g0", C)),
            slice_of("mig-1", 4, by=seen_on("device:g0", BOB)),
        )
    )
    assert seconds(dealt, "device:g0") == {"a": 45, "b": 11.25, "c": 11.25, "untracked": 0, "idle": 22.5}


def test_devices_share_the_pool_by_weight_and_the_price_book_sets_weights_by_model() -> None:
    script = Script().alive(0, 100).devices(0, Device("g0", "H100"), Device("g1", "T4")).windows(0, 100)
    script.allocation(0, claim("device:g0", A), claim("device:g1", B))
    assert seconds(deal(script))["a"] == 45
    assert seconds(deal(script, CostPolicy(device_weights=(("H100", 2),))))["a"] == 60


def test_a_device_is_unknown_until_somebody_says_who_holds_it_and_after_it_was_not_repeated() -> None:
    script = Script().alive(0, 2000).devices(0, Device("g0")).windows(0, 2000)
    script.allocation(100, claim("device:g0", A))
    held = seconds(deal(script, CostPolicy(host_share_ppm=0)))
    assert held == {"a": 660, "unknown": 1340}


def test_an_allocation_of_the_boot_before_says_nothing_about_this_one() -> None:
    script = Script("boot-1").devices(0, Device("g0")).allocation(0, claim("device:g0", A)).alive(0, 30)
    second = Script("boot-2").devices(40, Device("g0")).alive(40, 100)
    script.events += [replace(event, producer_id="second") for event in second.events]
    assert seconds(deal(script, CostPolicy(host_share_ppm=0))) == {"a": 30, "unknown": 60}


def test_measured_use_of_a_device_is_told_beside_what_is_held_and_moves_no_money() -> None:
    script = gpu_node(claim("device:g0", A))
    plain = deal(script)
    script.use(0, 50, g0=600_000).use(50, 100, g0=0)
    dealt = deal(script)
    assert [line.held_share for line in dealt.lines] == [line.held_share for line in plain.lines]
    (of_a,) = [line for line in dealt.lines if line.run_id == "a"]
    assert of_a.used_share == 27 * 10**12
    assert [line.used_share for line in plain.lines if line.run_id == "a"] == [None]


def test_a_run_without_cpu_time_has_a_line_of_nothing_rather_than_none() -> None:
    dealt = deal(Script().alive(0, 60).windows(0, 60, (A, 0)))
    assert [(line.held_share, line.used_share) for line in dealt.lines if line.run_id == "a"] == [(0, 0)]


def test_an_hour_without_presence_has_no_lines() -> None:
    assert deal(Script().windows(0, 60, (A, 4))) == NodeHour("node-1", HOUR, 0, 0, ())


def test_lost_shares_an_hour_that_is_not_whole_and_impossible_presence_are_refused() -> None:
    line = Line(Kind.IDLE, None, None, None, "host", 1, 0, "")
    with pytest.raises(InvariantError, match="lines hold 1 shares"):
        NodeHour("node-1", HOUR, 1, 1, (line,))
    with pytest.raises(InvariantError, match="in one hour"):
        NodeHour("node-1", HOUR, HOUR_US + 1, 1, ())
    with pytest.raises(InvariantError, match="not the start of a UTC hour"):
        deal_node_hour(NodeStream("node-1", ()), HOUR + 1, CostPolicy())


def test_processes_of_a_job_beside_its_run_are_inside_what_the_job_reserved() -> None:
    of_job = A._replace(account="account:red")
    script = Holder(Kind.UNTRACKED, owner="ann", account="account:red")
    elsewhere = Holder(Kind.UNTRACKED, owner="ann")
    of_another = Holder(Kind.UNTRACKED, owner="bob", account="account:red")
    events = (
        Script()
        .alive(0, 60)
        .devices(0, Device("g0", "m"))
        .allocation(0, claim("host", of_job, 2, 4), claim("device:g0", of_job), seen_on("device:g0", script))
        .windows(0, 60, (of_job, 0.5), (script, 1), (elsewhere, 1), (of_another, 1))
    )
    dealt = deal(events, CostPolicy(host_share_ppm=500_000))
    lines = {(line.resource, line.owner, line.account): line for line in dealt.lines if line.owner}
    # Half of the host and all of the device; the script's core is inside the run's two, the others pay for theirs.
    held = {key: line.held_share / SHARES_PER_US / SECOND_US for key, line in lines.items()}
    assert held == {
        ("host", "ann", "account:red"): 15, ("host", "ann", None): 7.5, ("host", "bob", "account:red"): 7.5,
        ("device:g0", "ann", "account:red"): 30,
    }  # fmt: skip
    assert lines["host", "ann", "account:red"].used_share == 11.25 * SHARES_PER_US * SECOND_US
    assert not any(line.evidence == "intruder" for line in dealt.lines)


def test_what_an_owner_does_outside_of_a_job_is_not_inside_what_the_job_reserved() -> None:
    in_job = Holder(Kind.UNTRACKED, owner="ann", account="account:red")
    events = (
        Script()
        .alive(0, 60)
        .devices(0, Device("g0", "m"))
        .allocation(
            0, claim("host", in_job, 1, 4), claim("device:g0", in_job), seen_on("device:g0", ANN_OUTSIDE)
        )
        .windows(0, 60, (in_job, 1), (ANN_OUTSIDE, 1))
    )
    lines = deal(events, CostPolicy(host_share_ppm=500_000)).lines
    held = {
        (line.resource, line.account): line.held_share / SHARES_PER_US / SECOND_US
        for line in lines
        if line.owner
    }
    assert held == {
        ("host", "account:red"): 7.5, ("host", None): 7.5, ("device:g0", "account:red"): 30, ("device:g0", None): 0
    }  # fmt: skip
    assert [line.evidence for line in lines if not line.held_share] == ["intruder"]


def test_a_device_that_changes_hands_does_not_cut_the_windows_of_the_host() -> None:
    job, on = claim("host", A, 1, 4), [seen_on("device:gpu", who) for who in (A, B)]
    script = Script().alive(0, 60).devices(0, Device("gpu")).windows(0, 60, (A, 2), (B, 1))
    for second, holders in ((0, [job, on[0]]), (15, [job, on[1]]), (35, [job, *on])):
        script.allocation(second, *holders)
    presence = find_presence(
        [event for event in script.events if isinstance(event, NodePresent)],
        [],
        window=Interval(HOUR, HOUR + HOUR_US),
        rule=PresenceRule(),
    )
    frames = cut_frames(
        presence,
        [event for event in script.events if isinstance(event, Allocation)],
        devices=[event for event in script.events if isinstance(event, Devices)],
        allocation_age_us_max=HOUR_US,
    )
    assert [frame.end_us for frame in frames] == [at(15), at(35), at(60)]
    assert [(frame.start_us, frame.end_us, frame.facts.holders) for frame in join_for_host(frames)] == [
        (HOUR, at(60), (job,))
    ]
    dealt = deal(script)
    assert seconds(dealt, "host") == {"a": 1.5, "b": 1.5, "idle": 3}
    assert seconds(dealt, "device:gpu") == {"a": 54 * 27.5 / 60, "b": 54 * 32.5 / 60}
