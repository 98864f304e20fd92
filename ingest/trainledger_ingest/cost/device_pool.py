"""The devices' part of a node-hour: claims before presence, then equal shares, then idle.

Within a frame the device pool is split over the physical devices by weight. Of a device, each claim holds
its fraction (of the device, or of the slice it names); claims of more than the device are scaled down
together. Where nothing is claimed, the runs present share equally, each run once however many processes or
attempts it has, and the untracked processes of one owner count as one. Who is present on what others claimed
is an intruder: it gets a line, and pays nothing. System processes hold a device by claim only.
What is left is idle. Without any word on who holds what, the device is unknown; so is what is left of a device of
which it is said that nobody can tell who is on it (a holder of kind unknown).
"""

import math
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import NamedTuple, Self

from trainledger_ingest.cost.claimants import Claimant, Claimants, claimant
from trainledger_ingest.cost.frames import Frame
from trainledger_ingest.cost.node_events import (
    AllocationHolder,
    Device,
    DeviceUse,
    Holder,
    Kind,
    device_resource,
)
from trainledger_ingest.cost.share_sum import LineKey
from trainledger_ingest.cost.tally import Tally
from trainledger_ingest.cost.use_windows import find_use_windows

__all__ = ["DevicePool", "DeviceShare", "DeviceShares", "share_device"]

_WHOLE_PPM = 1_000_000
_NO_USE = (0, 0)


class DeviceShare(NamedTuple):
    """One holder's part of a device, and on which slice of it (empty: the device)."""

    holder: Holder
    numerator: int
    evidence: str
    part_id: str


@dataclass(frozen=True, slots=True)
class DeviceShares:
    """Parts of one device over one denominator; together they are at most the device, the rest is idle."""

    shares: tuple[DeviceShare, ...]
    denominator: int

    @property
    def idle(self) -> int:
        """What nobody holds, over the same denominator."""
        return self.denominator - sum(share.numerator for share in self.shares)


class _Part(NamedTuple):
    """A part `numerator / denominator` of a device for whoever is on it: a holder, or all of a slice."""

    item: AllocationHolder
    numerator: int
    denominator: int
    evidence: str


