"""One node, one UTC hour: its presence dealt to those who held it. Pure integer arithmetic.

A node-hour is presence in microseconds x 1,000,000 shares. Every share goes to exactly one line: a run, the
untracked processes of an owner, idle, the system, or unknown (present but not watched: never idle). The lines
sum to the presence exactly, by construction and checked (InvariantError otherwise).

The same set of events gives the same lines in whatever order and however often they come. An hour that has
not ended is dealt up to the last node event and dealt again as events arrive.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from trainledger_ingest.cost.device_pool import DevicePool
from trainledger_ingest.cost.frames import Frame, cut_frames
from trainledger_ingest.cost.host_pool import HostPool, join_for_host, trim_windows
from trainledger_ingest.cost.node_events import (
    HOUR_US,
    Allocation,
    Device,
    Devices,
    DeviceUse,
    Gap,
    Kind,
    NodePresent,
    ProcessUsage,
    Reservation,
)
from trainledger_ingest.cost.node_stream import IN_ORDER, NodeStream, Told, by_type
from trainledger_ingest.cost.policy import WHOLE_PPM, CostPolicy
from trainledger_ingest.cost.presence import Interval, covered_us, find_presence
from trainledger_ingest.cost.reservations import current_reservations, give_reserved
from trainledger_ingest.cost.tally import Tally
from trainledger_schemas.errors import InvariantError

__all__ = ["SHARES_PER_US", "Line", "NodeHour", "deal_node_hour"]

SHARES_PER_US = 1_000_000


class Line(NamedTuple):
    """A part of a node-hour. Shares are millionths of a microsecond of the whole node.

    `used_share`: of the held share, what was measured as used; None if nothing was measured; where only a
    part was measured it is a lower bound. `unseen_share`: of the held share, what was not measured; held less used
    less unseen is what was measured as not used. Information: it never changes who pays.
    """

    kind: Kind
    run_id: str | None
    attempt: int | None
    owner: str | None
    resource: str
    held_share: int
    used_share: int | None
    evidence: str
    unseen_share: int = 0
    account: str | None = None


@dataclass(frozen=True, slots=True)
class NodeHour:
    """A dealt node-hour; `observed_us` of its `presence_us` were watched."""

    node_id: str
    hour_us: int
    presence_us: int
    observed_us: int
    lines: tuple[Line, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.observed_us <= self.presence_us <= HOUR_US:
            raise InvariantError(
                f"node {self.node_id}, hour {self.hour_us}: {self.observed_us} us observed of "
                f"{self.presence_us} us present in one hour"
            )
        held = sum(line.held_share for line in self.lines)
        if held != self.presence_us * SHARES_PER_US or any(line.held_share < 0 for line in self.lines):
            raise InvariantError(
                f"node {self.node_id}, hour {self.hour_us}: lines hold {held} shares, "
                f"presence is {self.presence_us} us x {SHARES_PER_US}"
            )


def deal_node_hour(stream: NodeStream, hour_us: int, policy: CostPolicy) -> NodeHour:
    """Deal one node-hour.

    `stream`: see `cut_stream` for what it must hold; more does no harm. `hour_us`: start of a whole UTC hour.
    Raises InvariantError when shares were lost or made, and for an hour that is not whole.
    """
    if hour_us % HOUR_US:
        raise InvariantError(f"{hour_us} us is not the start of a UTC hour")
    events = by_type([*stream.carry, *stream.events], ordered=(Allocation, Devices))
    reservations = current_reservations(events[Reservation])
    presence = find_presence(
        events[NodePresent],
        events[Gap],
        window=Interval(hour_us, hour_us + HOUR_US),
        rule=policy.presence,
        until_us=stream.until_us,
        reserved_until_us=max((item.end_us for item in reservations), default=None),
    )
    frames = cut_frames(
        presence,
        events[Allocation],
        devices=_weighted(_device_lists(events, reservations, hour_us), policy),
        allocation_age_us_max=policy.allocation_age_us_max,
        reservations=reservations,
    )
    tally = _deal_frames(frames, events, policy)
    presence_us = covered_us(presence.present)
    return NodeHour(
        node_id=stream.node_id,
        hour_us=hour_us,
        presence_us=presence_us,
        observed_us=covered_us(presence.live),
        lines=_lines(tally, presence_us * SHARES_PER_US),
    )


def _deal_frames(frames: Sequence[Frame], events: Told, policy: CostPolicy) -> Tally:
    tally = Tally()
    host = HostPool(trim_windows(events[ProcessUsage]), tally)
    devices = DevicePool(events[DeviceUse], tally)
    _deal_seen([frame for frame in frames if not frame.facts.reserved], host, devices, policy)
    jobs = [frame for frame in frames if frame.facts.reserved]
    for frame in jobs:
        seen = Tally()
        _deal_seen([frame], host.into(seen), devices.into(seen), policy)
        host_ppm = policy.host_ppm(has_devices=bool(frame.facts.devices))
        cores = _cores_at(frame.start_us, events[NodePresent])
        tally.add(give_reserved(frame, seen, host_ppm=host_ppm, cores=cores))
    return tally


def _deal_seen(frames: Sequence[Frame], host: HostPool, devices: DevicePool, policy: CostPolicy) -> None:
    """Deal by what was seen on the node itself."""
    for frame in join_for_host(frames):
        host.deal(frame, policy.host_ppm(has_devices=bool(frame.facts.devices)))
    for frame in frames:
        devices.deal(frame, WHOLE_PPM - policy.host_ppm(has_devices=bool(frame.facts.devices)))


def _cores_at(wall_us: int, present: Sequence[NodePresent]) -> int | None:
    """The cores that the node told last, or told first after."""
    before = [event for event in present if event.wall_us <= wall_us]
    nearest = max(before, key=IN_ORDER) if before else min(present, key=IN_ORDER, default=None)
    return (nearest.cores if nearest else 0) or None


def _device_lists(events: Told, reservations: Sequence[Reservation], hour_us: int) -> Sequence[Devices]:
    """The lists of the agent; where there never was an agent, as many nameless devices as the scheduler says."""
    # What it says of another time divides no job of this hour.
    inside = [item for item in reservations if item.start_us < hour_us + HOUR_US and item.end_us > hour_us]
    count = max((item.node_devices or 0 for item in inside or reservations), default=0)
    if events[Devices] or events[NodePresent] or not count:
        return events[Devices]
    nameless = tuple(Device(f"gpu-{number}") for number in range(count))
    return [Devices(seq=0, wall_us=0, boot_id="", devices=nameless)]


def _lines(tally: Tally, total: int) -> tuple[Line, ...]:
    held_sums, unseen_sums = tally.held.total(), tally.unseen.total()
    unused, unseen = tally.unused.total().floors(), unseen_sums.floors()
    unmeasured = unseen_sums.covers(held_sums)
    lines: list[Line] = []
    for key, share in held_sums.deal(total).items():
        kind = key.holder.kind
        if share == 0 and kind not in (Kind.RUN, Kind.UNTRACKED):
            continue
        used: int | None = max(0, share - unused.get(key, 0) - unseen.get(key, 0))
        blind = min(share - (used or 0), unseen.get(key, 0))
        if kind is Kind.UNKNOWN or (share and key in unmeasured):
            used, blind = None, share
        elif kind is Kind.IDLE:
            used, blind = 0, 0
        _, run_id, attempt, owner, account = key.holder
        known = (key.resource, share, used, tally.evidence(key), blind, account)
        lines.append(Line(kind, run_id, attempt, owner, *known))
    return tuple(lines)


def _weighted(lists: Sequence[Devices], policy: CostPolicy) -> Sequence[Devices]:
    """The lists with the weights of the policy."""
    if not policy.device_weights:
        return lists
    weights = dict(policy.device_weights)
    found = []
    for item in lists:
        devices = (
            Device(device.uuid, device.model, weights.get(device.model, device.weight))
            for device in item.devices
        )
        found.append(replace(item, devices=tuple(devices)))
    return found
