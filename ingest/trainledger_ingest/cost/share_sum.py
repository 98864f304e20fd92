"""Sums of exact fractions by holder, dealt into whole shares once, at the end.

Terms are `numerator / denominator` shares. They are summed per denominator as plain integers and brought to
one denominator only when dealt: a node-hour has thousands of terms but few denominators, so this is exact and
costs one dict update a term, where Fraction would cost a gcd each.
"""

import math
from collections import defaultdict
from typing import NamedTuple

from trainledger_ingest.cost.money import largest_remainder
from trainledger_ingest.cost.node_events import Holder
from trainledger_schemas.errors import InvariantError

__all__ = ["LineKey", "ShareSum", "Sums", "sort_key"]


class LineKey(NamedTuple):
    """What a line is for: a holder and the resource it holds part of."""

    holder: Holder
    resource: str


def sort_key(key: LineKey) -> tuple[str, str, str, int, str, str]:
    """The order of lines, and who wins a tie: resource, kind, run, attempt, owner, account; None before any value."""
    kind, run_id, attempt, owner, account = key.holder
    number = -1 if attempt is None else attempt
    return (key.resource, kind, run_id or "", number, owner or "", account or "")


class ShareSum:
    """An exact sum of shares for each line."""

    def __init__(self) -> None:
        self._terms: defaultdict[int, dict[LineKey, int]] = defaultdict(dict)

    def add(self, key: LineKey, numerator: int, denominator: int) -> None:
        """Add `numerator / denominator` shares to a line; 0 makes the line exist."""
        terms = self._terms[denominator]
        terms[key] = terms.get(key, 0) + numerator

    def sum_of(self, key: LineKey) -> tuple[int, int]:
        """One line's sum, as numerator and denominator."""
        denominator = math.lcm(*self._terms)
        parts = (terms.get(key, 0) * (denominator // part) for part, terms in self._terms.items())
        return sum(parts), denominator

    def take(self, other: "ShareSum") -> None:
        """Add all that another one holds."""
        for denominator, terms in other._terms.items():
            for key, numerator in terms.items():
                self.add(key, numerator, denominator)

    def total(self) -> "Sums":
        """Each line's sum, all over one denominator."""
        denominator = math.lcm(*self._terms)
        numerators: dict[LineKey, int] = {}
        for part, terms in self._terms.items():
            factor = denominator // part
            for key, numerator in terms.items():
                numerators[key] = numerators.get(key, 0) + numerator * factor
        return Sums(numerators, denominator)


class Sums(NamedTuple):
    """The sum of each line as a numerator over the one denominator."""

    numerators: dict[LineKey, int]
    denominator: int

    def floors(self) -> dict[LineKey, int]:
        """Each line's sum, rounded down to whole shares."""
        return {key: numerator // self.denominator for key, numerator in self.numerators.items()}

    def covers(self, other: "Sums") -> set[LineKey]:
        """The lines whose sum here is at least their sum in `other`, exactly."""
        return {
            key
            for key, numerator in other.numerators.items()
            if self.numerators.get(key, 0) * other.denominator >= numerator * self.denominator
        }

    def deal(self, total: int) -> dict[LineKey, int]:
        """Whole shares by largest remainder, summing to `total`; lines in their order.

        Raises InvariantError when the exact sums do not add up to `total` before any rounding: then something
        was counted twice or not at all.
        """
        whole = sum(self.numerators.values())
        if whole != total * self.denominator:
            raise InvariantError(
                f"the lines of a node-hour sum to {whole}/{self.denominator} shares, "
                f"its presence is {total}; report this with the node and the hour"
            )
        keys = sorted(self.numerators, key=sort_key)
        shares = largest_remainder(total, [self.numerators[key] for key in keys], range(len(keys)))
        return dict(zip(keys, shares, strict=True))
