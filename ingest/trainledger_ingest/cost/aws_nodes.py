"""From what AWS charges to prices of nodes: the fields of the events, and nothing that the book says already.

A price that AWS gave is never put over one that a person or a file gave for the same pattern and hour: those are
left and counted. Terms (presence, host share, weights) are kept from the pattern's price before; where there was none,
a node counts from its boot on, as it is charged.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .aws_prices import ON_DEMAND, SPOT, Machine, OnDemandPrice
from .node_events import HOUR_US
from .price_list import Listed, terms_of
from .prices import Price, price_fields

__all__ = ["Planned", "plan_on_demand", "plan_spot", "whole_hours"]

_AWS = (ON_DEMAND, SPOT)


@dataclass(slots=True)
class Planned:
    """`prices`: the fields of `price_set` for each that is new; how many hours have it already (`known`), and how many
    have one that somebody set by hand (`left`)."""

    prices: list[dict[str, Any]] = field(default_factory=list)
    known: int = 0
    left: int = 0

    def add(self, other: "Planned") -> None:
        """Take over what another plan has."""
        self.prices += other.prices
        self.known += other.known
        self.left += other.left


def plan_on_demand(
    listed: Listed,
    pattern: str,
    found: OnDemandPrice,
    *,
    machine: Machine,
    from_hour_us: int,
    new_id: Callable[[], str],
) -> Planned:
    """One price from an hour on, unless the pattern has just that price then. What a person asks for by name is set
    over whatever was there."""
    current = listed.book.price_of_pattern(pattern, from_hour_us)
    if current is not None and _is_same(current, found.nano_per_hour, found.currency, listed, ON_DEMAND):
        return Planned(known=1)
    note = f"AWS on demand: {machine}, SKU {found.sku}, in effect since {found.effective_at}"
    fields = price_fields(
        new_id(),
        pattern=pattern,
        nano_per_hour=found.nano_per_hour,
        currency=found.currency,
        from_hour_us=from_hour_us,
        extra=_terms(current) | {"source": ON_DEMAND, "note": note},
    )
    return Planned([fields])


def plan_spot(
    listed: Listed,
    pattern: str,
    means: Mapping[int, int],
    *,
    currency: str,
    note: str,
    new_id: Callable[[], str],
) -> Planned:
    """A price for each hour of `means` (start -> 10^-9 an hour) that the book has not from the spot history yet."""
    plan = Planned()
    for hour_us in sorted(means):
        nano = means[hour_us]
        current = listed.book.price_of_pattern(pattern, hour_us)
        if current is not None and current.from_hour_us == hour_us:
            if listed.sources[current.price_id] not in _AWS:
                plan.left += 1
                continue
            if _is_same(current, nano, currency, listed, SPOT):
                plan.known += 1
                continue
        fields = price_fields(
            new_id(),
            pattern=pattern,
            nano_per_hour=nano,
            currency=currency,
            from_hour_us=hour_us,
            extra=_terms(current) | {"source": SPOT, "note": note},
        )
        plan.prices.append(fields)
    return plan


def whole_hours(start_us: int, end_us: int) -> tuple[int, int]:
    """The whole hours that lie in [start, end)."""
    return start_us + -start_us % HOUR_US, end_us - end_us % HOUR_US


def _is_same(price: Price, nano: int, currency: str, listed: Listed, source: str) -> bool:
    return (price.nano_per_hour, price.currency, listed.sources[price.price_id]) == (nano, currency, source)


def _terms(price: Price | None) -> dict[str, Any]:
    return terms_of(price) if price is not None else {"presence": "boot"}
