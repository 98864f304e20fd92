"""A slow second opinion on a node-hour: Fractions, one elementary interval at a time, nothing carried along.

Written from the rules and apart from the product: the hour is cut at every time that any event names, and for
each piece the state of the node is looked up from the whole history. It shares the event types with the
product, and no code.
"""

import math
from dataclasses import dataclass, field
from fractions import Fraction

from trainledger_ingest.cost.node_events import (
    Allocation,
    AllocationHolder,
    Device,
    Devices,
    DeviceUse,
    Gap,
    Holder,
    NodeEvent,
    NodePresent,
    ProcessUsage,
)
from trainledger_ingest.cost.policy import CostPolicy

HOUR_US = 3600 * 10**6
Key = tuple[str, str, str | None, int | None, str | None, str | None]


@dataclass
class SlowHour:
    """Presence, observation and whole shares by (resource, kind, run, attempt, owner, account)."""

    presence_us: int = 0
    observed_us: int = 0
    exact: dict[Key, Fraction] = field(default_factory=dict)
    shares: dict[Key, int] = field(default_factory=dict)
    used: dict[Key, int | None] = field(default_factory=dict)
    unseen: dict[Key, int] = field(default_factory=dict)
    _unused: dict[Key, Fraction] = field(default_factory=dict)
    _unseen: dict[Key, Fraction] = field(default_factory=dict)

    def settle(self) -> None:
        """Whole shares, and of each what was measured as used: None where nothing was."""
        total = self.presence_us * 10**6
        if sum(self.exact.values()) != total:
            raise ArithmeticError("the slow rules do not add up")
        self.shares = _deal(total, self.exact)
        for key, share in self.shares.items():
            unused, unseen = self._unused.get(key, Fraction(0)), self._unseen.get(key, Fraction(0))
            used = max(0, share - math.floor(unused) - math.floor(unseen))
            self.used[key], self.unseen[key] = used, min(share - used, math.floor(unseen))
            if key[1] == "unknown" or (share and unseen >= self.exact[key]):
                self.used[key], self.unseen[key] = None, share
            elif key[1] == "idle":
                self.used[key], self.unseen[key] = 0, 0

    def add(self, key: Key, shares: Fraction, busy: Fraction | None) -> None:
        """Shares of one moment, of which `busy` (None: nobody measured) were used."""
        self.exact[key] = self.exact.get(key, Fraction(0)) + shares
        sums = self._unseen if busy is None else self._unused
        sums[key] = sums.get(key, Fraction(0)) + (shares if busy is None else shares * (1 - busy))


# What somebody holds at one moment: a fraction of the node, and which part of that is used (None: not measured).
Part = tuple[Key, Fraction, Fraction | None]


def slow_node_hour(events: list[NodeEvent], hour_us: int, policy: CostPolicy) -> SlowHour:
    """Deal one hour of a node from its whole history."""
    history = _History(events, hour_us, policy)
    result = SlowHour()
    cuts = sorted(history.cuts())
    for start_us, end_us in zip(cuts, cuts[1:], strict=False):
        length_us = end_us - start_us
        boot = history.live_boot(start_us)
        if boot is None and not history.is_present(start_us):
            continue
        result.presence_us += length_us
        if boot is not None:
            result.observed_us += length_us
        for key, fraction, busy in history.held(start_us, boot):
            result.add(key, fraction * length_us * 10**6, busy)
    result.settle()
    return result


def _deal(total: int, parts: dict[Key, Fraction]) -> dict[Key, int]:
    """Whole parts of `total` by largest remainder; `parts` sum to something that `total` is dealt over."""
    whole = sum(parts.values())
    if not whole:
        return dict.fromkeys(parts, 0)
    wanted = {key: part * total / whole for key, part in parts.items()}
    given = {key: math.floor(value) for key, value in wanted.items()}
    ranking = sorted(wanted, key=lambda key: (given[key] - wanted[key], _order(key)))
    for key in ranking[: total - sum(given.values())]:
        given[key] += 1
    return given


