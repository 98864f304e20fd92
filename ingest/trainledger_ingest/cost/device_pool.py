"""The devices' part of a node-hour: claims before presence, then equal shares, then idle.

Within a frame the device pool is split over the physical devices by weight. Of a device, each claim holds
its fraction (of the device, or of the slice it names); claims of more than the device are scaled down
together. Where nothing is claimed, the runs present share equally, each run once however many processes or
attempts it has, and the untracked processes of one owner count as one. Who is present on what others claimed
is an intruder: it gets a line, and pays nothing. System processes hold a device by claim only.
What is left is idle. Without any word on who holds what, the device is unknown; so is what is left of a device of
which it is said that nobody can tell who is on it (a holder of kind unknown).
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from trainledger_ingest.cost.frames import Frame
from trainledger_ingest.cost.host_pool import claimant
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

__all__ = ["DevicePool", "DeviceShare", "share_device"]

_WHOLE_PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class DeviceShare:
    """One holder's fraction of a device, and on which slice of it (empty: the device)."""

    holder: Holder
    fraction: Fraction
    evidence: str
    part_id: str


@dataclass(frozen=True, slots=True)
class _UseWindow:
    start_us: int
    end_us: int
    busy_ppm: int


def share_device(holders: Sequence[AllocationHolder]) -> list[DeviceShare]:
    """Who holds which fraction of one device; the fractions sum to at most 1, the rest is idle."""
    claims = [item for item in holders if item.is_claim]
    shares = _claim_shares(claims)
    free = 1 - sum((share.fraction for share in shares), Fraction(0))
    claimed_parts = {item.part_id for item in claims}
    parts: dict[str, list[AllocationHolder]] = {}
    for item in holders:
        if not item.is_claim and item.holder.kind not in (Kind.SYSTEM, Kind.UNKNOWN):
            parts.setdefault(item.part_id, []).append(item)
    has_slices = any(part_id for part_id in [*parts, *claimed_parts])
    open_parts = {
        part_id: _part(group[0])
        for part_id, group in parts.items()
        if part_id not in claimed_parts and (part_id or not (claims or has_slices))
    }
    wanted = sum(open_parts.values(), Fraction(0))
    scale = Fraction(1) if wanted <= free else free / wanted
    for part_id, group in sorted(parts.items()):
        if part_id in open_parts:
            shares += _equal_shares(group, open_parts[part_id] * scale)
        else:
            shares += _intruders(group, claims)
    return shares


def _claim_shares(claims: Sequence[AllocationHolder]) -> list[DeviceShare]:
    """Claims as fractions that sum to at most 1; one claimant never weighs more than the whole device.

    Each rank of a run may report the same whole-device claim: that makes the run no larger.
    """
    fractions = [_part(item) * Fraction(item.numerator, item.denominator) for item in claims]
    by_claimant: dict[tuple[Kind, str | None], Fraction] = {}
    for item, fraction in zip(claims, fractions, strict=True):
        key = claimant(item.holder)
        by_claimant[key] = by_claimant.get(key, Fraction(0)) + fraction
    whole = max(Fraction(1), sum((min(Fraction(1), total) for total in by_claimant.values()), Fraction(0)))
    return [
        DeviceShare(
            item.holder,
            fraction / max(Fraction(1), by_claimant[claimant(item.holder)]) / whole,
            item.evidence,
            item.part_id,
        )
        for item, fraction in zip(claims, fractions, strict=True)
    ]


def _part(item: AllocationHolder) -> Fraction:
    return Fraction(item.part_numerator, item.part_denominator)


def _equal_shares(group: Sequence[AllocationHolder], part: Fraction) -> list[DeviceShare]:
    by_claimant: dict[tuple[Kind, str | None], dict[Holder, AllocationHolder]] = {}
    for item in group:
        by_claimant.setdefault(claimant(item.holder), {}).setdefault(item.holder, item)
    return [
        DeviceShare(holder, part / len(by_claimant) / len(members), item.evidence, item.part_id)
        for members in by_claimant.values()
        for holder, item in members.items()
    ]