def share_device(holders: Sequence[AllocationHolder]) -> DeviceShares:
    """Who holds which part of one device, exactly."""
    if len(holders) <= 1:
        return _alone(holders)
    claims = [item for item in holders if item.denominator]
    parts = _claim_parts(claims)
    by_slice: dict[str, list[AllocationHolder]] = {}
    for item in holders:
        if not item.denominator and item.holder.kind not in (Kind.SYSTEM, Kind.UNKNOWN):
            by_slice.setdefault(item.part_id, []).append(item)
    if by_slice:
        claimed = {item.part_id for item in claims}
        has_slices = any(by_slice) or any(claimed)
        is_open = {
            name: name not in claimed and bool(name or not (claims or has_slices)) for name in by_slice
        }
        room = _open_room([group[0] for name, group in by_slice.items() if is_open[name]], parts)
        for name, group in sorted(by_slice.items()):
            parts += _equal_parts(group, room) if is_open[name] else _intruders(group, claims)
    denominator = math.lcm(*(part.denominator for part in parts))
    shares = (
        DeviceShare(
            part.item.holder,
            part.numerator * (denominator // part.denominator),
            part.evidence,
            part.item.part_id,
        )
        for part in parts
    )
    return DeviceShares(tuple(shares), denominator)


def _alone(holders: Sequence[AllocationHolder]) -> DeviceShares:
    """At most one holder, as a rule: what it claims, or else the device or slice that it is on."""
    if not holders or (not holders[0].denominator and holders[0].holder.kind in (Kind.SYSTEM, Kind.UNKNOWN)):
        return DeviceShares((), 1)
    (item,) = holders
    part, whole = item.part_numerator, item.part_denominator
    if item.denominator:
        part, whole = part * item.numerator, whole * item.denominator
    return DeviceShares((DeviceShare(item.holder, part, item.evidence, item.part_id),), whole)


def _claim_parts(claims: Sequence[AllocationHolder]) -> list[_Part]:
    """Claims as parts that sum to at most 1; one claimant never weighs more than the whole device.

    Each rank of a run may report the same whole-device claim: that makes the run no larger.
    """
    if not claims:
        return []
    whole = math.lcm(*(item.part_denominator * item.denominator for item in claims))
    sizes = [
        item.part_numerator * item.numerator * (whole // (item.part_denominator * item.denominator))
        for item in claims
    ]
    by_claimant: dict[Claimant, int] = {}
    for item, size in zip(claims, sizes, strict=True):
        key = claimant(item.holder)
        by_claimant[key] = by_claimant.get(key, 0) + size
    # The device is as large as the claims on it, where they are more than the device.
    claimed = max(whole, sum(min(whole, total) for total in by_claimant.values()))
    return [
        _Part(item, size * whole, max(whole, by_claimant[claimant(item.holder)]) * claimed, item.evidence)
        for item, size in zip(claims, sizes, strict=True)
    ]


def _open_room(slices: Sequence[AllocationHolder], claims: Sequence[_Part]) -> tuple[int, int]:
    """The factor by which slices that nobody claimed shrink where claims leave too little: at most 1."""
    if not slices or not claims:
        # Slices of a device that a list names are parts of it; told twice as large they still shrink to it.
        free, denominator = 1, 1
    else:
        denominator = math.lcm(*(part.denominator for part in claims))
        free = denominator - sum(part.numerator * (denominator // part.denominator) for part in claims)
    pieces = math.lcm(*(item.part_denominator for item in slices))
    wanted = sum(item.part_numerator * (pieces // item.part_denominator) for item in slices)
    if wanted * denominator <= free * pieces:
        return 1, 1
    return free * pieces, denominator * wanted


def _equal_parts(group: Sequence[AllocationHolder], room: tuple[int, int]) -> list[_Part]:
    by_claimant: dict[Claimant, dict[Holder, AllocationHolder]] = {}
    for item in group:
        by_claimant.setdefault(claimant(item.holder), {}).setdefault(item.holder, item)
    numerator = group[0].part_numerator * room[0]
    denominator = group[0].part_denominator * room[1] * len(by_claimant)
    return [
        _Part(item, numerator, denominator * len(members), item.evidence)
        for members in by_claimant.values()
        for item in members.values()
    ]


def _intruders(group: Sequence[AllocationHolder], claims: Sequence[AllocationHolder]) -> list[_Part]:
    rightful = Claimants((item.holder, True) for item in claims)
    return [_Part(item, 0, 1, "intruder") for item in group if not rightful.find(item.holder)]


class DevicePool:
    """Deals the device part of frames into a tally."""

    def __init__(self, uses: Iterable[DeviceUse], tally: Tally) -> None:
        self._uses = find_use_windows(uses)
        self._tally = tally

    def into(self, tally: Tally) -> Self:
        """The same pool, which deals into another tally."""
        other = copy(self)
        other._tally = tally
        return other

    def deal(self, frame: Frame, pool_ppm: int) -> None:
        """Deal the device pool of one frame."""
        boot_id, devices, told, _ = frame.facts
        if boot_id is None or told is None:
            self._deal_unknown(frame, pool_ppm, "gap" if boot_id is None else "no allocation")
            return
        by_resource: dict[str, list[AllocationHolder]] = {}
        for item in told:
            by_resource.setdefault(item.resource, []).append(item)
        weights = sum([device.weight for device in devices])
        for device in devices:
            holders = by_resource.get(device_resource(device.uuid), [])
            self._deal_device(frame, device, holders, rate=(pool_ppm * device.weight, weights))

    def _deal_unknown(self, frame: Frame, pool_ppm: int, evidence: str) -> None:
        """Give the whole device pool of a frame to `unknown`."""
        devices = frame.facts.devices
        weights = sum(device.weight for device in devices)
        for device in devices:
            key = LineKey(Holder(Kind.UNKNOWN), device_resource(device.uuid))
            self._tally.held.add(key, pool_ppm * device.weight * frame.duration_us, weights)
            self._tally.note(key, evidence)

    def _deal_device(
        self, frame: Frame, device: Device, holders: Sequence[AllocationHolder], *, rate: tuple[int, int]
    ) -> None:
        """`rate`: the device's part of a microsecond of the node, in millionths, as numerator and denominator."""
        tally, resource, duration_us = self._tally, device_resource(device.uuid), frame.duration_us
        strange = [item for item in holders if item.holder.kind is Kind.UNKNOWN]
        # Of an unobserved device presence says nothing either: only claims stand.
        sharing = share_device([item for item in holders if item.is_claim] if strange else holders)
        denominator = rate[1] * sharing.denominator
        use: dict[str, tuple[int, int]] = {}
        for share in sharing.shares:
            key = LineKey(share.holder, resource)
            numerator = rate[0] * share.numerator
            tally.held.add(key, numerator * duration_us, denominator)
            tally.note(key, share.evidence)
            part_id = share.part_id
            if part_id not in use:
                use[part_id] = self._measured(frame, device, part_id)
            seen_us, busy = use[part_id]
            if seen_us < duration_us:
                tally.unseen.add(key, numerator * (duration_us - seen_us), denominator)
            tally.unused.add(key, numerator * (seen_us * _WHOLE_PPM - busy), denominator * _WHOLE_PPM)
        if idle := sharing.idle:
            rest = LineKey(Holder(Kind.UNKNOWN if strange else Kind.IDLE), resource)
            tally.held.add(rest, rate[0] * idle * duration_us, denominator)
            for item in strange:
                tally.note(rest, item.evidence)

    def _measured(self, frame: Frame, device: Device, part_id: str) -> tuple[int, int]:
        windows = self._uses.get((frame.facts.boot_id or "", device.uuid, part_id))
        return windows.measured(frame.start_us, frame.end_us) if windows else _NO_USE
