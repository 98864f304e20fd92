"""Prices of nodes: who has which, from which hour on. Rates are integers, 10^-9 of the currency an hour.

In a pattern `*` stands for any text and `?` for one character; every other character, brackets too, stands for
itself. Of the patterns that match a node, the one with the longest literal beginning wins, and the name itself
over a pattern with the same beginning. Of the prices of one pattern, the latest beginning counts, then the one
set last; of two patterns of the same rank, the one whose price was set last.
"""

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from trainledger_schemas.errors import UsageError

from .money import currency_code
from .node_events import HOUR_US
from .policy import CostPolicy
from .presence import PresenceMode, PresenceRule

__all__ = ["Price", "PriceBook", "matches", "nano_rate", "price_fields", "whole_hour"]

NANO = 1_000_000_000
RATE_MAX = Decimal(1_000_000)
DEFAULT_POLICY = CostPolicy()


@dataclass(frozen=True, slots=True)
class Price:
    """One price; `set_at_us` orders prices that were set for the same hour."""

    price_id: str
    pattern: str
    nano_per_hour: int
    currency: str
    from_hour_us: int
    set_at_us: int = 0
    policy: CostPolicy = DEFAULT_POLICY

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "Price":
        """From the fields of a `price_set` event."""
        rule = PresenceRule(
            PresenceMode(fields.get("presence") or "observed"),
            fields.get("owned_from_us"),
            fields.get("owned_to_us"),
        )
        weights = tuple(sorted((fields.get("device_weights") or {}).items()))
        return cls(
            price_id=str(fields["price_id"]),
            pattern=str(fields["pattern"]),
            nano_per_hour=int(fields["nano_per_hour"]),
            currency=str(fields["currency"]),
            from_hour_us=int(fields["from_hour_us"]),
            set_at_us=int(fields["at_us"]),
            policy=CostPolicy(rule, fields.get("host_share_ppm"), weights),
        )

    def bill_nano(self, presence_us: int) -> int:
        """What `presence_us` of the node cost, rounded half up to 10^-9 of the currency."""
        return (2 * presence_us * self.nano_per_hour + HOUR_US) // (2 * HOUR_US)


class PriceBook:
    """All prices that were ever set, in the order in which they were set.

    The place in that order decides between prices that were set in the same microsecond."""

    def __init__(self, prices: Iterable[Price]) -> None:
        self._by_pattern: dict[str, list[_Placed]] = {}
        for place, price in enumerate(sorted(prices, key=lambda price: price.set_at_us)):
            self._by_pattern.setdefault(price.pattern, []).append(_Placed(place, price))
        self._patterns = sorted(self._by_pattern, key=_rank, reverse=True)

    def price_for(self, node_id: str, hour_us: int) -> Price | None:
        """The price of a node in an hour, or None: unpriced, which is not free."""
        found: _Placed | None = None
        for pattern in self._patterns:
            if found is not None and _rank(pattern) < _rank(found.price.pattern):
                break
            current = self._current(pattern, hour_us)
            if current is not None and matches(node_id, pattern):
                found = current if found is None else max(found, current, key=lambda placed: placed.place)
        return found.price if found else None

    def in_effect(self, hour_us: int) -> frozenset[str]:
        """The ids of the prices that count in an hour: one a pattern at most."""
        current = (self._current(pattern, hour_us) for pattern in self._by_pattern)
        return frozenset(placed.price.price_id for placed in current if placed is not None)

    def _current(self, pattern: str, hour_us: int) -> "_Placed | None":
        counting = [p for p in self._by_pattern[pattern] if p.price.from_hour_us <= hour_us]
        return max(counting, key=lambda placed: (placed.price.from_hour_us, placed.place), default=None)

    def policy_for(self, node_id: str, hour_us: int) -> CostPolicy:
        """How an hour of a node is dealt; the defaults where there is no price."""
        price = self.price_for(node_id, hour_us)
        return price.policy if price else DEFAULT_POLICY

    def policies_of(self, node_id: str) -> list[CostPolicy]:
        """Each policy that a node's prices can bring, and the defaults, with which every node begins.

        A price that was set anew for the same hour of its pattern brings nothing any more."""
        found = [DEFAULT_POLICY]
        for pattern, prices in self._by_pattern.items():
            if matches(node_id, pattern):
                newest = {placed.price.from_hour_us: placed.price.policy for placed in prices}
                found += newest.values()
        return list(dict.fromkeys(found))


def nano_rate(text: str) -> int:
    """A rate an hour as decimal text in 10^-9 units; raises UsageError for anything but 0 to 1,000,000."""
    try:
        rate = Decimal(text)
    except InvalidOperation:
        raise UsageError(f"{text!r} is not a price; give a number such as 12.4364") from None
    if not rate.is_finite() or not 0 <= rate <= RATE_MAX or rate != round(rate, 9):
        raise UsageError(f"price {text} is not between 0 and {RATE_MAX} with at most 9 decimals")
    return int(rate * NANO)


def whole_hour(wall_us: int, text: str) -> int:
    """`wall_us`, if it is the start of a UTC hour; prices take effect on whole hours alone."""
    if wall_us % HOUR_US:
        raise UsageError(f"prices and owners take effect on a whole UTC hour; {text!r} is not one")
    return wall_us


def price_fields(
    price_id: str,
    *,
    pattern: str,
    nano_per_hour: int,
    currency: str,
    from_hour_us: int,
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """Fields of a `price_set` event; `extra` holds presence, host share, weights and note where they differ."""
    if not pattern:
        raise UsageError("a price needs a node pattern; '*' stands for all nodes")
    return {
        "price_id": price_id,
        "pattern": pattern,
        "nano_per_hour": nano_per_hour,
        "currency": currency_code(currency),
        "from_hour_us": from_hour_us,
        "presence": "observed",
        "owned_from_us": None,
        "owned_to_us": None,
        "host_share_ppm": None,
        "device_weights": {},
        "note": None,
    } | dict(extra)


class _Placed(NamedTuple):
    """A price and its place in the order in which prices were set."""

    place: int
    price: Price


def matches(node_id: str, pattern: str) -> bool:
    """Whether a node bears a name of the pattern, in which `*` and `?` alone are special."""
    return fnmatch.fnmatchcase(node_id, pattern.replace("[", "[[]"))


def _rank(pattern: str) -> tuple[int, bool]:
    literal = len(re.split(r"[*?]", pattern, maxsplit=1)[0])
    return literal, literal == len(pattern)