def _order(key: Key) -> tuple[str, str, str, int, str, str]:
    resource, kind, run_id, attempt, owner, account = key
    return (resource, kind, run_id or "", -1 if attempt is None else attempt, owner or "", account or "")


def _key(resource: str, holder: Holder) -> Key:
    return (resource, str(holder.kind), holder.run_id, holder.attempt, holder.owner, holder.account)


def _who(holder: Holder) -> tuple[str | None, ...]:
    if holder.kind == "run":
        return (str(holder.kind), holder.run_id)
    return (str(holder.kind), holder.owner, holder.account)


def _covering(holder: Holder, claims: list[AllocationHolder]) -> AllocationHolder | None:
    """The last claim that is the holder's own, else the last one of the job that a process without a run is in."""
    own = [item for item in claims if _who(item.holder) == _who(holder)]
    of_job = [
        item
        for item in claims
        if holder.kind == "untracked"
        and holder.account is not None
        and holder.account == item.holder.account
        and holder.owner in (item.holder.owner, None)
    ]
    found = own or of_job
    return found[-1] if found else None


class _History:
    def __init__(self, events: list[NodeEvent], hour_us: int, policy: CostPolicy) -> None:
        known = {(event.producer_id, event.seq): event for event in reversed(events)}
        self.events = sorted(known.values(), key=lambda event: (event.wall_us, event.producer_id, event.seq))
        self.hour_us = hour_us
        self.policy = policy
        self.present = [event for event in self.events if isinstance(event, NodePresent)]
        self.spans = [
            span for boot in {event.boot_id for event in self.present} for span in self._spans(boot)
        ]

    def _spans(self, boot: str) -> list[tuple[int, int, bool, str]]:
        """(start, end, watched, boot) between neighbouring node events of a boot."""
        chain = sorted(
            (event for event in self.present if event.boot_id == boot),
            key=lambda event: (event.boot_us, event.wall_us, event.producer_id, event.seq),
        )
        spans = []
        if self.policy.presence.mode == "boot":
            spans.append((chain[0].wall_us - chain[0].boot_us, chain[0].wall_us, False, boot))
        for index in range(1, len(chain)):
            wall = chain[index].wall_us - chain[index - 1].wall_us
            booted = chain[index].boot_us - chain[index - 1].boot_us
            length = booted if abs(wall - booted) > 2_000_000 else wall
            start = chain[index - 1].wall_us
            spans.append((start, start + length, length <= 90_000_000, boot))
        return spans

    def cuts(self) -> set[int]:
        cuts: set[int] = {self.hour_us, self.hour_us + HOUR_US}
        for start, end, _, _ in self.spans:
            cuts |= {start, end}
        for event in self.events:
            cuts.add(event.wall_us)
            if isinstance(event, Gap | ProcessUsage | DeviceUse):
                cuts |= {event.start_us, event.end_us}
            if isinstance(event, Allocation):
                cuts.add(event.wall_us + self.policy.allocation_age_us_max)
        rule = self.policy.presence
        cuts |= {edge for edge in (rule.owned_from_us, rule.owned_to_us) if edge is not None}
        return {cut for cut in cuts if self.hour_us <= cut <= self.hour_us + HOUR_US}

    def is_present(self, at: int) -> bool:
        rule = self.policy.presence
        if rule.mode == "owned":
            last = max((event.wall_us for event in self.present), default=0)
            begun = rule.owned_from_us is None or rule.owned_from_us <= at
            return begun and at < last and (rule.owned_to_us is None or at < rule.owned_to_us)
        return any(start <= at < end for start, end, _, _ in self.spans)

    def live_boot(self, at: int) -> str | None:
        if not self.is_present(at):
            return None
        if any(isinstance(event, Gap) and event.start_us <= at < event.end_us for event in self.events):
            return None
        watching = [
            (max(start, self.hour_us), min(end, self.hour_us + HOUR_US), boot)
            for start, end, watched, boot in self.spans
            if watched and start <= at < end
        ]
        return min(watching)[2] if watching else None

    def held(self, at: int, boot: str | None) -> list[Part]:
        """Fractions of the node at one moment; they sum to 1."""
        devices = self._devices(at, boot)
        host = Fraction(1)
        if devices:
            ppm = 100_000 if self.policy.host_share_ppm is None else self.policy.host_share_ppm
            host = Fraction(ppm, 10**6)
        allocation = self._allocation(at, boot)
        parts = [(key, host * part, busy) for key, part, busy in self._host(at, boot, allocation)]
        weights = {device.uuid: self._weight(device) for device in devices}
        for device in devices:
            pool = (1 - host) * weights[device.uuid] / sum(weights.values())
            resource = f"device:{device.uuid}"
            if boot is None or allocation is None:
                parts.append(((resource, "unknown", None, None, None, None), pool, None))
                continue
            for key, part, slice_name in _device(resource, allocation):
                is_idle = key[1] == "idle"
                busy = Fraction(0) if is_idle else self._busy(at, boot, device.uuid, slice_name)
                parts.append((key, pool * part, busy))
        return parts

    def _busy(self, at: int, boot: str, uuid: str, slice_name: str) -> Fraction | None:
        """How busy a device or slice was measured to be, by the first window that has it."""
        found = [
            (event.start_us, event.end_us, event.producer_id, event.seq, place)
            for event in self.events
            if isinstance(event, DeviceUse) and event.boot_id == boot and event.start_us <= at < event.end_us
            for place, name in enumerate(event.places)
            if name == (uuid, slice_name)
        ]
        if not found:
            return None
        *_, number, place = min(found)
        (busy,) = [e.busy_ppm[place] for e in self.events if isinstance(e, DeviceUse) and e.seq == number]
        return Fraction(busy, 10**6)

    def _weight(self, device: Device) -> int:
        return dict(self.policy.device_weights).get(device.model, device.weight)

    def _devices(self, at: int, boot: str | None) -> tuple[Device, ...]:
        lists = [
            event for event in self.events if isinstance(event, Devices) and boot in (None, event.boot_id)
        ]
        before = [event for event in lists if event.wall_us <= at]
        return before[-1].devices if before else lists[0].devices if lists else ()

    def _allocation(self, at: int, boot: str | None) -> tuple[AllocationHolder, ...] | None:
        last = None
        for event in self.events:
            if isinstance(event, Allocation) and event.boot_id == boot and event.wall_us <= at:
                last = event
        if last is None or at >= last.wall_us + self.policy.allocation_age_us_max:
            return None
        return last.holders

    def _host(self, at: int, boot: str | None, allocation: tuple[AllocationHolder, ...] | None) -> list[Part]:
        unknown: Key = ("host", "unknown", None, None, None, None)
        if boot is None:
            return [(unknown, Fraction(1), None)]
        claims = [item for item in allocation or () if item.resource == "host" and item.denominator]
        reserved: dict[Key, Fraction] = {}
        for item in claims:
            key = _key("host", item.holder)
            reserved[key] = reserved.get(key, Fraction(0)) + Fraction(item.numerator, item.denominator)
        over = max(Fraction(1), sum(reserved.values(), Fraction(0)))
        reserved = {key: part / over for key, part in reserved.items()}
        free = 1 - sum(reserved.values(), Fraction(0))
        windows = [
            event
            for event in self.events
            if isinstance(event, ProcessUsage)
            and event.boot_id == boot
            and event.start_us <= at < event.end_us
        ]
        if not windows:
            return [*((key, part, None) for key, part in reserved.items()), (unknown, free, None)]
        window = min(windows, key=lambda event: (event.start_us, event.end_us, event.producer_id, event.seq))
        capacity = window.cores * (window.end_us - window.start_us)
        # CPU time of a claimant is for what it reserved last; nobody reserves twice, but attempts might.
        used: dict[Key, Fraction] = {}
        inside = dict.fromkeys(reserved, Fraction(0))
        for holder, cpu_us in window.usage:
            covering = _covering(holder, claims)
            if covering is not None:
                inside[_key("host", covering.holder)] += Fraction(cpu_us, capacity)
            else:
                used[_key("host", holder)] = used.get(_key("host", holder), Fraction(0)) + cpu_us
        room = math.floor(capacity * free)
        if sum(used.values()) > room:
            used = {key: Fraction(value) for key, value in _deal(room, used).items()}
        idle = free - sum(used.values(), Fraction(0)) / capacity
        return [
            *(
                (key, part, min(Fraction(1), inside[key] / part) if part else Fraction(0))
                for key, part in reserved.items()
            ),
            *((key, value / capacity, Fraction(1)) for key, value in used.items()),
            (("host", "idle", None, None, None, None), idle, Fraction(0)),
        ]


