"""Prices of nodes: who has which, from which hour on. Rates are integers, 10^-9 of the currency an hour.

In a pattern `*` stands for any text and `?` for one character; every other character, brackets too, stands for
itself. Of the patterns that match a node, the one with the longest literal beginning wins, and the name itself
over a pattern with the same beginning. Of the prices of one pattern, the latest beginning counts, then the one
set last; of two patterns of the same rank, the one whose price was set last. An end of a pattern's price is an entry
of the book like a price: where it is the one that counts, the pattern has none. An owned node has a price between the
dates it was owned alone.
"""

import fnmatch
import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from trainledger_schemas.errors import UsageError

from .money import currency_code
from .node_events import HOUR_US, hour_of
from .policy import CostPolicy
from .presence import PresenceMode, PresenceRule

__all__ = [
    "BOOK_EVENTS",
    "Entry",
    "Price",
    "PriceBook",
    "PriceEnd",
    "entry_of",
    "matches",
    "nano_rate",
    "price_fields",
    "whole_hour",
]

NANO = 1_000_000_000
RATE_MAX = Decimal(1_000_000)
DEFAULT_POLICY = CostPolicy()
# The events that entries of the book are made of, as rows of `admin_events`.
BOOK_EVENTS = ("price_set", "price_ended")


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

    def counts_in(self, hour_us: int) -> bool:
        """False for the price of an owned node in an hour that lies before or behind the dates it was owned."""
        rule = self.policy.presence
        if rule.mode is not PresenceMode.OWNED:
            return True
        is_before = rule.owned_from_us is not None and hour_us + HOUR_US <= rule.owned_from_us
        return not is_before and (rule.owned_to_us is None or hour_us < rule.owned_to_us)


@dataclass(frozen=True, slots=True)
class PriceEnd:
    """From `from_hour_us` on a pattern has no price, until one that begins later, or at that hour and is set later."""

    price_id: str
    pattern: str
    from_hour_us: int
    set_at_us: int = 0

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "PriceEnd":
        """From the fields of a `price_ended` event."""
        return cls(
            str(fields["price_id"]), str(fields["pattern"]), int(fields["from_hour_us"]), int(fields["at_us"])
        )


Entry = Price | PriceEnd


def entry_of(event_type: str, body: str) -> Entry:
    """The entry of a row of `admin_events` whose type is one of BOOK_EVENTS."""
    kind = Price if event_type == "price_set" else PriceEnd
    return kind.from_fields(json.loads(body))


