"""The rented machines that nodes were, from the views: what `price aws --auto` prices, and from which hours on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ..session import Session
from .aws_prices import OnDemandPrice
from .node_events import HOUR_US
from .price_list import Listed

__all__ = ["RentedNode", "has_price_by_hand", "on_demand_start", "read_rented", "rented_of"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RentedNode:
    """A node on one machine, from the hour in which it booted there to behind the one in which it was last seen."""

    node_id: str
    instance_type: str
    life_cycle: str
    region: str
    zone: str
    first_hour_us: int
    behind_us: int


def read_rented(session: Session, *, since: datetime) -> list[RentedNode]:
    """Machines of AWS that were seen since a UTC day."""
    rows = session.query(
        "SELECT node_id, instance_id, instance_type, life_cycle, region, if(zone_id = '', zone, zone_id) AS place, "
        "min(booted_at) AS first, max(last_seen_at) AS last "
        f"FROM {session.views}.node_instances WHERE provider = 'aws' AND day >= {{day:Date}} "
        "GROUP BY node_id, instance_id, instance_type, life_cycle, region, place ORDER BY node_id, first",
        {"day": f"{since:%Y-%m-%d}"},
    ).to_pylist()
    return rented_of(rows)


def rented_of(rows: Iterable[Mapping[str, Any]]) -> list[RentedNode]:
    """From rows of the query; two machines of one kind that a node was one after the other are one."""
    found: list[RentedNode] = []
    for row in rows:
        first_us, last_us = (_micros(row[name]) for name in ("first", "last"))
        node = RentedNode(
            row["node_id"],
            row["instance_type"],
            row["life_cycle"],
            row["region"],
            row["place"],
            first_us - first_us % HOUR_US,
            last_us - last_us % HOUR_US + HOUR_US,
        )
        before = found[-1] if found else None
        if before is not None and _kind(before) == _kind(node):
            found[-1] = RentedNode(*_kind(node), before.first_hour_us, max(before.behind_us, node.behind_us))
        else:
            found.append(node)
    return found


def has_price_by_hand(listed: Listed, node: RentedNode, sources: Sequence[str]) -> bool:
    """Whether a price that counts for a node in its first or last hour is of none of these sources: a person or a
    file gave it."""
    found = (
        listed.book.price_for(node.node_id, hour) for hour in (node.first_hour_us, node.behind_us - HOUR_US)
    )
    return any(price is not None and listed.sources[price.price_id] not in sources for price in found)


def on_demand_start(listed: Listed, node: RentedNode, found: OnDemandPrice, *, now_hour_us: int) -> int:
    """From which hour on today's price of a machine counts: from its boot on, or, where it has another price of AWS
    already, from the hour on in which AWS changed it, or this one if that is not told."""
    current = listed.book.price_of_pattern(node.node_id, node.behind_us - HOUR_US)
    if current is None or current.from_hour_us < node.first_hour_us:
        return node.first_hour_us
    if (current.nano_per_hour, current.currency) == (found.nano_per_hour, found.currency):
        return current.from_hour_us
    try:
        changed_us = _micros(datetime.fromisoformat(found.effective_at))
    except ValueError:
        return now_hour_us
    changed_us += -changed_us % HOUR_US
    return changed_us if current.from_hour_us < changed_us < now_hour_us else now_hour_us


def _kind(node: RentedNode) -> tuple[str, str, str, str, str]:
    return node.node_id, node.instance_type, node.life_cycle, node.region, node.zone


def _micros(moment: datetime) -> int:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)
