"""A slow second opinion on what was wasted: Fractions, one elementary interval at a time, rounded as docs/waste.md says.

Who holds what comes from the slow node-hour; what of it was used is worked out here from the events, apart from the
product: no code is shared with it but the event types.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from support.slow_cost import HOUR_US, Key, _History, _order, slow_node_hour
from trainledger_ingest.cost.node_events import Allocation, DeviceUse, NodeEvent, ProcessUsage
from trainledger_ingest.cost.policy import CostPolicy

BAD = ("failed", "killed", "crashed", "retried")
WASTED = (*BAD, "unused", "idle")
_Name = TypeVar("_Name", str, Key)


@dataclass(frozen=True)
class SlowPart:
    """A part of a line: `nano` is 10^-9 of the currency."""

    key: Key
    use: str
    nano: int


def slow_parts(events: list[NodeEvent], hour_us: int, nano_per_hour: int) -> list[SlowPart]:
    """All parts of one node-hour that are not nothing; their money sums to the bill."""
    hour = slow_node_hour(events, hour_us, CostPolicy())
    unused, unseen = _uses(events, hour_us)
    bill = (2 * hour.presence_us * nano_per_hour + HOUR_US) // (2 * HOUR_US)
    keys = sorted(hour.shares, key=_order)
    costs = _by_remainder(bill, {key: hour.shares[key] for key in keys if hour.shares[key]})
    parts = []
    for key in keys:
        share = hour.shares[key]
        if not share:
            continue
        blind = int(unseen[key] * 10**6)
        used = max(0, share - int(unused[key] * 10**6) - blind)
        if key[1] == "unknown" or unseen[key] * 10**6 >= hour.exact[key]:
            used, blind = 0, share
        elif key[1] == "idle":
            used, blind = 0, 0
        blind = min(blind, share - used)
        first = costs[key] * used // share
        second = costs[key] * (used + blind) // share
        for use, nano, held in (
            ("used", first, used),
            ("unknown", second - first, blind),
            ("unused", costs[key] - second, share - used - blind),
        ):
            if held or nano:
                parts.append(SlowPart(key, use, nano))
    return parts


def slow_why(kind: str, outcome: str | None, use: str) -> str:
    """The one reason of a part."""
    if kind in ("idle", "system", "unknown"):
        return kind
    return outcome if outcome in BAD else use


def slow_table(cells: Mapping[tuple[str, str], int], digits: int = 2) -> dict[tuple[str, str], int]:
    """Cells (row, reason) of nano as minor units: the total half up, rows by remainder, then the reasons of a row."""
    unit = 10 ** (9 - digits)
    rows: dict[str, int] = defaultdict(int)
    for (row, _), nano in cells.items():
        rows[row] += nano
    total = (2 * sum(rows.values()) + unit) // (2 * unit)
    floors = {row: nano // unit for row, nano in rows.items()}
    ranking = sorted(rows, key=lambda row: (-(rows[row] % unit), row))
    for row in ranking[: total - sum(floors.values())]:
        floors[row] += 1
    order = ("used", "unused", *BAD[:3], "retried", "idle", "system", "unknown")
    shown: dict[tuple[str, str], int] = {}
    for row, minor in floors.items():
        whys = {why: cells[row, why] for why in order if cells.get((row, why))}
        given = _by_remainder(minor, whys) if whys else {}
        shown |= {(row, why): amount for why, amount in given.items()}
    return shown


def _by_remainder(total: int, weights: Mapping[_Name, int]) -> dict[_Name, int]:
    """Largest remainder; ties go to what stands first."""
    whole = sum(weights.values())
    if not whole:
        return dict.fromkeys(weights, 0)
    exact = {key: Fraction(total * weight, whole) for key, weight in weights.items()}
    given = {key: int(part) for key, part in exact.items()}
    for key in sorted(weights, key=lambda key: given[key] - exact[key])[: total - sum(given.values())]:
        given[key] += 1
    return given


def _uses(events: list[NodeEvent], hour_us: int) -> tuple[dict[Key, Fraction], dict[Key, Fraction]]:
    """Microseconds of the whole node that each line held and did not use, and held without a measurement."""
    unused: dict[Key, Fraction] = defaultdict(Fraction)
    unseen: dict[Key, Fraction] = defaultdict(Fraction)
    history = _History(events, hour_us, CostPolicy())
    uses = [event for event in history.events if isinstance(event, DeviceUse)]
    windows = [event for event in history.events if isinstance(event, ProcessUsage)]
    cuts = history.cuts() | {
        min(max(edge, hour_us), hour_us + HOUR_US)
        for event in uses
        for edge in (event.start_us, event.end_us)
    }
    ordered = sorted(cuts)
    for start_us, end_us in zip(ordered, ordered[1:], strict=False):
        boot = history.live_boot(start_us)
        if boot is None:
            continue
        allocation = history._allocation(start_us, boot)
        held: dict[Key, Fraction] = defaultdict(Fraction)
        for key, part, _ in history.held(start_us, boot):
            held[key] += part
        for key, fraction in held.items():
            resource, kind = key[:2]
            if kind in ("idle", "unknown") or not fraction:
                continue
            length = fraction * (end_us - start_us)
            if resource != "host":
                busy = _busy(uses, resource, start_us)
                if busy is None:
                    unseen[key] += length
                else:
                    unused[key] += length * (1 - busy)
            elif _is_reserved(allocation, key):
                window = [event for event in windows if event.start_us <= start_us < event.end_us]
                if not window:
                    unseen[key] += length
                else:
                    host = Fraction(1) if not history._devices(start_us, boot) else Fraction(1, 10)
                    cpu = sum(us for holder, us in window[0].usage if holder.run_id == key[2] and key[2])
                    taken = host * Fraction(cpu, window[0].cores * (window[0].end_us - window[0].start_us))
                    unused[key] += max(Fraction(0), length - taken * (end_us - start_us))
    return unused, unseen


def _busy(uses: Iterable[DeviceUse], resource: str, at_us: int) -> Fraction | None:
    for event in uses:
        if event.start_us <= at_us < event.end_us:
            for place, busy_ppm in zip(event.places, event.busy_ppm, strict=True):
                if f"device:{place.uuid}" == resource:
                    return Fraction(busy_ppm, 10**6)
    return None


def _is_reserved(allocation: object, key: Key) -> bool:
    assert allocation is None or isinstance(allocation, tuple), Allocation
    return any(
        item.resource == "host" and item.denominator and item.holder.run_id == key[2]
        for item in allocation or ()
    )