def _device(resource: str, allocation: tuple[AllocationHolder, ...]) -> list[tuple[Key, Fraction, str]]:
    """Fractions of one device and the slice that each is on. What nobody holds is idle, and unknown where it is
    said that nobody can tell who is there: then presence says nothing, and claims hold."""
    here = [item for item in allocation if item.resource == resource]
    is_strange = any(item.holder.kind == "unknown" for item in here)
    claims = [item for item in here if item.denominator]
    there = [item for item in here if not item.denominator and item.holder.kind not in ("system", "unknown")]
    parts = _claimed(resource, claims)
    free = 1 - sum((part for _, part, _ in parts), Fraction(0))
    if not is_strange:
        parts += _present(resource, claims, there, free)
    rest = 1 - sum((part for _, part, _ in parts), Fraction(0))
    return [*parts, ((resource, "unknown" if is_strange else "idle", None, None, None, None), rest, "")]


def _claimed(resource: str, claims: list[AllocationHolder]) -> list[tuple[Key, Fraction, str]]:
    """Claims: of one claimant no more than the device, of all together no more than the device."""
    sizes = [
        Fraction(item.part_numerator * item.numerator, item.part_denominator * item.denominator)
        for item in claims
    ]
    each: dict[tuple[str | None, ...], Fraction] = {}
    for item, size in zip(claims, sizes, strict=True):
        each[_who(item.holder)] = each.get(_who(item.holder), Fraction(0)) + size
    over = max(Fraction(1), sum((min(Fraction(1), size) for size in each.values()), Fraction(0)))
    return [
        (
            _key(resource, item.holder),
            size / max(Fraction(1), each[_who(item.holder)]) / over,
            item.part_id,
        )
        for item, size in zip(claims, sizes, strict=True)
    ]


