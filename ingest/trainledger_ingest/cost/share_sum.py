"""Sums of exact fractions by holder, dealt into whole shares once, at the end.

Terms are `numerator / denominator` shares. They are summed per denominator as plain integers and brought to
one denominator only when dealt: a node-hour has thousands of terms but few denominators, so this is exact and
costs one dict update a term, where Fraction would cost a gcd each.
"""

import math
from typing import NamedTuple

from trainledger_ingest.cost.money import largest_remainder
from trainledger_ingest.cost.node_events import Holder
from trainledger_schemas.errors import InvariantError

__all__ = ["LineKey", "ShareSum", "sort_key"]


class LineKey(NamedTuple):
    """What a line is for: a holder and the resource it holds part of."""

    holder: Holder
    resource: str


def sort_key(key: LineKey) -> tuple[str, str, str, int, str, str]:
    """The order of lines, and who wins a tie: resource, kind, run, attempt, owner, account; None before any value."""
    kind, run_id, attempt, owner, account = key.holder
    number = -1 if attempt is None else attempt
    return (key.resource, kind.value, run_id or "", number, owner or "", account or "")


class ShareSum:
    """An exact sum of shares for each line."""

    def __init__(self) -> None:
        self._terms: dict[int, dict[LineKey, int]] = {}

    def add(self, key: LineKey, numerator: int, denominator: int) -> None:
        """Add `numerator / denominator` shares to a line; 0 makes the line exist."""
        terms = self._terms.setdefault(denominator, {})
        terms[key] = terms.get(key, 0) + numerator

    def keys(self) -> list[LineKey]:
        """All lines, in order."""
        return sorted({key for terms in self._terms.values() for key in terms}, key=sort_key)

    def sums(self) -> dict[LineKey, tuple[int, int]]:
        """Each line's sum, as numerator and denominator."""
        numerators, denominator = self._common()
        return {key: (numerator, denominator) for key, numerator in numerators.items()}

    def sum_of(self, key: LineKey) -> tuple[int, int]:
        """One line's sum, as numerator and denominator."""
        denominator = math.lcm(*self._terms) if self._terms else 1
        return sum(
            terms.get(key, 0) * (denominator // part) for part, terms in self._terms.items()
        ), denominator

    def take(self, other: "ShareSum") -> None:
        """Add all that another one holds."""
        for denominator, terms in other._terms.items():
            for key, numerator in terms.items():
                self.add(key, numerator, denominator)

    def floors(self) -> dict[LineKey, int]:
        """Each line's sum, rounded down to whole shares."""
        numerators, denominator = self._common()
        return {key: numerator // denominator for key, numerator in numerators.items()}

    def covers(self, other: "ShareSum") -> set[LineKey]:
        """The lines whose sum here is at least their sum in `other`, exactly."""
        mine, mine_denominator = self._common()
        theirs, their_denominator = other._common()
        return {
            key
            for key, numerator in theirs.items()
            if mine.get(key, 0) * their_denominator >= numerator * mine_denominator
        }

    def deal(self, total: int) -> dict[LineKey, int]:
        """Whole shares by largest remainder, summing to `total`.

        Raises InvariantError when the exact sums do not add up to `total` before any rounding: then something
        was counted twice or not at all.
        """
        numerators, denominator = self._common()
        if sum(numerators.values()) != total * denominator:
            raise InvariantError(
                f"the lines of a node-hour sum to {sum(numerators.values())}/{denominator} shares, "
                f"its presence is {total}; report this with the node and the hour"
            )
        keys = sorted(numerators, key=sort_key)
        shares = largest_remainder(total, [numerators[key] for key in keys], [sort_key(key) for key in keys])
        return dict(zip(keys, shares, strict=True))

    def _common(self) -> tuple[dict[LineKey, int], int]:
        denominator = math.lcm(*self._terms) if self._terms else 1
        numerators: dict[LineKey, int] = {}
        for part, terms in self._terms.items():
            factor = denominator // part
            for key, numerator in terms.items():
                numerators[key] = numerators.get(key, 0) + numerator * factor
        return numerators, denominator
