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
    Gap,
    Holder,
    NodeEvent,
    NodePresent,
    ProcessUsage,
)
from trainledger_ingest.cost.policy import CostPolicy

HOUR_US = 3600 * 10**6
Key = tuple[str, str, str | None, int | None, str | None]


@dataclass
class SlowHour:
    """Presence, observation and whole shares by (resource, kind, run, attempt, owner)."""

    presence_us: int = 0
    observed_us: int = 0
    exact: dict[Key, Fraction] = field(default_factory=dict)
    shares: dict[Key, int] = field(default_factory=dict)


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
        for key, fraction in history.held(start_us, boot).items():
            result.exact[key] = result.exact.get(key, Fraction(0)) + fraction * length_us * 10**6
    total = result.presence_us * 10**6
    if sum(result.exact.values()) != total:
        raise ArithmeticError("the slow rules do not add up")
    result.shares = _deal(total, result.exact)
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


def _order(key: Key) -> tuple[str, str, str, int, str]:
    resource, kind, run_id, attempt, owner = key
    return (resource, kind, run_id or "", -1 if attempt is None else attempt, owner or "")


def _key(resource: str, holder: Holder) -> Key:
    return (resource, str(holder.kind), holder.run_id, holder.attempt, holder.owner)


def _who(holder: Holder) -> tuple[str, str | None]:
    return (str(holder.kind), holder.run_id if holder.kind == "run" else holder.owner)


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
            if isinstance(event, Gap | ProcessUsage):
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

    def held(self, at: int, boot: str | None) -> dict[Key, Fraction]:
        """Fractions of the node at one moment; they sum to 1."""
        devices = self._devices(at, boot)
        host = Fraction(1)
        if devices:
            ppm = 100_000 if self.policy.host_share_ppm is None else self.policy.host_share_ppm
            host = Fraction(ppm, 10**6)
        allocation = self._allocation(at, boot)
        parts: list[tuple[Key, Fraction]] = []
        parts += [(key, host * part) for key, part in self._host(at, boot, allocation)]
        weights = {device.uuid: self._weight(device) for device in devices}
        for device in devices:
            pool = (1 - host) * weights[device.uuid] / sum(weights.values())
            resource = f"device:{device.uuid}"
            if boot is None or allocation is None:
                parts.append(((resource, "unknown", None, None, None), pool))
                continue
            parts += [(key, pool * part) for key, part in _device(resource, allocation)]
        summed: dict[Key, Fraction] = {}
        for key, part in parts:
            summed[key] = summed.get(key, Fraction(0)) + part
        return summed

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

    def _host(
        self, at: int, boot: str | None, allocation: tuple[AllocationHolder, ...] | None
    ) -> list[tuple[Key, Fraction]]:
        unknown: Key = ("host", "unknown", None, None, None)
        if boot is None:
            return [(unknown, Fraction(1))]
        claims = [item for item in allocation or () if item.resource == "host" and item.denominator]
        reserved = [(item.holder, Fraction(item.numerator, item.denominator)) for item in claims]
        over = max(Fraction(1), sum((part for _, part in reserved), Fraction(0)))
        parts = [(_key("host", holder), part / over) for holder, part in reserved]
        free = 1 - sum((part for _, part in parts), Fraction(0))
        windows = [
            event
            for event in self.events
            if isinstance(event, ProcessUsage)
            and event.boot_id == boot
            and event.start_us <= at < event.end_us
        ]
        if not windows:
            return [*parts, (unknown, free)]
        window = min(windows, key=lambda event: (event.start_us, event.end_us, event.producer_id, event.seq))
        capacity = window.cores * (window.end_us - window.start_us)
        inside = {_who(holder) for holder, _ in reserved}
        used: dict[Key, Fraction] = {}
        for holder, cpu_us in window.usage:
            if _who(holder) not in inside:
                used[_key("host", holder)] = used.get(_key("host", holder), Fraction(0)) + cpu_us
        room = math.floor(capacity * free)
        if sum(used.values()) > room:
            used = {key: Fraction(value) for key, value in _deal(room, used).items()}
        measured = [(key, value / capacity) for key, value in used.items()]
        idle = free - sum((part for _, part in measured), Fraction(0))
        return [*parts, *measured, (("host", "idle", None, None, None), idle)]


def _device(resource: str, allocation: tuple[AllocationHolder, ...]) -> list[tuple[Key, Fraction]]:
    """Fractions of one device (whole devices and plain claims: slices have tests of their own)."""
    here = [item for item in allocation if item.resource == resource]
    claims = [item for item in here if item.denominator]
    parts: list[tuple[Key, Fraction]] = []
    if claims:
        each: dict[tuple[str, str | None], Fraction] = {}
        for item in claims:
            each[_who(item.holder)] = each.get(_who(item.holder), Fraction(0)) + Fraction(
                item.numerator, item.denominator
            )
        whole = max(Fraction(1), sum((min(Fraction(1), part) for part in each.values()), Fraction(0)))
        for item in claims:
            part = Fraction(item.numerator, item.denominator) / max(Fraction(1), each[_who(item.holder)])
            parts.append((_key(resource, item.holder), part / whole))
        intruders = {
            item.holder for item in here if _who(item.holder) not in each and item.holder.kind != "system"
        }
        parts += [(_key(resource, holder), Fraction(0)) for holder in intruders]
    else:
        there = {item.holder for item in here if item.holder.kind != "system"}
        people = {_who(holder) for holder in there}
        for holder in there:
            twins = sum(1 for other in there if _who(other) == _who(holder))
            parts.append((_key(resource, holder), Fraction(1, len(people) * twins)))
    idle = 1 - sum((part for _, part in parts), Fraction(0))
    return [*parts, ((resource, "idle", None, None, None), idle)]