def _present(
    resource: str, claims: list[AllocationHolder], there: list[AllocationHolder], free: Fraction
) -> list[tuple[Key, Fraction, str]]:
    """Who is there without a claim: on a slice that nobody claimed, or on a device without claims and slices, the
    claimants share it equally; on what others claimed they pay nothing."""
    claimed = {item.part_id for item in claims}
    is_sliced = any(item.part_id for item in [*claims, *there])
    slices = list(dict.fromkeys(item.part_id for item in there))
    shared: dict[str, Fraction] = {}
    for name in slices:
        first = next(item for item in there if item.part_id == name)
        if name not in claimed and (name or not (claims or is_sliced)):
            shared[name] = Fraction(first.part_numerator, first.part_denominator)
    wanted = sum(shared.values(), Fraction(0))
    parts: list[tuple[Key, Fraction, str]] = []
    for name in slices:
        holders = list(dict.fromkeys(item.holder for item in there if item.part_id == name))
        people = {_who(holder) for holder in holders}
        for holder in holders:
            if name in shared:
                twins = sum(1 for other in holders if _who(other) == _who(holder))
                part = shared[name] / len(people) / twins * min(Fraction(1), free / wanted)
                parts.append((_key(resource, holder), part, name))
            elif _covering(holder, claims) is None:
                parts.append((_key(resource, holder), Fraction(0), name))
    return parts