class PriceBook:
    """All prices that were ever set, and where they end, in the order in which that was said.

    The place in that order decides between entries of the same microsecond."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        placed: dict[str, dict[int, _Placed]] = {}
        for place, entry in enumerate(sorted(entries, key=lambda entry: entry.set_at_us)):
            # Of one pattern and beginning the one set last counts.
            placed.setdefault(entry.pattern, {})[entry.from_hour_us] = _Placed(place, entry)
        self._by_pattern = {pattern: _Terms(by_hour) for pattern, by_hour in placed.items()}
        self._patterns = sorted(self._by_pattern, key=_rank, reverse=True)
        self._patterns_by_node: dict[str, tuple[str, ...]] = {}

    def price_for(self, node_id: str, hour_us: int) -> Price | None:
        """The price of a node in an hour, or None: unpriced, which is not free."""
        found: _Placed | None = None
        for pattern in self._patterns_of(node_id):
            if found is not None and _rank(pattern) < _rank(found.entry.pattern):
                break
            current = self._current(pattern, hour_us)
            if current is not None:
                found = current if found is None else max(found, current, key=lambda placed: placed.place)
        price = found.entry if found else None
        return price if isinstance(price, Price) and price.counts_in(hour_us) else None

    def sections_of(self, node_id: str) -> list[tuple[int, Price | None]]:
        """The prices of a node in order of time, each with the hour from which it counts; the first from 0."""
        begins = {0}
        for pattern in self._patterns_of(node_id):
            begins |= self._by_pattern[pattern].turns
        sections: list[tuple[int, Price | None]] = []
        for begin_us in sorted(begins):
            price = self.price_for(node_id, begin_us)
            if not sections or sections[-1][1] is not price:
                sections.append((begin_us, price))
        return sections

    def rules_of(self, node_id: str) -> list[tuple[int, CostPolicy]]:
        """How a node is dealt in order of time: two books with the same rules give the same shares."""
        rules: list[tuple[int, CostPolicy]] = []
        for begin_us, price in self.sections_of(node_id):
            policy = price.policy if price else DEFAULT_POLICY
            if not rules or rules[-1][1] != policy:
                rules.append((begin_us, policy))
        return rules

    def price_of_pattern(self, pattern: str, hour_us: int) -> Price | None:
        """The price of exactly this pattern that counts in an hour."""
        current = self._current(pattern, hour_us)
        return current.entry if current is not None and isinstance(current.entry, Price) else None

    def next_of_pattern(self, pattern: str, hour_us: int) -> Price | None:
        """The first price of exactly this pattern that begins behind an hour."""
        terms = self._by_pattern.get(pattern)
        later = [placed.entry for placed in terms.behind(hour_us)] if terms else []
        return next((entry for entry in later if isinstance(entry, Price)), None)

    def in_effect(self, hour_us: int) -> frozenset[str]:
        """The ids of the prices that count in an hour: one a pattern at most."""
        current = (self._current(pattern, hour_us) for pattern in self._by_pattern)
        return frozenset(placed.entry.price_id for placed in current if placed is not None)

    def standing(self, hour_us: int) -> frozenset[str]:
        """The ids of the prices that count in an hour, and of the prices and ends that begin behind it."""
        later = (placed for terms in self._by_pattern.values() for placed in terms.behind(hour_us))
        return self.in_effect(hour_us) | {placed.entry.price_id for placed in later}

    def _current(self, pattern: str, hour_us: int) -> "_Placed | None":
        """What counts of a pattern; None also where that is an end."""
        terms = self._by_pattern.get(pattern)
        placed = terms.at(hour_us) if terms else None
        return placed if placed is not None and isinstance(placed.entry, Price) else None

    def policy_for(self, node_id: str, hour_us: int) -> CostPolicy:
        """How an hour of a node is dealt; the defaults where there is no price."""
        price = self.price_for(node_id, hour_us)
        return price.policy if price else DEFAULT_POLICY

    def policies_of(self, node_id: str) -> list[CostPolicy]:
        """Each policy that a node's prices can bring, and the defaults, with which every node begins.

        A price that was set anew for the same hour of its pattern brings nothing any more."""
        found = [DEFAULT_POLICY]
        for pattern in self._patterns_of(node_id):
            found += self._by_pattern[pattern].policies
        return list(dict.fromkeys(found))

    def _patterns_of(self, node_id: str) -> tuple[str, ...]:
        """The patterns that a node bears, in order of rank."""
        known = self._patterns_by_node.get(node_id)
        if known is None:
            known = tuple(pattern for pattern in self._patterns if matches(node_id, pattern))
            self._patterns_by_node[node_id] = known
        return known


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
        "source": None,
    } | dict(extra)


class _Placed(NamedTuple):
    """An entry and its place in the order in which entries were set."""

    place: int
    entry: Entry


class _Terms:
    """What counts of one pattern, from which hour on. Prices by the hour are thousands: found by bisection."""

    def __init__(self, by_hour: Mapping[int, _Placed]) -> None:
        self._starts = sorted(by_hour)
        self._placed = [by_hour[start] for start in self._starts]
        self.policies = list(
            dict.fromkeys(placed.entry.policy for placed in self._placed if isinstance(placed.entry, Price))
        )
        self.turns = {max(start, 0) for start in self._starts}
        for policy in self.policies:
            self.turns |= _turns_of(policy.presence)

    def at(self, hour_us: int) -> _Placed | None:
        index = bisect_right(self._starts, hour_us) - 1
        return self._placed[index] if index >= 0 else None

    def behind(self, hour_us: int) -> list[_Placed]:
        return self._placed[bisect_right(self._starts, hour_us) :]


def _turns_of(rule: PresenceRule) -> set[int]:
    """The hours from which `Price.counts_in` says something else."""
    if rule.mode is not PresenceMode.OWNED:
        return set()
    first, behind = rule.owned_from_us, rule.owned_to_us
    turns = {hour_of(first)} if first is not None else set()
    return turns | ({-(-behind // HOUR_US) * HOUR_US} if behind is not None else set())


def matches(node_id: str, pattern: str) -> bool:
    """Whether a node bears a name of the pattern, in which `*` and `?` alone are special."""
    return fnmatch.fnmatchcase(node_id, pattern.replace("[", "[[]"))


def _rank(pattern: str) -> tuple[int, bool]:
    literal = len(re.split(r"[*?]", pattern, maxsplit=1)[0])
    return literal, literal == len(pattern)