def _intruders(group: Sequence[AllocationHolder], claims: Sequence[AllocationHolder]) -> list[DeviceShare]:
    rightful = {claimant(item.holder) for item in claims}
    return [
        DeviceShare(item.holder, Fraction(0), "intruder", item.part_id)
        for item in group
        if claimant(item.holder) not in rightful
    ]


class DevicePool:
    """Deals the device part of frames into a tally."""

    def __init__(self, uses: Sequence[DeviceUse], tally: Tally) -> None:
        self._uses = _trim_uses(uses)
        self._tally = tally

    def deal(self, frame: Frame, pool_ppm: int) -> None:
        """Deal the device pool of one watched frame."""
        weights = sum(device.weight for device in frame.devices)
        for device in frame.devices:
            self._deal_device(frame, device, per_us=Fraction(pool_ppm * device.weight, weights))

    def deal_unknown(self, frame: Frame, pool_ppm: int, evidence: str) -> None:
        """Give the whole device pool of a frame to `unknown`."""
        weights = sum(device.weight for device in frame.devices)
        for device in frame.devices:
            key = LineKey(Holder(Kind.UNKNOWN), device_resource(device.uuid))
            self._tally.held.add(key, pool_ppm * device.weight * frame.duration_us, weights)
            self._tally.note(key, evidence)

    def _deal_device(self, frame: Frame, device: Device, *, per_us: Fraction) -> None:
        resource = device_resource(device.uuid)
        if frame.holders is None:
            key = LineKey(Holder(Kind.UNKNOWN), resource)
            self._add("held", key, per_us * frame.duration_us)
            self._tally.note(key, "no allocation")
            return
        holders = [item for item in frame.holders if item.resource == resource]
        strange = [item for item in holders if item.holder.kind is Kind.UNKNOWN]
        # Of an unobserved device presence says nothing either: only claims stand.
        shares = share_device([item for item in holders if item.is_claim] if strange else holders)
        idle = Fraction(1)
        for share in shares:
            key = LineKey(share.holder, resource)
            rate = per_us * share.fraction
            self._add("held", key, rate * frame.duration_us)
            self._tally.note(key, share.evidence)
            idle -= share.fraction
            seen_us, busy = self._measured((frame.boot_id or "", device.uuid, share.part_id), frame)
            self._add("unseen", key, rate * (frame.duration_us - seen_us))
            self._add("unused", key, rate * Fraction(seen_us * _WHOLE_PPM - busy, _WHOLE_PPM))
        if idle:
            rest = LineKey(Holder(Kind.UNKNOWN if strange else Kind.IDLE), resource)
            self._add("held", rest, per_us * idle * frame.duration_us)
            for item in strange:
                self._tally.note(rest, item.evidence)

    def _add(self, column: str, key: LineKey, amount: Fraction) -> None:
        sums = {"held": self._tally.held, "unused": self._tally.unused, "unseen": self._tally.unseen}[column]
        sums.add(key, amount.numerator, amount.denominator)

    def _measured(self, place: tuple[str, str, str], frame: Frame) -> tuple[int, int]:
        """Microseconds with a measurement inside the frame, and the sum of microseconds x busy millionths."""
        windows = self._uses.get(place, [])
        seen_us = busy = 0
        first = bisect_right([window.end_us for window in windows], frame.start_us)
        for window in windows[first:]:
            if window.start_us >= frame.end_us:
                break
            inside_us = min(window.end_us, frame.end_us) - max(window.start_us, frame.start_us)
            seen_us += inside_us
            busy += inside_us * window.busy_ppm
        return seen_us, busy


def _trim_uses(uses: Sequence[DeviceUse]) -> dict[tuple[str, str, str], list[_UseWindow]]:
    by_place: dict[tuple[str, str, str], list[_UseWindow]] = {}
    for event in sorted(uses, key=lambda item: (item.start_us, item.end_us, item.producer_id, item.seq)):
        for item in event.devices:
            windows = by_place.setdefault((event.boot_id, item.uuid, item.part_id), [])
            start_us = max(event.start_us, windows[-1].end_us) if windows else event.start_us
            if start_us < event.end_us:
                windows.append(_UseWindow(start_us, event.end_us, item.busy_ppm))
    return by_place
